"""`heaplab fuzz` and `heaplab shrink` from the command line."""

import shutil
import subprocess

import pytest
from click.testing import CliRunner

from heaplab.cli import main
from heaplab.traces import Event, Op, open_trace
from tests.programs import host_environment


def heaplab(*args):
    return CliRunner().invoke(main, list(map(str, args)))


@pytest.fixture
def overlapping(tmp_path):
    """A design that gives the block away again when it has 4,096 bytes."""
    path = tmp_path / "mine.py"
    path.write_text(
        "from heaplab.allocators.designs.buddy import Buddy\n"
        "class Mine(Buddy):\n"
        "    NAME = 'mine'\n"
        "    def _malloc(self, size, alignment):\n"
        "        p = super()._malloc(size, alignment)\n"
        "        if size == 4096 and p:\n"
        "            self._free(p)\n"
        "        return p\n"
    )
    return path


def test_a_sound_design_passes_and_two_runs_are_equal():
    first, second = (heaplab("fuzz", "freelist", "--steps=800", "--seed=3") for _ in range(2))
    assert first.exit_code == 0
    assert first.stdout.startswith("no failure: ")
    assert first.stdout.rpartition(",")[0] == second.stdout.rpartition(",")[0]


def test_kinds_are_chosen():
    result = heaplab("fuzz", "rbtree", "--steps=300", "--kinds=malloc,free")
    assert result.exit_code == 0


def test_a_failure_is_shown_in_few_steps_and_saved(overlapping, tmp_path):
    result = heaplab("fuzz", overlapping, "--seconds=60", "-o", tmp_path / "small")
    assert result.exit_code == 1, result.output
    assert "The shortest steps found that fail, 1 step" in result.stdout
    assert "    malloc 0 4096\n" in result.stdout
    assert "What broke: malloc 0 4096: " in result.stdout
    assert {path.suffix for path in tmp_path.glob("small.*")} == {".hlt", ".rep", ".c"}
    [event] = open_trace(str(tmp_path / "small.rep")).events()
    assert event == Event(Op.MALLOC, 0, 4096)


def test_a_trace_is_shrunk_and_fails_again(overlapping, tmp_path):
    small = tmp_path / "small.rep"
    result = heaplab("shrink", "lua", "--allocators", overlapping, "-o", small)
    assert result.exit_code == 1, result.output
    assert "2 steps of 69,655:\n    malloc 0 4096\n" in result.stdout
    assert "broken link" in result.stdout
    again = heaplab("compare", small, "--allocators", overlapping)
    assert again.exit_code == 1
    assert "broken link" in again.stdout


def test_a_trace_that_does_not_fail_is_no_failure():
    result = heaplab("shrink", "lua", "--allocators=buddy")
    assert (result.exit_code, result.stdout) == (
        0,
        "buddy does not fail on lua: there is nothing to shrink\n",
    )


@pytest.mark.parametrize(
    ("args", "sentence"),
    [
        (["fuzz", "budy"], "there is no allocator 'budy' in c: did you mean 'buddy'?"),
        (
            ["fuzz", "buddy", "--kinds=malloc,fee"],
            "'fee' is no kind of step to be drawn: there are malloc, free,",
        ),
        (["fuzz", "buddy", "--kinds="], "an empty list is no kind of step"),
        (["fuzz", "buddy", "-o", "a.txt"], "a.txt: a failure is saved as .hlt, .rep, .c"),
        (["fuzz", "buddy", "--seconds=0"], "Invalid value for '--seconds'"),
        (["shrink", "lua", "--allocators=buddy,rbtree"], "shrinking is for one design: name one"),
        (["shrink", "lua"], "Missing option '--allocators'"),
        (["shrink", "nowhere.hlt", "--allocators=buddy"], "nowhere.hlt"),
    ],
)
def test_a_mistake_is_one_line_and_status_2(args, sentence):
    result = heaplab(*args)
    assert result.exit_code == 2
    assert sentence in result.stderr
    assert result.stderr.count("\n") == 1


def test_the_program_in_c_does_the_steps(overlapping, tmp_path):
    if shutil.which("cc") is None:
        pytest.skip("needs cc")
    heaplab("shrink", "lua", "--allocators", overlapping, "-o", tmp_path / "small.c")
    command = ["cc", "-Wall", "-Werror", "-fno-builtin", "small.c", "-o", "small"]
    subprocess.run(command, cwd=tmp_path, check=True, env=host_environment())
    done = subprocess.run([tmp_path / "small"], check=False, env=host_environment())
    assert done.returncode == 0  # glibc is sound
