"""A radix tree over words: which numbers are in use, like the page tables of a processor.

    number   | index | index | ... |     `bits` bits an index, the highest level first
    node     | word | word | ... |       2^bits of them: the node below, on the lowest level the value; or 0

A lookup loads a word a level and follows nothing but nodes: any number can be asked for.  No other
thread sees a tree that is half made: a node is zero when it is hung in.

The twin is csrc/parts/radix.h.
"""

from collections.abc import Callable, Iterator

from heaplab.allocators.base import Word
from heaplab.allocators.decoding import Window, filled_words, table
from heaplab.allocators.parts.index import Memory


class RadixTree:
    """A map from numbers of `number` bits to words that are not 0.

    top: the address of the highest node, 2^bits words that are zero in an empty map.
    """

    def __init__(self, memory: Memory, top: int, bits: int, number: int) -> None:
        self._load = memory.load64
        self._store = memory.store64
        self._top = top
        self._number = number
        self._mask = (1 << bits) - 1
        #: by how many bits the indices are shifted, but for the lowest one's
        self._shifts = range((number - 1) // bits * bits, 0, -bits)

    def get(self, number: int) -> int:
        """Return the value of a number; 0: it is not in use.  A mem a level."""
        if number >> self._number:
            return 0
        node = self._top
        for shift in self._shifts:
            node = self._load(node + 8 * (number >> shift & self._mask))
            if not node:
                return 0
        return self._load(node + 8 * (number & self._mask))

    def set(self, number: int, value: int, new_node: Callable[[], int]) -> bool:
        """Set the value of a number, with nodes from `new_node`, which are zero; False when it gives none.

        To set 0 takes no node where the number was in use.
        """
        node = self._top
        for shift in self._shifts:
            word = node + 8 * (number >> shift & self._mask)
            node = self._load(word)
            if not node:
                node = new_node()
                if not node:
                    return False
                self._store(word, node)
        self._store(node + 8 * (number & self._mask), value)
        return True

    def numbers(self, window: Window) -> Iterator[int]:
        """Yield the numbers in use, in order.  Reads each node as the window reads."""
        return self._numbers_below(window, self._top, 0, list(self._shifts))

    def _numbers_below(self, window: Window, node: int, number: int, shifts: list[int]) -> Iterator[int]:
        bits = self._mask.bit_length()
        for i, word in filled_words(window, node, range(self._mask + 1)):
            if shifts:
                yield from self._numbers_below(window, word, number << bits | i, shifts[1:])
            else:
                yield number << bits | i

    def words(self, window: Window, node: int, name_of: Callable[[int], str]) -> Iterator[Word]:
        """Yield the words of a node, decoded; name_of: what a word that is not 0 leads to."""

        def tell(_: int, at: int, word: int) -> Word:
            return Word(at, 8, name_of(word), f"{word:#x}", word)

        return table(window, node, self._mask + 1, tell, "words without a number in use")
