"""`heaplab fork`: the pages that are copied after forks, design by design."""

import json

import click
from rich.text import Text

from heaplab import lab
from heaplab.allocators.registry import LANGUAGES, parse_list
from heaplab.cli._outputs import demand_writable_file
from heaplab.cli._progress import status_line
from heaplab.files import replacing
from heaplab.lab.columns import SPACE
from heaplab.lab.forking import Side, fork_cost
from heaplab.report.sheets import Figures, Sheet, make_console, print_sheet
from heaplab.traces import Snapshot, Trace, open_trace, snapshotting
from heaplab.units import counted, parse_size

LEGEND = """\
shared       pages with a frame that the forking processes had, at each fork
by metadata  pages copied afterwards, because the first write to each was to
             metadata (a header, a link, a bitmap)
by payload   because it was to the payload of a new block
alone        of those by metadata, the ones to which no payload was written as
             long as they were copies: metadata elsewhere would have spared them"""


@click.command()
@click.argument("traces", nargs=-1, required=True, metavar="TRACE...")
@click.option(
    "--allocators",
    metavar="SPEC,...",
    default=",".join(lab.default_allocators()),
    show_default=True,
    help="Designs with their parameters.",
)
@click.option(
    "--snapshot",
    metavar="EVENT|peak",
    help="Let each trace fork after so many events, or at the peak of the live payload: a child that reads "
    "all blocks and writes them out, while the parent goes on.",
)
@click.option("--frees", is_flag=True, help="With --snapshot: the child frees each block after it.")
@click.option("--language", type=click.Choice(LANGUAGES), default="c", show_default=True)
@click.option("--json", "json_path", metavar="FILE", help="Write every figure as JSON.")
@click.option("--seed", type=int, default=1, show_default=True, help="Of the kernel's random placement.")
@click.option("--ram", metavar="SIZE", default=lab.RAM, show_default=True, help="Of the simulated machine.")
@click.option("--quiet", "-q", is_flag=True, help="Show no progress.")
def fork(
    traces: tuple[str, ...],
    allocators: str,
    snapshot: str | None,
    frees: bool,
    language: str,
    json_path: str | None,
    seed: int,
    ram: str,
    quiet: bool,
) -> None:
    """Show which pages are copied after the forks of a trace, on each design: by metadata, and by payload.

    TRACE is a trace file or the name of a bundled trace: bash and cpython-prefork fork.  With --snapshot any
    trace does.
    """
    specs = parse_list(allocators, language)
    taken = _snapshot(snapshot, frees=frees)
    demand_writable_file("--json", json_path)
    parse_size(ram)
    opened = [open_trace(name) for name in traces]
    if taken is not None:
        opened = [snapshotting(trace, taken) for trace in opened]
    console, rows = make_console(), []
    for trace in opened:
        costs = []
        with status_line("starting", quiet=quiet) as show:
            for spec in specs:
                show(f"{trace.header.name} on {spec}")
                costs.append(fork_cost(trace, spec, seed=seed, ram=ram))
        rows += [cost.figures() for cost in costs]
        console.print(Text(_heading(trace), style="bold"))
        print_sheet(console, _sheet(costs), [])
    console.print(Text(LEGEND, style="dim"))
    if json_path is not None:
        with replacing(json_path) as file:
            file.write(json.dumps(rows, indent=1).encode())


def _snapshot(at: str | None, *, frees: bool) -> Snapshot | None:
    if at is None:
        if frees:
            raise click.UsageError("--frees: is what the child of a --snapshot does: give that too")
        return None
    if at != "peak" and not at.isdigit():
        raise click.UsageError(f"--snapshot {at}: give a number of events, or peak")
    return Snapshot(at=None if at == "peak" else int(at), frees=frees)


def _heading(trace: Trace) -> str:
    forks = trace.header.ops.get("fork", 0)
    return f"{trace.header.name}: {counted(forks, 'fork')} in {counted(trace.header.events, 'event')}"


def _sheet(costs: list[lab.ForkCost]) -> Sheet:
    values = {"pages\nshared": [cost.shared for cost in costs]}
    for name, sides in (
        ("parents", [cost.parent for cost in costs]),
        ("children", [cost.child for cost in costs]),
    ):
        values |= {f"{name}:\n{cause}": each for cause, each in _causes(sides).items()}
    columns = [
        Figures(title, [Text(f"{value:,}") for value in each], SPACE) for title, each in values.items()
    ]
    return Sheet([cost.allocator for cost in costs], ["" for _ in costs], columns)


def _causes(sides: list[Side]) -> dict[str, list[int]]:
    return {
        "by metadata": [side.metadata for side in sides],
        "alone": [side.alone for side in sides],
        "by payload": [side.payload for side in sides],
    }
