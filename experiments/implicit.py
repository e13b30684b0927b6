"""An allocator of one's own: the implicit list, all blocks in a row, walked at each malloc.

    heaplab compare lua --allocators experiments/implicit.py,freelist

    block (8 mod 16)    payload
    | size | allocated |          ...          | next block | ...       | 0 | 1 |   the epilogue

Alignment 16 bytes, overhead 8, minimum block 32.  malloc: O(blocks) mems; free: 2; metadata in headers only.
Free blocks merge with what follows them when malloc comes past.  Source: Knuth, TAOCP vol. 1, 2.5.
"""

from collections.abc import Iterator

from heaplab.allocators import Block, State
from heaplab.allocators.base import ROOT_DESIGN, ROOT_END, round_up
from heaplab.allocators.pyheap import PythonAllocator
from heaplab.errors import Rule

ALLOCATED = 1
HEADER = 8


class ImplicitList(PythonAllocator):
    """First fit over all blocks."""

    NAME = "implicit"
    MAGIC = int.from_bytes(b"implicit", "little")
    ROOT_SIZE = round_up(ROOT_DESIGN, 16)

    def _init(self, end: int) -> None:
        first = self._start + HEADER
        self._store(first, end - HEADER - first)
        self._store(end - HEADER, ALLOCATED)

    def _headers(self) -> Iterator[tuple[int, int]]:
        """Every block and its header, up to the epilogue."""
        block = self._start + HEADER
        while header := self._load(block):
            yield block, header
            if header == ALLOCATED:
                return
            block += header & ~15

    def _malloc(self, size: int) -> int:
        need = max(round_up(size + HEADER, 16), 32)
        free, room = 0, 0  # the free blocks in a row that the walk has just passed, and their bytes
        for block, header in self._headers():
            if header & ALLOCATED:
                free, room = 0, 0
            else:
                free, room = free or block, room + header
                if room >= need:
                    return self._take(free, room, need)
        grown = self._grow(need)  # the epilogue becomes the header of what is new
        if grown is None:
            return 0
        end, by = grown
        self._store(end - HEADER, by)
        self._store(end + by - HEADER, ALLOCATED)
        return self._take(end - HEADER, by, need)

    def _take(self, block: int, room: int, need: int) -> int:
        if room - need < 32:
            need = room
        else:
            self._store(block + need, room - need)
        self._store(block, need | ALLOCATED)
        return block + HEADER

    def _demand(self, p: int) -> int:
        header = self._load(p - HEADER)
        if p % 16 or not header & ALLOCATED or header == ALLOCATED:
            self._corrupt(p, Rule.FOREIGN_POINTER)
        return header

    def _free(self, p: int) -> None:
        self._store(p - HEADER, self._demand(p) - ALLOCATED)

    def _usable_size(self, p: int) -> int:
        return (self._demand(p) & ~15) - HEADER

    def _resize(self, p: int, size: int) -> bool:
        return size <= self._usable_size(p)

    def _aligned_alloc(self, alignment: int, size: int) -> int:
        p = self._malloc(size + alignment + 32)
        if p and p % alignment:
            header = self._demand(p)
            to = round_up(p + 32, alignment)  # what is left in front is a block too
            self._store(to - HEADER, header - (to - p))
            self._store(p - HEADER, to - p)
            return to
        return p

    def _blocks(self) -> Iterator[Block]:
        for block, header in self._headers():
            if size := header & ~15:
                state = State.ALLOCATED if header & ALLOCATED else State.FREE
                yield Block(block + HEADER, size, size - HEADER, state)

    def _check(self) -> None:
        block = self._start + HEADER
        for block, header in self._headers():
            if header & 14:
                self._corrupt(block + HEADER, Rule.BROKEN_HEADER)
        if block != self._load(self.root + ROOT_END) - HEADER:
            self._corrupt(block + HEADER, Rule.BROKEN_HEADER)
