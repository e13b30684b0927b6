"""Runs on a cluster of Dask's: each is a task, and is made there as it is made here, in a process of its own.

The workers need heaplab installed as it is here, and the compiler where a design is a C file; the files of
designs have to be at the same place.  Traces are sent along, but for those that have a name everywhere: the
bundled ones, and workloads.
"""

import tempfile
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

from heaplab.errors import UsageError
from heaplab.lab.plan import Planned, Tally
from heaplab.lab.pool import News, Pool
from heaplab.lab.sources import Placing, Source
from heaplab.lab.sweeping.identity import own_code
from heaplab.lab.worker import Job
from heaplab.native.playing import CRASHED
from heaplab.traces import corpus
from heaplab.traces.opening import WORKLOAD

#: seconds that a scheduler, and its first worker, have to answer
_PATIENCE = 20


def carry_out_on(address: str, plan: Sequence[Planned], tally: Tally) -> None:
    """Do all of the plan on the cluster whose scheduler is at `address`.

    A task whose worker dies is done by another one.  Raises: UsageError when there is no such cluster, when
    its workers run another heaplab, or when it goes away; what was finished was told to `tally`.
    """
    distributed = _distributed()
    with _connected(distributed, address) as client:
        codes = set(client.run(own_code).values())
        if codes != {own_code()}:
            raise UsageError(
                f"the workers of {address} run another heaplab than this one: install the same there"
            )
        with Placing() as placing:
            waiting = _submitted(client, plan, placing)
        try:
            for future in distributed.as_completed(list(waiting), loop=client.loop):
                planned = waiting.pop(future)
                _tell(future, planned, tally, address)
                future.release()
        finally:
            if waiting and client.status == "running":
                client.cancel(list(waiting))


def _distributed() -> Any:
    try:
        import distributed  # noqa: PLC0415 - slow, and an extra
    except ImportError:
        raise UsageError("a cluster needs Dask: install heaplab[cluster]") from None
    return distributed


@contextmanager
def _connected(distributed: Any, address: str) -> Iterator[Any]:
    """Give a client of the scheduler at `address`, whose cluster has a worker."""
    try:
        client = distributed.Client(address, timeout=_PATIENCE, set_as_default=False)
    except (OSError, ValueError, TimeoutError) as error:
        raise UsageError(f"there is no Dask scheduler at {address}: {error}") from None
    with client:
        try:
            client.wait_for_workers(1, timeout=_PATIENCE)
        except TimeoutError:
            raise UsageError(f"the cluster at {address} has no workers: start some") from None
        yield client


def _submitted(client: Any, plan: Sequence[Planned], placing: Placing) -> dict[Any, Planned]:
    """Make a task of each run."""
    sent: dict[int, Any] = {}
    waiting = {}
    for planned in plan:
        source = planned.source
        if id(source) not in sent:
            sent[id(source)] = _sent(client, source, placing)
        job = replace(planned.job, source=source.trace.source if source.trace else "")
        future = client.submit(run_there, job, sent[id(source)], own_code(), pure=False)
        waiting[future] = planned
    return waiting


def _sent(client: Any, source: Source, placing: Placing) -> Any:
    """What a worker opens the trace with: None for a name; else a task that holds the file's content."""
    name = source.trace.source if source.trace else ""
    if name in corpus.names() or (name.startswith(WORKLOAD) and isinstance(source.given, str)):
        return None
    placing.place(source)
    if source.unread:
        return None
    return client.submit(_hold, Path(source.path).read_bytes(), pure=False)


def _hold(content: bytes) -> bytes:
    return content


def _tell(future: Any, planned: Planned, tally: Tally, address: str) -> None:
    """Tell what came of a task."""
    from distributed.scheduler import KilledWorker  # noqa: PLC0415 - slow, and an extra

    if future.status in ("cancelled", "lost"):
        raise UsageError(
            f"the cluster at {address} went away: finished cells are kept, and the same command "
            "goes on from them"
        )
    if future.status == "error":
        error = future.exception()
        if isinstance(error, UsageError):
            raise error
        why = "the workers that had it died" if isinstance(error, KilledWorker) else str(error)
        tally.finish(planned.number, planned.lost(CRASHED, why))
        return
    news: News = future.result()
    if news.what == "unread":
        planned.source.unread = news.value
        tally.finish(planned.number, None)
    else:
        tally.finish(planned.number, planned.record(news))


# ---- what a worker of Dask's does ----

_here = threading.local()
_folder: list[tempfile.TemporaryDirectory[str]] = []
_writing = threading.Lock()


def run_there(job: Job, content: bytes | None, code: str) -> News:
    """Do a job in a process beside this worker, which stays for this thread's next job.

    content: of the trace's file; None: the job's source is a name.  code: of the heaplab that asks.
    """
    if own_code() != code:
        raise UsageError("a worker of the cluster runs another heaplab than this one: install the same there")
    if content is not None:
        job = replace(job, source=_placed(content))
    if not hasattr(_here, "pool"):
        _here.pool = Pool(1, keep=True)
    *_, last = _here.pool.run([job])
    told: News = last
    return told


def _placed(content: bytes) -> str:
    """The path of a file with this content."""
    with _writing:
        if not _folder:
            _folder.append(tempfile.TemporaryDirectory(prefix="heaplab-"))
        path = Path(_folder[0].name, sha256(content).hexdigest()[:32] + ".hlt")
        if not path.exists():
            draft = path.with_suffix(".tmp")
            draft.write_bytes(content)
            draft.replace(path)
    return str(path)
