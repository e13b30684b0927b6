"""Draws a film strip: a row for each request, a column for each design."""

from itertools import pairwise

from matplotlib.figure import Figure

from heaplab.report.pictures import draw_heap
from heaplab.report.pictures.canvas import LARGE, MARGIN, SMALL, Canvas, legend_height, wide_enough, width_of
from heaplab.report.pictures.draw_heap import Axis
from heaplab.units import counted
from heaplab.views.film import Film, Reel, Still
from heaplab.views.heap import HeapView

#: points: one strip, the columns' distance, a row with its line of text
_STRIP, _GAP, _ROW = 470.0, 26.0, draw_heap.ROW + 12
#: points between two regions
_APART = 12.0
#: a span longer than so many times the live blocks, but for the largest quarter, is drawn shorter
_LONGEST = 3


def draw(film: Film) -> Figure:
    """Return the film as a figure; within a column, equal addresses stand at equal places."""
    lead = max(width_of(still.request, bold=True) for reel in film.reels for still in reel.stills)
    lead = max(lead, 52.0) + 16
    notes = [
        "The number below a free block is its rank in the free structure, whose links are the arrows.",
        "Thick edges: what the request changed. A span that // crosses is drawn shorter than it is.",
    ]
    width = wide_enough(2 * MARGIN + lead + len(film.reels) * (_STRIP + _GAP), notes)
    count = max(len(reel.stills) for reel in film.reels)
    entries = list(draw_heap.LEGEND)
    height = 54 + _ROW * count + legend_height(entries, width, len(notes)) + MARGIN
    canvas = Canvas(width, height)
    for column, reel in enumerate(film.reels):
        x = MARGIN + lead + column * (_STRIP + _GAP)
        canvas.text(x, 16, reel.allocator, LARGE, bold=True)
        if reel.stills[0].view.structure:
            canvas.text(x, 31, f"free blocks: {reel.stills[0].view.structure}", SMALL, colour="#444444")
        _column(canvas, reel, x)
    for row, request in enumerate(("at first", *film.requests)):
        if row < count:
            y = 50 + _ROW * row + draw_heap.HEIGHT / 2
            canvas.text(MARGIN, y, request, bold=bool(row))
    canvas.legend(50 + _ROW * count, entries, notes)
    return canvas.figure


def _column(canvas: Canvas, reel: Reel, x: float) -> None:
    places = _places(reel)
    before: HeapView | None = None
    for row, still in enumerate(reel.stills):
        y = 50 + _ROW * row
        view = still.view
        changed = _changed(before, view) if row else frozenset()
        named = []
        for region in view.regions:
            left, axis = next(
                place for place in places if place[1].edges[0] <= region.start < place[1].edges[-1]
            )
            draw_heap.strip(canvas, view, region, axis, x + left, y, changed)
            if before is None or region not in before.regions:  # a name stands where it is news
                named.append((x + left + axis.at(region.start), x + left + axis.at(region.end), region))
        draw_heap.name_regions(canvas, view, named, y, x + _STRIP)
        canvas.text(x, y + draw_heap.ROW - 15, _told(still), SMALL, colour="#444444")
        before = view


def _places(reel: Reel) -> list[tuple[float, Axis]]:
    """Where a reel's regions stand: for all addresses that are ever one region, points and their axis."""
    regions = sorted({(region.start, region.end) for still in reel.stills for region in still.view.regions})
    joined: list[list[int]] = []
    for start, end in regions:
        if joined and start <= joined[-1][1]:
            joined[-1][1] = max(joined[-1][1], end)
        else:
            joined.append([start, end])
    blocks = [block for still in reel.stills for block in still.view.blocks]
    borders = {each for block in blocks for each in (block.start, block.end)}
    sizes = sorted(block.size for block in blocks if block.state.is_live) or [1024]
    widest = _LONGEST * sizes[3 * len(sizes) // 4]
    edges = [sorted({start, end, *(each for each in borders if start < each < end)}) for start, end in joined]
    weights = [sum(min(end - start, widest) for start, end in pairwise(some)) for some in edges]
    scale = (_STRIP - _APART * (len(edges) - 1)) / (sum(weights) or 1)
    places, left = [], 0.0
    for some, weight in zip(edges, weights, strict=True):
        places.append((left, Axis.over(some, scale * weight, widest)))
        left += scale * weight + _APART
    return places


def _changed(before: HeapView | None, now: HeapView) -> frozenset[int]:
    """The starts of the blocks that were not there, as they are, before."""
    if before is None or before.pid != now.pid:
        return frozenset()
    old = {(block.start, block.size, block.state, block.label) for block in before.blocks}
    return frozenset(
        block.start for block in now.blocks if (block.start, block.size, block.state, block.label) not in old
    )


def _told(still: Still) -> str:
    if not still.request:
        return still.view.summary()
    cost = f"{counted(still.mems, 'mem')}, {counted(still.faults, 'fault')}"
    at = f"at {still.view.place(still.address)}, " if still.address else ""
    told = f"! {still.problem}" if still.problem else f"{at}{cost}"
    for most in (5, 4, 3, 2, 1) if still.view.structure and not still.problem else ():
        whole = f"{told}; free: {draw_heap.order_text(still.view.free, still.view, most)}"
        if width_of(whole, SMALL) < _STRIP:
            return whole
    return told
