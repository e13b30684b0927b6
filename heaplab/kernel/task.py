"""Tasks: what runs.

Source: Linux, include/linux/sched.h (struct task_struct).
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from heaplab.machine import Context

if TYPE_CHECKING:
    from heaplab.kernel.file import FdTable
    from heaplab.kernel.limits import Limits
    from heaplab.kernel.mm import Mm
    from heaplab.kernel.system import System


class Task:
    """A process, from fork to the wait that collects it.

    fixed at birth
        system, pid
        tgid        the pid of the process: of its first thread
        pgid        the process group, inherited
        context     its registers, as far as there are any: address space and counters
    until it exits
        mm          its address space; None once it is dead
        files       its descriptors; threads share one table
        limits      resource limits; threads share them
        comm        its name
        parent      who waits for it: the one that forked it, or after that one's exit pid 1
        children    in the order of their birth, zombies included
    until it is collected
        exit_code   the status that wait reports, once dead
    counters, kept after death
        minflt      page faults that were mended without reading a disk
        majflt      page faults for which a page was read from disk
        syscalls    system calls by name
    """

    __slots__ = (
        "__weakref__",
        "children",
        "comm",
        "context",
        "exit_code",
        "files",
        "limits",
        "majflt",
        "minflt",
        "mm",
        "parent",
        "pgid",
        "pid",
        "syscalls",
        "system",
        "tgid",
    )

    def __init__(self, system: System, pid: int, mm: Mm, comm: str, parent: Task | None) -> None:
        self.system = system
        self.pid = pid
        self.tgid = pid
        self.pgid: int = parent.pgid if parent is not None else pid
        self.context: Context
        self.mm: Mm | None = mm
        self.comm = comm
        self.parent = parent
        self.children: dict[int, Task] = {}
        self.exit_code = 0
        self.files: FdTable
        self.limits: Limits
        self.minflt = 0
        self.majflt = 0
        self.syscalls: Counter[str] = Counter()

    def __repr__(self) -> str:
        return f"<Task {self.pid} {self.comm} {self.state}>"

    @property
    def memory(self) -> Mm:
        """The address space of a task that lives."""
        assert self.mm is not None
        return self.mm

    @property
    def state(self) -> str:
        """R running; Z a zombie: dead, and not yet waited for; X collected (the letters of ps)."""
        if self.mm is not None:
            return "R"
        return "Z" if self.system.tasks.get(self.pid) is self else "X"
