"""The one entry into the kernel: the table of system calls, and what their registers mean.

Each `sys_` function decodes its registers and leaves the work to the module that knows it.  Errors are
OSErrors inside the kernel and become a negative errno here.
"""

from __future__ import annotations

import errno
from collections import Counter
from collections.abc import Callable
from typing import Final

from heaplab.abi import MAP_NONBLOCK, MAP_POPULATE, Sys
from heaplab.kernel import exit as exiting
from heaplab.kernel import mmap as mapping
from heaplab.kernel import procfs, signals
from heaplab.kernel.fault import page_fault
from heaplab.kernel.fork import fork
from heaplab.kernel.mm import Mm
from heaplab.kernel.mprotect import mprotect
from heaplab.kernel.system import fail
from heaplab.kernel.task import Task
from heaplab.kernel.uaccess import populate, put_user
from heaplab.machine import REGISTER, Context
from heaplab.process import Process


def _signed(register: int) -> int:
    """The int that a register holds."""
    register &= 0xFFFF_FFFF
    return register - (1 << 32) if register >> 31 else register


def _mm(task: Task) -> Mm:
    assert task.mm is not None
    return task.mm


def sys_mmap(task: Task, addr: int, length: int, prot: int, flags: int, _fd: int, offset: int) -> int:
    if offset % _mm(task).page_size:
        fail(errno.EINVAL)
    addr = mapping.mmap(_mm(task), addr, length, prot, flags)
    if flags & (MAP_POPULATE | MAP_NONBLOCK) == MAP_POPULATE:
        populate(task, addr, addr + _mm(task).align(length))
    return addr


def sys_mprotect(task: Task, addr: int, length: int, prot: int, *_: int) -> int:
    mprotect(_mm(task), addr, length, prot)
    return 0


def sys_munmap(task: Task, addr: int, length: int, *_: int) -> int:
    mapping.munmap(_mm(task), addr, length)
    return 0


def sys_brk(task: Task, addr: int, *_: int) -> int:
    return mapping.brk(_mm(task), addr)


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
    found, status = exiting.wait(task, _signed(pid), _signed(options))
    if stat_addr and found:
        put_user(task, stat_addr, status.to_bytes(4, "little"))
    return found


def sys_kill(task: Task, pid: int, sig: int, *_: int) -> int:
    signals.kill(task, _signed(pid), _signed(sig))
    return 0


TABLE: Final[dict[int, tuple[str, Callable[..., int]]]] = {
    number: (number.name.lower(), globals()[f"sys_{number.name.lower()}"]) for number in Sys
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
