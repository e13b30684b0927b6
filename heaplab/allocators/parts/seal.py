"""Sealed headers: eight bytes that say whether they are what was once written at this address.

    63          48 47                                  0
    +-------------+------------------------------------+
    |    seal     |  tag: whatever the design keeps    |
    +-------------+------------------------------------+

The seal is the top of (address ^ tag ^ key) * factor.

    seal=public  key and factor are 2^64 over the golden ratio: multiplicative hashing (Knuth, TAOCP vol. 3,
    6.4)
    seal=keyed   key and factor are secrets of the process: who does not know them cannot make a header up
    seal=off     factor 0: every seal is 0

The key has bits above the 48 of address and tag, so that no tag undoes the address.

With seal=public a change of any one byte is always noticed, in the address, the tag or the seal; of other
changes, and of data that was never a header, one in 65,536 gets through.  With seal=keyed one in 65,536 of
all changes gets through.  With seal=off only data whose top 16 bits are not zero are noticed.  No load or
store is added to those of the header itself.

The twin is csrc/parts/seal.h.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Final, Self

from heaplab._core import lib

if TYPE_CHECKING:
    from heaplab.process import Process

FACTOR: Final = int(lib.SEAL_FACTOR)
TAG: Final = (1 << 48) - 1
_SEAL: Final = 0xFFFF << 48
_WORD: Final = (1 << 64) - 1


class Seal:
    """Makes headers for one heap, and knows them.  O(1), no mems.

    >>> seal = Seal()
    >>> hex(seal(0x10020, 5))
    '0x8d7000000000005'
    >>> seal.holds(0x10020, seal(0x10020, 5)), seal.holds(0x10040, seal(0x10020, 5))
    (True, False)
    """

    __slots__ = ("_factor", "_key")

    def __init__(self, factor: int = FACTOR, key: int = FACTOR) -> None:
        self._factor = factor
        self._key = key

    @classmethod
    def of(cls, options: Mapping[str, int], process: "Process") -> Self:
        """Return the seal that the option `seal` of a spec means."""
        kind = options.get("seal", lib.HEAP_SEAL_PUBLIC)
        if kind == lib.HEAP_SEAL_OFF:
            return cls(0)
        if kind == lib.HEAP_SEAL_PUBLIC:
            return cls()
        secret = process.secret
        return cls(secret | 1, secret * FACTOR & _WORD)

    def __call__(self, address: int, tag: int) -> int:
        """Return the header that carries `tag` (48 bits) for the block at `address`."""
        return tag | ((address ^ tag ^ self._key) * self._factor & _SEAL)

    def mix(self, word: int) -> int:
        """Return the word scattered over 64 bits; distinct words stay distinct, unless seals are off.

        >>> Seal().mix(1) != Seal().mix(2), Seal(0).mix(1)
        (True, 0)
        """
        return (word ^ self._key) * self._factor & _WORD

    def holds(self, address: int, header: int) -> bool:
        """Return whether `header` was made by this seal for this address."""
        return header == self(address, header & TAG)

    def describe(self, address: int, header: int) -> str:
        """Return what the seal of a header says, in words.

        >>> seal = Seal()
        >>> seal.describe(0x10020, seal(0x10020, 5)), seal.describe(0x10020, 5), Seal(0).describe(0x10020, 5)
        ('seal ok', 'seal broken', 'no seal')
        """
        if not self.holds(address, header):
            return "seal broken"
        return "seal ok" if self._factor else "no seal"
