"""Slots for blocks that a recording or a text trace knows by other names: addresses, arbitrary numbers."""

from collections.abc import Hashable, Iterable
from typing import Self


class SlotTable:
    """Which slot stands for which live block of one process.

    The slot most recently given back is the next one taken.  Each operation costs O(1), a copy O(n).

    >>> table = SlotTable()
    >>> table.take(0x5000), table.take(0x6000), table.release(0x5000), table.take(0x7000)
    (0, 1, 0, 0)
    >>> 0x6000 in table, 0x5000 in table
    (True, False)
    """

    def __init__(self) -> None:
        self._slots: dict[Hashable, int] = {}
        self._free: list[int] = []
        self._used = 0

    def __contains__(self, name: Hashable) -> bool:
        return name in self._slots

    def __len__(self) -> int:
        """How many names stand for a slot."""
        return len(self._slots)

    def names(self) -> Iterable[Hashable]:
        """The names that stand for a slot."""
        return self._slots.keys()

    def take(self, name: Hashable) -> int:
        """Return a free slot, which `name`, as yet unknown, now stands for."""
        if self._free:
            slot = self._free.pop()
        else:
            slot = self._used
            self._used += 1
        self._slots[name] = slot
        return slot

    def release(self, name: Hashable) -> int:
        """Return the slot that `name` stood for, which is free again.  Raises: KeyError if there is none."""
        slot = self._slots.pop(name)
        self._free.append(slot)
        return slot

    def slot(self, name: Hashable) -> int:
        """Return the slot that `name` stands for.  Raises: KeyError if there is none."""
        return self._slots[name]

    def detach(self, name: Hashable) -> int:
        """Return the slot that `name` stood for; it stays taken, with no name, until `attach` or `give_back`.

        Raises: KeyError if there is none.
        """
        return self._slots.pop(name)

    def attach(self, name: Hashable, slot: int) -> None:
        """Let `name`, as yet unknown, stand for a slot that was detached."""
        self._slots[name] = slot

    def give_back(self, slot: int) -> None:
        """Free a slot that was detached."""
        self._free.append(slot)

    def copy(self) -> Self:
        """Return a table with the same contents, as fork makes it."""
        twin = type(self)()
        twin._slots = self._slots.copy()
        twin._free = self._free.copy()
        twin._used = self._used
        return twin
