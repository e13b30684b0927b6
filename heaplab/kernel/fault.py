"""Page faults: what an access finds missing is made, copied, or refused.

    no VMA, or it forbids the access                  SIGSEGV
    a page beyond the end of the file                 SIGBUS
    nothing mapped      private   read                the zero frame, or the file's frame; read-only
                                  write               a new frame: zeroed, or a copy of the file's
                        shared                        the file's frame
    mapped, read-only   private   write, alone        it becomes writable: reuse
                                  write, others too   the whole page is copied
                        shared    write               it becomes writable, and the file's page dirty

The MMU makes zeroed frames and copies for the writes that follow in the same VMA by itself, as long as
`VmaMap` leaves the window open.

Source: Linux, arch/x86/mm/fault.c (do_user_addr_fault), mm/memory.c (handle_mm_fault, do_wp_page).
"""

import errno
from signal import SIGBUS, SIGSEGV
from typing import Final

from heaplab.abi import BUS_ADRERR, SEGV_ACCERR, SEGV_MAPERR, SI_KERNEL
from heaplab.kernel.mm import Mm
from heaplab.kernel.oom import out_of_memory
from heaplab.kernel.stack import grow_stack
from heaplab.kernel.system import fail
from heaplab.kernel.task import Task
from heaplab.kernel.vma import VM_ACCESS, VM_GROWSDOWN, VM_WRITE, Vma
from heaplab.machine import FrameKind, Pte

#: the CPU's error code
PROTECTION: Final = 1  # an entry forbids the access; else there is none
WRITE: Final = 2

_ANON: Final = FrameKind.ANON
_EXCLUSIVE: Final = int(Pte.EXCLUSIVE)
_WRITE: Final = int(Pte.WRITE)
_DIRTIED: Final = int(Pte.WRITE | Pte.DIRTY | Pte.ACCESSED)


#: the signal that an access deserves, with its si_code
Refusal = tuple[int, int]
_NOTHING_MAPPED: Final = (int(SIGSEGV), SEGV_MAPERR)
DENIED: Final = (int(SIGSEGV), SEGV_ACCERR)
_NO_ADDRESS: Final = (int(SIGSEGV), SI_KERNEL)
_BEYOND_FILE: Final = (int(SIGBUS), BUS_ADRERR)


def mend(task: Task, va: int, error_code: int) -> Refusal | None:
    """Make an access possible and return None, or return the signal that it deserves (rules 3 and 11).

    Raises: OutOfMemory, ProcessLookupError.
    """
    mm = task.mm
    if mm is None:
        fail(errno.ESRCH)
    reads, attempt = mm.system.disk_reads, 0
    while True:
        vma = mm.vmas.last
        if vma is None or not vma.start <= va < vma.end:
            vma = _find_vma(task, mm, va)
            if vma is None:
                return _NOTHING_MAPPED if mm.is_canonical(va) else _NO_ADDRESS
        if error_code & WRITE:
            if not vma.flags & VM_WRITE:
                return DENIED
        elif error_code & PROTECTION or not vma.flags & VM_ACCESS:
            return DENIED
        if error_code & PROTECTION:
            made = _write_protected(mm, vma, va)
        elif vma.file is not None:
            pgoff = vma.page_at(va, mm.page_shift)
            write = bool(error_code & WRITE)
            if not write:
                _fault_around(mm, vma, va)
            elif vma.private:
                mm.prepare_anon_vma(vma)  # for the copy, before it is known whether there is a page
            if pgoff >= vma.file.inode.page_count:
                mm.space.make_upper_tables(va)  # they are there before the file is asked
                return _BEYOND_FILE
            made = _file_page(mm, vma, va, pgoff, write=write)
        elif error_code & WRITE:
            if vma.anon_vma is None:
                mm.prepare_anon_vma(vma)
            made = mm.space.map_zeroed(va, _ANON, vma.written_prot) is not None
            _open_window(mm, vma)
        else:
            made = _map_zero_frame(mm, vma, va)
        if made:
            if mm.system.disk_reads == reads:
                task.minflt += 1
            else:
                task.majflt += 1
            return None
        out_of_memory(task, attempt)
        attempt += 1
        if not mm.space.pte(va):
            error_code &= ~PROTECTION  # what forbade the access may have been reclaimed


def _find_vma(task: Task, mm: Mm, va: int) -> Vma | None:
    """Return the VMA of an address; a stack grows down to it (rule 37)."""
    vma = mm.vmas.first_ending_after(va)
    if vma is None:
        return None
    if va < vma.start and not (vma.flags & VM_GROWSDOWN and grow_stack(mm, task.limits, vma, va)):
        return None
    mm.vmas.last = vma
    return vma


def _map_zero_frame(mm: Mm, vma: Vma, va: int) -> bool:
    """Show zeros for a page that was never written; it costs no memory (rule 2)."""
    return _map_frame(mm, va, mm.system.zero_frame, vma.page_prot)


def _map_frame(mm: Mm, va: int, frame: int, prot: int) -> bool:
    machine = mm.system.machine
    machine.get(frame)
    if mm.space.map(va, frame, prot):
        return True
    machine.put(frame)
    return False


def _write_protected(mm: Mm, vma: Vma, va: int) -> bool:
    """A write to a page that may be written, through an entry that may not: copy-on-write (rules 5 and 9).

    Of a shared mapping it is the first write since the page was read in or written back.
    """
    system, page = mm.system, va & mm.page_mask
    if not mm.space.own_range(page, page + mm.page_size):
        return False
    entry = mm.space.pte(va)
    if entry & _WRITE:
        return True  # only the table was shared
    frame = Pte.frame(entry)
    if vma.file is not None and not vma.private:
        vma.file.inode.mark_dirty(vma.page_at(va, mm.page_shift))
        return mm.space.update(va, set=_DIRTIED)
    mm.prepare_anon_vma(vma)
    if frame == system.zero_frame:
        copy = mm.space.map_zeroed(va, _ANON, vma.written_prot)
    elif entry & _EXCLUSIVE or system.machine.refcount[frame] == 1:
        # nobody else has it any more; a right that is added needs no flush
        return mm.space.update(va, set=vma.written_prot)
    else:
        copy = mm.space.map_copy(va, vma.written_prot)
        if copy is not None and system.on_copy is not None:
            system.on_copy(mm, va, frame)
    if copy is None:
        return False
    if vma.file is None:
        _open_window(mm, vma)
    mm.flush_range(page, page + mm.page_size)
    return True


def _open_window(mm: Mm, vma: Vma) -> None:
    """Let the MMU answer further first writes to the VMA, unless somebody wants to hear of each copy."""
    if mm.system.on_copy is None:
        mm.vmas.open_window(vma)


def _file_page(mm: Mm, vma: Vma, va: int, pgoff: int, *, write: bool) -> bool:
    """Map a page of the VMA's file, or a private copy of it; False when a frame is missing for it."""
    assert vma.file is not None
    inode = vma.file.inode
    if not write and mm.space.pte(va):
        return True  # it was around
    try:
        frame = inode.make_page(pgoff)
    except MemoryError:
        return False
    if write and vma.private:
        # nobody sees the entry in between
        return (
            _map_frame(mm, va, frame, vma.page_prot) and mm.space.map_copy(va, vma.written_prot) is not None
        )
    if write:
        inode.mark_dirty(pgoff)
        return _map_frame(mm, va, frame, vma.page_prot | _DIRTIED)
    return _map_frame(mm, va, frame, vma.page_prot)


def _fault_around(mm: Mm, vma: Vma, va: int) -> None:
    """Map what the file has of the window of pages around `va` (rule 7), within file, VMA and page table.

    Source: Linux, mm/memory.c, do_fault_around.
    """
    assert vma.file is not None
    pages, page_count = vma.file.inode.pages, vma.file.inode.page_count
    window = mm.system.settings.fault_around_pages << mm.page_shift
    table = mm.page_size << mm.system.machine.index_bits
    first = max(va & -window, vma.start)
    end = min(first + window, (va & -table) + table, vma.end)
    entries = mm.space.ptes(first, (end - first) >> mm.page_shift)
    for page in range(first, end, mm.page_size):
        pgoff = vma.page_at(page, mm.page_shift)
        frame = pages.get(pgoff) if pgoff < page_count else None
        if (
            frame is not None
            and not entries[(page - first) >> mm.page_shift]
            and not _map_frame(mm, page, frame, vma.page_prot)
        ):
            return
