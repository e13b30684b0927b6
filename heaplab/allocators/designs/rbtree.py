"""Best fit by a red-black tree: a heap with boundary tags whose free blocks are the nodes of a tree.

    root -> +56  the tree's root (parts/rbtree.py)

    | header | left | right | parent, colour | ... | footer |       a free block
    | header | payload                                      |       an allocated block

Alignment       16 bytes
Overhead        8 bytes a block
Minimum block   48 bytes
malloc          2 mems a level to search, then 9 to 13 to split, or 6 to about 20 to take a block whole
free            2 mems a level to insert, about 9 for links and colours, 6 for the tags; a merge 3 to 20
Metadata        headers, footers, links and colours in the blocks; 3 words in the root
Cost            O(log n), n free blocks
Source          Cormen et al., Introduction to Algorithms, 13; Guibas and Sedgewick (1978)

The twin is csrc/designs/rbtree.c.
"""

from heaplab.allocators.families.tagged import TaggedDesign
from heaplab.allocators.parts.rbtree import RedBlackTree
from heaplab.allocators.stated import stated


class RBTree(TaggedDesign):
    """Best fit by a red-black tree of the free blocks."""

    NAME = "rbtree"
    MAGIC, TRAITS, SMALLEST, OPTIONS = stated("rbtree")
    STRUCTURE = "a red-black tree of the free blocks, by size, then address"
    INDEX = RedBlackTree
