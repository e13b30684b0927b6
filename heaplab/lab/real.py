"""Runs on real allocators: the same record, of the same metrics, from heaplab.native.play."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial

from heaplab.lab import census
from heaplab.lab.metrics import Mems, utilisation
from heaplab.lab.record import NATIVE, Run, Seconds, Timeline
from heaplab.native.peers import Peer
from heaplab.native.playing import CRASHED, FINISHED, HUNG, Space, play_latency, play_space, play_times
from heaplab.native.stage import Stage
from heaplab.outside import Judged, Outside, judge
from heaplab.traces import Trace


@dataclass(frozen=True)
class Timing:
    """What is timed: so many clock-free passes, and with `latency` one with a clock around each call."""

    rounds: int
    latency: bool


def real_runs(
    trace: Trace,
    peers: Sequence[Peer],
    timing: Timing,
    *,
    seed: int,
    max_seconds: float | None,
    max_mems: int | None = None,
    progress: Callable[[int, int], None] = lambda place, done: None,
) -> Iterator[Run]:
    """Play `trace` on each allocator; yield the records, in their order, when all are timed.

    Those that finish the pass that looks at memory are timed together, in rounds.  seed: for the record
    alone.  max_seconds: as `play_space`.  max_mems: as `heaplab.outside.judge`: an allocator from outside is
    judged first, and measured if it keeps the contract.  progress: called now and then with the place of an
    allocator and the number of its events that are done.
    """
    with closing(Stage(trace)) as stage:
        runs = []
        for place, peer in enumerate(peers):
            judged = None
            if isinstance(peer, Outside) and peer.hooked:
                judged = judge(stage, peer, max_mems=max_mems, max_seconds=max_seconds)
                if judged.end.outcome != FINISHED:
                    runs.append(_refuted(trace, peer, judged, seed))
                    continue
            space = play_space(stage, peer, max_seconds=max_seconds, progress=partial(progress, place))
            run = _record(trace, peer, space, seed)
            runs.append(run if judged is None else _with(run, judged))
        _add_times(stage, peers, runs, timing.rounds, max_seconds)
        if timing.latency:
            _add_latency(stage, peers, runs, max_seconds)
    yield from runs


def _add_times(
    stage: Stage, peers: Sequence[Peer], runs: list[Run], rounds: int, max_seconds: float | None
) -> None:
    places = [place for place, run in enumerate(runs) if run.outcome == FINISHED]
    if not (places and rounds and stage.events):
        return
    timed = play_times(stage, [peers[place] for place in places], rounds=rounds, max_seconds=max_seconds)
    for place, (end, times) in zip(places, timed, strict=True):
        run = replace(runs[place], outcome=end.outcome, reason=end.reason)
        runs[place] = replace(run, seconds=replace(run.seconds, times=times))


def _add_latency(stage: Stage, peers: Sequence[Peer], runs: list[Run], max_seconds: float | None) -> None:
    for place, run in enumerate(runs):
        if run.outcome == FINISHED:
            end, latency = play_latency(stage, peers[place], max_seconds=max_seconds)
            ended = replace(run, outcome=end.outcome, reason=end.reason)
            runs[place] = replace(ended, seconds=replace(run.seconds, latency=latency))


def _record(trace: Trace, peer: Peer, space: Space, seed: int) -> Run:
    header, end = trace.header, space.end
    if end.outcome in (CRASHED, HUNG):
        return Run.lost(
            trace=header.name,
            events=header.events,
            events_done=space.events_done,
            allocator=str(peer),
            language=NATIVE,
            seed=seed,
            outcome=end.outcome,
            reason=end.reason,
        )
    return Run(
        trace=header.name,
        allocator=str(peer),
        language=NATIVE,
        seed=seed,
        outcome=end.outcome,
        reason=end.reason,
        events=header.events,
        events_done=space.events_done,
        operations=space.operations,
        remote_frees=space.remote_frees,
        processes=header.processes,
        peak_live=space.peak_live,
        peak_heap=space.peak_heap,
        peak_resident=space.peak_resident,
        freed_heap=space.freed_heap,
        freed_resident=space.freed_resident,
        utilisation=utilisation(space.peak_live, space.peak_heap),
        fragmentation=None,
        faults=space.faults,
        brk_calls=space.brk_calls,
        mmap_calls=space.mmap_calls,
        mems=Mems(None),
        timeline=Timeline(space.event, space.live, space.heap, space.resident),
        heap_map=None,
        seconds=Seconds(None, space.seconds),
    )


def _refuted(trace: Trace, peer: Outside, judged: Judged, seed: int) -> Run:
    """The record of a run that ended while the allocator was judged."""
    lost = Run.lost(
        trace=trace.header.name,
        events=trace.header.events,
        events_done=judged.events_done,
        allocator=str(peer),
        language=NATIVE,
        seed=seed,
        outcome=judged.end.outcome,
        reason=judged.end.reason,
    )
    if not lost.measured:
        return lost
    figures = replace(
        lost,
        operations=judged.operations,
        peak_live=judged.peak_live,
        peak_heap=judged.peak_heap,
        peak_resident=None,
        faults=None,
        mmap_calls=None,
        utilisation=utilisation(judged.peak_live, judged.peak_heap),
    )
    return _with(figures, judged)


def _with(run: Run, judged: Judged) -> Run:
    """The record with what was seen of the allocator's references and of its heap."""
    mems = run.mems if judged.mems is None else Mems.of_each(judged.mems)
    start, size = judged.heap
    if not size:
        return replace(run, mems=mems)
    event = run.events_done
    heap_map = census.draw_payloads(judged.live[:, :2], start, size, event=event)
    return replace(run, mems=mems, heap_map=heap_map, brk_calls=judged.growths)
