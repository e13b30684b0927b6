"""Memory for a design's own use: mappings that stay, and a book of them, so that a walk finds each.

    base -> +0   page      the page of the book that is being written; the first one stands at +16
            +8   entries   of this page
            +16  | 0          | address | length | address | length | ...      the first page, 7 entries
    page    +0   | page before | address | length | ...                         a mapping of its own

Cost: a mapping 5 mems; looking one up a mem an entry.
The twin is csrc/sources/book.c.
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

from heaplab.allocators.base import Span

if TYPE_CHECKING:
    from heaplab.process import Process

PAGE, ENTRIES, START, FIRST = 0, 8, 16, 7
BEFORE, ROWS, ROW = 0, 8, 16
BYTES: Final = START + ROWS + FIRST * ROW


class Book:
    """The mappings that a design has for itself; base: where the book's words are, BYTES of them."""

    def __init__(self, process: "Process", base: int) -> None:
        self._process = process
        self._load = process.load64
        self._store = process.store64
        self._page_size = process.page_size
        self._base = base

    def begin(self) -> None:
        """Write the words of an empty book over zeros."""
        self._store(self._base + PAGE, self._base + START)

    def _capacity(self, page: int) -> int:
        return FIRST if page == self._base + START else (self._page_size - ROWS) // ROW

    def map(self, n_bytes: int) -> int:
        """Map `n_bytes`, a multiple of the page size; return their address, zeroed, or 0 with errno."""
        load, store, base = self._load, self._store, self._base
        page, n = load(base + PAGE), load(base + ENTRIES)
        try:
            if n == self._capacity(page):
                at = self._process.mmap(self._page_size)
                store(at + BEFORE, page)
                store(base + PAGE, at)
                store(base + ENTRIES, 0)
                page, n = at, 0
            at = self._process.mmap(n_bytes)
        except OSError:
            return 0
        row = page + ROWS + ROW * n
        store(row, at)
        store(row + 8, n_bytes)
        store(base + ENTRIES, n + 1)
        return at

    def has(self, address: int) -> bool:
        """Return whether a mapping of the book starts at this address."""
        page, n = self._load(self._base + PAGE), self._load(self._base + ENTRIES)
        while page:
            while n:
                n -= 1
                if self._load(page + ROWS + ROW * n) == address:
                    return True
            page = self._load(page + BEFORE)
            n = self._capacity(page)
        return False

    def walk(self) -> Iterator[Span]:
        """Yield the mappings, those of the book's pages too but for the first."""
        load = self._load
        page, n = load(self._base + PAGE), load(self._base + ENTRIES)
        while True:
            while n:
                n -= 1
                row = page + ROWS + ROW * n
                yield Span.metadata(load(row), load(row + 8))
            if page == self._base + START:
                return
            yield Span.metadata(page, self._page_size)
            page = load(page + BEFORE)
            n = self._capacity(page)
