"""A failure kept: as a trace (.hlt, or .rep of malloc courses), or as a C program."""

from collections.abc import Callable
from pathlib import Path

from heaplab.errors import UsageError
from heaplab.files import replacing
from heaplab.testing.as_c import as_c
from heaplab.testing.failure import Failure
from heaplab.testing.steps import HUGE, requested
from heaplab.traces import Provenance, Trace, TraceWriter
from heaplab.traces.formats.rep import write_rep


def save(failure: Failure, path: str, spec: str) -> list[str]:
    """Write the steps of a failure to `path`, as what its name ends in; without an ending, as all three.

    spec: what the steps fail on.  Returns: the files written.
    Raises: UsageError for another ending, and when the format has no words for the steps.

    >>> from heaplab.testing.steps import Malloc
    >>> save(Failure((Malloc(0, 600),), "", "malloc 0 600: lost"), str(tmp / "lost"), "freelist")
    ['.../lost.hlt', '.../lost.rep', '.../lost.c']
    """
    ending = Path(path).suffix
    if not ending:
        return [written for each in _WRITERS for written in save(failure, path + each, spec)]
    demand_ending(path)
    _WRITERS[ending](failure, path, spec)
    return [path]


def demand_ending(path: str) -> None:
    """Raise UsageError unless a failure can be saved under this name."""
    ending = Path(path).suffix
    if ending and ending not in _WRITERS:
        endings = ", ".join(_WRITERS)
        raise UsageError(f"{path}: a failure is saved as {endings}: end the name in one of them, or in none")


def _trace(failure: Failure, path: str) -> Trace:
    if any(requested(step) >= HUGE[0] for step in failure.steps):
        raise UsageError(f"{path}: no trace holds a request that has to be refused: write a .c instead")
    return Trace.of((step.event() for step in failure.steps), Path(path).stem)


def _hlt(failure: Failure, path: str, spec: str) -> None:
    trace = _trace(failure, path)
    provenance = Provenance(Path(path).stem, note=f"fails on {spec}: {failure.sentence}")
    with TraceWriter.create(path, provenance) as writer:
        for block in trace:
            writer.write(block)


def _rep(failure: Failure, path: str, spec: str) -> None:
    trace = _trace(failure, path)
    with replacing(path) as file:
        write_rep(trace, file)


def _c(failure: Failure, path: str, spec: str) -> None:
    with replacing(path) as file:
        file.write(as_c(failure, spec).encode())


_WRITERS: dict[str, Callable[[Failure, str, str], None]] = {".hlt": _hlt, ".rep": _rep, ".c": _c}
