"""clone, and what it is called in its commonest uses: fork and vfork.

                        address space       of the group    parent
    fork                a copy              a new one       the caller
    vfork               the caller's        a new one       the caller, asleep until exec or exit
    CLONE_THREAD        the caller's        the caller's    the caller's

Source: Linux, kernel/fork.c (copy_process, kernel_clone, dup_mm), mm/memory.c (copy_page_range),
mm/rmap.c (anon_vma_fork).
"""

import errno
from signal import SIGCHLD
from typing import Final

from heaplab.abi import (
    CLONE_CHILD_CLEARTID,
    CLONE_FILES,
    CLONE_NEWCGROUP,
    CLONE_NEWIPC,
    CLONE_NEWNET,
    CLONE_NEWNS,
    CLONE_NEWPID,
    CLONE_NEWUSER,
    CLONE_NEWUTS,
    CLONE_PARENT,
    CLONE_PIDFD,
    CLONE_SIGHAND,
    CLONE_THREAD,
    CLONE_VFORK,
    CLONE_VM,
    CSIGNAL,
)
from heaplab.errors import OutOfMemory
from heaplab.kernel.fork_policy import POLICIES
from heaplab.kernel.limits import charge, may_fork
from heaplab.kernel.mm import Mm
from heaplab.kernel.oom import make_room
from heaplab.kernel.reclaim import reclaim
from heaplab.kernel.system import fail
from heaplab.kernel.task import Group, Task
from heaplab.kernel.vma import VM_ACCOUNT, VM_DONTCOPY, VM_LOCKED, VM_WIPEONFORK, AnonVma

#: not modelled, and refused as by a kernel that was built without them
_UNKNOWN: Final = (
    CLONE_NEWCGROUP
    | CLONE_NEWIPC
    | CLONE_NEWNET
    | CLONE_NEWNS
    | CLONE_NEWPID
    | CLONE_NEWUSER
    | CLONE_NEWUTS
    | CLONE_PIDFD
)
FORK: Final = int(SIGCHLD)
VFORK: Final = CLONE_VM | CLONE_VFORK | FORK


def clone(caller: Task, flags: int, stack: int = 0, child_tid: int = 0) -> Task:
    """Return a new task; whoever calls gives it a context, and writes tids where CLONE_*_SETTID asks.

    flags: CLONE_*, in the lowest byte the signal that the parent gets at its end.
    stack: where its stack pointer starts, 0: where the caller's is.
    Raises: OSError EINVAL for flags that contradict each other (rule 48); EAGAIN when RLIMIT_NPROC allows no
    other task, or all pids are in use; ENOMEM when there is no memory and nobody to kill for it.
    OutOfMemory when the OOM killer chose the caller.
    Cost: of a fork about 5 ns a page of memory that was written; none for what was not.
    """
    _check(caller, flags)
    system = caller.system
    if not may_fork(system, caller.limits):
        fail(errno.EAGAIN)
    mm = _share_mm(caller) if flags & CLONE_VM else _copy_mm(caller)
    pid = system.pids.alloc()
    if pid is None:
        mm.put()
        fail(errno.EAGAIN)
    child = Task(system, pid, mm, caller.comm)
    child.stack = stack or caller.stack
    child.entry = caller.entry
    child.blocked = set(caller.blocked)
    child.clear_child_tid = child_tid if flags & CLONE_CHILD_CLEARTID else 0
    child.files = caller.files.share() if flags & CLONE_FILES else caller.files.fork()
    if flags & CLONE_THREAD:
        child.limits = caller.limits
        child.join(caller.group)
    else:
        child.limits = caller.limits.fork()
        _found_group(child, caller, flags)
    system.tasks[pid] = child
    if flags & CLONE_VFORK:
        child.vfork_parent, caller.vfork_child = caller, child
        caller.take_or_leave_cpu()
    return child


def _check(caller: Task, flags: int) -> None:
    if (
        flags & _UNKNOWN
        or (flags & CLONE_THREAD and not flags & CLONE_SIGHAND)
        or (flags & CLONE_SIGHAND and not flags & CLONE_VM)
        or (flags & CLONE_PARENT and caller.group is caller.system.init.group)
    ):
        fail(errno.EINVAL)


def _found_group(child: Task, caller: Task, flags: int) -> None:
    """Make the child the leader of a process of its own."""
    creator = caller.group
    sighand = creator.sighand if flags & CLONE_SIGHAND else creator.sighand.copy()
    parent_task, exit_signal = caller, flags & CSIGNAL
    if flags & CLONE_PARENT:
        parent_task, exit_signal = creator.parent_task, creator.exit_signal
    group = Group(child, creator.pgid, creator.sid, sighand, exit_signal)
    group.parent_execs = creator.parent_execs if flags & CLONE_PARENT else creator.execs
    group.oom_score_adj = creator.oom_score_adj
    child.join(group)
    parent_task.group.adopt(group, parent_task)


def _share_mm(caller: Task) -> Mm:
    assert caller.mm is not None
    caller.mm.users += 1
    return caller.mm


def _copy_mm(parent: Task) -> Mm:
    """Return a copy of the address space, at the price of other processes if need be."""
    while True:
        assert parent.mm is not None
        try:
            return dup_mm(parent.mm)
        except MemoryError:
            if reclaim(parent.system):
                continue
            victim = make_room(parent.system)
            if parent.mm is None:
                raise OutOfMemory(parent.pid) from None
            if victim is None:
                fail(errno.ENOMEM)


def dup_mm(old: Mm) -> Mm:
    """Return a copy of an address space: its VMAs, and of its pages those that were written (rule 31).

    A VMA without an anon_vma has nothing that faults could not bring again, so it starts empty (rule 6).
    Raises: MemoryError when no frame is left; OSError ENOMEM when a VMA is more than the machine has.
    """
    fork_pages = POLICIES[old.system.settings.fork]
    new = Mm(old.system, old.layout)
    new.set_brk(old.brk)
    new.space.secret = old.space.secret
    new.start_stack = old.start_stack
    try:
        for vma in old.vmas:
            if vma.flags & VM_DONTCOPY:
                continue
            if vma.flags & VM_ACCOUNT:
                charge(old, (vma.end - vma.start) >> old.page_shift)
            copy = vma.piece(vma.start, vma.end, old.page_shift)
            if copy.flags & VM_LOCKED:
                copy.set_flags(copy.flags & ~VM_LOCKED)
            written = vma.anon_vma is not None and not vma.flags & VM_WIPEONFORK
            copy.anon_vma, copy.inherited = (AnonVma(), True) if written else (None, False)
            new.vmas.add(copy)
            if written and fork_pages(old.space, new.space, vma.start, vma.end) is None:
                raise MemoryError("no frame for the child's pages or page tables")
    except (MemoryError, OSError):
        new.put()
        raise
    finally:
        old.flush_all()  # its entries lost the right to write
    return new
