"""What holds between an allocator and the kernel below it: growing, trimming, refusals, mappings, fork."""

import errno
from itertools import pairwise
from random import Random

from heaplab.abi import MAP_ANONYMOUS, MAP_FIXED, MAP_PRIVATE, PROT_READ, PROT_WRITE
from heaplab.allocators import State
from heaplab.allocators.design import ROOT_MAGIC
from heaplab.errors import Rule
from heaplab.testing.contract.desk import KIB, Clause, Desk, allocated, fill, holds, raised
from heaplab.testing.steps import HUGE, Trial, random_step

# ---- no memory ----


def sizes_near_two_to_the_64_are_refused(desk: Desk) -> None:
    """ENOMEM, whatever sums and roundings would wrap around; and nothing is lost."""
    heap = desk.heap()
    p = heap.malloc(100)
    before = list(heap.blocks())
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
    assert list(heap.blocks()) == before
    heap.check()


def sizes_that_no_size_t_holds_are_an_error(desk: Desk) -> None:
    """ValueError for negative sizes and for 2**64 and more."""
    heap = desk.heap()
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


def nothing_is_lost_when_the_break_cannot_move(desk: Desk) -> None:
    """With a mapping right above the heap malloc returns 0 and sets ENOMEM; what is free can still be had."""
    heap = desk.heap(top_pad=0)
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


def nothing_is_lost_when_mmap_fails(desk: Desk) -> None:
    """A large request that the kernel refuses leaves the heap as it was."""
    heap = desk.heap(ram="4 MiB")
    blocks = [heap.malloc(200_000), heap.malloc(100)]
    before = list(heap.walk())
    for size in (5 << 20, 1 << 40):
        heap.process.errno = 0
        assert heap.malloc(size) == 0
        assert heap.process.errno == errno.ENOMEM
        assert heap.realloc(blocks[0], size) == 0
        assert heap.realloc(blocks[1], size) == 0
    assert list(heap.walk()) == before
    heap.check()


# ---- the kernel underneath ----


def malloc_is_no_system_call(desk: Desk) -> None:
    """Small requests within top_pad make none; growing makes one brk for many."""
    heap = desk.heap()
    heap.free(heap.malloc(1))
    before = heap.process.syscalls.total()
    blocks = [heap.malloc(100) for _ in range(100)]
    for p in blocks:
        heap.free(p)
    assert heap.process.syscalls.total() == before
    calls = heap.process.syscalls["brk"]
    for _ in range(3000):
        heap.malloc(100)
    assert 1 <= heap.process.syscalls["brk"] - calls <= 5


def large_requests_have_a_mapping_each(desk: Desk) -> None:
    """From mmap_threshold on: one mmap for malloc, one munmap for free, and the heap does not grow."""
    heap = desk.heap(mmap_threshold=64 * KIB)
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


def many_large_blocks_are_all_known(desk: Desk) -> None:
    """Two hundred mappings at once, freed in any order: each is found, and none is left."""
    heap, chance = desk.heap(mmap_threshold=32 * KIB), Random(3)
    blocks = [heap.malloc(32 * KIB) for _ in range(200)]
    assert sorted(allocated(heap)) == sorted(blocks)
    heap.check()
    chance.shuffle(blocks)
    while blocks:
        heap.free(blocks.pop())
        if len(blocks) % 20 == 0:
            assert sorted(allocated(heap)) == sorted(blocks)
            heap.check()


def a_freed_heap_is_trimmed(desk: Desk) -> None:
    """When everything is freed the break comes back to where it was, but for top_pad and a page or two."""
    heap = desk.heap(top_pad=0, trim_threshold=8 * KIB)
    start = heap.process.sbrk(0)
    blocks = [heap.malloc(700) for _ in range(500)]
    assert heap.process.sbrk(0) - start > 300 * KIB
    for p in blocks[::2] + blocks[1::2]:
        heap.free(p)
    assert heap.process.sbrk(0) - start <= 8 * KIB
    heap.check()
    assert not allocated(heap)


def trimming_leaves_a_sound_heap(desk: Desk) -> None:
    """Wherever in its page the last block that stays begins."""
    heap = desk.heap(top_pad=0, trim_threshold=4 * KIB)
    for lead in range(0, 4 * KIB, 16):
        p, q = heap.malloc(lead), heap.malloc(9000)
        heap.free(q)
        heap.check()
        heap.free(p)


def the_walk_covers_the_heap(desk: Desk) -> None:
    """In address order and without holes, and what it says is allocated is what was not freed."""
    heap, chance = desk.heap(), Random(1)
    blocks = [heap.malloc(chance.choice([0, 24, 100, 1000, 5000, 140_000])) for _ in range(200)]
    for p in chance.sample(blocks, 100):
        heap.free(p)
        blocks.remove(p)
    walk = list(heap.walk())
    assert sorted(allocated(heap)) == sorted(blocks)
    small = [span for span in walk if span.state in (State.ALLOCATED, State.FREE)]
    for span, following in pairwise(small):
        assert span.end == following.start, "the walk has a hole"
    for span in walk:
        assert span.start <= span.payload and span.payload + span.usable <= span.end
        if span.state.is_live:
            assert heap.usable_size(span.payload) == span.usable
    assert walk == sorted(walk)


def a_forked_heap_is_a_copy(desk: Desk) -> None:
    """Parent and child go on with the same heap, and neither sees what the other does."""
    heap = desk.heap()
    blocks = [heap.malloc(size) for size in (100, 1000, 200_000)]
    for byte, p in enumerate(blocks):
        fill(heap, p, byte, 100)
    child = heap.attach(heap.process.fork())
    assert allocated(child) == allocated(heap)
    child.free(blocks[1])
    fill(child, blocks[0], 0xCC, 100)
    assert child.malloc(900) != 0
    assert list(allocated(heap)) == sorted(blocks)
    for byte, p in enumerate(blocks):
        assert holds(heap, p, byte, 100)
    heap.free(blocks[2])
    assert holds(child, blocks[2], 2, 100)
    for each in (heap, child):
        each.check()
    child.process.exit(0)
    heap.free(blocks[0])
    heap.check()


def all_state_is_in_memory(desk: Desk) -> None:
    """A heap that is attached to its own process again is the same heap."""
    heap = desk.heap()
    p = heap.malloc(100)
    again = heap.attach(heap.process)
    q = again.malloc(200)
    assert q not in (0, p)
    heap.free(q)
    again.free(p)
    heap.check()
    assert not allocated(again)


def attaching_to_something_else_is_an_error(desk: Desk) -> None:
    """HeapCorruption, when the root does not carry the design's magic."""
    heap = desk.heap()
    heap.process.store64(heap.root + ROOT_MAGIC, 0)
    for call in (lambda: heap.attach(heap.process), heap.check):
        caught = raised(call)
        assert caught is not None
        assert (caught.address, caught.rule) == (heap.root, Rule.BROKEN_ROOT)


def a_heap_that_lost_the_break_goes_on(desk: Desk) -> None:
    """When somebody else has moved the break, the heap can no longer grow, and nothing else is lost."""
    heap = desk.heap(top_pad=0, trim_threshold=4 * KIB)
    p = heap.malloc(40 * KIB)
    theirs = heap.process.sbrk(4096)
    fill(heap, theirs, 0xEE, 4096)
    heap.process.errno = 0
    assert heap.malloc(100 * KIB) == 0
    assert heap.process.errno == errno.ENOMEM
    heap.free(p)
    heap.check()
    assert heap.malloc(40 * KIB) == p
    assert holds(heap, theirs, 0xEE, 4096)


def two_runs_are_equal(desk: Desk) -> None:
    """The same steps give the same addresses and the same counts."""
    seen = []
    for _ in range(2):
        heap, chance = desk.heap(), Random(5)
        blocks: list[int] = []
        seq: list[int] = []
        for _ in range(200):
            if blocks and chance.random() < 0.4:
                heap.free(blocks.pop(chance.randrange(len(blocks))))
            else:
                blocks.append(heap.malloc(chance.randrange(3000)))
                seq.append(blocks[-1])
        seen.append((seq, heap.process.context.mems, heap.process.syscalls))
    assert seen[0] == seen[1]


def random_steps_break_nothing(desk: Desk) -> None:
    """Four hundred of them, with forks, each followed by a check of everything."""
    trial, chance = Trial(desk.spec), Random(11)
    for _ in range(400):
        trial.do(random_step(trial, chance))


CLAUSES: tuple[Clause, ...] = (
    sizes_near_two_to_the_64_are_refused,
    sizes_that_no_size_t_holds_are_an_error,
    nothing_is_lost_when_the_break_cannot_move,
    nothing_is_lost_when_mmap_fails,
    malloc_is_no_system_call,
    large_requests_have_a_mapping_each,
    many_large_blocks_are_all_known,
    a_freed_heap_is_trimmed,
    trimming_leaves_a_sound_heap,
    the_walk_covers_the_heap,
    a_forked_heap_is_a_copy,
    all_state_is_in_memory,
    attaching_to_something_else_is_an_error,
    a_heap_that_lost_the_break_goes_on,
    two_runs_are_equal,
    random_steps_break_nothing,
)
