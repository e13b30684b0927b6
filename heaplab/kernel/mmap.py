"""brk, mmap and munmap: ranges taken and given back.

Source: Linux, mm/mmap.c, mm/vma.c, arch/x86/kernel/sys_x86_64.c.
"""

import errno

from heaplab.abi import (
    MAP_32BIT,
    MAP_ANONYMOUS,
    MAP_FIXED,
    MAP_FIXED_NOREPLACE,
    MAP_GROWSDOWN,
    MAP_HUGETLB,
    MAP_LOCKED,
    MAP_NORESERVE,
    MAP_PRIVATE,
    MAP_SHARED,
    MAP_TYPE,
    PROT_EXEC,
    PROT_READ,
    PROT_WRITE,
)
from heaplab.kernel.mm import Mm
from heaplab.kernel.shmem import ShmemFile
from heaplab.kernel.system import fail
from heaplab.kernel.vma import (
    VM_ACCOUNT,
    VM_GROWSDOWN,
    VM_NORESERVE,
    VM_READ,
    VM_SHARED,
    VM_WRITE,
    Vma,
    mergeable,
)

#: the flags of heap and stack
VM_DATA = VM_READ | VM_WRITE | VM_ACCOUNT


def charge(mm: Mm, length: int) -> None:
    """Refuse the obviously excessive, with overcommit_memory 0: more at once than the machine has (rule 40).

    Raises: OSError ENOMEM.  Source: Linux, mm/util.c, __vm_enough_memory.
    """
    system = mm.system
    if system.settings.overcommit_memory == 0 and length >> mm.page_shift > system.machine.frame_count:
        fail(errno.ENOMEM)


# ---- brk


def brk(mm: Mm, wanted: int) -> int:
    """Move the break to `wanted`; return where it is then: where it was, if it cannot (rules 32 to 36)."""
    if wanted < mm.start_brk:
        return mm.brk
    old_end, new_end = mm.align(mm.brk), mm.align(wanted)
    if new_end > old_end:
        if not _grow_heap(mm, old_end, new_end):
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


def _grow_heap(mm: Mm, start: int, end: int) -> bool:
    """Add [start, end) to the heap; False when something is in the way or the kernel refuses."""
    above = mm.vmas.first_ending_after(start)
    if end > mm.layout.task_size:
        return False
    # one page stays free below the next mapping (rule 34), and a stack's gap
    if above is not None and end + mm.page_size > above.lowest(mm.layout.guard_gap):
        return False
    if len(mm.vmas) >= mm.system.settings.max_map_count:
        return False
    try:
        charge(mm, end - start)
    except OSError:
        return False
    grown = Vma(start, end, VM_DATA, start >> mm.page_shift)
    below = mm.vmas.ending_at(start)
    if below is not None and mergeable(below, grown, mm.page_shift):
        mm.vmas.resize(below, below.start, end)
    else:
        mm.vmas.add(grown)
    return True


# ---- mmap


def mmap(mm: Mm, addr: int, length: int, prot: int, flags: int) -> int:
    """Map `length` bytes of anonymous memory; return where.

    addr: a hint, or with MAP_FIXED the place.  Raises: OSError by rules 22, 23 and 40.
    """
    if not flags & MAP_ANONYMOUS:
        fail(errno.EBADF)  # there are no files yet, so no descriptor is good
    if flags & MAP_HUGETLB or not length:
        fail(errno.EINVAL)  # no huge pages are configured
    if flags & MAP_FIXED_NOREPLACE:
        flags |= MAP_FIXED
    length = (length + mm.page_size - 1) & mm.page_mask
    if length > mm.layout.task_size or len(mm.vmas) > mm.system.settings.max_map_count:
        fail(errno.ENOMEM)
    addr = _place(mm, addr, length, flags)
    end = addr + length
    in_the_way = mm.vmas.overlapping(addr, end)
    if flags & MAP_FIXED_NOREPLACE and in_the_way:
        fail(errno.EEXIST)
    if flags & MAP_LOCKED:
        fail(errno.EPERM)  # as where RLIMIT_MEMLOCK is 0
    vma = _new_vma(mm, addr, end, prot, flags)
    if vma.flags & VM_ACCOUNT:
        charge(mm, length)
    if in_the_way:
        unmap(mm, addr, end)
    if mm.merge(vma) is None:
        mm.vmas.add(vma)
    return addr


def _new_vma(mm: Mm, start: int, end: int, prot: int, flags: int) -> Vma:
    """Return the VMA that mmap's arguments describe."""
    vm_flags = prot & (PROT_READ | PROT_WRITE | PROT_EXEC)
    if flags & MAP_NORESERVE:
        vm_flags |= VM_NORESERVE
    if flags & MAP_GROWSDOWN:
        vm_flags |= VM_GROWSDOWN
    if flags & MAP_TYPE == MAP_PRIVATE:
        if vm_flags & (VM_WRITE | VM_NORESERVE) == VM_WRITE:
            vm_flags |= VM_ACCOUNT
        return Vma(start, end, vm_flags, start >> mm.page_shift)
    if flags & MAP_TYPE != MAP_SHARED or vm_flags & VM_GROWSDOWN:
        fail(errno.EINVAL)
    if not vm_flags & VM_NORESERVE:
        charge(mm, end - start)  # its pages are the file's, so its VMA does not carry VM_ACCOUNT
    file = ShmemFile(mm.system.machine, mm.system.new_inode())
    return Vma(start, end, vm_flags | VM_SHARED, 0, file)


def _place(mm: Mm, addr: int, length: int, flags: int) -> int:
    """Return where a mapping goes: MAP_FIXED's place, a free hint's, or the highest hole (rule 22)."""
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
    found = mm.vmas.highest_hole(length, layout.min_addr, layout.mmap_base, layout.guard_gap)
    if found is None:
        found = mm.vmas.lowest_hole(length, layout.legacy_base, layout.task_size, layout.guard_gap)
    if found is None:
        fail(errno.ENOMEM)
    return found


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
    inside = mm.vmas.overlapping(start, end)
    if not inside:
        return
    first = inside[0]
    if first.start < start and first.end > end and len(mm.vmas) >= mm.system.settings.max_map_count:
        fail(errno.ENOMEM)
    if first.start < start:
        inside[0] = mm.split(first, start)
    if inside[-1].end > end:
        mm.split(inside[-1], end)
    mm.zap(start, end)
    for vma in inside:
        mm.vmas.remove(vma)
    mm.free_tables(start, end)
