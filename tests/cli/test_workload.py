"""`heaplab workload`: show, make, fit; and workloads where a trace is taken."""

import json
from contextlib import contextmanager

import pytest
from click.testing import CliRunner

from heaplab.cli import _progress, main
from heaplab.traces import open_trace
from heaplab.workload import Constant, Phase, Workload

SMALL = "events=4000:sizes=constant,64:lifetimes=exponential,100"


def run(*args):
    return CliRunner().invoke(main, [str(arg) for arg in args])


def test_show_says_all_parameters_and_what_comes_of_them():
    shown = run("workload", "show", SMALL).output
    assert f"workload    workload:{SMALL}:arrival=constant,1:seed=0\n" in shown
    assert "lifetimes   exponential,100   mean 100, coefficient of variation 1\n" in shown
    assert "live        100 blocks in equilibrium (Little: mean lifetime / mean arrival)\n" in shown
    assert "events      4,000 in" in shown


def test_show_of_blocks_that_are_never_freed():
    shown = run("workload", "show", "events=10:lifetimes=never").output
    assert "live        grows without end: some blocks are never freed\n" in shown


def test_show_of_phases_and_kinds():
    text = "events=90:phases=ramp,1/drain,1:kinds=1(sizes=constant,8)/2(lifetimes=never)"
    shown = run("workload", "show", text).output
    assert "phases      ramp,1\n            drain,1\n" in shown
    assert "kinds       1(sizes=constant,8)\n            2(lifetimes=never)\n" in shown


def test_show_leaves_out_what_a_table_says(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "both.csv").write_text("size,lifetime\n16,3\n")
    shown = run("workload", "show", "events=90:joint=both.csv").output
    names = [line.split()[0] for line in shown.splitlines() if line[:1].strip()]
    assert names[:5] == ["workload", "events", "arrival", "deaths", "joint"]
    assert not {"sizes", "lifetimes"} & {*names}
    assert "mean size   16 B\n" in shown


def test_show_of_what_was_learned_has_short_lines():
    shown = run("workload", "show", "like=lua:windows=2").output
    assert max(map(len, shown.splitlines())) <= 132
    assert "phases      plateau,34827(arrival=values,0x1,1x17002," in shown
    assert "arrival     " not in shown
    assert "\n\n\n" not in shown


def test_show_for_programs():
    told = json.loads(run("workload", "show", SMALL, "--seed", "3", "--json").output)
    assert told["workload"].endswith("seed=3")
    assert (told["mean_size"], told["mean_lifetime"], told["mean_live"]) == (64, 100, 100)
    assert told["trace"]["events"] == 4000


@pytest.mark.parametrize(
    ("args", "doing"), [(["show"], ["counting"]), (["make", "-o", "x.hlt"], ["counting", "writing"])]
)
def test_many_events_show_progress(tmp_path, monkeypatch, args, doing):
    told = []

    @contextmanager
    def bar(quiet):
        yield lambda progress: told.append((progress.doing, progress.events, progress.total))

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(_progress, "progress_bar", bar)
    assert run("workload", *args, "events=150_000").exit_code == 0
    assert list(dict.fromkeys(word for word, _, _ in told)) == doing
    for word in doing:
        events = [done for each, done, _ in told if each == word]
        assert events == sorted({*events})
        assert len(events) > 2
        assert events[-1] == 150_000
    assert {total for _, _, total in told} == {150_000}


def test_make_writes_the_trace(tmp_path):
    done = run("workload", "make", SMALL, "-o", tmp_path / "x.hlt", "--seed", "2")
    assert done.output.startswith(f"{tmp_path}/x.hlt: 4,000 events, peak live ")
    made = open_trace(tmp_path / "x.hlt").header
    assert made.counts() == open_trace(f"workload:{SMALL}:seed=2").header.counts()
    assert made.command == str(Workload.parse(f"{SMALL}:seed=2"))


def test_a_toml_file_is_a_workload_and_a_trace(tmp_path):
    Workload(events=50, sizes=Constant(64), phases=(Phase("peak"),)).save(tmp_path / "peak.toml")
    assert "phases      peak,1" in run("workload", "show", tmp_path / "peak.toml").output
    assert "peak: heaplab.traces.workload" in run("trace", "info", tmp_path / "peak.toml").output


def test_fit_says_how_far_and_writes(tmp_path):
    done = run("workload", "fit", "lua", "--windows", "4", "-o", tmp_path / "lua.toml")
    assert done.exit_code == 0
    lines = done.output.splitlines()
    assert lines[0] == "workload:like=lua:windows=4:events=69655:seed=0"
    assert lines[1].split() == ["lua", "like-lua", "far"]
    assert any(line.startswith("buddy: external fragmentation") for line in lines)
    assert lines[-1] == f"{tmp_path}/lua.toml: written"
    assert Workload.load(tmp_path / "lua.toml").events == 69_655


def test_fit_for_programs():
    told = json.loads(run("workload", "fit", "workload:events=900", "--windows", "2", "--json").output)
    assert told[0]["what"] == "events"


def test_compare_takes_workloads():
    done = run("compare", f"workload:{SMALL}", "--allocators", "buddy", "--jobs", "1")
    assert done.exit_code == 0
    assert "workload" in done.output


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (
            ["show", "gcc"],
            "gcc: is no workload: write key=value, as in sizes=lognormal,48,1, or a .toml file",
        ),
        (["show", ""], "'': is no workload: write key=value, as in sizes=lognormal,48,1, or a .toml file"),
        (["show", "none.toml"], "none.toml: cannot be read: No such file or directory"),
        (
            ["show", "sizes=lognormal,48"],
            "sizes=lognormal,48: lognormal takes median,spread: write lognormal,48,1",
        ),
        (["make", SMALL, "-o", "none/x.hlt"], "-o none/x.hlt: there is no directory"),
        (["make", SMALL], "Missing option '-o'"),
        (["fit", "lua", "-o", "lua.txt"], "-o lua.txt: a workload is a .toml file: end the name in .toml"),
        (
            ["fit", "luaa"],
            "luaa: there is no such file, and no bundled trace of that name: did you mean lua?",
        ),
    ],
)
def test_mistakes_are_one_line_and_status_2(tmp_path, monkeypatch, args, message):
    monkeypatch.chdir(tmp_path)
    done = run("workload", *args)
    assert done.exit_code == 2
    assert done.stderr.startswith(f"heaplab: {message}")
    assert done.stderr.count("\n") == 1
    assert list(tmp_path.iterdir()) == []
