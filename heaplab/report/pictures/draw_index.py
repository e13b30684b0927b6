"""Draws a free structure that is a tree: a node for each free block."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from heaplab.allocators import Entry
from heaplab.report.pictures.canvas import SMALL, Canvas, Look, width_of

#: points: a level of the tree, a node's height
_LEVEL, _HIGH = 34.0, 16.0
_NODE = Look(line=0.9)
_RED = Look(fill="#F6CDBD", line=1.8, edge="#A33A00")
_EDGE = Look(line=0.8, edge="#555555")


@dataclass(frozen=True)
class Node:
    """A free block in a tree: its rank in the structure's order, its level and its column."""

    entry: Entry
    rank: int
    level: int
    column: int
    parent: int | None


def tree(entries: Sequence[Entry]) -> list[Node]:
    """Return the nodes when the entries are one binary tree that branches, and nothing otherwise.

    The column of a node is its place from left to right: a child that the structure's order has before its
    parent stands left of it.

    >>> small, middle, large = (Entry(at, at, "", under) for at, under in ((1, 2), (2, 0), (3, 2)))
    >>> [(node.entry.start, node.level, node.column) for node in tree([small, middle, large])]
    [(2, 0, 1), (1, 1, 0), (3, 1, 2)]
    """
    ranks = {entry.start: rank for rank, entry in enumerate(entries, 1)}
    below: dict[int, list[Entry]] = {}
    for entry in entries:
        below.setdefault(entry.under, []).append(entry)
    branches = any(len(children) == 2 for parent, children in below.items() if parent)
    if not branches or len(below.get(0, ())) != 1 or max(map(len, below.values())) > 2:
        return []

    def ordered(entry: Entry, level: int) -> Iterator[tuple[Entry, int]]:
        left, right = _sides(below.get(entry.start, []), ranks[entry.start], ranks)
        for child in left:
            yield from ordered(child, level + 1)
        yield entry, level
        for child in right:
            yield from ordered(child, level + 1)

    columns = list(ordered(below[0][0], 0))
    nodes = [
        Node(entry, ranks[entry.start], level, column, entry.under or None)
        for column, (entry, level) in enumerate(columns)
    ]
    return sorted(nodes, key=lambda node: (node.level, node.column))


def _sides(children: list[Entry], rank: int, ranks: dict[int, int]) -> tuple[list[Entry], list[Entry]]:
    """Which children stand left and which right: by the order; of two later ones the first is left."""
    left = [child for child in children if ranks[child.start] < rank]
    right = [child for child in children if ranks[child.start] > rank]
    if len(right) == 2 or (right and right[0].place.startswith("slot") and not left):
        left, right = right[:1], right[1:]
    return left, right


def tree_height(nodes: Sequence[Node]) -> float:
    """Return the points that the drawing of these nodes takes, 0 for none."""
    return _LEVEL * (max(node.level for node in nodes) + 1) + 8 if nodes else 0.0


def draw_tree(canvas: Canvas, nodes: Sequence[Node], x: float, y: float, width: float) -> None:
    """Draw the nodes into a part of the sheet `width` points wide."""
    step = width / max(len(nodes), 1)
    middles = {
        node.entry.start: (x + (node.column + 0.5) * step, y + node.level * _LEVEL + _HIGH / 2)
        for node in nodes
    }
    for node in nodes:
        middle, height = middles[node.entry.start]
        if node.parent in middles:
            above, top = middles[node.parent]
            canvas.line([(above, top + _HIGH / 2), (middle, height - _HIGH / 2)], _EDGE, over=1)
        long = f"{node.rank}: {node.entry.size:,}"
        text = long if width_of(long, SMALL) + 6 < 2 * step else str(node.rank)
        half = width_of(text, SMALL) / 2 + 4
        look = _RED if "red" in node.entry.place.split() else _NODE
        canvas.box(middle - half, height - _HIGH / 2, 2 * half, _HIGH, look, over=3)
        canvas.text(middle, height, text, SMALL, side="center")
