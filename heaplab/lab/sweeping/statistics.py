"""Means with intervals, and paired differences, over the cells of a sweep.

What is averaged is one number a trace: the mean over its seeds, so that a trace with many seeds counts once.
Where there is one trace alone, it is one number a seed.  Intervals are Student's: where the mean would lie,
in 95 of 100 cases, if traces (or seeds) were drawn at random from all those like them.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from heaplab.errors import UsageError
from heaplab.lab.sweeping.grid import SEED
from heaplab.lab.sweeping.store import Row
from heaplab.native.playing import FINISHED

if TYPE_CHECKING:
    import pandas as pd

CONFIDENCE = 0.95


@dataclass(frozen=True)
class Mean:
    """A mean of `count` numbers, and the interval from `low` to `high`; of one number both are nan.

    over: "trace" or "seed": what the numbers are of.
    """

    value: float
    low: float
    high: float
    count: int
    over: str = "trace"


def mean_of(values: Sequence[float], *, geometric: bool = False, over: str = "trace") -> Mean:
    """Return the mean of numbers, with its interval.

    geometric: of numbers above 0: the interval is that of their logarithms.

    >>> mean = mean_of([1.0, 2.0, 3.0])
    >>> mean.value, round(mean.low, 3), round(mean.high, 3)
    (2.0, -0.484, 4.484)
    >>> mean_of([1, 4], geometric=True).value
    2.0
    """
    if not values:
        return Mean(math.nan, math.nan, math.nan, 0, over)
    if geometric and min(values) <= 0:
        return Mean(math.nan, math.nan, math.nan, len(values), over)
    numbers = [math.log(value) for value in values] if geometric else list(map(float, values))
    middle = math.fsum(numbers) / len(numbers)
    reach = _reach(numbers, middle)
    value, low, high = (
        math.exp(end) if geometric else end for end in (middle, middle - reach, middle + reach)
    )
    return Mean(value, low, high, len(values), over)


def _reach(numbers: Sequence[float], middle: float) -> float:
    """How far the interval reaches to each side."""
    count = len(numbers)
    if count < 2:
        return math.nan
    deviation = math.sqrt(math.fsum((number - middle) ** 2 for number in numbers) / (count - 1))
    if not deviation:
        return 0.0
    try:
        from scipy.special import stdtrit  # noqa: PLC0415 - slow, and an extra
    except ImportError:
        raise UsageError("intervals need scipy: install heaplab[lab]") from None
    return float(stdtrit(count - 1, (1 + CONFIDENCE) / 2)) * deviation / math.sqrt(count)


@dataclass(frozen=True)
class Paired:
    """How one allocator (or value of a parameter) differs from another, cell by cell.

    difference: second - first, a mean.  ratio: second / first, a geometric mean; nan when one is not above 0.
    less, more: in so many pairs the second is less, or more, than the first.
    """

    metric: str
    first: Any
    second: Any
    difference: Mean
    ratio: Mean
    less: int
    more: int

    @property
    def differs(self) -> bool:
        """Whether the interval of the difference leaves out 0."""
        return self.difference.low > 0 or self.difference.high < 0


def value_of(row: Row, metric: str) -> float | None:
    """Return a figure of a row, a sum, or a ratio: `faults+brk_calls`, `peak_heap_bytes/peak_live_bytes`.

    None when there is none.  Raises: UsageError for a name that no figure has.
    """
    above, slash, below = metric.partition("/")
    value = _sum(row, above)
    if not slash:
        return value
    divisor = _sum(row, below)
    return value / divisor if value is not None and divisor else None


def _sum(row: Row, names: str) -> float | None:
    found = [_figure(row, name) for name in names.split("+")]
    numbers = [value for value in found if value is not None]
    return math.fsum(numbers) if len(numbers) == len(found) else None


def _figure(row: Row, name: str) -> float | None:
    if name not in row.figures:
        raise UsageError(f"there is no figure {name!r}: there are {', '.join(row.figures)}")
    value = row.figures[name]
    if isinstance(value, str):
        raise UsageError(f"{name} is no number: it is {value!r}, for instance")
    return None if value is None or math.isnan(value) else float(value)


def samples(
    rows: Iterable[Row], metric: str, by: Sequence[str]
) -> tuple[dict[tuple[Any, ...], dict[Any, float]], str]:
    """Return the numbers of each group, by what they are of; and whether that is "trace" or "seed".

    by: names whose values make the groups: of parameters, or "allocator", "trace", "language".
    Only finished cells count.
    """
    found: dict[tuple[Any, ...], dict[Any, dict[int, float]]] = {}
    for row in rows:
        if row.figures["outcome"] == FINISHED and (value := value_of(row, metric)) is not None:
            group = tuple(row.parameters.get(name, row.figures.get(name)) for name in by)
            if None in group:  # it has no such parameter
                continue
            unit = tuple(_rest(row, name, by) for name in ("trace", "allocator"))
            found.setdefault(group, {}).setdefault(unit, {})[row.figures["seed"]] = value
    units = {unit for group in found.values() for unit in group}
    if len(units) == 1:
        [unit] = units
        return {group: dict(seeds[unit]) for group, seeds in found.items()}, "seed"
    numbers = {
        group: {unit: math.fsum(seeds.values()) / len(seeds) for unit, seeds in units.items()}
        for group, units in found.items()
    }
    return numbers, "trace"


def _rest(row: Row, name: str, by: Sequence[str]) -> str:
    """What is left of a row's trace or allocator when `by` is taken out."""
    if name in by:
        return ""
    kept = row.templates.get(name)
    if kept is None:
        return str(row.figures[name])
    return kept.filled({**row.parameters, SEED: "{seed}", **{each: f"{{{each}}}" for each in by}})


def means(
    rows: Iterable[Row], metric: str, by: Sequence[str], *, geometric: bool = False
) -> dict[tuple[Any, ...], Mean]:
    """Return each group's mean over the traces that all groups have finished."""
    groups, over = samples(rows, metric, by)
    common = set.intersection(*(set(group) for group in groups.values())) if groups else set()
    return {
        group: mean_of(
            [value for unit, value in found.items() if unit in common], geometric=geometric, over=over
        )
        for group, found in groups.items()
    }


def paired(rows: Iterable[Row], metric: str, first: Any, second: Any, by: str) -> Paired:
    """Return how `second` differs from `first`, over the cells that are alike in all else.

    Raises: UsageError when no such cells are finished.
    """
    groups, over = samples(rows, metric, [by])
    for wanted in (first, second):
        if (wanted,) not in groups:
            known = ", ".join(str(value) for (value,) in groups)
            raise UsageError(f"no finished cell has {by}={wanted} and {metric}: there are {known or 'none'}")
    one, other = groups[(first,)], groups[(second,)]
    common = [unit for unit in one if unit in other]
    if not common:
        raise UsageError(f"{first} and {second} have no cell in common to be compared by")
    pairs = [(one[unit], other[unit]) for unit in common]
    positive = all(low > 0 and high > 0 for low, high in pairs)
    return Paired(
        metric,
        first,
        second,
        mean_of([after - before for before, after in pairs], over=over),
        mean_of([after / before for before, after in pairs] if positive else [], geometric=True, over=over),
        sum(after < before for before, after in pairs),
        sum(after > before for before, after in pairs),
    )


def mean_frame(found: Mapping[tuple[Any, ...], Mean], by: Sequence[str]) -> "pd.DataFrame":
    """Return means as a DataFrame: a row a group; the mean is called value."""
    import pandas as pd  # noqa: PLC0415 - slow, and an extra

    rows = [
        {
            **dict(zip(by, group, strict=True)),
            "value": it.value,
            "low": it.low,
            "high": it.high,
            "count": it.count,
        }
        for group, it in found.items()
    ]
    return pd.DataFrame(rows, columns=[*by, "value", "low", "high", "count"])
