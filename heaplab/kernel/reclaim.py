"""Reclaim: memory that can be had again, given up before a process has to go.

    pages that MADV_FREE gave up, and that were not written since
    pages of files on disk, the least recently used first; dirty ones are written back on the way

Mapped pages go from all address spaces first.  There is no swap: private pages and shared memory stay.

Source: Linux, mm/vmscan.c (shrink_folio_list), mm/rmap.c (try_to_unmap).
"""

from typing import Final

import numpy as np

from heaplab.kernel.inode import DiskInode
from heaplab.kernel.mm import Mm
from heaplab.kernel.system import System
from heaplab.kernel.vma import VM_LOCKED, Vma
from heaplab.machine import FrameKind, Pte

BATCH: Final = 32  # frames to free at once (SWAP_CLUSTER_MAX)
_ACCESSED: Final = int(Pte.ACCESSED)


def reclaim(system: System) -> bool:
    """Free some frames that no process would miss; whether there were any.  O(pages of files in memory)"""
    if system.lazily_freed and _take_lazily_freed(system):
        return True
    return bool(_shrink_cache(system, spare_referenced=True) or _shrink_cache(system, spare_referenced=False))


def _shrink_cache(system: System, *, spare_referenced: bool) -> int:
    """Give up to BATCH pages of files up, oldest first; return how many.

    Those that were accessed since the last time get a second chance, at the end of the list.
    """
    freed = 0
    for inode, pgoff in list(system.reclaimable):
        if freed == BATCH:
            break
        if spare_referenced and _take_references(inode, pgoff):
            system.reclaimable.move_to_end((inode, pgoff))
        elif _evict(inode, pgoff):
            freed += 1
    return freed


def _mapped(inode: DiskInode, pgoff: int) -> list[tuple[Vma, Mm, int]]:
    """Return where a page is mapped: VMA, address space, address.  Private copies are not that page."""
    found = []
    for vma, mm in inode.mappings.items():
        va = vma.address_of(pgoff, mm.page_shift)
        if vma.start <= va < vma.end:
            entry = mm.space.pte(va)
            if entry and Pte.frame(entry) == inode.pages[pgoff]:
                found.append((vma, mm, va))
    return found


def _take_references(inode: DiskInode, pgoff: int) -> bool:
    """Clear the accessed bits of a page's entries; whether there were any."""
    referenced = False
    for _, mm, va in _mapped(inode, pgoff):
        if mm.space.pte(va) & _ACCESSED and mm.space.update(va, clear=_ACCESSED):
            mm.flush_range(va, va + mm.page_size)  # else the MMU would not set it again
            referenced = True
    return referenced


def _evict(inode: DiskInode, pgoff: int) -> bool:
    """Give a page of a file up; False when it has to stay."""
    mapped = _mapped(inode, pgoff)
    if any(vma.flags & VM_LOCKED for vma, _, _ in mapped):
        return False
    if not all(mm.space.own_range(va, va + mm.page_size) for _, mm, va in mapped):
        return False
    inode.write_back(pgoff, pgoff + 1)
    for _, mm, va in mapped:
        mm.zap(va, va + mm.page_size)
    inode.drop_page(pgoff)
    return True


def _take_lazily_freed(system: System) -> int:
    """Free the private pages that are clean, which only MADV_FREE makes them; return how many."""
    machine, freed = system.machine, 0
    for mm in {task.mm: None for task in system.living() if task.mm is not None}:
        for vma in mm.vmas:
            if vma.file is not None or vma.anon_vma is None or vma.flags & VM_LOCKED:
                continue
            entries = mm.space.ptes(vma.start, (vma.end - vma.start) >> mm.page_shift)
            for index in np.flatnonzero((entries != 0) & (entries & np.uint64(Pte.DIRTY) == 0)).tolist():
                va = vma.start + (index << mm.page_shift)
                frame = Pte.frame(int(entries[index]))
                if machine.kind[frame] != FrameKind.ANON or not mm.space.own_range(va, va + mm.page_size):
                    continue
                if machine.mapcount[frame] == 1:
                    mm.zap(va, va + mm.page_size)
                    freed += 1
    system.lazily_freed = False
    return freed
