"""The kernel's own use of a program's memory: for arguments and results of system calls, and to fill pages
in advance.

It goes through the same page tables, and pages are made and copied as for the program; but where the
program would be killed, the call fails.

Source: Linux, arch/x86/lib/usercopy_64.c, mm/gup.c (populate_vma_page_range).
"""

import errno
from collections.abc import Iterator

from heaplab.kernel.fault import DENIED, PROTECTION, WRITE, Refusal, mend
from heaplab.kernel.mm import Mm
from heaplab.kernel.system import fail
from heaplab.kernel.task import Task
from heaplab.kernel.vma import VM_ACCESS, VM_SHARED, VM_WRITE, Vma
from heaplab.machine import FrameFlag, Pte

_DIRTY = int(Pte.DIRTY)
_READABLE = int(Pte.PRESENT | Pte.USER)
_WRITABLE = _READABLE | int(Pte.WRITE)


def _reach(task: Task, va: int, *, write: bool) -> int | None:
    """Return the frame of the page at `va`, faulted in; None where the task could not make this access."""
    needed = _WRITABLE if write else _READABLE
    space = task.memory.space
    while True:
        entry = space.pte(va)
        if entry & needed == needed:
            space.update(va, set=int(Pte.ACCESSED | Pte.DIRTY if write else Pte.ACCESSED))
            return Pte.frame(entry)
        if mend(task, va, (WRITE if write else 0) | (PROTECTION if entry else 0)):
            return None


def _pieces(mm: Mm, va: int, count: int) -> Iterator[tuple[int, int, int]]:
    """Cut [va, va + count) at page boundaries: (address, offset in its page, length)."""
    end = va + count
    while va < end:
        offset = va % mm.page_size
        length = min(mm.page_size - offset, end - va)
        yield va, offset, length
        va += length


def is_user_range(task: Task, va: int, count: int) -> bool:
    """Whether addresses are of the user's half, mapped or not: what is asked first (Linux: access_ok)."""
    return va + count <= task.memory.layout.task_size


def copy_to_user(task: Task, va: int, data: bytes) -> int:
    """Write `data` at `va` of the task's memory; return how many bytes could be, from the first on."""
    mm, done = task.memory, 0
    for at, offset, length in _pieces(mm, va, len(data)):
        frame = _reach(task, at, write=True)
        if frame is None:
            break
        mm.system.machine.ram[frame, offset : offset + length] = memoryview(data[done : done + length])
        done += length
    return done


def copy_from_user(task: Task, va: int, count: int) -> bytes:
    """Return the bytes at `va` of the task's memory, up to the first that it could not read."""
    mm, found = task.memory, bytearray()
    for at, offset, length in _pieces(mm, va, count):
        frame = _reach(task, at, write=False)
        if frame is None:
            break
        found += mm.system.machine.ram[frame, offset : offset + length].tobytes()
    return bytes(found)


def put_user(task: Task, va: int, data: bytes) -> None:
    """Write `data` at `va` of the task's memory.  Raises: OSError EFAULT where the task could not."""
    if copy_to_user(task, va, data) < len(data):
        fail(errno.EFAULT)


def get_user(task: Task, va: int, count: int) -> bytes:
    """Return `count` bytes of the task's memory.  Raises: OSError EFAULT where it could not read them."""
    data = copy_from_user(task, va, count)
    if len(data) < count:
        fail(errno.EFAULT)
    return data


def get_user_string(task: Task, va: int, most: int) -> bytes:
    """Return the bytes at `va` up to a zero.

    Raises: OSError EFAULT; ENAMETOOLONG when there is no zero among the first `most`.
    """
    mm, found = task.memory, b""
    for at, _, length in _pieces(mm, va, most):
        piece = copy_from_user(task, at, length)
        if len(piece) < length:
            fail(errno.EFAULT)
        found += piece
        if b"\0" in piece:
            return found[: found.index(b"\0")]
    fail(errno.ENAMETOOLONG)


def fault_in(task: Task, vma: Vma, start: int, end: int, *, write: bool) -> Refusal | None:
    """Make all pages of [start, end), within one VMA, at once; return what the first that cannot be deserves.

    Raises: OutOfMemory.
    """
    space = task.memory.space
    needed = int(Pte.PRESENT | Pte.WRITE if write else Pte.PRESENT)
    for va in range(start, end, task.memory.page_size):
        entry = space.pte(va)
        if entry & needed != needed:
            refusal = mend(task, va, (WRITE if write else 0) | (PROTECTION if entry else 0))
            if refusal:
                return refusal
        elif write and not entry & _DIRTY:
            # it counts as written, though the entry does not say so (Linux: mm/gup.c, follow_page_pte)
            task.system.machine.flags[Pte.frame(entry)] |= FrameFlag.DIRTY
    return None


def populate(task: Task, start: int, end: int, *, stop: bool = False) -> Refusal | None:
    """Make all pages of [start, end) that can be made: MAP_POPULATE and mlock (rule 30).

    Private memory that may be written is made as if written.
    stop: at the first page that cannot be made, instead of going on with the next VMA.
    Returns: what that page deserves.  Raises: OutOfMemory.
    """
    first = None
    for vma in task.memory.vmas.overlapping(start, end):
        write = vma.flags & (VM_WRITE | VM_SHARED) == VM_WRITE
        low, high = max(start, vma.start), min(end, vma.end)
        # what nobody may access is refused even where it has pages
        refusal = fault_in(task, vma, low, high, write=write) if vma.flags & VM_ACCESS else DENIED
        first = refusal or first
        if first and stop:
            break
    return first
