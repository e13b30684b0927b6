"""The ledger of a trace: which slots are live in which process, and whether every event may happen.

It is the one place that knows what a valid trace is.  Readers and writers pass every block through it, so
that whatever replays a trace can rely on these rules:

- an allocation takes a slot that is not live: a reused one, or the next one never used (slots are dense);
- FREE and REALLOC name a live slot; FREE may name NULL_ID; no REALLOC is to size 0;
- sizes fit the address space, one by one and together; alignments are powers of two; time never falls;
- FORK numbers the child with the next unused process number; only a living process does anything.

Any thread number may follow any other: the first event with a number begins a thread, THREAD_EXIT ends it.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from heaplab.errors import UsageError
from heaplab.traces.event import MAX_SIZE, NULL_ID, Block, Op
from heaplab.units import format_size

_DEAD = -1
_ALIGNED_OPS = np.array([op == Op.ALIGNED for op in Op])
_SIZED_OPS = np.array([op in (Op.MALLOC, Op.CALLOC, Op.REALLOC, Op.ALIGNED) for op in Op])
_NEEDS_LIVE = np.array([op in (Op.FREE, Op.REALLOC) for op in Op])
_MAX_PROCESSES = 0xFFFF


@dataclass(frozen=True)
class Counts:
    """What a trace amounts to.

    ops: events by name of the op.  slots: ids are 0 to slots - 1.  processes, threads: that ever did
    something, threads summed over the processes.  duration: nanoseconds.  requested: bytes asked for by
    all allocations together.  peak_live: the most payload bytes live at once, all processes together
    (a forked child's blocks count apart from its parent's).  peak_index: the first event after which
    that much is live.  remote_frees: FREEs and REALLOCs of a block by another thread than the one that
    allocated it, or reallocated it last; None in a file written before heaplab counted them.
    """

    events: int = 0
    ops: Mapping[str, int] = field(default_factory=dict)
    slots: int = 0
    processes: int = 1
    threads: int = 1
    duration: int = 0
    requested: int = 0
    peak_live: int = 0
    peak_index: int = 0
    remote_frees: int | None = 0

    def agree_with(self, claimed: "Counts") -> bool:
        """Return True if the events that were counted are what a file claims that it holds."""
        if claimed.remote_frees is None:
            claimed = replace(claimed, remote_frees=self.remote_frees)
        return self == claimed


class _Breach(Exception):
    """Event number `row` of the rows at hand breaks a rule."""

    def __init__(self, row: int, why: str) -> None:
        self.row = row
        self.why = why


class _Slots:
    """The slots of one process: of each live block its size (_DEAD: the slot is free) and its thread.

    A block's thread is the one that allocated it, or reallocated it last.
    remote: how often another thread freed or reallocated a block.
    """

    def __init__(self) -> None:
        self.sizes: npt.NDArray[np.int64] = np.empty(0, np.int64)
        self.threads: npt.NDArray[np.uint16] = np.empty(0, np.uint16)
        self.used = 0
        self.live = 0
        self.remote = 0

    def copy(self) -> Self:
        twin = type(self)()
        twin.sizes = self.sizes[: self.used].copy()
        twin.threads = self.threads[: self.used].copy()
        twin.used = self.used
        twin.live = self.live
        return twin

    def apply(
        self,
        op: npt.NDArray[np.uint8],
        slot: npt.NDArray[np.int64],
        size: npt.NDArray[np.int64],
        thread: npt.NDArray[np.uint16],
    ) -> npt.NDArray[np.int64]:
        """Carry out the events in order; return by how many bytes each changes what is live.

        Cost: O(n log n), one stable sort by slot, which brings each slot's events together in order.
        """
        if not len(slot):
            return np.zeros(0, np.int64)
        needs_live = _NEEDS_LIVE[op]
        top = np.maximum.accumulate(np.concatenate(([self.used - 1], np.where(needs_live, -1, slot))))
        beyond = np.flatnonzero(slot > top[:-1] + ~needs_live)
        if len(beyond):
            row = int(beyond[0])
            self.apply(op[:row], slot[:row], size[:row], thread[:row])
            if needs_live[row]:
                raise _Breach(row, "names a slot that was never allocated")
            raise _Breach(row, f"skips slots: the next unused one is {top[row] + 1}")
        self._grow(int(top[-1]) + 1)

        order = np.argsort(slot, kind="stable")
        slot = slot[order]
        after = np.where(op == Op.FREE, _DEAD, size)[order]
        first = np.concatenate(([True], slot[1:] != slot[:-1]))
        before = np.concatenate(([0], after[:-1]))
        before[first] = self.sizes[slot[first]]
        wrong = needs_live[order] != (before != _DEAD)
        if wrong.any():
            row = int(order[wrong].min())
            raise _Breach(
                row, "names a slot that is free" if needs_live[row] else "takes a slot that is live"
            )
        last = np.concatenate((first[1:], [True]))
        self.sizes[slot[last]] = after[last]
        self._note_threads(slot, thread[order], needs_live[order], first, last)

        change = np.empty_like(after)
        change[order] = np.maximum(after, 0) - np.maximum(before, 0)
        self._bound(change)
        self.live += int(change.sum())
        return change

    def _note_threads(
        self,
        slot: npt.NDArray[np.int64],
        thread: npt.NDArray[np.uint16],
        needs_live: npt.NDArray[np.bool_],
        first: npt.NDArray[np.bool_],
        last: npt.NDArray[np.bool_],
    ) -> None:
        """Count remote frees among events sorted by slot; `first` and `last` mark each slot's.

        The event in front of a FREE or REALLOC, on the same slot, is the one that made the block.
        """
        maker = np.concatenate((thread[:1], thread[:-1]))
        maker[first] = self.threads[slot[first]]
        self.remote += int(np.count_nonzero(needs_live & (maker != thread)))
        self.threads[slot[last]] = thread[last]

    def _grow(self, used: int) -> None:
        if used > len(self.sizes):
            room = max(used, 2 * len(self.sizes))
            self.sizes = np.concatenate((self.sizes, np.full(room - len(self.sizes), _DEAD, np.int64)))
            self.threads = np.concatenate((self.threads, np.zeros(room - len(self.threads), np.uint16)))
        self.used = used

    def _bound(self, change: npt.NDArray[np.int64]) -> None:
        """See that what is live never exceeds the address space."""
        if self.live + int(np.maximum(change, 0).sum()) > MAX_SIZE:
            over = np.flatnonzero(self.live + np.cumsum(change, dtype=np.float64) > MAX_SIZE)
            if len(over):
                raise _Breach(int(over[0]), f"brings the live payload above {format_size(MAX_SIZE)}")


class Ledger:
    """The live blocks of every process, kept up to date block by block of events.

    where: what to call the trace in error messages.

    >>> from heaplab.traces import Event
    >>> ledger = Ledger("example")
    >>> ledger.apply(Block.of([Event(Op.MALLOC, 0, 24), Event(Op.MALLOC, 1, 8), Event(Op.FREE, 0)])).tolist()
    [24, 32, 8]
    >>> ledger.counts().peak_live, ledger.counts().slots
    (32, 2)
    >>> ledger.apply(Block.of([Event(Op.FREE, 0)]))
    Traceback (most recent call last):
    heaplab.errors.UsageError: example: event 3 (free 0) names a slot that is free
    """

    def __init__(self, where: str) -> None:
        self._where = where
        self._slots: dict[int, _Slots] = {0: _Slots()}
        self._processes = 1
        self._threads = {0}  # process << 16 | thread, of the threads that have begun and not ended
        self._ended_threads = 0
        self._remote_frees = 0  # of the slots that are gone
        self._ops = np.zeros(len(Op), np.int64)
        self._events = 0
        self._most_slots = 0
        self._live = 0
        self._peak_live = 0
        self._peak_index = 0
        self._requested = 0
        self._time = 0

    def apply(self, block: Block) -> npt.NDArray[np.int64]:
        """Carry out `block`; return the payload bytes live after each event, all processes together.

        Cost: O(n log n), about 0.2 us an event; memory for the slots of the living processes.
        Raises: UsageError naming the first event that breaks a rule.
        """
        try:
            self._check_columns(block)
            change = self._carry_out(block)
        except _Breach as breach:
            event = next(iter(block[breach.row : breach.row + 1]), None)
            shown = f" ({event})" if event is not None else ""
            number = self._events + breach.row
            raise UsageError(f"{self._where}: event {number}{shown} {breach.why}") from None
        live = self._live + np.cumsum(change)
        if len(live):
            self._note(block, live)
        return live

    def counts(self) -> Counts:
        """What has been carried out until now."""
        return Counts(
            events=self._events,
            ops={op.name.lower(): int(self._ops[op]) for op in Op if self._ops[op]},
            slots=self._most_slots,
            processes=self._processes,
            threads=len(self._threads) + self._ended_threads,
            duration=self._time,
            requested=self._requested,
            peak_live=self._peak_live,
            peak_index=self._peak_index,
            remote_frees=self._remote_frees + sum(slots.remote for slots in self._slots.values()),
        )

    def _check_columns(self, block: Block) -> None:
        """The rules that each event keeps or breaks by itself."""
        unknown = np.flatnonzero(block.op >= len(Op))
        if len(unknown):
            raise UsageError(
                f"{self._where}: event {self._events + int(unknown[0])} has the unknown op "
                f"{block.op[unknown[0]]}: was it written by a newer heaplab?"
            )
        sized = _SIZED_OPS[block.op]
        aligned = _ALIGNED_OPS[block.op]
        power = (block.align != 0) & (block.align & (block.align - np.uint32(1)) == 0)
        times = np.concatenate((np.array([self._time], np.uint64), block.time))
        for wrong, why in (
            (block.size > np.where(sized, MAX_SIZE, 0).astype(np.uint64), "has an impossible size"),
            ((block.op == Op.REALLOC) & (block.size == 0), "reallocates to size 0, which is a free"),
            (np.where(aligned, ~power, block.align != 0), "has an alignment that is no power of two"),
            (times[1:] < times[:-1], "happens before the event in front of it"),
        ):
            if wrong.any():
                raise _Breach(int(np.argmax(wrong)), why)

    def _carry_out(self, block: Block) -> npt.NDArray[np.int64]:
        change = np.zeros(len(block), np.int64)
        start = 0
        for row in (*np.flatnonzero(block.op >= Op.FORK).tolist(), len(block)):
            self._heap_events(block, start, row, change)
            if row < len(block):
                change[row] = self._process_event(block, row)
            start = row + 1
        return change

    def _heap_events(self, block: Block, start: int, stop: int, change: npt.NDArray[np.int64]) -> None:
        """Carry out the rows from `start` to `stop`, none of which is a process event."""
        op, slot = block.op[start:stop], block.id[start:stop]
        process, size, thread = block.process[start:stop], block.size[start:stop], block.thread[start:stop]
        real = (slot != NULL_ID) | (op != Op.FREE)
        breaches = []
        for number in _distinct(process):
            here = process == number
            if number not in self._slots:
                breaches.append(
                    _Breach(start + int(np.argmax(here)), "is done by a process that does not live")
                )
                continue
            rows = np.flatnonzero(real & here)
            slots = self._slots[number]
            try:
                change[start + rows] = slots.apply(
                    op[rows], slot[rows].astype(np.int64), size[rows].astype(np.int64), thread[rows]
                )
            except _Breach as breach:
                breaches.append(_Breach(start + int(rows[breach.row]), breach.why))
            self._most_slots = max(self._most_slots, slots.used)
        if breaches:
            raise min(breaches, key=lambda breach: breach.row)
        self._threads.update(_distinct(process.astype(np.uint32) << 16 | thread))

    def _process_event(self, block: Block, row: int) -> int:
        """Carry out FORK, EXEC, EXIT or THREAD_EXIT; return by how many bytes it changes what is live."""
        number, child = int(block.process[row]), int(block.id[row])
        slots = self._slots.get(number)
        if slots is None:
            raise _Breach(row, "is done by a process that does not live")
        thread = number << 16 | int(block.thread[row])
        if block.op[row] == Op.THREAD_EXIT:
            self._threads.discard(thread)
            self._ended_threads += 1
            return 0
        self._threads.add(thread)
        if block.op[row] == Op.FORK:
            if child != self._processes or child > _MAX_PROCESSES:
                raise _Breach(row, f"must number the child {self._processes}, the next process")
            self._slots[child] = slots.copy()
            self._processes += 1
            return slots.live
        self._remote_frees += slots.remote
        if block.op[row] == Op.EXEC:
            self._slots[number] = _Slots()
        else:
            del self._slots[number]
        return -slots.live

    def _note(self, block: Block, live: npt.NDArray[np.int64]) -> None:
        """Add a carried-out block to the counts."""
        top = int(np.argmax(live))
        if live[top] > self._peak_live:
            self._peak_live = int(live[top])
            self._peak_index = self._events + top
        self._live = int(live[-1])
        self._events += len(block)
        self._ops += np.bincount(block.op, minlength=len(Op))
        self._requested += int(block.size.sum())
        self._time = int(block.time[-1])


def _distinct(column: npt.NDArray[Any]) -> list[int]:
    """The values in `column`, each once; quick where they are all the same."""
    if len(column) and (column[0] == column).all():
        return [int(column[0])]
    return [int(value) for value in np.unique(column)]
