"""The kernel's invariants, as equations over everything it keeps.

refcount of a frame  =  entries that point to it + the file that holds it (+ 1 for the zero frame)
mapcount of a frame  =  entries that point to it; of a table, entries present in it
frames of a kind     =  those that the walk finds
rss, tables          =  what the space's tables hold
vm_pages, heap_pages =  sums over the VMAs
VMAs                 disjoint, within the user's half; every entry lies in one, and grants no more
TLB                  nothing that the page tables contradict
"""

from collections import Counter

import numpy as np

from heaplab.kernel.mm import Mm
from heaplab.kernel.shmem import ShmemFile
from heaplab.kernel.system import System
from heaplab.kernel.vma import VM_ACCESS, VM_WRITE, Vma
from heaplab.machine import FrameKind, Pte


def check(system: System) -> None:
    """Raise AssertionError with a sentence when an invariant does not hold."""
    machine = system.machine
    references: Counter[int] = Counter({system.zero_frame: 1})
    mappings: Counter[int] = Counter()
    kinds: Counter[int] = Counter({FrameKind.ZERO: 1})
    files: Counter[ShmemFile] = Counter()

    spaces = {task.mm: None for task in system.living() if task.mm is not None}
    for mm in spaces:
        assert mm.users == sum(task.mm is mm for task in system.living()), "users of an mm are not its tasks"
        _check_vmas(mm, files)
        rss: Counter[int] = Counter()
        for va, entry in _check_tables(mm, references, mappings, kinds):
            _check_entry(mm, va, entry, references, mappings)
            rss[int(machine.kind[Pte.frame(entry)])] += 1
        for kind in (FrameKind.ZERO, FrameKind.ANON, FrameKind.FILE):
            counted = mm.space.rss(kind)
            assert counted == rss[kind], f"{counted} {kind.name} pages in rss, {rss[kind]} mapped"
    for file, users in files.items():
        assert file.users == users, "users of a file are not its VMAs"
        references.update(file.pages.values())

    for frame in references:
        kind = FrameKind(machine.kind[frame])
        assert kind is not FrameKind.FREE, f"frame {frame} is used, and free"
        if kind in (FrameKind.ANON, FrameKind.FILE):
            kinds[kind] += 1
    for kind in (FrameKind.TABLE, FrameKind.ZERO, FrameKind.ANON, FrameKind.FILE):
        assert machine.used(kind) == kinds[kind], (
            f"{machine.used(kind)} {kind.name} frames, {kinds[kind]} found"
        )
    assert machine.free_frames == machine.frame_count - sum(kinds.values()), "frames are lost"
    used = np.flatnonzero(machine.kind)
    for frame in used.tolist():
        assert machine.refcount[frame] == references[frame], (
            f"frame {frame} has {machine.refcount[frame]} references, {references[frame]} found"
        )
        assert machine.mapcount[frame] == mappings[frame], (
            f"frame {frame} has mapcount {machine.mapcount[frame]}, {mappings[frame]} entries found"
        )
    assert machine.stale_tlb_entries() == 0, f"{machine.stale_tlb_entries()} TLB entries are stale"


def _check_vmas(mm: Mm, files: Counter[ShmemFile]) -> None:
    end, pages, heap_pages = 0, 0, 0
    for vma in mm.vmas:
        assert end <= vma.start < vma.end <= mm.layout.task_size, f"VMA at {vma.start:#x} is out of order"
        assert not (vma.start | vma.end) & ~mm.page_mask, f"VMA at {vma.start:#x} is not made of pages"
        assert mm.vmas.starting_at(vma.start) is vma, f"VMA at {vma.start:#x} is not found under its start"
        end = vma.end
        pages += (vma.end - vma.start) >> mm.page_shift
        heap_pages += (vma.end - vma.start) >> mm.page_shift if vma.is_heap else 0
        if vma.file is not None:
            files[vma.file] += 1
    raw = mm.space.raw
    assert raw.vm_pages == pages, f"vm_pages is {raw.vm_pages}, the VMAs have {pages}"
    assert raw.heap_pages == heap_pages, f"heap_pages is {raw.heap_pages}, the VMAs have {heap_pages}"
    assert raw.brk == mm.brk >= mm.start_brk, "the break that the C core sees is not the mm's"


def _check_tables(
    mm: Mm, references: Counter[int], mappings: Counter[int], kinds: Counter[int]
) -> list[tuple[int, int]]:
    """Count the tables; return the leaf entries that are present, with their addresses."""
    machine = mm.system.machine
    tables = machine.ram.view(np.uint64)
    level_tables = [(mm.space.root, 0)]
    found = 0
    for level in (3, 2, 1, 0):
        below: list[tuple[int, int]] = []
        for table, base in level_tables:
            found += 1
            references[table] += 1
            kinds[FrameKind.TABLE] += 1
            assert machine.kind[table] == FrameKind.TABLE, f"frame {table} is used as a table, and is none"
            present = np.flatnonzero(tables[table] & np.uint64(Pte.PRESENT))
            mappings[table] += len(present)
            span = machine.page_size << (level * machine.index_bits)
            below += [(int(tables[table][i]), base + int(i) * span) for i in present]
        if level == 0:
            break
        level_tables = [(Pte.frame(entry), base) for entry, base in below]
    assert mm.space.tables == found, f"the space counts {mm.space.tables} tables, {found} found"
    return [(va, entry) for entry, va in below]


def _check_entry(mm: Mm, va: int, entry: int, references: Counter[int], mappings: Counter[int]) -> None:
    machine, frame = mm.system.machine, Pte.frame(entry)
    references[frame] += 1
    mappings[frame] += 1
    vma: Vma | None = mm.vmas.at(va)
    assert vma is not None, f"an entry at {va:#x} lies in no VMA"
    if entry & Pte.WRITE:
        assert vma.flags & VM_WRITE, f"the entry at {va:#x} may be written, its VMA not"
        assert vma.private <= bool(entry & Pte.EXCLUSIVE), (
            f"the entry at {va:#x} may be written but is shared"
        )
    assert bool(entry & Pte.USER) == bool(vma.flags & VM_ACCESS), f"the entry at {va:#x} is the user's or not"
    if entry & Pte.EXCLUSIVE:
        assert machine.refcount[frame] == 1, f"the entry at {va:#x} says it is alone, and is not"
        assert vma.anon_vma is not None, f"a private page at {va:#x} in a VMA without anon_vma"
    if vma.file is not None and vma.anon_vma is None:
        pgoff = vma.pgoff + ((va - vma.start) >> mm.page_shift)
        assert vma.file.pages.get(pgoff) == frame, f"the entry at {va:#x} is not the file's page {pgoff}"
