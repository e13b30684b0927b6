"""The metrics, on numbers that can be checked by hand."""

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from heaplab._core import lib
from heaplab.allocators import parse
from heaplab.errors import UsageError
from heaplab.kernel import Kernel
from heaplab.lab import run
from heaplab.lab.metrics import (
    Excess,
    Fragmentation,
    FreeSpace,
    Mems,
    OverLive,
    geometric_mean,
    percentile,
    utilisation,
)
from heaplab.traces import Event, Op, Trace, synthetic

KIB = 1024


def test_every_figure_of_a_tiny_trace(spec_of):
    trace = Trace.of(
        [
            Event(Op.MALLOC, 0, 100),  # block of 128 bytes behind the root's 32
            Event(Op.MALLOC, 1, 1000),  # block of 1024
            Event(Op.FREE, 0),
            Event(Op.MALLOC, 0, 3000),  # block of 3024: ends at 4208, so a second page
            Event(Op.FREE, 1),
        ],
        "tiny",
    )
    record = run(trace, spec_of())
    assert (record.outcome, record.events_done, record.operations) == ("finished", 5, 5)
    assert record.peak_live == 4000
    assert record.peak_heap == record.peak_resident == 8 * KIB
    assert record.utilisation == 4000 / 8192
    at_peak = record.fragmentation
    assert (at_peak.event, at_peak.at_peak) == (4, True)
    assert (at_peak.live, at_peak.allocated, at_peak.heap) == (4000, 1024 + 3024, 8192)
    assert at_peak.internal == (4048 - 4000) / 8192
    assert at_peak.external == (8192 - 4048) / 8192
    assert record.faults == 2
    assert (record.brk_calls, record.mmap_calls) == (2, 0)
    assert (record.mems.total, record.mems.mean, record.mems.p99, record.mems.max) == (21, 4.2, 7, 7)
    assert record.timeline.event == (1, 2, 3, 4, 5)
    assert record.timeline.live == (100, 1100, 1000, 4000, 3000)
    assert record.timeline.heap == (4096, 4096, 4096, 8192, 8192)
    assert record.timeline.resident == (4096, 4096, 4096, 8192, 8192)


def test_large_blocks_count_in_heap_and_calls():
    events = [Event(Op.MALLOC, 0, 10), Event(Op.CALLOC, 1, 200 * KIB), Event(Op.FREE, 1)]
    record = run(Trace.of(events), "rbtree:top_pad=0:mmap_threshold=128KiB", "python")
    assert (
        record.peak_heap == 4 * KIB + 200 * KIB + 4 * KIB
    )  # the table of large blocks has a page of its own
    assert record.timeline.heap == (4 * KIB, 208 * KIB, 8 * KIB)
    assert (record.brk_calls, record.mmap_calls) == (1, 3)
    assert record.faults == 1 + 51 + 1  # calloc's zeros are looked at without a read fault of their own
    assert record.fragmentation.allocated > 200 * KIB
    assert record.fragmentation.metadata > 4 * KIB
    first, mappings = record.heap_map.regions
    assert (first[1], mappings[1]) == (4 * KIB, 204 * KIB)


def test_the_heap_map_adds_up(spec_of):
    events = [Event(Op.MALLOC, slot, 40 * slot) for slot in range(300)]
    events += [Event(Op.FREE, slot) for slot in range(0, 300, 3)] + [Event(Op.MALLOC, 0, 3_000_000)]
    record = run(Trace.of(events), spec_of())
    drawn, at_peak = record.heap_map, record.fragmentation
    assert sum(drawn.payload) == at_peak.live
    assert sum(drawn.payload) + sum(drawn.overhead) == at_peak.allocated
    assert sum(size for _, size in drawn.regions) == at_peak.heap
    assert all(
        0 <= p and 0 <= o and p + o <= drawn.cell for p, o in zip(drawn.payload, drawn.overhead, strict=True)
    )


def test_the_heap_map_shows_bytes_where_they_are(spec_of):
    events = [Event(Op.MALLOC, 0, 32), Event(Op.MALLOC, 1, 64), Event(Op.FREE, 0), Event(Op.MALLOC, 0, 64)]
    drawn = run(Trace.of(events), spec_of()).heap_map
    assert drawn.cell == 16
    #        root      32, freed  header  64           header 64
    assert drawn.payload[:16] == (0, 0, 0, 0, 0, 0, 0, 16, 16, 16, 16, 0, 16, 16, 16, 16)
    assert drawn.overhead[:16] == (0, 0, 0, 0, 0, 0, 16, 0, 0, 0, 0, 16, 0, 0, 0, 0)
    assert sum(drawn.payload[16:]) == sum(drawn.overhead[16:]) == 0


def test_without_a_heap_nothing_is_divided_by_zero():
    assert utilisation(0, 0) is None
    nothing = Fragmentation.of(event=0, at_peak=False, live=0, allocated=0, metadata=0, heap=0)
    assert (nothing.internal, nothing.external) == (0, 0)
    assert Mems.of(0, 0, np.zeros(lib.HL_MEMS_BUCKETS, np.uint64)) == Mems(0)


@given(st.integers(0, 2**64 - 1))
def test_a_bucket_of_mems_is_exact_or_narrow(mems):
    bucket = lib.hl_mems_bucket(mems)
    top = lib.hl_mems_bucket_top(bucket)
    assert 0 <= bucket < lib.HL_MEMS_BUCKETS
    assert mems <= top
    assert top == mems if mems < 4096 else top - mems < mems * 0.01
    assert lib.hl_mems_bucket(top) == bucket
    if top < 2**64 - 1:
        assert lib.hl_mems_bucket(top + 1) == bucket + 1


@given(st.lists(st.integers(0, 4000), min_size=1, max_size=300))
def test_a_percentile_is_the_least_that_suffices(values):
    counts = np.bincount(values, minlength=lib.HL_MEMS_BUCKETS).astype(np.uint64)
    p99 = percentile(counts, 0.99)
    assert sum(value <= p99 for value in values) >= 0.99 * len(values)
    assert sum(value < p99 for value in values) < 0.99 * len(values)


@pytest.mark.parametrize(("values", "mean"), [([2, 8], 4), ([5], 5), ([1, 10, 100], 10), ([3, 0, 7], 0)])
def test_geometric_mean(values, mean):
    assert geometric_mean(values) == pytest.approx(mean)


@pytest.mark.parametrize("values", [[], [1, -1], [math.nan]])
def test_what_has_no_geometric_mean(values):
    assert math.isnan(geometric_mean(values))


# ---- where the excess lies ----

PAGE = 4096


def rows(*spans):
    return np.array(spans, np.int64).reshape(-1, 2)


def excess(*, live, blocks, heap, resident, metadata=()):
    return Excess.of(
        live=live,
        blocks=rows(*blocks),
        metadata=rows(*metadata),
        heap=rows(*heap),
        resident=np.array(resident, np.int64) * PAGE,
        page=PAGE,
    )


def test_an_empty_heap_has_no_excess():
    assert excess(live=0, blocks=(), heap=(), resident=()) == Excess(*[0] * 10)


def test_free_space_is_unbacked_vacant_or_pinned_by_its_page():
    found = excess(
        live=4000 + 50,
        blocks=[(PAGE, PAGE + 4080), (3 * PAGE, 3 * PAGE + 64)],  # most of page 1, little of page 3
        metadata=[(5 * PAGE, 5 * PAGE + 96)],
        heap=[(PAGE, 7 * PAGE)],  # pages 1 to 6
        resident=[1, 2, 3, 5],  # of what is in use all; 4 and 6 have no frame
    )
    assert (found.heap, found.bytes) == (6 * PAGE, 6 * PAGE - 4050)
    assert (found.internal, found.metadata) == (80 + 14, 96)
    assert (found.unbacked, found.vacant) == (2 * PAGE, PAGE)
    assert found.pinned == (PAGE - 4080) + (PAGE - 64) + (PAGE - 96)
    assert found.sparse == (PAGE - 64) + (PAGE - 96)  # page 1 is full but for 16 bytes
    assert (found.blocks, found.sparse_blocks) == (2, 1)
    parts = found.internal + found.metadata + found.unbacked + found.vacant + found.pinned
    assert parts == found.bytes


def test_a_block_over_several_pages_lies_in_a_sparse_page_if_its_end_does():
    found = excess(
        live=2 * PAGE + 8,
        blocks=[(0, 2 * PAGE + 8), (4 * PAGE - 8, 4 * PAGE + 4000)],
        heap=[(0, 3 * PAGE), (3 * PAGE, 5 * PAGE)],
        resident=[0, 1, 2, 3, 4],
    )
    assert found.sparse == 2 * (PAGE - 8)  # pages 2 and 3; page 4 is nearly full
    assert found.pinned == found.sparse + PAGE - 4000
    assert (found.blocks, found.sparse_blocks) == (2, 2)


def test_half_a_page_free_is_not_sparse():
    found = excess(live=2048, blocks=[(0, 2048)], heap=[(0, PAGE)], resident=[0])
    assert (found.pinned, found.sparse, found.sparse_blocks) == (2048, 0, 0)


def test_the_excess_of_two_heaps_is_their_sum():
    one = excess(live=100, blocks=[(0, 128)], heap=[(0, PAGE)], resident=[0])
    other = excess(live=10, blocks=[(PAGE, PAGE + 32)], heap=[(PAGE, 3 * PAGE)], resident=[1])
    both = excess(
        live=110, blocks=[(0, 128), (PAGE, PAGE + 32)], heap=[(0, PAGE), (PAGE, 3 * PAGE)], resident=[0, 1]
    )
    assert one + other == both


@pytest.mark.parametrize("language", ["c", "python"])
@pytest.mark.parametrize("design", ["buddy", "rbtree", "spans"])
def test_the_excess_of_a_run_adds_up_to_its_heap_and_agrees_with_its_fragmentation(design, language):
    record = run(synthetic(1500, seed=3, slots=200, median=300), design, language)
    found, at_peak = record.excess, record.fragmentation
    parts = (found.internal, found.metadata, found.unbacked, found.vacant, found.pinned)
    assert min(parts) >= 0
    assert sum(parts) == found.bytes == at_peak.heap - at_peak.live
    assert found.internal + found.metadata == at_peak.allocated + at_peak.metadata - at_peak.live
    assert (
        found.unbacked <= at_peak.heap - record.timeline.resident[record.timeline.event.index(at_peak.event)]
    )
    assert 0 <= found.sparse <= found.pinned
    assert 0 <= found.sparse_blocks <= found.blocks


# ---- walks on the way ----


def test_walks_measure_on_the_way_and_change_nothing_else():
    trace = synthetic(1500, seed=3, slots=200, median=300)
    plain, walked = run(trace, "rbtree"), run(trace, "rbtree", walks=7)
    assert plain.walks == ()
    assert [walk.event for walk in walked.walks] == [214, 428, 642, 857, 1071, 1285, 1500]
    for walk in walked.walks:
        assert walk.fragmentation.allocated + walk.fragmentation.metadata <= walk.heap
        assert walk.free.bytes + walk.free.cached_bytes <= walk.heap - walk.fragmentation.allocated
        assert walk.internal + walk.external == pytest.approx(1 - walk.live / walk.heap)
    assert replace(walked, walks=(), seconds=plain.seconds) == plain


def test_a_walk_at_the_peak_is_the_one_that_is_made_in_any_case():
    trace = Trace.of([Event(Op.MALLOC, 0, 100), Event(Op.MALLOC, 1, 100), Event(Op.FREE, 0)])
    record = run(trace, "rbtree", walks=3)
    assert [walk.event for walk in record.walks] == [1, 2, 3]
    assert record.walks[1].fragmentation == record.fragmentation
    assert record.walks[1].free == record.free
    assert record.walks[1].attribution == record.attribution.without_pins()
    assert run(trace, "rbtree", walks=200).walks == record.walks  # there are no more moments


def test_a_run_that_is_stopped_has_the_walks_up_to_there():
    trace = synthetic(1500, seed=3, slots=200, median=300)
    whole = run(trace, "rbtree", walks=7)
    stopped = run(trace, "rbtree", walks=7, max_mems=whole.mems.total // 2)
    assert 0 < len(stopped.walks) < 7
    assert stopped.walks == whole.walks[: len(stopped.walks)]
    assert stopped.fragmentation.event <= stopped.events_done


@pytest.mark.parametrize("walks", [-1, 257])
def test_so_many_walks_there_are_not(walks):
    with pytest.raises(UsageError, match="from 0 to 256"):
        run(Trace.of([Event(Op.MALLOC, 0, 1)]), "rbtree", walks=walks)


def test_walks_are_made_after_the_events_that_are_named():
    trace = synthetic(1500, seed=3, slots=200, median=300)
    record = run(trace, "rbtree", walks=[10, 1500, 700])
    assert record.series.event == (10, 700, 1500)
    assert record.series.live == tuple(walk.fragmentation.live for walk in record.walks)
    assert record.series.within == tuple(walk.attribution.internal for walk in record.walks)
    assert record.series.resident[-1] == record.timeline.resident[-1]
    with pytest.raises(UsageError, match="walks=1501: the trace has the moments 1 to 1,500"):
        run(trace, "rbtree", walks=[1501])


# ---- free blocks ----


def test_free_blocks_are_counted_by_powers_of_two(spec_of):
    events = [Event(Op.MALLOC, slot, size) for slot, size in enumerate((100, 24, 5000, 24, 100, 24))]
    events += [Event(Op.FREE, slot) for slot in (0, 2, 4)] + [Event(Op.MALLOC, 0, 9000)]
    record = run(Trace.of(events), spec_of(), walks=[len(events)])
    [walk] = record.walks
    free = walk.free
    assert free.blocks == sum(free.by_size) == 3
    assert (free.by_size[7], free.by_size[12]) == (2, 1)  # two of 100 bytes, one of 5000, with their headers
    assert (free.bytes, free.largest) == (2 * 128 + 5024, 5024)
    assert free.bytes <= walk.fragmentation.heap - walk.fragmentation.allocated
    assert (free.cached, free.cached_bytes) == (0, 0)


def test_no_free_block_is_no_histogram():
    nothing = FreeSpace.of(np.empty(0, np.int64), np.empty(0, np.int64))
    assert nothing == FreeSpace(0, 0, 0, (), 0, 0)


@given(st.lists(st.integers(1, 2**47), min_size=1, max_size=50))
def test_each_free_block_is_in_the_class_of_its_power(sizes):
    free = FreeSpace.of(np.array(sizes), np.empty(0, np.int64))
    assert sum(free.by_size) == len(sizes)
    for power, count in enumerate(free.by_size):
        assert count == sum(2**power <= size < 2 ** (power + 1) for size in sizes)


# ---- Johnstone and Wilson ----


def test_the_four_measures_of_a_tiny_trace(spec_of):
    events = [
        Event(Op.MALLOC, 0, 3000),  # a page
        Event(Op.MALLOC, 1, 3000),  # the second: the peak of live, 6000
        Event(Op.FREE, 0),
        Event(Op.MALLOC, 0, 3500),  # does not fit into the hole: the third page; 6500
        Event(Op.FREE, 1),
        Event(Op.FREE, 0),
    ]
    record = run(Trace.of(events), spec_of())
    line, measures = record.timeline, record.heap_over_live
    assert line.heap == (4096, 8192, 8192, 12288, 12288, 12288)
    assert measures.mean == sum(line.heap) / sum(line.live)
    assert measures.at_peak_live == measures.at_peak_used == measures.of_peaks == 12288 / 6500
    assert measures.event == 4
    assert record.resident_over_live.mean == sum(line.resident) / sum(line.live)


@pytest.mark.parametrize("language", ["c", "python"])
def test_the_four_measures_are_those_of_the_timeline_when_that_has_every_event(language):
    record = run(synthetic(400, seed=4, slots=60, median=900), "buddy", language)
    line = record.timeline
    assert line.event == tuple(range(1, 401))
    for used, measures in ((line.heap, record.heap_over_live), (line.resident, record.resident_over_live)):
        first = used.index(max(used))
        assert measures.event == line.event[first]
        assert measures.mean == sum(used) / sum(line.live)
        assert measures.at_peak_used == max(used) / line.live[first]
        assert measures.at_peak_live == used[line.live.index(max(line.live))] / max(line.live)
        assert measures.of_peaks == max(used) / max(line.live)


def test_where_nothing_was_live_nothing_is_divided_by_zero():
    assert OverLive.of((4096, 0, 1), (0, 0), (4096, 0)) == OverLive(None, None, None, None, 1)


# ---- cache lines ----


def test_lines_are_the_distinct_ones_of_each_operation():
    events = [Event(Op.MALLOC, slot, 60 * slot) for slot in range(30)]
    events += [Event(Op.FREE, slot) for slot in range(0, 30, 2)]
    record = run(Trace.of(events), "rbtree", lines=True)
    process = Kernel().init.fork()
    heap, blocks, counts = parse("rbtree").create(process), {}, []
    for event in events:
        process.context.observe(True)
        if event.op == Op.MALLOC:
            blocks[event.id] = heap.malloc(event.size)
        else:
            heap.free(blocks[event.id])
        counts.append(len({each.address // 64 for each in process.context.recent(4096)}))
    assert (record.lines.total, record.lines.max) == (sum(counts), max(counts))
    assert record.lines.mean == sum(counts) / len(counts)
    assert record.lines.p50 == sorted(counts)[(len(counts) - 1) // 2]


def test_counting_lines_changes_nothing_else():
    trace = synthetic(1500, seed=3, slots=200, median=300)
    plain, lined = run(trace, "spans"), run(trace, "spans", lines=True)
    assert plain.lines is None
    assert 0 < lined.lines.mean <= lined.mems.mean
    assert lined.lines.p50 <= lined.lines.p99 <= lined.lines.p999 <= lined.lines.p9999 <= lined.lines.max
    assert replace(lined, lines=None, seconds=plain.seconds) == plain


def test_lines_of_a_forked_child_are_counted():
    events = [Event(Op.MALLOC, 0, 100), Event(Op.FORK, 1)]
    alone = run(Trace.of(events), "rbtree", lines=True).lines.total
    both = run(Trace.of([*events, Event(Op.MALLOC, 1, 100, process=1)]), "rbtree", lines=True).lines.total
    assert both > alone > 0


def test_one_operation_may_touch_more_lines_than_the_set_has_room_for_at_first():
    events = [Event(Op.MALLOC, slot, 40) for slot in range(4000)]
    events += [Event(Op.FREE, slot) for slot in range(0, 4000, 2)]  # a list of 2,000, none of which fits
    events += [Event(Op.MALLOC, 0, 3000)]
    record = run(Trace.of(events), "freelist:fit=best", lines=True)
    assert record.lines.max > 1500


# ---- percentiles ----


def test_percentiles_rise_to_the_maximum():
    counts = np.zeros(lib.HL_MEMS_BUCKETS, np.uint64)
    counts[[1, 10, 20, 30]] = 9000, 900, 90, 10
    found = Mems.of(0, 30, counts)
    assert (found.p50, found.p99, found.p999, found.p9999, found.max) == (1, 10, 20, 30, 30)
