"""Where a clause gets its heaps, what it needs, and how it looks at heaps."""

import linecache
import re
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps

from heaplab.allocators import Allocator, Span, Spec, Trait
from heaplab.allocators.base import Checks
from heaplab.errors import HeapCorruption
from heaplab.kernel import Kernel
from heaplab.process import Process
from heaplab.testing.limits import MOST_MEMS
from heaplab.testing.steps import spec_of

KIB = 1024


class HeapFactory:
    """Where a clause gets its heaps: new ones, each on a small machine of its own.

    A heap that goes round in a loop that touches memory raises OutOfFuel.
    """

    def __init__(self, design: str | Spec | type[Allocator], language: str = "python") -> None:
        self.spec = spec_of(design, language)

    @property
    def traits(self) -> Trait:
        """What the design promises with the options of the spec: it DETECTS if it checks all and seals."""
        options, traits = self.spec.options, self.spec.design.TRAITS
        if options.get("checks", Checks.ALL) != Checks.ALL or options.get("seal") == 0:
            traits &= ~Trait.DETECTS
        return traits

    def heap(self, ram: str = "16 MiB", **options: int) -> Allocator:
        """Return an empty heap; options in bytes replace those of the spec, if the design has them."""
        process = Kernel(ram=ram, seed=1).init.fork()
        own = {name: value for name, value in options.items() if name in self.spec.options}
        heap = self.spec.design.create(process, {**self.spec.options, **own})
        process.context.fuel = 50 * MOST_MEMS
        return heap


#: raises AssertionError, or another HeaplabError, when the allocator breaks it
Clause = Callable[[HeapFactory], None]

_needs: dict[Clause, Trait] = {}


def clause(function: Clause) -> Clause:
    """Make a function a clause of the contract: it is for all designs, and says in words what is broken.

    An assertion without a text gets the clause's first sentence, the assertion, and the numbers in it.
    """

    @wraps(function)
    def told(factory: HeapFactory) -> None:
        try:
            function(factory)
        except AssertionError as error:
            text = str(error)
            if text and not text.startswith("assert "):  # as pytest words it
                raise
            sentence = (function.__doc__ or function.__name__).strip().splitlines()[0]
            broken = text.removeprefix("assert ") or _assertion(error)
            raise AssertionError(f"{sentence}  Broken: {broken}") from error

    return told


def _assertion(error: AssertionError) -> str:
    """The assertion that failed, and the numbers and texts of its names."""
    frame, number = list(traceback.walk_tb(error.__traceback__))[-1]
    text = linecache.getline(frame.f_code.co_filename, number).strip().removeprefix("assert ")
    names = dict.fromkeys(re.findall(r"(?<![\w.])[a-z_]\w*(?![\w(])", text))
    values = {name: frame.f_locals[name] for name in names if name in frame.f_locals}
    shown = [f"{name} is {_value(value)}" for name, value in values.items() if isinstance(value, int | str)]
    return ", where ".join([text, " and ".join(shown)] if shown else [text])


def _value(value: int | str) -> str:
    return f"{value:#x}" if isinstance(value, int) and value > 0xFFFF else repr(value)


def needs(traits: Trait) -> Callable[[Clause], Clause]:
    """Make a function a clause for designs that have all these traits."""

    def mark(function: Clause) -> Clause:
        made = clause(function)
        _needs[made] = traits
        return made

    return mark


def needed(clause: Clause) -> Trait:
    """Return the traits that a clause is for."""
    return _needs.get(clause, Trait(0))


# ---- looking ----


def allocated(heap: Allocator) -> dict[int, Span]:
    """The blocks that a program has, by the address of their payload."""
    return {span.payload: span for span in heap.walk() if span.state.is_live}


def memory_of(process: Process) -> int:
    """Bytes of address space that the kernel has given by brk and anonymous mmap."""
    space = process.context.space
    assert space is not None, "the process is dead"
    return int(space.raw.heap_pages) * process.page_size


def resident_of(process: Process) -> int:
    """Bytes of RAM that the process has."""
    space = process.context.space
    assert space is not None, "the process is dead"
    return sum(int(pages) for pages in space.raw.rss) * process.page_size


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


@contextmanager
def on_thread(heap: Allocator, thread: int) -> Iterator[None]:
    """Let the calls of the block be those of another thread."""
    context = heap.process.context
    before, context.thread = context.thread, thread
    try:
        yield
    finally:
        context.thread = before
