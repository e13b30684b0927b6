"""A comparison as tables for the terminal, wide or narrow, and for whoever reads a pipe."""

from collections.abc import Callable, Iterable, Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from heaplab.lab import Comparison, Run
from heaplab.lab.metrics import geometric_mean
from heaplab.lab.record import CRASHED, FINISHED
from heaplab.report.columns import COLUMNS, COST, SPACE, Column, percent, rate
from heaplab.traces import Header

#: the width of what is not shown on a terminal: nothing is folded
WIDE = 240

LEGEND = """\
peak         the most after any operation. live: payload requested and not freed; heap: address
             space (VMAs) from brk and anonymous mmap; resident: distinct anonymous frames, so what
             fork shares counts once
KiB, MiB     2^10 and 2^20 bytes; k, M: a thousand and a million
utilisation  peak live / peak heap
fragm.       at the peak of live, shares of the heap. internal: (allocated blocks - live) / heap;
             external: (heap - allocated blocks) / heap
page faults  minor faults, the payload's included
mmap calls   mmap and munmap
mems/op      memory references per operation: loads and stores of the allocator's own, not the
             payload's; p99: 99 % of the operations need no more
ns/op        wall time within the allocator, with its system calls and faults; the one column
             that differs from run to run"""


def show(comparison: Comparison, console: Console | None = None) -> None:
    """Print the tables of every trace, the summary over them, and the legend.

    console: where to; by default standard output, as wide as the terminal or, into a pipe, as needed.
    """
    console = console or make_console()
    for name, header in comparison.headers.items():
        runs = comparison.of_trace(name)
        if not runs:
            continue
        console.print(heading(name, header), style="bold")
        for number, table in enumerate(_tables(runs, console.width)):
            if number:
                console.print()
            console.print(table)
        for mark, text in notes(runs):
            console.print(Text(f"{mark} {text}"), soft_wrap=True)
        console.print()
    if len(comparison.headers) > 1 and comparison.runs:
        console.print(_summary(comparison))
        console.print()
    console.print(LEGEND, style="dim", highlight=False, soft_wrap=True)


def make_console() -> Console:
    """Return a console on standard output that is as wide as its reader allows."""
    console = Console(highlight=False)
    return console if console.is_terminal else Console(highlight=False, width=WIDE)


def heading(name: str, header: Header) -> Text:
    """The trace in a line: name, program, events."""
    program = " ".join(word for word in (header.program, header.version) if word)
    processes = f", {header.processes} processes" if header.processes > 1 else ""
    return Text(f"{name}{': ' + program if program else ''}, {header.events:,} events{processes}")


def _tables(runs: Sequence[Run], width: int) -> Iterable[Table]:
    """One table, or two where one is wider than the terminal."""
    whole = _table(runs, COLUMNS)
    if _width(whole) <= width:
        return [whole]
    return [_table(runs, [column for column in COLUMNS if column.group == group]) for group in (SPACE, COST)]


def _table(runs: Sequence[Run], columns: Iterable[Column]) -> Table:
    table = _empty_table()
    table.add_column("allocator", no_wrap=True)
    table.add_column("")
    cells = []
    for column in columns:
        table.add_column(column.title, justify="right", no_wrap=True)
        cells.append(_cells(column, runs))
    for run, *row in zip(runs, *cells, strict=True):
        table.add_row(run.allocator, _mark(run), *row)
    return table


def _empty_table() -> Table:
    return Table(box=None, padding=(0, 0, 0, 1), pad_edge=False, header_style="dim")


def _cells(column: Column, runs: Sequence[Run]) -> list[Text]:
    """A column's cells, the best among the finished runs in bold."""
    values = [None if run.outcome == CRASHED else column.value(run) for run in runs]
    rivals = [v for run, v in zip(runs, values, strict=True) if run.outcome == FINISHED and v is not None]
    best = column.best(rivals) if column.best and len(rivals) > 1 else None
    return [
        Text("-" if value is None else column.form(value), "bold" if value == best is not None else "")
        for value in values
    ]


def _width(table: Table) -> int:
    console = Console(width=1000)
    return console.measure(table).maximum


_MARKS = {FINISHED: "", "stopped": "*", "failed": "!", "crashed": "!"}


def _mark(run: Run) -> str:
    return _MARKS[run.outcome]


def notes(runs: Iterable[Run]) -> list[tuple[str, str]]:
    """What is to be said below the table of runs that did not finish."""
    notes = []
    for run in runs:
        if run.outcome == FINISHED:
            continue
        text = f"{run.allocator} {run.outcome}: {run.reason}"
        if run.outcome == "stopped" and run.fragmentation and not run.fragmentation.at_peak:
            text += "; the peak of live was not reached, its fragmentation is of that moment"
        notes.append((_mark(run), text))
    return notes


#: what the summary means over traces: title, value, how it is written
_MEANS: tuple[tuple[str, Callable[[Run], float], Callable[[float], str]], ...] = (
    ("utili-\nsation", lambda run: run.utilisation, percent),
    ("resident\n/ live", lambda run: run.peak_resident / max(run.peak_live, 1), lambda value: f"{value:.2f}"),
    ("mems/op\nmean", lambda run: run.mems.mean, rate),
    ("mems/op\np99", lambda run: float(run.mems.p99), rate),
    ("ns\n/op", lambda run: run.seconds.ns_per_op, rate),
)


def summary_rows(comparison: Comparison) -> tuple[list[str], list[list[str]]]:
    """Return titles and rows: geometric means over the traces that each allocator finished."""
    titles = ["allocator", "traces\nfinished", *(title for title, _, _ in _MEANS)]
    rows = []
    for allocator in dict.fromkeys(run.allocator for run in comparison.runs):
        runs = [run for run in comparison.runs if run.allocator == allocator and run.outcome == FINISHED]
        means = [form(geometric_mean(map(value, runs))) if runs else "-" for _, value, form in _MEANS]
        rows.append([allocator, f"{len(runs)} of {len(comparison.headers)}", *means])
    return titles, rows


def _summary(comparison: Comparison) -> Table:
    titles, rows = summary_rows(comparison)
    table = _empty_table()
    table.title = "Geometric means over the traces an allocator finished"
    table.title_justify = "left"
    table.title_style = "bold"
    for title in titles:
        table.add_column(title, justify="left" if title == "allocator" else "right", no_wrap=True)
    for row in rows:
        table.add_row(*row)
    return table
