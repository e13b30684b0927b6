"""Several traces as one."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heaplab.errors import UsageError
from heaplab.testing.traces import event_lists
from heaplab.traces import Event, Op, Trace, merged

ONE = Trace.of([Event(Op.MALLOC, 0, 10, time=5), Event(Op.FREE, 0, time=20)], "one")
TWO = Trace.of([Event(Op.MALLOC, 0, 7, thread=4), Event(Op.THREAD_EXIT, thread=4, time=10)], "two")
UNTIMED = Trace.of(
    [Event(Op.MALLOC, 0, 1), Event(Op.MALLOC, 1, 2), Event(Op.MALLOC, 2, 3), Event(Op.FREE, 0)]
)
FORKING = Trace.of([Event(Op.FORK, 1), Event(Op.MALLOC, 0, 3, process=1, time=30)], "forking")


def lines(trace):
    return [str(event) for event in trace.events()]


def test_as_processes_in_the_order_of_time():
    whole = merged([ONE, TWO])
    assert lines(whole) == [
        *("fork 1", "malloc 0 7 (process 1, thread 4)", "malloc 0 10", "thread_exit (process 1, thread 4)"),
        "free 0",
    ]
    assert [event.time for event in whole.events()] == [0, 0, 5, 10, 20]
    assert whole.header.name == "one+two"


def test_in_one_heap_as_threads():
    assert lines(merged([ONE, TWO], one_heap=True)) == [
        *("malloc 0 7", "malloc 1 10 (process 0, thread 1)", "thread_exit", "free 1 (process 0, thread 1)"),
    ]


def test_without_times_each_passes_evenly():
    whole = merged([UNTIMED, ONE])
    assert lines(whole) == [
        *("fork 1", "malloc 0 1", "malloc 0 10 (process 1, thread 0)", "malloc 1 2", "malloc 2 3"),
        *("free 0 (process 1, thread 0)", "free 0"),
    ]
    assert whole.header.duration == 0


def test_forks_get_new_numbers():
    assert lines(merged([ONE, FORKING])) == [
        *(
            "fork 1",
            "fork 2 (process 1, thread 0)",
            "malloc 0 10",
            "free 0",
            "malloc 0 3 (process 2, thread 0)",
        ),
    ]
    with pytest.raises(
        UsageError, match="forking: has more than one program or process, and cannot share one"
    ):
        merged([ONE, FORKING], one_heap=True)


@given(st.lists(event_lists(max_size=15), min_size=1, max_size=3))
def test_whatever_is_merged_is_a_valid_trace_with_all_events(lists):
    whole = merged([Trace.of(events) for events in lists])
    assert whole.header.events == sum(map(len, lists)) + len(lists) - 1
    assert sum(map(len, whole)) == whole.header.events


@given(st.lists(event_lists(processes=False, max_size=15), min_size=1, max_size=3))
def test_one_heap_asks_for_what_all_ask_for(lists):
    traces = [Trace.of(events) for events in lists]
    whole = merged(traces, one_heap=True)
    assert whole.header.requested == sum(trace.header.requested for trace in traces)
    assert max(trace.header.peak_live for trace in traces) <= whole.header.peak_live
    assert whole.header.peak_live <= sum(trace.header.peak_live for trace in traces)
