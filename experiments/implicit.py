"""An allocator of one's own: the implicit list, all blocks in a row, walked at each malloc.

    heaplab compare lua --allocators experiments/implicit.py,freelist

    block (8 mod 16)    payload
    | size | allocated |          ...          | next block | ...       | 0 | 1 |   the epilogue

Alignment 16 bytes, overhead 8, minimum block 32.  malloc: O(blocks) mems; free: 2; metadata in headers only.
Free blocks merge with what follows them when malloc comes past.  Source: Knuth, TAOCP vol. 1, 2.5.
"""

from collections.abc import Iterator, Mapping

from heaplab.allocators import Span, State, Trait
from heaplab.allocators.base import round_up
from heaplab.allocators.design import ROOT_DESIGN, Design
from heaplab.allocators.sources import brk
from heaplab.errors import Rule
from heaplab.process import Process

ALLOCATED = 1
HEADER = 8
LEAST = 32


class ImplicitList(Design):
    """First fit over all blocks."""

    NAME = "implicit"
    MAGIC = int.from_bytes(b"implicit", "little")
    TRAITS = Trait.REUSES | Trait.ANY_ORDER | Trait.HEADERS | Trait.CONTIGUOUS
    OPTIONS = brk.OPTIONS
    ROOT_SIZE = round_up(ROOT_DESIGN, 16)

    def __init__(self, process: Process, options: Mapping[str, int], root: int) -> None:
        super().__init__(process, options, root)
        self._brk = brk.Brk(process, self.options, root)
        self._first = root + self.ROOT_SIZE + HEADER

    @classmethod
    def _begin(cls, process: Process, options: Mapping[str, int]) -> int:
        return brk.begin(process, options, cls.ROOT_SIZE, cls.MAGIC)

    def _init(self) -> None:
        end = self.process.sbrk(0)
        self._store(self._first, end - HEADER - self._first)
        self._store(end - HEADER, ALLOCATED)

    def _headers(self) -> Iterator[tuple[int, int]]:
        """Every block and its header, up to the epilogue."""
        block = self._first
        while header := self._load(block):
            yield block, header
            if header == ALLOCATED:
                return
            block += header & ~15

    def _malloc(self, size: int, alignment: int) -> int:
        if alignment > 16:
            return self._malloc_aligned(size, alignment)
        need = max(round_up(size + HEADER, 16), LEAST)
        free, room = 0, 0  # the free blocks in a row that the walk has just passed, and their bytes
        for block, header in self._headers():
            if header & ALLOCATED:
                free, room = 0, 0
            else:
                free, room = free or block, room + header
                if room >= need:
                    return self._take(free, room, need)
        grown = self._brk.grow(need)  # the epilogue becomes the header of what is new
        if grown is None:
            return 0
        end, by = grown
        self._store(end - HEADER, by)
        self._store(end + by - HEADER, ALLOCATED)
        return self._take(end - HEADER, by, need)

    def _take(self, block: int, room: int, need: int) -> int:
        if room - need < LEAST:
            need = room
        else:
            self._store(block + need, room - need)
        self._store(block, need | ALLOCATED)
        return block + HEADER

    def _malloc_aligned(self, size: int, alignment: int) -> int:
        p = self._malloc(size + alignment + LEAST, 16)
        if p and p % alignment:
            header = self._header_of_allocated(p)
            to = round_up(p + LEAST, alignment)  # what is left in front is a block too
            self._store(to - HEADER, header - (to - p))
            self._store(p - HEADER, to - p)
            return to
        return p

    def _header_of_allocated(self, p: int) -> int:
        header = self._load(p - HEADER)
        if p % 16 or not header & ALLOCATED or header == ALLOCATED:
            self._corrupt(p, Rule.FOREIGN_POINTER)
        return header

    def _free(self, p: int) -> None:
        self._store(p - HEADER, self._header_of_allocated(p) - ALLOCATED)

    def _usable(self, p: int) -> int:
        return (self._header_of_allocated(p) & ~15) - HEADER

    def _resize(self, p: int, size: int) -> bool:
        return size <= self._usable(p)

    def _walk(self) -> Iterator[Span]:
        yield Span.metadata(self.root, self._first - self.root)
        for block, header in self._headers():
            if size := header & ~15:
                state = State.ALLOCATED if header & ALLOCATED else State.FREE
                yield Span(block, size, block + HEADER, size - HEADER, state)
            else:
                yield Span.metadata(block, HEADER)  # the epilogue

    def _check(self) -> None:
        block = self._first
        for block, header in self._headers():
            if header & 14:
                self._corrupt(block + HEADER, Rule.BROKEN_HEADER)
        if block != self._brk.end() - HEADER:
            self._corrupt(block + HEADER, Rule.BROKEN_HEADER)
