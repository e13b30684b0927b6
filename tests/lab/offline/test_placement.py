"""Placements, held against a walk through the trace that knows no rectangles, and against brute force."""

from itertools import pairwise, permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from heaplab import lab
from heaplab._core import lib
from heaplab.errors import UsageError
from heaplab.lab.offline import HEURISTICS, Rectangles
from heaplab.lab.offline.heuristics import _Stays, height, tops
from heaplab.traces import Event, Op, Trace, synthetic

GRANULE = 16


def programs(seed, *, events=400, processes=4, large=400):
    """A made-up trace in which processes fork, exec and exit; some blocks are aligned to more than 16."""
    rng = np.random.default_rng(seed)
    live, made, begun = {0: set()}, [], 1
    while len(made) < events:
        process = int(rng.choice(sorted(live)))
        slots, what = live[process], rng.random()
        if what < 0.01 and begun < processes:
            made.append(Event(Op.FORK, begun, process=process))
            live[begun] = set(slots)
            begun += 1
        elif what < 0.015 and process:
            made.append(Event(Op.EXEC, process=process))
            live[process] = set()
        elif what < 0.02 and process:
            made.append(Event(Op.EXIT, process=process))
            del live[process]
        elif what < 0.55 or not slots:
            slot = next(slot for slot in range(len(slots) + 1) if slot not in slots)
            size = int(rng.integers(0, large))
            aligned = rng.random() < 0.05
            op, align = (Op.ALIGNED, int(2 ** rng.integers(3, 9))) if aligned else (Op.MALLOC, 0)
            made.append(Event(op, slot, size, align, process=process))
            slots.add(slot)
        else:
            slot = int(rng.choice(sorted(slots)))
            if rng.random() < 0.3:
                made.append(Event(Op.REALLOC, slot, int(rng.integers(1, large)), process=process))
            else:
                made.append(Event(Op.FREE, slot, process=process))
                slots.discard(slot)
    return Trace.of(made, f"programs {seed}")


def needed(trace, rectangles, address):
    """Walk through the trace with the blocks where `address` says, and return the most that all heaps need.

    Fails where two blocks of a process overlap, one is not aligned, or a copy has another address.
    """
    heaps, most, row = {0: {}}, 0, -1
    places = address[rectangles.block]
    for event in trace.events():
        heap = heaps[event.process]
        if event.op in (Op.FREE, Op.REALLOC):
            del heap[event.id]
        if event.op in (Op.MALLOC, Op.CALLOC, Op.REALLOC, Op.ALIGNED):
            row += 1
            size = max(-(-event.size // GRANULE), 1) * GRANULE
            start = int(places[row])
            assert start % max(event.align, GRANULE) == 0
            heap[event.id] = (start, start + size)
        if event.op == Op.FORK:
            heaps[event.id] = dict(heap)
            copies = sorted(places[row + 1 : row + 1 + len(heap)].tolist())
            assert copies == sorted(start for start, _ in heap.values())
            row += len(heap)
        if event.op in (Op.EXEC, Op.EXIT):
            heap.clear()
        for one, other in pairwise(sorted(heap.values())):
            assert one[1] <= other[0], f"{one} and {other} overlap after {event}"
        most = max(most, sum(max((end for _, end in heap.values()), default=0) for heap in heaps.values()))
    return most


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("processes", [1, 4])
def test_no_two_blocks_overlap_whoever_places_them(seed, processes):
    trace = programs(seed, processes=processes)
    rectangles = Rectangles.of(trace)
    placed = 0
    for heuristic in HEURISTICS.values():
        address = heuristic.place(rectangles)
        if address is not None:
            placed += 1
            assert needed(trace, rectangles, address) == height(rectangles, address) >= rectangles.live
    assert placed >= (len(HEURISTICS) if processes == 1 else 8)


def test_the_lower_bound_is_what_is_live_in_all_processes():
    trace = Trace.of(
        [
            Event(Op.MALLOC, 0, 100),
            Event(Op.FORK, 1),
            Event(Op.MALLOC, 1, 20, process=1),
            Event(Op.FREE, 0),
            Event(Op.EXIT, process=1),
        ]
    )
    found = lab.offline(trace)
    assert found.lower_bound == 112 + 112 + 32
    assert Rectangles.of(trace).distinct == 112 + 32
    assert found.live_pages == 1


def lowest_height(rectangles):
    """The least height of any placement, found by trying every address."""
    sizes = (rectangles.size // GRANULE).astype(int).tolist()
    lives = list(zip(rectangles.start.tolist(), rectangles.until.tolist(), strict=True))
    together = [
        [
            other
            for other in range(each)
            if lives[other][0] < lives[each][1] and lives[each][0] < lives[other][1]
        ]
        for each in range(len(sizes))
    ]

    def fits(limit, places):
        each = len(places)
        if each == len(sizes):
            return True
        for start in range(limit - sizes[each] + 1):
            if all(
                start + sizes[each] <= places[other] or places[other] + sizes[other] <= start
                for other in together[each]
            ) and fits(limit, [*places, start]):
                return True
        return False

    limit = rectangles.live // GRANULE
    while not fits(limit, []):
        limit += 1
    return limit * GRANULE


def small(steps):
    """A trace of steps: a size makes a block, 0 frees the oldest, -1 the youngest, -2 the one between."""
    live, made, slot = [], [], 0
    for step in steps:
        if step > 0:
            live.append(slot)
            made.append(Event(Op.MALLOC, slot, step * GRANULE))
            slot += 1
        elif live:
            made.append(Event(Op.FREE, live.pop({0: 0, -1: -1, -2: len(live) // 2}[step])))
    return Trace.of(made)


@settings(max_examples=25)
@given(
    st.lists(st.integers(-2, 4), min_size=1, max_size=12).filter(lambda steps: sum(s > 0 for s in steps) < 6)
)
def test_greedy_in_the_best_order_is_optimal(steps):
    rectangles = Rectangles.of(small(steps))
    optimum = lowest_height(rectangles)
    heights = []
    for order in permutations(range(len(rectangles))):
        stays = _Stays.of(rectangles)
        assert stays.in_order(lib.hl_pack_greedy, np.array(order), 1 << 16) == lib.HL_PACK_DONE
        heights.append(height(rectangles, stays.address))
    assert min(heights) == optimum
    for heuristic in HEURISTICS.values():
        assert height(rectangles, heuristic.place(rectangles)) >= optimum >= rectangles.live


def test_greedy_finds_the_lowest_gap_that_is_free_for_the_whole_life():
    rng = np.random.default_rng(4)
    trace = synthetic(3000, seed=4)
    rectangles = Rectangles.of(trace)
    order = rng.permutation(len(rectangles))
    stays = _Stays.of(rectangles)
    assert stays.in_order(lib.hl_pack_greedy, order, 1 << 24) == lib.HL_PACK_DONE
    size, start, until = (
        column.astype(np.int64) for column in (rectangles.size, rectangles.start, rectangles.until)
    )
    found, done = stays.address.astype(np.int64), np.zeros(len(order), bool)
    for block in order[:600].tolist():
        near = np.flatnonzero(done & (start < until[block]) & (until > start[block]))
        near = near[np.argsort(found[near])]
        place, align = 0, int(rectangles.align[block])
        for other in near.tolist():
            if found[other] >= place + size[block]:
                break
            place = max(place, -(-int(found[other] + size[other]) // align) * align)
        assert found[block] == place
        done[block] = True


def test_a_heap_without_room_is_full():
    rectangles = Rectangles.of(small([4, 4, 4, -1]))
    stays = _Stays.of(rectangles)
    assert (
        stays.in_order(lib.hl_pack_greedy, np.arange(3), 64) == lib.HL_PACK_DONE
    )  # words have room for more
    many = Rectangles.of(Trace.of([Event(Op.MALLOC, slot, 4096) for slot in range(8)]))
    stays = _Stays.of(many)
    assert stays.in_order(lib.hl_pack_greedy, np.arange(8), 8192) == lib.HL_PACK_FULL


def test_tops_are_the_highest_ends():
    rectangles = Rectangles.of(programs(3))
    address = HEURISTICS["best fit"].place(rectangles)
    end = (address + rectangles.size).astype(np.int64)[rectangles.owner]
    expected = np.zeros(rectangles.ticks, np.int64)
    for start, until, top in zip(rectangles.start, rectangles.until, end, strict=True):
        expected[start:until] = np.maximum(expected[start:until], top)
    assert tops(rectangles, address).tolist() == expected.tolist()


@pytest.mark.parametrize(
    "change",
    [
        {"until": [1, 1]},
        {"until": [9, 9]},
        {"stays": [0, 1, 1]},
        {"align": [16]},
    ],
)
def test_columns_that_c_would_run_away_with_are_refused(change):
    columns = {"size": [16, 16], "align": [16, 16], "stays": [0, 1, 2], "start": [1, 1], "until": [2, 2]}
    columns = {name: np.array(column, np.uint64) for name, column in {**columns, **change}.items()}
    stays = _Stays(*columns.values(), ticks=4, address=np.zeros(2, np.uint64))
    with pytest.raises(ValueError, match=r"stays|lengths"):
        stays.in_order(lib.hl_pack_stack, np.arange(2))


def test_blocks_with_too_many_bytes_are_refused():
    trace = Trace.of([Event(Op.MALLOC, 0, 1 << 46), Event(Op.FREE, 0)] * (1 << 14), "huge")
    with pytest.raises(UsageError, match="huge: its blocks have more bytes"):
        lab.offline(trace)


def test_a_large_heap_is_placed_without_bitmaps():
    trace = Trace.of([Event(Op.MALLOC, slot, 1 << 30) for slot in range(4)])
    found = lab.offline(trace, every=True)
    assert found.best == 4 << 30
    assert not any(name.startswith("greedy") for name in found.placements)


def test_a_trace_without_blocks_needs_nothing():
    found = lab.offline(Trace.of([]))
    assert (found.lower_bound, found.best, found.live_pages, found.optimal) == (0, 0, 0, True)
    assert found.above(4096) == 0
    assert "lower bound" in str(found)
