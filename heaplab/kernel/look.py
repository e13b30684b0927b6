"""What a page shows that has no entry, found out without changing anything.

It is what a real read would find, except below a stack: a read there makes the stack grow, a look does not.
"""

from typing import NoReturn

from heaplab.errors import UsageError
from heaplab.kernel.mm import Mm
from heaplab.kernel.vma import VM_ACCESS
from heaplab.machine import Looking


class MmLook:
    """Answers what contexts that look into an address space ask (heaplab.machine.LookHandler)."""

    def __init__(self, mm: Mm) -> None:
        self._mm = mm

    def look(self, va: int) -> int | bytes | None:
        """Return the frame or the bytes that the page at `va` would show; None where no read is allowed."""
        mm = self._mm
        vma = mm.vmas.at(va)
        if vma is None or not vma.flags & VM_ACCESS:
            return None
        if vma.file is None:
            return mm.system.zero_frame
        pgoff = vma.page_at(va, mm.page_shift)
        if pgoff >= vma.file.inode.page_count:
            return None
        return vma.file.inode.look_at_page(pgoff)

    def syscall(self, nr: int, *args: int) -> NoReturn:
        """Refuse.  Raises: UsageError."""
        raise UsageError(
            f"system call {nr} through a look, which changes nothing: make it through the process"
        )


def look(mm: Mm) -> Looking:
    """Return a context that looks into an address space; when that goes, it shows nothing any more."""
    return Looking(mm.system.machine, mm.space, MmLook(mm))
