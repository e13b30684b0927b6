"""What designs notice besides that detect errors of the program: DETECTS, and HEADERS beside the payloads."""

from heaplab.allocators import Trait
from heaplab.errors import Rule
from heaplab.testing.contract.factory import Clause, HeapFactory, allocated, fill, needs, raised


@needs(Trait.DETECTS | Trait.ANY_ORDER)
def a_double_free_is_noticed(factory: HeapFactory) -> None:
    """Whatever the block merged with: nothing, the one before, the one after, both; and when it was large."""
    for others in ((), (0,), (2,), (0, 2), (2, 0)):
        heap = factory.heap()
        blocks = [heap.malloc(100) for _ in range(4)]
        for other in others:
            heap.free(blocks[other])
        heap.free(blocks[1])
        for p in (blocks[1], *(blocks[other] for other in others)):
            caught = raised(heap.free, p)
            assert caught is not None, f"a double free after {others} was not noticed"
            assert (caught.address, caught.rule) == (p, Rule.DOUBLE_FREE)
        heap.check()
    heap = factory.heap()
    p = heap.malloc(200_000)
    heap.free(p)
    assert raised(heap.free, p) is not None


@needs(Trait.DETECTS | Trait.ANY_ORDER)
def a_use_of_a_freed_block_is_noticed(factory: HeapFactory) -> None:
    """realloc and usable_size of a freed block say which of them it was; a free of it is a double free."""
    heap = factory.heap()
    calls = (
        (heap.usable_size, Rule.FREED_USABLE_SIZE),
        (lambda p: heap.realloc(p, 10), Rule.FREED_REALLOC),
        (lambda p: heap.realloc(p, 5000), Rule.FREED_REALLOC),
        (lambda p: heap.realloc(p, 0), Rule.FREED_REALLOC),
        (heap.free, Rule.DOUBLE_FREE),
    )
    p, _ = heap.malloc(100), heap.malloc(100)
    heap.free(p)
    for call, rule in calls:
        caught = raised(call, p)
        assert caught is not None, f"a freed block was used ({rule.name}), and nobody noticed"
        assert (caught.address, caught.rule) == (p, rule)
    heap.check()


@needs(Trait.DETECTS)
def a_foreign_pointer_is_noticed(factory: HeapFactory) -> None:
    """Into a block, odd, on the stack, unmapped, below and above the heap: and the heap stays sound."""
    heap = factory.heap()
    p, large = heap.malloc(1000), heap.malloc(200_000)
    fill(heap, p, 0x11, 1000)
    stack = int(heap.process.maps().splitlines()[-1].split("-")[0], 16)
    wild = [
        p + 1,
        p + 8,
        p + 16,
        p + 512,
        large + 16,
        large - 16,
        stack + 64,
        16,
        0x1234560,
        1 << 47,
        (1 << 64) - 16,
    ]
    for q in (*wild, heap.root, heap.process.sbrk(0), heap.process.sbrk(0) + 4096):
        for call in (heap.free, heap.usable_size, lambda q: heap.realloc(q, 10)):
            caught = raised(call, q)
            assert caught is not None, f"{q:#x} was taken for a block"
            assert (caught.address, caught.rule) == (q, Rule.FOREIGN_POINTER)
    heap.check()
    assert sorted(allocated(heap)) == sorted([p, large])


@needs(Trait.DETECTS | Trait.HEADERS)
def an_overflow_by_one_byte_is_noticed(factory: HeapFactory) -> None:
    """One byte beyond the payload is the next block's header: check sees it, and freeing that block."""
    for byte in (0x00, 0x41, 0xFF):
        heap = factory.heap()
        p, q, _ = (heap.malloc(120) for _ in range(3))
        assert q == p + heap.usable_size(p) + 8, "the blocks are not neighbours"
        if heap.process.load(q - 8, 1) == byte:
            continue
        fill(heap, p, byte, heap.usable_size(p) + 1)
        for call in (heap.check, lambda heap=heap, q=q: heap.free(q)):
            caught = raised(call)
            assert caught is not None, f"an overflow by {byte:#x} was not noticed"
            assert (caught.address, caught.rule) == (q, Rule.BROKEN_HEADER)


@needs(Trait.DETECTS | Trait.HEADERS)
def a_broken_header_is_named(factory: HeapFactory) -> None:
    """Every byte of a header: check, free, usable_size and realloc name the block and the rule."""
    heap = factory.heap()
    p, _ = heap.malloc(100), heap.malloc(100)
    for offset in range(8):
        old = heap.process.load(p - 8 + offset, 1)
        heap.process.store(p - 8 + offset, old ^ 0x5A, 1)
        for call in (
            heap.check,
            lambda: heap.free(p),
            lambda: heap.usable_size(p),
            lambda: heap.realloc(p, 10),
            lambda: list(heap.walk()),
        ):
            caught = raised(call)
            assert caught is not None, f"byte {offset} of the header was not noticed"
            assert (caught.address, caught.rule) == (p, Rule.BROKEN_HEADER)
        heap.process.store(p - 8 + offset, old, 1)
    heap.check()


@needs(Trait.DETECTS | Trait.HEADERS)
def writing_to_a_freed_block_is_noticed(factory: HeapFactory) -> None:
    """Its links are in its payload: check sees that they are broken."""
    for junk in (0, 0x4141414141414141, (1 << 64) - 1, 8):
        heap = factory.heap()
        p, _ = heap.malloc(1000), heap.malloc(100)
        heap.free(p)
        heap.process.store64(p, junk)
        heap.process.store64(p + 8, junk)
        heap.process.store64(p + 16, junk)
        assert raised(heap.check) is not None, f"{junk:#x} in a free block was not noticed"


CLAUSES: tuple[Clause, ...] = (
    a_double_free_is_noticed,
    a_use_of_a_freed_block_is_noticed,
    a_foreign_pointer_is_noticed,
    an_overflow_by_one_byte_is_noticed,
    a_broken_header_is_named,
    writing_to_a_freed_block_is_noticed,
)
