"""Where the bytes of a trace come from: a file, a pipe, standard input; plain, compressed, or alone in a zip.

Every layer is an iterator over parts of bounded size, so that what unpacks to more than any memory, or never
ends, is read part by part.
"""

import bz2
import lzma
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from typing import BinaryIO, Protocol

import zstandard

from heaplab.errors import UsageError

_PART = 1 << 18
_ZSTD_PART = 1 << 10  # a kilobyte of zstandard unpacks to 32 MiB at most
_XZ_MEMORY = 1 << 28
_LAYERS = 3  # a .gz in a zip; more is no trace

_FAILURES = (EOFError, zlib.error, lzma.LZMAError, zstandard.ZstdError, zipfile.BadZipFile)


class Stream:
    """Bytes that can be looked at before they are read.

    >>> stream = Stream(iter([b"ab", b"cde"]))
    >>> stream.peek(3), stream.read(4), stream.read(4), stream.read(4)
    (b'abc', b'abcd', b'e', b'')
    """

    def __init__(self, parts: Iterator[bytes]) -> None:
        self._parts = parts
        self._ready = bytearray()
        self._offset = 0

    def peek(self, size: int) -> bytes:
        """The next `size` bytes, fewer at the end; they stay."""
        self._fill(size)
        return bytes(self._ready[:size])

    def read(self, size: int) -> bytes:
        """The next `size` bytes, fewer at the end."""
        self._fill(size)
        data = bytes(self._ready[:size])
        del self._ready[:size]
        self._offset += len(data)
        return data

    def tell(self) -> int:
        """How many bytes were read."""
        return self._offset

    def parts(self) -> Iterator[bytes]:
        """What is left, in parts of whatever size."""
        if self._ready:
            yield self.read(len(self._ready))
        yield from self._parts

    def _fill(self, size: int) -> None:
        while len(self._ready) < size and (part := next(self._parts, b"")):
            self._ready += part


def unpacked(shown: str, file: BinaryIO) -> Stream:
    """Return what is in `file`, a stream of bytes at its beginning, without its packing.

    shown: what to call it in messages.  Of `file` only `read` is needed.
    Raises: UsageError, here or when the bytes are read, if it does not unpack.
    """
    stream = Stream(iter(lambda: file.read(_PART), b""))
    for _ in range(_LAYERS):
        start = stream.peek(6)
        for magic, unpack in _PACKINGS.items():
            if start.startswith(magic):
                stream = Stream(_told(shown, unpack(stream, shown)))
                break
        else:
            return stream
    return stream


def _told(shown: str, parts: Iterator[bytes]) -> Iterator[bytes]:
    """`parts`, and the sentence for what does not unpack."""
    try:
        yield from parts
    except _FAILURES as error:
        raise UsageError(f"{shown}: does not decompress ({error}): copy it again") from None
    except OSError as error:
        if error.errno is not None:
            raise
        raise UsageError(f"{shown}: does not decompress ({error}): copy it again") from None


class _Unpacker(Protocol):
    """What bz2 and lzma have in common."""

    @property
    def eof(self) -> bool: ...
    @property
    def needs_input(self) -> bool: ...
    @property
    def unused_data(self) -> bytes: ...
    def decompress(self, data: bytes, max_length: int = -1) -> bytes: ...


def _members(make: Callable[[], _Unpacker]) -> Callable[[Stream, str], Iterator[bytes]]:
    """An unpacker of files that are one or more compressed streams after each other."""

    def unpack(packed: Stream, shown: str) -> Iterator[bytes]:
        data = packed.read(_PART)
        while data.strip(b"\0"):  # xz and bzip2 files may be padded
            unpacker = make()
            while not unpacker.eof:
                if not data and unpacker.needs_input and not (data := packed.read(_PART)):
                    raise EOFError("its end is missing")
                part = unpacker.decompress(data, _PART)
                data = b""
                if part:
                    yield part
            data = unpacker.unused_data or packed.read(_PART)

    return unpack


def _gzip(packed: Stream, shown: str) -> Iterator[bytes]:
    data = packed.read(_PART)
    while data.strip(b"\0"):
        unpacker = zlib.decompressobj(wbits=31)
        while not unpacker.eof:
            if not data and not (data := packed.read(_PART)):
                raise EOFError("its end is missing")
            part = unpacker.decompress(data, _PART)
            data = unpacker.unconsumed_tail
            if part:
                yield part
        data = unpacker.unused_data or packed.read(_PART)


def _zstd(packed: Stream, shown: str) -> Iterator[bytes]:
    data = packed.read(_ZSTD_PART)
    while data:
        unpacker = zstandard.ZstdDecompressor().decompressobj()
        while not unpacker.eof:
            if not data and not (data := packed.read(_ZSTD_PART)):
                raise EOFError("its end is missing")
            part = unpacker.decompress(data[:_ZSTD_PART])
            data = data[_ZSTD_PART:]
            for at in range(0, len(part), _PART):
                yield part[at : at + _PART]
        data = unpacker.unused_data + data or packed.read(_ZSTD_PART)


def _zip(packed: Stream, shown: str) -> Iterator[bytes]:
    """The one member of a zip, whose directory stands at its end: so the zip is written to a file first."""
    with tempfile.TemporaryFile() as spool:
        for part in packed.parts():
            spool.write(part)
        with zipfile.ZipFile(spool) as archive:
            members = [each for each in archive.infolist() if not each.is_dir()]
            if len(members) != 1:
                raise UsageError(f"{shown}: is a zip with {len(members)} files: unpack it and name one")
            member = members[0]
            if member.flag_bits & 1 or member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                raise UsageError(
                    f"{shown}: is a zip whose file is encrypted or packed in a way that heaplab does not "
                    "read: unpack it first"
                )
            with archive.open(member) as content:
                while part := content.read(_PART):
                    yield part


_PACKINGS: dict[bytes, Callable[[Stream, str], Iterator[bytes]]] = {
    b"\x1f\x8b": _gzip,
    b"\x28\xb5\x2f\xfd": _zstd,
    b"\xfd7zXZ\x00": _members(lambda: lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=_XZ_MEMORY)),
    b"BZh": _members(bz2.BZ2Decompressor),
    b"PK\x03\x04": _zip,
}
