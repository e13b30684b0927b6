"""Pages that a process has copied by writing, since it shared them after a fork."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from heaplab.abi import MADV_DONTNEED
from heaplab.kernel.mm import Mm
from heaplab.kernel.system import System
from heaplab.kernel.task import Task
from heaplab.process import Process

Column = npt.NDArray[Any]


@dataclass(frozen=True, eq=False)
class Copied:
    """Copies of pages as columns, a row each, in the order of the events that made them.

    A row is good at the moments event + 1 to until: that event is the process's fork, exec or exit, or unmaps
    the page.
    """

    event: npt.NDArray[np.uint32]
    until: npt.NDArray[np.uint32]
    process: npt.NDArray[np.uint16]
    page: npt.NDArray[np.uint64]

    def at(self, moment: int, process: int) -> Column:
        """Return the addresses of the pages that are copies at a moment."""
        there = (self.event < moment) & (moment <= self.until) & (self.process == process)
        pages: Column = self.page[there]
        return pages


class CopyWatch:
    """Keeps which pages of which processes are copies made after a fork, and hears of them from a kernel.

    event: tells the number of the event that is being carried out.
    """

    def __init__(self, event: Callable[[], int]) -> None:
        self._numbers: dict[int, int] = {}  # by the id of an address space
        self._active: dict[int, dict[int, int]] = {}  # by process and page, the row
        self._breaks: dict[int, int] = {}
        self._rows: list[tuple[int, int, int]] = []  # event, process, page
        self._until: dict[int, int] = {}
        self.event = event

    def watch(self, system: System) -> None:
        """Hear of every copy, and of every system call, from now on."""
        system.on_copy = self._copy
        system.on_call = self._call

    def begin(self, number: int, process: Process) -> None:
        """Let the process of that number be watched from now on."""
        self._numbers[id(process.context.space)] = number  # each is alive as long as it has a number
        self._active[number] = {}
        self._breaks[number] = int(process.context.raw.space.brk)

    def end(self, number: int) -> None:
        """End the copies of a process: it forks, so that all is shared again, or is about to go."""
        self._forget(number, list(self._active[number]))

    def pages(self, number: int) -> Column:
        """Return the addresses of the pages of a process that are copies now."""
        return np.array(list(self._active[number]), np.uint64)

    def leave(self, number: int) -> None:
        """Forget a process that is gone: its address space's id may be another's soon."""
        self._numbers = {space: each for space, each in self._numbers.items() if each != number}

    def _forget(self, number: int, pages: Iterable[int]) -> None:
        for page in pages:
            self._until[self._active[number].pop(page)] = self.event()

    def _copy(self, mm: Mm, va: int, frame: int) -> None:
        number = self._numbers.get(id(mm.space))
        if number is not None:
            page = va & mm.page_mask
            self._active[number][page] = len(self._rows)
            self._rows.append((self.event(), number, page))
            self.note(number, va, frame)

    def note(self, number: int, va: int, frame: int) -> None:
        """Called for each copy: process `number` wrote to `va`, and others keep `frame`.  For subclasses."""

    def _call(self, task: Task, name: str, registers: tuple[int, ...], result: int) -> None:
        """A page that was unmapped is no copy when there is a new one at its place."""
        mm = task.mm
        number = None if mm is None else self._numbers.get(id(mm.space))
        if number is None or result < 0:
            return
        start = end = 0
        if name == "brk":
            start, end = result, self._breaks[number]
            self._breaks[number] = result
        elif name in ("munmap", "mremap") or (name == "madvise" and registers[2] == MADV_DONTNEED):
            start, end = registers[0], registers[0] + registers[1]
        self._forget(number, [page for page in self._active[number] if start <= page < end])

    def copied(self, events: int) -> Copied:
        """Return the copies.  events: of the trace, where the end of those is that nothing has ended."""
        until = [self._until.get(row, events) for row in range(len(self._rows))]
        event, process, page = np.array(self._rows, np.uint64).reshape(-1, 3).T
        return Copied(
            event.astype(np.uint32), np.array(until, np.uint32), process.astype(np.uint16), page.copy()
        )
