"""A snapshot by fork, put into a trace."""

import pytest

from heaplab.errors import UsageError
from heaplab.traces import Event, Op, Snapshot, Trace, open_trace, snapshotting, synthetic


def test_the_child_has_its_events_among_the_parents_and_the_parent_keeps_its_own():
    trace = synthetic(2000, seed=1, slots=200)
    taken = snapshotting(trace, Snapshot(at=1000, length=500, every=10, buffer=64, frees=True))
    events = list(taken.events())
    own = [event for event in events if event.process == 0 and event.op != Op.FORK]
    assert own == list(trace.events())
    child = [place for place, event in enumerate(events) if event.process == 1]
    freed = [events[place].id for place in child if events[place].op == Op.FREE]
    buffers = [events[place].id for place in child if events[place].op == Op.MALLOC]
    assert events[1000].op == Op.FORK
    assert 1000 < child[0] < 1020
    assert child[-1] == 1001 + 500 + len(child) - 1
    assert events[child[-1]].op == Op.EXIT
    live = len(freed) - (len(buffers) - 1)
    assert len(buffers) == live // 10
    assert set(buffers) <= {max(buffers) - 1, max(buffers)}


def test_later_children_are_renumbered():
    trace = Trace.of(
        [
            Event(Op.MALLOC, 0, 8),
            Event(Op.FORK, 1),
            Event(Op.FREE, 0, process=1),
            Event(Op.FORK, 2),
            Event(Op.EXIT, process=2),
            Event(Op.EXIT, process=1),
        ]
    )
    taken = list(snapshotting(trace, Snapshot(at=2, length=0, every=0)).events())
    assert [(event.op.name, event.id, event.process) for event in taken if event.op >= Op.FORK] == [
        ("FORK", 1, 0),
        ("FORK", 2, 0),
        ("EXIT", 0, 2),
        ("FORK", 3, 0),
        ("EXIT", 0, 3),
        ("EXIT", 0, 1),
    ]


@pytest.mark.parametrize("at", [0, None, 69_655])
def test_any_moment_will_do(at):
    trace = open_trace("lua")
    taken = snapshotting(trace, Snapshot(at=at))
    assert taken.header.processes == 2
    assert taken.header.name == "lua-snapshot"
    assert sum(len(block) for block in taken) == taken.header.events


def test_what_cannot_be_is_refused():
    ended = Trace.of([Event(Op.FORK, 1), Event(Op.EXIT), Event(Op.MALLOC, 0, 8, process=1)], "ended")
    with pytest.raises(UsageError, match="process 0 ends at event 1: no snapshot after 2"):
        snapshotting(ended, Snapshot(at=2))
    with pytest.raises(UsageError, match="has 3 events: no snapshot after 4"):
        snapshotting(ended, Snapshot(at=4))
    with pytest.raises(UsageError, match="buffer=0: give a number from 1 on"):
        Snapshot(buffer=0)
