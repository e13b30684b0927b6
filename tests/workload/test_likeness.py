"""Workloads learned from traces: what they keep, and how far they say they are."""

import numpy as np
import pytest

from heaplab.errors import HeaplabError, UsageError
from heaplab.traces import Block, Event, Op, Trace, open_trace, synthetic
from heaplab.traces.lives import lives
from heaplab.workload import (
    Constant,
    Exponential,
    Fit,
    Kind,
    Phase,
    Realloc,
    Threads,
    Uniform,
    Workload,
    fit,
    likeness,
)
from heaplab.workload.likeness import distance

CHEAP = ("buddy",)


@pytest.fixture(scope="module")
def small():
    """A program with two phases, reallocs and nulls."""
    return Workload(
        events=12_000,
        sizes=Uniform(1, 400),
        kinds=(Kind(9, lifetimes=Exponential(50)), Kind(1, Constant(64), Exponential(5000))),
        phases=(Phase("ramp", 1, sizes=Constant(2000)), Phase("plateau", 3)),
        realloc=Realloc("multiply", 0.05, 3, 2),
        calloc=0.2,
        nulls=0.1,
        seed=7,
    ).trace()


def test_a_trace_is_alike_to_itself(small):
    same = likeness(small, small, CHEAP)
    assert {each.far for each in same.measures} == {0.0}


def test_sizes_are_learned_exactly(small):
    made = fit(small, windows=16).trace()

    def sizes(trace):
        whole = Block.join(trace)
        kinds = np.isin(whole.op, [Op.MALLOC, Op.CALLOC])
        return np.sort(whole.size[kinds]).tolist()

    assert sizes(made) == sizes(small)


def test_a_fit_is_like_its_trace(small):
    found = likeness(small, fit(small, windows=32).trace(), CHEAP)
    assert found["events"].far == pytest.approx(0, abs=0.01)
    assert found["requested"].far == pytest.approx(0, abs=0.05)
    assert found["peak live"].far == pytest.approx(0, abs=0.1)
    assert found["lifetimes, by blocks"].far < 0.1
    assert found["live over time, mean"].far < 0.05
    assert found["buddy: peak heap"].far == pytest.approx(0, abs=0.1)


def test_a_worse_fit_says_so(small):
    blunt, fine = (likeness(small, fit(small, windows=each).trace(), ()) for each in (1, 32))
    assert blunt["live over time, mean"].far > 2 * fine["live over time, mean"].far


def test_a_fit_has_a_text_and_a_file(tmp_path):
    learned = fit("lua", windows=4, seed=3)
    assert str(learned) == "workload:like=lua:windows=4:events=69655:seed=3"
    counts = learned.trace().header.counts()
    assert open_trace(str(learned)).header.counts() == counts
    learned.save(tmp_path / "lua.toml")
    assert open_trace(tmp_path / "lua.toml").header.counts() == counts
    assert learned.trace(seed=4).header.counts() != counts


def test_a_fit_of_fewer_events_is_the_beginning():
    short = open_trace("workload:like=lua:windows=4:events=5000")
    assert short.header.events == pytest.approx(5000, abs=200)  # nulls come on top


def test_of_several_processes_the_busiest_is_learned():
    learned = fit("bash", windows=4)
    original = learned.original.header
    assert original.processes == 1
    assert original.events < open_trace("bash").header.events
    assert learned.trace().header.events == pytest.approx(original.events, rel=0.05)


def test_threads_are_learned():
    shared = Workload(events=9000, threads=Threads("private", 3, 0.4)).trace()
    made = fit(shared, windows=2).trace().header
    assert made.threads == 3
    assert made.remote_frees == pytest.approx(shared.header.remote_frees, rel=0.1)


def test_what_dies_together_dies_together_again():
    """Half of the blocks die in events 400 to 600, the others in 1200 to 1400."""
    events = [Event(Op.MALLOC, each, 100) for each in range(400)]
    events += [Event(Op.FREE, each) for each in range(200)]
    events += [Event(Op.MALLOC, 0, 8), Event(Op.FREE, 0)] * 300
    events += [Event(Op.FREE, each) for each in range(200, 400)]
    found = lives(fit(Trace.of(events), windows=14).trace())
    died = found.died[(found.size == 100) & (found.died < 1400)]
    assert ((died <= 600) | (died >= 1200)).mean() > 0.95


def test_a_trace_without_allocations_is_one_sentence():
    with pytest.raises(UsageError, match="allocates nothing, so there is nothing to learn"):
        fit(Trace.of([Event(Op.FREE, 0xFFFF_FFFF)]))
    with pytest.raises(UsageError, match="windows=0: needs at least one: write windows=64"):
        fit("lua", windows=0)


def test_a_fit_that_lost_its_original_says_so():
    with pytest.raises(HeaplabError, match="has no original"):
        Fit().likeness  # noqa: B018


def test_a_measure_by_an_unknown_name(small):
    with pytest.raises(UsageError, match="there is no measure 'heap': write one of events"):
        likeness(small, small, ())["heap"]


def test_an_allocator_that_does_not_exist(small):
    with pytest.raises(UsageError, match="there is no allocator 'budy'"):
        likeness(small, small, ("budy",))


def test_distance_weighs():
    one, two = np.array([1.0, 9.0]), np.array([9.0])
    assert distance(one, np.array([1.0, 3.0]), two, np.ones(1)) == 0.25
    assert distance(np.array([np.inf]), np.ones(1), np.array([np.inf]), np.ones(1)) == 0
    assert distance(np.empty(0), np.empty(0), two, np.ones(1)) == 1


@pytest.mark.parametrize("name", ["dot", "git-grep"])
def test_programs_can_be_learned(name):
    learned = fit(name, windows=32)
    made, original = learned.trace().header, learned.original.header
    assert made.events == pytest.approx(original.events, rel=0.03)
    assert made.requested == pytest.approx(original.requested, rel=0.05)
    assert made.peak_live == pytest.approx(original.peak_live, rel=0.15)


def test_a_synthetic_trace_can_be_learned():
    trace = synthetic(5000)
    assert "buddy: faults" in str(likeness(trace, fit(trace).trace(), CHEAP))
