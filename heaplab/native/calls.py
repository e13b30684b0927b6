"""The record of a program's system calls for memory; csrc/native/calls.h is its definition, and makes it."""

import mmap
import os
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

#: calls_kind of csrc/native/calls.h, in its order
KINDS = ("brk", "mmap", "munmap", "mremap", "madvise", "mprotect")
#: how many arguments each has
ARGUMENTS = {"brk": 1, "mmap": 6, "munmap": 2, "mremap": 5, "madvise": 3, "mprotect": 3}

_HEADER = np.dtype(
    [
        *[("recording", "<u4"), ("unused", "<u4"), ("mark", "<u8"), ("capacity", "<u8"), ("count", "<u8")],
        ("seen", "<u8", len(KINDS)),
    ]
)
_ENTRY = np.dtype([("mark", "<u8"), ("task", "<u4"), ("kind", "<u4"), ("args", "<u8", 6), ("result", "<i8")])


@dataclass(frozen=True)
class Call:
    """A system call.

    mark: the program's own word at that time.  task: the id of the thread.  args: as in the registers, as
    many as the call has.  result: as the kernel gives it, negative for an error.
    """

    mark: int
    task: int
    name: str
    args: tuple[int, ...]
    result: int


class CallLog:
    """Shared memory that a traced program's calls are written to.

    capacity: how many calls are kept; the others are only counted.  fd: to be inherited by the program, which
    maps all `length` bytes of it, shared, and gives that to calls_begin.

    >>> log = CallLog(10)
    >>> list(log), log.count, log.seen["brk"]
    ([], 0, 0)
    """

    def __init__(self, capacity: int = 0) -> None:
        self.length = -(-(_HEADER.itemsize + capacity * _ENTRY.itemsize) // mmap.PAGESIZE) * mmap.PAGESIZE
        self.fd = os.memfd_create("calls")
        os.ftruncate(self.fd, self.length)
        memory = mmap.mmap(self.fd, self.length)
        self._header = np.frombuffer(memory, _HEADER, 1)
        self._entries = np.frombuffer(memory, _ENTRY, capacity, _HEADER.itemsize)
        self._header["capacity"] = self.capacity = capacity

    def __del__(self) -> None:
        os.close(self.fd)

    @property
    def count(self) -> int:
        """Calls recorded, those included that are not kept."""
        return int(self._header["count"][0])

    @property
    def seen(self) -> dict[str, int]:
        """Calls recorded, by name."""
        return dict(zip(KINDS, self._header["seen"][0].tolist(), strict=True))

    def __iter__(self) -> Iterator[Call]:
        return self.since(0)

    def since(self, first: int) -> Iterator[Call]:
        """Yield the calls that are kept, from number `first` on."""
        for mark, task, kind, args, result in self._entries[first : self.count].tolist():
            name = KINDS[kind]
            yield Call(mark, task, name, tuple(map(int, args[: ARGUMENTS[name]])), result)
