"""How blocks are placed: each heuristic returns an address for every block, with no overlap.

first fit, best fit: each block as it is born, into the lowest or the smallest gap (Knuth, TAOCP vol. 1, 2.5;
Johnstone and Wilson 1998).  The same "back": time runs backwards.

peak by birth, death, life: the blocks that are live at the peak lie without gaps, the oldest, the last to die
or the longest-lived at the bottom.  From there best fit goes forwards and backwards.  Ours; it cuts time at a
critical moment like Buchsbaum, Karloff, Kenyon, Reingold and Thorup (2003).

greedy by size, life, area: the largest first, each into the lowest gap that is free for its whole life
(Gergov 1999; Pisarchyk and Lee 2020, arXiv 2001.03288).

stack by size, life, area: the largest first, each on top of all that share time with it, as if there were no
gaps (Sekiyama, Imai, Negishi and Kawachiya 2018, arXiv 1804.10001, without their choice of the lowest place).

The first two know no more than an allocator does, and differ from one by having no headers.  The others know
the future.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from heaplab._core import ffi, lib
from heaplab.errors import HeaplabError
from heaplab.lab.offline.rectangles import Column, Rectangles

UNPLACED = np.uint64(lib.HL_UNPLACED)
#: the largest heap whose gaps are looked for in bitmaps: they take six times as much
_MOST_GREEDY = 64 << 20
#: the most words of bitmaps that blocks are looked for in, about: some ten seconds
_MOST_WORDS = 4 << 30
#: greedy heuristics look for gaps so much above the most live bytes of an address space
_ROOM = 1.25


@dataclass(frozen=True)
class Heuristic:
    """place: returns the address of every block, or None where it cannot place such rectangles."""

    name: str
    place: Callable[[Rectangles], Column | None]


@dataclass(frozen=True, eq=False)
class _Stays:
    """What the C functions are given: blocks with addresses, or UNPLACED, and their stays."""

    size: Column
    align: Column
    stays: Column
    start: Column
    until: Column
    ticks: int
    address: Column

    @classmethod
    def of(cls, rectangles: Rectangles) -> "_Stays":
        whole = rectangles
        address = np.full(len(whole), UNPLACED, np.uint64)
        return cls(whole.size, whole.align, whole.stays, whole.start, whole.until, whole.ticks, address)

    def call(self, function: Callable[..., int], *more: Any) -> int:
        """Call a function of csrc/packing; the addresses are written into `address`."""
        raw = ffi.new("hl_packing *")
        raw.blocks, raw.ticks = len(self.size), self.ticks
        columns = {"size": self.size, "align": self.align, "stays": self.stays, "address": self.address}
        columns = {name: _whole(column, np.uint64) for name, column in columns.items()}
        short = {"from": _whole(self.start, np.uint32), "until": _whole(self.until, np.uint32)}
        blocks, stays = len(self.size), len(self.start)
        if {len(self.align), len(self.address), len(self.stays) - 1} != {blocks} or len(self.until) != stays:
            raise ValueError("columns of different lengths")
        if int(columns["stays"][-1]) != stays or np.any(columns["stays"][1:] < columns["stays"][:-1]):
            raise ValueError("stays that belong to no block")
        if np.any(short["from"] >= short["until"]) or int(short["until"].max(initial=0)) > self.ticks:
            raise ValueError("stays that lie outside of time")
        for name, column in columns.items():
            setattr(raw, name, ffi.cast("uint64_t *", column.ctypes.data))
        for name, column in short.items():
            setattr(raw, name, ffi.cast("uint32_t *", column.ctypes.data))
        why = int(function(raw, *more))
        if why == lib.HL_PACK_NO_MEMORY:
            raise MemoryError
        if columns["address"] is not self.address:
            self.address[:] = columns["address"]
        return why

    def in_order(self, function: Callable[..., int], order: Column, *more: Any) -> int:
        """Call a function that goes through the blocks in `order`, a permutation of them."""
        kept = _whole(order, np.uint64)
        if not np.array_equal(np.sort(kept), np.arange(len(self.size))):
            raise ValueError("an order that is no permutation")
        return self.call(function, ffi.cast("uint64_t *", kept.ctypes.data), *more)


def _whole(column: Column, dtype: Any) -> Column:
    return np.ascontiguousarray(column, dtype)


def tops(rectangles: Rectangles, address: Column) -> Column:
    """Return the end of the highest block at each tick; 0 without one."""
    found = np.zeros(rectangles.ticks, np.uint64)
    stays = _Stays.of(rectangles)
    stays.address[:] = address
    stays.call(lib.hl_pack_tops, ffi.cast("uint64_t *", found.ctypes.data))
    return found


def height(rectangles: Rectangles, address: Column) -> int:
    """Return the most bytes that a placement needs at once.

    At any moment each heap ends at its highest live block, and the heaps of all processes count together.
    With one process this is the highest address ever used.
    """
    ends = tops(rectangles, address).astype(np.int64)
    change = np.diff(ends, prepend=0)
    first = rectangles.spaces[:-1]
    change[first] = ends[first]
    total = np.zeros(rectangles.events + 1, np.int64)
    np.add.at(total, rectangles.moment, change)
    return int(np.cumsum(total).max(initial=0))


def _sweep(rectangles: Rectangles, *, fit: int) -> Column:
    stays = _Stays.of(rectangles)
    _demand_apart(stays.in_order(lib.hl_pack_sweep, np.arange(len(rectangles)), fit))
    return stays.address


def _demand_apart(why: int) -> None:
    if why != lib.HL_PACK_DONE:
        raise HeaplabError("blocks that were placed apart overlap")


def _backwards(rectangles: Rectangles, *, fit: int) -> Column | None:
    """Sweep with time running backwards.

    None where fork copies blocks: their copies would be met one after the other, in several heaps.
    """
    if len(rectangles.start) != len(rectangles):
        return None
    whole = _Stays.of(rectangles)
    end = rectangles.ticks
    stays = _Stays(
        whole.size,
        whole.align,
        whole.stays,
        end - whole.until.astype(np.int64),
        end - whole.start.astype(np.int64),
        end,
        whole.address,
    )
    _demand_apart(stays.in_order(lib.hl_pack_sweep, np.arange(len(rectangles)), fit))
    return stays.address


_KEYS: dict[str, Callable[[Rectangles], Column]] = {
    "size": lambda them: -them.size.astype(np.int64),
    "life": lambda them: -_lives(them),
    "area": lambda them: -_lives(them).astype(np.float64) * them.size,
}


def _lives(rectangles: Rectangles) -> Column:
    """The ticks of each block, in all its stays."""
    found = np.zeros(len(rectangles), np.int64)
    np.add.at(found, rectangles.owner, rectangles.until.astype(np.int64) - rectangles.start)
    return found


def _load(rectangles: Rectangles) -> Column:
    """The live bytes of the one address space that is there at each tick."""
    change = np.zeros(rectangles.ticks + 1, np.int64)
    size = rectangles.size.astype(np.int64)[rectangles.owner]
    np.add.at(change, rectangles.start.astype(np.int64), size)
    np.subtract.at(change, rectangles.until.astype(np.int64), size)
    return np.cumsum(change)


def _order(rectangles: Rectangles, key: str) -> Column:
    return np.argsort(_KEYS[key](rectangles), kind="stable")


def _greedy(rectangles: Rectangles, *, key: str) -> Column | None:
    """None where the bitmaps, or the work on them, would be too large."""
    limit = int(_load(rectangles).max() * _ROOM) + int(rectangles.align.max(initial=0)) + 65536
    if limit > _MOST_GREEDY or len(rectangles.start) * (limit // 1024) > _MOST_WORDS:
        return None
    stays = _Stays.of(rectangles)
    why = stays.in_order(lib.hl_pack_greedy, _order(rectangles, key), limit)
    return stays.address if why == lib.HL_PACK_DONE else None


def _stack(rectangles: Rectangles, *, key: str) -> Column:
    stays = _Stays.of(rectangles)
    stays.in_order(lib.hl_pack_stack, _order(rectangles, key))
    return stays.address


def _from_peak(rectangles: Rectangles, *, key: str) -> Column | None:
    """Place what is live at the peak of the largest address space without gaps, then all else around it.

    Before the peak time runs backwards, so in both directions the piled blocks only go away.
    None where the address space has inherited blocks: these were placed before.
    """
    them, owner = rectangles, rectangles.owner
    start, until = them.start.astype(np.int64), them.until.astype(np.int64)
    peak = int(_load(them).argmax())
    space = int(np.searchsorted(them.spaces, peak, side="right")) - 1
    low, high = int(them.spaces[space]), int(them.spaces[space + 1])
    here = np.flatnonzero((start >= low) & (until <= high))
    if np.any(here != them.stays[:-1][owner[here]].astype(np.int64)):  # it is not the block's first
        return None
    at_peak = here[(start[here] <= peak) & (until[here] > peak)]
    keys = {"birth": start, "death": -them.death[owner], "life": start - until}
    align = them.align[owner[at_peak]].astype(np.int64)
    at_peak = at_peak[np.lexsort((keys[key][at_peak], -align))]  # the most aligned first, with few gaps
    address = np.full(len(them), UNPLACED, np.uint64)
    _pile(owner[at_peak], them, address)
    after = here[until[here] > peak]
    before = here[start[here] <= peak]
    others = np.flatnonzero((start < low) | (start >= high))
    for chosen, begins, ends in (
        (after, np.maximum(start[after], peak), until[after]),
        (before, them.ticks - np.minimum(until[before], peak + 1), them.ticks - start[before]),
        (others, start[others], until[others]),
    ):
        blocks, number = np.unique(owner[chosen], return_inverse=True)
        counts = np.bincount(number, minlength=len(blocks))
        part = _Stays(
            them.size[blocks],
            them.align[blocks],
            np.concatenate(([0], np.cumsum(counts))),
            begins,
            ends,
            them.ticks,
            address[blocks],
        )
        _demand_apart(part.in_order(lib.hl_pack_sweep, np.arange(len(blocks)), lib.HL_BEST_FIT))
        address[blocks] = part.address
    return address


def _pile(blocks: Column, rectangles: Rectangles, address: Column) -> None:
    """Place blocks one above the other; those that are aligned to more than a granule come first."""
    size, align = rectangles.size[blocks].astype(np.int64), rectangles.align[blocks]
    strict, top = int(np.count_nonzero(align > lib.HL_GRANULE)), 0
    for at in range(strict):
        top += -top % int(align[at])
        address[blocks[at]] = top
        top += int(size[at])
    ends = top + np.cumsum(size[strict:])
    address[blocks[strict:]] = ends - size[strict:]


_EVERY = [
    Heuristic("best fit", partial(_sweep, fit=int(lib.HL_BEST_FIT))),
    Heuristic("first fit", partial(_sweep, fit=int(lib.HL_FIRST_FIT))),
    *(Heuristic(f"peak by {key}", partial(_from_peak, key=key)) for key in ("birth", "death", "life")),
    Heuristic("best fit back", partial(_backwards, fit=int(lib.HL_BEST_FIT))),
    Heuristic("first fit back", partial(_backwards, fit=int(lib.HL_FIRST_FIT))),
    *(Heuristic(f"greedy by {key}", partial(_greedy, key=key)) for key in _KEYS),
    *(Heuristic(f"stack by {key}", partial(_stack, key=key)) for key in _KEYS),
]

HEURISTICS = {heuristic.name: heuristic for heuristic in _EVERY}
"""By name, the quick ones that do well first."""
