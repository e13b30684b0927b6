"""fork: a task like its parent, on an address space that shares every page until somebody writes.

Source: Linux, kernel/fork.c (copy_process, dup_mm), mm/memory.c (copy_page_range), mm/rmap.c (anon_vma_fork).
"""

import errno

from heaplab.errors import OutOfMemory
from heaplab.kernel.limits import charge
from heaplab.kernel.mm import Mm
from heaplab.kernel.oom import make_room
from heaplab.kernel.system import fail
from heaplab.kernel.task import Task
from heaplab.kernel.vma import VM_ACCOUNT, AnonVma


def fork(parent: Task) -> Task:
    """Return a new child of `parent`; whoever calls gives it a context.

    Raises: OSError EAGAIN when all pids are in use, ENOMEM when there is no memory and nobody to kill
    for it; OutOfMemory when the OOM killer chose the parent itself.
    Cost: about 5 ns a page of memory that was written; none for what was not.
    """
    system = parent.system
    pid = system.pids.alloc()
    if pid is None:
        fail(errno.EAGAIN)
    try:
        mm = _copy_mm(parent)
    except OSError:
        system.pids.free(pid)
        raise
    child = Task(system, pid, mm, parent.comm, parent)
    child.files, child.limits = parent.files.fork(), parent.limits.fork()
    parent.children[pid] = child
    system.tasks[pid] = child
    return child


def _copy_mm(parent: Task) -> Mm:
    """Return a copy of the address space, at the price of other processes if need be."""
    while True:
        assert parent.mm is not None
        try:
            return dup_mm(parent.mm)
        except MemoryError:
            victim = make_room(parent.system)
            if victim is parent:
                raise OutOfMemory(parent.pid) from None
            if victim is None:
                fail(errno.ENOMEM)


def dup_mm(old: Mm) -> Mm:
    """Return a copy of an address space: all of its VMAs, and of its pages those that were written.

    A VMA without an anon_vma has nothing that faults could not bring again, so it starts empty (rule 6).
    Raises: MemoryError when no frame is left; OSError ENOMEM when a VMA is more than the machine has.
    """
    new = Mm(old.system, old.layout)
    new.set_brk(old.brk)
    new.start_stack = old.start_stack
    try:
        for vma in old.vmas:
            if vma.flags & VM_ACCOUNT:
                charge(old, (vma.end - vma.start) >> old.page_shift)
            copy = vma.piece(vma.start, vma.end, old.page_shift)
            if vma.anon_vma is not None:
                copy.anon_vma, copy.inherited = AnonVma(), True
            new.vmas.add(copy)
            if (
                vma.anon_vma is not None
                and old.space.fork_range(new.space, vma.start, vma.end, cow=True) is None
            ):
                raise MemoryError("no frame for a page table")
    except (MemoryError, OSError):
        new.put()
        raise
    finally:
        old.flush_all()  # its entries lost the right to write
    return new
