"""How like two traces are, in what matters to an allocator."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from heaplab.errors import UsageError
from heaplab.lab import Progress, Run, run
from heaplab.traces import Ledger, Trace
from heaplab.traces.lives import lives
from heaplab.units import format_size

Column = npt.NDArray[np.float64]

DESIGNS = ("freelist:fit=best", "buddy", "spans")
"""On which a likeness is measured by default: one searches, one rounds, one has size classes."""

_MOMENTS = 256


@dataclass(frozen=True)
class Measure:
    """One thing that was measured of both traces.

    what: its name.  original, made: its values, None where only a distance is known.
    far: for values, made / original - 1 (or made - original of shares, which are between 0 and 1 themselves);
    for distances, the distance: 0 if alike, 1 at most.
    """

    what: str
    original: float | None
    made: float | None
    far: float
    kind: str = "number"

    def cells(self) -> tuple[str, str, str]:
        """Original, made and far as text."""
        if self.original is None or self.made is None:
            return "", "", f"{self.far:.3f}"
        shown = {"bytes": format_size, "share": "{:.1%}".format}.get(self.kind, _figures)
        far = f"{100 * self.far:+.1f} points" if self.kind == "share" else f"{self.far:+.1%}"
        return shown(self.original), shown(self.made), far


def _figures(value: float) -> str:
    return f"{value:,.0f}" if value >= 1000 or value == int(value) else f"{value:.3g}"


@dataclass(frozen=True)
class Likeness:
    """How far a made-up trace is from the original, measure by measure.

    Distances of distributions are Kolmogorov and Smirnov's: the largest difference of the two shares below
    any value.  They are weighted by blocks, and by the blocks' bytes.  A block that is never freed lives
    longer than any other.  Of the live bytes, at 256 moments, the mean and the largest difference are given,
    over the original's peak.
    """

    original: str
    made: str
    measures: tuple[Measure, ...]

    def __getitem__(self, what: str) -> Measure:
        """The measure of this name."""
        for each in self.measures:
            if each.what == what:
                return each
        raise UsageError(
            f"there is no measure {what!r}: write one of {', '.join(m.what for m in self.measures)}"
        )

    def __str__(self) -> str:
        rows = [("", self.original, self.made, "far")]
        rows += [(each.what, *each.cells()) for each in self.measures]
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        return "\n".join(
            "  ".join(
                [row[0].ljust(widths[0]), *(c.rjust(w) for c, w in zip(row[1:], widths[1:], strict=True))]
            )
            for row in rows
        )


def likeness(
    original: Trace,
    made: Trace,
    designs: Sequence[str] = DESIGNS,
    progress: Callable[[Progress], None] = lambda progress: None,
) -> Likeness:
    """Return how far a made-up trace is from the original.

    designs: specs of allocators; both traces are run on each.  progress: told how far these runs are.
    Cost: 1 us an event, and two runs on each design.
    Raises: UsageError when a design cannot run one of them.
    """
    measures = _measures(original, made, designs, progress)
    return Likeness(original.header.name, made.header.name, tuple(measures))


def _measures(
    original: Trace, made: Trace, designs: Sequence[str], progress: Callable[[Progress], None]
) -> Iterator[Measure]:
    ours, its = original.header, made.header
    for what, kind in (("events", ""), ("requested", "bytes"), ("peak live", "bytes"), ("slots", "")):
        name = what.replace(" ", "_")
        label = "most live blocks" if what == "slots" else what
        yield _ratio(label, getattr(ours, name), getattr(its, name), kind)
    one, other = _blocks(original), _blocks(made)
    for what in ("sizes", "lifetimes"):
        for weight in ("blocks", "bytes"):
            sides = [
                (each[what], np.ones_like(each[what]) if weight == "blocks" else each["sizes"])
                for each in (one, other)
            ]
            yield Measure(f"{what}, by {weight}", None, None, distance(*sides[0], *sides[1]), "distance")
    gap = np.abs(_course(original) - _course(made)) / max(ours.peak_live, 1)
    yield Measure("live over time, mean", None, None, float(gap.mean()), "distance")
    yield Measure("live over time, most", None, None, float(gap.max()), "distance")
    runs = [(design, trace) for design in designs for trace in (original, made)]
    total = len(designs) * (ours.events + its.events)
    records: list[Run] = []
    begun = 0
    for design, trace in runs:

        def tell(done: int, begun: int = begun) -> None:
            progress(Progress(begun + done, total, len(records), len(runs), None))

        records.append(run(trace, design, verify=False, progress=tell))
        begun += trace.header.events
    for design, first, second in zip(designs, records[::2], records[1::2], strict=True):
        yield from _on(design, original, first, made, second)


def _on(design: str, original: Trace, one: Run, made: Trace, other: Run) -> Iterator[Measure]:
    for record, trace in ((one, original), (other, made)):
        if record.fragmentation is None or record.mems.mean is None:
            raise UsageError(f"{design}: cannot run {trace.header.name}: {record.reason or 'it has no heap'}")
    yield _ratio(f"{design}: peak heap", one.peak_heap, other.peak_heap, "bytes")
    yield _ratio(f"{design}: peak resident", one.peak_resident or 0, other.peak_resident or 0, "bytes")
    for side in ("internal", "external"):
        mine, yours = (float(getattr(record.fragmentation, side)) for record in (one, other))
        yield Measure(f"{design}: {side} fragmentation", mine, yours, yours - mine, "share")
    yield _ratio(f"{design}: mems per op", one.mems.mean or 0, other.mems.mean or 0)
    yield _ratio(f"{design}: faults", one.faults or 0, other.faults or 0)


def _ratio(what: str, original: float, made: float, kind: str = "") -> Measure:
    far = made / original - 1 if original else float(bool(made))
    return Measure(what, float(original), float(made), far, kind or "number")


def _blocks(trace: Trace) -> dict[str, Column]:
    """Sizes and lifetimes in events of all blocks; a realloc ends one and begins another."""
    found = lives(trace)
    life = found.died.astype(float) - found.born
    life[found.died >= trace.header.events] = np.inf
    return {"sizes": found.size.astype(float), "lifetimes": life}


def distance(one: Column, weights: Column, other: Column, weights_: Column) -> float:
    """Return Kolmogorov and Smirnov's distance of two samples with weights.

    >>> ones = np.ones(2)
    >>> distance(np.array([1.0, 2.0]), ones, np.array([1.0, 3.0]), ones)
    0.5
    """
    if not len(one) or not len(other):
        return float(len(one) != len(other))
    places = np.unique(np.concatenate((one, other)))
    return float(np.abs(_below(one, weights, places) - _below(other, weights_, places)).max())


def _below(values: Column, weights: Column, places: Column) -> Column:
    """The share of the weights of values up to each place."""
    at = np.searchsorted(places, values)
    reached = np.cumsum(np.bincount(at, weights=weights, minlength=len(places)))
    return np.asarray(reached / (reached[-1] or 1.0))


def _course(trace: Trace) -> Column:
    """Live bytes at evenly spread moments of the events."""
    wanted = (np.arange(1, _MOMENTS + 1) * trace.header.events // _MOMENTS - 1).clip(0)
    ledger, done, parts = Ledger(trace.header.name), 0, []
    for block in trace:
        live = ledger.apply(block)
        here = wanted[(wanted >= done) & (wanted < done + len(block))] - done
        parts.append(live[here])
        done += len(block)
    return np.concatenate(parts).astype(float)
