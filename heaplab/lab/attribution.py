"""Where every resident byte is, at one moment; and the blocks that keep pages which are mostly free.

A *frame* counts once, whoever shares it.  Each of its bytes is one of these, the first that is true:

| part | a byte of it |
|------|--------------|
| copied | lies in a copy that a write after a fork made of a frame; see below |
| payload | is live payload of a process that has the frame |
| internal | is in a block that a program has, around its payload: header, padding, rounding |
| metadata | is the design's own, apart from the blocks |
| pinned | is free, in a frame that also holds a block or metadata |
| vacant | is free, in a frame that holds neither: it could go back to the kernel |

Copies and the original are one *family* of frames. Of those that are still there one counts as the original:
that of the process with the lowest number. The others are copied, whatever is in them: they would not be
there if nobody had written.

Free is what is none of the others, so the six add up to the resident size.  A *sparse* frame is pinned, and
more than half of it is free; the blocks that lie in sparse frames, at least with a byte, are the *pins*.

`Excess` (metrics) is of address space, heap by heap; this is of memory.  While no process has forked, pinned
and vacant are the same in both, and internal and metadata here are what of theirs has a frame.
"""

from dataclasses import dataclass, replace
from typing import Final

from heaplab.shown import text

#: the most groups of pins of each kind
MOST_PINS = 8
#: of pins by age, those that were made in the first half of the events so far
OLD = "older than half the run"


@dataclass(frozen=True)
class Pin:
    """Blocks that keep sparse frames resident, grouped in one of several ways.

    by: "age", "size" or "site".  what: the group, in words.  blocks: how many; bytes: of them, headers
    included.  since: the first event that made, or last reallocated, one of them.
    pages: sparse frames that hold at least a byte of the group.
    falls: of these pages, those that hold nothing but blocks of the group: if the blocks lived elsewhere, the
    pages would fall.
    """

    by: str
    what: str
    blocks: int
    bytes: int
    since: int
    pages: int
    falls: int


@dataclass(frozen=True)
class Rounding:
    """What blocks of one class of sizes have around their payload.

    what: the sizes asked for, in words.  blocks: how many; bytes: of frames, in these blocks and no payload.
    """

    what: str
    blocks: int
    bytes: int


@dataclass(frozen=True)
class Attribution:
    """Where all resident bytes are after `event` events; exact.

    resident == payload + internal + metadata + pinned + vacant + copied, in bytes: the module defines them.
    page: bytes.  sparse: bytes of pinned that lie in sparse frames.  sparse_pages: their number.
    pin_blocks, pin_bytes: the blocks that lie in sparse frames, headers included.
    falls: sparse frames that hold blocks and no metadata.  They would fall if the pins lived elsewhere,
    where the pins would take pin_bytes.
    pins: the blocks of pin_blocks by age, by size and, if call sites are known, by site.  Of each kind there
    are at most `MOST_PINS` groups: those by which most pages would fall.
    rounding: internal by the size of the payload, the most first.  It adds up to internal unless processes
    share frames.  pins and rounding are () where nobody looked closely.

    >>> found = Attribution(
    ...     event=9,
    ...     page=4096,
    ...     resident=8192,
    ...     **dict(payload=1000, internal=24, metadata=0, pinned=3072, vacant=4096, copied=0),
    ... )
    >>> found.resident == sum(found.parts.values())
    True
    """

    event: int
    page: int
    resident: int
    payload: int
    internal: int
    metadata: int
    pinned: int
    vacant: int
    copied: int
    sparse: int = 0
    sparse_pages: int = 0
    pin_blocks: int = 0
    pin_bytes: int = 0
    falls: int = 0
    pins: tuple[Pin, ...] = ()
    rounding: tuple[Rounding, ...] = ()

    def __str__(self) -> str:
        return text(self, "heaplab.report.plain:attribution_text")

    @property
    def parts(self) -> dict[str, int]:
        """The six parts, by name."""
        return {name: getattr(self, name) for name in PARTS}

    def without_pins(self) -> "Attribution":
        """The same as if nobody had looked closely."""
        return replace(self, pin_blocks=0, pin_bytes=0, falls=0, pins=(), rounding=())

    def by(self, kind: str) -> tuple[Pin, ...]:
        """The pins, grouped by "age", "size" or "site"."""
        return tuple(pin for pin in self.pins if pin.by == kind)


#: the parts of the resident size, in the order in which a byte is asked
PARTS: Final = ("copied", "payload", "internal", "metadata", "pinned", "vacant")
