"""The replay on the C library's own malloc."""

import pytest

from heaplab.native.replay import replay_native
from heaplab.traces import NULL_ID, Event, Op, Trace, synthetic


def test_every_call_is_made_and_timed():
    trace = synthetic(50_000, seed=1, slots=500)
    run = replay_native(trace)
    assert run.operations == 50_000
    assert 0 < run.ns_per_op < 100_000
    assert run.ns_per_op * run.operations <= run.seconds * 1e9


def test_processes_share_the_heap_and_keep_their_blocks_apart():
    events = [
        Event(Op.MALLOC, 0, 100),
        Event(Op.ALIGNED, 1, 5000, 4096),
        Event(Op.CALLOC, 2, 300_000),
        Event(Op.FREE, NULL_ID),
        Event(Op.FORK, 1),
        Event(Op.FORK, 2, process=1),
        Event(Op.FREE, 0),
        Event(Op.FREE, 0, process=1),  # the child's own copy
        Event(Op.REALLOC, 2, 10, process=2),
        Event(Op.EXEC, process=1),
        Event(Op.MALLOC, 0, 0, process=1),
        Event(Op.EXIT, process=0),
    ]
    assert replay_native(Trace.of(events)).operations == 8


def test_memory_that_is_not_there():
    with pytest.raises(MemoryError):
        replay_native(Trace.of([Event(Op.MALLOC, 0, 1 << 47)]))
