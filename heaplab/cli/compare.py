"""`heaplab compare`: traces through allocators, side by side."""

import sys
from pathlib import Path

import click

from heaplab import lab, report
from heaplab.allocators.registry import LANGUAGES
from heaplab.cli import FOUND_WRONG, INTERRUPTED, OK
from heaplab.cli._moments import moments_at_peaks
from heaplab.cli._outputs import demand_writable_file, demand_writable_folder
from heaplab.cli._progress import progress_bar
from heaplab.cli._suggestions import suggestions
from heaplab.errors import UsageError
from heaplab.files import replacing
from heaplab.native.peers import NAMES, parse_peers
from heaplab.native.playing import CRASHED, FAILED, HUNG, ROUNDS
from heaplab.outside import find_allocators
from heaplab.traces import corpus
from heaplab.units import parse_size

#: moments at which heaps are walked for the fragmentation over time in a page
REPORT_WALKS = 24


@click.command()
@click.argument("traces", nargs=-1, metavar="[TRACE]...")
@click.option(
    "--allocators",
    metavar="SPEC,...",
    default=",".join(lab.default_allocators()),
    show_default=True,
    help="Designs with their parameters: name[:key=value]...; files: NAME.py, mm.c, NAME.so.",
)
@click.option(
    "--native",
    metavar="NAME,...",
    help=f"Real allocators beside them: {', '.join(NAMES)}, a library's PATH.so, heaplab:SPEC.",
)
@click.option(
    "--rounds",
    type=click.IntRange(min=1),
    default=ROUNDS,
    show_default=True,
    help="How often each real allocator is timed, all in turn.",
)
@click.option("--latency", is_flag=True, help="Also percentiles of a real allocator's single calls.")
@click.option("--lines", is_flag=True, help="Also the distinct cache lines of each call, on the model.")
@click.option("--sites", metavar="FILE", help="Call stacks that `heaplab record --sites` wrote beside TRACE.")
@click.option(
    "--offline",
    is_flag=True,
    help="Also the best placement known of each trace's blocks, and how far above it the allocators are.",
)
@click.option("--language", type=click.Choice(LANGUAGES), default="c", show_default=True)
@click.option("--json", "json_path", metavar="FILE", help="Write every figure as JSON.")
@click.option("--csv", "csv_path", metavar="FILE", help="Write a row of figures for each run as CSV.")
@click.option(
    "--report",
    "report_path",
    metavar="FILE.html|DIR",
    help="Write a page with figures and tables: one file, or a directory.",
)
@click.option(
    "--max-mems",
    type=click.IntRange(min=1),
    default=lab.DEFAULT_MAX_MEMS,
    show_default=True,
    help="Stop a run before the memory reference that takes their number above this.",
)
@click.option(
    "--max-seconds",
    type=click.FloatRange(min=0, min_open=True, max=1e6),
    default=lab.DEFAULT_MAX_SECONDS,
    show_default=True,
    help="End a run when one call of the allocator, or a walk over its heap, takes longer than this.",
)
@click.option("--seed", type=int, default=1, show_default=True, help="Of the kernel's random placement.")
@click.option("--ram", metavar="SIZE", default=lab.RAM, show_default=True, help="Of the simulated machine.")
@click.option(
    "--no-payload",
    is_flag=True,
    help="Neither write nor verify payloads: the allocator's own pages alone; traces may outgrow --ram.",
)
@click.option("--lenient", is_flag=True, help="Skip what cannot be in a trace, and count it.")
@click.option("--jobs", type=click.IntRange(min=1), help="Worker processes.  [default: one a core]")
@click.option("--quiet", "-q", is_flag=True, help="Show no progress.")
def compare(
    traces: tuple[str, ...],
    allocators: str,
    native: str | None,
    rounds: int,
    latency: bool,
    lines: bool,
    sites: str | None,
    offline: bool,
    language: str,
    json_path: str | None,
    csv_path: str | None,
    report_path: str | None,
    max_mems: int,
    max_seconds: float,
    seed: int,
    ram: str,
    no_payload: bool,
    lenient: bool,
    jobs: int | None,
    quiet: bool,
) -> None:
    """Replay traces on allocators and show what they cost, in space and in time.

    TRACE is a trace file or the name of a bundled trace; without one, the whole bundled corpus is taken.
    Payloads are written and verified, unless --no-payload says otherwise.  Ctrl-C ends the comparison and
    shows what is finished.

    With --native the traces are also played on real allocators, rows among the others: their memory by the
    same definitions, and the time of replays without clocks.  heaplab:SPEC is a design in C, compiled for
    Linux.

    A design in a file of its own is named by the file's path, NAME.py or NAME.c.  Nothing else is imported
    from its folder, nor from the working directory: what the file imports is installed, or found by
    PYTHONPATH.

    An allocator from outside is named so too: a course's mm.c (mm.c:align=8 for labs with 8 bytes), a C file
    that defines malloc, a library.  It is played as a real allocator, and its references are counted.

    On a terminal a table that is wider is folded: the other columns stand below.  Into a pipe or a file
    tables are written whole, whatever the terminal.

    --report FILE.html makes one page that opens anywhere, without network: a verdict, tables that sort,
    memory and fragmentation over time, and maps.  For it heaps are walked at some more moments.  --report DIR
    makes a page with its pictures as files.

    A trace that cannot be read costs its own runs alone.  Below the tables stand, for failures on the model,
    the commands that make them small.

    Exit status: 1 when an allocator broke the contract, crashed, or did not return, or a trace could not be
    read; 2 when none could; 130 when interrupted.
    """
    specs = find_allocators(allocators, language)
    peers = parse_peers(native) if native is not None else []
    if latency and native is None:
        raise UsageError("--latency is of real allocators alone: name some with --native")
    parse_size(ram)
    for option, path in (("--json", json_path), ("--csv", csv_path)):
        demand_writable_file(option, path)
    one_page = report_path is not None and _is_page(report_path)
    (demand_writable_file if one_page else demand_writable_folder)("--report", report_path)
    with progress_bar(quiet) as show_progress:
        comparison = lab.compare(
            traces or corpus.names(),
            specs,
            max_mems=max_mems,
            max_seconds=max_seconds,
            payload=not no_payload,
            lenient=lenient,
            seed=seed,
            ram=ram,
            walks=REPORT_WALKS if one_page else 0,
            lines=lines,
            sites=sites,
            jobs=jobs,
            native=peers,
            rounds=rounds,
            latency=latency,
            offline=offline,
            progress=show_progress,
        )
    # the report comes last, and tables come whatever happens to the files: what was measured is not lost
    try:
        for path, text in ((json_path, report.to_json), (csv_path, report.to_csv)):
            if path is not None:
                with replacing(path) as file:
                    file.write(text(comparison).encode())
    finally:
        report.show(comparison)
        for line in suggestions(comparison):
            click.echo(line)
        sys.stdout.flush()
    if report_path is not None:
        if one_page:
            page = report.write_page(comparison, report_path, moments_at_peaks(comparison, specs))
        else:
            page = report.write(comparison, report_path)
        click.echo(f"\nfigures: {page}")
    sys.stdout.flush()
    if comparison.interrupted:
        click.echo(
            f"heaplab: interrupted after {len(comparison.runs)} of {comparison.planned} runs", err=True
        )
    click.get_current_context().exit(_status(comparison))


def _is_page(path: str) -> bool:
    """Whether a report goes into one file, not into a directory."""
    return path.lower().endswith((".html", ".htm")) and not Path(path).is_dir()


def _status(comparison: lab.Comparison) -> int:
    if comparison.interrupted:
        return INTERRUPTED
    failed = any(run.outcome in (FAILED, CRASHED, HUNG) for run in comparison.runs)
    return FOUND_WRONG if failed or comparison.unread else OK
