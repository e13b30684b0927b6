"""Where to go in a replay: each way of saying it, both ways, and the sentence when there is none."""

import numpy as np
import pytest

from heaplab.errors import UsageError
from heaplab.lab.moments import Moments
from heaplab.traces import Event, Op, Trace
from heaplab.views.finding import Finder

EVENTS = [
    Event(Op.MALLOC, 0, 100),
    Event(Op.MALLOC, 1, 300_000),
    Event(Op.REALLOC, 0, 5000, thread=1),
    Event(Op.FORK, 1),
    Event(Op.FREE, 0, process=1),
    Event(Op.CALLOC, 0, 64, process=1),
    Event(Op.FREE, 1),
    Event(Op.EXIT, process=1),
    Event(Op.FREE, 0),
    Event(Op.ALIGNED, 0, 100, 64),
    Event(Op.THREAD_EXIT, thread=1),
]


@pytest.fixture(scope="module")
def finder():
    with Moments(Trace.of(EVENTS, "eleven"), "rbtree") as moments:
        yield Finder(moments)


@pytest.mark.parametrize(
    ("text", "now", "event"),
    [
        ("7", 0, 7),
        ("first", 5, 0),
        ("last", 0, 10),
        ("peak", 0, 3),
        ("peak live", 0, 3),
        ("block 1", 0, 1),
        ("block 1", 10, 6),
        ("block 0", 3, 2),
        ("malloc", 0, 1),
        ("malloc", 5, 0),  # from the beginning again
        ("realloc thread 1", 0, 2),
        ("free process 1", 0, 4),
        ("size 64", 0, 5),
        ("size 50-70", 0, 5),
        ("size 4k-1M", -1, 1),
        ("aligned", 0, 9),
        ("end", 0, 3),
        ("fork", 0, 3),
        ("exit", 0, 7),
        ("thread-exit", 0, 10),
        ("call malloc", -1, 1),
        ("mmap", -1, 1),
        ("munmap", -1, 6),
        ("fault size 300000", 0, 1),
        ("BLOCK 0 Free", 0, 4),
    ],
)
def test_an_event_is_found_by_words(finder: Finder, text: str, now: int, event: int) -> None:
    assert finder.find(text, now) == event


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("11", "there is no event 11: events go from 0 to 10"),
        ("failure", "the run has no failure: all events of the trace were carried out"),
        ("block 9", "no event is about a block 9"),
        ("block x", "write a number after 'block'"),
        ("size", "write one value after 'size', or two as LOW-HIGH"),
        ("size 1-2-3", "write one value after 'size'"),
        ("at here", "write one value after 'at'"),
        ("exec", "no event is 'exec'"),
        ("mallocs", "'mallocs' is no word of a search: write a number, first, last, peak"),
        ("", "says no event"),
    ],
)
def test_what_is_not_found_is_a_sentence(finder: Finder, text: str, sentence: str) -> None:
    with pytest.raises(UsageError) as told:
        finder.find(text)
    assert sentence in str(told.value)
    assert "\n" not in str(told.value)


def test_peaks_are_the_first_largest_of_the_log(finder: Finder) -> None:
    log = finder.moments.log()
    for what in ("live", "heap", "resident"):
        assert finder.find(f"peak {what}") == int(np.argmax(getattr(log, what)))


def test_a_search_goes_both_ways_and_over_stretches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("heaplab.views.finding._STRETCH", 7)
    sizes = [2400 if k % 10 else 4800 for k in range(50)]
    events = [Event(Op.MALLOC, k, size) for k, size in enumerate(sizes)]
    with Moments(Trace.of(events), "rbtree") as moments:
        finder = Finder(moments)
        assert [finder.search("size 4800", now) for now in (-1, 0, 9, 10, 40)] == [0, 10, 10, 20, None]
        assert [finder.search("size 4800", now, -1) for now in (0, 1, 10, 11, 50)] == [None, 0, 0, 10, 40]
        faults = np.flatnonzero(moments.log().faults)
        assert finder.search("fault", int(faults[0])) == faults[1]
        assert finder.search("fault", int(faults[1]), -1) == faults[0]


def test_a_search_by_address_finds_what_is_given_and_what_is_freed(finder: Finder) -> None:
    at = int(finder.moments.log().address[1])
    assert finder.find(f"at {at:#x}", -1) == 1
    assert finder.find(f"at {at:#x}", 1) == 6
    assert finder.find(f"at {at - 4096:#x}-{at + 4096:#x} free") == 6


def test_a_history_goes_through_a_fork(finder: Finder) -> None:
    assert finder.history(0) == (0, 2, 8)  # of the parent: the child's free is not its own
    assert finder.history(2) == (0, 2, 8)
    assert finder.history(4) == (0, 2, 4)  # of the child: it had the block from its parent
    assert finder.history(5) == (5,)
    assert finder.history(6) == (1, 6)
    assert finder.history(9) == (9,)
    assert finder.history(3) == ()


def test_a_run_that_ends_early_has_a_failure_and_nothing_behind_it() -> None:
    events = [Event(Op.MALLOC, 0, 1000), Event(Op.MALLOC, 1, 900_000), Event(Op.FREE, 0)]
    with Moments(Trace.of(events), "freelist", ram="256 KiB") as moments:
        finder = Finder(moments)
        assert finder.find("failure") == finder.find("last") == finder.last == 1
        with pytest.raises(UsageError, match="no event is 'fault'"):  # the event that failed has no figures
            finder.find("fault")
        with pytest.raises(UsageError, match="where the run ended: event 1"):
            finder.find("2")
        with pytest.raises(UsageError, match="no event is 'free'"):
            finder.find("free")


def test_a_trace_without_events_is_one_sentence() -> None:
    with (
        Moments(Trace.of([], "nothing"), "rbtree") as moments,
        pytest.raises(UsageError, match="has no events"),
    ):
        Finder(moments).find("first")
