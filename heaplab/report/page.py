"""A comparison as a page: index.html with tables, and the figures it shows beside it."""

import io
import os
import re
import warnings
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from html import escape
from pathlib import Path

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from heaplab.files import replacing
from heaplab.lab import Comparison, Run
from heaplab.lab.columns import Column, shown_columns
from heaplab.lab.record import NATIVE
from heaplab.report import figures
from heaplab.report.means import MEMS, Summary
from heaplab.report.tables import heading, legend, notes, remarks, settings_line, summary_rows

_STYLE = """
body { font: 15px/1.45 system-ui, sans-serif; color: #222 }
body { max-width: 1240px; margin: 2em auto; padding: 0 1em }
h1 { font-size: 1.7em } h2 { margin-top: 2.2em; border-top: 1px solid #ccc; padding-top: 0.8em }
.wide { overflow-x: auto } table { border-collapse: collapse; font-size: 13px }
th { font-weight: 600; text-align: right; vertical-align: bottom; white-space: pre-line }
th, td { padding: 0.25em 0.6em; border-bottom: 1px solid #ddd }
td { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap }
th:first-child, td:first-child { text-align: left }
figure { margin: 1.2em 0 } img { max-width: 100%; height: auto }
figcaption, .note { color: #555; font-size: 13px }
pre { font-size: 12.5px; background: #f6f6f6; padding: 0.8em; overflow-x: auto }
"""

#: the figures of one trace: name of the file, function, whether it shows a run at all, caption
_FIGURES = (
    (
        "timeline",
        figures.timeline,
        lambda run: run.operations > 0,
        "Memory over the trace. Heap: address space from brk and anonymous mmap; resident: distinct "
        "anonymous frames, those shared after fork once; live: payload requested and not freed. A dotted "
        "line is where a run ended early.",
    ),
    (
        "fragmentation",
        figures.fragmentation,
        lambda run: run.fragmentation is not None,
        "The heap at the peak of the live payload (or where the run ended before it). Internal: overhead "
        "and padding within allocated blocks; external: everything outside them. Shares below 6 % have no "
        "number.",
    ),
    (
        "heap-map",
        figures.heap_map,
        lambda run: run.heap_map is not None,
        "The largest heap at the same moment, all to one scale: rows from left to right, addresses from top "
        "to bottom, first the brk heap, then the mappings of large blocks. A pixel has the mean colour of "
        "its bytes.  Of an allocator from outside the payloads alone are known: free is all else.",
    ),
    (
        "cost",
        figures.cost,
        lambda run: run.operations > 0,
        "Left: memory references, loads and stores of the allocator's own, per operation. Right: "
        "processor time of the replay, with system calls, page faults and payload; it varies from run to "
        "run. That of a real allocator, a square with its quartiles, is another measure: see the "
        "definitions.",
    ),
)


def write(comparison: Comparison, directory: str | os.PathLike[str]) -> Path:
    """Write index.html and its figures into `directory`, which is made if need be; return the page's path.

    Cost: about a second a trace.  Raises: OSError when it cannot be written, UsageError when a file's place
    is taken by something else.
    """
    folder = Path(directory)
    folder.mkdir(exist_ok=True)
    parts = [_opening(comparison)]
    seed = f"Seed {comparison.settings['seed']}."
    if comparison.runs:
        parts.append(_summary(comparison, folder))
    for number, (name, header) in enumerate(comparison.headers.items(), 1):
        runs = comparison.of_trace(name)
        if runs:
            slug = f"{number:02}-{re.sub(r'[^A-Za-z0-9.-]+', '-', name)[-60:].strip('-')}"
            parts += [
                f"<h2>{escape(str(heading(name, header)))}</h2>",
                _table(runs, shown_columns(comparison)),
                *_notes(runs),
            ]
            if any(run.operations for run in runs):
                parts += [
                    _figure(
                        partial(draw, runs),
                        folder,
                        f"{slug}-{what}.png",
                        f"{caption} {seed}{_without(runs, shows)}",
                    )
                    for what, draw, shows, caption in _FIGURES
                    if any(map(shows, runs))
                ]
    parts += [f"<p class=note>{escape(sentence)}</p>" for sentence in remarks(comparison)]
    parts.append(f"<h2>Definitions</h2><pre>{escape(legend(comparison))}</pre>")
    page = folder / "index.html"
    with replacing(page) as file:
        file.write(_document(parts).encode())
    return page


def _document(parts: Iterable[str]) -> str:
    body = "\n".join(parts)
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>heaplab: allocators compared</title>\n<style>{_STYLE}</style></head>\n"
        f"<body>\n{body}\n</body></html>\n"
    )


def _opening(comparison: Comparison) -> str:
    return f"<h1>Allocators compared</h1>\n<p>{escape(settings_line(comparison))}.</p>"


def _summary(comparison: Comparison, folder: Path) -> str:
    summary = Summary(comparison)
    titles, rows = summary_rows(summary)
    said = "".join(f"<p class=note>{escape(text)}</p>\n" for text in summary.notes())
    whole = f"<h2>Over all traces</h2>\n<p class=note>{escape(summary.title)}.</p>\n"
    whole += _html_table(titles, rows) + said
    if not summary.shown:
        return whole
    if not any(map(MEMS.is_of, comparison.runs)):
        return whole
    caption = (
        "Small marks are traces, large ones geometric means over the traces that every allocator finished. "
        "Better is up and left."
    )
    if real := dict.fromkeys(run.allocator for run in comparison.runs if run.language == NATIVE):
        caption += f" Not shown, for real allocators have no memory references: {', '.join(real)}."
    return whole + _figure(partial(figures.summary, comparison), folder, "summary.png", caption)


def _table(runs: Sequence[Run], columns: Sequence[Column]) -> str:
    titles = ["allocator", *(column.title for column in columns)]
    cells = (column.cells(runs) for column in columns)
    return _html_table(titles, list(zip((run.allocator for run in runs), *cells, strict=True)))


def _html_table(titles: Iterable[str], rows: Iterable[Sequence[str]]) -> str:
    head = "".join(f"<th>{escape(title)}</th>" for title in titles)
    body = "\n".join(f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in row)}</tr>" for row in rows)
    return f"<div class=wide><table>\n<tr>{head}</tr>\n{body}\n</table></div>\n"


def _without(runs: Sequence[Run], shows: Callable[[Run], bool]) -> str:
    """A sentence on the real allocators that a figure cannot show."""
    missing = [run.allocator for run in runs if run.language == NATIVE and run.operations and not shows(run)]
    return (
        f" Not shown, for nobody can walk a real allocator's heap: {', '.join(missing)}." if missing else ""
    )


def _notes(runs: Sequence[Run]) -> list[str]:
    return [f"<p class=note>{escape(text)}</p>" for _, text in notes(runs)]


def _figure(draw: Callable[[], Figure], folder: Path, name: str, caption: str) -> str:
    """Draw and save a figure; return the element that shows it.

    What the figures of a wild design do to a drawing is not to be foreseen.  A figure that cannot be drawn
    costs no other: its element says why it is left out.
    """
    image = io.BytesIO()
    shown = escape(caption)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of layouts that had no room
            # what savefig does, but drawn once: it draws twice, to lay out what `draw` lays out anyway
            FigureCanvasAgg(draw()).print_png(image)  # type: ignore[no-untyped-call]
    except Exception as error:
        why = escape(
            f"The figure {name} is left out, for it cannot be drawn: {type(error).__name__}: {error}"
        )
        return f"<p class=note>{why}</p>"
    with replacing(folder / name) as file:
        file.write(image.getvalue())
    return f'<figure><img src="{escape(name)}" alt="{shown}"><figcaption>{shown}</figcaption></figure>'
