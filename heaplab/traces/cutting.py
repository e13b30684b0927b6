"""A part of a trace that is a valid trace: some of its events, of its time, its processes, its threads."""

from collections import Counter
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import Self

from heaplab.errors import UsageError
from heaplab.traces.event import NULL_ID, Block, Op, Row
from heaplab.traces.slots import SlotTable
from heaplab.traces.spool import spooled
from heaplab.traces.trace import Trace

Span = tuple[int, int | None]
"""From the first to below the second; None: to the end."""

_ALL: Span = (0, None)
_FREES = "frees of blocks from before the cut were left out"
_REALLOCS = "reallocs of blocks from before the cut became mallocs"
_LIVE = "blocks from before the cut are allocated at its start"


def cut(
    trace: Trace,
    *,
    events: Span = _ALL,
    time: Span = _ALL,
    processes: Collection[int] | None = None,
    threads: Collection[int] | None = None,
    keep_live: bool = False,
) -> Trace:
    """Return the part of `trace` that all of the arguments choose.

    events: by their numbers, from 0.  time: nanoseconds.  processes, threads: by their numbers; None: all.
    The time of the part begins with the first event that `events` and `time` choose.
    Of a block that the part does not allocate there is no free either, and its realloc is a malloc.
    keep_live: the blocks that live where the part begins are allocated first.
    With `threads`: the blocks that those threads allocate; a free of one by another thread stays, and a
    realloc by another thread is a free.  Processes are numbered anew.  `remarks` of the result count what was
    changed.
    Cost: one pass, about 2 us an event of the part.
    Raises: UsageError when nothing is left.

    >>> from heaplab.traces import Event
    >>> events = [Event(Op.MALLOC, 0, 8), Event(Op.MALLOC, 1, 9), Event(Op.FREE, 0), Event(Op.FREE, 1)]
    >>> part = cut(Trace.of(events), events=(1, 4))
    >>> print(*part.events(), part.remarks, sep=", ")
    malloc 0 9, free 0, ('1 frees of blocks from before the cut were left out',)
    """
    cutter = _Cutter(processes, threads, keep_live)
    provenance = trace.header.provenance()
    words = ", ".join(
        f"{name} {value}"
        for name, value in (  # what is empty is everything
            ("events", _said(events)),
            ("nanoseconds", _said(time)),
            ("processes", sorted(processes or ())),
            ("threads", sorted(threads or ())),
        )
        if value
    )
    note = f"{provenance.note}; " * bool(provenance.note) + f"cut: {words or 'everything'}"
    part = spooled(trace.source, cutter.blocks(trace, events, time), replace(provenance, note=note))
    if not part.header.events:
        raise UsageError(f"{trace.source}: nothing is left of it after the cut: choose more of it")
    remarks = (f"{count:,} {kind}" for kind, count in sorted(cutter.changed.items()))
    return replace(part, remarks=(*trace.remarks, *remarks))


def _said(span: Span) -> str:
    return "" if span == _ALL else f"{span[0]} to {'the end' if span[1] is None else span[1]}"


@dataclass
class _Old:
    """A process of the whole trace: its live blocks, op, size, alignment and thread by slot."""

    live: dict[int, tuple[int, int, int, int]] = field(default_factory=dict)

    def follow(self, op: int, slot: int, size: int, align: int, thread: int) -> None:
        if op == Op.FREE:
            self.live.pop(slot, None)
        elif op == Op.REALLOC:
            made_by, _, made_align, _ = self.live.get(slot, (Op.MALLOC, 0, 0, 0))
            self.live[slot] = (made_by, size, made_align, thread)
        else:
            self.live[slot] = (op, size, align, thread)


@dataclass
class _New:
    """A process of the part: its number, and its slots by those of the whole."""

    number: int
    slots: SlotTable = field(default_factory=SlotTable)

    def forked(self, number: int) -> Self:
        return type(self)(number, self.slots.copy())


class _Cutter:
    """Makes the events of the part; `changed` counts what is otherwise than in the whole."""

    def __init__(
        self, processes: Collection[int] | None, threads: Collection[int] | None, keep_live: bool
    ) -> None:
        self.changed: Counter[str] = Counter()
        self._chosen = processes
        self._threads = threads
        self._keep_live = keep_live
        self._old: dict[int, _Old] = {0: _Old()}
        self._new: dict[int, _New] = {}  # by the number in the whole
        self._born = 0
        self._gone: Row | None = None  # the EXIT of the part's last process, until another comes
        self._rows: list[Row] = []
        self._begun = False

    def blocks(self, trace: Trace, events: Span, time: Span) -> Iterator[Block]:
        passed = 0
        for block in trace:
            low, high = self._inside(block, passed, events, time)
            passed += len(block)
            self._before(block[:low])
            self._within(block[low:high])
            if self._rows:
                yield self._taken()
            if high < len(block):
                break
        if self._gone is not None:
            self._rows.append(self._gone)
            yield self._taken()

    def _taken(self) -> Block:
        block = Block.of(self._rows)
        self._rows = []
        return block

    @staticmethod
    def _inside(block: Block, passed: int, events: Span, time: Span) -> tuple[int, int]:
        """Which rows of a block, `passed` events into the trace, are in both spans: from, to below."""
        low = max(events[0] - passed, int(block.time.searchsorted(time[0])))
        high = len(block)
        if events[1] is not None:
            high = min(high, events[1] - passed)
        if time[1] is not None:
            high = min(high, int(block.time.searchsorted(time[1])))
        low = min(max(low, 0), len(block))
        return low, max(low, high)

    def _before(self, block: Block) -> None:
        """Follow events in front of the part: processes, and with keep_live blocks."""
        if not self._keep_live and not (block.op >= Op.FORK).any():
            return
        for row in _rows(block):
            self._follow(row)

    def _follow(self, row: Row) -> None:
        """Follow an event of the whole."""
        op, slot, size, align, thread, _, process = row
        if op < Op.FORK:
            if self._keep_live and slot != NULL_ID:
                self._old[process].follow(op, slot, size, align, thread)
        elif op == Op.FORK:
            self._old[slot] = _Old(dict(self._old[process].live))
        elif op == Op.EXEC:
            self._old[process] = _Old()
        elif op == Op.EXIT:
            del self._old[process]

    def _within(self, block: Block) -> None:
        for row in _rows(block):
            if not self._begun:
                self._begin(row[5])
            self._last_time = row[5] - self._first_time
            self._copy(row)
            if self._keep_live or row[0] >= Op.FORK:
                self._follow(row)

    def _begin(self, time: int) -> None:
        self._begun = True
        self._first_time = time
        self._last_time = 0
        for process in sorted(self._old):
            if self._is_chosen(process):
                self._introduce(process)

    def _is_chosen(self, process: int) -> bool:
        return self._chosen is None or process in self._chosen

    def _introduce(self, process: int) -> None:
        """Let the part have a process that is there already, with the blocks that it is to begin with."""
        time = self._last_time
        if self._gone is not None:
            new = _New(self._gone[-1])
            self._gone = None
            self._rows.append((Op.EXEC, 0, 0, 0, 0, time, new.number))
        else:
            new = _New(self._born)
            self._born += 1
            if self._new:
                parent = next(iter(self._new.values()))
                self._rows.append((Op.FORK, new.number, 0, 0, 0, time, parent.number))
                if len(parent.slots):
                    self._rows.append((Op.EXEC, 0, 0, 0, 0, time, new.number))
        self._new[process] = new
        for slot, (op, size, align, thread) in self._old[process].live.items():
            if self._threads is None or thread in self._threads:
                self._rows.append((op, new.slots.take(slot), size, align, thread, time, new.number))
                self.changed[_LIVE] += 1

    def _copy(self, row: Row) -> None:
        """Add what the part has of an event."""
        op, slot, size, align, thread, _, process = row
        time = self._last_time
        new = self._new.get(process)
        if op == Op.FORK:
            self._copy_fork(new, process, slot, thread)
        elif new is None:
            return
        elif op == Op.EXIT:
            del self._new[process]
            end = (op, 0, 0, 0, thread, time, new.number)
            if self._new:
                self._rows.append(end)
            else:
                self._gone = end
        elif op == Op.EXEC:
            new.slots = SlotTable()
            self._rows.append((op, 0, 0, 0, thread, time, new.number))
        elif op == Op.THREAD_EXIT or slot == NULL_ID:
            if self._threads is None or thread in self._threads:
                self._rows.append((op, slot, 0, 0, thread, time, new.number))
        elif self._threads is None or thread in self._threads:
            self._copy_own(new, op, slot, size, align, thread)
        elif slot in new.slots and op in (Op.FREE, Op.REALLOC):
            self._rows.append((Op.FREE, new.slots.release(slot), 0, 0, thread, time, new.number))

    def _copy_own(self, new: _New, op: int, slot: int, size: int, align: int, thread: int) -> None:
        if op == Op.FREE:
            if slot not in new.slots:
                self.changed[_FREES] += 1
                return
            there = new.slots.release(slot)
        elif op != Op.REALLOC:
            there = new.slots.take(slot)
        elif slot in new.slots:
            there = new.slots.slot(slot)
        else:
            op, there = Op.MALLOC, new.slots.take(slot)
            self.changed[_REALLOCS] += 1
        self._rows.append((op, there, size, align, thread, self._last_time, new.number))

    def _copy_fork(self, parent: _New | None, process: int, child: int, thread: int) -> None:
        if not self._is_chosen(child):
            return
        if parent is None:
            self._old[child] = _Old(dict(self._old[process].live))
            self._introduce(child)
            return
        self._new[child] = parent.forked(self._born)
        self._born += 1
        number = self._new[child].number
        self._rows.append((Op.FORK, number, 0, 0, thread, self._last_time, parent.number))


def _rows(block: Block) -> Iterable[Row]:
    return zip(*(column.tolist() for column in block.columns().values()), strict=True)
