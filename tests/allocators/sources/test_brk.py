"""The break: growing and trimming, and the distance between the two, in both languages."""

from functools import partial
from random import Random

import pytest

from heaplab import allocators
from heaplab.allocators import State, Trait
from heaplab.allocators.sources.brk import OPTIONS, ROOT_END
from heaplab.allocators.sources.large import THRESHOLD

KIB = 1024
#: the designs that grow by brk, and trim
DESIGNS = [
    name
    for name in allocators.names()
    if {option.name for option in OPTIONS}
    <= {option.name for option in allocators.parse(name).design.OPTIONS}
    and Trait.TRIMS in allocators.parse(name).design.TRAITS
]


@pytest.fixture(params=DESIGNS)
def new(request, create):
    """`new(options)`: a heap of each design."""
    return lambda options: create(request.param + options)


def moves(heap, call):
    """How often a call moves the break, and by how many bytes in all."""
    process = heap.process
    before, end = process.syscalls["brk"], process.sbrk(0)
    call()
    by = process.sbrk(0) - end
    return process.syscalls["brk"] - before, by


def test_the_root_knows_the_end(new):
    heap = new(":top_pad=0:trim_threshold=4KiB:mmap_threshold=1MiB")
    blocks = []
    for _ in range(20):
        blocks.append(heap.malloc(20_000))
        assert heap.process.load64(heap.root + ROOT_END) == heap.process.sbrk(0)
    while blocks:
        heap.free(blocks.pop())
        assert heap.process.load64(heap.root + ROOT_END) == heap.process.sbrk(0)


def test_top_pad_is_asked_for_beyond_what_is_needed(new):
    heap = new(":top_pad=64KiB")
    heap.malloc(60_000)
    calls, _ = moves(heap, lambda: [heap.malloc(1000) for _ in range(30)])
    assert calls <= 1


@pytest.mark.parametrize("options", ["", ":top_pad=0", ":top_pad=0:trim_threshold=256KiB", ":top_pad=32KiB"])
def test_a_block_taken_and_freed_at_the_end_moves_the_break_once(new, options):
    """Up, and not down again: the next one finds the memory."""
    heap = new(options)
    heap.free(heap.malloc(100_000))
    for _ in range(20):
        assert moves(heap, lambda: heap.free(heap.malloc(100_000))) == (0, 0)


@pytest.mark.parametrize("top_pad", [0, 4, 20])
@pytest.mark.parametrize("threshold", [1, 4 * KIB, 10_000, 64 * KIB])
def test_a_trim_gives_back_the_threshold_or_more_and_keeps_the_pad(new, threshold, top_pad):
    heap = new(f":top_pad={top_pad}KiB:trim_threshold={threshold}:mmap_threshold=1GiB")
    chance, live, trims = Random(threshold), [], 0
    for step in range(400):
        if live and chance.random() < (0.3 if step % 100 < 50 else 0.8):
            _, by = moves(heap, lambda: heap.free(live.pop(chance.randrange(len(live)))))
            assert by == 0 or -by >= threshold
            if by:
                trims += 1
                end = heap.process.sbrk(0)
                used = max((b.end for b in heap.blocks() if b.state == State.ALLOCATED), default=heap.root)
                assert end - used >= top_pad * KIB
        else:
            live.append(heap.malloc(chance.choice([24, 500, 5000, 20_000, 50_000])))
    assert trims > 3
    heap.check()


def free_end(heap):
    """Bytes behind the last allocated block."""
    return heap.process.sbrk(0) - max(b.end for b in heap.blocks() if b.state == State.ALLOCATED)


def test_the_dynamic_threshold_is_twice_that_of_large_blocks(new):
    """128 KiB at first: an end of 256 KiB goes back.  After a block of 300 KiB was freed: 600 KiB."""
    heap = new(":top_pad=0")
    heap.malloc(1)
    for least in (256 * KIB, 600 * KIB):
        assert heap.process.load64(heap.root + THRESHOLD) == least // 2
        blocks = [heap.malloc(30_000) for _ in range(40)]
        while blocks:
            before = free_end(heap)
            _, by = moves(heap, partial(heap.free, blocks.pop()))
            assert by == 0 or -by >= least
            if not by:
                assert free_end(heap) > before or not blocks
                assert free_end(heap) < least + 8 * KIB
        heap.free(heap.malloc(300 * KIB))


def test_a_fixed_threshold_does_not_follow_that_of_large_blocks(new):
    heap = new(":top_pad=0:trim_threshold=64KiB")
    heap.malloc(1)
    heap.free(heap.malloc(300 * KIB))
    p = heap.malloc(100_000)
    _, by = moves(heap, lambda: heap.free(p))
    assert by <= -64 * KIB
