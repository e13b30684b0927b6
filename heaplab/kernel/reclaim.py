"""Reclaim: memory that can be had again, given up before a process has to go.

    pages that MADV_FREE gave up, and that were not written since
    pages of files on disk, the least recently used first; dirty ones are written back on the way

Mapped pages go from all address spaces first.  There is no swap: private pages and shared memory stay.

Source: Linux, mm/vmscan.c (shrink_folio_list), mm/rmap.c (try_to_unmap).
"""

from collections import defaultdict
from collections.abc import Iterator
from typing import Final

import numpy as np

from heaplab.kernel.inode import DiskInode
from heaplab.kernel.mm import Mm
from heaplab.kernel.system import System
from heaplab.kernel.vma import VM_LOCKED, Vma
from heaplab.machine import FrameFlag, FrameKind, Pte

BATCH: Final = 32  # frames to free at once (SWAP_CLUSTER_MAX)
_ACCESSED: Final = int(Pte.ACCESSED)
_DIRTY: Final = int(Pte.DIRTY)


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
    """Take private pages that MADV_FREE gave up, and nobody wrote since; return how many frames came free.

    A page that is shared is taken from one address space after the other, the oldest first, until one has
    it dirty: what the others had of it is lost all the same.  In a shared table, of which no copy can be made
    now, they stay.
    """
    machine, freed = system.machine, 0
    spaces = list({task.mm: None for task in system.living() if task.mm is not None})
    places: defaultdict[int, list[tuple[Mm, Vma, int, int]]] = defaultdict(list)
    for mm in spaces:
        for vma, va, entry, frame in _private_pages(mm):
            if machine.flags[frame] & FrameFlag.LAZYFREE and mm.space.own_range(va, va + mm.page_size):
                places[frame].append((mm, vma, va, entry))
    for frame, mappings in places.items():
        if len(mappings) < machine.mapcount[frame] or any(vma.flags & VM_LOCKED for _, vma, _, _ in mappings):
            continue
        for mm, _, va, entry in mappings:
            if entry & _DIRTY or machine.flags[frame] & FrameFlag.DIRTY:
                machine.flags[frame] &= ~FrameFlag.LAZYFREE
                break
            freed += int(machine.mapcount[frame] == 1)
            mm.zap(va, va + mm.page_size)
    system.lazily_freed = False
    return freed


def _private_pages(mm: Mm) -> Iterator[tuple[Vma, int, int, int]]:
    """Yield the pages of anonymous memory that are in a frame of their own: VMA, address, entry, frame."""
    for vma in mm.vmas:
        if vma.file is None and vma.anon_vma is not None:
            entries = mm.space.ptes(vma.start, (vma.end - vma.start) >> mm.page_shift)
            for index in np.flatnonzero(entries).tolist():
                entry = int(entries[index])
                if mm.system.machine.kind[Pte.frame(entry)] == FrameKind.ANON:
                    yield vma, vma.start + (index << mm.page_shift), entry, Pte.frame(entry)
