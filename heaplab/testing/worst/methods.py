"""Ways to search: each proposes programs and is told their ratios, until the search says that it is over.

hypothesis   draws programs, and drives towards larger ratios (hypothesis.target)
genetic      a population that is crossed and mutated (NSGA-II of Optuna)
climb        changes one thing in the best program so far, and goes on from what is no worse
"""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from random import Random
from typing import Any, TypeVar

from heaplab.errors import UsageError
from heaplab.testing.worst.programs import Chooser, Program, drawn, neighbour

T = TypeVar("T")
Score = Callable[[Program], float]

#: of a genetic search
_POPULATION = 20
#: programs that a climb is content to find no better than; then it begins elsewhere
_PATIENCE = 60
#: more than any budget; a limit that is never reached
_ENDLESS = 10**6


class Spent(Exception):
    """The budget of a method is spent: raised by a Score."""


@dataclass(frozen=True)
class Quest:
    """What a method searches for.

    live: bytes of payload that a program has at most.  least, largest: its blocks, about.  seed: of the
    method's chance.  start: the best program so far.
    """

    live: int
    least: int
    largest: int
    seed: int
    start: Program | None = None

    def program(self, choose: Chooser) -> Program:
        """Return the program that `choose` decides on."""
        return drawn(choose, self.live, self.least, self.largest)


def hypothesis(score: Score, quest: Quest) -> None:
    """Let Hypothesis draw programs, towards what `hypothesis.target` is told."""
    try:
        from hypothesis import HealthCheck, Phase, given, settings, target  # noqa: PLC0415 - an extra
        from hypothesis import seed as seeded  # noqa: PLC0415
        from hypothesis import strategies as st  # noqa: PLC0415
    except ImportError:
        raise _missing("hypothesis") from None

    class Draws:
        def __init__(self, data: Any) -> None:
            self._data = data

        def integer(self, name: str, low: int, high: int) -> int:
            return int(self._data.draw(st.integers(low, high), label=name))

        def among(self, name: str, options: tuple[T, ...]) -> T:
            chosen: T = self._data.draw(st.sampled_from(options), label=name)
            return chosen

    @seeded(quest.seed)
    @settings(
        max_examples=_ENDLESS,
        database=None,
        deadline=None,
        phases=[Phase.generate, Phase.target],
        suppress_health_check=list(HealthCheck),
        print_blob=False,
        report_multiple_bugs=False,
    )
    @given(st.data())
    def propose(data: Any) -> None:
        target(score(quest.program(Draws(data))), label="ratio")

    with suppress(Spent):
        propose()


def genetic(score: Score, quest: Quest) -> None:
    """Let Optuna's NSGA-II cross and mutate programs."""
    try:
        import optuna  # noqa: PLC0415 - an extra
    except ImportError:
        raise _missing("optuna") from None
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    sampler = optuna.samplers.NSGAIISampler(population_size=_POPULATION, seed=quest.seed)
    study = optuna.create_study(direction="maximize", sampler=sampler)

    class Suggests:
        def __init__(self, trial: Any) -> None:
            self._trial = trial

        def integer(self, name: str, low: int, high: int) -> int:
            return int(self._trial.suggest_int(name, low, high))

        def among(self, name: str, options: tuple[T, ...]) -> T:
            return options[int(self._trial.suggest_categorical(name, list(range(len(options)))))]

    with suppress(Spent):
        while True:
            trial = study.ask()
            study.tell(trial, score(quest.program(Suggests(trial))))


def climb(score: Score, quest: Quest) -> None:
    """Change one thing at a time, from the best program so far, and then from programs by chance."""
    choose, start = _ByChance(Random(quest.seed)), quest.start
    with suppress(Spent):
        while True:
            here = start or quest.program(choose)
            ratio, idle, start = score(here), 0, None
            while idle < _PATIENCE:
                there = neighbour(here, choose, quest.least, quest.largest)
                found = score(there)
                idle = 0 if found > ratio else idle + 1
                if found >= ratio:
                    here, ratio = there, found


class _ByChance:
    """Chooses by a random generator."""

    def __init__(self, random: Random) -> None:
        self._random = random

    def integer(self, name: str, low: int, high: int) -> int:
        """Return a number from `low` to `high`."""
        return self._random.randint(low, high)

    def among(self, name: str, options: tuple[T, ...]) -> T:
        """Return one of `options`."""
        return self._random.choice(options)


def _missing(package: str) -> UsageError:
    return UsageError(f"this search needs {package}: install heaplab[search]")


#: of a budget, when all of them search: a climb makes the most of many programs
SHARES = {"hypothesis": 1, "genetic": 1, "climb": 2}
METHODS: dict[str, Callable[[Score, Quest], None]] = {
    "hypothesis": hypothesis,
    "genetic": genetic,
    "climb": climb,
}
