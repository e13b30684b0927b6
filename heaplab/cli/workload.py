"""`heaplab workload`: made-up programs: what they amount to, their traces, and those learned from a trace."""

import json
import math
from collections.abc import Callable, Iterator
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from heaplab.cli._outputs import demand_writable_file
from heaplab.errors import UsageError
from heaplab.traces import Trace, TraceWriter, open_trace
from heaplab.traces.described import facts
from heaplab.traces.opening import WORKLOAD
from heaplab.traces.workload import BySize, Distribution, Workload
from heaplab.traces.workload.learning import WINDOWS
from heaplab.units import format_size

if TYPE_CHECKING:
    from heaplab.lab import Progress


@click.group()
def workload() -> None:
    """Make up programs: sizes, lifetimes, phases, threads; or learn them from a trace.

    WORKLOAD is key=value:key=value... (workload: in front may be left out), or a .toml file with the same
    keys.  Wherever a command takes a trace, workload:key=value... and the .toml file are one.

    \b
    events=100000              the most events
    sizes=lognormal,48,1       lognormal,MEDIAN,S  constant,V  uniform,A,B
                               normal,M,D  exponential,M  hyperexponential,M,CV
                               powers,A,B[,RATIO]  empirical,FILE  values,VxW,VxW
                               or a mixture, W*D+W*D
    lifetimes=exponential,1000 the same, in ticks; never;
                               D@256@D: another one above 256 bytes
    arrival=constant,1         ticks between allocations;
                               bytes: as many ticks as the block has bytes
    deaths=drawn               or lifo, fifo, random: who dies at a lifetime's end
    phases=ramp,1/plateau,3    shape,share[,teeth][(sizes=D;lifetimes=D;...)]
                               plateau, ramp, peak, sawtooth, drain
    kinds=9(sizes=D)/1(...)    a mixture: weight(sizes=D;lifetimes=D;realloc=R)
    joint=FILE                 sizes with lifetimes: a file with these columns
    realloc=multiply,0.05,4,2  multiply or add, share, times, amount;
                               draw, share, times
    threads=private,4,0.3      larson,4,1000: allocations each;
                               producer,2,3: producers and consumers
    fork=20000,5000,100        events between snapshots, events a child lives,
                               its requests
    calloc=0 aligned=0 nulls=0 parts of the allocations; free(NULL) per event
    like=TRACE windows=64      learned from a trace; from=FILE: as in a .toml file
    seed=0 name=TEXT
    """


_MAKE = click.argument("text", metavar="WORKLOAD")
_SEED = click.option("--seed", type=click.IntRange(min=0), help="In place of the workload's own.")
_QUIET = click.option("--quiet", "-q", is_flag=True, help="Show no progress.")


def _read(text: str, seed: int | None) -> Workload:
    if text.endswith(".toml") and "=" not in text:
        made = Workload.load(text)
    elif "=" in text or text.startswith(WORKLOAD):
        made = Workload.parse(text)
    else:
        raise UsageError(
            f"{text or repr(text)}: is no workload: write key=value, as in sizes=lognormal,48,1, "
            "or a .toml file"
        )
    return made if seed is None else replace(made, seed=seed)


@workload.command("show")
@_MAKE
@_SEED
@click.option("--json", "as_json", is_flag=True, help="As JSON, for programs.")
@_QUIET
def show(text: str, seed: int | None, *, as_json: bool, quiet: bool) -> None:
    """Show all parameters of WORKLOAD, what is expected of it, and what its trace has."""
    from heaplab.cli._progress import progress_bar  # noqa: PLC0415 - it needs the laboratory

    made = _read(text, seed)
    with progress_bar(quiet) as show_progress:
        header = _counted(made, show_progress).header
    if as_json:
        told = {
            "workload": str(made),
            "mean_size": made.mean_size,
            "mean_lifetime": None if math.isinf(made.mean_lifetime) else made.mean_lifetime,
            "mean_live": None if math.isinf(made.mean_live) else made.mean_live,
            "trace": asdict(header),
        }
        click.echo(json.dumps(told, indent=2))
        return
    parts = (_parameters(made), _expected(made), facts(replace(header, command="")))
    told_parts = ("\n".join(f"{name:<12}{value}" for name, value in part) for part in parts)
    click.echo("\n\n".join(filter(None, told_parts)))


def _counted(made: Workload, show_progress: "Callable[[Progress], None]") -> Trace:
    """The trace of a workload; to make it, its events are counted."""
    expected = round(made.events * (1 + made.nulls))
    return made.trace(progress=lambda done: show_progress(_part_done("counting", done, expected)))


def _part_done(doing: str, done: int, total: int) -> "Progress":
    from heaplab.lab import Progress  # noqa: PLC0415 - the commands above start without the laboratory

    return Progress(done, total, 0, 0, None, doing)


def _parameters(made: Workload) -> Iterator[tuple[str, str]]:
    yield "workload", str(made)
    for each in fields(made):
        value = getattr(made, each.name)
        if each.name in made.unused:
            continue
        if each.name == "phases":
            for number, phase in enumerate(value[:_MOST_PHASES]):
                yield ("" if number else "phases"), _shortened(phase)
            if len(value) > _MOST_PHASES:
                yield "", f"and {len(value) - _MOST_PHASES} more"
        elif each.name == "kinds":
            for number, kind in enumerate(value):
                yield ("" if number else "kinds"), _shortened(kind)
        elif isinstance(value, Distribution):
            moments = f"mean {_plain(value.mean)}, coefficient of variation {value.cv:.3g}"
            yield each.name, f"{_shortened(value)}   {moments}"
        elif isinstance(value, BySize) or (value not in (None, "") and each.name != "origin"):
            yield each.name, str(value)


_MOST_PHASES = 12
_MOST_LETTERS = 120  # of a text in a line: a distribution that was learned has hundreds of values


def _shortened(value: object) -> str:
    text = str(value)
    return text if len(text) <= _MOST_LETTERS else f"{text[: _MOST_LETTERS - 3]}..."


def _expected(made: Workload) -> Iterator[tuple[str, str]]:
    if made.phases:
        return
    unit = "bytes allocated" if made.arrival == "bytes" else "ticks"
    yield "mean size", f"{_plain(made.mean_size)} B"
    yield "lifetime", f"{_plain(made.mean_lifetime)} {unit} on average"
    if math.isinf(made.mean_live):
        yield "live", "grows without end: some blocks are never freed"
    else:
        yield "live", f"{_plain(made.mean_live)} blocks in equilibrium (Little: mean lifetime / mean arrival)"


def _plain(value: float) -> str:
    return "infinite" if math.isinf(value) else f"{value:,.0f}" if value >= 1000 else f"{value:.4g}"


@workload.command("make")
@_MAKE
@click.option("-o", "--output", metavar="FILE", required=True, help="The trace, as .hlt.")
@_SEED
@_QUIET
def make(text: str, output: str, seed: int | None, *, quiet: bool) -> None:
    """Write the trace of WORKLOAD as .hlt."""
    from heaplab.cli._progress import progress_bar  # noqa: PLC0415 - it needs the laboratory

    demand_writable_file("-o", output)
    wanted = _read(text, seed)
    with progress_bar(quiet) as show_progress:
        made, done = _counted(wanted, show_progress), 0
        with TraceWriter.create(output, made.header.provenance()) as writer:
            for block in made:
                writer.write(block)
                done += len(block)
                show_progress(_part_done("writing", done, made.header.events))
    peak = format_size(made.header.peak_live)
    click.echo(f"{output}: {made.header.events:,} events, peak live {peak}")


@workload.command("fit")
@click.argument("trace", metavar="TRACE")
@click.option("-o", "--output", metavar="FILE", help="The workload, as .toml.")
@click.option("--windows", type=click.IntRange(min=1), default=WINDOWS, show_default=True, help="Phases.")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True)
@click.option("--json", "as_json", is_flag=True, help="How like it is as JSON, for programs.")
@_QUIET
def fit_(trace: str, output: str | None, windows: int, seed: int, *, as_json: bool, quiet: bool) -> None:
    """Learn a workload from TRACE, and say how far its own trace is from TRACE.

    workload:like=TRACE is the same workload, wherever a trace is taken.
    """
    from heaplab.cli._progress import progress_bar  # noqa: PLC0415 - the laboratory is needed here alone
    from heaplab.workload import fit  # noqa: PLC0415
    from heaplab.workload import likeness as how_like  # noqa: PLC0415

    if output is not None:
        demand_writable_file("-o", output)
        if Path(output).suffix != ".toml":
            raise UsageError(f"-o {output}: a workload is a .toml file: end the name in .toml")
    learned = fit(open_trace(trace), windows=windows, seed=seed)
    assert learned.original is not None
    with progress_bar(quiet) as show_progress:
        likeness = how_like(learned.original, learned.trace(), progress=show_progress)
    if as_json:
        click.echo(json.dumps([asdict(each) for each in likeness.measures], indent=2))
    else:
        click.echo(f"{learned}\n{likeness}")
    if output is not None:
        learned.save(output)
        click.echo(f"{output}: written", err=as_json)
