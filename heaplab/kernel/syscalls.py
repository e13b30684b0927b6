"""The one entry into the kernel: the table of system calls, and what their registers mean.

Each `sys_` function decodes its registers and leaves the work to the module that knows it.  Errors are
OSErrors inside the kernel and become a negative errno here.
"""

from __future__ import annotations

import errno
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final

from heaplab.abi import CLONE_CHILD_SETTID, CLONE_PARENT_SETTID, Sys
from heaplab.errors import WouldBlock
from heaplab.kernel import exec as exec_
from heaplab.kernel import fileio, fork, memcalls, oom, procfs, signals, taskcalls
from heaplab.kernel import wait as waiting
from heaplab.kernel.fault import WRITE, mend
from heaplab.kernel.look import look
from heaplab.kernel.mm import Mm
from heaplab.kernel.system import fail
from heaplab.kernel.task import Task
from heaplab.kernel.uaccess import put_user
from heaplab.look import Core
from heaplab.machine import REGISTER, Context, Looking, Pte
from heaplab.process import Process


def _clone(task: Task, flags: int, stack: int = 0, parent_tid: int = 0, child_tid: int = 0) -> int:
    child = fork.clone(task, flags, stack, child_tid)
    Entry(child)
    child.context.raw.err = task.context.raw.err
    if flags & CLONE_PARENT_SETTID:
        _put_tid(task, parent_tid, child.pid)
    if flags & CLONE_CHILD_SETTID:
        _put_tid(child, child_tid, child.pid)
    return child.pid


def _put_tid(task: Task, address: int, tid: int) -> None:
    with suppress(OSError):  # where nothing can be written, nobody wanted to know
        put_user(task, address, tid.to_bytes(4, "little"))


def sys_clone(task: Task, flags: int, stack: int, parent_tid: int, child_tid: int, *_: int) -> int:
    return _clone(task, flags & 0xFFFF_FFFF, stack, parent_tid, child_tid)


def sys_fork(task: Task, *_: int) -> int:
    return _clone(task, fork.FORK)


def sys_vfork(task: Task, *_: int) -> int:
    return _clone(task, fork.VFORK)


TABLE: Final[dict[int, tuple[str, Callable[..., int]]]] = {
    number: (
        number.name.lower(),
        (vars(memcalls) | vars(taskcalls) | globals())[f"sys_{number.name.lower()}"],
    )
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
    "mincore": memcalls.do_mincore,
    "getrlimit": lambda task, resource: task.limits.get(resource),
    "setrlimit": lambda task, resource, *pair: task.limits.set(resource, *(each & REGISTER for each in pair)),
    "pipe2": fileio.do_pipe2,
    "execve": exec_.execve,
    "wait4": waiting.wait4,
    "waitid": waiting.waitid,
    "getrusage": taskcalls.getrusage,
    "rt_sigaction": taskcalls.do_sigaction,
    "rt_sigprocmask": signals.sigprocmask,
    "rt_sigpending": signals.sigpending,
    "prctl_set_name": taskcalls.set_name,
}


class Entry:
    """How one task enters the kernel: it answers the traps of the task's context, and serves its handle."""

    __slots__ = ("task",)

    def __init__(self, task: Task) -> None:
        self.task = task
        task.context = Context(task.system.machine, task.memory.space, self)

    # what the CPU calls

    def fault(self, va: int, error_code: int) -> int:
        """Make the access that faulted possible and return 0, or raise what becomes of the task.

        Raises: SegmentationFault, BusError, OutOfMemory: the task is dead then.  ProcessLookupError: it was
        before.  WouldBlock: it sleeps, or is stopped.  InterruptedError: a scheduler is to run its handler.
        Cost: about 1.5 us for a new page; a copy adds the copying.
        """
        task = self.task
        if task.context.space is None:
            self._check_awake()
        task.system.current = task
        try:
            refusal = mend(task, va, error_code)
            if refusal:
                signals.access_fault(task, va, *refusal, write=bool(error_code & WRITE))
        finally:
            if task.system.signalled:
                signals.deliver(task.system)
        return 0

    def syscall(self, nr: int, *args: int) -> int:
        """Answer a system call: the result, or a negative errno.

        Raises: ProcessLookupError when the task is dead; OutOfMemory when the call is its end; WouldBlock.
        """
        found = TABLE.get(nr)
        if found is None:
            return -errno.ENOSYS
        name, function = found
        task = self.task
        if task.context.space is None:
            self._check_awake()
        task.syscalls[name] += 1
        task.system.current = task
        registers = (*[arg & REGISTER for arg in args], *(0,) * (6 - len(args)))
        try:
            result = function(task, *registers)
        except OSError as error:
            result = -(error.errno or errno.EINVAL)
        finally:
            if task.system.signalled:
                signals.deliver(task.system)
        if task.system.on_call is not None:
            task.system.on_call(task, name, registers, result)
        return result

    def _check_awake(self) -> None:
        task = self.task
        if task.mm is None:
            fail(errno.ESRCH)
        if task.vfork_child is not None:
            child = task.vfork_child
            raise WouldBlock(
                f"process {task.pid} sleeps until the child it vforked, {child.pid}, execs or exits: "
                "let that go on first",
                ready=lambda: task.may_run,
            )
        if not task.may_run:
            raise WouldBlock(
                f"process {task.pid} is stopped: send it SIGCONT first", ready=lambda: task.may_run
            )

    # what a handle asks for

    def direct(self, name: str, *args: Any) -> Any:
        """Make a system call for a caller whose data lie in Python instead of in the process's memory.

        name: of the call; its function is the one that the call's own entry leaves the work to.
        """
        task = self.task
        if task.context.space is None:
            self._check_awake()
        task.syscalls[name] += 1
        task.system.current = task
        try:
            return _DIRECT[name](task, *args)
        finally:
            if task.system.signalled:
                signals.deliver(task.system)

    def process(self, pid: int) -> Process:
        """Return a handle of the process `pid`."""
        return handle(self.task.system.tasks[pid])

    @property
    def context(self) -> Context:
        return self.task.context

    @property
    def pid(self) -> int:
        return self.task.tgid

    @property
    def tid(self) -> int:
        return self.task.pid

    @property
    def stack(self) -> int:
        return self.task.stack

    @property
    def entry(self) -> int:
        return self.task.entry

    @property
    def comm(self) -> str:
        return self.task.comm

    @comm.setter
    def comm(self, name: str) -> None:
        self.task.comm = name

    @property
    def oom_score_adj(self) -> int:
        return self.task.group.oom_score_adj

    @oom_score_adj.setter
    def oom_score_adj(self, value: int) -> None:
        oom.set_score_adj(self.task.group, value)

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
        return Counter(self.task.syscalls)

    @property
    def brk(self) -> int:
        """Where the break is, as libc remembers it."""
        return self._mm().brk

    def look(self) -> Looking:
        return look(self._mm())

    def frame_of(self, va: int) -> int | None:
        entry = self._mm().space.pte(va)
        return Pte.frame(entry) if entry & Pte.PRESENT else None

    @property
    def core(self) -> Core | None:
        return self.task.group.core

    def _mm(self) -> Mm:
        """Return the address space.  Raises: OSError ESRCH of a dead task."""
        if self.task.mm is None:
            fail(errno.ESRCH)
        return self.task.mm

    def maps(self) -> str:
        return procfs.maps(self.task)

    def status(self) -> str:
        return procfs.status(self.task)


def handle(task: Task) -> Process:
    """Return a handle of a task: the entry that its context traps into serves it too."""
    entry = task.context.handler
    assert isinstance(entry, Entry)
    return Process(entry)


def task_of(process: Process) -> Task:
    """Return the kernel's own side of a handle: what `handle` was given."""
    entry = process._kernel
    assert isinstance(entry, Entry)
    return entry.task
