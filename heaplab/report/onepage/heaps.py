"""What a page shows of the heaps themselves: where their bytes are, and their maps."""

import base64
import shlex
from collections.abc import Callable, Mapping, Sequence
from html import escape
from typing import Any, TypeVar

import numpy as np

from heaplab.lab import RAM, Comparison, HeapMap, Run
from heaplab.lab.attribution import Attribution
from heaplab.lab.metrics import Excess
from heaplab.lab.record import NATIVE
from heaplab.native.playing import FINISHED, STOPPED
from heaplab.report.maps import Grid, demand_possible, pixels, png, shares
from heaplab.report.onepage.html import note
from heaplab.units import format_size

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
#: where resident bytes are: the same columns
_RESIDENT: tuple[tuple[str, str, Callable[[Attribution], int]], ...] = (
    ("live", "live payload", lambda it: it.payload),
    ("internal", "rounding and headers in blocks", lambda it: it.internal),
    ("metadata", "metadata", lambda it: it.metadata),
    ("dense", "free between blocks in fuller pages", lambda it: it.pinned - it.sparse),
    ("sparse", "free, pinned in pages more than half free", lambda it: it.sparse),
    ("vacant", "free in pages that hold nothing, never returned", lambda it: it.vacant),
    ("copied", "copied by writes after a fork", lambda it: it.copied),
)
_Found = TypeVar("_Found", Excess, Attribution)
#: of an allocator from outside
_PAYLOADS_ALONE = " Of an allocator from outside the payloads alone are known: free is all else."


def bars(runs: Sequence[Run]) -> str:
    """Where each heap's bytes are, to one scale."""
    title = "Where the heaps' bytes are at the peak of live"
    return _bars(title, runs, [run.excess for run in runs], _PARTS, lambda it: it.heap)


def resident_bars(runs: Sequence[Run]) -> str:
    """Where the resident bytes are, to one scale."""
    title = "Where the resident bytes are at the peak of live"
    return _bars(title, runs, [run.attribution for run in runs], _RESIDENT, lambda it: it.resident)


def _bars(
    title: str,
    runs: Sequence[Run],
    found: Sequence[_Found | None],
    kinds: Sequence[tuple[str, str, Callable[[_Found], int]]],
    whole: Callable[[_Found], int],
) -> str:
    """A bar a run, its parts as long as their bytes; below, why a run has none."""
    shown, reasons = [], []
    for run, its in zip(runs, found, strict=True):
        if why := _unseen(run, its):
            reasons.append(f"{run.allocator}: {why}")
        elif its is None or min(size(its) for _, _, size in kinds) < 0:
            reasons.append(f"{run.allocator}: its walk adds up to no heap")
        else:
            shown.append((run, its))
    if not shown:
        return _left_out(title, reasons)
    largest = max(whole(its) for _, its in shown) or 1
    rows = []
    for run, its in shown:
        parts = "".join(
            f'<i class={kind} style="width:{100 * size(its) / largest:.3f}%" '
            f'title="{what}: {format_size(size(its))}"></i>'
            for kind, what, size in kinds
        )
        words = "; ".join(f"{what} {format_size(size(its))}" for _, what, size in kinds if size(its))
        rows.append(
            f"<dt>{escape(_labelled(run))}</dt>"
            f'<dd><div class=bar role=img aria-label="{words}">{parts}</div>'
            f"<span>{format_size(whole(its))}</span></dd>"
        )
    key = "".join(f"<li><i class={kind}></i>{what}</li>" for kind, what, _ in kinds)
    return (
        f"<h3>{title}</h3>\n<ul class=key>{key}</ul>\n<dl class=bars>{''.join(rows)}</dl>{_reasons(reasons)}"
    )


def maps(
    comparison: Comparison,
    runs: Sequence[Run],
    name: str,
    number: int,
    moments: Mapping[str, bytes],
    data: dict[str, Any],
) -> str:
    """The map of each heap, to one scale, and what is known of each pixel for page.js.

    moments: by allocator, what a click opens; see `write_page`.
    """
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
                "allocator": run.allocator,
                "moment": base64.b64encode(moments.get(run.allocator, b"")).decode(),
            }
        )
    if not shown:
        return _left_out("The heap maps", reasons)
    row = format_size(grid.cell * grid.columns)
    outside = any(run.language == NATIVE for run, _ in sound)
    return (
        "<h3>The heaps at the peak of live</h3>\n"
        f"<p class=note>The largest heap of each, to one scale: a pixel is {grid.cell} bytes and has the "
        f"mean colour of what lies in them, a row is {row}; addresses run from left to right, and from top "
        f"to bottom. A click {'opens the heap' if moments else 'tells how to open the view'} at that "
        f"moment.{_PAYLOADS_ALONE if outside else ''}</p>\n"
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
    settings = comparison.settings
    if settings["ram"] != RAM:
        words += ["--ram", str(settings["ram"])]
    words += ["--no-payload"] * (not settings.get("payload", True)) + ["--lenient"] * settings["lenient"]
    return shlex.join([*words, "-o", "view.html"])


def _unseen(run: Run, found: Excess | Attribution | HeapMap | None) -> str:
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
    return f"<h3>{what}</h3>{note('There is nothing to show.')}{_reasons(reasons)}"


def _reasons(reasons: Sequence[str]) -> str:
    if not reasons:
        return ""
    items = "".join(f"<li>{escape(reason)}</li>" for reason in reasons)
    return f"<div class=note>Left out:<ul>{items}</ul></div>"
