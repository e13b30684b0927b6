"""Events, and blocks of them: what a trace is made of.

An event is one row; a block is up to BLOCK_EVENTS rows as columns, which is how events travel through
heaplab, from the recorder to the C replay.

| column  | type | content |
|---------|------|---------|
| op      | u8   | an `Op` |
| id      | u32  | the block's slot; for FORK the child's process number |
| size    | u64  | bytes requested (CALLOC: the product); 0 where the op has none |
| align   | u32  | bytes, a power of two, for ALIGNED; 0 elsewhere |
| thread  | u16  | the thread that called, numbered within its process from 0 |
| time    | u64  | nanoseconds since the trace began, never falling |
| process | u16  | the process that called; 0 is the one the trace began with |

A *slot* stands for one live block of one process.  It is free again after the block is, and reused, so
that a table with as many rows as the peak number of live blocks holds all that a replay must remember.

A *thread* begins with the first event that has its number and ends with its THREAD_EXIT.  The number is free
again then, and another thread of the process may have it.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, fields
from enum import IntEnum
from itertools import islice
from typing import Any, NamedTuple, Self

import numpy as np
import numpy.typing as npt

BLOCK_EVENTS = 65_536
"""The most events in one block."""

NULL_ID = 0xFFFF_FFFF
"""The id of FREE when the pointer freed is NULL."""

MAX_SIZE = 1 << 47
"""No request that succeeded can be larger: x86-64's user address space, in bytes."""


class Op(IntEnum):
    """What an event does.

    A realloc of NULL is recorded as MALLOC and a realloc to size 0 as FREE, as glibc does them; an
    allocation that failed is no event.
    """

    MALLOC = 0
    FREE = 1
    CALLOC = 2
    REALLOC = 3  # the block keeps its slot
    ALIGNED = 4  # posix_memalign, aligned_alloc, memalign, valloc
    FORK = 5  # the child starts with a copy of the caller's slots, and with one thread: the caller's
    EXEC = 6  # a new program in the same process: no slot is live, and one thread, number 0
    EXIT = 7  # the process is gone, and its slots and threads with it
    THREAD_EXIT = 8  # the calling thread is gone; its blocks stay


class Event(NamedTuple):
    """One event, on its own: for tests, examples and messages.  Blocks carry the many.

    >>> print(Event(Op.MALLOC, 3, 100))
    malloc 3 100
    >>> print(Event(Op.ALIGNED, 4, 100, align=64, thread=1, process=2))
    aligned 4 100 64 (process 2, thread 1)
    """

    op: Op
    id: int = 0
    size: int = 0
    align: int = 0
    thread: int = 0
    time: int = 0
    process: int = 0

    def __str__(self) -> str:
        words: list[object] = [self.op.name.lower()]
        if self.op not in (Op.EXEC, Op.EXIT, Op.THREAD_EXIT):
            words.append("NULL" if self.op == Op.FREE and self.id == NULL_ID else self.id)
        if self.op in (Op.MALLOC, Op.CALLOC, Op.REALLOC, Op.ALIGNED):
            words.append(self.size)
        if self.op == Op.ALIGNED:
            words.append(self.align)
        if self.process or self.thread:
            words.append(f"(process {self.process}, thread {self.thread})")
        return " ".join(map(str, words))


Row = tuple[int, int, int, int, int, int, int]
"""An event as a plain tuple, made in bulk: an `Event` is one."""

COLUMNS: dict[str, np.dtype[Any]] = {
    "op": np.dtype("u1"),
    "id": np.dtype("<u4"),
    "size": np.dtype("<u8"),
    "align": np.dtype("<u4"),
    "thread": np.dtype("<u2"),
    "time": np.dtype("<u8"),
    "process": np.dtype("<u2"),
}
"""The type of every column, in the order of `Event`'s fields."""


@dataclass(frozen=True, eq=False)
class Block:
    """Up to BLOCK_EVENTS events as columns: contiguous NumPy arrays of equal length and of COLUMNS' types.

    >>> block = Block.of([Event(Op.MALLOC, 0, 24), Event(Op.FREE, 0)])
    >>> len(block), block.op.tolist(), block.size.tolist()
    (2, [0, 1], [24, 0])
    >>> print(*block[1:])
    free 0
    """

    op: npt.NDArray[np.uint8]
    id: npt.NDArray[np.uint32]
    size: npt.NDArray[np.uint64]
    align: npt.NDArray[np.uint32]
    thread: npt.NDArray[np.uint16]
    time: npt.NDArray[np.uint64]
    process: npt.NDArray[np.uint16]

    @classmethod
    def of(cls, rows: Iterable[Row]) -> Self:
        """Return a block of events, at most BLOCK_EVENTS."""
        columns = list(zip(*rows, strict=True)) or [()] * len(COLUMNS)
        return cls(
            *(np.array(column, dtype) for column, dtype in zip(columns, COLUMNS.values(), strict=True))
        )

    @classmethod
    def build(cls, length: int, **columns: npt.NDArray[Any] | int) -> Self:
        """Return a block of `length` events; a column not given is zero, a number fills its column."""
        whole = {}
        for name, dtype in COLUMNS.items():
            column = columns.pop(name, 0)
            if isinstance(column, int):
                whole[name] = np.full(length, column, dtype)
            else:
                whole[name] = np.ascontiguousarray(column, dtype)
            assert len(whole[name]) == length, f"column {name} has another length"
        assert not columns, f"no such columns: {columns.keys()}"
        return cls(**whole)

    @classmethod
    def join(cls, blocks: "Iterable[Block]") -> Self:
        """Return one block with the events of all `blocks`."""
        rows = [block.columns() for block in blocks]
        return cls(**{name: np.concatenate([row[name] for row in rows]) for name in COLUMNS})

    def columns(self) -> dict[str, npt.NDArray[Any]]:
        """The columns by name, in COLUMNS' order."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    def __repr__(self) -> str:
        return f"<Block of {len(self):,} events>"

    def __len__(self) -> int:
        return len(self.op)

    def __getitem__(self, rows: slice) -> "Block":
        return Block(**{name: np.ascontiguousarray(column[rows]) for name, column in self.columns().items()})

    def __iter__(self) -> Iterator[Event]:
        for row in zip(*(column.tolist() for column in self.columns().values()), strict=True):
            yield Event(Op(row[0]), *row[1:])


def in_blocks(rows: Iterable[Row]) -> Iterator[Block]:
    """Gather events into blocks of BLOCK_EVENTS; the last one may be shorter.

    >>> [len(block) for block in in_blocks([Event(Op.MALLOC, 0, 8), Event(Op.FREE, 0)] * 50_000)]
    [65536, 34464]
    """
    rest = iter(rows)
    while part := list(islice(rest, BLOCK_EVENTS)):
        yield Block.of(part)
