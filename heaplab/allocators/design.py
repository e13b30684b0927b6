"""What POSIX and glibc say of malloc and its family, once for all designs written in Python.

    root -> +0   magic       which design, so that attaching to something else is noticed
            +8   end         of the part that grows by brk, as the heap knows it (sources/brk.py)
            +16  large       three words of the large blocks (sources/large.py)
            +40  ...         the design's own

Every size and every pointer goes to the design.  What designs share is a part (parts/) or a source of memory
(sources/); a design takes what it needs, and leaves the words of a source that it does not use alone.

The twin is csrc/front/posix.c.
"""

import errno
from abc import abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, ClassVar, Final, NoReturn, Self, cast

from heaplab._core import lib
from heaplab.allocators.base import ALIGN, SIZE_MAX, Allocator, Checks, Entry, Span, Word, size_t
from heaplab.allocators.decoding import Window, telling
from heaplab.allocators.looking import looking, verify_magic
from heaplab.allocators.parts.seal import Seal
from heaplab.allocators.stated import shared_defaults
from heaplab.errors import HeapCorruption, Rule

if TYPE_CHECKING:
    from heaplab.process import Process

ROOT_MAGIC: Final = int(lib.ROOT_MAGIC)
ROOT_END: Final = int(lib.ROOT_END)
ROOT_DESIGN: Final = int(lib.ROOT_DESIGN)


class Design(Allocator):
    """A design in Python: the contract over the verbs that begin with an underscore below.

    MAGIC: what the root's first word holds.  A design that has a twin takes MAGIC, TRAITS, SMALLEST and
    OPTIONS from it (`stated`).  Shared options that OPTIONS do not list have their defaults.
    """

    MAGIC: ClassVar[int]

    def __init__(self, process: "Process", options: Mapping[str, int], root: int) -> None:
        super().__init__(process, {**shared_defaults(), **options}, root)
        self._load = process.load64
        self._store = process.store64
        self._page_size = process.page_size
        checks = self.options["checks"]
        self._checks_links = checks >= Checks.LINKS
        self._checks_all = checks == Checks.ALL
        self._seal = Seal.of(self.options, process)
        #: a malloc's second result: the block is known to be zero
        self._zeroed = False

    # ---- what a design gives ----

    @classmethod
    @abstractmethod
    def _begin(cls, process: "Process", options: Mapping[str, int]) -> int:
        """Take memory for the root, write its magic, and return its address.

        Raises: MemoryError when the kernel gives none.
        """

    @abstractmethod
    def _init(self) -> None:
        """Build the empty heap.

        Raises: MemoryError when the kernel gives no memory; a break that moved is moved back then.
        """

    @abstractmethod
    def _malloc(self, size: int, alignment: int) -> int:
        """Return a block of at least `size` bytes at a multiple of `alignment`, 16 or more; 0 with errno.

        Sets `_zeroed` when the block is known to be zero.
        """

    @abstractmethod
    def _free(self, p: int) -> None: ...

    @abstractmethod
    def _usable(self, p: int) -> int: ...

    def _resize(self, p: int, size: int) -> bool:
        """Make room for `size` bytes at p itself; False when the block has to move (nothing changed)."""
        return False

    @abstractmethod
    def _walk(self) -> Iterator[Span]:
        """Yield every span, in any order; store nothing."""

    def _entries(self) -> Iterator[Entry]:
        """Yield the free blocks where the design keeps them; store nothing."""
        return iter(())

    def _words(self, window: Window) -> Iterator[Word]:
        """Yield the design's own words in the window, decoded, in any order, and others if that is simpler.

        Broken words are said, not raised; see decoding.py.
        """
        return iter(())

    @abstractmethod
    def _check(self) -> None: ...

    # ---- the contract ----

    @classmethod
    def create(cls, process: "Process", options: Mapping[str, int]) -> Self:
        start = process.sbrk(0)
        try:
            heap = cls(process, options, cls._begin(process, {**shared_defaults(), **options}))
            heap._init()
        except MemoryError:
            if (end := process.sbrk(0)) != start:
                process.sbrk(start - end)
            raise
        return heap

    def _verify_root(self) -> None:
        verify_magic(self.process, self.root + ROOT_MAGIC, self.MAGIC)

    def malloc(self, size: int) -> int:
        return self._malloc(size_t(size), ALIGN)

    def free(self, p: int) -> None:
        if p:
            self._free(p)

    def calloc(self, n: int, size: int) -> int:
        n_bytes = min(size_t(n) * size_t(size), SIZE_MAX)
        self._zeroed = False
        p = self.malloc(n_bytes)
        if p and not self._zeroed:
            self.process.fill(p, 0, n_bytes)
        return p

    def realloc(self, p: int, size: int) -> int:
        if not p:
            return self.malloc(size)
        with _freed_breaks(Rule.FREED_REALLOC):
            if not size:
                self.free(p)
                return 0
            if self._resize(p, size_t(size)):
                return p
            usable = self._usable(p)
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
        return self._malloc(size_t(size), max(alignment, ALIGN))

    def usable_size(self, p: int) -> int:
        with _freed_breaks(Rule.FREED_USABLE_SIZE):
            return self._usable(p) if p else 0

    def walk(self) -> Iterator[Span]:
        with self._seen() as heap:
            return iter(sorted(progressing(heap._walk())))

    def index(self) -> Iterator[Entry]:
        with self._seen() as heap:
            return iter(list(heap._entries()))

    def words(self, start: int, end: int, span: int = 0) -> Iterator[Word]:
        with self._seen() as heap:
            window = Window(start, end, span if span <= start else 0, heap.process.read)
            return iter(sorted(window.of(telling(heap._words(window), window))))

    def check(self) -> None:
        self._verify_root()
        with self._seen() as heap:
            heap._check()

    @contextmanager
    def _seen(self) -> Iterator[Self]:
        """Give the same heap as a look sees it, with all checks whatever the spec says."""
        with looking(self.process, self.root) as look:
            yield type(self)(cast("Process", look), {**self.options, "checks": Checks.ALL}, self.root)

    # ---- for the designs ----

    def _magic_word(self) -> Word:
        """Return the root's first word, decoded."""
        found = self._load(self.root + ROOT_MAGIC)
        text = (
            f"a heap of design {self.NAME}"
            if found == self.MAGIC
            else f"broken: {found:#x} is no {self.NAME}"
        )
        return Word(self.root + ROOT_MAGIC, 8, "magic", text)

    def _corrupt(self, address: int, rule: Rule) -> NoReturn:
        raise HeapCorruption(address, rule)


@contextmanager
def _freed_breaks(rule: Rule) -> Iterator[None]:
    """Name the rule that a freed block breaks in a call other than free: a design says DOUBLE_FREE."""
    try:
        yield
    except HeapCorruption as error:
        if error.rule is not Rule.DOUBLE_FREE:
            raise
        raise HeapCorruption(error.address, rule, error.detail) from None


def progressing(walk: Iterator[Span]) -> Iterator[Span]:
    """Yield the spans of a walk.

    A walk whose links run in a circle comes back to a span: Brent's algorithm meets it again at the latest
    after three times as many steps as the circle and the way into it have.

    Raises: HeapCorruption (NO_PROGRESS) when the walk comes back to a span, or a span has no bytes.
    """
    seen, turn = -1, 0
    for step, span in enumerate(walk):
        if not span.size or span.start == seen:
            raise HeapCorruption(span.payload, Rule.NO_PROGRESS)
        if step == turn:
            seen, turn = span.start, 2 * turn + 1
        yield span
