"""An index as a list: the free blocks in a circular doubly linked list.

    base -> +0  rover                                   where next fit goes on searching
            +0  sentinel's     +8 next    +16 prev      of the list, so that it is never empty

    | header | next | prev |    ...    | footer |       a free block

    fit     first   the first that is large enough, from the front
            next    the first from where the last search ended
            best    the smallest that is large enough; an exact one ends the search
            worst   the largest
    order   lifo    a block freed, alone or merged, goes to the front
            fifo    to the back
            address the list is kept in the order of addresses
    What is left of a block that was split stays in its place.

The twin is csrc/parts/list.h.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from heaplab.allocators.base import ADDRESSES, Word
from heaplab.allocators.parts.index import NOTHING, Found, Index, Memory, Place, Survey
from heaplab.allocators.parts.seal import Seal
from heaplab.allocators.parts.tags import HEADER, size_of
from heaplab.allocators.stated import stated
from heaplab.errors import HeapCorruption, Rule

# from the block, or from the sentinel
NEXT, PREV = 8, 16

#: the choices of the options fit and order, as csrc/parts/list.h states them
FITS, ORDERS = (option.choices for option in stated("freelist").options[:2])


class FreeBlockList(Index):
    """A circular list.  Its sentinel has the rover for a header, so that its links lie as in a block."""

    MIN_BLOCK = 32
    WORDS = 3

    def __init__(
        self,
        memory: Memory,
        base: int,
        options: Mapping[str, int],
        end: Callable[[], int] = lambda: ADDRESSES,
        seal: Seal | None = None,
    ) -> None:
        super().__init__(memory, base, options, end, seal)
        self._rover = base
        self._sentinel = base  # the rover stands where its header would
        self._roves = FITS[options["fit"]] == "next"
        self._order = ORDERS[options["order"]]
        self._find = {
            "first": self._first_fit,
            "next": self._next_fit,
            "best": self._best_fit,
            "worst": self._worst_fit,
        }[FITS[options["fit"]]]

    def init(self, heap_bytes: int) -> None:
        sentinel = self._sentinel
        self._store(sentinel + NEXT, sentinel)
        self._store(sentinel + PREV, sentinel)
        self._store(self._rover, sentinel)

    # ---- searching ----

    def find(self, need: int) -> Found:
        return self._find(need)

    def _along(self, block: int, offset: int = NEXT) -> Iterator[int]:
        """Yield what the links from `block` on lead to, one by one.

        A link has to lead to a block, or to the sentinel, where the way was not before.  A list whose links
        run in a circle past the sentinel comes back to a block: Brent's algorithm meets it again, and costs
        no reference.
        """
        load, checks = self._load, self._checks_links
        steps = turn = seen = 0
        while True:
            link = load(block + offset)
            if checks:
                if not self._is_link(link) or link == seen:
                    raise HeapCorruption(block + HEADER, Rule.BROKEN_LINK)
                if steps == turn:
                    seen, turn = link, 2 * turn + 1
                steps += 1
            yield link
            block = link

    def _first_fit(self, need: int) -> Found:
        load, sentinel = self._load, self._sentinel
        for block in self._along(sentinel):
            if block == sentinel:
                break
            word = load(block)
            if size_of(word) >= need:
                return block, word, None
        return NOTHING

    def _next_fit(self, need: int) -> Found:
        load, sentinel = self._load, self._sentinel
        start = block = load(self._rover)
        if self._checks_links and not self._is_link(start):
            raise HeapCorruption(self._base, Rule.BROKEN_LINK)
        way = self._along(start)
        while True:
            if block != sentinel and size_of(word := load(block)) >= need:
                self._store(self._rover, block)
                return block, word, None
            block = next(way)
            if block == start:
                return NOTHING

    def _best_fit(self, need: int) -> Found:
        load, sentinel = self._load, self._sentinel
        best = best_word = 0
        least = 1 << 64
        for block in self._along(sentinel):
            if block == sentinel:
                break
            word = load(block)
            if need <= size_of(word) < least:
                best, best_word, least = block, word, size_of(word)
                if least == need:
                    break
        return best, best_word, None

    def _worst_fit(self, need: int) -> Found:
        load, sentinel = self._load, self._sentinel
        worst = worst_word = 0
        most = need - 1
        for block in self._along(sentinel):
            if block == sentinel:
                break
            word = load(block)
            if size_of(word) > most:
                worst, worst_word, most = block, word, size_of(word)
        return worst, worst_word, None

    # ---- orders ----

    def insert(self, block: int, size: int) -> None:
        load, sentinel = self._load, self._sentinel
        prev = following = sentinel
        if self._order == "fifo":
            prev = next(self._along(sentinel, PREV))
        elif self._order == "lifo":
            following = next(self._along(sentinel))
        else:
            for following in self._along(sentinel):
                if following == sentinel or following >= block:
                    break
                prev = following
        # what is written into is where the list says it is
        if self._checks_links:
            back = load(prev + NEXT) if self._order == "fifo" else load(following + PREV)
            if back != (following if self._order == "fifo" else prev):
                raise HeapCorruption(prev + HEADER, Rule.BROKEN_LINK)
        self._link(block, prev, following)

    def remove(self, block: int, size: int, where: Any = None) -> None:
        prev, following = self._neighbours(block)
        self._store(prev + NEXT, following)
        self._store(following + PREV, prev)
        self._leave(block, following)

    def shrink(self, block: int, size: int, to: int, rest: int, where: Any = None) -> None:
        if to != block:
            self._move(block, to)

    def grow(self, block: int, size: int, to: int, total: int) -> None:
        if self._order != "address":
            self.remove(block, size)
            self.insert(to, total)
        elif to != block:
            self._move(block, to)

    def _move(self, block: int, to: int) -> None:
        """Let `to` take the place of `block`."""
        prev, following = self._neighbours(block)
        self._link(to, prev, following)
        self._leave(block, to)

    def _link(self, block: int, prev: int, following: int) -> None:
        store = self._store
        store(block + NEXT, following)
        store(block + PREV, prev)
        store(prev + NEXT, block)
        store(following + PREV, block)

    def _neighbours(self, block: int) -> tuple[int, int]:
        """Return the blocks before and after, which have to point back (glibc's safe unlinking)."""
        load = self._load
        following, prev = load(block + NEXT), load(block + PREV)
        if not self._checks_links:
            return prev, following
        if not (self._is_link(following) and load(following + PREV) == block) or not (
            self._is_link(prev) and load(prev + NEXT) == block
        ):
            raise HeapCorruption(block + HEADER, Rule.BROKEN_LINK)
        return prev, following

    def _leave(self, block: int, to: int) -> None:
        """Do not leave the rover at `block`."""
        if self._roves and self._load(self._rover) == block:
            self._store(self._rover, to)

    # ---- looking ----

    def entries(self) -> Iterator[Place]:
        block, place, before = self._load(self._sentinel + NEXT), 0, 0
        while block != self._sentinel:
            yield block, str(place), before
            block, place, before = self._load(block + NEXT), place + 1, block

    def root_words(self) -> Iterator[Word]:
        if self._roves:
            rover = self._load(self._rover)
            yield self._link_word(self._rover, "rover", rover, lambda _: True)
        else:
            yield Word(self._rover, 8, "rover", "for next fit alone")
        yield from self.links_of(self._sentinel)

    def links_of(self, block: int) -> Iterator[Word]:
        yield self._decoded(block, NEXT, PREV, "next")
        yield self._decoded(block, PREV, NEXT, "prev")

    def _decoded(self, block: int, offset: int, back: int, name: str) -> Word:
        """Return one of the links of a block, or of the sentinel, decoded."""
        link = self._load(block + offset)
        word = self._link_word(block + offset, name, link, lambda to: self._load(to + back) == block)
        return word._replace(text=f"{word.text}, the list's end") if link == self._sentinel else word

    # ---- check ----

    def check_links(self, survey: Survey, block: int) -> None:
        load, sentinel = self._load, self._sentinel
        following, prev = load(block + NEXT), load(block + PREV)
        for link, back in (following, PREV), (prev, NEXT):
            if (link != sentinel and not survey.is_block(link)) or load(link + back) != block:
                raise HeapCorruption(block + HEADER, Rule.BROKEN_LINK)

    def check(self, survey: Survey) -> None:
        load, sentinel, rover = self._load, self._sentinel, self._load(self._rover)
        rover_met = rover == sentinel
        prev, block = sentinel, load(sentinel + NEXT)
        while block != sentinel:
            survey.indexed(block, prev)
            if load(block + PREV) != prev:
                raise HeapCorruption(block + HEADER, Rule.BROKEN_LINK)
            if self._order == "address" and block < prev:
                raise HeapCorruption(block + HEADER, Rule.BROKEN_INDEX)
            rover_met = rover_met or block == rover
            prev, block = block, load(block + NEXT)
        if load(sentinel + PREV) != prev or not rover_met:
            raise HeapCorruption(self._base, Rule.BROKEN_LINK)
