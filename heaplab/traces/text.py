"""Traces as text: lines that are counted, for messages that name them."""

from collections.abc import Iterator
from typing import BinaryIO

from heaplab.errors import UsageError
from heaplab.traces.event import MAX_SIZE

_LINE_LIMIT = 200


class Lines:
    """The lines of a text trace, counted, and the sentences for what can be wrong in one."""

    def __init__(self, source: str, file: BinaryIO) -> None:
        self._source = source
        self._file = file
        self.number = 0
        self.line = b""

    def __iter__(self) -> Iterator[list[bytes]]:
        """The words of each line that has any."""
        while line := self._file.readline(_LINE_LIMIT):
            self.number += 1
            self.line = line
            if len(line) == _LINE_LIMIT:
                raise self.wrong("is too long for a trace")
            if words := line.split():
                yield words

    def wrong(self, why: str) -> UsageError:
        """The error that `why` holds for the line at hand."""
        shown = self.line.strip()[:40].decode(errors="backslashreplace")
        return UsageError(f"{self._source}: line {self.number} ({shown}) {why}")

    def whole(self, why: str) -> UsageError:
        """The error that `why` holds for the file."""
        return UsageError(f"{self._source}: {why}")

    def size(self, word: bytes) -> int:
        """The size, count or alignment that `word` says."""
        size = int(word)
        if not 0 <= size <= MAX_SIZE:
            raise self.wrong("has a size that no allocation can have")
        return size
