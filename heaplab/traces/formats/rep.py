"""The .rep traces of malloc courses, read and written.

No header, or two or four header lines with one number each, then one operation a line:

    a 5 100     malloc of 100 bytes, called 5           f 5     free
    r 5 200     realloc                                 f -1    free(NULL)

The header is `ids, ops`; or `heap size, ids, ops, weight` (classic); or `weight, ids, ops, peak live bytes`
(newer).  `#` begins a comment.  There are no times, threads, processes, alignments and callocs.

`r` of an id that is not allocated is realloc(NULL, n), as the drivers do it, also after `r ID 0`.
"""

import re
from collections.abc import Iterator
from typing import BinaryIO, Literal

import numpy as np
import numpy.typing as npt

from heaplab.errors import UsageError
from heaplab.traces.calls import FREE, MALLOC, RESIZE, UNKNOWN_FREES, Call, Refusal
from heaplab.traces.event import NULL_ID, Block, Op
from heaplab.traces.formats.base import Format, first_line
from heaplab.traces.trace import Trace

_FIRST_LINE = re.compile(rb"\d+|[ar]\s+\d+\s+\d+|f\s+(-1|\d+)")
_LETTERS = {Op.MALLOC: "a", Op.CALLOC: "a", Op.ALIGNED: "a", Op.REALLOC: "r", Op.FREE: "f"}

Heading = Literal["newer", "classic"]

#: weights that a header can state: of nothing, of both, of utilisation, of throughput
_WEIGHTS = range(4)


def weight_in(start: bytes) -> int | None:
    """Return the weight in the header of a .rep file that begins with `start`; None where it has none.

    The newer header begins with the weight, the classic one ends with it: its first number is a heap's size.

    >>> weight_in(b"2\\n1\\n2\\n900\\na 0 900\\n"), weight_in(b"20000\\n1\\n2\\n3\\na 0 900\\n")
    (2, 3)
    """
    start = start.removeprefix(b"\xef\xbb\xbf")
    lines = (line.partition(b"#")[0].split() for line in start.splitlines())
    numbers = []
    for words in filter(None, lines):
        if len(words) != 1 or not words[0].isdigit():
            break
        numbers.append(int(words[0]))
    if len(numbers) != 4 or not Rep.recognises(start):
        return None
    first, *_, last = numbers
    return first if first in _WEIGHTS else last if last in _WEIGHTS else None


class Rep(Format):
    """The grammar of .rep in its variants."""

    name = ".rep"
    unknown = "names an id that is not allocated"
    taken = "allocates an id that is allocated already"
    shape = ": write `a ID SIZE`, `r ID SIZE`, `f ID` or `f -1`"

    def __init__(self) -> None:
        self._header: list[int] = []
        self._operations = 0

    @classmethod
    def recognises(cls, start: bytes) -> bool:
        line = first_line(start).partition(b"#")[0].strip()
        return _FIRST_LINE.fullmatch(line) is not None

    def parse(self, piece: bytes) -> Call | None:
        words = piece.partition(b"#")[0].split()
        if not words:
            return None
        if not self._operations and len(words) == 1 and words[0].isdigit():
            self._header.append(int(words[0]))
            return None
        if not self._operations and len(self._header) not in (0, 2, 4):
            raise Refusal(f"follows {len(self._header)} header lines: a .rep file has none, 2 or 4")
        self._operations += 1
        letter, name = words[0], int(words[1])
        if letter == b"f" and len(words) == 2:
            if name < -1:
                raise Refusal(self.unknown, UNKNOWN_FREES)
            return (FREE, b"", name + 1, 0, 0, 0)
        size = int(words[2])
        if len(words) > 3 or name < 0:
            raise ValueError
        if letter == b"a":
            return (MALLOC, b"", name + 1, size, 0, 0)
        if letter == b"r":
            return (RESIZE, b"", name + 1, size, 0, 0)
        raise ValueError

    def remarks(self) -> Iterator[str]:
        if len(self._header) not in (0, 2, 4):
            yield f"has {len(self._header)} header lines, and a .rep file has none, 2 or 4"
        elif self._header:
            promised = self._header[1] if len(self._header) == 2 else self._header[2]
            if promised != self._operations:
                yield f"promises {promised} operations and has {self._operations}: it may be truncated"


def write_rep(trace: Trace, file: BinaryIO, *, heading: Heading = "newer", null_frees: bool = False) -> None:
    """Write `trace` to `file`.  Times, threads with their ends, alignments are lost; callocs become mallocs.

    null_frees: whether `f -1` is written for free(NULL).  The classic driver indexes a table with that -1, so
    it is left out unless asked for.
    Raises: UsageError when the trace has process events, which .rep has no words for.
    """
    header = trace.header
    operations = header.events - header.ops.get("thread_exit", 0)
    if not null_frees:
        operations -= sum(int(_null_frees(block).sum()) for block in trace)
    if heading == "classic":
        numbers = (header.peak_live, header.slots, operations, 1)
    else:
        numbers = (1, header.slots, operations, header.peak_live)
    file.write("".join(f"{number}\n" for number in numbers).encode())
    for block in trace:
        lines = []
        for op, slot, size in zip(block.op.tolist(), block.id.tolist(), block.size.tolist(), strict=True):
            if op == Op.THREAD_EXIT:
                continue
            letter = _LETTERS.get(op)
            if letter is None:
                raise UsageError(
                    f"{trace.source}: has more than one program or process, .rep holds one: "
                    "`heaplab trace cut --process` takes one out"
                )
            if letter != "f":
                lines.append(f"{letter} {slot} {size}\n")
            elif slot != NULL_ID:
                lines.append(f"f {slot}\n")
            elif null_frees:
                lines.append("f -1\n")
        file.write("".join(lines).encode())


def _null_frees(block: Block) -> npt.NDArray[np.bool_]:
    null: npt.NDArray[np.bool_] = (block.op == Op.FREE) & (block.id == NULL_ID)
    return null
