"""Looking at memory without a trace: no count, no TLB entry, no accessed bit, no fault, no new frame."""

from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from heaplab._core import ffi, lib
from heaplab.machine.context import Reader, keep_raised
from heaplab.machine.machine import Machine
from heaplab.machine.space import Space


class LookHandler(Protocol):
    """Who says what a page shows that has no entry: the kernel's side of an address space."""

    def look(self, va: int) -> int | bytes | None:
        """Return the frame or the bytes that a read at `va` would show; None: it is not allowed.

        Nothing may change.
        """

    def syscall(self, nr: int, *args: int) -> int:
        """Refuse a system call, by raising: it would change something."""


@ffi.def_extern(error=lib.HL_LOOK_RAISED, onerror=keep_raised)  # type: ignore[untyped-decorator]
def hl_py_look(handle: Any, va: int, page: Any) -> int:
    shown = ffi.from_handle(handle).look(va)
    if isinstance(shown, bytes):
        ffi.memmove(page, shown, len(shown))
        return int(lib.HL_LOOK_PAGE)
    return int(lib.HL_LOOK_UNREADABLE) if shown is None else int(shown)


class Looking(Reader):
    """A context that looks into a space: for Python, and by `raw` for whatever in C takes a context.

    Its counts and its budget are its own.  Loads where nobody may read raise Unreadable; stores and system
    calls, which only C could try, fail.  When the space goes, nothing of it can be read any more.

    >>> from heaplab.machine import FrameKind, Pte
    >>> machine = Machine("64 KiB")
    >>> space = Space(machine)
    >>> frame = space.map_zeroed(0x5000, FrameKind.ANON, Pte.USER | Pte.WRITE)
    >>> class Kernel:
    ...     def look(self, va):
    ...         return None
    ...     def syscall(self, nr, *args):
    ...         raise NotImplementedError
    >>> looking = Looking(machine, space, Kernel())
    >>> looking.load64(0x5000), Pte(space.pte(0x5000)) & Pte.ACCESSED, space.cached
    (0, <Pte: 0>, 0)
    >>> looking.load64(0x6000)
    Traceback (most recent call last):
    heaplab.errors.Unreadable: nothing at 0x6000 may be read
    """

    def __init__(self, machine: Machine, space: Space, handler: LookHandler) -> None:
        #: who says what pages show
        self.handler = handler
        self._handle = ffi.new_handle(handler)
        super().__init__(machine, lib.hl_look_new(space.raw, self._handle))

    def ptes(self, start: int, count: int) -> npt.NDArray[np.uint64]:
        """Return the leaf entries of `count` pages from `start` on, 0 where there is none."""
        out = np.zeros(count, dtype=np.uint64)
        if count and self.raw.space.tables:  # a space that is gone has not even a root table
            lib.hl_read_ptes(self.raw.space, start, count, ffi.cast("uint64_t *", out.ctypes.data))
        return out
