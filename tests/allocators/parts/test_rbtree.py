"""The red-black tree on a dictionary of words, against a sorted list; and best fit on a heap."""

from random import Random
from types import SimpleNamespace

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from sortedcontainers import SortedList

from heaplab.allocators.families.tagged import ROOT_INDEX, ROOT_LAST
from heaplab.allocators.parts.index import Survey
from heaplab.allocators.parts.rbtree import FLOOR, PARENT, RED, RedBlackTree
from heaplab.allocators.parts.seal import Seal
from heaplab.allocators.parts.tags import header, size_of
from heaplab.errors import HeapCorruption, Rule

BASE = 0x100
SEAL = Seal()
FIRST = 0x1000
END = 1 << 40


class Forest:
    """A tree whose nodes are words of a dictionary, beside a sorted list of the same keys."""

    def __init__(self):
        self.words = {}
        self.tree = RedBlackTree(
            SimpleNamespace(load64=self.words.__getitem__, store64=self.words.__setitem__), BASE, {}
        )
        self.tree.init(0)
        self.keys = SortedList()
        self.places = 0

    def place(self):
        """An address far from all others: a block can move and grow there."""
        self.places += 1
        return (self.places * 7919 % 10007) * 0x10000 + FIRST + 8

    def insert(self, size):
        node = self.place()
        self.tree.insert(node, size)
        self._know(node, size)

    def _know(self, node, size):
        self.words[node] = header(SEAL, node, size, 0)
        self.keys.add((size, node))

    def remove(self, which):
        size, node = self.keys.pop(which % len(self.keys))
        self.tree.remove(node, size)

    def find(self, need):
        at = self.keys.bisect_left((need, 0))
        size, node = self.keys[at] if at < len(self.keys) else (0, 0)
        floor = self.keys[at - 1][0] if at else 0
        found, word, where = self.tree.find(need)
        assert (found, size_of(word), where[FLOOR]) == (node, size, floor)
        return found, word, where

    def split(self, need):
        """What malloc does: the rest of the block found stays in the tree."""
        node, word, where = self.find(need)
        size = size_of(word)
        if node and size - need >= 48:
            self.tree.shrink(node, size, node + need, size - need, where)
            self.keys.remove((size, node))
            self._know(node + need, size - need)

    def grow(self, which, by, down):
        """What free does: a block merges with its neighbour, and begins there or where it began."""
        size, node = self.keys.pop(which % len(self.keys))
        to = node - by if down else node
        self.tree.grow(node, size, to, size + by)
        self._know(to, size + by)

    def check(self):
        survey = Survey(self.tree_memory(), SEAL, FIRST - 0x8000, END)
        for _, node in self.keys:
            survey.walked(node)
            self.tree.check_links(survey, node)
        self.tree.check(survey)
        survey.close(BASE)

    def tree_memory(self):
        return SimpleNamespace(load64=self.words.__getitem__, store64=self.words.__setitem__)


sizes = st.integers(3, 40).map(lambda n: 16 * n)
which = st.integers(0, 1000)


class TreeMachine(RuleBasedStateMachine):
    def __init__(self):
        super().__init__()
        self.forest = Forest()

    def some(self):
        return bool(self.forest.keys)

    @rule(size=sizes)
    def insert(self, size):
        self.forest.insert(size)

    @rule(need=sizes)
    def split(self, need):
        self.forest.split(need)

    @precondition(some)
    @rule(which=which)
    def remove(self, which):
        self.forest.remove(which)

    @precondition(some)
    @rule(which=which, by=sizes, down=st.booleans())
    def grow(self, which, by, down):
        self.forest.grow(which, by, down)

    @invariant()
    def sound(self):
        self.forest.check()


TestTree = TreeMachine.TestCase
TestTree.settings = settings(max_examples=60, stateful_step_count=60, deadline=None, derandomize=True)


def test_a_large_tree_grown_and_cut_down():
    forest, chance = Forest(), Random(1)
    for phase in (0.7, 0.3, 0.8, 0.1):
        for step in range(800):
            kind = chance.random()
            if not forest.keys or kind < phase:
                forest.insert(16 * chance.randrange(3, 200))
            elif kind < phase + (1 - phase) / 2:
                forest.remove(chance.randrange(1000))
            elif kind < 0.95:
                forest.grow(chance.randrange(1000), 16 * chance.randrange(1, 9), chance.random() < 0.5)
            else:
                forest.split(16 * chance.randrange(3, 200))
            forest.find(16 * chance.randrange(3, 220))
            if step % 50 == 0:
                forest.check()
    assert len(forest.keys) > 500


def test_insertion_in_order_keeps_the_tree_low():
    """A thousand nodes in order of size: no path longer than 2 log2(n + 1)."""
    forest = Forest()
    for n in range(1000):
        forest.insert(48 + 16 * n)
    before = len(forest.words)
    loads = []
    forest.tree._load = lambda address: loads.append(address) or forest.words[address]
    forest.tree.find(48 + 16 * 999)
    assert len(loads) <= 1 + 2 * 20
    assert len(forest.words) == before


@pytest.fixture
def grown():
    forest = Forest()
    for n in range(40):
        forest.insert(48 + 16 * (n * 7 % 40))
    forest.check()
    return forest


def root_of(forest):
    return forest.words[BASE]


@pytest.mark.parametrize(
    "fault", ["red root", "red under red", "order", "black height", "back link", "wild link", "stranger"]
)
def test_check_finds(grown, fault):
    words, root = grown.words, root_of(grown)
    left = words[root + 8]
    match fault:
        case "red root":
            words[root + PARENT] |= RED
        case "red under red":
            for node in (left, words[left + 8]):
                words[node + PARENT] |= RED
        case "order":
            words[left] = header(SEAL, left, 4096, 0)
        case "black height":
            _, node = grown.keys[0]
            words[node + PARENT] ^= RED
        case "wild link":
            words[BASE] = 0x123
        case "stranger":
            words[root + 8] = grown.keys[-1][1]
        case "back link":
            words[left + PARENT] = words[root + 16] | words[left + PARENT] & RED
    with pytest.raises(HeapCorruption) as caught:
        grown.check()
    assert caught.value.rule in (Rule.BROKEN_INDEX, Rule.BROKEN_LINK)


def test_a_tree_in_a_circle_is_noticed_on_the_way_down(grown):
    _, least = grown.keys[0]
    grown.words[least + 8] = root_of(grown)
    with pytest.raises(HeapCorruption) as caught:
        grown.insert(16)
    assert caught.value.rule == Rule.BROKEN_INDEX


def test_a_red_root_is_noticed_when_a_leaf_is_hung_under_it():
    forest = Forest()
    forest.insert(64)
    forest.words[root_of(forest) + PARENT] = RED
    with pytest.raises(HeapCorruption) as caught:
        forest.insert(80)
    assert caught.value.rule == Rule.BROKEN_INDEX


def test_best_fit_takes_the_smallest_at_the_lowest_address(create):
    heap = create("rbtree")
    holes = []
    for size in (304, 208, 112, 208, 112):
        holes.append(heap.malloc(size - 8))
        heap.malloc(1)
    for which in (4, 1, 0, 3, 2):
        heap.free(holes[which])
    assert [holes.index(heap.malloc(size)) for size in (100, 104, 150, 200, 250)] == [2, 4, 1, 3, 0]
    heap.check()


def test_the_words_of_a_tree_of_three(create, process):
    heap = create("rbtree:top_pad=0")
    a, _, b, _ = (heap.malloc(size) for size in (100, 1, 200, 1))
    heap.free(a)
    heap.free(b)
    load, root = process.load64, process.load64(heap.root + ROOT_INDEX)
    end = load(heap.root + ROOT_LAST)  # the free last block
    # inserted as end, a, b: b, in the middle, has come to the top
    assert root == b - 8
    assert [load(root + offset) for offset in (8, 16, 24)] == [a - 8, end, 0]
    assert [load(a - 8 + offset) for offset in (8, 16, 24)] == [0, 0, root | RED]
    assert [load(end + offset) for offset in (8, 16, 24)] == [0, 0, root | RED]
