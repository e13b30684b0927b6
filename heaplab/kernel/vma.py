"""VMAs: the ranges of an address space, what each allows, and which of them may be one.

Source: Linux, include/linux/mm_types.h, include/linux/mm.h, mm/vma.c.
"""

from typing import Final

from heaplab.abi import PROT_EXEC, PROT_READ, PROT_WRITE
from heaplab.kernel.file import File
from heaplab.machine import Pte

VM_READ: Final = PROT_READ
VM_WRITE: Final = PROT_WRITE
VM_EXEC: Final = PROT_EXEC
VM_ACCESS: Final = VM_READ | VM_WRITE | VM_EXEC
VM_SHARED: Final = 0x08
VM_MAYREAD: Final = 0x10  # what mprotect may grant
VM_MAYWRITE: Final = 0x20
VM_MAYEXEC: Final = 0x40
VM_MAYACCESS: Final = VM_MAYREAD | VM_MAYWRITE | VM_MAYEXEC
VM_MAYSHARE: Final = 0x80  # mapped shared; without VM_SHARED from a file that may only be read
VM_GROWSDOWN: Final = 0x100  # a stack
VM_LOCKED: Final = 0x2000  # its pages stay
VM_SEQ_READ: Final = 0x8000  # advice that nothing heeds here, but that keeps VMAs apart
VM_RAND_READ: Final = 0x10000
VM_DONTCOPY: Final = 0x20000  # fork leaves it out
VM_ACCOUNT: Final = 0x100000  # counts against overcommit
VM_NORESERVE: Final = 0x200000  # never to be counted
VM_WIPEONFORK: Final = 0x2000000  # fork leaves its pages out
VM_DONTDUMP: Final = 0x4000000

#: what an entry of a written private page holds; Pte members are slow to combine, plain numbers are not
_WRITTEN: Final = int(Pte.WRITE | Pte.DIRTY | Pte.ACCESSED | Pte.EXCLUSIVE)
_PRESENT: Final = int(Pte.PRESENT | Pte.ACCESSED)
_USER: Final = int(Pte.USER)
_NO_EXEC: Final = int(Pte.NO_EXEC)
_WRITE: Final = int(Pte.WRITE)


class AnonVma:
    """The identity that VMAs with anonymous pages in common share; it has no other content here.

    Linux finds through it every VMA that may map a page.  What programs can see of it is which VMAs merge.
    """

    __slots__ = ()


class Vma:
    """A range of pages with one protection and one source.

    start, end    bytes, multiples of the page size; start < end
    flags         VM_*; set through set_flags
    pgoff         pages: the place of `start` in the file; for private anonymous memory the page number the
                  VMA was born at.  It tells which neighbours continue each other
    file          the open file that it maps; None for private anonymous memory
    anon_vma      set when the first private page is made; None: nothing was written yet
    inherited     anon_vma came through fork: it may hold pages of the parent's
    page_prot     the bits of an entry that maps a page of the file, or the zero frame
    written_prot  the bits of an entry that maps a private page, just written
    """

    __slots__ = (
        "anon_vma",
        "end",
        "file",
        "flags",
        "inherited",
        "page_prot",
        "pgoff",
        "start",
        "written_prot",
    )

    def __init__(self, start: int, end: int, flags: int, pgoff: int, file: File | None = None) -> None:
        self.start = start
        self.end = end
        self.pgoff = pgoff
        self.file = file
        self.anon_vma: AnonVma | None = None
        self.inherited = False
        self.set_flags(flags)

    def set_flags(self, flags: int) -> None:
        """Set flags, and the bits of page-table entries that follow from them.

        On x86-64 whatever may be written or executed may be read (rule 13).  PROT_NONE keeps entries, without
        the right of user programs to use them.
        """
        self.flags = flags
        prot = _PRESENT | (_USER if flags & VM_ACCESS else 0) | (0 if flags & VM_EXEC else _NO_EXEC)
        self.written_prot = prot | _WRITTEN if flags & VM_WRITE else prot | (_WRITTEN & ~_WRITE)
        at_once = flags & VM_SHARED and flags & VM_WRITE and not self.writenotify
        self.page_prot = prot | _WRITE if at_once else prot

    @property
    def writenotify(self) -> bool:
        """Whether the first write to each page of a shared mapping faults, to make the page dirty."""
        return self.file is not None and self.file.inode.writenotify

    @property
    def is_data(self) -> bool:
        """Memory that RLIMIT_DATA counts: private, writable, no stack."""
        return self.flags & (VM_WRITE | VM_SHARED | VM_GROWSDOWN) == VM_WRITE

    @property
    def private(self) -> bool:
        """Its pages become this address space's own when written."""
        return not self.flags & VM_SHARED

    @property
    def is_heap(self) -> bool:
        """Memory that the break or a private anonymous mmap gave: what allocators live in."""
        return self.file is None and not self.flags & VM_GROWSDOWN

    def page_at(self, va: int, page_shift: int) -> int:
        """Return the number of the page of the file that `va` shows."""
        return self.pgoff + ((va - self.start) >> page_shift)

    def address_of(self, pgoff: int, page_shift: int) -> int:
        """Return where page `pgoff` of the file would be; it need not lie within."""
        return self.start + ((pgoff - self.pgoff) << page_shift)

    def lowest(self, guard_gap: int) -> int:
        """Return where its claim begins: the start, or for a stack the gap below it."""
        return max(0, self.start - guard_gap) if self.flags & VM_GROWSDOWN else self.start

    def piece(self, start: int, end: int, page_shift: int) -> "Vma":
        """Return what [start, end) of this VMA would be as a VMA of its own."""
        part = Vma.__new__(Vma)
        part.start, part.end = start, end
        part.pgoff = self.pgoff + ((start - self.start) >> page_shift)
        part.file, part.flags = self.file, self.flags
        part.page_prot, part.written_prot = self.page_prot, self.written_prot
        part.anon_vma, part.inherited = self.anon_vma, self.inherited
        return part

    def adopt(self, other: "Vma") -> None:
        """Take over the anon_vma of a VMA that becomes part of this one."""
        if self.anon_vma is None:
            self.anon_vma, self.inherited = other.anon_vma, other.inherited


def continues(left: Vma, right: Vma, page_shift: int) -> bool:
    """Whether `right` goes on where `left` ends, alike in everything but what may be accessed.

    Source: Linux, mm/vma.c, anon_vma_compatible.
    """
    return (
        left.end == right.start
        and not (left.flags ^ right.flags) & ~VM_ACCESS
        and left.file is right.file
        and left.pgoff + ((left.end - left.start) >> page_shift) == right.pgoff
    )


def mergeable(left: Vma, right: Vma, page_shift: int) -> bool:
    """Whether two VMAs, where they touch, may become one (rules 15 to 18 and 21).

    One with an anon_vma takes in one without only if no fork lies behind it: else pages of the parent's
    anon_vma would be looked for in a range that the parent never had.
    """
    if left.flags != right.flags or not continues(left, right, page_shift):
        return False
    if left.anon_vma is right.anon_vma:
        return True
    if left.anon_vma is None:
        return not right.inherited
    return right.anon_vma is None and not left.inherited


def anon_vmas_agree(left: Vma, right: Vma) -> bool:
    """Whether one VMA could hold the pages of both, when it takes both in at once."""
    return left.anon_vma is None or right.anon_vma is None or left.anon_vma is right.anon_vma
