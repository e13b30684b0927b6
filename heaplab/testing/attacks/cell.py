"""Many attacks of one kind on one design: how often each outcome, and a smallest example of each bad one."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial

from heaplab.testing.attacks.attack import Attack
from heaplab.testing.attacks.draw import draw
from heaplab.testing.attacks.guard import guarded
from heaplab.testing.attacks.judge import SOUND, Ground, Outcome
from heaplab.testing.steps import spec_of


@dataclass
class Cell:
    """What a kind of attack does to a design.

    counts: how many attacks had each outcome.  examples: of each bad outcome, attacks that show it, shrunk.
    """

    design: str
    language: str
    kind: str
    counts: Counter[Outcome] = field(default_factory=Counter)
    examples: dict[Outcome, list[Attack]] = field(default_factory=dict)

    @property
    def bad(self) -> int:
        """How many attacks had an outcome that a heap must not have."""
        return sum(count for outcome, count in self.counts.items() if outcome not in SOUND)


def cell(
    design: str, language: str, kind: str, attacks: int = 20_000, seed: int = 0, examples: int = 1
) -> Cell:
    """Play so many attacks of a kind (a key of KINDS) on a design; keep so many examples of a bad outcome.

    >>> cell("buddy", "c", "double", attacks=20).bad
    0
    """
    ground = Ground(spec_of(design, language))
    result = Cell(design, language, kind)
    found: dict[Outcome, list[int]] = {}
    numbers = range(attacks)
    for number, outcome in zip(numbers, outcomes(ground, kind, seed, numbers), strict=True):
        result.counts[outcome] += 1
        if outcome not in SOUND and len(found.setdefault(outcome, [])) < examples:
            found[outcome].append(number)
    for outcome, kept in found.items():
        result.examples[outcome] = [shrink(ground, draw(kind, seed, number), outcome) for number in kept]
    return result


def outcomes(ground: Ground, kind: str, seed: int, numbers: Sequence[int]) -> Iterator[Outcome]:
    """Yield what comes of each attack of a kind, by number."""

    def play(number: int) -> Outcome:
        return ground.play(draw(kind, seed, number))

    return guarded([partial(play, number) for number in numbers])


def outcome_of(ground: Ground, attack: Attack) -> Outcome:
    """Return what comes of one attack, also when it never ends."""
    return next(guarded([partial(ground.play, attack)]))


def shrink(ground: Ground, attack: Attack, outcome: Outcome) -> Attack:
    """Leave out every step that the outcome does not need."""
    index = len(attack.steps)
    changed = False
    while index:
        index -= 1
        less = attack.without(index)
        if outcome_of(ground, less) is outcome:
            attack, changed = less, True
        if not index and changed:
            index, changed = len(attack.steps), False
    return attack


def table(cells: Sequence[Cell]) -> str:
    """Return the counts as text: a row for each cell, a column for each outcome that occurs."""
    seen = [outcome for outcome in Outcome if any(cell.counts[outcome] for cell in cells)]
    rows = [["design", "", "kind", *seen]]
    for cell in cells:
        counts = [str(cell.counts[outcome] or "-") for outcome in seen]
        rows.append([cell.design, cell.language, cell.kind, *counts])
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return "\n".join(
        "  ".join(
            text.ljust(width) if column < 3 else text.rjust(width)
            for column, (text, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    )
