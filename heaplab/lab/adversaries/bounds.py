"""How much memory an allocator may need at most, and must at least: the theorems, as functions.

A program never has more than `live` bytes live, and asks for blocks of `least` to `largest` bytes.  M and n
are these in units of the smallest block: M = live / least, n = largest / least.  Sizes are those of whole
blocks: header and padding belong to them.

J. M. Robson, An Estimate of the Store Size Necessary for Dynamic Storage Allocation, JACM 18 (1971) 416-423;
Bounds for Some Functions Concerning Dynamic Storage Allocation, JACM 21 (1974) 491-499; Worst Case
Fragmentation of First Fit and Best Fit Storage Allocation Strategies, The Computer Journal 20 (1977) 242-244.
"""

import math


def any_allocator(live: float, largest: float, least: float = 1) -> float:
    """Return the bytes that every allocator needs for some program: M(1 + log2(n)/2) - n + 1.

    Every allocator that moves no block.  The program's blocks are powers of two; the best possible allocator
    needs no more for any such program.

    >>> any_allocator(256 << 20, 1 << 20) / (256 << 20)
    10.996...
    """
    blocks, ratio = _scaled(live, largest, least)
    return (blocks * (1 + math.log2(ratio) / 2) - ratio + 1) * least


def first_fit(live: float, largest: float, least: float = 1) -> float:
    """Return the bytes that suffice for first fit by address: M(1 + ceil(log2 n)).

    The blocks are powers of two.

    >>> first_fit(1 << 20, 4096, 64) / (1 << 20)
    7.0
    """
    return _logarithmic(live, largest, least)


def half_fit(live: float, largest: float, least: float = 1) -> float:
    """Return the bytes that suffice for half fit, which rounds up to powers of two: 2M(1 + ceil(log2 n)).

    A binary buddy rounds up as half fit does, and merges less.
    """
    return 2 * _logarithmic(live, largest, least)


def best_fit(live: float, largest: float, least: float = 1) -> float:
    """Return the bytes that suffice for best fit, about: M(n - 2).  Some program comes near.

    Sizes are then any from 1 to n.

    >>> best_fit(1 << 20, 4096, 64) / (1 << 20)
    62.0
    """
    blocks, ratio = _scaled(live, largest, least)
    return blocks * (ratio - 2) * least


def _logarithmic(live: float, largest: float, least: float) -> float:
    blocks, ratio = _scaled(live, largest, least)
    return blocks * (1 + math.ceil(math.log2(ratio))) * least


def _scaled(live: float, largest: float, least: float) -> tuple[float, float]:
    if not 0 < least <= largest <= live:
        raise ValueError(f"live={live}, largest={largest}, least={least}: live >= largest >= least > 0")
    return live / least, largest / least
