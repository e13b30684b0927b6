"""Two levels of bins: what a bin holds, what a search finds, and that nothing can make it long."""

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heaplab.allocators.base import ADDRESSES
from heaplab.allocators.parts.twolevel import BINS, OCTAVES, bin_for, bin_of

sizes = st.integers(2, (ADDRESSES - 1) // 16).map(lambda n: 16 * n)


@given(sizes, sizes)
def test_larger_blocks_stand_in_later_bins(a, b):
    assert (a < b) <= (bin_of(a) <= bin_of(b))
    assert bin_of(a) < BINS * OCTAVES


@given(sizes)
def test_each_block_of_the_bin_searched_is_large_enough(need):
    first = bin_for(need)
    assert first in (bin_of(need), bin_of(need) + 1)
    assert bin_of(need - 16) < first, "a smaller block stands there too"


def test_a_search_finds_a_block_that_leaves_little(create):
    heap = create("tlsf")
    holes = []
    for size in (2000, 1040, 3000, 1100, 1024):
        holes.append(heap.malloc(size - 8))
        heap.malloc(1)
    for p in holes:
        heap.free(p)
    assert heap.malloc(1024 - 8) == holes[4]
    assert heap.malloc(1050 - 8) == holes[3]
    assert heap.malloc(1500 - 8) == holes[0]
    heap.check()


@pytest.mark.parametrize("n_free", [10, 1000])
def test_no_number_of_free_blocks_makes_a_call_long(create, n_free):
    heap, chance = create("tlsf:mmap_threshold=1GiB"), Random(1)
    blocks = [heap.malloc(chance.randrange(20_000)) for _ in range(2 * n_free)]
    for p in blocks[::2]:
        heap.free(p)
    context, most = heap.process.context, 0
    for _ in range(200):
        before = context.mems
        p = heap.malloc(chance.randrange(20_000))
        heap.free(p)
        most = max(most, context.mems - before)
    assert most <= 24 + 32 + 20  # the heap may have to grow, which costs 20
    heap.check()
