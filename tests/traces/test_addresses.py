"""What calls do to the blocks by address: reuse, realloc, NULL, failures, and what cannot be."""

import pytest

from heaplab.traces import Ledger
from heaplab.traces.addresses import Heaps
from heaplab.traces.calls import (
    ALIGNED,
    EXEC,
    EXIT,
    FREE,
    MALLOC,
    REALLOC,
    REALLOC_BEGIN,
    REALLOC_END,
    RESIZE,
    THREAD_EXIT,
    Refusal,
)
from heaplab.traces.event import Block


def followed(*calls, lenient=False, process_of=lambda who: 0):
    """The events of calls (kind[, address, size, extra, thread]), and what was skipped."""
    heaps = Heaps(process_of, lenient=lenient)
    for kind, *rest in calls:
        address, size, extra, who = [*rest, *[0, 0, 0, "a"][len(rest) :]]
        heaps.follow((kind, who, address, size, extra, 0))
    block = Block.of(heaps.rows)
    Ledger("x").apply(block)
    return [str(event) for event in block], dict(heaps.skipped)


@pytest.mark.parametrize(
    ("calls", "events"),
    [
        ([(MALLOC, 16, 5), (FREE, 16), (MALLOC, 16, 6)], ["malloc 0 5", "free 0", "malloc 0 6"]),
        ([(MALLOC, 0, 5), (MALLOC, 0, 1 << 63), (FREE, 0)], ["free NULL"]),
        ([(REALLOC, 16, 5, 0), (REALLOC, 32, 6, 16), (FREE, 32)], ["malloc 0 5", "realloc 0 6", "free 0"]),
        ([(MALLOC, 16, 5), (REALLOC, 0, 0, 16), (REALLOC, 0, 7, 0)], ["malloc 0 5", "free 0"]),
        ([(MALLOC, 16, 5), (REALLOC, 0, 1 << 60, 16), (FREE, 16)], ["malloc 0 5", "free 0"]),
        ([(ALIGNED, 16, 5, 48), (ALIGNED, 32, 5, 0)], ["aligned 0 5 64", "aligned 1 5 1"]),
        ([(RESIZE, 1, 5), (RESIZE, 1, 6), (RESIZE, 1, 0), (RESIZE, 1, 0)],
         ["malloc 0 5", "realloc 0 6", "free 0", "malloc 0 0"]),
        ([(MALLOC, 16, 5), (REALLOC_BEGIN, 16), (MALLOC, 16, 6, 0, "b"), (REALLOC_END, 32, 7)],
         ["malloc 0 5", "malloc 1 6 (process 0, thread 1)", "realloc 0 7"]),
        ([(MALLOC, 16, 5), (REALLOC_BEGIN, 16), (REALLOC_END, 0, 7), (FREE, 16)], ["malloc 0 5", "free 0"]),
        ([(MALLOC, 16, 5), (REALLOC_BEGIN, 16), (REALLOC_END, 0, 0)], ["malloc 0 5", "free 0"]),
        ([(REALLOC_BEGIN, 0), (REALLOC_END, 16, 7)], ["malloc 0 7"]),
        ([(MALLOC, 16, 5, 0, "b"), (THREAD_EXIT, 16, 0, 0, "b"), (MALLOC, 16, 1, 0, "c")],
         ["malloc 0 5", "free 0", "thread_exit", "malloc 0 1"]),
        ([(EXEC,), (EXIT,), (MALLOC, 16, 5)], ["malloc 0 5"]),
    ],
)  # fmt: skip
def test_events(calls, events):
    assert followed(*calls) == (events, {})


@pytest.mark.parametrize(
    ("calls", "why", "events", "skipped"),
    [
        ([(FREE, 16)], "names an address where no block is", [], "frees of unknown blocks"),
        ([(REALLOC, 16, 5, 32)], "names an address where", ["malloc 0 5"], "reallocs of unknown blocks"),
        ([(REALLOC, 0, 0, 32)], "names an address where", [], "reallocs of unknown blocks"),
        ([(REALLOC_BEGIN, 16), (REALLOC_END, 32, 5)], "names an address where", ["malloc 0 5"],
         "reallocs of unknown blocks"),
        ([(MALLOC, 16, 5), (MALLOC, 16, 6)], "allocates a block where one is",
         ["malloc 0 5", "free 0", "malloc 0 6"], "frees that are missing"),
        ([(MALLOC, 16, 5), (MALLOC, 32, 6), (REALLOC, 32, 7, 16)], "moves a block to where one is",
         ["malloc 0 5", "malloc 1 6", "free 1", "realloc 0 7"], "frees that are missing"),
        ([(MALLOC, 16, 5), (REALLOC_BEGIN, 16), (MALLOC, 16, 6), (REALLOC_END, 0, 9)],
         "fails to move a block whose address is taken", ["malloc 0 5", "malloc 1 6", "free 0"],
         "frees that are missing"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_refused_or_mended_and_counted(calls, why, events, skipped):
    with pytest.raises(Refusal, match=why):
        followed(*calls)
    assert followed(*calls, lenient=True) == (events, {skipped: 1})


@pytest.mark.parametrize(
    ("calls", "why"),
    [
        ([(MALLOC, 16, -1)], "has a size that no allocation can have"),
        ([(MALLOC, 16, (1 << 47) + 1)], "has a size that no allocation can have"),
        ([(MALLOC, 16, 1), (REALLOC, 16, -1, 16)], "has a size that no allocation can have"),
        ([(REALLOC_BEGIN, 0), (REALLOC_END, 16, -1)], "has a size that no allocation can have"),
        ([(REALLOC_END, 16, 1)], "ends a realloc that did not begin"),
        ([(ALIGNED, 16, 1, 1 << 32)], "has an alignment above 2 GiB"),
        ([(MALLOC, 16, 1, 0, number) for number in range(65_537)], "allocates a block where one is"),
        ([(FREE, 0, 0, 0, number) for number in range(65_537)], "brings the threads above 65536"),
    ],
)
def test_what_no_trace_can_hold_is_refused(calls, why):
    with pytest.raises(Refusal, match=why):
        followed(*calls)


def test_processes():
    calls = [
        *((MALLOC, 16, 5, 0, 1), (FREE, 16, 0, 0, 2), (MALLOC, 16, 7, 0, 2)),
        *(
            (EXIT, 0, 0, 0, 1),
            (MALLOC, 32, 8, 0, 3),
            (EXEC, 0, 0, 0, 3),
            (EXIT, 0, 0, 0, 3),
            (FREE, 16, 0, 0, 2),
        ),
    ]
    child, third = " (process 1, thread 0)", " (process 2, thread 0)"
    assert followed(*calls, process_of=lambda who: who) == (
        [
            *("malloc 0 5", "fork 1", f"free 0{child}", f"malloc 0 7{child}", "exit"),
            *(f"fork 2{child}", f"malloc 1 8{third}", f"exec{third}", f"exit{third}", f"free 0{child}"),
        ],
        {},
    )
