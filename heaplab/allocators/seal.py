"""Sealed headers: eight bytes that say whether they are what was once written at this address.

    63          48 47                                  0
    +-------------+------------------------------------+
    |    seal     |  tag: whatever the design keeps    |
    +-------------+------------------------------------+

The seal is the top of (address ^ tag) * FACTOR: multiplicative hashing (Knuth, TAOCP vol. 3, 6.4) with 2^64
over the golden ratio, an odd number.  A change of any one byte is always noticed, in the address, the tag or
the seal; of other changes, and of data that was never a header, one in 65,536 gets through.  No load or
store is added to those of the header itself.

The twin is csrc/heap/seal.h.
"""

FACTOR = 0x9E3779B97F4A7C15
TAG = (1 << 48) - 1
_SEAL = 0xFFFF << 48


def seal(address: int, tag: int) -> int:
    """Return the header that carries `tag` (48 bits) for the block at `address`.  O(1), no mems.

    >>> hex(seal(0x10020, 5))
    '0x57be000000000005'
    """
    return tag | ((address ^ tag) * FACTOR & _SEAL)


def is_sealed(address: int, header: int) -> bool:
    """Return whether `header` was made by `seal` for this address.

    >>> is_sealed(0x10020, seal(0x10020, 5)), is_sealed(0x10040, seal(0x10020, 5))
    (True, False)
    """
    return header == seal(address, header & TAG)
