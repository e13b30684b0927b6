"""Pieces of a page that its parts share: a note, a table that sorts."""

from collections.abc import Iterable, Sequence
from html import escape

#: what a cell shows, and the number that it is sorted by
Cell = tuple[str, float | None]


def table(titles: Sequence[str], rows: Iterable[Sequence[Cell]], best: Iterable[Sequence[bool]] = ()) -> str:
    """A table that page.js makes sortable.  best: which cells are the best of their columns."""
    head = "".join(f"<th scope=col>{escape(title)}</th>" for title in titles)
    lines = []
    for row, strong in zip(rows, best or _nothing(), strict=False):
        cells = [f"<th scope=row>{escape(row[0][0])}</th>"]
        for (text, value), is_best in zip(row[1:], strong, strict=False):
            number = "" if value is None else f' data-v="{value!r}"'
            shown = f"<b>{escape(text)}</b>" if is_best else escape(text)
            cells.append(f"<td{number}>{shown}</td>")
        lines.append(f"<tr>{''.join(cells)}</tr>")
    body = "\n".join(lines)
    return (
        "<div class=wide tabindex=0 role=group aria-label=table>"
        f"<table class=sortable>\n<thead><tr>{head}</tr></thead>\n"
        f"<tbody>\n{body}\n</tbody></table></div>\n"
    )


def _nothing() -> Iterable[Sequence[bool]]:
    while True:
        yield [False] * 64


def note(text: str) -> str:
    return f"<p class=note>{escape(text)}</p>"
