"""The search for worst traces: what it finds is true, what it says can be repeated, and it ends when told."""

import sys

import pytest

from heaplab import lab
from heaplab.errors import HeaplabError, UsageError
from heaplab.lab.adversaries import bounds
from heaplab.testing.worst import Phase, Program, worst
from heaplab.testing.worst.methods import METHODS
from heaplab.testing.worst.programs import RULES
from heaplab.traces import Trace

SMALL = {"live": 1 << 16, "largest": 1 << 11, "budget": 40}


@pytest.fixture(scope="module")
def found():
    return worst("slab", **{**SMALL, "budget": 60})


def test_what_is_found_is_true(found):
    run = lab.run(found.trace, "slab")
    assert run.outcome == "finished"
    assert run.peak_heap / found.live == pytest.approx(found.ratio)
    assert run.peak_live <= found.live
    assert found.trace.header.name == "worst-of-slab"


def test_it_is_worse_than_robsons_program_where_classes_are(found):
    assert found.ratio > found.robson
    assert found.bound == bounds.any_allocator(found.live, found.largest, found.least) / found.live
    assert [best.method for best in found.methods] == list(METHODS)
    assert found.found == max(best.ratio for best in found.methods) == found.course[-1][1]
    assert sum(best.tried for best in found.methods) <= found.tried <= 60


def test_what_is_shown_is_smaller_and_within_the_tolerance(found):
    assert found.found * 0.98 <= found.ratio <= found.found
    whole = lab.adversary(found.program, "slab", verify=False)
    assert found.trace.header.events <= whole.trace.header.events


def test_two_searches_are_equal():
    one, other = (worst("buddy", seed=4, **SMALL) for _ in range(2))
    assert (one.ratio, one.program, one.course, one.tried) == (
        other.ratio,
        other.program,
        other.course,
        other.tried,
    )
    assert str(one) == str(other)
    assert list(one.trace.events()) == list(other.trace.events())


@pytest.mark.parametrize("method", METHODS)
def test_each_method_alone(method):
    found = worst("rbtree", method=method, goal="resident", **SMALL)
    assert [best.method for best in found.methods] == [method]
    assert found.ratio > 1
    assert "peak resident" in str(found)


def test_time_ends_a_search():
    found = worst("rbtree", budget=None, seconds=0.2, live=1 << 14, largest=1 << 10)
    assert found.tried > 1
    assert not found.interrupted


def test_ctrl_c_keeps_the_best():
    def tell(progress):
        if progress.tried == 20:
            raise KeyboardInterrupt

    found = worst("rbtree", tell=tell, **SMALL)
    assert (found.interrupted, found.tried) == (True, 20)
    assert found.ratio == found.found > 0
    assert [best.method for best in found.methods] == list(METHODS)
    assert sum(best.tried for best in found.methods) == 20


def test_a_real_allocator():
    found = worst("glibc", "native", live=1 << 14, largest=1 << 10, budget=4, method="climb")
    assert (found.language, found.allocator) == ("native", "glibc")
    assert found.ratio > 1


def test_an_allocator_that_fails_is_no_worst(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text(
        "from heaplab.allocators.designs.buddy import Buddy\n"
        "class Mine(Buddy):\n"
        "    NAME = 'mine'\n"
        "    def _free(self, p):\n"
        "        raise AssertionError('no frees')\n"
    )
    with pytest.raises(HeaplabError, match="no frees"):
        worst(str(path), "python", **SMALL)


@pytest.mark.parametrize(
    ("wrong", "why"),
    [
        ({"budget": None}, "without an end"),
        ({"budget": 0}, "nothing to try"),
        ({"seconds": -1.0}, "nothing to try"),
        ({"goal": "time"}, "none of heap"),
        ({"method": "luck"}, "none of hypothesis"),
        ({"tolerance": 1}, "tolerance"),
        ({"largest": 3000}, "largest=3000: is no power of two"),
        ({"live": 1024, "largest": 4096}, "largest=4096 is more than live=1024"),
        ({"least": 8192, "largest": 4096}, "least=8192 is more than largest=4096"),
    ],
)
def test_what_cannot_be_searched(wrong, why):
    with pytest.raises(UsageError, match=why):
        worst("buddy", **wrong)


@pytest.mark.parametrize(("method", "package"), [("genetic", "optuna"), ("hypothesis", "hypothesis")])
def test_a_package_that_is_missing_is_named(monkeypatch, method, package):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(UsageError, match=r"install heaplab\[search\]"):
        worst("buddy", method=method, **SMALL)


def test_every_rule_keeps_what_it_says():
    def kept(keep, step):
        program = Program(1 << 14, (Phase("none", 1, 120, 8), Phase(keep, step, 1 << 13, 1)))
        events = list(lab.adversary(program, "freelist").trace.events())
        return set(range(136)) - {event.id for event in events if event.op == 1}

    assert kept("all", 1) == set(range(136))
    assert kept("none", 1) == set()
    assert kept("every", 4) == set(range(0, 136, 4))
    assert kept("oldest", 4) == set(range(34))
    assert kept("newest", 4) == set(range(102, 136))
    assert len(kept("aligned", 1024)) in (17, 18)
    assert kept("residue", 256) in (set(range(0, 136, 2)), set(range(1, 136, 2)))
    assert 20 < len(kept("random", 4)) < 50
    assert set(RULES) == {"all", "none", "every", "oldest", "newest", "aligned", "residue", "random"}


def test_its_trace_is_a_trace(found):
    assert isinstance(found.trace, Trace)
    assert "best found" in str(found)
    assert "Robson's bound" in str(found)
