"""What a heap is seen to do from outside, on the model and on Linux alike.

A `World` plays a trace on a design, and stops where it is told.  `watch` asks it at the stops: what it
called, how often it faulted, which of its pages are in memory.  One function asks both worlds, so that the
answers can be compared (heaplab/native/differences.py).
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from heaplab.native.copies import Family
from heaplab.native.world import PAGE, START, TOP, Pages, RawCall, World, named
from heaplab.traces import Op, Trace

#: stops at which faults alone are asked for
SAMPLES = 200

#: which arguments of a call are addresses, and whether its result is one; those not named: the first alone
_ADDRESSES = {"brk": ((0,), True), "mmap": ((0,), True), "mremap": ((0, 4), True)}


class Look(NamedTuple):
    """What was seen of a process after `event` events: its minor faults so far; its pages, if asked for."""

    event: int
    process: int
    faults: int
    pages: Pages | None = None


@dataclass
class Footprint:
    """What a trace on a design is seen to do.

    calls: event and text of each system call.  looks: in order.
    faults: minor faults of all processes.  heap: pages of address space at the peak of the live payload.
    peak, end: pages in memory then, summed over the processes.
    copied_in_child, copied_in_parent: pages that a fork shared, that neither side gave back before the
    child's end, and that this side alone had in another frame since.  Summed over the forks; None where
    frames are hidden.
    """

    calls: list[tuple[int, str]] = field(default_factory=list)
    looks: list[Look] = field(default_factory=list)
    faults: int = 0
    heap: int = 0
    peak: int = 0
    end: int = 0
    copied_in_child: int | None = 0
    copied_in_parent: int | None = 0


def stops_of(trace: Trace) -> list[int]:
    """Return the numbers of events after which `watch` stops, rising.

    There are SAMPLES at equal distances, the peak of the live payload, the end, and the moment before each
    FORK, EXEC and EXIT.
    """
    events = trace.header.events
    stops = {events, _peak(trace), *np.linspace(0, events, SAMPLES).astype(int).tolist()}
    return sorted(stops | {event for event, *_ in _process_events(trace)})


def watch(trace: Trace, world: World) -> Footprint:
    """Play the trace in a world that is at its beginning, and return what it is seen to do."""
    footprint, family = Footprint(), Family()
    upcoming = {event: rest for event, *rest in _process_events(trace)}
    owner = np.concatenate([*(block.process for block in trace), np.zeros(1, np.uint16)])

    def look() -> dict[int, Pages]:
        seen = {process: _pages(world, process) for process in family.parents}
        looks = (Look(stop, process, world.faults(process), pages) for process, pages in seen.items())
        footprint.looks.extend(looks)
        family.see(seen)
        return seen

    for stop in stops_of(trace):
        world.advance(stop)
        for call in world.calls():
            footprint.calls.append((call.event, _text(call)))
            family.call(int(owner[call.event]), call)
        if stop == _peak(trace):
            at_peak = look().values()
            footprint.heap = sum(pages.heap for pages in at_peak)
            footprint.peak = sum(pages.resident for pages in at_peak)
        if stop not in upcoming:
            footprint.looks.extend(Look(stop, each, world.faults(each)) for each in family.parents)
            continue
        op, process, child = upcoming[stop]
        seen = look()
        if op == Op.FORK:
            family.fork(process, child, seen[process])
            continue
        footprint.faults += world.faults(process)
        family.leave(process)
        if op == Op.EXEC:
            family.begin(process)
    footprint.end = sum(pages.resident for pages in look().values())
    footprint.faults += sum(world.faults(process) for process in family.parents)
    footprint.copied_in_child, footprint.copied_in_parent = family.copies or (None, None)
    return footprint


def _peak(trace: Trace) -> int:
    """How many events lead up to the peak of the live payload, the one that reaches it included."""
    return min(trace.header.peak_index + 1, trace.header.events)


def _process_events(trace: Trace) -> Iterator[tuple[int, int, int, int]]:
    """Yield number, op, process and id of each FORK, EXEC and EXIT."""
    first = 0
    for block in trace:
        for row in np.flatnonzero((block.op >= Op.FORK) & (block.op <= Op.EXIT)).tolist():
            yield first + row, int(block.op[row]), int(block.process[row]), int(block.id[row])
        first += len(block)


def _pages(world: World, process: int) -> Pages:
    heap, numbers, states, frames = (
        0,
        [np.zeros(0, np.int64)],
        [np.zeros(0, np.uint8)],
        [np.zeros(0, np.int64)],
    )
    for line in world.maps(process).splitlines():
        start, end = (int(word, 16) for word in line.split()[0].split("-"))
        start, end = max(start, START), min(end, TOP)
        if start >= end:
            continue
        heap += (end - start) // PAGE
        state, frame = world.pages(process, start, end)
        present = np.flatnonzero(state)
        numbers.append(present + start // PAGE)
        states.append(state[present])
        frames.append(frame[present])
    return Pages(heap, np.concatenate(numbers), np.concatenate(states), np.concatenate(frames))


def _text(call: RawCall) -> str:
    """The call as a line.

    >>> _text(RawCall(0, "mmap", (0, 0x2000, 3, 0x22, 0xFFFFFFFF, 0), TOP - 0x2000))
    'mmap(0, 0x2000, 0x3, 0x22, -1, 0x0) = top-0x2000'
    """
    addresses, gives_address = _ADDRESSES.get(call.name, ((0,), False))
    args = [
        (named(arg) if arg else "0") if place in addresses else hex(arg)
        for place, arg in enumerate(call.args)
    ]
    if call.name == "mmap":
        fd = call.args[4] & 0xFFFF_FFFF  # an int: the register's upper half may be anything
        args[4] = str(fd - (1 << 32) if fd >> 31 else fd)
    result = named(call.result) if gives_address and call.result > 0 else str(call.result)
    return f"{call.name}({', '.join(args)}) = {result}"
