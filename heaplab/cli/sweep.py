"""`heaplab sweep`: a grid of traces, allocators, parameters and seeds, each cell run once and kept."""

import inspect
import sys
from typing import Any

import click

from heaplab import lab, report
from heaplab.allocators.registry import LANGUAGES
from heaplab.cli import FOUND_WRONG, INTERRUPTED, OK
from heaplab.cli._outputs import demand_writable_file
from heaplab.cli._progress import progress_bar
from heaplab.errors import UsageError
from heaplab.files import replacing
from heaplab.lab.sweeping.grid import Value
from heaplab.native.peers import NAMES, parse_peers
from heaplab.native.playing import CRASHED, FAILED, HUNG, ROUNDS
from heaplab.units import parse_size

#: more seeds than these are a mistake
_MOST_SEEDS = 100_000


@click.command()
@click.argument("traces", nargs=-1, required=True, metavar="TRACE...")
@click.option("--allocators", metavar="SPEC,...", default="", help="Designs with their parameters; files.")
@click.option("--native", metavar="NAME,...", help=f"Real allocators beside them: {', '.join(NAMES)}, ...")
@click.option(
    "--param",
    "params",
    multiple=True,
    metavar="NAME=VALUE,...",
    help="What stands for {NAME} in a TRACE or SPEC, in turn; with ; between values that have commas.",
)
@click.option(
    "--seeds",
    metavar="N,...|A..B",
    default="1",
    show_default=True,
    help="Of the kernel's placement, and of workloads.",
)
@click.option(
    "--store", metavar="DIR", help="Keep cells there, in Parquet; those that are there are not run."
)
@click.option("--cluster", metavar="ADDRESS", help="Of a Dask scheduler whose workers run the cells.")
@click.option("--csv", "csv_path", metavar="FILE", help="Write a row for each cell as CSV.")
@click.option("--language", type=click.Choice(LANGUAGES), default="c", show_default=True)
@click.option(
    "--rounds",
    type=click.IntRange(min=1),
    default=ROUNDS,
    show_default=True,
    help="Of each real one's times.",
)
@click.option("--latency", is_flag=True, help="Also percentiles of a real allocator's single calls.")
@click.option(
    "--max-mems",
    type=click.IntRange(min=1),
    default=lab.DEFAULT_MAX_MEMS,
    show_default=True,
    help="Stop a cell before the memory reference that takes their number above this.",
)
@click.option(
    "--max-seconds",
    type=click.FloatRange(min=0, min_open=True, max=1e6),
    default=lab.DEFAULT_MAX_SECONDS,
    show_default=True,
    help="End a cell when one call of the allocator takes longer than this.",
)
@click.option("--ram", metavar="SIZE", default=lab.RAM, show_default=True, help="Of the simulated machine.")
@click.option("--no-payload", is_flag=True, help="Neither write nor verify payloads.")
@click.option("--jobs", type=click.IntRange(min=1), help="Worker processes.  [default: one a core]")
@click.option("--quiet", "-q", is_flag=True, help="Show no progress.")
def sweep(
    traces: tuple[str, ...],
    allocators: str,
    native: str | None,
    params: tuple[str, ...],
    seeds: str,
    store: str | None,
    cluster: str | None,
    csv_path: str | None,
    language: str,
    rounds: int,
    latency: bool,
    max_mems: int,
    max_seconds: float,
    ram: str,
    no_payload: bool,
    jobs: int | None,
    quiet: bool,
) -> None:
    """Run a grid: traces and workloads, allocators, parameters and seeds; each cell once.

    \b
    heaplab sweep gcc lua --allocators 'freelist:fit={fit},rbtree' --param fit=first,best --store cells

    TRACE is a trace file, the name of a bundled trace, or workload:KEY=VALUE...; {NAME} in it, or in a SPEC,
    is filled with the values that --param gives.  A workload takes the seeds of --seeds, unless its text has
    a seed.

    With --store each cell is on the disk as soon as it is finished.  The same command goes on from there
    after Ctrl-C, a killed process or a full disk; a cell with equal content of trace and code, parameters
    and options is never run again.  pandas, polars and DuckDB read DIR/cells.parquet.

    A cell that fails, crashes or does not end is a row that says so.

    Exit status: 1 when a cell failed, crashed, or did not return, or a trace could not be read; 2 for a
    mistake; 130 when interrupted.
    """
    parse_size(ram)
    demand_writable_file("--csv", csv_path)
    if latency and native is None:
        raise UsageError("--latency is of real allocators alone: name some with --native")
    with progress_bar(quiet) as show_progress:
        swept = lab.sweep(
            traces,
            [text.strip() for text in allocators.split(",") if text.strip()],
            seeds=parse_seeds(seeds),
            store=store,
            cluster=cluster,
            language=language,
            native=parse_peers(native) if native is not None else [],
            max_mems=max_mems,
            max_seconds=max_seconds,
            payload=not no_payload,
            ram=ram,
            jobs=jobs,
            rounds=rounds,
            latency=latency,
            progress=show_progress,
            **parse_params(params),
        )
    try:
        if csv_path is not None:
            with replacing(csv_path) as file:
                swept.frame().to_csv(file, index=False)
    finally:
        report.show_sweep(swept)
        sys.stdout.flush()
    if swept.interrupted:
        click.echo(f"heaplab: interrupted after {len(swept.rows)} of {swept.planned} cells", err=True)
    click.get_current_context().exit(_status(swept))


def _status(swept: lab.Sweep) -> int:
    if swept.interrupted:
        return INTERRUPTED
    failed = any(row.figures["outcome"] in (FAILED, CRASHED, HUNG) for row in swept.rows)
    return FOUND_WRONG if failed or swept.unread else OK


def parse_seeds(text: str) -> list[int]:
    """Return the seeds in a list; `1..5` are five.  Raises: UsageError for what is none.

    >>> parse_seeds("1..3,7")
    [1, 2, 3, 7]
    """
    seeds: list[int] = []
    for part in text.split(","):
        first, dots, last = part.strip().partition("..")
        try:
            low = int(first)
            high = int(last) if dots else low
        except ValueError:
            raise UsageError(f"--seeds {text}: {part.strip()!r} is no seed: write 1,2,3 or 1..3") from None
        if not 0 <= high - low < _MOST_SEEDS:
            raise UsageError(f"--seeds {text}: {part.strip()} has no seeds, or too many")
        seeds += range(low, high + 1)
    return seeds


def parse_params(texts: tuple[str, ...]) -> dict[str, Any]:
    """Return the values of parameters by name; what looks like a number is one.  Raises: UsageError.

    >>> parse_params(("fit=first,best", "mean=32,6.5", "sizes=uniform,1,9;constant,5"))
    {'fit': ['first', 'best'], 'mean': [32, 6.5], 'sizes': ['uniform,1,9', 'constant,5']}
    """
    found: dict[str, list[Value]] = {}
    for text in texts:
        name, equals, values = text.partition("=")
        if not equals or not name.isidentifier() or not values:
            raise UsageError(f"--param {text}: write NAME=VALUE,VALUE...")
        if name in found or name in _OTHERS:
            why = "is given twice" if name in found else "is what something else is called"
            raise UsageError(f"--param {text}: {name} {why}: choose another name")
        separator = ";" if ";" in values else ","
        found[name] = [_value(each.strip()) for each in values.split(separator) if each.strip()]
    return found


def _value(text: str) -> Value:
    for kind in (int, float):
        try:
            number = kind(text)
        except ValueError:
            continue
        if str(number) == text:
            return number
    return text


#: arguments of `lab.sweep`, which no parameter can be called like
_OTHERS = frozenset(inspect.signature(lab.sweep).parameters)
