"""Fuzz, shrink and check for allocators from outside: every trial is played in a process of the player's.

Nothing can be seen of their heaps but what `heaplab.outside.judge` sees: payloads, references, faults.
"""

import re
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from random import Random
from typing import Final

from heaplab._core import lib
from heaplab.allocators import Trait
from heaplab.errors import UsageError
from heaplab.native.playing import FINISHED, HUNG, STOPPED
from heaplab.outside import Judged, Kind, Outside, judge
from heaplab.testing.authors import Author
from heaplab.testing.checking import Broken, Checked, Outcome, Part, fuzz_part, outcome, short_traces, timed
from heaplab.testing.failure import NO_END, Failure, without_numbers
from heaplab.testing.fuzz import LENGTHS, Fuzzed, Kept, roughly
from heaplab.testing.minimise import minimise
from heaplab.testing.shrinking import Shrunk
from heaplab.testing.steps import Aligned, Calloc, Free, Malloc, Realloc, Step, requested, step_of
from heaplab.testing.trials import Note, silent
from heaplab.traces import NULL_ID, Trace

#: memory references of a script, and of a few steps while a failure is made minimal
MOST_MEMS: Final = 30_000_000
_FEW_MEMS: Final = 1_000_000
#: growths of the heap that are refused in turn, at most
_MOST_REFUSED: Final = 25
_PLACE: Final = re.compile(r"[\w.-]+\.[ch]:\d+")


def kinds_for(outside: Outside) -> tuple[type[Step], ...]:
    """Return the kinds of steps that an allocator from outside has functions for."""
    has = {"realloc", "calloc"} if outside.kind is Kind.LIBRARY else outside.has
    kinds: list[type[Step]] = [Malloc, Free]
    kinds += [Realloc] if "realloc" in has else []
    kinds += [Calloc] if "calloc" in has else []
    kinds += [Aligned] if outside.aligned != lib.HL_BY_NONE else []
    return tuple(kinds)


class Judging:
    """The trial that plays steps on an allocator from outside.

    most: of the memory references.  seconds: that one step may take.
    """

    def __init__(self, outside: Outside, *, most: int | None = MOST_MEMS, seconds: float = 5.0) -> None:
        self.outside = outside
        self.most = most
        self.seconds = seconds

    def __call__(self, steps: Sequence[Step], note: Note = silent) -> Failure | None:
        return self.failure(self.judged(steps), steps)

    def judged(self, steps: Sequence[Step], *, refuse: int = 0, checkheap: bool = False) -> Judged:
        """Play the steps."""
        trace = Trace.of((step.event() for step in steps), "the steps")
        return judge(
            trace,
            self.outside,
            max_mems=self.most,
            max_seconds=self.seconds,
            refuse=refuse,
            checkheap=checkheap,
        )

    def failure(self, judged: Judged, steps: Sequence[Step]) -> Failure | None:
        """Return what was seen as a failure of the steps; None when all went well."""
        if judged.end.outcome == FINISHED:
            return None
        done = min(judged.events_done + 1, len(steps))
        last = str(steps[done - 1]) if done else "the start"
        sentence = judged.end.reason.removeprefix(f"event {done - 1} ({last}): ")
        kind = NO_END if judged.end.outcome in (HUNG, STOPPED) else without_numbers(sentence)
        place = _PLACE.search(sentence)
        return Failure(tuple(steps[:done]), kind, f"{last}: {sentence}", place[0] if place else "")

    def impatient(self, failure: Failure) -> "Judging":
        """Return the trial to make a failure minimal with."""
        if failure.kind != NO_END:
            return self
        seconds = self.seconds if "mems" in failure.sentence else min(self.seconds, 0.5)
        return Judging(self.outside, most=_FEW_MEMS, seconds=seconds)


def shrink_failure(first: Failure, trial: Judging, seconds: float, tell: Callable[[Failure], None]) -> Shrunk:
    """Return the shortest steps found that fail as `first` does."""
    impatient = trial.impatient(first)
    minimal = minimise(first, impatient, seconds=seconds, tell=tell)
    shortest = minimal.failure if impatient is trial else trial(minimal.failure.steps) or first
    return Shrunk(first, minimal, shortest)


def shrink(
    trace: Trace,
    trial: Judging,
    *,
    seconds: float = 60.0,
    tell: Callable[[Failure], None] = lambda failure: None,
) -> Shrunk | None:
    """Return the shortest steps found that fail as the trace does; None when the trace does not fail."""
    steps = [step_of(event) for event in trace.events()]
    first = trial(steps)
    return None if first is None else shrink_failure(first, trial, seconds, tell)


# ---- fuzz ----


class _Paper:
    """What would live, were the steps carried out: an author asks for it."""

    traits = Trait.ANY_ORDER

    def __init__(self) -> None:
        self.live: dict[int, dict[int, Malloc]] = {0: {}}

    def do(self, step: Step) -> None:
        """Note what the step does."""
        live = self.live[0]
        match step:
            case Free(slot):
                live.pop(slot, None)
            case Malloc(slot) | Calloc(slot) | Aligned(slot) | Realloc(slot):
                live.pop(slot, None)
                live[slot] = Malloc(slot, requested(step))


def _script(chance: Random, kinds: tuple[type[Step], ...], beginning: Sequence[Step]) -> list[Step]:
    paper, author = _Paper(), Author.drawn(chance, kinds)
    author.refused = False
    length = len(beginning) + chance.choice(LENGTHS)
    script: list[Step] = []
    while len(script) < length:
        step = beginning[len(script)] if len(script) < len(beginning) else author.step(paper)
        script.append(step)
        paper.do(step)
    return script


def fuzz(
    outside: Outside,
    *,
    seconds: float = 10.0,
    steps: int | None = None,
    kinds: Iterable[type[Step]] | None = None,
    seed: int = 1,
    step_seconds: float = 5.0,
    shrink_seconds: float = 60.0,
    tell: Callable[[Fuzzed], None] = lambda fuzzed: None,
) -> Fuzzed:
    """Play scripts on an allocator from outside until one fails; arguments as `heaplab.testing.fuzz.fuzz`.

    kinds: those that it has functions for without it.
    Raises: UsageError for kinds that it has no functions for.
    """
    has = kinds_for(outside)
    chosen = tuple(kinds) if kinds is not None else has
    if unknown := [kind.__name__.lower() for kind in chosen if kind not in has]:
        raise UsageError(f"{outside.name} has no {unknown[0]}: leave it out of the kinds")
    trial, chance, fuzzed = Judging(outside, seconds=step_seconds), Random(seed), Fuzzed()
    kept = Kept()
    deadline = time.monotonic() + seconds
    while fuzzed.goes_on(deadline, steps):
        script = _script(chance, chosen, kept.beginning(chance))
        judged = trial.judged(script)
        fuzzed.scripts += 1
        fuzzed.steps += min(judged.events_done + 1, len(script))
        fuzzed.first = trial.failure(judged, script)
        known = len(fuzzed.ways)
        for step, mems in zip(script, judged.mems.tolist() if judged.mems is not None else (), strict=False):
            fuzzed.ways.add(("way", type(step).__name__, roughly(mems)))
        if len(fuzzed.ways) > known:
            kept.keep(script, chance)
        tell(fuzzed)
    if fuzzed.first is not None:
        shrunk = shrink_failure(fuzzed.first, trial, shrink_seconds, lambda failure: None)
        fuzzed.minimal = shrunk.minimal
    return fuzzed


# ---- check ----

_SIZES: Final = (*range(1, 70), 100, 500, 1000, 4000, 5000, 100_000)


def _clauses(outside: Outside) -> Iterator[tuple[str, str, list[Step]]]:
    """The clauses: a name, what it says, and the steps that show it."""
    kinds = kinds_for(outside)
    mallocs: list[Step] = [Malloc(slot, size) for slot, size in enumerate(_SIZES)]
    frees: list[Step] = [Free(slot) for slot in range(len(_SIZES))]
    yield (
        "blocks_are_aligned_apart_and_large_enough",
        "Every block is aligned, within the heap, and overlaps no other.",
        [*mallocs, *frees[::2], *(Malloc(slot, _SIZES[slot]) for slot in range(0, len(_SIZES), 2))],
    )
    yield (
        "size_0_is_no_harm",
        "malloc(0) gives 0 or a block of its own.",
        [Malloc(0, 0), Malloc(1, 24), Malloc(2, 0), Free(0), Free(2), Free(1)],
    )
    yield "null_is_no_block", "free(0) does nothing.", [Free(NULL_ID), Malloc(0, 24), Free(NULL_ID), Free(0)]
    if Calloc in kinds:
        steps: list[Step] = []
        for size in (24, 1000, 40_000):
            steps += [Malloc(0, size), Malloc(1, 1), Free(0), Calloc(0, size // 8, 8), Free(0), Free(1)]
        yield "calloc_gives_zeros", "Also where other content was before.", steps
    if Realloc in kinds:
        sizes = (10, 500, 30, 3000, 20_000, 100, 60_000, 40_000, 20, 5000)
        steps = [Malloc(0, 1)]
        for slot, size in enumerate(sizes, 1):
            steps += [Malloc(slot, 10 * slot), Realloc(0, size)]
        yield "realloc_keeps_content", "Growing and shrinking, in place or not.", steps
    if Aligned in kinds:
        steps = [Aligned(slot, 16 << slot, 100) for slot in range(9)]
        yield "aligned_alloc_aligns", "Every power of two up to a page.", steps


def _usual_steps(outside: Outside) -> list[Step]:
    """A short script that frees everything at last."""
    steps = _script(Random(7), kinds_for(outside), ())[:60]
    paper = _Paper()
    for step in steps:
        paper.do(step)
    return [*steps, *(Free(slot) for slot in paper.live[0])]


def _contract(outside: Outside, trial: Judging) -> Part:
    broken, tried, left_out = [], 0, {}
    for name, says, steps in _clauses(outside):
        tried += 1
        failure = trial(steps)
        if failure is not None:
            told = f"{says}  Broken: {failure.sentence}"
            broken.append(Broken(name, told, place=failure.place))
    steps = _usual_steps(outside)
    if outside.hooked:
        tried += 1
        once, thrice = (trial.judged(steps * times) for times in (1, 3))
        if once.end.outcome == thrice.end.outcome == FINISHED and thrice.growths > once.growths:
            broken.append(
                Broken(
                    "freed_memory_is_used_again",
                    "What is freed is used again.  Broken: the same requests, each time all freed, need "
                    f"{once.peak_heap:,} bytes of heap once, and {thrice.peak_heap:,} three times over",
                )
            )
    if "checkheap" in outside.has:
        tried += 1
        failure = trial.failure(trial.judged(steps, checkheap=True), steps)
        if failure is not None:
            told = f"mm_checkheap is satisfied after each request.  Broken: {failure.sentence}"
            broken.append(Broken("the_checker_is_satisfied", told, place=failure.place))
    for kind, name in ((Calloc, "calloc"), (Realloc, "realloc"), (Aligned, "aligned_alloc")):
        if kind not in kinds_for(outside):
            left_out[name] = "it has no such function"
    told = f"{tried - len(broken)} clauses hold" + (f", {len(broken)} of {tried} broken" if broken else "")
    return Part("contract", outcome(broken), told, tuple(broken), left_out)


def _refusals(outside: Outside, trial: Judging) -> Part:
    if not outside.hooked:
        return Part("refusals", Outcome.LEFT_OUT, "a library's calls for memory are not refused")
    steps = _usual_steps(outside)
    growths = min(trial.judged(steps).growths, _MOST_REFUSED)
    for number in range(1, growths + 1):
        judged = trial.judged(steps, refuse=number)
        refused = ("gave no memory", "mm_init says")
        if judged.end.outcome != FINISHED and not any(word in judged.end.reason for word in refused):
            failure = trial.failure(judged, steps)
            assert failure is not None
            told = f"mem_sbrk call {number} is refused: 0, and no harm.  Broken: {failure.sentence}"
            broken = Broken("a_refusal_does_no_harm", told, place=failure.place)
            return Part("refusals", Outcome.FAILED, f"refusal {number} of {growths} harms", (broken,))
    return Part("refusals", Outcome.PASSED, f"{growths} refusals of memory in turn do no harm")


def _traces(outside: Outside, trial: Judging, shrink_seconds: float) -> Part:
    names, events = [], 0
    kinds, left_out = kinds_for(outside), {}
    for name, trace in short_traces(whole=False):
        steps = [step_of(event) for event in trace.events()]
        lacking = {type(step) for step in steps} & {Realloc, Aligned} - set(kinds)
        if trace.header.processes > 1 or lacking:
            left_out[f"trace {name}"] = "it asks for what the allocator has not, or for several processes"
            continue
        names.append(name)
        events += trace.header.events
        first = trial(steps)
        if first is not None:
            shrunk = shrink_failure(first, trial, shrink_seconds, lambda failure: None)
            broken = Broken.by(f"trace {name}", shrunk.shortest, first)
            return Part(
                "traces", Outcome.FAILED, f"{events:,} events of {', '.join(names)}", (broken,), left_out
            )
    return Part("traces", Outcome.PASSED, f"{events:,} events of {', '.join(names)}", left_out=left_out)


def check(
    outside: Outside,
    *,
    seconds: float = 10.0,
    steps: int | None = None,
    seed: int = 1,
    step_seconds: float = 5.0,
    shrink_seconds: float = 20.0,
    tell: Callable[[str], None] = lambda sentence: None,
) -> Checked:
    """Hold an allocator from outside against what it has functions for; arguments as `checking.check`."""
    trial = Judging(outside, seconds=step_seconds)
    whole = Judging(outside, most=None, seconds=step_seconds)

    def fuzzed() -> Part:
        found = fuzz(
            outside,
            seconds=seconds,
            steps=steps,
            seed=seed,
            step_seconds=step_seconds,
            shrink_seconds=shrink_seconds,
        )
        return fuzz_part(found)

    parts: list[Part] = []
    trials: list[tuple[str, Callable[[], Part]]] = [
        ("the clauses of the contract", lambda: _contract(outside, trial)),
        ("every refusal of memory in turn", lambda: _refusals(outside, trial)),
        ("made-up scripts", fuzzed),
        ("short traces", lambda: _traces(outside, whole, shrink_seconds)),
    ]
    for what, part in trials:
        tell(what)
        parts.append(timed(part))
    return Checked(outside.name, "native", seed, tuple(parts))
