"""Curves as data: what runs share is there once, and what looks alike is found."""

import dataclasses

import pytest

from heaplab.lab import Clock, Run, Timeline
from heaplab.report.onepage.curves import curves


def with_line(run, heap, resident=None, event=(1, 2, 3)):
    line = Timeline(event, tuple(range(10, 10 + len(event))), tuple(heap), tuple(resident or heap))
    return dataclasses.replace(run, outcome="finished", timeline=line, fragmentation=None, walks=())


@pytest.fixture
def run(comparison):
    return comparison.runs[0]


def test_runs_that_were_looked_at_together_share_their_moments(run):
    data = curves([with_line(run, (1, 2, 3)), with_line(run, (4, 5, 6))], Clock((1, 2, 3), (0, 5, 9)), [0, 3])
    assert data["grids"] == [{"event": [1, 2, 3], "live": [10, 11, 12]}]
    assert [(each["allocator"], each["grid"], each["heap"]) for each in data["runs"]] == [
        (0, 0, [1, 2, 3]),
        (3, 0, [4, 5, 6]),
    ]
    assert data["clock"] == {"event": [1, 2, 3], "time": [0, 5, 9]}
    assert data["events"] == run.events


def test_a_run_without_a_timeline_has_no_curve(comparison):
    [lost] = [run for run in comparison.runs if run.outcome == "crashed"]
    data = curves([lost, with_line(lost, (1, 2, 3))], None, [0, 1])
    assert [each["allocator"] for each in data["runs"]] == [1]
    assert curves([lost], None, [0])["runs"] == []


def test_an_early_end_is_told(comparison):
    stopped = comparison.runs[1]
    [data] = curves([stopped], None, [0])["runs"]
    assert (stopped.outcome, data["ended"]) == ("stopped", "stopped")


def test_the_walk_at_the_peak_is_among_the_walks(comparison):
    run = comparison.runs[0]
    [data] = curves([run], None, [0])["runs"]
    assert data["walks"]["event"] == [run.fragmentation.event]
    assert data["walks"]["external"] == [round(run.fragmentation.external, 6)]


def test_curves_within_a_few_percent_of_the_largest_value_look_alike(run):
    one, other = with_line(run, (10, 100, 100)), with_line(run, (14, 100, 97), resident=(1, 50, 100))
    assert curves([one, other], None, [0, 1])["alike"] == {"heap": 0.04, "resident": None}
    assert curves([one], None, [0])["alike"] == {"heap": None, "resident": None}


def test_runs_with_other_moments_are_compared_where_both_went_on(run):
    one, other = with_line(run, (100, 100, 100)), with_line(run, (50, 98), event=(2, 3))
    assert curves([one, other], None, [0, 1])["alike"]["heap"] is None  # at 1 the other has nothing
    short = with_line(run, (100, 99), event=(1, 2))
    assert curves([one, short], None, [0, 1])["alike"]["heap"] == 0.01


def test_a_timeline_that_no_run_can_have_is_refused(run):
    wrong = dataclasses.replace(with_line(run, (1, 2, 3)), timeline=Timeline((1, 2), (1, 2), (3,), (4, 5)))
    with pytest.raises(ValueError, match="none that a run can have"):
        curves([wrong], None, [0])
    with pytest.raises(ValueError, match="none that a run can have"):
        curves([with_line(run, (1, -2, 3))], None, [0])
    assert isinstance(wrong, Run)
