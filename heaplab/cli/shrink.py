"""`heaplab shrink`: the shortest steps on which a design fails as it does on a trace."""

import time
from functools import partial

import click

from heaplab import lab
from heaplab.allocators.registry import LANGUAGES
from heaplab.cli._outputs import demand_writable_file
from heaplab.cli._progress import status_line
from heaplab.errors import UsageError
from heaplab.outside import Outside, find_allocators
from heaplab.testing import foreign
from heaplab.testing.checked_heap import CheckedHeap
from heaplab.testing.failure import Failure, report
from heaplab.testing.isolation import seen_apart
from heaplab.testing.limits import FEW_MEMS, FEW_SECONDS
from heaplab.testing.saving import demand_ending, save
from heaplab.testing.shrinking import shrink as find_shortest
from heaplab.testing.trials import Replayed
from heaplab.traces import open_trace
from heaplab.units import parse_size

OK, FOUND_WRONG = 0, 1


@click.command()
@click.argument("trace", metavar="TRACE")
@click.option("--allocators", metavar="SPEC", required=True, help="The design that fails on it.")
@click.option(
    "-o", "--output", metavar="FILE", help="Save the steps: .hlt, .rep or .c; all without an ending."
)
@click.option("--language", type=click.Choice(LANGUAGES), default="c", show_default=True)
@click.option(
    "--seconds",
    type=click.FloatRange(min=0),
    default=60.0,
    show_default=True,
    help="Spend no more time on making the steps few.",
)
@click.option(
    "--max-mems",
    type=click.IntRange(min=1),
    default=lab.DEFAULT_MAX_MEMS,
    show_default=True,
    help="A replay of the whole trace that makes more memory references has no end.",
)
@click.option(
    "--max-seconds",
    type=click.FloatRange(min=0, min_open=True),
    default=lab.DEFAULT_MAX_SECONDS,
    show_default=True,
    help="A call of a design in Python that takes longer has no end.",
)
@click.option("--seed", type=int, default=1, show_default=True, help="Of the kernel's random placement.")
@click.option("--ram", metavar="SIZE", default=lab.RAM, show_default=True, help="Of the simulated machine.")
@click.option("--quiet", "-q", is_flag=True, help="Show no progress.")
def shrink(
    trace: str,
    allocators: str,
    output: str | None,
    language: str,
    seconds: float,
    max_mems: int,
    max_seconds: float,
    seed: int,
    ram: str,
    quiet: bool,
) -> None:
    """Find the shortest steps on which a design fails as it does on TRACE, and show them.

    TRACE is a trace file or the name of a bundled trace, on which `heaplab compare` says that the design
    failed, or that it was stopped at the limit of mems.  Of the steps that are shown none can be left out,
    and no size made smaller.

    Exit status: 1 when the design fails; 0 when it does not, and there is nothing to shrink.
    """
    specs = find_allocators(allocators, language)
    if len(specs) > 1:
        raise UsageError(f"--allocators {allocators}: shrinking is for one design: name one")
    parse_size(ram)
    if output is not None:
        demand_ending(output)
        demand_writable_file("-o", output)
    [spec] = specs
    name = spec.name if isinstance(spec, Outside) else str(spec)
    opened = open_trace(trace)
    began = time.monotonic()
    with status_line("replaying the trace", quiet=quiet) as show:

        def tell(fewer: Failure) -> None:
            show(f"{len(fewer.steps):,} steps fail: looking for fewer")

        if isinstance(spec, Outside):
            judging = foreign.Judging(spec, most=max_mems, seconds=max_seconds)
            shrunk = foreign.shrink(opened, judging, seconds=seconds, tell=tell)
        else:
            trial = Replayed(spec, most=max_mems, seconds=max_seconds, seed=seed, ram=ram)
            shrunk = find_shortest(opened, trial, seconds=seconds, tell=tell)
    if shrunk is None:
        click.echo(f"{name} does not fail on {trace}: there is nothing to shrink")
        return
    seen = None
    if not isinstance(spec, Outside):
        fresh = partial(CheckedHeap, spec, ram=ram, seed=seed, mems=FEW_MEMS, seconds=FEW_SECONDS)
        seen = seen_apart(fresh, FEW_SECONDS)
    click.echo(report(shrunk.shortest, seen, of=opened.header.events))
    click.echo(f"\n{shrunk.minimal.attempts:,} attempts, {time.monotonic() - began:.1f} s")
    if not shrunk.minimal.finished:
        click.echo("there may be fewer: the time (--seconds) or the attempts were over")
    if output is not None:
        click.echo(f"saved: {', '.join(save(shrunk.shortest, output, name))}")
    click.get_current_context().exit(FOUND_WRONG)
