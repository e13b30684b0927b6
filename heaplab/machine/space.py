"""Address spaces: four-level page tables that live in frames."""

from collections.abc import Iterator
from enum import IntFlag

import numpy as np
import numpy.typing as npt

from heaplab._core import ffi, lib
from heaplab.machine.machine import FrameKind, Machine


class Pte(IntFlag):
    """The bits of a page-table entry (Intel SDM vol. 3, table 4-20)."""

    PRESENT = 1 << 0
    WRITE = 1 << 1
    USER = 1 << 2
    ACCESSED = 1 << 5
    DIRTY = 1 << 6
    EXCLUSIVE = 1 << 9  # the kernel's: the frame was made for this entry and never shared since
    NO_EXEC = 1 << 63

    @staticmethod
    def frame(entry: int) -> int:
        """The frame number of an entry."""
        return (entry >> 12) & ((1 << 40) - 1)

    @staticmethod
    def frames(entries: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
        """The frame numbers of many entries.

        >>> Pte.frames(np.array([0x5067, 0x8000000000007007], np.uint64)).tolist()
        [5, 7]
        """
        return (entries >> np.uint64(12)) & np.uint64((1 << 40) - 1)


def _whole(count: int) -> int:
    if count < 0:
        raise MemoryError("no frame for a page table")
    return count


class Space:
    """The page tables of one address space, and the tag (asid) of its TLB entries.

    Mechanism only: nothing here flushes the TLB; whoever takes rights away must.
    Raises: MemoryError when the machine has no frame for the root table.

    >>> machine = Machine("64 KiB")
    >>> space = Space(machine)
    >>> frame = space.map_zeroed(0x5000, FrameKind.ANON, Pte.USER | Pte.WRITE)
    >>> Pte.frame(space.pte(0x5000)) == frame, space.rss(FrameKind.ANON), space.tables
    (True, 1, 4)
    >>> space.unmap_range(0, 1 << 47)
    1
    >>> space.delete()
    >>> machine.free_frames
    16
    """

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self.raw = lib.hl_space_new(machine.raw)
        if self.raw == ffi.NULL:
            raise MemoryError("no frame for a root page table")

    def delete(self) -> None:
        """Drop all mappings, tables and TLB entries.  Nothing may use the space afterwards."""
        lib.hl_space_delete(self.raw)
        self.raw = ffi.NULL

    @property
    def asid(self) -> int:
        """The tag of this space's TLB entries."""
        return int(self.raw.asid)

    @property
    def root(self) -> int:
        """The frame of the root table: what CR3 holds."""
        return int(self.raw.root)

    @property
    def secret(self) -> int:
        """The random bytes that the kernel hands the program (AT_RANDOM), 64 bits."""
        return int(self.raw.secret)

    @secret.setter
    def secret(self, secret: int) -> None:
        self.raw.secret = secret

    @property
    def tables(self) -> int:
        """Frames used for tables, the root included."""
        return int(self.raw.tables)

    def rss(self, kind: FrameKind) -> int:
        """Pages mapped whose frame is of this kind."""
        return int(self.raw.rss[kind])

    def pte(self, va: int) -> int:
        """Return the leaf entry of `va`, 0 when there is none."""
        return int(lib.hl_pte(self.raw, va))

    def ptes(self, start: int, count: int) -> npt.NDArray[np.uint64]:
        """Return the leaf entries of `count` pages from `start` on, 0 where there is none."""
        out = np.zeros(count, dtype=np.uint64)
        if count:
            lib.hl_read_ptes(self.raw, start, count, ffi.cast("uint64_t *", out.ctypes.data))
        return out

    def mapped(self, start: int, end: int) -> Iterator[int]:
        """Yield the addresses of the pages of [start, end), whole pages, that have an entry.

        Cost: O(pages found); tables that are not there are passed over.
        """
        va = int(lib.hl_next_mapped(self.raw, start, end))
        while va < end:
            yield va
            va = int(lib.hl_next_mapped(self.raw, va + self.machine.page_size, end))

    def walk(self, va: int) -> list[tuple[int, int]]:
        """Return the walk to `va`, root first: (frame of the table, entry read) for up to four steps."""
        tables, entries = ffi.new("uint64_t[4]"), ffi.new("uint64_t[4]")
        steps = lib.hl_walk(self.raw, va, tables, entries)
        return [(int(tables[i]), int(entries[i])) for i in range(steps)]

    def map(self, va: int, frame: int, flags: int) -> bool:
        """Map `frame` at `va`, taking over one reference; False when no frame is left for a table."""
        return bool(lib.hl_map(self.raw, va, frame, flags) == 0)

    def map_zeroed(self, va: int, kind: FrameKind, flags: int) -> int | None:
        """Map a new zeroed frame at `va`; the frame, or None when there is none."""
        frame: int = lib.hl_map_zeroed(self.raw, va, kind, flags)
        return None if frame == lib.HL_NO_FRAME else frame

    def map_copy(self, va: int, flags: int) -> int | None:
        """Replace what is mapped at `va` by a private copy; the new frame, or None when there is none."""
        frame: int = lib.hl_map_copy(self.raw, va, flags)
        return None if frame == lib.HL_NO_FRAME else frame

    def update(self, va: int, *, clear: int = 0, set: int = 0) -> bool:
        """Change bits of the entry of `va`; False when there is none."""
        return bool(lib.hl_pte_update(self.raw, va, clear, set))

    def make_upper_tables(self, va: int) -> bool:
        """Make the tables above the leaf table of `va`; False when there was no frame for one."""
        return int(lib.hl_make_upper_tables(self.raw, va)) == 0

    def own_range(self, start: int, end: int) -> bool:
        """Make the leaf tables over [start, end) this space's own; False when no frame is left for one.

        Whatever changes entries does it by itself; done before, the change cannot fail for it.
        """
        return bool(lib.hl_own_range(self.raw, start, end) == 0)

    def unmap_range(self, start: int, end: int) -> int:
        """Drop every mapping in [start, end); return how many there were.

        Raises: MemoryError when a shared table keeps a part of its entries and no frame is left to copy it.
        """
        return _whole(lib.hl_unmap_range(self.raw, start, end))

    def protect_range(self, start: int, end: int, *, having: int = 0, clear: int = 0, set: int = 0) -> int:
        """Change bits of every entry in [start, end) that has all bits of `having`; return how many.

        Raises: MemoryError when a shared table has to be copied and no frame is left for it.
        """
        return _whole(lib.hl_protect_range(self.raw, start, end, having, clear, set))

    def fork_range(self, child: "Space", start: int, end: int, *, cow: bool) -> int | None:
        """Copy the entries of [start, end) to the child; None when a table could not be had.

        With `cow` both sides lose the right to write, and exclusiveness.  Cost: about 5 ns a page.
        """
        count = int(lib.hl_fork_range(self.raw, child.raw, start, end, cow))
        return None if count < 0 else count

    def fork_copies(self, child: "Space", start: int, end: int) -> int | None:
        """Give the child copies of the pages of [start, end) at once; None when a frame could not be had.

        Cost: about 0.4 us a page.
        """
        count = int(lib.hl_fork_copies(self.raw, child.raw, start, end))
        return None if count < 0 else count

    def fork_tables(self, child: "Space", start: int, end: int) -> int | None:
        """Let the child use the leaf tables of [start, end) too; None when a table could not be had.

        Tables that hold entries of other ranges as well are copied.  Both sides lose the right to write
        through the shared ones.  Cost: about 10 ns a table.
        """
        count = int(lib.hl_fork_tables(self.raw, child.raw, start, end))
        return None if count < 0 else count

    def move_range(self, start: int, length: int, new_start: int) -> int | None:
        """Move the entries of [start, start + length); None when a table could not be had."""
        count = int(lib.hl_move_range(self.raw, start, length, new_start))
        return None if count < 0 else count

    def free_tables(self, start: int, end: int, floor: int, ceiling: int) -> None:
        """Free the tables over [start, end) that serve only addresses in [floor, ceiling)."""
        lib.hl_free_tables(self.raw, start, end, floor, ceiling)

    @property
    def cached(self) -> int:
        """TLB entries of this space."""
        return int(self.raw.cached)

    def tlb_entries(self) -> int:
        """Count the TLB entries of this space: `cached`, not taken on trust.  O(TLB)"""
        return int(lib.hl_tlb_entries(self.raw))

    def flush_page(self, va: int) -> None:
        """Drop the TLB entry of one page."""
        lib.hl_flush_page(self.raw, va)

    def flush(self) -> None:
        """Drop all TLB entries of this space."""
        lib.hl_flush_space(self.raw)
