"""The contract of every allocator, and what all designs share.

An allocator's whole state lives in simulated memory; the object holds the process through which it reaches
that memory, the address of its root, and the parameters of its spec.  So fork copies a heap by copying
pages, `attach` finds it again in the child, and metadata has a price that can be counted.

    root -> +0   magic         which design, so that attaching to something else is noticed
            +8   end           the break as the heap knows it: end of its part of the address space
            +16  large         the first large block's payload, 0 when there is none
            +24  ...           the design's own

The root stands where the break was when the heap was created.  pyheap.py and csrc/heap/heap.c
implement this for the designs in Python and in C: the same loads and stores in the same order, so that
both leave the same bytes and count the same mems.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from enum import IntEnum
from typing import TYPE_CHECKING, ClassVar, NamedTuple, Self

from heaplab._core import lib
from heaplab.units import parse_size

if TYPE_CHECKING:
    from heaplab.process import Process

ALIGN = 16
#: the largest request, in bytes: PTRDIFF_MAX, as in glibc
MOST = 2**63 - 1
SIZE_MAX = 2**64 - 1

ROOT_MAGIC, ROOT_END, ROOT_LARGE, ROOT_DESIGN = 0, 8, 16, 24


class State(IntEnum):
    """What a block is: free, allocated from the heap, or allocated in a mapping of its own."""

    FREE = lib.HL_BLOCK_FREE
    ALLOCATED = lib.HL_BLOCK_ALLOCATED
    LARGE = lib.HL_BLOCK_LARGE


class Block(NamedTuple):
    """One step of a walk: payload address, bytes of the whole block, bytes of payload, state."""

    address: int
    size: int
    usable: int
    state: State


class Option(NamedTuple):
    """A parameter of a spec: bytes when `choices` is empty, else one of the choices."""

    name: str
    default: str
    doc: str
    choices: tuple[str, ...] = ()
    #: the largest number of bytes
    most: int = SIZE_MAX

    def encode(self, value: str) -> int:
        """The value as a number: bytes, or the position among the choices."""
        return self.choices.index(value) if self.choices else parse_size(value)


#: the options that every design has
COMMON_OPTIONS = (
    Option("mmap_threshold", "128KiB", "requests from here on get a mapping of their own"),
    Option("trim_threshold", "128KiB", "a free end of the heap from here on is given back to the kernel"),
    Option("top_pad", "128KiB", "asked for beyond what a growth needs, and kept when trimming", most=1 << 46),
)


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
    #: the design's own options; those of COMMON_OPTIONS come on top
    OPTIONS: ClassVar[tuple[Option, ...]] = ()

    def __init__(self, process: "Process", options: Mapping[str, int], root: int) -> None:
        self.process = process
        self.options = dict(options)
        self.root = root

    @classmethod
    @abstractmethod
    def create(cls, process: "Process", options: Mapping[str, int]) -> Self:
        """Build an empty heap at the break of `process`.  Raises: MemoryError when the kernel refuses."""

    def attach(self, process: "Process") -> Self:
        """Return the same heap as another process sees it: a forked child, or a thread.

        Raises: HeapCorruption when no heap of this design stands there.
        """
        other = type(self)(process, self.options, self.root)
        other._verify_root()
        return other

    @abstractmethod
    def _verify_root(self) -> None: ...

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

    @abstractmethod
    def walk(self) -> Iterator[Block]:
        """Yield every block, free, allocated and large, in address order."""

    @abstractmethod
    def check(self) -> None:
        """Verify every rule of the design, block by block, and that the index holds just the free blocks."""
