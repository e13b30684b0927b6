"""Views of an address space: maps, smaps, pagemap.

Source: proc_pid_maps(5), proc_pid_smaps(5), proc_pid_pagemap(5); Linux, fs/proc/task_mmu.c.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from heaplab.kernel.mm import Mm
from heaplab.kernel.procfs.text import kib
from heaplab.kernel.system import System
from heaplab.kernel.task import Task
from heaplab.kernel.vma import VM_EXEC, VM_LOCKED, VM_MAYSHARE, VM_READ, VM_WRITE, Vma
from heaplab.machine import FrameFlag, FrameKind, Pte

_NAME_COLUMN: Final = 73
#: the two letters of smaps for VM_* by bit, as far as VMAs here can have them
_LETTERS: Final = {
    0: "rd",
    1: "wr",
    2: "ex",
    3: "sh",
    4: "mr",
    5: "mw",
    6: "me",
    7: "ms",
    8: "gd",
    13: "lo",
    15: "sr",
    16: "rr",
    17: "dc",
    20: "ac",
    21: "nr",
    25: "wf",
    26: "dd",
}
_NOTHING: Final = kib(0, 0)
#: the lines of smaps that tell of pages, of a VMA that has none; no page merging, huge pages or swap here
_NO_PAGES: Final = dict.fromkeys(
    (
        *("Rss", "Pss", "Pss_Dirty", "Shared_Clean", "Shared_Dirty", "Private_Clean", "Private_Dirty"),
        *("Referenced", "Anonymous", "KSM", "LazyFree"),
    ),
    _NOTHING,
)
#: what pagemap says of a page; below, 55 bits of frame number
PM_MMAP_EXCLUSIVE: Final = 1 << 56
PM_FILE: Final = 1 << 61
PM_PRESENT: Final = 1 << 63

Numbers = npt.NDArray[np.uint64]


@dataclass(frozen=True)
class MappedPages:
    """The pages of a range that have an entry, column by column.

    page      number of the page within the range
    entry     its page-table entry
    frame     the frame it shows
    kind      FrameKind of that
    """

    page: npt.NDArray[np.int64]
    entry: Numbers
    frame: Numbers
    kind: npt.NDArray[np.uint8]

    @staticmethod
    def of(mm: Mm, start: int, end: int) -> "MappedPages":
        """Look at [start, end).  O(pages)"""
        machine = mm.system.machine
        entries = mm.space.ptes(start, (end - start) >> mm.page_shift)
        page = np.flatnonzero(entries & np.uint64(Pte.PRESENT))
        entry = entries[page]
        frame = Pte.frames(entry)
        return MappedPages(page, entry, frame, machine.kind[frame])


def mappings_of(system: System) -> Numbers:
    """For each frame ever used, how many pages of address spaces show it.

    What stands in a shared table counts for each sharer.  O(frames ever used)
    """
    machine = system.machine
    used = slice(machine.touched_frames)
    count = machine.mapcount[used].astype(np.uint64)
    # only leaf tables are ever shared
    for table in np.flatnonzero((machine.kind[used] == FrameKind.TABLE) & (machine.refcount[used] > 1)):
        entries = machine.ram[table].view(np.uint64)
        frames = Pte.frames(entries[entries & np.uint64(Pte.PRESENT) != 0])
        np.add.at(count, frames, np.uint64(machine.refcount[table] - 1))
    return count


# ---- maps


def maps(task: Task) -> str:
    """Return /proc/PID/maps: a line for each VMA; empty for a zombie (rule 43)."""
    if task.mm is None:
        return ""
    return "".join(_maps_line(task.mm, vma) for vma in task.mm.vmas)


def _maps_line(mm: Mm, vma: Vma) -> str:
    flags = vma.flags
    rights = (
        ("r" if flags & VM_READ else "-")
        + ("w" if flags & VM_WRITE else "-")
        + ("x" if flags & VM_EXEC else "-")
        + ("s" if flags & VM_MAYSHARE else "p")
    )
    offset = vma.pgoff << mm.page_shift if vma.file is not None else 0
    device, inode = (vma.file.inode.device, vma.file.inode.number) if vma.file is not None else ("00:00", 0)
    line = f"{vma.start:08x}-{vma.end:08x} {rights} {offset:08x} {device} {inode} "
    name = vma_name(mm, vma).replace("\n", "\\012")
    return f"{line.ljust(_NAME_COLUMN)}{name}\n" if name else f"{line}\n"


def vma_name(mm: Mm, vma: Vma) -> str:
    """Return what the last column of maps says."""
    if vma.file is not None:
        return vma.file.inode.name
    if vma.start < mm.brk and vma.end > mm.start_brk:
        return "[heap]"
    if vma.start <= mm.start_stack < vma.end:
        return "[stack]"
    return ""


# ---- smaps


def smaps(task: Task) -> str:
    """Return /proc/PID/smaps: the lines of maps, each with what is in memory of it.

    Pss is each page divided by how often it is mapped, so that the sum over all processes is what they
    take together.  O(frames + pages)
    """
    if task.mm is None:
        return ""
    count = mappings_of(task.system)
    return "".join(_maps_line(task.mm, vma) + _smaps_fields(task.mm, vma, count) for vma in task.mm.vmas)


def _smaps_fields(mm: Mm, vma: Vma, mappings: Numbers) -> str:
    page = kib(1, mm.page_shift)
    resident = _resident(mm, vma, mappings)
    fields = {
        "Size": kib((vma.end - vma.start) >> mm.page_shift, mm.page_shift),
        "KernelPageSize": page,
        "MMUPageSize": page,
        **resident,
        **dict.fromkeys(("AnonHugePages", "ShmemPmdMapped", "FilePmdMapped"), _NOTHING),
        **dict.fromkeys(("Shared_Hugetlb", "Private_Hugetlb", "Swap", "SwapPss"), _NOTHING),
        "Locked": resident["Pss"] if vma.flags & VM_LOCKED else _NOTHING,
        "THPeligible": f"{0:8d}",
    }
    lines = "".join(f"{name + ':':16}{value}\n" for name, value in fields.items())
    letters = "".join(f"{letters} " for bit, letters in _LETTERS.items() if vma.flags >> bit & 1)
    return f"{lines}VmFlags: {letters}\n"


def _resident(mm: Mm, vma: Vma, mappings: Numbers) -> dict[str, str]:
    """Return the lines of _NO_PAGES with what the VMA has."""
    pages = MappedPages.of(mm, vma.start, vma.end)
    if not len(pages.page):
        return _NO_PAGES
    mappers = mappings[pages.frame]
    counted = pages.kind != FrameKind.ZERO  # the zero frame is nobody's
    shared = counted & (mappers > 1)
    private = counted & ~shared
    flags = mm.system.machine.flags[pages.frame]
    dirty = (pages.entry & np.uint64(Pte.DIRTY) != 0) | (flags & FrameFlag.DIRTY != 0)
    anon = pages.kind == FrameKind.ANON
    share = np.zeros(len(counted), dtype=np.uint64)  # of each page, in 1/4096 bytes
    share[counted] = (np.uint64(mm.page_size) << np.uint64(12)) // mappers[counted]

    def size(which: npt.NDArray[np.bool_]) -> str:
        return kib(int(np.count_nonzero(which)), mm.page_shift)

    def pss(which: npt.NDArray[np.bool_]) -> str:
        return f"{int(share[which].sum()) >> 22:8d} kB"

    return _NO_PAGES | {
        "Rss": size(counted),
        "Pss": pss(counted),
        "Pss_Dirty": pss(counted & dirty),
        "Shared_Clean": size(shared & ~dirty),
        "Shared_Dirty": size(shared & dirty),
        "Private_Clean": size(private & ~dirty),
        "Private_Dirty": size(private & dirty),
        "Referenced": size(counted & (pages.entry & np.uint64(Pte.ACCESSED) != 0)),
        "Anonymous": size(anon),
        "LazyFree": size(anon & ~dirty & (flags & FrameFlag.LAZYFREE != 0)),
    }


# ---- pagemap


def pagemap(task: Task, start: int, end: int) -> bytes:
    """Return the part of /proc/PID/pagemap for [start, end), in bytes: 8 for each page, little-endian.

    Bit 63 present, 61 a page of a file or shared, 56 mapped this once only, 0 to 54 the frame number.
    O(frames + pages)
    """
    if task.mm is None:
        return b""
    return _pagemap(task.mm, start, end, mappings_of(task.system))


def _pagemap(mm: Mm, start: int, end: int, mappings: Numbers) -> bytes:
    out = np.zeros((end - start) >> mm.page_shift, dtype="<u8")
    pages = MappedPages.of(mm, start, end)
    flags = np.where(pages.kind == FrameKind.FILE, PM_FILE, 0)
    flags += np.where((mappings[pages.frame] == 1) & (pages.kind != FrameKind.ZERO), PM_MMAP_EXCLUSIVE, 0)
    out[pages.page] = pages.frame | flags.astype(np.uint64) | np.uint64(PM_PRESENT)
    return out.tobytes()


def pagemap_pieces(task: Task) -> Iterator[tuple[int, bytes]]:
    """Yield what of /proc/PID/pagemap is not zero: offset in bytes, and the bytes, VMA by VMA."""
    if task.mm is not None:
        mappings = mappings_of(task.system)
        for vma in task.mm.vmas:
            yield vma.start // task.mm.page_size * 8, _pagemap(task.mm, vma.start, vma.end, mappings)
