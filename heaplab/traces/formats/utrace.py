"""What jemalloc prints with its option utrace.

    <jemalloc>:utrace: PID malloc_init()
    <jemalloc>:utrace: PID 0x1000 = malloc(34)
    <jemalloc>:utrace: PID 0x2000 = realloc(0x1000, 45)
    <jemalloc>:utrace: PID free(0x2000)

Other lines are the program's own.  `malloc_init()` begins a program.
"""

import re
from collections.abc import Hashable

from heaplab.traces.calls import EXEC, Call
from heaplab.traces.formats.base import Format
from heaplab.traces.formats.c_calls import allocates, call_of, pointer

_MARK = b"<jemalloc>:utrace: "
_LINE = re.compile(_MARK + rb"(\d+) (?:(\S+) = )?(\w+)\(([^()]*)\)\s*")


class UTrace(Format):
    """The grammar of jemalloc's utrace."""

    name = "jemalloc utrace"
    shape = "of jemalloc's utrace"
    lost = "it tells no threads and times, aligned blocks as malloc, and a realloc that failed as free"

    @classmethod
    def recognises(cls, start: bytes) -> bool:
        return _MARK in start

    def process_of(self, who: Hashable) -> Hashable:
        return who

    def parse(self, piece: bytes) -> Call | None:
        if not piece.startswith(_MARK):
            return None
        found = _LINE.fullmatch(piece)
        if found is None:
            raise ValueError
        process, result, name, arguments = found.groups()
        if name == b"malloc_init":
            return (EXEC, process, 0, 0, 0, 0)
        if allocates(name) == (result is None):
            raise ValueError
        return call_of(name, arguments.split(b","), pointer(result or b"0"), process)
