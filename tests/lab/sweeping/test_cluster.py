"""The same grid on a cluster of Dask's, one of whose workers is killed, and which goes away in the end."""

import logging
import os
import signal
import textwrap
import threading
from contextlib import suppress

import pytest

from heaplab import lab
from heaplab.errors import UsageError
from heaplab.lab.columns import COLUMNS, row_of
from heaplab.traces import synthetic

#: stops in its first malloc: says the number of the process that it runs beside, and waits to be let go
DESIGN = """
import os
from heaplab.allocators.designs.buddy import Buddy

class Waiting(Buddy):
    NAME = "waiting"

    def _malloc(self, size, alignment):
        if os.path.exists({door!r}):
            with open({told!r}, "w") as told:
                told.write(str(os.getppid()))
            open({door!r}).close()
        return super()._malloc(size, alignment)
"""
EXACT = {column.key for column in COLUMNS if not column.seconds}


@pytest.fixture
def cluster():
    distributed = pytest.importorskip("distributed")
    nothing = {"dashboard_address": None, "worker_dashboard_address": None, "silence_logs": logging.CRITICAL}
    cluster = distributed.LocalCluster(n_workers=2, threads_per_worker=1, processes=True, **nothing)
    yield cluster
    with suppress(Exception):  # the test has closed it
        cluster.close()


def test_a_worker_that_is_killed_has_its_cells_run_elsewhere(tmp_path, cluster):
    """A design stops in the first cell; its Dask worker is killed then, and the door is opened."""
    told, door = str(tmp_path / "told"), str(tmp_path / "door")
    os.mkfifo(told)
    os.mkfifo(door)
    path = tmp_path / "waiting.py"
    path.write_text(textwrap.dedent(DESIGN).format(told=told, door=door))
    killed = []

    def kill():
        with open(told) as worker:
            killed.append(int(worker.read()))
        os.rename(door, door + "-open")
        os.kill(killed[0], signal.SIGKILL)

    killer = threading.Thread(target=kill, daemon=True)
    killer.start()
    traces = [synthetic(200, slots=20), "workload:events=200:sizes=constant,40"]
    news = []
    args = {"language": "python", "store": tmp_path / "cells"}
    swept = lab.sweep(
        traces, [str(path), "buddy"], cluster=cluster.scheduler_address, progress=news.append, **args
    )
    killer.join()
    assert sum(now.latest is not None for now in news) == 4
    assert [row.figures["outcome"] for row in swept.rows] == ["finished"] * 4
    assert killed
    here = row_of(lab.run(traces[0], "buddy", "python", max_mems=lab.DEFAULT_MAX_MEMS))
    assert {name: value for name, value in swept.rows[1].figures.items() if name in EXACT} == {
        name: here[name] for name in EXACT
    }

    def close(now):
        cluster.close()

    with pytest.raises(UsageError, match="went away: finished cells are kept"):
        lab.sweep(
            traces,
            ["rbtree"],
            seeds=range(1, 9),
            cluster=cluster.scheduler_address,
            progress=close,
            **args,
        )
    assert lab.sweep(traces, [str(path), "buddy"], **args).found == 4
