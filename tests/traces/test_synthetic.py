"""Made-up traces."""

import numpy as np
import pytest

from heaplab.traces import NULL_ID, Block, Op, synthetic


def columns(trace):
    return Block.join(trace).columns()


def test_equal_seeds_equal_traces():
    one, same, other = (columns(synthetic(70_000, seed=seed)) for seed in (1, 1, 2))
    assert all((one[name] == same[name]).all() for name in one)
    assert (one["size"] != other["size"]).any()


def test_it_has_what_was_asked_for():
    trace = synthetic(200_000, slots=100, median=64, realloc=0.2, aligned=0.5)
    seen = columns(trace)
    ops = trace.header.ops
    allocations = ops["malloc"] + ops["aligned"]
    assert trace.header.slots == 100
    assert np.median(seen["size"][seen["size"] > 0]) == pytest.approx(64, rel=0.05)
    assert ops["aligned"] / allocations == pytest.approx(0.5, rel=0.05)
    nulls = (seen["id"] == NULL_ID).sum()
    assert (ops["realloc"] + nulls) / 200_000 == pytest.approx(0.2, rel=0.05)
    assert (seen["op"] == Op.FREE).sum() - nulls == pytest.approx(allocations, abs=100)


def test_threads_share_the_work_and_hand_blocks_on():
    trace = synthetic(200_000, slots=100, threads=4, remote=0.25)
    seen, alone = columns(trace), columns(synthetic(200_000, slots=100))
    assert all((seen[name] == alone[name]).all() for name in seen if name != "thread")
    assert np.bincount(seen["thread"]).tolist() == pytest.approx([50_000] * 4, rel=0.05)
    releases = ((seen["op"] == Op.FREE) | (seen["op"] == Op.REALLOC)) & (seen["id"] != NULL_ID)
    assert trace.header.threads == 4
    assert trace.header.remote_frees == pytest.approx(releases.sum() / 4, rel=0.05)
    assert synthetic(70_000, threads=3, remote=0).header.remote_frees == 0


@pytest.mark.parametrize("events", [0, 1, 65_536, 65_537])
def test_any_length(events):
    assert synthetic(events, slots=3).header.events == events
