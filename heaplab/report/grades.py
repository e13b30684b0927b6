"""A grading as tables, as JSON and as CSV."""

import csv
import io
import json
from collections.abc import Callable, Sequence
from typing import Any

from rich.console import Console
from rich.text import Text

from heaplab import __version__
from heaplab.lab.columns import COST, SPACE, percent, rate, short
from heaplab.lab.course import Exam, Weight
from heaplab.lab.grading import Grade, Grading, Marked
from heaplab.report.sheets import Figures, Sheet, folded_legend, make_console, print_sheet
from heaplab.report.tables import heading
from heaplab.units import format_size

LEGEND = """\
index        what the formula makes of all traces; classic:
             100 (0.60 mean utilisation + 0.40 mean of min(1, throughput))
valid        the submission kept its contract on the trace to the end; if not,
             utilisation and throughput are 0
utilisation  peak live payload / peak heap
throughput   {throughput}; the mean takes none for more than 1
mems/op      memory references per operation: loads and stores of the submission's
             own code; p99: 99 % of the operations need no more
reference    heaplab's own mm.c, an explicit list: csrc/outside/reference.c
-            there is no such figure"""
_THROUGHPUT = {
    "mems": "the reference's mems / the submission's, the same on every computer",
    "time": "the reference's time / the submission's, in rounds with both in turn",
}
_COUNTS = {
    Weight.NOTHING: ", counts for nothing",
    Weight.BOTH: "",
    Weight.UTILISATION: ", counts for utilisation alone",
    Weight.THROUGHPUT: ", counts for throughput alone",
}


def show_grades(grading: Grading, console: Console | None = None) -> None:
    """Print the submissions side by side, the best first, and a table for each trace; and the legend.

    console: where to; by default standard output, as `heaplab.report.show`.
    """
    console = console or make_console()
    rows = [*grading.grades, grading.reference]
    if grading.grades:
        number = len(grading.exams)
        console.print(Text(f"Submissions on {number} trace" + "s" * (number != 1)), style="bold")
        print_sheet(console, _summary(rows), _said_of_all(grading.grades))
    for at, exam in enumerate(grading.exams):
        if grading.grades:
            console.print(heading(exam.name, exam.trace.header) + Text(_COUNTS[exam.weight]), style="bold")
            played = [row for row in rows if not row.refused]
            print_sheet(console, _of_trace(played, at), _said_of_trace(played, at))
    legend = LEGEND.format(throughput=_THROUGHPUT[grading.settings["throughput"]])
    console.print(folded_legend(legend, console.width), style="dim", highlight=False)


def _summary(rows: Sequence[Grade]) -> Sheet:
    reference = rows[-1]
    columns = [
        _column("index", [f"{row.index:.1f}" for row in rows], SPACE),
        _column("valid", [f"{row.valid} of {len(row.marks)}" for row in rows], SPACE),
        _column("utili-\nsation", [_or_none(row.utilisation, percent) for row in rows], SPACE),
        _column("through-\nput", [_or_none(row.throughput, _times) for row in rows], COST),
    ]
    marks = ["" if row is reference or row.valid == len(row.marks) else "!" for row in rows]
    return Sheet([row.name for row in rows], marks, columns, "submission")


def _said_of_all(grades: Sequence[Grade]) -> list[str]:
    remarks = [f"! {each.name}: {each.refused}" for each in grades if each.refused]
    return remarks + [f"{each.name}: {remark}" for each in grades for remark in each.remarks]


def _of_trace(rows: Sequence[Grade], at: int) -> Sheet:
    marks = [row.marks[at] for row in rows]
    columns = [
        _column("valid", ["yes" if mark.valid else "no" for mark in marks], SPACE),
        _column("utili-\nsation", [percent(mark.utilisation) for mark in marks], SPACE),
        _column("peak\nheap", [format_size(mark.peak_heap) if mark.valid else "-" for mark in marks], SPACE),
        _column("through-\nput", [_times(mark.throughput) for mark in marks], COST),
        _column("mems/op\nmean", [_of_valid(mark, mark.mems_mean, rate) for mark in marks], COST),
        _column("mems/op\np99", [_of_valid(mark, mark.mems_p99, short) for mark in marks], COST),
    ]
    if any(mark.ns_per_op is not None for mark in marks):
        columns.append(
            _column("native\nns/op", [_of_valid(mark, mark.ns_per_op, rate) for mark in marks], COST)
        )
    return Sheet(
        [row.name for row in rows], ["" if mark.valid else "!" for mark in marks], columns, "submission"
    )


def _said_of_trace(rows: Sequence[Grade], at: int) -> list[str]:
    return [f"! {row.name}: {row.marks[at].why}" for row in rows if not row.marks[at].valid]


def _column(title: str, cells: Sequence[str], group: str) -> Figures:
    return Figures(title, [Text(cell) for cell in cells], group)


def _times(value: float) -> str:
    return f"{value:.2f}"


def _or_none(value: float | None, form: Callable[[float], str]) -> str:
    return "-" if value is None else form(value)


def _of_valid(mark: Marked, value: float | None, form: Callable[[float], str]) -> str:
    return _or_none(value if mark.valid else None, form)


# ---- as plain data ----

_MARKS = (
    *("valid", "why", "utilisation", "throughput", "operations", "peak_live", "peak_heap"),
    *("mems_mean", "mems_p99", "ns_per_op"),
)


def grades_to_json(grading: Grading) -> str:
    """Return everything as JSON, a line a submission; the order is that of the tables."""
    whole = {
        "heaplab": __version__,
        "settings": grading.settings,
        "interrupted": grading.interrupted,
        "unprotected": grading.unprotected,
        "traces": {exam.name: _of_exam(exam) for exam in grading.exams},
    }
    lines = ",\n".join(
        json.dumps(_of_grade(each), separators=(",", ":")) for each in (grading.reference, *grading.grades)
    )
    return json.dumps(whole, indent=1)[:-2] + f',\n "submissions": [\n{lines}\n]}}\n'


def _of_exam(exam: Exam) -> dict[str, Any]:
    header = exam.trace.header
    return {"weight": int(exam.weight), "events": header.events, "peak_live": header.peak_live}


def _of_grade(grade: Grade) -> dict[str, Any]:
    return {
        "name": grade.name,
        "file": grade.file,
        "index": grade.index,
        "valid": grade.valid,
        "utilisation": grade.utilisation,
        "throughput": grade.throughput,
        "refused": grade.refused,
        "remarks": grade.remarks,
        "marks": {mark.trace: {name: getattr(mark, name) for name in _MARKS} for mark in grade.marks},
    }


def grades_to_csv(grading: Grading) -> str:
    """Return a row for each submission on each trace; sizes in bytes, no figure is an empty cell."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["submission", "index", "trace", "weight", *_MARKS])
    for grade in (grading.reference, *grading.grades):
        for mark in grade.marks:
            values = [getattr(mark, name) for name in _MARKS]
            cells = ["" if value is None else value for value in values]
            writer.writerow([grade.name, grade.index, mark.trace, int(mark.weight), *cells])
    return out.getvalue()
