"""An index as two levels of bins: a list for each sixteenth of an octave, found by two bitmaps.

    base -> +0    octaves   bit f is set when a bin of octave f is not empty
            +8    bins      a word an octave: bit s is set when its bin s is not empty
            +328  heads     of the bins: the first free block, or 0

    | header | next | prev |    ...    | footer |       a free block

prev is the address of the word that points here, a next or a head.  Blocks below 256 bytes have a bin for
each multiple of 16; each octave above has sixteen bins.

A search rounds the need up to where a bin begins, so that the first block of any bin from there on is large
enough. Two bitmaps tell the first bin that is not empty: good fit, with at most a 16th of the need left over
when such a block exists, in a number of references that nothing can raise.  If there is none, the first block
of the bin before is tried, and no other: what the heap has just grown by stands there.

Source: Masmano, Ripoll, Crespo, Real, TLSF: a New Dynamic Memory Allocator for Real-Time Systems, ECRTS 2004.
The twin is csrc/parts/twolevel.h.
"""

from collections.abc import Callable, Iterator, Mapping
from itertools import product
from typing import Any, Protocol

from heaplab.allocators.base import ADDRESSES
from heaplab.allocators.parts.index import NOTHING, Found, Index, Memory, Survey
from heaplab.allocators.parts.seal import Seal
from heaplab.allocators.parts.tags import HEADER, size_of
from heaplab.errors import HeapCorruption, Rule

# from the block
NEXT, PREV = 8, 16
BINS_LOG2, BINS, OCTAVES = 4, 16, 40
#: log2 of the size below which there is a bin for each multiple of 16
EVEN_LOG2 = 8


class FillableMemory(Memory, Protocol):
    """Where the bins live; a process is one."""

    def fill(self, va: int, byte: int, n: int, /) -> None: ...


def bin_of(size: int) -> int:
    """Return the bin that blocks of this size stand in: 16 * its octave + its number there.

    >>> [bin_of(size) for size in (32, 240, 256, 271, 272, 512, 1024)]
    [2, 15, 16, 16, 17, 32, 48]
    """
    if size < 1 << EVEN_LOG2:
        return size >> (EVEN_LOG2 - BINS_LOG2)
    octave = size.bit_length() - 1
    return BINS * (octave - EVEN_LOG2 + 1) + (size >> (octave - BINS_LOG2) & (BINS - 1))


def bin_for(need: int) -> int:
    """Return the first bin all of whose blocks have `need` bytes.

    >>> [bin_for(need) for need in (32, 256, 272, 512, 528, 544)]
    [2, 16, 17, 32, 33, 33]
    """
    if need < 1 << EVEN_LOG2:
        return bin_of(need)
    return bin_of(need + (1 << (need.bit_length() - 1 - BINS_LOG2)) - 1)


def lowest(word: int) -> int:
    """Return the number of the lowest bit that is set; -1 of 0."""
    return (word & -word).bit_length() - 1


class TwoLevelBins(Index):
    """Two-level segregated lists."""

    MIN_BLOCK = 32
    WORDS = 1 + OCTAVES + OCTAVES * BINS

    def __init__(
        self,
        memory: FillableMemory,
        base: int,
        options: Mapping[str, int],
        end: Callable[[], int] = lambda: ADDRESSES,
        seal: Seal | None = None,
    ) -> None:
        super().__init__(memory, base, options, end, seal)
        self._memory = memory
        self._octaves = base
        self._bins = base + 8
        self._heads = base + 8 + 8 * OCTAVES

    def init(self, heap_bytes: int) -> None:
        self._memory.fill(self._base, 0, 8 * self.WORDS)

    # ---- search ----

    def find(self, need: int) -> Found:
        block = self._first_from(bin_for(need))
        if block:
            return block, self._load(block), None
        block = self._load(self._heads + 8 * bin_of(need))
        if not block:
            return NOTHING
        if self._checks_links and not self._is_link(block):
            self._broken_index()
        word = self._load(block)
        return (block, word, None) if size_of(word) >= need else NOTHING

    def _first_from(self, first: int) -> int:
        """Return the first block of the first bin from `first` on that is not empty, or 0."""
        load, (f, s) = self._load, divmod(first, BINS)
        if f >= OCTAVES:
            return 0
        bins = load(self._bins + 8 * f) >> s << s
        if not bins:
            octaves = load(self._octaves) >> f >> 1
            if not octaves:
                return 0
            f += 1 + lowest(octaves)
            bins = load(self._bins + 8 * f) if f < OCTAVES else 0
        s = lowest(bins) if bins else BINS
        block = load(self._heads + 8 * (BINS * f + s)) if s < BINS else 0
        if self._checks_links and not self._is_link(block):
            self._broken_index()
        return block

    def _broken_index(self) -> None:
        raise HeapCorruption(self._base, Rule.BROKEN_INDEX)

    # ---- bins ----

    def insert(self, block: int, size: int) -> None:
        load, store = self._load, self._store
        number = bin_of(size)
        head = self._heads + 8 * number
        following = load(head)
        store(block + NEXT, following)
        store(block + PREV, head)
        store(head, block)
        if following:
            if self._checks_links and not self._is_link(following):
                self._broken_index()
            store(following + PREV, block + NEXT)
            return
        f, s = divmod(number, BINS)
        bins = load(self._bins + 8 * f)
        store(self._bins + 8 * f, bins | 1 << s)
        if not bins:
            store(self._octaves, load(self._octaves) | 1 << f)

    def remove(self, block: int, size: int, where: Any = None) -> None:
        load, store = self._load, self._store
        number = bin_of(size)
        head = self._heads + 8 * number
        following, pointer = load(block + NEXT), load(block + PREV)
        if self._checks_links:
            self._verify_links(block, head, following, pointer, self._is_link)
        store(pointer, following)
        if following:
            store(following + PREV, pointer)
        elif pointer == head:
            f, s = divmod(number, BINS)
            bins = load(self._bins + 8 * f) & ~(1 << s)
            store(self._bins + 8 * f, bins)
            if not bins:
                store(self._octaves, load(self._octaves) & ~(1 << f))

    def entries(self) -> Iterator[tuple[int, str]]:
        for f, s in product(range(OCTAVES), range(BINS)):
            block, place = self._load(self._heads + 8 * (BINS * f + s)), 0
            while block:
                yield block, f"{f}.{s}.{place}"
                block, place = self._load(block + NEXT), place + 1

    def _verify_links(
        self, block: int, head: int, following: int, pointer: int, is_block: Callable[[int], bool]
    ) -> None:
        """The word before and the block after a block point back to it, or HeapCorruption."""
        load = self._load
        sound = (pointer == head or is_block(pointer - NEXT)) and load(pointer) == block
        if sound and following:
            sound = is_block(following) and load(following + PREV) == block + NEXT
        if not sound:
            raise HeapCorruption(block + HEADER, Rule.BROKEN_LINK)

    # ---- check ----

    def check_links(self, survey: Survey, block: int) -> None:
        load = self._load
        following, pointer = load(block + NEXT), load(block + PREV)
        head = self._heads + 8 * bin_of(size_of(load(block)))
        self._verify_links(block, head, following, pointer, survey.is_block)

    def check(self, survey: Survey) -> None:
        octaves = self._load(self._octaves)
        for f in range(OCTAVES):
            bins, met = self._load(self._bins + 8 * f), 0
            for s in range(BINS):
                blocks = sum(1 for _ in self._checked_bin(survey, BINS * f + s))
                met |= bool(blocks) << s
            if bins != met or octaves >> f & 1 != (bins != 0):
                self._broken_index()

    def _checked_bin(self, survey: Survey, number: int) -> Iterator[int]:
        """Yield the blocks of a bin, each of which has a size of the bin and points back."""
        pointer, holder = self._heads + 8 * number, self._base
        while block := self._load(pointer):
            if bin_of(survey.indexed(block, holder)) != number:
                raise HeapCorruption(block + HEADER, Rule.BROKEN_INDEX)
            if self._load(block + PREV) != pointer:
                raise HeapCorruption(block + HEADER, Rule.BROKEN_LINK)
            yield block
            pointer, holder = block + NEXT, block
