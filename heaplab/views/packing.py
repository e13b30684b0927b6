"""The container: what a page, a widget and a server are given to show, as bytes.

    +------+-----------+-----------------------------------------------------------+
    | HLV1 | length    | one raw deflate stream: the JSON (`length` bytes, UTF-8), |
    |      | u4 little | then every column, one behind the other                   |
    +------+-----------+-----------------------------------------------------------+

The JSON is `{"manifest": {...}, "columns": {NAME: {"type", "length", "delta", "planes"}}}`, the columns in
the order of the stream.  All numbers are little-endian.

    type     "u1", "u2", "u4", "u8": unsigned integers of so many bytes; "f8": floating point
    delta    true: each value but the first is stored as the difference from the one before, modulo 2 ** bits
    planes   true: first the lowest byte of every value, then the second byte of every value, and so on

A value of "u8" is below 2 ** 53, so that JavaScript reads it exactly; its differences may wrap.  Undo the
planes first, then the differences.  `pack` chooses type, differences and planes of each integer column by
trying.

What a container says
---------------------
Events are numbered from 0.  The moment n is that after n events: event k leads from moment k to moment k +
1. `rN.` in a name stands for `r0.`, `r1.`, ...: of the first run, of the second.

The manifest of every kind:

    version, kind   1; "run", "window", "moment" or "block"
    trace           name, program, note, events, processes, threads, peak_live, and peak: the event that
                    reaches it
    runs            one for each design: allocator, language, outcome ("finished", "failed", "stopped"),
                    reason, events (carried out), page_size, structure (of the free blocks, in words, or
                    ""), regions:
                    [[start, end], ...], ascending and apart: where the heaps of all processes ever were
    texts           what columns of texts index; texts[0] is ""
    exact           [from, to]: the events whose blocks and columns are here to the byte
    states          names of the numbers in .span.state: free, allocated, large, cached, metadata
    page_states     names of the numbers in .page.state: absent, zero, own, shared, copied (own
                    since a write after fork)
    ops             names of the numbers in event.op
    remarks         sentences that a reader has to know, for instance what was left out

Kind "run".  A row a block that is there at some moment from `from` to `to`, ordered by `born`:

    block.born .died    the event that made it, and the event that ended it; trace.events: none did.  So the
                        block is there at the moments born + 1 to died
    block.slot .size .thread .process   as the trace says; size: the bytes requested
    block.site .stack   indices of texts: the function that asked for it, and all of the call stack, from
                        the outermost function on, with " > " between; only if there are call sites
    block.before        the row + 1 of the block that a realloc made into this one, or that a fork copied into
                        this one (then the processes differ); 0: none that has a row
    rN.address          the payload's address; 0: the run ended before
    rN.lead .span       bytes from the span's start to the payload; bytes of the span: as the event left it
    rN.word             index of texts: the block's header as the event left it, decoded

A row an event of `exact`:

    event.op .thread .process   as the trace says
    event.row           the row + 1 of the block that it makes, or else ends; 0: none (a realloc makes one)
    event.live          payload bytes of all processes after it
    event.time          nanoseconds since the trace began; only if the trace has times
    rN.mems .faults     memory references, and page faults, of this event
    rN.heap .resident   bytes of address space, and of frames, of all processes after it

The whole run in some hundred moments, for an overview:

    curve.moment        ascending, the last one is the end
    curve.live .time    then; time only if the trace has times
    rN.curve.heap .resident .mems       then; mems: of the events since the moment before

System calls for memory, in order:

    rN.call.event .process .text        text: as strace writes it, an index of texts

Moments that are recorded whole, K of them:

    key.moment          ascending
    rN.span.first       K + 1 numbers: of recorded moment i, rows first[i] to first[i + 1] of rN.span.* :
    rN.span.start .size .state .process     the spans of the walk that are no live blocks
    rN.free.first, rN.free.start .size .under .group .place .process
                        likewise the free structure, in the design's own order.  under: the start of the entry
                        that leads to it, 0: the root does; group and place index texts
    rN.page.first, rN.page.address .count .state .process
                        likewise runs of pages of one state, those that are absent left out
    rN.brk.first, rN.brk.value .process     likewise the break of each process that lives

Levels of the whole run, if it is too long for rows: in the manifest `levels`, a list of `{"run", "process",
"first", "events": E, "bytes": B, "columns": C, "rows": R, "starts": [...], "column": NAME}`.  The column NAME
has C * R numbers from 0 to 255: number i * R + j says how full memory is with spans of live blocks after the
E events from first + i * E on, by the B bytes from starts[j] on (fewer at a region's end); 255 is all of it.
Finer levels of a run and process come first.

Kind "window", the answer to a question for a part of one run: also run, from, to, low, high, process, mode.
Mode "blocks": block.*, event.*, r0.* of blocks and events as above, of the blocks of the process that live
within [from, to) and touch [low, high).  Mode "grid": one level as above, for there are too many blocks.

Kind "moment", the answer to a question for one moment of one run: also run, moment, fault (why the walk of
the heap broke off; "" when it did not).  Columns as of a recorded moment, K = 1, and what is more:

    r0.live.start .size .state .payload .usable .process    the spans that are live blocks
    r0.live.slot .requested .event .thread                  their labels; slot + 1, 0: the trace knows none
    ref.address .store  the memory references of the event that led here, in order; store: 1, or 0 for a load

Kind "block", the answer to a question for one span at a moment: also run, moment, process, start, size,
payload, usable, state.

    byte.value          the bytes of the span, the first 4096
    word.address .size .name .text .to      the design's own words in it, decoded: name and text index texts;
                        to: the start of the span, or the address, that it leads to; 0: nowhere
"""

import json
import struct
import zlib
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from heaplab.errors import UsageError

MAGIC = b"HLV1"
#: of deflate
LEVEL = 6
#: what is tried out of a column to choose how it is stored
_TRIED = 1 << 15
#: values of "u8" stay below it
_EXACT = 1 << 53
_TYPES = {name: np.dtype(f"<{name}") for name in ("u1", "u2", "u4", "u8", "f8")}
_HEAD = struct.Struct("<4sI")
#: the end of every stream: a last block that is empty
_LAST = b"\x03\x00"

Column = npt.NDArray[Any]
Columns = Mapping[str, Column]


class Piece(NamedTuple):
    """A column as it is stored: what the JSON says of it, and its part of the stream."""

    described: dict[str, Any]
    stream: bytes


def pack(manifest: Mapping[str, Any], columns: Columns, *, level: int = LEVEL) -> bytes:
    """Return the container of a manifest, which JSON can hold, and of columns.

    columns: one-dimensional, of integers from 0 to 2 ** 53 - 1, or of floating point.  level: of deflate,
    1 to 9.
    Cost: 0.05 us a byte of the columns.

    >>> container = pack({"kind": "run"}, {"block.born": np.array([0, 3, 4])})
    >>> unpack(container)
    ({'kind': 'run'}, {'block.born': array([0, 3, 4], dtype=uint8)})
    """
    return join(manifest, {name: store(name, column, level=level) for name, column in columns.items()})


def join(manifest: Mapping[str, Any], pieces: Mapping[str, Piece]) -> bytes:
    """Return the container of columns that are stored already."""
    described = {name: piece.described for name, piece in pieces.items()}
    told = json.dumps({"manifest": manifest, "columns": described}, separators=(",", ":"), ensure_ascii=False)
    head = told.encode()
    streams = [_deflate(head, LEVEL), *(piece.stream for piece in pieces.values()), _LAST]
    return b"".join([_HEAD.pack(MAGIC, len(head)), *streams])


def unpack(container: bytes) -> tuple[dict[str, Any], dict[str, Column]]:
    """Return what a container says: its manifest, and its columns by name, in their narrowest types.

    Raises: UsageError when the bytes are no container, or not all of one.
    """
    if len(container) < _HEAD.size or not container.startswith(MAGIC):
        raise UsageError("these bytes are no container of heaplab's: they do not begin with HLV1")
    length = _HEAD.unpack_from(container)[1]
    stream = zlib.decompressobj(-zlib.MAX_WBITS)
    try:
        raw = stream.decompress(container[_HEAD.size :]) + stream.flush()
    except zlib.error as error:
        raise UsageError(f"the container is damaged: {error}") from None
    if not stream.eof:
        raise UsageError("the container breaks off before its end")
    if stream.unused_data:
        raise UsageError("the container is damaged: bytes follow its end")
    try:
        told = json.loads(raw[:length].decode())
        manifest, described = told["manifest"], told["columns"]
        plan = [(name, how, _TYPES[how["type"]], int(how["length"])) for name, how in described.items()]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UsageError(f"the container's description cannot be read: {error!r}") from None
    columns, at = {}, length
    for name, how, dtype, count in plan:
        end = at + count * dtype.itemsize
        if count < 0 or end > len(raw):
            raise UsageError(f"the container ends within its column {name}")
        columns[name] = _load(raw[at:end], dtype, bool(how.get("delta")), bool(how.get("planes")))
        at = end
    if at != len(raw):
        raise UsageError(f"the container has {len(raw) - at} bytes that no column describes")
    return manifest, columns


def store(name: str, values: Column, *, level: int = LEVEL) -> Piece:
    """Return a column as `pack` stores it: pieces can be joined, whatever else is in the container.

    Raises: ValueError of a column that no container can hold.
    """
    if values.ndim != 1:
        raise ValueError(f"the column {name} has {values.ndim} dimensions")
    if values.dtype.kind == "f":
        return Piece({"type": "f8", "length": len(values)}, _deflate(values.astype("<f8").tobytes(), level))
    if values.dtype.kind not in "uib":
        raise ValueError(f"the column {name} holds {values.dtype}, and no numbers")
    low, high = (int(values.min()), int(values.max())) if len(values) else (0, 0)
    if low < 0 or high >= _EXACT:
        raise ValueError(
            f"the column {name} holds {low if low < 0 else high}: no value from 0 to 2 ** 53 - 1"
        )
    kind = next(each for each in ("u1", "u2", "u4", "u8") if each == "u8" or high < 1 << 8 * int(each[1]))
    narrow = values.astype(_TYPES[kind])
    start = max(0, (len(narrow) - _TRIED) // 2)
    tried = narrow[start : start + _TRIED]
    delta, planes = min(
        ((delta, planes) for delta in (False, True) for planes in (False, True)[: 1 + (kind != "u1")]),
        key=lambda way: (len(zlib.compress(_encode(tried, *way), 1)), way),
    )
    how: dict[str, Any] = {"type": kind, "length": len(narrow)}
    how.update({"delta": True} if delta else {}, **({"planes": True} if planes else {}))
    return Piece(how, _deflate(_encode(narrow, delta, planes), level))


def _deflate(raw: bytes, level: int) -> bytes:
    """Return a part of a raw deflate stream that stands for itself, and is not the last one."""
    stream = zlib.compressobj(level, zlib.DEFLATED, -zlib.MAX_WBITS, 9)
    return stream.compress(raw) + stream.flush(zlib.Z_FULL_FLUSH)


def _encode(values: Column, delta: bool, planes: bool) -> bytes:
    if delta and len(values):
        values = np.concatenate((values[:1], values[1:] - values[:-1]))
    if planes:
        return values.view(np.uint8).reshape(-1, values.dtype.itemsize).T.tobytes()
    return values.tobytes()


def _load(raw: bytes, dtype: np.dtype[Any], delta: bool, planes: bool) -> Column:
    if planes:
        raw = np.frombuffer(raw, np.uint8).reshape(dtype.itemsize, -1).T.tobytes()
    values = np.frombuffer(raw, dtype)
    return np.cumsum(values, dtype=dtype) if delta else values
