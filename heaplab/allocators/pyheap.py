"""What the designs written in Python share: the contract over a few verbs of their own, growth, the root.

The twin is csrc/heap/heap.c: same loads, same stores, same system calls, in the same order.
"""

import errno
from abc import abstractmethod
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, ClassVar, NoReturn, Self

from heaplab.allocators import large
from heaplab.allocators.base import (
    ALIGN,
    ROOT_DESIGN,
    ROOT_END,
    ROOT_LARGE,
    ROOT_MAGIC,
    SIZE_MAX,
    Allocator,
    Block,
    round_up,
    size_t,
)
from heaplab.errors import HeapCorruption, Rule

if TYPE_CHECKING:
    from heaplab.process import Process


class PythonAllocator(Allocator):
    """What the designs in Python share: the contract over four of their own verbs, growth, and the root.

    A design gives MAGIC, ROOT_SIZE (bytes, a multiple of 16) and the methods that begin with an underscore
    below; it serves requests under the mmap threshold, between the root and the end.
    """

    MAGIC: ClassVar[int]
    ROOT_SIZE: ClassVar[int]

    def __init__(self, process: "Process", options: Mapping[str, int], root: int) -> None:
        super().__init__(process, options, root)
        self._load = process.load64
        self._store = process.store64
        self._page_size = process.page_size
        self._mmap_threshold = self.options["mmap_threshold"]
        self._trim_threshold = self.options["trim_threshold"]
        self._top_pad = self.options["top_pad"]
        self._start = root + self.ROOT_SIZE

    # what a design gives

    @abstractmethod
    def _init(self, end: int) -> None:
        """Build the design's part of the root and the first blocks in [root + ROOT_SIZE, end).

        Raises: MemoryError when the kernel gives no more memory; what it gave is given back then.
        """

    @abstractmethod
    def _malloc(self, size: int) -> int: ...

    @abstractmethod
    def _aligned_alloc(self, alignment: int, size: int) -> int:
        """Serve an alignment above 16, a power of two."""

    @abstractmethod
    def _free(self, p: int) -> None: ...

    @abstractmethod
    def _usable_size(self, p: int) -> int: ...

    @abstractmethod
    def _resize(self, p: int, size: int) -> bool:
        """Make room for `size` bytes at p itself; False when it has to move (nothing changed)."""

    @abstractmethod
    def _blocks(self) -> Iterator[Block]:
        """Yield the design's own blocks in address order."""

    @abstractmethod
    def _check(self) -> None: ...

    # the contract

    @classmethod
    def create(cls, process: "Process", options: Mapping[str, int]) -> Self:
        start = process.sbrk(0)
        root = round_up(start, ALIGN)
        end = round_up(root + cls.ROOT_SIZE + options["top_pad"], process.page_size)
        try:
            process.sbrk(end - start)
        except OSError as error:
            raise MemoryError("the kernel gives no memory for the heap's root") from error
        process.store64(root + ROOT_MAGIC, cls.MAGIC)
        process.store64(root + ROOT_END, end)
        process.store64(root + ROOT_LARGE, 0)
        heap = cls(process, options, root)
        try:
            heap._init(end)
        except MemoryError:
            process.sbrk(start - end)
            raise
        return heap

    def _verify_root(self) -> None:
        # below the break there is memory; an address beyond it may kill the process that looks
        beyond = self.root + ROOT_DESIGN > self.process.sbrk(0)
        if beyond or self._load(self.root + ROOT_MAGIC) != self.MAGIC:
            self._corrupt(self.root, Rule.BROKEN_ROOT)

    def malloc(self, size: int) -> int:
        if 0 <= size < self._mmap_threshold:
            return self._malloc(size)
        return large.malloc(self, ALIGN, size_t(size))

    def free(self, p: int) -> None:
        if not p:
            return
        if self._is_small(p):
            self._free(p)
        else:
            large.free(self, p)

    def calloc(self, n: int, size: int) -> int:
        n_bytes = min(size_t(n) * size_t(size), SIZE_MAX)
        p = self.malloc(n_bytes)
        if p and n_bytes < self._mmap_threshold:  # what mmap gives is zero already
            self.process.fill(p, 0, n_bytes)
        return p

    def realloc(self, p: int, size: int) -> int:
        if not p:
            return self.malloc(size)
        if not size:
            self.free(p)
            return 0
        small = self._is_small(p)
        # a block stays where it is only if the new size belongs on its side of the threshold
        if small == (size_t(size) < self._mmap_threshold) and (
            self._resize(p, size) if small else large.resize(self, p, size)
        ):
            return p
        usable = self._usable_size(p) if small else large.usable_size(self, p)
        to = self.malloc(size)
        if not to:
            return 0
        self.process.copy(to, p, min(usable, size))
        self.free(p)
        return to

    def aligned_alloc(self, alignment: int, size: int) -> int:
        if not size_t(alignment) or alignment & (alignment - 1):
            self.process.errno = errno.EINVAL
            return 0
        if alignment <= ALIGN:
            return self.malloc(size)
        if alignment >= self._mmap_threshold or size_t(size) >= self._mmap_threshold:
            return large.malloc(self, alignment, size)
        return self._aligned_alloc(alignment, size)

    def usable_size(self, p: int) -> int:
        if not p:
            return 0
        return self._usable_size(p) if self._is_small(p) else large.usable_size(self, p)

    def walk(self) -> Iterator[Block]:
        blocks = [*self._blocks(), *large.blocks(self)]
        return iter(sorted(blocks, key=lambda block: block.address))

    def check(self) -> None:
        self._verify_root()
        self._check()
        large.check(self)

    # for the designs

    def _is_small(self, p: int) -> bool:
        return p >= self._start and p < self._load(self.root + ROOT_END)

    def _corrupt(self, address: int, rule: Rule) -> NoReturn:
        raise HeapCorruption(address, rule)

    def _grow(self, need: int) -> tuple[int, int] | None:
        """Move the break up by at least `need` bytes: top_pad is added, and the rest of the page.

        Returns: the old end and by how much; None with errno when the kernel refuses.
        """
        process, end = self.process, self._load(self.root + ROOT_END)
        by = round_up(need + self._top_pad, self._page_size)
        if process.sbrk(0) != end:  # somebody else moved the break: what follows us is theirs
            process.errno = errno.ENOMEM
            return None
        try:
            process.sbrk(by)
        except OSError:
            by = round_up(need, self._page_size)  # without the luxury of the pad
            try:
                process.sbrk(by)
            except OSError:
                return None
        self._store(self.root + ROOT_END, end + by)
        return end, by

    def _shrink(self, end: int) -> bool:
        """Move the break down to `end`, a multiple of the page size; False when somebody else moved it."""
        old = self._load(self.root + ROOT_END)
        if self.process.sbrk(0) != old:
            return False
        try:
            self.process.sbrk(end - old)
        except OSError:
            return False
        self._store(self.root + ROOT_END, end)
        return True
