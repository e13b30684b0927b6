"""Tables before they are folded: rows of figures, as wide as whoever reads them allows."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from rich.console import Console
from rich.table import Table
from rich.text import Text

from heaplab.lab.columns import COST, SPACE

#: the width of what is not shown on a terminal: nothing is folded
WIDE = 10_000


def make_console() -> Console:
    """Return a console on standard output that is as wide as its reader allows."""
    console = Console(highlight=False)
    return console if console.is_terminal else Console(highlight=False, width=WIDE)


@dataclass(frozen=True)
class Figures:
    """One column of a sheet.  cells: one a row; group: columns that stand together where all cannot."""

    title: str
    cells: Sequence[Text]
    group: str

    @property
    def width(self) -> int:
        return max(map(len, [*self.title.splitlines(), *map(str, self.cells)]))


@dataclass(frozen=True)
class Sheet:
    """Rows with a name and a mark, and columns of figures.  title: above the names."""

    names: Sequence[str]
    marks: Sequence[str]
    columns: Sequence[Figures]
    title: str = "allocator"

    def folded(self, width: int) -> list[Table]:
        """Return tables that have all columns between them, none wider than `width` if one column fits."""
        names = [fold_name(name, max(width // 2 - 3, 10)) for name in self.names]
        first = max(len(line) for name in [self.title, *names] for line in name.splitlines())
        room = width - first - 1 - max(map(len, self.marks), default=0)
        blocks = [list(self.columns)]
        if _width(blocks[0]) > room:
            groups = (SPACE, COST)
            blocks = [[column for column in self.columns if column.group == group] for group in groups]
        if not all(0 < _width(block) <= room for block in blocks):
            blocks = _filled(self.columns, room)
        return [self._table(names, block) for block in blocks]

    def _table(self, names: Sequence[str], columns: Sequence[Figures]) -> Table:
        table = Table(box=None, padding=(0, 0, 0, 1), pad_edge=False, header_style="dim")
        table.add_column(self.title, no_wrap=True)
        table.add_column("", no_wrap=True)
        for column in columns:
            table.add_column(column.title, justify="right", no_wrap=True)
        cells = (column.cells for column in columns)
        for name, mark, *row in zip(names, self.marks, *cells, strict=True):
            table.add_row(Text(name), Text(mark), *row)
        return table


def _width(columns: Sequence[Figures]) -> int:
    return sum(column.width + 1 for column in columns)


def _filled(columns: Sequence[Figures], room: int) -> list[list[Figures]]:
    """Return the columns in their order, as many together as there is room for."""
    blocks: list[list[Figures]] = [[]]
    for column in columns:
        if blocks[-1] and _width([*blocks[-1], column]) > room:
            blocks.append([])
        blocks[-1].append(column)
    return blocks


def fold_name(name: str, width: int) -> str:
    """Return a spec or a path in lines of at most `width` characters, none of them lost.

    >>> fold_name("freelist:fit=first:order=address", 20)
    'freelist:fit=first:\\norder=address'
    """
    lines = [""]
    for piece in re.findall(rf"[^:/]{{1,{width - 1}}}[:/]?|[:/]", name):
        if len(lines[-1]) + len(piece) > width:
            lines.append("")
        lines[-1] += piece
    return "\n".join(lines)


def print_sheet(console: Console, sheet: Sheet, remarks: Iterable[str]) -> None:
    """Print a sheet, folded where the console is narrow, and the remarks on it."""
    for number, table in enumerate(sheet.folded(console.width)):
        if number:
            console.print()
        console.print(table)
    for remark in remarks:
        console.print(Text(remark))
    console.print()


def folded_legend(text: str, width: int) -> str | Table:
    """Return a legend, its sentences folded beside their words where the terminal is narrow."""
    if width >= max(map(len, text.splitlines())):
        return text
    table = Table.grid(padding=(0, 1, 0, 0))
    for word, said in legend_rows(text):
        table.add_row(word, said)
    return table


def legend_rows(text: str) -> list[tuple[str, str]]:
    """Return a legend's words, and what is said of each in one line.

    >>> legend_rows("-            there is no\\n             such figure")
    [('-', 'there is no such figure')]
    """
    found = re.findall(r"(.{13})(.*)((?:\n {13}.*)*)", text)
    return [(word.strip(), " ".join([first, *"".join(more).split()])) for word, first, *more in found]
