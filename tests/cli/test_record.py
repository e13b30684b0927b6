"""`heaplab record`, as it is used."""

import os
import subprocess
import sys

import pytest
from click.testing import CliRunner

from heaplab.cli import main
from heaplab.traces import open_trace

PYTHON = [sys.executable, "-S", "-c"]


def run(*args):
    return CliRunner().invoke(main, ["record", *map(str, args)])


@pytest.mark.parametrize(("code", "status"), [("", 0), ("raise SystemExit(3)", 3)])
def test_the_exit_status_is_the_programs(tmp_path, code, status):
    result = run("-o", tmp_path / "x.hlt", "--", *PYTHON, code)
    assert result.exit_code == status
    assert result.stderr.startswith(f"heaplab: {tmp_path / 'x.hlt'}: ")
    assert result.stderr.endswith(" events of 1 process\n")
    assert open_trace(tmp_path / "x.hlt").header.events > 1000


def test_a_signal_is_told(tmp_path):
    result = run("-o", tmp_path / "x.hlt", *PYTHON, "import os; os.abort()")
    assert result.exit_code == 128 + 6
    assert "was ended by SIGABRT" in result.stderr
    assert open_trace(tmp_path / "x.hlt").header.events > 1000


def test_what_is_said_is_kept(tmp_path):
    run(
        *("-o", tmp_path / "x.hlt", "--name", "nothing", "--program-version", "3", "--note", "n"),
        *("--command", "python nothing.py", "--tick", "1000", "--", *PYTHON, ""),
    )
    header = open_trace(tmp_path / "x.hlt").header
    assert (header.name, header.version, header.command, header.note, header.tick) == (
        "nothing",
        "3",
        "python nothing.py",
        "n",
        1000,
    )


def test_options_behind_the_program_are_its_own(tmp_path):
    result = run("-o", tmp_path / "x.hlt", "sh", "-c", "exit 4", "--tick", "x")
    assert result.exit_code == 4


def test_what_is_missing_is_one_sentence(tmp_path):
    result = run("-o", tmp_path / "x.hlt", "sh", "-c", "env -i ls / >/dev/null; exit 3")
    assert result.exit_code == 3
    first, second = result.stderr.splitlines()
    assert first.endswith(" events of 2 processes")
    assert second.startswith("heaplab: warning: ")
    assert second.endswith(
        "ls was to run without the recorder in its environment: it was put back, and recorded"
    )


def test_sizes_and_stacks_are_written_beside_the_trace(tmp_path):
    options = ["--rss", tmp_path / "sizes.csv", "--stacks", tmp_path / "stacks.csv", "--no-wait"]
    assert run("-o", tmp_path / "x.hlt", *options, "--", *PYTHON, "").exit_code == 0
    assert (tmp_path / "sizes.csv").read_text().startswith("nanoseconds,process,bytes\n")
    assert "Py_BytesMain" in (tmp_path / "stacks.csv").read_text()
    assert len(list(tmp_path.iterdir())) == 3


def test_call_sites_are_written_beside_the_trace_and_shown(tmp_path):
    trace, sites, page = (str(tmp_path / name) for name in ("x.hlt", "x.sites", "x.html"))
    assert run("-o", trace, "--sites", sites, "--", "sh", "-c", "exit 0").exit_code == 0
    shown = ["view", trace, "--allocators", "buddy", "-o", page, "--sites"]
    assert CliRunner().invoke(main, [*shown, sites]).exit_code == 0
    assert os.path.getsize(page) > 1000
    refused = CliRunner().invoke(main, [*shown, trace])
    assert (refused.exit_code, refused.stderr.count("\n")) == (2, 1)
    assert "x.hlt: is no file of call sites" in refused.stderr


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["sh"], "Missing option '-o' / '--output'."),
        (["-o", "x.hlt"], "Missing argument 'PROGRAM...'."),
        (["-o", "x.hlt", "no-such-program"], "no-such-program: there is no such program"),
        (["-o", "none/x.hlt", "true"], "none/x.hlt: there is no directory"),
        (["-o", "x.rep", "ls"], "x.rep: heaplab records .hlt"),
        (["-o", "fifo.hlt", "ls"], "fifo.hlt: is not a regular file: name one to write"),
        (["-o", "x.hlt", "--tick", "0", "true"], "Invalid value for '--tick'"),
    ],
)
def test_mistakes_are_one_line_and_status_2(tmp_path, monkeypatch, args, message):
    monkeypatch.chdir(tmp_path)
    os.mkfifo("fifo.hlt")
    result = run(*args)
    assert result.exit_code == 2
    assert result.stderr.startswith(f"heaplab: {message}")
    assert result.stderr.count("\n") == 1
    assert [each.name for each in tmp_path.iterdir()] == ["fifo.hlt"]


def test_an_interrupt_ends_the_program_and_keeps_its_events(tmp_path):
    """SIGTERM is passed on: the trace is written and the status tells of the signal."""
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "heaplab", "record", "-o", tmp_path / "x.hlt"),
            *(*PYTHON, "import time; print('ready', flush=True); time.sleep(60)"),
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout.readline() == "ready\n"
    process.terminate()
    _, told = process.communicate(timeout=30)
    assert process.returncode == 128 + 15
    assert "was ended by SIGTERM" in told
    assert open_trace(tmp_path / "x.hlt").header.events > 1000
    assert [each.name for each in tmp_path.iterdir()] == ["x.hlt"]
