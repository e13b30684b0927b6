"""Counts the pages that processes copy after forks, from looks at their pages."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from heaplab.native.world import PAGE, START, Pages, RawCall


class Family:
    """The living processes, and the copies that they make of pages that they share.

    parents: the process that forked each, None of one that has none any more, or that has execed since.
    copies: in children and in parents, as `Footprint` says, counted at the ends of children; None where
    frames are hidden.
    """

    def __init__(self) -> None:
        self.parents: dict[int, int | None] = {}
        self.copies: tuple[int, int] | None = (0, 0)
        self._breaks: dict[int, int] = {}
        self._shared: dict[int, _Shared] = {}
        self.begin(0)

    def begin(self, process: int) -> None:
        """A program begins."""
        self.parents[process], self._breaks[process] = None, START

    def fork(self, parent: int, child: int, pages: Pages) -> None:
        """The parent forks while it has these pages."""
        self.parents[child], self._shared[child] = parent, _Shared.of(pages)
        self._breaks[child] = self._breaks[parent]
        if not pages.frame.all():
            self.copies = None

    def leave(self, process: int) -> None:
        """Its program is over."""
        if self.parents[process] is not None and self.copies is not None:
            shared = self._shared[process]
            in_child = int(np.count_nonzero(shared.left_by_child & ~shared.left_by_parent))
            in_parent = int(np.count_nonzero(shared.left_by_parent & ~shared.left_by_child))
            self.copies = (self.copies[0] + in_child, self.copies[1] + in_parent)
        del self.parents[process], self._breaks[process]
        for child in [each for each, parent in self.parents.items() if parent == process]:
            self.parents[child] = None

    def see(self, seen: dict[int, Pages]) -> None:
        """Notice which pages are in other frames now.

        It has to be before a process leaves: a frame that becomes free then may come back at its old place.
        """
        for child, parent in self.parents.items():
            if parent is not None:
                self._shared[child].see(seen[child], seen[parent])

    def call(self, process: int, call: RawCall) -> None:
        """Notice what a call gives back."""
        start, length = call.args[0], call.args[1] if len(call.args) > 1 else 0
        if call.name == "brk":
            start, length = call.result, self._breaks[process] - call.result
            self._breaks[process] = call.result
        elif call.name == "mmap":
            return
        for child, parent in self.parents.items():
            if length > 0 and parent is not None and process in (child, parent):
                self._shared[child] = self._shared[child].without(start, start + length)


@dataclass(eq=False)
class _Shared:
    """The pages that child and parent had at the fork and have not given back since.

    number, frame: as in `Pages`, then.  left_by_child, left_by_parent: which have been seen in another frame.
    """

    number: npt.NDArray[np.int64]
    frame: npt.NDArray[np.int64]
    left_by_child: npt.NDArray[np.bool_]
    left_by_parent: npt.NDArray[np.bool_]

    @classmethod
    def of(cls, pages: Pages) -> "_Shared":
        nowhere = np.zeros(pages.resident, np.bool_)
        return cls(pages.number, pages.frame, nowhere, nowhere)

    def see(self, child: Pages, parent: Pages) -> None:
        self.left_by_child = self.left_by_child | (child.frames_at(self.number) != self.frame)
        self.left_by_parent = self.left_by_parent | (parent.frames_at(self.number) != self.frame)

    def without(self, start: int, end: int) -> "_Shared":
        kept = (self.number < start // PAGE) | (self.number >= -(-end // PAGE))
        return _Shared(*(column[kept] for column in vars(self).values()))
