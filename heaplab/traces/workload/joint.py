"""Lifetimes that depend on the size: by classes of sizes, or as a table of both."""

import math
from bisect import bisect_left
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from heaplab.errors import UsageError
from heaplab.traces.workload.columns import table
from heaplab.traces.workload.distributions import Distribution, distribution

Column = npt.NDArray[Any]


@dataclass(frozen=True, repr=False)
class BySize:
    """Another distribution of lifetimes in each class of sizes.

    bounds: the largest size of each class but the last, ascending.  parts: one more than bounds.

    >>> both = lifetimes("exponential,100@256@constant,5000")
    >>> str(both), both.at(256), both.at(257)
    ('exponential,100@256@constant,5000', Exponential(average=100.0), Constant(value=5000.0))
    """

    bounds: tuple[int, ...]
    parts: tuple[Distribution, ...]

    def __post_init__(self) -> None:
        if len(self.parts) != len(self.bounds) + 1 or list(self.bounds) != sorted({*self.bounds}):
            raise UsageError(
                "lifetimes by size: needs ascending bounds and one distribution more than bounds: write "
                "exponential,100@256@exponential,5000"
            )

    def __repr__(self) -> str:
        return f"<BySize {self}>"

    def __str__(self) -> str:
        words = [str(self.parts[0])]
        for bound, part in zip(self.bounds, self.parts[1:], strict=True):
            words += [str(bound), str(part)]
        return "@".join(words)

    def at(self, size: int) -> Distribution:
        """The lifetimes of blocks of this size."""
        return self.parts[bisect_left(self.bounds, size)]

    def sample(self, rng: np.random.Generator, sizes: Column) -> Column:
        """Return a lifetime for a block of each of these sizes."""
        which = np.searchsorted(np.asarray(self.bounds), sizes, side="left")
        drawn = np.empty(len(sizes))
        for number, part in enumerate(self.parts):
            its = np.flatnonzero(which == number)
            drawn[its] = part.sample(rng, len(its))
        return drawn

    def mean_with(self, sizes: Distribution) -> float:
        """The mean lifetime of blocks whose sizes are drawn from `sizes`; from 100,000 of them."""
        drawn = np.maximum(np.rint(sizes.sample(np.random.default_rng(0), 100_000)), 1)
        which = np.searchsorted(np.asarray(self.bounds), drawn, side="left")
        shares = np.bincount(which, minlength=len(self.parts)) / len(drawn)
        return sum(float(share) * part.mean for share, part in zip(shares, self.parts, strict=True) if share)


def lifetimes(text: str) -> Distribution | BySize:
    """Return the lifetimes that a text names: one distribution, or `D@bound@D`, one up to each bound."""
    first, *rest = text.split("@")
    if not rest:
        return distribution(first, "lifetimes")
    try:
        bounds = tuple(int(bound) for bound in rest[::2])
        parts = tuple(distribution(part, "lifetimes") for part in (first, *rest[1::2]))
        return BySize(bounds, parts)
    except ValueError:
        raise UsageError(
            f"lifetimes={text}: a bound is no number of bytes: write exponential,100@256@exponential,5000"
        ) from None


class Blocks(NamedTuple):
    """Blocks that were drawn, as columns; see `Joint`."""

    sizes: Column
    lives: Column
    fixed: Column
    times: Column
    finals: Column
    means: Column
    spans: Column


@dataclass(frozen=True, eq=False, repr=False)
class Joint:
    """Sizes and lifetimes together: a row is drawn by its weight, and gives all that is known of a block.

    sizes: bytes.  lows, highs: the lifetime is a number of this span, each as likely; infinite: never freed.
    weights: as often.  fixed: where 1, the span is counted from the beginning of the phase in which the block
    is allocated, not from its allocation: a moment at which blocks of any age die together.
    times: how often the block is reallocated.  finals: the size after the last time.  means: the mean size
    after the others; the sizes between grow by a factor if that has this mean, else otherwise, or go up and
    down if it does not lie between first and last.  spans: ticks from the allocation to the last time.

    >>> joint = Joint.of([(16, 5, 3), (1024, 9000, 1)])
    >>> joint.mean_size, joint.mean_lifetime
    (268.0, 2253.75)
    """

    sizes: Column
    lows: Column
    highs: Column
    weights: Column
    fixed: Column
    times: Column
    finals: Column
    means: Column
    spans: Column
    source: str = ""

    @classmethod
    def build(cls, rows: int, source: str = "", **columns: Any) -> "Joint":
        """Return the table with these columns; one not given is as if no row had anything of it."""
        usual = {"weights": np.ones(rows), "highs": columns.get("lows")}
        none = np.zeros(rows)
        given = {name: np.array(columns.get(name, usual.get(name, none)), float) for name in JOINT_COLUMNS}
        return cls(**given, source=source)

    @classmethod
    def of(cls, rows: list[tuple[float, float, float]], source: str = "") -> "Joint":
        """Return the table with these rows: size, lifetime, weight."""
        size, life, weight = (list(column) for column in zip(*rows, strict=True))
        return cls.build(len(rows), source, sizes=size, lows=life, weights=weight)

    @classmethod
    def load(cls, path: str | Path) -> "Joint":
        """Return the table in a file of one's own: its first row names the columns size, lifetime, weight.

        Raises: UsageError when a column is missing.
        """
        columns = table(path)
        sizes, lives = columns.get("sizes"), columns.get("lifetimes")
        if sizes is None or lives is None:
            raise UsageError(
                f"{path}: needs columns size and lifetime, and may have weight: name them in the first row"
            )
        weights = columns.get("weight", [1.0] * len(sizes))
        return cls.of(list(zip(sizes, lives, weights, strict=True)), str(path))

    def __post_init__(self) -> None:
        where = self.source or "joint"
        columns = [getattr(self, name) for name in JOINT_COLUMNS]
        if not len({len(column) for column in columns}) == 1 or not len(self.sizes):
            raise UsageError(f"{where}: its columns need as many rows each, and at least one")
        if any((column < 0).any() or np.isnan(column).any() for column in columns):
            raise UsageError(f"{where}: a number in it is negative or none at all: correct that row")
        if not (self.highs >= self.lows).all():
            raise UsageError(f"{where}: a span in it ends before it begins: let lows be below highs")
        if not np.isfinite(self.weights).all() or not self.weights.sum() > 0:
            raise UsageError(f"{where}: weights must be finite, and one must be above 0")

    def __repr__(self) -> str:
        return f"<Joint of {len(self.sizes):,} rows>"

    def __str__(self) -> str:
        return self.source or repr(self)

    @cached_property
    def _reached(self) -> Column:
        reached = np.cumsum(self.weights / self.weights.sum())
        return np.asarray(reached / reached[-1])

    @property
    def mean_size(self) -> float:
        """Bytes that a block is allocated with."""
        return float(self.sizes @ self.weights / self.weights.sum())

    @property
    def mean_lifetime(self) -> float:
        """Ticks; infinite if a row is."""
        if math.isinf(self.highs.max()):
            return math.inf
        return float((self.lows + self.highs) / 2 @ self.weights / self.weights.sum())

    def sample(self, rng: np.random.Generator, count: int) -> Blocks:
        """Return `count` blocks."""
        return self.rows(rng, np.searchsorted(self._reached, rng.random(count), side="right"))

    def rows(self, rng: np.random.Generator, row: Column) -> Blocks:
        """Return a block of each of these rows."""
        low = self.lows[row]
        width = np.where(np.isinf(low), 0, self.highs[row] - np.where(np.isinf(low), 0, low))
        return Blocks(
            self.sizes[row],
            low + rng.random(len(row)) * width,
            self.fixed[row] > 0,
            self.times[row].astype(np.int64),
            self.finals[row],
            self.means[row],
            self.spans[row],
        )


JOINT_COLUMNS = ("sizes", "lows", "highs", "weights", "fixed", "times", "finals", "means", "spans")
"""Of a `Joint`, in its order."""
