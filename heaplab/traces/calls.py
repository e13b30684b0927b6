"""What a format's grammar makes of one line: a call, by the names that the file has for threads and blocks.

A call is a tuple, for there are many of them:

| field   | content |
|---------|---------|
| kind    | one of the constants below |
| who     | the thread that called, by any hashable name; `Format.process_of` tells the process |
| address | of the block that the call returned, or released; 0 is NULL |
| size    | bytes requested (CALLOC: the product) |
| extra   | ALIGNED: the alignment in bytes; REALLOC: the address of the old block; 0 elsewhere |
| time    | nanoseconds since any moment; 0 where the format has no times |

Formats without addresses name blocks by numbers of their own, from 1, because 0 is NULL.
"""

from collections.abc import Hashable

from heaplab.traces.event import Op

Call = tuple[int, Hashable, int, int, int, int]

MALLOC = int(Op.MALLOC)
FREE = int(Op.FREE)
CALLOC = int(Op.CALLOC)
REALLOC = int(Op.REALLOC)  # realloc(extra, size) returned address
ALIGNED = int(Op.ALIGNED)
EXEC = int(Op.EXEC)  # the process begins a program with an empty heap
EXIT = int(Op.EXIT)  # the process is gone
THREAD_EXIT = int(Op.THREAD_EXIT)  # the thread is gone; it freed `address` first, if that is not NULL
BEGIN = 16  # the thread, or the forked process, is there from now on
RESIZE = 17  # .rep's realloc, whose block keeps its name: realloc(NULL, size) where none is allocated
REALLOC_BEGIN = 18  # a realloc of `address` was called: others may be given the address before it returns
REALLOC_END = 19  # the thread's latest realloc returned `address`

UNKNOWN_FREES = "frees of unknown blocks"
UNKNOWN_REALLOCS = "reallocs of unknown blocks"
MISSING_FREES = "frees that are missing"
BAD_SIZES = "calls with impossible sizes"
BAD_TIMES = "lines with impossible times"
BAD_ALIGNMENTS = "calls with impossible alignments"
TOO_MANY = "calls above what a trace can number"
BAD_LINES = "lines that are no operation"


class Refusal(Exception):
    """A line, or the call in it, cannot be.

    why: the end of a sentence that begins with the line.  kind: what `--lenient` counts it as, in the plural.
    """

    def __init__(self, why: str, kind: str = BAD_LINES) -> None:
        self.why = why
        self.kind = kind
        super().__init__(why)
