"""An index as a red-black tree: the free blocks are its nodes, in the order of size, then address.

    base -> the tree's root, 0 when it is empty

    block  +0         +8       +16      +24                           size - 8
           | header   | left   | right  | parent, red in bit 0  | ... | footer |       a free block

Three things spare references.  The children of a red node are black, so the word that holds their parent is
known without loading it.  Who goes down the tree remembers the way, and finds nothing out again on the way
back.  And the search for the best fit ends right behind the largest node that is too small: what is left of
the block found keeps its place in the order, and so in the tree, while it is larger.

Source: Cormen et al., Introduction to Algorithms, 13; Guibas and Sedgewick (1978).
The twin is csrc/parts/rbtree.h.
"""

from collections.abc import Iterator
from typing import Final, NoReturn

from heaplab.allocators.base import Word
from heaplab.allocators.parts.index import Found, Index, Place, Survey
from heaplab.allocators.parts.tags import HEADER, size_of
from heaplab.errors import HeapCorruption, Rule

# from the node
LEFT, RIGHT, PARENT = 8, 16, 24
BOTH: Final = LEFT + RIGHT  # the other side of `side` is BOTH - side
RED: Final = 1

#: what a search learns on its way: the largest size it passed that was too small, the address of the word
#: that points to the block, the block's left child
Way = tuple[int, int, int]
FLOOR, LINK, CHILD = 0, 1, 2

#: no tree of 2**48 nodes is higher: 2 log2(n + 1)
HIGHEST: Final = 96

#: a node, its left and right child, its parent with its own colour, the address of the word that points to it
Links = tuple[int, int, int, int, int]
#: size and address: the order of the nodes
Key = tuple[int, int]
NO_KEY: Final = (0, 0)
LAST_KEY: Final = (1 << 48, 0)


class RedBlackTree(Index):
    """A red-black tree of nodes that live in any memory; its root is the word at `base`.

    A node is an address, 8 mod 16, where a header with the node's size stands (blocks.py).

    >>> from types import SimpleNamespace
    >>> from heaplab.allocators.parts.seal import Seal
    >>> from heaplab.allocators.parts.tags import header
    >>> words = {}
    >>> tree = RedBlackTree(SimpleNamespace(load64=words.__getitem__, store64=words.__setitem__), 0, {})
    >>> tree.init(0)
    >>> for node, size in (0x108, 64), (0x208, 48), (0x308, 96):
    ...     words[node] = header(Seal(), node, size, 0)
    ...     tree.insert(node, size)
    >>> hex(tree.find(50)[0]), tree.find(97)[0]
    ('0x108', 0)
    """

    MIN_BLOCK = 48
    WORDS = 1

    def init(self, heap_bytes: int) -> None:
        self._store(self._base, 0)

    # ---- the index ----

    def find(self, need: int) -> Found:
        """Return the best fit, its header, and the way to it."""
        load, child_of = self._load, self._child
        best = best_word = best_link = best_left = floor = steps = 0
        owner, offset = self._base, 0
        node = child_of(owner, offset)
        while node:
            steps = self._count_step(steps, node)
            word = load(node)
            size = size_of(word)
            if size < need:
                floor = size
                owner, offset = node, RIGHT
                node = child_of(node, RIGHT)
            else:
                best, best_word, best_link = node, word, owner + offset
                owner, offset = node, LEFT
                node = best_left = child_of(node, LEFT)
        return best, best_word, (floor, best_link, best_left)

    def insert(self, block: int, size: int) -> None:
        load, store = self._load, self._store
        links = [self._base]
        node, parent = self._child(self._base, 0), 0
        while node:
            other = size_of(load(node))
            side = LEFT if size < other or (size == other and block < node) else RIGHT
            self._count_step(len(links) - 1, node)
            parent = node
            links.append(node + side)
            node = self._child(node, side)
        store(block + LEFT, 0)
        store(block + RIGHT, 0)
        store(links[-1], block)
        store(block + PARENT, parent and parent | RED)
        if parent:
            self._mend_red(block, links)

    def remove(self, block: int, size: int, where: Way | None = None) -> None:
        self._take_out(self._links(block, where))

    def shrink(self, block: int, size: int, to: int, rest: int, where: Way | None = None) -> None:
        if where and rest > where[FLOOR]:
            self._move(self._links(block, where), to)
        else:
            self.remove(block, size, where)
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
        node, left, right, word, link = links
        if left and right:
            self._replace_by_next(links)
            return
        child = left or right
        self._store(link, child)
        if child:  # red, without children; and so the node was black
            self._adopt(child, node, word)
        elif word and not word & RED:
            self._mend_black(word, link - word)

    def _move(self, links: Links, to: int) -> None:
        """Let `to` take the place of the node with these links."""
        store = self._store
        node, left, right, word, link = links
        store(link, to)
        store(to + LEFT, left)
        store(to + RIGHT, right)
        store(to + PARENT, word)
        for child in left, right:
            if child:
                self._set_parent(child, node, to)

    # ---- links ----

    def _broken_link(self, node: int) -> NoReturn:
        raise HeapCorruption(node + HEADER, Rule.BROKEN_LINK)

    def _may_link(self, link: int) -> bool:
        return not link or self._is_link(link)

    def _child(self, node: int, offset: int) -> int:
        """Return the child of a node, or of the base with offset 0; 0 when there is none."""
        child = self._load(node + offset)
        if self._checks_links and child and not self._is_link(child):
            self._broken_link(node)
        return child

    def _certain_child(self, node: int, offset: int) -> int:
        """Return a child that the colours say is there."""
        child = self._child(node, offset)
        if self._checks_links and not child:
            self._broken_link(node)
        return child

    def _parent_word(self, child: int, parent: int) -> int:
        """Return the word that holds a child's colour, and its parent, which has to be `parent`."""
        word = self._load(child + PARENT)
        if self._checks_links and word & ~RED != parent:
            self._broken_link(child)
        return word

    def _is_red(self, child: int, parent: int) -> bool:
        return self._parent_word(child, parent) & RED != 0

    def _adopt(self, child: int, before: int, word: int) -> None:
        """Give a child of `before` another parent, and the colour in `word`."""
        if self._checks_links:
            self._parent_word(child, before)
        self._store(child + PARENT, word)

    def _set_parent(self, child: int, before: int, parent: int) -> None:
        """Give a child of `before` another parent; its colour stays."""
        self._store(child + PARENT, parent | self._parent_word(child, before) & RED)

    def _owner(self, link: int) -> int:
        """Return the node whose word stands at `link`; 0 for the root's."""
        if link == self._base:
            return 0
        return link - (RIGHT if link % 16 else LEFT)  # nodes stand at 8 mod 16

    def _link_to(self, node: int, parent: int) -> int:
        """Return the address of the word that points to `node`."""
        load = self._load
        if self._checks_links and not self._may_link(parent):
            self._broken_link(node)
        if not parent:
            if load(self._base) == node:
                return self._base
        elif load(parent + LEFT) == node:
            return parent + LEFT
        elif load(parent + RIGHT) == node:
            return parent + RIGHT
        self._broken_link(node)

    def _links(self, node: int, where: Way | None = None) -> Links:
        left = where[CHILD] if where else self._child(node, LEFT)
        right, word = self._child(node, RIGHT), self._load(node + PARENT)
        parent = word & ~RED
        link = where[LINK] if where else self._link_to(node, parent)
        if self._checks_links and self._owner(link) != parent:
            self._broken_link(node)
        return node, left, right, word, link

    def _count_step(self, steps: int, node: int) -> int:
        """Return steps + 1: no way along the tree is longer than it may be high."""
        if steps >= HIGHEST:
            raise HeapCorruption(node + HEADER, Rule.BROKEN_INDEX)
        return steps + 1

    def _next(self, node: int, links: Links) -> int:
        """Return the next node in order, 0 after the last."""
        load, steps = self._load, 0
        _, _, right, word, link = links
        if right:
            while smaller := self._child(right, LEFT):
                steps = self._count_step(steps, right)
                right = smaller
            return right
        parent = word & ~RED
        if not parent or link == parent + LEFT:
            return parent
        while True:
            steps = self._count_step(steps, parent)
            node, parent = parent, load(parent + PARENT) & ~RED
            if self._checks_links and not self._may_link(parent):
                self._broken_link(node)
            if not parent or load(parent + LEFT) == node:
                return parent

    def _replace_by_next(self, links: Links) -> None:
        """Take out a node with two children: the next in order takes its place."""
        store = self._store
        node, left, right, word, link = links
        parent, following, steps = 0, right, 0
        while smaller := self._child(following, LEFT):
            steps = self._count_step(steps, following)
            parent, following = following, smaller
        child, gone = self._child(following, RIGHT), self._parent_word(following, parent or node)
        store(link, following)
        store(following + PARENT, word)
        store(following + LEFT, left)
        self._set_parent(left, node, following)
        if parent:
            side = LEFT
            store(parent + LEFT, child)
            store(following + RIGHT, right)
            self._set_parent(right, node, following)
        else:
            side, parent = RIGHT, following
        if child:  # red, without children; and so the node that moved was black
            self._adopt(child, following, parent)
        elif not gone & RED:
            self._mend_black(parent, side)

    # ---- colours ----

    def _mend_red(self, node: int, links: list[int]) -> None:
        """A new leaf is red: no red node may have a red parent.

        links: the addresses of the words that point to the nodes on the way down, the leaf's last.
        """
        store = self._store
        leaf = depth = len(links) - 1
        while True:
            parent, grand = self._owner(links[depth]), self._owner(links[depth - 1])
            if not self._is_red(parent, grand):
                return
            if depth < 2:  # the root is black
                raise HeapCorruption(parent + HEADER, Rule.BROKEN_INDEX)
            side = links[depth - 1] - grand
            uncle = self._child(grand, BOTH - side)
            # beside the parent of a new leaf there is nothing, or a red leaf
            if not uncle or (depth < leaf and not self._is_red(uncle, grand)):
                break
            if depth < leaf:
                store(uncle + PARENT, grand)
            else:
                self._adopt(uncle, grand, grand)
            store(parent + PARENT, grand)
            node = grand
            depth -= 2
            if not depth:
                return
            store(node + PARENT, self._owner(links[depth]) | RED)
        # the middle one of grand, parent and node comes to the top, black; the others are below it, red
        link, other = links[depth - 2], BOTH - side
        near = far = 0
        if links[depth] == parent + side:
            top = parent
            if depth < leaf:
                far = self._child(parent, other)
        else:
            top = node
            if depth < leaf:
                near, far = self._child(node, side), self._child(node, other)
            store(parent + other, near)
            if near:
                self._adopt(near, node, parent)
            store(top + side, parent)
            store(parent + PARENT, top | RED)
        store(grand + side, far)
        if far:
            self._adopt(far, top, grand)
        store(top + other, grand)
        store(grand + PARENT, top | RED)
        store(top + PARENT, self._owner(link))
        store(link, top)

    def _mend_black(self, parent: int, side: int) -> None:
        """The paths through the `side` of `parent` have one black node too few."""
        load, store, steps = self._load, self._store, 0
        while True:
            other = BOTH - side
            sibling, word = self._certain_child(parent, other), load(parent + PARENT)
            if self._is_red(sibling, parent):  # and so parent is black: make the sibling so
                link, near = self._link_to(parent, word), self._certain_child(sibling, side)
                store(parent + other, near)
                self._adopt(near, sibling, parent)
                store(sibling + side, parent)
                store(sibling + PARENT, word)
                store(link, sibling)
                word, sibling = sibling | RED, near
                store(parent + PARENT, word)
            far, near = self._child(sibling, other), self._child(sibling, side)
            if far and self._is_red(far, sibling):
                link = self._link_to(parent, word & ~RED)
                store(parent + other, near)
                if near:
                    self._set_parent(near, sibling, parent)
                store(far + PARENT, sibling)
                top = sibling
            elif near and self._is_red(near, sibling):
                link = self._link_to(parent, word & ~RED)
                inner, outer = self._child(near, side), self._child(near, other)
                store(parent + other, inner)
                if inner:
                    self._adopt(inner, near, parent)
                store(sibling + side, outer)
                if outer:
                    self._adopt(outer, near, sibling)
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
                side = self._link_to(parent, word) - word
                parent = word
                steps = self._count_step(steps, parent)
                continue
            store(top + side, parent)
            store(parent + PARENT, top)
            store(top + PARENT, word)
            store(link, top)
            return

    # ---- looking ----

    def entries(self) -> Iterator[Place]:
        """Yield the nodes in order; a place is the way down from the root and the colour, as in "LR red"."""
        pending: list[tuple[int, str, int]] = []
        node, way, parent = self._load(self._base), "", 0
        while node or pending:
            while node:
                pending.append((node, way, parent))
                if len(pending) > HIGHEST:
                    raise HeapCorruption(node + HEADER, Rule.BROKEN_INDEX)
                node, way, parent = self._load(node + LEFT), way + "L", node
            node, way, parent = pending.pop()
            yield node, f"{way or 'root'} {self._colour(self._load(node + PARENT))}", parent
            node, way, parent = self._load(node + RIGHT), way + "R", node

    @staticmethod
    def _colour(parent_word: int) -> str:
        return "red" if parent_word & RED else "black"

    def root_words(self) -> Iterator[Word]:
        yield self._child_word(self._base, "tree", self._load(self._base), 0)

    def links_of(self, block: int) -> Iterator[Word]:
        load = self._load
        yield self._child_word(block + LEFT, "left", load(block + LEFT), block)
        yield self._child_word(block + RIGHT, "right", load(block + RIGHT), block)
        word = load(block + PARENT)
        parent, link = self._parent_link(block, word & ~RED)
        yield Word(block + PARENT, 8, "parent", f"{link}, this node {self._colour(word)}", parent)

    def _child_word(self, at: int, name: str, child: int, parent: int) -> Word:
        if not child:
            return Word(at, 8, name, "none")
        return self._link_word(at, name, child, lambda to: self._load(to + PARENT) & ~RED == parent)

    def _parent_link(self, node: int, parent: int) -> tuple[int, str]:
        """Return where the parent's link of a node leads, and what it says."""
        load = self._load
        if not parent:
            is_root = load(self._base) == node
            return self._base, "none, the tree's root" + ("" if is_root else ", broken: another node is")
        word = self._link_word(0, "", parent, lambda to: node in (load(to + LEFT), load(to + RIGHT)))
        return word.to, word.text

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
