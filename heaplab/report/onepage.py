"""A comparison as one page that opens anywhere: one file, no network, and with JavaScript one can ask it.

onepage.js and onepage.css, beside this file, are written into it, and so is all data.  Tables, verdict, bars
and maps are there without JavaScript; sorting, curves and what lies under the pointer need it.
"""

import base64
import json
import os
import shlex
from collections.abc import Callable, Iterable, Sequence
from html import escape
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np

from heaplab.files import replacing
from heaplab.lab import Comparison, HeapMap, Run
from heaplab.lab.metrics import Excess
from heaplab.lab.record import NATIVE
from heaplab.native.playing import FINISHED, STOPPED
from heaplab.report import style
from heaplab.report.columns import Column, shown_columns
from heaplab.report.curves import curves
from heaplab.report.maps import Grid, demand_possible, pixels, png, shares
from heaplab.report.means import Mean, Summary
from heaplab.report.sheets import legend_rows
from heaplab.report.tables import (
    best_cells,
    heading,
    legend,
    marks,
    notes,
    remarks,
    settings_line,
    summary_rows,
)
from heaplab.report.verdict import Verdict, verdict, verdict_of
from heaplab.units import format_size

#: how a line is drawn when colours are used up: the next dash pattern
_DASHES = ("", "7 3", "2 3")
_COLOURS = (
    style.BLUE, style.VERMILION, style.GREEN, style.ORANGE, style.PURPLE, style.SKY, "currentColor",
)  # fmt: skip
#: where a heap's bytes are: class of the bar's part, what it is, how large
_PARTS: tuple[tuple[str, str, Callable[[Excess], int]], ...] = (
    ("live", "live payload", lambda it: it.live),
    ("internal", "rounding and headers in blocks", lambda it: it.internal),
    ("metadata", "metadata", lambda it: it.metadata),
    ("dense", "free between blocks in fuller pages", lambda it: it.pinned - it.sparse),
    ("sparse", "free, pinned in pages more than half free", lambda it: it.sparse),
    ("vacant", "free in pages that hold nothing else", lambda it: it.vacant),
    ("unbacked", "free without frames: costs no memory", lambda it: it.unbacked),
)


def write_page(comparison: Comparison, path: str | os.PathLike[str]) -> Path:
    """Write the comparison as one HTML file, whole or not at all; return its path.

    The page shows fragmentation over time, and times, of a comparison with walks.
    Cost: about 20 ms and 30 KiB of page a run.  Raises: OSError when it cannot be written; UsageError when
    something else than a file has its place.
    """
    text = page_text(comparison)
    with replacing(path) as file:
        file.write(text.encode(errors="replace"))  # names of files may be no Unicode
    return Path(path)


def page_text(comparison: Comparison) -> str:
    """Return the page."""
    allocators = list(dict.fromkeys(run.allocator for run in comparison.runs))
    drawn = [name for name in comparison.headers if comparison.of_trace(name)]
    data: dict[str, Any] = {"allocators": [_look(number, name) for number, name in enumerate(allocators)]}
    parts = [_opening(comparison), _contents(comparison, drawn)]
    if len(drawn) > 1:
        parts.append(_summary(comparison, data))
    data["traces"] = []
    for number, name in enumerate(drawn):
        data["traces"].append({})
        parts.append(_trace(comparison, name, number, allocators, data["traces"][-1]))
    parts += [_note(sentence) for sentence in remarks(comparison)]
    parts.append(_definitions(comparison))
    return _document("\n".join(parts), data)


def _look(number: int, allocator: str) -> dict[str, str]:
    """An allocator's name, and how its lines look."""
    colour = _COLOURS[number % len(_COLOURS)]
    return {"name": allocator, "colour": colour, "dash": _DASHES[number // len(_COLOURS) % len(_DASHES)]}


# ---- frame ----


def _document(body: str, data: dict[str, Any]) -> str:
    room = files("heaplab.report")
    css, js = ((room / f"onepage.{kind}").read_text() for kind in ("css", "js"))
    written = json.dumps(data, separators=(",", ":")).replace("<", "\\u003c")
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="color-scheme" content="light dark">\n'
        '<meta http-equiv="Content-Security-Policy" content="default-src \'none\'; img-src data:; '
        "style-src 'unsafe-inline'; script-src 'unsafe-inline'\">\n"
        '<link rel="icon" href="data:,">\n'
        f"<title>heaplab: allocators compared</title>\n<style>\n{css}</style></head>\n"
        f"<body>\n<main>\n{body}\n</main>\n"
        f'<script type="application/json" id="report">{written}</script>\n'
        f'<script type="module">\n{js}</script>\n</body></html>\n'
    )


def _opening(comparison: Comparison) -> str:
    return (
        f"<header><h1>Allocators compared</h1>\n{_note(f'{settings_line(comparison)}.')}</header>\n"
        f"<section aria-label=verdict id=verdict>{_verdict(verdict(comparison))}</section>"
    )


def _contents(comparison: Comparison, names: Sequence[str]) -> str:
    """Links to the traces, when there are several."""
    if len(names) < 2:
        return ""
    links = "\n".join(
        f'<li><a href="#trace-{number}">{escape(name)}</a></li>' for number, name in enumerate(names)
    )
    return f"<nav aria-label=traces><ul>\n<li>Traces:</li>\n{links}</ul></nav>"


def _verdict(found: Verdict) -> str:
    said = "\n".join(
        f"<p class={sentence.about}>{_emphasised(sentence.text)}</p>" for sentence in found.sentences
    )
    rows = [
        [(each.allocator, None), (each.what, None), (f"{each.value:,.4g}" if each.value < 1e4 else
        f"{each.value:,.0f}", each.value)]
        for sentence in found.sentences
        for each in sentence.grounds
    ]  # fmt: skip
    grounds = _table(["allocator", "figure", "value"], rows)
    return f"{said}\n<details><summary>the figures that this rests on</summary>{grounds}</details>"


def _emphasised(text: str) -> str:
    """A sentence's text; what it is about stands out, where it begins with that."""
    word, colon, rest = text.partition(": ")
    return f"<b>{escape(word)}:</b> {escape(rest)}" if colon and " " not in word else escape(text)


def _note(text: str) -> str:
    return f"<p class=note>{escape(text)}</p>"


def _definitions(comparison: Comparison) -> str:
    terms = "\n".join(
        f"<dt>{escape(word)}</dt><dd>{escape(said)}</dd>" for word, said in legend_rows(legend(comparison))
    )
    return f"<section><h2>Definitions</h2>\n<dl>\n{terms}</dl></section>"


# ---- tables ----

#: what a cell shows, and the number that it is sorted by
Cell = tuple[str, float | None]


def _table(titles: Sequence[str], rows: Iterable[Sequence[Cell]], best: Iterable[Sequence[bool]] = ()) -> str:
    """A table that onepage.js makes sortable.  best: which cells are the best of their columns."""
    head = "".join(f"<th scope=col>{escape(title)}</th>" for title in titles)
    lines = []
    for row, strong in zip(rows, best or _nothing(), strict=False):
        cells = [f"<th scope=row>{escape(row[0][0])}</th>"]
        for (text, value), is_best in zip(row[1:], strong, strict=False):
            number = "" if value is None else f' data-v="{value!r}"'
            shown = f"<b>{escape(text)}</b>" if is_best else escape(text)
            cells.append(f"<td{number}>{shown}</td>")
        lines.append(f"<tr>{''.join(cells)}</tr>")
    body = "\n".join(lines)
    return (
        f"<div class=wide tabindex=0><table class=sortable>\n<thead><tr>{head}</tr></thead>\n"
        f"<tbody>\n{body}\n</tbody></table></div>\n"
    )


def _nothing() -> Iterable[Sequence[bool]]:
    while True:
        yield [False] * 64


def _runs_table(runs: Sequence[Run], columns: Sequence[Column]) -> str:
    mark = marks(runs)
    titles = ["allocator", *(column.title for column in columns)]
    rows: list[list[Cell]] = [[(f"{run.allocator} {mark[run.allocator]}".strip(), None)] for run in runs]
    best: list[list[bool]] = [[] for _ in runs]
    for column in columns:
        for number, (run, cell) in enumerate(zip(runs, best_cells(column, runs), strict=True)):
            rows[number].append((cell.plain, None if cell.plain == "-" else column.of(run)))
            best[number].append(cell.style == "bold")
    return _table(titles, rows, best)


def _summary(comparison: Comparison, data: dict[str, Any]) -> str:
    """The means, and each of their figures trace by trace."""
    summary = Summary(comparison)
    titles, written = summary_rows(summary)
    rows: list[list[Cell]] = []
    for name, texts in zip(summary.allocators, written, strict=True):
        values = [len(summary.finished[name]), *(summary.value(mean, name) for mean in summary.means)]
        rows.append([(texts[0], None), *zip(texts[1:], values, strict=True)])
    said = "\n".join(map(_note, summary.notes()))
    data["matrix"] = [_by_trace(summary, mean) for mean in summary.means]
    first = next(number for number, mean in enumerate(summary.means) if "live" in mean.title)
    options = "".join(
        f"<option value={number}{' selected' if number == first else ''}>{escape(mean.name)}</option>"
        for number, mean in enumerate(summary.means)
    )
    shown = data["matrix"][first]
    matrix = _table(
        ["allocator", *comparison.headers],
        [
            [(name, None), *((text, value) for text, value in cells)]
            for name, cells in zip(summary.allocators, shown["cells"], strict=True)
        ],
    )
    return (
        f"<section id=summary><h2>Over all traces</h2>\n{_note(f'{summary.title}.')}\n"
        f"{_table(titles, rows)}{said}\n"
        f"<h3>Trace by trace: <select id=matrix-of aria-label=figure>{options}</select></h3>\n"
        f"<div id=matrix>{matrix}</div></section>"
    )


def _by_trace(summary: Summary, mean: Mean) -> dict[str, Any]:
    """A figure of all runs that finished: rows of allocators, columns of traces, [text, value]."""
    rows = set(summary.rows_of(mean))
    cells = []
    for name in summary.allocators:
        runs = [summary.finished[name].get(trace) for trace in summary.comparison.headers]
        values = [mean.value(run) if run is not None and name in rows else None for run in runs]
        cells.append([["-" if value is None else mean.form(value), value] for value in values])
    return {"name": mean.name, "cells": cells}


# ---- one trace ----


def _trace(
    comparison: Comparison, name: str, number: int, allocators: Sequence[str], data: dict[str, Any]
) -> str:
    header, runs = comparison.headers[name], comparison.of_trace(name)
    parts = [
        f"<section class=trace id=trace-{number}><h2>{escape(str(heading(name, header)))}</h2>",
        f"<div class=verdict>{_verdict(verdict_of(comparison, name))}</div>",
        _runs_table(runs, shown_columns(comparison)),
        *(_note(f"{mark} {text}") for mark, text in notes(runs)),
        _figure("memory over the trace", lambda: _curves(comparison, runs, name, number, allocators, data)),
        _figure("where the heaps' bytes are", lambda: _bars(runs)),
        _figure("the heap maps", lambda: _maps(comparison, runs, name, number, data)),
        "</section>",
    ]
    return "\n".join(parts)


def _figure(what: str, draw: Callable[[], str]) -> str:
    """Return what `draw` gives, or why it is left out.

    What the figures of a wild design do to a drawing is not to be foreseen; it costs no other figure.
    """
    try:
        return draw()
    except Exception as error:
        return _note(f"The figure of {what} is left out, for it cannot be drawn: {error}")


def _curves(
    comparison: Comparison,
    runs: Sequence[Run],
    name: str,
    number: int,
    allocators: Sequence[str],
    data: dict[str, Any],
) -> str:
    places = [allocators.index(run.allocator) for run in runs]
    data |= curves(runs, comparison.clocks.get(name), places)
    if not data["runs"]:
        return _note("There are no curves: nothing was measured of any run.")
    alike = "".join(
        _note(
            f"The curves of {what} are never further apart than {100 * apart:.2g} % of the largest value. "
            "Drawn as they are, they look alike; so this figure shows how much each is above the least at "
            "each moment."
        )
        for what, apart in data["alike"].items()
        if apart is not None
    )
    missing = [run.allocator for run in runs if not run.timeline.event]
    left_out = _note(f"Without a curve, for nothing was measured: {', '.join(missing)}.") if missing else ""
    return (
        f"<h3>Memory over the trace</h3>{alike}\n<div class=curves data-trace={number}>"
        "<noscript><p class=note>The curves are drawn by JavaScript, which is off here. "
        f"Their peaks are in the table above.</p></noscript></div>{left_out}"
    )


def _bars(runs: Sequence[Run]) -> str:
    """Where each heap's bytes are, to one scale."""
    shown, reasons = [], []
    for run in runs:
        if why := _unseen(run, run.excess):
            reasons.append(f"{run.allocator}: {why}")
        elif run.excess is None or min(size(run.excess) for _, _, size in _PARTS) < 0:
            reasons.append(f"{run.allocator}: its walk adds up to no heap")
        else:
            shown.append((run, run.excess))
    if not shown:
        return _left_out("Where the heaps' bytes are", reasons)
    largest = max(excess.heap for _, excess in shown) or 1
    rows = []
    for run, excess in shown:
        parts = "".join(
            f'<i class={kind} style="width:{100 * size(excess) / largest:.3f}%" '
            f'title="{what}: {format_size(size(excess))}"></i>'
            for kind, what, size in _PARTS
        )
        words = "; ".join(f"{what} {format_size(size(excess))}" for _, what, size in _PARTS if size(excess))
        rows.append(
            f"<dt>{escape(_labelled(run))}</dt>"
            f'<dd><div class=bar role=img aria-label="{words}">{parts}</div>'
            f"<span>{format_size(excess.heap)}</span></dd>"
        )
    key = "".join(f"<li><i class={kind}></i>{what}</li>" for kind, what, _ in _PARTS)
    return (
        "<h3>Where the heaps' bytes are at the peak of live</h3>\n"
        f"<ul class=key>{key}</ul>\n<dl class=bars>{''.join(rows)}</dl>{_reasons(reasons)}"
    )


def _maps(comparison: Comparison, runs: Sequence[Run], name: str, number: int, data: dict[str, Any]) -> str:
    """The map of each heap, to one scale, and what is known of each pixel for onepage.js."""
    sound, reasons = [], []
    for run in runs:
        if why := _unseen(run, run.heap_map):
            reasons.append(f"{run.allocator}: {why}")
        elif run.heap_map is not None:
            try:
                demand_possible(run.heap_map)
                sound.append((run, run.heap_map))
            except ValueError as error:
                reasons.append(f"{run.allocator}: {error}")
    grid = Grid.for_heaps(heap for _, heap in sound)
    shown: list[str] = []
    data["maps"] = []
    for run, heap in sound:
        image = png(pixels(heap, grid))
        known = np.stack([np.round(255 * each) for each in shares(heap, grid)[1:]], axis=1)
        total = sum(size for _, size in heap.regions)
        caption = f"{_labelled(run)}: {format_size(total)} after {heap.event:,} events"
        shown.append(
            f"<figure><button class=map data-map={len(shown)}>"
            f'<img src="data:image/png;base64,{base64.b64encode(image).decode()}" '
            f'alt="{escape(f"heap map of {caption}")}" width={grid.columns} height={grid.rows}></button>'
            f"<figcaption>{escape(caption)}</figcaption></figure>"
        )
        data["maps"].append(
            {
                "title": f"{name}, {_labelled(run)}, after {heap.event:,} events",
                "cell": grid.cell,
                "columns": grid.columns,
                "rows": grid.rows,
                "regions": heap.regions,
                "shares": base64.b64encode(known.astype(np.uint8).tobytes()).decode(),
                "command": _view_command(comparison, run, name, heap.event),
            }
        )
    if not shown:
        return _left_out("The heap maps", reasons)
    row = format_size(grid.cell * grid.columns)
    return (
        "<h3>The heaps at the peak of live</h3>\n"
        f"<p class=note>The largest heap of each, to one scale: a pixel is {grid.cell} bytes and has the "
        f"mean colour of what lies in them, a row is {row}; addresses run from left to right, and from top "
        "to bottom. A click tells how to open the view at that moment.</p>\n"
        "<ul class=key><li><i class=live></i>payload</li><li><i class=internal></i>overhead: rounding, "
        "headers, metadata</li><li><i class=free></i>free</li></ul>\n"
        f"<div class=maps data-trace={number}>{''.join(shown)}</div>"
        f"<p class=under aria-live=polite></p>{_reasons(reasons)}"
    )


def _view_command(comparison: Comparison, run: Run, name: str, event: int) -> str:
    """The command that opens the view at that moment, or why there is none."""
    again = comparison.again.get(name)
    if run.language == NATIVE:
        return "There is no view of a real allocator's heap."
    if again is None:
        return "There is no command: the trace was made in memory, or came through a pipe."
    words = ["heaplab", "view", again, "--allocators", run.allocator, "--at", str(max(event - 1, 0))]
    if run.language != "c":
        words += ["--language", run.language]
    if run.seed != 1:
        words += ["--seed", str(run.seed)]
    return shlex.join([*words, "-o", "view.html"])


def _unseen(run: Run, found: Excess | HeapMap | None) -> str:
    """Why a figure of the run's heap itself is left out; "" when it is not.

    The heap of a run that failed was broken, sooner or later: a figure of it would not be to be trusted.
    """
    if run.outcome not in (FINISHED, STOPPED):
        return f"{run.outcome}: {run.reason}"
    if found is not None:
        return ""
    if run.language == NATIVE:
        return "nobody can walk a real allocator's heap"
    return (
        "its heap could not be walked where the run was stopped"
        if run.outcome == STOPPED
        else "it has no heap"
    )


def _labelled(run: Run) -> str:
    return run.allocator + ("" if run.outcome == FINISHED else f" ({run.outcome})")


def _left_out(what: str, reasons: Sequence[str]) -> str:
    return f"<h3>{what}</h3>{_note('There is nothing to show.')}{_reasons(reasons)}"


def _reasons(reasons: Sequence[str]) -> str:
    if not reasons:
        return ""
    items = "".join(f"<li>{escape(reason)}</li>" for reason in reasons)
    return f"<div class=note>Left out:<ul>{items}</ul></div>"
