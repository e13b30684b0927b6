"""One request of a trace on one heap: what was asked, what the design did for it, and what came of it.

    moment k                    event k                               moment k + 1
    the heap before     ->      the request, its references,     ->   the heap after
                                faults and system calls

Everything is looked at: `Steps` reads both moments and compares them.
"""

import textwrap
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import takewhile
from typing import NamedTuple

import numpy as np

from heaplab.errors import UsageError
from heaplab.lab.moments import Label, Log, Moment, Moments
from heaplab.traces import NULL_ID, Event, Op
from heaplab.units import format_size
from heaplab.views.changes import BlockChange, PageChange, block_changes, page_changes, unseen_faults
from heaplab.views.finding import Finder
from heaplab.views.free import free_lines
from heaplab.views.heap import HeapView, heap_view, moment_view
from heaplab.views.lines import (
    Line,
    change_lines,
    count,
    free_texts,
    memory_lines,
    page_lines,
    reference_lines,
)
from heaplab.views.memory import MOST_ROWS, MemoryView, block_at, memory_view
from heaplab.views.references import ReferenceView, Side, reference_views

#: columns of the text
_WIDTH = 80
#: lines of references, of changed blocks, and of free blocks in the text
_MOST_REFERENCES, _MOST_CHANGES, _MOST_FREE = 96, 64, 32


@dataclass(frozen=True)
class CounterView:
    """A counter after the event, and by how much the event changed it.  in_bytes: it counts bytes."""

    name: str
    value: int
    change: int
    in_bytes: bool

    def __str__(self) -> str:
        if self.in_bytes:
            change = f" ({'+' if self.change > 0 else '-'}{format_size(abs(self.change))})"
            return f"{self.name} {format_size(self.value)}{change if self.change else ''}"
        return f"{self.name} {self.value:,}" + (f" ({self.change:+,})" if self.change else "")


@dataclass(frozen=True)
class StepView:
    """An event of a trace, and a process's heap after it.

    event: its number, of `events`.  done: the moment shown, after the event, or before one that failed.
    request: it in words; result: what came of it.  failure: why the run ended here, "" when it went on.
    process: whose heap is shown; acting: the event is its own; processes: the living after the event.
    address: of the payload that was given or freed, 0 where there is none.
    blocks, pages: what changed in the heap of `process`.  faults, calls: of the event.
    heap: after the event; None when the process is no more.  memory: the block of the request, after it.
    """

    trace: str
    allocator: str
    event: int
    events: int
    done: int
    op: Op
    request: str
    result: str
    failure: str
    process: int
    processes: tuple[int, ...]
    acting: bool
    address: int
    references: tuple[ReferenceView, ...]
    blocks: tuple[BlockChange, ...]
    pages: tuple[PageChange, ...]
    faults: int
    calls: tuple[str, ...]
    counters: tuple[CounterView, ...]
    heap: HeapView | None
    memory: MemoryView | None

    @property
    def title(self) -> str:
        """What is shown, in one line."""
        return f"{self.trace} on {self.allocator}, event {self.event:,} of {self.events:,}"

    @property
    def outcome(self) -> str:
        """What came of it: the result, or why the run ended."""
        return "; ".join(text for text in (self.result, self.failure) if text)

    def place(self, address: int) -> str:
        """Return an address as the texts write it; see `HeapView.place`."""
        return self.heap.place(address) if self.heap else f"{address:#x}"

    @property
    def free_title(self) -> str:
        """What keeps the free blocks, and how many there are; "-" where the design does not tell."""
        if self.heap is None or not self.heap.structure:
            return "free blocks: -"
        return f"{count(len(self.heap.free), 'free block')}, in {self.heap.structure}"

    @property
    def counter_lines(self) -> tuple[str, str]:
        """The counters in two lines."""
        first, second = self.counters[:3], self.counters[3:]
        return "   ".join(map(str, first)), "   ".join(map(str, second))

    @property
    def unseen_text(self) -> tuple[str, ...]:
        """What is to be said of faults that changed no page's state: a sentence, or none."""
        if (more := unseen_faults(self.faults, self.pages)) <= 0 or not self.acting:
            return ()
        return (
            f"{count(more, 'fault')} more: first writes since a fork to pages that nobody shares now,",
            "or pages that came and went in this event",
        )

    def text(self) -> str:
        """Return all of it as text, for 80 columns; of many references and free blocks the first."""
        return "\n".join(_text(self)) + "\n"

    def __str__(self) -> str:
        return self.text()

    def __repr__(self) -> str:
        return f"<{self.title}: {self.request}>"


def _text(step: StepView) -> Iterator[str]:
    width = _WIDTH - 2
    yield f"{step.title} (process {step.process})"
    yield step.request
    yield from textwrap.wrap(step.outcome, width, initial_indent="  ", subsequent_indent="  ")
    yield from (f"  {line}" for line in step.counter_lines)
    calls = (row for call in step.calls for row in textwrap.wrap(call, width))
    yield from _section("system calls", map(Line, calls))
    references = reference_lines(step.references, step.place, width)
    yield from _section(count(len(step.references), "reference"), references, _MOST_REFERENCES)
    yield from _section("blocks that changed", change_lines(step.blocks, step.place), _MOST_CHANGES)
    if step.heap is None:
        yield f"process {step.process} is no more: it has no heap"
        return
    pages = page_lines(step.pages, step.place, step.heap.page_size)
    yield from _section(count(step.faults, "fault"), [*pages, *map(Line, step.unseen_text)])
    if step.memory is not None:
        yield from _section(step.memory.title, memory_lines(step.memory, step.place, width))
    yield from _section(step.free_title, free_texts(free_lines(step.heap.free), step.place), _MOST_FREE)
    if not step.heap.free:
        yield step.free_title
    yield from textwrap.wrap(f"heap: {step.heap.summary()}", _WIDTH, subsequent_indent="  ")
    if step.heap.fault:
        yield f"the heap is broken: {step.heap.fault}"


def _section(title: str, lines: Iterable[Line], most: int | None = None) -> Iterator[str]:
    """A title and what stands under it; nothing where there is nothing."""
    rows = list(lines)
    if rows:
        yield title
        yield from (f"  {row.text}" for row in rows[:most])
    if most is not None and len(rows) > most:
        yield f"  and {len(rows) - most:,} lines more"


class Steps:
    """All events of a replay, each as a `StepView`, in any order.

    finder: where events are found.

    >>> from heaplab.traces import Event, Trace
    >>> moments = Moments(Trace.of([Event(Op.MALLOC, 0, 400), Event(Op.FREE, 0)]), "rbtree")
    >>> step = Steps(moments).at(0)
    >>> step.request, step.blocks[0].words, step.blocks[0].after[0].name
    ('malloc of 400 bytes, as block 0', 'allocated, split', 'block 0')
    >>> moments.close()
    """

    #: views of heaps that are kept: the next step, or the one before, needs one more
    _KEPT = 4

    def __init__(self, moments: Moments) -> None:
        self.moments = moments
        self.finder = Finder(moments)
        self._seen: dict[tuple[int, int], HeapView] = {}

    def at(self, event: int, process: int | None = None) -> StepView:
        """Return an event, and the heap of `process` after it; None: of the process whose event it is.

        Cost: two moments, of which one is kept for the next step; O(blocks).
        Raises: UsageError when there is no such event, or no such process at that time.
        """
        self.finder.check(event)
        moments = self.moments
        asked = moments.event(event)
        log = moments.log(event + 1)
        ended = event >= len(log)
        number = asked.process if process is None else process
        given = 0 if ended else int(log.address[event])
        before, after = moments.at(event), moments.at(event if ended else event + 1)
        old, new = self.side(before, number), self.side(after, number)
        if old is None and new is None:
            if moments.end is not None and not after.processes:
                raise UsageError(f"there is nothing to show: {moments.end.reason}")
            alive = ", ".join(map(str, after.processes)) or "none"
            raise UsageError(f"no process {number} lives at event {event:,}: choose among {alive}")
        subject = _subject(asked, before, old if number == asked.process else None, given)
        # an exec begins a heap of its own, at whatever addresses
        old_view = old.view if old and not (asked.op == Op.EXEC and number == asked.process) else None
        new_view = new.view if new else None
        references = moments.references(event) if number == asked.process else []
        return StepView(
            trace=moments.trace.header.name,
            allocator=str(moments.spec),
            event=event,
            events=moments.events,
            done=after.done,
            op=asked.op,
            request=request_text(asked, subject.label.size if subject.label else 0),
            result="" if ended else _result(asked, subject, new.view.place if new else hex),
            failure=moments.end.reason if moments.end and event == self.finder.last else "",
            process=number,
            processes=after.processes,
            acting=number == asked.process,
            address=subject.address,
            references=reference_views(references, old, new),
            blocks=block_changes(old_view, new_view),
            pages=page_changes(old_view, new_view, references, acting=number == asked.process),
            faults=0 if ended else int(log.faults[event]),
            calls=_calls(log, event),
            counters=_counters(log, event),
            heap=new_view,
            memory=_memory(new, subject.address if number == asked.process else 0),
        )

    def memory(self, step: StepView, address: int, *, most: int = MOST_ROWS) -> MemoryView | None:
        """Return the block, or metadata, that an address lies in after a step; None outside of the heap.

        most: lines of a stretch without words; see `memory_view`.
        """
        return _memory(self.side(self.moments.at(step.done), step.process), address, most)

    def side(self, moment: Moment, process: int) -> Side | None:
        """Return the heap of a process at a moment, and what can be seen of it; None when it is not alive."""
        if process not in moment.processes:
            return None
        key = moment.done, process
        view = self._seen.pop(key, None) or _view(moment, process)
        self._seen[key] = view
        while len(self._seen) > self._KEPT:
            del self._seen[next(iter(self._seen))]
        return Side(moment.heap(process), view)


def _view(moment: Moment, process: int) -> HeapView:
    if len(moment.processes) > 1:
        return moment_view(moment, process)
    return heap_view(moment.heap(process), moment.labels(process), lambda page: 1)


class _Subject(NamedTuple):
    """The payload that an event is about: where it was and what it was called before, and where it is."""

    was: int
    label: Label | None
    address: int


def _subject(event: Event, before: Moment, old: Side | None, given: int) -> _Subject:
    """Look up the block that the event frees or resizes.

    old: what is known already of the heap before.  given: the address that it returned.
    """
    if event.op in (Op.FREE, Op.REALLOC):
        if old is not None:
            labels = ((block.payload, block.label) for block in old.view.blocks if block.label)
        else:
            labels = ((payload, label) for payload, label in before.labels(event.process).items())
        for payload, label in labels:
            if label.slot == event.id:
                return _Subject(payload, label, given or payload)
    return _Subject(0, None, given)


def request_text(event: Event, size: int = 0) -> str:
    """Return an event in words.  size: bytes that a block had that is resized.

    >>> request_text(Event(Op.REALLOC, 5, 2000), 30), request_text(Event(Op.FORK, 1, process=3))
    ('realloc of block 5 from 30 to 2,000 bytes', 'fork: process 1 begins as a copy (process 3)')
    """
    op, slot, n = event.op, event.id, f"{count(event.size, 'byte')}"
    words = {
        Op.MALLOC: f"malloc of {n}, as block {slot}",
        Op.CALLOC: f"calloc of {n}, as block {slot}",
        Op.ALIGNED: f"aligned_alloc of {n} at a multiple of {event.align:,}, as block {slot}",
        Op.REALLOC: f"realloc of block {slot} from {size:,} to {n}",
        Op.FREE: "free of NULL" if slot == NULL_ID else f"free of block {slot}",
        Op.FORK: f"fork: process {slot} begins as a copy",
        Op.EXEC: f"exec: process {event.process} begins a new program, with an empty heap",
        Op.EXIT: f"exit of process {event.process}",
        Op.THREAD_EXIT: f"thread {event.thread} ends",
    }[op]
    if op in (Op.EXEC, Op.EXIT):
        return words
    who = [f"process {event.process}"] if event.process else []
    who += [f"thread {event.thread}"] if event.thread and op != Op.THREAD_EXIT else []
    return f"{words} ({', '.join(who)})" if who else words


_COMMENTS = {
    Op.FORK: "the two share all pages until one of them writes",
    Op.EXEC: "its memory is given back",
    Op.EXIT: "its memory is given back",
    Op.THREAD_EXIT: "what the design kept for the thread goes to all",
}


def _result(event: Event, subject: _Subject, place: Callable[[int], str]) -> str:
    def at(address: int) -> str:
        return f"{address:#x} ({place(address)})" if place(address) != f"{address:#x}" else f"{address:#x}"

    if event.op == Op.FREE:
        label = subject.label
        told = f": {count(label.size, 'byte')}, there since event {label.event:,}" if label else ""
        return f"it was at {at(subject.address)}{told}" if label else "nothing is to be done"
    if event.op == Op.REALLOC:
        if subject.address == subject.was:
            return f"stays at {at(subject.address)}"
        return f"moves from {at(subject.was)} to {at(subject.address)}"
    if event.op in _COMMENTS:
        return _COMMENTS[event.op]
    return f"returns {at(subject.address)}"


def _calls(log: Log, event: int) -> tuple[str, ...]:
    first = bisect_left(log.calls, event, key=lambda call: call.event)
    return tuple(call.text for call in takewhile(lambda call: call.event == event, log.calls[first:]))


def _counters(log: Log, event: int) -> tuple[CounterView, ...]:
    """The counters after the event; those before it when the run ended there."""
    done = min(event + 1, len(log))
    before = min(event, done)
    found = []
    for name, start in (("mems", 0), ("faults", log.start.faults)):
        column = getattr(log, name)
        total = start + int(column[:done].sum(dtype=np.uint64))
        found.append(CounterView(name, total, int(column[before:done].sum(dtype=np.uint64)), False))
    for name, start in (("live", 0), ("heap", log.start.heap), ("resident", log.start.resident)):
        column = getattr(log, name)
        values = [int(column[at - 1]) if at else start for at in (before, done)]
        found.append(CounterView(name, values[1], values[1] - values[0], True))
    return tuple(found)


def _memory(side: Side | None, address: int, most: int = MOST_ROWS) -> MemoryView | None:
    """The block that a payload lies in."""
    block = block_at(side.view, address) if side is not None and address else None
    if side is None or block is None:
        return None
    return memory_view(side.heap, side.view, block.start, block.end, most=most)
