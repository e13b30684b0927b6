"""Opening a trace, whatever it is: its content decides, not its name."""

import gzip
import io
import os
import tempfile
import zlib
from collections.abc import Callable, Iterator
from difflib import get_close_matches
from pathlib import Path
from typing import BinaryIO, cast

import zstandard

from heaplab.errors import UsageError
from heaplab.files import naming
from heaplab.traces import corpus
from heaplab.traces.event import Row, in_blocks
from heaplab.traces.hlt import MAGIC, TraceWriter, open_hlt
from heaplab.traces.rep import is_rep, read_rep
from heaplab.traces.replay import is_replay, read_replay
from heaplab.traces.trace import Provenance, Trace

_SNIFF = 4096
_GZIP = b"\x1f\x8b"
_ZSTD = b"\x28\xb5\x2f\xfd"
_TEXT: list[tuple[Callable[[bytes], bool], Callable[[str, BinaryIO], Iterator[Row]]]] = [
    (is_rep, read_rep),
    (is_replay, read_replay),
]


def open_trace(source: str | os.PathLike[str]) -> Trace:
    """Return the bundled trace named `source`, or the trace in that file.

    A bundled name is never taken for a file: write ./gcc for a file called gcc.

    It may be .hlt, .rep in its variants, or text for Android's memory_replay, the texts also compressed by
    gzip or zstandard.  Cost: .hlt, its header only; a text is read once, into a temporary .hlt file.
    Raises: UsageError, naming the line where there is one, when it is none of these or breaks a rule.

    >>> (tmp / "x.rep").write_text("100\\n1\\n2\\n1\\na 0 24\\nf 0\\n") > 0
    True
    >>> open_trace(tmp / "x.rep").header.peak_live
    24
    """
    path = Path(source)
    if os.fspath(source) in corpus.names():
        path = corpus.path(path.name)
    if not path.exists():
        raise UsageError(_no_such_trace(os.fspath(source)))
    if not path.is_file():
        raise UsageError(f"{source}: is not a file: name a trace")
    shown = os.fspath(source)
    with path.open("rb") as file:
        start = file.read(_SNIFF)
    if not start:
        raise UsageError(f"{shown}: is empty")
    if start.startswith(MAGIC[:4]):
        return open_hlt(shown, lambda: path.open("rb"))
    try:
        with path.open("rb") as file:
            return _open_text(shown, path, _decompressed(file, start))
    except (EOFError, gzip.BadGzipFile, zlib.error, zstandard.ZstdError) as error:
        raise UsageError(f"{shown}: does not decompress ({error}): copy it again") from None


def _decompressed(file: BinaryIO, start: bytes) -> io.BufferedReader:
    """The content of `file`, which begins with `start`, decompressed when it is compressed."""
    if start.startswith(_GZIP):
        return io.BufferedReader(cast(io.RawIOBase, gzip.GzipFile(fileobj=file)))
    if start.startswith(_ZSTD):
        return io.BufferedReader(cast(io.RawIOBase, zstandard.ZstdDecompressor().stream_reader(file)))
    return cast(io.BufferedReader, file)


def _open_text(shown: str, path: Path, file: io.BufferedReader) -> Trace:
    start = file.peek(_SNIFF)
    for is_format, read in _TEXT:
        if is_format(start):
            return _spooled(shown, read(shown, file), Provenance(path.name.split(".")[0]))
    raise UsageError(f"{shown}: is no trace that heaplab knows: it reads .hlt, .rep and memory_replay text")


def _spooled(shown: str, rows: Iterator[Row], provenance: Provenance) -> Trace:
    """Write `rows` to a temporary .hlt file that lives as long as the trace does, and open that."""
    spool = tempfile.TemporaryFile()  # noqa: SIM115 - closed when the trace is gone
    with naming(tempfile.gettempdir()):
        writer = TraceWriter(cast(BinaryIO, spool), provenance, level=1)
        for block in in_blocks(rows):
            writer.write(block)
        writer.finish()
        spool.flush()
    return open_hlt(shown, lambda: open(f"/proc/self/fd/{spool.fileno()}", "rb"))


def _no_such_trace(name: str) -> str:
    """The sentence for a name that is neither a file nor bundled."""
    near = get_close_matches(name, corpus.names(), 1)
    if near:
        return f"{name}: there is no such file, and no bundled trace of that name: did you mean {near[0]}?"
    return f"{name}: there is no such file: `heaplab trace list` names the bundled traces"
