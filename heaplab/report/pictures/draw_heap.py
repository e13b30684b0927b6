"""Draws heaps as strips: blocks in address order, the free structure's links, pages and the break."""

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate, groupby, pairwise

from matplotlib.figure import Figure

from heaplab.allocators import Entry, State
from heaplab.report import style
from heaplab.report.pictures.canvas import (
    LARGE,
    MARGIN,
    SMALL,
    Canvas,
    Look,
    legend_height,
    width_of,
)
from heaplab.report.pictures.draw_index import draw_tree, tree, tree_height
from heaplab.report.pictures.text import bytes_of
from heaplab.views.heap import BlockView, HeapView, PageState, RegionView

#: points: the width of a strip, its height, of the line of pages, of what an arc hangs down
WIDTH, HEIGHT, PAGES, ARC = 860.0, 24.0, 6.0, 20.0
#: points that a row of a picture takes in all, without a free structure below
ROW = HEIGHT + PAGES + ARC + 26
#: points of a span that are as wide as a span is drawn; what is cut off is marked
WIDEST = 190.0
#: points that half of the live blocks have at least, as long as there are few rows
COMFORTABLE, MOST_ROWS = 34.0, 24
#: points below which a block has no room for a word
_NARROW = 9.0
#: free blocks whose links are drawn
MOST_LINKS = 48

LOOKS = {
    State.ALLOCATED: Look(fill="#9CC9E8"),
    State.LARGE: Look(fill="#9CC9E8", line=1.6),
    State.FREE: Look(fill="white", dash="--", edge="#555555"),
    State.CACHED: Look(fill="#E3D3E8", dash=":"),
    State.METADATA: Look(fill=style.YELLOW),
}
LINK = Look(edge=style.VERMILION, line=1.1)
#: what a request changed
CHANGED = Look(fill="none", edge=style.VERMILION, line=2.0)
PAGE_LOOKS = {
    PageState.OWN: Look(fill="#777777", line=0),
    PageState.SHARED: Look(fill=style.GREEN, line=0),
    PageState.COPIED: Look(fill=style.ORANGE, line=0),
    PageState.ZERO: Look(fill="#DDDDDD", line=0),
}
LEGEND = (
    (LOOKS[State.ALLOCATED], False, "live block: its slot, bytes"),
    (LOOKS[State.FREE], False, "free"),
    (LOOKS[State.CACHED], False, "cached"),
    (LOOKS[State.METADATA], False, "metadata"),
    (LINK, True, "the free structure's links"),
    (PAGE_LOOKS[PageState.OWN], False, "page resident"),
    (PAGE_LOOKS[PageState.SHARED], False, "page shared with another process"),
)


@dataclass(frozen=True)
class Axis:
    """Where addresses stand in a strip: piecewise linear, with long stretches cut short.

    edges: addresses, rising.  places: of each edge, points from the strip's left end.
    cut: of each stretch between two edges, whether it is drawn shorter than its bytes.
    """

    edges: tuple[int, ...]
    places: tuple[float, ...]
    cut: tuple[bool, ...]

    @classmethod
    def over(cls, addresses: Iterable[int], width: float, widest: int) -> "Axis":
        """Return an axis over these addresses, of `width` points; stretches above `widest` bytes are cut."""
        edges = tuple(sorted(set(addresses)))
        sizes = [end - start for start, end in pairwise(edges)]
        weights = [min(size, widest) for size in sizes]
        least = 3.0
        room = max(width - least * len(sizes), width / 4)
        scale = room / (sum(weights) or 1)
        steps = [weight * scale + (width - room) / len(sizes) for weight in weights]
        return cls(edges, (0.0, *accumulate(steps)), tuple(size > widest for size in sizes))

    def at(self, address: int) -> float:
        """Return where an address stands, in points."""
        if len(self.edges) < 2:
            return 0.0
        at = min(max(bisect_right(self.edges, address) - 1, 0), len(self.edges) - 2)
        start, end = self.edges[at], self.edges[at + 1]
        share = min(max((address - start) / (end - start), 0.0), 1.0)
        return self.places[at] + share * (self.places[at + 1] - self.places[at])

    def cut_in(self, start: int, end: int) -> float | None:
        """Return the middle of the longest stretch in [start, end) that is cut short, in points."""
        inside = [
            (self.edges[at + 1] - self.edges[at], (self.places[at] + self.places[at + 1]) / 2)
            for at, is_cut in enumerate(self.cut)
            if is_cut and start <= self.edges[at] and self.edges[at + 1] <= end
        ]
        return max(inside)[1] if inside else None


def draw(view: HeapView) -> Figure:
    """Return the heap drawn in rows of strips, lowest address first."""
    rows = list(_rows(view))
    entries = list(LEGEND)
    nodes = tree(view.free) if len(view.free) <= MOST_LINKS else []
    height = (
        66
        + ROW * len(rows)
        + tree_height(nodes)
        + legend_height(entries, WIDTH + 2 * MARGIN, len(_notes(view)))
    )
    canvas = Canvas(WIDTH + 2 * MARGIN, height)
    canvas.text(MARGIN, 16, view.title, LARGE, bold=True)
    canvas.text(MARGIN, 33, view.summary(), SMALL, colour="#444444")
    y = 60.0
    for region, axis in rows:
        strip(canvas, view, region, axis, MARGIN, y)
        name_regions(canvas, view, [(MARGIN, MARGIN + axis.at(region.end), region)], y, MARGIN + WIDTH)
        y += ROW
    draw_tree(canvas, nodes, MARGIN, y, min(WIDTH, 110.0 * len(nodes)))
    y += tree_height(nodes)
    canvas.legend(y, entries, _notes(view))
    return canvas.figure


def _notes(view: HeapView) -> list[str]:
    notes = ["A span that // crosses is drawn shorter than it is."]
    if view.structure:
        many = len(view.free) > MOST_LINKS
        told = f"{len(view.free):,} are too many to draw their links" if many else "the numbers are its order"
        notes.append(f"Free blocks are kept in {view.structure}: {told}.")
        if any("red" in entry.place.split() for entry in view.free):
            notes.append("In the tree, red nodes are tinted and have a thick edge.")
    if view.fault:
        notes.append(f"The heap is broken: {view.fault}")
    return notes


def _rows(view: HeapView) -> Iterator[tuple[RegionView, Axis]]:
    """The strips: each a part of a region and its axis, all to one scale unless one row has room for all."""
    sizes = sorted(block.size for block in view.live) or [4096]
    scale = COMFORTABLE / sizes[len(sizes) // 2]
    while True:
        rows = [row for region in view.regions for row in _rows_of(view, region, scale, WIDTH)]
        if len(rows) <= MOST_ROWS or scale < 1e-9:
            break
        scale *= max(MOST_ROWS / len(rows), 0.5) * 0.98
    for region in view.regions:
        in_one = list(_rows_of(view, region, scale, WIDTH * 1.7))
        for part, edges, width in in_one if len(in_one) == 1 else _rows_of(view, region, scale, WIDTH):
            yield part, Axis.over(edges, min(width, WIDTH), max(int(WIDEST / scale), 1))


def _rows_of(
    view: HeapView, region: RegionView, scale: float, most: float
) -> Iterator[tuple[RegionView, list[int], float]]:
    """Break a region into rows that are no wider than `most`: (part, edges, points)."""
    edges, start, used = [region.start], region.start, 0.0
    for block in view.blocks:
        if not region.start <= block.start < region.end:
            continue
        need = min(max(block.size * scale, 3.0), WIDEST)
        if used + need > most and len(edges) > 1:
            yield RegionView(start, edges[-1], region.name), edges, used
            edges, start, used = [edges[-1]], edges[-1], 0.0
        edges.append(block.end)
        used += need
    if len(edges) > 1:
        yield RegionView(start, region.end, region.name), [*edges, region.end], used


def strip(
    canvas: Canvas,
    view: HeapView,
    region: RegionView,
    axis: Axis,
    x: float,
    y: float,
    changed: frozenset[int] = frozenset(),
) -> None:
    """Draw one part of a heap; (x, y) is the upper left corner of its axis.

    changed: starts of blocks that are drawn with a thick edge.
    """
    for start, end in _runs(view, region, changed):
        left, right = x + axis.at(start), x + axis.at(end)
        canvas.box(left + 0.5, y + 0.5, right - left - 1, HEIGHT - 1, CHANGED, over=4)
    narrow: dict[State, list[tuple[float, float]]] = {}
    for block in view.blocks:
        if region.start <= block.start < region.end:
            left, right = x + axis.at(block.start), x + axis.at(block.end)
            if right - left < _NARROW:
                narrow.setdefault(block.state, []).append((left, right))
            else:
                _block(canvas, block, axis, x, y)
    for state, sides in narrow.items():
        thin = min(right - left for left, right in sides) / 4
        canvas.boxes(sides, y, HEIGHT, replace(LOOKS[state], line=min(LOOKS[state].line, thin)))
    _page_line(canvas, view, region, axis, x, y + HEIGHT + 2)
    if _ends_at_break(view, region):
        right = x + axis.at(region.end)
        canvas.line([(right, y - 5), (right, y + HEIGHT + PAGES + 4)], Look(line=1.6))
    if len(view.free) <= MOST_LINKS:
        _links(canvas, view, region, axis, x, y + HEIGHT + PAGES + 3)


def _runs(view: HeapView, region: RegionView, changed: frozenset[int]) -> Iterator[tuple[int, int]]:
    """Yield (start, end) of the blocks that changed; blocks side by side that are not live are one run."""
    start = end = 0
    for block in view.blocks:
        if block.start not in changed or not region.start <= block.start < region.end:
            continue
        if end and (block.start != end or block.state.is_live):
            yield start, end
            end = 0
        start, end = (start if end else block.start), block.end
        if block.state.is_live:
            yield start, end
            end = 0
    if end:
        yield start, end


def _ends_at_break(view: HeapView, region: RegionView) -> bool:
    return region.name == "brk" and region.end >= view.brk


def name_regions(
    canvas: Canvas, view: HeapView, named: Sequence[tuple[float, float, RegionView]], y: float, end: float
) -> None:
    """Write the names of the regions of a row above them, those that have room up to `end`.

    named: left and right side of each region, in points.
    """
    free_from = 0.0
    for left, right, region in named:
        name = f"{region.name} {region.start:#x}"
        wide = width_of(name, SMALL, mono=True)
        x = min(left, end - wide)
        if x >= free_from:
            canvas.text(x, y - 9, name, SMALL, mono=True, colour="#444444")
            free_from = x + wide + 8
        if _ends_at_break(view, region) and right - width_of("break", SMALL) >= free_from:
            canvas.text(right, y - 9, "break", SMALL, side="right")


def _block(canvas: Canvas, block: BlockView, axis: Axis, x: float, y: float) -> None:
    left, right = x + axis.at(block.start), x + axis.at(block.end)
    look, width = LOOKS[block.state], right - left
    canvas.box(left, y, width, HEIGHT, replace(look, line=min(look.line, width / 4)))
    cut = axis.cut_in(block.start, block.end)
    if cut is not None and width > 14:
        middle = x + cut
        _mark_cut(canvas, middle, y)
        if middle - left < right - middle:  # the text goes where there is more room
            left = middle + 4
        else:
            right = middle - 4
    name = f"{block.label.slot}: " if block.label is not None else ""
    for text in (f"{name}{block.size:,}", name.removesuffix(": ")):
        if text and width_of(text, SMALL) + 4 < right - left:
            canvas.text((left + right) / 2, y + HEIGHT / 2, text, SMALL, side="center")
            break


def _mark_cut(canvas: Canvas, x: float, y: float) -> None:
    """Put the sign // there: what stands here is drawn shorter than it is."""
    top, bottom = y - 2, y + HEIGHT + 2
    canvas.area([(x - 1, top), (x + 4, top), (x + 1, bottom), (x - 4, bottom)], "white", edge=0.7, over=4)


def _page_line(canvas: Canvas, view: HeapView, region: RegionView, axis: Axis, x: float, y: float) -> None:
    """Draw a bar for each run of pages in one state, with a gap between pages where there is room."""
    inside = [page for page in view.pages if region.start - view.page_size < page.address < region.end]
    for state, run in groupby(inside, key=lambda page: page.state):
        pages = list(run)
        if state is PageState.ABSENT:
            continue
        left, right = (
            x + axis.at(address) for address in (pages[0].address, pages[-1].address + view.page_size)
        )
        canvas.box(left, y, max(right - left, 0.5), PAGES, PAGE_LOOKS[state])
        for page in pages[1:]:
            if right - left > 6 * len(pages):
                border = x + axis.at(page.address)
                canvas.line([(border, y), (border, y + PAGES)], Look(edge="white"))
    canvas.line(
        [(x + axis.at(region.start), y + PAGES + 0.5), (x + axis.at(region.end), y + PAGES + 0.5)],
        Look(line=0.4),
    )


def _links(canvas: Canvas, view: HeapView, region: RegionView, axis: Axis, x: float, y: float) -> None:
    """Draw an arc from each free block to the one after it, or to those below it, within this part."""
    sizes = {entry.start: entry.size for entry in view.free}
    taken: list[tuple[float, float]] = []  # where numbers stand already

    def middle(start: int) -> float | None:
        if not region.start <= start < region.end:
            return None
        left, right = axis.at(start), axis.at(start + sizes.get(start, 0))
        return x + left + min((right - left) / 2, 24)

    for number, entry in enumerate(view.free, 1):
        to = middle(entry.start)
        if to is None:
            continue
        half = width_of(str(number), SMALL - 1) / 2 + 1
        if all(to + half < left or right < to - half for left, right in taken):
            taken.append((to - half, to + half))
            canvas.text(to, y + 4, str(number), SMALL - 1, side="center", colour=style.VERMILION)
        start = middle(entry.under) if entry.under in sizes else None
        if start is not None and abs(start - to) > 4:
            bend, low = (start + to) / 2, y + ARC - 2
            aside = 3 if to > start else -3
            canvas.line([(start + aside, y + 9), (bend, low), (to - aside, y + 9)], LINK, arrow=True)


def order_text(entries: Sequence[Entry], view: HeapView, most: int = 6) -> str:
    """Return the free structure in its own order, in one line."""
    told = [f"{bytes_of(entry.size)} at {view.place(entry.start)}" for entry in entries[:most]]
    more = f", {len(entries) - most:,} more" if len(entries) > most else ""
    apart = f"{bytes_of(view.unlisted)} in no block yet" if view.unlisted else ""
    return ", ".join([*told, *([apart] if apart else [])]) + more if told or apart else "nothing is free"
