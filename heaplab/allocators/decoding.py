"""Words put into words: what a heap's own bytes hold, as designs, parts and sources say it.

Whoever writes a word also decodes it: a part yields the words of its structure, a design the words of its
parts and its own.  What is broken is said in a word's text.  Where broken metadata leave no way on, the last
word says so (`telling`); nothing raises.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

import numpy as np

from heaplab.allocators.base import Word
from heaplab.errors import HeapCorruption, OutOfFuel, Unreadable


def _nothing(va: int, n: int) -> bytes:
    raise Unreadable(va)


class Window(NamedTuple):
    """The addresses that somebody asks about: from `start` on, below `end`.

    span: where a span of the walk starts that is not behind `start`; 0 when none is known.
    read: n bytes from an address on, of the heap's memory.
    """

    start: int
    end: int
    span: int = 0
    read: Callable[[int, int], bytes] = _nothing

    def meets(self, at: int, n_bytes: int) -> bool:
        """Return whether one of the n bytes at `at` is in the window."""
        return at < self.end and at + n_bytes > self.start

    def among(self, at: int, n: int, stride: int) -> range:
        """Return which of n things side by side, of `stride` bytes each from `at` on, are in the window.

        >>> Window(0x1010, 0x1028).among(0x1000, 100, 8)
        range(2, 5)
        """
        first = max(0, (self.start - at) // stride)
        return range(first, max(first, min(n, -((at - self.end) // stride))))

    def of(self, words: Iterable[Word]) -> Iterator[Word]:
        """Yield those of the words that are in the window."""
        return (word for word in words if self.meets(word.address, word.size))


def telling(words: Iterator[Word], window: Window) -> Iterator[Word]:
    """Yield the words; where they break off in an error, one more word that says why."""
    at = window.start
    try:
        for word in words:
            yield word
            at = max(at, word.address + word.size)
    except (HeapCorruption, Unreadable, OutOfFuel) as error:
        yield Word(min(at, window.end - 1), 8, "broken", f"from here on nothing can be told: {error}")


def lost(window: Window, header: int) -> Word:
    """Return the word of a window that no block can be found in: the header there, before it, is broken."""
    return Word(window.start, 8, "broken", f"no block can be found: the header at {header:#x} is broken")


def sparse(
    window: Window, at: int, n: int, stride: int, tell: Callable[[int, int], list[Word]], rest: str
) -> Iterator[Word]:
    """Yield the words of n things side by side, of `stride` bytes each from `at` on.

    tell: the words of thing i at an address, none when it is empty.  Empty ones that stand together are one
    word with the text `rest` and their number.
    """
    inside = window.among(at, n, stride)
    filled = ((i, found) for i in inside if (found := tell(i, at + stride * i)))
    return _with_gaps(inside, at, stride, filled, rest)


def table(
    window: Window, at: int, n: int, tell: Callable[[int, int, int], Word], rest: str
) -> Iterator[Word]:
    """Yield n words side by side from `at` on, as `sparse`; words that are 0 are empty.

    tell: word i at an address, with its value, decoded.
    """
    inside = window.among(at, n, 8)
    filled = ((i, [tell(i, at + 8 * i, value)]) for i, value in filled_words(window, at, inside))
    return _with_gaps(inside, at, 8, filled, rest)


def filled_words(window: Window, at: int, places: range) -> Iterator[tuple[int, int]]:
    """Yield which of the words at these places from `at` on are not 0, and their values: read all at once."""
    values = np.frombuffer(window.read(at + 8 * places.start, 8 * len(places)), "<u8")
    for i in np.flatnonzero(values).tolist():
        yield places.start + i, int(values[i])


def _with_gaps(
    inside: range, at: int, stride: int, filled: Iterable[tuple[int, list[Word]]], rest: str
) -> Iterator[Word]:
    first = inside.start
    for i, words in filled:
        yield from unused(at + stride * first, at + stride * i, f"{rest}: {i - first}")
        yield from words
        first = i + 1
    yield from unused(at + stride * first, at + stride * inside.stop, f"{rest}: {inside.stop - first}")


def unused(at: int, end: int, text: str = "not in use") -> Iterator[Word]:
    """Yield the word of the bytes from `at` on, below `end`, that nobody uses, if there are any."""
    if at < end:
        yield Word(at, end - at, "unused", text)


def leads(to: int) -> str:
    """Return a link in words.

    >>> leads(0x5008), leads(0)
    ('0x5008', 'none')
    """
    return f"{to:#x}" if to else "none"
