"""heaplab's own trace format, .hlt: streamed, compressed columns; docs/trace-format.md says it byte by byte.

    preamble   magic, version
    chunks     HEAD (JSON: provenance), DATA ..., TAIL (JSON: counts); each with length and CRC-32
    end        where TAIL is, magic

Every length is checked before it is used, so a damaged or malicious file costs a UsageError, not memory.
"""

import json
import os
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, fields
from typing import Any, BinaryIO, Protocol, Self, TypeVar
from zlib import crc32

import numpy as np
import numpy.typing as npt
import zstandard

from heaplab.errors import UsageError
from heaplab.files import replacing
from heaplab.traces.event import BLOCK_EVENTS, COLUMNS, Block
from heaplab.traces.ledger import Counts, Ledger
from heaplab.traces.trace import Header, Provenance, Trace

MAGIC = b"\x89HLT\r\n\x1a\n"
VERSION = 1

_PREAMBLE = struct.Struct("<8sI")
_CHUNK = struct.Struct("<4sI")
_CRC = struct.Struct("<I")
_DATA = struct.Struct("<IQ7B")
_END = struct.Struct("<Q8s")
_END_MAGIC = b"HLT-END\n"
_MAX_JSON = 1 << 20
_MAX_DATA = 1 << 22  # a full block of incompressible columns is 1.9 MB

_Shape = TypeVar("_Shape", Provenance, Counts)
_ADDED = {"remote_frees"}  # fields that files from before they existed lack


# ---- Blocks: columns as byte planes --------------------------------------------------------------------


def _encode(block: Block, tick: int, level: int) -> bytes:
    """Return the payload of a DATA chunk for `block`: one event or more, at multiples of `tick`."""
    columns = block.columns()
    columns["id"] = block.id + np.uint32(1)  # NULL_ID becomes 0
    columns["time"] = np.diff(block.time // np.uint64(tick), prepend=block.time[0] // np.uint64(tick))
    widths, planes = [], []
    for column in columns.values():
        width = (int(column.max()).bit_length() + 7) // 8
        widths.append(width)
        planes.append(column.view(np.uint8).reshape(len(column), -1)[:, :width].T.tobytes())
    head = _DATA.pack(len(block), int(block.time[0]), *widths)
    return head + zstandard.ZstdCompressor(level=level).compress(b"".join(planes))


def _decode(payload: bytes, tick: int) -> Block:
    """Return the block in the payload of a DATA chunk.  Raises: ValueError when it holds none."""
    if len(payload) < _DATA.size:
        raise ValueError("it is too short")
    count, start, *widths = _DATA.unpack_from(payload)
    if not 0 < count <= BLOCK_EVENTS:
        raise ValueError(f"it claims {count} events, and a block has 1 to {BLOCK_EVENTS}")
    if any(width > dtype.itemsize for width, dtype in zip(widths, COLUMNS.values(), strict=True)):
        raise ValueError("it claims a column wider than its type")
    planes = _decompress(payload[_DATA.size :], count * sum(widths))
    columns: dict[str, npt.NDArray[Any]] = {}
    offset = 0
    for (name, dtype), width in zip(COLUMNS.items(), widths, strict=True):
        table = np.zeros((count, dtype.itemsize), np.uint8)
        table[:, :width] = planes[offset : offset + count * width].reshape(width, count).T
        columns[name] = table.view(dtype)[:, 0]
        offset += count * width
    columns["id"] -= np.uint32(1)
    columns["time"] = np.uint64(start) + np.cumsum(columns["time"]) * np.uint64(tick)
    return Block(**columns)


def _decompress(data: bytes, size: int) -> npt.NDArray[np.uint8]:
    """Return what `data` decompresses to, which has to be `size` bytes."""
    try:
        if zstandard.get_frame_parameters(data).content_size != size:
            raise ValueError("its columns do not have the size it claims")
        content = zstandard.ZstdDecompressor().decompress(data, max_output_size=size)
    except zstandard.ZstdError:
        raise ValueError("its columns do not decompress") from None
    return np.frombuffer(content, np.uint8)


# ---- Writing -------------------------------------------------------------------------------------------


class TraceWriter:
    """Writes one trace in heaplab's own format to `file`, a binary stream.

    level: zstandard's, 1 (fast) to 19 (small).
    `TraceWriter.create` opens and finishes a file; with a stream, `finish` has to be the last call.

    >>> from heaplab.traces import Event, Op, open_trace
    >>> with TraceWriter.create(tmp / "two.hlt", Provenance("two")) as writer:
    ...     writer.write(Block.of([Event(Op.MALLOC, 0, 24), Event(Op.FREE, 0)]))
    >>> open_trace(tmp / "two.hlt").header.events
    2
    """

    def __init__(self, file: BinaryIO, provenance: Provenance, level: int = 9) -> None:
        self._file = file
        self._provenance = provenance
        self._level = level
        self._ledger = Ledger(provenance.name)
        self._waiting: list[Block] = []
        self._offset = 0
        self._put(_PREAMBLE.pack(MAGIC, VERSION))
        self._put_chunk(b"HEAD", json.dumps(asdict(provenance)).encode())

    @classmethod
    @contextmanager
    def create(cls, path: str | os.PathLike[str], provenance: Provenance, level: int = 9) -> Iterator[Self]:
        """Give a writer to `path`, which holds the trace once the block ends without error, and not before.

        Raises: UsageError when `path` can be no regular file; OSError naming it when writing fails.
        """
        with replacing(path) as file:
            writer = cls(file, provenance, level)
            yield writer
            writer.finish()

    def write(self, block: Block) -> None:
        """Add the events of `block`.  Raises: UsageError when they break a rule of traces."""
        if (block.time % np.uint64(self._provenance.tick)).any():
            raise UsageError(
                f"{self._provenance.name}: times must be multiples of the tick, {self._provenance.tick} ns"
            )
        self._ledger.apply(block)
        self._waiting.append(block)
        if sum(map(len, self._waiting)) >= BLOCK_EVENTS:
            whole = Block.join(self._waiting)
            while len(whole) >= BLOCK_EVENTS:
                self._put_block(whole[:BLOCK_EVENTS])
                whole = whole[BLOCK_EVENTS:]
            self._waiting = [whole]

    def finish(self) -> None:
        """Write what is left, and the end."""
        if any(map(len, self._waiting)):
            self._put_block(Block.join(self._waiting))
        tail = self._offset
        self._put_chunk(b"TAIL", json.dumps(asdict(self._ledger.counts())).encode())
        self._put(_END.pack(tail, _END_MAGIC))

    def header(self) -> Header:
        """What the trace says about itself, as far as it is written."""
        return Header.of(self._provenance, self._ledger.counts())

    def _put_block(self, block: Block) -> None:
        self._put_chunk(b"DATA", _encode(block, self._provenance.tick, self._level))

    def _put_chunk(self, tag: bytes, payload: bytes) -> None:
        chunk = _CHUNK.pack(tag, len(payload)) + payload
        self._put(chunk + _CRC.pack(crc32(chunk)))

    def _put(self, data: bytes) -> None:
        self._file.write(data)
        self._offset += len(data)


# ---- Reading -------------------------------------------------------------------------------------------


class Readable(Protocol):
    """What reading from the beginning to the end needs of a file."""

    def read(self, size: int, /) -> bytes: ...
    def tell(self) -> int: ...


def open_hlt(source: str, reopen: Callable[[], BinaryIO]) -> Trace:
    """Return the trace in the .hlt file that `reopen` opens, at its beginning, each time it is called.

    source: what to call it in messages.  Cost: reads the header and the counts only.
    Raises: UsageError when the file is truncated, damaged or too new.
    """
    with reopen() as file:
        return Trace(_Reader(source, file).header(file), source, lambda: _blocks(source, reopen))


def stream_hlt(source: str, file: Readable) -> tuple[Provenance, Iterator[Block]]:
    """Return what the .hlt file in `file` says of itself, and its blocks, which are read as they are needed.

    For pipes and compressed files: nobody can look at the end of those first, so there are no counts.
    Raises: UsageError, here or with a block, when the file is truncated, damaged or too new.
    """
    reader = _Reader(source, file)
    return reader.provenance, reader.blocks()


def _blocks(source: str, reopen: Callable[[], BinaryIO]) -> Iterator[Block]:
    with reopen() as file:
        yield from _Reader(source, file).blocks()


class _Reader:
    """A position in a .hlt file, and the sentences for what can be wrong with it."""

    def __init__(self, source: str, file: Readable) -> None:
        self._source = source
        self._file = file
        magic, version = _PREAMBLE.unpack(self._read(_PREAMBLE.size))
        if magic != MAGIC:
            raise UsageError(f"{source}: is not a .hlt file, or was changed by a copy in text mode")
        if version != VERSION:
            raise UsageError(
                f"{source}: has format version {version}, this heaplab reads {VERSION}: use a newer one"
            )
        self.provenance = self._json(b"HEAD", Provenance)

    def header(self, file: BinaryIO) -> Header:
        """The header of the trace in `file`, the one that is read; the position is behind it afterwards."""
        first = file.tell()
        size = file.seek(0, os.SEEK_END)
        file.seek(max(first, size - _END.size))
        tail, magic = _END.unpack(self._read(_END.size))
        if magic != _END_MAGIC or not first <= tail < size:
            raise self._truncated()
        file.seek(tail)
        counts = self._json(b"TAIL", Counts)
        # What a reader may rely on before it has seen the events
        blocks = (tail - first) // (_CHUNK.size + _DATA.size + _CRC.size)
        if counts.events > blocks * BLOCK_EVENTS or counts.slots > counts.events:
            raise self._damaged(tail, "its counts exceed what the file can hold")
        return Header.of(self.provenance, counts)

    def blocks(self) -> Iterator[Block]:
        """The blocks from the position, which is behind HEAD, to TAIL."""
        while True:
            offset = self._file.tell()
            tag, payload = self._chunk(_MAX_DATA)
            if tag == b"TAIL":
                return
            if tag != b"DATA":
                raise self._damaged(offset, "the chunk there is of no known kind")
            try:
                yield _decode(payload, self.provenance.tick)
            except ValueError as error:
                raise self._damaged(offset, f"the block there cannot be read, {error}") from None

    def _json(self, tag: bytes, shape: type[_Shape]) -> _Shape:
        """The next chunk, which must have this tag and hold JSON with the fields of the dataclass `shape`."""
        offset = self._file.tell()
        found, payload = self._chunk(_MAX_JSON)
        if found != tag:
            raise self._damaged(offset, f"there is no {tag.decode()} chunk there")
        try:
            return _from_json(payload, shape)
        except (ValueError, TypeError, KeyError, RecursionError):
            raise self._damaged(offset, f"the {tag.decode()} chunk there is not as it should be") from None

    def _chunk(self, limit: int) -> tuple[bytes, bytes]:
        """Tag and payload of the next chunk, which may be `limit` bytes long."""
        offset = self._file.tell()
        head = self._read(_CHUNK.size)
        tag, length = _CHUNK.unpack(head)
        if length > limit:
            raise self._damaged(offset, "the chunk there has an impossible length")
        payload = self._read(length)
        (crc,) = _CRC.unpack(self._read(_CRC.size))
        if crc != crc32(head + payload):
            raise self._damaged(offset, "the chunk there does not match its checksum")
        return tag, payload

    def _read(self, length: int) -> bytes:
        data = self._file.read(length)
        if len(data) < length:
            raise self._truncated()
        return data

    def _truncated(self) -> UsageError:
        return UsageError(f"{self._source}: is truncated, its end is missing: copy or record it again")

    def _damaged(self, offset: int, why: str) -> UsageError:
        return UsageError(f"{self._source}: is damaged at byte {offset}, {why}: copy or record it again")


def _from_json(payload: bytes, shape: type[_Shape]) -> _Shape:
    """Return a `shape` from its JSON.  Keys it does not have are left to newer readers.

    Raises: ValueError, TypeError, KeyError when a value is missing, of the wrong type, or below 0.
    """
    content = json.loads(payload)
    values: dict[str, Any] = {}
    for each in fields(shape):
        if each.name in _ADDED and each.name not in content:
            values[each.name] = None
            continue
        value = content[each.name]
        if each.type is str:
            valid = isinstance(value, str)
        elif each.type is int or each.name in _ADDED:
            valid = _is_count(value)
        else:
            valid = isinstance(value, dict) and all(map(_is_count, value.values()))
        if not valid:
            raise ValueError(f"{each.name} is not a {each.type}")
        values[each.name] = value
    if values.get("tick") == 0:
        raise ValueError("a tick takes time")
    return shape(**values)


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0
