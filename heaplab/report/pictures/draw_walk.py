"""A walk through the page tables, drawn: the address in its parts, below each part what it chooses.

index 3     index 2     index 1     index 0     offset
  |           |           |           |           |
  v           v           v           v           v
table  -->  table  -->  table  -->  table  -->  page
"""

from matplotlib.figure import Figure

from heaplab.report import style
from heaplab.report.pictures.canvas import (
    LARGE,
    MARGIN,
    NORMAL,
    SMALL,
    Canvas,
    Look,
)
from heaplab.report.pictures.text import bytes_of
from heaplab.report.pictures.walk import BITS, LEVELS, PageWalk, Step

_PART, _PLAIN = Look("#FBE3B5", style.ORANGE, 1.0), Look("white", "#777777", 0.7)
_CHOSEN, _PAGE = Look("#BFDDF0", style.BLUE, 1.3), Look("#C5E8DC", style.GREEN, 1.0)
_FAULT = Look("#F6D3BF", style.VERMILION, 1.3, "--")
_CHOOSES, _LEADS = Look(edge=style.ORANGE, line=1.3), Look(edge=style.BLUE, line=1.8)
_WIDTH, _GUTTER, _SLOT, _HIGH = 100.0, 28.0, 15.0, 42.0
_TOP, _BITS = 34.0, 46.0  # points: where the parts of the address begin, and how high they are
_ROW = _TOP + _BITS + 50.0  # where the chosen entries begin


def draw(walk: PageWalk) -> Figure:
    """Return the walk as a figure."""
    width = 2 * MARGIN + _GUTTER + LEVELS * (_WIDTH + _GUTTER) + _WIDTH
    notes = _notes(walk)
    below = _ROW + _HIGH + 2 * _SLOT + 46
    canvas = Canvas(width, below + 13 * (len(notes) - 1) + 6 + MARGIN)
    canvas.text(MARGIN, MARGIN + 6, walk.title, LARGE, bold=True)
    for column in range(LEVELS + 1):
        _put_part(canvas, walk, column)
    for column, step in enumerate(walk.steps):
        _put_table(canvas, walk, column, step)
    for column in range(len(walk.steps), LEVELS):
        canvas.text(_x(column) + _WIDTH / 2, _ROW + _HIGH / 2, "no table", side="center", colour="#777777")
    if walk.frame is not None:
        _put_page(canvas, walk, walk.frame)
    else:
        canvas.text(_x(LEVELS) + _WIDTH / 2, _ROW + _HIGH / 2, "no page", side="center", colour="#777777")
    for number, note in enumerate(notes):
        canvas.text(MARGIN, below + 13 * number, note, SMALL, colour="#333333")
    return canvas.figure


def _notes(walk: PageWalk) -> list[str]:
    meanings = [f"{letter} {meaning}" for _, letter, meaning in BITS]
    return [
        f"Pages of {bytes_of(walk.page_size)}, tables of {walk.entries} entries of 8 bytes: a table fills "
        "one frame. Not to scale; entry 0 is at the foot. CR3: the register that names the root.",
        f"Letters are bits that are set in the entry: {', '.join(meanings[:4])},",
        f"{', '.join(meanings[4:])}. (X is a note of the kernel's; the processor does not look at it.)",
    ]


def _x(column: int) -> float:
    return MARGIN + _GUTTER + column * (_WIDTH + _GUTTER)


def _put_part(canvas: Canvas, walk: PageWalk, column: int) -> None:
    """Put the part of the address that chooses in a column: its bits, and what they say."""
    level = LEVELS - 1 - column
    if level >= 0:
        low, count, value, name = walk.lowest_bit(level), walk.index_bits, walk.index(level), f"index {level}"
    else:
        low, count, value, name = 0, walk.page_shift, walk.offset, "offset"
    x = _x(column)
    canvas.box(x, _TOP, _WIDTH, _BITS, _PART)
    canvas.text(x + 6, _TOP + 9, name, bold=True)
    canvas.text(x + _WIDTH - 6, _TOP + 9, f"bits {low + count - 1}-{low}", SMALL, side="right")
    canvas.text(x + _WIDTH / 2, _TOP + 23, f"{value:0{count}b}", side="center", mono=True)
    canvas.text(x + _WIDTH / 2, _TOP + 37, f"= {value}", NORMAL, side="center")


def _choose(canvas: Canvas, column: int) -> None:
    """Lead from a part of the address to the entry, or the byte, that it chooses."""
    x, y = _x(column), _ROW + _HIGH / 2
    gutter = x - 8
    canvas.line(
        [(x + 8, _TOP + _BITS), (x + 8, _TOP + _BITS + 9), (gutter, _TOP + _BITS + 9), (gutter, y), (x, y)],
        _CHOOSES,
        arrow=True,
    )


def _lead(canvas: Canvas, column: int, foot: float) -> None:
    """Lead from the chosen entry of a column to the foot of what stands in the next."""
    x, y = _x(column) + _WIDTH, _ROW + _HIGH / 2 + 6
    canvas.line([(x, y), (x + 9, y), (x + 9, foot), (x + _GUTTER, foot)], _LEADS, arrow=True)


def _slots(canvas: Canvas, x: float, chosen: int, last: int) -> float:
    """Put the entries above and below the chosen one; return where the lowest ends."""
    above = [f"{last}", "⋮"] if chosen < last - 1 else [f"{last}"] if chosen == last - 1 else []
    below = ["⋮", "0"] if chosen > 1 else ["0"] if chosen == 1 else []
    for number, label in enumerate(reversed(above)):
        _slot(canvas, x, _ROW - _SLOT * (number + 1), label)
    for number, label in enumerate(below):
        _slot(canvas, x, _ROW + _HIGH + _SLOT * number, label)
    return _ROW + _HIGH + _SLOT * len(below)


def _slot(canvas: Canvas, x: float, y: float, label: str) -> None:
    canvas.box(x, y, _WIDTH, _SLOT, _PLAIN)
    canvas.text(x + 5, y + _SLOT / 2, label, SMALL, colour="#555555")


def _put_table(canvas: Canvas, walk: PageWalk, column: int, step: Step) -> None:
    x = _x(column)
    foot = _slots(canvas, x, step.index, walk.entries - 1)
    if column == 0:
        canvas.text(MARGIN - 2, foot + 12, "CR3", bold=True)
        canvas.line([(MARGIN + 8, foot + 5), (MARGIN + 8, foot - 5), (x, foot - 5)], _LEADS, arrow=True)
    canvas.text(x + _WIDTH / 2, foot + 11, f"table in frame {step.table}", bold=True, side="center")
    canvas.text(
        x + _WIDTH / 2, foot + 22, f"{step.used} of {walk.entries} entries in use", SMALL, side="center"
    )
    look = _CHOSEN if step.frame is not None else _FAULT
    canvas.box(x, _ROW, _WIDTH, _HIGH, look)
    _choose(canvas, column)
    canvas.text(x + 5, _ROW + 9, f"{step.index}", NORMAL, bold=True)
    if step.frame is None:
        canvas.text(x + _WIDTH - 5, _ROW + 9, "nothing", side="right")
        canvas.text(x + _WIDTH / 2, _ROW + 27, "page fault", side="center", bold=True)
        return
    canvas.text(x + _WIDTH - 5, _ROW + 9, f"frame {step.frame}", side="right")
    canvas.text(x + _WIDTH / 2, _ROW + 21, f"{step.entry:#x}", SMALL, side="center", mono=True)
    for number, (bit, letter, _) in enumerate(BITS):
        set_ = bool(step.entry & bit)
        place = x + (_WIDTH / len(BITS)) * (number + 0.5)
        canvas.text(
            place,
            _ROW + 33,
            letter if set_ else "-",
            NORMAL,
            side="center",
            mono=True,
            bold=set_,
            colour=style.BLACK if set_ else "#888888",
        )
    next_step = walk.steps[column + 1] if column + 1 < len(walk.steps) else None
    chosen = next_step.index if next_step is not None else walk.offset
    _lead(canvas, column, _ROW + _HIGH + _SLOT * min(chosen, 2) - 5)


def _put_page(canvas: Canvas, walk: PageWalk, frame: int) -> None:
    x = _x(LEVELS)
    foot = _slots(canvas, x, walk.offset, walk.page_size - 1)
    canvas.box(x, _ROW, _WIDTH, _HIGH, _PAGE)
    _choose(canvas, LEVELS)
    canvas.text(x + _WIDTH / 2, _ROW + 13, f"byte {walk.offset}", side="center", bold=True)
    canvas.text(x + _WIDTH / 2, _ROW + 28, f"holds {walk.content}", side="center")
    canvas.text(x + _WIDTH / 2, foot + 11, f"page in frame {frame}", bold=True, side="center")
    canvas.text(
        x + _WIDTH / 2, foot + 22, f"{frame} * {walk.page_size} + {walk.offset} =", SMALL, side="center"
    )
    canvas.text(x + _WIDTH / 2, foot + 34, f"{walk.physical:#x} in RAM", bold=True, side="center")
