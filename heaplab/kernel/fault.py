"""Page faults: what an access finds missing is made, copied, or refused.

    no VMA, or it forbids the access                  SIGSEGV
    nothing mapped      read                          the zero frame, read-only
                        write                         a new zeroed frame
                        shared                        the file's frame
    mapped, read-only   write, this entry's alone     it becomes writable: reuse
                        write, others have it         the whole page is copied

Source: Linux, arch/x86/mm/fault.c (do_user_addr_fault), mm/memory.c (handle_mm_fault, do_wp_page).
"""

import errno
from typing import Final

from heaplab.abi import SEGV_ACCERR, SEGV_MAPERR, SI_KERNEL
from heaplab.kernel.mm import Mm
from heaplab.kernel.oom import out_of_memory
from heaplab.kernel.signals import segmentation_fault
from heaplab.kernel.stack import grow_stack
from heaplab.kernel.system import fail
from heaplab.kernel.task import Task
from heaplab.kernel.vma import VM_ACCESS, VM_GROWSDOWN, VM_WRITE, AnonVma, Vma, continues
from heaplab.machine import FrameKind, Pte

#: the CPU's error code
PROTECTION: Final = 1  # an entry forbids the access; else there is none
WRITE: Final = 2

_ANON: Final = FrameKind.ANON
_EXCLUSIVE: Final = int(Pte.EXCLUSIVE)


def page_fault(task: Task, va: int, error_code: int) -> int:
    """Make the access that faulted possible and return 0, or raise what becomes of the task.

    Raises: SegmentationFault, OutOfMemory: the task is dead then.  ProcessLookupError: it was before.
    Cost: about 1.5 us for a new page; a copy adds the copying.
    """
    si_code = mend(task, va, error_code)
    if si_code:
        segmentation_fault(task, va, si_code, write=bool(error_code & WRITE))
    return 0


def mend(task: Task, va: int, error_code: int) -> int:
    """Make an access possible; return 0, or the si_code of the SIGSEGV that it deserves (rule 3).

    Raises: OutOfMemory, ProcessLookupError.
    """
    mm = task.mm
    if mm is None:
        fail(errno.ESRCH)
    while True:
        vma = mm.vmas.last
        if vma is None or not vma.start <= va < vma.end:
            vma = _find_vma(mm, va)
            if vma is None:
                return SEGV_MAPERR if mm.is_canonical(va) else SI_KERNEL
        if error_code & WRITE:
            if not vma.flags & VM_WRITE:
                return SEGV_ACCERR
        elif error_code & PROTECTION or not vma.flags & VM_ACCESS:
            return SEGV_ACCERR
        if _make_entry(mm, vma, va, error_code):
            task.minflt += 1
            return 0
        out_of_memory(task)


def _find_vma(mm: Mm, va: int) -> Vma | None:
    """Return the VMA of an address; a stack grows down to it (rule 37)."""
    vma = mm.vmas.first_ending_after(va)
    if vma is None or (va < vma.start and not (vma.flags & VM_GROWSDOWN and grow_stack(mm, vma, va))):
        return None
    mm.vmas.last = vma
    return vma


def _make_entry(mm: Mm, vma: Vma, va: int, error_code: int) -> bool:
    """Make the entry that the access needs; False when a frame is missing for it."""
    if error_code & PROTECTION:
        return _write_protected(mm, vma, va)
    if vma.file is not None:
        return _file_page(mm, vma, va, write=bool(error_code & WRITE))
    if error_code & WRITE:
        if vma.anon_vma is None:
            prepare_anon_vma(mm, vma)
        return mm.space.map_zeroed(va, _ANON, vma.written_prot) is not None
    return _map_zero_frame(mm, vma, va)


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
    """A write to a page that may be written, through an entry that may not: copy-on-write (rule 5)."""
    system = mm.system
    entry = mm.space.pte(va)
    frame = Pte.frame(entry)
    if vma.anon_vma is None:
        prepare_anon_vma(mm, vma)
    if frame == system.zero_frame:
        copy = mm.space.map_zeroed(va, _ANON, vma.written_prot)
    elif entry & _EXCLUSIVE or system.machine.refcount[frame] == 1:
        # nobody else has it any more; a right that is added needs no flush
        return mm.space.update(va, set=vma.written_prot)
    else:
        copy = mm.space.map_copy(va, vma.written_prot)
    if copy is None:
        return False
    page = va & mm.page_mask
    mm.flush_range(page, page + mm.page_size)
    return True


def _file_page(mm: Mm, vma: Vma, va: int, *, write: bool) -> bool:
    """Map a page of the VMA's file; a read maps those around it as well."""
    assert vma.file is not None
    pgoff = vma.pgoff + ((va - vma.start) >> mm.page_shift)
    if not write:
        _fault_around(mm, vma, va)
        if pgoff in vma.file.pages:
            return mm.space.pte(va) != 0
    frame = vma.file.page(pgoff)
    return frame is not None and _map_frame(mm, va, frame, vma.page_prot)


def _fault_around(mm: Mm, vma: Vma, va: int) -> None:
    """Map what the file has of the window of pages around `va` (rule 7), within VMA and page table.

    Source: Linux, mm/memory.c, do_fault_around.
    """
    assert vma.file is not None
    window = mm.system.settings.fault_around_pages << mm.page_shift
    table = mm.page_size << mm.system.machine.index_bits
    first = max(va & -window, vma.start)
    end = min(first + window, (va & -table) + table, vma.end)
    entries = mm.space.ptes(first, (end - first) >> mm.page_shift)
    for page in range(first, end, mm.page_size):
        frame = vma.file.pages.get(vma.pgoff + ((page - vma.start) >> mm.page_shift))
        if (
            frame is not None
            and not entries[(page - first) >> mm.page_shift]
            and not _map_frame(mm, page, frame, vma.page_prot)
        ):
            return


def prepare_anon_vma(mm: Mm, vma: Vma) -> None:
    """Give a VMA that gets its first private page an anon_vma: a like neighbour's, or its own.

    Sharing it from the start lets the two become one VMA when their protection becomes the same.
    Source: Linux, mm/vma.c, find_mergeable_anon_vma.
    """
    above = mm.vmas.starting_at(vma.end)
    below = mm.vmas.ending_at(vma.start)
    if above is not None and above.anon_vma and not above.inherited and continues(vma, above, mm.page_shift):
        vma.anon_vma = above.anon_vma
    elif (
        below is not None and below.anon_vma and not below.inherited and continues(below, vma, mm.page_shift)
    ):
        vma.anon_vma = below.anon_vma
    else:
        vma.anon_vma = AnonVma()
