"""`heaplab show`: a few requests on designs, the heap after each."""

import shutil
import sys
from pathlib import Path

import click

from heaplab.allocators import LANGUAGES, Spec
from heaplab.cli._outputs import demand_writable_file
from heaplab.errors import UsageError
from heaplab.outside import find_allocators
from heaplab.views.film import LEGEND, film


@click.command()
@click.argument("specs", metavar="SPEC[,SPEC]...")
@click.argument("requests")
@click.option("--language", type=click.Choice(LANGUAGES), default="python", show_default=True)
@click.option("--seed", type=int, default=1, show_default=True, help="Of the kernel's random placement.")
@click.option("-o", "--output", metavar="FILE", help="Draw it too: a film strip in FILE.svg or FILE.png.")
def show(specs: str, requests: str, language: str, seed: int, output: str | None) -> None:
    """Show the heap after each of a few requests, on one design or on several.

    REQUESTS are such as "a0 400; a1 100; f0; a2 280": a malloc, c calloc, r realloc, f free, each with the
    number of a block; m0 64 400 is a block at a multiple of 64. `fork` makes process 1; `f0 @1` is a request
    of process 1. `-` reads the requests from standard input.

    Two orders are shown: the heap's, by address, and the free structure's own.
    """
    if output is not None:
        demand_writable_file("-o", output)
        if Path(output).suffix.lower() not in (".svg", ".png"):
            raise UsageError(f"-o {output}: is no name for a picture: let it end with .svg or .png")
    found = find_allocators(specs, language)
    designs = [each for each in found if isinstance(each, Spec)]
    if len(designs) < len(found):
        raise UsageError(f"{specs}: the heap of an allocator from outside cannot be walked: name designs")
    shown = film(designs, sys.stdin.read() if requests == "-" else requests, seed=seed)
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else 80
    click.echo(shown.text(width=width), nl=False)
    click.echo("\n".join(LEGEND))
    if output is not None:
        from heaplab import report  # noqa: PLC0415  matplotlib is slow to import

        report.filmstrip(shown).save(output)
        click.echo(f"drawn: {output}")
