"""A worker: a process of its own that does one run after another, as it is told through a connection.

Messages to it: Job, or None to end.  Messages from it: (what, value), "ready" first and once:
    "ready", None     "progress", events done     "run", Run     "usage", a UsageError's sentence
    "error", what was raised
"""

import ctypes
import gc
import signal
import sys
import time
import traceback
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any

from heaplab.errors import UsageError
from heaplab.lab.run import run
from heaplab.traces import open_trace

#: seconds between two messages about progress
_EVERY = 0.1

_PR_SET_PDEATHSIG = 1  # Linux, include/uapi/linux/prctl.h


@dataclass(frozen=True)
class Job:
    """One run to do: `source` is what open_trace takes, `options` what run takes besides."""

    source: str
    allocator: str
    language: str
    options: dict[str, Any]


def serve(connection: Connection) -> None:
    """Do the jobs that come in until None does, or the other side is gone."""
    connection.send(("ready", None))
    while True:
        job = connection.recv()
        if job is None:
            return
        try:
            answer: tuple[str, Any] = ("run", _do(job, connection))
        except UsageError as error:
            answer = ("usage", str(error))
        except Exception:
            answer = ("error", traceback.format_exc().strip().rpartition("\n")[2])
        connection.send(answer)
        gc.collect()  # a machine's memory is held by cycles


def _do(job: Job, connection: Connection) -> Any:
    told = time.monotonic()

    def progress(done: int) -> None:
        nonlocal told
        if (now := time.monotonic()) - told >= _EVERY:
            told = now
            connection.send(("progress", done))

    return run(open_trace(job.source), job.allocator, job.language, progress=progress, **job.options)


def main() -> None:
    """Serve on the connection whose file descriptor is the first argument."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's business
    # an allocator that never returns must not outlive a parent that was killed
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    with suppress(EOFError, BrokenPipeError, ConnectionResetError):  # the parent is gone
        serve(Connection(int(sys.argv[1])))
