"""The figures of a run that are shown as columns: their names, units, and how a number is written."""

from collections.abc import Callable
from dataclasses import dataclass

from heaplab.lab.record import Run
from heaplab.units import format_size

SPACE, COST = "space", "cost"


@dataclass(frozen=True)
class Column:
    """One figure of a run.

    key: its name in CSV files.  title: above a table's column, on two lines.  unit: for the legend.
    value: takes it from a run; None when the run has none.  form: writes it.  group: the table it belongs to
    where one is too wide.  best: max or min when one value is better than another.
    """

    key: str
    title: str
    unit: str
    group: str
    value: Callable[[Run], float | None]
    form: Callable[[float], str]
    best: Callable[..., float] | None = None


def short(value: float) -> str:
    """Write a count in at most six characters.

    >>> [short(n) for n in (0, 9999, 12345, 999_960, 1_234_567, 45_600_000_000)]
    ['0', '9999', '12.3k', '1.00M', '1.23M', '45.6G']
    """
    if value < 10_000:
        return f"{value:.0f}"
    units = iter("kMGT")
    unit = next(units)
    while (value := value / 1000) >= 999.5:
        unit = next(units)
    digits = 2 if value < 9.995 else 1 if value < 99.95 else 0
    return f"{value:.{digits}f}{unit}"


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
    Column("faults", "page\nfaults", "count", COST, lambda run: run.faults, short, min),
    Column("brk_calls", "brk\ncalls", "count", COST, lambda run: run.brk_calls, short),
    Column("mmap_calls", "mmap\ncalls", "count", COST, lambda run: run.mmap_calls, short),
    Column("mems_mean", "mems/op\nmean", "memory references", COST, lambda run: run.mems.mean, rate, min),
    Column("mems_p99", "mems/op\np99", "memory references", COST, lambda run: run.mems.p99, short, min),
    Column("mems_max", "mems/op\nmax", "memory references", COST, lambda run: run.mems.max, short, min),
    Column("ns_per_op", "ns\n/op", "nanoseconds", COST, lambda run: run.seconds.ns_per_op, rate, min),
)
