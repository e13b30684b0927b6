"""The contract of every allocator, in whatever language it is written.

An allocator's whole state lives in simulated memory; the object holds the process through which it reaches
that memory, the address of its root, and the parameters of its spec.  So fork copies a heap by copying
pages, `attach` finds it again in the child, and metadata has a price that can be counted.

What both languages have to agree on is said in C (csrc/heap/heap.h) and read from there.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from enum import IntEnum, IntFlag
from typing import TYPE_CHECKING, ClassVar, NamedTuple, Self, cast

from heaplab._core import lib
from heaplab.shown import html, text
from heaplab.units import parse_size

if TYPE_CHECKING:
    from heaplab.look import Look
    from heaplab.process import Process

ALIGN = 16
#: the largest request, in bytes: PTRDIFF_MAX, as in glibc
MOST = 2**63 - 1
SIZE_MAX = 2**64 - 1
#: the user's half of the addresses of x86-64: no heap has a block as large as this
ADDRESSES = 1 << 47


class State(IntEnum):
    """What a span of a heap is."""

    FREE = lib.HEAP_FREE  # a later request can have it
    ALLOCATED = lib.HEAP_ALLOCATED  # a program's
    LARGE = lib.HEAP_LARGE  # a program's, in a mapping of its own
    CACHED = (
        lib.HEAP_CACHED
    )  # given back by the program, held back by the design for a thread or to merge it later
    METADATA = lib.HEAP_METADATA  # the design's own, apart from the blocks

    #: whether the span is a block that a program has; an attribute, since walks ask it of every span
    is_live: bool

    def __init__(self, number: int) -> None:
        self.is_live = number in (lib.HEAP_ALLOCATED, lib.HEAP_LARGE)


class Span(NamedTuple):
    """One step of a walk: `size` bytes from `start` on; a block has room for `usable` bytes from `payload`
    on.

    A span of METADATA has no payload: `payload` is `start`, and `usable` is 0.
    """

    start: int
    size: int
    payload: int
    usable: int
    state: State

    @classmethod
    def metadata(cls, start: int, size: int) -> "Span":
        """Return the span of a design's own bytes."""
        return cls(start, size, start, 0, State.METADATA)

    @property
    def end(self) -> int:
        """The first address behind the span."""
        return self.start + self.size


class Entry(NamedTuple):
    """A free block where the design keeps it: its span's start and bytes, and the place in words.

    under: the start of the entry that leads here: the one before in a list, the parent in a tree or in a
    binary heap; 0: the design's own words lead here.
    group: the list, order, class or span that the block is in; "" where the design has one structure.
    """

    start: int
    size: int
    place: str
    under: int = 0
    group: str = ""


class Word(NamedTuple):
    """Bytes of the design's own, decoded: `size` bytes at `address`, what they are, and what they say.

    to: where the word leads, as a span's start or as an address in the design's own memory; 0: it is no link,
    or a link that leads nowhere.
    """

    address: int
    size: int
    name: str
    text: str
    to: int = 0


class Trait(IntFlag):
    """What a design promises besides POSIX: which clauses of the contract apply to it."""

    TRIMS = lib.HEAP_TRIMS  # gives free memory back to the kernel
    COALESCES = lib.HEAP_COALESCES  # merges free neighbours at once
    REUSES = lib.HEAP_REUSES  # memory of a freed block serves later requests
    ANY_ORDER = lib.HEAP_ANY_ORDER  # blocks may be freed in any order; without it, the newest first
    DETECTS = lib.HEAP_DETECTS  # notices double frees, foreign pointers and broken metadata
    HEADERS = lib.HEAP_HEADERS  # a header stands in front of each payload: an overflow meets the next one's
    CONTIGUOUS = lib.HEAP_CONTIGUOUS  # grows by brk alone: the walk of what is not large has no holes
    MAPS_LARGE = lib.HEAP_MAPS_LARGE  # requests from mmap_threshold on have a mapping each
    THREADS = lib.HEAP_THREADS  # keeps something for each thread, and hears when a thread ends
    RESIZES = lib.HEAP_RESIZES  # realloc stays in place where the block has room or the next one is free


class Checks(IntEnum):
    """What a heap verifies before it believes it: nothing, its links, or all metadata."""

    NONE = lib.HEAP_CHECKS_NONE
    LINKS = lib.HEAP_CHECKS_LINKS
    ALL = lib.HEAP_CHECKS_ALL


class Option(NamedTuple):
    """A parameter of a spec: bytes when `choices` is empty, else one of the choices.

    word: may stand for bytes, and is then the value SIZE_MAX.  most: the largest number of bytes.
    """

    name: str
    default: str
    doc: str
    choices: tuple[str, ...] = ()
    most: int = SIZE_MAX
    word: str = ""

    def encode(self, value: str) -> int:
        """Return the value as a number: bytes, or the position among the choices.

        Raises: UsageError when `value` is no size.

        >>> Option("top_pad", "128KiB", "").encode("4k")
        4096
        >>> Option("fit", "first", "", ("first", "next")).encode("next")
        1
        """
        if self.choices:
            return self.choices.index(value)
        return SIZE_MAX if self.word and value == self.word else parse_size(value)

    def decode(self, number: int) -> str:
        """Return the value that `encode` makes this number of.

        >>> Option("top_pad", "128KiB", "").decode(4096)
        '4096'
        >>> Option("fit", "first", "", ("first", "next")).decode(1)
        'next'
        """
        if self.choices:
            return self.choices[number]
        return self.word if self.word and number == SIZE_MAX else str(number)


def round_up(n: int, unit: int) -> int:
    """Return the first multiple of `unit` (a power of two) that is not below n.

    >>> round_up(17, 16), round_up(32, 16)
    (32, 32)
    """
    return (n + unit - 1) & ~(unit - 1)


def size_t(n: int) -> int:
    """Return n if a C size_t can hold it, else raise ValueError."""
    if not 0 <= n <= SIZE_MAX:
        raise ValueError(f"{n} is no size_t: sizes go from 0 to 2**64 - 1")
    return n


class Allocator(ABC):
    """A malloc over one process's memory.

    Sizes are bytes from 0 to 2**64 - 1 (else ValueError), addresses virtual addresses, multiples of 16.
    A request the kernel has no memory for returns 0 and sets `process.errno` to ENOMEM; nothing is lost.
    Raises, everywhere: HeapCorruption naming the block and the rule it breaks; ProcessDied when an
    access killed the process.
    """

    NAME: ClassVar[str]
    LANGUAGE: ClassVar[str] = "python"
    TRAITS: ClassVar[Trait]
    #: the parameters that a spec can give
    OPTIONS: ClassVar[tuple[Option, ...]] = ()
    #: bytes of the smallest block
    SMALLEST: ClassVar[int] = ALIGN
    #: how free blocks are kept, in a few words; "" when nobody says
    STRUCTURE: ClassVar[str] = ""

    def __init__(self, process: "Process", options: Mapping[str, int], root: int) -> None:
        self.process = process
        self.options = dict(options)
        self.root = root

    @classmethod
    @abstractmethod
    def create(cls, process: "Process", options: Mapping[str, int]) -> Self:
        """Build an empty heap in the memory of `process`.  Raises: MemoryError when the kernel refuses."""

    def attach(self, process: "Process | Look") -> Self:
        """Return the same heap as another process sees it: a forked child, a thread; or a look, or a core.

        Raises: HeapCorruption when no heap of this design stands there.
        """
        other = type(self)(cast("Process", process), self.options, self.root)
        other._verify_root()
        return other

    @abstractmethod
    def _verify_root(self) -> None:
        """Raise HeapCorruption unless a heap of this design stands at the root; change nothing."""

    @abstractmethod
    def malloc(self, size: int) -> int:
        """Return the address of a new block with room for `size` bytes; size 0 gives a block too."""

    @abstractmethod
    def free(self, p: int) -> None:
        """Give the block at p back; 0 is ignored."""

    @abstractmethod
    def calloc(self, n: int, size: int) -> int:
        """Return a block for n elements of `size` bytes, all zero; 0 with ENOMEM when n * size overflows."""

    @abstractmethod
    def realloc(self, p: int, size: int) -> int:
        """Return a block of `size` bytes with p's content, p itself if it can stay; on 0, p is untouched.

        p = 0 is malloc(size); size = 0 frees p and returns 0, as glibc does.
        """

    @abstractmethod
    def aligned_alloc(self, alignment: int, size: int) -> int:
        """Return a block at a multiple of `alignment`; 0 with EINVAL when that is no power of two."""

    @abstractmethod
    def usable_size(self, p: int) -> int:
        """Return how many bytes of payload the block at p has room for; 0 for p = 0."""

    def thread_exit(self, thread: int) -> None:  # noqa: B027  most designs keep nothing for a thread
        """Hear that a thread has ended: what was kept for this thread goes to all."""

    # ---- looking: none of these changes anything, in the heap, in the counters, or in the kernel ----

    @abstractmethod
    def walk(self) -> Iterator[Span]:
        """Yield all memory that the heap has, each byte once, in address order: blocks and metadata.

        Raises: HeapCorruption, also when broken metadata lead astray or round in a circle.
        """

    def blocks(self) -> Iterator[Span]:
        """Yield the spans of the walk that are blocks, of every state: all but metadata."""
        return (span for span in self.walk() if span.state != State.METADATA)

    @abstractmethod
    def index(self) -> Iterator[Entry]:
        """Yield the free blocks where the design keeps them, in its own order: a list's, a tree's, a bin's.

        Raises: HeapCorruption as for `walk`.
        """

    def words(self, start: int, end: int, span: int = 0) -> Iterator[Word]:
        """Yield the design's own words that have a byte in [start, end), decoded, by address.

        Every span of METADATA consists of such words, and so does what stands before a payload, but for the
        padding of a LARGE block; a free block has those that its design keeps in it.
        span: where a span of the walk starts that is not behind `start`, if the caller knows one: it spares a
        design with headers between blocks the way there from the first block.
        Broken words are said in the text, and nothing raises for them.  A design that nobody can decode
        yields none.
        Cost: the words in the range; without `span`, a load for each block before it.
        """
        return iter(())

    @abstractmethod
    def check(self) -> None:
        """Verify every rule of the design, block by block, and that the index holds just the free blocks.

        Raises: HeapCorruption as for `walk`.
        """

    # ---- how it is shown ----

    def _spec(self) -> str:
        """Return the shortest spec of a heap like this: the design, and the options that are not as usual."""
        given = (
            f":{option.name}={option.decode(self.options[option.name])}"
            for option in self.OPTIONS
            if self.options.get(option.name, option.encode(option.default)) != option.encode(option.default)
        )
        return getattr(self, "NAME", type(self).__name__) + "".join(given)

    def __repr__(self) -> str:
        pid = getattr(self.process, "pid", None)  # a look has none
        where = f"process {pid}" if pid is not None else "a look"
        return f"<heap {self._spec()} in {self.LANGUAGE}, {where}, root {self.root:#x}>"

    def __str__(self) -> str:
        return text(self, "heaplab.views.heap:heap_view")

    def _repr_html_(self) -> str | None:
        return html(self, "heaplab.report.notebook:heap_html")
