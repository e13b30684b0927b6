"""The words of a slab heap: where they stand, what they mean, and what they say.

designs/slab.py has the picture.
"""

from collections.abc import Iterator

from heaplab.allocators import decoding
from heaplab.allocators.base import Word
from heaplab.allocators.decoding import Window, leads, telling, unused
from heaplab.allocators.design import ROOT_DESIGN
from heaplab.allocators.parts import pagemap
from heaplab.allocators.parts.bitmap import Bitmaps
from heaplab.allocators.parts.index import Memory
from heaplab.allocators.parts.pagemap import PageMap, Table

WORD, NEXT, PREV, HOME, BITS = 0, 8, 16, 24, 32
#: bytes of a descriptor, and its bits
DESCRIPTOR, CAPACITY = 64, 256
CLASS_BITS, PAGES_AT, PAGES_BITS, HINT_AT, HINT_BITS, START_AT = 255, 8, 63, 14, 7, 17
#: the class of a chunk
CHUNK = 255
#: the hints of a slab without a free block, and of one that is kept without another
FULL, EMPTY = 4, 5
#: pages of the largest slab, and of the smallest chunk
MOST_PAGES, LEAST_CHUNK = 32, 64
ROOT_MAP = ROOT_DESIGN
ROOT_FRESH = ROOT_MAP + pagemap.SIZE
ROOT_SPARE, ROOT_EMPTY, ROOT_IDLE, ROOT_HEADS = (ROOT_FRESH + 8 * n for n in range(1, 5))
#: log2 of the slots of the page map of an empty heap
FIRST_TABLE = 6


def class_of(size: int) -> int:
    """Return the class of the smallest blocks with room for `size` bytes.

    Multiples of 16 up to 128, then eight classes from a power of two to the next.

    >>> [class_of(size) for size in (0, 16, 17, 128, 129, 144, 145, 256, 257)]
    [0, 0, 1, 7, 8, 8, 9, 15, 16]
    """
    if size <= 128:
        return max(size - 1, 0) // 16
    octave = (size - 1).bit_length() - 1
    return 8 * (octave - 6) + ((size - 1) >> (octave - 3) & 7)


def size_of(size_class: int) -> int:
    """Return the size of a class's blocks.

    >>> [size_of(size_class) for size_class in (0, 7, 8, 15, 16, 87)]
    [16, 128, 144, 256, 288, 131072]
    """
    if size_class < 8:
        return 16 * (size_class + 1)
    return (8 + size_class % 8 + 1) << (size_class // 8 + 3)


def blocks_in(size: int, pages: int, page: int) -> int:
    """Return how many blocks of `size` bytes a slab of that many pages of `page` bytes has."""
    return min(pages * page // size, CAPACITY)


def pages_for(size: int, page: int) -> int:
    """Return the pages of a slab: the fewest that waste no more than a 16th, or else those that waste least.

    >>> [pages_for(size, 4096) for size in (16, 640, 704, 4096, 4608, 131072)]
    [1, 1, 2, 1, 6, 32]
    """
    best, best_waste = 0, 1
    for pages in range(-(-size // page), MOST_PAGES + 1):
        waste = pages * page - blocks_in(size, pages, page) * size
        if 16 * waste <= pages * page:
            return pages
        if not best or waste * best < best_waste * pages:
            best, best_waste = pages, waste
    return best


def pages_of(word: int) -> int:
    """Return the pages of the slab that has this word."""
    return word >> PAGES_AT & PAGES_BITS


def hint_of(word: int) -> int:
    """Return which word of the bitmap has the first free block; or FULL, or EMPTY."""
    return word >> HINT_AT & HINT_BITS


def with_hint(word: int, hint: int) -> int:
    """Return the word with another hint."""
    return word & ~(HINT_BITS << HINT_AT) | hint << HINT_AT


def word_of(start: int, hint: int, pages: int, size_class: int) -> int:
    """Return the word of a slab, or of a chunk, that starts at `start`."""
    return start << START_AT | hint << HINT_AT | pages << PAGES_AT | size_class


def start_of(word: int, page: int) -> int:
    """Return where the slab, or the chunk, with this word starts."""
    return word >> START_AT & -page


class SlabWords:
    """Decodes descriptors, page map and list heads.

    area, fresh: where descriptors begin, and the first that was never used.  n_classes: how many classes
    there are.
    """

    def __init__(self, memory: Memory, root: int, area: int, fresh: int, n_classes: int, page: int) -> None:
        self._load = memory.load64
        self._root, self._area, self._fresh, self._page, self._n_classes = root, area, fresh, page, n_classes
        self._bitmaps = Bitmaps(memory)
        self._map = PageMap(memory, root + ROOT_MAP, page)

    def root(self, window: Window) -> Iterator[Word]:
        """Yield the design's own words of the root."""
        load, root = self._load, self._root
        yield from self._map.root_words()
        yield Word(root + ROOT_FRESH, 8, "fresh", f"{self._fresh:#x}: never used from here on")
        yield self._link(root + ROOT_SPARE, "spare")
        yield Word(
            root + ROOT_EMPTY,
            8,
            "empty",
            f"pages of slabs kept without a block in use: {load(root + ROOT_EMPTY)}",
        )
        yield Word(root + ROOT_IDLE, 8, "idle", f"chunks kept without a slab: {load(root + ROOT_IDLE)}")
        chunks = root + ROOT_HEADS
        yield self._link(chunks, "chunks")

        def head(size_class: int, at: int, _: int) -> Word:
            return self._link(at, f"class {size_class}")

        rest = "classes without a slab with a free block"
        yield from decoding.table(window, chunks + 8, self._n_classes, head, rest)
        yield from unused(chunks + 8 + 8 * self._n_classes, self._area)

    def area(self, window: Window, table: Table, end: int) -> Iterator[Word]:
        """Yield the words of the descriptors and of the page map, and what was never used below `end`."""
        for at, behind in (self._area, table.at), (table.end, self._fresh):
            for n in window.among(at, (behind - at) // DESCRIPTOR, DESCRIPTOR):
                yield from telling(self._descriptor(at + n * DESCRIPTOR), window)
        yield from self._map.words(window, table, lambda number: self._area + DESCRIPTOR * number)
        yield from unused(self._fresh, end, "never used")

    # descriptors

    def _can_be(self, link: int) -> bool:
        return self._area <= link < self._fresh and link % DESCRIPTOR == 0

    def _link(self, at: int, name: str) -> Word:
        """Return the word at `at` decoded, a link to a descriptor."""
        to = self._load(at)
        if to and not self._can_be(to):
            return Word(at, 8, name, f"broken: no descriptor can stand at {to:#x}")
        return Word(at, 8, name, leads(to), to)

    def _descriptor(self, at: int) -> Iterator[Word]:
        word = self._load(at + WORD)
        if not word:
            yield Word(at + WORD, 8, "descriptor", "spare")
            yield self._link(at + NEXT, "next")
            yield from unused(at + PREV, at + DESCRIPTOR)
            return
        tell = self._chunk if word & CLASS_BITS == CHUNK else self._slab
        yield from tell(at, word)

    def _listed(self, at: int, is_listed: bool, head: int) -> Iterator[Word]:
        if not is_listed:
            yield from unused(at + NEXT, at + HOME, "in no list")
            return
        yield self._link(at + NEXT, "next")
        pointer = self._load(at + PREV)
        if pointer != head and not self._can_be(pointer - NEXT):
            yield Word(
                at + PREV, 8, "prev", f"broken: neither a descriptor nor the list's head is at {pointer:#x}"
            )
            return
        which = ", the list's head" if pointer == head else ""
        back = "" if self._load(pointer) == at else ", broken: it does not point here"
        yield Word(at + PREV, 8, "prev", f"{pointer:#x}{which}{back}", pointer)

    def _chunk(self, at: int, word: int) -> Iterator[Word]:
        start, counts = start_of(word, self._page), self._load(at + HOME)
        pages, used = counts >> 32, counts & 0xFFFFFFFF
        broken = "" if LEAST_CHUNK <= pages <= CAPACITY and used <= pages else ", broken"
        yield Word(at + WORD, 8, "descriptor", f"a chunk at {start:#x}", start)
        yield from self._listed(at, used != pages, self._root + ROOT_HEADS)
        yield Word(at + HOME, 8, "pages", f"{pages}, {used} of them in use{broken}")
        yield from self._bitmaps.words(at + BITS, min(pages, CAPACITY), CAPACITY, "pages")

    def _slab(self, at: int, word: int) -> Iterator[Word]:
        size_class, pages, hint = word & CLASS_BITS, pages_of(word), hint_of(word)
        start, blocks = start_of(word, self._page), CAPACITY
        if size_class < self._n_classes and pages == pages_for(size_of(size_class), self._page):
            blocks = blocks_in(size_of(size_class), pages, self._page)
            kept = {FULL: "no block free", EMPTY: "no block in use"}
            first = kept.get(hint, f"first free block in word {hint}")
            what = f"class {size_class}, blocks of {size_of(size_class):#x} bytes, {blocks} in all"
            text = f"a slab at {start:#x}: {what}, {first}"
            yield Word(at + WORD, 8, "descriptor", text, start)
        else:
            yield Word(
                at + WORD, 8, "descriptor", f"broken: no slab has class {size_class} and {pages} pages"
            )
        head = self._root + ROOT_HEADS + 8 + 8 * size_class
        yield from self._listed(at, hint != FULL, head)
        yield self._link(at + HOME, "chunk")
        yield from self._bitmaps.words(at + BITS, blocks, CAPACITY, "blocks")
