"""Parts of traces are valid traces that hold what was chosen."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heaplab.errors import UsageError
from heaplab.testing.traces import event_lists
from heaplab.traces import Event, Op, Trace, corpus, cut, open_trace

EVENTS = [
    Event(Op.MALLOC, 0, 10, time=100),
    Event(Op.MALLOC, 1, 20, time=200, thread=1),
    Event(Op.FORK, 1, time=300),
    Event(Op.FREE, 1, time=400, process=1),
    Event(Op.MALLOC, 1, 30, time=500, process=1),
    Event(Op.REALLOC, 0, 40, time=600),
    Event(Op.FREE, 1, time=700),
    Event(Op.ALIGNED, 1, 50, 64, time=800, thread=1),
    Event(Op.EXIT, time=900, process=1),
    Event(Op.FREE, 1, time=1000),
]
SECOND = " (process 0, thread 1)"


def lines(part):
    return [str(event) for event in part.events()]


@pytest.mark.parametrize(
    ("choice", "expected", "remarks"),
    [
        ({"events": (0, 2)}, ["malloc 0 10", "malloc 1 20 (process 0, thread 1)"], []),
        (
            {"events": (5, 8)},  # process 1 lives, and does nothing
            ["fork 1", "malloc 0 40", "aligned 1 50 64 (process 0, thread 1)"],
            [
                "1 frees of blocks from before the cut were left out",
                "1 reallocs of blocks from before the cut became mallocs",
            ],
        ),
        (
            {"time": (600, 800), "processes": [0], "keep_live": True},
            ["malloc 0 10", "malloc 1 20 (process 0, thread 1)", "realloc 0 40", "free 1"],
            ["2 blocks from before the cut are allocated at its start"],
        ),
        (
            {"processes": [1]},
            ["malloc 0 30", "exit"],
            ["1 frees of blocks from before the cut were left out"],
        ),
        (
            {"processes": [1], "keep_live": True},
            ["malloc 0 10", "malloc 1 20 (process 0, thread 1)", "free 1", "malloc 1 30", "exit"],
            ["2 blocks from before the cut are allocated at its start"],
        ),
        (
            {"threads": [1], "processes": [0]},
            [f"malloc 0 20{SECOND}", "free 0", f"aligned 0 50 64{SECOND}", "free 0"],
            [],
        ),
        ({"threads": [0], "processes": [0], "events": (6, 7)}, [], None),
        ({"processes": [7]}, [], None),
    ],
)  # fmt: skip
def test_parts(choice, expected, remarks):
    trace = Trace.of(EVENTS)
    if remarks is None:
        with pytest.raises(UsageError, match="events: nothing is left of it after the cut"):
            cut(trace, **choice)
        return
    part = cut(trace, **choice)
    assert lines(part) == expected
    assert list(part.remarks) == remarks


def test_time_begins_with_the_cut_and_the_note_says_what_was_chosen():
    part = cut(Trace.of(EVENTS), time=(500, None), processes=[1])
    assert [event.time for event in part.events()] == [0, 400]
    assert part.header.note == "cut: nanoseconds 500 to the end, processes [1]"


def test_two_processes_whose_parent_is_left_out():
    events = [
        *(Event(Op.MALLOC, 0, 10), Event(Op.FORK, 1), Event(Op.FORK, 2), Event(Op.MALLOC, 1, 1, process=1)),
        *(Event(Op.FREE, 0, process=2), Event(Op.EXIT, process=1), Event(Op.MALLOC, 0, 2, process=2)),
    ]
    part = cut(Trace.of(events), processes=[1, 2], keep_live=True)
    there = " (process 1, thread 0)"
    assert lines(part) == [
        *("malloc 0 10", "fork 1", f"exec{there}", f"malloc 0 10{there}", "malloc 1 1", f"free 0{there}"),
        *("exit", f"malloc 0 2{there}"),
    ]


def test_a_process_that_comes_after_the_last_one_has_gone():
    events = [
        *(Event(Op.FORK, 1), Event(Op.MALLOC, 0, 5, process=1), Event(Op.EXIT, process=1)),
        *(Event(Op.FORK, 2), Event(Op.MALLOC, 0, 6, process=2), Event(Op.EXIT, process=2)),
    ]
    part = cut(Trace.of(events), processes=[1, 2])
    assert lines(part) == ["malloc 0 5", "exec", "malloc 0 6", "exit"]


def test_everything_is_everything():
    trace = Trace.of(EVENTS)
    assert lines(cut(trace)) == lines(trace)


SPANS = st.tuples(st.integers(0, 40), st.none() | st.integers(0, 80))
CHOICES = st.none() | st.sets(st.integers(0, 3))


@given(event_lists(), SPANS, SPANS, CHOICES, CHOICES, st.booleans())
def test_every_part_is_a_valid_trace(events, numbers, times, processes, threads, keep_live):
    trace = Trace.of(events)
    times = (times[0] * 100, times[1] and times[1] * 100)
    chosen = [
        event
        for number, event in enumerate(events)
        if numbers[0] <= number < (10**9 if numbers[1] is None else numbers[1])
        and times[0] <= event.time < (times[1] or 10**9)
    ]
    try:
        part = cut(
            trace, events=numbers, time=times, processes=processes, threads=threads, keep_live=keep_live
        )
    except UsageError:
        return
    assert sum(map(len, part)) == part.header.events  # through the ledger
    if processes is None and threads is None:
        made = (Op.MALLOC, Op.CALLOC, Op.ALIGNED)
        live_before = sum(int(remark.split()[0]) for remark in part.remarks if "allocated at" in remark)
        became = sum(int(remark.split()[0]) for remark in part.remarks if "became" in remark)
        allocated = sum(event.op in made for event in part.events())
        assert allocated == sum(event.op in made for event in chosen) + live_before + became
        if keep_live:
            assert not became


@pytest.mark.parametrize("keep_live", [False, True])
def test_a_trace_that_forks_much(keep_live):
    trace = open_trace(corpus.names()[0])  # bash
    part = cut(trace, events=(50_000, 60_000), keep_live=keep_live)
    assert 10_000 - 2000 < part.header.events < 20_000
    assert sum(map(len, part)) == part.header.events
