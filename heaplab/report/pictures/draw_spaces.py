"""Address spaces, drawn: areas on both sides, the frames of physical memory between them.

    +---------------+                                     +---------------+
    | [stack]       |        +-------------------+        | [stack]       |
    |   page -------+------> | frame, shared     | <------+------- page   |
    +---------------+        +--------+ +--------+        +---------------+
    |   page -------+------> | frame  | | frame  | <------+------- page   |
    +---------------+        +--------+ +--------+        +---------------+

A frame that both sides show is as wide as the column; one of a single side stands on that side.
"""

from dataclasses import dataclass, field

from matplotlib.figure import Figure

from heaplab.report import style
from heaplab.report.pictures.canvas import (
    LARGE,
    MARGIN,
    NORMAL,
    SMALL,
    Canvas,
    Look,
    legend_height,
    wide_enough,
    width_of,
)
from heaplab.report.pictures.spaces import (
    FILE,
    ZERO,
    AddressSpaces,
    Area,
    Frame,
    Row,
    Space,
    entry_rights,
    gap,
)
from heaplab.report.pictures.text import bytes_of, pages_of

OWN, SHARED = "own", "shared"
#: frames, and the arrows to them
LOOKS = {
    OWN: Look("#FBE3B5", style.ORANGE, 1.1),
    SHARED: Look("#BFDDF0", style.BLUE, 2.0),
    FILE: Look("#C5E8DC", style.GREEN, 1.3, "--"),
    ZERO: Look("white", "#777777", 1.1, ":"),
}
MEANINGS = {
    OWN: "data, mapped once",
    SHARED: "data, mapped several times: shared",
    FILE: "a page of a file, or of shared memory",
    ZERO: "the zero frame: memory not written yet",
}
_AREA, _ROW = Look("#F7F7F7", "#333333", 0.9), Look("white", "#AAAAAA", 0.6)
_HEAD, _LINE, _GAP, _TITLE, _BETWEEN = 27.0, 14.0, 20.0, 20.0, 16.0
_REACH = 58.0  # points between a space and the frames, for the arrows
_APART = 8.0  # points between two frames


@dataclass
class _Side:
    """The spaces of one side: how wide, how high, and where each page's line was drawn."""

    left: bool
    spaces: list[Space] = field(default_factory=list)
    width: float = 0.0
    height: float = 0.0
    #: (frame, height) of every page
    pages: list[tuple[int, float]] = field(default_factory=list)


@dataclass(frozen=True)
class _Column:
    """The column of frames: its edges; boxes and their upper edges by frame; a lane is a box of one side."""

    left: float
    right: float
    lane: float
    boxes: dict[int, tuple[float, float]]
    tops: dict[int, float]

    @staticmethod
    def beside(sides: list[_Side], frames: tuple[Frame, ...]) -> "_Column":
        """Return a column with room for all frames, each near the pages that it holds."""
        boxes = {frame.number: _box_of(frame) for frame in frames}
        both = bool(sides[1].spaces)
        lane = max(76.0 if both else 130.0, *(width for width, _ in boxes.values())) if boxes else 130.0
        left = MARGIN + sides[0].width + _REACH
        return _Column(left, left + (2 * lane + _APART if both else lane), lane, boxes, _place(sides, boxes))

    @property
    def bottom(self) -> float:
        """Where the lowest box ends."""
        return max((top + self.boxes[frame][1] for frame, top in self.tops.items()), default=0.0)


def draw(spaces: AddressSpaces) -> Figure:
    """Return the spaces as a figure: the first left, the second right, further ones below them."""
    sides = [_Side(True, list(spaces.spaces[::2])), _Side(False, list(spaces.spaces[1::2]))]
    for side in sides:
        side.width = max((_space_width(space, spaces.page_size) for space in side.spaces), default=0.0)
        side.height = sum(map(_space_height, side.spaces)) + _BETWEEN * max(0, len(side.spaces) - 1)
    column = _Column.beside(sides, spaces.frames)
    used = {_kind(frame) for frame in spaces.frames}
    entries = [(look, True, MEANINGS[kind]) for kind, look in LOOKS.items() if kind in used]
    notes = [
        f"Pages of {bytes_of(spaces.page_size)}; not to scale. Addresses grow upwards. "
        "Page tables are not drawn.",
        "rw, r: what the page's entry allows.",
    ]
    if _any_faults(spaces):
        notes[-1] += " r*: a store faults first, and the kernel copies the page if it must."
    width = column.right + (_REACH + sides[1].width if sides[1].spaces else 0) + MARGIN
    width = wide_enough(width, notes)
    foot = MARGIN + max(sides[0].height, sides[1].height, column.bottom) + 12
    canvas = Canvas(width, foot + legend_height(entries, width, len(notes)) + MARGIN)
    for side in sides:
        _put_side(canvas, side, MARGIN if side.left else column.right + _REACH, spaces.page_size)
    middle = (column.left + column.right) / 2
    canvas.text(middle, MARGIN + 7, "physical memory", LARGE, side="center", bold=True)
    for frame in spaces.frames:
        _put_frame(canvas, frame, sides, column)
    canvas.legend(foot, entries, notes)
    return canvas.figure


def _put_frame(canvas: Canvas, frame: Frame, sides: list[_Side], column: _Column) -> None:
    """Put a frame, and the arrows that lead to it."""
    look, high = LOOKS[_kind(frame)], column.boxes[frame.number][1]
    heights = [[at for number, at in side.pages if number == frame.number] for side in sides]
    x = column.left if heights[0] else column.right - column.lane
    width = column.right - column.left if all(heights) else column.lane
    y = MARGIN + column.tops[frame.number]
    canvas.box(x, y, width, high, look)
    for number, line in enumerate(frame.lines):
        canvas.text(x + width / 2, y + 9 + 11 * number, line, SMALL, side="center")
    for at in heights[0]:
        canvas.line([(column.left - _REACH, at), (x, y + high / 2)], look, arrow=True)
    for at in heights[1]:
        canvas.line([(column.right + _REACH, at), (x + width, y + high / 2)], look, arrow=True)


def _faults(area: Area, row: Row) -> bool:
    """Whether a store to a page that may be written faults first."""
    return area.writable and entry_rights(area, row) == "r"


def _any_faults(spaces: AddressSpaces) -> bool:
    rows = ((area, row) for space in spaces.spaces for area in space.areas for row in area.rows)
    return any(row.frame is not None and _faults(area, row) for area, row in rows)


def _kind(frame: Frame) -> str:
    if frame.kind in (ZERO, FILE):
        return frame.kind
    return OWN if frame.mapped == 1 else SHARED


def _box_of(frame: Frame) -> tuple[float, float]:
    """The width and the height of a frame's box."""
    return max(width_of(line, SMALL) for line in frame.lines) + 12, 7 + 11.0 * len(frame.lines)


# ---- one side


def _titles(area: Area, page_size: int) -> tuple[str, str, str]:
    pages = pages_of((area.end - area.start) // page_size)
    return area.name or "(no name)", area.rights, f"{area.start:x}-{area.end:x}, {pages}"


def _space_width(space: Space, page_size: int) -> float:
    widths = [width_of(space.name, LARGE, bold=True), 150.0]
    for area in space.areas:
        name, rights, span = _titles(area, page_size)
        widths.append(width_of(name, NORMAL, bold=True) + width_of(rights, SMALL, mono=True) + 26)
        widths.append(width_of(span, SMALL - 0.5, mono=True) + 16)
        widths += [width_of(row.note, SMALL) + 22 for row in area.rows]
    return max(widths)


def _area_height(area: Area) -> float:
    return _HEAD + _LINE * len(area.rows) + 3


def _space_height(space: Space) -> float:
    gaps = sum(bool(gap(below, above)) for below, above in zip(space.areas, space.areas[1:], strict=False))
    return _TITLE + sum(map(_area_height, space.areas)) + _GAP * gaps


def _lines(space: Space, top: float) -> list[tuple[Area | Row | str, float]]:
    """What is drawn of a space, from the highest address down: areas, rows, gaps, each with its height."""
    out: list[tuple[Area | Row | str, float]] = []
    at = top + _TITLE
    for number in reversed(range(len(space.areas))):
        area = space.areas[number]
        out.append((area, at))
        out += [(row, at + _HEAD + _LINE * line) for line, row in enumerate(reversed(area.rows))]
        at += _area_height(area)
        if number and (size := gap(space.areas[number - 1], area)):
            out.append((size, at))
            at += _GAP
    return out


def _put_side(canvas: Canvas, side: _Side, x: float, page_size: int) -> None:
    top = MARGIN
    for space in side.spaces:
        canvas.text(x + side.width / 2, top + 7, space.name, LARGE, side="center", bold=True)
        area = space.areas[0]
        for what, y in _lines(space, top):
            if isinstance(what, Area):
                area = what
                _put_area(canvas, area, x, y, side.width, page_size)
            elif isinstance(what, Row):
                _put_row(canvas, area, what, x, y, side)
            else:
                canvas.text(
                    x + side.width / 2, y + _GAP / 2, f"gap of {what}", SMALL, side="center", colour="#555555"
                )
                for edge in (x, x + side.width):
                    canvas.line([(edge, y), (edge, y + _GAP)], Look(edge="#999999", dash=":"))
        top += _space_height(space) + _BETWEEN


def _put_area(canvas: Canvas, area: Area, x: float, y: float, width: float, page_size: int) -> None:
    name, rights, span = _titles(area, page_size)
    canvas.box(x, y, width, _area_height(area), _AREA)
    canvas.text(x + 6, y + 8, name, NORMAL, bold=bool(area.name))
    canvas.text(x + width - 6, y + 8, rights, SMALL, side="right", mono=True)
    canvas.text(x + 6, y + 19, span, SMALL - 0.5, mono=True, colour="#444444")


def _put_row(canvas: Canvas, area: Area, row: Row, x: float, y: float, side: _Side) -> None:
    width, middle = side.width, y + _LINE / 2
    if row.frame is None:
        canvas.text(x + 12, middle, row.note, SMALL, colour="#555555")
        return
    canvas.box(x + 6 if side.left else x, y + 0.5, width - 6, _LINE - 1, _ROW)  # open towards the frames
    canvas.text(x + 12, middle, f"{row.address:x}", SMALL, mono=True)
    rights, faults = entry_rights(area, row), _faults(area, row)
    canvas.text(
        x + width - 12,
        middle,
        rights + ("*" if faults else ""),
        SMALL,
        side="right",
        mono=True,
        bold=faults,
        colour=style.VERMILION if faults else style.BLACK,
    )


# ---- frames


def _place(sides: list[_Side], boxes: dict[int, tuple[float, float]]) -> dict[int, float]:
    """Where each frame's box begins: as near as there is room to the pages that show it."""
    wished: dict[int, list[float]] = {}
    lanes: dict[int, set[bool]] = {}
    for side in sides:
        top = 0.0
        side.pages.clear()
        for space in side.spaces:
            for what, y in _lines(space, top):
                if isinstance(what, Row) and what.frame is not None:
                    wished.setdefault(what.frame, []).append(y + _LINE / 2)
                    lanes.setdefault(what.frame, set()).add(side.left)
                    side.pages.append((what.frame, MARGIN + y + _LINE / 2))
            top += _space_height(space) + _BETWEEN
    middle = {frame: sum(heights) / len(heights) for frame, heights in wished.items()}
    order = sorted(middle, key=lambda frame: (middle[frame], frame))
    down, lowest = _downwards(order, middle, boxes, lanes)
    # the same from below: the mean of two orders that leave room leaves room
    mirrored = {frame: lowest - at for frame, at in middle.items()}
    up, _ = _downwards(order[::-1], mirrored, boxes, lanes, first=-lowest)
    mean = {frame: (down[frame] + lowest - up[frame] - boxes[frame][1]) / 2 for frame in order}
    return _downwards(order, {frame: mean[frame] + boxes[frame][1] / 2 for frame in order}, boxes, lanes)[0]


def _downwards(
    order: list[int],
    middle: dict[int, float],
    boxes: dict[int, tuple[float, float]],
    lanes: dict[int, set[bool]],
    first: float = _TITLE,
) -> tuple[dict[int, float], float]:
    """Put each box at its middle, or below what is there; return where each begins, and the end of all."""
    free, places = {True: first, False: first}, {}
    for frame in order:
        high = boxes[frame][1]
        places[frame] = max(middle[frame] - high / 2, *(free[lane] for lane in lanes[frame]))
        for lane in lanes[frame]:
            free[lane] = places[frame] + high + _APART
    return places, max(free.values())
