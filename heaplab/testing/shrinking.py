"""A trace on which a design fails, as `heaplab compare` finds it, made short, in processes of their own."""

from collections.abc import Callable
from dataclasses import dataclass

from heaplab.allocators.base import Trait
from heaplab.testing.failure import NO_END, Failure
from heaplab.testing.isolation import Apart, Lost, once
from heaplab.testing.minimise import Minimal, minimise
from heaplab.testing.steps import step_of
from heaplab.testing.trials import STRETCH, Replayed
from heaplab.traces import Trace


@dataclass(frozen=True)
class Shrunk:
    """A failure on a trace, and what it came to.

    first: as it was found.  shortest: the failure of the fewest steps, waited for in full.
    """

    first: Failure
    minimal: Minimal
    shortest: Failure


def failing(trace: Trace, trial: Replayed) -> tuple[Failure, Replayed] | None:
    """Return how a trace fails, and the trial to make that minimal with; None when it does not fail.

    Heaps are walked at the peak of what lives, as `heaplab compare` does.
    Cost: memory for all events, some 300 bytes each.
    """
    steps = [step_of(event) for event in trace.events()]
    walk_at = min(trace.header.peak_index + 1, len(steps))
    answer = once(lambda note: trial.replay(steps, walk_at, note), trial.seconds)
    if isinstance(answer, Lost):  # at one of the last steps that were noted together: at which one?
        place = max(0, answer.at - STRETCH)
        answer = once(lambda note: trial.replay(steps, walk_at, note, place), trial.seconds)
    failure: Failure | None = answer.failure(steps) if isinstance(answer, Lost) else answer
    if failure is None:
        return None
    if failure.kind != NO_END:
        return failure, trial
    seen = once(lambda note: trial.mems_of(failure.steps[:-1], note), trial.seconds)
    return failure, trial.for_hangs(failure, *((0, 0) if isinstance(seen, Lost) else seen))


def shrink(
    trace: Trace,
    trial: Replayed,
    *,
    seconds: float = 60.0,
    tell: Callable[[Failure], None] = lambda failure: None,
) -> Shrunk | None:
    """Return the shortest steps found that fail as the trace does; None when the trace does not fail.

    seconds: that making the steps few may take.  tell: called with each failure that is smaller.

    >>> from heaplab.allocators import parse
    >>> from heaplab.traces import Event, Op
    >>> shrink(Trace.of([Event(Op.MALLOC, 0, 8)], "one"), Replayed(parse("buddy", "c"))) is None
    True
    """
    found = failing(trace, trial)
    if found is None:
        return None
    failure, impatient = found
    with Apart(impatient, impatient.seconds) as apart:
        minimal = minimise(
            failure,
            apart,
            newest_first=Trait.ANY_ORDER not in trial.spec.design.TRAITS,
            seconds=seconds,
            tell=tell,
        )
    shortest = minimal.failure
    if impatient is not trial:
        with Apart(trial, trial.seconds) as apart:
            shortest = apart(shortest.steps) or failure
    return Shrunk(failure, minimal, shortest)
