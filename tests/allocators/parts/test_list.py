"""Free lists: which block each fit takes, and where each order puts a block."""

from random import Random

import pytest

from heaplab.allocators import State
from heaplab.allocators.families.tagged import ROOT_INDEX
from heaplab.errors import HeapCorruption, Rule

HOLES = (208, 112, 304, 112, 160)


def with_holes(heap):
    """Free blocks of these sizes, each between two that stay, freed in address order; their addresses."""
    holes = []
    for size in HOLES:
        holes.append(heap.malloc(size - 8))
        heap.malloc(1)
    for p in holes:
        heap.free(p)
    return holes


def in_list(heap):
    """The free blocks in the order of the list."""
    load, sentinel = heap.process.load64, heap.root + ROOT_INDEX
    block, found = load(sentinel + 8), []
    while block != sentinel:
        found.append(block + 8)
        block = load(block + 8)
    return found


def end_of(heap):
    """The free block at the end."""
    return max(block.payload for block in heap.walk() if block.state == State.FREE)


def chosen(heap, fit, need):
    """The block that this fit has to take, by its definition; None when there is none."""
    sizes = {block.payload: block.size for block in heap.walk()}
    blocks = in_list(heap)
    if fit == "next":
        rover = heap.process.load64(heap.root + ROOT_INDEX) + 8
        at = blocks.index(rover) if rover in blocks else 0
        blocks = blocks[at:] + blocks[:at]
    fitting = [p for p in blocks if sizes[p] >= need]
    if not fitting:
        return None
    if fit == "best":
        return min(fitting, key=sizes.__getitem__)
    if fit == "worst":
        return max(fitting, key=sizes.__getitem__)
    return fitting[0]


@pytest.mark.parametrize("order", ["lifo", "fifo", "address"])
@pytest.mark.parametrize("fit", ["first", "next", "best", "worst"])
def test_every_fit_takes_what_its_definition_says(create, fit, order):
    heap, chance, live = create(f"freelist:fit={fit}:order={order}:top_pad=8KiB"), Random(7), []
    met = 0
    for _ in range(300):
        if live and chance.random() < 0.45:
            heap.free(live.pop(chance.randrange(len(live))))
            continue
        size = 16 * chance.randrange(1, 60)
        expected = chosen(heap, fit, size + 16)
        live.append(heap.malloc(size))
        met += expected is not None
        assert expected in (None, live[-1])
        if order == "address":
            assert in_list(heap) == sorted(in_list(heap))
    assert met > 100


def test_next_fit_goes_on_behind_what_it_took(create):
    heap = create("freelist:fit=next:order=address")
    holes, end = with_holes(heap), end_of(heap)
    # the rover stands at the end, where all was split off so far
    assert [heap.malloc(100) for _ in range(2)] == [end, end + 112]
    heap.process.store64(heap.root + ROOT_INDEX, holes[1] - 8)
    taken = [heap.malloc(100) for _ in range(5)]
    assert taken == [holes[1], holes[2], holes[2] + 112, holes[3], holes[4]]
    heap.check()


@pytest.mark.parametrize(
    ("order", "expected"),
    [("lifo", [4, 3, 2, 1, 0]), ("fifo", [0, 1, 2, 3, 4]), ("address", [0, 1, 2, 3, 4])],
)
def test_where_a_freed_block_goes(create, order, expected):
    heap = create(f"freelist:order={order}")
    holes = with_holes(heap)
    end = end_of(heap)
    assert [holes.index(p) for p in in_list(heap) if p != end] == expected


@pytest.mark.parametrize(("order", "where"), [("lifo", 0), ("fifo", -1), ("address", 1)])
def test_where_a_merged_block_goes(create, order, where):
    heap = create(f"freelist:order={order}")
    p, q, r, s, _ = (heap.malloc(size) for size in (100, 1, 100, 100, 1))
    heap.free(p)
    heap.free(s)
    assert q < r
    heap.free(r)  # merges with s
    listed = [block for block in in_list(heap) if order != "address" or block != end_of(heap)]
    assert listed[where] == r
    heap.check()


def test_what_is_left_of_a_split_block_keeps_its_place(create):
    heap = create("freelist:order=lifo:fit=first")
    holes = with_holes(heap)
    before = in_list(heap)
    p = heap.malloc(200)
    assert p == holes[2]
    assert in_list(heap) == [block + 208 if block == p else block for block in before]


@pytest.mark.parametrize("word", ["rover", "next", "prev"])
def test_check_finds_a_broken_root(create, word):
    heap = create("freelist:fit=next")
    with_holes(heap)
    offset = {"rover": 0, "next": 8, "prev": 16}[word]
    heap.process.store64(heap.root + ROOT_INDEX + offset, heap.root + 0x1000008)
    with pytest.raises(HeapCorruption) as caught:
        heap.check()
    assert caught.value.rule == Rule.BROKEN_LINK


def test_check_finds_a_list_out_of_order(create):
    heap = create("freelist:order=address")
    holes = with_holes(heap)
    load, store = heap.process.load64, heap.process.store64
    a, b = holes[1] - 8, holes[2] - 8
    before, after = load(a + 16), load(b + 8)
    for block, prev, following in ((b, before, a), (a, b, after)):  # the two change places
        store(block + 8, following)
        store(block + 16, prev)
    store(before + 8, b)
    store(after + 16, a)
    with pytest.raises(HeapCorruption) as caught:
        heap.check()
    assert (caught.value.address, caught.value.rule) == (holes[1], Rule.BROKEN_INDEX)


def test_the_vital_statistics_hold(create, process):
    heap = create("freelist")

    def mems(call, *args):
        before = process.context.mems
        call(*args)
        return process.context.mems - before

    blocks = [heap.malloc(100) for _ in range(8)]
    assert mems(heap.malloc, 200) == 2 + 11  # split
    # one each of these is for the block that was first in the list: does it point back?
    assert mems(heap.free, blocks[1]) == 11 + 1  # alone
    assert mems(heap.free, blocks[3]) == 11 + 1
    assert mems(heap.free, blocks[2]) == 25 + 1  # between two free blocks
    assert mems(heap.free, blocks[0]) == 16 + 1  # before one
    assert mems(heap.free, blocks[4]) == 20 + 1  # behind one
    heap.malloc(500)  # leaves 48 bytes
    assert mems(heap.malloc, 32) == 2 + 9  # whole
