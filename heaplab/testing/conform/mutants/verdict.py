"""Sequences on a model with a mistake in it, until one differs."""

import time
import traceback
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import count
from typing import Final

from heaplab.testing.conform.generate import PROFILES, Generator
from heaplab.testing.conform.mutants.plant import Mutant, planted
from heaplab.testing.conform.observe import Difference
from heaplab.testing.conform.play import Source, World, replay
from heaplab.testing.conform.run import FULL_LOOK, bound_to_one_cpu, demand_rights, play_once
from heaplab.testing.conform.steps import Step

CAUGHT: Final = "caught"
#: played to the end: the mistake was made, and nothing showed it
SURVIVED: Final = "survived"
#: played to the end without coming to the planted text
NEVER_REACHED: Final = "never reached"
#: there are no sequences of its kind
NOT_PLAYED: Final = "not played"


@dataclass
class Verdict:
    """What became of a mutant.

    steps    played until it was caught, over all sequences
    reached  how often the model came to the planted text
    showed   what differed; None: nothing
    """

    mutant: Mutant
    outcome: str = NOT_PLAYED
    steps: int = 0
    sequences: int = 0
    reached: int = 0
    seconds: float = 0.0
    showed: Difference | None = None


def judge(
    mutants: Iterable[Mutant],
    steps: int = 20_000,
    length: int = 500,
    first_seed: int = 1,
    progress: Callable[[Verdict], None] = lambda verdict: None,
) -> Iterator[Verdict]:
    """Yield a verdict on each mutant as soon as there is one.

    steps: played on each at most, in sequences of `length` with the seeds from `first_seed` on.
    Only a difference that shows again, and does not without the mistake, is one.
    progress: is called after each step with the verdict as far as it is known.
    Raises: UsageError where the real kernel cannot be asked.
    """
    demand_rights()
    for mutant in mutants:
        verdict = Verdict(mutant)
        if mutant.profile in PROFILES:
            with bound_to_one_cpu():
                _play(verdict, steps, length, first_seed, progress)
        yield verdict


def _play(
    verdict: Verdict, steps: int, length: int, first_seed: int, progress: Callable[[Verdict], None]
) -> None:
    started = time.perf_counter()
    done: list[Step] = []

    def noted(source: Source) -> Source:
        def next_step(world: World) -> Step | None:
            step = source(world)
            if step is not None:
                done.append(step)
                verdict.steps += 1
            progress(verdict)
            return step

        return next_step

    for seed in count(first_seed):
        left = min(length, steps - verdict.steps)
        if left <= 0 or verdict.showed is not None:
            break
        done.clear()
        with planted(verdict.mutant) as reached:
            showed = _first_difference(noted(Generator(seed, left, verdict.mutant.profile)))
        verdict.reached += reached.times
        verdict.sequences += 1
        if showed is not None and _comes_of(verdict.mutant, done):
            verdict.showed = showed
    verdict.seconds = time.perf_counter() - started
    if verdict.showed is not None:
        verdict.outcome = CAUGHT
    else:
        verdict.outcome = SURVIVED if verdict.reached else NEVER_REACHED


def _comes_of(mutant: Mutant, steps: Sequence[Step]) -> bool:
    """Whether the steps differ again with the mistake, and do not without it.

    Otherwise the real kernel was in another mood for once, or the model is wrong by itself.
    """
    with planted(mutant):
        again = _first_difference(replay(steps))
    return again is not None and _first_difference(replay(steps)) is None


def _first_difference(source: Source) -> Difference | None:
    try:
        differences = play_once(source, every=FULL_LOOK).differences
    except Exception as error:
        # the model's own check at the end of a sequence, or a look at a model that the mistake has ruined
        frames = traceback.extract_tb(error.__traceback__)
        if not any("/heaplab/kernel/" in each.filename or "<mutant" in each.filename for each in frames):
            raise
        kind = "invariant" if isinstance(error, AssertionError) else type(error).__name__
        return Difference(f"the model's own {kind}", "holds", str(error))
    return differences[0] if differences else None
