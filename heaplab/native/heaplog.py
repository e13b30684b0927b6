"""One image's heap, followed through its raw records: addresses become slots, pairs of records events."""

from collections.abc import Iterable
from typing import Self

from heaplab.native.raw import Kind
from heaplab.traces import NULL_ID, Op
from heaplab.traces.slots import SlotTable

Act = tuple[int, int, int]
"""What a record led to: the record's place among those given, the op, the id."""

_OPS = [0, Op.MALLOC, Op.CALLOC, Op.ALIGNED]


class HeapLog:
    """The live blocks of one image by address.

    strangers: frees and reallocs of blocks whose allocation was not seen; such a free is left out, such a
    realloc becomes a malloc.  lost_frees: addresses handed out again with no free in between; one is put in.

    >>> heap = HeapLog()
    >>> heap.follow([(Kind.MALLOC, 0, 0x1000, 24), (Kind.FREE, 0, 0, 0)])
    [(0, <Op.MALLOC: 0>, 0), (1, <Op.FREE: 1>, 4294967295)]
    >>> heap.follow([(Kind.REALLOC_BEGIN, 0, 0x1000, 0), (Kind.REALLOC_END, 0, 0x2000, 48)])
    [(1, <Op.REALLOC: 3>, 0)]
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

    def follow(self, records: Iterable[tuple[int, int, int, int]]) -> list[Act]:
        """What the next records (kind, thread, address, size) led to, in order.

        Cost: O(1) a record, under a microsecond.
        """
        slots = self._slots
        acts: list[Act] = []
        for row, (kind, thread, address, size) in enumerate(records):
            if kind <= Kind.ALIGNED:
                if address in slots:
                    acts.append(self._lost_free(row, address))
                acts.append((row, _OPS[kind], slots.take(address)))
            elif kind == Kind.FREE:
                if address in slots:
                    acts.append((row, Op.FREE, slots.release(address)))
                elif address == 0:
                    acts.append((row, Op.FREE, NULL_ID))
                else:
                    self.strangers += 1
            elif kind == Kind.REALLOC_BEGIN:
                self._begin_realloc(thread, address)
            elif kind == Kind.REALLOC_END:
                acts += self._end_realloc(row, thread, address, size)
        return acts

    def _lost_free(self, row: int, address: int) -> Act:
        self.lost_frees += 1
        return (row, Op.FREE, self._slots.release(address))

    def _begin_realloc(self, thread: int, address: int) -> None:
        """Until the call returns, another thread may be given `address`; the slot stays taken."""
        slot = self._slots.detach(address) if address in self._slots else None
        self.strangers += slot is None
        self._reallocs.setdefault(thread, []).append((address, slot))

    def _end_realloc(self, row: int, thread: int, address: int, size: int) -> list[Act]:
        calls = self._reallocs.get(thread)
        old, slot = calls.pop() if calls else (0, None)
        if address:
            acts = [self._lost_free(row, address)] if address in self._slots else []
            if slot is None:
                return [*acts, (row, Op.MALLOC, self._slots.take(address))]
            self._slots.attach(address, slot)
            return [*acts, (row, Op.REALLOC, slot)]
        if slot is not None and size == 0:
            self._slots.give_back(slot)
            return [(row, Op.FREE, slot)]
        if slot is not None:
            self._slots.attach(old, slot)  # it failed: all is as before
        return []
