"""The tree of processes as plain data: who is whose child, and in which state."""

import signal
from collections.abc import Iterator
from dataclasses import dataclass

from heaplab.kernel import Kernel
from heaplab.kernel.task import Group, Task

#: the state letters of ps, in words
WORDS = {
    "R": "running",
    "S": "asleep",
    "D": "asleep in vfork",
    "T": "stopped",
    "Z": "zombie",
    "X": "collected",
}


@dataclass(frozen=True)
class Node:
    """One process.

    pid, name, state    as ps shows them; the state is a letter of WORDS
    meaning             the state in words: also how a zombie ended, what stopped it, whom it sleeps for
    threads             (tid, state) of each of its tasks; empty when there is only the one
    borrows             the pid of the process in whose address space it runs (vfork); None: it has its own
    orphan_of           the pid of the parent it had in the earlier tree; None: it has not changed
    children            in the order of their birth
    """

    pid: int
    name: str
    state: str
    meaning: str
    threads: tuple[tuple[int, str], ...]
    borrows: int | None
    orphan_of: int | None
    children: tuple["Node", ...]

    @property
    def lines(self) -> list[str]:
        """What there is to say below its name, a line each."""
        said = [f"{self.state}: {self.meaning}"]
        if self.borrows is not None:
            said.append(f"in the memory of {self.borrows}")
        if self.orphan_of is not None:
            said.append(f"orphan, was a child of {self.orphan_of}")
        return said

    def walk(self) -> Iterator["Node"]:
        """Yield it and all below it."""
        yield self
        for child in self.children:
            yield from child.walk()


@dataclass(frozen=True)
class ProcessTree:
    """The processes of a kernel at one moment.  gone: pids of the earlier tree that nobody has any more."""

    root: Node
    gone: tuple[int, ...] = ()

    def __repr__(self) -> str:
        return f"<{type(self).__name__}: {self.title}>"

    @property
    def title(self) -> str:
        """What is shown, in one line."""
        return "The tree of processes"

    def __str__(self) -> str:
        lines: list[str] = []

        def put(node: Node, lead: str, branch: str) -> None:
            lines.append(f"{lead}{branch}{node.name}({node.pid}) {'; '.join(node.lines)}")
            below = lead + {"": "", "|-": "|  ", "`-": "   "}[branch]
            for tid, state in node.threads:
                lines.append(f"{below}{'|' if node.children else ' '}  task {tid} {state}: {WORDS[state]}")
            for child in node.children:
                put(child, below, "`-" if child is node.children[-1] else "|-")

        put(self.root, "", "")
        if self.gone:
            lines.append(f"gone: {', '.join(map(str, self.gone))}")
        return "\n".join(lines) + "\n"


def look(kernel: Kernel, before: ProcessTree | None = None) -> ProcessTree:
    """Return the tree as it is now; with an earlier one, who was orphaned since, and who is gone.

    >>> kernel = Kernel(ram="1 MiB")
    >>> shell = kernel.init.fork()
    >>> child = shell.fork()
    >>> earlier = look(kernel)
    >>> shell.exit(1)
    >>> print(look(kernel, earlier), end="")
    init(1) R: running
    `-init(3) R: running; orphan, was a child of 2
    gone: 2
    """
    parents = {} if before is None else dict(_edges(before.root, 0))
    root = _node(kernel.system.init.group, parents)
    there = {node.pid for node in root.walk()}
    return ProcessTree(root, tuple(pid for pid in parents if pid not in there))


def _edges(node: Node, parent: int) -> Iterator[tuple[int, int]]:
    yield node.pid, parent
    for child in node.children:
        yield from _edges(child, node.pid)


def _node(group: Group, parents: dict[int, int]) -> Node:
    leader = group.leader
    parent = group.parent.tgid if group.parent is not None else 0
    tasks = {leader.pid: leader, **group.living}
    first = next(iter(group.living.values()), leader)
    lender = first.vfork_parent
    return Node(
        pid=group.tgid,
        name=leader.comm,
        state=first.state if group.living else leader.state,
        meaning=_meaning(group, first),
        threads=tuple((tid, task.state) for tid, task in tasks.items()) if len(tasks) > 1 else (),
        borrows=lender.tgid if lender is not None else None,
        orphan_of=was if (was := parents.get(group.tgid, parent)) != parent else None,
        children=tuple(_node(child.group, parents) for child in group.children.values()),
    )


def _meaning(group: Group, task: Task) -> str:
    if not group.living:
        signum = group.exit_code & 0x7F
        end = f"ended by {_name(signum)}" if signum else f"exit code {group.exit_code >> 8}"
        return f"{WORDS[group.leader.state]}, {end}"
    if task.vfork_child is not None:
        return f"{WORDS['D']} until {task.vfork_child.tgid} execs or exits"
    return WORDS[task.state] + (f" by {_name(group.stop_signal)}" if task.state == "T" else "")


def _name(signum: int) -> str:
    try:
        return signal.Signals(signum).name
    except ValueError:  # a real-time signal between the first and the last
        return f"signal {signum}"
