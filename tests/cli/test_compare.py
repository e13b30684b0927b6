"""`heaplab compare`: the main job from the command line."""

import contextlib
import csv
import json
import os
import pty
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from heaplab.cli import main
from heaplab.traces import Provenance, TraceWriter, corpus, open_trace, synthetic
from heaplab.traces.lives import lives
from heaplab.traces.sites import Asked, Sites, write_sites


def compare(*args):
    return CliRunner().invoke(main, ["compare", *map(str, args)])


@pytest.fixture(scope="module")
def trace(tmp_path_factory):
    """A trace file of 3000 events."""
    path = tmp_path_factory.mktemp("traces") / "small.hlt"
    with TraceWriter.create(path, Provenance("small")) as writer:
        for block in synthetic(3000, seed=1, slots=200):
            writer.write(block)
    return path


def without_seconds(path):
    read = json.loads(path.read_text())
    for run in read["runs"]:
        assert run.pop("seconds")["replay"] > 0
    return read


def test_tables_json_csv_and_report(trace, tmp_path):
    result = compare(
        trace,
        "--allocators=buddy,freelist:fit=best:order=address",
        f"--json={tmp_path / 'a.json'}",
        f"--csv={tmp_path / 'a.csv'}",
        f"--report={tmp_path / 'report'}",
    )
    assert (result.exit_code, result.stderr) == (0, "")
    for text in (
        "small, 3,000 events",
        "buddy ",
        "freelist:fit=best:order=address ",
        "utilisation  peak live",
    ):
        assert text in result.stdout
    runs = without_seconds(tmp_path / "a.json")["runs"]
    assert [run["allocator"] for run in runs] == ["buddy", "freelist:fit=best:order=address"]
    with open(tmp_path / "a.csv") as file:
        assert [row["allocator"] for row in csv.DictReader(file)] == [run["allocator"] for run in runs]
    page = tmp_path / "report" / "index.html"
    assert page.exists()
    assert result.stdout.endswith(f"figures: {page}\n")


def test_two_runs_write_the_same_json_but_for_seconds(trace, tmp_path):
    for name, jobs in (("a", 1), ("b", 2)):
        compare(trace, "--allocators=rbtree,buddy,freelist", "--jobs", jobs, "--json", tmp_path / name)
    first, second = (without_seconds(tmp_path / name) for name in "ab")
    assert first == second
    compare(trace, "--allocators=rbtree,buddy,freelist", "--seed=2", "--json", tmp_path / "c")
    assert without_seconds(tmp_path / "c") != first


def test_the_language_is_chosen(trace, tmp_path):
    compare(trace, "--allocators=buddy", "--language=python", "--json", tmp_path / "a")
    [run] = without_seconds(tmp_path / "a")["runs"]
    assert (run["language"], run["outcome"]) == ("python", "finished")


def test_a_bundled_trace_by_name(tmp_path):
    name = min(corpus.names(), key=lambda name: corpus.path(name).stat().st_size)
    result = compare(name, "--allocators=buddy")
    assert result.exit_code == 0
    assert result.stdout.startswith(f"{name}: ")


def test_the_limit_is_told_when_it_was_hit(trace):
    result = compare(trace, "--allocators=buddy", "--max-mems=1000")
    assert result.exit_code == 0
    assert "* buddy stopped: more than 1,000 mems at event " in result.stdout


def test_a_heap_that_breaks_the_contract_is_status_1(trace, tmp_path):
    design = tmp_path / "d.py"
    design.write_text(
        "from heaplab.allocators.designs.buddy import Buddy\n"
        "class Same(Buddy):\n"
        "    NAME = 'same'\n"
        "    def malloc(self, size):\n"
        "        return self._start + 64\n"
    )
    result = compare(trace, "--language=python", "--allocators", design)
    assert result.exit_code == 1
    assert f"! {design} failed: event " in result.stdout


@pytest.mark.parametrize(
    ("args", "sentence"),
    [
        (["--allocators=budy"], "there is no allocator 'budy' in c: did you mean 'buddy'?"),
        (["--allocators=buddy:fit=best"], "buddy has no parameter 'fit'"),
        (["--allocators="], "names no allocator"),
        (["--language=cobol"], "Invalid value for '--language'"),
        (["--max-mems=0"], "Invalid value for '--max-mems'"),
        (["--ram=much"], "'much' is not a size"),
        (["--ram=1"], "the machine has too little memory (--ram 1) for this trace: "),
        (["--max-seconds=0"], "Invalid value for '--max-seconds'"),
        (["--max-seconds=nan"], "max_seconds=nan is no time to wait"),
        (["--jobs=0"], "Invalid value for '--jobs'"),
        (["--json={tmp}"], "--json {tmp}: this is a directory: name a file"),
        (["--json={tmp}/no/x.json"], "there is no directory {tmp}/no: make it first"),
        (["--csv=/proc/self/x.csv"], "--csv /proc/self/x.csv: you may not write"),
        (["--report={trace}"], "--report {trace}: this is no directory"),
        (["--report=/nowhere/r.html"], "--report /nowhere/r.html: there is no directory /nowhere"),
        (["--csv=/dev/stdout"], "--csv /dev/stdout: this is no regular file: name one to write"),
        (["--no-payload", "--native=glibc"], "of the model alone: leave out glibc"),
        (["{trace}"], "the trace {trace} is given twice"),
        (["--allocators=buddy,rbtree,buddy"], "the allocator buddy is given twice"),
    ],
)
def test_a_mistake_is_one_line_and_status_2_before_any_work(trace, tmp_path, args, sentence):
    fill = {"tmp": tmp_path, "trace": trace}
    started = time.monotonic()
    result = compare(trace, "--allocators=buddy", *(arg.format(**fill) for arg in args))
    assert result.exit_code == 2
    assert sentence.format(**fill) in result.stderr
    assert result.stderr.count("\n") == 1
    assert result.stdout == ""
    assert time.monotonic() - started < 5
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("bad", "sentence"),
    [
        ("nowhere.hlt", "nowhere.hlt: there is no such file"),
        ("", "is not a file: name a trace"),
        ("bad.rep", "bad.rep: line 5 (f 0)"),
        ("sqllite", "did you mean sqlite?"),
    ],
)
def test_a_bad_trace_costs_its_own_runs_alone(trace, tmp_path, bad, sentence):
    (tmp_path / "bad.rep").write_text("100\n1\n2\n1\nf 0\na 0 100\n")
    name = bad if bad == "sqllite" else tmp_path / bad
    out = tmp_path / "a.json"
    result = compare(trace, name, "--allocators=buddy,rbtree", f"--json={out}")
    assert (result.exit_code, result.stderr) == (1, "")
    assert "small, 3,000 events" in result.stdout
    assert result.stdout.count(sentence) == 1
    read = json.loads(out.read_text())
    assert [run["allocator"] for run in read["runs"]] == ["buddy", "rbtree"]
    assert [sentence in text for text in read["unread"].values()] == [True]
    alone = compare(name, "--allocators=buddy")
    assert (alone.exit_code, alone.stdout, alone.stderr.count("\n")) == (2, "", 1)


def test_leniently_what_cannot_be_is_skipped_and_told(tmp_path):
    path = tmp_path / "bad.rep"
    path.write_text("100\n1\n3\n1\nf 0\na 0 100\nf 0\n")
    result = compare(path, "--allocators=buddy", "--lenient", f"--json={tmp_path / 'j'}")
    assert result.exit_code == 0
    assert f"{path}: skipped or mended 1 " in result.stdout
    assert any("skipped or mended 1 " in text for text in json.loads((tmp_path / "j").read_text())["remarks"])


def test_a_failure_comes_with_the_command_that_makes_it_small(tmp_path):
    path = tmp_path / "two words.rep"
    path.write_text("100\n1\n2\n1\na 0 100\nf 0\n")
    design = tmp_path / "d.py"
    design.write_text(
        "from heaplab.allocators.designs.buddy import Buddy\n"
        "class Odd(Buddy):\n"
        "    NAME = 'odd'\n"
        "    def malloc(self, size):\n"
        "        return super().malloc(size) + 8\n"
    )
    result = compare(path, "--language=python", "--allocators", f"buddy,{design}", "--seed=7")
    assert result.exit_code == 1
    [line] = [line for line in result.stdout.splitlines() if "heaplab shrink" in line]
    words = shlex.split(line.partition(": ")[2])
    assert words[:3] == ["heaplab", "shrink", str(path)]
    small = tmp_path / "small.rep"
    again = CliRunner().invoke(main, [*words[1:-1], str(small), "--seconds=5", "-q"])
    assert again.exit_code == 1
    assert small.exists()


def test_of_many_failures_three_are_suggested(trace, tmp_path):
    specs = []
    for number in range(5):
        design = tmp_path / f"d{number}.py"
        design.write_text(
            "from heaplab.allocators.designs.buddy import Buddy\n"
            "class Odd(Buddy):\n"
            "    NAME = 'odd'\n"
            "    def malloc(self, size):\n"
            "        return super().malloc(size) + 8\n"
        )
        specs.append(str(design))
    told = compare(trace, "--language=python", "--allocators", ",".join(specs)).stdout
    assert told.count("heaplab shrink") == 3
    assert "... and 2 more" in told
    assert "--seed" not in told
    assert "heaplab shrink" not in compare(trace, "--allocators=buddy").stdout


def test_of_allocators_from_outside_shrink_is_suggested_too(trace, tmp_path):
    submission = Path(__file__).parents[1] / "outside" / "submissions" / "misaligned.c"
    told = compare(trace, f"--allocators={submission}", "--native=glibc", "--rounds=1", "--seed=7").stdout
    assert f"heaplab shrink {trace} --allocators {submission} -o small.rep\n" in told
    assert told.count("heaplab shrink") == 1


def test_a_damaged_trace_leaves_nothing_half_written(tmp_path, trace):
    damaged = tmp_path / "damaged.hlt"
    damaged.write_bytes(trace.read_bytes()[:-30])
    result = compare(damaged, "--allocators=buddy", "--json", tmp_path / "a.json")
    assert (result.exit_code, result.stderr.count("\n")) == (2, 1)
    assert str(damaged) in result.stderr
    assert list(tmp_path.iterdir()) == [damaged]


def test_a_report_into_one_file_has_walks_and_the_verdict_is_said(trace, tmp_path):
    path, plain = tmp_path / "r.html", tmp_path / "plain.json"
    result = compare(trace, "--allocators=buddy,rbtree", f"--report={path}", f"--json={tmp_path / 'j'}")
    assert result.exit_code == 0
    assert f"figures: {path}\n" in result.stdout
    assert "Both allocators finished the trace.\nMemory: " in result.stdout
    assert path.read_text().startswith("<!doctype html>")
    runs = json.loads((tmp_path / "j").read_text())["runs"]
    assert {len(run["walks"]) for run in runs} == {24}
    assert compare(trace, "--allocators=buddy", f"--json={plain}").exit_code == 0
    assert json.loads(plain.read_text())["runs"][0]["walks"] == []


def test_lines_and_who_asked_for_the_pins_on_request(trace, tmp_path):
    sites = tmp_path / "small.sites"
    size = lives(open_trace(trace)).size
    stack = np.where(size % 2, 1, 2)
    write_sites(sites, Sites(((), ("main", "odd"), ("main", "even")), {0: Asked.of(stack, size)}))
    result = compare(trace, "--allocators=rbtree", "--lines", f"--sites={sites}", f"--json={tmp_path / 'j'}")
    assert (result.exit_code, result.stderr) == (0, "")
    assert "lines/op" in result.stdout
    assert "lines/op     (--lines) distinct cache lines" in result.stdout
    [found] = json.loads((tmp_path / "j").read_text())["runs"]
    assert 0 < found["lines"]["mean"] <= found["mems"]["mean"]
    parts = ("copied", "payload", "internal", "metadata", "pinned", "vacant")
    assert sum(found["attribution"][part] for part in parts) == found["attribution"]["resident"] > 0
    assert {pin["what"] for pin in found["attribution"]["pins"] if pin["by"] == "site"} <= {"odd", "even"}


def test_call_sites_are_of_one_trace(trace, tmp_path):
    sites = tmp_path / "small.sites"
    write_sites(sites, Sites(((), ("main", "odd")), {}))
    result = compare(trace, "lua", "--allocators=rbtree", f"--sites={sites}")
    assert (result.exit_code, result.stderr.count("\n")) == (2, 1)
    assert "is of one trace: give that alone" in result.stderr
    alone = compare(trace, "--allocators=rbtree", f"--sites={sites}")
    assert (alone.exit_code, alone.stderr.count("\n")) == (2, 1)
    assert "is not of this trace" in alone.stderr


def test_a_directory_is_a_directory_whatever_its_name(trace, tmp_path):
    folder = tmp_path / "r.html"
    folder.mkdir()
    assert compare(trace, "--allocators=buddy", f"--report={folder}").exit_code == 0
    assert (folder / "index.html").exists()


def test_a_report_that_fails_costs_neither_tables_nor_files(trace, tmp_path, monkeypatch):
    def fail(comparison, directory):
        raise OSError(28, "No space left on device", "report/index.html")

    monkeypatch.setattr("heaplab.report.write", fail)
    files = [f"--json={tmp_path / 'j'}", f"--csv={tmp_path / 'c'}", f"--report={tmp_path / 'r'}"]
    result = compare(trace, "--allocators=buddy", *files)
    assert (result.exit_code, result.stderr.count("\n")) == (2, 1)
    assert "small, 3,000 events" in result.stdout
    assert json.loads((tmp_path / "j").read_text())["runs"]
    assert (tmp_path / "c").read_text()


def test_a_file_that_cannot_be_written_costs_no_table(trace, tmp_path, monkeypatch):
    def fail(comparison):
        raise OSError(28, "No space left on device", "a.json")

    monkeypatch.setattr("heaplab.report.to_json", fail)
    result = compare(trace, "--allocators=buddy", f"--json={tmp_path / 'j'}")
    assert (result.exit_code, result.stderr.count("\n")) == (2, 1)
    assert "small, 3,000 events" in result.stdout
    assert list(tmp_path.iterdir()) == []


def test_a_call_that_does_not_return_is_ended_after_the_seconds_given(trace, tmp_path):
    design = tmp_path / "d.py"
    design.write_text(
        "from heaplab.allocators.designs.buddy import Buddy\n"
        "class Spinning(Buddy):\n"
        "    def free(self, p):\n"
        "        while True:\n"
        "            pass\n"
    )
    result = compare(trace, "--allocators", f"{design},rbtree", "--max-seconds=0.6")
    assert result.exit_code == 1
    assert f"! {design} hung: event " in result.stdout
    assert "no end after 0.6 s without a memory reference" in result.stdout
    assert "\nrbtree " in result.stdout
    stated = " ".join(compare("--help").stdout.split())
    assert "[default: 30;" in stated.partition("--max-seconds")[2]


# ---- as a process ----

COMMAND = [sys.executable, "-m", "heaplab", "compare"]


def test_ctrl_c_shows_and_writes_what_is_finished(trace, tmp_path):
    slow = tmp_path / "slow.py"
    slow.write_text(
        "import time\n"
        "from heaplab.allocators.designs.buddy import Buddy\n"
        "class Slow(Buddy):\n"
        "    NAME = 'slow'\n"
        "    def malloc(self, size):\n"
        f"        open({str(tmp_path / 'begun')!r}, 'w').close()\n"
        "        time.sleep(60)\n"
    )
    written = tmp_path / "a.json"
    command = [
        *COMMAND,
        trace,
        "--language=python",
        f"--allocators=buddy,{slow}",
        "--jobs=1",
        "--json",
        written,
    ]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 60
    while not (tmp_path / "begun").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    stdout, stderr = process.communicate(timeout=20)
    assert process.returncode == 130
    assert stderr == "heaplab: interrupted after 1 of 2 runs\n"
    assert "buddy " in stdout
    read = json.loads(written.read_text())
    assert read["interrupted"]
    assert [run["allocator"] for run in read["runs"]] == ["buddy"]


def test_into_a_pipe_nothing_is_cut_and_no_progress_is_shown(trace):
    environment = {**os.environ, "COLUMNS": "60"}
    spec = "freelist:fit=first:order=address:trim_threshold=1MiB"
    shown = subprocess.run(
        [*COMMAND, trace, f"--allocators={spec}"], capture_output=True, text=True, env=environment, check=True
    )
    assert shown.stderr == ""
    [row] = [line for line in shown.stdout.splitlines() if line.startswith(spec)]
    assert len(row.split()) == 1 + 16 + 5  # sizes and their units are two words
    assert "\x1b" not in shown.stdout


def test_a_closed_pipe_is_quiet(trace):
    line = f"{' '.join(COMMAND)} {trace} --allocators=buddy | true; echo ${{PIPESTATUS[0]}}"
    shown = subprocess.run(["bash", "-c", line], capture_output=True, text=True, check=False)
    assert shown.stderr == ""
    assert shown.stdout in ("0\n", "141\n")


@pytest.mark.parametrize(("options", "shown"), [([], True), (["--quiet"], False)])
def test_a_terminal_is_shown_how_far_it_is(trace, options, shown):
    ours, theirs = pty.openpty()
    command = [*COMMAND, trace, "--allocators=buddy,rbtree", *options]
    environment = {**os.environ, "TERM": "xterm"}
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=theirs, env=environment)
    os.close(theirs)
    told = b""
    with contextlib.suppress(OSError):  # the terminal's end
        while more := os.read(ours, 4096):
            told += more
    os.close(ours)
    assert process.wait(timeout=20) == 0
    assert (b"of 2 runs" in told) is shown
    assert (b"of 6,000 events" in told) is shown
