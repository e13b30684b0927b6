"""A worker: a process of its own that does one run after another, as it is told through a connection.

Messages to it: Job, or None to end.  Messages from it: (what, value), "ready" first and once:
    "ready", None     "progress", events done     "run", Run     "usage", a UsageError's sentence
    "unread", why the trace cannot be read
    "error", what was raised     "hung", (where it stood, events done): the worker ends itself
"""

import ctypes
import gc
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any

from heaplab.errors import DamagedTrace, UsageError
from heaplab.lab.replay import Replay
from heaplab.lab.run import run
from heaplab.lab.watchdog import Watchdog
from heaplab.traces import open_trace

#: seconds between two messages about progress
_EVERY = 0.1

_PR_SET_PDEATHSIG = 1  # Linux, include/uapi/linux/prctl.h


@dataclass(frozen=True)
class Job:
    """One run to do: `source` is what open_trace takes, `options` what run takes besides.

    max_seconds: see `Watchdog`; None: no limit.
    """

    source: str
    allocator: str
    language: str
    options: dict[str, Any]
    max_seconds: float | None = None


class _Parent:
    """The other side of the connection; only one thread talks to it at a time."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.busy = threading.Lock()

    def tell(self, what: str, value: Any) -> None:
        """Send a message; waits when the parent has not read the ones before."""
        with self.busy:
            self.connection.send((what, value))


def serve(connection: Connection) -> None:
    """Do the jobs that come in until None does, or the other side is gone."""
    parent = _Parent(connection)
    parent.tell("ready", None)
    while True:
        job = connection.recv()
        if job is None:
            return
        try:
            answer: tuple[str, Any] = ("run", _do(job, parent))
        except DamagedTrace as error:
            answer = ("unread", str(error))
        except UsageError as error:
            answer = ("usage", str(error))
        except Exception:
            answer = ("error", traceback.format_exc().strip().rpartition("\n")[2])
        parent.tell(*answer)
        gc.collect()  # a machine's memory is held by cycles


def _do(job: Job, parent: _Parent) -> Any:
    told = time.monotonic()

    def progress(done: int) -> None:
        nonlocal told
        if (now := time.monotonic()) - told >= _EVERY:
            told = now
            parent.tell("progress", done)

    with _watched(job.max_seconds, parent) as watch:
        try:
            trace = open_trace(job.source)
        except (UsageError, OSError) as error:
            raise DamagedTrace(str(error)) from error
        return run(trace, job.allocator, job.language, progress=progress, watch=watch, **job.options)


@contextmanager
def _watched(max_seconds: float | None, parent: _Parent) -> Iterator[Callable[[Replay], None]]:
    """Give what a replay is shown to, so that it is watched until the end of the `with`."""
    if max_seconds is None:
        yield lambda replay: None
        return
    # the watchdog holds parent.busy when it tells
    dog = Watchdog(max_seconds, parent.busy, lambda *where: parent.connection.send(("hung", where)))
    try:
        yield dog.watch
    finally:
        dog.end()


def main() -> None:
    """Serve on the connection whose file descriptor is the first argument."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's business
    # an allocator that never returns must not outlive a parent that was killed
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    with suppress(EOFError, BrokenPipeError, ConnectionResetError):  # the parent is gone
        serve(Connection(int(sys.argv[1])))
