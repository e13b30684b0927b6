"""The pieces that a trace of another format is made of, in batches: lines, or items of a list."""

import re
from collections.abc import Iterator

from heaplab.errors import UsageError
from heaplab.traces.streams import Stream

LONGEST = 1 << 20
"""Bytes of the longest piece."""

_BETWEEN_ITEMS = re.compile(rb"[\s,\[\]]+")


def lines(stream: Stream, shown: str) -> Iterator[list[bytes]]:
    """The lines of `stream` without their line feeds, many at a time.

    Memory: a part of the stream, and one line.  Raises: UsageError for a line above LONGEST.

    >>> list(lines(Stream(iter([b"a\\nb", b"c\\nd"])), "example"))
    [[b'a'], [b'bc'], [b'd']]
    """
    rest = b""
    number = 1
    for part in stream.parts():
        batch = part.split(b"\n")
        batch[0] = rest + batch[0]
        rest = batch.pop()
        if len(rest) > LONGEST or (batch and len(batch[0]) > LONGEST):
            raise UsageError(f"{shown}: a line near line {number} is too long for a trace")
        number += len(batch)
        yield batch
    if rest:
        yield [rest]


def items(stream: Stream, shown: str) -> Iterator[list[bytes]]:
    """The items of a list in `stream`: what stands between commas, brackets and white space.

    >>> list(items(Stream(iter([b"[+10, -", b"0]"])), "example"))
    [[b'+10'], [b'-0']]
    """
    rest = b""
    for part in stream.parts():
        batch = _BETWEEN_ITEMS.split(rest + part)
        rest = batch.pop()
        if len(rest) > LONGEST:
            raise UsageError(f"{shown}: has an item that is too long for a trace")
        yield [item for item in batch if item]
    if rest:
        yield [rest]
