"""Every outcome of a small program: all its interleavings that differ are run, each from the start.

Two things keep them few.  A step that no other thread can see (of memory that is its own, of its pid) is made
at once: before or after the others' steps it is the same.  And steps on different things commute: what
matters is only, for each thing that threads share, in which order they came to it.  Where these orders are
the same as in a run before, all that can follow has been seen.

    thing                          touched by
    (WORD, address / 8)            loads, stores; loads commute with each other
    (STREAM, inode)                reads, writes; of a pipe also exit and close
    (PROCESS, tgid)                every step of its threads, which commute; what may end or stop it
    (CHILDREN, tgid)               its waits, its children's exits; these commute: rule 44
    PIDS                           whatever makes a task

Source: Mazurkiewicz, Trace theory, 1987; Godefroid, Partial-order methods, 1996.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from contextlib import suppress

from heaplab.errors import UsageError
from heaplab.kernel.kernel import Kernel
from heaplab.kernel.pipe import Pipe, StreamInode
from heaplab.kernel.program import Program
from heaplab.kernel.scheduler import Outcome, Scheduler, Thread
from heaplab.kernel.task import Group, Task
from heaplab.kernel.vma import VM_SHARED

#: what nobody else sees, whoever it is
_OWN = {"getpid", "gettid"}
#: accesses, and the place in a call of what tells how many bytes; None: 8
_ACCESSES = {"load": 1, "load64": None, "store": 2, "store64": None}
#: what nobody else sees if the memory is the thread's own
_MEMORY = {*_ACCESSES, "peek", "poke", "copy", "fill", "brk", "sbrk", "mmap", "munmap", "mprotect"}

_WORD, _STREAM, _PROCESS, _CHILDREN, _PIDS = "word", "stream", "process", "children", "pids"
#: a thing that a step touches -> with which steps on it the step commutes: those of the same kind; "": none
_Touched = dict[Hashable, str]
#: in the order that matters: steps that commute stand together
_Order = list[tuple[str, set[tuple[tuple[int, ...], int]]]]


def explore(program: Program, *args: object, ram: str = "4 MiB", most_runs: int = 20_000) -> set[Outcome]:
    """Return all that a program can come to, over every order in which its threads may take turns.

    Raises: UsageError when `most_runs` runs are not enough.

    >>> def main(sys):
    ...     child = yield sys.fork()
    ...     yield sys.write(1, "c" if child == 0 else "p")
    ...     yield sys.exit(0)
    >>> sorted(outcome.output for outcome in explore(main))
    ['cp', 'pc']
    """
    outcomes: set[Outcome] = set()
    seen: set[frozenset[Hashable]] = set()
    todo: list[tuple[int, ...]] = [()]
    for _ in range(most_runs):
        if not todo:
            return outcomes
        guide = _Guide(todo.pop(), seen)
        with suppress(_NothingNewError):
            outcomes.add(Scheduler(Kernel(ram=ram), choose=guide.choose).run(program, *args))
        todo += guide.others
    raise UsageError(
        f"the program has more interleavings than {most_runs} runs show: make it smaller, or pass most_runs"
    )


class _NothingNewError(Exception):
    """All that can follow has been seen."""


class _Guide:
    """Makes the choices of one run: those given, then always the first; notes which others there were."""

    def __init__(self, given: tuple[int, ...], seen: set[frozenset[Hashable]]) -> None:
        self._given = given
        self._seen = seen
        self._made: tuple[int, ...] = ()
        self._orders: dict[Hashable, _Order] = {}
        self._last: Thread | None = None
        self._last_things: _Touched = {}
        self.others: list[tuple[int, ...]] = []

    def choose(self, ready: Sequence[Thread]) -> Thread:
        """Choose who makes the next step."""
        self._forget_if_it_sleeps()
        for thread in ready:
            if not touched(thread):
                return thread
        number = 0
        if len(ready) > 1:
            number = self._branch(len(ready))
        thread = ready[number]
        self._last, self._last_things = thread, touched(thread)
        for thing, kind in self._last_things.items():
            order = self._orders.setdefault(thing, [])
            if not kind or not order or order[-1][0] != kind:
                order.append((kind, set()))
            order[-1][1].add((thread.path, thread.steps))
        return thread

    def _forget_if_it_sleeps(self) -> None:
        """Take back the last step if it came to nothing: a call that has to wait has changed nothing.

        With handlers it has: a signal interrupts a call that sleeps, and none that is yet to be made.
        """
        last = self._last
        if last is not None and last.blocked is not None and not _has_handlers(last.task.group):
            for thing in self._last_things:
                order = self._orders[thing]
                order[-1][1].discard((last.path, last.steps - 1))
                if not order[-1][1]:
                    order.pop()
        self._last = None

    def _branch(self, count: int) -> int:
        depth = len(self._made)
        if depth < len(self._given):
            number = self._given[depth]
        else:
            state = frozenset(
                (thing, tuple(frozenset(steps) for _, steps in order))
                for thing, order in self._orders.items()
            )
            if state in self._seen:
                raise _NothingNewError
            self._seen.add(state)
            self.others += [(*self._made, other) for other in range(1, count)]
            number = 0
        self._made += (number,)
        return number


def touched(thread: Thread) -> _Touched:
    """Return the things that others can see of the thread's next step; nothing: it is its own business."""
    task, call = thread.task, thread.execution.pending
    if _has_handlers(task.group):  # a handler may look at all that it interrupts
        return _everything(task)
    if call is None:
        return {(_PROCESS, task.tgid): "run"} if thread.is_thread else _everything(task)
    if call.name in _OWN or (call.name in _MEMORY and _has_memory_alone(task)):
        return {}
    own: _Touched = {(_PROCESS, task.tgid): "run"}
    if call.name in _ACCESSES:
        at = _ACCESSES[call.name]
        size = 8 if at is None else call.args[at]
        kind = "load" if call.name.startswith("load") else ""
        return own | {(_WORD, word): kind for word in {call.args[0] >> 3, (call.args[0] + size - 1) >> 3}}
    if call.name in ("read", "write") and call.args:
        file = task.files.find(call.args[0])
        if file is not None and isinstance(file.inode, StreamInode) and not _kills(call.name, file.inode):
            return {**own, (_STREAM, file.inode.number): ""}
    if call.name in ("fork", "vfork") and len(task.group.living) == 1:
        return {**own, _PIDS: ""}
    if call.name in ("wait", "waitpid", "wait4", "waitid"):
        return {**own, (_CHILDREN, task.tgid): ""}
    if call.name == "exit" and not task.group.children and task.group.parent is not None:
        parent = task.group.parent
        kind = "" if _has_handlers(parent) else "exit"
        return {**_pipes(task), (_PROCESS, task.tgid): "", (_CHILDREN, parent.tgid): kind}
    return _everything(task)


def _everything(task: Task) -> _Touched:
    things: _Touched = {_PIDS: "", **_pipes(task)}
    for group in task.system.groups():
        things |= {(_PROCESS, group.tgid): "", (_CHILDREN, group.tgid): ""}
    return things


def _pipes(task: Task) -> _Touched:
    """The pipes that a process has open: those at their other ends see them close."""
    return {(_STREAM, file.inode.number): "" for file in task.files.files() if isinstance(file.inode, Pipe)}


def _has_handlers(group: Group) -> bool:
    return any(callable(action.handler) for action in group.sighand.actions.values())


def _kills(name: str, inode: StreamInode) -> bool:
    """Whether the write ends the process, by SIGPIPE."""
    return name == "write" and isinstance(inode, Pipe) and not inode.readers


def _has_memory_alone(task: Task) -> bool:
    mm = task.memory
    return mm.users == 1 and not any(vma.flags & VM_SHARED for vma in mm.vmas)
