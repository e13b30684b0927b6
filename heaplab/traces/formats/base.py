"""What a format is: how to recognise it, the pieces it is made of, and what each piece says."""

import re
from collections.abc import Hashable, Iterator
from typing import ClassVar

from heaplab.traces.calls import Call
from heaplab.traces.pieces import lines
from heaplab.traces.streams import Stream


class Format:
    """A format of other programs; an instance reads one file, and keeps what its grammar must remember.

    name: what people call it.  unit: what a piece is.  shape: how a piece has to look, for messages.
    lost: what the format has, or hides, that the trace does not hold; the end of the trace's note.
    start: what is searched for in the beginning of a file: where it is found, the file is of the format.
    spawns: whether a new process begins with an empty heap, and not with a copy of its parent's.
    unknown, taken: what is wrong with a call that names no block, or that allocates where one is.
    """

    name: ClassVar[str]
    unit: ClassVar[str] = "line"
    shape: ClassVar[str] = ""
    lost: ClassVar[str] = ""
    start: ClassVar[re.Pattern[bytes] | None] = None
    spawns: ClassVar[bool] = False
    unknown: ClassVar[str] = "names an address where no block is"
    taken: ClassVar[str] = "allocates a block where one is"

    @classmethod
    def recognises(cls, start: bytes) -> bool:
        """Return True if a file that starts like this is meant as this format."""
        return cls.start is not None and cls.start.search(start) is not None

    def pieces(self, stream: Stream, shown: str) -> Iterator[list[bytes]]:
        """The pieces of the file, many at a time: its lines."""
        return lines(stream, shown)

    def parse(self, piece: bytes) -> Call | None:
        """Return the call that `piece` tells, None if it tells none.

        Raises: Refusal when it cannot be; ValueError or IndexError when it is not of the format.
        """
        raise NotImplementedError

    def process_of(self, who: Hashable) -> Hashable:
        """The name of the process of the thread that a call names: the same for all where none is told.

        Of a name that is a tuple it is the first part: (process, thread).
        """
        return who[0] if isinstance(who, tuple) else 0

    def remarks(self) -> Iterator[str]:
        """Sentences for the user, once all pieces were parsed."""
        return iter(())

    def note(self) -> str:
        """What the trace's note says of where it comes from, once all pieces were parsed."""
        return f"read from {self.name}" + (f": {self.lost}" if self.lost else "")


def first_line(start: bytes) -> bytes:
    """The first line of a text that is neither empty nor a comment."""
    for line in start.split(b"\n"):
        if (words := line.strip()) and not words.startswith(b"#"):
            return words
    return b""
