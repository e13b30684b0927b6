"""What holds between an allocator and the kernel below it: growing, trimming, refusals, mappings, fork."""

import errno
from itertools import pairwise
from random import Random

from heaplab.abi import MAP_ANONYMOUS, MAP_FIXED, MAP_PRIVATE, PROT_READ, PROT_WRITE
from heaplab.allocators import Allocator, State, Trait
from heaplab.allocators.design import ROOT_MAGIC
from heaplab.errors import Rule
from heaplab.kernel import Kernel
from heaplab.testing.checked_heap import CheckedHeap
from heaplab.testing.contract.factory import (
    KIB,
    Clause,
    HeapFactory,
    allocated,
    clause,
    fill,
    holds,
    memory_of,
    needs,
    raised,
    resident_of,
)
from heaplab.testing.steps import HUGE, random_step

# ---- no memory ----


@clause
def sizes_near_two_to_the_64_are_refused(factory: HeapFactory) -> None:
    """ENOMEM, whatever sums and roundings would wrap around; and nothing is lost."""
    heap = factory.heap()
    p = heap.malloc(100)
    before = allocated(heap)
    for size in (*HUGE, *((1 << 64) - n for n in range(1, 80, 7)), *((1 << 63) - n for n in range(1, 80, 7))):
        for call in (
            heap.malloc,
            lambda size: heap.calloc(1, size),
            lambda size: heap.realloc(p, size),
            lambda size: heap.aligned_alloc(64, size),
            lambda size: heap.aligned_alloc(1 << 62, size),
        ):
            heap.process.errno = 0
            assert call(size) == 0, f"{size:#x} was granted"
            assert heap.process.errno == errno.ENOMEM
    assert allocated(heap) == before
    heap.check()


@clause
def sizes_that_no_size_t_holds_are_an_error(factory: HeapFactory) -> None:
    """ValueError for negative sizes and for 2**64 and more."""
    heap = factory.heap()
    for size in (-1, 1 << 64):
        for call in (
            heap.malloc,
            lambda size: heap.calloc(size, 1),
            lambda size: heap.calloc(1, size),
            lambda size: heap.realloc(heap.malloc(1), size),
            lambda size: heap.aligned_alloc(64, size),
            lambda size: heap.aligned_alloc(size, 64),
        ):
            try:
                call(size)
            except ValueError:
                continue
            raise AssertionError(f"size {size} was accepted")


@needs(Trait.CONTIGUOUS | Trait.REUSES | Trait.ANY_ORDER)
def nothing_is_lost_when_the_break_cannot_move(factory: HeapFactory) -> None:
    """With a mapping right above the heap malloc returns 0 and sets ENOMEM; what is free can still be had."""
    heap = factory.heap(top_pad=0, mmap_threshold=128 * KIB)
    process = heap.process
    above = -(-process.sbrk(0) // process.page_size) * process.page_size + 16 * process.page_size
    process.mmap(process.page_size, above, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED)
    blocks: list[int] = []
    while p := heap.malloc(500):
        fill(heap, p, len(blocks) % 256, 500)
        blocks.append(p)
        assert len(blocks) < 1000, "the heap grew through a mapping"
    assert process.errno == errno.ENOMEM
    heap.check()
    assert heap.realloc(blocks[0], 100 * KIB) == 0
    assert heap.aligned_alloc(4096, 5000) == 0
    for byte, p in enumerate(blocks):
        assert holds(heap, p, byte % 256, 500)
    heap.free(blocks[3])
    assert heap.malloc(500) == blocks[3]
    for p in blocks:
        heap.free(p)
    heap.check()
    assert not allocated(heap)


@clause
def nothing_is_lost_when_the_kernel_refuses(factory: HeapFactory) -> None:
    """A request for more than there is RAM leaves the heap as it was."""
    heap = factory.heap()
    blocks = [heap.malloc(200_000), heap.malloc(100)]
    before = allocated(heap)
    for size in (17 << 20, 1 << 40):
        heap.process.errno = 0
        assert heap.malloc(size) == 0
        assert heap.process.errno == errno.ENOMEM
        assert heap.realloc(blocks[0], size) == 0
        assert heap.realloc(blocks[1], size) == 0
    assert allocated(heap) == before
    heap.check()


# ---- the kernel underneath ----


@clause
def malloc_is_no_system_call(factory: HeapFactory) -> None:
    """The kernel gives much at once: three thousand small requests need a hundred calls at most."""
    heap = factory.heap(top_pad=128 * KIB)
    before = heap.process.syscalls.total()
    for _ in range(3000):
        heap.malloc(100)
    assert heap.process.syscalls.total() - before <= 100


@needs(Trait.REUSES)
def what_comes_and_goes_is_no_system_call(factory: HeapFactory) -> None:
    """A hundred blocks that were had before are had again without one."""
    heap = factory.heap(top_pad=128 * KIB)
    before = 0
    for _ in range(3):
        before = heap.process.syscalls.total()
        blocks = [heap.malloc(100) for _ in range(100)]
        for p in reversed(blocks):
            heap.free(p)
    assert heap.process.syscalls.total() == before


@needs(Trait.CONTIGUOUS)
def growing_moves_the_break_and_seldom(factory: HeapFactory) -> None:
    """Small requests within top_pad make no call; growing makes one brk for many."""
    heap = factory.heap(top_pad=128 * KIB)
    before = heap.process.syscalls["brk"]
    for _ in range(3000):
        heap.malloc(100)
    assert 1 <= heap.process.syscalls["brk"] - before <= 5


@needs(Trait.MAPS_LARGE)
def large_requests_have_a_mapping_each(factory: HeapFactory) -> None:
    """From mmap_threshold on: one mmap for malloc, one munmap for free, and the heap does not grow."""
    heap = factory.heap(mmap_threshold=64 * KIB)
    small = heap.malloc(64 * KIB - 1)
    heap.free(heap.malloc(64 * KIB))  # what the design needs for the first of them stays
    end, before = heap.process.sbrk(0), heap.process.syscalls
    maps = heap.process.maps()
    p = heap.malloc(64 * KIB)
    assert heap.process.syscalls - before == {"mmap": 1}
    assert {p: State.LARGE, small: State.ALLOCATED} == {q: b.state for q, b in allocated(heap).items()}
    heap.free(p)
    assert heap.process.syscalls - before == {"mmap": 1, "munmap": 1}
    assert heap.process.maps() == maps, "the mapping is still there, or a part of it"
    assert heap.process.sbrk(0) == end
    heap.check()


@needs(Trait.MAPS_LARGE | Trait.ANY_ORDER)
def many_large_blocks_are_all_known(factory: HeapFactory) -> None:
    """Two hundred mappings at once, freed in any order: each is found, and none is left."""
    heap, chance = factory.heap(mmap_threshold=32 * KIB), Random(3)
    blocks = [heap.malloc(32 * KIB) for _ in range(200)]
    assert sorted(allocated(heap)) == sorted(blocks)
    heap.check()
    chance.shuffle(blocks)
    while blocks:
        heap.free(blocks.pop())
        if len(blocks) % 20 == 0:
            assert sorted(allocated(heap)) == sorted(blocks)
            heap.check()


@needs(Trait.TRIMS | Trait.CONTIGUOUS | Trait.ANY_ORDER)
def a_freed_heap_is_trimmed(factory: HeapFactory) -> None:
    """When everything is freed the break comes back to where it was, but for top_pad and a page or two."""
    heap = factory.heap(top_pad=0, trim_threshold=8 * KIB)
    start = heap.process.sbrk(0)
    blocks = [heap.malloc(700) for _ in range(500)]
    assert heap.process.sbrk(0) - start > 300 * KIB
    for p in blocks[::2] + blocks[1::2]:
        heap.free(p)
    assert heap.process.sbrk(0) - start <= 8 * KIB
    heap.check()
    assert not allocated(heap)


@needs(Trait.TRIMS)
def free_memory_goes_back_to_the_kernel(factory: HeapFactory) -> None:
    """Of twelve megabytes that were written and freed at most a quarter stay in RAM."""
    heap = factory.heap(ram="32 MiB")
    before = resident_of(heap.process)
    blocks = [heap.malloc(3000) for _ in range(4000)]
    for p in blocks:
        fill(heap, p, 0xAA, 3000)
    grown = resident_of(heap.process) - before
    assert grown > 11_000 * KIB
    for p in reversed(blocks):
        heap.free(p)
    kept = resident_of(heap.process) - before
    assert kept <= grown // 4, f"{kept:,} bytes of {grown:,} stay in RAM"
    heap.check()


@needs(Trait.TRIMS)
def trimming_leaves_a_sound_heap(factory: HeapFactory) -> None:
    """Wherever in its page the last block that stays begins."""
    heap = factory.heap(top_pad=0, trim_threshold=4 * KIB)
    for lead in range(0, 4 * KIB, 16):
        p, q = heap.malloc(lead), heap.malloc(9000)
        heap.free(q)
        heap.check()
        heap.free(p)


def crowd(factory: HeapFactory, heap: Allocator) -> list[int]:
    """A hundred blocks of all sizes; a hundred others were freed, the newest ones without ANY_ORDER."""
    chance = Random(1)
    blocks = [heap.malloc(chance.choice([0, 24, 100, 1000, 5000, 140_000])) for _ in range(200)]
    gone = chance.sample(blocks, 100) if Trait.ANY_ORDER in factory.traits else blocks[:99:-1]
    for p in gone:
        heap.free(p)
    return sorted(set(blocks) - set(gone))


@clause
def the_walk_has_all_memory_once(factory: HeapFactory) -> None:
    """In address order, as many bytes as the kernel gave; allocated are the blocks that were not freed."""
    heap = factory.heap(ram="64 MiB")
    before = memory_of(Kernel(ram="64 MiB", seed=1).init.fork())
    blocks = crowd(factory, heap)
    walk = list(heap.walk())
    assert walk == sorted(walk)
    assert sorted(allocated(heap)) == blocks
    for span, following in pairwise(walk):
        assert span.end <= following.start, f"two spans have the bytes at {following.start:#x}"
    for span in walk:
        assert span.size > 0
        assert span.start <= span.payload <= span.payload + span.usable <= span.end
        if span.state.is_live:
            assert heap.usable_size(span.payload) == span.usable
    given, found = memory_of(heap.process) - before, sum(span.size for span in walk)
    # the root begins where the break was, within a page that the kernel gave before or gives now
    assert given - heap.process.page_size <= found <= given + heap.process.page_size, (
        f"the walk has {found:,} bytes, and the kernel gave {given:,}"
    )


@needs(Trait.CONTIGUOUS)
def the_walk_of_a_contiguous_heap_has_no_hole(factory: HeapFactory) -> None:
    """From the root to the break."""
    heap = factory.heap(ram="64 MiB")
    crowd(factory, heap)
    walk = [span for span in heap.walk() if heap.root <= span.start < heap.process.sbrk(0)]
    assert (walk[0].start, walk[-1].end) == (heap.root, heap.process.sbrk(0))
    for span, following in pairwise(walk):
        assert span.end == following.start, f"the walk has a hole at {span.end:#x}"


@clause
def a_forked_heap_is_a_copy(factory: HeapFactory) -> None:
    """Parent and child go on with the same heap, and neither sees what the other does."""
    heap = factory.heap()
    blocks = [heap.malloc(size) for size in (200_000, 100, 1000)]
    for byte, p in enumerate(blocks):
        fill(heap, p, byte, 100)
    child = heap.attach(heap.process.fork())
    assert allocated(child) == allocated(heap)
    child.free(blocks[2])
    fill(child, blocks[1], 0xCC, 100)
    assert child.malloc(900) != 0
    assert sorted(allocated(heap)) == sorted(blocks)
    for byte, p in enumerate(blocks):
        assert holds(heap, p, byte, 100)
    for p in reversed(blocks):
        heap.free(p)
    assert not allocated(heap)
    assert holds(child, blocks[0], 0, 100)
    for each in (heap, child):
        each.check()
    child.process.exit(0)
    assert heap.malloc(100) != 0
    heap.check()


@clause
def all_state_is_in_memory(factory: HeapFactory) -> None:
    """A heap that is attached to its own process again is the same heap."""
    heap = factory.heap()
    p = heap.malloc(100)
    again = heap.attach(heap.process)
    q = again.malloc(200)
    assert q not in (0, p)
    heap.free(q)
    again.free(p)
    heap.check()
    assert not allocated(again)


@clause
def equal_memory_is_an_equal_heap(factory: HeapFactory) -> None:
    """A child, whose memory is its parent's, gives the same blocks for the same requests."""
    heap = factory.heap()
    before = heap.process.context.mems
    blocks = [heap.malloc(size) for size in (100, 3000, 40, 600)]
    assert heap.process.context.mems > before, (
        "the heap has given blocks without a memory reference: its state is outside of simulated memory, "
        "where no fork copies it and nothing is counted"
    )
    if Trait.ANY_ORDER in factory.traits:
        heap.free(blocks.pop(1))
    child = heap.attach(heap.process.fork())
    answers = [[each.malloc(size) for size in (600, 24, 3000, 200_000)] for each in (child, heap)]
    assert answers[0] == answers[1], (
        f"the child's blocks are at {_places(answers[0])}, its parent's at {_places(answers[1])}, though "
        "both began with the same memory: some state is outside of simulated memory, so no fork copies it"
    )


def _places(addresses: list[int]) -> str:
    return ", ".join(f"{address:#x}" for address in addresses)


@clause
def attaching_to_something_else_is_an_error(factory: HeapFactory) -> None:
    """HeapCorruption, when the root does not carry the design's magic."""
    heap = factory.heap()
    heap.process.store64(heap.root + ROOT_MAGIC, 0)
    for call in (lambda: heap.attach(heap.process), heap.check):
        caught = raised(call)
        assert caught is not None
        assert (caught.address, caught.rule) == (heap.root, Rule.BROKEN_ROOT)


@needs(Trait.CONTIGUOUS | Trait.REUSES)
def a_heap_that_lost_the_break_goes_on(factory: HeapFactory) -> None:
    """When somebody else has moved the break, the heap can no longer grow, and nothing else is lost."""
    heap = factory.heap(top_pad=0, trim_threshold=4 * KIB, mmap_threshold=128 * KIB)
    p = heap.malloc(40 * KIB)
    theirs = heap.process.sbrk(4096)
    fill(heap, theirs, 0xEE, 4096)
    heap.process.errno = 0
    assert heap.malloc(100 * KIB) == 0
    assert heap.process.errno == errno.ENOMEM
    heap.free(p)
    heap.check()
    assert 0 < heap.malloc(40 * KIB) < theirs
    assert holds(heap, theirs, 0xEE, 4096)


@clause
def two_runs_are_equal(factory: HeapFactory) -> None:
    """The same steps give the same addresses and the same counts."""
    seen, any_order = [], Trait.ANY_ORDER in factory.traits
    for _ in range(2):
        heap, chance = factory.heap(), Random(5)
        blocks: list[int] = []
        seq: list[int] = []
        for _ in range(200):
            if blocks and chance.random() < 0.4:
                heap.free(blocks.pop(chance.randrange(len(blocks)) if any_order else -1))
            else:
                blocks.append(heap.malloc(chance.randrange(3000)))
                seq.append(blocks[-1])
        seen.append((seq, heap.process.context.mems, heap.process.syscalls))
    assert seen[0] == seen[1]


@clause
def random_steps_break_nothing(factory: HeapFactory) -> None:
    """Two hundred and fifty of them, with forks, each followed by a check of everything."""
    heap, chance = CheckedHeap(factory.spec), Random(11)
    for _ in range(250):
        heap.do(random_step(heap, chance))


CLAUSES: tuple[Clause, ...] = (
    sizes_near_two_to_the_64_are_refused,
    sizes_that_no_size_t_holds_are_an_error,
    nothing_is_lost_when_the_break_cannot_move,
    nothing_is_lost_when_the_kernel_refuses,
    malloc_is_no_system_call,
    what_comes_and_goes_is_no_system_call,
    growing_moves_the_break_and_seldom,
    large_requests_have_a_mapping_each,
    many_large_blocks_are_all_known,
    a_freed_heap_is_trimmed,
    free_memory_goes_back_to_the_kernel,
    trimming_leaves_a_sound_heap,
    the_walk_has_all_memory_once,
    the_walk_of_a_contiguous_heap_has_no_hole,
    a_forked_heap_is_a_copy,
    all_state_is_in_memory,
    equal_memory_is_an_equal_heap,
    attaching_to_something_else_is_an_error,
    a_heap_that_lost_the_break_goes_on,
    two_runs_are_equal,
    random_steps_break_nothing,
)
