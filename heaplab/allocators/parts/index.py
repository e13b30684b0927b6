"""What keeps the free blocks of a heap with boundary tags: one interface for lists, heaps and trees.

An index lives in simulated memory: a few words in the heap's root, and links in the free blocks' payloads.
It reads the size of a block it holds from the block's header, and never writes a header or a footer: the
heap does (tagged.py).  The twin in C is a set of static functions, see csrc/families/tagged.h.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from typing import Any, ClassVar, Final, Protocol

from heaplab.allocators.base import ADDRESSES, Checks, Span, Word
from heaplab.allocators.decoding import Window, leads
from heaplab.allocators.parts import tags
from heaplab.allocators.parts.seal import Seal
from heaplab.allocators.parts.tags import HEADER
from heaplab.errors import HeapCorruption, Rule

#: bytes of the smallest free block of any index: as far as its links reach
LEAST_BLOCK: Final = 32
#: what a search gives: a block, its header as loaded, and what the index learned on its way, the index's
#: business
Found = tuple[int, int, Any]
NOTHING: Final[Found] = (0, 0, None)
#: a block, its place in words, the block that leads to it, or 0
Place = tuple[int, str, int]


class Memory(Protocol):
    """Where an index lives; a process is one."""

    def load64(self, va: int, /) -> int:
        """Return the 8 bytes at va."""

    def store64(self, va: int, value: int, /) -> None:
        """Store 8 bytes at va."""


class Survey:
    """The check of an index against the heap: the free blocks met walking, then those met in the index."""

    def __init__(self, memory: Memory, seal: Seal, first: int, end: int) -> None:
        self._load = memory.load64
        self._seal = seal
        self._first = first
        self._end = end
        self._count = 0
        self._sum = 0

    def is_block(self, link: int) -> bool:
        """Whether a block of the heap can stand at `link`, so that it may be loaded."""
        return link % 16 == 8 and self._first <= link < self._end - HEADER

    def walked(self, block: int) -> None:
        """Note a free block of the heap."""
        self._count += 1
        self._sum += block

    def indexed(self, link: int, holder: int) -> int:
        """Note that the index says, at `holder`, that a free block stands at `link`; return its size.

        Raises: HeapCorruption naming the holder when nothing can stand there, the block when it is not free
        or one more than the heap has.
        """
        if not self.is_block(link):
            raise HeapCorruption(holder + HEADER, Rule.BROKEN_LINK)
        word = self._load(link)
        if not self._seal.holds(link, word):
            raise HeapCorruption(link + HEADER, Rule.BROKEN_HEADER)
        if tags.is_allocated(word) or self._count == 0:
            raise HeapCorruption(link + HEADER, Rule.BROKEN_INDEX)
        self._count -= 1
        self._sum -= link
        return tags.size_of(word)

    def close(self, root: int) -> None:
        """Raise HeapCorruption naming the root unless the index has had just the free blocks of the heap."""
        if self._count or self._sum:
            raise HeapCorruption(root, Rule.BROKEN_INDEX)


class Index(ABC):
    """The free blocks of a heap.

    base: the address of the index's words in the root.  options: of the spec.  end: tells where the memory
    ends that blocks can stand in.  seal: of the headers.

    The methods that a free block passes through raise HeapCorruption (BROKEN_LINK) when its neighbours in
    the index do not point back to it.
    """

    #: bytes that a free block needs: header, links, footer; a multiple of 16
    MIN_BLOCK: ClassVar[int]
    #: words of the root
    WORDS: ClassVar[int]

    def __init__(
        self,
        memory: Memory,
        base: int,
        options: Mapping[str, int],
        end: Callable[[], int] = lambda: ADDRESSES,
        seal: Seal | None = None,
    ) -> None:
        self._load = memory.load64
        self._store = memory.store64
        self._base = base
        self._lowest = base - 2 * HEADER
        self._end = end
        self._seal = seal or Seal()
        checks = options.get("checks", Checks.ALL)
        self._checks_links = checks >= Checks.LINKS
        self._checks_all = checks == Checks.ALL

    def _is_link(self, link: int) -> bool:
        """Whether a free block, or the words of the index in the root, may stand at this address.

        What lies between the root and the break can be loaded, so that a broken link costs no process its
        life.
        """
        return link % 16 == HEADER and self._lowest <= link < self._end() - LEAST_BLOCK

    @abstractmethod
    def init(self, heap_bytes: int) -> None:
        """Make the index empty, for a heap of that many bytes.  Raises: MemoryError."""

    def reserve(self, heap_bytes: int) -> bool:
        """Make sure that the free blocks of a heap of that many bytes have room; False with errno."""
        return True

    @abstractmethod
    def find(self, need: int) -> Found:
        """Return a free block of at least `need` bytes; NOTHING only if there is none."""

    @abstractmethod
    def insert(self, block: int, size: int) -> None:
        """Take in a block that is free now."""

    @abstractmethod
    def remove(self, block: int, size: int, where: Any = None) -> None:
        """Let go of a block that is in the index; where: the third of what `find` returned, if it did."""

    def shrink(self, block: int, size: int, to: int, rest: int, where: Any = None) -> None:
        """The free block is now the one at `to` of `rest` bytes, all within it; where as for remove."""
        self.remove(block, size, where)
        self.insert(to, rest)

    def grow(self, block: int, size: int, to: int, total: int) -> None:
        """The free block is now the one at `to` of `total` bytes, which contains it."""
        self.remove(block, size)
        self.insert(to, total)

    def walk(self) -> Iterator[Span]:
        """Yield the memory that the index has apart from the blocks."""
        return iter(())

    @abstractmethod
    def entries(self) -> Iterator[Place]:
        """Yield each block of the index, its place in words, and the block that leads to it or 0, in the
        index's own order.
        """

    @abstractmethod
    def root_words(self) -> Iterator[Word]:
        """Yield the words of the root, decoded."""

    @abstractmethod
    def links_of(self, block: int) -> Iterator[Word]:
        """Yield the words that the index keeps in a free block, decoded."""

    def words(self, window: Window) -> Iterator[Word]:
        """Yield the words of the memory that the index has apart from the blocks, decoded."""
        return iter(())

    def _link_word(self, at: int, name: str, link: int, points_back: Callable[[int], bool]) -> Word:
        """Return the word at `at` decoded, a link to a free block or to the words of the root.

        points_back: whether what stands there points back.
        """
        if not self._is_link(link):
            return Word(at, 8, name, f"broken: no free block can stand at {link:#x}")
        back = "" if points_back(link) else ", broken: it does not point back"
        return Word(at, 8, name, f"{leads(link)}{back}", link)

    @abstractmethod
    def check_links(self, survey: Survey, block: int) -> None:
        """Raise HeapCorruption unless the neighbours of `block` in the index point back to it."""

    @abstractmethod
    def check(self, survey: Survey) -> None:
        """Tell the survey each block of the index; raise HeapCorruption when the order is wrong."""
