"""The traces of a comparison: opened, named, and where worker processes find them."""

import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from heaplab.errors import UsageError
from heaplab.traces import Trace, TraceWriter, corpus, open_trace


@dataclass
class Source:
    """A trace that was asked for.

    given: what was asked for.  trace: None when it cannot be opened.  label: what to call it.
    unread: why it has no runs, in a sentence; "" while it may have some.
    """

    given: str | Path | Trace
    trace: Trace | None
    label: str
    unread: str = ""
    path: str = field(default="", init=False)

    @property
    def again(self) -> str | None:
        """What a command line opens the trace with again; None when nothing does."""
        if isinstance(self.given, Trace) or self.trace is None:
            return None
        return self.trace.source if self.trace.source == os.fspath(self.given) else None


def open_sources(given: Sequence[str | Path | Trace], *, lenient: bool = False) -> list[Source]:
    """Open the traces; one that cannot be opened costs itself alone.

    lenient: as of `open_trace`.  Raises: UsageError when one is given twice.
    """
    sources = [_open(what, lenient) for what in given]
    names = [source.label for source in sources]
    for source, name in zip(sources, names, strict=True):
        if source.trace is not None and names.count(name) > 1:
            source.label = source.trace.source
    labels = [source.label for source in sources]
    for label in labels:
        if labels.count(label) > 1:
            raise UsageError(f"the trace {label} is given twice")
    return sources


def _open(what: str | Path | Trace, lenient: bool) -> Source:
    source = Source(what, None, "" if isinstance(what, Trace) else os.fspath(what))
    open_source(source, lenient=lenient)
    if source.trace is not None:
        source.label = source.trace.header.name
    return source


def open_source(source: Source, *, lenient: bool = False) -> None:
    """Open a source's trace; one that cannot be opened is unread."""
    what = source.given
    if isinstance(what, Trace):
        source.trace = what
        return
    try:
        source.trace = open_trace(what, lenient=lenient)
    except UsageError as error:
        source.unread = str(error)
    except OSError as error:
        source.unread = f"{os.fspath(what)}: {error.strerror or error}"


class Placing:
    """A folder where traces lie for workers to open, until the end of the `with`."""

    def __enter__(self) -> "Placing":
        self._folder = tempfile.TemporaryDirectory(prefix="heaplab-")
        self._placed = 0
        return self

    def __exit__(self, *_exception: object) -> None:
        self._folder.cleanup()

    def place(self, source: Source) -> None:
        """Give a trace a `path` that a worker opens.

        What is in memory, or slow to read, is written to a file first.  A trace that cannot be is unread.
        """
        trace = source.trace
        if trace is None or source.unread or source.path:
            return
        source.path = trace.source
        in_memory = isinstance(source.given, Trace)
        if in_memory or not (trace.source in corpus.names() or trace.source.endswith(".hlt")):
            self._placed += 1
            source.path = str(Path(self._folder.name, f"{self._placed}.hlt"))
            try:
                _copy(trace, source.path)
            except UsageError as error:
                source.unread = str(error)

    def remove(self, source: Source) -> None:
        """Delete what was written for a trace that no worker opens any more."""
        if Path(source.path).parent == Path(self._folder.name):
            Path(source.path).unlink(missing_ok=True)
        source.path = ""


@contextmanager
def placed(sources: Sequence[Source]) -> Iterator[None]:
    """Give every trace its place, until the end of the `with`."""
    with Placing() as placing:
        for source in sources:
            placing.place(source)
        yield


def _copy(trace: Trace, path: str) -> None:
    with TraceWriter.create(path, trace.header.provenance(), level=1) as writer:
        for block in trace:
            writer.write(block)
