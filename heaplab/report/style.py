"""How figures look: one palette that colour-blind readers can tell apart, axes in units, no clutter.

Colours: Okabe and Ito, Color Universal Design (2008).
"""

import re
import textwrap
from collections.abc import Iterable, Sequence
from math import log10
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

from heaplab.lab.columns import short
from heaplab.units import format_size

BLACK, ORANGE, SKY, GREEN, YELLOW, BLUE, VERMILION, PURPLE = (
    "#000000",
    "#E69F00",
    "#56B4E9",
    "#009E73",
    "#F0E442",
    "#0072B2",
    "#D55E00",
    "#CC79A7",
)
GREY = "#999999"
LIGHT = "#E8E8E8"

#: what a quantity looks like wherever it is drawn
LIVE, RESIDENT, HEAP = BLUE, ORANGE, BLACK
INTERNAL, EXTERNAL = YELLOW, "#D0D0D0"

#: allocators, in the order they are given
SERIES: Sequence[tuple[str, str]] = (
    (BLUE, "o"),
    (ORANGE, "s"),
    (GREEN, "^"),
    (VERMILION, "D"),
    (PURPLE, "v"),
    (SKY, "P"),
    (BLACK, "X"),
    (YELLOW, "*"),
)

DPI = 130


def rgb(colour: str) -> tuple[float, float, float]:
    """Return red, green and blue of a colour as "#RRGGBB", from 0 to 1.

    >>> rgb("#FF0033")
    (1.0, 0.0, 0.2)
    """
    red, green, blue = (value / 255 for value in bytes.fromhex(colour[1:]))
    return red, green, blue


def figure(width: float, height: float) -> Figure:
    """Return an empty figure, in inches, whose parts make room for each other."""
    return Figure(figsize=(width, height), dpi=DPI, layout=ConstrainedLayoutEngine(h_pad=0.06, w_pad=0.05))


def plain(axes: Axes) -> None:
    """Take away what carries no information."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=8)
    axes.set_axisbelow(True)


def counts(axis: Any) -> None:
    """Label an axis of counts: 0, 500k, 1M."""
    axis.set_major_locator(MaxNLocator(4, integer=True))
    axis.set_major_formatter(FuncFormatter(_tick))


def log_counts(axis: Any) -> None:
    """Label a logarithmic axis of counts: the fewer decades it shows, the more marks in each."""
    low, high = axis.get_view_interval()
    decades = log10(high / low) if 0 < low < high else 1.0
    marks = (1.0, 1.5, 2.0, 3.0, 5.0, 7.0) if decades < 1 else (1.0, 2.0, 5.0) if decades < 2.5 else (1.0,)
    axis.set_major_locator(LogLocator(subs=marks, numticks=12))
    axis.set_major_formatter(FuncFormatter(_tick))
    axis.set_minor_formatter(NullFormatter())


def _tick(value: float, _position: int) -> str:
    return re.sub(r"\.0+(?=\D)", "", short(value)) if value >= 1 else f"{value:g}"


def unit_of(sizes: Iterable[int]) -> tuple[float, str]:
    """Return the binary unit in which the largest of the sizes is read best: (bytes, name).

    >>> unit_of([100, 5 << 20])
    (1048576.0, 'MiB')
    """
    name = format_size(max(sizes, default=0)).split()[1]
    return {"B": 1.0, "KiB": 2.0**10, "MiB": 2.0**20, "GiB": 2.0**30}[name], name


def name_lines(allocator: str) -> str:
    """Break a spec into lines that fit beside an axis.

    >>> name_lines("freelist:fit=first:order=address")
    'freelist\\nfit=first order=address'
    """
    name, *options = allocator.split(":")
    return "\n".join([name, *textwrap.wrap(" ".join(options), 34)])
