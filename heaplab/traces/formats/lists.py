"""Lists of requests that name a block by the number of its allocation.

+10,-0,+20,+5,-1            OSTEP's malloc.py: -K frees the K-th allocation, from 0
Alloc(24), Free(0)          wee_alloc's traces: the same
"""

import re
from collections.abc import Iterator

from heaplab.traces.calls import FREE, MALLOC, Call
from heaplab.traces.formats.base import Format
from heaplab.traces.pieces import items
from heaplab.traces.streams import Stream


class _Requests(Format):
    """A list of requests; `_allocation` and `_release` match one each, with its number."""

    unit = "item"
    unknown = "frees a block that is not allocated"
    _allocation: re.Pattern[bytes]
    _release: re.Pattern[bytes]

    def __init__(self) -> None:
        self._allocated = 0

    @classmethod
    def recognises(cls, start: bytes) -> bool:
        first = start.lstrip(b" \t\r\n[").partition(b",")[0].split()
        return bool(first) and any(form.fullmatch(first[0]) for form in (cls._allocation, cls._release))

    def pieces(self, stream: Stream, shown: str) -> Iterator[list[bytes]]:
        return items(stream, shown)

    def parse(self, piece: bytes) -> Call | None:
        if found := self._allocation.fullmatch(piece):
            size = int(found[1])
            self._allocated += 1
            return (MALLOC, 0, self._allocated, size, 0, 0)
        if found := self._release.fullmatch(piece):
            return (FREE, 0, int(found[1]) + 1, 0, 0, 0)
        raise ValueError


class Ostep(_Requests):
    """The grammar of the lists of OSTEP's malloc.py."""

    name = "OSTEP list"
    shape = ": write +SIZE or -NUMBER"
    _allocation = re.compile(rb"\+(\d+)")
    _release = re.compile(rb"-(\d+)")


class WeeAlloc(_Requests):
    """The grammar of wee_alloc's traces."""

    name = "wee_alloc"
    shape = ": write Alloc(SIZE) or Free(NUMBER)"
    _allocation = re.compile(rb"Alloc\((\d+)\)")
    _release = re.compile(rb"Free\((\d+)\)")
