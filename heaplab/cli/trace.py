"""`heaplab trace`: what a trace holds, which are bundled, and other formats."""

import json
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import click

from heaplab.errors import UsageError
from heaplab.files import replacing
from heaplab.traces import Block, Header, SizeProfile, Trace, TraceWriter, corpus, cut, merged, open_trace
from heaplab.traces.cutting import Span
from heaplab.traces.described import described
from heaplab.traces.formats.memory_replay import write_memory_replay
from heaplab.traces.formats.rep import Heading, write_rep
from heaplab.units import format_size

_BAR = 40
_ALL: Span = (0, None)
_HEADINGS: dict[str, Heading] = {"rep": "newer", "rep-classic": "classic"}
_FORMS = ("hlt", "memory_replay", *_HEADINGS)
_ENDINGS = {".hlt": "hlt", ".rep": "rep", ".txt": "memory_replay"}


@click.group()
def trace() -> None:
    """Look at traces, convert, cut and merge them.

    TRACE is the name of a bundled trace, a file or pipe in any format of docs/traces.md, or - for standard
    input.
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


_lenient = click.option("--lenient", is_flag=True, help="Skip what cannot be, and count it.")
_output = click.option("-o", "--output", metavar="FILE", required=True, help="Where to write the result.")


def _open(source: str, *, lenient: bool = False) -> Trace:
    """The trace; what its reader had to skip is told."""
    opened = open_trace(source, lenient=lenient)
    _tell(opened)
    return opened


def _tell(trace: Trace) -> None:
    for remark in trace.remarks:
        click.echo(f"heaplab: {remark}", err=True)


@trace.command()
@click.argument("trace", metavar="TRACE")
@click.option("--json", "as_json", is_flag=True, help="As JSON, for programs.")
@_lenient
def info(trace: str, *, as_json: bool, lenient: bool) -> None:
    """Show where TRACE comes from and what it holds."""
    opened = open_trace(trace, lenient=lenient)
    if not as_json:
        _tell(opened)
    sizes = SizeProfile(opened)
    if as_json:
        classes = [asdict(each) for each in sizes.classes()]
        told = {**asdict(opened.header), "remarks": opened.remarks, "sizes": classes}
        click.echo(json.dumps(told, indent=2))
    else:
        click.echo("\n".join([*described(opened.header), *_sizes(sizes)]))


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


@trace.command()
@click.argument("source", metavar="TRACE")
@click.argument("target", metavar="FILE")
@click.option("--as", "form", type=click.Choice(_FORMS), help="What to write, whatever FILE ends in.")
@click.option("--level", type=click.IntRange(1, 19), default=9, help="Compression of .hlt, 19 the smallest.")
@click.option("--tick", type=click.IntRange(1, 10**9), metavar="NS", help="Round times of .hlt down.")
@click.option(
    "--null-frees", is_flag=True, help="Write `f -1` into a .rep: the classic driver crashes at it."
)
@_lenient
def convert(
    source: str,
    target: str,
    *,
    form: str | None,
    level: int,
    tick: int | None,
    null_frees: bool,
    lenient: bool,
) -> None:
    """Write TRACE to FILE: .hlt, .rep of malloc courses, or .txt for Android's memory_replay.

    .rep has no times, threads, processes and alignments, memory_replay no processes: a trace with process
    events is refused.  rep-classic has the header that the classic driver reads.
    """
    form = form or _form_of(target)
    opened = _open(source, lenient=lenient)
    if form == "hlt":
        _write_hlt(opened, target, tick or opened.header.tick, level)
        return
    with replacing(target) as file:
        if form == "memory_replay":
            write_memory_replay(opened, file)
        else:
            write_rep(opened, file, heading=_HEADINGS[form], null_frees=null_frees)


def _form_of(target: str) -> str:
    ending = Path(target).suffix
    if ending not in _ENDINGS:
        raise UsageError(
            f"{target}: heaplab writes .hlt, .rep, and .txt for memory_replay: end the name in one of them, "
            "or say --as"
        )
    return _ENDINGS[ending]


def _write_hlt(trace: Trace, target: str, tick: int, level: int = 9) -> None:
    with TraceWriter.create(target, replace(trace.header.provenance(), tick=tick), level) as writer:
        for block in trace:
            writer.write(Block(**{**block.columns(), "time": block.time // tick * tick}))


class _Span(click.ParamType[Span]):
    """FROM:TO, each of which may be missing; `read` makes a number of one."""

    name = "FROM:TO"

    def __init__(self, read: Callable[[str], int]) -> None:
        self._read = read

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Span:
        if isinstance(value, tuple):
            return value
        first, colon, last = str(value).partition(":")
        try:
            span = (self._read(first) if first else 0, self._read(last) if last else None)
        except (ValueError, ArithmeticError):
            colon = ""
            span = _ALL
        if not colon or span[0] < 0 or (span[1] is not None and span[1] <= span[0]):
            self.fail(
                f"{value!r} is no span: write FROM:TO, FROM: or :TO, the first below the second", param, ctx
            )
        return span


def _nanoseconds(seconds: str) -> int:
    return int(Decimal(seconds) * 10**9)


@trace.command("cut")
@click.argument("source", metavar="TRACE")
@_output
@click.option("--events", type=_Span(int), default=_ALL, metavar="FROM:TO", help="By number, from 0.")
@click.option("--time", type=_Span(_nanoseconds), default=_ALL, metavar="FROM:TO", help="In seconds.")
@click.option("--process", "processes", type=int, multiple=True, help="Of this process; may be repeated.")
@click.option("--thread", "threads", type=int, multiple=True, help="Of this thread; may be repeated.")
@click.option("--keep-live", is_flag=True, help="Allocate the blocks that live at the cut first.")
@_lenient
def cut_(
    source: str,
    *,
    output: str,
    events: Span,
    time: Span,
    processes: tuple[int, ...],
    threads: tuple[int, ...],
    keep_live: bool,
    lenient: bool,
) -> None:
    """Write a part of TRACE as .hlt: what all of the options choose.

    Frees of blocks from before the cut are left out, and reallocs of such blocks are mallocs: lines at the
    end count them.  With --keep-live those blocks are allocated where the part begins.
    """
    part = cut(
        open_trace(source, lenient=lenient),
        events=events,
        time=time,
        processes=processes or None,
        threads=threads or None,
        keep_live=keep_live,
    )
    _write_hlt(part, output, part.header.tick)
    _tell(part)


@trace.command("merge")
@click.argument("sources", metavar="TRACE...", nargs=-1, required=True)
@_output
@click.option("--one-heap", is_flag=True, help="All in one process, as threads of their own.")
@_lenient
def merge_(sources: tuple[str, ...], *, output: str, one_heap: bool, lenient: bool) -> None:
    """Write all TRACEs as one .hlt, in which each is a process, or with --one-heap threads of one process.

    Traces that all have times are merged by them; others pass side by side, from beginning to end.
    """
    whole = merged([open_trace(source, lenient=lenient) for source in sources], one_heap=one_heap)
    _write_hlt(whole, output, whole.header.tick)
    _tell(whole)
