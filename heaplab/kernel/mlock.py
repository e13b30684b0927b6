"""mlock and munlock, mincore, msync: pages that stay, that are there, that go to disk.

Source: Linux, mm/mlock.c, mm/mincore.c, mm/msync.c.
"""

import errno

from heaplab.abi import MS_ASYNC, MS_INVALIDATE, MS_SYNC, Rlimit
from heaplab.kernel.limits import may_lock
from heaplab.kernel.mm import Mm
from heaplab.kernel.system import fail
from heaplab.kernel.task import Task
from heaplab.kernel.uaccess import is_user_range, populate
from heaplab.kernel.vma import VM_LOCKED, VM_SHARED
from heaplab.machine import REGISTER


def mlock(task: Task, addr: int, length: int) -> None:
    """Make all pages of the range, rounded outwards, and keep them in memory.

    Raises: OSError EPERM when RLIMIT_MEMLOCK is 0; ENOMEM beyond it, at a hole (what lies before is locked
    then), and where pages cannot be made.
    """
    mm = task.memory
    if not task.limits.soft(Rlimit.MEMLOCK):
        fail(errno.EPERM)
    start, end = addr & mm.page_mask, _end(mm, addr, length)
    already = sum(
        min(end, vma.end) - max(start, vma.start)
        for vma in mm.vmas.overlapping(start, end)
        if vma.flags & VM_LOCKED
    )
    if not may_lock(mm, task.limits, (end - start - already) >> mm.page_shift):
        fail(errno.ENOMEM)
    _set_locked(mm, start, end, VM_LOCKED)
    if populate(task, start, end, stop=True):
        fail(errno.ENOMEM)


def munlock(task: Task, addr: int, length: int) -> None:
    """Let the pages of the range go again.  Raises: OSError ENOMEM at a hole."""
    mm = task.memory
    _set_locked(mm, addr & mm.page_mask, _end(mm, addr, length), 0)


def _end(mm: Mm, addr: int, length: int) -> int:
    """Return where a range ends, rounded outwards; of no length, where its page begins."""
    start = addr & mm.page_mask
    return start + (mm.align(length + (addr - start)) & REGISTER)


def _set_locked(mm: Mm, start: int, end: int, flag: int) -> None:
    if end > REGISTER:
        fail(errno.EINVAL)
    at = start
    for vma in mm.vmas.overlapping(start, end):
        if vma.start > at:
            break
        until = min(end, vma.end)
        mm.modify_flags(vma, at, until, vma.flags & ~VM_LOCKED | flag)
        at = until
    if at < end:
        fail(errno.ENOMEM)


def mincore(task: Task, addr: int, length: int, vec: int = 0) -> tuple[bytes, bool]:
    """Return a byte for each page up to the first hole, 1 when it is in memory; and whether there is a hole.

    vec: where the bytes will go.
    Raises: OSError EINVAL; ENOMEM past the end of user memory; EFAULT where `vec` cannot be the user's.
    """
    mm = task.memory
    if addr & ~mm.page_mask:
        fail(errno.EINVAL)
    if addr + length > mm.layout.task_size:
        fail(errno.ENOMEM)
    end = addr + mm.align(length)
    if not is_user_range(task, vec, (end - addr) >> mm.page_shift):
        fail(errno.EFAULT)
    found = bytearray()
    for vma in mm.vmas.overlapping(addr, end):
        start, until = max(addr, vma.start), min(end, vma.end)
        if start > addr + (len(found) << mm.page_shift):
            break
        here = mm.space.ptes(start, (until - start) >> mm.page_shift) != 0
        if vma.file is not None:
            first = vma.page_at(start, mm.page_shift)
            cached = vma.file.inode.pages
            found += bytes(bool(entry) or first + i in cached for i, entry in enumerate(here.tolist()))
        else:
            found += here.tobytes()
    return bytes(found), len(found) < (end - addr) >> mm.page_shift


def msync(task: Task, addr: int, length: int, flags: int) -> None:
    """Bring what shared mappings of the range changed to disk, with MS_SYNC; over holes, and then ENOMEM.

    Raises: OSError EINVAL, ENOMEM; EBUSY for MS_INVALIDATE of locked memory.
    """
    mm = task.memory
    if flags & ~(MS_ASYNC | MS_INVALIDATE | MS_SYNC) or addr & ~mm.page_mask:
        fail(errno.EINVAL)
    if flags & MS_ASYNC and flags & MS_SYNC:
        fail(errno.EINVAL)
    end = addr + mm.align(length)
    if end >= 1 << 64:
        fail(errno.ENOMEM)
    at, hole = addr, False
    for vma in mm.vmas.overlapping(addr, end):
        hole = hole or vma.start > at
        start, at = max(addr, vma.start), min(end, vma.end)
        if flags & MS_INVALIDATE and vma.flags & VM_LOCKED:
            fail(errno.EBUSY)
        if flags & MS_SYNC and vma.flags & VM_SHARED and vma.file is not None:
            first = vma.page_at(start, mm.page_shift)
            vma.file.inode.write_back(first, first + ((at - start) >> mm.page_shift))
    if hole or at < end:
        fail(errno.ENOMEM)
