"""Worst fit by a binary heap: a heap with boundary tags whose free blocks stand in a max-heap of sizes.

    root -> +56  the binary heap (parts/binheap.py)

    array   | block | block | block | ...              in a mapping of its own

    | header | slot |       ...       | footer |       a free block
    | header | payload                         |       an allocated block

Alignment       16 bytes
Overhead        8 bytes a block; for the array 1/8 to 1/4 of the heap's size in addresses, few of them touched
Minimum block   32 bytes
malloc          4 mems to find, then 3 for the tags, and up to 6 a level to sift down; O(log n)
free            6 for the tags, and 2 to 4 a level to sift up, on average about one level; O(log n)
Metadata        headers, footers and slot numbers in the blocks; the array; 5 words in the root
Source          Williams (1964), CACM 7, 347; Knuth, TAOCP vol. 3, 5.2.3

The twin is csrc/designs/binheap.c.
"""

from heaplab.allocators.families.tagged import TaggedDesign
from heaplab.allocators.parts.binheap import BinaryHeap
from heaplab.allocators.stated import stated


class BinHeap(TaggedDesign):
    """Worst fit: the largest free block serves each request."""

    NAME = "binheap"
    MAGIC, TRAITS, SMALLEST, OPTIONS = stated("binheap")
    STRUCTURE = "a binary heap of the free blocks, the largest on top"
    INDEX = BinaryHeap
