"""A buddy killer: blocks that a binary buddy rounds up most, and of each pair of buddies one that stays."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from heaplab.errors import UsageError
from heaplab.lab.adversaries.opponent import Blocks, Mask, Opponent


def smallest_in_each(blocks: Blocks, size: int) -> Mask:
    """Return which blocks are the smallest of those that begin in one aligned `size` bytes."""
    place = blocks.address // size
    order = np.lexsort((blocks.size, place))
    kept = np.zeros(len(blocks), np.bool_)
    kept[order[np.diff(place[order], prepend=-1) != 0]] = True
    return kept


@dataclass(frozen=True)
class BuddyKiller:
    """Makes a binary buddy's heap nearly 2M(1 + log2(n)/2) large; all in bytes.

    A request of 2^k / 2 + 1 bytes, header included, takes 2^k.  Each phase keeps the smallest block in each
    aligned 2^k, so that its buddy can never grow to 2^k, frees all others, and asks for blocks of 2^k.
    live: M, of payload.  largest: n, the largest block as the buddy rounds it; least: the smallest.
    header: of each block, before its payload.

    >>> from heaplab.lab import adversary
    >>> adversary(BuddyKiller(live=1 << 18, largest=1 << 12, least=256), "buddy").ratio > 6
    True
    """

    live: int = 1 << 20
    largest: int = 4096
    least: int = 256
    header: int = 8
    name: ClassVar[str] = "buddy-killer"

    def __post_init__(self) -> None:
        for size in (self.largest, self.least):
            if size <= 0 or size & (size - 1):
                raise UsageError(f"the buddy killer: {size} bytes is no power of two")
        if not 2 * self.header < self.least <= self.largest <= self.live:
            raise UsageError("the buddy killer: 2 header < least <= largest <= live does not hold")

    def __call__(self, opponent: Opponent) -> None:
        """Drive an allocator."""
        size, blocks = self.least, Blocks.of([])
        while size <= self.largest:
            if len(blocks):
                kept = smallest_in_each(blocks, size)
                opponent.free_many(blocks[~kept])
                blocks = blocks[kept]
            request = size // 2 + 1 - self.header
            count = (self.live - int(blocks.size.sum())) // request
            blocks = Blocks.join([blocks, opponent.malloc_many(np.full(count, request))])
            size *= 2
