"""A trace whose process takes a snapshot by fork: what would it cost a program that never forks?

    parent   ... o o o o o o o o o o ...       goes on as the trace says
                     \\
    child             o o o o o o x            reads all blocks that are live, and writes them out

Reading copies no page and is no event.  The child asks the allocator for its buffers, and, if it `frees`,
gives back each block that it has written out, as a server does that wants its parent to have the pages alone.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from heaplab.errors import UsageError
from heaplab.traces.event import BLOCK_EVENTS, Block, Op
from heaplab.traces.lives import BIRTHS, lives
from heaplab.traces.trace import Trace


@dataclass(frozen=True)
class Snapshot:
    """When a process forks, and what the child does.

    at: so many events are carried out before the fork; None: as many as lead to the peak of the live payload.
    length: so many events of the trace, or what is left of it, happen while the child lives; None: as many as
    blocks are live.
    every: after so many blocks the child allocates a buffer of `buffer` bytes and frees the one before; 0:
    never.  frees: the child frees each block after it.
    """

    at: int | None = None
    length: int | None = None
    every: int = 100
    buffer: int = 4096
    frees: bool = False

    def __post_init__(self) -> None:
        for name, least in (("at", 0), ("length", 0), ("every", 0), ("buffer", 1)):
            value = getattr(self, name)
            if value is not None and value < least:
                raise UsageError(f"snapshot: {name}={value}: give a number from {least} on")


def snapshotting(trace: Trace, snapshot: Snapshot = Snapshot()) -> Trace:
    """Return the trace with a fork of process 0, and the events of the child among the parent's.

    Processes that the trace forks later have higher numbers by one.  The child's events are spread evenly
    over the parent's, and have the parent's times.
    Cost: memory for all events.
    Raises: UsageError when the process does not live there.

    >>> from heaplab.traces import Event
    >>> trace = Trace.of([Event(Op.MALLOC, 0, 24), Event(Op.MALLOC, 1, 8), Event(Op.FREE, 0)], "three")
    >>> print(*snapshotting(trace, Snapshot(every=1, buffer=64)).events(), sep="\\n")
    malloc 0 24
    malloc 1 8
    fork 1
    malloc 2 64 (process 1, thread 0)
    free 0
    malloc 3 64 (process 1, thread 0)
    free 2 (process 1, thread 0)
    exit (process 1, thread 0)
    """
    whole = Block.join(trace)
    at = min(trace.header.peak_index + 1, len(whole)) if snapshot.at is None else snapshot.at
    if at > len(whole):
        raise UsageError(f"{trace.header.name}: has {len(whole):,} events: no snapshot after {at:,}")
    known = lives(trace, whole)
    rows = known.live(at)
    rows = rows[known.process[rows] == 0]
    gone = np.flatnonzero((whole.op[:at] == Op.EXIT) & (whole.process[:at] == 0))
    if len(gone):
        raise UsageError(
            f"{trace.header.name}: process 0 ends at event {gone[0]:,}: no snapshot after {at:,}"
        )
    length = len(rows) if snapshot.length is None else snapshot.length
    child = 1 + int(np.count_nonzero(whole.op[:at] == Op.FORK))
    events = _of_child(snapshot, known.slot[rows], _unused(whole[:at]), child)
    after = _renumbered(whole[at:], child)
    length = min(length, len(after))
    fork = Block.build(1, op=int(Op.FORK), id=child, thread=int(whole.thread[at - 1]) if at else 0)
    joined = Block.join([whole[:at], fork, _mixed(after[:length], events), after[length:]])
    timed = replace(joined, time=np.maximum.accumulate(joined.time))
    note = f"{trace.header.note}; " * bool(trace.header.note) + f"a snapshot by fork after {at:,} events"

    def blocks() -> Iterator[Block]:
        for first in range(0, len(timed), BLOCK_EVENTS):
            yield timed[first : first + BLOCK_EVENTS]

    provenance = replace(trace.header.provenance(), name=f"{trace.header.name}-snapshot", note=note)
    return replace(Trace.lazy(blocks, provenance), remarks=trace.remarks)


def _unused(before: Block) -> int:
    """The first slot that process 0 has not used yet since its program began."""
    own = before.process == 0
    began = np.flatnonzero(own & (before.op == Op.EXEC))
    makes = own & BIRTHS[before.op]
    if len(began):
        makes[: began[-1]] = False
    return int(before.id[makes].max(initial=0)) + 1 if makes.any() else 0


def _of_child(snapshot: Snapshot, slots: npt.NDArray[np.uint32], unused: int, child: int) -> Block:
    """The events of the child until its EXIT."""
    rows: list[tuple[int, int, int]] = []
    held: int | None = None
    for number, slot in enumerate(slots.tolist(), 1):
        if snapshot.every and number % snapshot.every == 0:
            new = unused if held != unused else unused + 1
            rows.append((Op.MALLOC, new, snapshot.buffer))
            if held is not None:
                rows.append((Op.FREE, held, 0))
            held = new
        if snapshot.frees:
            rows.append((Op.FREE, slot, 0))
    rows.append((Op.EXIT, 0, 0))
    op, slot_column, size = np.array(rows, np.uint64).T
    return Block.build(len(rows), op=op, id=slot_column, size=size, process=child)


def _renumbered(after: Block, child: int) -> Block:
    """The events with another number for each process from `child` on."""
    forks = (after.op == Op.FORK) & (after.id >= child)
    return replace(
        after,
        process=after.process + (after.process >= child).astype(np.uint16),
        id=after.id + forks.astype(np.uint32),
    )


def _mixed(parent: Block, child: Block) -> Block:
    """The events of both, each in its order: those of the child evenly among the parent's, its EXIT last."""
    place = np.concatenate(
        (np.arange(len(parent)) + 0.5, np.arange(1, len(child) + 1) * (max(len(parent), 1) / len(child)))
    )
    order = np.argsort(place, kind="stable")
    both = Block.join([parent, child])
    return Block(**{name: np.ascontiguousarray(column[order]) for name, column in both.columns().items()})
