"""What Firefox's logalloc writes, plain and munged.

    PID TID malloc(100)=0x1000      PID TID realloc(#1,200)=#2
    PID TID free(#2)                PID TID jemalloc_stats()

The munged form, `#N`, numbers the addresses; #0 is NULL.  Older logs have no TID.
"""

import re

from heaplab.traces.calls import Call
from heaplab.traces.formats.base import Format
from heaplab.traces.formats.c_calls import allocates, call_of, pointer

_LINE = re.compile(rb"(\d+)(?: (\d+))? (\w+)\(([^()]*)\)(?:=(\S+))?")
_START = re.compile(
    rb"^\d+( \d+)? (malloc|calloc|realloc|free|memalign|posix_memalign|jemalloc_\w+)\([^()]*\)(=|\r?$)", re.M
)


class LogAlloc(Format):
    """The grammar of logalloc."""

    name = "Firefox logalloc"
    shape = "of logalloc"
    start = _START
    lost = "it tells no times; each process begins with an empty heap"
    spawns = True

    def parse(self, piece: bytes) -> Call | None:
        line = piece.strip()
        if not line:
            return None
        found = _LINE.fullmatch(line)
        if found is None:
            raise ValueError
        process, thread, name, arguments, result = found.groups()
        if allocates(name) and result is None:
            raise ValueError
        return call_of(
            name,
            [_plain(word) for word in arguments.split(b",")],
            pointer(_plain(result or b"0")),
            (process, thread),
        )


def _plain(word: bytes) -> bytes:
    """An address for `#N`: the number itself."""
    return b"%#x" % int(word[1:]) if word.startswith(b"#") else word
