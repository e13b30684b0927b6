"""madvise: what a program says about its memory, some of it orders.

Source: Linux, mm/madvise.c.
"""

import errno
from collections.abc import Callable
from signal import SIGBUS
from typing import Final

import numpy as np

from heaplab.abi import (
    MADV_DODUMP,
    MADV_DOFORK,
    MADV_DONTDUMP,
    MADV_DONTFORK,
    MADV_DONTNEED,
    MADV_DONTNEED_LOCKED,
    MADV_FREE,
    MADV_KEEPONFORK,
    MADV_NORMAL,
    MADV_POPULATE_READ,
    MADV_POPULATE_WRITE,
    MADV_RANDOM,
    MADV_SEQUENTIAL,
    MADV_WILLNEED,
    MADV_WIPEONFORK,
)
from heaplab.kernel.mm import Mm
from heaplab.kernel.system import System, fail
from heaplab.kernel.task import Task
from heaplab.kernel.uaccess import fault_in
from heaplab.kernel.vma import (
    VM_DONTCOPY,
    VM_DONTDUMP,
    VM_LOCKED,
    VM_RAND_READ,
    VM_READ,
    VM_SEQ_READ,
    VM_WIPEONFORK,
    VM_WRITE,
    Vma,
)
from heaplab.machine import FrameFlag, FrameKind, Pte

#: advice that is kept in the VMA: flags that go, flags that come
_FLAGS: Final = {
    MADV_NORMAL: (VM_RAND_READ | VM_SEQ_READ, 0),
    MADV_RANDOM: (VM_SEQ_READ, VM_RAND_READ),
    MADV_SEQUENTIAL: (VM_RAND_READ, VM_SEQ_READ),
    MADV_DONTFORK: (0, VM_DONTCOPY),
    MADV_DOFORK: (VM_DONTCOPY, 0),
    MADV_DONTDUMP: (0, VM_DONTDUMP),
    MADV_DODUMP: (VM_DONTDUMP, 0),
    MADV_WIPEONFORK: (0, VM_WIPEONFORK),
    MADV_KEEPONFORK: (VM_WIPEONFORK, 0),
}
_DIRTY: Final = FrameFlag.DIRTY
_LAZYFREE: Final = FrameFlag.LAZYFREE
_UNTOUCHED: Final = int(Pte.ACCESSED | Pte.DIRTY)


def madvise(task: Task, addr: int, length: int, advice: int) -> None:
    """Do what `advice` says to [addr, addr + length); over holes, and then ENOMEM (rules 20, 28 to 31).

    Raises: OSError EINVAL, ENOMEM, EFAULT, EAGAIN.
    """
    mm = task.memory
    work = _WORK.get(advice)
    if (work is None and advice not in _FLAGS and advice not in _POPULATE) or addr & ~mm.page_mask:
        fail(errno.EINVAL)
    end = addr + mm.align(length)
    if end >= 1 << 64 or (length and end == addr):
        fail(errno.EINVAL)
    if advice in _POPULATE:
        _populate(task, addr, end, advice)
        return
    at = addr
    hole = False
    for vma in mm.vmas.overlapping(addr, end):
        hole = hole or vma.start > at
        start, at = max(addr, vma.start), min(end, vma.end)
        if work is not None:
            work(mm, vma, start, at, advice)
        else:
            _change_flags(mm, vma, start, at, advice)
    if hole or at < end:
        fail(errno.ENOMEM)


def _change_flags(mm: Mm, vma: Vma, start: int, end: int, advice: int) -> None:
    if advice == MADV_WIPEONFORK and vma.file is not None:
        fail(errno.EINVAL)
    clear, set_ = _FLAGS[advice]
    try:
        mm.modify_flags(vma, start, end, vma.flags & ~clear | set_)
    except OSError:
        fail(errno.EAGAIN)  # one VMA too many


def _drop(mm: Mm, vma: Vma, start: int, end: int, advice: int) -> None:
    """MADV_DONTNEED: private pages read zero, or the file's content, again; shared ones stay the file's."""
    if vma.flags & VM_LOCKED and advice != MADV_DONTNEED_LOCKED:
        fail(errno.EINVAL)
    mm.zap(start, end)


def _free(mm: Mm, vma: Vma, start: int, end: int, _advice: int) -> None:
    """MADV_FREE: private pages may go, unless one who has them writes them again before memory is short."""
    if vma.flags & VM_LOCKED or vma.file is not None:
        fail(errno.EINVAL)
    machine = mm.system.machine
    if not mm.space.own_range(start, end):
        return  # it is only advice
    entries = mm.space.ptes(start, (end - start) >> mm.page_shift)
    locked: set[int] | None = None
    for index in np.flatnonzero(entries).tolist():
        frame = Pte.frame(int(entries[index]))
        shared = machine.mapcount[frame] > 1
        if machine.kind[frame] != FrameKind.ANON or (shared and machine.flags[frame] & _DIRTY):
            continue
        mm.space.update(start + (index << mm.page_shift), clear=_UNTOUCHED)
        machine.flags[frame] &= ~_DIRTY
        if shared and locked is None:
            locked = _locked_frames(mm.system)
        if not shared or frame not in (locked or ()):
            machine.flags[frame] |= _LAZYFREE
            mm.system.lazily_freed = True
    mm.flush_range(start, end)


def _locked_frames(system: System) -> set[int]:
    """Return the frames of private pages that somebody has locked.  O(pages locked)"""
    found: set[int] = set()
    for mm in {task.mm: None for task in system.living() if task.mm is not None and task.mm.vmas.locked}:
        for vma in mm.vmas:
            if vma.flags & VM_LOCKED and vma.file is None:
                entries = mm.space.ptes(vma.start, (vma.end - vma.start) >> mm.page_shift)
                found.update(map(Pte.frame, entries[entries != 0].tolist()))
    return found


def _read_ahead(mm: Mm, vma: Vma, start: int, end: int, _advice: int) -> None:
    """MADV_WILLNEED: bring what the disk has of the range into memory, as long as there is room."""
    if vma.file is None or not vma.writenotify:
        return
    inode = vma.file.inode
    first = vma.page_at(start, mm.page_shift)
    last = min(vma.page_at(end, mm.page_shift), inode.page_count)
    for pgoff in range(first, last):
        if not mm.system.machine.free_frames:
            return
        inode.make_page(pgoff)


def _populate(task: Task, start: int, end: int, advice: int) -> None:
    """MADV_POPULATE_READ and _WRITE: make the pages as accesses would (rule 30)."""
    needed = _POPULATE[advice]
    at = start
    for vma in task.memory.vmas.overlapping(start, end):
        if vma.start > at:
            break
        if not vma.flags & needed:
            fail(errno.EINVAL)
        until = min(end, vma.end)
        refusal = fault_in(task, vma, at, until, write=needed == VM_WRITE)
        if refusal:
            fail(errno.EFAULT if refusal[0] == SIGBUS else errno.EINVAL)
        at = until
    if at < end:
        fail(errno.ENOMEM)


_POPULATE: Final = {MADV_POPULATE_READ: VM_READ, MADV_POPULATE_WRITE: VM_WRITE}
_WORK: Final[dict[int, Callable[[Mm, Vma, int, int, int], None]]] = {
    MADV_DONTNEED: _drop,
    MADV_DONTNEED_LOCKED: _drop,
    MADV_FREE: _free,
    MADV_WILLNEED: _read_ahead,
}
