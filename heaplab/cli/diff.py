"""`heaplab diff`: what became better or worse from one set of results to another."""

import click

from heaplab import report
from heaplab.lab.sweeping.diff import BETTER, WORSE, read_rows
from heaplab.lab.sweeping.diff import diff as compared

OK, FOUND = 0, 1


@click.command()
@click.argument("first", metavar="A")
@click.argument("second", metavar="B")
@click.option("--metric", "metrics", metavar="NAME,...", default="", help="Only these figures.")
@click.option(
    "--all", "everything", is_flag=True, help="Also show what is the same, or differs within noise."
)
@click.option(
    "--fail-on",
    type=click.Choice(["worse", "change"]),
    help="Exit with 1 when something is worse, or when anything is better or worse.",
)
def diff(first: str, second: str, metrics: str, everything: bool, fail_on: str | None) -> None:
    """Show what became better or worse from A to B, trace by trace, beyond noise.

    A and B are stores of `heaplab sweep`, or files that `heaplab compare --json` has written.  Cells are
    compared that have trace, allocator, language and seed in common.  Where A and B have one allocator each,
    these two are compared, whatever they are called.

    Figures but times are exact, so any difference of theirs is real.  A time differs where intervals do not
    meet: over the seeds, or between the quartiles of the rounds of a real allocator.  A single time of the
    model's is not judged.

    Exit status: 0, or 1 as --fail-on says; 2 for a mistake.
    """
    found = compared(
        read_rows(first), read_rows(second), [name.strip() for name in metrics.split(",") if name.strip()]
    )
    report.show_diff(found, everything=everything)
    judged = {"worse": [WORSE], "change": [BETTER, WORSE], None: []}[fail_on]
    click.get_current_context().exit(FOUND if found.of(*judged) else OK)
