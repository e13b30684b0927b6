"""Large blocks: a mapping each, in a doubly linked list.

    base                 payload: base + 32, or the next multiple of the alignment
    |                    |
    +-----...-----+------+------+------+------+---------...--------+
    |  (padding)  | base |length| next | prev | payload            |
    +-----...-----+------+------+------+------+---------...--------+
                  -32    -24    -16    -8     0                    base + length

next and prev are payload addresses, 0 at the ends.  A pointer is known to be large only by being in the
list: to free one costs a walk over the large blocks alive, and no foreign pointer gets through.

Cost: malloc 6 or 7 mems and an mmap; free 5 to 7 mems, one more for each large block passed, and a munmap.
The twin is csrc/heap/large.c.
"""

import errno
from collections.abc import Iterator
from typing import TYPE_CHECKING

from heaplab.allocators.base import ALIGN, MOST, ROOT_LARGE, Block, State, round_up
from heaplab.errors import HeapCorruption, Rule

if TYPE_CHECKING:
    from heaplab.allocators.pyheap import PythonAllocator

HEADER = 32
BASE, LENGTH, NEXT, PREV = 32, 24, 16, 8


def _demand(heap: "PythonAllocator", p: int) -> None:
    load = heap.process.load64
    q = load(heap.root + ROOT_LARGE)
    while q and q != p:
        q = load(q - NEXT)
    if not q:
        raise HeapCorruption(p, Rule.FOREIGN_POINTER)


def malloc(heap: "PythonAllocator", alignment: int, size: int) -> int:
    """Return a block in a mapping of its own, at a multiple of `alignment`; 0 with errno."""
    process, load, store = heap.process, heap.process.load64, heap.process.store64
    page = process.page_size
    padding = alignment if alignment > ALIGN else 0
    if size + padding > MOST - HEADER - page:
        process.errno = errno.ENOMEM
        return 0
    length = round_up(HEADER + padding + size, page)
    try:
        base = process.mmap(length)
    except OSError as error:
        process.errno = error.errno or errno.ENOMEM
        return 0
    p = round_up(base + HEADER, alignment)
    first = load(heap.root + ROOT_LARGE)
    store(p - BASE, base)
    store(p - LENGTH, length)
    store(p - NEXT, first)
    store(p - PREV, 0)
    if first:
        store(first - PREV, p)
    store(heap.root + ROOT_LARGE, p)
    return p


def free(heap: "PythonAllocator", p: int) -> None:
    """Unmap the block at p."""
    load, store = heap.process.load64, heap.process.store64
    _demand(heap, p)
    base, length = load(p - BASE), load(p - LENGTH)
    following, preceding = load(p - NEXT), load(p - PREV)
    if following:
        store(following - PREV, preceding)
    store(preceding - NEXT if preceding else heap.root + ROOT_LARGE, following)
    heap.process.munmap(base, length)


def usable_size(heap: "PythonAllocator", p: int) -> int:
    """Return the bytes from p to the end of its mapping."""
    load = heap.process.load64
    _demand(heap, p)
    return load(p - BASE) + load(p - LENGTH) - p


def resize(heap: "PythonAllocator", p: int, size: int) -> bool:
    """Shrink by giving pages back, or grow into the rest of the last page; False when it has to move."""
    load = heap.process.load64
    _demand(heap, p)
    base, length = load(p - BASE), load(p - LENGTH)
    if size > base + length - p:
        return False
    needed = round_up(p - base + size, heap.process.page_size)
    if needed < length:
        heap.process.munmap(base + needed, length - needed)
        heap.process.store64(p - LENGTH, needed)
    return True


def blocks(heap: "PythonAllocator") -> Iterator[Block]:
    """Yield the large blocks, newest first."""
    load = heap.process.load64
    p = load(heap.root + ROOT_LARGE)
    while p:
        base, length = load(p - BASE), load(p - LENGTH)
        yield Block(p, length, base + length - p, State.LARGE)
        p = load(p - NEXT)


def check(heap: "PythonAllocator") -> None:
    """Verify the list and the place of each block in its mapping."""
    load, page = heap.process.load64, heap.process.page_size
    preceding, p = 0, load(heap.root + ROOT_LARGE)
    while p:
        base, length = load(p - BASE), load(p - LENGTH)
        if base % page or length % page or p < base + HEADER or p >= base + length:
            raise HeapCorruption(p, Rule.BROKEN_HEADER)
        if load(p - PREV) != preceding:
            raise HeapCorruption(p, Rule.BROKEN_LINK)
        preceding, p = p, load(p - NEXT)
