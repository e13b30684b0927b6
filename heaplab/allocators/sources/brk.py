"""Memory in one piece that grows and shrinks at its end: the root, then the design's part, up to the break.

    break when the heap was made                            the break
    |                                                           |
    | root |  the design's part                                 |
    root                                                        end (root + 8)

The break belongs to one heap.  When somebody else moves it, the heap can no longer grow or shrink.

Trimming has a distance to growing: a free end goes back only when that gives trim_threshold bytes back and
keeps top_pad bytes.  So a block that is taken and freed at the end of the heap moves the break twice only if
it is larger than trim_threshold.  By default that is twice the threshold of large blocks, as in glibc.

The twin is csrc/sources/brk.h.
"""

import errno
from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

from heaplab.allocators.base import ALIGN, SIZE_MAX, Word, round_up
from heaplab.allocators.design import ROOT_END, ROOT_MAGIC
from heaplab.allocators.sources.large import LEAST, THRESHOLD
from heaplab.allocators.stated import shared

if TYPE_CHECKING:
    from heaplab.process import Process

OPTIONS: Final = shared("trim_threshold", "top_pad")


def begin(process: "Process", options: Mapping[str, int], root_size: int, magic: int) -> int:
    """Make a root of `root_size` bytes (a multiple of 16) at the break, and return its address.

    Behind the root come top_pad bytes and the rest of the page.  Raises: MemoryError when the kernel refuses.
    """
    start = process.sbrk(0)
    root = round_up(start, ALIGN)
    end = round_up(root + root_size + options["top_pad"], process.page_size)
    try:
        process.sbrk(end - start)
    except OSError as error:
        raise MemoryError("the kernel gives no memory for the heap's root") from error
    process.store64(root + ROOT_MAGIC, magic)
    process.store64(root + ROOT_END, end)
    return root


class Brk:
    """The end of a heap that grows by brk.  options: of the spec."""

    def __init__(self, process: "Process", options: Mapping[str, int], root: int) -> None:
        self._process = process
        self._load = process.load64
        self._end = root + ROOT_END
        self._threshold = root + THRESHOLD
        self.top_pad = options["top_pad"]
        self._dynamic = options["trim_threshold"] == SIZE_MAX
        self._least = 2 * LEAST if self._dynamic else options["trim_threshold"]

    def end(self) -> int:
        """Return the end of the heap.  1 mem."""
        return self._load(self._end)

    def root_word(self) -> Word:
        """Return the root's word of the end, decoded."""
        end, at = self.end(), self._process.sbrk(0)
        other = "" if end == at else f"; the break is at {at:#x}"
        return Word(self._end, 8, "end", f"the heap ends at {end:#x}{other}")

    def keep(self, tail: int) -> int:
        """Return where the heap would end that keeps everything below `tail`, and top_pad bytes."""
        return round_up(tail + self.top_pad, self._process.page_size)

    def trims(self, end: int, keep: int) -> bool:
        """Return whether the heap is worth a trim from `end` down to `keep`.  Mostly no mems, else 1."""
        if keep >= end or end - keep < self._least:
            return False
        return not self._dynamic or end - keep >= 2 * self._load(self._threshold)

    def grow(self, need: int) -> tuple[int, int] | None:
        """Move the break up by at least `need` bytes: top_pad is added, and the rest of the page.

        Returns: the old end and by how much; None with errno when the kernel refuses.
        """
        process, end = self._process, self.end()
        by = round_up(need + self.top_pad, process.page_size)
        if process.sbrk(0) != end:  # somebody else moved the break: what follows us is theirs
            process.errno = errno.ENOMEM
            return None
        try:
            process.sbrk(by)
        except OSError:
            by = round_up(need, process.page_size)  # without the luxury of the pad
            try:
                process.sbrk(by)
            except OSError:
                return None
        process.store64(self._end, end + by)
        return end, by

    def shrink(self, end: int) -> bool:
        """Move the break down to `end`, a multiple of the page size; False when somebody else moved it."""
        process, old = self._process, self.end()
        if process.sbrk(0) != old:
            return False
        try:
            process.sbrk(end - old)
        except OSError:
            return False
        process.store64(self._end, end)
        return True
