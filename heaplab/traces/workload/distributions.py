"""Distributions of one quantity: what sizes, lifetimes and the times between allocations are drawn from.

Each is named by its numbers: `str(Lognormal(48, 1.0))` is `lognormal,48,1.0`, and `distribution` reads that
text again.  Values are not negative, and not rounded; a workload rounds sizes to whole bytes, at least 1.

| text | class | numbers |
|------|-------|---------|
| constant,V | `Constant` | the value |
| uniform,A,B | `Uniform` | least, most |
| normal,M,D | `Normal` | mean and standard deviation of a bell, before it is cut off at 0 |
| exponential,M | `Exponential` | mean |
| hyperexponential,M,C | `Hyperexponential` | mean, coefficient of variation (at least 1) |
| lognormal,M,S | `Lognormal` | median, standard deviation of the logarithm |
| powers,A,B,R | `Powers` | powers of two from A to B; each is R times as likely as the one before it |
| empirical,FILE | `Empirical` | values with weights, read from a file of one's own: see `Empirical.load` |
| values,VxW,VxW | `Empirical` | the same, written out: value x weight |
| never | `Constant(inf)` | a block that is never freed; as arrival: no block comes |
| W*D+W*D | `Mixture` | one of several distributions, by weight |
"""

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass, fields
from difflib import get_close_matches
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from heaplab.errors import UsageError
from heaplab.traces.workload.columns import table

Column = npt.NDArray[Any]


class Distribution(ABC):
    """What numbers are drawn from.

    mean, cv: the expected value, and the standard deviation over it (the coefficient of variation).
    """

    NAME: ClassVar[str]

    @abstractmethod
    def sample(self, rng: np.random.Generator, count: int) -> Column:
        """Return `count` numbers as float64, drawn independently of each other.  Cost: about 20 ns each."""

    @property
    @abstractmethod
    def mean(self) -> float:
        """The expected value."""

    @property
    @abstractmethod
    def cv(self) -> float:
        """The standard deviation over the mean; 0 where the mean is 0 or infinite."""


class _Formula(Distribution):
    """A distribution that a few numbers say: `NAME,number,...`, in the order of its fields."""

    def __str__(self) -> str:
        return ",".join([self.NAME, *(_number(value) for value in vars(self).values())])

    def _demand(self, holds: bool, mend: str) -> None:
        if not holds or any(math.isnan(value) for value in vars(self).values()):
            raise UsageError(f"{self}: {mend}")


def _number(value: float) -> str:
    """The shortest text of a number."""
    return str(int(value)) if float(value).is_integer() and abs(value) < 1e15 else repr(float(value))


@dataclass(frozen=True)
class Constant(_Formula):
    """Always `value`; infinity is `never`.

    >>> str(Constant(64)), str(Constant(math.inf)), Constant(64).cv
    ('constant,64', 'never', 0.0)
    """

    NAME = "constant"
    value: float

    def __post_init__(self) -> None:
        self._demand(self.value >= 0, "the value must be a number from 0 on: write constant,64")

    def __str__(self) -> str:
        return "never" if math.isinf(self.value) else super().__str__()

    def sample(self, rng: np.random.Generator, count: int) -> Column:
        return np.full(count, float(self.value))

    @property
    def mean(self) -> float:
        return float(self.value)

    @property
    def cv(self) -> float:
        return 0.0


NEVER = Constant(math.inf)
"""Longer than any trace."""


@dataclass(frozen=True)
class Uniform(_Formula):
    """Any number from `low` to `high`, each as likely.

    >>> Uniform(0, 100).mean, round(Uniform(0, 100).cv, 3)
    (50.0, 0.577)
    """

    NAME = "uniform"
    low: float
    high: float

    def __post_init__(self) -> None:
        self._demand(
            0 <= self.low <= self.high < math.inf, "needs 0 <= low <= high: write for instance uniform,16,512"
        )

    def sample(self, rng: np.random.Generator, count: int) -> Column:
        return rng.uniform(self.low, self.high, count)

    @property
    def mean(self) -> float:
        return (self.low + self.high) / 2

    @property
    def cv(self) -> float:
        return (self.high - self.low) / math.sqrt(12) / self.mean if self.mean else 0.0


@dataclass(frozen=True)
class Normal(_Formula):
    """A bell around `center`, cut off below 0: what would be negative is drawn again.

    center, deviation: of the whole bell.  `mean` and `cv` are of what is left of the bell.

    >>> round(Normal(100, 25).mean, 1), round(Normal(100, 200).mean, 1)
    (100.0, 201.8)
    """

    NAME = "normal"
    center: float
    deviation: float

    def __post_init__(self) -> None:
        self._demand(
            0 <= self.center < math.inf and 0 < self.deviation < math.inf,
            "needs a mean that is not negative and a deviation above 0: write for instance normal,256,64",
        )

    def sample(self, rng: np.random.Generator, count: int) -> Column:
        drawn = rng.normal(self.center, self.deviation, count)
        while len(below := np.flatnonzero(drawn < 0)):
            drawn[below] = rng.normal(self.center, self.deviation, len(below))
        return drawn

    @property
    def _hazard(self) -> float:
        """The density at the cut over the probability above it, in units of 1 / deviation."""
        cut = -self.center / self.deviation
        return math.exp(-cut * cut / 2) / math.sqrt(2 * math.pi) / (math.erfc(cut / math.sqrt(2)) / 2)

    @property
    def mean(self) -> float:
        return self.center + self.deviation * self._hazard

    @property
    def cv(self) -> float:
        cut, hazard = -self.center / self.deviation, self._hazard
        return self.deviation * math.sqrt(1 + cut * hazard - hazard * hazard) / self.mean


@dataclass(frozen=True)
class Exponential(_Formula):
    """Exponential with mean `average`: many small, few large; its coefficient of variation is 1."""

    NAME = "exponential"
    average: float

    def __post_init__(self) -> None:
        self._demand(0 < self.average < math.inf, "the mean must be above 0: write exponential,1000")

    def sample(self, rng: np.random.Generator, count: int) -> Column:
        return rng.exponential(self.average, count)

    @property
    def mean(self) -> float:
        return float(self.average)

    @property
    def cv(self) -> float:
        return 1.0


@dataclass(frozen=True)
class Hyperexponential(_Formula):
    """One of two exponentials, which have equal parts of the sum ("balanced means").

    average: of all.  variation: the coefficient of variation, at least 1; at 1 it is `Exponential`.

    >>> wide = Hyperexponential(64, 3)
    >>> wide.mean, wide.cv
    (64.0, 3.0)
    """

    NAME = "hyperexponential"
    average: float
    variation: float

    def __post_init__(self) -> None:
        self._demand(
            0 < self.average < math.inf and 1 <= self.variation < math.inf,
            "needs a mean above 0 and a coefficient of variation of at least 1: write hyperexponential,64,3",
        )

    def sample(self, rng: np.random.Generator, count: int) -> Column:
        square = self.variation**2
        often = (1 + math.sqrt((square - 1) / (square + 1))) / 2
        scale = np.where(rng.random(count) < often, 1 / (2 * often), 1 / (2 * (1 - often)))
        return np.asarray(rng.exponential(self.average, count) * scale)

    @property
    def mean(self) -> float:
        return float(self.average)

    @property
    def cv(self) -> float:
        return float(self.variation)


@dataclass(frozen=True)
class Lognormal(_Formula):
    """The logarithm is normal: half are below `median`, `spread` is the logarithm's standard deviation.

    >>> round(Lognormal(48, 1.0).mean, 1), round(Lognormal(48, 1.0).cv, 2)
    (79.1, 1.31)
    """

    NAME = "lognormal"
    median: float
    spread: float

    def __post_init__(self) -> None:
        self._demand(
            0 < self.median < math.inf and 0 <= self.spread <= 20,
            "needs a median above 0 and a spread from 0 to 20: write lognormal,48,1.0",
        )

    def sample(self, rng: np.random.Generator, count: int) -> Column:
        return np.asarray(np.exp(rng.normal(math.log(self.median), self.spread, count)))

    @property
    def mean(self) -> float:
        return self.median * math.exp(self.spread**2 / 2)

    @property
    def cv(self) -> float:
        return math.sqrt(math.expm1(self.spread**2))


class _Listed(Distribution):
    """A distribution over finitely many values or parts, with weights."""

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self}>"


@dataclass(frozen=True)
class Powers(_Formula):
    """Powers of two from `low` to `high`, both included; each is `ratio` times as likely as the one before.

    >>> Powers(16, 64).mean, Powers(16, 64, 0.5).mean
    (37.333..., 27.428...)
    """

    NAME = "powers"
    low: float
    high: float
    ratio: float = 1.0

    def __post_init__(self) -> None:
        ends = [float(self.low), float(self.high)]
        self._demand(
            all(end >= 1 and end.is_integer() and int(end) & (int(end) - 1) == 0 for end in ends)
            and self.low <= self.high <= 1 << 46
            and 0 < self.ratio < math.inf,
            "needs two powers of two, the lower first, and a ratio above 0: write powers,16,4096 or "
            "powers,16,4096,0.5",
        )

    @cached_property
    def _listed(self) -> "Empirical":
        count = int(math.log2(self.high / self.low)) + 1
        return Empirical(
            tuple(self.low * 2.0**step for step in range(count)),
            tuple(self.ratio**step for step in range(count)),
        )

    def __str__(self) -> str:
        numbers = [self.low, self.high, *([self.ratio] if self.ratio != 1 else [])]
        return ",".join([self.NAME, *map(_number, numbers)])

    def sample(self, rng: np.random.Generator, count: int) -> Column:
        return self._listed.sample(rng, count)

    @property
    def mean(self) -> float:
        return self._listed.mean

    @property
    def cv(self) -> float:
        return self._listed.cv


@dataclass(frozen=True, repr=False)
class Empirical(_Listed):
    """Values with weights, as somebody has measured them.

    values, weights: as many of each; weights need not add up to 1.  tops: where a row is a span, its upper
    end: a number from value to top is drawn, each as likely.  source: the file that it was read from.

    >>> seen = Empirical((16, 24), (3, 1))
    >>> str(seen), seen.mean
    ('values,16x3,24x1', 18.0)
    >>> seen.sample(np.random.default_rng(1), 4).tolist()
    [16.0, 24.0, 16.0, 24.0]
    """

    NAME = "empirical"
    values: tuple[float, ...]
    weights: tuple[float, ...] = ()
    tops: tuple[float, ...] = ()
    source: str = ""

    def __post_init__(self) -> None:
        if not self.weights:
            object.__setattr__(self, "weights", (1,) * len(self.values))
        if not self.tops:
            object.__setattr__(self, "tops", self.values)
        where = self.source or "empirical"
        if not len(self.values) == len(self.weights) == len(self.tops) > 0:
            raise UsageError(f"{where}: needs as many weights as values, and at least one of each")
        low, high, weight = (np.asarray(column, float) for column in (self.values, self.tops, self.weights))
        if not ((low >= 0) & (high >= low)).all():
            raise UsageError(
                f"{where}: values must not be negative, and spans must not end before they begin"
            )
        if not ((weight >= 0) & np.isfinite(weight)).all() or not weight.sum() > 0:
            raise UsageError(f"{where}: weights must be finite and not negative, and one must be above 0")

    @classmethod
    def load(cls, path: str | Path, quantity: str = "value") -> "Empirical":
        """Return the distribution in a file of one's own: rows of numbers, between commas, tabs or spaces.

        Two columns are value and weight, three are low and high (a span) and weight, one is values alone.
        A first row with names says which column is which: size, lifetime or value; low and high; weight,
        count or probability; other columns are left out.  What follows # is left out too.
        quantity: the name of the column that is wanted, if there are several.
        Raises: UsageError naming the line that is no row of numbers.

        >>> (tmp / "sizes.csv").write_text("size,count\\n16,3\\n24,1\\n") > 0
        True
        >>> Empirical.load(tmp / "sizes.csv").mean
        18.0
        """
        rows = table(path)
        named = [name for name in ("sizes", "lifetimes", "arrival") if name in rows]
        low = rows.get(quantity) or rows.get("value") or rows.get("low")
        if low is None and quantity == "value" and len(named) == 1:
            low = rows[named[0]]
        if low is None:
            raise UsageError(f"{path}: has no column {quantity}: name the columns in the first row")
        return cls(
            tuple(low),
            tuple(rows.get("weight", ())),
            tuple(rows["high"]) if "high" in rows and "low" in rows else (),
            str(path),
        )

    def __str__(self) -> str:
        if self.source:
            return f"{self.NAME},{self.source}"
        rows = zip(self.values, self.tops, self.weights, strict=True)
        spans = (
            f"{_number(low)}{'~' + _number(high) if high != low else ''}x{_number(weight)}"
            for low, high, weight in rows
        )
        return ",".join(["values", *spans])

    @cached_property
    def _shares(self) -> Column:
        weights = np.asarray(self.weights, float)
        return np.asarray(weights / weights.sum())

    @cached_property
    def _reached(self) -> Column:
        reached = np.cumsum(self._shares)
        return np.asarray(reached / reached[-1])

    @cached_property
    def _low(self) -> Column:
        return np.asarray(self.values, float)

    @cached_property
    def _width(self) -> Column:
        return np.asarray(np.asarray(self.tops, float) - self._low)

    def sample(self, rng: np.random.Generator, count: int) -> Column:
        return self.rows(rng, np.searchsorted(self._reached, rng.random(count), side="right"))

    def rows(self, rng: np.random.Generator, row: Column) -> Column:
        """Return a number of each of these rows."""
        drawn = self._low[row]
        if self._width.any():
            drawn = drawn + rng.random(len(row)) * self._width[row]
        return np.asarray(drawn)

    @property
    def mean(self) -> float:
        return float(self._shares @ (self._low + self._width / 2))

    @property
    def cv(self) -> float:
        mean = self.mean
        square = self._shares @ ((self._low + self._width / 2) ** 2 + self._width**2 / 12)
        return math.sqrt(max(float(square) - mean**2, 0)) / mean if mean else 0.0


@dataclass(frozen=True, repr=False)
class Mixture(_Listed):
    """One of several distributions, by weight.

    >>> both = Mixture(((3, Constant(16)), (1, Constant(64))))
    >>> str(both), both.mean
    ('3*constant,16+1*constant,64', 28.0)
    """

    NAME = "mixture"
    parts: tuple[tuple[float, Distribution], ...]

    def __post_init__(self) -> None:
        weights = [weight for weight, _ in self.parts]
        if not weights or not all(0 <= weight < math.inf for weight in weights) or not sum(weights) > 0:
            raise UsageError(
                f"{self or 'mixture'}: weights must be finite and not negative, and one must be above 0"
            )

    def __str__(self) -> str:
        return "+".join(f"{_number(weight)}*{part}" for weight, part in self.parts)

    @property
    def _shares(self) -> list[float]:
        whole = sum(weight for weight, _ in self.parts)
        return [weight / whole for weight, _ in self.parts]

    def sample(self, rng: np.random.Generator, count: int) -> Column:
        which = rng.choice(len(self.parts), count, p=self._shares)
        drawn = np.empty(count)
        for number, (_, part) in enumerate(self.parts):
            its = np.flatnonzero(which == number)
            drawn[its] = part.sample(rng, len(its))
        return drawn

    @property
    def mean(self) -> float:
        return sum(share * part.mean for share, (_, part) in zip(self._shares, self.parts, strict=True))

    @property
    def cv(self) -> float:
        mean = self.mean
        if not mean or math.isinf(mean):
            return 0.0
        square = sum(
            share * part.mean**2 * (1 + part.cv**2)
            for share, (_, part) in zip(self._shares, self.parts, strict=True)
        )
        return math.sqrt(max(square - mean**2, 0)) / mean


_FORMULAS: dict[str, type[_Formula]] = {
    each.NAME: each for each in (Constant, Uniform, Normal, Exponential, Hyperexponential, Lognormal, Powers)
}
NAMES = (*_FORMULAS, "empirical", "values", "never")


def distribution(text: str, quantity: str = "value") -> Distribution:
    """Return the distribution that a text names; see the table of this module.

    quantity: what it is of, for the column of a file and for messages.
    Raises: UsageError naming what is wrong and how to write it.

    >>> distribution("lognormal,48,1.0").mean
    79.138...
    >>> distribution("0.9*constant,16+0.1*exponential,4096").mean
    424.0
    >>> distribution("lognormal,48")
    Traceback (most recent call last):
    heaplab.errors.UsageError: value=lognormal,48: lognormal takes median,spread: write lognormal,48,1.0
    """
    text = text.strip()
    if "*" in text:
        return Mixture(tuple(_weighted(part, text, quantity) for part in text.split("+")))
    name, _, rest = text.partition(",")
    if text == "never":
        return NEVER
    if name == "empirical":
        if not rest:
            raise UsageError(f"{quantity}=empirical: needs a file: write empirical,sizes.csv")
        return Empirical.load(rest, quantity)
    if name == "values":
        return _listed(rest, text, quantity)
    if name not in _FORMULAS:
        near = get_close_matches(name, NAMES, 1)
        mend = f"did you mean {near[0]}?" if near else f"write one of {', '.join(NAMES)}"
        raise UsageError(f"{quantity}={text}: there is no distribution {name!r}: {mend}")
    return _formula(_FORMULAS[name], rest, f"{quantity}={text}")


_EXAMPLES: dict[str, str] = {
    "constant": "constant,64",
    "uniform": "uniform,16,512",
    "normal": "normal,256,64",
    "exponential": "exponential,1000",
    "hyperexponential": "hyperexponential,64,3",
    "lognormal": "lognormal,48,1.0",
    "powers": "powers,16,4096",
}


def _formula(kind: type[_Formula], rest: str, where: str) -> Distribution:
    names = [field.name for field in fields(kind)]  # type: ignore[arg-type]
    most, least = len(names), len(names) - (kind is Powers)
    try:
        numbers = [float(part) for part in rest.split(",")]
    except ValueError:
        numbers = []
    if not least <= len(numbers) <= most:
        raise UsageError(f"{where}: {kind.NAME} takes {','.join(names)}: write {_EXAMPLES[kind.NAME]}")
    try:
        return kind(*numbers)
    except UsageError as error:
        raise UsageError(f"{where.partition('=')[0]}={error}") from None


def _weighted(part: str, text: str, quantity: str) -> tuple[float, Distribution]:
    weight, star, rest = part.partition("*")
    try:
        number = float(weight)
    except ValueError:
        star = ""
    if not star:
        raise UsageError(
            f"{quantity}={text}: {part!r} is no part of a mixture: write weight*distribution, as in "
            "0.9*constant,16+0.1*exponential,4096"
        )
    return number, distribution(rest, quantity)


def _listed(rest: str, text: str, quantity: str) -> Distribution:
    lows, tops, weights = [], [], []
    try:
        for row in rest.split(","):
            span, _, weight = row.partition("x")
            low, _, high = span.partition("~")
            lows.append(float(low))
            tops.append(float(high or low))
            weights.append(float(weight or 1))
    except ValueError:
        raise UsageError(
            f"{quantity}={text}: {row!r} is no value with a weight: write values,16x3,24x1"
        ) from None
    return Empirical(tuple(lows), tuple(weights), tuple(tops))
