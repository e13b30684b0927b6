"""Best fit by a red-black tree: the free blocks are its nodes, in the order of size, then address.

    root -> +40  the tree's root, 0 when it is empty

    block  +0         +8       +16      +24                           size - 8
           | header   | left   | right  | parent, red in bit 0  | ... | footer |       a free block

Alignment       16 bytes
Overhead        8 bytes a block
Minimum block   48 bytes
malloc          2 mems a level to search, 3 to 14 to take the node out or to move it, 3 for the tags; O(log n)
free            2 mems a level to insert, about 10 for links and colours, 5 for the tags; 3 to 14 a merge
Metadata        headers, footers, links and colours in the blocks; 2 words in the root
Source          Cormen et al., Introduction to Algorithms, 13; Guibas and Sedgewick (1978)

Two things spare references.  The children of a red node are black, so the word that holds their parent is
known without loading it.  And the search for the best fit ends right behind the largest node that is too
small: what is left of the block found keeps its place in the order, and so in the tree, while it is larger.

The twin is csrc/heap/rbtree.c.
"""

from typing import ClassVar, Final

from heaplab.allocators.blocks import HEADER, size_of
from heaplab.allocators.index import Index, Survey
from heaplab.allocators.tagged import TaggedAllocator
from heaplab.errors import HeapCorruption, Rule

# from the node
LEFT, RIGHT, PARENT = 8, 16, 24
BOTH: Final = LEFT + RIGHT  # the other side of `side` is BOTH - side
RED: Final = 1

#: no tree of 2**48 nodes is higher: 2 log2(n + 1)
HIGHEST: Final = 96

#: a node's left and right child, its parent with its own colour, the address of the word that points to it
Links = tuple[int, int, int, int]
#: size and address: the order of the nodes
Key = tuple[int, int]
NO_KEY: Final = (0, 0)
LAST_KEY: Final = (1 << 48, 0)


class RedBlackTree(Index):
    """A red-black tree of nodes that live in any memory; its root is the word at `base`.

    A node is an address, 8 mod 16, where a header with the node's size stands (blocks.py).

    >>> from types import SimpleNamespace
    >>> from heaplab.allocators.blocks import header
    >>> words = {}
    >>> tree = RedBlackTree(SimpleNamespace(load64=words.__getitem__, store64=words.__setitem__), 0, {})
    >>> tree.init(0)
    >>> for node, size in (0x108, 64), (0x208, 48), (0x308, 96):
    ...     words[node] = header(node, size, 0)
    ...     tree.insert(node, size)
    >>> hex(tree.find(50)[0]), tree.find(97)[0]
    ('0x108', 0)
    """

    MIN_BLOCK = 48
    WORDS = 1

    def init(self, heap_bytes: int) -> None:
        self._store(self._base, 0)

    # ---- the index ----

    def find(self, need: int) -> tuple[int, int, int]:
        load = self._load
        best = best_word = floor = 0
        node = load(self._base)
        while node:
            word = load(node)
            size = size_of(word)
            if size < need:
                floor = size
                node = load(node + RIGHT)
            else:
                best, best_word = node, word
                node = load(node + LEFT)
        return best, best_word, floor

    def insert(self, block: int, size: int) -> None:
        load, store = self._load, self._store
        parent, link = 0, self._base
        node = load(link)
        while node:
            other = size_of(load(node))
            parent = node
            link = node + (LEFT if size < other or (size == other and block < node) else RIGHT)
            node = load(link)
        store(block + LEFT, 0)
        store(block + RIGHT, 0)
        store(link, block)
        store(block + PARENT, parent and parent | RED)
        if parent:
            self._mend_red(block, parent)

    def remove(self, block: int, size: int) -> None:
        self._take_out(self._links(block))

    def shrink(self, block: int, size: int, to: int, rest: int, floor: int) -> None:
        if rest > floor:
            self._move(self._links(block), to)
        else:
            self.remove(block, size)
            self.insert(to, rest)

    def grow(self, block: int, size: int, to: int, total: int) -> None:
        links = self._links(block)
        following = self._next(block, links)
        if following and (total, to) > (size_of(self._load(following)), following):
            self._take_out(links)
            self.insert(to, total)
        elif to != block:
            self._move(links, to)

    def _take_out(self, links: Links) -> None:
        """Take out the node with these links."""
        left, right, word, link = links
        if left and right:
            self._replace_by_next(links)
            return
        child = left or right
        self._store(link, child)
        if child:  # red, without children; and so the node was black
            self._store(child + PARENT, word)
        elif word and not word & RED:
            self._mend_black(word, link - word)

    def _move(self, links: Links, to: int) -> None:
        """Let `to` take the place of the node with these links."""
        load, store = self._load, self._store
        left, right, word, link = links
        store(link, to)
        store(to + LEFT, left)
        store(to + RIGHT, right)
        store(to + PARENT, word)
        for child in left, right:
            if child:
                store(child + PARENT, to | load(child + PARENT) & RED)

    # ---- links ----

    def _links(self, node: int) -> Links:
        load, is_link = self._load, self._is_link
        left, right, word = load(node + LEFT), load(node + RIGHT), load(node + PARENT)
        parent = word & ~RED
        if (left and not is_link(left)) or (right and not is_link(right)) or (parent and not is_link(parent)):
            raise HeapCorruption(node + HEADER, Rule.BROKEN_LINK)
        return left, right, word, self._link_to(node, parent)

    def _next(self, node: int, links: Links) -> int:
        """Return the next node in order, 0 after the last."""
        load = self._load
        _, right, word, link = links
        if right:
            while smaller := load(right + LEFT):
                right = smaller
            return right
        parent = word & ~RED
        if not parent or link == parent + LEFT:
            return parent
        while True:
            node, parent = parent, load(parent + PARENT) & ~RED
            if not parent or load(parent + LEFT) == node:
                return parent

    def _link_to(self, node: int, parent: int) -> int:
        """Return the address of the word that points to `node`."""
        load = self._load
        if not parent:
            if load(self._base) == node:
                return self._base
        elif load(parent + LEFT) == node:
            return parent + LEFT
        elif load(parent + RIGHT) == node:
            return parent + RIGHT
        raise HeapCorruption(node + HEADER, Rule.BROKEN_LINK)

    def _replace_by_next(self, links: Links) -> None:
        """Take out a node with two children: the next in order takes its place."""
        load, store = self._load, self._store
        left, right, word, link = links
        parent, node = 0, right
        while smaller := load(node + LEFT):
            parent, node = node, smaller
        child, gone = load(node + RIGHT), load(node + PARENT)
        store(link, node)
        store(node + PARENT, word)
        store(node + LEFT, left)
        store(left + PARENT, node | load(left + PARENT) & RED)
        if parent:
            side = LEFT
            store(parent + LEFT, child)
            store(node + RIGHT, right)
            store(right + PARENT, node | load(right + PARENT) & RED)
        else:
            side, parent = RIGHT, node
        if child:  # red, without children; and so the node that moved was black
            store(child + PARENT, parent)
        elif not gone & RED:
            self._mend_black(parent, side)

    # ---- colours ----

    def _mend_red(self, node: int, parent: int) -> None:
        """A node just became red: its parent, which it has, must not be red."""
        load, store = self._load, self._store
        while (word := load(parent + PARENT)) & RED:
            grand = word & ~RED  # black, and there: the root is black
            side, uncle = LEFT, load(grand + LEFT)
            if uncle == parent:
                uncle = load(grand + RIGHT)
            else:
                side = RIGHT
            if not uncle or not load(uncle + PARENT) & RED:
                self._rotate_red(node, parent, grand, side)
                return
            store(uncle + PARENT, grand)
            store(parent + PARENT, grand)
            node, parent = grand, load(grand + PARENT)
            if not parent:
                return
            store(node + PARENT, parent | RED)

    def _rotate_red(self, node: int, parent: int, grand: int, side: int) -> None:
        """Bring the middle one of three above the others, black; they are red.

        grand, black, has parent, red, on `side`, which has node, red, on either side.
        """
        load, store = self._load, self._store
        other = BOTH - side
        above = load(grand + PARENT)
        link = self._link_to(grand, above)
        inner = load(parent + other)
        if inner == node:
            top, near, far = node, load(node + side), load(node + other)
            store(parent + other, near)
            if near:
                store(near + PARENT, parent)
            store(top + side, parent)
            store(parent + PARENT, top | RED)
        else:
            top, far = parent, inner
        store(grand + side, far)
        if far:
            store(far + PARENT, grand)
        store(top + other, grand)
        store(grand + PARENT, top | RED)
        store(top + PARENT, above)
        store(link, top)

    def _mend_black(self, parent: int, side: int) -> None:
        """The paths through the `side` of `parent` have one black node too few."""
        load, store = self._load, self._store
        while True:
            other = BOTH - side
            sibling, word = load(parent + other), load(parent + PARENT)
            if load(sibling + PARENT) & RED:  # and so parent is black: make the sibling so
                link, near = self._link_to(parent, word), load(sibling + side)
                store(parent + other, near)
                store(near + PARENT, parent)
                store(sibling + side, parent)
                store(sibling + PARENT, word)
                store(link, sibling)
                word, sibling = sibling | RED, near
                store(parent + PARENT, word)
            far, near = load(sibling + other), load(sibling + side)
            if far and load(far + PARENT) & RED:
                link = self._link_to(parent, word & ~RED)
                store(parent + other, near)
                if near:
                    store(near + PARENT, parent | load(near + PARENT) & RED)
                store(far + PARENT, sibling)
                top = sibling
            elif near and load(near + PARENT) & RED:
                link = self._link_to(parent, word & ~RED)
                inner, outer = load(near + side), load(near + other)
                store(parent + other, inner)
                if inner:
                    store(inner + PARENT, parent)
                store(sibling + side, outer)
                if outer:
                    store(outer + PARENT, sibling)
                store(near + other, sibling)
                store(sibling + PARENT, near)
                top = near
            else:
                store(sibling + PARENT, parent | RED)
                if word & RED:
                    store(parent + PARENT, word & ~RED)
                    return
                if not word:
                    return
                side = LEFT if load(word + LEFT) == parent else RIGHT
                parent = word
                continue
            store(top + side, parent)
            store(parent + PARENT, top)
            store(top + PARENT, word)
            store(link, top)
            return

    # ---- check ----

    def check_links(self, survey: Survey, block: int) -> None:
        load = self._load
        left, right, word = load(block + LEFT), load(block + RIGHT), load(block + PARENT)
        for child in left, right:
            if child and not (survey.is_block(child) and load(child + PARENT) & ~RED == block):
                raise HeapCorruption(block + HEADER, Rule.BROKEN_LINK)
        parent = word & ~RED
        if parent and not survey.is_block(parent):
            raise HeapCorruption(block + HEADER, Rule.BROKEN_LINK)
        self._link_to(block, parent)

    def check(self, survey: Survey) -> None:
        root = self._load(self._base)
        if root:
            self._check_subtree(survey, root, 0, 0, (NO_KEY, LAST_KEY))

    def _check_subtree(
        self, survey: Survey, node: int, above: int, depth: int, between: tuple[Key, Key]
    ) -> int:
        """Check the nodes from `node` down, whose keys lie between two.

        above: the parent, with its colour.  Returns: how many black nodes each path down has.
        """
        load, (low, high) = self._load, between
        parent = above & ~RED
        size = survey.indexed(node, parent or self._base - HEADER)
        word = load(node + PARENT)
        if word & ~RED != parent:
            raise HeapCorruption(node + HEADER, Rule.BROKEN_LINK)
        red, key = word & RED, (size, node)
        if not low < key < high or (red and (above & RED or not parent)) or depth == HIGHEST:
            raise HeapCorruption(node + HEADER, Rule.BROKEN_INDEX)
        heights = [
            self._check_subtree(survey, child, node | red, depth + 1, keys) if child else 0
            for child, keys in ((load(node + LEFT), (low, key)), (load(node + RIGHT), (key, high)))
        ]
        if heights[0] != heights[1]:
            raise HeapCorruption(node + HEADER, Rule.BROKEN_INDEX)
        return heights[0] + (not red)


class RBTree(TaggedAllocator):
    """Best fit by a red-black tree of the free blocks."""

    NAME = "rbtree"
    MAGIC = int.from_bytes(b"hlrbtree", "little")
    INDEX: ClassVar[type[Index]] = RedBlackTree
