"""Segments: aligned mappings of 64 slices, from which owners take runs of slices.

    a multiple of the segment's size
    |
    +----+----+----+----+----+----  ----+----+
    | header  | slice   | slice   | ... | 63 |      slice: SLICE_PAGES pages
    +----+----+----+----+----+----  ----+----+
    | words | slots 1 to 63 | bitmap |              of the header

    words   +0  seal     of the address          slot n: 64 bytes for whoever takes slice n
            +8  owner    who, sealed             bitmap: a bit for each 16 bytes of the segment, the design's
            +16 free     slices, a bit each
            +24 dirty    slices taken since they were mapped, or given back to the kernel
            +32 old      slices, free and dirty, that were so when the last period of the owner ended
            +40 next  +48 prev    in the owner's ring, through the owner's own words +40 and +48, all sealed:
                         the segments with a free slice stand before the others
            +56 sum      of free, dirty and old

    owner   +24 emptied  slices given since the period began
            +40 next  +48 prev

    root -> +40 count    of segments
            +48 owners   how many there are
            +56 book     of the mappings for metadata (book.py)
            +1024 near   64 words, by the segment's number: a segment that is mapped, plus 1
            +1536        to the end of the page; then the highest node of the radix tree of segments

With pages of 4096 bytes a slice has 16 KiB, a segment 1 MiB, and the header fills 3 pages of the first slice.

A pointer's segment is found by masking, and whether there is one by a radix tree; but first by the word of
`near` that it would have, which most segments have to themselves.  A word has 64 bits, so one word says which
slices are free, and runs of them need neither lists nor merging.

A free slice keeps its pages for a while: the program may want them again.  A period of an owner ends when
it has given `delay` bytes of slices since the last one ended, or its share of them, a quarter or more, when
there are several owners: some may be idle, and keep what they have.  Slices that were free when the period
began, and ever since, give their pages back to the kernel then, and a segment whose slices are all so is
unmapped.

A segment belongs to one owner, an owner to one thread at a time: the twin, csrc/sources/segments.c, takes a
lock only to map.  Other threads look segments up meanwhile, which in a radix tree needs no lock.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Final

from heaplab.abi import MADV_DONTNEED
from heaplab.allocators.base import Checks, Word, round_up
from heaplab.allocators.decoding import Window, sparse, table, unused
from heaplab.allocators.design import ROOT_DESIGN, ROOT_MAGIC
from heaplab.allocators.parts import bitruns
from heaplab.allocators.parts.radix import RadixTree
from heaplab.allocators.parts.seal import TAG, Seal
from heaplab.allocators.sources import book
from heaplab.errors import HeapCorruption, Rule

if TYPE_CHECKING:
    from heaplab.process import Process

SLICES, SLICE_PAGES, SLOT, UNIT = 64, 4, 64, 16
#: bytes with a word of the bitmap
WINDOW: Final = 64 * UNIT
OWNER, FREE, DIRTY, OLD, NEXT, PREV, SUM = 8, 16, 24, 32, 40, 48, 56
EMPTIED = 24
COUNT, OWNERS, BOOK = ROOT_DESIGN, ROOT_DESIGN + 8, ROOT_DESIGN + 16
#: where the design's own words of the root begin
DESIGN = BOOK + book.BYTES
NEAR, NEAR_WORDS = 1024, 64
ROOT_SIZE = NEAR + 8 * NEAR_WORDS
NODE_PAGES = 16
#: into which owners divide the delay
MOST_SHARES = 4
_BITMAP = SLOT * SLICES


class Geometry:
    """Where things are in segments, by the size of a page."""

    def __init__(self, page_size: int) -> None:
        self.page_bits = page_size.bit_length() - 1
        self.slice = SLICE_PAGES * page_size
        self.slice_bits = self.slice.bit_length() - 1
        self.segment = SLICES * self.slice
        self.segment_bits = self.segment.bit_length() - 1
        #: slices that the header takes
        self.header = -(-(_BITMAP + self.segment // (8 * UNIT)) // self.slice)
        #: the slices that can be taken, a bit each
        self.takeable = bitruns.mask(self.header, SLICES - self.header)

    def segment_of(self, p: int) -> int:
        return p & -self.segment

    def slot_of(self, p: int) -> int:
        """The slot of the slice that p lies in."""
        segment = p & -self.segment
        return segment + SLOT * ((p - segment) >> self.slice_bits)

    def index_of(self, slot: int) -> int:
        """The number of the slice that the slot is of."""
        return (slot & (self.segment - 1)) // SLOT

    def slice_of(self, slot: int) -> int:
        """The address of the slice that the slot is of."""
        return (slot & -self.segment) + (self.index_of(slot) << self.slice_bits)

    def bit_of(self, p: int) -> tuple[int, int]:
        """The word of the bitmap with the bit of p, and the bit."""
        segment = p & -self.segment
        return segment + _BITMAP + (p - segment) // WINDOW * 8, 1 << (p // UNIT & 63)

    def fit(self, n: int, step: int) -> bool:
        """Whether a segment has room for n slices from a multiple of `step` slices on."""
        return n <= SLICES and step < SLICES and bitruns.starts(self.takeable, n, step) != 0


def begin(process: "Process", magic: int) -> int:
    """Map the root and write its magic; return its address.  Raises: MemoryError when the kernel refuses."""
    page = process.page_size
    try:
        root = process.mmap(round_up(ROOT_SIZE, page) + NODE_PAGES * page)
    except OSError as error:
        raise MemoryError("the kernel gives no memory for the heap's root") from error
    process.store64(root + ROOT_MAGIC, magic)
    return root


class Segments:
    """The segments of a heap.  options: of the spec.

    An owner is an address with the words `emptied`, `next` and `prev`.
    """

    def __init__(self, process: "Process", options: Mapping[str, int], root: int, seal: Seal) -> None:
        page = process.page_size
        self._process = process
        self._load = process.load64
        self._store = process.store64
        self._page_size = page
        self._root = root
        self._delay = options["delay"]
        self._checks_links = options["checks"] >= Checks.LINKS
        self._seal = seal
        self.geometry = g = Geometry(page)
        self.book = book.Book(process, root + BOOK)
        top = round_up(root + ROOT_SIZE, page)
        #: where the root's mapping ends
        self.root_end = top + NODE_PAGES * page
        self._top = top
        self._map = RadixTree(process, top, g.page_bits + 1, 47 - g.segment_bits)

    def begin(self) -> None:
        """Write the root's words of a heap without segments."""
        self.book.begin()

    def cas(self, address: int, old: int, new: int) -> bool:
        """Store `new` if `old` stands there, as one step."""
        return self._process.context.cas64(address, old, new)

    def own(self, owner: int) -> None:
        """Write the words of an owner without segments."""
        load = self._load
        self._set_link(owner, NEXT, owner)
        self._set_link(owner, PREV, owner)
        while not self.cas(self._root + OWNERS, owners := load(self._root + OWNERS), owners + 1):
            pass

    def _near(self, p: int) -> int:
        """Return the word of `near` for the segment that p would lie in."""
        return self._root + NEAR + 8 * (p >> self.geometry.segment_bits & (NEAR_WORDS - 1))

    def has(self, p: int) -> bool:
        """Whether p lies in a segment.  1 mem; 2 more where several segments share a word of `near`."""
        return self._load(self._near(p)) == self.geometry.segment_of(p) + 1 or self._is_in_tree(p)

    def _is_in_tree(self, p: int) -> bool:
        return self._map.get(p >> self.geometry.segment_bits) != 0

    def is_slot(self, slot: int) -> bool:
        """Whether this is the slot of a slice that can be taken; it may be loaded then."""
        return (
            slot % SLOT == 0
            and self.geometry.header <= (slot & (self.geometry.segment - 1)) // SLOT < SLICES
            and self.has(slot)
        )

    # ---- the ring of an owner ----

    def link(self, at: int, side: int, demand: bool = False) -> int:
        """Return what stands at one side of `at`, NEXT or PREV, in its ring.

        demand: also where links are believed.  Raises: HeapCorruption if the link's seal is wrong.
        """
        link = self._load(at + side)
        if (demand or self._checks_links) and not self._seal.holds(at + side, link):
            raise HeapCorruption(at, Rule.BROKEN_LINK)
        return link & TAG

    def _set_link(self, at: int, side: int, to: int) -> None:
        self._store(at + side, self._seal(at + side, to))

    def following(self, owner: int, at: int) -> int:
        """Return the segment after `at` in the owner's ring; 0 after the last."""
        following = self.link(at, NEXT)
        if following == owner:
            return 0
        if self._checks_links and (
            following % self.geometry.segment or not self.has(following) or self.link(following, PREV) != at
        ):
            raise HeapCorruption(at, Rule.BROKEN_LINK)
        return following

    def of(self, owner: int) -> Iterator[int]:
        """Yield the owner's segments; the one yielded stays in its place."""
        segment = owner
        while segment := self.following(owner, segment):
            yield segment

    def _insert(self, at: int, segment: int) -> None:
        following = self.link(at, NEXT)
        self._set_link(segment, NEXT, following)
        self._set_link(segment, PREV, at)
        self._set_link(at, NEXT, segment)
        self._set_link(following, PREV, segment)

    def _remove(self, segment: int) -> None:
        following, before = self.link(segment, NEXT), self.link(segment, PREV)
        self._set_link(before, NEXT, following)
        self._set_link(following, PREV, before)

    def _insert_at_front(self, owner: int, segment: int) -> None:
        self._insert(owner, segment)

    def _insert_at_back(self, owner: int, segment: int) -> None:
        self._insert(self.link(owner, PREV), segment)

    # ---- which slices are free, dirty and old: three words and their sum ----

    def _sum(self, segment: int, free: int, dirty: int, old: int) -> int:
        """No change of one of the words leaves the sum as it was."""
        mix = self._seal.mix
        return mix(mix(mix(segment ^ free) ^ dirty) ^ old)

    def _load_slices(self, segment: int) -> tuple[int, int, int]:
        """Return the three words.  Raises: HeapCorruption if the sum is not theirs."""
        load = self._load
        words = load(segment + FREE), load(segment + DIRTY), load(segment + OLD)
        if load(segment + SUM) != self._sum(segment, *words) and self._checks_links:
            raise HeapCorruption(segment, Rule.BROKEN_HEADER)
        return words

    def _store_slices(self, segment: int, free: int, dirty: int, old: int) -> None:
        store = self._store
        store(segment + FREE, free)
        store(segment + DIRTY, dirty)
        store(segment + OLD, old)
        store(segment + SUM, self._sum(segment, free, dirty, old))

    # ---- mapping ----

    def _new_node(self) -> int:
        return self.book.map(NODE_PAGES * self._page_size)

    def _map_aligned(self) -> int:
        """What is mapped beside a segment often is aligned, else twice as much is mapped and cut.

        Raises: OSError.
        """
        process, size = self._process, self.geometry.segment
        at = process.mmap(size)
        if at % size == 0:
            return at
        process.munmap(at, size)
        more = size - self._page_size
        at = process.mmap(size + more)
        segment = round_up(at, size)
        front = segment - at
        if front:
            process.munmap(at, front)
        if more > front:
            process.munmap(segment + size, more - front)
        return segment

    def _map_segment(self, owner: int) -> int:
        store, g = self._store, self.geometry
        try:
            segment = self._map_aligned()
        except OSError:
            return 0
        if not self._map.set(segment >> g.segment_bits, segment, self._new_node):
            self._process.munmap(segment, g.segment)
            return 0
        store(self._near(segment), segment + 1)
        store(self._root + COUNT, self._load(self._root + COUNT) + 1)
        store(segment, self._seal(segment, SLICES))
        store(segment + OWNER, self._seal(segment, owner))
        self._store_slices(segment, g.takeable, 0, 0)
        self._insert_at_front(owner, segment)
        return segment

    def _unmap_segment(self, segment: int) -> None:
        self._remove(segment)
        self._map.set(segment >> self.geometry.segment_bits, 0, self._new_node)
        if self._load(self._near(segment)) == segment + 1:
            self._store(self._near(segment), 0)
        self._store(self._root + COUNT, self._load(self._root + COUNT) - 1)
        self._process.munmap(segment, self.geometry.segment)

    # ---- slices ----

    def owner(self, segment: int, word: int) -> int:
        """Return the owner, which word +8 of this segment gives.  Raises: HeapCorruption for a wrong seal."""
        if self._checks_links and not self._seal.holds(segment, word):
            raise HeapCorruption(segment, Rule.BROKEN_HEADER)
        return word & TAG

    def _claim(self, segment: int, run: int) -> bool:
        """Take the slices of `run` from the segment; return whether they are clean."""
        free, dirty, old = self._load_slices(segment)
        self._store_slices(segment, free & ~run, dirty | run, old & ~run)
        if not free & ~run:  # full
            owner = self.owner(segment, self._load(segment + OWNER))
            self._remove(segment)
            self._insert_at_back(owner, segment)
        return not dirty & run

    def take(self, owner: int, n: int, step: int = 1) -> tuple[int, bool] | None:
        """Take n slices in a row, from a multiple of `step` slices on, from the owner's segments.

        Returns: the first one's slot, and whether they are zero; None when no segment has them.
        """
        for segment in self.of(owner):
            free = self._load(segment + FREE)
            if not free:
                break
            starts = bitruns.starts(free, n, step)
            if not starts:
                continue
            used = bitruns.starts(free & self._load(segment + DIRTY), n, step)
            at = bitruns.lowest(used or starts)  # pages that are there spare faults
            return segment + SLOT * at, self._claim(segment, bitruns.mask(at, n))
        return None

    def grow(self, owner: int, n: int, step: int = 1) -> tuple[int, bool] | None:
        """Take n slices as `take`, which fit, from a new segment; None when the kernel refuses."""
        segment = self._map_segment(owner)
        if not segment:
            return None
        takeable = self.geometry.takeable
        at = bitruns.lowest(bitruns.starts(takeable, n, step))
        return segment + SLOT * at, self._claim(segment, bitruns.mask(at, n))

    def extend(self, slot: int, n: int) -> bool:
        """Take the n slices from this slot on, which follow taken ones; False when they are not free."""
        segment, at = self.geometry.segment_of(slot), self.geometry.index_of(slot)
        free, run = self._load(segment + FREE), bitruns.mask(at, n)
        if at + n > SLICES or free & run != run:
            return False
        self._claim(segment, run)
        return True

    def give(self, owner: int, slot: int, n: int) -> bool:
        """Give n slices from this slot on back; return whether the owner's period is over."""
        segment = self.geometry.segment_of(slot)
        free, dirty, old = self._load_slices(segment)
        self._store_slices(segment, free | bitruns.mask(self.geometry.index_of(slot), n), dirty, old)
        if not free:
            self._remove(segment)
            self._insert_at_front(owner, segment)
        emptied = self._load(owner + EMPTIED) + n
        self._store(owner + EMPTIED, emptied)
        shares = min(self._load(self._root + OWNERS), MOST_SHARES)
        return (emptied << self.geometry.slice_bits) * shares >= self._delay

    def _discard(self, segment: int, slices: int) -> None:
        bits = self.geometry.slice_bits
        while slices:
            at, n = bitruns.lowest(slices), bitruns.length(slices)
            self._process.madvise(segment + (at << bits), n << bits, MADV_DONTNEED)
            slices &= ~bitruns.mask(at, n)

    def sweep(self, owner: int, everything: bool = False) -> None:
        """End the owner's period: what was free all through it, or everything free, goes to the kernel."""
        everything |= not self._delay
        self._store(owner + EMPTIED, 0)
        segment = self.following(owner, owner)
        while segment:
            free, dirty, old = self._load_slices(segment)
            if not free:
                break
            following = self.following(owner, segment)
            idle = free & dirty
            if everything:
                old = idle
            if free == self.geometry.takeable and old == dirty:
                self._unmap_segment(segment)
            else:
                if old:
                    self._discard(segment, old)
                self._store_slices(segment, free, dirty & ~old, idle & ~old)
            segment = following

    def move(self, source: int, to: int) -> None:
        """Make all segments of one owner another's."""
        while segment := self.following(source, source):
            self._remove(segment)
            self._store(segment + OWNER, self._seal(segment, to))
            if self._load(segment + FREE):
                self._insert_at_front(to, segment)
            else:
                self._insert_at_back(to, segment)

    def check_near(self) -> None:
        """Verify every word of `near`.  Raises: HeapCorruption."""
        for n in range(NEAR_WORDS):
            word = self._load(self._root + NEAR + 8 * n)
            if word and ((word - 1) % self.geometry.segment or not self._is_in_tree(word - 1)):
                raise HeapCorruption(self._root, Rule.BROKEN_INDEX)

    def check(self, owner: int, at: int, segment: int) -> None:
        """Verify every word of a header; `at` is the one before it in the owner's ring.

        Raises: HeapCorruption.
        """
        load, takeable, before = self._load, self.geometry.takeable, self._seal(segment + PREV, at)
        if segment % self.geometry.segment or not self.has(segment) or load(segment + PREV) != before:
            raise HeapCorruption(at, Rule.BROKEN_LINK)
        free, dirty, old = load(segment + FREE), load(segment + DIRTY), load(segment + OLD)
        if (
            load(segment + SUM) != self._sum(segment, free, dirty, old)
            or load(segment) != self._seal(segment, SLICES)
            or load(segment + OWNER) != self._seal(segment, owner)
            or (free | dirty) & ~takeable
            or old & ~(free & dirty)
            or takeable & ~(free | dirty)
        ):
            raise HeapCorruption(segment, Rule.BROKEN_HEADER)

    # ---- decoding ----

    def within(self, window: Window) -> Iterator[int]:
        """Yield the segments that may have a byte in the window, which are mapped."""
        size = self.geometry.segment
        first = window.start & -size
        if window.end <= first + size:
            numbers = iter([first // size])
        else:
            numbers = self._map.numbers(window)
        for number in numbers:
            if window.meets(size * number, size) and self.has(size * number):
                yield size * number

    def root_words(self, window: Window) -> Iterator[Word]:
        """Yield the words of the root that are not the design's, decoded."""
        load, root = self._load, self._root
        yield Word(root + COUNT, 8, "segments", str(load(root + COUNT)))
        yield Word(root + OWNERS, 8, "owners", str(load(root + OWNERS)))
        yield from self.book.root_words()

        def near(_: int, at: int, word: int) -> Word:
            return Word(at, 8, "near", f"segment {word - 1:#x}, plus 1", word - 1)

        yield from table(window, root + NEAR, NEAR_WORDS, near, "words without a segment")
        yield from unused(root + ROOT_SIZE, self._top)
        yield from self.node_words(window, self._top)

    def node_words(self, window: Window, node: int) -> Iterator[Word]:
        """Yield the words of a node of the radix tree, decoded."""
        bits = self.geometry.segment_bits
        return self._map.words(
            window, node, lambda word: "segment" if self._map.get(word >> bits) == word else "node"
        )

    def owner_words(self, owner: int) -> Iterator[Word]:
        """Yield the words of an owner, decoded."""
        yield Word(
            owner + EMPTIED, 8, "emptied", f"slices given in this period: {self._load(owner + EMPTIED)}"
        )
        yield self._ring_word(owner, NEXT, "first segment")
        yield self._ring_word(owner, PREV, "last segment")

    def header_words(
        self, window: Window, segment: int, slot_words: Callable[[int], Iterator[Word]]
    ) -> Iterator[Word]:
        """Yield the words of a segment's header, decoded; slot_words: those of a taken slice's slot."""
        load, g, describe = self._load, self.geometry, self._seal.describe
        owner, free = load(segment + OWNER), load(segment + FREE)
        yield Word(segment, 8, "segment", describe(segment, load(segment)))
        holds = self._seal.holds(segment, owner)
        text = f"{owner & TAG:#x}, {describe(segment, owner)}"
        yield Word(segment + OWNER, 8, "owner", text, owner & TAG if holds else 0)
        words = {FREE: "free", DIRTY: "dirty", OLD: "old"}
        for at, name in words.items():
            yield Word(segment + at, 8, name, f"slices: {bitruns.names(load(segment + at))}")
        yield self._ring_word(segment, NEXT, "next")
        yield self._ring_word(segment, PREV, "prev")
        is_sound = load(segment + SUM) == self._sum(segment, *(load(segment + at) for at in words))
        said = "ok" if is_sound else "broken: free, dirty or old is not as it was written"
        yield Word(segment + SUM, 8, "sum", said)
        yield from unused(segment + SLOT, segment + SLOT * g.header, "slots of the header's own slices")
        first = segment + SLOT * g.header

        def slot(i: int, at: int) -> list[Word]:
            return [] if free >> (g.header + i) & 1 else list(slot_words(at))

        yield from sparse(window, first, SLICES - g.header, SLOT, slot, "slots of free slices")
        bitmap, n = segment + _BITMAP, g.segment // WINDOW

        def marks(i: int, at: int, bits: int) -> Word:
            start = segment + WINDOW * i
            text = f"{start:#x} to {start + WINDOW:#x}, allocated blocks: {bits.bit_count()}"
            return Word(at, 8, "bitmap", text)

        yield from table(window, bitmap, n, marks, "words of the bitmap without an allocated block")
        yield from unused(bitmap + 8 * n, segment + (g.header << g.slice_bits))

    def _ring_word(self, at: int, side: int, name: str) -> Word:
        link = self._load(at + side)
        holds, text = self._seal.holds(at + side, link), self._seal.describe(at + side, link)
        return Word(at + side, 8, name, f"{link & TAG:#x}, {text}", link & TAG if holds else 0)
