"""`heaplab view`: a whole run of a trace, to look at in a browser."""

import os
from collections.abc import Callable, Sequence
from contextlib import ExitStack

import click

from heaplab import lab
from heaplab.allocators import Spec
from heaplab.allocators.registry import LANGUAGES
from heaplab.cli._outputs import demand_writable_file
from heaplab.cli._progress import status_line
from heaplab.errors import UsageError
from heaplab.files import replacing
from heaplab.lab.moments import Moments
from heaplab.outside import find_allocators
from heaplab.pages.answers import Answers
from heaplab.pages.page import module, page
from heaplab.pages.serving import Server
from heaplab.traces import open_trace
from heaplab.traces.sites import read_sites
from heaplab.units import parse_size
from heaplab.views.contents import run_container
from heaplab.views.run import MOST_DESIGNS, view_of


@click.command()
@click.argument("trace", metavar="TRACE")
@click.option(
    "--allocators",
    metavar="SPEC,...",
    default="buddy,rbtree",
    show_default=True,
    help=f"Designs with their parameters, side by side on one clock: at most {MOST_DESIGNS}.",
)
@click.option("-o", "--output", metavar="FILE", help="Write one page, a file that opens anywhere.")
@click.option("--at", type=int, metavar="N", help="The event around which a long trace is shown to the byte.")
@click.option("--sites", metavar="FILE", help="Call stacks that `heaplab record --sites` wrote beside TRACE.")
@click.option("--serve", is_flag=True, help="Show the page from this computer, and compute what it asks for.")
@click.option(
    "--port", type=click.IntRange(0, 65535), default=0, help="Of --serve.  [default: one that is free]"
)
@click.option("--language", type=click.Choice(LANGUAGES), default="c", show_default=True)
@click.option("--seed", type=int, default=1, show_default=True, help="Of the kernel's random placement.")
@click.option("--ram", metavar="SIZE", default=lab.RAM, show_default=True, help="Of the simulated machine.")
@click.option("--no-payload", is_flag=True, help="Write no payloads: the allocator's own pages alone.")
@click.option("--lenient", is_flag=True, help="Skip what cannot be in a trace, and count it.")
@click.option("--quiet", "-q", is_flag=True, help="Show no progress.")
def view(
    trace: str,
    allocators: str,
    output: str | None,
    at: int | None,
    sites: str | None,
    serve: bool,
    port: int,
    language: str,
    seed: int,
    ram: str,
    no_payload: bool,
    lenient: bool,
    quiet: bool,
) -> None:
    """Show a run of a trace over time and address: every block where it lay, zoom, scrubber, free structure.

    TRACE is a trace file or the name of a bundled trace.  -o writes a page: one file, no network.  A trace
    that is too long for a page of 5 MB is shown whole in coarse levels, and to the byte around --at, by
    default around the peak.

    With --serve the page comes from 127.0.0.1, and every window and every moment is computed when it is
    asked for, whatever the trace's length.  Ctrl-C ends it.

    A run that fails is shown up to where it failed, with the reason.
    """
    if output is None and not serve:
        raise UsageError("say where the page is to go: -o PAGE.html writes it, --serve shows it")
    specs = _designs(allocators, language)
    parse_size(ram)
    demand_writable_file("-o", output)
    if output is not None and output.lower().endswith((".svg", ".png", ".pdf")):
        raise UsageError(f"-o {output}: the view is a page: let its name end with .html")
    opened = open_trace(trace, lenient=lenient)
    events = opened.header.events
    asked = None if sites is None else read_sites(sites)
    if at is not None and not 0 <= at < events:
        raise UsageError(f"--at {at}: {opened.header.name} has events 0 to {events - 1}")
    for remark in opened.remarks:
        click.echo(f"heaplab: {remark}", err=True)
    with ExitStack() as stack:
        with status_line(f"replaying {opened.header.name}", quiet=quiet) as tell:
            runs = [
                stack.enter_context(
                    Moments(
                        opened,
                        spec,
                        seed=seed,
                        ram=ram,
                        payload=not no_payload,
                        max_mems=lab.DEFAULT_MAX_MEMS,
                        progress=_telling(tell, f"replaying on {spec}", events),
                    )
                )
                for spec in specs
            ]
            seen = view_of(
                runs,
                at=at,
                seed=seed,
                ram=ram,
                payload=not no_payload,
                sites=asked,
                progress=lambda what, done: _telling(tell, f"looking at {what}", events)(done),
            )
            tell("making the page")
            container = run_container(seen, at=at)
            title = f"{opened.header.name} on {' and '.join(map(str, specs))}"
            if output is not None:
                with replacing(output) as file:
                    file.write(page(container, title).encode())
        click.echo(seen)
        if output is not None:
            click.echo(f"page: {output} ({os.path.getsize(output):,} bytes)")
        if serve:
            _serve(page(container, title, served=True), container, Answers(seen, runs), port)


def _telling(tell: Callable[[str], None], what: str, events: int) -> Callable[[int], None]:
    """Return what shows how far something is."""
    return lambda done: tell(f"{what}: {done:,} of {events:,} events")


def _serve(text: str, container: bytes, answers: Answers, port: int) -> None:
    """Serve until Ctrl-C."""
    with Server(text, module(), container, answers, port) as server:
        click.echo(f"open {server.url} in a browser; Ctrl-C ends it")
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            click.echo()


def _designs(text: str, language: str) -> Sequence[Spec]:
    """Return the designs that can be seen.  Raises: UsageError for others."""
    specs = []
    for found in find_allocators(text, language):
        if not isinstance(found, Spec):
            raise UsageError(
                f"{found.name}: an allocator from outside is played as machine code, and no page shows its "
                "heap: name a design of heaplab's, or a file that defines one"
            )
        specs.append(found)
    if len(specs) > MOST_DESIGNS:
        raise UsageError(f"--allocators {text}: these are {len(specs)}: name at most {MOST_DESIGNS}")
    return specs
