"""Geometric means over traces, such that the means of one column may be compared with each other.

Every mean of a column is over the same traces: those that all allocators shown have finished.  An allocator
that finished no trace at all has no means, and takes no trace away from the others.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property

from heaplab.lab import Comparison, Run
from heaplab.lab.columns import foreign_clock, percent, rate
from heaplab.lab.metrics import geometric_mean
from heaplab.lab.record import NATIVE
from heaplab.native.playing import FINISHED

MODEL = "model"


@dataclass(frozen=True)
class Mean:
    """A figure whose mean is taken.

    title: as of a column.  value: None where a run has none.  undefined: why not, for the note.
    clock: it is a time of the model's.  world: MODEL or NATIVE if only such runs have it.  counted: it is of
    references, which allocators from outside have too.
    """

    title: str
    value: Callable[[Run], float | None]
    form: Callable[[float], str]
    undefined: str
    clock: bool = False
    world: str | None = None
    counted: bool = False

    def is_of(self, run: Run) -> bool:
        """Return True if runs of this one's world have the figure."""
        if self.counted and run.mems.total is not None:
            return True
        return self.world is None or self.world == (NATIVE if run.language == NATIVE else MODEL)

    @property
    def name(self) -> str:
        """The title on one line."""
        return self.title.replace("-\n", "").replace("\n", " ")


def _of_live(value: Callable[[Run], float | None]) -> Callable[[Run], float | None]:
    return lambda run: value(run) if run.peak_live else None


UTILISATION = Mean("utili-\nsation", _of_live(lambda run: run.utilisation), percent, "nothing was live")
MEMS = Mean(
    "mems/op\nmean", lambda run: run.mems.mean, rate, "there were no operations", world=MODEL, counted=True
)
RESIDENT = Mean(
    "resident\n/ live",
    _of_live(lambda run: (run.peak_resident or 0) / run.peak_live),
    lambda value: f"{value:.2f}",
    "nothing was live",
)
HEAP = Mean(
    "heap\n/ live",
    _of_live(lambda run: run.peak_heap / run.peak_live),
    lambda value: f"{value:.2f}",
    "nothing was live",
)
TIME = Mean(
    "native\nns/op",
    lambda run: max(run.seconds.times.ns_per_op, 0) if run.seconds.times else None,
    rate,
    "there were no operations",
    world=NATIVE,
)
MEANS = (
    UTILISATION,
    RESIDENT,
    MEMS,
    Mean(
        "mems/op\np99", lambda run: run.mems.p99, rate, "there were no operations", world=MODEL, counted=True
    ),
    Mean(
        "ns\n/op",
        lambda run: run.seconds.ns_per_op,
        rate,
        "there were no operations",
        clock=True,
        world=MODEL,
    ),
    TIME,
)


@dataclass(frozen=True)
class Summary:
    """A comparison's allocators over its traces."""

    comparison: Comparison

    @cached_property
    def allocators(self) -> list[str]:
        """Their specs, in the order of the comparison."""
        return list(dict.fromkeys(run.allocator for run in self.comparison.runs))

    @cached_property
    def finished(self) -> dict[str, dict[str, Run]]:
        """The finished runs of each allocator, by trace."""
        found: dict[str, dict[str, Run]] = {allocator: {} for allocator in self.allocators}
        for run in self.comparison.runs:
            if run.outcome == FINISHED:
                found[run.allocator][run.trace] = run
        return found

    @cached_property
    def shown(self) -> list[str]:
        """The allocators that have means: they finished something."""
        return [allocator for allocator in self.allocators if self.finished[allocator]]

    @cached_property
    def common(self) -> list[str]:
        """The traces that all of these finished."""
        return [
            trace
            for trace in self.comparison.headers
            if self.shown and all(trace in self.finished[allocator] for allocator in self.shown)
        ]

    def traces_of(self, mean: Mean) -> list[str]:
        """The traces that a column's means are over."""
        rows = self.rows_of(mean)
        return [
            trace
            for trace in self.common
            if all(mean.value(self.finished[allocator][trace]) is not None for allocator in rows)
        ]

    def rows_of(self, mean: Mean) -> list[str]:
        """The allocators that have a mean in this column."""
        foreign = foreign_clock(self.comparison.runs) if mean.clock else set()
        return [
            allocator
            for allocator in self.shown
            if allocator not in foreign and all(map(mean.is_of, self.finished[allocator].values()))
        ]

    @cached_property
    def means(self) -> list[Mean]:
        """The columns: those that any row has."""
        return [mean for mean in MEANS if mean.world is None or self.rows_of(mean)]

    def value(self, mean: Mean, allocator: str) -> float | None:
        """The geometric mean of an allocator; None when it has none."""
        traces = self.traces_of(mean)
        if not traces or allocator not in self.rows_of(mean):
            return None
        runs = (self.finished[allocator][trace] for trace in traces)
        return geometric_mean(value for run in runs if (value := mean.value(run)) is not None)

    def cells(self, mean: Mean) -> list[str]:
        """A column, an allocator a row."""
        values = [self.value(mean, allocator) for allocator in self.allocators]
        return ["-" if value is None else mean.form(value) for value in values]

    @property
    def title(self) -> str:
        """What the table shows."""
        traces = len(self.comparison.headers)
        if traces == len(self.common) == 1:
            return "Figures of the one trace, which every allocator finished"
        which = f"all {traces}" if len(self.common) == traces else f"{len(self.common)} of {traces}"
        return f"Geometric means over {which} traces: those that every allocator finished"

    def notes(self) -> list[str]:
        """What is to be said below: which traces are left out, because of whom."""
        notes = []
        culprits: dict[tuple[str, ...], list[str]] = {}
        for trace in self.comparison.headers:
            if missing := tuple(name for name in self.shown if trace not in self.finished[name]):
                culprits.setdefault(missing, []).append(trace)
        for names, traces in culprits.items():
            notes.append(f"without {_listed(traces)}: not finished by {_listed(names)}")
        if nothing := [name for name in self.allocators if name not in self.shown]:
            notes.append(f"{_listed(nothing)}: no trace finished, so no means")
        for mean in self.means:
            if undefined := [trace for trace in self.common if trace not in self.traces_of(mean)]:
                notes.append(f"{mean.name}: also without {_listed(undefined)}, where {mean.undefined}")
        return notes


def _listed(names: Iterable[str]) -> str:
    return ", ".join(names)
