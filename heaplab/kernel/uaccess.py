"""The kernel's own use of a program's memory: for results of system calls, and to fill pages in advance.

It goes through the same page tables, and pages are made and copied as for the program; but where the
program would be killed, the call fails.

Source: Linux, arch/x86/lib/usercopy_64.c, mm/gup.c (populate_vma_page_range).
"""

import errno

from heaplab.kernel.fault import WRITE, mend
from heaplab.kernel.mm import Mm
from heaplab.kernel.system import fail
from heaplab.kernel.task import Task
from heaplab.kernel.vma import VM_SHARED, VM_WRITE
from heaplab.machine import Pte

_WRITABLE = int(Pte.PRESENT | Pte.USER | Pte.WRITE)


def put_user(task: Task, va: int, data: bytes) -> None:
    """Write `data` at `va` of the task's memory.  Raises: OSError EFAULT where the task could not."""
    mm = _mm(task)
    while data:
        entry = mm.space.pte(va)
        if entry & _WRITABLE != _WRITABLE:
            if mend(task, va, WRITE | bool(entry)):
                fail(errno.EFAULT)
            continue
        offset = va % mm.page_size
        piece = data[: mm.page_size - offset]
        mm.system.machine.ram[Pte.frame(entry), offset : offset + len(piece)] = memoryview(piece)
        mm.space.update(va, set=int(Pte.ACCESSED | Pte.DIRTY))
        va += len(piece)
        data = data[len(piece) :]


def populate(task: Task, start: int, end: int) -> None:
    """Make all pages of [start, end) at once, as far as that goes: MAP_POPULATE (rule 30).

    Raises: OutOfMemory.
    """
    mm = _mm(task)
    for vma in mm.vmas.overlapping(start, end):
        write = WRITE if vma.flags & (VM_WRITE | VM_SHARED) == VM_WRITE else 0
        for va in range(max(start, vma.start), min(end, vma.end), mm.page_size):
            if not mm.space.pte(va) and mend(task, va, write):
                return


def _mm(task: Task) -> Mm:
    assert task.mm is not None
    return task.mm
