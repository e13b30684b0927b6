"""Where a clause gets its heaps, and how it looks at them."""

from collections.abc import Callable

from heaplab.allocators import Allocator, Span, Spec
from heaplab.errors import HeapCorruption
from heaplab.kernel import Kernel
from heaplab.testing.steps import spec_of

KIB = 1024


class Desk:
    """Where a clause gets its heaps: new ones, each on a small machine of its own."""

    def __init__(self, design: str | Spec | type[Allocator], language: str = "python") -> None:
        self.spec = spec_of(design, language)

    def heap(self, ram: str = "16 MiB", **options: int) -> Allocator:
        """Return an empty heap; options in bytes replace those of the spec."""
        process = Kernel(ram=ram, seed=1).init.fork()
        return self.spec.design.create(process, {**self.spec.options, **options})


def allocated(heap: Allocator) -> dict[int, Span]:
    """The blocks that a program has, by the address of their payload."""
    return {span.payload: span for span in heap.walk() if span.state.is_live}


def raised(call: Callable[..., object], *args: int) -> HeapCorruption | None:
    """The HeapCorruption that a call raises, if it does."""
    try:
        call(*args)
    except HeapCorruption as caught:
        return caught
    return None


def fill(heap: Allocator, p: int, byte: int, n: int) -> None:
    """Write n bytes of payload."""
    heap.process.fill(p, byte, n)


def holds(heap: Allocator, p: int, byte: int, n: int) -> bool:
    """Whether n bytes of payload are what `fill` wrote."""
    return heap.process.read(p, n) == bytes([byte]) * n


#: raises AssertionError, or HeapCorruption, when the allocator breaks it
Clause = Callable[[Desk], None]
