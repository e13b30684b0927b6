"""A trace played on a real allocator, and what that took: memory, time, latency.

    space     the trace's processes and threads, memory looked at after every event, payloads verified
    times     clock-free replays of all allocators in turn, the time of the harness taken off
    latency   percentiles of single calls, from a replay with a clock around each
    play      all of these for one allocator

Each pass is a process of its own (csrc/native/player.h), so an allocator that crashes, hangs, or breaks its
contract costs that pass alone.
"""

import os
import signal
import statistics
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import numpy as np

from heaplab._core import lib
from heaplab.confining import Limits
from heaplab.native.peers import Peer, find_peer
from heaplab.native.stage import PAGE, Pass, Stage
from heaplab.traces import Event, Trace
from heaplab.units import counted

FINISHED, STOPPED, FAILED, CRASHED, HUNG = "finished", "stopped", "failed", "crashed", "hung"

#: rounds of the passes that take the time
ROUNDS = 5
#: an event that takes longer ends its pass
MAX_SECONDS: float = 30
#: a spread above this share of the median is too wide to rank by
WIDE_SPREAD = 0.1


@dataclass(frozen=True)
class End:
    """How a pass ended.

    outcome: "finished", "failed" (the allocator broke its contract, or gave no memory), "crashed" or "hung";
    "stopped" at a limit of references, where they are counted.
    reason: a sentence, "" when finished.
    """

    outcome: str
    reason: str


@dataclass(frozen=True)
class Space:
    """Memory over a trace; bytes, as heaplab.lab.metrics defines them.

    events_done: until the end.  operations: calls of the allocator.  heap: writable private memory.
    peak_resident: too low by half a percent at most, since it is not looked at after every event; looks: how
    often it was.  faults: minor faults of all processes, the player's own left out.
    freed_heap, freed_resident: when all that was left is freed; None when the trace was not finished.
    brk_calls, mmap_calls: None where they cannot be counted.
    event, live, heap, resident: the timeline, a point a sample.  seconds: the pass took.
    """

    end: End
    events_done: int
    operations: int
    remote_frees: int
    peak_live: int
    peak_heap: int
    peak_resident: int
    looks: int
    faults: int
    freed_heap: int | None
    freed_resident: int | None
    brk_calls: int | None
    mmap_calls: int | None
    event: tuple[int, ...]
    live: tuple[int, ...]
    heap: tuple[int, ...]
    resident: tuple[int, ...]
    seconds: float


@dataclass(frozen=True)
class Times:
    """Nanoseconds of one operation, over rounds: processor time of a clock-free replay less the harness's.

    ns_per_op: the median.  low, high: the quartiles.  rounds: each one's.  floor: what the harness and the
    payload's writing take, the median, which is taken off.
    """

    ns_per_op: float
    low: float
    high: float
    floor: float
    rounds: tuple[float, ...]

    @property
    def spread(self) -> float | None:
        """The distance of the quartiles; None of a single round."""
        return self.high - self.low if len(self.rounds) > 1 else None

    @property
    def wide(self) -> bool:
        """The quartiles are too far apart, or not known, for others to be ranked against the median."""
        return self.spread is None or self.spread > WIDE_SPREAD * abs(self.ns_per_op)

    @classmethod
    def of(cls, rounds: Sequence[float], floor: float) -> "Times":
        """Return the figures of these rounds.

        >>> Times.of([30, 10, 20], 5.0)
        Times(ns_per_op=20, low=15.0, high=25.0, floor=5.0, rounds=(30, 10, 20))
        """
        low, high = (float(value) for value in np.quantile(rounds, (0.25, 0.75)))
        return cls(statistics.median(rounds), low, high, floor, tuple(rounds))


@dataclass(frozen=True)
class Latency:
    """Percentiles of the nanoseconds that a call of the allocator takes, the clock's cost taken off."""

    p50: float
    p99: float
    p999: float
    p9999: float


@dataclass(frozen=True)
class Played:
    """What playing a trace on one allocator showed.

    times, latency: None when not asked for, or not finished.
    """

    allocator: str
    end: End
    space: Space
    times: Times | None
    latency: Latency | None

    def __repr__(self) -> str:
        return f"<Played on {self.allocator}: {self.end.outcome}, {counted(self.space.events_done, 'event')}>"


def play(
    trace: Trace,
    allocator: str | Peer,
    *,
    rounds: int = ROUNDS,
    latency: bool = False,
    max_seconds: float | None = MAX_SECONDS,
) -> Played:
    """Play `trace` on a real allocator: its memory, the time in `rounds` rounds, and latency if asked for.

    allocator: "glibc", "jemalloc", "mimalloc", "tcmalloc", the path of a library, "heaplab:SPEC".
    max_seconds: an event that takes longer ends the pass; None: never.
    Raises: UsageError for an allocator that cannot be found, or a damaged trace.

    >>> from heaplab.traces import Event, Op
    >>> trace = Trace.of([Event(Op.MALLOC, 0, 100_000), Event(Op.FREE, 0)])
    >>> played = play(trace, "glibc", rounds=1)
    >>> played.end.outcome, played.space.peak_live, played.space.peak_heap >= 100_000
    ('finished', 100000, True)
    """
    peer = find_peer(allocator) if isinstance(allocator, str) else allocator
    with closing(Stage(trace)) as stage:
        space = play_space(stage, peer, max_seconds=max_seconds)
        end, times, percentiles = space.end, None, None
        if end.outcome == FINISHED and rounds:
            [(end, times)] = play_times(stage, [peer], rounds=rounds, max_seconds=max_seconds)
        if end.outcome == FINISHED and latency:
            end, percentiles = play_latency(stage, peer, max_seconds=max_seconds)
    return Played(str(peer), end, space, times, percentiles)


def play_space(
    stage: Stage,
    peer: Peer,
    *,
    max_seconds: float | None = MAX_SECONDS,
    progress: Callable[[int], None] = lambda done: None,
) -> Space:
    """Play the pass that looks at memory.  progress: called now and then with the number of events done."""
    start = time.monotonic()
    played = stage.play(
        lib.HL_PLAY_SPACE,
        peer.library,
        aligned=peer.aligned,
        natural=peer.natural,
        max_seconds=max_seconds,
        progress=progress,
    )
    raw, finished = played.raw, played.why == lib.HL_PLAY_DONE
    timeline = [tuple(column.tolist()) for column in played.samples.T] or [(), (), (), ()]
    event, live, heap, resident = timeline
    return Space(
        end=end_of(stage, played, max_seconds),
        events_done=int(raw.row),
        operations=int(raw.operations),
        remote_frees=int(raw.remote_frees),
        peak_live=int(raw.peak_live),
        peak_heap=int(raw.peak_heap) * PAGE,
        peak_resident=int(raw.peak_resident) * PAGE,
        looks=int(raw.looks),
        faults=int(raw.faults),
        freed_heap=int(raw.freed_heap) * PAGE if finished else None,
        freed_resident=int(raw.freed_resident) * PAGE if finished else None,
        brk_calls=int(raw.brk_calls) if raw.counts_calls else None,
        mmap_calls=int(raw.mmap_calls) if raw.counts_calls else None,
        event=event,
        live=live,
        heap=tuple(pages * PAGE for pages in heap),
        resident=tuple(pages * PAGE for pages in resident),
        seconds=time.monotonic() - start,
    )


def play_times(
    stage: Stage,
    peers: Sequence[Peer],
    *,
    rounds: int = ROUNDS,
    max_seconds: float | None = MAX_SECONDS,
    progress: Callable[[int], None] = lambda passes: None,
    confined: Limits | None = None,
) -> list[tuple[End, Times | None]]:
    """Time all allocators, in rounds: each round plays the floor and every allocator once, in another order.

    Returns what became of each, in their order; one that fails in a round is left out of the next.
    progress: called with the number of passes done.  confined: what the allocators may have, as `Stage.play`.
    """
    ends: dict[int, End] = {}
    taken: list[list[float]] = [[] for _ in peers]
    floors = []
    done = 0
    for number in range(rounds):
        floor = stage.play(lib.HL_PLAY_FLOOR, None).raw
        operations = max(int(floor.operations), 1)
        floors.append(int(floor.ns) / operations)
        order = [(place + number) % len(peers) for place in range(len(peers))]
        for at in order:
            if at in ends:
                continue
            peer = peers[at]
            played = stage.play(
                lib.HL_PLAY_TIME,
                peer.library,
                aligned=peer.aligned,
                natural=peer.natural,
                max_seconds=max_seconds,
                confined=confined,
            )
            end = end_of(stage, played, max_seconds)
            if end.outcome != FINISHED:
                ends[at] = end
            taken[at].append(int(played.raw.ns) / operations - floors[-1])
            progress(done := done + 1)
    floor_ns = statistics.median(floors)
    finished = End(FINISHED, "")
    return [
        (ends[at], None) if at in ends else (finished, Times.of(taken[at], floor_ns))
        for at in range(len(peers))
    ]


def play_latency(
    stage: Stage, peer: Peer, *, max_seconds: float | None = MAX_SECONDS
) -> tuple[End, Latency | None]:
    """Play the pass with a clock around each call; None when it did not finish, or nothing was called."""
    played = stage.play(
        lib.HL_PLAY_LATENCY, peer.library, aligned=peer.aligned, natural=peer.natural, max_seconds=max_seconds
    )
    raw, end = played.raw, end_of(stage, played, max_seconds)
    if end.outcome != FINISHED or not len(played.ticks):
        return end, None
    ns_per_tick = int(raw.wall_ns) / int(raw.wall_ticks)
    ticks = np.quantile(played.ticks, (0.5, 0.99, 0.999, 0.9999), method="higher").astype(float)
    return end, Latency(*((max(value - int(raw.overhead), 0) * ns_per_tick) for value in ticks.tolist()))


# ---- how it ended, in words ----


def end_of(stage: Stage, played: Pass, max_seconds: float | None) -> End:
    """Return how a pass ended, in words."""
    raw = played.raw
    at = where(stage, int(raw.row))
    if played.refused:
        return End(FAILED, played.refused)
    if played.hung:
        return End(HUNG, f"{at}: no end after {max_seconds:g} s")
    if played.why is None:
        return End(CRASHED, f"{at}: {played.said}")
    if played.why == lib.HL_PLAY_DONE:
        return End(FINISHED, "")
    if played.why == lib.HL_PLAY_SIGNAL:
        name = _signal(int(raw.signal))
        address = (
            f" at {int(raw.bad_address):#x}" if int(raw.signal) in (signal.SIGSEGV, signal.SIGBUS) else ""
        )
        words = played.words
        return End(
            CRASHED, f"{at}: the allocator ended with {name}{address}" + (f": {words}" if words else "")
        )
    return End(FAILED, f"{at}: {_wrong(played.why, raw)}")


def _signal(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def _wrong(why: int, raw: Any) -> str:
    """What is wrong, in the words of the replay on the model."""
    at, offset = int(raw.bad_address), int(raw.bad_offset)
    if why == lib.HL_PLAY_HOST:
        return f"the player cannot go on: {os.strerror(int(raw.error))}"
    return {
        lib.HL_PLAY_NO_MEMORY: "the allocator gave no memory",
        lib.HL_PLAY_NO_ALIGNED: "the library exports no memalign, posix_memalign or aligned_alloc",
        lib.HL_PLAY_MISALIGNED: f"the block at {at:#x} is not a multiple of {offset}",
        lib.HL_PLAY_NOT_ZERO: f"calloc's block at {at:#x} is not zero at byte {offset}",
        lib.HL_PLAY_WRONG_BYTE: f"block {raw.bad_id} at {at:#x} has lost what was written to it, from byte "
        f"{offset} on",
        lib.HL_PLAY_NO_ACCESS: f"block {raw.bad_id} ({raw.bad_size} bytes at {at:#x}) is not memory "
        "that can be read and written",
    }[why]


def where(stage: Stage, row: int) -> str:
    """Return the event at hand, in words."""
    event = _event(stage.trace, row)
    return f"event {row} ({event})" if event is not None else "after the last event"


def _event(trace: Trace, row: int) -> Event | None:
    for block in trace:
        if row < len(block):
            return next(iter(block[row : row + 1]))
        row -= len(block)
    return None
