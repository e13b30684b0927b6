"""`heaplab record`: a trace of a program of your own."""

import signal
from pathlib import Path

import click

from heaplab.errors import UsageError
from heaplab.native import record as record_program
from heaplab.traces import Provenance


@click.command(context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False})
@click.option("-o", "--output", required=True, metavar="FILE", help="The trace to write, in .hlt format.")
@click.option("--name", help="The trace's name.  [default: FILE without its ending]")
@click.option("--program-version", default="", metavar="TEXT", help="Version of the program, to be kept.")
@click.option(
    "--command", "shown", default="", metavar="TEXT", help="Command line to be kept, if not the real one."
)
@click.option("--note", default="", metavar="TEXT", help="Whatever else is worth keeping.")
@click.option(
    "--tick",
    type=click.IntRange(1, 10**9),
    default=1,
    show_default=True,
    metavar="NS",
    help="Round times down to multiples of NS nanoseconds: coarser is smaller.",
)
@click.option(
    "--level", type=click.IntRange(1, 19), default=9, show_default=True, help="Compression, 19 the smallest."
)
@click.option(
    "--wait/--no-wait", default=True, help="Wait for processes that PROGRAM leaves behind.  [default: --wait]"
)
@click.option(
    "--rss",
    "resident",
    metavar="FILE",
    help="Also write how much memory each process has resident, 100 times a second, as CSV.",
)
@click.option(
    "--stacks",
    metavar="FILE",
    help="Also write which call stacks asked for how much, and hold how much at the peak, as CSV.",
)
@click.option(
    "--sites", metavar="FILE", help="Also write the call stack of every block, for `heaplab view --sites`."
)
@click.argument("program", nargs=-1, required=True, type=click.UNPROCESSED)
@click.pass_context
def record(
    ctx: click.Context,
    *,
    output: str,
    name: str | None,
    program_version: str,
    shown: str,
    note: str,
    tick: int,
    level: int,
    wait: bool,
    resident: str | None,
    stacks: str | None,
    sites: str | None,
    program: tuple[str, ...],
) -> None:
    """Run PROGRAM with its arguments and record every malloc, free and their kin.

    Threads and children are followed, through fork and exec.  Programs that are statically linked or setuid
    cannot be recorded: a warning names them.  Processes that outlive PROGRAM are recorded to their end, or
    until Ctrl-C.  CPython serves small blocks itself: set PYTHONMALLOC=malloc to see them.

    The exit status is PROGRAM's own, 128 + N when signal N ended it; 2 when there is no recording.
    """
    if not output.endswith(".hlt"):
        raise UsageError(
            f"{output}: heaplab records .hlt: end the name in it, and convert the trace afterwards"
        )
    provenance = Provenance(
        name or Path(output).stem, version=program_version, command=shown, note=note, tick=tick
    )
    recording = record_program(
        program,
        output,
        provenance,
        level=level,
        wait=wait,
        waiting=lambda left: _tell_waiting(program[0], left),
        resident=resident,
        stacks=stacks,
        sites=sites,
    )
    header = recording.header
    processes = "1 process" if header.processes == 1 else f"{header.processes} processes"
    lines = [f"{output}: {header.events:,} events of {processes}"]
    if recording.strangers:
        lines.append(f"{recording.strangers:,} frees of blocks from before the recording are left out")
    if recording.lost_frees:
        lines.append(f"{recording.lost_frees:,} frees were not seen and are put in")
    if recording.status < 0:
        lines.append(f"{program[0]} was ended by {signal.Signals(-recording.status).name}")
    click.echo(f"heaplab: {'; '.join(lines)}", err=True)
    for warning in recording.warnings:
        click.echo(f"heaplab: warning: {warning}", err=True)
    ctx.exit(recording.status if recording.status >= 0 else 128 - recording.status)


def _tell_waiting(program: str, left: int) -> None:
    processes = "1 process goes on" if left == 1 else f"{left} processes go on"
    click.echo(
        f"heaplab: {program} has ended; {processes}, recorded to the end: Ctrl-C ends the recording",
        err=True,
    )
