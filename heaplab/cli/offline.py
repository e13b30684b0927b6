"""`heaplab offline`: how little memory a trace's blocks can do with."""

import json

import click

from heaplab import lab
from heaplab.cli._outputs import demand_writable_file
from heaplab.cli._progress import status_line
from heaplab.files import replacing
from heaplab.traces import open_trace


@click.command()
@click.argument("traces", nargs=-1, required=True, metavar="TRACE...")
@click.option(
    "--every",
    is_flag=True,
    help="Try all heuristics, also when a placement is within a thousandth of the bound.",
)
@click.option("--json", "json_path", metavar="FILE", help="Write every figure as JSON.")
@click.option("--lenient", is_flag=True, help="Skip what cannot be in a trace, and count it.")
@click.option("--quiet", "-q", is_flag=True, help="Show no progress.")
def offline(traces: tuple[str, ...], every: bool, json_path: str | None, lenient: bool, quiet: bool) -> None:
    """Say how small a heap could be: its blocks placed with all births and deaths known, and a bound.

    The lower bound is the peak of live bytes, each block rounded up to 16.  Below it stands what each
    heuristic needs, the smallest first.  What was found is kept, so the next time is quick.

    `heaplab compare --offline` holds allocators against the best placement.
    """
    demand_writable_file("--json", json_path)
    found = []
    for name in traces:
        trace = open_trace(name, lenient=lenient)
        with status_line(f"{name}: reading", quiet=quiet) as show:
            found.append(lab.offline(trace, every=every, progress=show))
        for remark in trace.remarks:
            click.echo(remark)
        click.echo(f"{found[-1]}\n")
    if json_path is not None:
        with replacing(json_path) as file:
            file.write(json.dumps([each.as_dict() for each in found], indent=2).encode() + b"\n")
