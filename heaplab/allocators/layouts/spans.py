"""The words of a heap of spans: where they stand, what they mean, and what they say.

designs/spans.py has the picture.
"""

from collections.abc import Iterator
from typing import Final

from heaplab.allocators.base import Word
from heaplab.allocators.decoding import Window, leads, table, telling, unused
from heaplab.allocators.parts.classes import class_size
from heaplab.allocators.parts.index import Memory
from heaplab.allocators.parts.seal import TAG, Seal
from heaplab.allocators.sources import segments
from heaplab.allocators.sources.segments import SLOT, UNIT, Segments

HEAD, STATE, REMOTE, SHAPE, NEXT, POINTER, MAILED = 0, 8, 16, 24, 32, 40, 48
UNIT_BITS: Final = 20
UNITS: Final = (1 << UNIT_BITS) - 1
RUN = 255
ONE_LEFT, ONE_USED, CLEAN, LISTED = 1 << 20, 1 << 36, 1 << 52, 1 << 53
ROOM: Final = ONE_USED - 1  # the bits that are not all 0 while a span has a block to give

ARENA_THREAD, ARENA_NEXT, ARENA_MAILBOX, ARENA_CLASSES = 8, 16, 64, 128
TABLES, DIRECT = 64, 32
ROOT_ARENAS = segments.DESIGN
ROOT_MARKED = ROOT_ARENAS + 8
ROOT_THREADS = 256
ROOT_TABLES = ROOT_THREADS + 8 * DIRECT
#: an arena that a thread takes over from, or that is being made
BUSY: Final = (1 << 64) - 1


def left_of(state: int) -> int:
    """The fresh blocks of a span."""
    return state // ONE_LEFT & 0xFFFF


def used_of(state: int) -> int:
    """The blocks of a span that are in use, or that other threads have freed."""
    return state // ONE_USED & 0xFFFF


class SpanWords:
    """Decodes the slots of spans, the arenas, and the root.

    n_classes: how many classes there are.
    """

    def __init__(
        self, memory: Memory, root: int, source: Segments, seal: Seal, n_classes: int, page: int
    ) -> None:
        self._load = memory.load64
        self._root, self._segments, self._seal = root, source, seal
        self._n_classes, self._page = n_classes, page

    def root(self, window: Window) -> Iterator[Word]:
        """Yield the words of the root behind those of the large blocks."""
        load, root = self._load, self._root
        yield from self._segments.root_words(window)
        arenas = load(root + ROOT_ARENAS)
        yield Word(root + ROOT_ARENAS, 8, "arenas", leads(arenas), arenas)
        kept = "kept" if load(root + ROOT_MARKED) else "not kept"
        yield Word(root + ROOT_MARKED, 8, "marked", f"the bitmap of allocated blocks is {kept}")
        yield from unused(root + ROOT_MARKED + 8, root + ROOT_THREADS)
        yield from self._threads(window, root + ROOT_THREADS, 0, DIRECT)

        def of_threads(i: int, at: int, to: int) -> Word:
            return Word(at, 8, "threads", f"the table of {self._names(i)}: {to:#x}", to)

        yield from table(window, root + ROOT_TABLES, TABLES, of_threads, "tables of threads not in use")

    def _names(self, table: int) -> str:
        first = DIRECT + table * (self._page // 8)
        return f"threads {first} to {first + self._page // 8 - 1}"

    def _threads(self, window: Window, at: int, first: int, n: int) -> Iterator[Word]:
        def tell(i: int, at: int, arena: int) -> Word:
            return Word(at, 8, f"thread {first + i}", f"arena {arena:#x}", arena)

        return table(window, at, n, tell, "threads without an arena")

    def own_mappings(self, window: Window) -> Iterator[Word]:
        """Yield the words of arenas, of tables of threads, of nodes, and of the book's pages."""
        load, book = self._load, self._segments.book
        met = [span for span in book.walk() if window.meets(span.start, span.size)]
        if not met:
            return
        tables = {load(self._root + ROOT_TABLES + 8 * i): i for i in range(TABLES)}
        arenas, pages = set(self._arenas()), dict(book.pages())
        for start, n_bytes, *_ in met:
            if start in arenas:
                yield from telling(self._arena(window, start, start + n_bytes), window)
            elif start in tables:
                n = self._page // 8
                yield from self._threads(window, start, DIRECT + n * tables[start], n)
            elif start in pages:
                yield from book.page_words(start, pages[start])
            else:
                yield from self._segments.node_words(window, start)

    def _arenas(self) -> Iterator[int]:
        """Yield the arenas, no more than threads can have."""
        arena = self._load(self._root + ROOT_ARENAS)
        for _ in range(DIRECT + TABLES * self._page // 8):
            if not arena:
                break
            yield arena
            arena = self._load(arena + ARENA_NEXT)

    def _arena(self, window: Window, arena: int, end: int) -> Iterator[Word]:
        load = self._load
        seal, thread, following = load(arena), load(arena + ARENA_THREAD), load(arena + ARENA_NEXT)
        whose = {0: "no thread", BUSY: "busy: being made, or taken over"}.get(thread, f"thread {thread - 1}")
        yield Word(arena, 8, "arena", self._seal.describe(arena, seal))
        yield Word(arena + ARENA_THREAD, 8, "thread", whose)
        yield Word(arena + ARENA_NEXT, 8, "next arena", leads(following), following)
        yield from self._segments.owner_words(arena)
        yield from unused(arena + segments.EMPTIED + 8, arena + segments.NEXT)
        yield from unused(arena + segments.PREV + 8, arena + ARENA_MAILBOX)
        yield self._span_word(arena + ARENA_MAILBOX, "mailbox")
        yield from unused(arena + ARENA_MAILBOX + 8, arena + ARENA_CLASSES)
        classes = arena + ARENA_CLASSES

        def head(c: int, at: int, _: int) -> Word:
            return self._span_word(at, f"class {c}")

        yield from table(window, classes, self._n_classes, head, "classes without a span that has room")
        yield from unused(classes + 8 * self._n_classes, end)

    def _span_word(self, at: int, name: str) -> Word:
        """Return the word at `at` decoded, a link to a span's slot."""
        slot = self._load(at)
        if not slot:
            return Word(at, 8, name, "none")
        if not self._segments.is_slot(slot):
            return Word(at, 8, name, f"broken: no span has its slot at {slot:#x}")
        return Word(at, 8, name, f"the span at {self._segments.geometry.slice_of(slot):#x}", slot)

    def slot(self, slot: int) -> Iterator[Word]:
        """Yield the words of the slot of a slice that is taken."""
        head = self._span_word(slot + HEAD, "head")
        if head.to != slot:
            yield head
            yield from unused(slot + STATE, slot + SLOT)
            return
        yield head._replace(text=f"{head.text}, which starts here", to=0)
        load = self._load
        state, remote, shape, pointer = (load(slot + at) for at in (STATE, REMOTE, SHAPE, POINTER))
        flags = [name for bit, name in ((LISTED, "listed"), (CLEAN, "clean")) if state & bit]
        first, count = self._block(slot, state & UNITS), remote >> UNIT_BITS
        text = f"blocks in use: {used_of(state)}, fresh: {left_of(state)}, first freed: {leads(first)}"
        yield Word(slot + STATE, 8, "state", ", ".join([text, *flags]), first)
        others = self._block(slot, remote & UNITS)
        text = f"{count}, first freed: {leads(others)}" if remote else "none"
        yield Word(slot + REMOTE, 8, "remote", f"freed by other threads: {text}", others)
        yield Word(slot + SHAPE, 8, "shape", f"{self._shape(shape)}, {self._seal.describe(slot, shape)}")
        if state & LISTED:
            yield self._span_word(slot + NEXT, "next")
            yield Word(slot + POINTER, 8, "pointer", f"{pointer:#x}, the word that leads here", pointer)
        else:
            yield from unused(slot + NEXT, slot + MAILED, "in no list")
        if remote:
            yield self._span_word(slot + MAILED, "mailed")
        else:
            yield from unused(slot + MAILED, slot + MAILED + 8, "in no mailbox")
        yield from unused(slot + MAILED + 8, slot + SLOT)

    def _block(self, slot: int, unit: int) -> int:
        """Return the block of a unit, or 0; wherever the unit leads in the segment."""
        g = self._segments.geometry
        return unit and g.segment_of(slot) + UNIT * (unit & g.segment // UNIT - 1)

    def _shape(self, shape: int) -> str:
        c, slices = shape & 255, (shape & TAG) >> 8
        what = "one block" if c == RUN else f"class {c}, blocks of {class_size(c):#x} bytes"
        return f"{what}, slices: {slices}"

    def link(self, p: int, link: int) -> Word:
        """Return the first word of the freed block at p, decoded."""
        to = self._block(self._segments.geometry.slot_of(p), link & UNITS)
        if not self._seal.holds(p, link):
            return Word(p, 8, "next", self._seal.describe(p, link))
        return Word(p, 8, "next", f"{leads(to)}, {self._seal.describe(p, link)}", to)
