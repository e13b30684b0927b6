"""Blocks of events as the C core sees them: csrc/replay/events.h."""

from typing import Any

from heaplab._core import ffi
from heaplab.traces.event import Block

_COLUMNS = {
    "op": "uint8_t *",
    "id": "uint32_t *",
    "size": "uint64_t *",
    "align": "uint32_t *",
    "thread": "uint16_t *",
    "process": "uint16_t *",
}


def raw_events(block: Block) -> Any:
    """Return a C hl_events that points to the columns of `block`, and is good for as long as it lives.

    >>> from heaplab.traces import Event, Op
    >>> block = Block.of([Event(Op.MALLOC, 0, 24), Event(Op.FREE, 0)])
    >>> [raw_events(block).op[row] for row in range(2)]
    [0, 1]
    """
    pointers = {name: ffi.cast(type_, getattr(block, name).ctypes.data) for name, type_ in _COLUMNS.items()}
    return ffi.new("hl_events *", pointers)
