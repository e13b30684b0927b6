"""Runs in worker processes, so that a wild allocator takes nothing along but its own run.

A worker is a plain Python process that imports this package: it needs nothing of the caller's main module, so
that scripts need no `if __name__ == "__main__"`.  `start_worker` says where it imports from.
"""

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from multiprocessing import Pipe
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

from heaplab.errors import HeaplabError, UsageError
from heaplab.lab.watchdog import TIMEOUT
from heaplab.lab.worker import Job

#: of what a worker wrote to standard error at last, so many characters are told
_LAST_WORDS = 300


@dataclass(frozen=True)
class News:
    """What a worker has to say about job number `job`: see `worker`; "crash" is the pool's own word.

    With "crash" and "hung" the worker is gone.
    """

    job: int
    what: str
    value: Any


class _Worker:
    """One worker process, and the job it has: its number, and what was given.

    ready: it has loaded the package.  told: what it writes to standard error.
    """

    def __init__(self) -> None:
        self.connection, theirs = Pipe()
        self.told = tempfile.TemporaryFile()  # noqa: SIM115 - closed by `end`
        with theirs:
            self.process = subprocess.Popen(
                [*_interpreter(), str(Path(__file__).with_name("start_worker.py")), str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                env=_environment(),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=self.told,
                start_new_session=True,
            )
        self.ready = False
        self.job: int | None = None
        self.given: Job | None = None

    def end(self) -> None:
        self.process.kill()
        self._bury()

    def last_words(self) -> tuple[str, str]:
        """Wait for the process to end by itself: return "crash", "killed" or "hung", and how it ended."""
        status = self.process.wait()
        self.told.seek(0)
        text = self.told.read().decode(errors="replace").strip()
        self._bury()
        if TIMEOUT in text:
            return "hung", "no end of one long operation of the interpreter within the time allowed"
        how = f"was ended by {signal.Signals(-status).name}" if status < 0 else f"ended with status {status}"
        words = text.rpartition("\n")[2].strip()[:_LAST_WORDS]
        last = "".join(char if char.isprintable() else " " for char in words)
        what = "killed" if status == -signal.SIGKILL else "crash"
        return what, f"its process {how}" + (f": {last}" if last else "")

    def _bury(self) -> None:
        self.process.wait()
        self.connection.close()
        self.told.close()


class Pool:
    """Up to `size` workers; use it in a `with`, whose end kills those still at work.

    SIGKILL comes from outside: from a person, or from a computer short of memory.  So a job whose worker it
    ends is done once more.
    keep: workers stay when `run` is over, for the next one.
    """

    def __init__(self, size: int, *, keep: bool = False) -> None:
        self.size = size
        self._keep = keep
        self._idle: list[_Worker] = []
        self._workers: dict[Connection, _Worker] = {}
        self._can_start = False
        self._repeated: set[int] = set()

    def __enter__(self) -> "Pool":
        return self

    def __exit__(self, *_exception: object) -> None:
        for worker in (*self._workers.values(), *self._idle):
            worker.end()
        self._workers.clear()
        self._idle.clear()

    def run(self, jobs: Iterable[Job]) -> Iterator[News]:
        """Do the jobs, started in their order; yield what is heard of them, as it comes.

        Raises: UsageError when a job says so, but for "unread"; HeaplabError when no worker can start.
        """
        waiting = iter(enumerate(jobs))
        self._repeated.clear()
        for number, job in islice(waiting, self.size):
            self._begin(self._idle.pop() if self._idle else _Worker(), number, job)
        while self._workers:
            for connection in wait(list(self._workers)):
                worker = self._workers[connection]  # type: ignore[index]
                news = self._hear(worker)
                if news is None:
                    continue
                if news.what == "killed":
                    del self._workers[worker.connection]
                    self._repeated.add(news.job)
                    assert worker.given is not None
                    self._begin(_Worker(), news.job, worker.given)
                    continue
                if news.what != "progress":
                    del self._workers[worker.connection]
                    self._give(_Worker() if news.what in ("crash", "hung") else worker, waiting)
                yield news

    def _give(self, worker: _Worker, waiting: Iterator[tuple[int, Job]]) -> None:
        """Give the worker its next job, or let it go when there is none."""
        number, job = next(waiting, (None, None))
        if number is not None and job is not None:
            self._begin(worker, number, job)
        elif self._keep:
            self._idle.append(worker)
        else:
            worker.end()

    def _begin(self, worker: _Worker, number: int, job: Job) -> None:
        worker.job, worker.given = number, job
        with suppress(BrokenPipeError):  # it died early: heard of in _hear
            worker.connection.send(job)
        self._workers[worker.connection] = worker

    def _hear(self, worker: _Worker) -> News | None:
        """Take a message of the worker's; None for one that is not about its job."""
        assert worker.job is not None
        try:
            what, value = worker.connection.recv()
        except (EOFError, ConnectionResetError):
            what, why = worker.last_words()
            if not self._can_start:
                raise HeaplabError(f"a worker cannot start: {why}") from None
            if what == "hung":
                return News(worker.job, what, (why, 0))
            if what == "killed":
                what = "crash" if worker.job in self._repeated else what
            return News(worker.job, what, why if worker.ready else f"its worker cannot start: {why}")
        if what == "ready":
            worker.ready = self._can_start = True
            return None
        if what == "usage":
            raise UsageError(value)
        if what == "hung":
            worker.end()
        return News(worker.job, what, value)


def _interpreter() -> list[str]:
    """The command of a Python that puts no folder of its own choice on its import path."""
    options = [
        "-P",
        *(["-E"] if sys.flags.ignore_environment else []),
        *(["-s"] if sys.flags.no_user_site else []),
    ]
    return [sys.executable, *options]


def _environment() -> dict[str, str]:
    """This process's environment; an empty entry in PYTHONPATH would be the working directory."""
    path = os.pathsep.join(entry for entry in os.environ.get("PYTHONPATH", "").split(os.pathsep) if entry)
    others = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    return {**others, "PYTHONPATH": path} if path else others
