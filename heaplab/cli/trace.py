"""`heaplab trace`: what a trace holds, which are bundled, and other formats."""

import json
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path

import click

from heaplab.errors import UsageError
from heaplab.files import replacing
from heaplab.traces import Block, Header, SizeProfile, Trace, TraceWriter, corpus, open_trace
from heaplab.traces.rep import write_rep
from heaplab.units import format_size

_BAR = 40


@click.group()
def trace() -> None:
    """Look at traces and convert them.

    TRACE is a file (.hlt, .rep, or text of Android's memory_replay) or the name of a bundled trace.
    """


@trace.command("list")
@click.option("--markdown", is_flag=True, help="As a table in Markdown, with what each program did.")
def list_(*, markdown: bool) -> None:
    """List the bundled traces."""
    headers = [open_trace(name).header for name in corpus.names()]
    if markdown:
        lines = _markdown(headers)
    else:
        lines = _table(headers)
    click.echo("\n".join(lines))


def _table(headers: list[Header]) -> Iterator[str]:
    rows: list[tuple[str, ...]] = [("name", "events", "peak live", "processes", "threads", "program")]
    for header in headers:
        numbers = (
            f"{header.events:,}",
            format_size(header.peak_live),
            str(header.processes),
            str(header.threads),
        )
        rows.append((header.name, *numbers, f"{header.program} {header.version}"))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for name, *figures, program in rows:
        cells = [cell.rjust(width) for cell, width in zip(figures, widths[1:-1], strict=True)]
        yield "  ".join([name.ljust(widths[0]), *cells, program])


def _markdown(headers: list[Header]) -> Iterator[str]:
    figures = ("events", "peak live", "processes", "threads", "remote frees")
    yield f"| name | program | command | what it does | {' | '.join(figures)} |"
    yield f"|---|---|---|---|{'--:|' * len(figures)}"
    for header in headers:
        yield (
            f"| {header.name} | {header.program} {header.version} | `{header.command}` | {header.note} "
            f"| {header.events:,} | {format_size(header.peak_live)} | {header.processes} | {header.threads} "
            f"| {'-' if header.remote_frees is None else format(header.remote_frees, ',')} |"
        )


@trace.command()
@click.argument("trace", metavar="TRACE")
@click.option("--json", "as_json", is_flag=True, help="As JSON, for programs.")
def info(trace: str, *, as_json: bool) -> None:
    """Show where TRACE comes from and what it holds."""
    opened = open_trace(trace)
    sizes = SizeProfile(opened)
    if as_json:
        classes = [asdict(each) for each in sizes.classes()]
        click.echo(json.dumps({**asdict(opened.header), "sizes": classes}, indent=2))
    else:
        click.echo("\n".join([*_provenance(opened.header), *_counts(opened.header), *_sizes(sizes)]))


def _provenance(header: Header) -> Iterator[str]:
    recorded = f", recorded {header.date}" if header.date else ""
    yield f"{header.name}: {header.program or 'program unknown'} {header.version}".rstrip() + recorded
    for title, text in (("command", header.command), ("note", header.note)):
        if text:
            yield f"  {title:<12}{text}"


def _counts(header: Header) -> Iterator[str]:
    unit = f", in steps of {header.tick:,} ns" if header.tick > 1 else ""
    yield f"  {'events':<12}{header.events:,} in {header.duration / 1e9:.3f} s{unit}"
    yield f"  {'run by':<12}{_number(header.processes, 'process')}, {_number(header.threads, 'thread')}"
    if header.threads > header.processes:
        yield f"  {'remote':<12}{_remote(header)}"
    operations = (f"{name} {count:,} ({count / header.events:.1%})" for name, count in header.ops.items())
    yield f"  {'operations':<12}{', '.join(operations)}"
    yield f"  {'requested':<12}{format_size(header.requested)} in all"
    yield (
        f"  {'peak live':<12}{format_size(header.peak_live)} ({header.peak_live:,} B) after event "
        f"{header.peak_index:,}; at most {_number(header.slots, 'block')} live at once in one process"
    )


def _remote(header: Header) -> str:
    """How many blocks left the thread that allocated them, in words."""
    if header.remote_frees is None:
        return "frees from other threads were not counted: `heaplab trace convert` counts them"
    releases = header.ops.get("free", 0) + header.ops.get("realloc", 0)
    share = f" ({header.remote_frees / releases:.1%})" if releases else ""
    remote = f"{header.remote_frees:,} of {releases:,} frees and reallocs{share}"
    return f"{remote} by another thread than the block's"


def _sizes(sizes: SizeProfile) -> Iterator[str]:
    if not sizes.requests:
        return
    quantiles = ", ".join(
        f"{name} {sizes.quantile(part):,} B" for name, part in (("p50", 0.5), ("p90", 0.9), ("p99", 0.99))
    )
    yield f"  {'sizes':<12}{quantiles}, largest {sizes.quantile(1):,} B"
    most = max(each.count for each in sizes.classes())
    for each in sizes.classes():
        span = f"{each.low:,}" if each.low == each.high else f"{each.low:,} to {each.high:,}"
        bar = "#" * -(-each.count * _BAR // most)
        yield f"{span:>24} B {each.count:>11,} {each.count / sizes.requests:>6.1%} {bar}"


def _number(count: int, noun: str) -> str:
    plural = noun + ("es" if noun.endswith("s") else "s")
    return f"{count:,} {noun if count == 1 else plural}"


@trace.command()
@click.argument("source", metavar="TRACE")
@click.argument("target", metavar="FILE")
@click.option("--level", type=click.IntRange(1, 19), default=9, help="Compression of .hlt, 19 the smallest.")
@click.option("--tick", type=click.IntRange(1, 10**9), metavar="NS", help="Round times of .hlt down.")
def convert(source: str, target: str, *, level: int, tick: int | None) -> None:
    """Write TRACE to FILE as what FILE ends in: .hlt, or .rep of malloc courses.

    .rep has no times, threads, processes and alignments: a trace with process events is refused.
    """
    opened = open_trace(source)
    ending = Path(target).suffix
    if ending == ".hlt":
        _convert_to_hlt(opened, target, tick or opened.header.tick, level)
    elif ending == ".rep":
        with replacing(target) as file:
            write_rep(opened, file)
    else:
        raise UsageError(f"{target}: heaplab writes .hlt and .rep: end the name in one of them")


def _convert_to_hlt(opened: Trace, target: str, tick: int, level: int) -> None:
    with TraceWriter.create(target, replace(opened.header.provenance(), tick=tick), level) as writer:
        for block in opened:
            writer.write(Block(**{**block.columns(), "time": block.time // tick * tick}))
