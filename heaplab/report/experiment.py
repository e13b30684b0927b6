"""A question about allocators, put by a script of experiments/, and its answer beside what was published.

A script states an `Experiment`: the question, who answered it before, its parameters with a full and a small
size, a function that measures and one that draws.  `heaplab.cli._experiments.run` makes a command line of it;
the tests run its small size and look at each claim.

    EXPERIMENT = Experiment(
        question="Are half as many blocks free as are live?",
        source="Knuth, The Art of Computer Programming 1, 2.5",
        parameters=(Parameter("live", full=2000, small=200, help="Blocks that are live."),),
        measure=measure,     # measure(live=..., seed=..., tick=...) -> Findings
        draw=draw,           # draw(findings) -> matplotlib's Figure
    )

    if __name__ == "__main__":
        run(EXPERIMENT)  # of heaplab.cli._experiments

A claim says what was published, what ours is, and whether ours is as published.  Where it is not, and the
author of the script knows why, the claim `disagrees` and says why: then it is an error if ours agrees.
"""

import json
import math
import textwrap
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from heaplab.errors import HeaplabError
from heaplab.units import counted

#: the width of sentences in text
_WIDTH = 100


@dataclass(frozen=True)
class Parameter:
    """A size of an experiment that its user may change.

    name: an identifier; the option is --name, with hyphens.  full, small: the values at both sizes, of one
    type: int, float, str, or a tuple of one of them (on the command line with commas between).
    least: the smallest value of a number, or of each number in a tuple.
    """

    name: str
    full: Any
    small: Any
    help: str
    least: float | None = None

    def __post_init__(self) -> None:
        if type(self.full) is not type(self.small):
            raise HeaplabError(f"{self.name}: {self.full!r} and {self.small!r} are not of one type")


@dataclass(frozen=True)
class Table:
    """Figures of an experiment.  heads: the columns' titles, with units; rows: as many cells each.

    A cell is text or a number; a float is written with four figures.
    """

    title: str
    heads: Sequence[str]
    rows: Sequence[Sequence[str | int | float | None]]

    def __post_init__(self) -> None:
        for row in self.rows:
            if len(row) != len(self.heads):
                raise HeaplabError(f"{self.title}: {len(self.heads)} columns, and a row of {len(row)}: {row}")

    def cells(self) -> list[list[str]]:
        """The rows as text."""
        return [[written(cell) for cell in row] for row in self.rows]


def written(value: float | str | None) -> str:
    """Write a number with four figures, so that none is cut to less than it is.

    >>> written(0.25), written(1234567), written(12345.678), written(None), written("-"), written(2.0)
    ('0.25', '1,234,567', '12,346', '-', '-', '2')
    """
    if value is None:
        return "-"
    if isinstance(value, str):
        return value
    if isinstance(value, int):
        return f"{value:,}"
    if math.isfinite(value) and abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.4g}"


@dataclass(frozen=True)
class Claim:
    """Something published, and ours beside it.

    what: is compared, with its unit.  published, ours: as text; their numbers, if they are numbers, are in
    `numbers`.  holds: ours is as published.  rule: what that means here, in words.
    disagrees: why ours is not as published, as far as was found out; "": it is.
    """

    what: str
    published: str
    ours: str
    holds: bool
    rule: str
    disagrees: str = ""
    numbers: tuple[float, float] | None = None

    @classmethod
    def near(cls, what: str, published: float, ours: float, *, within: float, disagrees: str = "") -> "Claim":
        """Return the claim that ours differs from a published number by a share of it of `within` at most.

        >>> claim = Claim.near("internal fragmentation of a binary buddy", 1.44, 1.41, within=0.05)
        >>> claim.holds, claim.distance
        (True, '-2.1 %')
        """
        holds = abs(ours - published) <= within * abs(published)
        rule = f"within {within * 100:g} % of it"
        return cls(what, written(published), written(ours), holds, rule, disagrees, (published, ours))

    @classmethod
    def between(cls, what: str, low: float, high: float, ours: float, *, disagrees: str = "") -> "Claim":
        """Return the claim that ours lies in a published range, its ends included.

        >>> Claim.between("mean fragmentation of TLSF, %", 0, 15, 17).holds
        False
        """
        said = f"{written(low)} to {written(high)}"
        nearest = min(max(ours, low), high)
        return cls(
            what, said, written(ours), low <= ours <= high, "in that range", disagrees, (nearest, ours)
        )

    @classmethod
    def shape(
        cls, what: str, published: str, ours: str, *, holds: bool, rule: str, disagrees: str = ""
    ) -> "Claim":
        """Return a claim that is no single number: a ranking, a crossover, a direction."""
        return cls(what, published, ours, holds, rule, disagrees)

    @property
    def distance(self) -> str:
        """How far ours is from the published number, in per cent of it; "" where there is none."""
        if self.numbers is None:
            return ""
        published, ours = self.numbers
        if not published:
            return "" if not ours else f"{ours:+.3g}"
        return f"{100 * (ours - published) / abs(published):+.1f} %"

    @property
    def expected(self) -> bool:
        """Whether it came out as the script says: it holds, or it disagrees and the script says why."""
        return self.holds is not bool(self.disagrees)

    @property
    def verdict(self) -> str:
        """The claim's outcome in words."""
        if self.holds:
            return "ours agrees, though the script expected otherwise" if self.disagrees else "ours agrees"
        return f"ours disagrees: {self.disagrees}" if self.disagrees else "ours disagrees"

    def __str__(self) -> str:
        far = f" ({self.distance})" if self.distance else ""
        return (
            f"{self.what}: published {self.published}, ours {self.ours}{far}; "
            f"the test: {self.rule}; {self.verdict}."
        )


@dataclass(frozen=True)
class Findings:
    """What an experiment found.

    tables: figures.  claims: beside what was published.  remarks: sentences about what is to be seen, or what
    was left out and why.  drawn: what the figure is drawn of, the script's own.
    """

    tables: Sequence[Table]
    claims: Sequence[Claim]
    remarks: Sequence[str] = ()
    drawn: Any = None


class Tick(Protocol):
    """Told how far a measurement is."""

    def __call__(self, done: float, total: float, what: str = "") -> None:
        """Say that `done` of `total` parts are done, and what comes next."""


def no_tick(done: float, total: float, what: str = "") -> None:
    """Tell nobody."""


@dataclass(frozen=True)
class Experiment:
    """A question, and the way to its answer.

    question, source: sentences; the source names what was published, and where.
    measure: called with the parameters, `seed` and `tick` (see `Tick`) by name; everything but seconds is
    equal from run to run under one seed.  draw: of its findings, one figure.
    seed: when nobody says otherwise.
    """

    question: str
    source: str
    parameters: Sequence[Parameter]
    measure: Callable[..., Findings] = field(repr=False)
    draw: Callable[[Findings], Any] = field(repr=False)
    seed: int = 1

    def settings(self, *, small: bool = False, **changed: Any) -> dict[str, Any]:
        """Return all parameters at one of the two sizes, but for those that are changed; and the seed."""
        chosen = {each.name: each.small if small else each.full for each in self.parameters}
        unknown = changed.keys() - chosen.keys() - {"seed"}
        if unknown:
            raise HeaplabError(f"the experiment has no parameter {', '.join(sorted(unknown))}")
        return {**chosen, "seed": self.seed, **changed}

    def answer(self, tick: Tick = no_tick, *, small: bool = False, **changed: Any) -> "Answer":
        """Measure, at one of the two sizes, but for the parameters that are changed."""
        settings = self.settings(small=small, **changed)
        return Answer(self, settings, self.measure(**settings, tick=tick))


@dataclass(frozen=True)
class Answer:
    """An experiment's findings, and the settings that led to them; its text says all of it."""

    experiment: Experiment
    settings: Mapping[str, Any]
    findings: Findings

    @property
    def title(self) -> str:
        """The question."""
        return self.experiment.question

    @property
    def expected(self) -> bool:
        """Whether every claim came out as the script says."""
        return all(claim.expected for claim in self.findings.claims)

    def to_json(self) -> str:
        """Return settings, tables and claims as JSON."""
        claims = [
            {
                "what": claim.what,
                "published": claim.published,
                "ours": claim.ours,
                "numbers": claim.numbers,
                "holds": claim.holds,
                "rule": claim.rule,
                "disagrees": claim.disagrees,
            }
            for claim in self.findings.claims
        ]
        tables = [
            {"title": table.title, "heads": list(table.heads), "rows": [list(row) for row in table.rows]}
            for table in self.findings.tables
        ]
        plain = {
            "question": self.experiment.question,
            "source": self.experiment.source,
            "settings": dict(self.settings),
            "tables": tables,
            "claims": claims,
            "remarks": list(self.findings.remarks),
        }
        return json.dumps(plain, indent=1, ensure_ascii=False, allow_nan=False) + "\n"

    def __str__(self) -> str:
        settings = ", ".join(f"{name}={_setting(value)}" for name, value in self.settings.items())
        parts = [*_folded(self.title), *_folded(f"Source: {self.experiment.source}"), *_folded(settings), ""]
        for table in self.findings.tables:
            parts += [*_aligned(table), ""]
        claims = self.findings.claims
        agree = sum(claim.holds for claim in claims)
        if claims:
            parts.append(f"{counted(len(claims), 'published claim')}, {agree} as ours:")
        for claim in claims:
            parts += _folded(f"{'=' if claim.holds else '!'} {claim}", indent="  ")
        for remark in self.findings.remarks:
            parts += _folded(remark)
        return "\n".join(parts)


def _setting(value: Any) -> str:
    return ",".join(map(str, value)) if isinstance(value, tuple | list) else str(value)


def _folded(text: str, indent: str = "") -> list[str]:
    return textwrap.wrap(text, _WIDTH, subsequent_indent=indent, break_long_words=False)


def _aligned(table: Table) -> list[str]:
    """A table as lines: numbers to the right, text to the left, never cut."""
    cells = [list(table.heads), *table.cells()]
    widths = [max(len(row[at]) for row in cells) for at in range(len(table.heads))]
    right = [
        bool(table.rows) and all(not isinstance(row[at], str) for row in table.rows)
        for at in range(len(table.heads))
    ]
    lines = [
        "  ".join(
            cell.rjust(width) if to_right else cell.ljust(width)
            for cell, width, to_right in zip(row, widths, right, strict=True)
        ).rstrip()
        for row in cells
    ]
    return [*_folded(table.title), lines[0], "  ".join("-" * width for width in widths), *lines[1:]]
