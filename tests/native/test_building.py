"""Designs as real mallocs: what the library exports, and what becomes of mistakes."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from heaplab import compiling
from heaplab.allocators import names, parse
from heaplab.errors import HeaplabError, UsageError
from heaplab.native import build

FAMILY = {
    *("malloc", "free", "calloc", "realloc", "reallocarray", "memalign", "posix_memalign", "aligned_alloc"),
    *("valloc", "pvalloc", "malloc_usable_size"),
}


@pytest.mark.parametrize("design", names("c"))
def test_the_library_exports_the_family_and_little_else(design: str) -> None:
    listing = subprocess.run(
        ["nm", "-D", "--defined-only", build(design)], check=True, capture_output=True, text=True
    ).stdout
    exported = {line.split()[-1] for line in listing.splitlines()}
    assert exported == FAMILY | {"heaplab_spec", "heaplab_thread", "heaplab_thread_exit"}


def test_what_was_built_once_is_taken_from_the_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    first = build("buddy")
    made = first.stat().st_mtime_ns
    assert build("buddy") == first
    assert first.stat().st_mtime_ns == made
    assert build("buddy:checks=none") != first
    assert build("buddy", check=True) != first


def test_a_copy_is_written_where_it_is_asked_for(tmp_path: Path) -> None:
    assert build("buddy", output=tmp_path / "b.so").read_bytes() == build("buddy").read_bytes()
    with pytest.raises(OSError, match="No such file"):
        build("buddy", output=tmp_path / "no" / "b.so")


def test_without_a_compiler_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CC", "no-such-compiler -O2")
    with pytest.raises(UsageError, match="no C compiler no-such-compiler"):
        build("buddy")


def test_a_cache_that_cannot_be_written_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", "/proc")
    with pytest.raises(UsageError, match="XDG_CACHE_HOME"):
        build("buddy:seal=off")


def test_an_error_of_the_compiler_is_one_sentence(tmp_path: Path) -> None:
    planted = tmp_path / "planted.c"
    planted.write_text("int main(void) { return absent; }\n")
    with pytest.raises(HeaplabError, match=r"cannot compile planted: .*absent") as caught:
        compiling.compile_c("planted", [planted], [])
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("spec", "says"), [("nosuch", "no allocator"), ("buddy:checks=x", "no checks")])
def test_a_spec_that_is_none_is_refused(spec: str, says: str) -> None:
    with pytest.raises(UsageError, match=says):
        build(spec)


def test_only_designs_in_c_can_be_built() -> None:
    with pytest.raises(UsageError, match="not in C"):
        build(parse("buddy", "python"))


def test_the_library_can_be_loaded() -> None:
    assert os.access(build("rbtree"), os.X_OK)


@pytest.mark.parametrize("compiler", ["gcc", "clang"])
@pytest.mark.parametrize("design", names("c"))
def test_no_design_is_warned_of(design: str, compiler: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if shutil.which(compiler) is None:
        pytest.skip(f"{compiler} is not installed")
    monkeypatch.setenv("CC", f"{compiler} -Wall -Wextra -Werror")
    assert build(design, check=design in {"rbtree", "spans"}).is_file()
