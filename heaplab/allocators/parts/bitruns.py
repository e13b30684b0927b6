"""Runs of ones in a word: 64 things, a bit each, and n of them side by side.

No reference to memory: the word has been loaded.  The twin is csrc/parts/bitruns.h.
"""

from typing import Final

WORD: Final = (1 << 64) - 1


def mask(at: int, n: int) -> int:
    """Return n ones from bit `at` on; n is 1 to 64.

    >>> bin(mask(2, 3))
    '0b11100'
    """
    return ((1 << n) - 1) << at & WORD


def starts(bits: int, n: int, step: int = 1) -> int:
    """Return the bits where n ones in a row begin, at multiples of `step`, a power of two up to 32.

    In log n steps: where 2k ones begin, k begin, and k more k places on.

    >>> bin(starts(0b110111, 2)), bin(starts(0b110111, 2, 4))
    ('0b10011', '0b10001')
    """
    have = 1
    while have < n:
        by = min(n - have, have)
        bits &= bits >> by
        have += by
    return bits & WORD // ((1 << step) - 1)


def lowest(bits: int) -> int:
    """Return the place of the lowest one; there is one.

    >>> lowest(0b1000)
    3
    """
    return (bits & -bits).bit_length() - 1


def length(bits: int) -> int:
    """Return how many ones stand in a row from the lowest one on; `bits` is not 0.

    >>> length(0b1011100)
    3
    """
    bits >>= lowest(bits)
    return (~bits & (bits + 1)).bit_length() - 1


def names(bits: int) -> str:
    """Return the places of the ones in words.

    >>> names(0b1011), names(0)
    ('0 to 1, 3', 'none')
    """
    runs = []
    while bits:
        first, n = lowest(bits), length(bits)
        runs.append(str(first) if n == 1 else f"{first} to {first + n - 1}")
        bits &= ~mask(first, n)
    return ", ".join(runs) or "none"
