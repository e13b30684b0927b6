"""Runs in worker processes, so that a wild allocator takes nothing along but its own run.

A worker is a plain Python process that imports this package: it needs nothing of the caller's main module, so
that scripts need no `if __name__ == "__main__"`.
"""

import os
import signal
import subprocess
import sys
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing import Pipe
from multiprocessing.connection import Connection, wait
from typing import Any

from heaplab.errors import UsageError
from heaplab.lab.worker import Job


@dataclass(frozen=True)
class News:
    """What a worker has to say about job number `job`: see `worker`; "crash" is the pool's own word."""

    job: int
    what: str
    value: Any


class _Worker:
    """One worker process, and the job it has."""

    def __init__(self) -> None:
        self.connection, theirs = Pipe()
        path = os.pathsep.join(entry for entry in sys.path if entry)
        with theirs:
            self.process = subprocess.Popen(
                [sys.executable, "-c", "from heaplab.lab.worker import main; main()", str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                env={**os.environ, "PYTHONPATH": path},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
            )
        self.job: int | None = None

    def end(self) -> None:
        self.process.kill()
        self.process.wait()
        self.connection.close()


class Pool:
    """Up to `size` workers; use it in a `with`, whose end kills those still at work."""

    def __init__(self, size: int) -> None:
        self.size = size
        self._workers: dict[Connection, _Worker] = {}

    def __enter__(self) -> "Pool":
        return self

    def __exit__(self, *_exception: object) -> None:
        for worker in self._workers.values():
            worker.end()
        self._workers.clear()

    def run(self, jobs: Iterable[Job]) -> Iterator[News]:
        """Do the jobs, started in their order; yield what is heard of them, as it comes.

        Raises: UsageError when a job says so.
        """
        waiting = iter(enumerate(jobs))
        for _ in range(self.size):
            self._give(_Worker(), waiting)
        while self._workers:
            for connection in wait(list(self._workers)):
                worker = self._workers[connection]  # type: ignore[index]
                news = self._hear(worker)
                if news.what != "progress":
                    del self._workers[worker.connection]
                    self._give(_Worker() if news.what == "crash" else worker, waiting)
                yield news

    def _give(self, worker: _Worker, waiting: Iterator[tuple[int, Job]]) -> None:
        """Give the worker its next job, or let it go when there is none."""
        worker.job, job = next(waiting, (None, None))
        with suppress(BrokenPipeError):  # it died early: heard of in _hear
            worker.connection.send(job)
        if job is None:
            worker.end()
        else:
            self._workers[worker.connection] = worker

    def _hear(self, worker: _Worker) -> News:
        assert worker.job is not None
        try:
            what, value = worker.connection.recv()
        except (EOFError, ConnectionResetError):
            status = worker.process.wait()
            worker.connection.close()
            return News(worker.job, "crash", _cause(status))
        if what == "usage":
            raise UsageError(value)
        return News(worker.job, what, value)


def _cause(status: int) -> str:
    """How a process ended, in words."""
    if status < 0:
        return f"its process was ended by {signal.Signals(-status).name}"
    return f"its process ended with status {status}"
