"""A sheet for boxes, arrows and text, measured in points (1/72 inch), y downwards from the upper edge."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal

from matplotlib.collections import PolyCollection
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.patches import FancyArrowPatch, Polygon, Rectangle
from matplotlib.path import Path
from matplotlib.textpath import text_to_path

from heaplab.report import style

#: points
SMALL, NORMAL, LARGE = 7.5, 8.5, 11.0
MARGIN = 10.0
_SANS, _MONO = "DejaVu Sans", "DejaVu Sans Mono"

Side = Literal["left", "center", "right"]


@dataclass(frozen=True)
class Look:
    """How a box or a line looks.  Nothing is told by colour alone: words or dashes say it too."""

    fill: str = "white"
    edge: str = style.BLACK
    line: float = 0.8
    dash: str = "-"


@cache
def width_of(text: str, size: float = NORMAL, *, mono: bool = False, bold: bool = False) -> float:
    """Return how wide a text is at most, in points: renderers differ a little.

    >>> width_of("mmmm") > width_of("iiii"), width_of("mmmm", mono=True) == width_of("iiii", mono=True)
    (True, True)
    """
    width, _, _ = text_to_path.get_text_width_height_descent(text, _font(size, mono, bold), False)
    return float(width) * 1.06


def _font(size: float, mono: bool, bold: bool) -> FontProperties:
    return FontProperties(family=_MONO if mono else _SANS, size=size, weight="bold" if bold else "normal")


class Canvas:
    """A sheet of a size in points.  What is put on it later covers what was there; `over` lifts it."""

    def __init__(self, width: float, height: float) -> None:
        self.width, self.height = width, height
        self.figure = Figure(figsize=(width / 72, height / 72), dpi=style.DPI)
        self._axes = self.figure.add_axes((0, 0, 1, 1))
        self._axes.set_xlim(0, width)
        self._axes.set_ylim(height, 0)
        self._axes.axis("off")

    def box(self, x: float, y: float, width: float, height: float, look: Look, *, over: int = 2) -> None:
        """Put a box; (x, y) is its upper left corner."""
        self._axes.add_artist(
            Rectangle(
                (x, y),
                width,
                height,
                facecolor=look.fill,
                edgecolor=look.edge,
                linewidth=look.line,
                linestyle=look.dash,
                zorder=over,
                clip_on=False,
            )
        )

    def boxes(self, sides: Sequence[tuple[float, float]], y: float, height: float, look: Look) -> None:
        """Put many boxes side by side, each from a left to a right side; quicker than one by one."""
        corners = [[(left, y), (right, y), (right, y + height), (left, y + height)] for left, right in sides]
        self._axes.add_collection(
            PolyCollection(
                corners,
                facecolors=look.fill,
                edgecolors=look.edge,
                linewidths=look.line,
                linestyles=look.dash,
                zorder=2,
                clip_on=False,
            ),
            autolim=False,
        )

    def area(
        self, corners: Sequence[tuple[float, float]], colour: str, *, edge: float = 0, over: int = 1
    ) -> None:
        """Put an area of one colour, with a black edge of so many points if asked."""
        line = style.BLACK if edge else "none"
        self._axes.add_artist(
            Polygon(corners, facecolor=colour, edgecolor=line, linewidth=edge, zorder=over, clip_on=False)
        )

    def text(
        self,
        x: float,
        y: float,
        text: str,
        size: float = NORMAL,
        *,
        side: Side = "left",
        mono: bool = False,
        bold: bool = False,
        colour: str = style.BLACK,
        over: int = 5,
    ) -> None:
        """Put one line of text, its middle at height y; x is its left end, its middle or its right end."""
        self._axes.text(
            x,
            y,
            text,
            fontproperties=_font(size, mono, bold),
            color=colour,
            ha=side,
            va="center",
            parse_math=False,
            zorder=over,
        )

    def line(
        self, points: Sequence[tuple[float, float]], look: Look, *, arrow: bool = False, over: int = 3
    ) -> None:
        """Put a line through points, with an arrow's head at the last if asked."""
        style_of: Any = {"color": look.edge, "linewidth": look.line, "linestyle": look.dash, "zorder": over}
        self._axes.add_artist(
            FancyArrowPatch(
                path=Path(list(points)),
                arrowstyle="-|>,head_length=0.35,head_width=0.16" if arrow else "-",
                mutation_scale=14,
                shrinkA=0,
                shrinkB=0,
                capstyle="butt",
                joinstyle="miter",
                fill=arrow,
                clip_on=False,
                **style_of,
            )
        )

    def legend(self, y: float, entries: Sequence[tuple[Look, bool, str]], notes: Sequence[str] = ()) -> None:
        """Explain looks in rows from y on: (look, whether it is a line, meaning); then notes, a line each."""
        for rows, row in enumerate(legend_rows(entries, self.width)):
            x, middle = MARGIN, y + rows * 15 + 7
            for look, is_line, meaning in row:
                if is_line:
                    self.line([(x, middle), (x + 22, middle)], look, arrow=True)
                else:
                    self.box(x + 2, middle - 5, 18, 10, look)
                self.text(x + 27, middle, meaning, SMALL)
                x += 27 + width_of(meaning, SMALL) + 16
        below = y + 15 * len(legend_rows(entries, self.width))
        for number, note in enumerate(notes):
            self.text(MARGIN, below + 7 + 12 * number, note, SMALL, colour="#444444")


def legend_rows(
    entries: Sequence[tuple[Look, bool, str]], width: float
) -> list[list[tuple[Look, bool, str]]]:
    """Break a legend's entries into rows that fit a sheet."""
    rows: list[list[tuple[Look, bool, str]]] = []
    left = 0.0
    for entry in entries:
        need = 27 + width_of(entry[2], SMALL) + 16
        if not rows or need > left + 16:
            rows.append([])
            left = width - 2 * MARGIN
        rows[-1].append(entry)
        left -= need
    return rows


def legend_height(entries: Sequence[tuple[Look, bool, str]], width: float, notes: int = 0) -> float:
    """Return how high `Canvas.legend` is."""
    return 15 * len(legend_rows(entries, width)) + 12 * notes + 2


def wide_enough(width: float, notes: Sequence[str]) -> float:
    """Return a width in which notes have room too.

    >>> wide_enough(600, ["short"]), wide_enough(10, ["short"]) > 30
    (600, True)
    """
    return max(width, *(2 * MARGIN + width_of(note, SMALL) for note in notes)) if notes else width
