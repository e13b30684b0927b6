"""Runs that are to be made: planned, carried out by workers or on real allocators, and kept as they come."""

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import Any

from heaplab.allocators import Spec
from heaplab.errors import DamagedTrace, UsageError
from heaplab.lab.offline import offline
from heaplab.lab.pool import News, Pool
from heaplab.lab.real import Timing, real_runs
from heaplab.lab.record import Run
from heaplab.lab.room import fitting_jobs, host_refusal, machine_refusal
from heaplab.lab.sources import Source
from heaplab.lab.worker import Job
from heaplab.native.peers import Peer
from heaplab.native.playing import CRASHED, HUNG
from heaplab.traces import Header
from heaplab.units import counted


@dataclass(frozen=True)
class Progress:
    """How far a comparison is.

    events: done; of a run that is over all of its trace's, also those it did not come to.
    total: events of all runs.  runs: that are over.  latest: the one that just ended, else None.
    doing: what is done besides runs, in a sentence; "" while runs are made.
    """

    events: int
    total: int
    runs: int
    planned: int
    latest: Run | None
    doing: str = ""


class Tally:
    """The records of the runs that are over, by their numbers, and how far the others are.

    events: of each run to come, by number.  progress: told whenever something changes.
    keep: called with each record, before `progress` hears of it.
    """

    def __init__(
        self,
        events: Sequence[int],
        progress: Callable[[Progress], None],
        keep: Callable[[int, Run], None] = lambda number, run: None,
    ) -> None:
        self.runs: dict[int, Run] = {}
        self._events = events
        self._done = [0] * len(events)
        self._sums = [0, sum(events)]
        self._progress = progress
        self._keep = keep

    def advance(self, number: int, events: int) -> None:
        """Run `number` has carried out so many events."""
        self._count(number, events)
        self._tell(None)

    def finish(self, number: int, run: Run | None) -> None:
        """Run `number` is over, and has this record; None: it cannot be made."""
        if run is not None:
            self.runs[number] = run
            self._keep(number, run)
        self._count(number, self._events[number])
        self._tell(run)

    def tell(self, doing: str) -> None:
        """Say what is done besides the runs."""
        self._tell(None, doing)

    def _count(self, number: int, events: int) -> None:
        self._sums[0] += events - self._done[number]
        self._done[number] = events

    def _tell(self, latest: Run | None, doing: str = "") -> None:
        done, total = self._sums
        self._progress(Progress(done, total, len(self.runs), len(self._events), latest, doing))


@dataclass(frozen=True)
class Planned:
    """A run to come on the model: its number, its trace, and what `run` takes besides."""

    number: int
    source: Source
    header: Header
    spec: Spec
    options: Mapping[str, Any]
    max_seconds: float | None

    @property
    def job(self) -> Job:
        """The job that makes the run, once the trace has its place."""
        spec = self.spec
        return Job(self.source.path, str(spec), spec.language, dict(self.options), self.max_seconds)

    def lost(self, outcome: str, reason: str, events_done: int = 0) -> Run:
        """The record when the job took its worker along."""
        return Run.lost(
            trace=self.source.label,
            events=self.header.events,
            events_done=events_done,
            allocator=str(self.spec),
            language=self.spec.language,
            seed=self.options["seed"],
            outcome=outcome,
            reason=reason,
        )

    def record(self, news: News) -> Run:
        """The record that the news are about."""
        if news.what == "run":
            run: Run = news.value
            return replace(run, trace=self.source.label)
        if news.what == "hung":
            return self.lost(HUNG, *news.value)
        return self.lost(CRASHED, news.value)


def refuse_too_large(sources: Iterable[Source], ram: int | str, host: int | None) -> None:
    """Say of the traces whose payloads the machine or this computer has no memory for that they have no runs.

    host: what `host_memory` says.
    """
    for source in sources:
        if source.trace is not None:
            header = source.trace.header
            source.unread = machine_refusal(header, ram) or host_refusal(header, ram, host) or ""


def count_workers(
    plan: Sequence[Planned], jobs: int | None, ram: int | str, host: int | None, payload: bool
) -> tuple[int, list[str]]:
    """Return how many workers carry out the plan, and a remark when memory allows fewer than asked for."""
    wanted = min(jobs or len(os.sched_getaffinity(0)), len(plan))
    workers = fitting_jobs(wanted, [planned.header for planned in plan], ram, host, payload)
    if workers == wanted:
        return workers, []
    return workers, [
        f"{counted(workers, 'run')} at once, not {wanted}: this computer's memory may not suffice for more"
    ]


def carry_out(
    plan: Iterable[Planned],
    workers: int,
    tally: Tally,
    over: Callable[[Planned], None] = lambda planned: None,
    pool: Pool | None = None,
) -> None:
    """Do all of the plan in worker processes, but for the traces that cannot be read.

    The plan is gone through as workers become free.  over: called when a run is, whatever came of it.
    pool: to use, in place of one of this many workers; it stays.
    """
    begun: list[Planned] = []

    def finish(planned: Planned, run: Run | None) -> None:
        tally.finish(planned.number, run)
        over(planned)

    def jobs() -> Iterator[Job]:
        for planned in plan:
            if planned.source.unread:  # as another run of it has found
                finish(planned, None)
            else:
                begun.append(planned)
                yield planned.job

    with Pool(workers) if pool is None else nullcontext(pool) as hands:
        for news in hands.run(jobs()):
            planned = begun[news.job]
            if news.what == "progress":
                tally.advance(planned.number, news.value)
            elif news.what == "unread":
                planned.source.unread = news.value
                finish(planned, None)
            else:
                finish(planned, planned.record(news))


def play(
    source: Source,
    peers: Sequence[Peer],
    numbers: Sequence[int],
    tally: Tally,
    timing: Timing,
    options: Mapping[str, Any],
    max_seconds: float | None,
) -> None:
    """Do the runs of these numbers, of a trace on real allocators, unless the trace cannot be read."""
    if source.trace is not None and not source.unread:
        try:
            real = real_runs(
                source.trace,
                peers,
                timing,
                seed=options["seed"],
                max_seconds=max_seconds,
                max_mems=options["max_mems"],
                progress=lambda place, done: tally.advance(numbers[place], done),
            )
            for number, run in zip(numbers, real, strict=True):
                tally.finish(number, replace(run, trace=source.label))
        except DamagedTrace as error:
            source.unread = str(error)
    if source.unread:
        for number in numbers:
            tally.finish(number, None)


def place(source: Source, tally: Tally) -> str:
    """Give the runs of a trace the size of the best placement of its blocks, unless the trace cannot be read.

    Returns a remark when it cannot be placed, else "".
    """
    if source.trace is None or source.unread:
        return ""
    try:
        best = offline(source.trace, progress=tally.tell).best
    except DamagedTrace as error:
        source.unread = str(error)
    except UsageError as error:
        return f"no placement: {error}"
    else:
        for number, run in tally.runs.items():
            if run.trace == source.label:
                tally.runs[number] = replace(run, best_placement=best)
    return ""
