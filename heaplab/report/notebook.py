"""What a notebook shows of things: HTML that needs no script, readable on dark and on light.

Text has the notebook's own colour; bars and curves let the background through.
"""

from collections.abc import Iterable, Mapping, Sequence
from html import escape
from itertools import accumulate, pairwise
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from heaplab.allocators import Allocator
from heaplab.kernel import Kernel
from heaplab.kernel.syscalls import task_of
from heaplab.lab import Comparison, HeapMap, Run
from heaplab.lab.columns import COST, SPACE, Column, shown_columns
from heaplab.process import Process
from heaplab.report import style
from heaplab.report.means import Summary
from heaplab.report.pictures import draw_spaces, process_tree
from heaplab.report.pictures import heap as heap_picture
from heaplab.report.pictures.picture import Description, Picture
from heaplab.report.pictures.spaces import look_at
from heaplab.report.plain import figures
from heaplab.report.tables import best_cells, heading, notes, remarks, summary_rows
from heaplab.traces import Ledger, Trace
from heaplab.traces.described import facts, title
from heaplab.units import format_size

D = TypeVar("D", bound=Description)

#: the bar under a figure
_BAR = style.SKY
_LEFT = "text-align:left;white-space:nowrap;padding:1px 6px"
_RIGHT = "text-align:right;white-space:nowrap;padding:1px 2px 4px;border-right:8px solid transparent"
_WIDTH, _HEIGHT, _STRIP = 480, 64, 40
#: points of a curve, and columns of a map
_POINTS = 240
#: a longer trace is shown without its curve: it would have to be read
_MOST_EVENTS = 4_000_000
#: pages of an area that a process's picture shows one by one
_MOST_PAGES = 8


def heap_html(heap: Allocator) -> str:
    """The strip of a heap's blocks, pages and free structure."""
    return _inline(heap_picture(heap))


def kernel_html(kernel: Kernel) -> str:
    """A kernel's memory in a line, and its tree of processes."""
    return f"<div>{escape(str(kernel).splitlines()[0])}</div>{_inline(process_tree(kernel))}"


def process_html(process: Process) -> str:
    """A process in two lines, and its address space; of a dead one the lines alone."""
    lines = "<br/>".join(map(escape, str(process).splitlines()[:2]))
    task = task_of(process)
    if task.mm is None:
        return f"<div>{lines}</div>"
    return f"<div>{lines}</div>{_inline(Picture(look_at([task], _MOST_PAGES), draw_spaces.draw))}"


def _inline(picture: Picture[D]) -> str:
    """A picture as SVG that can stand within HTML."""
    svg = picture._repr_svg_()
    return svg[svg.index("<svg") :]


def comparison_html(comparison: Comparison) -> str:
    """The tables of a comparison; a bar under a figure is its share of the largest of its column."""
    parts = []
    for name, header in comparison.headers.items():
        runs = comparison.of_trace(name)
        if not runs:
            continue
        columns = shown_columns(comparison)
        cells = [_cells(column, runs) for column in columns]
        parts += [
            f"<div><b>{escape(str(heading(name, header)))}</b></div>",
            _table(
                [("allocator", ""), *((column.title, column.unit) for column in columns)],
                [run.allocator for run in runs],
                cells,
            ),
            *_lines(f"{mark} {text}" for mark, text in notes(runs)),
        ]
    if len(comparison.headers) > 1 and comparison.runs:
        summary = Summary(comparison)
        titles, rows = summary_rows(summary)
        below = [[_cell(row[place]) for row in rows] for place in range(1, len(titles))]
        parts += [
            f"<div><b>{escape(summary.title)}</b></div>",
            _table([(each, "") for each in titles], [row[0] for row in rows], below),
            *_lines(summary.notes()),
        ]
    parts += _lines(remarks(comparison))
    if comparison.interrupted:
        parts += _lines(["interrupted: not all runs that were asked for are here"])
    return f'<div style="overflow-x:auto;font-variant-numeric:tabular-nums">{"".join(parts)}</div>'


def _table(titles: Sequence[tuple[str, str]], names: Sequence[str], columns: Sequence[Sequence[str]]) -> str:
    """A table.  titles: and units, which hovering shows; columns: cells of all but the first, the names."""
    head = "".join(
        f'<th style="{_RIGHT if place else _LEFT}" title="{escape(unit)}">'
        f"{'<br/>'.join(escape(text).splitlines())}</th>"
        for place, (text, unit) in enumerate(titles)
    )
    rows = "".join(
        f'<tr><td style="{_LEFT}">{escape(name)}</td>{"".join(cells)}</tr>'
        for name, *cells in zip(names, *columns, strict=True)
    )
    return (
        f'<table style="border-collapse:collapse"><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>'
    )


def _cells(column: Column, runs: Sequence[Run]) -> list[str]:
    """The cells of a column, with bars where one value is better than another."""
    texts = best_cells(column, runs)
    values = [
        None if str(text) == "-" or column.best is None else column.of(run)
        for text, run in zip(texts, runs, strict=True)
    ]
    top = max((value for value in values if value is not None), default=0)
    return [
        _cell(
            str(text), bold=text.style == "bold", share=value / top if value is not None and top > 0 else None
        )
        for text, value in zip(texts, values, strict=True)
    ]


def _cell(text: str, *, bold: bool = False, share: float | None = None) -> str:
    """A cell; share: how long its bar is, 0 to 1."""
    bar = ""
    if share is not None:
        length = f"{_BAR} {100 * max(share, 0):.1f}%,transparent 0"
        bar = f";background:linear-gradient(to right,{length}) 0 100%/100% 4px no-repeat padding-box"
    return f'<td style="{_RIGHT}{bar}">{f"<b>{escape(text)}</b>" if bold else escape(text)}</td>'


def _lines(texts: Iterable[str]) -> list[str]:
    return [f"<div>{escape(text)}</div>" for text in texts]


def run_html(run: Run) -> str:
    """A run: how it ended, its figures, and live payload, heap and resident memory over its events."""
    why = f": {run.reason}" if run.reason else ""
    parts = [
        f"<div><b>{escape(f'{run.trace} on {run.allocator} in {run.language}')}</b>, "
        f"{escape(run.outcome + why)}</div>"
    ]
    for group in (SPACE, COST):
        parts += _lines(
            [", ".join(f"{name} {text}" for name, text in figures(run, group))] if run.measured else []
        )
    timeline = run.timeline
    curves = {"live": timeline.live, "heap": timeline.heap, "resident": timeline.resident}
    parts.append(_curves({name: values for name, values in curves.items() if values}))
    return "".join(parts)


_COLOURS = {"live": style.LIVE, "heap": "currentColor", "resident": style.RESIDENT}


def _curves(curves: Mapping[str, Sequence[int]]) -> str:
    """Curves of sampled bytes on one scale from 0, with their names and peaks below."""
    top = max((max(values) for values in curves.values()), default=0)
    if not top:
        return ""
    lines = "".join(
        f'<polyline fill="none" stroke="{_COLOURS[name]}" points="{_points(values, top)}"/>'
        for name, values in curves.items()
    )
    names = " &nbsp; ".join(
        f'<span style="color:{_COLOURS[name]}">&#9632;</span> {name}, {format_size(max(values))} at most'
        for name, values in curves.items()
    )
    base = f'<path d="M0 {_HEIGHT - 1}H{_WIDTH}" stroke="currentColor" stroke-opacity=".4"/>'
    return f"{_svg(lines + base)}<div>{names}</div>"


def _points(values: Sequence[int], top: int) -> str:
    """The line through some values, the highest of those that share a point."""
    bins = min(_POINTS, len(values))
    ends = [len(values) * place // bins for place in range(bins + 1)]
    highest = [max(values[low:high]) for low, high in pairwise(ends)]
    step = _WIDTH / max(bins - 1, 1)
    return " ".join(
        f"{place * step:.0f},{_HEIGHT - 1 - (_HEIGHT - 3) * value / top:.1f}"
        for place, value in enumerate(highest)
    )


def _svg(inner: str, height: int = _HEIGHT) -> str:
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" width="{_WIDTH}" '
        f'height="{height}" style="max-width:100%">{inner}</svg>'
    )


def trace_html(trace: Trace) -> str:
    """A trace's header, and what of its payload is live over its events."""
    header = trace.header
    rows = "".join(
        f'<tr><td style="{_LEFT};opacity:.7">{escape(name)}</td><td style="{_LEFT}">{escape(text)}</td></tr>'
        for name, text in facts(header)
    )
    parts = [f"<div><b>{escape(title(header))}</b></div>", f"<table>{rows}</table>", *_lines(trace.remarks)]
    if header.events <= _MOST_EVENTS:
        parts.append(_curves({"live": live_curve(trace, _POINTS)}))
    return "".join(parts)


def live_curve(trace: Trace, points: int) -> list[int]:
    """Return the most payload bytes live in each of at most `points` stretches of equal length.

    Cost: one pass over the trace.  Raises: DamagedTrace.

    >>> from heaplab.traces import Event, Op
    >>> trace = Trace.of([Event(Op.MALLOC, 0, 24), Event(Op.MALLOC, 1, 8), Event(Op.FREE, 0)])
    >>> live_curve(trace, 2)
    [32, 8]
    """
    ledger = Ledger(trace.source)
    bins = min(points, trace.header.events)
    found = np.zeros(bins, np.int64)
    done = 0
    for block in trace:
        live = ledger.apply(block)
        place = np.arange(done, done + len(block)) * bins // trace.header.events
        np.maximum.at(found, place, live)
        done += len(block)
    return [int(value) for value in found]


def map_html(heap_map: HeapMap) -> str:
    """A heap map as a strip in address order: how much of each place is payload, and above it overhead."""
    total = sum(size for _, size in heap_map.regions)
    if not total:
        return f"<div>{escape(str(heap_map))}</div>"
    columns = min(_WIDTH, len(heap_map.payload))
    here = np.minimum(np.arange(len(heap_map.payload) + 1) * heap_map.cell, total)
    there = np.arange(columns + 1) * (total / columns)
    payload, overhead = (
        np.diff(np.interp(there, here, np.concatenate(([0], np.cumsum(part))))) / (total / columns)
        for part in (heap_map.payload, heap_map.overhead)
    )
    free = f'<rect width="{_WIDTH}" height="{_STRIP}" fill="currentColor" fill-opacity=".12"/>'
    both = _steps(payload + overhead, style.INTERNAL) + _steps(payload, style.LIVE)
    starts = [size for _, size in heap_map.regions[:-1]]
    between = "".join(
        f'<path d="M{end * _WIDTH / total:.1f} 0V{_STRIP}" stroke="currentColor"/>'
        for end in accumulate(starts)
    )
    named = (("payload", style.LIVE, payload), ("overhead", style.INTERNAL, overhead))
    names = " &nbsp; ".join(
        f'<span style="color:{colour}">&#9632;</span> {name} {float(part.mean()):.1%}'
        for name, colour, part in named
    )
    first = escape(str(heap_map).splitlines()[0])
    return f"<div>{first}</div>{_svg(free + both + between, _STRIP)}<div>{names}</div>"


def _steps(shares: npt.NDArray[np.float64], colour: str) -> str:
    """An area as high as the shares (0 to 1), in steps of equal width, over the whole strip."""
    width = _WIDTH / len(shares)
    steps = "".join(
        f"V{_STRIP * (1 - min(share, 1)):.1f}H{(place + 1) * width:.1f}"
        for place, share in enumerate(shares.tolist())
    )
    return f'<path fill="{colour}" d="M0 {_STRIP}{steps}V{_STRIP}Z"/>'
