"""Does a design keep the contract of malloc?  All that is tried, as plain data: `heaplab check` prints it.

A check has parts: the clauses of the contract, every refusal of memory in turn, a fuzz, and short traces.
Everything of the design runs in child processes: what crashes, or has no end, has failed.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any, Final

from heaplab.allocators import Allocator, Spec, Trait
from heaplab.testing import contract
from heaplab.testing.contract import Clause, HeapFactory
from heaplab.testing.contract.refusals import CLAUSES as REFUSALS
from heaplab.testing.failure import NO_END, Failure, place_of
from heaplab.testing.fuzz import Fuzzed, fuzz
from heaplab.testing.isolation import Child, Lost
from heaplab.testing.shrinking import shrink
from heaplab.testing.steps import spec_of
from heaplab.testing.trials import Replayed
from heaplab.traces import Trace, cut, open_trace, synthetic

#: clauses without an end, after which no other is tried
_MOST_HUNG: Final = 2
#: memory references of a short trace's replay, at most: sound designs make some millions
_MOST_MEMS: Final = 300_000_000
#: the beginnings of recorded traces: one small program, one with threads, one that forks; so many events each
_RECORDED: Final = ("lua", "dot", "bash")
_EVENTS: Final = 5000


class Outcome(StrEnum):
    """What came of a part."""

    PASSED = "passed"
    FAILED = "failed"
    LEFT_OUT = "left out"


@dataclass(frozen=True)
class Broken:
    """One thing that went wrong.

    what: a clause, "fuzz", or a trace.  sentence: what broke.  steps: the shortest found that show it, as
    lines of a trace, if steps show it; of: how many they were at first.  place: the line of the allocator's
    source where it went wrong, where that is known.
    """

    what: str
    sentence: str
    steps: tuple[str, ...] = ()
    of: int = 0
    place: str = ""

    @classmethod
    def by(cls, what: str, shortest: Failure, first: Failure) -> "Broken":
        """Return what a failure found by `what` came to."""
        steps = tuple(map(str, shortest.steps))
        return cls(what, shortest.sentence, steps, len(first.steps), shortest.place)


@dataclass(frozen=True)
class Part:
    """A part of a check.

    told: in some words how much was tried.  broken: what went wrong, the first that was found first.
    left_out: what was not tried, and why.  seconds: that it took.
    """

    name: str
    outcome: Outcome
    told: str
    broken: tuple[Broken, ...] = ()
    left_out: dict[str, str] = field(default_factory=dict)
    seconds: float = 0.0


@dataclass(frozen=True)
class Checked:
    """What a check found.  allocator: its spec.  language: what it is written in."""

    allocator: str
    language: str
    seed: int
    parts: tuple[Part, ...]

    def __repr__(self) -> str:
        parts = ", ".join(f"{part.name} {part.outcome}" for part in self.parts)
        return f"<Checked {self.allocator} in {self.language}: {parts}>"

    @property
    def passed(self) -> bool:
        """Whether no part failed."""
        return all(part.outcome is not Outcome.FAILED for part in self.parts)

    def data(self) -> dict[str, Any]:
        """Return all of it as what JSON can hold."""
        return {**asdict(self), "passed": self.passed}


def check(
    design: str | Spec | type[Allocator],
    language: str = "python",
    *,
    seconds: float = 10.0,
    steps: int | None = None,
    seed: int = 1,
    step_seconds: float = 5.0,
    clause_seconds: float = 10.0,
    shrink_seconds: float = 20.0,
    tell: Callable[[str], None] = lambda sentence: None,
) -> Checked:
    """Hold a design against all that there is to try, and return what was found.

    seconds, steps: of the fuzz, as there; with `steps` alone two checks are equal but for `Part.seconds`.
    step_seconds, clause_seconds: that one step, and one clause, may take on the clock on the wall.
    shrink_seconds: that making the steps of one failure few may take.  tell: called with what is tried next.

    >>> checked = check("buddy", "c", seconds=60, steps=200)
    >>> [(part.name, str(part.outcome)) for part in checked.parts]
    [('contract', 'passed'), ('refusals', 'passed'), ('fuzz', 'passed'), ('traces', 'passed')]
    """
    spec = spec_of(design, language)
    parts: list[Part] = []
    trials: list[tuple[str, Callable[[], Part]]] = [
        ("the clauses of the contract", lambda: _contract(spec, clause_seconds)),
        ("every refusal of memory in turn", lambda: _refusals(spec, clause_seconds)),
        ("made-up scripts", lambda: _fuzz(spec, seconds, steps, seed, step_seconds, shrink_seconds)),
        ("short traces", lambda: _traces(spec, seed, step_seconds, shrink_seconds, parts[-1])),
    ]
    for what, trial in trials:
        tell(what)
        parts.append(timed(trial))
    return Checked(str(spec), spec.language, seed, tuple(parts))


def timed(trial: Callable[[], Part]) -> Part:
    """Return the part with the seconds that it took."""
    began = time.monotonic()
    part = trial()
    return Part(part.name, part.outcome, part.told, part.broken, part.left_out, time.monotonic() - began)


def outcome(broken: Sequence[Broken]) -> Outcome:
    """FAILED if something is broken."""
    return Outcome.FAILED if broken else Outcome.PASSED


# ---- clauses ----


def _contract(spec: Spec, seconds: float) -> Part:
    clauses = [clause for clause in contract.applying(spec) if clause not in REFUSALS]
    return _clauses("contract", spec, clauses, contract.left_out(spec), seconds)


def _refusals(spec: Spec, seconds: float) -> Part:
    return _clauses("refusals", spec, REFUSALS, {}, seconds)


def _clauses(
    name: str, spec: Spec, clauses: Sequence[Clause], left_out: dict[str, str], seconds: float
) -> Part:
    factory = HeapFactory(spec)
    broken: list[Broken] = []
    left_out, hung, tried = dict(left_out), 0, 0

    def held(number: int, _: object) -> tuple[str, str] | None:
        try:
            clauses[number](factory)
        except Exception as error:
            told = str(error)
            if not told or not isinstance(error, AssertionError):
                told = f"{type(error).__name__}: {told}".removesuffix(": ")
            return told, place_of(error)
        return None

    with Child(held, seconds) as child:
        for number, clause in enumerate(clauses):
            if hung == _MOST_HUNG:
                left_out[contract.name(clause)] = f"{hung} clauses before it had no end"
                continue
            tried += 1
            answer = child.ask(number)
            if isinstance(answer, Lost):
                hung += answer.hung
                answer = answer.why, ""
            if answer is not None:
                says = (clause.__doc__ or "").strip().splitlines()[0]
                sentence, place = answer
                told = sentence if sentence.startswith(says) else f"{says}  Broken: {sentence}"
                broken.append(Broken(contract.name(clause), told, place=place))
    hold = tried - len(broken)
    told = f"{hold} clause{'s' * (hold != 1)} hold{'s' * (hold == 1)}"
    if broken:
        told += f", {len(broken)} of {tried} broken"
    return Part(name, outcome(broken), told, tuple(broken), left_out)


# ---- steps ----


def _fuzz(
    spec: Spec, seconds: float, steps: int | None, seed: int, step_seconds: float, shrink_seconds: float
) -> Part:
    found = fuzz(
        spec,
        seconds=seconds,
        steps=steps,
        seed=seed,
        step_seconds=step_seconds,
        shrink_seconds=shrink_seconds,
    )
    return fuzz_part(found)


def fuzz_part(found: Fuzzed) -> Part:
    """Return what a fuzz found as a part."""
    told = f"{found.steps:,} steps in {found.scripts:,} scripts, {len(found.ways):,} ways"
    broken = []
    if found.first is not None:
        broken.append(Broken.by("fuzz", found.minimal.failure if found.minimal else found.first, found.first))
    return Part("fuzz", outcome(broken), told, tuple(broken))


def short_traces(whole: bool) -> Iterator[tuple[str, Trace]]:
    """Yield short traces with their names: made-up ones, the beginnings of recorded ones, all of lua's.

    whole: whether the last one is among them: a design in Python takes 20 s for it.

    >>> [name for name, trace in short_traces(whole=True)]
    ['small sizes', 'large sizes', 'reallocs', 'lua (begin)', 'dot (begin)', 'bash (begin)', 'lua']
    """
    yield "small sizes", synthetic(_EVENTS, seed=1, slots=300, realloc=0, aligned=0)
    yield "large sizes", synthetic(_EVENTS // 2, seed=2, slots=40, median=20_000, spread=2.0)
    yield "reallocs", synthetic(_EVENTS, seed=3, slots=100, median=300, spread=2.0, realloc=0.4)
    for name in _RECORDED:
        yield f"{name} (begin)", cut(open_trace(name), events=(0, _EVENTS))
    if whole:
        yield _RECORDED[0], open_trace(_RECORDED[0])


def _traces(spec: Spec, seed: int, step_seconds: float, shrink_seconds: float, fuzzed: Part) -> Part:
    if any(NO_END in each.sentence for each in fuzzed.broken):
        return Part("traces", Outcome.LEFT_OUT, "the fuzz has found a step that has no end")
    broken: list[Broken] = []
    left_out: dict[str, str] = {}
    names, events = [], 0
    any_order = Trait.ANY_ORDER in spec.design.TRAITS
    for name, trace in short_traces(whole=spec.language == "c"):
        if not any_order:
            left_out[name] = "it is for designs with ANY_ORDER"
            continue
        trial = Replayed(spec, most=_MOST_MEMS, seconds=step_seconds, seed=seed)
        shrunk = shrink(trace, trial, seconds=0 if broken else shrink_seconds)
        names.append(name)
        events += trace.header.events
        if shrunk is None:
            continue
        if broken:  # its steps were not made few
            broken.append(Broken(f"trace {name}", shrunk.first.sentence, place=shrunk.first.place))
        else:
            broken.append(Broken.by(f"trace {name}", shrunk.shortest, shrunk.first))
        if shrunk.first.kind == NO_END:
            break  # others would have none either
    if left_out:
        return Part("traces", Outcome.LEFT_OUT, "programs free in any order", left_out=left_out)
    return Part("traces", outcome(broken), f"{events:,} events of {', '.join(names)}", tuple(broken))
