"""The designs in C, seen from Python: csrc/heap through the extension, with the contract of base.py."""

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Self

from heaplab._core import ffi, lib
from heaplab.allocators.base import COMMON_OPTIONS, Allocator, Block, State, size_t
from heaplab.errors import HeapCorruption, Rule

if TYPE_CHECKING:
    from heaplab.process import Process

_WALK_AT_ONCE = 4096


class CAllocator(Allocator):
    """A design of csrc/heap on one process's memory.

    NAME and OPTIONS come from the twin in Python: registry.py makes a subclass for each design.
    """

    LANGUAGE: ClassVar[str] = "c"

    def __init__(self, process: "Process", options: Mapping[str, int], root: int) -> None:
        super().__init__(process, options, root)
        #: the C side's hl_heap; the replay in C drives it directly
        self.raw: Any = ffi.new("hl_heap *")
        if lib.hl_heap_design(self.raw, self.NAME.encode()):
            raise LookupError(f"the C core has no design {self.NAME!r}")
        self.raw.seam = process.context.raw
        self.raw.root = root
        for option in COMMON_OPTIONS:
            setattr(self.raw, option.name, self.options[option.name])
        for position, option in enumerate(self.OPTIONS):
            self.raw.option[position] = self.options[option.name]

    @classmethod
    def create(cls, process: "Process", options: Mapping[str, int]) -> Self:
        heap = cls(process, options, 0)
        if lib.hl_heap_create(heap.raw):
            heap.raise_failure()
            raise MemoryError("the kernel gives no memory for the heap's root")
        heap.root = int(heap.raw.root)
        return heap

    def _verify_root(self) -> None:
        if lib.hl_heap_attach(self.raw):
            self.raise_failure()

    def raise_failure(self) -> None:
        """Raise what made the last call fail, if it failed: a broken rule, or the process's death."""
        if self.raw.corrupt_rule:
            address, rule = int(self.raw.corrupt_address), Rule(self.raw.corrupt_rule)
            self.raw.corrupt_rule = 0
            raise HeapCorruption(address, rule)
        self.process.context.check()

    def malloc(self, size: int) -> int:
        return self._pointer(lib.hl_heap_malloc(self.raw, size_t(size)))

    def free(self, p: int) -> None:
        if lib.hl_heap_free(self.raw, p):
            self.raise_failure()

    def calloc(self, n: int, size: int) -> int:
        return self._pointer(lib.hl_heap_calloc(self.raw, size_t(n), size_t(size)))

    def realloc(self, p: int, size: int) -> int:
        return self._pointer(lib.hl_heap_realloc(self.raw, p, size_t(size)))

    def aligned_alloc(self, alignment: int, size: int) -> int:
        return self._pointer(lib.hl_heap_aligned_alloc(self.raw, size_t(alignment), size_t(size)))

    def usable_size(self, p: int) -> int:
        return self._pointer(lib.hl_heap_usable_size(self.raw, p))

    def walk(self) -> Iterator[Block]:
        cursor, out = ffi.new("uint64_t[2]"), ffi.new("hl_block[]", _WALK_AT_ONCE)
        blocks: list[Block] = []
        while count := lib.hl_heap_walk(self.raw, cursor, out, _WALK_AT_ONCE):
            if count < 0:
                self.raise_failure()
            blocks.extend(
                Block(int(b.address), int(b.size), int(b.usable), State(b.state)) for b in out[0:count]
            )
        return iter(sorted(blocks, key=lambda block: block.address))

    def check(self) -> None:
        if lib.hl_heap_check(self.raw):
            self.raise_failure()

    def _pointer(self, p: int) -> int:
        if not p:
            self.raise_failure()
        return p
