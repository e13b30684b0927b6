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

from heaplab.allocators.base import Span, Word
from heaplab.allocators.decoding import leads, unused

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

    def pages(self) -> Iterator[tuple[int, int]]:
        """Yield each page and its entries, the one that is being written first."""
        page, n = self._load(self._base + PAGE), self._load(self._base + ENTRIES)
        while page:
            yield page, n
            page = self._load(page + BEFORE)
            n = self._capacity(page)

    def has(self, address: int) -> bool:
        """Return whether a mapping of the book starts at this address."""
        return any(
            self._load(page + ROWS + ROW * i) == address
            for page, n in self.pages()
            for i in reversed(range(n))
        )

    def walk(self) -> Iterator[Span]:
        """Yield the mappings, those of the book's pages too but for the first."""
        load = self._load
        for page, n in self.pages():
            for i in reversed(range(n)):
                row = page + ROWS + ROW * i
                yield Span.metadata(load(row), load(row + 8))
            if page != self._base + START:
                yield Span.metadata(page, self._page_size)

    def root_words(self) -> Iterator[Word]:
        """Yield the words at the base, decoded."""
        page, n = self._load(self._base + PAGE), self._load(self._base + ENTRIES)
        yield Word(self._base + PAGE, 8, "book", f"{page:#x}, the page that is being written", page)
        yield Word(self._base + ENTRIES, 8, "entries", f"mappings on this page: {n}")
        first = self._base + START
        yield from self.page_words(first, n if page == first else FIRST)

    def page_words(self, page: int, n: int) -> Iterator[Word]:
        """Yield the words of a page with n entries, decoded."""
        load, most = self._load, self._capacity(page)
        before = load(page + BEFORE)
        yield Word(page + BEFORE, 8, "page before", leads(before), before)
        for i in range(min(n, most)):
            row = page + ROWS + ROW * i
            at, n_bytes = load(row), load(row + 8)
            yield Word(row, 8, "mapping", f"{at:#x}", at)
            yield Word(row + 8, 8, "bytes", f"{n_bytes:#x}")
        end = self._base + BYTES if page == self._base + START else page + self._page_size
        yield from unused(page + ROWS + ROW * min(n, most), end)
