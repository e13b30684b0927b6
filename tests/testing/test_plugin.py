"""The plug-in of pytest, in a repository of somebody else's."""

import os
import subprocess
import sys

import pytest

MINE = """
from heaplab.allocators.designs.freelist import FreeList

class Mine(FreeList):
    NAME = "mine"

    def _malloc(self, size, alignment):
        p = super()._malloc(size, alignment)
        return p + 8 if p and size == 69 else p
"""


@pytest.fixture
def repository(tmp_path):
    """A repository with a design that gives misaligned blocks of 69 bytes, and a test of its own."""
    (tmp_path / "mine.py").write_text(MINE)
    (tmp_path / "test_mine.py").write_text(
        "def test_of_my_own(heap_factory):\n    assert heap_factory.heap().malloc(100)\n"
    )
    return tmp_path


def run(repository, *args):
    environment = {**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-p",
        "heaplab.testing.plugin",
        "-p",
        "no:cacheprovider",
        *args,
    ]
    return subprocess.run(
        command, check=False, cwd=repository, env=environment, capture_output=True, text=True
    )


def test_the_clauses_run_on_a_file_and_say_what_broke(repository):
    result = run(repository, "--heaplab-allocator", "mine.py", "-k", "aligned_apart or size_0 or my_own")
    assert result.returncode == 1, result.stdout + result.stderr
    assert "heaplab: mine.py (python): " in result.stdout
    assert "mine.py: blocks_are_aligned_apart_and_large_enough" in result.stdout
    assert "The contract says: Every block is a multiple of 16" in result.stdout
    assert "What broke: p % 16 == 0, where p is 0x" in result.stdout
    assert "1 failed, 3 passed" in result.stdout


def test_hypothesis_is_one_of_the_tests(repository):
    result = run(repository, "--heaplab-allocator", "mine.py", "--collect-only", "-q")
    assert "heaplab::mine.py::no_steps_break_it" in result.stdout
    assert "heaplab::mine.py::every_refusal_in_turn_loses_nothing" in result.stdout


def test_a_design_in_c_by_name_and_several_at_once(repository):
    designs = ["--heaplab-allocator=buddy", "--heaplab-allocator=freelist:fit=best", "--heaplab-language=c"]
    result = run(repository, *designs, "-k", "size_0 or my_own")
    assert result.returncode == 0, result.stdout + result.stderr
    assert "6 passed" in result.stdout


def test_without_the_option_nothing_is_added(repository):
    result = run(repository)
    assert "heaplab:" not in result.stdout
    assert "1 skipped" in result.stdout


def test_an_unknown_design_is_a_mistake_of_usage(repository):
    result = run(repository, "--heaplab-allocator=budy")
    assert result.returncode == 4
    assert (
        "--heaplab-allocator: there is no allocator 'budy' in python: did you mean 'buddy'?" in result.stderr
    )
