"""The clauses of refusals, and of state outside of memory, tell sound designs from careless ones."""

import runpy

import pytest

from heaplab.allocators import Span, State, Trait
from heaplab.allocators.base import round_up
from heaplab.allocators.design import ROOT_DESIGN, Design
from heaplab.allocators.designs.freelist import FreeList
from heaplab.allocators.sources import brk
from heaplab.kernel import Kernel
from heaplab.testing.contract import HeapFactory, memory
from heaplab.testing.contract.refusals import every_refusal_in_turn_loses_nothing, refusals


class Silent(FreeList):
    """Says nothing of the reason when there is no memory."""

    def malloc(self, size):
        p = super().malloc(size)
        if not p:
            self.process.errno = 0
        return p


class Early(FreeList):
    """realloc frees the old block before it has the new one."""

    def realloc(self, p, size):
        if self._usable(p) >= size:
            return p
        content = self.process.read(p, self._usable(p))
        self.free(p)
        q = self.malloc(size)
        if q:
            self.process.write(q, content)
        return q


class Loses(FreeList):
    """Takes a block out of the heap's sight when the kernel refuses."""

    def malloc(self, size):
        p = super().malloc(size)
        if not p:
            super().malloc(24)
        return p


class Lazy(FreeList):
    """Believes that a large request that was refused once is never granted."""

    def malloc(self, size):
        if self._load(self.root) == 1 or not (p := super().malloc(size)):
            self.given_up = True
            return 0
        return 0 if getattr(self, "given_up", False) else p


@pytest.mark.parametrize(
    ("design", "sentence"),
    [
        (Silent, "errno is 0, not ENOMEM"),
        (Early, "has other blocks than live"),
        (Loses, "has other blocks than live"),
        (Lazy, "the next time it returned 0 too"),
    ],
)
def test_a_careless_design_is_caught(design, sentence):
    with pytest.raises(AssertionError, match=sentence):
        every_refusal_in_turn_loses_nothing(HeapFactory(design))


def test_the_call_that_is_meant_is_refused_and_the_table_is_as_it_was():
    process = Kernel(ram="1 MiB", seed=1).init.fork()
    end = process.sbrk(0)
    with refusals(1) as seen:
        assert process.brk(0) == end  # a question, no request
        with pytest.raises(OSError, match="Cannot allocate memory"):
            process.sbrk(4096)
    assert (seen.asked, seen.refused) == (1, True)
    assert process.sbrk(4096) == end


# ---- state outside of memory ----


class Outside(Design):
    """A bump allocator whose whole state is in Python, the same for all processes."""

    NAME = "outside"
    MAGIC = 77
    TRAITS = Trait.ANY_ORDER | Trait.CONTIGUOUS
    OPTIONS = brk.OPTIONS
    ROOT_SIZE = round_up(ROOT_DESIGN, 16)

    blocks: dict[int, int] = {}  # noqa: RUF012
    end = 0

    @classmethod
    def _begin(cls, process, options):
        return brk.begin(process, options, cls.ROOT_SIZE, cls.MAGIC)

    def _init(self):
        type(self).end = self.root + self.ROOT_SIZE
        self.blocks.clear()

    def _malloc(self, size, alignment):
        p = round_up(self.end, alignment)
        n = round_up(max(size, 1), 16)
        if self.process.sbrk(0) < p + n:
            self.process.brk(p + n)
        type(self).end = p + n
        self.blocks[p] = n
        return p

    def _free(self, p):
        del self.blocks[p]

    def _usable(self, p):
        return self.blocks[p]

    def _resize(self, p, size):
        return size <= self._usable(p)

    def _walk(self):
        return (Span(p, n, p, n, State.ALLOCATED) for p, n in sorted(self.blocks.items()))

    def _check(self):
        pass


class Half(FreeList):
    """Keeps a block back in Python: memory does not know whose it is."""

    kept: list[int] = []  # noqa: RUF012

    def _malloc(self, size, alignment):
        for p in self.kept:
            if p % alignment == 0 and self._usable(p) >= size:
                self.kept.remove(p)
                return p
        return super()._malloc(size, alignment)

    def _free(self, p):
        if len(self.kept) < 2:
            self.kept.append(p)
        else:
            super()._free(p)


def test_a_design_that_makes_no_reference_is_told_so():
    with pytest.raises(AssertionError, match="its state is outside of simulated memory"):
        memory.equal_memory_is_an_equal_heap(HeapFactory(Outside))


def test_a_design_that_keeps_some_of_it_in_python_is_told_so():
    with pytest.raises(AssertionError, match="outside of simulated memory"):
        memory.equal_memory_is_an_equal_heap(HeapFactory(Half))


# ---- what a clause says ----


EVEN = """
from heaplab.testing import contract

@contract.clause
def it_is_even(factory):
    'Every block is even.'
    p, where = factory, "here"
    assert p % 2 == 0 or not where
"""


def test_an_assertion_without_a_text_gets_one(tmp_path):
    (tmp_path / "even.py").write_text(EVEN)
    clause = runpy.run_path(str(tmp_path / "even.py"))["it_is_even"]
    clause(2)
    with pytest.raises(AssertionError) as caught:
        clause(3)
    assert str(caught.value) == (
        "Every block is even.  Broken: p % 2 == 0 or not where, where p is 3 and where is 'here'"
    )
