"""`heaplab fuzz`: look for steps on which a design breaks its contract."""

import time
from functools import partial

import click

from heaplab.cli._outputs import demand_writable_file
from heaplab.cli._progress import status_line
from heaplab.cli._trials import script_options
from heaplab.outside import Outside, find_allocator
from heaplab.testing import foreign
from heaplab.testing.authors import WRITTEN, kinds_of
from heaplab.testing.failure import report
from heaplab.testing.fuzz import Fuzzed, fresh_heap
from heaplab.testing.fuzz import fuzz as look_for_failures
from heaplab.testing.isolation import seen_apart
from heaplab.testing.limits import FEW_SECONDS
from heaplab.testing.saving import demand_ending, save

OK, FOUND_WRONG = 0, 1


@click.command()
@click.argument("design", metavar="SPEC|FILE")
@script_options(shrink_seconds=60.0)
@click.option(
    "--kinds", metavar="KIND,...", help=f"Of steps: {', '.join(WRITTEN)}.  [default: all that apply]"
)
@click.option(
    "-o", "--output", metavar="FILE", help="Save the steps: .hlt, .rep or .c; all without an ending."
)
@click.option("--quiet", "-q", is_flag=True, help="Show no progress.")
def fuzz(
    design: str,
    seconds: float,
    steps: int | None,
    kinds: str | None,
    seed: int,
    language: str,
    step_seconds: float,
    shrink_seconds: float,
    output: str | None,
    quiet: bool,
) -> None:
    """Play made-up scripts on a design until one fails, and show the shortest steps that fail so.

    Scripts repeat sizes and go in phases, as programs do; what brings the heap into a new state is continued.
    All blocks, what they contain, and the heap itself are verified.  With --steps two runs are equal.

    Exit status: 1 when the design broke its contract.
    """
    found = find_allocator(design, language)
    look = partial(foreign.fuzz, found) if isinstance(found, Outside) else partial(look_for_failures, found)
    spec = found.name if isinstance(found, Outside) else str(found)
    chosen = None if kinds is None else kinds_of(kinds)
    if output is not None:
        demand_ending(output)
        demand_writable_file("-o", output)
    began = time.monotonic()
    with status_line("starting", quiet=quiet) as show:
        fuzzed = look(
            seconds=seconds if steps is None else float("inf"),
            steps=steps,
            kinds=chosen,
            seed=seed,
            step_seconds=step_seconds,
            shrink_seconds=shrink_seconds,
            tell=lambda fuzzed: show(_progress(fuzzed)),
        )
    done = (
        f"{fuzzed.steps:,} steps in {fuzzed.scripts:,} scripts, {len(fuzzed.ways):,} ways through {spec}, "
        f"{time.monotonic() - began:.1f} s"
    )
    if fuzzed.first is None or fuzzed.minimal is None:
        click.echo(f"no failure: {done}")
        return
    failure = fuzzed.minimal.failure
    seen = None
    if not isinstance(found, Outside):
        seen = seen_apart(partial(fresh_heap, found, FEW_SECONDS), FEW_SECONDS)
    click.echo(report(failure, seen, of=len(fuzzed.first.steps)))
    click.echo(f"\nfound after {done}; {fuzzed.minimal.attempts:,} attempts to find fewer steps")
    if not fuzzed.minimal.finished:
        click.echo("there may be fewer: the time (--shrink-seconds) or the attempts were over")
    if output is not None:
        click.echo(f"saved: {', '.join(save(failure, output, spec))}")
    click.get_current_context().exit(FOUND_WRONG)


def _progress(fuzzed: Fuzzed) -> str:
    if fuzzed.first is None:
        return f"{fuzzed.steps:,} steps, {len(fuzzed.ways):,} ways"
    return f"a failure after {fuzzed.steps:,} steps: looking for fewer that fail so"
