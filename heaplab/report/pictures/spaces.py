"""Address spaces as plain data: areas (VMAs), their pages, and the frames these are in."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np

from heaplab.errors import UsageError
from heaplab.kernel import Kernel
from heaplab.kernel.inode import DiskInode
from heaplab.kernel.mm import Mm
from heaplab.kernel.procfs.memory import MappedPages, mappings_of, vma_name
from heaplab.kernel.system import System
from heaplab.kernel.task import Task
from heaplab.kernel.vma import VM_EXEC, VM_MAYSHARE, VM_READ, VM_WRITE, Vma
from heaplab.machine import FrameKind, Pte
from heaplab.process import Process
from heaplab.report.pictures.text import bytes_of, pages_of

ZERO, ANON, FILE = "zero", "data", "file"
_KINDS = {FrameKind.ZERO: ZERO, FrameKind.ANON: ANON, FrameKind.FILE: FILE}


@dataclass(frozen=True)
class Row:
    """A page that has a frame; or a run of pages that is told of in one line.

    address    of the first of them      count    how many there are
    frame      the frame it is in; None for a run
    writable   whether the entry lets the program store
    note       of a run: what it is a run of
    """

    address: int
    count: int
    frame: int | None
    writable: bool
    note: str


@dataclass(frozen=True)
class Area:
    """A VMA: [start, end), rights and name as in maps, or whose stack it is; rows from the lowest up."""

    start: int
    end: int
    rights: str
    name: str
    rows: tuple[Row, ...]

    @property
    def writable(self) -> bool:
        """Whether the program may store there, if need be after a fault."""
        return "w" in self.rights


@dataclass(frozen=True)
class Space:
    """One address space: the processes that run in it, and its areas from the lowest up."""

    owners: tuple[str, ...]
    areas: tuple[Area, ...]

    @property
    def name(self) -> str:
        """Whose it is."""
        return " and ".join(self.owners)

    @property
    def frames(self) -> set[int]:
        """The frames of its pages that are drawn one by one."""
        return {row.frame for area in self.areas for row in area.rows if row.frame is not None}


@dataclass(frozen=True)
class Frame:
    """A frame: what it holds (ZERO, ANON, FILE), and how often all address spaces together map it.

    content    of a file's page: which one
    """

    number: int
    kind: str
    mapped: int
    content: str

    @property
    def lines(self) -> list[str]:
        """What there is to say about it, a line each."""
        what = {ZERO: "the zero frame", ANON: "data", FILE: self.content}[self.kind]
        told = [f"frame {self.number}: {what}"]
        return told if self.mapped == 1 else [*told, f"mapped {self.mapped} times"]


@dataclass(frozen=True)
class AddressSpaces:
    """Address spaces of one machine and the frames they use, by number.  page_size: bytes."""

    page_size: int
    spaces: tuple[Space, ...]
    frames: tuple[Frame, ...]

    def __repr__(self) -> str:
        return f"<{type(self).__name__}: {self.title}>"

    @property
    def title(self) -> str:
        """What is shown, in one line."""
        return f"Address spaces of {', '.join(space.name for space in self.spaces)}"

    def users(self, frame: int) -> list[Space]:
        """Which of the spaces shown have a page in a frame."""
        return [space for space in self.spaces if frame in space.frames]

    def __str__(self) -> str:
        lines = [f"pages of {self.page_size} bytes"]
        for space in self.spaces:
            lines.append(space.name)
            for area in space.areas:
                pages = (area.end - area.start) // self.page_size
                lines.append(f"  {area.start:x}-{area.end:x} {area.rights} {area.name} {pages_of(pages)}")
                lines += [f"    {self._row(area, row)}" for row in area.rows]
        lines += [", ".join(frame.lines) for frame in self.frames]
        return "\n".join(lines) + "\n"

    def _row(self, area: Area, row: Row) -> str:
        if row.frame is None:
            return f"{row.address:x} {row.note}"
        return f"{row.address:x} {entry_rights(area, row)} frame {row.frame}"


def entry_rights(area: Area, row: Row) -> str:
    """Return what the entry of a page allows: rw, or r where a store faults first, or -."""
    if not area.rights.strip("-ps"):
        return "-"
    return "rw" if row.writable else "r"


def look(kernel: Kernel, processes: Sequence[Process], most: int) -> AddressSpaces:
    """Return the spaces as they are now; of each area at most `most` pages one by one.  O(frames + pages)"""
    if not processes:
        raise UsageError("a picture of address spaces needs a process: pass one or more")
    if most < 1:
        raise UsageError(f"{most} pages of an area leave nothing to see: let it be 1 at least")
    return look_at([kernel.task(process.tid) for process in processes], most)


def look_at(tasks: Sequence[Task], most: int) -> AddressSpaces:
    """Return the spaces of tasks of one kernel, one at least, as `look` does."""
    owners: dict[Mm, list[Task]] = {}
    for task in tasks:
        if task.mm is None:
            raise UsageError(f"process {task.tgid} is dead and has no address space any more")
        owners.setdefault(task.mm, []).append(task)
    system = tasks[0].system
    spaces = tuple(_space(system, mm, sharers, most) for mm, sharers in owners.items())
    drawn = sorted(set().union(*(space.frames for space in spaces)))
    mapped, contents = mappings_of(system), _contents(owners)
    frames = tuple(
        Frame(
            frame,
            _KINDS[FrameKind(system.machine.kind[frame])],
            int(mapped[frame]),
            contents.get(frame, ""),
        )
        for frame in drawn
    )
    return AddressSpaces(system.machine.page_size, spaces, frames)


def _space(system: System, mm: Mm, tasks: list[Task], most: int) -> Space:
    stacks = {task.stack: task.pid for task in system.living() if task.mm is mm and task.stack}
    areas = tuple(_area(mm, vma, stacks, most) for vma in mm.vmas)
    return Space(tuple(dict.fromkeys(map(_who, tasks))), areas)


def _who(task: Task) -> str:
    others = len(task.group.living) - 1
    return f"{task.comm}, process {task.tgid}" + (f", {others + 1} tasks" if others else "")


def _contents(spaces: dict[Mm, list[Task]]) -> dict[int, str]:
    """Which page of which file is in a frame, for all frames of the files that are mapped."""
    found = {}
    for inode in {vma.file.inode for mm in spaces for vma in mm.vmas if vma.file is not None}:
        dirty = inode.dirty if isinstance(inode, DiskInode) else set()
        for number, frame in inode.pages.items():
            changed = ", dirty" if number in dirty else ""
            found[frame] = f"{inode.name or 'shared memory'}, page {number}{changed}"
    return found


def _area(mm: Mm, vma: Vma, stacks: dict[int, int], most: int) -> Area:
    """Return a VMA.  stacks: upper end of a thread's stack -> the thread's number."""
    letters = ((VM_READ, "r"), (VM_WRITE, "w"), (VM_EXEC, "x"))
    rights = "".join(letter if vma.flags & flag else "-" for flag, letter in letters)
    rights += "s" if vma.flags & VM_MAYSHARE else "p"
    name = vma_name(mm, vma)
    if not name:
        name = next((f"stack of task {tid}" for top, tid in stacks.items() if vma.start < top <= vma.end), "")
    return Area(vma.start, vma.end, rights, name, tuple(_rows(mm, vma, most)))


def _rows(mm: Mm, vma: Vma, most: int) -> Iterator[Row]:
    """The pages of an area: those with a frame one by one, up to `most` of them; runs in one line each."""
    mapped = MappedPages.of(mm, vma.start, vma.end)
    pages = (vma.end - vma.start) >> mm.page_shift
    last = len(mapped.page) if len(mapped.page) <= most else most - 1
    at = 0
    for page, entry in zip(mapped.page[:last].tolist(), mapped.entry[:last].tolist(), strict=True):
        if page > at:
            yield _run(mm, vma, at, page - at, "without a frame")
        yield Row(vma.start + page * mm.page_size, 1, Pte.frame(entry), bool(entry & Pte.WRITE), "")
        at = page + 1
    if at < pages:
        rest = len(mapped.page) - last
        if rest == 0:
            yield _run(mm, vma, at, pages - at, "without a frame")
        else:
            kinds = [_KINDS[FrameKind(kind)] for kind in np.sort(mapped.kind[last:]).tolist()]
            counts = [f"{len(list(group))} {kind}" for kind, group in groupby(kinds)]
            bare = [f"{pages - at - rest} without"] if pages - at > rest else []
            yield _run(mm, vma, at, pages - at, f"not drawn: {', '.join(counts + bare)}")


def _run(mm: Mm, vma: Vma, page: int, count: int, note: str) -> Row:
    return Row(vma.start + page * mm.page_size, count, None, False, f"{pages_of(count)} {note}")


def gap(below: Area, above: Area) -> str:
    """Return how large the gap between two areas is; empty when they touch."""
    return bytes_of(above.start - below.end) if above.start > below.end else ""
