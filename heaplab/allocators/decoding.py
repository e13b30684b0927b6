"""Words put into words: what a heap's own bytes hold, as designs, parts and sources say it.

Whoever writes a word also decodes it: a part yields the words of its structure, a design the words of its
parts and its own.  What is broken is said in a word's text.  Where broken metadata leave no way on, the last
word says so (`telling`); nothing raises.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

from heaplab.allocators.base import Word
from heaplab.errors import HeapCorruption, OutOfFuel, Unreadable


class Window(NamedTuple):
    """The addresses that somebody asks about: from `start` on, below `end`.

    span: where a span of the walk starts that is not behind `start`; 0 when none is known.
    """

    start: int
    end: int
    span: int = 0

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
    window: Window,
    at: int,
    n: int,
    stride: int,
    tell: Callable[[int, int], list[Word]],
    rest: str,
) -> Iterator[Word]:
    """Yield the words of n things side by side, of `stride` bytes each from `at` on.

    tell: the words of thing i at an address, none when it is empty.  Empty ones that stand together are one
    word with the text `rest` and their number.
    """
    empty = 0
    for i in window.among(at, n, stride):
        address = at + stride * i
        if found := tell(i, address):
            if empty:
                yield Word(address - stride * empty, stride * empty, "empty", f"{rest}: {empty}")
                empty = 0
            yield from found
        else:
            empty += 1
            last = address + stride
    if empty:
        yield Word(last - stride * empty, stride * empty, "empty", f"{rest}: {empty}")


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
