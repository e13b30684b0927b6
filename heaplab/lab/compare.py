"""Many runs: every trace on every allocator, on the model in worker processes, then on real allocators."""

import os
import tempfile
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields, replace
from functools import partial
from pathlib import Path
from typing import Any

from heaplab.allocators import Spec, names, parse
from heaplab.errors import UsageError
from heaplab.lab.pool import News, Pool
from heaplab.lab.real import Timing, real_runs
from heaplab.lab.record import CRASHED, HUNG, Run
from heaplab.lab.run import RAM
from heaplab.lab.worker import Job
from heaplab.native.peers import Peer, find_peers
from heaplab.native.playing import ROUNDS
from heaplab.traces import Header, Provenance, Trace, TraceWriter, corpus, open_trace

#: of freelist the classical fits, and every other design in C
DEFAULT_ALLOCATORS = (
    "freelist:fit=first:order=address",
    "freelist:fit=next",
    "freelist:fit=best",
    "freelist:fit=worst",
    *(name for name in names("c") if name != "freelist"),
)
#: a run stops above this many mems: ten seconds or so
DEFAULT_MAX_MEMS = 1_000_000_000
#: an event that takes longer ends its run
DEFAULT_MAX_SECONDS: float = 30


@dataclass(frozen=True)
class Comparison:
    """The runs, in the order of traces and then allocators; those that were interrupted are missing.

    headers: of the traces, by name.  settings: what the runs were asked for, as plain data.
    planned: runs asked for.  left_out: a sentence for each real allocator that is not installed.
    """

    runs: tuple[Run, ...]
    headers: dict[str, Header]
    settings: dict[str, Any]
    planned: int
    interrupted: bool = False
    left_out: tuple[str, ...] = ()

    def of_trace(self, name: str) -> list[Run]:
        """The runs of one trace."""
        return [run for run in self.runs if run.trace == name]


@dataclass(frozen=True)
class Progress:
    """How far a comparison is.

    events: done; of a run that is over all of its trace's, also those it did not come to.
    total: events of all runs.  runs: that are over.  latest: the one that just ended, else None.
    """

    events: int
    total: int
    runs: int
    planned: int
    latest: Run | None


def compare(
    traces: Sequence[str | Path | Trace],
    allocators: Iterable[str | Spec] = DEFAULT_ALLOCATORS,
    language: str = "c",
    *,
    max_mems: int | None = DEFAULT_MAX_MEMS,
    max_seconds: float | None = DEFAULT_MAX_SECONDS,
    seed: int = 1,
    verify: bool = True,
    ram: int | str = RAM,
    jobs: int | None = None,
    native: Iterable[str | Peer] = (),
    rounds: int = ROUNDS,
    latency: bool = False,
    progress: Callable[[Progress], None] = lambda progress: None,
) -> Comparison:
    """Replay every trace on every allocator and return the records.

    traces: names of bundled ones, paths, or Trace objects.  allocators: specs, or their texts, in `language`.
    max_mems, seed, verify, ram: of each run.  max_seconds: by the clock on the wall; a run ends when one
    event, or one walk over its heaps, takes longer; None: never.  jobs: worker processes, by default one a
    core.  progress: called whenever there is news.
    native: real allocators, as `heaplab.native.find_peer` takes them; they stand behind the others.  One that
    is known by name and not installed is left out.  rounds, latency: how they are timed, when nothing else
    runs; see `heaplab.native.play`.
    The records do not depend on the number of workers, but for the seconds.  Ctrl-C ends the comparison: what
    is finished is returned, marked as interrupted.
    Raises: UsageError for an unknown allocator or a trace that cannot be read.

    >>> from heaplab.traces import synthetic
    >>> comparison = compare([synthetic(2000, seed=1)], ["rbtree"], native=["glibc"], rounds=1)
    >>> [(run.allocator, run.language, run.outcome) for run in comparison.runs]
    [('rbtree', 'c', 'finished'), ('glibc', 'native', 'finished')]
    >>> model, real = comparison.runs
    >>> model.peak_live == real.peak_live, real.seconds.times.ns_per_op > 0
    (True, True)
    """
    if rounds < 1:
        raise UsageError(f"rounds={rounds}: a time needs one round at least")
    if max_seconds is not None and not 0 < max_seconds < threading.TIMEOUT_MAX / 4:
        raise UsageError(f"max_seconds={max_seconds} is no time to wait: give seconds above 0, or None")
    options = {"seed": seed, "verify": verify, "max_mems": max_mems, "ram": ram}
    specs = [parse(text, language) if isinstance(text, str) else text for text in allocators]
    opened = [trace if isinstance(trace, Trace) else open_trace(trace) for trace in traces]
    asked = [each if isinstance(each, Peer) else each.strip() for each in native]
    labels = _labels(opened)
    _demand_distinct("trace", labels)
    _demand_distinct("allocator", [str(each) for each in (*specs, *asked)])
    peers, left_out = find_peers(asked)
    if not opened or not (specs or peers):
        why = "; ".join(["name at least one trace and one allocator", *left_out])
        raise UsageError(f"there is nothing to compare: {why}")
    width = len(specs) + len(peers)
    tally = _Tally([trace.header.events for trace in opened for _ in range(width)], progress)
    interrupted = False
    try:
        with _sources(opened, traces) as sources:
            plan = [
                _Planned(
                    at * width + place,
                    labels[at],
                    trace.header,
                    spec,
                    Job(sources[at], str(spec), spec.language, options, max_seconds),
                )
                for at, trace in enumerate(opened)
                for place, spec in enumerate(specs)
            ]
            _carry_out(plan, jobs or len(os.sched_getaffinity(0)), tally)
        for at, trace in enumerate(opened) if peers else ():
            first = at * width + len(specs)
            real = real_runs(
                trace,
                peers,
                Timing(rounds, latency),
                seed=seed,
                max_seconds=max_seconds,
                progress=partial(tally.advance_from, first),
            )
            for place, run in enumerate(real):
                tally.finish(first + place, replace(run, trace=labels[at]))
    except KeyboardInterrupt:
        interrupted = True
    return Comparison(
        tuple(run for _, run in sorted(tally.runs.items())),
        {label: trace.header for label, trace in zip(labels, opened, strict=True)},
        {
            "languages": sorted({spec.language for spec in specs}),
            "allocators": [str(spec) for spec in specs],
            "native": [str(peer) for peer in peers],
            "rounds": rounds,
            "latency": latency,
            **options,
            "max_seconds": max_seconds,
        },
        len(opened) * width,
        interrupted,
        tuple(left_out),
    )


class _Tally:
    """The records of the runs that are over, by their numbers, and how far the others are.

    events: of each run to come, by number.  progress: told whenever something changes.
    """

    def __init__(self, events: Sequence[int], progress: Callable[[Progress], None]) -> None:
        self.runs: dict[int, Run] = {}
        self._events = events
        self._done = [0] * len(events)
        self._progress = progress

    def advance(self, number: int, events: int) -> None:
        """Run `number` has carried out so many events."""
        self._done[number] = events
        self._tell(None)

    def advance_from(self, first: int, place: int, events: int) -> None:
        """The same of the run `place` behind run `first`."""
        self.advance(first + place, events)

    def finish(self, number: int, run: Run) -> None:
        """Run `number` is over."""
        self.runs[number] = run
        self._done[number] = self._events[number]
        self._tell(run)

    def _tell(self, latest: Run | None) -> None:
        self._progress(
            Progress(sum(self._done), sum(self._events), len(self.runs), len(self._events), latest)
        )


@dataclass(frozen=True)
class _Planned:
    """A run to come on the model: its number, what it is called, and the job that makes it."""

    number: int
    label: str
    header: Header
    spec: Spec
    job: Job

    def lost(self, outcome: str, reason: str, events_done: int = 0) -> Run:
        """The record when the job took its worker along."""
        return Run.lost(
            trace=self.label,
            events=self.header.events,
            events_done=events_done,
            allocator=str(self.spec),
            language=self.spec.language,
            seed=self.job.options["seed"],
            outcome=outcome,
            reason=reason,
        )

    def record(self, news: News) -> Run:
        """The record that the news are about."""
        if news.what == "run":
            run: Run = news.value
            return replace(run, trace=self.label)
        if news.what == "hung":
            return self.lost(HUNG, *news.value)
        return self.lost(CRASHED, news.value)


def _carry_out(plan: list[_Planned], workers: int, tally: _Tally) -> None:
    """Do all of the plan in worker processes."""
    with Pool(min(workers, len(plan))) as pool:
        for news in pool.run(planned.job for planned in plan):
            planned = plan[news.job]
            if news.what == "progress":
                tally.advance(planned.number, news.value)
            else:
                tally.finish(planned.number, planned.record(news))


def _labels(traces: Sequence[Trace]) -> list[str]:
    """What to call the traces: their names, or where names are not distinct their sources."""
    names = [trace.header.name for trace in traces]
    return [
        trace.source if names.count(name) > 1 else name for name, trace in zip(names, traces, strict=True)
    ]


def _demand_distinct(what: str, names: Sequence[str]) -> None:
    for name in names:
        if names.count(name) > 1:
            raise UsageError(f"the {what} {name} is given twice")


@contextmanager
def _sources(opened: Sequence[Trace], given: Sequence[str | Path | Trace]) -> Iterator[list[str]]:
    """Where workers find the traces; what is in memory, or slow to read, is written to a file first."""
    with tempfile.TemporaryDirectory(prefix="heaplab-") as folder:
        sources = []
        for number, (trace, what) in enumerate(zip(opened, given, strict=True)):
            source = trace.source
            if isinstance(what, Trace) or not (source in corpus.names() or source.endswith(".hlt")):
                source = str(Path(folder, f"{number}.hlt"))
                _copy(trace, source)
            sources.append(source)
        yield sources


def _copy(trace: Trace, path: str) -> None:
    provenance = Provenance(**{field.name: getattr(trace.header, field.name) for field in fields(Provenance)})
    with TraceWriter.create(path, provenance, level=1) as writer:
        for block in trace:
            writer.write(block)
