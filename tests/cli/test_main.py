"""The command line as a whole: help, version, and one line for every mistake."""

import subprocess
import sys

import click
import pytest
from click.testing import CliRunner

import heaplab
from heaplab.cli import main
from heaplab.errors import HeapCorruption, Rule, UsageError


def run(*args):
    return CliRunner().invoke(main, args)


@pytest.fixture
def failing(monkeypatch):
    """A command line whose one command `fail` raises what it is given."""

    def command_that_raises(error):
        @click.command()
        def fail():
            raise error

        monkeypatch.setattr(main, "get_command", lambda ctx, name: fail)
        return run("fail")

    return command_that_raises


def test_help_and_version():
    assert run("--help").output.startswith("Usage: heaplab ")
    assert run("-h").output == run("--help").output == run().output
    assert run("--version").output == f"heaplab {heaplab.__version__}\n"
    assert {run("--help").exit_code, run().exit_code, run("--version").exit_code} == {0}


def test_commands_are_listed_as_click_would_list_them_once_imported():
    ours, clicks = click.HelpFormatter(), click.HelpFormatter()
    main.format_commands(click.Context(main), ours)
    click.Group.format_commands(main, click.Context(main), clicks)
    assert ours.getvalue() == clicks.getvalue()
    assert ours.getvalue().count("\n") > 6


@pytest.mark.parametrize(
    ("command", "absent"),
    [
        (["--help"], {"numpy", "matplotlib", "rich", "elftools", "heaplab._core"}),
        (["--version"], {"numpy", "matplotlib", "rich", "elftools", "heaplab._core"}),
        (["trace", "list"], {"matplotlib"}),
        (["compare", "lua", "--allocators=rbtree", "--jobs=1"], {"matplotlib"}),
    ],
)
def test_a_command_imports_no_more_than_it_needs(command, absent):
    """Counted, not timed: what it imports is what it takes until it answers."""
    code = "import sys; from heaplab.cli import main; main(standalone_mode=False); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code, *command], capture_output=True, text=True, check=True)
    assert "heaplab.cli" in (modules := set(done.stdout.splitlines()[-1].split()))
    assert modules.isdisjoint(absent)


@pytest.mark.parametrize("args", [["frobnicate"], ["--frobnicate"]])
def test_a_wrong_command_or_option_is_one_line_and_status_2(args):
    result = run(*args)
    assert result.exit_code == 2
    assert result.stderr.startswith("heaplab: No such ")
    assert result.stderr.count("\n") == 1
    assert "try 'heaplab --help'" in result.stderr


@pytest.mark.parametrize(
    ("error", "status", "line"),
    [
        (UsageError("x.rep:3: no such id"), 2, "x.rep:3: no such id"),
        (FileNotFoundError(2, "No such file or directory", "x.hlt"), 2, "x.hlt: No such file or directory"),
        (
            OSError(28, "No space left on device", "out.hlt"),
            2,
            "no space is left on the device for out.hlt: free some, or write elsewhere",
        ),
        (MemoryError(), 1, "this needs more memory than the host has"),
        (HeapCorruption(0x1000, Rule.DOUBLE_FREE), 1, f"0x1000: {Rule.DOUBLE_FREE.text}"),
    ],
)
def test_errors_are_one_line(failing, error, status, line):
    result = failing(error)
    assert (result.exit_code, result.stderr) == (status, f"heaplab: {line}\n")


def test_interrupt_is_status_130(failing):
    assert failing(KeyboardInterrupt()).exit_code == 130


def test_python_m_heaplab_answers():
    shown = subprocess.run(
        [sys.executable, "-m", "heaplab", "--version"], capture_output=True, text=True, check=False
    )
    assert shown.stdout == f"heaplab {heaplab.__version__}\n"


def shell(line):
    return subprocess.run(["bash", "-c", line], capture_output=True, text=True, check=False)


def test_a_closed_pipe_is_quiet():
    line = f"{sys.executable} -m heaplab --help | true; echo ${{PIPESTATUS[0]}}"
    shown = shell(line)
    assert shown.stderr == ""
    assert shown.stdout in ("0\n", "141\n")


def test_a_closed_standard_output_is_no_error():
    shown = shell(f"{sys.executable} -m heaplab trace list >&-")
    assert (shown.returncode, shown.stderr) == (0, "")


def test_a_group_without_a_command_shows_its_help():
    shown = shell(f"{sys.executable} -m heaplab trace")
    assert shown.returncode == 2
    assert shown.stderr.startswith("Usage: ")
    assert "\n  list " in shown.stderr


def test_a_full_disk_behind_standard_output_is_one_sentence():
    shown = shell(f"{sys.executable} -m heaplab --help > /dev/full")
    assert shown.returncode == 2
    assert shown.stderr == (
        "heaplab: no space is left on the device for the output: free some, or write elsewhere\n"
    )
