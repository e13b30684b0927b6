"""A bitmap: n bits in words of 64, the first bit the lowest of the first word.

    at -> +0  bits 0 to 63
          +8  bits 64 to 127      ...

The bits of the last word behind the n-th are 0.  A bitmap is known by its address and n; both are the
caller's to keep.  Cost: a load, or a store, for each word looked at or changed, and no more words than
needed.

The twin is csrc/parts/bitmap.h.
"""

from collections.abc import Iterator

from heaplab.allocators.base import Word
from heaplab.allocators.decoding import unused
from heaplab.allocators.parts.index import Memory

WORD = (1 << 64) - 1


def words(n: int) -> int:
    """Return how many words n bits take."""
    return (n + 63) // 64


def mask(n: int, w: int) -> int:
    """Return the bits of word w that a bitmap of n bits has.

    >>> hex(mask(68, 0)), hex(mask(68, 1))
    ('0xffffffffffffffff', '0xf')
    """
    return WORD if n >= 64 * w + 64 else (1 << (n - 64 * w)) - 1


def lowest(word: int) -> int:
    """Return the number of the lowest bit that is set; -1 of 0."""
    return (word & -word).bit_length() - 1


class Bitmaps:
    """Bitmaps in a memory.

    >>> from types import SimpleNamespace
    >>> words = {}
    >>> bitmaps = Bitmaps(SimpleNamespace(load64=words.__getitem__, store64=words.__setitem__))
    >>> bitmaps.fill(0, 100)
    >>> bitmaps.clear(0, 10, 80)
    >>> bitmaps.run(0, 100, 3, enough=64), bitmaps.find(0, 100, length=9), bitmaps.find(0, 100, length=11)
    ((3, 7), 0, -1)
    """

    def __init__(self, memory: Memory) -> None:
        self._load = memory.load64
        self._store = memory.store64

    def fill(self, at: int, n: int) -> None:
        """Set all n bits."""
        for w in range(words(n)):
            self._store(at + 8 * w, mask(n, w))

    def next_word(self, at: int, n: int, w: int) -> int:
        """Return the first word from w on that has a bit set; words(n) when none has."""
        while w < words(n) and not self._load(at + 8 * w):
            w += 1
        return w

    def is_full(self, at: int, n: int) -> bool:
        """Whether all n bits are set."""
        return all(self._load(at + 8 * w) == mask(n, w) for w in range(words(n)))

    def run(self, at: int, n: int, start: int, enough: int) -> tuple[int, int]:
        """Return the first run of bits that are set, from bit `start` on: where, and how many up to `enough`.

        (n, 0) when there is none.  More than `enough` are counted when they stand in one word.
        """
        first, length, i = n, 0, start % 64
        for w in range(start // 64, words(n)):
            bits = self._load(at + 8 * w) >> i
            if not length and bits:
                i += lowest(bits)
                bits >>= lowest(bits)
                first = 64 * w + i
            elif not length:
                i = 0
                continue
            ones = lowest(~bits)
            length += ones
            if i + ones < 64 or length >= enough:
                break
            i = 0
        return first, length

    def find(self, at: int, n: int, length: int) -> int:
        """Return the first place of `length` bits that are set, side by side; -1 when there is none."""
        start, found = self.run(at, n, 0, length)
        while found:
            if found >= length:
                return start
            start, found = self.run(at, n, start + found, length)
        return -1

    def words(self, at: int, n: int, room: int, what: str) -> Iterator[Word]:
        """Yield the words of a bitmap with room for `room` bits, decoded: how many of `what` are free."""
        for w in range(words(n)):
            bits, last = self._load(at + 8 * w), min(64 * w + 64, n) - 1
            more = "" if bits <= mask(n, w) else ", broken: bits are set behind the last"
            text = f"{what} {64 * w} to {last}, free: {bits.bit_count()}{more}"
            yield Word(at + 8 * w, 8, "bitmap", text)
        yield from unused(at + 8 * words(n), at + 8 * words(room))

    def set(self, at: int, start: int, length: int) -> None:
        """Set `length` bits from `start` on."""
        for w, bits in self._parts(start, length):
            self._store(at + 8 * w, self._load(at + 8 * w) | bits)

    def clear(self, at: int, start: int, length: int) -> None:
        """Clear `length` bits from `start` on."""
        for w, bits in self._parts(start, length):
            self._store(at + 8 * w, self._load(at + 8 * w) & ~bits)

    @staticmethod
    def _parts(start: int, length: int) -> list[tuple[int, int]]:
        """The words of a range of bits, and its bits in each."""
        end = start + length
        return [
            (w, mask(end, w) & ~(mask(start, w) if start > 64 * w else 0))
            for w in range(start // 64, words(end))
        ]
