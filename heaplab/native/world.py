"""What may be asked of a world, the model or Linux, in which a trace is played."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

#: where every heap lies, in both worlds: what grows by brk begins at START, the first mapping ends at TOP
START, TOP = 1 << 31, 0x7E00_0000_0000
PAGE = 4096
#: of a page: not in memory; in memory, and another process has it mapped too, or it is the page of zeros; in
#: memory, its own
ABSENT, SHARED, OWN = range(3)


class RawCall(NamedTuple):
    """A system call made during event number `event`: name, registers, and what the kernel answered."""

    event: int
    name: str
    args: tuple[int, ...]
    result: int


class World(Protocol):
    """A trace that is being played on heaps of one design.  Processes have the numbers of the trace."""

    def advance(self, until: int) -> None:
        """Carry out events until `until` of them are done."""

    def calls(self) -> Iterator[RawCall]:
        """Yield the calls for memory since the last time."""

    def faults(self, process: int) -> int:
        """Return its minor faults since it was born, or has execed."""

    def maps(self, process: int) -> str:
        """Return its /proc/PID/maps."""

    def pages(
        self, process: int, start: int, end: int
    ) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]:
        """Return for each page of [start, end): ABSENT, SHARED or OWN; and its frame, 0 if that is hidden."""


@dataclass(frozen=True, eq=False)
class Pages:
    """The heap of a process at one moment.

    heap: pages of address space.  number: address / PAGE of each page in memory, rising.
    state: of each of them, SHARED or OWN.  frame: where in memory it is, if that may be known.
    """

    heap: int
    number: npt.NDArray[np.int64]
    state: npt.NDArray[np.uint8]
    frame: npt.NDArray[np.int64]

    @property
    def resident(self) -> int:
        """Pages in memory."""
        return len(self.number)

    def frames_at(self, numbers: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """Return the frames of these pages, -1 of one that is not in memory."""
        if not self.resident:
            return np.full(len(numbers), -1)
        at = np.minimum(np.searchsorted(self.number, numbers), self.resident - 1)
        return np.where(self.number[at] == numbers, self.frame[at], -1)


def named(address: int) -> str:
    """Return an address in words.

    >>> named(START + 0x1000), named(TOP - 0x3000)
    ('break+0x1000', 'top-0x3000')
    """
    return f"break+{address - START:#x}" if address < TOP >> 1 else f"top-{TOP - address:#x}"
