"""Designs in C files outside the tree, as real mallocs."""

import subprocess
import sys
from pathlib import Path

import pytest

from heaplab import lab
from heaplab.allocators import Spec, design_of_file
from heaplab.errors import UsageError
from heaplab.native import build
from heaplab.traces import synthetic
from tests.programs import host_environment

ROOT = Path(__file__).resolve().parents[2]
LIFO = (ROOT / "experiments" / "lifo.c").read_text()


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory, with `my lifo.c` in it, which includes a header beside it."""
    monkeypatch.chdir(tmp_path)
    Path("sizes.h").write_text("#define LEAST 16\n")
    Path("my lifo.c").write_text('#include "sizes.h"\n' + LIFO.replace(".smallest = 16", ".smallest = LEAST"))
    return tmp_path


def test_a_program_runs_on_it(folder: Path) -> None:
    command = [sys.executable, "-m", "heaplab", "native", "run", "./my lifo.c:top_pad=64KiB", "--check", "--"]
    done = subprocess.run(
        [*command, "ls"], capture_output=True, text=True, check=True, env=host_environment()
    )
    assert done.stdout.splitlines() == ["my lifo.c", "sizes.h"]
    assert done.stderr.startswith("heaplab: ./my lifo.c:top_pad=64KiB: process ")
    assert "heap verified" in done.stderr


def test_a_broken_heap_is_named_with_the_file(folder: Path) -> None:
    Path("broken.c").write_text(LIFO.replace("if (!unlisted ||", "if (unlisted < 1000 ||"))
    command = [sys.executable, "-m", "heaplab", "native", "run", "./broken.c", "--check", "--", "ls"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=host_environment())
    assert done.returncode == -6
    assert done.stderr.startswith("heaplab: ./broken.c: block 0x")
    assert "broken index: " in done.stderr


def test_what_is_built_is_called_after_the_file_and_made_anew_when_it_changes(folder: Path) -> None:
    first = build("my lifo.c")
    assert first.name == "libheaplab-my_lifo.so"
    assert build("my lifo.c") == first
    (folder / "sizes.h").write_text("#define LEAST 32\n")
    assert build("my lifo.c") != first


def test_a_name_that_preload_c_has_too_is_said(folder: Path) -> None:
    Path("same.c").write_text(LIFO.replace("push(", "is_power("))
    with pytest.raises(UsageError, match=r"^same\.c cannot be compiled with entry/preload\.c: .*is_power"):
        build("same.c")


def test_a_class_without_a_name_can_be_built(folder: Path) -> None:
    assert build(Spec.of(design_of_file("my lifo.c"))).name == "libheaplab-my_lifo.so"


def test_it_is_a_row_of_a_comparison_beside_its_model(folder: Path) -> None:
    runs = lab.compare(
        [synthetic(2000, seed=1)], ["my lifo.c"], native=["heaplab:./my lifo.c"], rounds=1
    ).runs
    assert [(run.allocator, run.language, run.outcome) for run in runs] == [
        ("my lifo.c", "c", "finished"),
        ("heaplab:./my lifo.c", "native", "finished"),
    ]
    assert runs[0].peak_live == runs[1].peak_live


def test_only_designs_in_c_can_be_built(folder: Path) -> None:
    path = ROOT / "experiments" / "implicit.py"
    with pytest.raises(UsageError, match=r"implicit\.py is not in C"):
        build(str(path))
