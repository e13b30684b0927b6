"""Faults planted in the allocators, one at a time: the contract and random steps must catch every one.

A mutant is a method with one piece of its text replaced.
"""

import inspect
import textwrap
from random import Random

import pytest

from heaplab.allocators import parse
from heaplab.allocators.design import Design
from heaplab.allocators.families.tagged import TaggedDesign as Tagged
from heaplab.allocators.parts.binheap import BinaryHeap
from heaplab.allocators.parts.list import FreeBlockList
from heaplab.allocators.parts.rbtree import RedBlackTree
from heaplab.allocators.sources.brk import Brk
from heaplab.allocators.sources.large import Large
from heaplab.errors import HeaplabError
from heaplab.testing import contract
from heaplab.testing.contract import Desk
from heaplab.testing.steps import Trial, random_step

TUNED = ":top_pad=0:trim_threshold=4KiB:mmap_threshold=20000"
ADDRESS, NEXT, LIFO = "freelist:order=address", "freelist:fit=next", "freelist"

MUTANTS = {
    "does not merge with the block before": (
        Tagged, "_free", "0 if prev_is_allocated(word) else self._prev_size(block)", "0", LIFO),
    "does not merge with the block after": (
        Tagged, "_release", "0 if is_allocated(next_word) else size_of(next_word)", "0", ADDRESS),
    "writes no footer": (
        Tagged, "_make_free", "self._store(block + size - FOOTER, size)", "pass", LIFO),
    "splits off too little": (
        Tagged, "_carve", "rest = size - need", "rest = size - need - 16", LIFO),
    "splits off what is too small": (
        Tagged, "_carve", "rest >= self._min_block", "rest >= 16", LIFO),
    "does not tell the next block that its neighbour is allocated": (
        Tagged, "_carve", "with_prev_allocated(self._seal, next_block, next_word)", "next_word", LIFO),
    "does not tell the next block that its neighbour is free": (
        Tagged, "_release", "with_prev_free(self._seal, next_block, next_word)", "next_word", LIFO),
    "loses the block after when it merges with both": (
        Tagged, "_release", "index.remove(next_block, next_size)", "pass", ADDRESS),
    "leaves the header of a swallowed block": (
        Tagged, "_release", "self._store(block, tombstone(self._seal, block))", "pass", LIFO),
    "forgets in realloc that the block before is free": (
        Tagged, "_resize", "(PREV_ALLOCATED if prev_is_allocated(word) else 0)", "PREV_ALLOCATED", LIFO),
    "grows into a neighbour that is too small": (
        Tagged, "_take_after", "if room < need:", "if not room:", LIFO),
    "grows into a neighbour that is not free": (
        Tagged, "_take_after", "0 if is_allocated(word) else size_of(word)", "size_of(word)", LIFO),
    "loses what is split off for alignment": (
        Tagged, "_allocate_aligned", "self._index.insert(front, lead)", "pass", LIFO),
    "takes what is split off for alignment for allocated": (
        Tagged, "_allocate_aligned", "(0 if lead else PREV_ALLOCATED)", "PREV_ALLOCATED", LIFO),
    "aligns the block, not the payload": (
        Tagged, "_allocate_aligned", "round_up(front + HEADER, alignment) - HEADER", "front", LIFO),
    "trims what is in use": (
        Tagged, "_release", "if last:", "if True:", LIFO),
    "does not say which block is the last": (
        Tagged, "_carve", "word & LAST", "0", LIFO),
    "trims to where the last block begins": (
        Tagged, "_trim", "block + self._min_block + HEADER", "block", LIFO),
    "does not trim": (
        Brk, "trims", "end - keep < self._least", "True", LIFO),
    "does not tell the index what trimming left": (
        Tagged, "_trim", "self._index.shrink(block, size, block, rest)", "pass", "binheap"),
    "grows as if nothing were free at the end": (
        Tagged, "_extend", "block, total = epilogue - last, last + grown[1]",
        "last, block, total = 0, epilogue, grown[1]", LIFO),
    "takes a double free for a free": (
        Tagged, "_header_of_allocated", "not is_allocated(word) or", "", LIFO),
    "believes every header": (
        Tagged, "_header_of_allocated", "not self._seal.holds(p - HEADER, word)", "False", LIFO),
    "copies too little": (
        Design, "realloc", "min(usable, size)", "min(usable, size) - 1", LIFO),
    "clears too little": (
        Design, "calloc", "fill(p, 0, n_bytes)", "fill(p, 0, n_bytes - (n_bytes > 0))", LIFO),
    "lets a product wrap around": (
        Design, "calloc", "min(size_t(n) * size_t(size), SIZE_MAX)",
        "size_t(n) * size_t(size) % 2**64", LIFO),
    "loses a block in realloc": (
        Design, "realloc", "    self.free(p)\n    return to", "    return to", LIFO),
    "believes that the break is its own": (
        Brk, "grow", "process.sbrk(0) != end", "False", LIFO),
    "keeps the slot of a large block that it unmaps": (
        Large, "free", "self._empty(table, n)", "pass", LIFO),
    "leaves a hole in the way to a large block": (
        Large, "_empty", "(at - table.home(p)) & mask >= (at - hole) & mask", "False", LIFO),
    "loses large blocks when their table grows": (
        Large, "_reserve", "if p := load(old.slot(n) + PAYLOAD):", "if p := 0:", LIFO),
    "unmaps too little": (
        Large, "free", "munmap(base, length)", "munmap(base, length // 2 // 4096 * 4096 or 4096)", LIFO),
    "links one way only": (
        FreeBlockList, "_link", "store(following + PREV, block)", "pass", LIFO),
    "sorts the wrong way": (
        FreeBlockList, "insert", "following < block", "following > block", ADDRESS),
    "leaves the rover behind": (
        FreeBlockList, "_leave", "self._store(self._rover, to)", "pass", NEXT),
    "moves a block without telling its neighbours": (
        FreeBlockList, "_move", "self._link(to, prev, following)", "pass", ADDRESS),
    "never sifts up what fills a hole": (
        BinaryHeap, "remove", "is_above(last_size, last, size, block)", "False", "binheap"),
    "sifts down past the smaller child": (
        BinaryHeap, "_sift_down", "is_above(right_size, right, other_size, other)", "False", "binheap"),
    "does not sift up a block that has grown": (
        BinaryHeap, "grow", "self._sift_up(array, slot, to, total)", "self._put(array, slot, to)", "binheap"),
    "forgets where a block went": (
        BinaryHeap, "_put", "self._store(block + SLOT, slot)", "pass", "binheap"),
    "does not copy the array": (
        BinaryHeap, "reserve", "memory.copy(array, old, WORD * load(base + COUNT))", "pass", "binheap"),
    "has fewer slots than free blocks": (
        BinaryHeap, "reserve", "heap_bytes // (2 * self.MIN_BLOCK) + 1", "1", "binheap"),
    "lets red follow red": (
        RedBlackTree, "_mend_red", "if not load(parent + PARENT) & RED:", "if True:", "rbtree"),
    "rotates and loses a child": (
        RedBlackTree, "_mend_red", "store(grand + side, far)", "store(grand + side, 0)", "rbtree"),
    "colours no sibling": (
        RedBlackTree, "_mend_black", "store(sibling + PARENT, parent | RED)", "pass", "rbtree"),
    "does not mend a missing black": (
        RedBlackTree, "_take_out", "self._mend_black(word, link - word)", "pass", "rbtree"),
    "keeps a block in its place whatever it has grown to": (
        RedBlackTree, "grow", "if following and", "if False and", "rbtree"),
    "keeps a block in its place whatever is left of it": (
        RedBlackTree, "shrink", "where and rest > where[FLOOR]", "True", "rbtree"),
}  # fmt: skip


def mutate(monkeypatch, owner, name, old, new):
    """Replace a piece of a method's text."""
    text = textwrap.dedent(inspect.getsource(getattr(owner, name)))
    assert text.count(old) == 1, f"{name} has {old!r} {text.count(old)} times"
    module = owner if inspect.ismodule(owner) else inspect.getmodule(owner)
    scope = dict(vars(module))
    exec(compile("from __future__ import annotations\n" + text.replace(old, new), name, "exec"), scope)
    monkeypatch.setattr(owner, name, scope[name])


def is_caught(spec):
    """Whether random steps or a clause of the contract fail."""
    try:
        for seed in range(3):
            trial, chance = Trial(parse(spec + TUNED)), Random(seed)
            for _ in range(300):
                trial.do(random_step(trial, chance))
        for clause in (*contract.CLAUSES, *contract.DETECTION):
            clause(Desk(spec))
    except (AssertionError, HeaplabError):
        return True
    return False


@pytest.mark.parametrize("mutant", MUTANTS)
def test_a_planted_fault_is_caught(mutant, monkeypatch):
    owner, name, old, new, spec = MUTANTS[mutant]
    mutate(monkeypatch, owner, name, old, new)
    assert is_caught(spec)


@pytest.mark.parametrize("spec", [ADDRESS, NEXT, LIFO, "binheap", "rbtree"])
def test_nothing_is_caught_where_no_fault_is(spec):
    assert not is_caught(spec)
