"""A comparison as tables for the terminal, wide or narrow, and for whoever reads a pipe."""

from collections.abc import Sequence

from rich.console import Console
from rich.text import Text

from heaplab import __version__
from heaplab.lab import Comparison, Run
from heaplab.lab.columns import COST, Column, foreign_clock, shown_columns
from heaplab.lab.columns import WIDE as UNRANKED
from heaplab.lab.record import NATIVE
from heaplab.native.playing import CRASHED, FAILED, FINISHED, HUNG, STOPPED
from heaplab.report.means import Summary
from heaplab.report.sheets import Figures, Sheet, folded_legend, make_console, print_sheet
from heaplab.report.verdict import verdict
from heaplab.traces import Header

LEGEND = """\
peak         the most after any operation. live: payload requested and not yet
             freed; heap: address space (VMAs) from brk and anonymous mmap;
             resident: distinct anonymous frames: what fork shares counts once
KiB, MiB     2^10 and 2^20 bytes; k, M: a thousand and a million
utilisation  peak live / peak heap
freed        when every block still live after the last event is freed
fragm.       at the peak of live, shares of the heap. internal: (allocated
             blocks + metadata - live) / heap; external: what is left
page faults  minor faults, the payload's included
mmap calls   mmap and munmap
mems/op      memory references per operation: loads and stores of the
             allocator's own, not the payload's; p99: 99 % of the operations
             need no more
ns/op        processor time of the replay per operation, with system calls and
             faults, and with the payload's; it differs from run to run, as do
             the times of real allocators
-            there is no such figure"""

NATIVE_LEGEND = """native       a real allocator: the same trace played on it by a small program,
             each pass a process of its own, without huge pages. heap: private
             writable memory; resident: too low by half a percent at most;
             faults and memory of the playing program itself are taken off
native ns/op processor time of a replay without clocks, less that of a replay
             without an allocator; median over rounds in which all take turns
spread       the quartiles' distance. ~: more than a tenth of the median, or one
             round alone, so do not rank by it
heaplab:     a design of heaplab's on Linux. Here its addresses are as they come,
             and threads take blocks of their own, so it differs a little from
             its modelled row; experiments/model_predicts_linux.py has neither
ns p50, ...  of single calls, from a pass of its own with a clock around each,
             the clock's cost taken off: no finer than its tick of some 10 ns"""


LINES_LEGEND = """lines/op     (--lines) distinct cache lines of 64 bytes that the references of an
             operation touch"""

OFFLINE_LEGEND = """over best    how much larger the peak is than the smallest heap known to hold the
             trace's blocks, placed with all births and deaths known, without
             headers. Resident may be below it: where processes share after a
             fork, and where pages go back before the peak"""

NO_PAYLOAD_LEGEND = """no payload   (--no-payload) payloads are neither written nor verified. Resident
             memory, page faults and ns/op are then the allocator's own: a page
             that it never touches has no frame, so resident may be below live"""


def legend(comparison: Comparison) -> str:
    """Return what the tables' words mean."""
    has_native = any(run.language == NATIVE for run in comparison.runs)
    parts = [LEGEND, *([NATIVE_LEGEND] if has_native else [])]
    if any(run.lines is not None for run in comparison.runs):
        parts.append(LINES_LEGEND)
    if any(run.best_placement for run in comparison.runs):
        parts.append(OFFLINE_LEGEND)
    if not comparison.settings.get("payload", True):
        parts.append(NO_PAYLOAD_LEGEND)
    return "\n".join(parts)


def show(comparison: Comparison, console: Console | None = None, *, explain: bool = True) -> None:
    """Print the tables of every trace, the summary over them, the legend, and last the verdict.

    explain: False leaves the legend out.
    console: where to; by default standard output.  On a terminal no line is wider than it: a table that would
    be is folded, its last columns in a table of their own below.  Into a pipe or a file a table is as wide as
    it needs to be, whatever COLUMNS says.
    """
    console = console or make_console()
    for name, header in comparison.headers.items():
        runs = comparison.of_trace(name)
        if not runs:
            continue
        console.print(heading(name, header), style="bold")
        print_sheet(
            console,
            _run_sheet(runs, shown_columns(comparison)),
            [f"{mark} {text}" for mark, text in notes(runs)],
        )
    if len(comparison.headers) > 1 and comparison.runs:
        summary = Summary(comparison)
        console.print(Text(summary.title), style="bold")
        print_sheet(console, _summary_sheet(summary), summary.notes())
    below = remarks(comparison)
    for sentence in below:
        console.print(Text(sentence))
    if below:
        console.print()
    if explain:
        console.print(folded_legend(legend(comparison), console.width), style="dim", highlight=False)
    if len({run.allocator for run in comparison.runs}) > 1:
        if explain:
            console.print()
        console.print(Text(str(verdict(comparison))))


def remarks(comparison: Comparison) -> list[str]:
    """What is to be said below all tables: traces without runs, what readers skipped, who is not there."""
    unread = (f"! no runs: {sentence}" for sentence in comparison.unread.values())
    return [*unread, *comparison.remarks, *comparison.left_out]


def settings_line(comparison: Comparison) -> str:
    """What the runs were asked for, in a line."""
    settings = comparison.settings
    limit = settings["max_mems"]
    facts = [
        f"heaplab {__version__}",
        f"allocators in {' and '.join(language.capitalize() for language in settings['languages'])}",
        f"seed {settings['seed']}",
        "no payloads"
        if not settings.get("payload", True)
        else f"payloads {'verified' if settings['verify'] else 'not verified'}",
        f"a run stops above {limit:,} memory references" if limit else "no limit of memory references",
    ]
    if comparison.interrupted:
        facts.append(f"interrupted after {len(comparison.runs)} of {comparison.planned} runs")
    return "; ".join(facts)


def heading(name: str, header: Header) -> Text:
    """The trace in a line: name, program, events."""
    program = " ".join(word for word in (header.program, header.version) if word)
    processes = f", {header.processes} processes" if header.processes > 1 else ""
    return Text(f"{name}{': ' + program if program else ''}, {header.events:,} events{processes}")


def _run_sheet(runs: Sequence[Run], columns: Sequence[Column]) -> Sheet:
    mark = marks(runs)
    figures = [Figures(column.title, best_cells(column, runs), column.group) for column in columns]
    return Sheet([run.allocator for run in runs], [mark[run.allocator] for run in runs], figures)


def _summary_sheet(summary: Summary) -> Sheet:
    titles, rows = summary_rows(summary)
    columns = [
        Figures(title, [Text(row[number]) for row in rows], COST)
        for number, title in enumerate(titles)
        if number
    ]
    mark = marks([run for run in summary.comparison.runs if run.outcome == FINISHED])
    nothing = dict.fromkeys(set(summary.allocators) - set(summary.shown), "!")
    return Sheet(summary.allocators, [{**mark, **nothing}[name] for name in summary.allocators], columns)


def best_cells(column: Column, runs: Sequence[Run]) -> list[Text]:
    """A column's cells, the best among the finished runs in bold."""
    written = column.cells(runs)
    rivals = {
        number: value
        for number, run in enumerate(runs)
        if run.outcome == FINISHED and written[number] != "-" and (value := column.of(run)) is not None
    }
    if any(cell.endswith(UNRANKED) for cell in written):
        rivals = {}
    best = column.best(rivals.values()) if column.best and len(rivals) > 1 else None
    return [
        Text(cell, "bold" if best is not None and rivals.get(number) == best else "")
        for number, cell in enumerate(written)
    ]


_MARKS = {FINISHED: "", STOPPED: "*", FAILED: "!", CRASHED: "!", HUNG: "!"}
#: of a design in Python beside designs in C
_PYTHON = "^"


def marks(runs: Sequence[Run]) -> dict[str, str]:
    """The mark of each allocator's row."""
    foreign = foreign_clock(runs)
    return {
        run.allocator: _MARKS[run.outcome] + (_PYTHON if run.allocator in foreign else "") for run in runs
    }


def notes(runs: Sequence[Run]) -> list[tuple[str, str]]:
    """What is to be said below the table: mark and sentence."""
    notes = []
    for run in runs:
        if run.outcome == FINISHED:
            continue
        text = f"{run.allocator} {run.outcome}: {run.reason}"
        if run.outcome == STOPPED and run.fragmentation and not run.fragmentation.at_peak:
            text += "; the peak of live was not reached, its fragmentation is of that moment"
        notes.append((_MARKS[run.outcome], text))
    if foreign := foreign_clock(runs):
        names = ", ".join(run.allocator for run in runs if run.allocator in foreign)
        notes.append((_PYTHON, f"{names}: in Python; its ns would be Python's, so there are none beside C's"))
    return notes


def summary_rows(summary: Summary) -> tuple[list[str], list[list[str]]]:
    """Return titles and rows of the geometric means."""
    titles = ["allocator", "traces\nfinished", *(mean.title for mean in summary.means)]
    traces = len(summary.comparison.headers)
    finished = [f"{len(summary.finished[name])} of {traces}" for name in summary.allocators]
    means = (summary.cells(mean) for mean in summary.means)
    return titles, [list(row) for row in zip(summary.allocators, finished, *means, strict=True)]
