"""A comparison as one page that opens anywhere: one file, no network, and with JavaScript one can ask it.

page.js and page.css, beside this file, are written into it, and so is all data.  Tables, verdict, bars
and maps are there without JavaScript; sorting, curves and what lies under the pointer need it.
"""

import json
import os
from collections.abc import Callable, Mapping, Sequence
from html import escape
from importlib.resources import files
from pathlib import Path
from typing import Any

from heaplab.files import replacing
from heaplab.lab import Comparison, Run
from heaplab.lab.columns import Column, shown_columns
from heaplab.pages import page as pages
from heaplab.report import style
from heaplab.report.means import Mean, Summary
from heaplab.report.onepage.curves import curves
from heaplab.report.onepage.heaps import bars, maps, resident_bars
from heaplab.report.onepage.html import Cell, note, table
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

#: how a line is drawn when colours are used up: the next dash pattern
_DASHES = ("", "7 3", "2 3")
_COLOURS = (
    style.BLUE, style.VERMILION, style.GREEN, style.ORANGE, style.PURPLE, style.SKY, "currentColor",
)  # fmt: skip


#: what the page's own script takes from that of heaplab.pages
_OFFER = "globalThis.heaplabPages = { mountHeap, fromBase64 };\n"


def write_page(
    comparison: Comparison,
    path: str | os.PathLike[str],
    moments: Mapping[tuple[str, str], bytes] | None = None,
) -> Path:
    """Write the comparison as one HTML file, whole or not at all; return its path.

    The page shows fragmentation over time, and times, of a comparison with walks.
    moments: the heaps at the peak, by trace and allocator, as `heaplab.views.moment` packs them.  A click
    on a map opens its moment; on another map it tells the command that opens the view.
    Cost: about 20 ms and 30 KiB of page a run.  Raises: OSError when it cannot be written; UsageError when
    something else than a file has its place.
    """
    text = page_text(comparison, moments)
    with replacing(path) as file:
        file.write(text.encode(errors="replace"))  # names of files may be no Unicode
    return Path(path)


def page_text(comparison: Comparison, moments: Mapping[tuple[str, str], bytes] | None = None) -> str:
    """Return the page; see `write_page`."""
    moments = moments or {}
    allocators = list(dict.fromkeys(run.allocator for run in comparison.runs))
    drawn = [name for name in comparison.headers if comparison.of_trace(name)]
    data: dict[str, Any] = {"allocators": [_look(number, name) for number, name in enumerate(allocators)]}
    parts = [_opening(comparison), _contents(comparison, drawn)]
    if len(drawn) > 1:
        parts.append(_summary(comparison, data))
    data["traces"] = []
    for number, name in enumerate(drawn):
        data["traces"].append({})
        parts.append(_trace(comparison, name, number, allocators, moments, data["traces"][-1]))
    parts += [note(sentence) for sentence in remarks(comparison)]
    parts.append(_definitions(comparison))
    return _document("\n".join(parts), data, views=bool(moments))


def _look(number: int, allocator: str) -> dict[str, str]:
    """An allocator's name, and how its lines look."""
    colour = _COLOURS[number % len(_COLOURS)]
    return {"name": allocator, "colour": colour, "dash": _DASHES[number // len(_COLOURS) % len(_DASHES)]}


# ---- frame ----


def _document(body: str, data: dict[str, Any], *, views: bool) -> str:
    """The page around its body.  views: maps open their moments; heaplab.pages has the script for it."""
    room = files("heaplab.report.onepage")
    css, js = ((room / f"page.{kind}").read_text() for kind in ("css", "js"))
    view = f"<style>\n{pages.style()}</style>\n<script type=module>\n{pages.script()}{_OFFER}</script>\n"
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
        f'{view if views else ""}<script type="module">\n{js}</script>\n</body></html>\n'
    )


def _opening(comparison: Comparison) -> str:
    return (
        f"<header><h1>Allocators compared</h1>\n{note(f'{settings_line(comparison)}.')}</header>\n"
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
    grounds = table(["allocator", "figure", "value"], rows)
    return f"{said}\n<details><summary>the figures that this rests on</summary>{grounds}</details>"


def _emphasised(text: str) -> str:
    """A sentence's text; what it is about stands out, where it begins with that."""
    word, colon, rest = text.partition(": ")
    return f"<b>{escape(word)}:</b> {escape(rest)}" if colon and " " not in word else escape(text)


def _definitions(comparison: Comparison) -> str:
    terms = "\n".join(
        f"<dt>{escape(word)}</dt><dd>{escape(said)}</dd>" for word, said in legend_rows(legend(comparison))
    )
    return f"<section><h2>Definitions</h2>\n<dl class=definitions>\n{terms}</dl></section>"


# ---- tables ----


def _runs_table(runs: Sequence[Run], columns: Sequence[Column]) -> str:
    mark = marks(runs)
    titles = ["allocator", *(column.title for column in columns)]
    rows: list[list[Cell]] = [[(f"{run.allocator} {mark[run.allocator]}".strip(), None)] for run in runs]
    best: list[list[bool]] = [[] for _ in runs]
    for column in columns:
        for number, (run, cell) in enumerate(zip(runs, best_cells(column, runs), strict=True)):
            rows[number].append((cell.plain, None if cell.plain == "-" else column.of(run)))
            best[number].append(cell.style == "bold")
    return table(titles, rows, best)


def _summary(comparison: Comparison, data: dict[str, Any]) -> str:
    """The means, and each of their figures trace by trace."""
    summary = Summary(comparison)
    titles, written = summary_rows(summary)
    rows: list[list[Cell]] = []
    for name, texts in zip(summary.allocators, written, strict=True):
        values = [len(summary.finished[name]), *(summary.value(mean, name) for mean in summary.means)]
        rows.append([(texts[0], None), *zip(texts[1:], values, strict=True)])
    said = "\n".join(map(note, summary.notes()))
    data["matrix"] = [_by_trace(summary, mean) for mean in summary.means]
    first = next(number for number, mean in enumerate(summary.means) if "live" in mean.title)
    options = "".join(
        f"<option value={number}{' selected' if number == first else ''}>{escape(mean.name)}</option>"
        for number, mean in enumerate(summary.means)
    )
    shown = data["matrix"][first]
    matrix = table(
        ["allocator", *comparison.headers],
        [
            [(name, None), *((text, value) for text, value in cells)]
            for name, cells in zip(summary.allocators, shown["cells"], strict=True)
        ],
    )
    return (
        f"<section id=summary><h2>Over all traces</h2>\n{note(f'{summary.title}.')}\n"
        f"{table(titles, rows)}{said}\n"
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
    comparison: Comparison,
    name: str,
    number: int,
    allocators: Sequence[str],
    moments: Mapping[tuple[str, str], bytes],
    data: dict[str, Any],
) -> str:
    header, runs = comparison.headers[name], comparison.of_trace(name)
    its_moments = {allocator: moment for (trace, allocator), moment in moments.items() if trace == name}
    parts = [
        f"<section class=trace id=trace-{number}><h2>{escape(str(heading(name, header)))}</h2>",
        f"<div class=verdict>{_verdict(verdict_of(comparison, name))}</div>",
        _runs_table(runs, shown_columns(comparison)),
        *(note(f"{mark} {text}") for mark, text in notes(runs)),
        _figure("memory over the trace", lambda: _curves(comparison, runs, name, number, allocators, data)),
        _figure("where the resident bytes are", lambda: resident_bars(runs)),
        _figure("where the heaps' bytes are", lambda: bars(runs)),
        _figure("the heap maps", lambda: maps(comparison, runs, name, number, its_moments, data)),
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
        return note(f"The figure of {what} is left out, for it cannot be drawn: {error}")


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
        return note("There are no curves: nothing was measured of any run.")
    alike = "".join(
        note(
            f"The curves of {what} are never further apart than {100 * apart:.2g} % of the largest value. "
            "Drawn as they are, they look alike; so this figure shows how much each is above the least at "
            "each moment."
        )
        for what, apart in data["alike"].items()
        if apart is not None
    )
    missing = [run.allocator for run in runs if not run.timeline.event]
    left_out = note(f"Without a curve, for nothing was measured: {', '.join(missing)}.") if missing else ""
    return (
        f"<h3>Memory over the trace</h3>{alike}\n<div class=curves data-trace={number}>"
        "<noscript><p class=note>The curves are drawn by JavaScript, which is off here. "
        f"Their peaks are in the table above.</p></noscript></div>{left_out}"
    )
