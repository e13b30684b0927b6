"""Sweeps: cells are runs, each made once; what ends one costs nothing that was finished."""

import os
import textwrap

import pytest

from heaplab import lab
from heaplab.errors import UsageError
from heaplab.lab.columns import COLUMNS, row_of
from heaplab.lab.sweeping.store import read_store
from heaplab.traces import synthetic
from heaplab.traces.workload import Constant, Workload

DESIGN = """
import os, signal
from heaplab.allocators.designs.buddy import Buddy

class Mine(Buddy):
    NAME = "mine"

    def _free(self, p):
        {deed}
        super()._free(p)
"""
TIMES = {column.key for column in COLUMNS if column.seconds}


@pytest.fixture
def design(tmp_path):
    """Write a design in Python into a file and return its path."""

    def design(deed="pass", name="design"):
        path = tmp_path / f"{name}.py"
        path.write_text(textwrap.dedent(DESIGN).format(deed=deed))
        return str(path)

    return design


@pytest.fixture(scope="module")
def trace():
    return synthetic(300, slots=20)


def exact(rows):
    """Rows without what differs from run to run."""
    return [{name: value for name, value in row.figures.items() if name not in TIMES} for row in rows]


def made(progress):
    """How many cells were run, by what progress was told."""
    return sum(now.latest is not None for now in progress)


def test_cells_are_runs_and_finished_ones_are_never_run_again(tmp_path, trace):
    def swept(**more):
        news = []
        result = lab.sweep(
            [trace, "workload:events={length}:sizes=constant,40"],
            ["freelist:fit={fit}", "rbtree"],
            seeds=[1, 2],
            store=tmp_path / "cells",
            progress=news.append,
            jobs=1,
            **{"length": [200], "fit": ["first", "best"], **more},
        )
        return result, made(news)

    first, runs = swept()
    assert (first.planned, first.found, runs, len(first.rows)) == (12, 0, 12, 12)
    assert first.rows[0].parameters == {"fit": "first"}
    assert first.rows[7].parameters == {"length": 200, "fit": "best"}
    run = lab.run(trace, "freelist:fit=best", seed=2, max_mems=lab.DEFAULT_MAX_MEMS)
    wanted = {name: value for name, value in row_of(run).items() if name not in TIMES}
    assert exact([first.rows[4]]) == [wanted | {"heaplab": first.rows[4].figures["heaplab"]}]
    one, other = first.rows[6], first.rows[9]  # a workload has the cell's seed
    assert (one.figures["trace"], one.figures["seed"], other.figures["seed"]) == (
        other.figures["trace"],
        1,
        2,
    )
    assert one.figures["mems_mean"] != other.figures["mems_mean"]

    frame = first.frame()
    assert list(frame.columns[:6]) == ["trace", "allocator", "language", "seed", "length", "fit"]
    keys = [column.key for column in COLUMNS]
    assert [name for name in frame.columns if name in keys] == keys
    assert frame.fit.isna().tolist() == [False, False, True] * 4

    again, runs = swept()
    assert (again.found, runs, again.rows) == (12, 0, first.rows)
    assert again.frame().equals(frame)
    more, runs = swept(fit=["first", "best", "worst"])
    assert (more.found, runs) == (12, 4)
    assert len(read_store(tmp_path / "cells")) == 16


def test_what_fails_hangs_or_is_killed_is_a_row_and_is_kept(tmp_path, trace, design):
    """SIGKILL comes from outside: a cell whose worker it ends is run once more, and no more than that."""
    mark = tmp_path / "begun"
    kill = "os.kill(os.getpid(), signal.SIGKILL)"
    deeds = {
        "fails": "raise IndexError('lost')",
        "hangs": "while True: pass",
        "once": f"if not os.path.exists({str(mark)!r}): open({str(mark)!r}, 'w'); {kill}",
    }
    paths = [design(deed, name) for name, deed in deeds.items()]

    def swept():
        return lab.sweep([trace], paths, language="python", max_seconds=0.3, store=tmp_path / "cells", jobs=1)

    cells = swept()
    ended = [(row.figures["outcome"], row.figures["reason"]) for row in cells.rows]
    assert [outcome for outcome, _ in ended] == ["failed", "hung", "finished"]
    for (_, reason), said in zip(ended, ("lost", "no end after 0.3 s", ""), strict=True):
        assert said in reason
    assert cells.rows[1].figures["peak_heap_bytes"] is None
    assert mark.exists()
    again = swept()
    assert (again.found, again.rows) == (3, cells.rows)


def test_ctrl_c_keeps_what_is_finished_and_new_code_is_run(tmp_path, trace, design):
    def interrupt(now):
        if now.runs == 2:
            raise KeyboardInterrupt

    def swept(progress):
        return lab.sweep(
            [trace], [path, "buddy"], seeds=[1, 2], language="python", store=store, jobs=1, progress=progress
        )

    store = tmp_path / "cells"

    path = design()
    cut = swept(interrupt)
    assert (cut.interrupted, len(cut.rows), cut.planned) == (True, 2, 4)
    assert os.listdir(store) == ["cells.parquet"]
    design("self.process  # another text")
    news = []
    rest = swept(news.append)
    assert (rest.found, made(news), len(rest.rows)) == (1, 3, 4)
    rows = read_store(store)
    assert len({row.code for row in rows if row.figures["allocator"] == path}) == 2
    assert len(rows) == 5


def test_traces_of_all_kinds_and_real_allocators(tmp_path, trace):
    workload = Workload(events=100, sizes=Constant(64), seed=9)
    (tmp_path / "mine.toml").write_text('events = 100\nsizes = "constant,64"\n')
    broken = tmp_path / "broken.rep"
    broken.write_text("100\n1\n1\n1\nf 0\n")
    traces = [workload, tmp_path / "mine.toml", broken]
    swept = lab.sweep(
        traces, ["rbtree"], native=["glibc"], seeds=[3, 4], rounds=1, jobs=1, store=tmp_path / "c"
    )
    assert list(swept.unread) == [str(broken)]
    model, real, later, _ = [row.figures for row in swept.rows[:4]]
    assert model["trace"] == later["trace"] == str(workload).replace(":seed=9", "")
    assert model["mems_mean"] != later["mems_mean"]
    assert exact(swept.rows[0:4:2]) == [{**row, "trace": model["trace"]} for row in exact(swept.rows[4:8:2])]
    assert (real["language"], real["outcome"]) == ("native", "finished")
    assert real["native_ns_per_op"] > 0
    assert real["peak_live_bytes"] == model["peak_live_bytes"]
    assert lab.sweep(traces[:1], native=["glibc"], seeds=[3, 4], rounds=1, store=tmp_path / "c").found == 2


@pytest.mark.parametrize(
    ("what", "sentence"),
    [
        ({"allocators": ["rbtree", "rbtree"]}, "the cell of .* on rbtree is given twice"),
        ({"allocators": ["freelst"]}, "there is no allocator 'freelst'"),
        ({"allocators": ["rbtree"], "rounds": 0}, "a time needs one round"),
        ({"allocators": ["rbtree"], "max_seconds": 0}, "is no time to wait"),
        (
            {"allocators": ["rbtree"], "cluster": "tcp://127.0.0.1:1"},
            "there is no Dask scheduler at tcp://127.0.0.1:1",
        ),
    ],
)
def test_mistakes_are_one_sentence(trace, what, sentence, monkeypatch):
    monkeypatch.setattr("heaplab.lab.sweeping.cluster._PATIENCE", 0.2)
    with pytest.raises(UsageError, match=sentence):
        lab.sweep([trace], **what)


def test_no_trace_that_is_missing_makes_a_store(tmp_path):
    with pytest.raises(UsageError, match=r"nowhere\.hlt: cannot be read: No such file"):
        lab.sweep([tmp_path / "nowhere.hlt"], ["rbtree"], store=tmp_path / "cells")
    assert not (tmp_path / "cells").exists()
