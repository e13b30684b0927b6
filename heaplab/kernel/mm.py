"""The address space of a process: its VMAs, its page tables, and the flushing of the TLB.

Source: Linux, include/linux/mm_types.h (struct mm_struct), mm/vma.c, arch/x86/mm/tlb.c.
"""

from __future__ import annotations

import errno
from typing import Final

from heaplab.kernel.layout import Layout
from heaplab.kernel.system import System, fail
from heaplab.kernel.vma import AnonVma, Vma, anon_vmas_agree, continues, mergeable
from heaplab.kernel.vmas import VmaMap
from heaplab.machine import REGISTER, FrameKind, Pte, Space

_WRITABLE: Final = int(Pte.WRITE | Pte.DIRTY)

#: more pages than this are flushed by flushing the whole space (tlb_single_page_flush_ceiling)
FLUSH_CEILING: Final = 33


class Mm:
    """One address space.  Raises MemoryError when the machine has no frame for its root table.

    fixed at birth
        system, layout, page_size (bytes), page_shift, page_mask
        space           the page tables; its counts rss, tables, vm_pages, heap_pages are this mm's
    for as long as somebody runs in it
        users           tasks; the last one's leaving frees everything
        vmas
        start_brk, brk  bytes: the heap lies in [start_brk, brk)
        start_stack     an address in the first program's stack
    """

    __slots__ = (
        "brk",
        "layout",
        "page_mask",
        "page_shift",
        "page_size",
        "space",
        "start_brk",
        "start_stack",
        "system",
        "users",
        "vmas",
    )

    def __init__(self, system: System, layout: Layout) -> None:
        self.system = system
        self.layout = layout
        self.space = Space(system.machine)
        self.space.secret = system.secrets.getrandbits(64)
        self.page_size = system.machine.page_size
        self.page_shift = system.machine.page_shift
        self.page_mask = REGISTER & ~(self.page_size - 1)  # lengths wrap as a register does
        self.users = 1
        self.vmas = VmaMap(self)
        self.start_brk = layout.start_brk
        self.set_brk(layout.start_brk)
        self.start_stack = layout.stack_top - 16

    def set_brk(self, brk: int) -> None:
        """Note where the break is, for the kernel and for the C core's sbrk."""
        self.brk = brk
        self.space.raw.brk = brk

    def align(self, length: int) -> int:
        """Round a length up to whole pages."""
        return (length + self.page_size - 1) & self.page_mask

    def is_canonical(self, va: int) -> bool:
        """Whether an address exists: half of them are the user's, from 0; half the kernel's, at the top."""
        high = va >> (self.system.machine.va_bits - 1)
        return high == 0 or high == (1 << (65 - self.system.machine.va_bits)) - 1

    @property
    def rss(self) -> int:
        """Pages in memory that count as this mm's: all but those that show the zero frame."""
        return self.space.rss(FrameKind.ANON) + self.space.rss(FrameKind.FILE)

    @property
    def counted_tables(self) -> int:
        """Page tables as Linux counts them: the root is not among them."""
        return self.space.tables - 1

    def put(self) -> None:
        """One task less runs here; the last takes everything along: VMAs, pages, tables."""
        self.users -= 1
        if self.users == 0:
            for vma in list(self.vmas):
                self.vmas.remove(vma)
            self.space.delete()

    # the TLB

    def flush_range(self, start: int, end: int) -> None:
        """Make the MMU forget [start, end): owed whenever an entry was taken away, moved, or lost a right."""
        if (end - start) >> self.page_shift > FLUSH_CEILING:
            self.space.flush()
        else:
            for page in range(start, end, self.page_size):
                self.space.flush_page(page)

    def flush_all(self) -> None:
        """Make the MMU forget the whole space."""
        self.space.flush()

    # entries of ranges

    def zap(self, start: int, end: int) -> None:
        """Drop the pages of [start, end).  Raises: OSError ENOMEM when a shared table had to be copied."""
        try:
            dropped = self.space.unmap_range(start, end)
        except MemoryError:
            fail(errno.ENOMEM)
        if dropped:
            self.flush_range(start, end)

    def clean(self, va: int) -> None:
        """Note in the entry of a page that it was written back: the next write faults."""
        if self.space.update(va, clear=_WRITABLE):
            self.flush_range(va, va + self.page_size)

    def free_tables(self, start: int, end: int) -> None:
        """Free the tables that served [start, end) alone; no VMA is there any more."""
        below, above = self.vmas.last_below(start), self.vmas.first_ending_after(end)
        floor = below.end if below is not None else 0
        ceiling = above.start if above is not None else 1 << self.system.machine.va_bits
        self.space.free_tables(start, end, floor, ceiling)

    # VMAs

    def split(self, vma: Vma, address: int) -> Vma:
        """Cut a VMA in two at `address`, which lies within; return the upper part."""
        upper = vma.piece(address, vma.end, self.page_shift)
        self.vmas.resize(vma, vma.start, address)
        self.vmas.add(upper)
        return upper

    def merge(self, new: Vma, middle: Vma | None = None) -> Vma | None:
        """Let a neighbour take in the range of `new`, which is not in the map; None when none may.

        middle: the VMA in the map whose part or whole becomes `new`; without it the range is free.
        Returns: the VMA that has the range now.
        Source: Linux, mm/vma.c, vma_merge_new_range and vma_merge_existing_range.
        """
        vmas, shift = self.vmas, self.page_shift
        left = vmas.ending_at(new.start) if middle is None or middle.start == new.start else None
        right = vmas.starting_at(new.end) if middle is None or middle.end == new.end else None
        if left is not None and not mergeable(left, new, shift):
            left = None
        if right is not None and not mergeable(new, right, shift):
            right = None
        if left is not None and right is not None and not anon_vmas_agree(left, right):
            right = None
        if left is None and right is None:
            return None
        if middle is not None:
            self._cut(middle, new)
        if left is not None:
            end = new.end
            left.adopt(new)
            if right is not None:
                end = right.end
                left.adopt(right)
                # the file, which `left` has too, does not go
                vmas.remove(right)
            vmas.resize(left, left.start, end)
            return left
        assert right is not None
        right.adopt(new)
        vmas.resize(right, new.start, right.end)
        return right

    def modify_flags(self, vma: Vma, start: int, end: int, flags: int) -> Vma:
        """Give [start, end), within one VMA, other flags: merge and split as that asks for.

        Returns: the VMA that has the range now.  Raises: OSError ENOMEM: one VMA too many.
        Source: Linux, mm/vma.c, vma_modify.
        """
        if flags == vma.flags:
            return vma
        part = vma.piece(start, end, self.page_shift)
        part.set_flags(flags)
        merged = self.merge(part, vma)
        if merged is not None:
            return merged
        if vma.start < start:
            self._room_for_one_more()
            vma = self.split(vma, start)
        if vma.end > end:
            self._room_for_one_more()
            self.split(vma, end)
        self.vmas.set_flags(vma, flags)
        return vma

    def _room_for_one_more(self) -> None:
        if len(self.vmas) >= self.system.settings.max_map_count:
            fail(errno.ENOMEM)

    def prepare_anon_vma(self, vma: Vma) -> None:
        """Give a VMA that gets its first private page an anon_vma: a like neighbour's, or its own.

        Sharing it from the start lets the two become one VMA when their protection becomes the same.
        Source: Linux, mm/vma.c, find_mergeable_anon_vma.
        """
        if vma.anon_vma is not None:
            return
        above, below = self.vmas.starting_at(vma.end), self.vmas.ending_at(vma.start)
        if above is not None and _lends(above) and continues(vma, above, self.page_shift):
            vma.anon_vma = above.anon_vma
        elif below is not None and _lends(below) and continues(below, vma, self.page_shift):
            vma.anon_vma = below.anon_vma
        else:
            vma.anon_vma = AnonVma()

    def _cut(self, middle: Vma, part: Vma) -> None:
        """Take the range of `part`, one end of `middle` or all of it, out of `middle`."""
        if part.start > middle.start:
            self.vmas.resize(middle, middle.start, part.start)
        elif part.end < middle.end:
            self.vmas.resize(middle, part.end, middle.end)
        else:
            self.vmas.remove(middle)


def _lends(vma: Vma) -> bool:
    """Whether a neighbour may use the VMA's anon_vma: it has one, and no fork lies behind it."""
    return vma.anon_vma is not None and not vma.inherited
