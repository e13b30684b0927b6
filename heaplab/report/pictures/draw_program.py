"""A program, drawn: its file on the left, the memory that exec makes of it on the right."""

from matplotlib.figure import Figure

from heaplab.report import style
from heaplab.report.pictures.canvas import LARGE, MARGIN, SMALL, Canvas, Look, wide_enough, width_of
from heaplab.report.pictures.program import Part, ProgramFile

_STORED, _ZEROS = Look("#BFDDF0", style.BLUE, 1.3), Look("white", "#777777", 1.1, ":")
_LOADS = "#E3F0F8"
_HIGH, _GAP, _REACH = 46.0, 16.0, 90.0


def draw(program: ProgramFile) -> Figure:
    """Return the program as a figure; low offsets and low addresses are at the foot."""
    title = f"{program.path}, the file"
    lines = [line for part in program.parts for line in (*_stored(part), *_zeros(part))]
    wide = max(200.0, width_of(title, LARGE, bold=True), *(width_of(line, SMALL) + 24 for line in lines))
    base = "counted from where exec puts it" if program.relocatable else "as the file asks for"
    notes = (
        f"Not to scale. Offsets and addresses grow upwards; addresses {base}. "
        f"It starts at {program.entry:#x}.",
        "Of .bss the file has only the number of its bytes: memory for it is made of zeros, page by page.",
    )
    heights = [_HIGH * (2 if part.zeros and part.stored else 1) for part in program.parts]
    inner = sum(heights) + _GAP * (len(heights) - 1)
    top = MARGIN + 44
    width = wide_enough(2 * MARGIN + 2 * wide + _REACH, notes)
    canvas = Canvas(width, top + inner + 38 + MARGIN)
    left, right = MARGIN, MARGIN + wide + _REACH
    canvas.text(left + wide / 2, MARGIN + 8, title, LARGE, bold=True, side="center")
    canvas.text(left + wide / 2, MARGIN + 24, f"{program.size:,} bytes", side="center")
    canvas.text(right + wide / 2, MARGIN + 8, "memory after exec", LARGE, bold=True, side="center")
    size = sum(part.size for part in program.parts)
    canvas.text(right + wide / 2, MARGIN + 24, f"{size:,} bytes, without heap and stack", side="center")
    y = top
    for part, high in zip(reversed(program.parts), reversed(heights), strict=True):
        low = y + high  # the foot of the part
        if part.zeros:
            _labelled(canvas, right, y, wide, _zeros(part), _ZEROS)
        if part.stored:
            at = low - _HIGH
            canvas.area([(left + wide, at), (right, at), (right, low), (left + wide, low)], _LOADS)
            _labelled(canvas, left, at, wide, _in_file(part), _STORED)
            _labelled(canvas, right, at, wide, _stored(part), _STORED)
            canvas.text(
                (left + wide + right) / 2, at + _HIGH / 2, "mapped", SMALL, side="center", colour="#444444"
            )
        y = low + _GAP
    for number, note in enumerate(notes):
        canvas.text(MARGIN, top + inner + 20 + 12 * number, note, SMALL, colour="#333333")
    return canvas.figure


def _labelled(canvas: Canvas, x: float, y: float, width: float, lines: list[str], look: Look) -> None:
    canvas.box(x, y, width, _HIGH, look)
    for number, line in enumerate(lines):
        height = y + _HIGH / 2 + 12 * (number - (len(lines) - 1) / 2)
        canvas.text(x + width / 2, height, line, SMALL, side="center", bold=number == 0)


def _in_file(part: Part) -> list[str]:
    headers = ["with the file's headers"] if part.offset == 0 else []
    return [part.name, f"{part.stored:,} bytes at offset {part.offset:#x}", *headers]


def _stored(part: Part) -> list[str]:
    return [f"{part.name}, {part.rights}", f"{part.stored:,} bytes at {part.address:#x}"]


def _zeros(part: Part) -> list[str]:
    return [
        f"variables that begin as zero: .bss, {part.rights}",
        f"{part.zeros:,} bytes at {part.address + part.stored:#x}",
        "not in the file",
    ]
