"""Runs, comparisons, maps and timelines as text: what print() shows of them."""

import io
import os
import sys
import textwrap
from collections.abc import Callable, Sequence
from itertools import accumulate, pairwise

from rich.console import Console

from heaplab.lab import Comparison, HeapMap, Run, Timeline
from heaplab.lab.attribution import Attribution
from heaplab.lab.columns import COLUMNS, COST, SPACE
from heaplab.native.playing import FINISHED
from heaplab.report.tables import show
from heaplab.units import counted, format_size

#: the widest line, where no terminal is narrower
WIDTH = 100
_BARS = " ▁▂▃▄▅▆▇█"
_SAMPLES = 50
#: a map's characters in a line, and its lines at most
_ACROSS, _DOWN = 64, 24
#: in place of rows that are free like the one above and the one below
_LIKEWISE = "             *"


def width() -> int:
    """How wide text may be: WIDTH, or the terminal's width where that is less."""
    try:
        return min(WIDTH, os.get_terminal_size(sys.stdout.fileno()).columns)
    except (OSError, ValueError, AttributeError):  # no terminal; nothing that has a number
        return WIDTH


def comparison_text(comparison: Comparison) -> str:
    """The tables of a comparison, folded where they are wider than `width`, without the legend."""
    text = printed(lambda console: show(comparison, console, explain=False))
    return "\n".join([*text.splitlines(), *(["interrupted"] if comparison.interrupted else [])])


def printed(put: Callable[[Console], None]) -> str:
    """Return what is printed to a console that is `width` wide, without colours and blanks at line ends."""
    out = io.StringIO()
    put(Console(file=out, width=width(), highlight=False, color_system=None))
    return "\n".join(line.rstrip() for line in out.getvalue().rstrip().splitlines())


def run_text(run: Run) -> str:
    """A run in a few lines: how it ended, what was measured of space and of cost, three curves."""
    why = f": {run.reason}" if run.reason else ""
    lines = [f"{run.trace} on {run.allocator} in {run.language}: {run.outcome}{why}"]
    done = f"{run.events_done:,} of " if run.outcome != FINISHED else ""
    lines.append(f"{done}{counted(run.events, 'event')}")
    for group in (SPACE, COST):
        told = [f"{title} {text}" for title, text in figures(run, group)]
        if told:
            lines.append(", ".join(told))
    if run.attribution is not None and run.attribution.resident:
        lines.append(_where(run.attribution))
    folded = [part for line in lines for part in textwrap.wrap(line, width() - 2, subsequent_indent="  ")]
    return "\n".join(
        [folded[0], *(f"  {line}" for line in folded[1:]), *map("  {}".format, _curves(run.timeline))]
    )


def attribution_text(found: Attribution) -> str:
    """Where the resident bytes are, a part a line, and what pins pages."""
    whole = found.resident
    lines = [f"{format_size(whole)} resident after {counted(found.event, 'event')}"]
    lines += [f"  {name:<9}{_share(size, whole):>7}  {size:>14,} B" for name, size in found.parts.items()]
    if found.sparse_pages:
        lines.append(
            f"{counted(found.pin_blocks, 'block')} ({format_size(found.pin_bytes)}) in "
            f"{counted(found.sparse_pages, 'page')} more than half free; {found.falls:,} would fall "
            "without them"
        )
    lines += [
        f"  {pin.what}: {counted(pin.blocks, 'block')} since event {pin.since:,}, in "
        f"{counted(pin.pages, 'page')}; {pin.falls:,} would fall"
        for pin in found.pins
    ]
    return "\n".join(lines)


def _where(found: Attribution) -> str:
    """The parts of resident memory, in a line."""
    parts = ", ".join(f"{name} {_share(size, found.resident)}" for name, size in found.parts.items() if size)
    pins = (
        f"; {found.falls:,} pages would fall without {counted(found.pin_blocks, 'block')}"
        if found.falls
        else ""
    )
    return f"resident at the peak of live {format_size(found.resident)}: {parts}{pins}"


def figures(run: Run, *groups: str) -> list[tuple[str, str]]:
    """What a run has of the columns of these groups: (title in one line, value written)."""
    return [
        (column.title.replace("-\n", "").replace("\n/", "/").replace("\n", " "), column.cells([run])[0])
        for column in COLUMNS
        if column.group in groups and column.of(run) is not None
    ]


def timeline_text(timeline: Timeline) -> str:
    """The three curves of a timeline on one scale, each in a line."""
    return "\n".join(_curves(timeline)) or "nothing was sampled"


def _curves(timeline: Timeline) -> list[str]:
    top = max([*timeline.live, *timeline.heap, *timeline.resident], default=0)
    return [
        f"{name:<9}{sparkline(values, top)} {format_size(max(values))} at most, "
        f"{format_size(values[-1])} at the end"
        for name in ("live", "heap", "resident")
        if (values := getattr(timeline, name))
    ]


def sparkline(values: Sequence[int], top: int, most: int = _SAMPLES) -> str:
    """Return values from 0 to `top` as a line of bars, the highest of those that share a bar; `most` bars.

    >>> sparkline([0, 1, 4, 8], 8)
    ' ▁▄█'
    >>> sparkline([0, 8, 0, 2], 8, most=2)
    '█▂'
    """
    bars = min(most, len(values))
    ends = [len(values) * place // bars for place in range(bars + 1)]
    highest = (max(values[low:high]) for low, high in pairwise(ends))
    return "".join(_BARS[-(-value * 8 // top) if top else 0] for value in highest)


def map_text(heap_map: HeapMap) -> str:
    """A heap map as rows of characters, each for some cells; at the left, the address of the row."""
    cells = len(heap_map.payload)
    share = max(1, -(-cells // (_ACROSS * _DOWN)))
    total = sum(size for _, size in heap_map.regions)
    unit = share * heap_map.cell
    payload, overhead = sum(heap_map.payload), sum(heap_map.overhead)
    lines = [
        f"process {heap_map.process} after {counted(heap_map.event, 'event')}: {format_size(total)} in "
        f"{counted(len(heap_map.regions), 'region')}, {_share(payload, total)} payload, "
        f"{_share(overhead, total)} overhead, the rest free",
        f"a character is {unit:,} bytes: # mostly payload, o mostly overhead, + less than half used, . free",
    ]
    marks = [
        _mark(
            sum(heap_map.payload[at : at + share]),
            sum(heap_map.overhead[at : at + share]),
            min(unit, total - at * heap_map.cell),
        )
        for at in range(0, cells, share)
    ]
    rows = ["".join(marks[at : at + _ACROSS]) for at in range(0, len(marks), _ACROSS)]
    for number, row in enumerate(rows):
        if number and set(row) == {"."} and rows[number - 1 : number + 2] == [row] * 3:
            if lines[-1] != _LIKEWISE:
                lines.append(_LIKEWISE)
        else:
            lines.append(f"{_address(heap_map, number * _ACROSS * unit):#14x} {row}")
    return "\n".join(lines)


def _mark(payload: int, overhead: int, size: int) -> str:
    if not payload + overhead:
        return "."
    if 2 * (payload + overhead) < size:
        return "+"
    return "#" if payload >= overhead else "o"


def _address(heap_map: HeapMap, offset: int) -> int:
    """The address of a byte of the map: its regions lie one behind the other there."""
    ends = accumulate(size for _, size in heap_map.regions)
    for (start, size), end in zip(heap_map.regions, ends, strict=True):
        if offset < end:
            return start + offset - (end - size)
    raise AssertionError("the map has no such byte")


def _share(part: int, whole: int) -> str:
    return f"{part / whole:.1%}" if whole else "-"
