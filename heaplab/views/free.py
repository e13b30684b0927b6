"""The free blocks where a design keeps them, as lines: a list, or a tree with its branches drawn."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

from heaplab.allocators import Entry


@dataclass(frozen=True)
class FreeLine:
    """A line.  branch: what is drawn before the free block `entry`.  entry: None for a group's heading."""

    branch: str
    entry: Entry | None
    group: str = ""


def is_tree(entries: Sequence[Entry]) -> bool:
    """Return whether the entries are more than lists, where each leads to the next.

    >>> is_tree([Entry(8, 32, "0"), Entry(64, 32, "1", under=8)])
    False
    >>> is_tree([Entry(8, 32, "L", under=64), Entry(64, 32, "root")])
    True
    """
    starts = [0, *(entry.start for entry in entries)]
    return any(entry.under not in (0, before) for before, entry in zip(starts, entries, strict=False))


def free_lines(entries: Sequence[Entry], *, tree: bool | None = None) -> tuple[FreeLine, ...]:
    """Return the free blocks as lines, group by group.

    tree: draw what leads to what; None: where the entries are a tree.

    >>> nodes = [Entry(8, 32, "L", 64), Entry(64, 48, "root", 0), Entry(128, 80, "R", 64)]
    >>> for line in free_lines(nodes):
    ...     print(line.branch + line.entry.place)
    root
    ├─ L
    └─ R
    """
    draw = is_tree(entries) if tree is None else tree
    return tuple(_lines(entries, draw))


def _lines(entries: Sequence[Entry], draw: bool) -> Iterator[FreeLine]:
    for group, run in groupby(entries, key=lambda entry: entry.group):
        members = list(run)
        if group:
            yield FreeLine("", None, group)
        yield from _branches(members) if draw else (FreeLine("", entry) for entry in members)


def _branches(members: list[Entry]) -> Iterator[FreeLine]:
    """The entries from the roots down, those under an entry behind it; each once, also if links go round."""
    known = {entry.start for entry in members}
    below: dict[int, list[Entry]] = {}
    for entry in members:
        below.setdefault(entry.under if entry.under in known else 0, []).append(entry)
    seen: set[int] = set()
    pending = [(entry, "", "") for entry in reversed(below.get(0, []))]
    while pending:
        entry, branch, indent = pending.pop()
        if entry.start in seen:
            continue
        seen.add(entry.start)
        yield FreeLine(branch, entry)
        children = below.get(entry.start, [])
        for number, child in reversed(list(enumerate(children))):
            last = number == len(children) - 1
            pending.append((child, indent + ("└─ " if last else "├─ "), indent + ("   " if last else "│  ")))
    for entry in members:
        if entry.start not in seen:  # under one another, and under no root
            yield FreeLine("?  ", entry)
