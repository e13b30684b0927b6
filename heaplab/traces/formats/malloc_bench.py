"""malloc-bench's traces: a protobuf message, read field by field.

    Tracefile  1: a line, repeated                     malloc   1: id, 2: size, 3: alignment
               2: the most blocks live at once         free     1: id
    line       one of 1: malloc, 2: free,              realloc  1: new id, 2: old id, 3: size
               3: realloc, 4: calloc                   calloc   1: id, 2: count, 3: size

An absent id is NULL.
"""

from collections.abc import Iterator

from heaplab.errors import UsageError
from heaplab.traces.calls import ALIGNED, CALLOC, FREE, MALLOC, REALLOC, Call
from heaplab.traces.formats.base import Format
from heaplab.traces.pieces import LONGEST
from heaplab.traces.streams import Stream

_LINE_TAG = 0x0A
_OPS = (0x0A, 0x12, 0x1A, 0x22)
_VARINT, _BYTES = 0, 2
_FIXED = {1: 8, 5: 4}
_LONGEST_VARINT = 10


class MallocBench(Format):
    """The grammar of malloc-bench's messages."""

    name = "malloc-bench"
    unit = "message"
    shape = "of malloc-bench"
    lost = "it tells no threads and times"
    unknown = "names an id that is not allocated"
    taken = "allocates an id that is allocated already"

    @classmethod
    def recognises(cls, start: bytes) -> bool:
        return len(start) > 3 and start[0] == _LINE_TAG and start[2] in _OPS and start[3] == start[1] - 2

    def pieces(self, stream: Stream, shown: str) -> Iterator[list[bytes]]:
        """The lines of the file, as the bytes of their messages."""
        data, passed = b"", 0
        for part in stream.parts():
            data += part
            batch, at = [], 0
            while True:
                try:
                    number, value, end = _field(data, at)
                except IndexError:
                    break
                except ValueError as error:
                    raise UsageError(f"{shown}: is damaged at byte {passed + at}, {error}") from None
                if number == 1 and isinstance(value, bytes):
                    batch.append(value)
                at = end
            passed += at
            data = data[at:]
            if len(data) > 2 * LONGEST:
                raise UsageError(f"{shown}: is damaged at byte {passed}, a message there is too long")
            yield batch
        if data:
            raise UsageError(f"{shown}: is truncated, its end is missing: copy it again")

    def parse(self, piece: bytes) -> Call | None:
        op, body, end = _field(piece, 0)
        if end != len(piece) or not isinstance(body, bytes):
            raise ValueError
        values: dict[int, int] = {}
        at = 0
        while at < len(body):
            number, value, at = _field(body, at)
            if isinstance(value, int):
                values[number] = value
        name = values[1] + 1 if 1 in values else 0
        second, third = values.get(2, 0), values.get(3, 0)
        if op == 1:
            if third:
                return (ALIGNED, 0, name, second, third, 0)
            return (MALLOC, 0, name, second, 0, 0)
        if op == 2:
            return (FREE, 0, name, 0, 0, 0)
        if op == 3:
            return (REALLOC, 0, name, third, second + 1 if 2 in values else 0, 0)
        if op == 4:
            return (CALLOC, 0, name, second * third, 0, 0)
        raise ValueError


def _field(data: bytes, at: int) -> tuple[int, int | bytes, int]:
    """Number and value of the field at `at`, and where it ends.

    Raises: IndexError when `data` ends before it does, ValueError when it is none.
    """
    key, at = _varint(data, at)
    number, wire = key >> 3, key & 7
    if wire == _VARINT:
        value, at = _varint(data, at)
        return number, value, at
    if wire == _BYTES:
        length, at = _varint(data, at)
        if length > LONGEST:
            raise ValueError("a message there is too long")
    elif wire in _FIXED:
        length = _FIXED[wire]
    else:
        raise ValueError("there is no field of a known kind there")
    if at + length > len(data):
        raise IndexError
    return number, data[at : at + length], at + length


def _varint(data: bytes, at: int) -> tuple[int, int]:
    """The number at `at`, and where it ends."""
    byte = data[at]
    if byte < 0x80:
        return byte, at + 1
    value, shift = byte & 0x7F, 7
    while byte >= 0x80:
        at += 1
        byte = data[at]
        value |= (byte & 0x7F) << shift
        shift += 7
        if shift > 7 * _LONGEST_VARINT:
            raise ValueError("a number there has no end")
    return value, at + 1
