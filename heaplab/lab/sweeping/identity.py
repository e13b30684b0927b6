"""What a cell's result depends on, as hashes: a trace's content, an allocator's code, and heaplab's own."""

import errno
import hashlib
import json
import os
import re
import sys
from functools import cache
from pathlib import Path
from typing import Any

from heaplab._core import ffi, lib
from heaplab._core.headers import sources_hash
from heaplab.allocators import Spec
from heaplab.allocators.core import CAllocator
from heaplab.allocators.written import included_by
from heaplab.csrc import c_sources
from heaplab.errors import UsageError
from heaplab.native.peers import Peer
from heaplab.traces import Trace, corpus
from heaplab.traces.opening import WORKLOAD

#: of the rows that are stored and of how keys are made; a store of another one is not touched
SCHEMA = 1
_PACKAGE = Path(__file__).resolve().parents[2]
#: rooms that only ask for runs, or show them
_BESIDES = {"cli", "terminal", "report", "pages", "views", "testing"}
#: in the text of a workload, a file that it is made from
_FILE = re.compile(r"(?:^|[:(;])(?:from|joint)=([^:;)]+)")


def key_of(*facts: Any) -> str:
    """Return the key of a cell: a hash of plain data, of which equal data have equal ones."""
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:32]


@cache
def own_code() -> str:
    """Return a hash of heaplab's code on which a run depends: csrc, and the Python below the reports.

    Raises: UsageError when csrc is not what heaplab was built from.
    """
    built = ffi.string(lib.hl_sources).decode()
    if sources_hash(c_sources()) != built:
        raise UsageError(
            f"{c_sources()} has changed since heaplab was built, and results would be kept under a wrong "
            "name: build heaplab again (make build, or pip install)"
        )
    digest = hashlib.sha256(built.encode())
    for file in sorted(_PACKAGE.rglob("*.py")):
        parts = file.relative_to(_PACKAGE).parts
        if parts[0] not in _BESIDES and parts[:2] != ("lab", "sweeping"):
            digest.update("/".join(parts).encode() + b"\0" + file.read_bytes())
    return digest.hexdigest()[:32]


def code_of(allocator: Spec | Peer) -> str:
    """Return a hash of an allocator's own code; "" for a design of heaplab's, which is `own_code`.

    Of a Python file it is the file alone, of C also what it includes, of a library the library.
    """
    if isinstance(allocator, Peer):
        sources = getattr(allocator, "sources", ())
        library = [allocator.library] if allocator.library else []
        return _hash_of([*sources, *([] if sources else library)])
    design = allocator.design
    if issubclass(design, CAllocator):
        return _hash_of([design.FILE, *included_by(design.FILE)]) if design.FILE else ""
    if allocator.name.endswith(".py"):
        return _hash_of([Path(allocator.name)])
    if design.__module__.startswith("heaplab."):
        return ""
    file = getattr(sys.modules.get(design.__module__), "__file__", None)
    return _hash_of([Path(file)]) if file else ""


def content_of(trace: str | os.PathLike[str] | Trace) -> str:
    """Return what tells a trace's content: a hash of its file or of its events; a workload's text.

    Raises: UsageError when there is no such file.
    """
    if isinstance(trace, Trace):
        digest = hashlib.sha256()
        for block in trace:
            for column in vars(block).values():
                digest.update(column.tobytes())
        return digest.hexdigest()[:32]
    text = os.fspath(trace)
    if text.startswith(WORKLOAD):
        files = [Path(name) for name in _FILE.findall(text)]
        return text + _hash_of([file for file in files if file.is_file()])
    if text in corpus.names():
        return _hash_of([corpus.path(text)])
    return _hash_of([Path(text)])


def _hash_of(files: list[Path]) -> str:
    if not files:
        return ""
    digest = hashlib.sha256()
    for file in files:
        try:
            data = _digest_of(str(file), file.stat().st_mtime_ns, file.stat().st_size)
        except OSError as error:
            hint = ": `heaplab trace list` names the bundled traces" if error.errno == errno.ENOENT else ""
            raise UsageError(f"{file}: cannot be read: {error.strerror or error}{hint}") from None
        digest.update(data)
    return digest.hexdigest()[:32]


@cache
def _digest_of(path: str, _changed: int, _size: int) -> bytes:
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").digest()
