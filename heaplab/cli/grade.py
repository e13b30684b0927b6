"""`heaplab grade`: submissions to a malloc course, side by side."""

import sys

import click

from heaplab.cli import FOUND_WRONG, INTERRUPTED, OK
from heaplab.cli._outputs import demand_writable_file
from heaplab.cli._progress import status_line
from heaplab.files import replacing
from heaplab.lab.course import exams_in, load_formula
from heaplab.lab.grading import MEMS_PER_OPERATION, Step, Throughput
from heaplab.lab.grading import grade as grade_all
from heaplab.native.playing import MAX_SECONDS, ROUNDS
from heaplab.report.grades import grades_to_csv, grades_to_json, show_grades


@click.command()
@click.argument("submissions", nargs=-1, required=True, metavar="FILE...")
@click.option("--traces", metavar="DIR", help="A folder of traces.  [default: seven short ones]")
@click.option(
    "--formula",
    metavar="classic|FILE",
    default="classic",
    show_default=True,
    help="How the index is made: a Python file has index(traces).",
)
@click.option(
    "--throughput",
    type=click.Choice(["mems", "time"]),
    default="mems",
    show_default=True,
    help="A ratio to the reference: of memory references, or of times in rounds.",
)
@click.option(
    "--rounds",
    type=click.IntRange(min=1),
    default=ROUNDS,
    show_default=True,
    help="How often a trace is timed, with --throughput time.",
)
@click.option("--json", "json_path", metavar="FILE", help="Write every figure as JSON.")
@click.option("--csv", "csv_path", metavar="FILE", help="Write a row for each submission and trace as CSV.")
@click.option(
    "--max-mems",
    type=click.IntRange(min=1),
    help=f"Memory references on one trace.  [default: {MEMS_PER_OPERATION:,} an operation]",
)
@click.option(
    "--max-seconds",
    type=click.FloatRange(min=0, min_open=True, max=1e6),
    default=MAX_SECONDS,
    show_default=True,
    help="For one event.",
)
@click.option("--jobs", type=click.IntRange(min=1), help="Traces played at once.  [default: one a core]")
@click.option("--quiet", "-q", is_flag=True, help="Show no progress.")
def grade(
    submissions: tuple[str, ...],
    traces: str | None,
    formula: str,
    throughput: Throughput,
    rounds: int,
    json_path: str | None,
    csv_path: str | None,
    max_mems: int | None,
    max_seconds: float,
    jobs: int | None,
    quiet: bool,
) -> None:
    """Grade submissions to a malloc course side by side, each confined in processes of its own.

    FILE is an mm.c, a folder that holds one, mm.c+list.c for several files, mm.c:align=8 for labs with blocks
    at multiples of 8, a C file that defines malloc, or a shared library.

    A submission on a trace is valid, with its utilisation and its throughput, or it is not: then a sentence
    says why, with the request and the line.  Throughput is a ratio to heaplab's reference, so that the mark
    does not depend on the computer.  What does not compile, crashes or does not end costs its own row.

    A weight in the header of a .rep trace is kept: 0 nothing, 1 both, 2 utilisation only, 3 throughput only.

    Exit status: 1 when a submission is not valid on some trace; 130 when interrupted.
    """
    for option, path in (("--json", json_path), ("--csv", csv_path)):
        demand_writable_file(option, path)
    index = load_formula(formula)
    exams = exams_in(traces) if traces is not None else None
    with status_line("starting", quiet=quiet) as show:

        def progress(step: Step) -> None:
            show(f"{step.done} of {step.planned}: {step.latest}")

        grading = grade_all(
            submissions,
            exams,
            formula=index,
            throughput=throughput,
            rounds=rounds,
            max_mems=max_mems,
            max_seconds=max_seconds,
            jobs=jobs,
            progress=progress,
        )
    for sentence in grading.unprotected:
        click.echo(f"heaplab: {sentence}", err=True)
    try:
        for path, text in ((json_path, grades_to_json), (csv_path, grades_to_csv)):
            if path is not None:
                with replacing(path) as file:
                    file.write(text(grading).encode())
    finally:
        show_grades(grading)
        sys.stdout.flush()
    if grading.interrupted:
        click.echo(
            f"heaplab: interrupted after {len(grading.grades)} of {grading.planned} submissions", err=True
        )
        click.get_current_context().exit(INTERRUPTED)
    wrong = any(each.valid < len(each.marks) for each in grading.grades)
    click.get_current_context().exit(FOUND_WRONG if wrong else OK)
