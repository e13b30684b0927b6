"""The tree of processes, drawn: parents left, children right, each state with a look and in words."""

from collections.abc import Iterator

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
from heaplab.report.pictures.tree import Node, ProcessTree

#: what a process in a state looks like
STATES = {
    "R": Look("#CDE9F9", style.BLUE, 1.0),
    "S": Look("white", style.BLUE, 1.0),
    "D": Look("#FBEBC4", style.ORANGE, 1.4),
    "T": Look("#F6D3BF", style.VERMILION, 1.4, ":"),
    "Z": Look("#DDDDDD", "#555555", 1.2, "--"),
    "X": Look("white", "#999999", 0.8, ":"),
}
MEANINGS = {
    "R": "running, or ready to run",
    "S": "asleep in a call, such as wait",
    "D": "asleep in vfork: a child uses its memory",
    "T": "stopped by a signal",
    "Z": "zombie: dead, nobody has waited for it",
    "X": "collected: its pid is free",
}
_EDGE = Look(edge="#444444", line=1.0)
_ADOPTED = Look(edge=style.VERMILION, line=1.4, dash="--")
_LINE, _TASK, _PAD, _GAP = 12.0, 17.0, 7.0, 9.0
_BETWEEN = 44.0  # points between a column and the next, for the lines


def draw(tree: ProcessTree) -> Figure:
    """Return the tree as a figure: a box for each process, its tasks in it if it has more than one."""
    nodes = list(tree.root.walk())
    columns = _columns(tree.root)
    states = {node.state for node in nodes} | {state for node in nodes for _, state in node.threads}
    entries = [(STATES[state], False, MEANINGS[state]) for state in STATES if state in states]
    entries.append((_EDGE, True, "from a parent to its child"))
    if any(node.orphan_of is not None for node in nodes):
        entries.append((_ADOPTED, True, "taken in by pid 1, or a subreaper"))
    notes = []
    if any(node.threads for node in nodes):
        notes.append("Tasks in one box are the threads of one process: they share its memory.")
    if tree.gone:
        notes.append(f"No process has these pids any more: {', '.join(map(str, tree.gone))}.")
    width = wide_enough(max(2 * MARGIN + sum(columns) + _BETWEEN * (len(columns) - 1), 460.0), notes)
    height = _height(tree.root) + 2 * MARGIN
    canvas = Canvas(width, height + legend_height(entries, width, len(notes)) + MARGIN)
    _put(canvas, tree.root, columns, 0, MARGIN, MARGIN)
    canvas.legend(height + 2, entries, notes)
    return canvas.figure


def _columns(root: Node) -> list[float]:
    """The width of the boxes at each depth."""
    widths: list[float] = []

    def see(node: Node, depth: int) -> None:
        if depth == len(widths):
            widths.append(0.0)
        widths[depth] = max(widths[depth], _width(node))
        for child in node.children:
            see(child, depth + 1)

    see(root, 0)
    return widths


def _tasks(node: Node) -> Iterator[tuple[str, str]]:
    """The label and the state of each task of a process that has several."""
    return ((f"task {tid}", state) for tid, state in node.threads)


def _width(node: Node) -> float:
    head = width_of(node.name, LARGE, bold=True) + 10 + width_of(f"pid {node.pid}", NORMAL)
    return 2 * _PAD + max(head, 92.0, *(width_of(line, SMALL) for line in node.lines))


def _own_height(node: Node) -> float:
    return _PAD + 15 + _LINE * len(node.lines) + _TASK * len(node.threads) + _PAD - 2


def _height(node: Node) -> float:
    below = sum(map(_height, node.children)) + _GAP * max(0, len(node.children) - 1)
    return max(_own_height(node), below)


def _put(canvas: Canvas, node: Node, columns: list[float], depth: int, x: float, y: float) -> float:
    """Draw a process and all below it from (x, y) on; return the height of the line that leads to it."""
    width, own, whole = columns[depth], _own_height(node), _height(node)
    top = y + (whole - own) / 2
    canvas.box(x, top, width, own, STATES[node.state])
    canvas.text(x + _PAD, top + _PAD + 6, node.name, LARGE, bold=True)
    canvas.text(x + width - _PAD, top + _PAD + 6, f"pid {node.pid}", side="right")
    at = top + _PAD + 15
    for line in node.lines:
        canvas.text(x + _PAD, at + _LINE / 2, line, SMALL)
        at += _LINE
    for label, state in _tasks(node):
        canvas.box(x + _PAD, at + 2, width - 2 * _PAD, _TASK - 3, STATES[state], over=3)
        canvas.text(x + _PAD + 5, at + 2 + (_TASK - 3) / 2, label, SMALL)
        canvas.text(x + width - _PAD - 5, at + 2 + (_TASK - 3) / 2, state, SMALL, side="right")
        at += _TASK
    middle, right = top + own / 2, x + width
    beyond = right + _BETWEEN
    below = sum(map(_height, node.children)) + _GAP * max(0, len(node.children) - 1)
    at = y + (whole - below) / 2
    for child in node.children:
        entry = _put(canvas, child, columns, depth + 1, beyond, at)
        # lines to those taken in leave a little lower, for a trunk of their own
        look, out, share = (_EDGE, middle, 0.55) if child.orphan_of is None else (_ADOPTED, middle + 6, 0.25)
        elbow = right + _BETWEEN * share
        canvas.line([(right, out), (elbow, out), (elbow, entry), (beyond, entry)], look, arrow=True, over=1)
        at += _height(child) + _GAP
    return middle
