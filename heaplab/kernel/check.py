"""The kernel's invariants, as equations over everything it keeps.

pids in use          =  those of the tasks
refcount of a frame  =  entries that point to it + the file that holds it (+ 1 for the zero frame)
mapcount of a frame  =  entries that point to it; of a table, entries present in it
                        (entries of a table that several spaces share count once; above it none may write)
frames of a kind     =  those that the walk finds
users of a file      =  VMAs and descriptors; of an inode, open files and its name
committed            =  pages of accounted VMAs, and of shared memory
rss, tables          =  what the space's tables hold
vm_pages, heap_pages, data, locked  =  sums over the VMAs
dirty                pages in the cache; of a file on disk only dirty ones may be written through an entry
news of a process    its children that have something to tell, in the order of its children
process groups       the processes by their pgid
the window           what the kernel itself would do with a first write there
VMAs                 disjoint, within the user's half; every entry lies in one, and grants no more
TLB                  nothing that the page tables contradict; as many entries of a space as it counts
"""

from collections import Counter
from collections.abc import Iterable

import numpy as np

from heaplab.kernel.file import File
from heaplab.kernel.inode import DiskInode, Inode
from heaplab.kernel.mm import Mm
from heaplab.kernel.pipe import Pipe
from heaplab.kernel.system import System
from heaplab.kernel.task import Group
from heaplab.kernel.vma import VM_ACCESS, VM_ACCOUNT, VM_LOCKED, VM_WRITE, Vma
from heaplab.machine import FrameKind, Pte

#: as plain numbers: an operation on an enumeration takes ten times as long, and there are many entries
_PRESENT, _WRITE, _USER, _EXCLUSIVE = map(int, (Pte.PRESENT, Pte.WRITE, Pte.USER, Pte.EXCLUSIVE))


def check(system: System) -> None:
    """Raise AssertionError with a sentence when an invariant does not hold."""
    machine = system.machine
    references: Counter[int] = Counter({system.zero_frame: 1})
    mappings: Counter[int] = Counter()
    kinds: Counter[int] = Counter({FrameKind.ZERO: 1})
    files: Counter[File] = Counter()

    _check_families(system)
    spaces = {task.mm: None for task in system.living() if task.mm is not None}
    for mm in spaces:
        assert mm.users == sum(task.mm is mm for task in system.living()), "users of an mm are not its tasks"
        _check_vmas(mm, files)
        cached, entries = mm.space.cached, mm.space.tlb_entries()
        assert cached == entries, f"a space counts {cached} TLB entries, and has {entries}"
        found = _check_tables(mm, references, mappings, kinds)
        for va, entry in found:
            _check_entry(mm, va, entry)
        rss = Counter(machine.kind[[Pte.frame(entry) for _, entry in found]].tolist())
        for kind in (FrameKind.ZERO, FrameKind.ANON, FrameKind.FILE):
            counted = mm.space.rss(kind)
            assert counted == rss[kind], f"{counted} {kind.name} pages in rss, {rss[kind]} mapped"
    _check_files(system, files, spaces)
    inodes = _check_inodes(system, files, spaces)
    for inode in inodes:
        references.update(inode.pages.values())
    _check_commitment(system, inodes, spaces)

    assert system.pids.in_use == set(system.tasks), "the pids in use are not those of the tasks"
    for frame, kind in zip(references, machine.kind[list(references)].tolist(), strict=True):
        assert kind != FrameKind.FREE, f"frame {frame} is used, and free"
        if kind in (FrameKind.ANON, FrameKind.FILE):
            kinds[kind] += 1
    for kind in (FrameKind.TABLE, FrameKind.ZERO, FrameKind.ANON, FrameKind.FILE):
        assert machine.used(kind) == kinds[kind], (
            f"{machine.used(kind)} {kind.name} frames, {kinds[kind]} found"
        )
    assert machine.free_frames == machine.frame_count - sum(kinds.values()), "frames are lost"
    used = np.flatnonzero(machine.kind)
    counts = used.tolist(), machine.refcount[used].tolist(), machine.mapcount[used].tolist()
    for frame, refcount, mapcount in zip(*counts, strict=True):
        assert refcount == references[frame], (
            f"frame {frame} has {refcount} references, {references[frame]} found"
        )
        assert mapcount == mappings[frame], (
            f"frame {frame} has mapcount {mapcount}, {mappings[frame]} entries found"
        )
    assert machine.stale_tlb_entries() == 0, f"{machine.stale_tlb_entries()} TLB entries are stale"


def _check_families(system: System) -> None:
    process_groups: dict[int, set[Group]] = {}
    for group in system.groups():
        process_groups.setdefault(group.pgid, set()).add(group)
        children = [leader.group for leader in group.children.values()]
        assert all(child.parent is group for child in children), f"a child of {group.tgid} has another parent"
        places = [child.place for child in children]
        assert places == sorted(places), f"the children of {group.tgid} are not in the order of their places"
        news = [(child.place, child) for child in children if child.job_event or not child.living]
        assert group.news == news, f"the news of {group.tgid} are not what its children have to tell"
    found = {pgid: set(members) for pgid, members in system.process_groups.items()}
    assert found == process_groups, "the process groups are not those of the processes"


def _check_files(system: System, files: Counter[File], spaces: Iterable[Mm]) -> None:
    """Count the descriptors in, too: then every user of an open file is known."""
    tables = Counter(id(task.files) for task in system.living())
    for table in {id(task.files): task.files for task in system.living()}.values():
        assert table.users == tables[id(table)], "users of a table of descriptors are not its tasks"
        files.update(table.files())
    for file, users in files.items():
        assert file.users == users, f"{file.users} users of an open file, {users} VMAs and descriptors found"


def _check_inodes(system: System, files: Counter[File], spaces: Iterable[Mm]) -> list[Inode]:
    """Return the files that there are: open, or with a name."""
    users: Counter[Inode] = Counter(file.inode for file in files)
    users.update(system.files)
    mappings: dict[Inode, dict[Vma, Mm]] = {inode: {} for inode in users}
    for mm in spaces:
        for vma in mm.vmas:
            if vma.file is not None:
                mappings[vma.file.inode][vma] = mm
    for inode, count in users.items():
        # a write that failed may have made the page at the end
        name, last = inode.name, inode.size >> system.machine.page_shift
        assert inode.users == count, f"{inode.users} users of {name}, {count} found"
        assert inode.mappings == mappings[inode], f"the mappings of {name} are not the VMAs that map it"
        assert max(inode.pages, default=0) <= last, f"{name} has pages beyond its end"
        if isinstance(inode, Pipe):
            ends = Counter(file.readable for file in files if file.inode is inode)
            assert (inode.readers, inode.writers) == (ends[True], ends[False]), (
                f"the ends of {name} are not those open"
            )
        if isinstance(inode, DiskInode):
            assert inode.dirty <= set(inode.pages), f"{name} has a dirty page that is not in memory"
    reclaimable = {(inode, pgoff) for inode in users if isinstance(inode, DiskInode) for pgoff in inode.pages}
    assert set(system.reclaimable) == reclaimable, "reclaimable pages are not those of files on disk"
    return list(users)


def _check_commitment(system: System, inodes: list[Inode], spaces: Iterable[Mm]) -> None:
    promised = sum(
        (vma.end - vma.start) >> mm.page_shift for mm in spaces for vma in mm.vmas if vma.flags & VM_ACCOUNT
    )
    for inode in inodes:
        if not isinstance(inode, DiskInode):
            promised += inode.accounted or len(inode.pages)
    assert system.committed == promised, f"{system.committed} pages committed, {promised} found"


def _check_vmas(mm: Mm, files: Counter[File]) -> None:
    end, pages, heap_pages, data, locked = 0, 0, 0, 0, 0
    for vma in mm.vmas:
        assert end <= vma.start < vma.end <= mm.layout.task_size, f"VMA at {vma.start:#x} is out of order"
        assert not (vma.start | vma.end) & ~mm.page_mask, f"VMA at {vma.start:#x} is not made of pages"
        assert mm.vmas.starting_at(vma.start) is vma, f"VMA at {vma.start:#x} is not found under its start"
        end = vma.end
        pages += (vma.end - vma.start) >> mm.page_shift
        heap_pages += (vma.end - vma.start) >> mm.page_shift if vma.is_heap else 0
        data += (vma.end - vma.start) >> mm.page_shift if vma.is_data else 0
        locked += (vma.end - vma.start) >> mm.page_shift if vma.flags & VM_LOCKED else 0
        if vma.file is not None:
            files[vma.file] += 1
    assert (mm.vmas.data, mm.vmas.locked - mm.vmas.still_counted) == (data, locked), (
        "pages of data or locked are not those of the VMAs"
    )
    raw = mm.space.raw
    assert raw.vm_pages == pages, f"vm_pages is {raw.vm_pages}, the VMAs have {pages}"
    assert raw.heap_pages == heap_pages, f"heap_pages is {raw.heap_pages}, the VMAs have {heap_pages}"
    window = int(raw.demand_start), int(raw.demand_end)
    if window[0] != window[1]:
        opened = mm.vmas.starting_at(window[0])
        assert opened is not None, f"the window at {window[0]:#x} is open, and no VMA is there"
        assert (opened.end, opened.written_prot) == (window[1], int(raw.demand_flags)), (
            f"the window at {window[0]:#x} is not as the VMA there"
        )
        assert opened.file is None, f"the window at {window[0]:#x} is open over a file"
        assert opened.flags & VM_WRITE, f"the window at {window[0]:#x} is open, and its VMA cannot be written"
        assert opened.anon_vma is not None, f"the window at {window[0]:#x} is open, its VMA without anon_vma"
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
            first_visit = references[table] == 1
            kinds[FrameKind.TABLE] += first_visit
            assert machine.kind[table] == FrameKind.TABLE, f"frame {table} is used as a table, and is none"
            present = np.flatnonzero(tables[table] & np.uint64(_PRESENT))
            entries = tables[table][present].tolist()
            span = machine.page_size << (level * machine.index_bits)
            below += [(entry, base + i * span) for entry, i in zip(entries, present.tolist(), strict=True)]
            if first_visit:
                mappings[table] += len(entries)
            if first_visit and level == 0:
                frames = [Pte.frame(entry) for entry in entries]
                references.update(frames)
                mappings.update(frames)
        if level == 0:
            break
        for entry, base in below:
            assert machine.refcount[Pte.frame(entry)] == 1 or not entry & _WRITE, (
                f"the table at {base:#x} is shared, and may be written through"
            )
        level_tables = [(Pte.frame(entry), base) for entry, base in below]
    assert mm.space.tables == found, f"the space counts {mm.space.tables} tables, {found} found"
    return [(va, entry) for entry, va in below]


def _check_entry(mm: Mm, va: int, entry: int) -> None:
    machine, frame = mm.system.machine, Pte.frame(entry)
    vma: Vma | None = mm.vmas.at(va)
    assert vma is not None, f"an entry at {va:#x} lies in no VMA"
    if entry & _WRITE:
        assert vma.flags & VM_WRITE, f"the entry at {va:#x} may be written, its VMA not"
        assert vma.private <= bool(entry & _EXCLUSIVE), f"the entry at {va:#x} may be written but is shared"
    assert bool(entry & _USER) == bool(vma.flags & VM_ACCESS), f"the entry at {va:#x} is the user's or not"
    if entry & _EXCLUSIVE:
        assert machine.refcount[frame] == 1, f"the entry at {va:#x} says it is alone, and is not"
        assert vma.anon_vma is not None, f"a private page at {va:#x} in a VMA without anon_vma"
    if machine.kind[frame] == FrameKind.FILE:
        assert vma.file is not None, f"the entry at {va:#x} shows a file that its VMA does not map"
        inode, pgoff = vma.file.inode, vma.page_at(va, mm.page_shift)
        assert inode.pages.get(pgoff) == frame, f"the entry at {va:#x} is not the file's page {pgoff}"
        if isinstance(inode, DiskInode) and entry & _WRITE:
            assert pgoff in inode.dirty, f"the entry at {va:#x} may be written, and its page is not dirty"
    else:
        assert vma.private, f"the entry at {va:#x} of a shared mapping shows a frame that is not the file's"
        assert vma.file is None or vma.anon_vma is not None, f"a private page at {va:#x} without anon_vma"
