"""Opening a trace, whatever it is: its content decides, not its name."""

import os
import sys
from dataclasses import replace
from difflib import get_close_matches
from pathlib import Path
from typing import BinaryIO

from heaplab.errors import UsageError
from heaplab.traces import corpus
from heaplab.traces.formats import FORMATS
from heaplab.traces.hlt import MAGIC, open_hlt, stream_hlt
from heaplab.traces.reading import Reading
from heaplab.traces.spool import spooled
from heaplab.traces.streams import Stream, unpacked
from heaplab.traces.trace import Provenance, Trace

#: what the text of a workload begins with, where a trace is expected
WORKLOAD = "workload:"

_SNIFF = 1 << 16
_BOM = b"\xef\xbb\xbf"


def open_trace(source: str | os.PathLike[str], *, lenient: bool = False) -> Trace:
    """Return the bundled trace named `source`, or the trace in that file; `-` is standard input.

    A bundled name is never taken for a file: write ./gcc for a file called gcc.
    `workload:key=value...` and a .toml file are workloads (`heaplab.traces.workload`): the trace is made up.

    The file may be a pipe, and compressed.  docs/traces.md has all formats.  lenient: what cannot be, like a
    free of a block that nobody allocated, is skipped and counted; `remarks` of the trace tell how often.
    Cost: .hlt, its header only; others are read once, into a temporary .hlt file.
    Raises: UsageError, naming the line where there is one, when it is no trace or breaks a rule.

    >>> (tmp / "x.rep").write_text("100\\n1\\n2\\n1\\na 0 24\\nf 0\\n") > 0
    True
    >>> open_trace(tmp / "x.rep").header.peak_live
    24
    """
    shown = os.fspath(source)
    if shown == "-":
        if sys.stdin is None:
            raise UsageError("standard input: is closed: name a trace")
        return _open_stream("standard input", "stdin", sys.stdin.buffer, lenient)
    path = Path(source)
    if shown.startswith(WORKLOAD) or (path.suffix == ".toml" and path.is_file()):
        return _made_up(shown)
    if shown in corpus.names():
        path = corpus.path(path.name)
    if not path.exists():
        raise UsageError(_no_such_trace(shown))
    if path.is_dir() or path.is_socket() or path.is_block_device():
        raise UsageError(f"{source}: is not a file: name a trace")
    with path.open("rb") as file:
        name = path.name.split(".")[0]
        if not path.is_file():  # nobody can open it a second time, and `source` must not promise that
            return _open_stream(f"{shown} (a pipe)", name, file, lenient)
        start = file.read(len(MAGIC))
        if start.startswith(MAGIC[:4]):
            return open_hlt(shown, lambda: path.open("rb"))
        file.seek(0)
        return _open_stream(shown, name, file, lenient)


def _made_up(shown: str) -> Trace:
    """The trace of a workload: of its text, or of a .toml file."""
    from heaplab.traces.workload.workload import Workload  # noqa: PLC0415 - it opens traces, and few ask for it

    made = Workload.parse(shown) if shown.startswith(WORKLOAD) else Workload.load(shown)
    return replace(made.trace(), source=shown)


def _open_stream(shown: str, name: str, file: BinaryIO, lenient: bool) -> Trace:
    """The trace that `file` holds; it is read to its end."""
    stream = unpacked(shown, file)
    start = stream.peek(_SNIFF)
    if not start:
        raise UsageError(f"{shown}: is empty")
    if start.startswith(MAGIC[:4]):
        provenance, blocks = stream_hlt(shown, stream)
        return spooled(shown, blocks, provenance)
    if start.startswith(_BOM):
        stream.read(len(_BOM))
        start = start[len(_BOM) :]
    return _open_other(shown, name, stream, start, lenient)


def _open_other(shown: str, name: str, stream: Stream, start: bytes, lenient: bool) -> Trace:
    for kind in FORMATS:
        if kind.recognises(start):
            grammar = kind()
            reading = Reading(shown, grammar, stream, lenient=lenient)
            trace = spooled(shown, reading.blocks(), Provenance(name))
            header = replace(trace.header, note=grammar.note())
            return replace(trace, header=header, remarks=tuple(reading.remarks()))
    known = ", ".join(kind.name for kind in FORMATS)
    raise UsageError(f"{shown}: is no trace that heaplab knows: it reads .hlt, {known}")


def _no_such_trace(name: str) -> str:
    """The sentence for a name that is neither a file nor bundled."""
    near = get_close_matches(name, corpus.names(), 1)
    if near:
        return f"{name}: there is no such file, and no bundled trace of that name: did you mean {near[0]}?"
    return f"{name}: there is no such file: `heaplab trace list` names the bundled traces"
