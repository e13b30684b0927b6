"""The lives of a trace's blocks: which event makes each, and which ends it; the same for every design."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from heaplab.traces.event import BLOCK_EVENTS, COLUMNS, NULL_ID, Block, Op
from heaplab.traces.trace import Trace

#: by op: whether it takes a slot for a new block
BIRTHS = np.array([op in (Op.MALLOC, Op.CALLOC, Op.ALIGNED) for op in Op])
#: by op: whether it makes a block: a REALLOC makes one in the slot of the old one
MAKES = BIRTHS | np.array([op == Op.REALLOC for op in Op])
_MOVES = np.array([op in (Op.FORK, Op.EXEC, Op.EXIT) for op in Op])
_NONE = -1
_SHORT = 1 << 16

Column = npt.NDArray[Any]


@dataclass(frozen=True, eq=False, repr=False)
class Lives:
    """Blocks as columns, a row each, in the order of the events that made them; and the row of each event.

    A block is there after the event `born`, until the event `died`.  A realloc ends one row and begins
    another; a fork begins a row for each block that the child gets, in the order of the parent's rows.

    born, died: numbers of events; died is the number of events if none ended it.  slot, size, thread,
    process: as the trace says; a copy has the parent's thread.  before: the row + 1 of the block that realloc
    or fork made this one of, 0: of none.  copied: the row is a fork's copy.
    row: of each event, the row + 1 of the block that it makes or else ends, 0: none.

    >>> from heaplab.traces import Event
    >>> trace = Trace.of([Event(Op.MALLOC, 0, 24), Event(Op.REALLOC, 0, 48), Event(Op.FREE, 0)])
    >>> found = lives(trace)
    >>> found.born.tolist(), found.died.tolist(), found.before.tolist(), found.row.tolist()
    ([0, 1], [1, 2], [0, 1], [1, 2, 2])
    """

    born: npt.NDArray[np.uint32]
    died: npt.NDArray[np.uint32]
    slot: npt.NDArray[np.uint32]
    size: npt.NDArray[np.uint64]
    thread: npt.NDArray[np.uint16]
    process: npt.NDArray[np.uint16]
    before: npt.NDArray[np.uint32]
    copied: npt.NDArray[np.bool_]
    row: npt.NDArray[np.uint32]

    def __len__(self) -> int:
        return len(self.born)

    def live(self, moment: int) -> Column:
        """Return the rows of the blocks that are there after `moment` events.  Cost: all rows born before."""
        until = int(np.searchsorted(self.born, moment))
        return np.flatnonzero(self.died[:until] >= moment)

    def within(self, start: int, stop: int) -> Column:
        """Return the rows of the blocks that are there at some moment from `start` to `stop`."""
        until = int(np.searchsorted(self.born, stop))
        return np.flatnonzero(self.died[:until] >= start)


def lives(trace: Trace, whole: Block | None = None) -> Lives:
    """Return the lives of the blocks of a trace.

    whole: all events of the trace, if somebody has them already: it is read again otherwise.
    Cost: 0.1 us an event; memory for the columns, 32 bytes a block and 4 an event.
    """
    events = trace.header.events
    census = _Census(events)
    for block in trace if whole is None else _parts(whole):
        census.take(block)
    return census.lives()


def _parts(whole: Block) -> Iterator[Block]:
    for start in range(0, len(whole), BLOCK_EVENTS):
        yield whole[start : start + BLOCK_EVENTS]


class _Census:
    """Blocks of events, one after the other, become rows."""

    def __init__(self, events: int) -> None:
        self._events = events
        self._done = 0
        self._rows = 0
        #: columns of rows, with room for more
        self._made = {
            name: np.full(1024, events if name == "died" else 0, dtype) for name, dtype in _TYPES.items()
        }
        self._row = np.zeros(events, np.uint32)
        #: of each process, the row of the block in each slot
        self._slots: dict[int, Column] = {0: np.empty(0, np.int64)}

    def take(self, block: Block) -> None:
        start = 0
        for at in (*np.flatnonzero(_MOVES[block.op]).tolist(), len(block)):
            if at > start:
                self._heap_events(block[start:at], self._done + start)
            if at < len(block):
                self._process_event(block, at)
            start = at + 1
        self._done += len(block)

    def _heap_events(self, block: Block, first: int) -> None:
        makes = MAKES[block.op]
        numbers = self._rows + np.cumsum(makes) - 1
        before = np.zeros(len(block), np.uint32)
        self._grow(self._rows + int(np.count_nonzero(makes)))
        named = makes | ((block.op == Op.FREE) & (block.id != NULL_ID))
        for process in np.unique(block.process).tolist():
            at = np.flatnonzero(named & (block.process == process))
            if len(at):
                self._of_process(process, block, at, numbers, before, first)
        born = np.flatnonzero(makes)
        self._add(
            born=born + first,
            slot=block.id[born],
            size=block.size[born],
            thread=block.thread[born],
            process=block.process[born],
            before=np.where(block.op[born] == Op.REALLOC, before[born], 0),
            copied=np.zeros(len(born), np.bool_),
        )

    def _of_process(
        self, process: int, block: Block, at: Column, numbers: Column, before: Column, first: int
    ) -> None:
        """Follow the slots of one process through its events, those at `at` of the block."""
        ids = block.id[at]
        if int(ids.max()) < _SHORT:
            ids = ids.astype(np.uint16)  # which numpy sorts ten times as fast
        at = at[np.argsort(ids, kind="stable")]
        slot, makes = block.id[at].astype(np.int64), MAKES[block.op[at]]
        slots = self._slots[process]
        if slot[-1] >= len(slots):
            more = np.full(max(int(slot[-1]) + 1, 2 * len(slots)) - len(slots), _NONE, np.int64)
            slots = self._slots[process] = np.concatenate((slots, more))
        after = np.where(makes, numbers[at], _NONE)
        opens = np.concatenate(([True], slot[1:] != slot[:-1]))
        closes = np.concatenate((opens[1:], [True]))
        found = np.concatenate(([_NONE], after[:-1]))
        found[opens] = slots[slot[opens]]
        slots[slot[closes]] = after[closes]
        ends = found != _NONE
        self._made["died"][found[ends]] = first + at[ends]
        before[at] = found + 1
        self._row[first + at] = np.where(makes, after, found) + 1

    def _process_event(self, block: Block, at: int) -> None:
        event, process = self._done + at, int(block.process[at])
        slots = self._slots[process]
        filled = np.flatnonzero(slots != _NONE)
        rows = slots[filled]
        if block.op[at] != Op.FORK:
            self._made["died"][rows] = event
            self._slots[process] = np.empty(0, np.int64)
            return
        order = np.argsort(rows)
        copied = rows[order]
        child = int(block.id[at])
        mine = np.full(len(slots), _NONE, np.int64)
        mine[filled[order]] = self._rows + np.arange(len(rows))
        self._slots[child] = mine
        count = len(rows)
        self._add(
            born=np.full(count, event),
            slot=filled[order],
            size=self._made["size"][copied],
            thread=self._made["thread"][copied],
            process=np.full(count, child),
            before=copied + 1,
            copied=np.ones(count, np.bool_),
        )

    def _add(self, **columns: Column) -> None:
        """Add rows, which nothing has ended yet but what `died` says already."""
        first, self._rows = self._rows, self._rows + len(columns["born"])
        self._grow(self._rows)
        for name, column in columns.items():
            self._made[name][first : self._rows] = column

    def _grow(self, rows: int) -> None:
        """Make room for rows; those that are not there yet die never."""
        have = len(self._made["died"])
        if rows > have:
            for name, column in self._made.items():
                fill = self._events if name == "died" else 0
                self._made[name] = np.concatenate(
                    (column, np.full(max(rows, 2 * have) - have, fill, column.dtype))
                )

    def lives(self) -> Lives:
        made = {name: column[: self._rows].copy() for name, column in self._made.items()}
        return Lives(**made, row=self._row)


_TYPES: dict[str, np.dtype[Any]] = {
    **{"born": np.dtype("<u4"), "died": np.dtype("<u4"), "slot": COLUMNS["id"], "size": COLUMNS["size"]},
    **{"thread": COLUMNS["thread"], "process": COLUMNS["process"]},
    **{"before": np.dtype("<u4"), "copied": np.dtype(np.bool_)},
}
