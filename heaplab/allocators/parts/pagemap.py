"""A page map: from the page of an address to a number, by hashing, without following the address.

    base -> +0  table     its address, a multiple of 64, and in the low 6 bits k: it has 2^k slots
            +8  count     slots in use: at most half of them

    slot    63                            17 + b                      0
            +------------------------------+--------------------------+
            |  number of the page          |  the number kept for it  |       2^b bytes are a page; 0: free
            +------------------------------+--------------------------+

An address has 47 bits, and so page and number fit into one word.  A lookup loads the table's word and, as a
rule, one slot: pages that lie side by side are spread evenly by the golden ratio (Knuth, TAOCP vol. 3, 6.4;
algorithms L and R).  A tree of tables by the bits of the address would load two or three words, and have
leaves of a page each.

The twin is csrc/parts/pagemap.h.
"""

from collections.abc import Callable, Iterator
from typing import Final, NamedTuple

from heaplab.allocators import decoding
from heaplab.allocators.base import Word
from heaplab.allocators.parts.index import Memory
from heaplab.allocators.parts.seal import FACTOR
from heaplab.errors import HeapCorruption, Rule

#: the words at the base
TABLE, COUNT, SIZE = 0, 8, 16
#: k of a table
LEAST, MOST = 3, 40
#: bits that an address has not
SPARE_BITS: Final = 17

_WORD: Final = (1 << 64) - 1


class Table(NamedTuple):
    """The table as the word at the base has it.  page: bytes."""

    at: int
    k: int
    page: int

    @property
    def slots(self) -> int:
        """How many slots it has."""
        return 1 << self.k

    @property
    def end(self) -> int:
        """The first address behind it."""
        return self.at + (8 << self.k)

    @property
    def numbers(self) -> int:
        """How many numbers there are: each is below."""
        return self.page << SPARE_BITS

    def number(self, slot: int) -> int:
        """Return the number that a slot keeps."""
        return slot & (self.numbers - 1)

    def page_of(self, slot: int) -> int:
        """Return the address of the page that a slot is for."""
        return slot >> SPARE_BITS & -self.page

    def home(self, p: int) -> int:
        """Return where the search for the page of p begins."""
        return (p // self.page * FACTOR & _WORD) >> (64 - self.k)


class PageMap:
    """The page map whose two words stand at `base`.

    >>> from types import SimpleNamespace
    >>> words = dict.fromkeys(range(0, 1024, 8), 0)
    >>> pages = PageMap(SimpleNamespace(load64=words.__getitem__, store64=words.__setitem__), 0, 4096)
    >>> pages.begin(64, 3)
    >>> pages.insert(pages.table(), 0x7000, 5)
    >>> pages.lookup(0x7ff0), pages.lookup(0x8000)
    (5, None)
    """

    def __init__(self, memory: Memory, base: int, page: int) -> None:
        self._load = memory.load64
        self._store = memory.store64
        self._base = base
        self._page = page

    def begin(self, at: int, k: int) -> None:
        """Make the 2^k zeroed words at `at` an empty table."""
        self._store(self._base + TABLE, at | k)
        self._store(self._base + COUNT, 0)

    def table(self) -> Table:
        """Return the table.  1 mem.  Raises: HeapCorruption when no table has so many slots."""
        word = self._load(self._base + TABLE)
        if not LEAST <= word & 63 <= MOST:
            raise HeapCorruption(self._base, Rule.BROKEN_INDEX)
        return Table(word & ~63, word & 63, self._page)

    def search(self, table: Table, p: int) -> tuple[int, int]:
        """Return the slot of the page of p, or the free one where the search ends: its number and content."""
        n, tag = table.home(p), p & -table.page
        for _ in range(table.slots):
            slot = self._load(table.at + 8 * n)
            if not slot or table.page_of(slot) == tag:
                return n, slot
            n = (n + 1) & (table.slots - 1)
        # half of the slots are free, in a sound table
        raise HeapCorruption(self._base, Rule.BROKEN_INDEX)

    def lookup(self, p: int) -> int | None:
        """Return the number of the page of p, or None.  2 mems, and 1 for each slot passed."""
        table = self.table()
        slot = self.search(table, p)[1]
        return table.number(slot) if slot else None

    def has_room(self, table: Table, more: int) -> bool:
        """Whether `more` pages find room.  1 mem."""
        return 2 * (self._load(self._base + COUNT) + more) <= table.slots

    def move(self, table: Table, at: int, k: int) -> Table:
        """Move to the 2^k zeroed words at `at`; return the new table."""
        to = Table(at, k, self._page)
        for n in range(table.slots):
            if slot := self._load(table.at + 8 * n):
                self._store(at + 8 * self.search(to, table.page_of(slot))[0], slot)
        self._store(self._base + TABLE, at | k)
        return to

    def insert(self, table: Table, p: int, number: int) -> None:
        """Keep the number for the page of p.  There is room."""
        n, _ = self.search(table, p)
        self._store(table.at + 8 * n, (p & -table.page) << SPARE_BITS | number)

    def remove(self, table: Table, p: int) -> None:
        """Forget the page of p.  What the search for other pages passes moves up (algorithm R)."""
        mask, hole = table.slots - 1, self.search(table, p)[0]
        first = at = hole
        while True:
            at = (at + 1) & mask
            slot = self._load(table.at + 8 * at)
            if not slot or at == first:
                break
            if (at - table.home(table.page_of(slot))) & mask >= (at - hole) & mask:
                self._store(table.at + 8 * hole, slot)
                hole = at
        self._store(table.at + 8 * hole, 0)

    def count(self, by: int = 0) -> int:
        """Add to the count; insert and remove leave that to who knows how many come together."""
        count = self._load(self._base + COUNT) + by
        if by:
            self._store(self._base + COUNT, count)
        return count

    def root_words(self) -> Iterator[Word]:
        """Yield the two words at the base, decoded."""
        word, count = self._load(self._base + TABLE), self._load(self._base + COUNT)
        if LEAST <= word & 63 <= MOST:
            yield Word(
                self._base + TABLE, 8, "page map", f"{word & ~63:#x}, {1 << (word & 63)} slots", word & ~63
            )
        else:
            yield Word(self._base + TABLE, 8, "page map", f"broken: no table has 2^{word & 63} slots")
        yield Word(self._base + COUNT, 8, "mapped pages", str(count))

    def words(self, window: decoding.Window, table: Table, kept: Callable[[int], int]) -> Iterator[Word]:
        """Yield the slots of the table, decoded; kept: the address that the number kept for a page means."""

        def tell(_: int, at: int, slot: int) -> Word:
            to = kept(table.number(slot))
            return Word(at, 8, "page map slot", f"page {table.page_of(slot):#x}: {to:#x}", to)

        return decoding.table(window, table.at, table.slots, tell, "slots not in use")
