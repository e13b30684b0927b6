"""The record of a program's system calls for memory; csrc/native/calls.h is its definition, and makes it."""

import errno
import mmap
import os
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from heaplab import abi

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


def _names(prefix: str, *wanted: str) -> dict[int, str]:
    return {getattr(abi, prefix + name): prefix + name for name in wanted}


_PROT = _names("PROT_", "READ", "WRITE", "EXEC")
_MAP = _names(
    "MAP_",
    *("SHARED", "PRIVATE", "FIXED", "ANONYMOUS", "32BIT", "GROWSDOWN", "LOCKED", "NORESERVE", "POPULATE"),
    *("NONBLOCK", "STACK", "HUGETLB", "FIXED_NOREPLACE"),
)
_MREMAP = _names("MREMAP_", "MAYMOVE", "FIXED", "DONTUNMAP")
_MADV = _names(
    "MADV_",
    *("NORMAL", "RANDOM", "SEQUENTIAL", "WILLNEED", "DONTNEED", "FREE", "DONTFORK", "DOFORK", "DONTDUMP"),
    *("DODUMP", "WIPEONFORK", "KEEPONFORK", "POPULATE_READ", "POPULATE_WRITE", "DONTNEED_LOCKED"),
)
_GIVES_ADDRESS = ("brk", "mmap", "mremap")


def _flags(value: int, names: dict[int, str], nothing: str = "0") -> str:
    words = [name for bit, name in names.items() if value & bit]
    rest = value & ~sum(bit for bit in names if value & bit)
    return "|".join([*words, *([hex(rest)] if rest else [])]) or nothing


def _pointer(address: int) -> str:
    return hex(address) if address else "NULL"


def strace(name: str, registers: tuple[int, ...], result: int) -> str:
    """Return a system call of `ARGUMENTS` as strace writes it.

    registers: its arguments; more do no harm.  result: as the kernel gives it, negative for an error.

    >>> strace("mmap", (0, 135168, 3, 0x22, 2**64 - 1, 0), 0x7F0000000000)
    'mmap(NULL, 135168, PROT_READ|PROT_WRITE, MAP_PRIVATE|MAP_ANONYMOUS, -1, 0) = 0x7f0000000000'
    >>> strace("brk", (0x55000,), 0x55000), strace("munmap", (0x7000, 4096), 0)
    ('brk(0x55000) = 0x55000', 'munmap(0x7000, 4096) = 0')
    >>> strace("madvise", (0x7000, 4096, 4), -12)
    'madvise(0x7000, 4096, MADV_DONTNEED) = -1 ENOMEM (Cannot allocate memory)'
    """
    args = [_pointer(registers[0]), *map(str, registers[1 : ARGUMENTS[name]])]
    if name == "mmap":
        fd = registers[4] & 0xFFFF_FFFF  # an int: the register's upper half may be anything
        args[2:] = [_flags(registers[2], _PROT, "PROT_NONE"), _flags(registers[3], _MAP)]
        args += [str(fd - (1 << 32) if fd >> 31 else fd), hex(registers[5]) if registers[5] else "0"]
    elif name == "mprotect":
        args[2] = _flags(registers[2], _PROT, "PROT_NONE")
    elif name == "madvise":
        args[2] = _MADV.get(registers[2], hex(registers[2]))
    elif name == "mremap":
        placed = registers[3] & (abi.MREMAP_FIXED | abi.MREMAP_DONTUNMAP)
        args[3:] = [_flags(registers[3], _MREMAP), *([_pointer(registers[4])] if placed else [])]
    if result < 0:
        outcome = f"-1 {errno.errorcode.get(-result, -result)} ({os.strerror(-result)})"
    else:
        outcome = hex(result) if name in _GIVES_ADDRESS else str(result)
    return f"{name}({', '.join(args)}) = {outcome}"
