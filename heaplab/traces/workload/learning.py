"""The workload of a trace: phases, and in each the table of sizes and lifetimes as they were.

A tick is an event of the trace.  The trace is divided into windows of equal numbers of events; each becomes a
phase, with the distribution of the events between two allocations, and a `Joint` table of its blocks:

- sizes are exact;
- the lifetime of a block that dies within the window is known up to a part of an octave;
- a block that lives on beyond the window dies at a moment, counted from the window's beginning, that is known
  up to a part of a window: so what died together at the end of a phase of the program dies together again;
- a block that is reallocated is a row of its own: first and last size, how often, and until when.

What is not kept: in which order sizes come within a window, which block follows which, and who frees whose
block.
"""

from collections import Counter
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from heaplab.errors import UsageError
from heaplab.traces.cutting import cut
from heaplab.traces.lives import BIRTHS, lives
from heaplab.traces.trace import Trace
from heaplab.traces.workload.distributions import NEVER, Constant, Distribution, Empirical
from heaplab.traces.workload.joint import Joint
from heaplab.traces.workload.shapes import Phase, Threads
from heaplab.traces.workload.workload import Workload

Column = npt.NDArray[Any]

WINDOWS = 64
"""Phases of a workload that is learned, if nobody says how many."""

_OCTAVE = 4  # classes of lifetimes in an octave
_MOMENTS = 4  # classes of moments in a window


def learn(trace: Trace, windows: int = WINDOWS) -> Workload:
    """Return a workload whose trace is like `trace`; its seed is 0.

    windows: how many phases.  Of several processes the one with the most events is learned: see `one_heap`.
    Cost: 1 us an event, and its columns in memory.
    Raises: UsageError when the trace has no allocation.

    >>> from heaplab.traces import synthetic
    >>> learned = learn(synthetic(20_000, seed=1), windows=4)
    >>> learned.events, len(learned.phases)
    (20000, 4)
    """
    if windows < 1:
        raise UsageError(f"windows={windows}: needs at least one: write windows={WINDOWS}")
    heap = one_heap(trace)
    chains, births, nulls = _chains(heap)
    events = heap.header.events
    if not len(births):
        raise UsageError(f"{trace.source}: allocates nothing, so there is nothing to learn")
    phases = []
    for number in range(min(windows, events)):
        start, stop = (events * (number + step) // min(windows, events) for step in (0, 1))
        phases.append(_phase(chains, births, start, stop, events / windows / _MOMENTS))
    header = heap.header
    made = sum(header.ops.get(op, 0) for op in ("malloc", "calloc", "aligned"))
    remote = (header.remote_frees or 0) / max(header.ops.get("free", 0) + header.ops.get("realloc", 0), 1)
    return Workload(
        events=events,
        phases=tuple(phases),
        threads=Threads("private", min(header.threads, 1024), round(remote, 4))
        if header.threads > 1
        else Threads(),
        calloc=round(header.ops.get("calloc", 0) / made, 6),
        nulls=round(nulls / max(events - nulls, 1), 6),
        aligned=round(header.ops.get("aligned", 0) / made, 6),
        name=f"like-{trace.header.name}",
        origin=f"like={trace.source}" + (f":windows={windows}" if windows != WINDOWS else ""),
    )


def one_heap(trace: Trace) -> Trace:
    """Return the trace, or of several processes the part of the one that allocates most.

    Cost: of several processes 3 us an event; otherwise nothing.
    """
    if trace.header.processes == 1 and not trace.header.ops.get("exec"):
        return trace
    counts: Counter[int] = Counter()
    for block in trace:
        counts.update(Counter(block.process[BIRTHS[block.op]].tolist()))
    if not counts:
        return trace
    busiest = min(counts, key=lambda process: (-counts[process], process))
    part = cut(trace, processes=[busiest])
    return replace(part, source=trace.source)


@dataclass(frozen=True)
class _Chains:
    """Blocks with all their reallocs: columns in the order of their allocations.

    born, died: events; died is infinite if nothing freed it.  first, last: sizes.  times: of reallocs.
    mean: the mean size after all of them but the last.  settled: the event of the last.
    """

    born: Column
    died: Column
    first: Column
    last: Column
    times: Column
    mean: Column
    settled: Column


def _chains(trace: Trace) -> tuple[_Chains, Column, int]:
    """The blocks of a trace, the events that allocate them, and how many events are free(NULL)."""
    found = lives(trace)
    rows = np.arange(len(found))
    before = np.where(found.copied, 0, found.before).astype(np.int64)
    root = rows.copy()
    for row in np.flatnonzero(before).tolist():
        root[row] = root[before[row] - 1]
    heads = np.flatnonzero(before == 0)
    place = np.searchsorted(heads, root)
    times = np.bincount(place, minlength=len(heads)) - 1
    total = np.bincount(place, weights=found.size.astype(float), minlength=len(heads))
    tail = np.zeros(len(heads), np.int64)
    tail[place] = rows  # rows ascend: the last one stays
    died = found.died[tail].astype(float)
    died[found.died[tail] >= trace.header.events] = np.inf
    born = found.born[heads].astype(np.int64)
    chains = _Chains(
        born,
        died,
        found.size[heads].astype(np.int64),
        found.size[tail].astype(np.int64),
        times,
        (total - found.size[heads] - found.size[tail]) / np.maximum(times - 1, 1),
        found.born[tail].astype(np.int64),
    )
    return chains, born, int(np.count_nonzero(found.row == 0))


def _phase(chains: _Chains, births: Column, start: int, stop: int, grain: float) -> Phase:
    """The window of events from start to stop; grain: events that a class of moments is wide."""
    first, last = np.searchsorted(births, (start, stop))
    share = float(stop - start)
    if first == last:
        return Phase("plateau", share, arrival=NEVER, ticks=stop - start)
    rows = slice(int(first), int(last))
    born, died, size, times = chains.born[rows], chains.died[rows], chains.first[rows], chains.times[rows]
    life = died - born
    fixed = (died >= stop) & np.isfinite(died)
    span = np.where(fixed, died - start, life)
    finite = np.where(np.isfinite(span), span, 1)
    bucket = np.where(fixed, finite // grain, np.floor(np.log2(np.maximum(finite, 1)) * _OCTAVE) - (1 << 20))
    bucket = np.where(np.isfinite(span), bucket, -(1 << 21))
    grown = times > 0
    own = np.where(grown, np.arange(len(size)), -1)
    keys = np.stack([size, bucket.astype(np.int64), own])
    _, group = np.unique(keys, axis=1, return_inverse=True)
    group = group.ravel()
    groups = int(group.max()) + 1
    lows, highs = np.full(groups, np.inf), np.zeros(groups)
    np.minimum.at(lows, group, span)
    np.maximum.at(highs, group, span)
    some = np.zeros(groups, np.int64)
    some[group] = np.arange(len(size))
    joint = Joint.build(
        groups,
        sizes=size[some],
        lows=lows,
        highs=highs,
        weights=np.bincount(group),
        fixed=fixed[some],
        times=times[some],
        finals=np.where(grown, chains.last[rows], 0)[some],
        means=np.round(np.where(times > 1, chains.mean[rows], 0)[some]),
        spans=np.where(grown, chains.settled[rows] - born, 0)[some],
    )
    return Phase("plateau", share, arrival=_arrival(born, start), joint=joint, ticks=stop - start)


def _arrival(born: Column, start: int) -> Distribution:
    """Events between two allocations: their mean is the window's."""
    gaps = np.diff(born, prepend=start)
    values, counts = np.unique(gaps, return_counts=True)
    if len(values) == 1:
        return Constant(float(values[0]))
    return Empirical(tuple(map(float, values.tolist())), tuple(map(float, counts.tolist())))
