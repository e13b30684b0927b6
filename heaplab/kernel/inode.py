"""Inodes: what a file holds, and the page cache that keeps it in frames.

    page number -> frame        one reference of the cache's own, one of every entry that maps the frame

Two kinds.  The pages of shared memory (memfd, shared anonymous mappings) live in the cache alone, made zeroed
when first touched.  Those of a file on disk are copies: read in when touched, written back when dirty, and
given up when memory is short.

Source: Linux, mm/filemap.c, mm/shmem.c, mm/truncate.c, mm/memory.c (unmap_mapping_range).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from heaplab.kernel.system import System
from heaplab.machine import FrameFlag, FrameKind

if TYPE_CHECKING:
    from heaplab.kernel.mm import Mm
    from heaplab.kernel.vma import Vma

MAX_BYTES: Final = (1 << 63) - 1  # no file is larger
MAX_DISK_BYTES: Final = 1 << 30  # and none on disk: it is a byte string of the laboratory's


class Inode:
    """A file of shared memory; the base of those on disk.

    number      as maps shows it
    name        as maps shows it
    size        bytes; accesses to pages that begin beyond are SIGBUS (rule 11)
    pages       the page cache: page number -> frame
    mappings    the VMAs that map it, with their address spaces: what must forget a page that goes
    users       open files, and a name in the file system; at 0 the pages are given back
    accounted   pages counted against overcommit from the start (shared anonymous memory); the others of its
                kind are counted one by one as they are made
    """

    device: str = "00:01"
    #: shared mappings let the first write to each page fault, so that the kernel hears what gets dirty
    writenotify = False
    #: bytes; s_maxbytes of its file system
    max_bytes = MAX_BYTES
    #: it has offsets, and can be mapped
    seekable = True
    #: its file system may hold programs (Linux: path_noexec)
    executable = True

    def __init__(self, system: System, name: str, size: int = 0, accounted: int = 0) -> None:
        self.system = system
        self.name = name
        self.number = system.new_inode()
        self.size = size
        self.pages: dict[int, int] = {}
        self.mappings: dict[Vma, Mm] = {}
        self.users = 0
        self.accounted = accounted
        system.committed += accounted

    # life

    def opened(self, flags: int) -> None:
        """One more open file, with these flags."""
        self.get()

    def closed(self, flags: int) -> None:
        """One open file less."""
        self.put()

    def get(self) -> None:
        """One more user."""
        self.users += 1

    def put(self) -> None:
        """One user less; after the last the pages are gone."""
        self.users -= 1
        if self.users == 0:
            self.drop_pages(0)
            self.system.committed -= self.accounted

    # pages

    @property
    def page_count(self) -> int:
        """Pages that begin within the file: those that may be accessed."""
        return -(-self.size >> self.system.machine.page_shift)

    def make_page(self, pgoff: int) -> int:
        """Return the frame of a page, made now if need be.  Raises: MemoryError."""
        frame = self.pages.get(pgoff)
        if frame is None:
            frame = self.system.machine.alloc(FrameKind.FILE)
            if frame is None:
                raise MemoryError("no frame for a page of a file")
            self.pages[pgoff] = frame
            self._added(pgoff, frame)
        return frame

    def _added(self, pgoff: int, frame: int) -> None:
        """Fill a page that has just been made; it is zeroed."""
        if not self.accounted:
            self.system.committed += 1

    def _dropped(self, pgoff: int) -> None:
        """Forget what is kept about a page that has just been given up."""
        if not self.accounted:
            self.system.committed -= 1

    def drop_page(self, pgoff: int) -> None:
        """Give one page up; nothing maps it any more."""
        self.system.machine.put(self.pages.pop(pgoff))
        self._dropped(pgoff)

    def drop_pages(self, first: int) -> None:
        """Give up the pages from number `first` on; nothing maps them any more."""
        for pgoff in [pgoff for pgoff in self.pages if pgoff >= first]:
            self.drop_page(pgoff)

    def mark_dirty(self, pgoff: int) -> None:
        """Note that a page was written."""
        self.system.machine.flags[self.pages[pgoff]] |= FrameFlag.DIRTY

    def write_back(self, first: int, end: int) -> None:
        """Bring the dirty pages of [first, end) to disk."""

    def unmap(self, first: int, end: int) -> None:
        """Take the entries of pages [first, end) out of every address space, private copies too (rule 12)."""
        for vma, mm in self.mappings.items():
            start = max(vma.start, vma.address_of(first, mm.page_shift))
            stop = min(vma.end, vma.address_of(end, mm.page_shift))
            if start < stop:
                mm.zap(start, stop)

    # contents

    def read(self, offset: int, count: int) -> bytes:
        """Return up to `count` bytes from `offset` on, fewer at the end.  Raises: MemoryError."""
        end = min(offset + count, self.size)
        pieces = []
        while offset < end:
            pgoff, within = divmod(offset, self.system.machine.page_size)
            piece = min(self.system.machine.page_size - within, end - offset)
            frame = self._page_to_read(pgoff)
            if frame is None:
                pieces.append(bytes(piece))
            else:
                pieces.append(self.system.machine.ram[frame, within : within + piece].tobytes())
            offset += piece
        return b"".join(pieces)

    def contents(self) -> bytes:
        """Return what a read of the whole file gives, without making or reading in a page."""
        return self.read(0, self.size)

    def _page_to_read(self, pgoff: int) -> int | None:
        """Return the frame of a page; None for one that was never written, and reads zero without a frame."""
        return self.pages.get(pgoff)

    def look_at_page(self, pgoff: int) -> int | bytes:
        """Return the frame of a page, or its bytes as they would be in one; nothing is made or read in."""
        return self.pages.get(pgoff, self.system.zero_frame)

    def write(self, offset: int, data: bytes) -> None:
        """Write `data` from `offset` on; the file grows to hold it.

        Raises: MemoryError, after which it may be done again.
        """
        if offset > self.size:
            self.grow(offset)
        done = 0
        while done < len(data):
            pgoff, within = divmod(offset + done, self.system.machine.page_size)
            piece = data[done : done + self.system.machine.page_size - within]
            frame = self.make_page(pgoff)
            self.system.machine.ram[frame, within : within + len(piece)] = memoryview(piece)
            self.mark_dirty(pgoff)
            done += len(piece)
            self.size = max(self.size, offset + done)

    def begin_write(self, offset: int) -> None:
        """Leave what a write leaves that finds its data unreadable: the page, and a file that reaches it.

        Source: Linux 6.18, mm/filemap.c (generic_perform_write), mm/shmem.c (shmem_write_end).
        Raises: MemoryError.
        """
        pgoff = offset >> self.system.machine.page_shift
        self.make_page(pgoff)
        self.mark_dirty(pgoff)
        self.size = max(self.size, offset)

    def fill(self, data: bytes) -> None:
        """Give an empty file, of which nothing is in memory, its content; on the disk, if it has one."""
        self.write(0, data)

    def truncate(self, size: int) -> None:
        """Cut the file to `size` bytes, or let it grow with zeros.

        Pages past the new end go, from all address spaces first; what is left of the last one reads zero, and
        so it does when the size stays.
        """
        if size <= self.size:
            end = -(-size >> self.system.machine.page_shift)
            self.unmap(end, MAX_BYTES)
            self.drop_pages(end)
            self.size = size
            self._zero_tail()
        else:
            self.grow(size)

    def grow(self, size: int) -> None:
        """Let the file end at `size`, which is not less than before.

        What a program stored through a mapping beyond the old end, on the last page, is in the file then.
        """
        self.size = size

    def _zero_tail(self) -> None:
        pgoff, within = divmod(self.size, self.system.machine.page_size)
        if within and pgoff in self.pages:
            self.system.machine.ram[self.pages[pgoff], within:] = 0
            self.mark_dirty(pgoff)


class DiskInode(Inode):
    """A file on disk.

    disk    its bytes there
    dirty   pages of the cache that differ from the disk
    """

    device = "08:01"
    writenotify = True
    max_bytes = MAX_DISK_BYTES

    def __init__(self, system: System, name: str, data: bytes = b"") -> None:
        super().__init__(system, name, len(data))
        self.disk = bytearray(data)
        self.dirty: set[int] = set()

    def _added(self, pgoff: int, frame: int) -> None:
        data = self._on_disk(pgoff)
        self.system.machine.ram[frame, : len(data)] = data
        self.system.reclaimable[self, pgoff] = None
        self.system.disk_reads += 1

    def _on_disk(self, pgoff: int) -> bytearray:
        """Return the bytes of a page that are on the disk and within the file."""
        size = self.system.machine.page_size
        return self.disk[pgoff * size : min((pgoff + 1) * size, self.size)]

    def look_at_page(self, pgoff: int) -> int | bytes:
        if pgoff in self.pages:
            return self.pages[pgoff]
        return bytes(self._on_disk(pgoff).ljust(self.system.machine.page_size, b"\0"))

    def _dropped(self, pgoff: int) -> None:
        self.dirty.discard(pgoff)
        del self.system.reclaimable[self, pgoff]

    def _page_to_read(self, pgoff: int) -> int:
        frame = self.make_page(pgoff)
        self.system.reclaimable.move_to_end((self, pgoff))  # just used
        return frame

    def mark_dirty(self, pgoff: int) -> None:
        super().mark_dirty(pgoff)
        self.dirty.add(pgoff)

    def write_back(self, first: int, end: int) -> None:
        """Bring the dirty pages of [first, end) to disk; the next write to each faults, to be heard of."""
        machine = self.system.machine
        pages = range(first, end) if end - first < len(self.dirty) else sorted(self.dirty)
        for pgoff in [pgoff for pgoff in pages if pgoff in self.dirty and first <= pgoff < end]:
            for vma, mm in self.mappings.items():
                va = vma.address_of(pgoff, mm.page_shift)
                if not vma.private and vma.start <= va < vma.end:
                    mm.clean(va)
            start = pgoff * machine.page_size
            if start > len(self.disk):
                self.disk.extend(bytes(start - len(self.disk)))
            data = machine.ram[self.pages[pgoff], : self.size - start].tobytes()
            self.disk[start : start + len(data)] = data
            self.dirty.discard(pgoff)
            machine.flags[self.pages[pgoff]] &= ~FrameFlag.DIRTY

    def begin_write(self, offset: int) -> None:
        """Nothing: what a file system on disk began it also undoes."""

    def fill(self, data: bytes) -> None:
        self.disk[:] = data
        self.size = len(data)

    def contents(self) -> bytes:
        machine = self.system.machine
        data = bytearray(self.disk.ljust(self.size, b"\0"))
        for pgoff in self.dirty:
            start = pgoff * machine.page_size
            page = machine.ram[self.pages[pgoff], : self.size - start].tobytes()
            data[start : start + len(page)] = page
        return bytes(data)

    def grow(self, size: int) -> None:
        """Let the file end at `size`; unlike in shared memory, all that is new reads zero."""
        self._zero_tail()
        self.size = size

    def truncate(self, size: int) -> None:
        super().truncate(size)
        del self.disk[size:]
