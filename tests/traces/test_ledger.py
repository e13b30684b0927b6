"""The ledger against a plain model of its rules, one event at a time."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from heaplab.errors import UsageError
from heaplab.testing.traces import event_lists
from heaplab.traces import NULL_ID, Block, Event, Ledger, Op, synthetic
from heaplab.traces.event import MAX_SIZE

ALLOCATIONS = (Op.MALLOC, Op.CALLOC, Op.ALIGNED)
SIZED = (*ALLOCATIONS, Op.REALLOC)

ANY_EVENT = st.builds(
    Event,
    op=st.sampled_from(Op),
    id=st.one_of(st.integers(0, 4), st.just(NULL_ID)),
    size=st.sampled_from([0, 0, 1, 24, 100, MAX_SIZE, MAX_SIZE + 1]),
    align=st.sampled_from([0, 0, 1, 16, 24]),
    thread=st.integers(0, 1),
    time=st.integers(0, 3),
    process=st.integers(0, 2),
)


class Model:
    """The rules, slowly."""

    def __init__(self):
        self.sizes = {0: {}}
        self.used = {0: 0}
        self.born = 1
        self.time = 0
        self.makers = {0: {}}
        self.remote_frees = 0
        self.begun = {(0, 0)}
        self.threads = 1

    def accepts(self, event):
        op, slot, size, align, _, time, process = event
        blocks = self.sizes.get(process)
        if blocks is None or time < self.time:
            return False
        if size > (MAX_SIZE if op in SIZED else 0) or (op == Op.REALLOC and size == 0):
            return False
        if (align not in [1 << bit for bit in range(32)]) if op == Op.ALIGNED else align != 0:
            return False
        if op in ALLOCATIONS and (slot in blocks or slot > self.used[process]):
            return False
        if op == Op.REALLOC and slot not in blocks:
            return False
        if op == Op.FREE and slot not in blocks and slot != NULL_ID:
            return False
        others = sum(blocks.values()) - (blocks[slot] if op == Op.REALLOC else 0)
        return not ((op in SIZED and others + size > MAX_SIZE) or (op == Op.FORK and slot != self.born))

    def apply(self, event):
        op, slot, size, _, thread, time, process = event
        blocks, makers = self.sizes[process], self.makers[process]
        self.time = time
        self.threads += (process, thread) not in self.begun
        self.begun.add((process, thread))
        if op in (Op.FREE, Op.REALLOC) and slot in blocks:
            self.remote_frees += makers[slot] != thread
        if op in SIZED:
            blocks[slot], makers[slot] = size, thread
            self.used[process] = max(self.used[process], slot + 1)
        elif op == Op.FREE:
            blocks.pop(slot, None)
        elif op == Op.FORK:
            self.sizes[slot], self.used[slot] = dict(blocks), self.used[process]
            self.makers[slot] = dict(makers)
            self.born += 1
        elif op == Op.EXEC:
            self.sizes[process], self.used[process] = {}, 0
        elif op == Op.EXIT:
            del self.sizes[process], self.used[process]
        else:
            self.begun.remove((process, thread))

    def live(self):
        return sum(sum(blocks.values()) for blocks in self.sizes.values())


def in_pieces(events, cuts):
    """The events as blocks, cut at `cuts`."""
    places = [0, *sorted(min(cut, len(events)) for cut in cuts), len(events)]
    return [Block.of(events[start:stop]) for start, stop in pairwise(places)]


CUTS = st.lists(st.integers(0, 60), max_size=3)


@given(event_lists(), st.lists(ANY_EVENT, max_size=3), CUTS)
def test_it_agrees_with_the_model(events, more, cuts):
    """On valid events, and on what comes of adding any."""
    end = events[-1].time if events else 0
    events = [*events, *(event._replace(time=event.time + end) for event in more)]
    model, live = Model(), []
    for event in events:
        if not model.accepts(event):
            break
        model.apply(event)
        live.append(model.live())

    ledger, seen = Ledger("x"), []
    try:
        for block in in_pieces(events, cuts):
            seen += ledger.apply(block).tolist()
    except UsageError:
        seen = None
    if len(live) < len(events):
        assert seen is None
        return
    assert seen == live
    counts = ledger.counts()
    assert counts.peak_live == max(live, default=0)
    assert counts.peak_live == 0 or live.index(counts.peak_live) == counts.peak_index
    assert counts.events == len(events)
    assert counts.processes == model.born
    assert sum(counts.ops.values()) == len(events)
    assert counts.threads == model.threads
    assert counts.remote_frees == model.remote_frees


@given(event_lists(), CUTS, CUTS)
def test_counts_do_not_depend_on_how_events_are_blocked(events, some, other):
    def counted(cuts):
        ledger = Ledger("x")
        for block in in_pieces(events, cuts):
            ledger.apply(block)
        return ledger.counts()

    assert counted(some) == counted(other)


def malloc(slot, size=8, **rest):
    return Event(Op.MALLOC, slot, size, **rest)


@pytest.mark.parametrize(
    ("events", "message"),
    [
        ([malloc(0), malloc(0)], "event 1 (malloc 0 8) takes a slot that is live"),
        ([malloc(1)], "event 0 (malloc 1 8) skips slots: the next unused one is 0"),
        ([Event(Op.FREE, 0)], "event 0 (free 0) names a slot that was never allocated"),
        ([malloc(0), Event(Op.FREE, 0), Event(Op.FREE, 0)], "event 2 (free 0) names a slot that is free"),
        (
            [malloc(0), Event(Op.REALLOC, 0, 0)],
            "event 1 (realloc 0 0) reallocates to size 0, which is a free",
        ),
        ([Event(Op.REALLOC, NULL_ID, 8)], "event 0 (realloc 4294967295 8) names a slot that was never"),
        ([malloc(0, MAX_SIZE + 1)], "event 0 (malloc 0 140737488355329) has an impossible size"),
        ([malloc(0, MAX_SIZE), malloc(1)], "event 1 (malloc 1 8) brings the live payload above 131072 GiB"),
        ([Event(Op.ALIGNED, 0, 8, 24)], "event 0 (aligned 0 8 24) has an alignment that is no power of two"),
        ([malloc(0, align=16)], "event 0 (malloc 0 8) has an alignment that is no power of two"),
        ([malloc(0, time=5), malloc(1, time=4)], "event 1 (malloc 1 8) happens before the event in front"),
        ([malloc(0, process=1)], "event 0 (malloc 0 8 (process 1, thread 0)) is done by a process that does"),
        ([Event(Op.FORK, 2)], "event 0 (fork 2) must number the child 1, the next process"),
        ([Event(Op.EXIT), malloc(0)], "event 1 (malloc 0 8) is done by a process that does not live"),
        ([malloc(0), Event(Op.EXEC), Event(Op.FREE, 0)], "event 2 (free 0) names a slot that was never"),
    ],
)
def test_what_is_wrong_is_said(events, message):
    with pytest.raises(UsageError) as caught:
        Ledger("x").apply(Block.of(events))
    assert str(caught.value).startswith(f"x: {message}")


def test_an_unknown_op_is_refused():
    block = Block.build(3, op=np.array([0, 9, 0]), id=np.array([0, 1, 2]))
    with pytest.raises(
        UsageError, match=r"x: event 1 has the unknown op 9: was it written by a newer heaplab\?"
    ):
        Ledger("x").apply(block)


def test_events_are_counted_from_the_beginning_of_the_trace():
    ledger = Ledger("x")
    for block in synthetic(100_000, slots=10):
        ledger.apply(block)
    with pytest.raises(UsageError, match="x: event 100001 "):
        ledger.apply(Block.of([Event(Op.FREE, NULL_ID, time=10**12), malloc(99, time=10**12)]))


def test_a_number_is_another_threads_after_a_thread_exit():
    ledger = Ledger("x")
    ledger.apply(Block.of([malloc(0, thread=1), Event(Op.THREAD_EXIT, thread=1), malloc(1, thread=1)]))
    assert ledger.counts().threads == 3
    ledger.apply(Block.of([Event(Op.THREAD_EXIT, thread=1), Event(Op.THREAD_EXIT, thread=2)]))
    assert ledger.counts().threads == 4


def test_a_block_is_its_last_allocators():
    steps = [
        (malloc(0, thread=1), 0),
        (Event(Op.REALLOC, 0, 9, thread=2), 1),
        (Event(Op.REALLOC, 0, 8, thread=2), 1),
        (Event(Op.FREE, 0, thread=1), 2),
        (Event(Op.FREE, NULL_ID, thread=3), 2),
        (malloc(0, thread=3), 2),
        (Event(Op.FORK, 1, thread=3), 2),
        (Event(Op.FREE, 0, thread=3, process=1), 2),  # the child's copy is still the forking thread's
        (Event(Op.EXIT, process=1), 2),
        (Event(Op.THREAD_EXIT, thread=3), 2),
        (Event(Op.FREE, 0), 3),
    ]
    ledger = Ledger("x")
    for event, remote in steps:
        ledger.apply(Block.of([event]))
        assert ledger.counts().remote_frees == remote, event


def test_a_child_has_its_own_copy_of_the_slots():
    ledger = Ledger("x")
    live = ledger.apply(
        Block.of(
            [
                malloc(0, 100),
                Event(Op.FORK, 1),
                Event(Op.FREE, 0, process=1),
                malloc(0, 30, process=1),
                Event(Op.REALLOC, 0, 200),
                Event(Op.EXIT, process=1),
            ]
        )
    )
    assert live.tolist() == [100, 200, 100, 130, 230, 200]
    assert ledger.counts().peak_index == 4
