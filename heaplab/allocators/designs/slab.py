"""Slab: blocks of one size side by side in a slab, and not a byte of metadata in them or beside them.

    alignment       16 bytes; any power of two up to a page without padding
    overhead        none in a block; 8 classes from a power of two to the next, so 4.6 % of the request on the
                    average and 12.5 % at most; a slab has a descriptor of 64 bytes, and wastes a 16th at most
    minimum block   16 bytes, all of them payload
    malloc          4 mems; 5 more when that fills the slab; 25 more for a slab of one page
    free            5 mems; 6 more when the slab was full; 25 more when its one page goes back
    metadata        descriptors, page map and list heads, all in memory by brk, far from the blocks
    source          Bonwick, The Slab Allocator, USENIX Summer 1994; Linux, mm/slab.c (descriptors off the
                    slab); Kamp's phkmalloc, OpenBSD's malloc.c (a directory of pages, a bitmap for each)

    by brk    | root | descriptor | descriptor | page map | descriptor | ...          (metadata)
                           |             |
    by mmap   | chunk      v             v                            |               (blocks)
              | block block block ... | slab of larger blocks | pages |

    root -> +40  map       of the pages that blocks start in (parts/pagemap.py)
            +56  fresh     the first descriptor that was never used
            +64  spare     the list of those that are free again
            +72  empty     pages of the slabs that are kept without a block in use
            +80  idle      how many chunks are kept without a slab
            +88  heads     of the lists: chunks with a free page; then slabs with a free block, a class each

    descriptor  +0   word  63            17 + b   17  14   8       0
                          +---------------+------+----+-----+-------+
                          | number of the |      |hint|pages| class |     2^b bytes are a page; all 0: spare
                          |  first page   |      |    |     |       |
                          +---------------+------+----+-----+-------+
                +8   next  in its list, or 0
                +16  prev  the address of the word that points here, a next or a head
                +24  home  of a slab: its chunk's descriptor; of a chunk: pages << 32 | pages in use
                +32  bits  256 of them (parts/bitmap.py): set while the block, or the chunk's page, is free

malloc takes the lowest free block of the first slab of its class.  The hint says which word of the bitmap has
this block, so that one word is loaded: the lowest address costs no more than any other free block.  Lowest
first keeps the blocks in use together at the beginning of a slab, and leaves its last pages untouched.  Two
more hints are FULL, no block is free, and EMPTY, no block is in use.

free looks the page of the pointer up in the page map, and follows no pointer of the program's.  So a double
free, a foreign pointer and a pointer into a block are always noticed.  When a slab has been given back, a
block of it that is freed again is a foreign pointer.  Whatever a program writes over the end of a block, or
into a freed one, changes nothing that the allocator reads.  After fork, a child that frees writes descriptors
and no block: few pages are copied.

A slab whose last block is freed stays if it is the only one of its class with a free block, and if no more
than `keep` bytes of such slabs stay; else its pages go back to its chunk, where any class can have them.  A
chunk without a slab is unmapped, except for `idle_chunks` of them.  Requests of more than 32 pages, or from
mmap_threshold on, or aligned to more than a page, have a mapping each (sources/large.py).  The metadata do
not shrink: spare descriptors are used again.  `checks` says whether links between descriptors, and seals of
large blocks, are verified; pointers are verified always.

The twin is csrc/designs/slab.c.
"""

import errno
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

from heaplab.allocators.base import ADDRESSES, ALIGN, Entry, Span, State, Word, round_up
from heaplab.allocators.decoding import Window, telling, unused
from heaplab.allocators.design import Design
from heaplab.allocators.layouts.slab import (
    BITS,
    CAPACITY,
    CHUNK,
    CLASS_BITS,
    DESCRIPTOR,
    EMPTY,
    FIRST_TABLE,
    FULL,
    HOME,
    LEAST_CHUNK,
    MOST_PAGES,
    NEXT,
    PREV,
    ROOT_EMPTY,
    ROOT_FRESH,
    ROOT_HEADS,
    ROOT_IDLE,
    ROOT_MAP,
    ROOT_SPARE,
    WORD,
    SlabWords,
    blocks_in,
    class_of,
    hint_of,
    pages_for,
    pages_of,
    size_of,
    start_of,
    with_hint,
    word_of,
)
from heaplab.allocators.parts import bitmap, pagemap
from heaplab.allocators.parts.bitmap import Bitmaps, lowest
from heaplab.allocators.parts.pagemap import PageMap, Table
from heaplab.allocators.sources import brk
from heaplab.allocators.sources.large import Large
from heaplab.allocators.stated import stated
from heaplab.errors import Rule

if TYPE_CHECKING:
    from heaplab.process import Process


@dataclass
class _Tally:
    """What the check has met among the descriptors."""

    table: Table
    fresh: int
    slabs: int = 0
    spares: int = 0
    idle: int = 0
    empty: int = 0
    #: slabs met page by page in their chunks
    tiles: int = 0
    #: slabs and chunks that belong in a list
    listed: int = 0
    #: pages that blocks start in
    mapped: int = 0


class Slab(Design):
    """Slabs with a bitmap out of band; see the head of this module."""

    NAME = "slab"
    MAGIC, TRAITS, SMALLEST, OPTIONS = stated("slab")
    STRUCTURE = (
        "a bitmap of the free blocks of each slab, and a list of the slabs of each class that have one"
    )

    def __init__(self, process: "Process", options: Mapping[str, int], root: int) -> None:
        super().__init__(process, options, root)
        self._brk = brk.Brk(process, self.options, root)
        self._large = Large(process, self.options, root, self._seal)
        self._bitmaps = Bitmaps(process)
        self._map = PageMap(process, root + ROOT_MAP, self._page_size)
        self._fresh, self._spare = root + ROOT_FRESH, root + ROOT_SPARE
        self._empty, self._idle = root + ROOT_EMPTY, root + ROOT_IDLE
        self._chunks, self._heads = root + ROOT_HEADS, root + ROOT_HEADS + 8
        self._largest = MOST_PAGES * self._page_size
        self._n_classes = class_of(self._largest) + 1
        self._area = round_up(self._heads + 8 * self._n_classes, DESCRIPTOR)
        self._chunk_pages = min(max(self.options["chunk"] // self._page_size, LEAST_CHUNK), CAPACITY)

    @classmethod
    def _begin(cls, process: "Process", options: Mapping[str, int]) -> int:
        classes = class_of(MOST_PAGES * process.page_size) + 1
        # the area may start up to 48 bytes later than from a root at a multiple of 64
        size = round_up(ROOT_HEADS + 8 * (1 + classes), ALIGN) + DESCRIPTOR - ALIGN + (8 << FIRST_TABLE)
        return brk.begin(process, options, size, cls.MAGIC)

    def _init(self) -> None:
        end = self._area + (8 << FIRST_TABLE)
        self._large.begin()
        self.process.fill(self.root + ROOT_MAP, 0, end - self.root - ROOT_MAP)
        self._map.begin(self._area, FIRST_TABLE)
        self._store(self._fresh, end)

    def _start_of(self, word: int) -> int:
        return start_of(word, self._page_size)

    def _head(self, size_class: int) -> int:
        return self._heads + 8 * size_class

    # descriptors

    def _is_descriptor(self, link: int) -> bool:
        """Whether a descriptor may stand there, so that it can be loaded."""
        return self._area <= link < self.process.sbrk(0) and link % DESCRIPTOR == 0

    def _take_fresh(self, n_bytes: int) -> int:
        """Return `n_bytes` (a multiple of 64) of the metadata that were never used; 0 with errno.

        Grows by a quarter, so that there are few brks; what was not touched yet has no frame.
        """
        at = self._load(self._fresh)
        room = self._brk.end() - at
        if n_bytes > room and not (
            self._brk.grow(n_bytes + (at - self.root) // 4) or self._brk.grow(n_bytes - room)
        ):
            return 0
        self._store(self._fresh, at + n_bytes)
        return at

    def _new_descriptor(self) -> int:
        spare = self._load(self._spare)
        if not spare:
            return self._take_fresh(DESCRIPTOR)
        if self._checks_links and (not self._is_descriptor(spare) or self._load(spare + WORD)):
            self._corrupt(self.root, Rule.BROKEN_LINK)
        self._store(self._spare, self._load(spare + NEXT))
        return spare

    def _drop_descriptor(self, descriptor: int) -> None:
        self._store(descriptor + WORD, 0)
        self._store(descriptor + NEXT, self._load(self._spare))
        self._store(self._spare, descriptor)

    # lists

    def _push(self, descriptor: int, head: int) -> None:
        load, store = self._load, self._store
        following = load(head)
        store(descriptor + NEXT, following)
        store(descriptor + PREV, head)
        store(head, descriptor)
        if following:
            store(following + PREV, descriptor + NEXT)

    def _unlink(self, descriptor: int, head: int) -> None:
        load, store = self._load, self._store
        following, pointer = load(descriptor + NEXT), load(descriptor + PREV)
        if self._checks_links:
            if (pointer != head and not self._is_descriptor(pointer - NEXT)) or load(pointer) != descriptor:
                self._corrupt(descriptor, Rule.BROKEN_LINK)
            if following and (
                not self._is_descriptor(following) or load(following + PREV) != descriptor + NEXT
            ):
                self._corrupt(descriptor, Rule.BROKEN_LINK)
        store(pointer, following)
        if following:
            store(following + PREV, pointer)

    # the page map

    def _reserve(self, more: int) -> bool:
        """Make sure that `more` pages find room; False with errno.  The table left becomes descriptors."""
        table = self._map.table()
        while not self._map.has_room(table, more):
            n_bytes = 2 * (table.end - table.at)
            at = self._take_fresh(n_bytes)
            if not at:
                return False
            self.process.fill(at, 0, n_bytes)
            moved = self._map.move(table, at, table.k + 1)
            for descriptor in reversed(range(table.at, table.end, DESCRIPTOR)):
                self._drop_descriptor(descriptor)
            table = moved
        return True

    def _has_number(self, slab: int) -> bool:
        """Whether the page map can keep the number of a new slab; or errno."""
        if (slab - self._area) // DESCRIPTOR < self._page_size << pagemap.SPARE_BITS:
            return True
        self.process.errno = errno.ENOMEM
        return False

    def _mapped_pages(self, word: int) -> Iterator[int]:
        """Yield the pages that blocks of the slab with this word start in."""
        page, size = self._page_size, size_of(word & CLASS_BITS)
        blocks, block = blocks_in(size, pages_of(word), page), 0
        while block < blocks:
            offset = block * size & -page
            yield self._start_of(word) + offset
            block = -(-(offset + page) // size)

    def _enter(self, slab: int, word: int) -> None:
        table, number = self._map.table(), (slab - self._area) // DESCRIPTOR
        pages = list(self._mapped_pages(word))
        for page in pages:
            self._map.insert(table, page, number)
        self._map.count(len(pages))

    def _forget(self, word: int) -> None:
        table, pages = self._map.table(), list(self._mapped_pages(word))
        for page in pages:
            self._map.remove(table, page)
        self._map.count(-len(pages))

    def _slab_at(self, p: int) -> int:
        """Return the descriptor of the slab that has the page of p; 0 when none has."""
        if p >= ADDRESSES:
            self._corrupt(p, Rule.FOREIGN_POINTER)
        number = self._map.lookup(p)
        return 0 if number is None else self._area + DESCRIPTOR * number

    # chunks

    def _new_chunk(self) -> int:
        """Return a chunk with all pages free, in its list: its descriptor, or 0 with errno."""
        chunk, pages = self._new_descriptor(), self._chunk_pages
        if not chunk:
            return 0
        try:
            start = self.process.mmap(pages * self._page_size)
        except OSError:
            self._drop_descriptor(chunk)
            return 0
        self._store(chunk + WORD, word_of(start, 0, 0, CHUNK))
        self._store(chunk + HOME, pages << 32)
        self._bitmaps.fill(chunk + BITS, pages)
        self._push(chunk, self._chunks)
        self._store(self._idle, self._load(self._idle) + 1)
        return chunk

    def _take_pages(self, pages: int) -> tuple[int, int]:
        """Take pages side by side out of the first chunk that has them, at the lowest address.

        Returns: where they start, and the chunk's descriptor; (0, 0) with errno.
        """
        load, store = self._load, self._store
        chunk, counts, first = load(self._chunks), 0, -1
        while chunk:
            if not self._is_descriptor(chunk):
                self._corrupt(self.root, Rule.BROKEN_LINK)
            counts = load(chunk + HOME)
            first = self._bitmaps.find(chunk + BITS, counts >> 32, pages)
            if first >= 0:
                break
            chunk = load(chunk + NEXT)
        if not chunk:
            chunk = self._new_chunk()
            if not chunk:
                return 0, 0
            counts, first = load(chunk + HOME), 0
        if not counts & 0xFFFFFFFF:
            store(self._idle, load(self._idle) - 1)
        counts += pages
        self._bitmaps.clear(chunk + BITS, first, pages)
        store(chunk + HOME, counts)
        if counts & 0xFFFFFFFF == counts >> 32:
            self._unlink(chunk, self._chunks)
        return self._start_of(load(chunk + WORD)) + first * self._page_size, chunk

    def _give_pages(self, chunk: int, start: int, pages: int) -> None:
        """Give pages back to their chunk; give the chunk back when enough are kept without a slab."""
        load, store = self._load, self._store
        word, counts = load(chunk + WORD), load(chunk + HOME)
        if word & CLASS_BITS != CHUNK:
            self._corrupt(chunk, Rule.BROKEN_HEADER)
        base, used, whole = self._start_of(word), counts & 0xFFFFFFFF, counts >> 32
        self._bitmaps.set(chunk + BITS, (start - base) // self._page_size, pages)
        store(chunk + HOME, counts - pages)
        if used == whole:
            self._push(chunk, self._chunks)
        if used != pages:
            return
        idle = load(self._idle)
        if idle < self.options["idle_chunks"]:
            store(self._idle, idle + 1)
            return
        self._unlink(chunk, self._chunks)
        self._drop_descriptor(chunk)
        self.process.munmap(base, whole * self._page_size)

    # slabs

    def _new_slab(self, size_class: int) -> int:
        """Return a slab with all blocks free, in its list: its descriptor; or 0 with errno, nothing lost."""
        size = size_of(size_class)
        pages = pages_for(size, self._page_size)
        slab = self._new_descriptor() if self._reserve(pages) else 0
        if not slab:
            return 0
        start, chunk = self._take_pages(pages) if self._has_number(slab) else (0, 0)
        if not start:
            self._drop_descriptor(slab)
            return 0
        word = word_of(start, 0, pages, size_class)
        self._store(slab + WORD, word)
        self._store(slab + HOME, chunk)
        self._bitmaps.fill(slab + BITS, blocks_in(size, pages, self._page_size))
        self._push(slab, self._head(size_class))
        self._enter(slab, word)
        return slab

    def _drop_slab(self, slab: int, word: int) -> None:
        """Give a slab's pages back; it is in no list, and none of its blocks is in use."""
        chunk = self._load(slab + HOME)
        if not self._is_descriptor(chunk):
            self._corrupt(slab, Rule.BROKEN_HEADER)
        self._forget(word)
        self._drop_descriptor(slab)
        self._give_pages(chunk, self._start_of(word), pages_of(word))

    # malloc

    def _malloc(self, size: int, alignment: int) -> int:
        if size > self._largest or self._large.serves(size) or alignment > self._page_size:
            self._zeroed = True
            return self._large.malloc(size, alignment)
        size_class = class_of(size)
        if alignment > ALIGN:  # slabs start at pages: blocks of a multiple of the alignment are aligned
            size_class = class_of(max(size, alignment))
            while size_of(size_class) & (alignment - 1):
                size_class += 1
        return self._take(size_class)

    def _take(self, size_class: int) -> int:
        """Return the lowest free block of the first slab of the class."""
        load, store, head = self._load, self._store, self._head(size_class)
        slab = load(head) or self._new_slab(size_class)
        if not slab:
            return 0
        if not self._is_descriptor(slab):
            self._corrupt(self.root, Rule.BROKEN_LINK)
        word, size = load(slab + WORD), size_of(size_class)
        w = hint = hint_of(word)
        if hint >= FULL:
            if hint != EMPTY:
                self._corrupt(slab, Rule.BROKEN_INDEX)
            store(self._empty, load(self._empty) - pages_of(word))
            w = 0
        blocks = blocks_in(size, pages_of(word), self._page_size)
        bits = load(slab + BITS + 8 * w)
        block = 64 * w + lowest(bits) if bits else blocks
        if word & CLASS_BITS != size_class or block >= blocks:
            self._corrupt(slab, Rule.BROKEN_INDEX)
        bits &= bits - 1
        store(slab + BITS + 8 * w, bits)
        if not bits:
            w = self._bitmaps.next_word(slab + BITS, blocks, w + 1)
            if w == bitmap.words(blocks):
                w = FULL
                self._unlink(slab, head)
        if w != hint:
            store(slab + WORD, with_hint(word, w))
        return self._start_of(word) + block * size

    # free

    def _block_at(self, p: int, slab: int) -> tuple[int, int, int]:
        """Return the number of the allocated block at p, its slab's word, and its word of the bitmap.

        Raises: HeapCorruption when no allocated block starts at p.
        """
        if not self._is_descriptor(slab):
            self._corrupt(self.root, Rule.BROKEN_INDEX)
        word = self._load(slab + WORD)
        size = size_of(self._class_in(slab, word))
        block, rest = divmod(p - self._start_of(word), size)
        if rest or not 0 <= block < blocks_in(size, pages_of(word), self._page_size):
            self._corrupt(p, Rule.FOREIGN_POINTER)
        bits = self._load(slab + BITS + block // 64 * 8)
        if bits >> block % 64 & 1:
            self._corrupt(p, Rule.DOUBLE_FREE)
        return block, word, bits

    def _class_in(self, slab: int, word: int) -> int:
        """Return the class of the slab that has this word."""
        if not word or word & CLASS_BITS >= self._n_classes:
            self._corrupt(slab, Rule.BROKEN_HEADER)
        return word & CLASS_BITS

    def _free(self, p: int) -> None:
        slab = self._slab_at(p)
        if not slab:
            self._large.free(p)
            return
        block, word, bits = self._block_at(p, slab)
        w, size_class = block // 64, word & CLASS_BITS
        blocks = blocks_in(size_of(size_class), pages_of(word), self._page_size)
        bits |= 1 << block % 64
        self._store(slab + BITS + 8 * w, bits)
        if bits == bitmap.mask(blocks, w) and self._bitmaps.is_full(slab + BITS, blocks):
            self._emptied(slab, word)
            return
        if w < hint_of(word):
            self._store(slab + WORD, with_hint(word, w))
        if hint_of(word) == FULL:
            self._push(slab, self._head(size_class))

    def _emptied(self, slab: int, word: int) -> None:
        """Keep the slab, whose last block in use was freed, or give its pages back.

        It stays when it is the only one of its class with a free block, and few are kept so.
        """
        load, head, was_full = self._load, self._head(word & CLASS_BITS), hint_of(word) == FULL
        first = load(head)
        if not first or (first == slab and not load(slab + NEXT)):
            empty = load(self._empty) + pages_of(word)
            if empty <= self.options["keep"] // self._page_size:
                self._store(self._empty, empty)
                self._store(slab + WORD, with_hint(word, EMPTY))
                if was_full:
                    self._push(slab, head)
                return
        if not was_full:
            self._unlink(slab, head)
        self._drop_slab(slab, word)

    def _usable(self, p: int) -> int:
        slab = self._slab_at(p)
        if not slab:
            return self._large.usable(p)
        return size_of(self._block_at(p, slab)[1] & CLASS_BITS)

    def _resize(self, p: int, size: int) -> bool:
        """In place when the class stays."""
        slab = self._slab_at(p)
        if not slab:
            return self._large.resize(p, size)
        word = self._block_at(p, slab)[1]
        fits = size <= self._largest and not self._large.serves(size)
        return fits and class_of(size) == word & CLASS_BITS

    # walk

    def _walk(self) -> Iterator[Span]:
        table, fresh = self._verify_layout()
        # the root with all that is by brk, cut where the page map begins and ends
        borders = [self.root, self._area, table.at, table.end, self._brk.end()]
        for start, end in pairwise(borders):
            if start < end:
                yield Span.metadata(start, end - start)
        for descriptor in self._descriptors(table, fresh):
            word = self._load(descriptor + WORD)
            if word & CLASS_BITS == CHUNK:
                yield from self._walk_chunk(descriptor, word)
            elif word:
                yield from self._walk_slab(descriptor, word)
        yield from self._large.walk()

    def _entries(self) -> Iterator[Entry]:
        for size_class in range(self._n_classes):
            slab, place, group = self._load(self._head(size_class)), 0, f"class {size_class}"
            while slab:
                for span in self._walk_slab(slab, self._load(slab + WORD)):
                    if span.state == State.FREE:  # no block leads to it: the slab's bitmap does
                        yield Entry(span.start, span.size, f"{group}, slab {place}", 0, group)
                slab, place = self._load(slab + NEXT), place + 1

    def _walk_chunk(self, chunk: int, word: int) -> Iterator[Span]:
        """The free pages of a chunk."""
        start, page, pages = self._start_of(word), self._page_size, self._pages_of_chunk(chunk, word)
        first, length = self._bitmaps.run(chunk + BITS, pages, 0, CAPACITY)
        while first < pages:
            at, size = start + first * page, length * page
            yield Span(at, size, at, size, State.FREE)
            first, length = self._bitmaps.run(chunk + BITS, pages, first + length, CAPACITY)

    def _walk_slab(self, slab: int, word: int) -> Iterator[Span]:
        """The blocks of a slab, and what is behind the last."""
        blocks, size, p = self._blocks_of(slab, word), size_of(word & CLASS_BITS), self._start_of(word)
        end = p + pages_of(word) * self._page_size
        bits = 0
        for block in range(blocks):
            if block % 64 == 0:
                bits = self._load(slab + BITS + block // 8)
            yield Span(p, size, p, size, State.FREE if bits >> block % 64 & 1 else State.ALLOCATED)
            p += size
        if p < end:
            yield Span.metadata(p, end - p)

    def _descriptors(self, table: Table, fresh: int) -> Iterator[int]:
        """Yield where descriptors stand."""
        yield from range(self._area, table.at, DESCRIPTOR)
        yield from range(table.end, fresh, DESCRIPTOR)

    def _blocks_of(self, slab: int, word: int) -> int:
        """Return how many blocks the slab has; HeapCorruption when its word is not sound."""
        size = size_of(self._class_in(slab, word))
        if pages_of(word) != pages_for(size, self._page_size):
            self._corrupt(slab, Rule.BROKEN_HEADER)
        return blocks_in(size, pages_of(word), self._page_size)

    def _pages_of_chunk(self, chunk: int, word: int) -> int:
        """Return the pages of a chunk; HeapCorruption when its words are not sound."""
        counts = self._load(chunk + HOME)
        pages = counts >> 32
        if not self._start_of(word) or pages != self._chunk_pages or counts & 0xFFFFFFFF > pages:
            self._corrupt(chunk, Rule.BROKEN_HEADER)
        return pages

    def _verify_layout(self) -> tuple[Table, int]:
        """Return the page map's table and `fresh`; HeapCorruption when they do not lie where they have to."""
        end, fresh, table = self._brk.end(), self._load(self._fresh), self._map.table()
        if end % self._page_size or end > self.process.sbrk(0) or fresh % DESCRIPTOR:
            self._corrupt(self.root, Rule.BROKEN_ROOT)
        if not self._area <= table.at < table.end <= fresh <= end:
            self._corrupt(self.root, Rule.BROKEN_ROOT)
        return table, fresh

    # decoding

    def _words(self, window: Window) -> Iterator[Word]:
        if window.meets(self.root, self._brk.end() - self.root):
            yield from telling(self._root_words(window), window)
            yield from telling(self._words_of_area(window), window)
        yield from telling(self._rests(window), window)
        yield from telling(self._large.words(window), window)

    def _decoder(self) -> SlabWords:
        fresh = self._load(self._fresh)
        return SlabWords(self.process, self.root, self._area, fresh, self._n_classes, self._page_size)

    def _root_words(self, window: Window) -> Iterator[Word]:
        yield self._magic_word()
        yield self._brk.root_word()
        yield from self._large.root_words()
        yield from self._decoder().root(window)

    def _words_of_area(self, window: Window) -> Iterator[Word]:
        table, _ = self._verify_layout()
        yield from self._decoder().area(window, table, self._brk.end())

    def _rests(self, window: Window) -> Iterator[Word]:
        """Yield what is behind the last blocks of the slabs that may reach into the window."""
        page, (table, fresh) = self._page_size, self._verify_layout()
        first = (window.start & -page) - (MOST_PAGES - 1) * page
        if window.end - first > page * table.slots:
            slabs = list(self._descriptors(table, fresh))
        else:
            numbers = [self._map.lookup(p) for p in range(max(first, 0), window.end, page)]
            slabs = [
                self._area + DESCRIPTOR * number for number in dict.fromkeys(numbers) if number is not None
            ]
        for slab in slabs:
            word = self._load(slab + WORD)
            if word and word & CLASS_BITS != CHUNK:
                blocks = self._blocks_of(slab, word)
                rest = self._start_of(word) + blocks * size_of(word & CLASS_BITS)
                behind = self._start_of(word) + pages_of(word) * page
                yield from unused(rest, behind, "too few bytes for a block")

    # check

    def _check(self) -> None:
        """Verify every descriptor, that slabs tile chunks, and that lists and page map have just these."""
        load, seen = self._load, _Tally(*self._verify_layout())
        for descriptor in self._descriptors(seen.table, seen.fresh):
            word = load(descriptor + WORD)
            if not word:
                seen.spares += 1
            elif word & CLASS_BITS == CHUNK:
                self._check_chunk(seen, descriptor, word)
            else:
                self._check_slab(seen, descriptor, word)
        listed = self._check_list(seen, self._chunks, CHUNK)
        for size_class in range(self._n_classes):
            listed += self._check_list(seen, self._head(size_class), size_class)
        if (
            listed != seen.listed
            or seen.tiles != seen.slabs
            or seen.idle != load(self._idle)
            or seen.empty != load(self._empty)
        ):
            self._corrupt(self.root, Rule.BROKEN_INDEX)
        self._check_spares(seen)
        self._check_map(seen)
        self._large.check()

    def _stands(self, seen: _Tally, link: int) -> bool:
        """Whether a descriptor stands there."""
        table = seen.table
        on_grid = self._area <= link < seen.fresh and link % DESCRIPTOR == 0
        return on_grid and not table.at <= link < table.end

    def _mapped_to(self, seen: _Tally, p: int) -> int:
        """Return the slab that the page map has for p, or 0."""
        slot = self._map.search(seen.table, p)[1]
        slab = self._area + DESCRIPTOR * seen.table.number(slot)
        return slab if slot and self._stands(seen, slab) else 0

    def _check_bits(self, descriptor: int, n: int) -> None:
        """Behind the n-th no bit is set."""
        last = bitmap.words(n) - 1
        if self._load(descriptor + BITS + 8 * last) & ~bitmap.mask(n, last):
            self._corrupt(descriptor, Rule.BROKEN_INDEX)

    def _check_listed(self, seen: _Tally, descriptor: int, head: int) -> None:
        """A descriptor that belongs in the list is pointed to by a word that may do so."""
        pointer = self._load(descriptor + PREV)
        if (pointer != head and not self._stands(seen, pointer - NEXT)) or self._load(pointer) != descriptor:
            self._corrupt(descriptor, Rule.BROKEN_LINK)
        seen.listed += 1

    def _check_chunk(self, seen: _Tally, chunk: int, word: int) -> None:
        """Every page of the chunk is free, or of a slab that starts where the one before it ends."""
        load, pages, used, i = self._load, self._pages_of_chunk(chunk, word), 0, 0
        self._check_bits(chunk, pages)
        while i < pages:
            first, _ = self._bitmaps.run(chunk + BITS, pages, i, 1)
            if first == i:
                i += 1
                continue
            p = self._start_of(word) + i * self._page_size
            slab = self._mapped_to(seen, p)
            slab_word = load(slab + WORD) if slab else 0
            size = pages_of(slab_word)
            if not slab or slab_word & CLASS_BITS == CHUNK or self._start_of(slab_word) != p:
                self._corrupt(p, Rule.BROKEN_INDEX)
            if not 0 < size <= first - i or load(slab + HOME) != chunk:
                self._corrupt(p, Rule.BROKEN_INDEX)
            seen.tiles += 1
            used += size
            i += size
        if used != load(chunk + HOME) & 0xFFFFFFFF:
            self._corrupt(chunk, Rule.BROKEN_HEADER)
        if used < pages:
            self._check_listed(seen, chunk, self._chunks)
        seen.idle += not used

    def _check_slab(self, seen: _Tally, slab: int, word: int) -> None:
        """Hint and bits say the same, and the page map leads here from each page that a block starts in."""
        blocks, hint, at = self._blocks_of(slab, word), hint_of(word), slab + BITS
        self._check_bits(slab, blocks)
        first = self._bitmaps.next_word(at, blocks, 0)
        # none but those that are kept are without a block in use
        if (hint == EMPTY) != self._bitmaps.is_full(at, blocks):
            self._corrupt(slab, Rule.BROKEN_INDEX)
        if hint != EMPTY and hint != (FULL if first == bitmap.words(blocks) else first):
            self._corrupt(slab, Rule.BROKEN_INDEX)
        if hint != FULL:
            self._check_listed(seen, slab, self._head(word & CLASS_BITS))
        for page in self._mapped_pages(word):
            if self._mapped_to(seen, page) != slab:
                self._corrupt(page, Rule.BROKEN_INDEX)
            seen.mapped += 1
        seen.slabs += 1
        seen.empty += pages_of(word) if hint == EMPTY else 0

    def _check_list(self, seen: _Tally, head: int, size_class: int) -> int:
        """Return how many descriptors the list has; each is of the class, and points back."""
        count, pointer = 0, head
        while descriptor := self._load(pointer):
            # so no list runs in a circle
            if not self._stands(seen, descriptor) or self._load(descriptor + PREV) != pointer:
                self._corrupt(descriptor, Rule.BROKEN_LINK)
            if self._load(descriptor + WORD) & CLASS_BITS != size_class:
                self._corrupt(descriptor, Rule.BROKEN_INDEX)
            count, pointer = count + 1, descriptor + NEXT
        return count

    def _check_spares(self, seen: _Tally) -> None:
        """The list of spare descriptors has all of them."""
        left, spare = seen.spares, self._load(self._spare)
        while spare:
            if not self._stands(seen, spare) or self._load(spare + WORD) or not left:
                self._corrupt(spare, Rule.BROKEN_LINK)
            left, spare = left - 1, self._load(spare + NEXT)
        if left:
            self._corrupt(self.root, Rule.BROKEN_INDEX)

    def _check_map(self, seen: _Tally) -> None:
        """The page map has the pages that blocks start in, each where a search finds it, and no other."""
        table, count = seen.table, 0
        for n in range(table.slots):
            slot = self._load(table.at + 8 * n)
            if slot and self._map.search(table, table.page_of(slot))[0] != n:
                self._corrupt(table.page_of(slot), Rule.BROKEN_INDEX)
            count += slot != 0
        if count != seen.mapped or count != self._map.count() or 2 * count > table.slots:
            self._corrupt(self.root, Rule.BROKEN_INDEX)
