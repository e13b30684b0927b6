"""Several traces as one: side by side as processes, or all in one heap."""

import math
from collections.abc import Iterator, Sequence
from heapq import merge

from heaplab.errors import UsageError
from heaplab.traces.event import BLOCK_EVENTS, NULL_ID, Block, Op, Row
from heaplab.traces.slots import SlotTable
from heaplab.traces.spool import spooled
from heaplab.traces.trace import Provenance, Trace

_MAX_THREADS = 1 << 16


def merged(traces: Sequence[Trace], *, one_heap: bool = False) -> Trace:
    """Return one trace with the events of all `traces`.

    Each trace begins at the same moment, with a process of its own; one_heap: with threads of its own, in one
    process.  If all have times, their events are in the order of time; otherwise there are no times, and the
    traces pass evenly, each from its beginning to its end.
    Cost: about 3 us an event.  Raises: UsageError when one_heap is to hold a trace with process events.

    >>> from heaplab.traces import Event
    >>> one = Trace.of([Event(Op.MALLOC, 0, 8), Event(Op.FREE, 0)], "one")
    >>> print(*merged([one, one], one_heap=True).events(), sep=", ")
    malloc 0 8, malloc 1 8 (process 0, thread 1), free 0, free 1 (process 0, thread 1)
    """
    timed = all(trace.header.duration for trace in traces)
    rows = merge(*(_keyed(number, trace, timed) for number, trace in enumerate(traces)))
    events = ((number, row) for _, number, _, row in rows)
    name = "+".join(trace.header.name for trace in traces)
    tick = math.gcd(*(trace.header.tick for trace in traces)) if timed else 1
    note = "merged" + "".join(
        f"; {trace.header.name}: {trace.header.note}" for trace in traces if trace.header.note
    )
    out = _in_one_heap(traces, events) if one_heap else _as_processes(len(traces), events)
    trace = spooled(name, _blocks(out), Provenance(name, note=note, tick=tick or 1))
    return Trace(
        trace.header, trace.source, trace.read, tuple(line for each in traces for line in each.remarks)
    )


def _keyed(number: int, trace: Trace, timed: bool) -> Iterator[tuple[float, int, int, Row]]:
    """The events of a trace, each with what it is sorted by."""
    total = trace.header.events
    place = 0
    for block in trace:
        for row in zip(*(column.tolist() for column in block.columns().values()), strict=True):
            op, slot, size, align, thread, time, process = row
            if timed:
                yield time, number, place, row
            else:
                yield place / total, number, place, (op, slot, size, align, thread, 0, process)
            place += 1


def _blocks(rows: Iterator[Row]) -> Iterator[Block]:
    batch: list[Row] = []
    for row in rows:
        batch.append(row)
        if len(batch) == BLOCK_EVENTS:
            yield Block.of(batch)
            batch.clear()
    if batch:
        yield Block.of(batch)


def _as_processes(count: int, events: Iterator[tuple[int, Row]]) -> Iterator[Row]:
    """The first process of each trace is forked before anything is allocated."""
    numbers = {(trace, 0): trace for trace in range(count)}
    for trace in range(1, count):
        yield (Op.FORK, trace, 0, 0, 0, 0, 0)
    for trace, (op, slot, size, align, thread, time, process) in events:
        there = slot
        if op == Op.FORK:
            there = numbers[trace, slot] = len(numbers)
        yield (op, there, size, align, thread, time, numbers[trace, process])


def _in_one_heap(traces: Sequence[Trace], events: Iterator[tuple[int, Row]]) -> Iterator[Row]:
    for trace in traces:
        if any(trace.header.ops.get(op) for op in ("fork", "exec", "exit")):
            raise UsageError(
                f"{trace.source}: has more than one program or process, and cannot share one heap: "
                "`heaplab trace cut --process` takes one out"
            )
    slots, threads = SlotTable(), SlotTable()
    for trace_number, (op, slot, size, align, thread, time, _) in events:
        who = (trace_number, thread)
        there = slot
        number = threads.slot(who) if who in threads else threads.take(who)
        if number >= _MAX_THREADS:
            raise UsageError(f"the traces have more than {_MAX_THREADS} threads together: merge fewer")
        if op == Op.THREAD_EXIT:
            threads.release(who)
        elif slot != NULL_ID:
            name = (trace_number, slot)
            if op == Op.FREE:
                there = slots.release(name)
            else:
                there = slots.slot(name) if op == Op.REALLOC else slots.take(name)
        yield (op, there, size, align, number, time, 0)
