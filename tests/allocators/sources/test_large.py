"""Large blocks: the list of mappings, in both languages."""

import pytest

from heaplab.allocators import State
from heaplab.allocators.base import ROOT_LARGE
from heaplab.errors import HeapCorruption, Rule

KIB = 1024


@pytest.fixture
def heap(create):
    return create("rbtree")


def large(heap):
    return [block for block in heap.walk() if block.state == State.LARGE]


def broken(call, *args):
    with pytest.raises(HeapCorruption) as caught:
        call(*args)
    return caught.value.address, caught.value.rule


def test_the_words_of_two_large_blocks(heap):
    a, b = heap.malloc(200 * KIB), heap.malloc(300 * KIB)
    load = heap.process.load64
    assert load(heap.root + ROOT_LARGE) == b
    assert [load(b + at) for at in (-32, -24, -16, -8)] == [b - 32, 304 * KIB, a, 0]
    assert [load(a + at) for at in (-32, -24, -16, -8)] == [a - 32, 204 * KIB, 0, b]


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 0, 2), (1, 2, 0)])
def test_blocks_leave_the_list_in_any_order(heap, order):
    blocks = [heap.malloc(n * 150 * KIB) for n in (1, 2, 3)]
    for which in order:
        heap.free(blocks[which])
        heap.check()
        blocks[which] = 0
        assert sorted(block.payload for block in large(heap)) == sorted(filter(bool, blocks))


def test_usable_is_all_up_to_the_end_of_the_mapping(heap):
    for size in (128 * KIB, 200_000, 132 * KIB - 32):
        p = heap.malloc(size)
        assert (p + heap.usable_size(p)) % 4096 == 0
        assert heap.usable_size(p) - size < 4096


@pytest.mark.parametrize("bits", range(5, 22))
def test_alignment_within_a_mapping(heap, bits):
    p = heap.aligned_alloc(1 << bits, 140 * KIB)
    assert p % (1 << bits) == 0
    assert large(heap) == [(p, large(heap)[0].size, heap.usable_size(p), State.LARGE)]
    heap.process.fill(p, 1, 140 * KIB)
    heap.check()
    heap.free(p)
    assert large(heap) == []


def test_shrinking_gives_pages_back(heap):
    p = heap.malloc(1000 * KIB)
    before = heap.process.syscalls["munmap"]
    assert heap.realloc(p, 500 * KIB) == p
    assert heap.process.syscalls["munmap"] == before + 1
    assert large(heap)[0].size == 504 * KIB
    heap.process.fill(p, 1, heap.usable_size(p))
    assert heap.realloc(p, 500 * KIB + 100) == p  # there is room in the last page
    heap.check()


def test_growing_moves_with_the_content(heap):
    p = heap.malloc(200 * KIB)
    heap.process.fill(p, 7, 200 * KIB)
    q = heap.realloc(p, 900 * KIB)
    assert q != p
    assert heap.process.read(q, 200 * KIB) == b"\7" * 200 * KIB
    assert [block.payload for block in large(heap)] == [q]


def test_calloc_does_not_write_what_mmap_gave(heap):
    bulk = heap.process.context.bulk
    p = heap.calloc(1, 400 * KIB)
    assert heap.process.context.bulk == bulk
    assert not any(heap.process.read(p, 400 * KIB))


def test_freeing_passes_the_blocks_before_it(heap):
    """One load for each, as the head of the module says."""
    blocks = [heap.malloc(200 * KIB) for _ in range(5)]
    costs = []
    for p in blocks:  # the last in the list first
        before = heap.process.context.mems
        heap.free(p)
        costs.append(heap.process.context.mems - before)
    assert [costs[n] - costs[n + 1] for n in range(3)] == [1, 1, 1]


@pytest.mark.parametrize(
    ("at", "rule"), [(-32, Rule.BROKEN_HEADER), (-24, Rule.BROKEN_HEADER), (-8, Rule.BROKEN_LINK)]
)
def test_check_finds_an_overwritten_header(heap, at, rule):
    p = heap.malloc(200 * KIB)
    heap.process.store64(p + at, heap.process.load64(p + at) + 8)
    assert broken(heap.check) == (p, rule)
