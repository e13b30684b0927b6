"""`heaplab step`: a trace on one design, event by event."""

import importlib.util
import sys

import click

from heaplab import lab
from heaplab.allocators.registry import LANGUAGES
from heaplab.cli._progress import status_line
from heaplab.errors import UsageError
from heaplab.lab.moments import Moments
from heaplab.outside import Outside, find_allocators
from heaplab.traces import open_trace
from heaplab.units import parse_size
from heaplab.views.step import Steps


@click.command()
@click.argument("trace", metavar="TRACE")
@click.option("--allocators", metavar="SPEC", required=True, help="The design whose heap is shown.")
@click.option(
    "--at",
    metavar="EVENT",
    default="first",
    show_default=True,
    help="Begin with this event: a number, peak, peak heap, peak resident, failure, last, 'block 270', or "
    "words of a search such as fault, brk, 'malloc size 1k-8k'.",
)
@click.option("--process", type=click.IntRange(min=0), help="Show the heap of this process of the trace.")
@click.option("--print", "prints", is_flag=True, help="Print the event and the heap after it, and end.")
@click.option("--language", type=click.Choice(LANGUAGES), default="c", show_default=True)
@click.option("--seed", type=int, default=1, show_default=True, help="Of the kernel's random placement.")
@click.option("--ram", metavar="SIZE", default=lab.RAM, show_default=True, help="Of the simulated machine.")
@click.option("--quiet", "-q", is_flag=True, help="Show no progress.")
def step(
    trace: str,
    allocators: str,
    at: str,
    process: int | None,
    prints: bool,
    language: str,
    seed: int,
    ram: str,
    quiet: bool,
) -> None:
    """Step through TRACE on one design: what each request does to the heap, forwards and backwards.

    TRACE is a trace file or the name of a bundled trace. Shown are the request, its memory references one by
    one, the blocks, pages and counters that it changed, memory with headers and links decoded, and the free
    blocks as the design keeps them. Events have numbers from 0 on; the heap is as it is after the event.

    Into a pipe, or with --print, one event is printed as text. In a terminal `?` tells the keys; that needs
    Textual (pip install 'heaplab[step]').
    """
    interactive = not prints and _has_terminal()
    if interactive and importlib.util.find_spec("textual") is None:
        raise UsageError("stepping in a terminal needs Textual: pip install 'heaplab[step]', or use --print")
    specs = find_allocators(allocators, language)
    if len(specs) > 1:
        raise UsageError(f"--allocators {allocators}: stepping is for one design: name one")
    [spec] = specs
    if isinstance(spec, Outside):
        raise UsageError(
            f"--allocators {spec.name}: an allocator from outside cannot be stepped: heaplab does not know "
            "its heap: name one of heaplab's designs, or a C file over env.h"
        )
    parse_size(ram)
    with Moments(open_trace(trace), spec, seed=seed, ram=ram, max_mems=lab.DEFAULT_MAX_MEMS) as moments:
        steps = Steps(moments)
        with status_line(f"looking for {at}", quiet=quiet):
            event = steps.finder.find(at)
            shown = steps.at(event, process)
        if not interactive:
            click.echo(shown.text(), nl=False)
            return
        from heaplab.terminal.stepper import Stepper  # noqa: PLC0415  Textual is not needed for --print

        Stepper(steps, event, process).run()


def _has_terminal() -> bool:
    """Return whether somebody sees what is written, and can press keys."""
    return sys.stdout.isatty() and sys.stdin is not None and sys.stdin.isatty()
