"""A design simple enough to compute every figure by hand, and specs of designs that only tests know."""

from collections.abc import Callable, Iterator

import pytest

from heaplab.allocators import Allocator, Span, Spec, State, Trait
from heaplab.allocators.base import round_up
from heaplab.allocators.design import ROOT_DESIGN, Design
from heaplab.allocators.sources import brk

HEADER = 16
ROOT_TOP = ROOT_DESIGN


class Shelf(Design):
    """Puts block behind block and never takes one back: free only marks.

        block: | size of the payload | 1 allocated, 0 free | payload, rounded up to 16 bytes |

    malloc costs 5 mems, 2 more when it grows the heap, free 2.
    """

    NAME = "shelf"
    MAGIC = 0x5E1F
    TRAITS = Trait.ANY_ORDER | Trait.CONTIGUOUS
    OPTIONS = brk.OPTIONS
    ROOT_SIZE = round_up(ROOT_DESIGN + 8, 16)

    @classmethod
    def _begin(cls, process, options):
        return brk.begin(process, options, cls.ROOT_SIZE, cls.MAGIC)

    def _init(self) -> None:
        self._store(self.root + ROOT_TOP, self._start)

    @property
    def _start(self) -> int:
        return self.root + self.ROOT_SIZE

    @property
    def _brk(self) -> brk.Brk:
        return brk.Brk(self.process, self.options, self.root)

    def _malloc(self, size: int, alignment: int) -> int:
        top = self._load(self.root + ROOT_TOP)
        p = round_up(top + HEADER, alignment)
        after = round_up(p + size, 16)
        end = self._brk.end()
        if after > end and not self._brk.grow(after - end):
            return 0
        self._store(p - 16, size)
        self._store(p - 8, 1)
        self._store(self.root + ROOT_TOP, after)
        return p

    def _free(self, p: int) -> None:
        self._load(p - 8)
        self._store(p - 8, 0)

    def _usable(self, p: int) -> int:
        return round_up(self._load(p - 16), 16)

    def _walk(self) -> Iterator[Span]:
        p, top = self._start + HEADER, self._load(self.root + ROOT_TOP)
        while p < top:
            usable = round_up(self._load(p - 16), 16)
            state = State.ALLOCATED if self._load(p - 8) else State.FREE
            yield Span(p - HEADER, usable + HEADER, p, usable, state)
            p += usable + HEADER

    def _check(self) -> None:
        pass


@pytest.fixture
def spec_of() -> Callable[..., Spec]:
    """Return the spec of a design that the registry does not know; options are bytes."""

    def spec_of(design: type[Allocator] = Shelf, **given: int) -> Spec:
        options = {option.name: option.encode(option.default) for option in design.OPTIONS}
        return Spec(design.NAME, design.LANGUAGE, design, {**options, "top_pad": 0, **given})

    return spec_of


@pytest.fixture
def shelf() -> type[Shelf]:
    """The design, for tests to derive worse ones from."""
    return Shelf
