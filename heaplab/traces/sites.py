"""Call sites: the functions that asked for each block of a trace, in a file beside it.

docs/recording.md has the file's format.  An acquisition is an event that makes a block: MALLOC, CALLOC,
REALLOC, ALIGNED.
"""

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from heaplab.errors import UsageError
from heaplab.files import replacing
from heaplab.traces.event import MAX_SIZE
from heaplab.traces.lives import Lives

_FIRST: Final = "heaplab sites 1"
_MOST_PROCESSES: Final = 1 << 16
_ALLOCATING: Final = frozenset(
    {"malloc", "calloc", "realloc", "reallocarray"}
    | {"aligned_alloc", "posix_memalign", "memalign", "valloc", "pvalloc"}
)
_OPERATOR_NEW: Final = ("_Znw", "_Zna")

Column = npt.NDArray[Any]
Stack = tuple[str, ...]
"""Names of functions, from the outermost on."""


@dataclass(frozen=True, eq=False)
class Asked:
    """The acquisitions of one process in their order, equal ones that follow each other as one row.

    stack: a number in `Sites.stacks`.  size: bytes.  times: acquisitions of the row.
    """

    stack: npt.NDArray[np.uint32]
    size: npt.NDArray[np.uint64]
    times: npt.NDArray[np.int64]

    @classmethod
    def of(cls, stack: Column, size: Column) -> "Asked":
        """Return the same of columns that have a row an acquisition."""
        begins = np.ones(len(stack), np.bool_)
        begins[1:] = (stack[1:] != stack[:-1]) | (size[1:] != size[:-1])
        first = np.flatnonzero(begins)
        return cls(
            stack[first].astype(np.uint32),
            size[first].astype(np.uint64),
            np.diff(first, append=len(stack)).astype(np.int64),
        )

    def __len__(self) -> int:
        return sum(self.times.tolist())  # a file may say what no int64 holds


@dataclass(frozen=True, eq=False, repr=False)
class Sites:
    """The call stack of every acquisition of a trace.

    stacks: each once; stacks[0] is empty: none was recorded.  processes: by their numbers in the trace.
    source: the file's name, for messages.

    >>> from heaplab.traces import Event, Op, Trace
    >>> from heaplab.traces.lives import lives
    >>> (tmp / "x.sites").write_text("heaplab sites 1\\nstack 1 main;table\\nprocess 0\\n1 24 2\\n") > 0
    True
    >>> sites = read_sites(tmp / "x.sites")
    >>> sites.stacks, site_of(sites.stacks[1])
    (((), ('main', 'table')), 'table')
    >>> trace = Trace.of([Event(Op.MALLOC, 0, 24), Event(Op.FORK, 1), Event(Op.MALLOC, 1, 24)])
    >>> sites.of_blocks(lives(trace)).tolist()
    [1, 1, 1]
    """

    stacks: tuple[Stack, ...]
    processes: Mapping[int, Asked]
    source: str = "the file of call sites"

    def __repr__(self) -> str:
        blocks = sum(map(len, self.processes.values()))
        return f"<Sites: {len(self.stacks) - 1:,} call stacks of {blocks:,} blocks>"

    def of_blocks(self, born: Lives) -> npt.NDArray[np.uint32]:
        """Return the number of the stack of each block in `born`; a fork's copy has that of what it copies.

        Cost: 0.1 us a block.
        Raises: UsageError when these are the sites of another trace.
        """
        found = np.zeros(len(born), np.uint32)
        own = np.flatnonzero(~born.copied)
        process = born.process[own]
        for number in sorted({*np.unique(process).tolist(), *self.processes}):
            rows = own[process == number]
            asked = self.processes.get(number, _NOTHING)
            if len(asked) != len(rows):
                raise UsageError(
                    f"{self.source} is not of this trace: it has {len(asked):,} acquisitions of process "
                    f"{number}, the trace {len(rows):,}"
                )
            size = np.repeat(asked.size, asked.times)
            if len(wrong := np.flatnonzero(size != born.size[rows])):
                at = int(wrong[0])
                raise UsageError(
                    f"{self.source} is not of this trace: its acquisition {at} of process {number} has "
                    f"{int(size[at])} bytes, the trace's has {int(born.size[rows[at]])}"
                )
            found[rows] = np.repeat(asked.stack, asked.times)
        copied = np.flatnonzero(born.copied)
        original = born.before[copied].astype(np.int64) - 1
        while (again := born.copied[original]).any():
            original[again] = born.before[original[again]].astype(np.int64) - 1
        found[copied] = found[original]
        return found


_NOTHING = Asked.of(np.empty(0, np.uint32), np.empty(0, np.uint64))


def site_of(stack: Stack) -> str:
    """Return the innermost function of a stack that is none of the allocator's; "" of an empty stack.

    >>> site_of(("main", "table", "_Znwm", "malloc"))
    'table'
    """
    outside = (name for name in reversed(stack) if not _allocates(name))
    return next(outside, stack[-1] if stack else "")


def _allocates(name: str) -> bool:
    return name in _ALLOCATING or name.startswith(_OPERATOR_NEW)


def write_sites(path: str | os.PathLike[str], sites: Sites) -> None:
    """Write a file of call sites."""
    with replacing(path) as file:
        for line in _lines(sites):
            file.write(f"{line}\n".encode())


def _lines(sites: Sites) -> Iterator[str]:
    yield _FIRST
    for number, stack in enumerate(sites.stacks[1:], 1):
        yield f"stack {number} {';'.join(map(_plain, stack))}"
    for number, asked in sorted(sites.processes.items()):
        yield f"process {number}"
        rows = zip(asked.stack.tolist(), asked.size.tolist(), asked.times.tolist(), strict=True)
        yield from (f"{stack} {size} {times}" for stack, size, times in rows)


def _plain(name: str) -> str:
    """Return a name without what separates names and lines."""
    return "".join("_" if each == ";" or not each.isprintable() else each for each in name) or "?"


def read_sites(path: str | os.PathLike[str]) -> Sites:
    """Return the call sites in a file.

    Cost: 1 us a line.
    Raises: UsageError, naming the line, for a damaged file; OSError.
    """
    source = os.fspath(path)
    with Path(path).open(encoding="utf-8", errors="replace") as file:
        if file.readline(len(_FIRST) + 2).rstrip() != _FIRST:
            raise UsageError(f"{source}: is no file of call sites: `heaplab record --sites` writes one")
        reading = _Reading()
        for number, line in enumerate(file, 2):
            if (wrong := reading.take(line)) is not None:
                raise UsageError(f"{source}, line {number}: {wrong}: record it again")
    return reading.sites(source)


class _Reading:
    """What the lines so far have said."""

    def __init__(self) -> None:
        self._stacks: list[Stack] = [()]
        self._rows: dict[int, list[tuple[int, int, int]]] = {}
        self._now: list[tuple[int, int, int]] | None = None

    def take(self, line: str) -> str | None:
        """Take the next line; return what is wrong with it."""
        words = line.split()
        if not words:
            return None
        if words[0] == "stack":
            return self._stack(line)
        if words[0] == "process":
            return self._process(words)
        numbers = _numbers(words)
        if numbers is None or len(numbers) != 3 or self._now is None:
            return f"{line.strip()[:40]!r} is neither a stack, a process, nor STACK SIZE TIMES of a process"
        stack, size, times = numbers
        if stack >= len(self._stacks):
            return f"there is no stack {stack} before it"
        if size > MAX_SIZE or not 1 <= times <= MAX_SIZE:
            return f"no program asks {times} times for {size} bytes"
        self._now.append((stack, size, times))
        return None

    def _stack(self, line: str) -> str | None:
        words = line.split(maxsplit=2)
        if len(words) < 3 or words[1] != str(len(self._stacks)):
            return f"stack {len(self._stacks)} and names of functions are to be here"
        self._stacks.append(tuple(words[2].strip().split(";")))
        return None

    def _process(self, words: Sequence[str]) -> str | None:
        numbers = _numbers(words[1:])
        if numbers is None or len(numbers) != 1 or numbers[0] >= _MOST_PROCESSES:
            return "the number of a process is to be here"
        if numbers[0] in self._rows:
            return f"process {numbers[0]} is there a second time"
        self._now = self._rows[numbers[0]] = []
        return None

    def sites(self, source: str) -> Sites:
        asked = {}
        for number, rows in self._rows.items():
            stack, size, times = np.array(rows, np.int64).reshape(-1, 3).T
            asked[number] = Asked(stack.astype(np.uint32), size.astype(np.uint64), times)
        return Sites(tuple(self._stacks), asked, source)


def _numbers(words: Sequence[str]) -> list[int] | None:
    """Return words as whole numbers; None if one is not, or is longer than any can be."""
    if all(word.isascii() and word.isdecimal() and len(word) < 20 for word in words):
        return [int(word) for word in words]
    return None
