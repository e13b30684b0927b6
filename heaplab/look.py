"""Memory as somebody sees it who looks from outside: a living process's, and that of one that a signal ended.

Look and Core read like a Process: code that only reads, like the walk over a heap, takes any of the three.
"""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final, NoReturn

from heaplab.errors import ProcessDied, Unreadable, UsageError
from heaplab.machine import FrameKind, Looking, Machine, Pte, Space


class Look:
    """A process's memory, looked at from outside; nothing in the model can tell that somebody did.

    load64(va), load(va, size) of 1, 2, 4 or 8 bytes, read(va, n), page_size, and sbrk(0), which asks for the
    break, are as of a process.  A page that was never touched shows what a read would find.
    Raises: Unreadable where a read is not allowed.
    A look is at one address space, as it is at that moment; after exec ask for another.  When the address
    space is gone, nothing can be read.

    >>> from heaplab.kernel import Kernel
    >>> process = Kernel(ram="1 MiB").init.fork()
    >>> page = process.mmap(2 * 4096)
    >>> process.store64(page, 7)
    >>> look = process.look()
    >>> look.load64(page), look.load64(page + 4096), process.minflt, process.context.loads
    (7, 0, 1, 0)
    >>> look.load64(0)
    Traceback (most recent call last):
    heaplab.errors.Unreadable: nothing at 0x0 may be read
    """

    def __init__(self, context: Looking) -> None:
        #: the MMU as it is looked through; its counters and its `fuel` are the look's own
        self.context = context
        self.page_size = context.machine.page_size
        self.load64: Callable[[int], int] = context.load64
        self.load: Callable[..., int] = context.load
        self.read: Callable[[int, int], bytes] = context.read

    def __repr__(self) -> str:
        return f"<{type(self).__name__} at memory whose break is at {self.sbrk(0):#x}>"

    def peek(self, va: int, n: int) -> bytes | None:
        """Return n bytes from `va` on; None where not all of them may be read."""
        try:
            return self.read(va, n)
        except Unreadable:
            return None

    def store64(self, va: int, value: int) -> NoReturn:
        """Refuse, so that code that stores at times takes a look too.  Raises: UsageError."""
        raise UsageError(
            f"a store at {va:#x} through a look, which changes nothing: make it through the process"
        )

    def sbrk(self, increment: int) -> int:
        """Return where the break is: 0 once the address space is gone.  Raises: UsageError to move it."""
        if increment:
            raise UsageError("a look moves no break: it changes nothing")
        return int(self.context.raw.space.brk)

    @property
    def secret(self) -> int:
        """The random bytes that the kernel gave the program at its start (AT_RANDOM), 64 bits."""
        return int(self.context.raw.space.secret)

    def look(self) -> Look:
        """Return this look itself, so that code that looks takes a process or a look."""
        return self


class _Readable:
    """Answers looks at a core's pages that hold nothing: zeros where a read was allowed."""

    def __init__(self, ranges: Iterable[tuple[int, int]], zero_frame: int) -> None:
        self._ranges = tuple(ranges)
        self._zero_frame = zero_frame

    def look(self, va: int) -> int | None:
        """Return the frame of zeros within the ranges; None elsewhere."""
        return self._zero_frame if any(start <= va < end for start, end in self._ranges) else None

    def syscall(self, nr: int, *args: int) -> NoReturn:
        """Refuse.  Raises: UsageError."""
        raise UsageError(f"system call {nr} of a process that is dead: a core only shows its memory")


class Core(Look):
    """The memory of a process at the moment when a signal ended it, with what is known of that end.

    died          how it ended, as the exception that whoever made the access got; of a signal that was sent,
                  ProcessDied
    pid, tid      of the process, and of the thread that made the access or took the signal
    name          its name
    signum, si_code
    address       of the access, and `access` is "load" or "store"; None and "" if the signal was sent
    maps          /proc/PID/maps at the time
    pages         how many pages are kept: those with a byte that is not 0

    Nothing of the process has to be left.  What MADV_DONTDUMP asked to leave out is unreadable.

    >>> from heaplab.kernel import Kernel
    >>> process = Kernel(ram="1 MiB", core=True).init.fork()
    >>> page = process.mmap(4096)
    >>> process.store64(page, 7)
    >>> process.store64(page + 4096, 8)
    Traceback (most recent call last):
    heaplab.errors.SegmentationFault: ...
    >>> core = process.core
    >>> core.signum.name, core.access, core.address == page + 4096, core.load64(page), core.pages
    ('SIGSEGV', 'store', True, 7, 1)
    """

    _FLAGS: Final = int(Pte.PRESENT | Pte.USER)

    def __init__(
        self,
        died: ProcessDied,
        *,
        pid: int,
        tid: int,
        name: str,
        si_code: int,
        address: int | None,
        access: str,
        maps: str,
        brk: int,
        secret: int,
        page_size: int,
        readable: Iterable[tuple[int, int]],
        pages: Mapping[int, bytes],
    ) -> None:
        """readable: ranges of addresses that could be read; pages: by address, those that hold something."""
        # a machine of its own shows it, so that in C, too, a core is read like any memory;
        # a page needs at most a frame and three tables
        machine = Machine((4 * len(pages) + 2) * page_size, page_size=page_size, tlb=1)
        zero_frame = machine.alloc(FrameKind.ZERO)
        assert zero_frame is not None
        space = Space(machine)
        space.raw.brk = brk
        space.secret = secret
        for va, page in pages.items():
            frame = space.map_zeroed(va, FrameKind.ANON, self._FLAGS)
            assert frame is not None
            machine.ram[frame] = memoryview(page)
        super().__init__(Looking(machine, space, _Readable(readable, zero_frame)))
        self.died = died
        self.pid = pid
        self.tid = tid
        self.name = name
        self.signum: signal.Signals = died.signum
        self.si_code = si_code
        self.address = address
        self.access = access
        self.maps = maps
        self.pages = len(pages)
        self._frozen = True

    def __setattr__(self, name: str, value: Any) -> None:
        if hasattr(self, "_frozen"):
            raise AttributeError(f"a core is what it was: {name} cannot be set")
        super().__setattr__(name, value)

    def __repr__(self) -> str:
        return f"<Core of process {self.pid} {self.name}: {self.signum.name}, {self.pages} pages>"

    def __str__(self) -> str:
        kept = f"{self.pages} page{'' if self.pages == 1 else 's'} of {self.page_size} bytes hold something"
        return f"core of {self.name}: {self.died}\n{kept}; the break is at {self.sbrk(0):#x}\n{self.maps}"
