"""What heaptrack writes, interpreted: its .zst and .gz files.

    v VERSION FORMAT        the first line                c MS        time, in milliseconds
    a SIZE TRACE            allocation info: the next     + N         allocates as info N says
                            number has this size, stack   - N         frees a block of info N

All numbers are hexadecimal.  Blocks have no addresses: which of the live blocks of one info dies has to be
assumed.  It is taken to be the youngest.
"""

import re

from heaplab.traces.calls import FREE, MALLOC, UNKNOWN_FREES, Call, Refusal
from heaplab.traces.formats.base import Format

_FIRST_LINE = re.compile(rb"v [0-9a-f]+ [0-9a-f]+\r?\n")


class Heaptrack(Format):
    """The grammar of heaptrack's files.  Memory: sizes of the infos, live blocks of each."""

    name = "heaptrack"
    shape = "of heaptrack"
    lost = (
        "it tells no addresses: of equal blocks of one call site the youngest is taken to be freed; no "
        "threads; calloc and realloc as malloc and free; stacks are not kept"
    )
    unknown = "frees a block of which no more are allocated"

    def __init__(self) -> None:
        self._sizes: list[int] = []
        self._live: list[list[int]] = []
        self._allocated = 0
        self._time = 0

    @classmethod
    def recognises(cls, start: bytes) -> bool:
        return _FIRST_LINE.match(start) is not None

    def parse(self, piece: bytes) -> Call | None:
        kind = piece[:2]
        if kind == b"+ ":
            info = _number(piece[2:])
            size = self._sizes[info]
            self._allocated += 1
            self._live[info].append(self._allocated)
            return (MALLOC, 0, self._allocated, size, 0, self._time)
        if kind == b"- ":
            live = self._live[_number(piece[2:])]
            if not live:
                raise Refusal(self.unknown, UNKNOWN_FREES)
            return (FREE, 0, live.pop(), 0, 0, self._time)
        if kind == b"a ":
            self._sizes.append(_number(piece.split()[1]))
            self._live.append([])
        elif kind == b"c ":
            self._time = _number(piece[2:]) * 10**6
        return None


def _number(word: bytes) -> int:
    number = int(word, 16)
    if number < 0:
        raise ValueError
    return number
