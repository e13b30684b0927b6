"""The designs in C, seen from Python: csrc/ through the extension, with the contract of base.py."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from itertools import repeat
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self, cast

import numpy as np
import numpy.typing as npt

from heaplab._core import ffi, lib
from heaplab.allocators.base import Allocator, Checks, Entry, Span, State, Word, size_t
from heaplab.allocators.discover import python_designs
from heaplab.allocators.looking import looking, verify_magic
from heaplab.allocators.stated import designs, name_of, places, shared_defaults, shared_places, statement
from heaplab.errors import HeapCorruption, Rule, UsageError

if TYPE_CHECKING:
    from heaplab.process import Process

_WALK_AT_ONCE = 4096
#: `State(number)` takes longer than the rest of a span
_STATES = {int(state): state for state in State}
#: hl_span of csrc/heap/heap.h
SPAN = np.dtype(
    [("start", "<u8"), ("size", "<u8"), ("payload", "<u8"), ("usable", "<u8"), ("state", "<i4"), ("", "<i4")]
)


class _StructureOfTwin:
    """A design's STRUCTURE, which its twin in Python says: the twin is imported when somebody asks."""

    def __get__(self, heap: "CAllocator | None", design: "type[CAllocator]") -> str:
        twin = design.twin()
        return twin.STRUCTURE if twin else ""


class CAllocator(Allocator):
    """A design in C on one process's memory; `c_class` makes the class of a design."""

    LANGUAGE: ClassVar[str] = "c"
    MAGIC: ClassVar[int]
    #: hl_design: for every machine, and compiled for the usual one alone
    DESIGN: ClassVar[Any]
    USUAL: ClassVar[Any]
    #: the C file of a design from outside of csrc/designs, which has no twin in Python
    FILE: ClassVar[Path | None]
    STRUCTURE: ClassVar[str] = cast("str", _StructureOfTwin())

    def __init__(self, process: "Process", options: Mapping[str, int], root: int) -> None:
        super().__init__(process, options, root)
        #: the C side's hl_heap; the replay in C drives it directly
        self.raw: Any = ffi.new("hl_heap *")
        self.raw.design = self.DESIGN
        self.raw.env = process.context.raw
        self.raw.root = root
        for name, place in shared_places().items():
            lib.hl_heap_set(self.raw, place, shared_defaults()[name])
        for name, place in places(self.DESIGN).items():
            lib.hl_heap_set(self.raw, place, self.options[name])
        lib.hl_heap_begin(self.raw, self.USUAL)

    @classmethod
    def create(cls, process: "Process", options: Mapping[str, int]) -> Self:
        heap = cls(process, options, 0)
        if lib.hl_heap_create(heap.raw):
            heap.raise_failure()
            raise MemoryError("the kernel gives no memory for the heap's root")
        heap.root = int(heap.raw.root)
        return heap

    def _verify_root(self) -> None:
        verify_magic(self.process, self.root, self.MAGIC)

    def raise_failure(self) -> None:
        """Raise what made the last call fail, if it failed: a broken rule, or the process's death."""
        _raise_corruption(self.raw)
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
        spans: list[Span] = []
        for rows in self.walk_rows(_WALK_AT_ONCE):
            columns = [rows[name].tolist() for name in ("start", "size", "payload", "usable")]
            states = map(_STATES.__getitem__, rows["state"].tolist())
            # Span(*fields) without a call of Python's for each span: a third of the time
            spans += map(tuple.__new__, repeat(Span), zip(*columns, states, strict=True))
        return iter(sorted(spans))

    def walk_rows(self, at_once: int) -> Iterator[npt.NDArray[Any]]:
        """Yield the spans in the design's order, up to `at_once` together, as arrays of SPAN.

        An array is good until the next one is asked for.
        """
        cursor, rows = ffi.new("hl_cursor *"), np.zeros(at_once, SPAN)
        out = ffi.cast("hl_span *", rows.ctypes.data)
        with self._seen() as raw:
            while count := lib.hl_heap_walk(raw, cursor, out, at_once):
                if count < 0:
                    _raise_corruption(raw)
                    return
                yield rows[:count]

    def index(self) -> Iterator[Entry]:
        """Yield the free blocks as the twin in Python finds them, whose bytes are the same.

        Raises: UsageError when the design has no twin.
        """
        twin = self._as_twin()
        if twin is None:
            raise UsageError(f"{self.NAME} has no twin in Python that knows its index")
        return twin.index()

    def words(self, start: int, end: int, span: int = 0) -> Iterator[Word]:
        """Yield the words as the twin in Python decodes them; none when the design has no twin."""
        twin = self._as_twin()
        return iter(()) if twin is None else twin.words(start, end, span)

    def check(self) -> None:
        self._verify_root()
        with self._seen() as raw:
            if lib.hl_heap_check(raw):
                _raise_corruption(raw)

    def _as_twin(self) -> Allocator | None:
        """Return the same heap as the design's twin in Python; None without one."""
        twin = self.twin()
        return twin(self.process, self.options, self.root) if twin else None

    @classmethod
    def twin(cls) -> type[Allocator] | None:
        """Return the same design in Python, whose heaps have the same bytes; None when there is none."""
        return None if cls.FILE else python_designs().get(cls.NAME)

    @contextmanager
    def _seen(self) -> Iterator[Any]:
        """Give the hl_heap of the same heap as a look sees it, with all checks whatever the spec says."""
        with looking(self.process, self.root) as look:
            raw = ffi.new("hl_heap *", self.raw[0])
            raw.env = look.context.raw
            lib.hl_heap_set(raw, shared_places()["checks"], Checks.ALL)
            yield raw
            look.context.check()

    def _pointer(self, p: int) -> int:
        if not p:
            self.raise_failure()
        return p


def _raise_corruption(raw: Any) -> None:
    """Raise HeapCorruption if the last call through this hl_heap broke off for a broken rule."""
    if raw.corrupt_rule:
        address, rule = int(raw.corrupt_address), Rule(raw.corrupt_rule)
        raw.corrupt_rule = 0
        raise HeapCorruption(address, rule)


def c_design(name: str) -> type[CAllocator]:
    """Return the class of heaplab's design in C of this name."""
    design = designs()[name]
    return c_class(design, lib.hl_design_usual(design))


def c_class(design: Any, usual: Any, file: Path | None = None) -> type[CAllocator]:
    """Return the class of a `hl_design`.

    usual: the same design, compiled for the usual machine.  file: CAllocator.FILE.
    """
    name = name_of(design)
    magic, traits, smallest, options = statement(design)
    return type(
        f"C_{name}",
        (CAllocator,),
        {
            **{"NAME": name, "MAGIC": magic, "TRAITS": traits, "SMALLEST": smallest, "OPTIONS": options},
            **{"DESIGN": design, "USUAL": usual, "FILE": file},
        },
    )
