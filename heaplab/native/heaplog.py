"""One image's heap, followed through its raw records: addresses become slots, pairs of records events."""

from collections.abc import Sequence
from typing import Self

from heaplab.native.raw import Kind
from heaplab.traces import NULL_ID, Op
from heaplab.traces.slots import SlotTable

_MAX_ALIGN = 1 << 31

Act = tuple[int, int, int, int]
"""What an event does: op, id, size, align."""


class HeapLog:
    """The live blocks of one image by address.

    strangers: frees and reallocs of blocks whose allocation was not seen; such a free is left out, such a
    realloc becomes a malloc.  lost_frees: addresses handed out again with no free in between; one is put in.

    >>> heap = HeapLog()
    >>> heap.acts(Kind.MALLOC, thread=0, address=0x1000, size=24)
    [(<Op.MALLOC: 0>, 0, 24, 0)]
    >>> heap.acts(Kind.REALLOC_BEGIN, thread=0, address=0x1000)
    []
    >>> heap.acts(Kind.REALLOC_END, thread=0, address=0x2000, size=48)
    [(<Op.REALLOC: 3>, 0, 48, 0)]
    """

    def __init__(self) -> None:
        self.strangers = 0
        self.lost_frees = 0
        self._slots = SlotTable()
        self._reallocs: dict[int, list[tuple[int, int | None]]] = {}  # by thread: the calls not yet returned

    def forked(self) -> Self:
        """The heap of a child forked now."""
        child = type(self)()
        child._slots = self._slots.copy()
        return child

    def acts(self, kind: int, *, thread: int, address: int, size: int = 0, align: int = 0) -> Sequence[Act]:
        """What the next raw record amounts to: mostly one act."""
        match kind:
            case Kind.MALLOC:
                return [*self._vacate(address), (Op.MALLOC, self._slots.take(address), size, 0)]
            case Kind.FREE:
                return self._free(address)
            case Kind.CALLOC:
                return [*self._vacate(address), (Op.CALLOC, self._slots.take(address), size, 0)]
            case Kind.ALIGNED:
                gone = self._vacate(address)
                return [*gone, (Op.ALIGNED, self._slots.take(address), size, min(align, _MAX_ALIGN))]
            case Kind.REALLOC_BEGIN:
                return self._begin_realloc(thread, address)
            case Kind.REALLOC_END:
                return self._end_realloc(thread, address, size)
            case _:
                return []

    def _vacate(self, address: int) -> list[Act]:
        """See that no block is at `address`, which is being handed out."""
        if address not in self._slots:
            return []
        self.lost_frees += 1
        return [(Op.FREE, self._slots.release(address), 0, 0)]

    def _free(self, address: int) -> list[Act]:
        if address == 0:
            return [(Op.FREE, NULL_ID, 0, 0)]
        if address not in self._slots:
            self.strangers += 1
            return []
        return [(Op.FREE, self._slots.release(address), 0, 0)]

    def _begin_realloc(self, thread: int, address: int) -> list[Act]:
        """Until the call returns, another thread may be given `address`; the slot stays taken."""
        slot = self._slots.detach(address) if address in self._slots else None
        self.strangers += slot is None
        self._reallocs.setdefault(thread, []).append((address, slot))
        return []

    def _end_realloc(self, thread: int, address: int, size: int) -> list[Act]:
        calls = self._reallocs.get(thread)
        old, slot = calls.pop() if calls else (0, None)
        if address:
            gone = self._vacate(address)
            if slot is None:
                return [*gone, (Op.MALLOC, self._slots.take(address), size, 0)]
            self._slots.attach(address, slot)
            return [*gone, (Op.REALLOC, slot, max(size, 1), 0)]  # some C libraries shrink to size 0
        if slot is None:
            return []
        if size == 0:
            self._slots.give_back(slot)
            return [(Op.FREE, slot, 0, 0)]
        self._slots.attach(old, slot)  # it failed: all is as before
        return []
