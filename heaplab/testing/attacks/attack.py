"""What an attack is: a short history of a heap, a program's mistake, and what the program does afterwards.

An attack names places, not addresses, so one attack can be played on every design.  It prints as lines:

    malloc 0 100
    malloc 1 100
    free 0
    write block 0 + 8: root + 24
    malloc 2 100
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from heaplab.testing.steps import Free, Malloc, Realloc

#: bits of a word
WORD: Final = (1 << 64) - 1


class Place(StrEnum):
    """Where an address is counted from."""

    NOWHERE = ""  # the offset is the whole value
    BLOCK = "block"  # the payload of a slot's block, also when it is free again
    BEHIND = "behind block"  # the first byte after the usable bytes of a slot's block
    METADATA = "metadata word"  # the nth word that is not zero in the heap's metadata beside the blocks
    ROOT = "root"  # the heap's root
    END = "end"  # the program break
    MAPPING = "mapping"  # a mapping of the program's own
    STACK = "stack"  # the program's stack
    THERE = "there"  # the word that stands where the program writes


@dataclass(frozen=True)
class Value:
    """An address or a word: an offset in bytes from a place.  slot: which block, or which word of metadata.

    >>> print(Value(Place.BLOCK, -8, slot=3), Value(Place.ROOT, 24), Value(Place.NOWHERE, 65), sep="; ")
    block 3 - 8; root + 24; 0x41
    """

    place: Place
    offset: int = 0
    slot: int = 0

    def __str__(self) -> str:
        if self.place is Place.NOWHERE:
            return f"{self.offset & WORD:#x}"
        slot = f" {self.slot}" if self.place in (Place.BLOCK, Place.BEHIND, Place.METADATA) else ""
        sign = "-" if self.offset < 0 else "+"
        return f"{self.place}{slot}" + (f" {sign} {abs(self.offset)}" if self.offset else "")


@dataclass(frozen=True)
class Write:
    """The program writes one word where it should not; or into a block of its own, as it may."""

    at: Value
    word: Value

    def __str__(self) -> str:
        return f"write {self.at}: {self.word}"


@dataclass(frozen=True)
class Spill:
    """The program writes bytes where it should not: past the end of a block."""

    at: Value
    data: bytes

    def __str__(self) -> str:
        return f"write {self.at}: {self.data.hex(' ')}"


@dataclass(frozen=True)
class Forge:
    """The program writes a word with a valid seal: the one that seal=public makes of `tag`.

    named: the header belongs to a block whose name is the address `at` plus `named` bytes.
    """

    at: Value
    tag: Value
    named: int

    def __str__(self) -> str:
        return f"forge {self.at}: tag {self.tag} for the block {self.named} bytes behind"


@dataclass(frozen=True)
class FreeWrong:
    """The program frees what is no block of its own: one that is free already, or a foreign pointer."""

    pointer: Value

    def __str__(self) -> str:
        return f"free wrongly {self.pointer}"


Step = Malloc | Free | Realloc | Write | Spill | Forge | FreeWrong


@dataclass(frozen=True)
class Attack:
    """The steps of one attack, the mistake among them."""

    steps: tuple[Step, ...]

    def __str__(self) -> str:
        return "\n".join(map(str, self.steps))

    def without(self, index: int) -> "Attack":
        """Return the same attack with one step left out."""
        return Attack(self.steps[:index] + self.steps[index + 1 :])
