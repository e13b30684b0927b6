"""Parameters searched for a goal: what is tried, the front, and that nothing is run twice."""

import pytest

from heaplab.allocators import parse
from heaplab.errors import UsageError
from heaplab.lab.sweeping.store import read_store
from heaplab.lab.sweeping.tune import Trial, axes_of, front_of, tune
from heaplab.report.fronts import front
from heaplab.traces import synthetic


@pytest.fixture(scope="module")
def traces():
    return [synthetic(400, slots=30, seed=seed) for seed in (1, 2)]


def test_the_ranges_are_those_that_make_sense():
    axes = axes_of(parse("freelist:fit=best", "c"), {})
    assert list(axes) == ["order", "mmap_threshold", "trim_threshold", "top_pad"]
    assert axes["order"] == ("lifo", "fifo", "address")
    assert axes["top_pad"][:3] == ("0", "4096", "8192")
    assert axes["top_pad"][-1] == str(8 << 20)
    assert axes["trim_threshold"][0] == "dynamic"
    assert axes_of(parse("slab", "c"), {})["idle_chunks"] == (
        "0",
        "1",
        "2",
        "4",
        "8",
        "16",
        "32",
        "64",
        "128",
    )
    assert axes_of(parse("buddy", "c"), {"checks": "none,all"})["checks"] == ("none", "all")


def test_a_search_is_the_same_twice_keeps_its_cells_and_finds_a_front(traces, tmp_path):
    def search():
        return tune(
            "freelist:top_pad=4096",
            traces,
            minimise=["heap", "mems"],
            trials=12,
            store=tmp_path / "cells",
            held_out=[synthetic(300, slots=30, seed=3)],
            jobs=1,
        )

    found = search()
    assert len(found.trials) == 12
    assert found.trials[0] == Trial(found.given, (1.0, 1.0), found.trials[0].by_trace)
    assert len({trial.spec for trial in found.trials}) == 12
    for trial in found.front:
        assert not any(
            other.ratios != trial.ratios
            and all(a <= b for a, b in zip(other.ratios, trial.ratios, strict=True))
            for other in found.finished
        )
    assert found.best.ratios[0] * found.best.ratios[1] <= 1
    assert set(found.held_out) == {trial.spec for trial in found.front} | {found.given}
    before = len(read_store(tmp_path / "cells"))
    assert search() == found
    assert len(read_store(tmp_path / "cells")) == before
    assert str(found).startswith("12 specs tried; figures are ratios to those of freelist:top_pad=4096")
    assert len(front(found).axes[0].lines) >= 3


def test_few_specs_are_all_tried_and_one_that_fails_says_why(traces):
    found = tune(
        "slab",
        traces[:1],
        ranges={"chunk": "4KiB,64KiB", "keep": "0", "idle_chunks": "2", "mmap_threshold": "dynamic"},
        trials=5,
        jobs=1,
    )
    assert next(trial.spec for trial in found.trials) == "slab"
    assert len(found.trials) == 3
    for trial in found.trials:
        assert bool(trial.ratios) is not bool(trial.reason)


def test_a_front_has_no_spec_twice():
    trials = [Trial("a", (1, 2)), Trial("b", (1, 2)), Trial("c", (0.5, 3)), Trial("d", (2, 1.9))]
    assert [trial.spec for trial in front_of(trials)] == ["c", "a", "d"]


@pytest.mark.parametrize(
    ("what", "sentence"),
    [
        ({"spec": "slb"}, "there is no allocator 'slb'"),
        ({"minimise": ["beauty"]}, "there is no goal 'beauty': there are heap, mean-heap"),
        ({"minimise": ["heap", "heap"]}, "one goal, or two different ones"),
        ({"trials": 0}, "trials=0: give a number above 0"),
        ({"ranges": {"colour": "red"}}, "freelist has no parameter 'colour': there are fit"),
        ({"ranges": {"fit": "tight"}}, "freelist has no fit 'tight'"),
        ({"ranges": {"top_pad": "8k..4k"}}, "a range goes up, from above 0"),
    ],
)
def test_mistakes_are_one_sentence(traces, what, sentence):
    with pytest.raises(UsageError, match=sentence):
        tune(**{"spec": "freelist", "traces": traces, **what})
