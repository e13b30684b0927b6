"""Traces that the tests of views share."""

import pytest

from heaplab.traces import NULL_ID, Event, Op, Trace


@pytest.fixture(scope="session")
def forking() -> Trace:
    """Three processes that share blocks, with an exec in one, large blocks, alignments, and threads."""
    events = [Event(Op.MALLOC, slot, 50 + 997 * slot % 3000) for slot in range(40)]
    events += [Event(Op.CALLOC, 40, 150_000), Event(Op.ALIGNED, 41, 700, 512), Event(Op.FREE, NULL_ID)]
    events += [Event(Op.ALIGNED, 42, 200_000, 1 << 16), Event(Op.MALLOC, 43, 77, thread=1)]
    events += [Event(Op.FORK, 1), Event(Op.FORK, 2, process=1)]
    for process in (0, 1, 2):
        events += [Event(Op.FREE, slot, process=process) for slot in range(process, 40, 4)]
        events += [Event(Op.REALLOC, 40, 90_000 + process, process=process)]
        events += [Event(Op.REALLOC, 41, 3000, process=process)]
    events += [Event(Op.EXEC, process=1), Event(Op.MALLOC, 0, 5000, process=1), Event(Op.EXIT, process=0)]
    events += [
        Event(Op.REALLOC, 0, 6000, process=1),
        Event(Op.FREE, 41, process=2),
        Event(Op.EXIT, process=2),
    ]
    return Trace.of(events, "forking")
