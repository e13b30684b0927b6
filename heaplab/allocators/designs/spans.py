"""Spans: size classes, each in spans of slices, and an arena for each thread.

    alignment       16 bytes; a block of 2^k bytes stands at a multiple of 2^k
    overhead        none a block; rounding up to the class, 6 % on average; 12 KiB a segment of 1 MiB
    minimum block   16 bytes
    malloc          5 mems when the class's first span has a freed block, 4 when it has a fresh one
    free            6 mems; of another thread's block 7, and 4 more for the first of a span
    checks=all      2 mems more for malloc, 4 for free; checks=links none
    metadata        out of band, in segment headers and arenas; one sealed link in a freed block
    source          Bonwick, USENIX 1994 (slabs); Leijen, Zorn, de Moura, Mimalloc, 2019 (spans of a thread)

A segment (sources/segments.py) is cut into slices, and a run of slices is

    a span          | rest | block | block | block | ... | block |     blocks of one class, ending at its end
    a run           | block                                      |     one block, too large for a class

    block, freed    | link |     sealed: the unit of the next one

    slot of a span's first slice
            +0  head     of every slice: the first one's slot
            +8  state    | listed 53 | clean 52 | used 51..36 | left 35..20 | first freed unit 19..0 |
            +16 remote   | count 35..20 | first unit 19..0 |      blocks that other threads have freed
            +24 shape    sealed: slices << 8 | class, or RUN
            +32 next  +40 pointer    in the list of the spans of its class that have room
            +48 mailed   the next span in the mailbox

    unit    a block's place in its segment, in 16 bytes; 0: none

    arena   +0  seal     +8 thread, plus 1; 0: no thread has it     +16 the next arena
            +24 emptied  +40, +48 the ring of segments
            +64 mailbox  spans with blocks that other threads have freed
            +128         the first span of each class that has room, or 0

    root -> +192 arenas  all of them
            +200 marked  whether the bitmap of allocated blocks is kept
            +256 threads the arenas of the first 32
            +512 tables  of the threads from 32 on, 64 addresses

All that malloc and free change of a span is one word, its state: blocks in use, fresh ones left, the first
freed one.  Fresh blocks are taken in the order of addresses, so that a page is touched when it is needed.

Threads.  An arena serves one thread at a time, and a segment belongs to one arena, so nothing that a thread
does with its own blocks needs a lock or an atomic operation.  A block that another thread frees goes to the
span's `remote` list by compare and swap; who finds this list empty also puts the span into the mailbox of
its arena, which the owner empties before it takes another span.  A thread that ends leaves its arena: a
thread that begins takes it, or one that needs slices takes over what is in it.  In a forked child the arenas
of the other threads stay as they are: their blocks can be freed, and a thread with their number goes on with
them.

Giving back.  A span without a block in use gives its slices back to the segment, but for the first one of its
class; the segment gives them back to the kernel after a `delay` (sources/segments.py).

The walk calls a block FREE that is in its span's own list, since the arena's next request can have it, and
CACHED while it is in a remote list: it waits for the owner.

checks=links    a link is believed only if its seal is right; pointers are not verified
checks=all      also: a pointer is looked up among the segments, and in a bitmap of allocated blocks,
                so that no double free and no foreign pointer gets through
checks=none     neither; a pointer at the start of a page is looked up, since a large block may stand there

The twin is csrc/designs/spans.c.
"""

import errno
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, NamedTuple, NoReturn

from heaplab.allocators.base import ALIGN, Entry, Span, State, Word, round_up
from heaplab.allocators.decoding import Window, telling, unused
from heaplab.allocators.design import ROOT_END, Design
from heaplab.allocators.layouts.spans import (
    ARENA_CLASSES,
    ARENA_MAILBOX,
    ARENA_NEXT,
    ARENA_THREAD,
    BUSY,
    CLEAN,
    DIRECT,
    HEAD,
    LISTED,
    MAILED,
    NEXT,
    ONE_LEFT,
    ONE_USED,
    POINTER,
    REMOTE,
    ROOM,
    ROOT_ARENAS,
    ROOT_MARKED,
    ROOT_TABLES,
    ROOT_THREADS,
    RUN,
    SHAPE,
    STATE,
    TABLES,
    UNIT_BITS,
    UNITS,
    SpanWords,
    left_of,
    used_of,
)
from heaplab.allocators.parts import bitruns
from heaplab.allocators.parts.classes import class_of, class_size
from heaplab.allocators.parts.seal import TAG
from heaplab.allocators.sources import segments
from heaplab.allocators.sources.large import Large
from heaplab.allocators.sources.segments import SLICES, SLOT, UNIT, WINDOW, Segments
from heaplab.allocators.stated import stated
from heaplab.errors import Rule

if TYPE_CHECKING:
    from heaplab.process import Process


class View(NamedTuple):
    """Shape and state of a span, verified as far as a walk goes by them."""

    span: int
    start: int
    end: int
    #: of a block
    size: int
    #: where the first block and the first fresh one stand
    first: int
    fresh: int
    state: int
    #: blocks in the span's own list
    freed: int
    c: int
    slices: int


class Census:
    """What the check counts."""

    def __init__(self, marked: bool) -> None:
        self.segments = self.listed = self.remote = 0
        #: whether the bitmap is kept
        self.marked = marked


class Spans(Design):
    """Size classes in spans, an arena for each thread; see the head of this module."""

    NAME = "spans"
    MAGIC, TRAITS, SMALLEST, OPTIONS = stated("spans")
    STRUCTURE = (
        "a list of the freed blocks of each span, and a list of the spans of each class that have room"
    )

    def __init__(self, process: "Process", options: Mapping[str, int], root: int) -> None:
        super().__init__(process, options, root)
        self._segments = Segments(process, self.options, root, self._seal)
        self._large = Large(process, self.options, root, self._seal)
        self._geometry = g = self._segments.geometry
        #: the largest block that shares its span
        self._most_small = g.slice // 2
        #: units of a segment, less 1: a mask
        self._last_unit = g.segment // UNIT - 1
        self._classes = class_of(self._most_small) + 1
        self._threshold = self.options["mmap_threshold"]
        self._of_a_table = self._page_size // 8

    @classmethod
    def _begin(cls, process: "Process", options: Mapping[str, int]) -> int:
        return segments.begin(process, cls.MAGIC)

    def _init(self) -> None:
        self._segments.begin()
        self._large.begin()
        self._store(self.root + ROOT_MARKED, int(self._checks_all))

    # ---- classes and runs ----

    def _slices_of(self, size: int) -> int:
        """Return the slices of a span: room for four blocks."""
        return -(-4 * size // self._geometry.slice)

    def _slices_for(self, size: int) -> int:
        """Return the slices of a run; more than a segment has for a size that has no room in one."""
        g = self._geometry
        return max(1, -(-size // g.slice)) if size < g.segment else SLICES

    def _bytes_of(self, c: int, slices: int) -> int:
        return slices << self._geometry.slice_bits if c == RUN else class_size(c)

    # ---- a span's words ----

    def _block_at(self, span: int, unit: int) -> int:
        """Return the block of a unit: within the segment, whatever the unit is."""
        return self._geometry.segment_of(span) + UNIT * (unit & self._last_unit)

    def _unit_of(self, p: int) -> int:
        return (p - self._geometry.segment_of(p)) // UNIT

    def _is_link(self, p: int, link: int) -> bool:
        """Whether the word at p can be the link of a freed block."""
        return self._seal.holds(p, link) and link & TAG < self._geometry.segment // UNIT

    def _linked(self, p: int) -> int:
        """Return the unit that the link of the freed block at p gives."""
        link = self._load(p)
        if self._checks_links and not self._is_link(p, link):
            self._corrupt(p, Rule.BROKEN_LINK)
        return link & UNITS

    def _shape_of(self, span: int) -> tuple[int, int]:
        """Return class and slices of a span."""
        shape = self._load(span + SHAPE)
        if self._checks_links and not self._seal.holds(span, shape):
            self._corrupt(self._geometry.slice_of(span), Rule.BROKEN_HEADER)
        return shape & 255, (shape & TAG) >> 8

    # ---- the bitmap of allocated blocks, kept with checks=all; the owner alone writes it ----

    def _mark(self, p: int) -> None:
        word, bit = self._geometry.bit_of(p)
        bits = self._load(word)
        if bits & bit:
            self._corrupt(p, Rule.BROKEN_LINK)
        self._store(word, bits | bit)

    def _unmark(self, p: int) -> None:
        word, bit = self._geometry.bit_of(p)
        bits = self._load(word)
        if not bits & bit:
            self._diagnose(p)
        self._store(word, bits & ~bit)

    def _diagnose(self, p: int) -> NoReturn:
        """p is no allocated block's address, though it lies in a segment: find out whether it was one."""
        g, is_slot = self._geometry, self._segments.is_slot
        slot = g.slot_of(p)
        span = 0 if p % UNIT or not is_slot(slot) else self._load(slot + HEAD)
        if not span:
            self._corrupt(p, Rule.FOREIGN_POINTER)
        if not is_slot(span) or g.segment_of(span) != g.segment_of(slot):
            self._corrupt(p, Rule.BROKEN_HEADER)
        c, slices = self._shape_of(span)
        n_bytes, size = slices << g.slice_bits, self._bytes_of(c, slices)
        before = g.slice_of(span) + n_bytes - p
        is_fresh = before <= left_of(self._load(span + STATE)) * size
        was = 0 < before <= n_bytes and before % size == 0 and not is_fresh
        self._corrupt(p, Rule.DOUBLE_FREE if was else Rule.FOREIGN_POINTER)

    # ---- the spans of a class that have room: a list ----

    def _list_of(self, arena: int, c: int) -> int:
        return arena + ARENA_CLASSES + 8 * c

    def _verify_linked(self, holder: int, span: int) -> None:
        """What a list has at `holder` may be loaded, or HeapCorruption."""
        if self._checks_links and span and not self._segments.is_slot(span):
            self._corrupt(holder, Rule.BROKEN_LINK)

    def _enlist(self, at: int, span: int) -> None:
        """Put a span into a list, behind the first one, which is being allocated from."""
        load, store = self._load, self._store
        following = 0
        if first := load(at):
            self._verify_linked(at, first)
            at = first + NEXT
            following = load(at)
            self._verify_linked(at, following)
        store(span + NEXT, following)
        store(span + POINTER, at)
        store(at, span)
        if following:
            store(following + POINTER, span + NEXT)

    def _unlist(self, head: int, span: int) -> None:
        load, store = self._load, self._store
        following, at = load(span + NEXT), load(span + POINTER)
        self._verify_linked(span, following)
        if self._checks_links and (
            (at != head and not self._segments.is_slot(at - NEXT)) or load(at) != span
        ):
            self._corrupt(span, Rule.BROKEN_LINK)
        store(at, following)
        if following:
            store(following + POINTER, at)

    # ---- an arena ----

    def _thread_word(self, thread: int) -> int:
        """Return the word that says which arena the thread has; 0 when it cannot have had one."""
        if thread < DIRECT:
            return self.root + ROOT_THREADS + 8 * thread
        table, n = divmod(thread - DIRECT, self._of_a_table)
        at = self._load(self.root + ROOT_TABLES + 8 * table) if table < TABLES else 0
        return at + 8 * n if at else 0

    def _arena(self) -> int:
        """Return the arena of the thread that called, or 0."""
        word = self._thread_word(self._thread())
        return self._load(word) if word else 0

    def _thread(self) -> int:
        return self.process.context.thread

    def _map_own(self, n_bytes: int) -> int:
        return self._segments.book.map(round_up(n_bytes, self._page_size))

    def _new_arena(self) -> int:
        arena = self._map_own(ARENA_CLASSES + 8 * self._classes)
        if not arena:
            return 0
        self._store(arena, self._seal(arena, RUN))
        self._store(arena + ARENA_THREAD, BUSY)
        self._segments.own(arena)
        while True:
            first = self._load(self.root + ROOT_ARENAS)
            self._store(arena + ARENA_NEXT, first)
            if self._segments.cas(self.root + ROOT_ARENAS, first, arena):
                return arena

    def _begin_thread(self) -> int:
        """Return an arena that no thread has, with all that is in it, or a new one; 0 with errno."""
        load, store, thread = self._load, self._store, self._thread()
        word = self._thread_word(thread)
        if not word:
            table = (thread - DIRECT) // self._of_a_table
            at = self._map_own(self._page_size) if table < TABLES else 0
            if not at:
                return 0
            # another thread may have been faster; its table serves as well
            self._segments.cas(self.root + ROOT_TABLES + 8 * table, 0, at)
            word = self._thread_word(thread)
        arena = load(self.root + ROOT_ARENAS)
        while arena and not self._segments.cas(arena + ARENA_THREAD, 0, BUSY):
            arena = load(arena + ARENA_NEXT)
        arena = arena or self._new_arena()
        if arena:
            store(arena + ARENA_THREAD, thread + 1)
            store(word, arena)
        return arena

    # ---- spans come and go ----

    def _sweep(self, arena: int, everything: bool = False) -> None:
        """End the period: empty spans that were kept are given, then what has long been free goes back."""
        for c in range(self._classes):
            head = self._list_of(arena, c)
            span = self._load(head)
            if span and not used_of(self._load(span + STATE)):
                _, slices = self._shape_of(span)
                self._unlist(head, span)
                self._store(span + STATE, 0)
                self._segments.give(arena, span, slices)
        self._segments.sweep(arena, everything)

    def _give(self, arena: int, span: int, slices: int) -> None:
        self._store(span + STATE, 0)
        if self._segments.give(arena, span, slices):
            self._sweep(arena)

    def _settle(self, arena: int, span: int, state: int) -> None:
        """A span with `state` has more room than before: it is listed, or given if no block is in use.

        But the first of a list stays.
        """
        c, slices = self._shape_of(span)
        if c == RUN:
            if not used_of(state):
                self._give(arena, span, slices)
            return
        head = self._list_of(arena, c)
        if used_of(state):
            if not state & LISTED:
                self._store(span + STATE, state | LISTED)
                self._enlist(head, span)
        elif self._load(head) != span:
            if state & LISTED:
                self._unlist(head, span)
            self._give(arena, span, slices)

    def _begin_span(self, arena: int, span: int, c: int, slices: int, clean: bool) -> None:
        """Make the slices from `span` on one span, of class c or a RUN."""
        store, state = self._store, CLEAN if clean else 0
        for i in range(slices):
            store(span + SLOT * i + HEAD, span)
        store(span + SHAPE, self._seal(span, slices << 8 | c))
        if c == RUN:
            store(span + STATE, state | ONE_USED)
        else:
            capacity = (slices << self._geometry.slice_bits) // class_size(c)
            store(span + STATE, state | LISTED | capacity * ONE_LEFT)
            self._enlist(self._list_of(arena, c), span)

    # ---- what other threads have freed ----

    def _announce(self, arena: int, span: int) -> None:
        """Put a span into an arena's mailbox."""
        while True:
            first = self._load(arena + ARENA_MAILBOX)
            self._store(span + MAILED, first)
            if self._segments.cas(arena + ARENA_MAILBOX, first, span):
                return

    def _take_all(self, word: int) -> int:
        """Return what a word of a list holds, and leave it empty."""
        while found := self._load(word):
            if self._segments.cas(word, found, 0):
                break
        return found

    def _collect_span(self, arena: int, span: int) -> None:
        """The blocks that others have freed of a span are its own again."""
        remote, state = self._take_all(span + REMOTE), self._load(span + STATE)
        count, unit, p = remote >> UNIT_BITS, remote & UNITS, 0
        if not count or count > used_of(state):
            self._corrupt(self._geometry.slice_of(span), Rule.BROKEN_INDEX)
        for _ in range(count):
            if not unit:
                self._corrupt(p, Rule.BROKEN_LINK)
            p = self._block_at(span, unit)
            unit = self._linked(p)
            if self._checks_all:
                self._unmark(p)
        if unit:
            self._corrupt(p, Rule.BROKEN_LINK)
        self._store(p, self._seal(p, state & UNITS))
        state = (state & ~UNITS) - count * ONE_USED + (remote & UNITS)
        self._store(span + STATE, state)
        self._settle(arena, span, state)

    def _collect(self, arena: int) -> None:
        """Empty the mailbox.  A span that has changed hands since it was put there goes on to its owner."""
        span = self._take_all(arena + ARENA_MAILBOX)
        while span:
            self._verify_linked(arena, span)
            following = self._load(span + MAILED)
            owner = self._owner_of(span)
            if owner == arena:
                self._collect_span(arena, span)
            else:
                self._announce(owner, span)
            span = following

    def _adopt(self, arena: int) -> bool:
        """Take over what the arenas have that no thread has; return whether that was anything."""
        load, store, adopted = self._load, self._store, False
        other = load(self.root + ROOT_ARENAS)
        while other:
            if self._segments.cas(other + ARENA_THREAD, 0, BUSY):
                if load(other + ARENA_MAILBOX):
                    self._collect(other)
                if self._segments.following(other, other):
                    self._sweep(other)
                    self._segments.move(other, arena)
                    for c in range(self._classes):
                        source = self._list_of(other, c)
                        while span := load(source):
                            self._unlist(source, span)
                            self._enlist(self._list_of(arena, c), span)
                    adopted = True
                store(other + ARENA_THREAD, 0)
            other = load(other + ARENA_NEXT)
        return adopted

    # ---- malloc ----

    def _malloc(self, size: int, alignment: int) -> int:
        if size <= self._most_small and alignment == ALIGN and size < self._threshold:
            return self._take(class_of(size))
        return self._take_special(size, alignment)

    def _take(self, c: int) -> int:
        arena = self._arena()
        span = self._load(self._list_of(arena, c)) if arena else 0
        return (self._pop(span, c) if span else 0) or self._take_slowly(c)

    def _pop(self, span: int, c: int) -> int:
        """Return a block of a span of class c; 0 when it has no room."""
        state = self._load(span + STATE)
        if unit := state & UNITS:
            p = self._block_at(span, unit)
            self._store(span + STATE, (state & ~UNITS) + ONE_USED + self._linked(p))
        elif state & ROOM:
            g, size = self._geometry, class_size(c)
            n_bytes, left = self._slices_of(size) << g.slice_bits, left_of(state) * size
            if self._checks_links and left > n_bytes:
                self._corrupt(g.slice_of(span), Rule.BROKEN_HEADER)
            p = g.slice_of(span) + n_bytes - left
            self._store(span + STATE, state - ONE_LEFT + ONE_USED)
            self._zeroed = state & CLEAN != 0
        else:
            return 0
        if self._checks_all:
            self._mark(p)
        return p

    def _pop_listed(self, head: int, c: int) -> int:
        """Return a block of the first listed span that has room; 0 when none is left."""
        while span := self._load(head):
            self._verify_linked(head, span)
            if p := self._pop(span, c):
                return p
            self._unlist(head, span)
            self._store(span + STATE, self._load(span + STATE) & ~LISTED)
        return 0

    def _arena_for_more(self) -> int:
        """Return the arena of the thread that called, with what others have freed; 0 with errno."""
        arena = self._arena() or self._begin_thread()
        if not arena:
            self.process.errno = errno.ENOMEM
        elif self._load(arena + ARENA_MAILBOX):
            self._collect(arena)
        return arena

    def _take_slowly(self, c: int) -> int:
        """The first span of the class has no room, or there is none."""
        arena = self._arena_for_more()
        if not arena:
            return 0
        slices = self._slices_of(class_size(c))
        while not (p := self._pop_listed(self._list_of(arena, c), c)):
            taken = self._segments.take(arena, slices)
            if not taken and self._adopt(arena):
                continue  # perhaps it had spans of the class
            taken = taken or self._grow(arena, slices)
            if not taken:
                return 0
            self._begin_span(arena, taken[0], c, slices, taken[1])
        return p

    def _grow(self, arena: int, slices: int, step: int = 1) -> tuple[int, bool] | None:
        taken = self._segments.grow(arena, slices, step)
        if not taken:
            self.process.errno = errno.ENOMEM
        return taken

    def _take_run(self, slices: int, step: int) -> int:
        arena = self._arena_for_more()
        if not arena:
            return 0
        taken = self._segments.take(arena, slices, step)
        if not taken and self._adopt(arena):
            taken = self._segments.take(arena, slices, step)
        taken = taken or self._grow(arena, slices, step)
        if not taken:
            return 0
        span, self._zeroed = taken
        self._begin_span(arena, span, RUN, slices, self._zeroed)
        p = self._geometry.slice_of(span)
        if self._checks_all:
            self._mark(p)
        return p

    def _take_special(self, size: int, alignment: int) -> int:
        """Return a block that is too large for a class, or stands at a multiple of more than 16."""
        g, serves = self._geometry, self._large.serves
        is_large = serves(size) or (alignment > ALIGN and serves(alignment))
        if not is_large and max(size, alignment) <= self._most_small:
            c = class_of(round_up(max(size, 1), alignment))
            while class_size(c) & (alignment - 1):
                c += 1
            return self._take(c)
        slices, step = self._slices_for(size), max(1, alignment >> g.slice_bits)
        if not is_large and g.fit(slices, step):
            return self._take_run(slices, step)
        self._zeroed = True
        return self._large.malloc(size, alignment)

    # ---- free ----

    def _is_in_span(self, p: int) -> bool:
        """Whether p is not a large block.

        A large block stands at a page, as few blocks of spans do: so for most pointers that costs nothing,
        unless all is checked.
        """
        return (not self._checks_all and p % self._page_size != 0) or self._segments.has(p)

    def _owner_word(self, p: int) -> int:
        """Return the word that says to which arena the segment belongs, sealed."""
        return self._load(self._geometry.segment_of(p) + segments.OWNER)

    def _owner_of(self, p: int) -> int:
        """Return the arena to which the segment belongs."""
        return self._segments.owner(self._geometry.segment_of(p), self._owner_word(p))

    def _is_remote(self, span: int, p: int) -> bool:
        """Whether another thread has freed the block at p already: its own word says so, and the span's list.

        Others may take the list meanwhile; then a word of it is no link any more, or one to where p is not.
        """
        remote = self._load(span + REMOTE)
        if not remote or not self._is_link(p, self._load(p)):
            return False
        unit = remote & UNITS
        for _ in range(remote >> UNIT_BITS):
            if not unit:
                break
            at = self._block_at(span, unit)
            if at == p:
                return True
            link = self._load(at)
            if not self._is_link(at, link):
                break
            unit = link & UNITS
        return False

    def _span_of(self, p: int) -> tuple[int, int]:
        """Return the span of the allocated block at p, and with checks=all the bitmap's word with its bit."""
        bits, span = 0, self._load(self._geometry.slot_of(p) + HEAD)
        if self._checks_all:
            word, bit = self._geometry.bit_of(p)
            bits = self._load(word)
            if not bits & bit or p % UNIT:
                self._diagnose(p)
            if self._geometry.segment_of(span) != self._geometry.segment_of(p) or span % SLOT:
                self._corrupt(p, Rule.BROKEN_HEADER)
            if self._is_remote(span, p):
                self._corrupt(p, Rule.DOUBLE_FREE)
        return span, bits

    def _free(self, p: int) -> None:
        if not self._is_in_span(p):
            self._large.free(p)
            return
        span, bits = self._span_of(p)
        owner, arena = self._owner_word(p), self._arena()
        if not arena or owner & TAG != arena:  # now the word is not believed without its seal
            self._free_remote(self._segments.owner(self._geometry.segment_of(p), owner), span, p)
            return
        if self._checks_all:
            word, bit = self._geometry.bit_of(p)
            self._store(word, bits & ~bit)
        state = self._load(span + STATE)
        now = (state & ~UNITS) - ONE_USED + self._unit_of(p)
        self._store(p, self._seal(p, state & UNITS))
        self._store(span + STATE, now)
        if not used_of(now) or not now & LISTED:
            self._settle(arena, span, now)

    def _free_remote(self, owner: int, span: int, p: int) -> None:
        """The block at p belongs to another arena: its owner collects it."""
        unit = self._unit_of(p)
        while True:
            remote = self._load(span + REMOTE)
            self._store(p, self._seal(p, remote & UNITS))
            if self._segments.cas(span + REMOTE, remote, (remote & ~UNITS) + ONE_LEFT + unit):
                break
        if not remote:
            self._announce(owner, span)

    def _usable(self, p: int) -> int:
        if not self._is_in_span(p):
            return self._large.usable(p)
        return self._bytes_of(*self._shape_of(self._span_of(p)[0]))

    def _resize(self, p: int, size: int) -> bool:
        """A block stays if it keeps half of its bytes; a run gives slices, or takes those behind it."""
        if not self._is_in_span(p):
            return self._large.resize(p, size)
        span, _ = self._span_of(p)
        c, slices = self._shape_of(span)
        n_bytes, wanted = self._bytes_of(c, slices), self._slices_for(size)
        if c != RUN or size <= self._most_small or wanted == slices:
            return size <= n_bytes <= 2 * size + UNIT
        if self._large.serves(size) or self._owner_of(p) != self._arena():
            return False
        if wanted > slices:
            if wanted >= SLICES or not self._segments.extend(span + SLOT * slices, wanted - slices):
                return False
            for i in range(slices, wanted):
                self._store(span + SLOT * i + HEAD, span)
        self._store(span + SHAPE, self._seal(span, wanted << 8 | RUN))
        if wanted < slices:
            arena = self._arena()
            if self._segments.give(arena, span + SLOT * wanted, slices - wanted):
                self._sweep(arena)
        return True

    def thread_exit(self, thread: int) -> None:
        """Leave the arena to a thread that begins or needs slices; what is free in it goes back."""
        word = self._thread_word(thread)
        arena = self._load(word) if word else 0
        if not arena:
            return
        if self._load(arena + ARENA_MAILBOX):
            self._collect(arena)
        self._sweep(arena, everything=True)
        self._store(word, 0)
        self._store(arena + ARENA_THREAD, 0)

    # ---- walk ----

    def _view(self, slot: int) -> View:
        g = self._geometry
        span = self._load(slot + HEAD)
        if not self._segments.is_slot(span) or g.segment_of(span) != g.segment_of(slot) or span > slot:
            self._corrupt(g.slice_of(slot), Rule.BROKEN_HEADER)
        c, slices = self._shape_of(span)
        state, start = self._load(span + STATE), g.slice_of(span)
        end, used, left = start + (slices << g.slice_bits), used_of(state), left_of(state)
        if 0 < slices <= SLICES and end <= g.segment_of(slot) + g.segment and slot < span + SLOT * slices:
            if c == RUN:
                if used == 1 and not state & (LISTED | ROOM):
                    return View(span, start, end, end - start, start, end, state, 0, c, slices)
            elif c < self._classes and slices == self._slices_of(class_size(c)):
                size = class_size(c)
                capacity = (end - start) // size
                if used + left <= capacity:
                    first, fresh = end - capacity * size, end - left * size
                    return View(
                        span, start, end, size, first, fresh, state, capacity - used - left, c, slices
                    )
        self._corrupt(g.slice_of(slot), Rule.BROKEN_HEADER)

    def _block_of_unit(self, v: View, unit: int, holder: int) -> int:
        """Return the block of a unit, which a list has at `holder`; or raise HeapCorruption."""
        p = self._block_at(v.span, unit)
        if not v.first <= p < v.fresh or (v.end - p) % v.size or unit > self._last_unit:
            self._corrupt(holder, Rule.BROKEN_LINK)
        return p

    def _list(self, v: View, unit: int, n: int) -> Iterator[int]:
        """Yield the n blocks of a list that begins with this unit."""
        holder = v.start
        for _ in range(n):
            holder = self._block_of_unit(v, unit, holder)
            unit = self._linked(holder)
            yield holder

    def _remote_list(self, v: View) -> Iterator[int]:
        remote = self._load(v.span + REMOTE)
        return self._list(v, remote & UNITS, remote >> UNIT_BITS)

    def _allocated_around(self, v: View, p: int) -> int:
        """Tell which of the 64 units around p have an allocated block's start; other bits are set or not."""
        bits, window = (1 << 64) - 1, p // WINDOW
        for blocks in self._list(v, v.state & UNITS, v.freed), self._remote_list(v):
            for at in blocks:
                if at // WINDOW == window:
                    bits &= ~(1 << (at // UNIT & 63))
        return bits

    def _walk(self) -> Iterator[Span]:
        yield Span.metadata(self.root, self._segments.root_end - self.root)
        yield from self._segments.book.walk()
        arena = self._load(self.root + ROOT_ARENAS)
        while arena:
            for segment in self._segments.of(arena):
                yield from self._walk_segment(segment)
            arena = self._load(arena + ARENA_NEXT)
        yield from self._large.walk()

    def _walk_segment(self, segment: int) -> Iterator[Span]:
        g = self._geometry
        p = segment + (g.header << g.slice_bits)
        yield Span.metadata(segment, p - segment)
        while p < segment + g.segment:
            slot = g.slot_of(p)
            free = self._load(segment + segments.FREE) >> g.index_of(slot)
            if free & 1:
                size = bitruns.length(free) << g.slice_bits
                yield Span(p, size, p, size, State.FREE)
                p += size
                continue
            v = self._view(slot)
            if v.c == RUN:
                state = State.CACHED if self._load(v.span + REMOTE) else State.ALLOCATED
                yield Span(p, v.size, p, v.size, state)
                p = v.end
            elif p < v.first:
                yield Span.metadata(p, v.first - p)  # the rest
                p = v.first
            elif p == v.fresh:
                yield Span(p, v.end - p, p, v.end - p, State.FREE)
                p = v.end
            else:
                if p == v.first or (p - v.size) // WINDOW != p // WINDOW:
                    bits = self._allocated_around(v, p)
                yield Span(p, v.size, p, v.size, self._block_state(v, p, bits))
                p += v.size

    def _block_state(self, v: View, p: int, bits: int) -> State:
        if bits >> (p // UNIT & 63) & 1:
            return State.ALLOCATED
        return State.CACHED if p in list(self._remote_list(v)) else State.FREE

    def _entries(self) -> Iterator[Entry]:
        """Yield the freed blocks of the listed spans, class by class, in the order of malloc."""
        arena = self._load(self.root + ROOT_ARENAS)
        while arena:
            for c in range(self._classes):
                span = self._load(self._list_of(arena, c))
                while span:
                    v, before = self._view(span), 0
                    group = f"span {v.start:#x}"
                    for place, p in enumerate(self._list(v, v.state & UNITS, v.freed)):
                        yield Entry(p, v.size, f"{group}, {place}", before, group)
                        before = p
                    span = self._load(span + NEXT)
            arena = self._load(arena + ARENA_NEXT)

    # ---- decoding ----

    def _words(self, window: Window) -> Iterator[Word]:
        decoder = SpanWords(
            self.process, self.root, self._segments, self._seal, self._classes, self._page_size
        )
        if window.meets(self.root, self._segments.root_end - self.root):
            yield self._magic_word()
            yield from unused(self.root + ROOT_END, self.root + ROOT_END + 8)
            yield from telling(self._large.root_words(), window)
            yield from telling(decoder.root(window), window)
        yield from telling(decoder.own_mappings(window), window)
        yield from telling(self._words_of_segments(window, decoder), window)
        yield from telling(self._large.words(window), window)

    def _words_of_segments(self, window: Window, decoder: SpanWords) -> Iterator[Word]:
        g = self._geometry
        for segment in self._segments.within(window):
            if window.meets(segment, g.header << g.slice_bits):
                yield from telling(self._segments.header_words(window, segment, decoder.slot), window)
            free, slices = self._load(segment + segments.FREE), window.among(segment, SLICES, g.slice)
            for i in slices:
                slot = segment + SLOT * i
                is_first = i == slices.start or self._load(slot + HEAD) == slot
                if i >= g.header and is_first and not free >> i & 1:
                    yield from telling(self._words_of_span(window, slot, decoder), window)

    def _words_of_span(self, window: Window, slot: int, decoder: SpanWords) -> Iterator[Word]:
        """Yield what is before the first block, and the links of the freed blocks up to a broken one."""
        v = self._view(slot)
        remote = self._load(v.span + REMOTE)
        yield from unused(v.start, v.first, "too few bytes for a block")
        for first, n in (v.state & UNITS, v.freed), (remote & UNITS, remote >> UNIT_BITS):
            unit, holder = first, v.start
            for _ in range(n):
                holder = self._block_of_unit(v, unit, holder)
                link = self._load(holder)
                if window.meets(holder, 8):
                    yield decoder.link(holder, link)
                if not self._is_link(holder, link):
                    break
                unit = link & UNITS

    # ---- check ----

    def _check(self) -> None:
        """Verify segments, spans and lists, that they agree, and that tree and book know them."""
        load = self._load
        found = Census(load(self.root + ROOT_MARKED) != 0)
        for arena in self._arenas():
            self._check_arena(arena, found)
        if found.segments != load(self.root + segments.COUNT):
            self._corrupt(self.root, Rule.BROKEN_INDEX)
        arena = load(self.root + ROOT_ARENAS)
        while arena:
            span = load(arena + ARENA_MAILBOX)
            while span:
                found.remote -= 1
                if found.remote < 0 or not self._segments.is_slot(span) or not load(span + REMOTE):
                    self._corrupt(arena, Rule.BROKEN_LINK)
                span = load(span + MAILED)
            arena = load(arena + ARENA_NEXT)
        if found.remote:
            self._corrupt(self.root, Rule.BROKEN_INDEX)
        self._segments.check_near()
        self._large.check()

    def _arenas(self) -> Iterator[int]:
        arena, most = self._load(self.root + ROOT_ARENAS), DIRECT + TABLES * self._of_a_table
        n = 0
        while arena:
            if n == most or not self._segments.book.has(arena):
                self._corrupt(self.root, Rule.BROKEN_ROOT)
            n += 1
            yield arena
            arena = self._load(arena + ARENA_NEXT)

    def _check_arena(self, arena: int, found: Census) -> None:
        load, at, listed, before = self._load, arena, found.listed, -1
        thread = load(arena + ARENA_THREAD)
        if load(arena) != self._seal(arena, RUN):
            self._corrupt(arena, Rule.BROKEN_HEADER)
        if thread:
            word = self._thread_word(thread - 1) if thread < 1 << 32 else 0
            if not word or load(word) != arena:
                self._corrupt(arena, Rule.BROKEN_INDEX)
        count = load(self.root + segments.COUNT)
        while (segment := self._segments.link(at, segments.NEXT, demand=True)) != arena:
            self._segments.check(arena, at, segment)
            free = load(segment + segments.FREE)
            if found.segments == count or (free and not before):  # those without stand behind
                self._corrupt(segment, Rule.BROKEN_INDEX)
            found.segments += 1
            self._check_segment(segment, found)
            at, before = segment, free
        if self._segments.link(arena, segments.PREV, demand=True) != at:
            self._corrupt(arena, Rule.BROKEN_LINK)
        self._check_lists(arena, found.listed - listed)

    def _check_segment(self, segment: int, found: Census) -> None:
        g, free = self._geometry, self._load(segment + segments.FREE)
        at = g.header
        while at < SLICES:
            if free >> at & 1:
                at += bitruns.length(free >> at)
                continue
            v = self._view(segment + SLOT * at)
            if v.span != segment + SLOT * at or free & bitruns.mask(at, v.slices):
                self._corrupt(segment + (at << g.slice_bits), Rule.BROKEN_HEADER)
            self._check_span(v, found)
            at += v.slices

    def _check_span(self, v: View, found: Census) -> None:
        load, seal = self._load, self._seal
        remote = load(v.span + REMOTE)
        count, unit = remote >> UNIT_BITS, remote & UNITS
        for i in range(1, v.slices):
            if load(v.span + SLOT * i + HEAD) != v.span:
                self._corrupt(v.start, Rule.BROKEN_HEADER)
        if (
            load(v.span + SHAPE) != seal(v.span, v.slices << 8 | v.c)
            or count > used_of(v.state)
            or (count == 0) != (unit == 0)
            or (v.state & ROOM and not v.state & LISTED)
        ):
            self._corrupt(v.start, Rule.BROKEN_HEADER)
        self._check_list(v, v.state & UNITS, v.freed, found.marked, used=False)
        self._check_list(v, unit, count, found.marked, used=True)
        found.listed += v.state & LISTED != 0
        found.remote += remote != 0
        if found.marked:
            marked, p = 0, v.start
            while p < v.end:
                end = min(v.end, (p // WINDOW + 1) * WINDOW)  # small slices share a word of the bitmap
                its = bitruns.mask(p // UNIT & 63, (end - p) // UNIT)
                marked += (load(self._geometry.bit_of(p)[0]) & its).bit_count()
                p = end
            if marked != used_of(v.state):
                self._corrupt(v.start, Rule.BROKEN_INDEX)

    def _check_list(self, v: View, unit: int, n: int, is_kept: bool, used: bool) -> None:
        """Follow a list of n freed blocks.  A bitmap that is kept says that they are in use, if `used`."""
        holder = v.start
        for _ in range(n):
            p = self._block_of_unit(v, unit, holder)
            if is_kept:
                word, bit = self._geometry.bit_of(p)
                if (self._load(word) & bit != 0) != used:
                    self._corrupt(p, Rule.BROKEN_INDEX)
            unit, holder = self._linked(p), p
        if unit:
            self._corrupt(holder, Rule.BROKEN_LINK)

    def _check_lists(self, arena: int, listed: int) -> None:
        load = self._load
        for c in range(self._classes):
            at = self._list_of(arena, c)
            while span := load(at):
                if not self._segments.is_slot(span) or load(span + POINTER) != at or not listed:
                    self._corrupt(at, Rule.BROKEN_LINK)
                if (
                    self._shape_of(span)[0] != c
                    or not load(span + STATE) & LISTED
                    or self._owner_of(span) != arena
                ):
                    self._corrupt(self._geometry.slice_of(span), Rule.BROKEN_INDEX)
                listed -= 1
                at = span + NEXT
        if listed:
            self._corrupt(arena, Rule.BROKEN_INDEX)
