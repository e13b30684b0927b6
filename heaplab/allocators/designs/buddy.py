"""Binary buddy: every block is 2^k bytes, and its payload lies at a multiple of 2^k.

    alignment       32 bytes; aligned_alloc gives any power of two without padding
    overhead        8 bytes a block, then rounding up to 2^k: expected 1 / ln 2 = 1.44 times the request
    minimum block   32 bytes, 24 of them payload
    malloc          7 or 8 mems, and 4 for each split
    free            9 or 10 mems; 5 to 7 more for each merge, and 1 if any was with a buddy to the left
    metadata        a header in front of each payload; links in free payloads; list heads in the root
    source          Knowlton, CACM 8 (1965) 623-624; Knuth, TAOCP vol. 1, 2.5, algorithms R and S

A block is named by its payload's address p.  It spans [p - 8, p - 8 + 2^k), so that the address itself
says who its buddy is, p ^ 2^k, and no offset from a base is ever taken:

         p - 8    p          p + 8                                p - 8 + 2^k
    free +--------+----------+----------+--------------------------+
         | header | next     | prev     |                          |
         +--------+----------+----------+--------------------------+
    used | header | payload, 2^k - 8 bytes                         |
         +--------+------------------------------------------------+

    header = seal | order k | ALLOCATED or not      (parts/seal.py)

    root -> +40   orders    bit k is set when list k is not empty
            +48   heads     of the lists of free blocks, one an order, from 5 to 46: the first payload, or 0
            +384            16 bytes for the first payload's header, or the fence of a heap without a block

next is a payload, 0 at the end of a list; prev is the address of the word that points here, a next or a head,
so that a block leaves its list without asking whether it is the first.  The heap is [first, end) in payload
addresses, cut into the largest aligned blocks that fit.  The eight bytes before the end carry a header too,
the fence: allocated, of order 0, so that whoever asks for a right buddy at the end finds one that never
merges.  When the heap grows it becomes the header of the block that starts there.

The twin is csrc/designs/buddy.c.
"""

import errno
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, ClassVar, NoReturn

from heaplab.allocators.base import ALIGN, Entry, Span, State, Word, round_up
from heaplab.allocators.decoding import Window, leads, lost, table, telling, unused
from heaplab.allocators.design import ROOT_DESIGN, Design
from heaplab.allocators.parts import bitruns
from heaplab.allocators.parts.seal import TAG
from heaplab.allocators.sources import brk
from heaplab.allocators.sources.large import Large
from heaplab.allocators.stated import stated
from heaplab.errors import Rule

if TYPE_CHECKING:
    from heaplab.process import Process

HEADER = 8
NEXT, PREV = 0, 8
#: from 32 bytes (a header and two links) to half of the 47 bits that a program has for addresses
LEAST, MOST = 5, 46
ORDER, ALLOCATED = 63, 64
FENCE = ALLOCATED | 0
ROOT_ORDERS, ROOT_HEADS = ROOT_DESIGN, ROOT_DESIGN + 8


def order_of(size: int) -> int:
    """Return the order of the smallest block with room for `size` bytes.

    >>> [order_of(size) for size in (0, 24, 25, 56, 57)]
    [5, 5, 6, 6, 7]
    """
    return (size + HEADER - 1).bit_length() if size > 24 else LEAST


def largest(at: int, room: int) -> int:
    """Return the order of the largest aligned block that starts, or ends, at `at` within `room` bytes.

    >>> largest(0x5000, 0x10000), largest(0x8000, 0x3000)
    (12, 13)
    """
    return min((at & -at).bit_length(), room.bit_length()) - 1


class Buddy(Design):
    """The binary buddy system; see the head of this module."""

    NAME = "buddy"
    MAGIC, TRAITS, SMALLEST, OPTIONS = stated("buddy")
    STRUCTURE = "a doubly linked list of the free blocks of each order"
    ROOT_SIZE: ClassVar[int] = ROOT_HEADS + 8 * (MOST - LEAST + 1) + 16

    def __init__(self, process: "Process", options: Mapping[str, int], root: int) -> None:
        super().__init__(process, options, root)
        self._brk = brk.Brk(process, self.options, root)
        self._large = Large(process, self.options, root, self._seal)
        self._orders = root + ROOT_ORDERS
        self._heads = root + ROOT_HEADS - 8 * LEAST  # head of list k: + 8 * k
        self._start = root + self.ROOT_SIZE
        self._first = round_up(self._start, 1 << LEAST)
        self._page_order = self._page_size.bit_length() - 1

    @classmethod
    def _begin(cls, process: "Process", options: Mapping[str, int]) -> int:
        return brk.begin(process, options, cls.ROOT_SIZE, cls.MAGIC)

    def _init(self) -> None:
        self._large.begin()
        self.process.fill(self._orders, 0, self.ROOT_SIZE - ROOT_ORDERS)
        self._cut(self._first, self.process.sbrk(0))

    def _is_small(self, p: int) -> bool:
        """Whether p is a block of the heap's, and not a large one."""
        return p >= self._start and p < self._brk.end()

    # headers

    def _order_of_allocated(self, p: int) -> int:
        """Return the order of the allocated block at p; HeapCorruption when there is none."""
        if self._checks_all and p & ((1 << LEAST) - 1):
            self._corrupt(p, Rule.FOREIGN_POINTER)
        header = self._load(p - HEADER)
        k = header & ORDER
        if self._checks_all and header != self._seal(p, k | ALLOCATED):
            if header == self._seal(p, k):
                self._corrupt(p, Rule.DOUBLE_FREE)
            self._diagnose(p)
        return k

    def _diagnose(self, p: int) -> NoReturn:
        """What stands before p is no header: find out by walking whether one was ever there."""
        q = self._first
        while q < p:
            q += 1 << (self._tag(q) & ORDER)
        self._corrupt(p, Rule.BROKEN_HEADER if q == p else Rule.FOREIGN_POINTER)

    def _tag(self, p: int) -> int:
        """Return order and state of the block at p; HeapCorruption when its seal is broken."""
        header = self._load(p - HEADER)
        if self._checks_all and not self._seal.holds(p, header):
            self._corrupt(p, Rule.BROKEN_HEADER)
        return header & TAG

    # the lists of free blocks

    def _push(self, p: int, k: int) -> None:
        load, store = self._load, self._store
        head = self._heads + 8 * k
        following = load(head)
        store(p - HEADER, self._seal(p, k))
        store(p + NEXT, following)
        store(p + PREV, head)
        store(head, p)
        if following:
            store(following + PREV, p)
        else:
            store(self._orders, load(self._orders) | 1 << k)

    def _is_place(self, p: int) -> bool:
        """Whether a free block may stand at p."""
        return not p & ((1 << LEAST) - 1) and self._first <= p < self.process.sbrk(0)

    def _next(self, p: int) -> int:
        """Return the next block of p's list; that block has to point back."""
        following = self._load(p + NEXT)
        if self._checks_links and following:
            points_back = self._is_place(following) and self._load(following + PREV) == p + NEXT
            if not points_back:
                self._corrupt(p, Rule.BROKEN_LINK)
        return following

    def _unlink(self, p: int, k: int) -> None:
        load, store = self._load, self._store
        following, pointer = self._next(p), load(p + PREV)
        if self._checks_links:
            placed = pointer == self._heads + 8 * k or self._is_place(pointer)
            if not placed or load(pointer) != p:
                self._corrupt(p, Rule.BROKEN_LINK)
        store(pointer, following)
        if following:
            store(following + PREV, pointer)
        elif pointer == self._heads + 8 * k:
            store(self._orders, load(self._orders) & ~(1 << k))

    # malloc

    def _malloc(self, size: int, alignment: int) -> int:
        large = self._large
        if large.serves(size) or (alignment > ALIGN and large.serves(alignment)):
            self._zeroed = True
            return large.malloc(size, alignment)
        k, aligned = order_of(size), alignment.bit_length() - 1
        p = self._take(max(k, aligned))
        if p and k < aligned:
            self._split(p, aligned, k)
        return p

    def _take(self, k: int) -> int:
        """Return a block of order k, split from the smallest free one there is (algorithm R)."""
        load, store, heads = self._load, self._store, self._heads
        orders = load(self._orders)
        if not orders >> k:
            if not self._extend(k):
                return 0
            orders = load(self._orders)
        fitting = orders >> k
        j = k + (fitting & -fitting).bit_length() - 1
        p = load(heads + 8 * j)
        if self._checks_all and load(p - HEADER) != self._seal(p, j):
            self._corrupt(p, Rule.BROKEN_HEADER)
        following = self._next(p)
        store(heads + 8 * j, following)
        left = orders
        if following:
            store(following + PREV, heads + 8 * j)
        else:
            left ^= 1 << j
        for i in range(j - 1, k - 1, -1):  # lists k to j - 1 are empty: no need to look
            upper = p + (1 << i)
            store(upper - HEADER, self._seal(upper, i))
            store(upper + NEXT, 0)
            store(upper + PREV, heads + 8 * i)
            store(heads + 8 * i, upper)
        left |= (1 << j) - (1 << k)
        if left != orders:
            store(self._orders, left)
        store(p - HEADER, self._seal(p, k | ALLOCATED))
        return p

    def _split(self, p: int, k: int, to: int) -> None:
        """Make the allocated block at p, of order k, one of order `to`; its upper halves become free."""
        for i in range(k - 1, to - 1, -1):
            self._push(p + (1 << i), i)
        self._store(p - HEADER, self._seal(p, to | ALLOCATED))

    # free

    def _free(self, p: int) -> None:
        """Merge with the buddy as long as it is free and whole (algorithm S)."""
        if not self._is_small(p):
            self._large.free(p)
            return
        k, at = self._order_of_allocated(p), p
        while (buddy := at ^ (1 << k)) >= self._first and self._tag(buddy) == k:
            self._unlink(buddy, k)
            at = min(at, buddy)
            k += 1
        if at != p:  # inside the merged block now: it shall not pass for allocated
            self._store(p - HEADER, self._seal(p, LEAST))
        self._push(at, k)
        if k >= self._page_order:
            self._trim()

    def _usable(self, p: int) -> int:
        if not self._is_small(p):
            return self._large.usable(p)
        return (1 << self._order_of_allocated(p)) - HEADER

    def _resize(self, p: int, size: int) -> bool:
        if not self._is_small(p):
            return self._large.resize(p, size)
        if self._large.serves(size):
            return False
        k, wanted = self._order_of_allocated(p), order_of(size)
        if wanted < k:
            self._split(p, k, wanted)
            if k > self._page_order:
                self._trim()
        elif wanted > k:
            if p & ((1 << wanted) - 1) or any(self._tag(p + (1 << i)) != i for i in range(k, wanted)):
                return False
            for i in range(k, wanted):
                self._unlink(p + (1 << i), i)
            self._store(p - HEADER, self._seal(p, wanted | ALLOCATED))
        return True

    # the end of the heap

    def _tail(self, end: int) -> int:
        """Return where the free blocks that reach to the end start."""
        at = end
        while at > self._first:
            # blocks nest: the last one is the largest that fits before `at`, or in its upper half, and so on
            k = largest(at, at - self._first)
            while (tag := self._tag(at - (1 << k))) & ORDER < k:
                k -= 1
            if tag != k:
                break
            at -= 1 << k
        return at

    def _unlink_tail(self, tail: int, end: int) -> None:
        while tail < end:
            k = self._tag(tail)
            self._unlink(tail, k)
            tail += 1 << k

    def _cut(self, at: int, end: int) -> None:
        """Make [at, end) free blocks as large as can be, the lowest first in its list; set the fence."""
        self._store(end - HEADER, self._seal(end, FENCE))
        while end > at:
            k = largest(end, end - at)
            end -= 1 << k
            self._push(end, k)

    def _extend(self, k: int) -> bool:
        """Grow the heap until there is a free block of order k; False with errno when it cannot be."""
        if k > MOST:
            self.process.errno = errno.ENOMEM
            return False
        end = self._brk.end()
        tail = self._tail(end)
        grown = self._brk.grow(round_up(tail, 1 << k) + (1 << k) - end)
        if grown is None:
            return False
        self._unlink_tail(tail, end)
        self._cut(tail, end + grown[1])
        return True

    def _trim(self) -> None:
        """Give the end of the heap back when enough of it is free.

        Called when a block of at least a page became free: a smaller one cannot make whole pages free.
        """
        end = self._brk.end()
        tail = self._tail(end)
        keep = self._brk.keep(tail)
        if not self._brk.trims(end, keep):
            return
        self._unlink_tail(tail, end)
        self._cut(tail, keep if self._brk.shrink(keep) else end)

    # walk

    def _walk(self) -> Iterator[Span]:
        yield Span.metadata(self.root, self._first - HEADER - self.root)
        p = self._first
        while p < self._brk.end():
            tag = self._tag(p)
            size = 1 << (tag & ORDER)
            state = State.ALLOCATED if tag & ALLOCATED else State.FREE
            yield Span(p - HEADER, size, p, size - HEADER, state)
            p += size
        yield Span.metadata(p - HEADER, HEADER)  # the fence
        yield from self._large.walk()

    def _entries(self) -> Iterator[Entry]:
        for k in range(LEAST, MOST + 1):
            p, place, before = self._load(self._heads + 8 * k), 0, 0
            while p:
                block, group = p - HEADER, f"order {k}"
                yield Entry(block, 1 << (self._tag(p) & ORDER), f"{group}, {place}", before, group)
                p, place, before = self._load(p + NEXT), place + 1, block

    # decoding

    def _words(self, window: Window) -> Iterator[Word]:
        if window.meets(self.root, self._first - self.root):
            yield from telling(self._root_words(window), window)
        yield from telling(self._words_of_blocks(window), window)
        yield from telling(self._large.words(window), window)

    def _root_words(self, window: Window) -> Iterator[Word]:
        yield self._magic_word()
        yield self._brk.root_word()
        yield from self._large.root_words()
        orders = self._load(self._orders)
        broken = ", broken" if orders & ~((2 << MOST) - (1 << LEAST)) else ""
        yield Word(self._orders, 8, "orders", f"with free blocks: {bitruns.names(orders)}{broken}")
        heads, n = self._heads + 8 * LEAST, MOST - LEAST + 1
        yield from table(window, heads, n, self._head_word, "orders without a free block")
        yield from unused(heads + 8 * n, self._first - HEADER)

    def _head_word(self, i: int, at: int, first: int) -> Word:
        return self._link_word(at, f"order {LEAST + i}", first)

    def _link_word(self, at: int, name: str, p: int) -> Word:
        """Return the word at `at` decoded, a link to the block at p, which has to point back to the word."""
        if not p:
            return Word(at, 8, name, "none")
        if not self._is_place(p):
            return Word(at, 8, name, f"broken: no free block can stand at {p:#x}")
        back = "" if self._load(p + PREV) == at else ", broken: it does not point back"
        return Word(at, 8, name, f"{leads(p)}{back}", p - HEADER)

    def _words_of_blocks(self, window: Window) -> Iterator[Word]:
        """Yield the words of the blocks in the window, and the fence.

        Behind a broken header no block can be found.
        """
        end, p = self._brk.end(), window.span + HEADER
        if not self._first <= p <= end or p & ((1 << LEAST) - 1):
            p = self._first
        while p < end and p - HEADER < window.end:
            header = self._load(p - HEADER)
            tag, k, text = header & TAG, header & ORDER, self._describe(p, header)
            if tag not in (k, k | ALLOCATED) or not LEAST <= k <= MOST or not self._seal.holds(p, header):
                yield Word(p - HEADER, HEADER, "header", f"{text}; broken: no block can be found behind it")
                if p <= window.start:
                    yield lost(window, p - HEADER)
                return
            if p - HEADER + (1 << k) > window.start:
                yield Word(p - HEADER, HEADER, "header", text)
                if tag == k:
                    yield from telling(self._links_of(p, k), window)
            p += 1 << k
        if p == end:
            header = self._load(p - HEADER)
            fence = "the end of the heap" if header & TAG == FENCE else "broken: no fence"
            yield Word(p - HEADER, HEADER, "fence", f"{fence}, {self._seal.describe(p, header)}")

    def _describe(self, p: int, header: int) -> str:
        k, state = header & ORDER, "allocated" if header & ALLOCATED else "free"
        return f"size {1 << k:#x}, {state}, order {k}, {self._seal.describe(p, header)}"

    def _links_of(self, p: int, k: int) -> Iterator[Word]:
        yield self._link_word(p + NEXT, "next", self._load(p + NEXT))
        at, pointer, head = p + PREV, self._load(p + PREV), self._heads + 8 * k
        if pointer != head and not self._is_place(pointer):
            yield Word(at, 8, "prev", f"broken: neither a free block nor the list's head is at {pointer:#x}")
            return
        which = ", the list's head" if pointer == head else ""
        back = "" if self._load(pointer) == p else ", broken: it does not point here"
        yield Word(at, 8, "prev", f"{pointer:#x}{which}{back}", pointer if which else pointer - HEADER)

    # check

    def _check(self) -> None:
        """Verify every block's header and place, that buddies are merged, and that walk == index."""
        end = self._brk.end()
        if end % self._page_size or end < self._first:
            self._corrupt(self.root, Rule.BROKEN_ROOT)
        if self._check_blocks(end) != self._check_lists(end):
            self._corrupt(self.root, Rule.BROKEN_INDEX)
        self._large.check()

    def _check_blocks(self, end: int) -> tuple[int, int]:
        """Return how many free blocks the walk finds, and the sum of their addresses."""
        load, count, total, p = self._load, 0, 0, self._first
        while p < end:
            header = load(p - HEADER)
            k = header & ORDER
            size = 1 << k
            if header not in (self._seal(p, k), self._seal(p, k | ALLOCATED)) or not LEAST <= k <= MOST:
                self._corrupt(p, Rule.BROKEN_HEADER)
            if p & (size - 1) or p + size > end:
                self._corrupt(p, Rule.BROKEN_HEADER)
            if not header & ALLOCATED:
                # p + size is at most the end, where the fence is
                if not p & size and load(p + size - HEADER) == self._seal(p + size, k):
                    self._corrupt(p, Rule.UNCOALESCED)
                pointer = load(p + PREV)
                if pointer != self._heads + 8 * k and not self._may_be(pointer, k, end):
                    self._corrupt(p, Rule.BROKEN_LINK)
                if load(pointer) != p:
                    self._corrupt(p, Rule.BROKEN_LINK)
                count, total = count + 1, total + p
            p += size
        if load(end - HEADER) != self._seal(end, FENCE):
            self._corrupt(end, Rule.BROKEN_HEADER)
        return count, total

    def _check_lists(self, end: int) -> tuple[int, int]:
        """Return how many free blocks the lists hold, and the sum of their addresses."""
        load, count, total = self._load, 0, 0
        orders = load(self._orders)
        for k in range(LEAST, MOST + 1):
            pointer = self._heads + 8 * k
            p = load(pointer)
            if bool(p) != bool(orders & 1 << k):
                self._corrupt(self.root, Rule.BROKEN_INDEX)
            while p:
                if not self._may_be(p, k, end) or load(p - HEADER) != self._seal(p, k):
                    self._corrupt(p, Rule.BROKEN_INDEX)
                if load(p + PREV) != pointer:  # so no list runs in a circle
                    self._corrupt(p, Rule.BROKEN_LINK)
                count, total = count + 1, total + p
                pointer, p = p, load(p + NEXT)
        return count, total

    def _may_be(self, p: int, k: int, end: int) -> bool:
        """Return whether a block of order k can be at p."""
        return self._first <= p < end and not p & ((1 << k) - 1)
