"""Faults planted in the allocators, one at a time: the contract and random steps must catch every one.

A mutant is a method with one piece of its text replaced.  It names a class: of a design, or of a part.  Which
specs it is tried on follows: those whose heaps are made of that class.
"""

import inspect
import textwrap
from collections.abc import Iterator
from random import Random

import pytest

from heaplab import allocators
from heaplab.allocators.design import Design
from heaplab.allocators.designs.buddy import Buddy
from heaplab.allocators.families.tagged import TaggedDesign as Tagged
from heaplab.allocators.parts.binheap import BinaryHeap
from heaplab.allocators.parts.list import FreeBlockList
from heaplab.allocators.parts.rbtree import RedBlackTree
from heaplab.allocators.sources.brk import Brk
from heaplab.allocators.sources.large import Large
from heaplab.errors import HeaplabError
from heaplab.kernel import Kernel
from heaplab.testing import contract
from heaplab.testing.checked_heap import CheckedHeap
from heaplab.testing.contract import HeapFactory
from heaplab.testing.specs import defaults, tuned, varied
from heaplab.testing.steps import random_step

MUTANTS = {
    "does not merge with the block before": (
        Tagged, "_free", "0 if prev_is_allocated(word) else self._prev_size(block)", "0"),
    "does not merge with the block after": (
        Tagged, "_release", "0 if is_allocated(next_word) else size_of(next_word)", "0"),
    "writes no footer": (
        Tagged, "_make_free", "self._store(block + size - FOOTER, size)", "pass"),
    "splits off too little": (
        Tagged, "_carve", "rest = size - need", "rest = size - need - 16"),
    "splits off what is too small": (
        Tagged, "_carve", "rest >= self._min_block", "rest >= 16"),
    "does not tell the next block that its neighbour is allocated": (
        Tagged, "_carve", "with_prev_allocated(self._seal, next_block, next_word)", "next_word"),
    "does not tell the next block that its neighbour is free": (
        Tagged, "_release", "with_prev_free(self._seal, next_block, next_word)", "next_word"),
    "loses the block after when it merges with both": (
        Tagged, "_release", "index.remove(next_block, next_size)", "pass"),
    "leaves the header of a swallowed block": (
        Tagged, "_release", "self._store(block, tombstone(self._seal, block))", "pass"),
    "forgets in realloc that the block before is free": (
        Tagged, "_resize", "(PREV_ALLOCATED if prev_is_allocated(word) else 0)", "PREV_ALLOCATED"),
    "grows into a neighbour that is too small": (
        Tagged, "_take_after", "if room < need:", "if not room:"),
    "grows into a neighbour that is not free": (
        Tagged, "_take_after", "0 if is_allocated(word) else size_of(word)", "size_of(word)"),
    "loses what is split off for alignment": (
        Tagged, "_allocate_aligned", "self._index.insert(front, lead)", "pass"),
    "takes what is split off for alignment for allocated": (
        Tagged, "_allocate_aligned", "(0 if lead else PREV_ALLOCATED)", "PREV_ALLOCATED"),
    "aligns the block, not the payload": (
        Tagged, "_allocate_aligned", "round_up(front + HEADER, alignment) - HEADER", "front"),
    "trims what is in use": (
        Tagged, "_release", "if last:", "if True:"),
    "does not say which block is the last": (
        Tagged, "_carve", "word & LAST", "0"),
    "trims to where the last block begins": (
        Tagged, "_trim", "block + self._min_block + HEADER", "block"),
    "does not trim": (
        Brk, "trims", "end - keep < self._least", "True"),
    "does not tell the index what trimming left": (
        Tagged, "_trim", "self._index.shrink(block, size, block, rest)", "pass"),
    "grows as if nothing were free at the end": (
        Tagged, "_extend", "block, total = epilogue - last, last + grown[1]",
        "last, block, total = 0, epilogue, grown[1]"),
    "takes a double free for a free": (
        Tagged, "_header_of_allocated", "not is_allocated(word) or", ""),
    "believes every header": (
        Tagged, "_header_of_allocated", "not self._seal.holds(p - HEADER, word)", "False"),
    "copies too little": (
        Design, "realloc", "min(usable, size)", "min(usable, size) - 1"),
    "clears too little": (
        Design, "calloc", "fill(p, 0, n_bytes)", "fill(p, 0, n_bytes - (n_bytes > 0))"),
    "lets a product wrap around": (
        Design, "calloc", "min(size_t(n) * size_t(size), SIZE_MAX)",
        "size_t(n) * size_t(size) % 2**64"),
    "loses a block in realloc": (
        Design, "realloc", "    self.free(p)\n    return to", "    return to"),
    "believes that the break is its own": (
        Brk, "grow", "process.sbrk(0) != end", "False"),
    "keeps the slot of a large block that it unmaps": (
        Large, "free", "self._empty(table, n)", "pass"),
    "leaves a hole in the way to a large block": (
        Large, "_empty", "(at - table.home(p)) & mask >= (at - hole) & mask", "False"),
    "loses large blocks when their table grows": (
        Large, "_reserve", "if p := load(old.slot(n) + PAYLOAD):", "if p := 0:"),
    "unmaps too little": (
        Large, "free", "munmap(base, length)", "munmap(base, length // 2 // 4096 * 4096 or 4096)"),
    "links one way only": (
        FreeBlockList, "_link", "store(following + PREV, block)", "pass"),
    "sorts the wrong way": (
        FreeBlockList, "insert", "following >= block", "following <= block"),
    "leaves the rover behind": (
        FreeBlockList, "_leave", "self._store(self._rover, to)", "pass"),
    "moves a block without telling its neighbours": (
        FreeBlockList, "_move", "self._link(to, prev, following)", "pass"),
    "never sifts up what fills a hole": (
        BinaryHeap, "remove", "is_above(last_size, last, size, block)", "False"),
    "sifts down past the smaller child": (
        BinaryHeap, "_sift_down", "is_above(right_size, right, other_size, other)", "False"),
    "does not sift up a block that has grown": (
        BinaryHeap, "grow", "self._sift_up(array, slot, to, total)", "self._put(array, slot, to)"),
    "forgets where a block went": (
        BinaryHeap, "_put", "self._store(block + SLOT, slot)", "pass"),
    "does not copy the array": (
        BinaryHeap, "reserve", "memory.copy(array, old, WORD * load(base + COUNT))", "pass"),
    "has fewer slots than free blocks": (
        BinaryHeap, "reserve", "heap_bytes // (2 * self.MIN_BLOCK) + 1", "1"),
    "lets red follow red": (
        RedBlackTree, "_mend_red", "if not self._is_red(parent, grand):", "if True:"),
    "rotates and loses a child": (
        RedBlackTree, "_mend_red", "store(grand + side, far)", "store(grand + side, 0)"),
    "colours no sibling": (
        RedBlackTree, "_mend_black", "store(sibling + PARENT, parent | RED)", "pass"),
    "does not mend a missing black": (
        RedBlackTree, "_take_out", "self._mend_black(word, link - word)", "pass"),
    "keeps a block in its place whatever it has grown to": (
        RedBlackTree, "grow", "if following and", "if False and"),
    "keeps a block in its place whatever is left of it": (
        RedBlackTree, "shrink", "where and rest > where[FLOOR]", "True"),
    "merges with a buddy that is in use": (
        Buddy, "_free", "self._tag(buddy) == k", "self._tag(buddy) & ORDER == k"),
    "loses the upper halves of what it splits": (
        Buddy, "_split", "self._push(p + (1 << i), i)", "pass"),
    "forgets which lists have blocks after a split": (
        Buddy, "_take", "left |= (1 << j) - (1 << k)", "pass"),
    "leaves a hole in a list": (
        Buddy, "_unlink", "store(following + PREV, pointer)", "pass"),
    "writes no fence": (
        Buddy, "_cut", "self._store(end - HEADER, self._seal(end, FENCE))", "pass"),
}  # fmt: skip


#: the option without which a faulty method is not called: specs that have it are tried first
NEEDED = {"leaves the rover behind": "fit=next", "sorts the wrong way": "order=address"}


def mutate(monkeypatch, owner, name, old, new):
    """Replace a piece of a method's text."""
    text = textwrap.dedent(inspect.getsource(getattr(owner, name)))
    assert text.count(old) == 1, f"{name} has {old!r} {text.count(old)} times"
    scope = dict(vars(inspect.getmodule(owner)))
    exec(compile("from __future__ import annotations\n" + text.replace(old, new), name, "exec"), scope)
    monkeypatch.setattr(owner, name, scope[name])


def made_of(spec) -> set[type]:
    """The classes of a heap and of its parts."""
    heap = allocators.create(spec, Kernel(ram="16 MiB", seed=1).init.fork())
    return {cls for part in (heap, *vars(heap).values()) for cls in type(part).__mro__}


MADE_OF = {spec: made_of(spec) for spec in dict.fromkeys([*defaults(), *varied()])}


def specs_with(owner) -> Iterator[str]:
    return (spec for spec, classes in MADE_OF.items() if owner in classes)


def steps_fail(spec):
    """Whether random steps fail."""
    try:
        for seed in range(3):
            heap, chance = CheckedHeap(tuned(spec)), Random(seed)
            for _ in range(300):
                heap.do(random_step(heap, chance))
    except (AssertionError, HeaplabError):
        return True
    return False


def contract_fails(spec):
    """Whether a clause of the contract fails."""
    try:
        for clause in contract.applying(spec):
            clause(HeapFactory(spec))
    except (AssertionError, HeaplabError):
        return True
    return False


@pytest.mark.parametrize("mutant", MUTANTS)
def test_a_planted_fault_is_caught(mutant, monkeypatch):
    owner, name, old, new = MUTANTS[mutant]
    specs = sorted(specs_with(owner), key=lambda spec: NEEDED.get(mutant, "") not in spec)
    mutate(monkeypatch, owner, name, old, new)
    assert any(steps_fail(spec) or contract_fails(spec) for spec in specs)


@pytest.mark.parametrize("spec", defaults())
def test_nothing_is_caught_where_no_fault_is(spec):
    """Nor does a clause fail: test_contract.py."""
    assert not steps_fail(spec)
