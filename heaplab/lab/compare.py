"""Many runs: every trace on every allocator, on the model in worker processes, then on real allocators."""

import os
import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from heaplab.allocators import Spec, names
from heaplab.errors import UsageError
from heaplab.lab.plan import Planned, Progress, Tally, carry_out, count_workers, place, play, refuse_too_large
from heaplab.lab.real import Timing
from heaplab.lab.record import Run
from heaplab.lab.room import host_memory
from heaplab.lab.run import RAM
from heaplab.lab.sources import Source, open_sources, placed
from heaplab.native.peers import Peer, find_peers
from heaplab.native.playing import ROUNDS
from heaplab.outside import Outside, find_allocator, find_outside
from heaplab.shown import html, text
from heaplab.traces import Header, Trace
from heaplab.traces.sites import read_sites
from heaplab.units import counted

#: a run stops above this many mems: ten seconds or so
DEFAULT_MAX_MEMS = 1_000_000_000
#: an event that takes longer ends its run
DEFAULT_MAX_SECONDS: float = 30


@dataclass(frozen=True)
class Clock:
    """When, by the trace, so many events had been carried out: nanoseconds, as long as `event`."""

    event: tuple[int, ...]
    time: tuple[int, ...]


@dataclass(frozen=True)
class Comparison:
    """The runs, in the order of traces and then allocators; those that were interrupted are missing.

    headers: of the traces that have runs, by name.  settings: what the runs were asked for, as plain data.
    planned: runs asked for.  left_out: a sentence for each real allocator that is not installed.
    unread: of each trace without runs, by name, a sentence that says why.  remarks: what the readers skipped,
    mended or wondered at, and how the comparison differs from what was asked for.
    again: by name, what opens a trace again; a trace made in memory or read from a pipe is not there.
    clocks: by name, of a comparison with walks: when the events of its runs' timelines were.
    """

    runs: tuple[Run, ...]
    headers: dict[str, Header]
    settings: dict[str, Any]
    planned: int
    interrupted: bool = False
    left_out: tuple[str, ...] = ()
    unread: dict[str, str] = field(default_factory=dict)
    remarks: tuple[str, ...] = ()
    again: dict[str, str] = field(default_factory=dict)
    clocks: dict[str, Clock] = field(default_factory=dict)

    def of_trace(self, name: str) -> list[Run]:
        """The runs of one trace."""
        return [run for run in self.runs if run.trace == name]

    def __repr__(self) -> str:
        allocators = {run.allocator for run in self.runs}
        of = f"{counted(len(self.headers), 'trace')} on {counted(len(allocators), 'allocator')}"
        cut = ", interrupted" if self.interrupted else ""
        return f"<Comparison of {of}: {counted(len(self.runs), 'run')}{cut}>"

    def __str__(self) -> str:
        return text(self, "heaplab.report.plain:comparison_text")

    def _repr_html_(self) -> str | None:
        return html(self, "heaplab.report.notebook:comparison_html")


def default_allocators() -> list[str]:
    """Return what is compared by default: of freelist the classical fits, and every other design in C."""
    fits = ("fit=first:order=address", "fit=next", "fit=best", "fit=worst")
    others = (name for name in names("c") if name != "freelist")
    return [*(f"freelist:{fit}" for fit in fits), *others]


def compare(
    traces: Sequence[str | Path | Trace],
    allocators: Iterable[str | Spec | Peer] | None = None,
    language: str = "c",
    *,
    max_mems: int | None = DEFAULT_MAX_MEMS,
    max_seconds: float | None = DEFAULT_MAX_SECONDS,
    seed: int = 1,
    verify: bool = True,
    payload: bool = True,
    lenient: bool = False,
    ram: int | str = RAM,
    walks: int = 0,
    lines: bool = False,
    sites: str | os.PathLike[str] | None = None,
    jobs: int | None = None,
    native: Iterable[str | Peer] = (),
    rounds: int = ROUNDS,
    latency: bool = False,
    offline: bool = False,
    progress: Callable[[Progress], None] = lambda progress: None,
) -> Comparison:
    """Replay every trace on every allocator and return the records.

    traces: names of bundled ones, paths, or Trace objects.
    allocators: specs, or their texts, in `language`; by default those of `default_allocators`;
    an allocator from outside (mm.c) and any Peer among them is played as the real ones are.
    max_mems, seed, verify, payload, ram, walks, lines: of each run.  sites: a file of call sites, of a single
    trace.  max_seconds: by the clock on the wall; a run
    ends when one event, or one walk over its heaps, takes longer; None: never.  jobs: worker processes, by
    default one a core; fewer when this computer's memory may not suffice.  progress: called whenever there is
    news.
    lenient: readers skip what cannot be, and count it.
    native: real allocators, as `heaplab.native.find_peer` takes them; they stand behind the others.  One that
    is known by name and not installed is left out.  rounds, latency: how they are timed, when nothing else
    runs; see `heaplab.native.play`.
    offline: look for the best placement of each trace's blocks, too, for the runs' `best_placement`; see
    `heaplab.lab.offline`.
    The records do not depend on the number of workers, but for the seconds.  Ctrl-C ends the comparison: what
    is finished is returned, marked as interrupted.  A trace that cannot be read, or that there is not the
    memory for, costs its own runs: `unread` of the result says why.
    Raises: UsageError for an unknown allocator, or when no trace at all can be read.

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
    options = {
        "seed": seed,
        "verify": verify and payload,
        "payload": payload,
        "max_mems": max_mems,
        "ram": ram,
        "walks": walks,
        "lines": lines,
        "sites": None if sites is None else os.path.abspath(sites),
    }
    if sites is not None:
        if len(traces) != 1:
            raise UsageError(f"{os.fspath(sites)} is of one trace: give that alone")
        read_sites(sites)
    asked_for = default_allocators() if allocators is None else allocators
    entrants = [find_allocator(each, language) if isinstance(each, str) else each for each in asked_for]
    specs = [each for each in entrants if isinstance(each, Spec)]
    sources = open_sources(traces, lenient=lenient)
    asked = [_asked(each) for each in native]
    _demand_distinct("allocator", [str(each) for each in (*entrants, *asked)])
    found, left_out = find_peers(asked)
    entrants += found
    if not sources or not entrants:
        why = "; ".join(["name at least one trace and one allocator", *left_out])
        raise UsageError(f"there is nothing to compare: {why}")
    peers = {place: each for place, each in enumerate(entrants) if isinstance(each, Peer)}
    if peers and not payload:
        raise UsageError(
            f"a replay without payloads is of the model alone: leave out {_listed(peers.values())}"
        )
    host = host_memory()
    if payload and specs:
        refuse_too_large(sources, ram, host)
    width = len(entrants)
    tally = Tally(
        [source.trace.header.events if source.trace else 0 for source in sources for _ in entrants], progress
    )
    remarks = [remark for source in sources if source.trace for remark in source.trace.remarks]
    interrupted = False
    clocks: dict[str, Clock] = {}
    try:
        with placed(sources):
            plan = [
                Planned(at * width + place, source, source.trace.header, spec, options, max_seconds)
                for at, source in enumerate(sources)
                if source.trace is not None and not source.unread
                for place, spec in enumerate(entrants)
                if isinstance(spec, Spec)
            ]
            if plan:
                workers, few = count_workers(plan, jobs, ram, host, payload)
                remarks += few
                carry_out(plan, workers, tally)
        for at, source in enumerate(sources) if peers else ():
            numbers = [at * width + place for place in peers]
            play(source, list(peers.values()), numbers, tally, Timing(rounds, latency), options, max_seconds)
        clocks = _clocks(sources, tally.runs.values()) if walks else {}
        for source in sources if offline else ():
            remarks += filter(None, [place(source, tally)])
    except KeyboardInterrupt:
        interrupted = True
    unread = {source.label: source.unread for source in sources if source.unread}
    if len(unread) == len(sources) and not interrupted:
        raise UsageError("; ".join(unread.values()))
    read = {source.label: source for source in sources if not source.unread}
    return Comparison(
        tuple(run for _, run in sorted(tally.runs.items()) if run.trace in read),
        {label: source.trace.header for label, source in read.items() if source.trace},
        {
            "languages": sorted({spec.language for spec in specs}),
            "allocators": [str(each) for each in entrants[: width - len(found)]],
            "native": [str(peer) for peer in found],
            "outside": [str(each) for each in entrants if isinstance(each, Outside)],
            "rounds": rounds,
            "latency": latency,
            "offline": offline,
            **options,
            "lenient": lenient,
            "max_seconds": max_seconds,
        },
        len(sources) * width,
        interrupted,
        tuple(left_out),
        unread,
        tuple(remarks),
        {label: again for label, source in read.items() if (again := source.again) is not None},
        clocks,
    )


def _asked(each: str | Peer) -> str | Peer:
    """A real allocator, or its name; a C file becomes an allocator from outside."""
    if isinstance(each, Peer):
        return each
    name = each.strip()
    return find_outside(name) or name


def _clocks(sources: Iterable[Source], runs: Iterable[Run]) -> dict[str, Clock]:
    """Return when the moments of the runs' timelines were, for the traces that have times.

    Cost: each trace is read once.
    """
    wanted: dict[str, set[int]] = {}
    for run in runs:
        wanted.setdefault(run.trace, set()).update(run.timeline.event)
    clocks = {}
    for source in sources:
        if source.trace is None or source.unread or not (events := sorted(wanted.get(source.label, ()))):
            continue
        times = _times(source.trace, np.array(events))
        if times.any():
            clocks[source.label] = Clock(tuple(events), tuple(times.tolist()))
    return clocks


def _times(trace: Trace, events: npt.NDArray[np.int64]) -> npt.NDArray[np.uint64]:
    """Return when so many events of the trace had been carried out: the time of the last of them."""
    times, done = [np.empty(0, np.uint64)], 0
    for block in trace:
        inside = events[(events > done) & (events <= done + len(block))]
        if not done and len(block):
            times.append(np.repeat(block.time[:1], int((events < 1).sum())))
        times.append(block.time[inside - done - 1])
        done += len(block)
    return np.concatenate(times)


def _demand_distinct(what: str, names: Sequence[str]) -> None:
    for name in names:
        if names.count(name) > 1:
            raise UsageError(f"the {what} {name} is given twice")


def _listed(peers: Iterable[Peer]) -> str:
    return ", ".join(map(str, peers))
