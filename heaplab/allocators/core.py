"""The designs in C, seen from Python: csrc/ through the extension, with the contract of base.py."""

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
import numpy.typing as npt

from heaplab._core import ffi, lib
from heaplab.allocators.base import Allocator, Span, State, size_t
from heaplab.allocators.stated import designs, places, stated
from heaplab.errors import HeapCorruption, Rule

if TYPE_CHECKING:
    from heaplab.process import Process

_WALK_AT_ONCE = 4096
#: hl_span of csrc/heap/heap.h
SPAN = np.dtype(
    [("start", "<u8"), ("size", "<u8"), ("payload", "<u8"), ("usable", "<u8"), ("state", "<i4"), ("", "<i4")]
)


class CAllocator(Allocator):
    """A design of csrc/designs on one process's memory; `c_design` makes the class of a name."""

    LANGUAGE: ClassVar[str] = "c"

    def __init__(self, process: "Process", options: Mapping[str, int], root: int) -> None:
        super().__init__(process, options, root)
        #: the C side's hl_heap; the replay in C drives it directly
        self.raw: Any = ffi.new("hl_heap *")
        self.raw.design = designs()[self.NAME]
        self.raw.env = process.context.raw
        self.raw.root = root
        for name, place in places(self.raw.design).items():
            lib.hl_heap_set(self.raw, place, self.options[name])

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

    def thread_exit(self, thread: int) -> None:
        if lib.hl_heap_thread_exit(self.raw, thread):
            self.raise_failure()

    def walk(self) -> Iterator[Span]:
        spans = [
            Span(start, size, payload, usable, State(state))
            for rows in self.walk_rows(_WALK_AT_ONCE)
            for start, size, payload, usable, state, _ in rows.tolist()
        ]
        return iter(sorted(spans))

    def walk_rows(self, at_once: int) -> Iterator[npt.NDArray[Any]]:
        """Yield the spans in the design's order, up to `at_once` together, as arrays of SPAN.

        An array is good until the next one is asked for.
        """
        cursor, rows = ffi.new("hl_cursor *"), np.zeros(at_once, SPAN)
        out = ffi.cast("hl_span *", rows.ctypes.data)
        while count := lib.hl_heap_walk(self.raw, cursor, out, at_once):
            if count < 0:
                self.raise_failure()
            yield rows[:count]

    def check(self) -> None:
        if lib.hl_heap_check(self.raw):
            self.raise_failure()

    def _pointer(self, p: int) -> int:
        if not p:
            self.raise_failure()
        return p


def c_design(name: str) -> type[CAllocator]:
    """Return the class of the design in C of this name."""
    magic, traits, smallest, options = stated(name)
    return type(
        f"C_{name}",
        (CAllocator,),
        {"NAME": name, "MAGIC": magic, "TRAITS": traits, "SMALLEST": smallest, "OPTIONS": options},
    )
