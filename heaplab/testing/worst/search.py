"""The search for the trace on which an allocator needs the most memory for what is live."""

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise

from heaplab.allocators import Spec
from heaplab.errors import HeaplabError, UsageError
from heaplab.lab.adversaries import Duel, Robson, adversary, bounds
from heaplab.lab.record import NATIVE
from heaplab.lab.run import RAM
from heaplab.native.peers import Peer
from heaplab.native.playing import FINISHED
from heaplab.testing.worst.methods import METHODS, SHARES, Quest, Spent
from heaplab.testing.worst.programs import Program
from heaplab.testing.worst.shrinking import smaller
from heaplab.traces import Trace
from heaplab.units import counted

#: programs that are tried
BUDGET = 600
#: of all attempts this part is left for making the best program smaller
_SHRINKING = 0.2
#: the smallest blocks
LEAST = 64
#: the end of a trace is found to such a part of its events
_CUT = 64
#: what is to be large
GOALS = ("heap", "resident")
#: heaps grow in steps: of two programs with one ratio that with more resident pages is fitter
_HINT = 1e-3
#: a program with more requests than this is not gone on with
_MOST_EVENTS = 1_000_000


@dataclass(frozen=True)
class Best:
    """The best that one method found: ratio of the goal to `live`, and the programs that it tried."""

    method: str
    ratio: float
    tried: int


@dataclass(frozen=True)
class Progress:
    """How far a search is: programs tried, of how many at most, and the best ratio so far."""

    tried: int
    budget: int
    ratio: float
    doing: str


@dataclass(frozen=True)
class Worst:
    """The worst trace that was found.

    ratio: peak of the goal (heap or resident) over live, the bytes that a program may have live at most.
    found: the ratio before it was made smaller.  program, trace: smaller, with their `ratio`.
    robson: the ratio of Robson's own program.  bound: what every allocator needs for that, over live.
    methods: what each found.  course: (programs tried, best ratio) at each better one.
    tried: programs in all.  interrupted: the search was ended by hand.
    """

    allocator: str
    language: str
    goal: str
    live: int
    largest: int
    least: int
    seed: int
    ratio: float
    found: float
    program: Program
    trace: Trace
    robson: float
    bound: float
    methods: tuple[Best, ...]
    course: tuple[tuple[int, float], ...]
    tried: int
    interrupted: bool

    def __str__(self) -> str:
        live = f"{self.live:,}"
        rows = [
            (f"best found, {counted(self.trace.header.events, 'event')}", self.ratio),
            *((f"  by {best.method}, {counted(best.tried, 'program')}", best.ratio) for best in self.methods),
            ("Robson's program", self.robson),
            ("Robson's bound: every allocator needs, for some program", self.bound),
            ("  first fit by address needs at most", self._upper(bounds.first_fit)),
            ("  half fit needs at most", self._upper(bounds.half_fit)),
        ]
        width = max(len(name) for name, _ in rows)
        return "\n".join(
            [
                f"{self.allocator} ({self.language}): peak {self.goal} over {live} live bytes, "
                f"blocks of {self.least} to {self.largest:,} bytes; seed {self.seed}",
                *(f"  {name.ljust(width)}  {ratio:6.2f}" for name, ratio in rows),
                "the program of the best:",
                *(f"  {line}" for line in str(self.program).splitlines()),
                *self._remarks(),
            ]
        )

    def _remarks(self) -> list[str]:
        """What must be known to read the figures."""
        said = []
        live = self.trace.header.peak_live
        if 2 * live < self.live:
            said.append(
                f"of the {self.live:,} bytes it has {live:,} live at most: what a heap takes at once is more "
                "than what a program can force; give more with --live"
            )
        if self.ratio < self.robson:
            said.append("Robson's program is worse than all that was found: try more programs")
        return said

    def _upper(self, bound: Callable[[float, float, float], float]) -> float:
        return bound(self.live, self.largest, self.least) / self.live


def worst(
    allocator: str | Spec | Peer,
    language: str = "c",
    *,
    budget: int | None = BUDGET,
    seconds: float | None = None,
    live: int = 1 << 18,
    largest: int = 4096,
    least: int = LEAST,
    goal: str = "heap",
    method: str = "all",
    tolerance: float = 0.02,
    seed: int = 1,
    ram: int | str = RAM,
    tell: Callable[[Progress], None] = lambda progress: None,
) -> Worst:
    """Search for the trace with the largest peak of `goal` over live, and make it smaller.

    allocator, language, ram: as of `lab.adversary`.  budget: programs that are tried; None: as many as there
    is time for.  seconds: no new program after so long; None: the budget alone.  At least one is needed.
    live: bytes of payload that a program has at most.  largest, least: its blocks, about.
    method: "hypothesis", "genetic", "climb", or "all": each for a part of the budget, climbing last, from the
    best of the others.  tolerance: the part of the ratio that the smaller trace may lose.
    Ctrl-C ends the search: the best so far is returned.  Without `seconds`, two runs are equal.
    Raises: UsageError for what cannot be searched, and without the packages of heaplab[search];
    HeaplabError when the allocator fails on a program.
    """
    _demand(budget, seconds, live, largest, least, goal, method, tolerance)
    deadline = None if seconds is None else time.monotonic() + seconds
    search = _Search(
        partial(
            adversary,
            allocator=allocator,
            language=language,
            seed=seed,
            verify=False,
            payload=goal == "resident" or language == NATIVE or isinstance(allocator, Peer),
            ram=ram,
            max_events=_MOST_EVENTS,
        ),
        goal,
        live,
        budget,
        deadline,
        tell,
    )
    robson = search.ratio_of(search.duel(Robson(live, largest, least)))
    chosen = tuple(METHODS) if method == "all" else (method,)
    interrupted = False
    try:
        parts = {each: SHARES[each] / sum(SHARES[other] for other in chosen) for each in chosen}
        for each, part in parts.items():
            share = None if budget is None else max(int(budget * (1 - _SHRINKING) * part), 1)
            time_for_it = None if seconds is None else seconds * (1 - _SHRINKING) * part
            search.run(each, share, time_for_it, Quest(live, least, largest, seed, search.best))
        search.shrink(tolerance)
    except KeyboardInterrupt:
        interrupted = True
    if search.best is None:
        raise UsageError("the search was ended before its first program")
    program = search.best
    duel = search.cut(program, tolerance)
    return Worst(
        duel.allocator,
        duel.language,
        goal,
        live,
        largest,
        least,
        seed,
        search.ratio_of(duel),
        search.top,
        program,
        _named(duel.trace, f"worst-of-{duel.allocator}", str(program).replace("\n", "; ")),
        robson,
        bounds.any_allocator(live, largest, least) / live,
        tuple(search.methods),
        tuple(search.course),
        search.tried,
        interrupted,
    )


def _named(trace: Trace, name: str, note: str) -> Trace:
    header = replace(trace.header, name=name, program="heaplab worst", note=note)
    return replace(trace, header=header, source=name)


class _Search:
    """What has been tried, and the best of it."""

    def __init__(
        self,
        play: Callable[..., Duel],
        goal: str,
        live: int,
        budget: int | None,
        deadline: float | None,
        tell: Callable[[Progress], None],
    ) -> None:
        self.best: Program | None = None
        self.top = 0.0
        self.tried = 0
        self.course: list[tuple[int, float]] = []
        self.methods: list[Best] = []
        self._play = play
        self._goal = goal
        self._live = live
        self._budget = budget
        self._deadline = deadline
        self._tell = tell
        self._fitness = 0.0
        self._known: dict[Program, tuple[float, float]] = {}

    def duel(self, program: Callable[..., object]) -> Duel:
        """Let a program drive the allocator.  Raises: HeaplabError when the allocator fails."""
        duel = self._play(program)
        if duel.outcome not in (FINISHED, "stopped"):
            raise HeaplabError(
                f"{duel.allocator} {duel.outcome} on a program of the search: {duel.reason}; "
                "`heaplab fuzz` finds the shortest steps on which it does"
            )
        return duel

    def ratio_of(self, duel: Duel) -> float:
        """The peak of the goal over what a program may have live."""
        return (duel.peak_heap if self._goal == "heap" else duel.peak_resident) / self._live

    def run(self, method: str, share: int | None, seconds: float | None, quest: Quest) -> None:
        """Let one method try programs, as many as its share, and as long as it may; note what it found."""
        first, top = self.tried, 0.0
        deadline = None if seconds is None else time.monotonic() + seconds

        def score(program: Program) -> float:
            nonlocal top
            if share is not None and self.tried - first >= share:
                raise Spent
            if deadline is not None and time.monotonic() > deadline:
                raise Spent
            ratio, fitness = self._try(program, method)
            top = max(top, ratio)
            return fitness

        try:
            METHODS[method](score, quest)
        finally:
            self.methods.append(Best(method, top, self.tried - first))

    def shrink(self, tolerance: float) -> None:
        """Make the best program smaller, as long as its ratio stays."""
        if self.best is None:
            return
        wanted = self.top * (1 - tolerance)

        def good(program: Program) -> bool:
            if self._budget is not None and self.tried >= self._budget:
                raise Spent
            if self._deadline is not None and time.monotonic() > self._deadline:
                raise Spent
            return self._try(program, "making it smaller", better=False)[0] >= wanted

        for program in smaller(self.best, good):
            self.best = program

    def cut(self, program: Program, tolerance: float) -> Duel:
        """The duel of a program, ended where the ratio is what is wanted: not more requests than that."""
        duel = self.duel(program)
        wanted = self.top * (1 - tolerance)
        low, high = 0, duel.trace.header.events
        if self.ratio_of(duel) < wanted:
            return duel
        while high - low > 1 + high // _CUT:
            middle = (low + high) // 2
            earlier = self._play(program, max_events=middle)
            if self.ratio_of(earlier) >= wanted:
                high, duel = middle, earlier
            else:
                low = middle
        return duel

    def _try(self, program: Program, doing: str, *, better: bool = True) -> tuple[float, float]:
        """The ratio of a program, and how fit it is; `better`: the best is remembered."""
        self.tried += 1
        found = self._known.get(program)
        if found is None:
            duel = self.duel(program)
            ratio = self.ratio_of(duel)
            found = self._known[program] = (ratio, ratio + _HINT * duel.peak_resident / self._live)
        if better and (self.best is None or found[1] > self._fitness):
            self.best, (ratio, self._fitness) = program, found
            if ratio > self.top:
                self.top = ratio
                self.course.append((self.tried, ratio))
        self._tell(Progress(self.tried, self._budget or 0, self.top, doing))
        return found


def _demand(
    budget: int | None,
    seconds: float | None,
    live: int,
    largest: int,
    least: int,
    goal: str,
    method: str,
    tolerance: float,
) -> None:
    """Raise UsageError for what cannot be searched."""
    if budget is None and seconds is None:
        raise UsageError("a search without an end: give a budget of programs, or seconds")
    if (budget is not None and budget < 1) or (seconds is not None and not seconds > 0):
        raise UsageError(f"budget={budget}, seconds={seconds}: there is nothing to try")
    if goal not in GOALS:
        raise UsageError(f"{goal!r} is none of {', '.join(GOALS)}")
    if method not in (*METHODS, "all"):
        raise UsageError(f"{method!r} is none of {', '.join(METHODS)}, all")
    if not 0 <= tolerance < 1:
        raise UsageError(f"tolerance={tolerance}: give a part of the ratio, from 0 to below 1")
    for name, size in (("largest", largest), ("least", least)):
        if size & (size - 1) or size < 32:
            raise UsageError(f"{name}={size}: is no power of two from 32 on: give one")
    for (name, size), (other, most) in pairwise((("least", least), ("largest", largest), ("live", live))):
        if size > most:
            raise UsageError(f"{name}={size} is more than {other}={most}: give less of it")
