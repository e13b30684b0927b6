"""A whole run of a trace, on one design or several side by side, as columns.

What there is of each event and of each block comes from one replay with a log (`Moments.log`) and one that
looks at the blocks (`Trail`); a few moments are recorded whole on the way.
"""

import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from heaplab.allocators import Spec
from heaplab.errors import UsageError
from heaplab.kernel import Kernel
from heaplab.lab import RAM
from heaplab.lab.census import page_runs
from heaplab.lab.copied import Copied
from heaplab.lab.moments import Log, Moments
from heaplab.lab.replay import End
from heaplab.lab.trail import Places, Trail
from heaplab.native.playing import FAILED, FINISHED, STOPPED
from heaplab.traces import Trace
from heaplab.traces.lives import Lives, lives
from heaplab.traces.sites import Sites, Stack, read_sites
from heaplab.traces.trace import Header
from heaplab.units import format_size
from heaplab.views.recorded import Recorded, record

#: designs side by side
MOST_DESIGNS: Final = 3
#: moments recorded whole, in a trace with more events; of one with fewer all are
_RECORDED: Final = 48
_FEW_EVENTS: Final = 1000
#: events between two reports of progress
_REPORT_EVERY: Final = 65_536

Column = npt.NDArray[Any]
Columns = dict[str, Column]


@dataclass(frozen=True, eq=False, repr=False)
class DesignRun:
    """One design's part of a run.

    events: carried out.  outcome, reason: as of `lab.Run`.  structure: of the free blocks, in words.
    regions: rows (start, end), ascending and apart: where the heaps of all processes ever were, in pages.
    log: figures of every event.  places: where the blocks of the view's `lives` lie.  recorded: moments,
    whole.  copied: pages that writes have copied after forks.
    """

    allocator: str
    language: str
    outcome: str
    reason: str
    events: int
    page_size: int
    structure: str
    regions: Column
    log: Log
    places: Places
    recorded: tuple[Recorded, ...]
    copied: Copied

    def __repr__(self) -> str:
        return f"<DesignRun {self.allocator} ({self.language}), {self.outcome} after {self.events:,} events>"

    def __str__(self) -> str:
        log = self.log
        heap, resident = (int(column.max(initial=0)) for column in (log.heap, log.resident))
        told = f"{self.allocator} ({self.language}): {self.outcome} after {self.events:,} events"
        told += f": {self.reason}" if self.reason else ""
        faults = log.start.faults + int(log.faults.sum(dtype=np.uint64))
        return (
            f"{told}\n  heap up to {format_size(heap)}, resident up to {format_size(resident)}, "
            f"{int(log.mems.sum(dtype=np.uint64)):,} mems, {faults:,} faults; "
            f"{len(self.recorded)} moments recorded"
        )


@dataclass(frozen=True, eq=False, repr=False)
class RunView:
    """A run of a trace on designs, to the byte: every block where it lay, every event's figures.

    header: the trace's.  lives: its blocks.  op, thread, process, time: a row an
    event, as the trace says.  live: payload bytes of all processes after it.
    runs: a design each.  stacks: call stacks, each once.  stack: of each block, the number of its call stack,
    0 where none was recorded; None if the run was given no call sites.

    >>> from heaplab.traces import Event, Op
    >>> trace = Trace.of([Event(Op.MALLOC, 0, 1000), Event(Op.MALLOC, 1, 50), Event(Op.FREE, 0)], "three")
    >>> view = run_view(trace, ["buddy"])
    >>> run = view.runs[0]
    >>> run.places.span.tolist(), run.places.lead.tolist(), run.log.live.tolist(), len(run.recorded)
    ([1024, 64], [8, 8], [1000, 1050, 50], 4)
    >>> view
    <RunView of three on buddy, 3 events>
    >>> print(str(view).splitlines()[0])
    three: 3 events, 2 blocks, peak of 1.03 KiB live at event 1
    """

    header: Header
    lives: Lives
    op: Column
    thread: Column
    process: Column
    time: Column
    live: Column
    runs: tuple[DesignRun, ...]
    stacks: tuple[Stack, ...] = ((),)
    stack: Column | None = None

    @property
    def peak(self) -> int:
        """The event after which most is live."""
        return self.header.peak_index

    def __repr__(self) -> str:
        designs = ", ".join(run.allocator for run in self.runs)
        return f"<RunView of {self.header.name} on {designs}, {self.header.events:,} events>"

    def __str__(self) -> str:
        header = self.header
        first = (
            f"{header.name}: {header.events:,} events, {len(self.lives):,} blocks, "
            f"peak of {format_size(header.peak_live)} live at event {self.peak:,}"
        )
        return "\n".join([first, *map(str, self.runs)])


def run_view(
    trace: Trace,
    specs: Sequence[str | Spec],
    language: str = "c",
    *,
    at: int | None = None,
    seed: int = 1,
    ram: int | str = RAM,
    payload: bool = True,
    sites: Sites | str | os.PathLike[str] | None = None,
    progress: Callable[[str, int], None] = lambda what, done: None,
) -> RunView:
    """Replay `trace` on each design, and return all of it.

    specs, language, seed, ram, payload: as of `Moments`.  at: an event whose moment is recorded whole.
    sites: the trace's call sites, or the file that `heaplab record --sites` wrote of them.
    progress: called now and then with what is being done, in words, and the number of events done.
    A run that fails is there up to where it failed.
    Cost: 4 us an event and design; 150 bytes of memory an event, and 100 more a design.
    Raises: UsageError for an unknown allocator, a damaged trace, or one that this computer has no memory for;
    for a file of call sites that is damaged or of another trace.
    """
    runs: list[Moments] = []
    try:
        for spec in specs:
            runs.append(Moments(trace, spec, language, seed=seed, ram=ram, payload=payload))
        return view_of(runs, at=at, seed=seed, ram=ram, payload=payload, sites=sites, progress=progress)
    finally:
        for moments in runs:
            moments.close()


def view_of(
    runs: Sequence[Moments],
    *,
    at: int | None = None,
    seed: int = 1,
    ram: int | str = RAM,
    payload: bool = True,
    sites: Sites | str | os.PathLike[str] | None = None,
    progress: Callable[[str, int], None] = lambda what, done: None,
) -> RunView:
    """Return the run of one trace of which all these are the moments; see `run_view`."""
    if not 1 <= len(runs) <= MOST_DESIGNS:
        raise UsageError(
            f"a view shows one to {MOST_DESIGNS} designs side by side, and these are {len(runs)}"
        )
    asked = sites if sites is None or isinstance(sites, Sites) else read_sites(sites)
    trace = runs[0].trace
    events = trace.header.events
    logs = [moments.log() for moments in runs]
    if events:
        runs[0].event(events - 1)  # a log that ended early has not read all of them
    born = lives(trace, runs[0].block)
    stack = None if asked is None else asked.of_blocks(born)
    wanted = _moments(events, trace.header.peak_index, at, logs)
    made = []
    for moments, log in zip(runs, logs, strict=True):
        spec = moments.spec
        trail = Trail(trace, spec, Kernel(ram=ram, seed=seed), payload=payload, block=moments.block)
        recorded = tuple(_recorded(trail, wanted, len(log), partial(progress, str(spec))))
        places = trail.places(born)
        made.append(_design_run(moments.end, log, trail, places, recorded))
    block = runs[0].block
    return RunView(
        trace.header,
        born,
        block.op,
        block.thread,
        block.process,
        block.time,
        _live(born, events),
        tuple(made),
        ((),) if asked is None else asked.stacks,
        stack,
    )


def _moments(events: int, peak: int, at: int | None, logs: Iterable[Log]) -> list[int]:
    """Return which moments are recorded whole, ascending."""
    if events <= _FEW_EVENTS:
        return list(range(events + 1))
    wanted = {*np.linspace(0, events, _RECORDED).astype(int).tolist(), peak + 1}
    wanted |= {int(log.heap.argmax()) + 1 for log in logs if len(log)}
    wanted |= set() if at is None else {at + 1}
    return sorted(moment for moment in wanted if moment <= events)


def _recorded(
    trail: Trail, wanted: Iterable[int], events: int, progress: Callable[[int], None]
) -> Iterable[Recorded]:
    """Carry out `events`, and yield the wanted moments as they come by."""
    counts = trail.kernel.machine.mapcount

    def sharers(_number: int, _address: Column, frame: Column) -> Column:
        return counts[frame]

    stops = sorted(
        {*(moment for moment in wanted if moment <= events), *range(0, events, _REPORT_EVERY), events}
    )
    asked = set(wanted)
    for stop in stops:
        trail.advance(stop)
        progress(trail.done)
        if stop in asked and trail.done == stop:
            yield record(stop, trail.looks, sharers, trail.copied_pages, live=False)


def _design_run(
    end: End | None, log: Log, trail: Trail, places: Places, recorded: tuple[Recorded, ...]
) -> DesignRun:
    spec, page = trail.spec, trail.kernel.machine.page_size
    return DesignRun(
        allocator=str(spec),
        language=spec.language,
        outcome=FINISHED if end is None else FAILED if end.failed else STOPPED,
        reason="" if end is None else end.reason,
        events=len(log),
        page_size=page,
        structure=spec.design.STRUCTURE,
        regions=_regions(places, recorded, page),
        log=log,
        places=places,
        recorded=recorded,
        copied=trail.copied(),
    )


def _regions(places: Places, recorded: Iterable[Recorded], page: int) -> Column:
    """Return the runs of pages that any span was ever in."""
    there = places.address != 0
    starts, sizes = [places.start[there]], [places.span[there]]
    for each in recorded:
        starts.append(each.rest.get("start", np.empty(0, np.uint64)))
        sizes.append(each.rest.get("size", np.empty(0, np.uint64)))
    start = np.concatenate(starts).astype(np.int64)
    end = start + np.concatenate(sizes).astype(np.int64)
    order = np.argsort(start, kind="stable")
    return np.stack(page_runs(start[order], end[order], page), axis=1)


def _live(born: Lives, events: int) -> Column:
    """Return the payload bytes live after each event, of the trace, whatever a design makes of it."""
    sizes = born.size.astype(np.float64)  # sums below 2 ** 53 are exact
    made, gone = (np.bincount(column, sizes, events + 1) for column in (born.born, born.died))
    return np.cumsum((made - gone)[:events]).astype(np.uint64)
