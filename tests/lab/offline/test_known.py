"""What is known of a trace is kept by its content, and a comparison says how far its runs are from it."""

import numpy as np
import pytest

from heaplab import lab
from heaplab.lab.offline import HEURISTICS, Heuristic, Rectangles
from heaplab.lab.offline.heuristics import height
from heaplab.report.verdict import verdict
from heaplab.traces import Event, Op, Trace, synthetic


@pytest.fixture(autouse=True)
def _cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))


def placed(monkeypatch):
    """The names of the heuristics that are carried out from now on."""
    done = []
    for name, heuristic in list(HEURISTICS.items()):

        def place(rectangles, name=name, heuristic=heuristic):
            done.append(name)
            return heuristic.place(rectangles)

        monkeypatch.setitem(HEURISTICS, name, type(heuristic)(name, place))
    return done


def test_the_same_events_are_placed_once(monkeypatch):
    done = placed(monkeypatch)
    first = lab.offline(synthetic(2000, seed=1))
    assert done
    done.clear()
    again = lab.offline(synthetic(2000, seed=1))
    assert not done
    assert again == first
    assert again.address.tolist() == first.address.tolist()
    lab.offline(synthetic(2000, seed=2))
    assert done


def test_what_was_found_before_an_interrupt_is_kept(monkeypatch):
    trace = synthetic(2000, seed=7)
    done = placed(monkeypatch)

    def interrupted(rectangles):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setitem(HEURISTICS, "first fit", Heuristic("first fit", interrupted))
        with pytest.raises(KeyboardInterrupt):
            lab.offline(trace, every=True)
    assert done == ["best fit"]
    lab.offline(trace, every=True)
    assert done == list(HEURISTICS)


def test_every_tries_what_was_left_out(monkeypatch):
    trace = Trace.of([Event(Op.MALLOC, 0, 24), Event(Op.MALLOC, 1, 8)])
    done = placed(monkeypatch)
    assert list(lab.offline(trace).placements) == ["best fit"] == done
    assert list(lab.offline(trace, every=True).placements) == list(HEURISTICS) == done
    assert list(lab.offline(trace).placements) == ["best fit"], "what is known besides changes no answer"


def test_a_cache_that_is_broken_or_not_writable_is_none(tmp_path, monkeypatch):
    trace = synthetic(500, seed=3)
    first = lab.offline(trace)
    [file] = (tmp_path / "heaplab" / "offline").iterdir()
    file.write_bytes(b"no zip")
    assert lab.offline(trace) == first
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert lab.offline(trace) == first


def test_the_addresses_are_those_of_the_best_placement():
    trace = synthetic(2000, seed=5)
    found = lab.offline(trace, every=True)
    rectangles = Rectangles.of(trace)
    address = np.zeros(len(rectangles), np.uint64)
    address[rectangles.block] = found.address
    assert height(rectangles, address) == found.best == min(found.placements.values())


def test_progress_says_what_is_tried():
    said = []
    lab.offline(synthetic(500, seed=6), every=True, progress=said.append)
    assert len(said) == 1 + len(HEURISTICS)


def test_a_comparison_says_how_far_designs_are_from_the_best_placement():
    trace = synthetic(10_000, seed=1)
    found = lab.compare([trace], ["freelist:fit=best", "spans"], offline=True, jobs=1)
    best = lab.offline(trace).best
    for run in found.runs:
        assert run.best_placement == best
        assert run.heap_over_best == run.peak_heap / best - 1 > 0
        assert run.resident_over_best == run.peak_resident / best - 1
    [sentence] = [each for each in verdict(found).sentences if each.about == "placement"]
    assert sentence.text.startswith("Placement: freelist:fit=best is within ")
    assert " % of the best placement known; then spans " in sentence.text
    without = lab.compare([trace], ["buddy"], jobs=1)
    assert without.runs[0].heap_over_best is None
    assert not [each for each in verdict(without).sentences if each.about == "placement"]
