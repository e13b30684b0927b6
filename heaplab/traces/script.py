"""A few requests as a person writes them: `a0 400; a1 100; f0; a2 280`.

    a0 400         malloc: block 0, 400 bytes         c0 400    calloc
    m0 64 400      aligned_alloc: at a multiple of 64
    r0 800         realloc                            f0        free
    fork           the process forks: its child is process 1, the next one 2
    exit           the process exits
    f0 @1          any of them in process 1: without it, in process 0

Requests stand between semicolons or on lines of their own; `#` begins a comment.  Sizes may have units: 4k,
1 MiB.
"""

import re
from typing import Final

from heaplab.errors import UsageError
from heaplab.traces.event import NULL_ID, Event, Op
from heaplab.units import parse_size

_REQUEST: Final = re.compile(
    r"(?P<op>[acmrf])\s*(?P<id>\d+)(?:\s+(?P<sizes>[^@]*\S))?\s*(?:@\s*(?P<process>\d+))?"
)
_PROCESS: Final = re.compile(r"(?P<op>fork|exit)\s*(?:@\s*(?P<process>\d+))?")
_SIZE: Final = re.compile(r"\S+(?:\s+[KMGT]?i?B\b)?", re.IGNORECASE)
_OPS: Final = {"a": Op.MALLOC, "c": Op.CALLOC, "m": Op.ALIGNED, "r": Op.REALLOC, "f": Op.FREE}
#: sizes that follow the block
_SIZES: Final = {"a": 1, "c": 1, "m": 2, "r": 1, "f": 0}
_HINT: Final = "write a0 400, c0 400, m0 64 400, r0 800, f0, fork or exit, with @1 for process 1"


def parse_script(text: str) -> list[Event]:
    """Return the requests as events; they need not make a valid trace: a block may be freed twice.

    Raises: UsageError naming the request that nobody can read.

    >>> [str(event) for event in parse_script("a0 400; m1 64 1k; f0; fork; f1 @1")]
    ['malloc 0 400', 'aligned 1 1024 64', 'free 0', 'fork 1', 'free 1 (process 1, thread 0)']
    """
    events: list[Event] = []
    children = 0
    for line in text.splitlines():
        for piece in line.partition("#")[0].split(";"):
            if request := piece.strip():
                event = _event(request, children + 1)
                children += event.op == Op.FORK
                events.append(event)
    if not events:
        raise UsageError(f"there is no request in {text!r}: {_HINT}")
    return events


def _event(request: str, child: int) -> Event:
    match = _PROCESS.fullmatch(request)
    if match is not None:
        process = int(match["process"] or 0)
        return (
            Event(Op.FORK, child, process=process)
            if match["op"] == "fork"
            else Event(Op.EXIT, process=process)
        )
    match = _REQUEST.fullmatch(request)
    if match is None:
        raise UsageError(f"{request!r} is no request: {_HINT}")
    op, sizes = match["op"], _SIZE.findall(match["sizes"] or "")
    if len(sizes) != _SIZES[op]:
        raise UsageError(f"{request!r} has {len(sizes)} of the {_SIZES[op]} sizes that it needs: {_HINT}")
    try:
        numbers = [parse_size(size) for size in sizes]
    except UsageError as error:
        raise UsageError(f"{request!r}: {error}") from error
    slot = int(match["id"])
    if slot >= NULL_ID:
        raise UsageError(f"{request!r}: blocks have numbers below {NULL_ID}")
    size, align = (numbers[-1] if numbers else 0), (numbers[0] if op == "m" else 0)
    return Event(_OPS[op], slot, size, align, process=int(match["process"] or 0))
