"""A fragmenter for size classes: one block of each class stays in each span of memory."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from heaplab.errors import UsageError
from heaplab.lab.adversaries.opponent import Blocks, Opponent


@dataclass(frozen=True)
class Fragmenter:
    """Fills one class, frees all but one block in each span, and goes on to the next; all in bytes.

    An allocator that gives each span to one class cannot use for the next class what was freed: its heap
    comes to nearly M times the number of classes.  A heap that coalesces uses the holes again, as long as a
    hole in a span has room for the next class.
    live: M, of payload.  sizes: one request of each class, in this order.  span: what an allocator gives to a
    class at once; where it is larger than that, too many blocks are kept.

    >>> from heaplab.lab import adversary
    >>> program = Fragmenter(live=1 << 20)
    >>> adversary(program, "slab").ratio > 7, adversary(program, "freelist").ratio < 3
    (True, True)
    """

    live: int = 1 << 20
    sizes: tuple[int, ...] = tuple(range(16, 129, 16))
    span: int = 4096
    name: ClassVar[str] = "fragmenter"

    def __post_init__(self) -> None:
        if not self.sizes or min(self.sizes) < 1 or self.span < 1 or self.live < max(self.sizes):
            raise UsageError("the fragmenter: give sizes of 1 byte or more, and live as large as any of them")

    def __call__(self, opponent: Opponent) -> None:
        """Drive an allocator."""
        kept = 0
        for size in self.sizes:
            blocks: Blocks = opponent.malloc_many(np.full(max(self.live - kept, 0) // size, size))
            _, first = np.unique(blocks.address // self.span, return_index=True)
            stays = np.zeros(len(blocks), np.bool_)
            stays[first] = True
            opponent.free_many(blocks[~stays])
            kept += size * len(first)
