"""Heaps with boundary tags: blocks side by side from the first to the epilogue, free ones in an index.

    root -> +40  first         the first block
            +48  last          the last block, while it is free
            +56  ...           the index's own words

    | root | block | block | free block | block | ... | epilogue |
           first                                      end - 8    end

The epilogue is the header of an allocated block of size 0.  No two free blocks are neighbours: free merges at
once, so the block before a free block is always allocated.  What the kernel gives is merged with a free last
block, which the root knows because it has no footer; of a long free end all but top_pad bytes are given back
(sources/brk.py).  Large requests have a mapping each (sources/large.py).

Alignment       16 bytes; the payload begins 8 bytes after the block
Overhead        8 bytes a block, and up to 15 for alignment
malloc          the index's find, and one of: remove and 3 mems; shrink and 3 mems
free            3 to 6 mems, and one or two of the index's insert, remove and grow
Metadata        in the blocks: a header before the payload, links and a footer in free ones; and in the root
Source          Knuth, TAOCP vol. 1, 2.5, algorithms A and C; Lea, dlmalloc (the bit that spares the footer)

A design is an Index with a name.  The twin is csrc/families/tagged.h.
"""

import errno
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Final, NoReturn

from heaplab.allocators.base import ADDRESSES, ALIGN, Entry, Span, State, Word, round_up
from heaplab.allocators.decoding import Window, lost, telling, unused
from heaplab.allocators.design import ROOT_DESIGN, Design
from heaplab.allocators.parts.index import Index, Survey
from heaplab.allocators.parts.tags import (
    ALLOCATED,
    FOOTER,
    HEADER,
    LAST,
    PREV_ALLOCATED,
    describe,
    header,
    is_allocated,
    is_last,
    prev_is_allocated,
    size_of,
    tombstone,
    with_prev_allocated,
    with_prev_free,
)
from heaplab.allocators.sources import brk
from heaplab.allocators.sources.large import Large
from heaplab.errors import HeapCorruption, Rule

if TYPE_CHECKING:
    from heaplab.process import Process

ROOT_FIRST: Final = ROOT_DESIGN
ROOT_LAST: Final = ROOT_DESIGN + 8
ROOT_INDEX: Final = ROOT_DESIGN + 16


class TaggedDesign(Design):
    """A heap with boundary tags over the index INDEX."""

    INDEX: ClassVar[type[Index]]
    #: bytes of the root, a multiple of 16
    ROOT_SIZE: ClassVar[int]

    def __init_subclass__(cls) -> None:
        # the first block's header is the root's last word when the heap is as small as can be
        cls.ROOT_SIZE = round_up(ROOT_INDEX + 8 * cls.INDEX.WORDS + HEADER, ALIGN)

    def __init__(self, process: "Process", options: Mapping[str, int], root: int) -> None:
        super().__init__(process, options, root)
        self._brk = brk.Brk(process, self.options, root)
        self._large = Large(process, self.options, root, self._seal)
        self._index = self.INDEX(
            process, root + ROOT_INDEX, self.options, lambda: process.sbrk(0), self._seal
        )
        self._min_block = self.INDEX.MIN_BLOCK
        self._start = root + self.ROOT_SIZE
        self._lowest = self._start - HEADER

    @classmethod
    def _begin(cls, process: "Process", options: Mapping[str, int]) -> int:
        return brk.begin(process, options, cls.ROOT_SIZE, cls.MAGIC)

    def _init(self) -> None:
        self._large.begin()
        end = self.process.sbrk(0)
        self._index.init(end - self._lowest)
        size = end - HEADER - self._lowest
        first = self._lowest if size >= self._min_block else end - HEADER
        self._store(self.root + ROOT_FIRST, first)
        if first < end - HEADER:
            self._index.insert(first, size)
            self._make_free(first, size, LAST)
            self._store(end - HEADER, header(self._seal, end - HEADER, 0, ALLOCATED))
        else:
            self._store(first, header(self._seal, first, 0, ALLOCATED | PREV_ALLOCATED))

    # ---- accessors ----

    def _block_size(self, size: int) -> int:
        """Bytes of the block for a request of `size` bytes.

        For a request larger than any address space that is ADDRESSES, so that growing fails with ENOMEM.
        """
        return max(round_up(size + HEADER, ALIGN), self._min_block) if size <= ADDRESSES else ADDRESSES

    def _is_small(self, p: int) -> bool:
        """Whether p is a block of the heap's, and not a large one."""
        return p >= self._start and p < self._brk.end()

    def _header_of_allocated(self, p: int) -> int:
        """Return the header of the allocated block with payload p, or raise HeapCorruption."""
        word = self._load(p - HEADER)
        if self._checks_all and (
            not is_allocated(word) or not self._seal.holds(p - HEADER, word) or p % ALIGN
        ):
            self._diagnose(p, word)
        return word

    def _header(self, block: int) -> int:
        """Return the header of a block that has to stand there."""
        word = self._load(block)
        if self._checks_all and not self._seal.holds(block, word):
            raise HeapCorruption(block + HEADER, Rule.BROKEN_HEADER)
        return word

    def _prev_size(self, block: int) -> int:
        """Return the size of the free block before `block`, which is not the epilogue."""
        size = self._load(block - FOOTER)
        prev = block - size
        if self._checks_all and (
            size > block - self._lowest or self._load(prev) != header(self._seal, prev, size, PREV_ALLOCATED)
        ):
            raise HeapCorruption(block + HEADER, Rule.BROKEN_FOOTER)
        return size

    def _make_free(self, block: int, size: int, last: int) -> None:
        """Write the tags of a free block; last: LAST or 0."""
        self._store(block, header(self._seal, block, size, PREV_ALLOCATED | last))
        if last:
            self._store(self.root + ROOT_LAST, block)
        else:
            self._store(block + size - FOOTER, size)

    def _diagnose(self, p: int, word: int) -> NoReturn:
        """Raise what is wrong with p, whose header `word` is not an allocated block's.

        The error path alone may walk: a block that starts there has a broken header, or one before it has.
        """
        if p % ALIGN == 0 and self._seal.holds(p - HEADER, word):
            raise HeapCorruption(p, Rule.DOUBLE_FREE)
        block = self._load(self.root + ROOT_FIRST)
        while block < p - HEADER and (size := size_of(self._header(block))):
            block += size
        raise HeapCorruption(p, Rule.BROKEN_HEADER if block == p - HEADER else Rule.FOREIGN_POINTER)

    # ---- verbs ----

    def _malloc(self, size: int, alignment: int) -> int:
        large = self._large
        if large.serves(size) or (alignment > ALIGN and large.serves(alignment)):
            self._zeroed = True
            return large.malloc(size, alignment)
        if alignment > ALIGN:
            return self._allocate_aligned(size, alignment)
        block, _ = self._allocate(self._block_size(size))
        return block and block + HEADER

    def _free(self, p: int) -> None:
        if not self._is_small(p):
            self._large.free(p)
            return
        word = self._header_of_allocated(p)
        block = p - HEADER
        prev_size = 0 if prev_is_allocated(word) else self._prev_size(block)
        self._release(block, size_of(word), prev_size)

    def _usable(self, p: int) -> int:
        if not self._is_small(p):
            return self._large.usable(p)
        return size_of(self._header_of_allocated(p)) - HEADER

    def _allocate(self, need: int) -> tuple[int, int]:
        """Return an allocated block of at least `need` bytes, and its size; 0 with errno."""
        block, word, where = self._index.find(need)
        if not block:
            if not self._extend(need):
                return 0, 0
            block, word, where = self._index.find(need)
            if not block:
                raise HeapCorruption(self.root, Rule.BROKEN_INDEX)
        size = size_of(word)
        if self._checks_all and word != header(self._seal, block, size, PREV_ALLOCATED | word & LAST):
            raise HeapCorruption(block + HEADER, Rule.BROKEN_HEADER)
        taken = self._carve(block, word, need, where)
        self._store(block, header(self._seal, block, taken, ALLOCATED | PREV_ALLOCATED))
        return block, taken

    def _carve(self, block: int, word: int, need: int, where: Any = None) -> int:
        """Take the first `need` bytes off the free block with header `word`.

        Returns: how many bytes were taken: all of them when the rest could be no block.
        """
        size = size_of(word)
        rest = size - need
        if rest >= self._min_block:
            self._index.shrink(block, size, block + need, rest, where)
            self._make_free(block + need, rest, word & LAST)
            return need
        next_block = block + size
        next_word = self._header(next_block)
        self._index.remove(block, size, where)
        self._store(next_block, with_prev_allocated(self._seal, next_block, next_word))
        return size

    def _release(self, block: int, size: int, prev_size: int) -> None:
        """Make `size` bytes free, merged with the prev_size free bytes before them and a free block after."""
        index, next_block = self._index, block + size
        next_word = self._header(next_block)
        next_size = 0 if is_allocated(next_word) else size_of(next_word)
        last = LAST if is_last(next_word) or not size_of(next_word) else 0
        start, total = block - prev_size, prev_size + size + next_size
        if not next_size:
            self._store(next_block, with_prev_free(self._seal, next_block, next_word))
        if prev_size:
            self._store(block, tombstone(self._seal, block))
            if next_size:
                index.remove(next_block, next_size)
            index.grow(start, prev_size, start, total)
        elif next_size:
            index.grow(next_block, next_size, start, total)
        else:
            index.insert(start, total)
        self._make_free(start, total, last)
        if last:
            self._trim(start, total)

    def _resize(self, p: int, size: int) -> bool:
        if not self._is_small(p):
            return self._large.resize(p, size)
        if self._large.serves(size):
            return False
        word = self._header_of_allocated(p)
        block, have, need = p - HEADER, size_of(word), self._block_size(size)
        flags = ALLOCATED | (PREV_ALLOCATED if prev_is_allocated(word) else 0)
        if need > have:
            taken = self._take_after(block + have, need - have)
            if not taken:
                return False
            self._store(block, header(self._seal, block, have + taken, flags))
        elif have - need >= self._min_block:
            self._store(block, header(self._seal, block, need, flags))
            self._release(block + need, have - need, 0)
        return True

    def _take_after(self, block: int, need: int) -> int:
        """Take `need` bytes or a few more where `block` begins, if it is free or the end; 0 if it cannot."""
        word = self._header(block)
        room = 0 if is_allocated(word) else size_of(word)
        if room < need:
            # the block, or the epilogue
            at_end = is_last(word) or not size_of(word)
            if not at_end or not self._extend(need):
                return 0
            word = self._header(block)
            room = size_of(word)
        return self._carve(block, word, need)

    def _allocate_aligned(self, size: int, alignment: int) -> int:
        need = self._block_size(size)
        front, have = self._allocate(need + alignment + self._min_block)
        if not front:
            return 0
        block = round_up(front + HEADER, alignment) - HEADER
        while 0 < block - front < self._min_block:  # what is split off the front has to be a block
            block += alignment
        lead = block - front
        spare = have - lead - need
        if spare < self._min_block:
            need, spare = need + spare, 0
        if lead:
            self._index.insert(front, lead)
            self._make_free(front, lead, 0)
        self._store(block, header(self._seal, block, need, ALLOCATED | (0 if lead else PREV_ALLOCATED)))
        if spare:
            self._release(block + need, spare, 0)
        return block + HEADER

    # ---- the end of the heap ----

    def _extend(self, need: int) -> bool:
        """Grow the heap until it ends in a free block of at least `need` bytes; False with errno."""
        if need >= ADDRESSES:
            self.process.errno = errno.ENOMEM
            return False
        end = self._brk.end()
        epilogue = end - HEADER
        last = 0 if prev_is_allocated(self._header(epilogue)) else self._last_size(epilogue)
        most = round_up(end - self._lowest + need + self._brk.top_pad, self._page_size)
        if not self._index.reserve(most):
            return False
        grown = self._brk.grow(need - last)
        if not grown:
            return False
        block, total = epilogue - last, last + grown[1]
        if last:
            self._store(epilogue, tombstone(self._seal, epilogue))
            self._index.grow(block, last, block, total)
        else:
            self._index.insert(block, total)
        self._make_free(block, total, LAST)
        self._store(block + total, header(self._seal, block + total, 0, ALLOCATED))
        return True

    def _last_size(self, epilogue: int) -> int:
        """Return the size of the free last block."""
        last = self._load(self.root + ROOT_LAST)
        size = epilogue - last
        if self._checks_all and (
            not self._lowest <= last < epilogue
            or self._load(last) != header(self._seal, last, size, PREV_ALLOCATED | LAST)
        ):
            raise HeapCorruption(self.root, Rule.BROKEN_ROOT)
        return size

    def _trim(self, block: int, size: int) -> None:
        """Give the kernel what the free last block has beyond top_pad, if that is worth it."""
        end, keep = block + size + HEADER, self._brk.keep(block + self._min_block + HEADER)
        if self._brk.trims(end, keep) and self._brk.shrink(keep):
            rest = keep - HEADER - block
            self._index.shrink(block, size, block, rest)
            self._make_free(block, rest, LAST)
            self._store(keep - HEADER, header(self._seal, keep - HEADER, 0, ALLOCATED))

    # ---- walking ----

    def _walk(self) -> Iterator[Span]:
        block = self._load(self.root + ROOT_FIRST)
        yield Span.metadata(self.root, block - self.root)
        while size := size_of(word := self._header(block)):
            state = State.ALLOCATED if is_allocated(word) else State.FREE
            yield Span(block, size, block + HEADER, size - HEADER, state)
            block += size
        yield Span.metadata(block, HEADER)  # the epilogue
        yield from self._index.walk()
        yield from self._large.walk()

    def _entries(self) -> Iterator[Entry]:
        for block, place, under in self._index.entries():
            yield Entry(block, size_of(self._header(block)), place, under)

    # ---- decoding ----

    def _words(self, window: Window) -> Iterator[Word]:
        if window.meets(self.root, self._start + self._min_block - self.root):
            yield from telling(self._root_words(), window)
        for words in self._words_of_blocks(window), self._index.words(window), self._large.words(window):
            yield from telling(words, window)

    def _root_words(self) -> Iterator[Word]:
        root, first = self.root, self._load(self.root + ROOT_FIRST)
        can_be = self._lowest <= first < self._lowest + self._min_block
        yield self._magic_word()
        yield self._brk.root_word()
        yield from self._large.root_words()
        yield Word(root + ROOT_FIRST, 8, "first", f"{first:#x}{'' if can_be else ', broken'}", first * can_be)
        yield from self._index.root_words()
        yield from unused(root + ROOT_INDEX + 8 * self._index.WORDS, first if can_be else self._lowest)
        yield self._last_word(self._brk.end() - HEADER)

    def _last_word(self, epilogue: int) -> Word:
        """Return the root's word of the free last block, decoded."""
        at, last = self.root + ROOT_LAST, self._load(self.root + ROOT_LAST)
        if prev_is_allocated(self._load(epilogue)):
            return Word(at, 8, "last", "not in use: the last block is allocated")
        if self._lowest <= last < epilogue:
            return Word(at, 8, "last", f"{last:#x}, the free last block", last)
        return Word(at, 8, "last", f"broken: no free last block can stand at {last:#x}")

    def _words_of_blocks(self, window: Window) -> Iterator[Word]:
        """Yield the words of the blocks in the window, and of the epilogue.

        Behind a header that leads nowhere no block can be found.
        """
        epilogue = self._brk.end() - HEADER
        known = self._lowest <= window.span <= epilogue and window.span % ALIGN == HEADER
        block = window.span if known else self._load(self.root + ROOT_FIRST)
        while block < min(epilogue, window.end):
            word = self._load(block)
            size, text = size_of(word), describe(self._seal, block, word)
            if not self._min_block <= size <= epilogue - block or not self._seal.holds(block, word):
                yield Word(block, HEADER, "header", f"{text}; broken: no block can be found behind it")
                if block + HEADER <= window.start:
                    yield lost(window, block)
                return
            if block + size > window.start:
                yield Word(block, HEADER, "header", text)
                if not is_allocated(word):
                    yield from telling(self._index.links_of(block), window)
                    if not is_last(word):
                        yield self._footer_word(block, size)
            block += size
        if block == epilogue:
            text = describe(self._seal, block, self._load(block))
            yield Word(block, HEADER, "epilogue", text)

    def _footer_word(self, block: int, size: int) -> Word:
        at = block + size - FOOTER
        found = self._load(at)
        if found == size:
            return Word(at, FOOTER, "footer", f"size {size:#x}", block)
        return Word(at, FOOTER, "footer", f"size {found:#x}, broken: the header says {size:#x}")

    # ---- check ----

    def _check(self) -> None:
        first, end = self._load(self.root + ROOT_FIRST), self._brk.end()
        if not self._lowest <= first < end <= self.process.sbrk(0) or first % ALIGN != HEADER or end % ALIGN:
            raise HeapCorruption(self.root, Rule.BROKEN_ROOT)
        survey = Survey(self.process, self._seal, first, end)
        block, prev_allocated = first, True
        while block < end - HEADER:
            word = self._header(block)
            size = size_of(word)
            fits = self._min_block <= size <= end - HEADER - block
            if not fits or prev_is_allocated(word) != prev_allocated:
                raise HeapCorruption(block + HEADER, Rule.BROKEN_HEADER)
            last = LAST if not is_allocated(word) and block + size == end - HEADER else 0
            if word & LAST != last:
                raise HeapCorruption(block + HEADER, Rule.BROKEN_HEADER)
            if not is_allocated(word):
                if not prev_allocated:
                    raise HeapCorruption(block + HEADER, Rule.UNCOALESCED)
                if last:
                    self._last_size(block + size)
                elif self._load(block + size - FOOTER) != size:
                    raise HeapCorruption(block + HEADER, Rule.BROKEN_FOOTER)
                self._index.check_links(survey, block)
                survey.walked(block)
            prev_allocated = is_allocated(word)
            block += size
        if self._header(block) != header(
            self._seal, block, 0, ALLOCATED | (PREV_ALLOCATED if prev_allocated else 0)
        ):
            raise HeapCorruption(block + HEADER, Rule.BROKEN_HEADER)
        self._index.check(survey)
        survey.close(self.root)
        self._large.check()
