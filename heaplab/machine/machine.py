"""Physical memory: frames, who owns them, and the machine's one TLB."""

import errno
from enum import IntEnum, IntFlag
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from heaplab._core import ffi, lib
from heaplab.errors import UsageError
from heaplab.units import counted, format_size, parse_size

#: bytes of a page, and entries of the TLB, if nobody says otherwise: what C does is fastest with these
USUAL_PAGE: Final[int] = lib.HL_USUAL_PAGE
USUAL_TLB: Final[int] = lib.HL_USUAL_TLB


class FrameKind(IntEnum):
    """What a frame is used for."""

    FREE = lib.HL_FREE
    TABLE = lib.HL_TABLE
    ZERO = lib.HL_ZERO
    ANON = lib.HL_ANON
    FILE = lib.HL_FILE


class FrameFlag(IntFlag):
    """What is to be known of a frame that no entry tells."""

    DIRTY = lib.HL_DIRTY  # written by the kernel, or, of a file, through an entry that is gone
    LAZYFREE = lib.HL_LAZYFREE  # nobody will miss it, unless an entry is dirty


class Machine:
    """A machine with `ram` bytes of memory in pages of `page_size` bytes.

    ram: bytes or text like "64 MiB", at least one page.  page_size: bytes, a power of two, 64 to 4096;
    smaller pages make smaller tables and a smaller address space, so that a test can see all of both.
    tlb: entries, a power of two.  poison: write junk into freed frames.
    Host memory is committed only as frames are first used.
    Raises: UsageError for sizes that no machine can have.

    >>> machine = Machine("64 KiB")
    >>> machine.frame_count, machine.free_frames
    (16, 16)
    >>> frame = machine.alloc(FrameKind.ANON)
    >>> int(machine.refcount[frame]), machine.used(FrameKind.ANON)
    (1, 1)
    >>> machine.put(frame)
    >>> machine.free_frames
    16
    """

    def __init__(
        self,
        ram: int | str = "1 GiB",
        *,
        page_size: int = USUAL_PAGE,
        tlb: int = USUAL_TLB,
        poison: bool = False,
    ) -> None:
        size = parse_size(ram)
        sizes = (size // page_size if page_size > 0 else 0, page_size, tlb)
        # what does not even fit a C number is refused like what is too small
        fits = all(0 <= each < 1 << 40 for each in sizes)
        raw = lib.hl_machine_new(*(sizes if fits else (0, 0, 0)), poison)
        if raw == ffi.NULL:
            if ffi.errno == errno.ENOMEM:
                raise UsageError(f"this computer cannot reserve {size} bytes for the machine's memory")
            raise UsageError(
                f"no machine has {size} bytes in pages of {page_size} and a TLB of {tlb}: the page size is a "
                "power of two from 64 to 4096, the TLB a power of two, and there is at least one page"
            )
        self.raw: Any = ffi.gc(raw, lib.hl_machine_delete)
        raw.on_fault = lib.hl_py_fault
        raw.on_syscall = lib.hl_py_syscall
        raw.on_look = lib.hl_py_look
        self.page_size: int = page_size
        self.page_shift: int = raw.page_shift
        self.index_bits: int = raw.index_bits
        self.va_bits: int = raw.va_bits
        self.frame_count: int = raw.frame_count
        n = self.frame_count
        #: frames x page_size bytes: physical memory itself
        self.ram: npt.NDArray[np.uint8] = self._view(raw.ram, n * page_size, np.uint8).reshape(n, page_size)
        #: owners of each frame: one a mapping, one a page cache
        self.refcount: npt.NDArray[np.uint32] = self._view(raw.refcount, n, np.uint32)
        #: page-table entries that point to each frame; of a table, the entries present in it
        self.mapcount: npt.NDArray[np.uint32] = self._view(raw.mapcount, n, np.uint32)
        #: FrameKind of each frame
        self.kind: npt.NDArray[np.uint8] = self._view(raw.kind, n, np.uint8)
        #: FrameFlag of each frame
        self.flags: npt.NDArray[np.uint8] = self._view(raw.flags, n, np.uint8)

    def _view(self, pointer: Any, count: int, dtype: type) -> Any:
        size = count * np.dtype(dtype).itemsize
        return np.frombuffer(ffi.buffer(pointer, size), dtype=dtype)

    def __repr__(self) -> str:
        size = format_size(self.frame_count * self.page_size)
        return f"<Machine with {size}: {self.free_frames:,} of {counted(self.frame_count, 'frame')} free>"

    @property
    def free_frames(self) -> int:
        """Frames nobody owns."""
        return int(self.raw.used[FrameKind.FREE])

    @property
    def touched_frames(self) -> int:
        """Frames that were ever in use: the host has committed memory for no more."""
        return int(self.raw.fresh)

    def used(self, kind: FrameKind) -> int:
        """Frames of this kind in use now."""
        return int(self.raw.used[kind])

    def kinds(self, frames: npt.NDArray[np.int64]) -> npt.NDArray[np.uint8]:
        """Return the `FrameKind` of each frame."""
        return self._each(self.raw.kind, np.uint8)[frames]

    def origins(self, frames: npt.NDArray[np.int64]) -> npt.NDArray[np.uint64]:
        """Return a number for each anonymous frame: copies, of copy-on-write or of fork, have the original's.

        A frame that is no copy of another has a number of its own, also where an earlier use of it had
        copies.
        """
        return self._each(self.raw.origin, np.uint64)[frames]

    def _each(self, column: Any, dtype: type) -> npt.NDArray[Any]:
        """What the machine has for every frame that was ever in use; good until the next is taken."""
        size = self.touched_frames * np.dtype(dtype).itemsize
        return np.frombuffer(ffi.buffer(column, size), dtype) if size else np.empty(0, dtype)

    def alloc(self, kind: FrameKind, *, zero: bool = True) -> int | None:
        """Return a frame with one reference and no mapping, or None when there is none.  O(1)"""
        frame: int = lib.hl_frame_alloc(self.raw, kind, zero)
        return None if frame == lib.HL_NO_FRAME else frame

    def get(self, frame: int) -> None:
        """Take one more reference to the frame."""
        lib.hl_frame_get(self.raw, frame)

    def put(self, frame: int) -> None:
        """Give one reference back; the last one frees the frame."""
        lib.hl_frame_put(self.raw, frame)

    def stale_tlb_entries(self) -> int:
        """Return how many TLB entries the page tables contradict: 0 under a kernel that flushes.  O(TLB)"""
        return int(lib.hl_tlb_stale(self.raw, ffi.new("uint64_t *")))
