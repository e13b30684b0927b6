"""Large blocks: a mapping each, known by a table.

    base = payload                                     base + length
    |                                                       |
    +-------------------------------------------------------+
    | payload                                               |     (an alignment above a page moves it up)
    +-------------------------------------------------------+

    root -> +16 table     the address of the table, in a mapping of its own, and in the low 6 bits k: it has
                          2^k slots; 0: no table yet
            +24 count     slots in use: at most half of them
            +32 threshold requests from here on are large, when the threshold is dynamic

    slot    | payload, 0: free | base | length | seal |

No word of a large block's metadata stands beside its payload, and a pointer is looked up without being
followed: free costs O(1), and no foreign pointer gets through.  The table is hashed by page, with linear
probing (Knuth, TAOCP vol. 3, 6.4, algorithms L and R).

The dynamic threshold is glibc's (malloc/malloc.c, __libc_free): when a large block is freed, requests below
its size are small from then on, up to 32 MiB; a program that often frees what it maps shall not map it.

Cost: malloc 9 mems and an mmap; free 9 to 11 mems and a munmap; one more for each slot passed.  A table that
is full is copied to one twice as large. The twin is csrc/sources/large.c.
"""

import errno
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Final

from heaplab._core import lib
from heaplab.allocators.base import MOST, SIZE_MAX, Checks, Span, State, Word, round_up
from heaplab.allocators.decoding import Window, sparse, unused
from heaplab.allocators.parts.seal import FACTOR, TAG, Seal
from heaplab.allocators.stated import shared
from heaplab.errors import HeapCorruption, Rule

if TYPE_CHECKING:
    from heaplab.process import Process

#: the words in the root
TABLE: Final = int(lib.ROOT_LARGE)
COUNT, THRESHOLD = TABLE + 8, TABLE + 16
#: the words of a slot, and its size
PAYLOAD, BASE, LENGTH, SEAL, SLOT = 0, 8, 16, 24, 32
#: where the dynamic threshold begins and ends, in bytes
LEAST, HIGHEST = int(lib.LARGE_LEAST), int(lib.LARGE_HIGHEST)
OPTIONS: Final = shared("mmap_threshold")

_WORD: Final = (1 << 64) - 1


class _Table:
    """The table as the root's word has it: its address and slots."""

    __slots__ = ("at", "page", "shift", "slots")

    def __init__(self, word: int, page: int) -> None:
        bits = word & 63
        self.at = word - bits
        self.slots = 1 << bits if word else 0
        self.shift = 64 - bits
        self.page = page

    def home(self, p: int) -> int:
        """Where the search for a payload begins."""
        return (p // self.page * FACTOR & _WORD) >> self.shift

    def slot(self, n: int) -> int:
        return self.at + SLOT * n


class Large:
    """The large blocks of a heap.  options: of the spec."""

    def __init__(self, process: "Process", options: Mapping[str, int], root: int, seal: Seal) -> None:
        self._process = process
        self._load = process.load64
        self._store = process.store64
        self._page_size = process.page_size
        self._root = root
        self._dynamic = options["mmap_threshold"] == SIZE_MAX
        self._least = LEAST if self._dynamic else options["mmap_threshold"]
        self._checks = options.get("checks", Checks.ALL)
        self._seal = seal

    def begin(self) -> None:
        """Write the root's words of an empty heap."""
        self._store(self._root + TABLE, 0)
        self._store(self._root + COUNT, 0)
        self._store(self._root + THRESHOLD, LEAST)

    def serves(self, size: int) -> bool:
        """Return whether a request of `size` bytes is large.  Below the least threshold no mems, else 1."""
        if size < self._least:
            return False
        return not self._dynamic or size >= self._load(self._root + THRESHOLD)

    def malloc(self, size: int, alignment: int) -> int:
        """Return a block in a mapping of its own, zeroed, at a multiple of `alignment`; 0 with errno."""
        process, page = self._process, self._page_size
        padding = alignment if alignment > page else 0
        if size + padding > MOST - page:
            process.errno = errno.ENOMEM
            return 0
        table = self._reserve()
        if table is None:
            return 0
        length = round_up(padding + max(size, 1), page)
        try:
            base = process.mmap(length)
        except OSError:
            return 0
        p = round_up(base, alignment)
        self._write(table.slot(self._search(table, p)[0]), p, base, length)
        self._store(self._root + COUNT, self._load(self._root + COUNT) + 1)
        return p

    def free(self, p: int) -> None:
        """Unmap the block at p.  Raises: HeapCorruption when p is no large block."""
        table, n, base, length = self._slot_of_allocated(p)
        self._empty(table, n)
        self._store(self._root + COUNT, self._load(self._root + COUNT) - 1)
        if self._dynamic and length <= HIGHEST and length > self._load(self._root + THRESHOLD):
            self._store(self._root + THRESHOLD, length)
        self._process.munmap(base, length)

    def usable(self, p: int) -> int:
        """Return how many bytes there are from p to the end of its mapping."""
        _, _, base, length = self._slot_of_allocated(p)
        return base + length - p

    def resize(self, p: int, size: int) -> bool:
        """Shrink by giving the pages behind the new end back; grow only into the rest of the last page."""
        table, n, base, length = self._slot_of_allocated(p)
        if size < self._least or size > base + length - p:
            return False
        needed = round_up(p - base + size, self._page_size)
        if needed < length:
            self._process.munmap(base + needed, length - needed)
            self._write(table.slot(n), p, base, needed)
        return True

    def walk(self) -> Iterator[Span]:
        """Yield the table, then the blocks in its order."""
        load, table = self._load, self._table()
        if table.slots:
            yield Span.metadata(table.at, round_up(SLOT * table.slots, table.page))
        for n in range(table.slots):
            slot = table.slot(n)
            if p := load(slot + PAYLOAD):
                base, length = load(slot + BASE), load(slot + LENGTH)
                if not 0 <= p - base < length:
                    raise HeapCorruption(p, Rule.BROKEN_HEADER)
                yield Span(base, length, p, base + length - p, State.LARGE)

    def check(self) -> None:
        """Verify every slot's seal and place, and that the root counts them."""
        load, page, table, count = self._load, self._page_size, self._table(), 0
        for n in range(table.slots):
            slot = table.slot(n)
            p = load(slot + PAYLOAD)
            if not p:
                continue
            base, length = load(slot + BASE), load(slot + LENGTH)
            whole = not (base % page or length % page or p % page) and 0 <= p - base < length
            if not whole or load(slot + SEAL) != self._seal_of(p, base, length):
                raise HeapCorruption(p, Rule.BROKEN_HEADER)
            if self._search(table, p)[0] != n:
                raise HeapCorruption(p, Rule.BROKEN_INDEX)
            count += 1
        if count != load(self._root + COUNT) or 2 * count > table.slots:
            raise HeapCorruption(self._root, Rule.BROKEN_INDEX)

    def root_words(self) -> Iterator[Word]:
        """Yield the root's words, decoded."""
        root, table = self._root, self._table()
        text = f"{table.at:#x}, {table.slots} slots" if table.slots else "no large block yet"
        yield Word(root + TABLE, 8, "large table", text, table.at)
        yield Word(root + COUNT, 8, "large blocks", str(self._load(root + COUNT)))
        threshold = self._load(root + THRESHOLD) if self._dynamic else self._least
        least = f"from {threshold:#x} bytes on" + ("" if self._dynamic else ", by the option")
        yield Word(root + THRESHOLD, 8, "large threshold", least)

    def words(self, window: Window) -> Iterator[Word]:
        """Yield the words of the table, decoded."""
        table = self._table()
        if table.slots:
            yield from sparse(window, table.at, table.slots, SLOT, self._slot_words, "slots not in use")
            yield from unused(table.slot(table.slots), table.at + round_up(SLOT * table.slots, table.page))

    def _slot_words(self, n: int, slot: int) -> list[Word]:
        load = self._load
        p = load(slot + PAYLOAD)
        if not p:
            return []
        base, length, seal = load(slot + BASE), load(slot + LENGTH), load(slot + SEAL)
        whole = 0 <= p - base < length and seal == self._seal_of(p, base, length)
        return [
            Word(slot + PAYLOAD, 8, "payload", f"{p:#x}", base if whole else 0),
            Word(slot + BASE, 8, "mapping", f"{base:#x}", base if whole else 0),
            Word(slot + LENGTH, 8, "length", f"{length:#x}"),
            Word(slot + SEAL, 8, "seal", self._seal.describe(p, seal) if whole else "seal broken"),
        ]

    # ---- the table ----

    def _table(self) -> _Table:
        return _Table(self._load(self._root + TABLE), self._page_size)

    def _seal_of(self, p: int, base: int, length: int) -> int:
        return self._seal(p, (base ^ length << 1) & TAG)

    def _write(self, slot: int, p: int, base: int, length: int) -> None:
        store = self._store
        store(slot + PAYLOAD, p)
        store(slot + BASE, base)
        store(slot + LENGTH, length)
        store(slot + SEAL, self._seal_of(p, base, length))

    def _search(self, table: _Table, p: int) -> tuple[int, int]:
        """Return the number of the slot that has p, or of the free one after the search; and what it has."""
        n = table.home(p)
        for _ in range(table.slots):
            found = self._load(table.slot(n) + PAYLOAD)
            if not found or found == p:
                return n, found
            n = (n + 1) & (table.slots - 1)
        # half of the slots are free, in a sound table
        raise HeapCorruption(self._root, Rule.BROKEN_INDEX)

    def _reserve(self) -> _Table | None:
        """Return a table with a slot for one more block; None with errno."""
        process, load, page, old = self._process, self._load, self._page_size, self._table()
        if 2 * (load(self._root + COUNT) + 1) <= old.slots:
            return old
        slots = 2 * old.slots or page // SLOT
        try:
            at = process.mmap(round_up(SLOT * slots, page))
        except OSError:
            return None
        word = at | slots.bit_length() - 1
        table = _Table(word, page)
        if old.slots:
            for n in range(old.slots):
                if p := load(old.slot(n) + PAYLOAD):
                    process.copy(table.slot(self._search(table, p)[0]), old.slot(n), SLOT)
            process.munmap(old.at, SLOT * old.slots)
        self._store(self._root + TABLE, word)
        return table

    def _slot_of_allocated(self, p: int) -> tuple[_Table, int, int, int]:
        """Return the table, the number of p's slot, and p's base and length; or raise HeapCorruption."""
        load, table = self._load, self._table()
        if p & (table.page - 1) or not table.slots:
            raise HeapCorruption(p, Rule.FOREIGN_POINTER)
        n, found = self._search(table, p)
        if not found:
            raise HeapCorruption(p, Rule.FOREIGN_POINTER)
        slot = table.slot(n)
        base, length = load(slot + BASE), load(slot + LENGTH)
        if self._checks == Checks.ALL and load(slot + SEAL) != self._seal_of(p, base, length):
            raise HeapCorruption(p, Rule.BROKEN_HEADER)
        return table, n, base, length

    def _empty(self, table: _Table, n: int) -> None:
        """Empty slot n and move what was kept from its own place by it (algorithm R)."""
        mask, hole, at = table.slots - 1, n, n
        while True:
            at = (at + 1) & mask
            p = self._load(table.slot(at) + PAYLOAD)
            if not p or at == n:
                break
            if (at - table.home(p)) & mask >= (at - hole) & mask:  # its search passes the hole
                self._process.copy(table.slot(hole), table.slot(at), SLOT)
                hole = at
        self._store(table.slot(hole) + PAYLOAD, 0)
