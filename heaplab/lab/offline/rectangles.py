"""A trace's blocks as rectangles of time and bytes, for who places them with all births and deaths known.

An *address space* is one process until it execs. The address spaces of a trace lie on the axis of time one
behind the other, each with a *tick* for its beginning and one for each of its events. A block has a *stay*
from its birth until its death. Where fork copies the block, it has one more in the child's address space,
at the same address, for the program's pointers are copied too. So a placement in which no two rectangles
overlap is one for all processes together.

A block takes at least HL_GRANULE bytes, and a multiple of it, because the contract aligns every payload to
that.  Headers are not counted.  realloc ends one block and begins another, which may overlap the first: a
heap that knows the future moves no more than it has to.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from heaplab._core import lib
from heaplab.errors import UsageError
from heaplab.traces import Op, Trace
from heaplab.traces.lives import Lives, lives

Column = npt.NDArray[Any]

GRANULE = int(lib.HL_GRANULE)
"""Bytes: sizes and addresses are multiples of it."""

_MOST_EVENTS = 1 << 31
_MOST_BYTES = 1 << 60


@dataclass(frozen=True, eq=False, repr=False)
class Rectangles:
    """The blocks of a trace, and their stays: those of block k are stays[k] up to stays[k + 1].

    size, align: of each block, bytes.  death: the event that ended the last copy of it.
    block: of each row of the trace's `Lives`, its block.
    start, until: of each stay, ticks: it is there from the first, and no more at the second.
    spaces: the first tick of each address space, and the end of the last.  moment: of each tick, so many
    events of the trace were carried out.  events: of the trace.
    live: peak of the live bytes, rounded, of all processes together.  distinct: the same, but what fork
    copies counts once: nobody writes into a block twice, so all its copies may share frames.

    >>> from heaplab.traces import Event
    >>> found = Rectangles.of(Trace.of([Event(Op.MALLOC, 0, 24), Event(Op.FREE, 0), Event(Op.MALLOC, 0, 8)]))
    >>> found.size.tolist(), found.start.tolist(), found.until.tolist(), found.live
    ([32, 16], [1, 3], [2, 4], 32)
    """

    size: Column
    align: Column
    death: Column
    block: Column
    stays: Column
    start: Column
    until: Column
    spaces: Column
    moment: Column
    events: int
    live: int
    distinct: int

    def __len__(self) -> int:
        return len(self.size)

    @property
    def ticks(self) -> int:
        return int(self.spaces[-1])

    @property
    def owner(self) -> Column:
        """The block of each stay."""
        stays = self.stays.astype(np.int64)
        return np.repeat(np.arange(len(self)), stays[1:] - stays[:-1])

    @classmethod
    def of(cls, trace: Trace) -> "Rectangles":
        """Return the rectangles of a trace.

        Cost: 1 us an event, and about 100 bytes of memory for an event and for a block.
        Raises: UsageError for a trace with more events, or bytes, than ticks and addresses have room for.
        """
        events = trace.header.events
        if events >= _MOST_EVENTS:
            raise UsageError(
                f"{trace.header.name}: {events:,} events are too many to be placed: cut the trace"
            )
        blocks = list(trace)
        op, process, align = (
            np.concatenate([getattr(block, name) for block in blocks] or [np.empty(0, np.uint32)])
            for name in ("op", "process", "align")
        )
        return _rectangles(lives(trace), op, process.astype(np.int64), align, trace)


def _rectangles(rows: Lives, op: Column, process: Column, align: Column, trace: Trace) -> Rectangles:
    events, born, died = len(op), rows.born.astype(np.int64), rows.died.astype(np.int64)
    size = np.maximum(-(-rows.size.astype(np.int64) // GRANULE), 1) * GRANULE
    if float(size.sum(dtype=np.float64)) >= _MOST_BYTES:
        raise UsageError(f"{trace.header.name}: its blocks have more bytes than there are addresses")
    space, first, number, moment = _axis(op, process, rows)
    own = rows.process.astype(np.int64)
    home = np.where(rows.copied, first[own], space[born] if events else 0)
    spaces = np.concatenate(([0], np.cumsum(number + 1)))
    tick = np.empty(events, np.int64)
    order = np.argsort(space, kind="stable")
    tick[order] = np.arange(events) - np.concatenate(([0], np.cumsum(number)))[space[order]] + 1
    if events:
        start = spaces[home] + np.where(rows.copied, 0, tick[born])
        ends = np.where(died < events, tick[np.minimum(died, events - 1)], number[home] + 1)
        until = spaces[home] + ends
    else:
        start = until = born
    head = np.where(rows.copied, rows.before.astype(np.int64) - 1, np.arange(len(rows)))
    while not np.array_equal(head, above := head[head]):
        head = above
    heads, block = np.unique(head, return_inverse=True)
    by_block = np.argsort(block, kind="stable")
    last = np.zeros(len(heads), np.int64)
    np.maximum.at(last, block, died)
    return Rectangles(
        size=size[heads].astype(np.uint64),
        align=np.maximum(align[born[heads]] if events else heads, GRANULE).astype(np.uint64),
        death=last,
        block=block,
        stays=np.concatenate(([0], np.cumsum(np.bincount(block, minlength=len(heads))))).astype(np.uint64),
        start=start[by_block].astype(np.uint32),
        until=until[by_block].astype(np.uint32),
        spaces=spaces,
        moment=moment,
        events=events,
        live=_peak(events, born, died, size),
        distinct=_peak(events, born[heads], last, size[heads]),
    )


def _axis(op: Column, process: Column, rows: Lives) -> tuple[Column, Column, Column, Column]:
    """Return the address space of each event, the first one of each process, the number of events of each
    address space, and the moment of each tick.

    An EXEC is the last event of an address space.
    """
    events = len(op)
    processes = int(max(process.max(initial=0), rows.process.max(initial=0))) + 1
    order = np.argsort(process, kind="stable")
    ends = np.zeros(events, np.int64)  # EXECs of the same process before
    count = np.bincount(process, minlength=processes)
    opens = np.concatenate(([0], np.cumsum(count)))
    done = np.concatenate(([0], np.cumsum(op[order] == Op.EXEC)))
    ends[order] = done[:-1] - done[opens[process[order]]]
    more = np.zeros(processes, np.int64)
    np.maximum.at(more, process, ends)
    first = np.concatenate(([0], np.cumsum(more + 1)))
    space = first[process] + ends
    number = np.bincount(space, minlength=int(first[-1]))
    begins = np.zeros(len(number), np.int64)  # events done when the address space begins
    execs = np.flatnonzero(op == Op.EXEC)
    begins[np.minimum(space[execs] + 1, len(number) - 1)] = execs + 1
    begins[first[:-1]] = 0
    copied = np.flatnonzero(rows.copied)
    begins[first[rows.process[copied]]] = rows.born[copied].astype(np.int64) + 1
    moment = np.zeros(events + len(number), np.int64)
    at = np.arange(events) + 1 + np.sort(space)
    moment[at] = np.argsort(space, kind="stable") + 1
    starts = np.concatenate(([0], np.cumsum(number + 1)))[:-1]
    moment[starts] = begins
    return space, first, number, moment


def _peak(events: int, born: Column, died: Column, size: Column) -> int:
    """Return the most bytes of blocks that are there at once."""
    change = np.zeros(events + 1, np.int64)
    np.add.at(change, born, size)
    np.subtract.at(change, died, size)
    return int(np.cumsum(change)[:events].max(initial=0))
