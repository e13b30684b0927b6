"""Many runs: every trace on every allocator, in worker processes."""

import os
import tempfile
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from heaplab.allocators import Spec, names, parse
from heaplab.errors import UsageError
from heaplab.lab.pool import News, Pool
from heaplab.lab.record import CRASHED, HUNG, Run
from heaplab.lab.run import RAM
from heaplab.lab.worker import Job
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
    planned: runs asked for.
    """

    runs: tuple[Run, ...]
    headers: dict[str, Header]
    settings: dict[str, Any]
    planned: int
    interrupted: bool = False

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
    progress: Callable[[Progress], None] = lambda progress: None,
) -> Comparison:
    """Replay every trace on every allocator and return the records.

    traces: names of bundled ones, paths, or Trace objects.  allocators: specs, or their texts, in `language`.
    max_mems, seed, verify, ram: of each run.  max_seconds: by the clock on the wall; a run ends when one
    event, or one walk over its heaps, takes longer; None: never.  jobs: worker processes, by default one a
    core.  progress: called whenever there is news.
    The records do not depend on the number of workers, but for the seconds.  Ctrl-C ends the comparison: what
    is finished is returned, marked as interrupted.
    Raises: UsageError for an unknown allocator or a trace that cannot be read.
    """
    if max_seconds is not None and not 0 < max_seconds < threading.TIMEOUT_MAX / 4:
        raise UsageError(f"max_seconds={max_seconds} is no time to wait: give seconds above 0, or None")
    options = {"seed": seed, "verify": verify, "max_mems": max_mems, "ram": ram}
    specs = [parse(text, language) if isinstance(text, str) else text for text in allocators]
    opened = [trace if isinstance(trace, Trace) else open_trace(trace) for trace in traces]
    if not opened or not specs:
        raise UsageError("there is nothing to compare: name at least one trace and one allocator")
    labels = _labels(opened)
    _demand_distinct("trace", labels)
    _demand_distinct("allocator", [str(spec) for spec in specs])
    with _sources(opened, traces) as sources:
        plan = [
            _Planned(label, trace.header, spec, Job(source, str(spec), spec.language, options, max_seconds))
            for label, trace, source in zip(labels, opened, sources, strict=True)
            for spec in specs
        ]
        runs, interrupted = _carry_out(plan, jobs or len(os.sched_getaffinity(0)), progress)
    return Comparison(
        tuple(run for _, run in sorted(runs.items())),
        {label: trace.header for label, trace in zip(labels, opened, strict=True)},
        {
            "languages": sorted({spec.language for spec in specs}),
            "allocators": [str(spec) for spec in specs],
            **options,
            "max_seconds": max_seconds,
        },
        len(plan),
        interrupted,
    )


@dataclass(frozen=True)
class _Planned:
    """A run to come: what it is called, and the job that makes it."""

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


def _carry_out(
    plan: list[_Planned], workers: int, progress: Callable[[Progress], None]
) -> tuple[dict[int, Run], bool]:
    """Return the records by their place in the plan, and whether Ctrl-C came before all were done."""
    runs: dict[int, Run] = {}
    done = [0] * len(plan)
    total = sum(planned.header.events for planned in plan)
    try:
        with Pool(min(workers, len(plan))) as pool:
            for news in pool.run(planned.job for planned in plan):
                number, planned, latest = news.job, plan[news.job], None
                if news.what == "progress":
                    done[number] = news.value
                else:
                    latest = runs[number] = planned.record(news)
                    done[number] = planned.header.events
                progress(Progress(sum(done), total, len(runs), len(plan), latest))
    except KeyboardInterrupt:
        return runs, True
    return runs, False


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
