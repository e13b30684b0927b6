"""The allocator as an adversary sees it: requests go in, addresses come out; all of it is written down."""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from heaplab.errors import UsageError
from heaplab.traces import BLOCK_EVENTS, Event, Op
from heaplab.traces import Block as Events
from heaplab.traces.event import MAX_SIZE

Addresses = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Block:
    """A live block: where its payload lies, and how many bytes were asked for.

    slot, serial: by which the opponent knows it.
    """

    address: int
    size: int
    slot: int = field(repr=False)
    serial: int = field(repr=False)


@dataclass(frozen=True, eq=False)
class Blocks:
    """Many live blocks, as columns of equal length.  `blocks[mask]` and `blocks[places]` are some of them.

    >>> blocks = Blocks.of([Block(0x1000, 24, 0, 0), Block(0x1020, 40, 1, 1)])
    >>> blocks[blocks.size > 24].address.tolist(), [block.size for block in blocks]
    ([4128], [24, 40])
    """

    address: Addresses
    size: npt.NDArray[np.int64]
    slot: npt.NDArray[np.int64] = field(repr=False)
    serial: npt.NDArray[np.int64] = field(repr=False)

    @classmethod
    def of(cls, blocks: "list[Block]") -> "Blocks":
        """Return the columns of these blocks."""
        rows = [(block.address, block.size, block.slot, block.serial) for block in blocks]
        return cls(*np.array(rows, np.int64).reshape(-1, 4).T.copy())

    @classmethod
    def join(cls, parts: "list[Blocks]") -> "Blocks":
        """Return the blocks of all parts, in their order."""
        if not parts:
            return cls.of([])
        columns = zip(*((part.address, part.size, part.slot, part.serial) for part in parts), strict=True)
        return cls(*(np.concatenate(column) for column in columns))

    def __len__(self) -> int:
        return len(self.address)

    def __getitem__(self, which: Any) -> "Blocks":
        return Blocks(self.address[which], self.size[which], self.slot[which], self.serial[which])

    def __iter__(self) -> Iterator[Block]:
        columns = (self.address, self.size, self.slot, self.serial)
        for row in zip(*(column.tolist() for column in columns), strict=True):
            yield Block(*row)


class Over(Exception):
    """The duel is over: the allocator has failed, or the adversary has done as much as it may."""


class Opponent(ABC):
    """An allocator that answers requests with addresses.

    Everything happens in one process, on one thread.  Each request is an event of the trace that results.
    most_events: a request beyond ends the duel.
    Cost: 10 us a request by itself, 0.1 us in a batch of thousands, and the allocator's own time; of a real
    allocator 40 us by itself, 2 us in a batch.
    """

    def __init__(self, most_events: int) -> None:
        self._most_events = most_events
        self._op: npt.NDArray[np.uint8] = np.zeros(1024, np.uint8)
        self._id: npt.NDArray[np.uint32] = np.zeros(1024, np.uint32)
        self._size: npt.NDArray[np.uint64] = np.zeros(1024, np.uint64)
        self._events = 0
        self._free: list[int] = []  # slots that were used and are free
        self._holder = np.full(1024, -1, np.int64)  # the serial number of the block in each slot, -1: none
        self._used = 0
        self._serial = 0
        self._one = Events.build(1)
        self.cut = False  #: it asked for more than most_events

    # ---- what an adversary asks for ----

    def malloc(self, size: int) -> Block:
        """Allocate a block of `size` bytes."""
        if not 0 <= size <= MAX_SIZE:
            raise UsageError(f"malloc of {size} bytes: no program can have that")
        slot = self._free.pop() if self._free else int(self._take(1)[0])
        return self._carry_out(Op.MALLOC, slot, size)

    def free(self, block: Block) -> None:
        """Free a block."""
        self._demand_live(block)
        self._holder[block.slot] = -1
        self._carry_out(Op.FREE, block.slot, 0)
        self._free.append(block.slot)

    def realloc(self, block: Block, size: int) -> Block:
        """Change a block's size; the block given is none any more."""
        if not 1 <= size <= MAX_SIZE:
            raise UsageError(f"realloc to {size} bytes: give 1 at least, or free the block")
        self._demand_live(block)
        return self._carry_out(Op.REALLOC, block.slot, size)

    def malloc_many(self, sizes: npt.ArrayLike) -> Blocks:
        """Allocate a block of each size, in this order."""
        wanted = np.atleast_1d(np.asarray(sizes, np.int64))
        if len(wanted) and (wanted.min() < 0 or wanted.max() > MAX_SIZE):
            raise UsageError(f"malloc of {wanted.min()} to {wanted.max()} bytes: no program can have that")
        slots = self._take(len(wanted))
        self._append(Op.MALLOC, slots, wanted)
        return self._placed(slots, wanted)

    def free_many(self, blocks: Blocks) -> None:
        """Free these blocks, in this order."""
        slots = self._slots_of(blocks)
        self._holder[slots] = -1
        self._append(Op.FREE, slots, None)
        self._free += slots.tolist()

    # ---- what it may look at ----

    @property
    def events(self) -> int:
        """Requests so far."""
        return self._events

    @property
    @abstractmethod
    def live(self) -> int:
        """Payload bytes that are live."""

    @property
    @abstractmethod
    def heap(self) -> int:
        """Bytes of address space that the allocator has from the kernel."""

    @property
    @abstractmethod
    def resident(self) -> int:
        """Bytes of frames; of a real allocator as they were looked at last."""

    # ---- what the worlds do ----

    @abstractmethod
    def _play(self, events: Events) -> None:
        """Carry out events, BLOCK_EVENTS at most.  Raises: Over when the allocator fails."""

    @abstractmethod
    def _address(self, slot: int) -> int:
        """Where the block in this slot lies."""

    @abstractmethod
    def _addresses(self, slots: npt.NDArray[np.int64]) -> Addresses:
        """Where the blocks in these slots lie."""

    def trace_blocks(self, events: int) -> list[Events]:
        """Return the first so many events, as a trace has them."""
        cuts = range(0, events, BLOCK_EVENTS)
        return [self._rows(start, min(start + BLOCK_EVENTS, events)) for start in cuts]

    def event(self, number: int) -> Event:
        """Return one event."""
        return next(iter(self._rows(number, number + 1)))

    def _rows(self, start: int, stop: int) -> Events:
        rows = slice(start, stop)
        return Events.build(stop - start, op=self._op[rows], id=self._id[rows], size=self._size[rows])

    def _carry_out(self, op: Op, slot: int, size: int) -> Block:
        """Write one event down, and carry it out; return the block that is in its slot then."""
        at = self._events
        if at == self._most_events:
            self.cut = True
            raise Over
        self._make_room(at + 1)
        self._op[at] = self._one.op[0] = op
        self._id[at] = self._one.id[0] = slot
        self._size[at] = self._one.size[0] = size
        self._events = at + 1
        self._play(self._one)
        if op == Op.FREE:
            return Block(0, 0, slot, -1)
        serial = self._holder[slot] = self._serial
        self._serial += 1
        return Block(self._address(slot), size, slot, serial)

    def _make_room(self, events: int) -> None:
        while events > len(self._op):
            self._op = np.concatenate((self._op, np.zeros_like(self._op)))
            self._id = np.concatenate((self._id, np.zeros_like(self._id)))
            self._size = np.concatenate((self._size, np.zeros_like(self._size)))

    def _append(self, op: Op, slots: npt.NDArray[np.int64], sizes: npt.NDArray[np.int64] | None) -> None:
        """Write events down, and carry them out."""
        start = self._events
        stop = min(start + len(slots), self._most_events)
        self._make_room(stop)
        self._op[start:stop] = op
        self._id[start:stop] = slots[: stop - start]
        if sizes is not None:
            self._size[start:stop] = sizes[: stop - start]
        self._events = stop
        for first in range(start, stop, BLOCK_EVENTS):
            self._play(self._rows(first, min(first + BLOCK_EVENTS, stop)))
        if stop - start < len(slots):
            self.cut = True
            raise Over

    def _take(self, count: int) -> npt.NDArray[np.int64]:
        """Slots for new blocks: free ones, the latest first, then such as were never used."""
        again = min(count, len(self._free))
        old = self._free[len(self._free) - again :][::-1]
        del self._free[len(self._free) - again :]
        fresh = np.arange(self._used, self._used + count - again)
        self._used += count - again
        while self._used > len(self._holder):
            self._holder = np.concatenate((self._holder, np.full_like(self._holder, -1)))
        return np.concatenate((np.array(old, np.int64), fresh))

    def _placed(self, slots: npt.NDArray[np.int64], sizes: npt.NDArray[np.int64]) -> Blocks:
        """The blocks that now live in these slots."""
        serials = np.arange(self._serial, self._serial + len(slots))
        self._serial += len(slots)
        self._holder[slots] = serials
        return Blocks(self._addresses(slots), sizes.copy(), slots, serials)

    def _slots_of(self, blocks: Blocks) -> npt.NDArray[np.int64]:
        """The slots of blocks, each of which must be live and there once.  Raises: UsageError."""
        gone = self._holder[blocks.slot] != blocks.serial
        if gone.any():
            self._demand_live(next(iter(blocks[gone])))
        if len(np.unique(blocks.slot)) < len(blocks):
            raise UsageError("the adversary gives a block twice in one batch")
        return blocks.slot

    def _demand_live(self, block: Block) -> None:
        if self._holder[block.slot] != block.serial:
            raise UsageError(f"the adversary's block of {block.size} bytes at {block.address:#x} is not live")
