"""The one entry into the kernel: the table of system calls, and what their registers mean.

Each `sys_` function decodes its registers and leaves the work to the module that knows it.  Errors are
OSErrors inside the kernel and become a negative errno here.
"""

from __future__ import annotations

import errno
from collections import Counter
from collections.abc import Callable
from typing import Any, Final

from heaplab.abi import Sys
from heaplab.kernel import exit as exiting
from heaplab.kernel import fileio, memcalls, procfs, signals
from heaplab.kernel.fault import page_fault
from heaplab.kernel.fork import fork
from heaplab.kernel.memcalls import signed32
from heaplab.kernel.mm import Mm
from heaplab.kernel.system import fail
from heaplab.kernel.task import Task
from heaplab.kernel.uaccess import put_user
from heaplab.machine import REGISTER, Context
from heaplab.process import Process


def _mm(task: Task) -> Mm:
    assert task.mm is not None
    return task.mm


def sys_getpid(task: Task, *_: int) -> int:
    return task.tgid


def sys_getppid(task: Task, *_: int) -> int:
    return task.parent.tgid if task.parent is not None else 0


def sys_fork(task: Task, *_: int) -> int:
    child = fork(task)
    Entry(child)
    child.context.raw.err = task.context.raw.err
    return child.pid


def sys_exit(task: Task, code: int, *_: int) -> int:
    exiting.do_exit(task, (code & 0xFF) << 8)
    return 0


def sys_wait4(task: Task, pid: int, stat_addr: int, options: int, rusage: int, *_: int) -> int:
    if rusage:
        fail(errno.EINVAL)  # not modelled
    found, status = exiting.wait(task, signed32(pid), signed32(options))
    if stat_addr and found:
        put_user(task, stat_addr, status.to_bytes(4, "little"))
    return found


def sys_kill(task: Task, pid: int, sig: int, *_: int) -> int:
    signals.kill(task, signed32(pid), signed32(sig))
    return 0


TABLE: Final[dict[int, tuple[str, Callable[..., int]]]] = {
    number: (number.name.lower(), (vars(memcalls) | globals())[f"sys_{number.name.lower()}"])
    for number in Sys
}

#: what can be called with bytes and text instead of addresses
_DIRECT: Final[dict[str, Callable[..., Any]]] = {
    "open": fileio.do_open,
    "memfd_create": fileio.do_memfd_create,
    "read": fileio.do_read,
    "write": fileio.do_write,
    "pread64": fileio.do_pread,
    "pwrite64": fileio.do_pwrite,
}


class Entry:
    """How one task enters the kernel: it answers the traps of the task's context, and serves its handle."""

    __slots__ = ("task",)

    def __init__(self, task: Task) -> None:
        self.task = task
        task.context = Context(task.system.machine, _mm(task).space, self)

    # what the CPU calls

    def fault(self, va: int, error_code: int) -> int:
        """Answer a page fault; see fault.page_fault."""
        return page_fault(self.task, va, error_code)

    def syscall(self, nr: int, *args: int) -> int:
        """Answer a system call: the result, or a negative errno.

        Raises: ProcessLookupError when the task is dead; OutOfMemory when the call is its end; WouldBlock.
        """
        task = self.task
        if task.mm is None:
            fail(errno.ESRCH)
        found = TABLE.get(nr)
        if found is None:
            return -errno.ENOSYS
        name, function = found
        task.syscalls[name] += 1
        try:
            return function(task, *[arg & REGISTER for arg in args], *(0,) * (6 - len(args)))
        except OSError as error:
            return -(error.errno or errno.EINVAL)

    # what a handle asks for

    def direct(self, name: str, *args: Any) -> Any:
        """Make a system call for a caller whose data lie in Python instead of in the process's memory.

        name: of the call; its function is the one in fileio that the call's own entry leaves the work to.
        """
        if self.task.mm is None:
            fail(errno.ESRCH)
        self.task.syscalls[name] += 1
        return _DIRECT[name](self.task, *args)

    def wait4(self, pid: int, options: int) -> tuple[int, int]:
        """The system call wait4, for a caller who takes the status in Python instead of in memory."""
        if self.task.mm is None:
            fail(errno.ESRCH)
        self.task.syscalls["wait4"] += 1
        return exiting.wait(self.task, pid, options)

    def process(self, pid: int) -> Process:
        """Return a handle of the process `pid`."""
        return handle(self.task.system.tasks[pid])

    @property
    def context(self) -> Context:
        return self.task.context

    @property
    def pid(self) -> int:
        return self.task.pid

    @property
    def ppid(self) -> int:
        return self.task.parent.pid if self.task.parent is not None else 0

    @property
    def state(self) -> str:
        return self.task.state

    @property
    def minflt(self) -> int:
        return self.task.minflt

    @property
    def majflt(self) -> int:
        return self.task.majflt

    @property
    def syscalls(self) -> Counter[str]:
        return self.task.syscalls

    @property
    def brk(self) -> int:
        """Where the break is, as libc remembers it."""
        if self.task.mm is None:
            fail(errno.ESRCH)
        return self.task.mm.brk

    def maps(self) -> str:
        return procfs.maps(self.task)

    def status(self) -> str:
        return procfs.status(self.task)


def handle(task: Task) -> Process:
    """Return a handle of a task: the entry that its context traps into serves it too."""
    entry = task.context.handler
    assert isinstance(entry, Entry)
    return Process(entry)
