"""What glibc's mtrace() writes.

    @ WHERE + ADDRESS SIZE      malloc, also calloc and memalign
    @ WHERE - ADDRESS           free
    @ WHERE < OLD               realloc, from
    @ WHERE > NEW SIZE          realloc, to
    @ WHERE ! OLD SIZE          realloc that failed
    = Start, = End

Sizes are hexadecimal.  WHERE may hold spaces and brackets, so a line is read from its end.
"""

import re

from heaplab.traces.calls import FREE, MALLOC, REALLOC_BEGIN, REALLOC_END, Call
from heaplab.traces.formats.base import Format
from heaplab.traces.formats.c_calls import pointer

_LINE = re.compile(
    rb"^(= Start|@ .* (([+>!] (0x[0-9a-f]+|\(nil\)) (0x)?[0-9a-f]+)|[-<] 0x[0-9a-f]+))\r?$", re.M
)


class MTrace(Format):
    """The grammar of mtrace."""

    name = "glibc mtrace"
    shape = "of mtrace"
    start = _LINE
    lost = "it tells no threads and times, and calloc and memalign as malloc"

    def parse(self, piece: bytes) -> Call | None:
        words = piece.split()
        if not words or words[0] == b"=":
            return None
        sign = words[-3] if len(words) > 2 else b""
        if sign in (b"+", b">", b"!"):
            address, size = pointer(words[-2]), int(words[-1], 16)
            if sign == b"!":
                return None
            return (MALLOC if sign == b"+" else REALLOC_END, 0, address, size, 0, 0)
        sign, address = words[-2], pointer(words[-1])
        if sign == b"-":
            return (FREE, 0, address, 0, 0, 0)
        if sign == b"<":
            return (REALLOC_BEGIN, 0, address, 0, 0, 0)
        raise ValueError
