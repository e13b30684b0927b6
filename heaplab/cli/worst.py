"""`heaplab worst`: search for the trace on which an allocator needs the most memory."""

import time

import click

from heaplab.allocators.registry import LANGUAGES
from heaplab.cli import INTERRUPTED
from heaplab.cli._outputs import demand_writable_file
from heaplab.cli._progress import status_line
from heaplab.errors import UsageError
from heaplab.lab.record import NATIVE
from heaplab.testing.worst import BUDGET, GOALS, LEAST, Progress
from heaplab.testing.worst import worst as search
from heaplab.testing.worst.methods import METHODS
from heaplab.traces import TraceWriter
from heaplab.units import counted, parse_size


@click.command()
@click.argument("allocator", metavar="SPEC|FILE")
@click.option(
    "--budget",
    type=click.IntRange(min=1),
    help=f"Programs to try.  [default: {BUDGET}, without --seconds]",
)
@click.option(
    "--seconds", type=click.FloatRange(min=0, min_open=True), help="Begin no new program after this time."
)
@click.option("--live", metavar="SIZE", default="256KiB", show_default=True, help="Live payload, at most.")
@click.option("--largest", metavar="SIZE", default="4KiB", show_default=True, help="The largest blocks.")
@click.option("--least", metavar="SIZE", default=str(LEAST), show_default=True, help="The smallest blocks.")
@click.option("--of", "goal", type=click.Choice(GOALS), default="heap", show_default=True)
@click.option("--method", type=click.Choice([*METHODS, "all"]), default="all", show_default=True)
@click.option("--seed", type=int, default=1, show_default=True, help="Of all that is drawn.")
@click.option("--language", type=click.Choice([*LANGUAGES, NATIVE]), default="c", show_default=True)
@click.option("-o", "--output", metavar="FILE.hlt", help="Save the worst trace.")
@click.option("--quiet", "-q", is_flag=True, help="Show no progress.")
def worst(
    allocator: str,
    budget: int | None,
    seconds: float | None,
    live: str,
    largest: str,
    least: str,
    goal: str,
    method: str,
    seed: int,
    language: str,
    output: str | None,
    quiet: bool,
) -> None:
    """Search for the trace on which an allocator needs the most memory for what is live, and show it.

    Programs of phases are tried; the best is made smaller, and stands beside Robson's program and its bound.
    With --budget alone two runs are equal.  Ctrl-C ends the search, and keeps the best.
    """
    if output is not None:
        if not output.endswith(".hlt"):
            raise UsageError(f"-o {output}: a trace is saved as FILE.hlt")
        demand_writable_file("-o", output)
    if budget is None and seconds is None:
        budget = BUDGET
    began = time.monotonic()

    def shown(progress: Progress) -> str:
        gone = time.monotonic() - began
        done = max(_part(progress.tried, budget), _part(gone, seconds), 1e-3)
        left = gone * (1 / done - 1)
        return (
            f"{progress.doing}: {progress.tried:,} programs, {progress.ratio:.2f} times the live bytes, "
            f"{left:.0f} s left"
        )

    with status_line("starting", quiet=quiet) as show:
        found = search(
            allocator,
            language,
            budget=budget,
            seconds=seconds,
            live=parse_size(live),
            largest=parse_size(largest),
            least=parse_size(least),
            goal=goal,
            method=method,
            seed=seed,
            tell=lambda progress: show(shown(progress)),
        )
    click.echo(found)
    if found.interrupted:
        click.echo("the search was interrupted: this is the best so far")
    if output is not None:
        with TraceWriter.create(output, found.trace.header.provenance()) as writer:
            for block in found.trace:
                writer.write(block)
        click.echo(f"saved: {output}, {counted(found.trace.header.events, 'event')}")
    if found.interrupted:
        click.get_current_context().exit(INTERRUPTED)


def _part(done: float, whole: float | None) -> float:
    """The part that is done; 0 of what has no end."""
    return done / whole if whole else 0
