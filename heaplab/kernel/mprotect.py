"""mprotect: what a range allows.

Source: Linux, mm/mprotect.c.
"""

import errno
from typing import Final

from heaplab.abi import PROT_EXEC, PROT_READ, PROT_SEM, PROT_WRITE
from heaplab.kernel.limits import charge, may_expand
from heaplab.kernel.mm import Mm
from heaplab.kernel.system import fail
from heaplab.kernel.task import Task
from heaplab.kernel.uaccess import fault_in
from heaplab.kernel.vma import VM_ACCESS, VM_ACCOUNT, VM_LOCKED, VM_NORESERVE, VM_SHARED, VM_WRITE, Vma
from heaplab.machine import Pte

#: the bits of an entry that follow from a VMA's protection
RIGHTS: Final = int(Pte.WRITE | Pte.USER | Pte.NO_EXEC)


def mprotect(task: Task, addr: int, length: int, prot: int) -> None:
    """Change what [addr, addr + length) allows; up to a hole, and then ENOMEM (rule 20).

    Raises: OSError EINVAL, ENOMEM; EACCES for a right that the mapped file's open mode does not give.
    """
    mm = task.memory
    if addr & ~mm.page_mask:
        fail(errno.EINVAL)
    if not length:
        return
    end = addr + mm.align(length)
    if not addr < end < 1 << 64:
        fail(errno.ENOMEM)
    prot &= ~PROT_SEM
    if prot & ~(PROT_READ | PROT_WRITE | PROT_EXEC):
        fail(errno.EINVAL)
    at = addr
    for vma in mm.vmas.overlapping(addr, end):
        if vma.start > at:
            break
        until = min(vma.end, end)
        flags = vma.flags & ~VM_ACCESS | prot
        if flags & ~(flags >> 4) & VM_ACCESS:
            fail(errno.EACCES)
        _protect(task, vma, at, until, flags)
        at = until
    if at < end:
        fail(errno.ENOMEM)


def _protect(task: Task, vma: Vma, start: int, end: int, flags: int) -> None:
    """Give [start, end), within one VMA, new flags; merge and split as that asks for."""
    if flags == vma.flags:
        return
    mm, limits = task.memory, task.limits
    if not mm.space.own_range(start, end):
        fail(errno.ENOMEM)
    pages = (end - start) >> mm.page_shift
    if flags & VM_WRITE:
        # what becomes data is new to the limits, but not if it was beyond them before
        if not may_expand(mm, limits, flags, pages) and may_expand(mm, limits, vma.flags, pages):
            fail(errno.ENOMEM)
        if not flags & (VM_ACCOUNT | VM_SHARED | VM_NORESERVE) and not vma.flags & VM_WRITE:
            charge(mm, pages)
            flags |= VM_ACCOUNT
    elif flags & VM_ACCOUNT and vma.file is None and vma.anon_vma is None:
        flags &= ~VM_ACCOUNT  # nothing was written that could have to be kept (rule 17)
    locked_and_read = vma.flags & (VM_WRITE | VM_SHARED | VM_LOCKED) == VM_LOCKED
    changed = mm.modify_flags(vma, start, end, flags)
    _protect_entries(mm, changed, start, end)
    if locked_and_read and flags & VM_WRITE:
        # what is locked is not to fault later
        fault_in(task, changed, start, end, write=True)


def _protect_entries(mm: Mm, vma: Vma, start: int, end: int) -> None:
    """Make the entries of [start, end) say what the VMA says.

    A private page may be written at once only where it is exclusive; the others wait for copy-on-write
    (rule 14).  A shared one of a file on disk only where it is dirty already.
    """
    rights = vma.page_prot
    mm.space.protect_range(start, end, clear=RIGHTS & ~rights, set=RIGHTS & rights)
    if vma.private and vma.flags & VM_WRITE:
        mm.space.protect_range(start, end, having=int(Pte.EXCLUSIVE), set=int(Pte.WRITE))
    elif vma.writenotify and vma.flags & VM_WRITE:
        mm.space.protect_range(start, end, having=int(Pte.DIRTY), set=int(Pte.WRITE))
    mm.flush_range(start, end)
