"""What became better or worse between two sets of results, beyond noise.

All figures but times are exact: where one differs, it differs.  A time differs where intervals do not meet:
over the seeds, if a cell has several; else between the quartiles of the rounds in which a real allocator was
timed.  A single time of the model's has no interval, and is not judged.
"""

import json
import math
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from heaplab.errors import UsageError
from heaplab.lab.columns import COLUMNS, Column, row_of
from heaplab.lab.record import restored_run
from heaplab.lab.sweeping.statistics import Mean, mean_of
from heaplab.lab.sweeping.store import Row, is_store, read_store
from heaplab.native.playing import FINISHED
from heaplab.units import counted

BETTER, WORSE, SAME, NOISE = "better", "worse", "same", "within noise"
#: the figure that says how far apart the quartiles of another one are
_SPREAD = {"native_ns_per_op": "native_ns_spread"}
#: what a cell is, without its seed
_Place = tuple[str, str, str]


@dataclass(frozen=True)
class Change:
    """One figure of one cell, before and after; of several seeds, their means.

    metric: a column's key, or "outcome".  verdict: BETTER, WORSE, SAME, or NOISE: differs, but not surely.
    """

    trace: str
    allocator: str
    metric: str
    before: Any
    after: Any
    verdict: str

    @property
    def share(self) -> float | None:
        """(after - before) / before; None where that is no number."""
        if isinstance(self.before, str) or not self.before:
            return None
        return float((self.after - self.before) / self.before)


@dataclass(frozen=True)
class Diff:
    """Two results compared.  alone: what only the first, and only the second, has: trace and allocator."""

    changes: tuple[Change, ...]
    alone: tuple[tuple[str, ...], tuple[str, ...]]

    def of(self, *verdicts: str) -> list[Change]:
        """The changes with these verdicts."""
        return [change for change in self.changes if change.verdict in verdicts]

    def __str__(self) -> str:
        better, worse, noise = (len(self.of(verdict)) for verdict in (BETTER, WORSE, NOISE))
        figures = counted(len(self.changes), "figure")
        if not better and not worse:
            said = f"nothing differs beyond noise in {figures}"
        else:
            said = f"of {figures} {better:,} became better and {worse:,} worse"
        if noise:
            said += f"; {noise:,} {'differs' if noise == 1 else 'differ'} within noise"
        equal = len(self.changes) - better - worse - noise
        if equal and (better or worse):
            said += f"; {equal:,} {'is' if equal == 1 else 'are'} equal"
        return said


def read_rows(path: str | os.PathLike[str]) -> list[Row]:
    """Return the cells of a store, or the runs of a JSON file that `heaplab compare --json` wrote.

    Raises: UsageError when it is neither.
    """
    if Path(path).is_dir() or is_store(path):
        return read_store(path)
    try:
        whole = json.loads(Path(path).read_bytes())
        return [Row("", {}, row_of(restored_run(run))) for run in whole["runs"]]
    except OSError as error:
        raise UsageError(f"{path}: cannot be read: {error.strerror or error}") from None
    except (ValueError, KeyError, TypeError):
        raise UsageError(
            f"{path}: is neither a store of `heaplab sweep` nor what `heaplab compare --json` of this "
            "version writes"
        ) from None


def diff(first: Iterable[Row], second: Iterable[Row], metrics: Sequence[str] = ()) -> Diff:
    """Return what became better or worse from the first cells to the second ones.

    Cells are compared that have trace, allocator, language and seed in common; if either side has
    only one allocator, and they differ, cells of these two.  Of a cell that a side has twice, as run by two
    versions of the code, the later one counts.
    metrics: columns' keys; by default all of which one value is better than another.
    Raises: UsageError when nothing can be compared, or for an unknown metric.
    """
    columns = _columns(metrics)
    before, after = _by_place(first), _by_place(second)
    if not before.keys() & after.keys():
        before, after = _one_for_one(before, after)
    common = [place for place in before if place in after]
    changes = [change for place in common for change in _changes(place, before[place], after[place], columns)]
    if not changes:
        raise UsageError(
            "the two have no cell in common: the same trace on the same allocator, with the same seed"
        )
    alone = (
        tuple(f"{place[0]} on {place[1]}" for place in one if place not in other)
        for one, other in ((before, after), (after, before))
    )
    only_first, only_second = alone
    return Diff(tuple(changes), (only_first, only_second))


def _columns(metrics: Sequence[str]) -> list[Column]:
    by_key = {column.key: column for column in COLUMNS}
    for metric in metrics:
        if metric not in by_key or by_key[metric].best is None:
            known = ", ".join(column.key for column in COLUMNS if column.best)
            raise UsageError(f"{metric!r} is no figure that can be better or worse: there are {known}")
    return [by_key[metric] for metric in metrics] or [column for column in COLUMNS if column.best]


def _by_place(rows: Iterable[Row]) -> dict[_Place, dict[int, Row]]:
    """The cells by what they are, and by seed."""
    found: dict[_Place, dict[int, Row]] = {}
    for row in rows:
        figures = row.figures
        place = (figures["trace"], figures["allocator"], figures["language"])
        found.setdefault(place, {})[figures["seed"]] = row
    return found


def _one_for_one(*sides: dict[_Place, dict[int, Row]]) -> list[dict[_Place, dict[int, Row]]]:
    """Where each side has one allocator, both under one name; else the sides as they are."""
    allocators = [{place[1:] for place in side} for side in sides]
    if any(len(each) != 1 for each in allocators):
        return list(sides)
    (first, _), (second, language) = (each.pop() for each in allocators)
    return [{(place[0], f"{first} -> {second}", language): side[place] for place in side} for side in sides]


def _changes(
    place: _Place, before: Mapping[int, Row], after: Mapping[int, Row], columns: Sequence[Column]
) -> list[Change]:
    seeds = [seed for seed in before if seed in after]
    if not seeds:
        return []
    pairs = [(before[seed].figures, after[seed].figures) for seed in seeds]
    trace, allocator = place[:2]
    ended, ends = (_of_outcome([figures[side]["outcome"] for figures in pairs]) for side in (0, 1))
    if not ended == ends == FINISHED:
        verdict = SAME if ended == ends else BETTER if ends == FINISHED else WORSE
        return [Change(trace, allocator, "outcome", ended, ends, verdict)]
    changes = []
    for column in columns:
        values = [(_number(one, column.key), _number(other, column.key)) for one, other in pairs]
        numbers = [(one, other) for one, other in values if one is not None and other is not None]
        if len(numbers) == len(pairs):
            changes.append(_change(trace, allocator, column, numbers, pairs))
    return changes


def _change(
    trace: str,
    allocator: str,
    column: Column,
    numbers: Sequence[tuple[float, float]],
    pairs: Sequence[tuple[Mapping[str, Any], Mapping[str, Any]]],
) -> Change:
    sides = list(zip(*numbers, strict=True))
    before, after = (mean_of(side, over="seed") for side in sides)
    if all(one == other for one, other in numbers):
        verdict = SAME
    elif column.seconds and not _apart(column, before, after, pairs):
        verdict = NOISE
    elif before.value == after.value:
        verdict = SAME
    else:
        verdict = BETTER if (after.value < before.value) is (column.best is min) else WORSE
    return Change(trace, allocator, column.key, before.value, after.value, verdict)


def _apart(
    column: Column, before: Mean, after: Mean, pairs: Sequence[tuple[Mapping[str, Any], Mapping[str, Any]]]
) -> bool:
    """Whether the intervals of two times do not meet."""
    ends = []
    for side, mean in enumerate((before, after)):
        low, high = mean.low, mean.high
        if mean.count == 1:
            spread = _number(pairs[0][side], _SPREAD.get(column.key, ""))
            if spread is None:
                return False
            low, high = mean.value - spread / 2, mean.value + spread / 2
        ends.append((low, high))
    return ends[0][1] < ends[1][0] or ends[1][1] < ends[0][0]


def _of_outcome(outcomes: Sequence[str]) -> str:
    """The worst of a cell's outcomes: the first that is not finished."""
    return next((outcome for outcome in outcomes if outcome != FINISHED), FINISHED)


def _number(figures: Mapping[str, Any], name: str) -> float | None:
    value = figures.get(name)
    return None if value is None or math.isnan(value) else float(value)
