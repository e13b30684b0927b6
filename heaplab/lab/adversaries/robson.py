"""Robson's program: on every allocator that moves no block it makes the heap M(1 + log2(n)/2) - n + 1 large.

It fills M with the smallest blocks.  Phase i then looks at the addresses modulo 2^i: of the two residues
that continue the last phase's it takes the one whose blocks stand most in the way, keeps the blocks that hold
a byte of that residue, and frees all others.  No two that it keeps have room between them for a block of size
2^i, so what was freed is asked for again in blocks of 2^i, and all of it lies elsewhere.

J. M. Robson, Bounds for Some Functions Concerning Dynamic Storage Allocation, JACM 21 (1974) 491-499; as an
algorithm in N. Cohen and E. Petrank, Limitations of Partial Compaction: Towards Practical Bounds, PLDI 2013.
"""

from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import numpy as np

from heaplab.errors import UsageError
from heaplab.lab.adversaries import bounds
from heaplab.lab.adversaries.opponent import Blocks, Mask, Opponent


def holding(blocks: Blocks, residue: int, step: int) -> Mask:
    """Return which blocks hold a byte whose address is `residue` modulo `step`."""
    return (residue - blocks.address) % step < blocks.size


def in_the_way(blocks: Blocks, residue: int, step: int) -> int:
    """Return how much room these blocks keep from blocks of `step` bytes, beyond their own."""
    return int((step - blocks.size[holding(blocks, residue, step)]).sum())


@dataclass(frozen=True)
class Robson:
    """Robson's program; all in bytes.

    live: M, at most so much is live, headers included.  largest: n, the largest block.  least: the smallest.
    Both are powers of two times each other.
    header: of each block, before its payload: so that a block, header included, is a power of two.

    >>> from heaplab.lab import adversary
    >>> program = Robson(live=1 << 18, largest=1 << 11, least=64)
    >>> duel = adversary(program, "freelist:fit=first:order=address")
    >>> round(program.bound / program.live, 2), duel.peak_heap > program.bound
    (3.49, True)
    """

    live: int = 1 << 20
    largest: int = 4096
    least: int = 64
    header: int = 8
    name: ClassVar[str] = "robson"

    def __post_init__(self) -> None:
        for size in (self.largest, self.least):
            if size <= 0 or size & (size - 1):
                raise UsageError(f"Robson's program: {size} bytes is no power of two")
        if not self.header < self.least <= self.largest <= self.live:
            raise UsageError("Robson's program: header < least <= largest <= live does not hold")

    @property
    def bound(self) -> float:
        """Bytes of heap that every allocator needs for it, if it does not give memory back meanwhile."""
        return bounds.any_allocator(self.live, self.largest, self.least)

    def __call__(self, opponent: Opponent) -> None:
        """Drive an allocator."""
        blocks = self._ask(opponent, self.least, self.live // self.least)
        starts, counts = np.unique((blocks.address - self.header) % self.least, return_counts=True)
        residue = int(starts[counts.argmax()])
        size = self.least
        while size < self.largest:
            size *= 2
            whole = self._whole(blocks)
            residue = max((residue, residue + size // 2), key=partial(in_the_way, whole, step=size))
            kept = holding(whole, residue, size)
            opponent.free_many(blocks[~kept])
            blocks = blocks[kept]
            room = self.live - int(blocks.size.sum()) - self.header * len(blocks)
            blocks = Blocks.join([blocks, self._ask(opponent, size, room // size)])

    def _ask(self, opponent: Opponent, size: int, count: int) -> Blocks:
        return opponent.malloc_many(np.full(count, size - self.header))

    def _whole(self, blocks: Blocks) -> Blocks:
        """The same with their headers."""
        return Blocks(blocks.address - self.header, blocks.size + self.header, blocks.slot, blocks.serial)
