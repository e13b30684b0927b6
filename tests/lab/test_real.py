"""Real allocators in a comparison: rows behind the designs, by the same metrics."""

import dataclasses
import os
import signal

import pytest

from heaplab import lab
from heaplab.errors import UsageError
from heaplab.native import peers
from heaplab.native.peers import Peer, find_peer
from heaplab.traces import Event, Op, Trace, synthetic


@pytest.fixture(scope="module")
def traces() -> list[Trace]:
    return [synthetic(3000, seed=seed, slots=100) for seed in (1, 2)]


def test_rows_stand_behind_the_designs_of_each_trace(traces) -> None:
    told = []
    comparison = lab.compare(
        traces, ["rbtree"], native=["glibc", "heaplab:rbtree"], rounds=2, latency=True, progress=told.append
    )
    assert [(run.trace, run.allocator, run.language) for run in comparison.runs] == [
        (trace.header.name, *row)
        for trace in traces
        for row in (("rbtree", "c"), ("glibc", "native"), ("heaplab:rbtree", "native"))
    ]
    assert all(run.outcome == "finished" for run in comparison.runs)
    assert (comparison.planned, comparison.interrupted, comparison.left_out) == (6, False, ())
    assert comparison.settings["native"] == ["glibc", "heaplab:rbtree"]
    assert (told[-1].events, told[-1].runs) == (told[-1].total, 6) == (18_000, 6)
    for name in comparison.headers:
        model, glibc, ours = comparison.of_trace(name)
        assert model.peak_live == glibc.peak_live == ours.peak_live
        assert model.operations == glibc.operations == ours.operations == 3000
        assert (model.peak_heap, model.freed_heap, model.faults) == (
            ours.peak_heap,
            ours.freed_heap,
            ours.faults,
        )
        assert model.freed_resident == ours.freed_resident
        assert abs(model.peak_resident - ours.peak_resident) <= model.peak_resident / 200
        assert glibc.peak_heap >= glibc.peak_resident > 0
        for real in (glibc, ours):
            assert len(real.seconds.times.rounds) == 2
            assert real.seconds.latency.p50 <= real.seconds.latency.p999
            assert (real.fragmentation, real.heap_map, real.seconds.ns_per_op) == (None, None, None)
        assert (model.seconds.times, model.seconds.latency) == (None, None)


def test_real_allocators_alone_and_none_at_all(traces, monkeypatch) -> None:
    [run] = lab.compare(traces[:1], [], native=["glibc"], rounds=1).runs
    assert (run.allocator, run.outcome) == ("glibc", "finished")
    monkeypatch.setitem(peers.DEBIAN, "mimalloc", ("libabsent.so", "libmimalloc2.0"))
    comparison = lab.compare(traces[:1], ["buddy"], native=["mimalloc"])
    assert [run.allocator for run in comparison.runs] == ["buddy"]
    [sentence] = comparison.left_out
    assert "libmimalloc2.0" in sentence
    with pytest.raises(UsageError, match=r"nothing to compare: .*libmimalloc2\.0"):
        lab.compare(traces[:1], [], native=["mimalloc"])


def test_mistakes(traces) -> None:
    for settings, sentence in (
        ({"native": ["glibc", "glibc"]}, "the allocator glibc is given twice"),
        ({"native": ["glibc"], "rounds": 0}, "rounds=0"),
        ({"native": ["no"]}, "no native allocator 'no'"),
    ):
        with pytest.raises(UsageError, match=sentence):
            lab.compare(traces[:1], ["buddy"], **settings)


def test_one_that_cannot_be_played_costs_its_own_rows(traces, tmp_path) -> None:
    """What is no library is refused by the dynamic linker, and by `find_peer`, which is not asked here."""
    (tmp_path / "no.so").write_text("no ELF")
    broken = dataclasses.replace(find_peer("glibc"), name="broken", library=tmp_path / "no.so")
    glibc, failed = lab.compare(traces[:1], [], native=["glibc", broken], rounds=1).runs
    assert (glibc.outcome, failed.outcome) == ("finished", "failed")
    assert "cannot be preloaded" in failed.reason
    assert glibc.seconds.times is not None


def test_ctrl_c_while_real_allocators_play_keeps_what_is_finished(traces) -> None:
    def interrupt(now: lab.Progress) -> None:
        if now.runs == 3:
            os.kill(os.getpid(), signal.SIGINT)

    comparison = lab.compare(traces, ["buddy"], native=["glibc"], rounds=3, jobs=1, progress=interrupt)
    assert comparison.interrupted
    assert [(run.trace, run.allocator) for run in comparison.runs] == [
        (traces[0].header.name, "buddy"),
        (traces[0].header.name, "glibc"),
        (traces[1].header.name, "buddy"),
    ]


def test_blocks_left_at_the_end_are_freed_on_the_model() -> None:
    trace = Trace.of([Event(Op.MALLOC, slot, 1000) for slot in range(500)], "left")
    record = lab.run(trace, "rbtree")
    assert record.peak_heap == record.timeline.heap[-1] > 400_000
    assert record.freed_heap < 300_000
    assert record.freed_resident <= record.freed_heap
    assert record.operations == 500


def test_a_stopped_run_frees_nothing() -> None:
    record = lab.run(synthetic(3000, seed=1), "rbtree", max_mems=1000)
    assert (record.outcome, record.freed_heap, record.freed_resident) == ("stopped", None, None)


def test_a_heap_that_cannot_free_what_is_left_has_failed(spec_of, shelf) -> None:
    class Stubborn(shelf):
        def _free(self, p: int) -> None:
            raise ValueError("never")

    record = lab.run(Trace.of([Event(Op.MALLOC, 0, 10)]), spec_of(Stubborn))
    assert record.outcome == "failed"
    assert record.reason.startswith("the free of the block at 0x")
    assert "ValueError: never" in record.reason


def test_a_peer_is_taken_as_it_is() -> None:
    peer = Peer("C library", None, find_peer("glibc").aligned)
    [run] = lab.compare([synthetic(1000, seed=3)], [], native=[peer], rounds=1).runs
    assert run.allocator == "C library"
