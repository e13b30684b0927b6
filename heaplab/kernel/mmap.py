"""brk, mmap and munmap: ranges taken and given back.

Source: Linux, mm/mmap.c, mm/vma.c, arch/x86/kernel/sys_x86_64.c.
"""

import errno
import os
from typing import Final

from heaplab.abi import (
    MAP_32BIT,
    MAP_ABOVE4G,
    MAP_ANONYMOUS,
    MAP_FIXED,
    MAP_FIXED_NOREPLACE,
    MAP_GROWSDOWN,
    MAP_HUGE_SIZES,
    MAP_HUGETLB,
    MAP_IGNORED,
    MAP_LOCKED,
    MAP_NONBLOCK,
    MAP_NORESERVE,
    MAP_POPULATE,
    MAP_PRIVATE,
    MAP_SHARED,
    MAP_SHARED_VALIDATE,
    MAP_TYPE,
    PROT_EXEC,
    PROT_READ,
    PROT_WRITE,
    Rlimit,
)
from heaplab.kernel.file import File
from heaplab.kernel.inode import Inode
from heaplab.kernel.limits import Limits, charge, may_expand, may_lock
from heaplab.kernel.mm import Mm
from heaplab.kernel.system import fail
from heaplab.kernel.task import Task
from heaplab.kernel.vma import (
    VM_ACCOUNT,
    VM_EXEC,
    VM_GROWSDOWN,
    VM_LOCKED,
    VM_MAYACCESS,
    VM_MAYSHARE,
    VM_MAYWRITE,
    VM_NORESERVE,
    VM_READ,
    VM_SHARED,
    VM_WRITE,
    Vma,
    mergeable,
)

#: the flags of heap and stack
VM_DATA = VM_READ | VM_WRITE | VM_MAYACCESS | VM_ACCOUNT

#: what MAP_SHARED_VALIDATE knows; MAP_SYNC, which is for persistent memory, is refused
_KNOWN_FLAGS: Final = (
    MAP_TYPE
    | MAP_FIXED
    | MAP_ANONYMOUS
    | MAP_32BIT
    | MAP_GROWSDOWN
    | MAP_LOCKED
    | (MAP_NORESERVE | MAP_POPULATE | MAP_NONBLOCK | MAP_IGNORED)
    | (MAP_ABOVE4G | MAP_HUGE_SIZES)
)


# ---- brk


def brk(task: Task, wanted: int) -> int:
    """Move the break to `wanted`; return where it is then: where it was, if it cannot (rules 32 to 36)."""
    mm = task.memory
    if not mm.start_brk <= wanted <= mm.layout.task_size:
        return mm.brk
    if wanted - mm.start_brk > task.limits.soft(Rlimit.DATA):
        return mm.brk
    old_end, new_end = mm.align(mm.brk), mm.align(wanted)
    if new_end > old_end:
        if not _grow_heap(mm, task.limits, old_end, new_end):
            return mm.brk
    elif new_end < old_end:
        held = mm.vmas.first_ending_after(new_end)
        if held is None or held.start >= old_end:
            return mm.brk
        try:
            unmap(mm, new_end, old_end)
        except OSError:
            return mm.brk
    mm.set_brk(wanted)
    return wanted


def _grow_heap(mm: Mm, limits: Limits, start: int, end: int) -> bool:
    """Add [start, end) to the heap; False when something is in the way or the kernel refuses."""
    above = mm.vmas.first_ending_after(start)
    if end > mm.layout.task_size:
        return False
    # one page stays free below the next mapping (rule 34), and a stack's gap
    if above is not None and end + mm.page_size > above.lowest(mm.layout.guard_gap):
        return False
    if len(mm.vmas) >= mm.system.settings.max_map_count:
        return False
    pages = (end - start) >> mm.page_shift
    if not may_expand(mm, limits, VM_DATA, pages):
        return False
    try:
        charge(mm, pages)
    except OSError:
        return False
    grown = Vma(start, end, VM_DATA, start >> mm.page_shift)
    below = mm.vmas.ending_at(start)
    # what ends where the heap begins, like .bss, stays apart
    if below is not None and start > mm.start_brk and mergeable(below, grown, mm.page_shift):
        mm.vmas.resize(below, below.start, end)
    else:
        mm.vmas.add(grown)
    return True


# ---- mmap


def mmap(task: Task, addr: int, length: int, prot: int, flags: int, file: File | None, offset: int) -> int:
    """Map `length` bytes of `file` from `offset` on, or of new memory without one; return where.

    addr: a hint, or with MAP_FIXED the place.  offset: bytes, a multiple of the page size.
    Raises: OSError by rules 22, 23, 39 and 40.
    """
    mm = task.memory
    if flags & MAP_HUGETLB or not length:
        fail(errno.EINVAL)  # no huge pages are configured
    if flags & MAP_FIXED_NOREPLACE:
        flags |= MAP_FIXED
    length = (length + mm.page_size - 1) & mm.page_mask
    if not 0 < length <= mm.layout.task_size or len(mm.vmas) > mm.system.settings.max_map_count:
        fail(errno.ENOMEM)
    if offset + length > 1 << 64:
        fail(errno.EOVERFLOW)
    private = file is None and flags & MAP_TYPE != MAP_SHARED
    addr = place(mm, addr, length, flags, 0 if private else None)
    end = addr + length
    in_the_way = mm.vmas.overlapping(addr, end)
    if flags & MAP_FIXED_NOREPLACE and in_the_way:
        fail(errno.EEXIST)
    vm_flags = _flags_for(mm, prot, flags)
    pages = length >> mm.page_shift
    if vm_flags & VM_LOCKED and not may_lock(mm, task.limits, pages):
        # an ordinary user's process may lock nothing at all where the limit is 0
        fail(errno.EAGAIN if task.limits.soft(Rlimit.MEMLOCK) else errno.EPERM)
    vm_flags = _checked_source(vm_flags, flags, file, offset + length)
    replaced = _cut_out(mm, addr, end)  # and what refuses from here on leaves the cuts
    if not may_expand(mm, task.limits, vm_flags, pages - _pages_of(mm, replaced)):
        fail(errno.ENOMEM)
    if vm_flags & (VM_NORESERVE | VM_SHARED | VM_WRITE) == VM_WRITE:
        charge(mm, pages - _pages_of(mm, [vma for vma in replaced if vma.flags & VM_ACCOUNT]))
        vm_flags |= VM_ACCOUNT
    _drop(mm, replaced, addr, end)
    accounted = pages if file is None and vm_flags & (VM_NORESERVE | VM_SHARED) == VM_SHARED else 0
    charge(mm, accounted)
    if file is not None:
        pgoff = offset >> mm.page_shift
    elif vm_flags & VM_SHARED:
        pgoff = 0
        file = File(Inode(mm.system, "/dev/zero (deleted)", length, accounted), os.O_RDWR)
    else:
        pgoff = addr >> mm.page_shift
    vma = Vma(addr, end, vm_flags, pgoff, file)
    if mm.merge(vma) is None:
        mm.vmas.add(vma)
    return addr


def _pages_of(mm: Mm, vmas: list[Vma]) -> int:
    return sum((vma.end - vma.start) >> mm.page_shift for vma in vmas)


def _flags_for(mm: Mm, prot: int, flags: int) -> int:
    """Return the flags of the VMA that mmap's arguments describe, but for what its source decides."""
    vm_flags = prot & (PROT_READ | PROT_WRITE | PROT_EXEC) | VM_MAYACCESS
    # under overcommit_memory 2 everything is reserved
    if flags & MAP_NORESERVE and mm.system.settings.overcommit_memory != 2:
        vm_flags |= VM_NORESERVE
    if flags & MAP_GROWSDOWN:
        vm_flags |= VM_GROWSDOWN
    if flags & MAP_LOCKED:
        vm_flags |= VM_LOCKED
    return vm_flags


def _checked_source(vm_flags: int, flags: int, file: File | None, end: int) -> int:
    """Refuse what the file, or the lack of one, does not allow; return the VMA's flags."""
    kind = flags & MAP_TYPE
    if file is not None and end > file.inode.max_bytes:
        fail(errno.EOVERFLOW)
    if kind not in (MAP_PRIVATE, MAP_SHARED) and not (kind == MAP_SHARED_VALIDATE and file is not None):
        fail(errno.EINVAL)
    if kind == MAP_SHARED_VALIDATE and flags & ~_KNOWN_FLAGS:
        fail(errno.EOPNOTSUPP)
    if kind != MAP_PRIVATE:
        if file is not None and vm_flags & VM_WRITE and not file.writable:
            fail(errno.EACCES)
        vm_flags |= VM_SHARED | VM_MAYSHARE
        if file is not None and not file.writable:
            vm_flags &= ~(VM_SHARED | VM_MAYWRITE)
    if file is not None and not file.readable:
        fail(errno.EACCES)
    if file is not None and vm_flags & VM_EXEC and not file.inode.executable:
        fail(errno.EPERM)
    if file is not None and not file.inode.seekable:
        fail(errno.ENODEV)
    if vm_flags & VM_GROWSDOWN and (kind != MAP_PRIVATE or file is not None):
        fail(errno.EINVAL)
    return vm_flags


def place(mm: Mm, addr: int, length: int, flags: int, offset: int | None = None) -> int:
    """Return where a mapping goes: MAP_FIXED's place, a free hint's, or the highest hole (rule 22).

    offset: in bytes, of private anonymous memory: whole huge pages are aligned; None: nothing is.
    """
    layout = mm.layout
    if flags & MAP_FIXED:
        if addr > layout.task_size - length:
            fail(errno.ENOMEM)
        if addr & ~mm.page_mask:
            fail(errno.EINVAL)
        if addr < layout.min_addr:
            fail(errno.EPERM)
        return addr
    if flags & MAP_32BIT:
        fail(errno.ENOMEM)  # not modelled: as where the low 2 GiB are full
    addr &= mm.page_mask
    if addr:
        addr = max(addr, layout.min_addr)
        if addr <= layout.task_size - length:
            above = mm.vmas.first_ending_after(addr)
            if above is None or addr + length <= above.lowest(layout.guard_gap):
                return addr
    elif offset is not None and not length % layout.huge_page:
        found = _aligned_hole(mm, length, offset)
        if found is not None:
            return found
    found = _hole(mm, length)
    if found is None:
        fail(errno.ENOMEM)
    return found


def _hole(mm: Mm, length: int) -> int | None:
    layout = mm.layout
    found = mm.vmas.highest_hole(length, layout.min_addr, layout.mmap_base)
    if found is None:
        found = mm.vmas.lowest_hole(length, layout.legacy_base, layout.task_size)
    return found


def _aligned_hole(mm: Mm, length: int, offset: int) -> int | None:
    """Return a place where huge pages could be used, were there any: address and offset agree about them.

    In a hole with one huge page to spare the highest such place is taken.  None: there is none.
    Source: Linux, mm/huge_memory.c, __thp_get_unmapped_area.
    """
    huge = mm.layout.huge_page
    if offset + length - -(-offset // huge) * huge < huge:
        return None
    found = _hole(mm, length + huge)
    if found is None:
        return None
    shift = (offset - found) % huge
    return found + (shift or huge)


# ---- munmap


def munmap(mm: Mm, addr: int, length: int) -> None:
    """Unmap [addr, addr + length), rounded up to pages; a hole is no error (rule 19).

    Raises: OSError EINVAL; ENOMEM when the split it needs would be one VMA too many.
    """
    task_size = mm.layout.task_size
    if addr & ~mm.page_mask or addr > task_size or length > task_size - addr or not length:
        fail(errno.EINVAL)
    unmap(mm, addr, addr + mm.align(length))


def unmap(mm: Mm, start: int, end: int) -> None:
    """Take [start, end) out of the address space: VMAs, pages and the tables that only they used."""
    _drop(mm, _cut_out(mm, start, end), start, end)


def _cut_out(mm: Mm, start: int, end: int) -> list[Vma]:
    """Split what crosses the ends of [start, end); return the VMAs within.

    Raises: OSError ENOMEM when that would be one VMA too many.
    """
    inside = mm.vmas.overlapping(start, end)
    if not inside:
        return []
    first = inside[0]
    if first.start < start and first.end > end and len(mm.vmas) >= mm.system.settings.max_map_count:
        fail(errno.ENOMEM)
    if first.start < start:
        inside[0] = mm.split(first, start)
    if inside[-1].end > end:
        mm.split(inside[-1], end)
    return inside


def _drop(mm: Mm, inside: list[Vma], start: int, end: int) -> None:
    """Take the VMAs of [start, end) out, with their pages and the tables that only they used."""
    if not inside:
        return
    mm.zap(start, end)
    for vma in inside:
        mm.vmas.remove(vma)
    mm.free_tables(start, end)
