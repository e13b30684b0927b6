"""The life of processes as plain data: a few trees one after another, each with what had just happened."""

from collections.abc import Sequence
from dataclasses import dataclass

from heaplab.errors import UsageError
from heaplab.report.pictures.tree import ProcessTree


@dataclass(frozen=True)
class Span:
    """What a process was from one moment on, until another: moments [first, end)."""

    first: int
    end: int
    name: str
    state: str
    meaning: str


@dataclass(frozen=True)
class Lane:
    """One process: its pid, the pid of its first parent, and what it was, one span after another."""

    pid: int
    parent: int
    spans: tuple[Span, ...]


@dataclass(frozen=True)
class Timeline:
    """moments: what had happened at each.  lanes: the processes, in the order in which they came."""

    moments: tuple[str, ...]
    lanes: tuple[Lane, ...]

    def __repr__(self) -> str:
        return f"<{type(self).__name__}: {self.title}>"

    @property
    def title(self) -> str:
        """What is shown, in one line."""
        return f"{len(self.lanes)} processes over {len(self.moments)} moments"

    def __str__(self) -> str:
        lines = [f"{number}: {moment}" for number, moment in enumerate(self.moments)]
        for lane in self.lanes:
            spans = ", ".join(f"{s.first}-{s.end} {s.name} {s.state}: {s.meaning}" for s in lane.spans)
            lines.append(f"pid {lane.pid}, child of {lane.parent}: {spans}")
        return "\n".join(lines) + "\n"


def look(moments: Sequence[tuple[str, ProcessTree]]) -> Timeline:
    """Return the lives that the trees show."""
    if not moments:
        raise UsageError("a timeline needs moments: pass (what happened, tree) for one or more")
    parents: dict[int, int] = {}
    spans: dict[int, list[Span]] = {}
    for number, (_, tree) in enumerate(moments):
        parents.setdefault(tree.root.pid, 0)
        for node in tree.root.walk():
            for child in node.children:
                parents.setdefault(child.pid, node.pid)
            lane = spans.setdefault(node.pid, [])
            last = lane[-1] if lane else None
            now = Span(number, number + 1, node.name, node.state, node.meaning)
            if last is not None and last.end == number and _same(last, now):
                lane[-1] = Span(last.first, number + 1, last.name, last.state, last.meaning)
            else:
                lane.append(now)
    lanes = tuple(Lane(pid, parents[pid], tuple(lane)) for pid, lane in spans.items())
    return Timeline(tuple(label for label, _ in moments), lanes)


def _same(one: Span, other: Span) -> bool:
    return (one.name, one.state, one.meaning) == (other.name, other.state, other.meaning)
