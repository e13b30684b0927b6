"""What became better or worse: exact figures at once, times beyond their intervals."""

import dataclasses

import pytest

from heaplab import lab, report
from heaplab.errors import UsageError
from heaplab.lab.columns import row_of
from heaplab.lab.record import restored_run
from heaplab.lab.sweeping.diff import BETTER, NOISE, SAME, WORSE, diff, read_rows
from heaplab.lab.sweeping.store import Row, Store
from heaplab.traces import synthetic

BASE = {"language": "c", "outcome": "finished", "reason": "", "peak_heap_bytes": 1000, "utilisation": 0.5}


def row(trace="t", allocator="x", seed=1, **figures):
    return Row(
        f"{trace}{allocator}{seed}",
        {},
        {**BASE, **{"trace": trace, "allocator": allocator, "seed": seed}, **figures},
    )


def verdicts(before, after, *metrics):
    return [change.verdict for change in diff(before, after, metrics).changes]


def test_exact_figures_differ_at_once_and_in_their_direction():
    assert verdicts([row()], [row(peak_heap_bytes=999, utilisation=0.4)]) == [BETTER, WORSE]
    assert verdicts([row()], [row()]) == [SAME, SAME]
    [change] = diff([row()], [row(peak_heap_bytes=900)], ["peak_heap_bytes"]).changes
    assert change.share == pytest.approx(-0.1)


def test_a_time_differs_where_intervals_do_not_meet():
    def times(values, spread=None):
        return [
            row(seed=at, native_ns_per_op=value, native_ns_spread=spread) for at, value in enumerate(values)
        ]

    name = "native_ns_per_op"
    assert verdicts(times([10.0]), times([12.0]), name) == [NOISE]  # one time, and no spread
    assert verdicts(times([10.0], 3.0), times([12.0], 3.0), name) == [NOISE]
    assert verdicts(times([10.0], 1.0), times([12.0], 1.0), name) == [WORSE]
    assert verdicts(times([10.0, 10.2, 9.8]), times([12.0, 12.1, 11.9]), name) == [WORSE]
    assert verdicts(times([10.0, 14.0, 6.0]), times([12.0, 8.0, 16.0]), name) == [NOISE]


def test_what_fails_now_is_worse_whatever_it_needs():
    failed = [row(outcome="failed", peak_heap_bytes=1)]
    assert verdicts([row()], failed) == [WORSE]
    assert verdicts(failed, [row()]) == [BETTER]
    assert verdicts(failed, failed) == [SAME]


def test_one_allocator_against_another_and_what_is_alone():
    found = diff([row(allocator="x")], [row(allocator="y"), row(trace="u", allocator="y")])
    assert {change.allocator for change in found.changes} == {"x -> y"}
    assert found.alone == ((), ("u on x -> y",))
    with pytest.raises(UsageError, match="have no cell in common"):
        diff([row(allocator="x"), row(allocator="y")], [row(allocator="z")])
    with pytest.raises(
        UsageError, match="'speed' is no figure that can be better or worse: there are peak_heap"
    ):
        diff([row()], [row()], ["speed"])


def test_stores_and_json_say_the_same(tmp_path):
    comparison = lab.compare([synthetic(200, slots=20)], ["rbtree"], native=["glibc"], rounds=2, jobs=1)
    back = [restored_run(run.as_dict()) for run in comparison.runs]
    assert back == list(comparison.runs)
    (tmp_path / "a.json").write_text(report.to_json(comparison))
    with Store(tmp_path / "b") as store:
        store.add(*(Row(str(at), {}, row_of(run)) for at, run in enumerate(comparison.runs)))
    found = diff(read_rows(tmp_path / "a.json"), read_rows(tmp_path / "b"))
    assert {change.verdict for change in found.changes} == {SAME}
    assert str(found) == f"nothing differs beyond noise in {len(found.changes)} figures"


def test_runs_that_were_lost_come_back():
    run = lab.run(synthetic(100, slots=20), "rbtree")
    lost = dataclasses.replace(run, outcome="crashed", reason="SIGSEGV")
    assert row_of(restored_run(lost.as_dict())) == row_of(lost) | {"processes": None}


@pytest.mark.parametrize("content", ["no JSON", "{}", '{"runs": [{"trace": "t"}]}'])
def test_what_is_neither_is_refused(tmp_path, content):
    (tmp_path / "x.json").write_text(content)
    with pytest.raises(UsageError, match="is neither a store of `heaplab sweep` nor what"):
        read_rows(tmp_path / "x.json")
