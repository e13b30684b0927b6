"""Boundary tags: how a block says what it is.  Only this module knows the bits.

    block (8 mod 16)
    |       payload (a multiple of 16)
    |       |
    +-------+---------------------------------+-------+
    |header | payload of an allocated block           | header of the next
    +-------+---------------------------------+-------+
    |header | links of the index |   ...      |footer | header of the next
    +-------+---------------------------------+-------+
                                              size bytes from header to header

    header   63        48 47                     4  3    2    1    0
            |    seal    |       size / 16        | 0 |last|prev|alloc|

alloc: the block is allocated.  prev: the block before it is allocated, and so has no footer (Knuth, TAOCP
vol. 1, 2.5, exercise 19).  The footer of a free block is its size.  last: the block is free and the heap's
last one; it has no footer either, the root knows where it begins, so that what is cut off its front or
merged with it does not touch the far end of the heap.

The seal (seal.py) shows by itself whether a word is a header and stands at its own address: a change of any
one byte of it is always noticed.  When a block is swallowed by the free block before it, its header becomes a
*tombstone*: size 0, free, sealed.  So whatever header stands at the address of a block freed twice, it is
sealed and not allocated, until the memory is used again.

The twin is csrc/parts/tags.h.
"""

from typing import Final

from heaplab.allocators.parts.seal import TAG, Seal

HEADER: Final = 8
FOOTER: Final = 8

ALLOCATED: Final = 1
PREV_ALLOCATED: Final = 2
LAST: Final = 4

_SIZE: Final = TAG - 15


def header(seal: Seal, block: int, size: int, flags: int) -> int:
    """Return the header of the block of `size` bytes, a multiple of 16, at this address.

    >>> seal = Seal()
    >>> word = header(seal, 0x1008, 48, ALLOCATED)
    >>> size_of(word), is_allocated(word), prev_is_allocated(word)
    (48, True, False)
    >>> seal.holds(0x1008, word), seal.holds(0x1018, word), seal.holds(0x1008, word ^ 0x40)
    (True, False, False)
    """
    return seal(block, size | flags)


def size_of(word: int) -> int:
    """The bytes of the block with this header, header included; 0 is the epilogue, or a tombstone."""
    return word & _SIZE


def is_allocated(word: int) -> bool:
    """Whether the block with this header is allocated."""
    return word & ALLOCATED != 0


def prev_is_allocated(word: int) -> bool:
    """Whether the block before the one with this header is allocated."""
    return word & PREV_ALLOCATED != 0


def is_last(word: int) -> bool:
    """Whether the block with this header is free and the heap's last one."""
    return word & LAST != 0


def with_prev_allocated(seal: Seal, block: int, word: int) -> int:
    """Return the header `word` of `block` changed to say that the block before it is allocated."""
    return seal(block, word & TAG | PREV_ALLOCATED)


def with_prev_free(seal: Seal, block: int, word: int) -> int:
    """Return the header `word` of `block` changed to say that the block before it is free."""
    return seal(block, word & TAG & ~PREV_ALLOCATED)


def tombstone(seal: Seal, block: int) -> int:
    """Return what stands for the header of a block that the free block before it has swallowed."""
    return header(seal, block, 0, 0)


def describe(seal: Seal, block: int, word: int) -> str:
    """Return what the header of a block says, in words.

    >>> describe(Seal(), 0x1008, header(Seal(), 0x1008, 48, ALLOCATED | PREV_ALLOCATED))
    'size 0x30, allocated, previous allocated, seal ok'
    >>> describe(Seal(), 0x1008, header(Seal(), 0x1008, 48, PREV_ALLOCATED | LAST) ^ 0x100)
    'size 0x130, free, last of the heap, previous allocated, seal broken'
    """
    return ", ".join(
        [
            f"size {size_of(word):#x}",
            "allocated" if is_allocated(word) else "free",
            *(["last of the heap"] if is_last(word) else []),
            f"previous {'allocated' if prev_is_allocated(word) else 'free'}",
            seal.describe(block, word),
        ]
    )
