"""The figures of a run, one a column, wherever they are shown: names, units, and how a number is written.

A table on a terminal, a CSV file and the frame of a sweep have the same figures under the same names.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from heaplab.lab.attribution import PARTS
from heaplab.lab.compare import Comparison
from heaplab.lab.metrics import FreeSpace, Lines
from heaplab.lab.record import NATIVE, Run
from heaplab.native.playing import Latency, Times
from heaplab.units import format_size

#: MORE: for which tables have no room
SPACE, COST, MORE = "space", "cost", "more"
_OF_TIME = ("nanoseconds", "ns")

#: what a row of figures begins with: fields of `Run`
NAMES = (
    "trace",
    "allocator",
    "language",
    "seed",
    "outcome",
    "reason",
    "events",
    "events_done",
    "processes",
    "remote_frees",
)


@dataclass(frozen=True)
class Column:
    """One figure of a run.

    key: its name in CSV files.  title: above a table's column, on two lines.  unit: for the legend.
    value: takes it from a run; None when the run has none.  form: writes it.  group: the table it belongs to
    where one is too wide; those of MORE are in files alone.  best: max or min when one value is better than
    another.  clock: it is a time of the model's.  optional: it is shown where some run has a value.  mark:
    what stands behind a run's value.
    """

    key: str
    title: str
    unit: str
    group: str
    value: Callable[[Run], float | None]
    form: Callable[[float], str]
    best: Callable[..., float] | None = None
    clock: bool = False
    optional: bool = False
    mark: Callable[[Run], str] = lambda run: ""

    @property
    def seconds(self) -> bool:
        """Whether the figure is a time, which differs from run to run; all others are exact."""
        return self.unit in _OF_TIME

    def of(self, run: Run) -> float | None:
        """The run's value; None when there is none, or nothing was measured."""
        return self.value(run) if run.measured else None

    def cells(self, runs: Sequence[Run]) -> list[str]:
        """The values of runs that are shown together, written; "-" for none.

        A time of a design in Python is none beside designs in C.
        """
        foreign = foreign_clock(runs) if self.clock else set()
        values = [None if run.allocator in foreign else self.of(run) for run in runs]
        return [
            "-" if value is None else self.form(value) + self.mark(run)
            for run, value in zip(runs, values, strict=True)
        ]


def foreign_clock(runs: Iterable[Run]) -> set[str]:
    """Return the allocators in Python if others are in C: their seconds are Python's, not the design's."""
    languages: dict[str, set[str]] = {"c": set(), "python": set(), NATIVE: set()}
    for run in runs:
        languages[run.language].add(run.allocator)
    return languages["python"] if languages["c"] else set()


_THOUSANDS = "kMGT"


def short(value: float) -> str:
    """Write a count in at most six characters.

    >>> [short(n) for n in (0, 9999, 12345, 999_960, 1_234_567, 45_600_000_000)]
    ['0', '9999', '12.3k', '1.00M', '1.23M', '45.6G']
    >>> short(-12345), short(2e15)
    ('-12.3k', '2000T')
    """
    if value < 0:
        return f"-{short(-value)}"
    if value < 10_000:
        return f"{value:.0f}"
    unit = 0
    while (value := value / 1000) >= 999.5 and unit < len(_THOUSANDS) - 1:
        unit += 1
    digits = 2 if value < 9.995 else 1 if value < 99.95 else 0
    return f"{value:.{digits}f}{_THOUSANDS[unit]}"


def rate(value: float) -> str:
    """Write a mean with a decimal where it matters.

    >>> rate(12.34), rate(123.4), rate(12345)
    ('12.3', '123', '12.3k')
    """
    return f"{value:.1f}" if value < 99.95 else short(round(value))


def percent(value: float) -> str:
    """Write a share.

    >>> percent(0.8734)
    '87.3%'
    """
    return f"{100 * value:.1f}%"


def _of_times(value: Callable[[Times], float | None]) -> Callable[[Run], float | None]:
    return lambda run: value(run.seconds.times) if run.seconds.times else None


def _of_latency(value: Callable[[Latency], float]) -> Callable[[Run], float | None]:
    return lambda run: value(run.seconds.latency) if run.seconds.latency else None


def _of_lines(value: Callable[[Lines], float | None]) -> Callable[[Run], float | None]:
    return lambda run: value(run.lines) if run.lines else None


def _of_mems(name: str) -> Callable[[Run], float | None]:
    return lambda run: getattr(run.mems, name)


def _of_part(name: str) -> Callable[[Run], float | None]:
    return lambda run: run.attribution.parts[name] if run.attribution else None


def _of_over_live(used: str, name: str) -> Callable[[Run], float | None]:
    def value(run: Run) -> float | None:
        measures = run.heap_over_live if used == "heap" else run.resident_over_live
        return getattr(measures, name) if measures else None

    return value


def _of_free(value: Callable[[FreeSpace], float]) -> Callable[[Run], float | None]:
    return lambda run: value(run.free) if run.free else None


def _ratio(value: float) -> str:
    return f"{value:.2f}"


def _wide(run: Run) -> str:
    return WIDE if run.seconds.times and run.seconds.times.wide else ""


#: behind a time whose spread is too wide to rank by
WIDE = "~"

COLUMNS = (
    Column("operations", "opera-\ntions", "calls", COST, lambda run: run.operations, short),
    Column("peak_live_bytes", "peak\nlive", "bytes", SPACE, lambda run: run.peak_live, format_size),
    Column("peak_heap_bytes", "peak\nheap", "bytes", SPACE, lambda run: run.peak_heap, format_size, min),
    Column(
        "peak_resident_bytes",
        "peak\nresident",
        "bytes",
        SPACE,
        lambda run: run.peak_resident,
        format_size,
        min,
    ),
    Column("freed_heap_bytes", "freed\nheap", "bytes", SPACE, lambda run: run.freed_heap, format_size, min),
    Column(
        "freed_resident_bytes",
        "freed\nresident",
        "bytes",
        SPACE,
        lambda run: run.freed_resident,
        format_size,
        min,
    ),
    Column("utilisation", "utili-\nsation", "ratio", SPACE, lambda run: run.utilisation, percent, max),
    Column(
        "internal_fragmentation",
        "internal\nfragm.",
        "share of the heap",
        SPACE,
        lambda run: run.fragmentation.internal if run.fragmentation else None,
        percent,
        min,
    ),
    Column(
        "external_fragmentation",
        "external\nfragm.",
        "share of the heap",
        SPACE,
        lambda run: run.fragmentation.external if run.fragmentation else None,
        percent,
        min,
    ),
    Column(
        "heap_over_best",
        "heap\nover best",
        "share of the best placement",
        SPACE,
        lambda run: run.heap_over_best,
        percent,
        min,
        optional=True,
    ),
    Column(
        "resident_over_best",
        "resident\nover best",
        "share of the best placement",
        SPACE,
        lambda run: run.resident_over_best,
        percent,
        min,
        optional=True,
    ),
    Column("faults", "page\nfaults", "count", COST, lambda run: run.faults, short, min),
    Column("brk_calls", "brk\ncalls", "count", COST, lambda run: run.brk_calls, short),
    Column("mmap_calls", "mmap\ncalls", "count", COST, lambda run: run.mmap_calls, short),
    Column("mems_mean", "mems/op\nmean", "memory references", COST, lambda run: run.mems.mean, rate, min),
    Column("mems_p99", "mems/op\np99", "memory references", COST, lambda run: run.mems.p99, short, min),
    Column("mems_max", "mems/op\nmax", "memory references", COST, lambda run: run.mems.max, short, min),
    Column("ns_per_op", "ns\n/op", "nanoseconds", COST, lambda run: run.seconds.ns_per_op, rate, min, True),
    Column(
        "native_ns_per_op",
        "native\nns/op",
        "nanoseconds",
        COST,
        _of_times(lambda times: times.ns_per_op),
        rate,
        min,
        optional=True,
        mark=_wide,
    ),
    Column(
        "native_ns_spread",
        "ns/op\nspread",
        "nanoseconds",
        COST,
        _of_times(lambda times: times.spread),
        rate,
        optional=True,
    ),
    Column("latency_p50_ns", "ns\np50", "ns", COST, _of_latency(lambda it: it.p50), rate, optional=True),
    Column("latency_p99_ns", "ns\np99", "ns", COST, _of_latency(lambda it: it.p99), rate, optional=True),
    Column("latency_p999_ns", "ns\np99.9", "ns", COST, _of_latency(lambda it: it.p999), rate, optional=True),
    Column(
        "latency_p9999_ns", "ns\np99.99", "ns", COST, _of_latency(lambda it: it.p9999), rate, optional=True
    ),
    Column(
        "lines_mean",
        "lines/op\nmean",
        "cache lines",
        COST,
        _of_lines(lambda it: it.mean),
        rate,
        min,
        optional=True,
    ),
    Column(
        "lines_p99",
        "lines/op\np99",
        "cache lines",
        COST,
        _of_lines(lambda it: it.p99),
        short,
        min,
        optional=True,
    ),
    Column(
        "lines_max",
        "lines/op\nmax",
        "cache lines",
        COST,
        _of_lines(lambda it: it.max),
        short,
        min,
        optional=True,
    ),
    *(
        Column(f"mems_{name}", f"mems/op\n{name}", "memory references", MORE, _of_mems(name), short, min)
        for name in ("p50", "p999", "p9999")
    ),
    *(
        Column(
            f"resident_{name}",
            f"resident:\n{name}",
            "bytes, at the peak of live",
            MORE,
            _of_part(name),
            format_size,
        )
        for name in PARTS
    ),
    *(
        Column(
            f"{used}_over_live_{name}",
            f"{used} / live\n{name}",
            "ratio",
            MORE,
            _of_over_live(used, name),
            _ratio,
            min,
        )
        for used in ("heap", "resident")
        for name in ("mean", "at_peak_live", "at_peak_used", "of_peaks")
    ),
    Column("free_blocks", "free\nblocks", "count", MORE, _of_free(lambda it: it.blocks), short),
    Column(
        "largest_free_bytes", "largest\nfree", "bytes", MORE, _of_free(lambda it: it.largest), format_size
    ),
)


def shown_columns(comparison: Comparison) -> list[Column]:
    """Return the columns of this comparison's tables: without MORE, and optional ones that have no value."""
    return [
        column
        for column in COLUMNS
        if column.group != MORE
        and (not column.optional or any(column.of(run) is not None for run in comparison.runs))
    ]


def row_of(run: Run) -> dict[str, Any]:
    """Return a run as one row: `NAMES`, then each column's figure by its key, None where there is none."""
    return {name: getattr(run, name) for name in NAMES} | {column.key: column.of(run) for column in COLUMNS}
