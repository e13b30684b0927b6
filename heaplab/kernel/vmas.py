"""The VMAs of one address space in address order, and the counts that hang on them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

from sortedcontainers import SortedList

from heaplab.kernel.holes import Holes
from heaplab.kernel.vma import VM_ACCOUNT, VM_LOCKED, Vma

if TYPE_CHECKING:
    from heaplab.kernel.mm import Mm

#: up to so many VMAs, looking at each costs less than an index of the holes between them
FEW: Final = 64


class VmaMap:
    """VMAs by start address: disjoint, none empty.

    Each change keeps the counts `vm_pages` and `heap_pages` that the C core samples in the space, the pages
    `data` and `locked` that RLIMIT_DATA and RLIMIT_MEMLOCK bound, the pages committed, the files' mappings.
    The holes between them are indexed by size once the VMAs are many.
    `peak` is the most pages there ever were.
    `still_counted` are those of `locked` that no VMA locks any more.
    `last` is the VMA found last, or None: most faults fall where the one before fell.
    The window is for the MMU what `last` is for the kernel: the VMA in which a first write was answered last.
    Writes to its other pages get a zeroed frame where there is no entry, and a copy of a frame that others
    have too, without asking the kernel.  Every change of a VMA closes it.
    Costs: O(log n) each, n VMAs, if not said otherwise.
    """

    __slots__ = (
        "_by_start",
        "_guard_gap",
        "_holes",
        "_mm",
        "_page_shift",
        "_raw",
        "_starts",
        "data",
        "last",
        "locked",
        "peak",
        "still_counted",
    )

    def __init__(self, mm: Mm) -> None:
        # not one SortedDict: every fork makes a map, and a SortedDict takes longer to make than all the rest
        self._starts: SortedList[int] = SortedList()
        self._by_start: dict[int, Vma] = {}
        self._holes: Holes | None = None
        self._mm = mm
        self._guard_gap = mm.layout.guard_gap
        self._raw = mm.space.raw
        self._page_shift = mm.page_shift
        self.data = 0
        self.locked = self.still_counted = 0
        self.peak = 0
        self.last: Vma | None = None

    def __len__(self) -> int:
        return len(self._starts)

    def __iter__(self) -> Iterator[Vma]:
        return map(self._by_start.__getitem__, self._starts)

    # the window

    def open_window(self, vma: Vma) -> None:
        """Let the MMU answer first writes in this VMA: anonymous, writable, with an anon_vma."""
        raw = self._raw
        raw.demand_start, raw.demand_end, raw.demand_flags = vma.start, vma.end, vma.written_prot

    def close_window(self) -> None:
        """Let each fault ask the kernel: the VMA of the window may be another than it was."""
        self._raw.demand_start = self._raw.demand_end = 0

    # changes

    def add(self, vma: Vma) -> None:
        """Put a VMA in; its range must be free."""
        self._index(vma)
        self._note_holes(vma)
        self._count(vma, vma.end - vma.start)
        if vma.file is not None:
            vma.file.get()
            vma.file.inode.mappings[vma] = self._mm

    def remove(self, vma: Vma) -> None:
        """Take a VMA out; its file, if nothing else maps it, is gone."""
        self._unindex(vma)
        if self._holes is not None:
            self._holes.put(vma.start, 0)
            self._note_hole_at(self._holes, self._starts.bisect_left(vma.start))
        self._count(vma, vma.start - vma.end)
        if vma.file is not None:
            del vma.file.inode.mappings[vma]
            vma.file.put()
        self.last = None
        self.close_window()

    def resize(self, vma: Vma, start: int, end: int) -> None:
        """Make a VMA cover [start, end), which is free but for what it covers; pgoff moves with the start."""
        self._count(vma, (end - start) - (vma.end - vma.start))
        if start != vma.start:
            if self._holes is not None:
                self._holes.put(vma.start, 0)
            self._unindex(vma)
            vma.pgoff += (start - vma.start) >> self._page_shift
            vma.start = start
            self._index(vma)
        vma.end = end
        self._note_holes(vma)
        self.last = None
        self.close_window()

    def set_flags(self, vma: Vma, flags: int) -> None:
        """Give a VMA other flags."""
        self._count(vma, vma.start - vma.end)
        vma.set_flags(flags)
        self._count(vma, vma.end - vma.start)
        self.close_window()

    def _index(self, vma: Vma) -> None:
        self._starts.add(vma.start)
        self._by_start[vma.start] = vma

    def _unindex(self, vma: Vma) -> None:
        self._starts.remove(vma.start)
        del self._by_start[vma.start]

    def _count(self, vma: Vma, grown: int) -> None:
        pages, raw = grown >> self._page_shift, self._raw
        raw.vm_pages = total = raw.vm_pages + pages
        self.peak = max(self.peak, total)
        if vma.is_heap:
            raw.heap_pages += pages
        if vma.is_data:
            self.data += pages
        if vma.flags & VM_LOCKED:
            self.locked += pages
        if vma.flags & VM_ACCOUNT:
            self._mm.system.committed += pages

    def unlock_but_count(self, vma: Vma) -> None:
        """Let a VMA be locked no more, but count its pages for good, as Linux does after MREMAP_DONTUNMAP.

        Source: Linux 6.18, mm/mremap.c, dontunmap_complete.
        """
        if vma.flags & VM_LOCKED:
            pages = (vma.end - vma.start) >> self._page_shift
            self.set_flags(vma, vma.flags & ~VM_LOCKED)
            self.locked += pages
            self.still_counted += pages

    def _note_holes(self, vma: Vma) -> None:
        """Note the holes on both sides of a VMA that came or changed."""
        if self._holes is not None:
            index = self._starts.bisect_left(vma.start)
            self._note_hole_at(self._holes, index)
            self._note_hole_at(self._holes, index + 1)

    def _note_hole_at(self, holes: Holes, index: int) -> None:
        """Note the hole below the VMA of that rank, if there is such a VMA."""
        above = self._at_index(index)
        if above is not None:
            below = self._at_index(index - 1)
            floor = below.end if below is not None else 0
            holes.put(above.start, above.start - floor)

    # searches

    def first_ending_after(self, address: int) -> Vma | None:
        """Return the VMA that holds `address`, or else the next one above: Linux's find_vma."""
        index = self._starts.bisect_right(address) - 1
        below = self._at_index(index)
        return below if below is not None and below.end > address else self._at_index(index + 1)

    def _at_index(self, index: int) -> Vma | None:
        return self._by_start[self._starts[index]] if 0 <= index < len(self._starts) else None

    def at(self, address: int) -> Vma | None:
        """Return the VMA that holds `address`."""
        vma = self.first_ending_after(address)
        return vma if vma is not None and vma.start <= address else None

    def starting_at(self, address: int) -> Vma | None:
        """Return the VMA that starts exactly there."""
        return self._by_start.get(address)

    def last_below(self, address: int) -> Vma | None:
        """Return the last VMA that starts below `address`."""
        index = self._starts.bisect_left(address) - 1
        return self._at_index(index)

    def ending_at(self, address: int) -> Vma | None:
        """Return the VMA that ends exactly there."""
        vma = self.last_below(address)
        return vma if vma is not None and vma.end == address else None

    def overlapping(self, start: int, end: int) -> list[Vma]:
        """Return the VMAs that have a page in [start, end).  O(log n + how many)"""
        below = self.last_below(start)
        found = [below] if below is not None and below.end > start and end > start else []
        found.extend(self._by_start[key] for key in self._starts.irange(start, end, (True, False)))
        return found

    def highest_hole(self, length: int, low: int, high: int) -> int | None:
        """Return the highest address of `length` free bytes in [low, high).

        Below a stack the guard gap is not free.  It is noticed only when a hole that would do ends at the
        stack; then nothing above the gap's start is taken any more.
        Source: Linux, mm/vma.c, unmapped_area_topdown.
        """
        while True:
            top = self._top_of_hole(length, high)
            if top - length < low:
                return None
            above = self.first_ending_after(top)
            if above is None or above.lowest(self._guard_gap) >= top:
                return top - length
            high = above.lowest(self._guard_gap)

    def _top_of_hole(self, length: int, high: int) -> int:
        """Return where the highest hole of `length` bytes below `high` ends, guard gap or not; 0: nowhere."""
        below = self.last_below(high)
        if below is None or high - below.end >= length:
            return high
        if len(self) > FEW:
            if self._holes is None:
                self._holes = Holes()
                for index in range(len(self)):
                    self._note_hole_at(self._holes, index)
            return self._holes.highest(length, below.start) or 0
        top = below.start
        for start in self._starts.irange(maximum=top, inclusive=(True, False), reverse=True):
            vma = self._by_start[start]
            if top - vma.end >= length:
                break
            top = start
        return top

    def lowest_hole(self, length: int, low: int, high: int) -> int | None:
        """Return the lowest address of `length` free bytes in [low, high).  O(VMAs below the hole)"""
        bottom = low
        for vma in self.overlapping(low, high):
            if vma.lowest(self._guard_gap) - bottom >= length:
                break
            bottom = max(bottom, vma.end)
        return bottom if bottom + length <= high else None
