"""TLSF, two-level segregated fit: a heap with boundary tags whose free blocks stand in bins.

    root -> +56  the bins (parts/twolevel.py)

    | header | next | prev |    ...    | footer |       a free block
    | header | payload                          |       an allocated block

Alignment       16 bytes
Overhead        8 bytes a block
Minimum block   32 bytes
malloc          12 to 24 mems, however many blocks are free; 20 more to grow the heap
free            11 to 32 mems: no list is searched
Metadata        headers, footers and links in the blocks; 681 words in the root
Source          Masmano, Ripoll, Crespo, Real, TLSF, ECRTS 2004

The twin is csrc/designs/tlsf.c.
"""

from heaplab.allocators.parts.tagged import TaggedDesign
from heaplab.allocators.parts.twolevel import TwoLevelBins
from heaplab.allocators.stated import stated


class Tlsf(TaggedDesign):
    """Two-level segregated fit."""

    NAME = "tlsf"
    MAGIC, TRAITS, SMALLEST, OPTIONS = stated("tlsf")
    INDEX = TwoLevelBins
