"""Scripts of steps on a heap until one fails, or the time is over; what fails is made minimal.

Half of the scripts begin as one did that brought something new.  What is new is told by what costs nothing in
either language: how many memory references, roughly, a step of each kind made, a fingerprint of the way that
it took through the design; and by the shape of the heap, how many blocks of each state it has, roughly.

All of it happens in child processes: a script that crashes its process, or loops in C, has failed at the step
that it was at.
"""

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from random import Random
from typing import Final

from heaplab.allocators import Allocator, Spec
from heaplab.allocators.base import State, Trait
from heaplab.testing.authors import Author, usual_kinds
from heaplab.testing.checked_heap import CheckedHeap
from heaplab.testing.failure import NO_END, Failure, failure_of
from heaplab.testing.isolation import MOST_STEPS, Apart, Child, Journal, Lost
from heaplab.testing.limits import FEW_SECONDS, MOST_MEMS
from heaplab.testing.minimise import Minimal, minimise
from heaplab.testing.steps import Step, spec_of
from heaplab.testing.trials import played
from heaplab.units import counted

RAM: Final = "256 MiB"
#: steps of a script, besides its beginning
LENGTHS: Final = (15, 40, 120, 400)
#: scripts that brought something new and are kept
_KEPT: Final = 400

Feature = tuple[object, ...]


@dataclass
class Fuzzed:
    """What came of it.

    steps, scripts: that were played.  ways: different ways through the design, as far as they were told
    apart.  first: the failure as it was found, if one was; minimal: made minimal.
    """

    scripts: int = 0
    steps: int = 0
    ways: set[Feature] = field(default_factory=set)
    first: Failure | None = None
    minimal: Minimal | None = None

    def __repr__(self) -> str:
        found = f"a failure in {counted(len(self.first.steps), 'step')}" if self.first else "no failure"
        return f"<Fuzzed: {counted(self.scripts, 'script')}, {counted(self.steps, 'step')}, {found}>"

    def goes_on(self, deadline: float, steps: int | None) -> bool:
        """Whether another script is to be played: until a failure, the deadline, or so many steps."""
        return self.first is None and time.monotonic() < deadline and (steps is None or self.steps < steps)


def fuzz(
    design: str | Spec | type[Allocator],
    language: str = "python",
    *,
    seconds: float = 10.0,
    steps: int | None = None,
    kinds: Iterable[type[Step]] | None = None,
    seed: int = 1,
    step_seconds: float = 5.0,
    shrink_seconds: float = 60.0,
    tell: Callable[[Fuzzed], None] = lambda fuzzed: None,
) -> Fuzzed:
    """Play scripts on new heaps of a design until one fails.

    seconds: after which no new script begins.  steps: after which none begins; with it alone two runs are
    equal.  kinds: of steps; those that make sense for the design without it.  step_seconds: that one step may
    take on the clock on the wall.  shrink_seconds: that making the failure minimal may take in all.
    tell: called after every script.

    >>> fuzz("freelist", steps=500, seconds=60).first is None
    True
    """
    spec = spec_of(design, language)
    search = _Search(spec, kinds, Random(seed), step_seconds)
    fuzzed = Fuzzed()
    deadline = time.monotonic() + seconds
    with Child(search.one_script, step_seconds) as child:
        while fuzzed.goes_on(deadline, steps):
            _add(fuzzed, child.ask(None), child)
            tell(fuzzed)
    if fuzzed.first is not None:
        fuzzed.minimal = _minimal(spec, fuzzed.first, step_seconds, shrink_seconds)
    return fuzzed


class Kept:
    """Scripts that brought something new: half of those to come begin as one of them did."""

    def __init__(self) -> None:
        self._scripts: list[list[Step]] = []

    def beginning(self, chance: Random) -> Sequence[Step]:
        """Return the steps that the next script begins with."""
        if not self._scripts or chance.random() >= 0.5:
            return ()
        parent = chance.choice(self._scripts)
        return parent[: chance.randrange(len(parent)) + 1]

    def keep(self, script: list[Step], chance: Random) -> None:
        """Keep a script; when there are many, in another's place."""
        if len(self._scripts) < _KEPT:
            self._scripts.append(script)
        else:
            self._scripts[chance.randrange(_KEPT)] = script


@dataclass(frozen=True)
class _Script:
    """What came of one script.  failing: the steps that fail, if they do."""

    steps: int
    ways: frozenset[Feature]
    failing: Failure | None


def _add(fuzzed: Fuzzed, script: _Script | Lost, child: Child) -> None:
    """Count a script; one that ended its process counts as far as it came."""
    fuzzed.scripts += 1
    if isinstance(script, Lost):
        fuzzed.steps += script.at
        fuzzed.first = script.failure(child.journal.steps())
    else:
        fuzzed.steps += script.steps
        fuzzed.ways |= script.ways
        fuzzed.first = script.failing


class _Search:
    """Writes scripts and plays them, one when asked; lives in a process of its own."""

    def __init__(
        self, spec: Spec, kinds: Iterable[type[Step]] | None, chance: Random, step_seconds: float
    ) -> None:
        self._spec = spec
        self._kinds = tuple(kinds) if kinds is not None else usual_kinds(spec.design.TRAITS)
        self._chance = chance
        self._step_seconds = step_seconds
        self._ways: set[Feature] = set()
        self._new: set[Feature] = set()
        self._kept = Kept()

    def one_script(self, _: object, journal: Journal) -> _Script:
        """Play one script, and keep it if it brought something new."""
        chance = self._chance
        beginning = self._kept.beginning(chance)
        author = Author.drawn(chance, self._kinds)
        length = min(MOST_STEPS, len(beginning) + chance.choice(LENGTHS))
        script: list[Step] = []
        self._new = set()
        try:
            heap = fresh_heap(self._spec, self._step_seconds)
            heap.note = journal.note
            unverified = 0
            while len(script) < length:
                step = beginning[len(script)] if len(script) < len(beginning) else author.step(heap)
                script.append(step)
                journal.append(step)
                before = heap.process(step.process).context.mems
                heap.carry_out(step)
                self._note_way(step, heap, before)
                unverified += 1
                if unverified > 4 + len(heap.live[step.process]) // 4:  # a look costs as much as there is
                    heap.verify(step.process)
                    self._note_shape(heap.heaps[step.process])
                    unverified = 0
            for number in heap.heaps:
                heap.verify(number)
        except Exception as error:
            failure = self._precisely(failure_of(error, script), journal)
            return _Script(len(script), frozenset(self._new), failure)
        if self._new:
            self._kept.keep(script, chance)
        return _Script(len(script), frozenset(self._new), None)

    def _precisely(self, failure: Failure, journal: Journal) -> Failure:
        """The failure of the same steps when all is verified after each: it may be an earlier one."""
        fresh = partial(fresh_heap, self._spec, min(self._step_seconds, FEW_SECONDS))
        return played(fresh)(failure.steps, journal.note) or failure

    # ---- what is new ----

    def _note_way(self, step: Step, heap: CheckedHeap, before: int) -> None:
        process = heap.process(step.process)
        mems = process.context.mems - before
        self._found(("way", type(step).__name__, roughly(mems)))

    def _note_shape(self, heap: Allocator) -> None:
        counts = dict.fromkeys(State, 0)
        for span in heap.walk():
            counts[span.state] += 1
        self._found(("shape", *(count.bit_length() for count in counts.values())))

    def _found(self, feature: Feature) -> None:
        if feature not in self._ways:
            self._ways.add(feature)
            self._new.add(feature)


def _minimal(spec: Spec, failure: Failure, step_seconds: float, seconds: float) -> Minimal:
    """Make a failure minimal; a step that has no end is waited for in full at last."""
    soon = min(step_seconds, FEW_SECONDS)
    with Apart(played(partial(fresh_heap, spec, soon)), soon) as trial:
        newest_first = Trait.ANY_ORDER not in spec.design.TRAITS
        minimal = minimise(failure, trial, newest_first=newest_first, seconds=seconds)
    if failure.kind != NO_END:
        return minimal
    with Apart(played(partial(fresh_heap, spec, step_seconds)), step_seconds) as trial:
        return replace(minimal, failure=trial(minimal.failure.steps) or failure)


def fresh_heap(spec: Spec, seconds: float) -> CheckedHeap:
    """Return a new heap for a script: on a machine that has memory for all that a script asks for."""
    return CheckedHeap(spec, spec.language, ram=RAM, seconds=seconds, mems=MOST_MEMS)


def roughly(n: int) -> int:
    """A number to its five leading binary digits: those below 32 exactly."""
    shift = max(0, n.bit_length() - 5)
    return n >> shift << shift
