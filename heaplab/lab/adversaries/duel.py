"""An adversary against an allocator: what it made the allocator do, as a trace, and what that cost."""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import Any

from heaplab.allocators import Spec
from heaplab.lab.adversaries.modelled import ModelOpponent
from heaplab.lab.adversaries.native import NativeOpponent
from heaplab.lab.adversaries.opponent import Opponent, Over
from heaplab.lab.real import Timing, real_runs
from heaplab.lab.record import NATIVE, Run
from heaplab.lab.run import RAM, run
from heaplab.native.peers import Peer, find_peer
from heaplab.native.playing import FAILED, FINISHED, MAX_SECONDS, STOPPED
from heaplab.outside import Outside, find_allocator, find_outside
from heaplab.traces import Provenance, Trace

#: requests after which a duel is stopped
MOST_EVENTS = 20_000_000
#: blocks that may be live at once in a duel with a real allocator
MOST_BLOCKS = 1 << 20


@dataclass(frozen=True)
class Duel:
    """What an adversary did to an allocator.

    adversary, allocator: as text.  outcome: as of a Run; "stopped": the adversary came to a limit.  reason: a
    sentence.  trace: every request.  peak_live, peak_heap, peak_resident: bytes, as heaplab.lab.metrics says;
    the last is too low by half a percent at most where the allocator is real.
    """

    adversary: str
    allocator: str
    language: str
    seed: int
    outcome: str
    reason: str
    trace: Trace = field(repr=False)
    peak_live: int
    peak_heap: int
    peak_resident: int
    rerun: Callable[[], Run] = field(repr=False, compare=False)

    @property
    def ratio(self) -> float:
        """Peak heap over peak live; 0 where nothing was live."""
        return self.peak_heap / self.peak_live if self.peak_live else 0.0

    @property
    def resident_ratio(self) -> float:
        """Peak resident over peak live; 0 where nothing was live."""
        return self.peak_resident / self.peak_live if self.peak_live else 0.0

    @cached_property
    def run(self) -> Run:
        """What the heap cost, as of any trace: the duel's trace replayed on the same allocator."""
        return self.rerun()

    def __str__(self) -> str:
        how = "" if self.outcome == FINISHED else f"; {self.outcome}: {self.reason}"
        return (
            f"{self.adversary} against {self.allocator} ({self.language}): heap {self.peak_heap:,} bytes, "
            f"{self.ratio:.2f} times the live {self.peak_live:,}{how}"
        )


def adversary(
    function: Callable[[Opponent], Any],
    allocator: str | Spec | Peer,
    language: str = "c",
    *,
    seed: int = 1,
    verify: bool = True,
    payload: bool = True,
    ram: int | str = RAM,
    max_mems: int | None = None,
    max_events: int = MOST_EVENTS,
    max_blocks: int = MOST_BLOCKS,
    max_seconds: float | None = MAX_SECONDS,
) -> Duel:
    """Let `function` drive an allocator by the addresses that it sees, and return what came of it.

    function: called once with an `Opponent`.  It allocates and frees; when the allocator fails, or a limit
    is reached, the duel ends inside its request, and the function is not gone on with.
    allocator: a spec or its text, in `language`; "native": a real allocator as `heaplab.native.find_peer`
    takes it.  A C file that defines malloc, a course's mm.c, and any Peer are played natively, whatever the
    language.
    seed, verify, payload, ram, max_mems: as of `lab.run`; of the model alone.  max_events: requests.
    max_blocks: that are live at once; max_seconds: that one batch of requests may take; of real ones alone.
    Raises: UsageError for an unknown allocator, or an adversary that frees what is not live.  What `function`
    raises passes through.

    >>> def sieve(opponent):
    ...     blocks = opponent.malloc_many([40] * 1000)
    ...     opponent.free_many(blocks[blocks.address % 4096 > 64])
    ...     opponent.malloc_many([4000] * 9)
    >>> duel = adversary(sieve, "freelist:fit=first:order=address")
    >>> duel.peak_live, duel.outcome
    (40000, 'finished')
    >>> duel.run.peak_heap == duel.peak_heap > 2 * duel.peak_live
    True
    """
    found = _found(allocator, language)
    name = _name(function)
    if isinstance(found, Peer):
        with NativeOpponent(found, max_events, max_blocks, max_seconds) as real:
            _carry_out(function, real)
            ending = real.finish()
        trace = _trace(real, ending.events, name, str(found))

        def again() -> Run:
            return next(real_runs(trace, [found], Timing(0, False), seed=seed, max_seconds=max_seconds))

        end, peaks = ending.end, (ending.peak_live, ending.peak_heap, ending.peak_resident)
        outcome, reason = _limited(real, end.outcome, end.reason, max_events)
        return Duel(name, str(found), NATIVE, seed, outcome, reason, trace, *peaks, again)
    opponent = ModelOpponent(
        found,
        seed=seed,
        verify=verify,
        payload=payload,
        ram=ram,
        max_mems=max_mems,
        most_events=max_events,
    )
    replay = opponent.replay
    try:
        _carry_out(function, opponent)
        if replay.end is None and verify and payload:
            replay.verify()
    finally:
        replay.close()
    raw, ended = replay.raw, replay.end
    trace = _trace(opponent, replay.done + (ended is not None), name, str(found))
    outcome = FINISHED if ended is None else FAILED if ended.failed else STOPPED
    outcome, reason = _limited(opponent, outcome, "" if ended is None else ended.reason, max_events)
    return Duel(
        name,
        str(found),
        found.language,
        seed,
        outcome,
        reason,
        trace,
        int(raw.peak_live.most),
        int(raw.peak_heap.most),
        int(raw.peak_resident.most),
        partial(run, trace, found, seed=seed, verify=verify, payload=payload, ram=ram, max_mems=max_mems),
    )


def _found(allocator: str | Spec | Peer, language: str) -> Spec | Peer:
    if not isinstance(allocator, str):
        return allocator
    if language == NATIVE:
        return find_outside(allocator) or find_peer(allocator)
    found: Spec | Outside = find_allocator(allocator, language)
    return found


def _name(function: Callable[[Opponent], Any]) -> str:
    named = getattr(function, "name", None) or getattr(function, "__name__", None)
    return str(named or type(function).__name__)


def _carry_out(function: Callable[[Opponent], Any], opponent: Opponent) -> None:
    with suppress(Over):
        function(opponent)


def _limited(opponent: Opponent, outcome: str, reason: str, max_events: int) -> tuple[str, str]:
    if outcome == FINISHED and opponent.cut:
        return STOPPED, f"the adversary asked for more than {max_events:,} requests"
    return outcome, reason


def _trace(opponent: Opponent, events: int, name: str, allocator: str) -> Trace:
    blocks = opponent.trace_blocks(min(events, opponent.events))
    provenance = Provenance(
        f"{name}-against-{allocator}", program="heaplab.lab.adversary", note=f"{name} against {allocator}"
    )
    return Trace.lazy(lambda: iter(blocks), provenance)
