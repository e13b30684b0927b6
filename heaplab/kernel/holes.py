"""The free ranges of an address space, found by size: segregated fit over holes.

A hole is known by its top: the address of the VMA that ends it.  Holes are kept in classes by the bit
length of their size.  Any hole of a larger class than the request's fits; only the request's own class has
to be searched.  (Linux finds the same hole in a tree whose nodes know the largest hole below them.)
"""

from sortedcontainers import SortedList


class Holes:
    """Sizes of holes by their tops.

    Costs: O(log n) of n holes; highest() adds those of the request's class that are too small for it.

    >>> holes = Holes()
    >>> for top, size in (0x9000, 0x1000), (0x5000, 0x3000), (0x1000, 0x800):
    ...     holes.put(top, size)
    >>> [holes.highest(size, below=0xF000) for size in (0x1000, 0x2000, 0x4000)]
    [36864, 20480, None]
    >>> holes.highest(0x800, below=0x8000)
    20480
    >>> holes.put(0x9000, 0)
    >>> holes.highest(0x1000, below=0xF000)
    20480
    """

    def __init__(self) -> None:
        self._sizes: dict[int, int] = {}
        self._classes: dict[int, SortedList[int]] = {}  # bit length of the size -> tops

    def put(self, top: int, size: int) -> None:
        """Note that the hole below `top` has `size` bytes; 0: there is none."""
        old = self._sizes.get(top, 0)
        if old.bit_length() != size.bit_length():
            if old:
                self._classes[old.bit_length()].remove(top)
            if size:
                self._classes.setdefault(size.bit_length(), SortedList()).add(top)
        if size:
            self._sizes[top] = size
        else:
            self._sizes.pop(top, None)

    def highest(self, size: int, below: int) -> int | None:
        """Return the highest top, at most `below`, of a hole of at least `size` bytes."""
        own = size.bit_length()
        best = -1
        for length, tops in self._classes.items():
            index = tops.bisect_right(below) - 1 if length > own else -1
            if index >= 0:
                best = max(best, tops[index])
        if own in self._classes:
            for top in self._classes[own].irange(best + 1, below, reverse=True):
                if self._sizes[top] >= size:
                    return int(top)
        return best if best >= 0 else None
