"""Free lists: a heap with boundary tags whose free blocks stand in a list.

    root -> +56  the list (parts/list.py)

    | header | next | prev |    ...    | footer |       a free block
    | header | payload                          |       an allocated block

Alignment       16 bytes
Overhead        8 bytes a block
Minimum block   32 bytes
malloc          2 mems for each block looked at, then 11 to split one, or 9 to take it whole; next fit 2 more
free            12 mems alone, 17 to 26 merged; with order=address alone 1 more for each block before it
Metadata        headers, footers and links in the blocks; 5 words in the root
Source          Knuth, TAOCP vol. 1, 2.5; Wilson et al., Dynamic Storage Allocation (1995), 3.5 to 3.7

The twin is csrc/designs/freelist.c.
"""

from heaplab.allocators.families.tagged import TaggedDesign
from heaplab.allocators.parts.list import FreeBlockList
from heaplab.allocators.stated import stated


class FreeList(TaggedDesign):
    """Free lists, of every fit and order."""

    NAME = "freelist"
    MAGIC, TRAITS, SMALLEST, OPTIONS = stated("freelist")
    STRUCTURE = "a doubly linked list of the free blocks"
    INDEX = FreeBlockList
