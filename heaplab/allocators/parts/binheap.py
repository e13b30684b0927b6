"""An index as a binary heap: the free blocks in a max-heap of sizes, an array in a mapping of its own.

    base -> +0  array      its address
            +8  capacity   slots it has
            +16 count      slots in use: the free blocks there are

    array   | block | block | block | ...        slot i lies above slots 2i + 1 and 2i + 2
                       |
    block  +0         +8                         size - 8
           | header   | slot   |       ...       | footer |       a free block

A block lies above another when it is larger, or as large at a lower address.  Each free block knows its
slot, so any of them leaves the heap without a search when it merges.

No free block may lack a slot, for free cannot fail.  As free blocks are never neighbours, a heap of n bytes
has at most n / 64 + 1 of them, and before the heap grows the array is made that large: at least twice as
large as it was, so that copying it costs no more than the slots it gains.  Its pages are touched only as
slots are used.

Source: Williams (1964), CACM 7, 347; Knuth, TAOCP vol. 3, 5.2.3.
The twin is csrc/parts/binheap.h.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Protocol

from heaplab.allocators.base import ADDRESSES, Span, Word, round_up
from heaplab.allocators.decoding import Window, unused
from heaplab.allocators.parts.index import NOTHING, Found, Index, Memory, Place, Survey
from heaplab.allocators.parts.seal import Seal
from heaplab.allocators.parts.tags import HEADER, is_allocated, size_of
from heaplab.errors import HeapCorruption, Rule

SLOT = 8  # from the block
ARRAY, CAPACITY, COUNT = 0, 8, 16  # from the base
WORD = 8


class MappedMemory(Memory, Protocol):
    """Where a binary heap lives; a process is one."""

    @property
    def page_size(self) -> int: ...
    def mmap(self, length: int, /) -> int: ...
    def munmap(self, addr: int, length: int, /) -> None: ...
    def copy(self, dst: int, src: int, n: int, /) -> None: ...


def is_above(size: int, block: int, other_size: int, other: int) -> bool:
    """Whether a block belongs above another."""
    return size > other_size or (size == other_size and block < other)


class BinaryHeap(Index):
    """A max-heap of the free blocks."""

    MIN_BLOCK = 32
    WORDS = 3

    def __init__(
        self,
        memory: MappedMemory,
        base: int,
        options: Mapping[str, int],
        end: Callable[[], int] = lambda: ADDRESSES,
        seal: Seal | None = None,
    ) -> None:
        super().__init__(memory, base, options, end, seal)
        self._memory = memory

    def init(self, heap_bytes: int) -> None:
        self._store(self._base + CAPACITY, 0)
        self._store(self._base + COUNT, 0)
        if not self.reserve(heap_bytes):
            raise MemoryError("the kernel gives no memory for the binary heap's array")

    def reserve(self, heap_bytes: int) -> bool:
        load, store, base, memory = self._load, self._store, self._base, self._memory
        most = heap_bytes // (2 * self.MIN_BLOCK) + 1
        capacity = load(base + CAPACITY)
        if most <= capacity:
            return True
        length = round_up(WORD * max(most, 2 * capacity), memory.page_size)
        try:
            array = memory.mmap(length)
        except OSError:
            return False
        if capacity:
            old = load(base + ARRAY)
            memory.copy(array, old, WORD * load(base + COUNT))
            memory.munmap(old, WORD * capacity)
        store(base + ARRAY, array)
        store(base + CAPACITY, length // WORD)
        return True

    # ---- the index ----

    def find(self, need: int) -> Found:
        load = self._load
        if load(self._base + COUNT):
            largest = load(load(self._base + ARRAY))
            if self._checks_links and not self._is_link(largest):
                raise HeapCorruption(self._base, Rule.BROKEN_INDEX)
            word = load(largest)
            if size_of(word) >= need:
                return largest, word, None
        return NOTHING

    def insert(self, block: int, size: int) -> None:
        count = self._load(self._base + COUNT)
        self._store(self._base + COUNT, count + 1)
        self._sift_up(self._load(self._base + ARRAY), count, block, size)

    def remove(self, block: int, size: int, where: Any = None) -> None:
        load = self._load
        count = load(self._base + COUNT) - 1
        array, slot = self._slot_of(block)
        self._store(self._base + COUNT, count)
        if slot == count:
            return
        last, last_size = self._entry(array, count)
        if is_above(last_size, last, size, block):
            self._sift_up(array, slot, last, last_size)
        else:
            self._sift_down(array, slot, last, last_size, count)

    def shrink(self, block: int, size: int, to: int, rest: int, where: Any = None) -> None:
        array, slot = self._slot_of(block)
        self._sift_down(array, slot, to, rest, self._load(self._base + COUNT))

    def grow(self, block: int, size: int, to: int, total: int) -> None:
        array, slot = self._slot_of(block)
        self._sift_up(array, slot, to, total)

    # ---- slots ----

    def _slot_of(self, block: int) -> tuple[int, int]:
        """Return the array, and the slot of a block, which has to hold it."""
        load = self._load
        array, slot = load(self._base + ARRAY), load(block + SLOT)
        if self._checks_links and (slot >= load(self._base + COUNT) or load(array + WORD * slot) != block):
            raise HeapCorruption(block + HEADER, Rule.BROKEN_LINK)
        return array, slot

    def _entry(self, array: int, slot: int) -> tuple[int, int]:
        """Return a block of the array, which has to be a free one, and its size."""
        block = self._load(array + WORD * slot)
        if self._checks_links and not self._is_link(block):
            raise HeapCorruption(self._base, Rule.BROKEN_INDEX)
        word = self._load(block)
        if self._checks_all and (is_allocated(word) or not self._seal.holds(block, word)):
            raise HeapCorruption(block + HEADER, Rule.BROKEN_HEADER)
        return block, size_of(word)

    def _put(self, array: int, slot: int, block: int) -> None:
        self._store(array + WORD * slot, block)
        self._store(block + SLOT, slot)

    def _sift_up(self, array: int, slot: int, block: int, size: int) -> None:
        """Put a block into `slot`, which is free, or into one above it."""
        while slot:
            above = (slot - 1) // 2
            other, other_size = self._entry(array, above)
            if is_above(other_size, other, size, block):
                break
            self._put(array, slot, other)
            slot = above
        self._put(array, slot, block)

    def _sift_down(self, array: int, slot: int, block: int, size: int, count: int) -> None:
        """Put a block into `slot`, which is free, or into one below it."""
        while (below := 2 * slot + 1) < count:
            other, other_size = self._entry(array, below)
            if below + 1 < count:
                right, right_size = self._entry(array, below + 1)
                if is_above(right_size, right, other_size, other):
                    below, other, other_size = below + 1, right, right_size
            if is_above(size, block, other_size, other):
                break
            self._put(array, slot, other)
            slot = below
        self._put(array, slot, block)

    def walk(self) -> Iterator[Span]:
        if n_bytes := WORD * self._load(self._base + CAPACITY):
            yield Span.metadata(self._load(self._base + ARRAY), n_bytes)

    def entries(self) -> Iterator[Place]:
        load, array = self._load, self._load(self._base + ARRAY)
        for slot in range(load(self._base + COUNT)):
            above = load(array + WORD * ((slot - 1) // 2)) if slot else 0
            yield load(array + WORD * slot), f"slot {slot}", above

    def root_words(self) -> Iterator[Word]:
        load, base = self._load, self._base
        array, capacity, count = load(base + ARRAY), load(base + CAPACITY), load(base + COUNT)
        yield Word(base + ARRAY, 8, "array", f"{array:#x}", array)
        yield Word(base + CAPACITY, 8, "capacity", f"{capacity} slots")
        more = ", broken: more than the capacity" if count > capacity else ""
        yield Word(base + COUNT, 8, "count", f"{count} slots in use{more}")

    def links_of(self, block: int) -> Iterator[Word]:
        load = self._load
        array, slot = load(self._base + ARRAY), load(block + SLOT)
        if slot >= load(self._base + COUNT):
            yield Word(block + SLOT, 8, "slot", f"broken: slot {slot} is not in use")
            return
        other = "" if load(array + WORD * slot) == block else ", broken: another block is there"
        yield Word(block + SLOT, 8, "slot", f"slot {slot}{other}", array + WORD * slot)

    def words(self, window: Window) -> Iterator[Word]:
        load, base = self._load, self._base
        array, capacity = load(base + ARRAY), load(base + CAPACITY)
        count = min(load(base + COUNT), capacity)
        for slot in window.among(array, count, WORD):
            yield self._array_word(slot, array + WORD * slot)
        rest = f"slots not in use: {capacity - count}"
        yield from unused(array + WORD * count, array + WORD * capacity, rest)

    def _array_word(self, slot: int, at: int) -> Word:
        return self._link_word(at, f"slot {slot}", self._load(at), lambda to: self._load(to + SLOT) == slot)

    # ---- check ----

    def check_links(self, survey: Survey, block: int) -> None:
        self._slot_of(block)

    def check(self, survey: Survey) -> None:
        load = self._load
        count = load(self._base + COUNT)
        if count > load(self._base + CAPACITY):
            raise HeapCorruption(self._base, Rule.BROKEN_INDEX)
        array = load(self._base + ARRAY)
        for slot in range(count):
            block = load(array + WORD * slot)
            size = survey.indexed(block, array + WORD * slot - HEADER)
            if load(block + SLOT) != slot:
                raise HeapCorruption(block + HEADER, Rule.BROKEN_LINK)
            if slot:
                above = load(array + WORD * ((slot - 1) // 2))
                if not is_above(size_of(load(above)), above, size, block):
                    raise HeapCorruption(block + HEADER, Rule.BROKEN_INDEX)
