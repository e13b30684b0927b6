"""mremap: a mapping made longer, shorter, or moved with its pages.

Source: Linux, mm/mremap.c.
"""

import errno
from dataclasses import dataclass

from heaplab.abi import MAP_FIXED, MREMAP_DONTUNMAP, MREMAP_FIXED, MREMAP_MAYMOVE
from heaplab.kernel.limits import charge, may_expand, may_lock
from heaplab.kernel.mm import Mm
from heaplab.kernel.mmap import munmap, place, unmap
from heaplab.kernel.oom import out_of_memory
from heaplab.kernel.system import fail
from heaplab.kernel.task import Task
from heaplab.kernel.uaccess import populate
from heaplab.kernel.vma import VM_ACCOUNT, VM_LOCKED, VM_MAYSHARE, VM_SHARED, Vma

#: a move makes up to this many VMAs on its way
_SPARE_VMAS = 3


@dataclass
class _Remap:
    """What is asked for, in bytes, lengths rounded up to pages."""

    task: Task
    addr: int
    old_len: int
    new_len: int
    flags: int
    new_addr: int

    @property
    def mm(self) -> Mm:
        return self.task.memory

    @property
    def moves(self) -> bool:
        """Whether it moves in any case."""
        return bool(self.flags & (MREMAP_FIXED | MREMAP_DONTUNMAP))

    @property
    def grown(self) -> int:
        return self.new_len - self.old_len


def mremap(task: Task, addr: int, old_len: int, new_len: int, flags: int, new_addr: int) -> int:
    """Change the length of the mapping at `addr`, or its place; return where it is (rules 24 to 27).

    Raises: OSError EINVAL, EFAULT, ENOMEM, EAGAIN.  Cost of a move: O(pages that are mapped).
    """
    align = task.memory.align
    asked = _Remap(task, addr, align(old_len), align(new_len), flags, new_addr)
    _check_arguments(asked)
    if flags & MREMAP_FIXED and asked.old_len == asked.new_len:
        return _move_all(asked)
    vma = _checked_vma(asked)
    if asked.moves:
        return _move_to(asked)
    if asked.grown < 0:
        munmap(asked.mm, addr + asked.new_len, -asked.grown)
    return addr if asked.grown <= 0 else _grow(asked, vma)


def _check_arguments(asked: _Remap) -> None:
    mm, task_size = asked.mm, asked.mm.layout.task_size
    if asked.flags & ~(MREMAP_MAYMOVE | MREMAP_FIXED | MREMAP_DONTUNMAP) or asked.addr & ~mm.page_mask:
        fail(errno.EINVAL)
    if not 0 < asked.new_len <= task_size:
        fail(errno.EINVAL)
    if not asked.moves:
        return
    if asked.new_addr > task_size - asked.new_len or asked.new_addr & ~mm.page_mask:
        fail(errno.EINVAL)
    if not asked.flags & MREMAP_MAYMOVE or (asked.flags & MREMAP_DONTUNMAP and asked.grown):
        fail(errno.EINVAL)
    if asked.addr + asked.old_len > asked.new_addr and asked.new_addr + asked.new_len > asked.addr:
        fail(errno.EINVAL)
    if len(mm.vmas) + 2 >= mm.system.settings.max_map_count - _SPARE_VMAS:
        fail(errno.ENOMEM)


def _checked_vma(asked: _Remap) -> Vma:
    """Return the VMA, once it is certain that it, and the limits, allow what is asked."""
    mm, limits = asked.mm, asked.task.limits
    vma = mm.vmas.at(asked.addr)
    if vma is None:
        fail(errno.EFAULT)
    if asked.grown <= 0 and not asked.moves:
        return vma
    if not asked.old_len and not vma.flags & (VM_SHARED | VM_MAYSHARE):
        fail(errno.EINVAL)  # only a shared mapping can be had twice
    if min(asked.old_len, asked.new_len) > vma.end - asked.addr:
        fail(errno.EFAULT)
    if asked.grown > 0:
        pages = asked.grown >> mm.page_shift
        if vma.flags & VM_LOCKED and not may_lock(mm, limits, pages):
            fail(errno.EAGAIN)
        if not may_expand(mm, limits, vma.flags, pages):
            fail(errno.ENOMEM)
    return vma


def _grow(asked: _Remap, vma: Vma) -> int:
    """Make a mapping longer, where it is if there is room."""
    mm, end = asked.mm, vma.end + asked.grown
    fits = end <= mm.layout.task_size and not mm.vmas.overlapping(vma.end, end)
    if asked.old_len == vma.end - asked.addr and fits:
        if vma.flags & VM_ACCOUNT:
            charge(mm, asked.grown >> mm.page_shift)
        added = Vma(vma.end, end, vma.flags, vma.page_at(vma.end, mm.page_shift), vma.file)
        added.anon_vma = vma.anon_vma  # but not as inherited: what is new holds no page of a parent's
        merged = mm.merge(added)
        assert merged is not None, "a VMA does not continue itself"
        at = asked.addr
    elif asked.flags & MREMAP_MAYMOVE:
        at = _move(asked, vma)
    else:
        fail(errno.ENOMEM)
    if vma.flags & VM_LOCKED:
        populate(asked.task, at + asked.old_len, at + asked.new_len)
    return at


def _move_all(asked: _Remap) -> int:
    """Move all VMAs of the range to a fixed place, with the gaps between them; none may come first."""
    start, end = asked.addr, asked.addr + asked.old_len
    inside = asked.mm.vmas.overlapping(start, end)
    if not inside or inside[0].start > start:
        fail(errno.EFAULT)
    for low, high in [(max(start, vma.start), min(end, vma.end)) for vma in inside]:
        part = _Remap(asked.task, low, high - low, high - low, asked.flags, asked.new_addr + (low - start))
        _checked_vma(part)
        _move_to(part)
    return asked.new_addr


def _move_to(asked: _Remap) -> int:
    """Move to a place that was asked for; what is there goes first."""
    mm = asked.mm
    if asked.flags & MREMAP_FIXED:
        unmap(mm, asked.new_addr, asked.new_addr + asked.new_len)
    if asked.grown < 0:
        munmap(mm, asked.addr + asked.new_len, -asked.grown)
        asked.old_len = asked.new_len
    vma = mm.vmas.at(asked.addr)
    if vma is None:
        fail(errno.EFAULT)
    if asked.flags & MREMAP_DONTUNMAP:
        pages = asked.new_len >> mm.page_shift
        if not may_expand(mm, asked.task.limits, vma.flags, pages):
            fail(errno.ENOMEM)
    at = _move(asked, vma)
    if asked.grown > 0 and vma.flags & VM_LOCKED:
        populate(asked.task, at + asked.old_len, at + asked.new_len)
    return at


def _move(asked: _Remap, vma: Vma) -> int:
    """Give the range, within one VMA, a new place, and its pages with it: they keep their frames."""
    mm, start, end = asked.mm, asked.addr, asked.addr + asked.old_len
    at = place(
        mm,
        asked.new_addr if asked.moves else 0,
        asked.new_len,
        MAP_FIXED if asked.flags & MREMAP_FIXED else 0,
        vma.page_at(start, mm.page_shift) << mm.page_shift if vma.file is None else None,
    )
    if len(mm.vmas) >= mm.system.settings.max_map_count - _SPARE_VMAS:
        fail(errno.ENOMEM)
    keeps_old = bool(asked.flags & MREMAP_DONTUNMAP)
    if vma.flags & VM_ACCOUNT:
        charge(mm, (asked.new_len if keeps_old else asked.grown) >> mm.page_shift)
    new = Vma(at, at + asked.new_len, vma.flags, vma.page_at(start, mm.page_shift), vma.file)
    new.anon_vma, new.inherited = vma.anon_vma, vma.inherited
    if vma.file is None and vma.anon_vma is None:
        new.pgoff = at >> mm.page_shift  # nothing binds it to where it came from (rule 26)
    whole, peak = (vma.start, vma.end) == (start, end), mm.vmas.peak
    if mm.merge(new) is None:
        mm.vmas.add(new)
    attempt = 0
    while mm.space.move_range(start, asked.old_len, at) is None:
        out_of_memory(asked.task, attempt)
        attempt += 1
    mm.flush_range(start, end)
    if not keeps_old:
        if asked.old_len:
            unmap(mm, start, end)
            mm.vmas.peak = max(peak, int(mm.space.raw.vm_pages))  # that both were there does not count
        return at
    left = mm.vmas.at(start)
    assert left is not None
    mm.vmas.unlock_but_count(left)
    if whole and left is vma:
        left.anon_vma, left.inherited = None, False  # all that it had went along
        mm.vmas.close_window()
    return at
