"""The metrics, on numbers that can be checked by hand."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from heaplab._core import lib
from heaplab.lab import run
from heaplab.lab.metrics import Fragmentation, Mems, geometric_mean, percentile, utilisation
from heaplab.traces import Event, Op, Trace

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
    assert Mems.of(0, 0, np.zeros(lib.HL_MEMS_BUCKETS, np.uint64)) == Mems(0, None, None, None)


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
