"""Threads, forks, ends of threads, limits: csrc/native/stress.c on every design."""

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from heaplab.allocators import names
from heaplab.compiling import compile_c
from heaplab.errors import HeaplabError
from heaplab.native import build
from heaplab.native.building import SOURCES, design_in_c, spec_header
from heaplab.native.preloading import with_preload
from tests.programs import host_environment

DESIGNS = names("c")
#: what does not know of threads and what does
TWO_KINDS = ["rbtree", "spans"]
PROGRAMS = Path(__file__).parent / "programs"
FAMILY = "malloc free calloc realloc reallocarray memalign posix_memalign aligned_alloc valloc pvalloc"


@pytest.fixture(scope="module")
def stress() -> Callable[..., str]:
    """Runs a mode on a design, or on the C library's malloc, and returns what it prints."""
    binary = compile_c("stress", ["native/stress.c"], ["-O1", "-g", "-fno-builtin", "-pthread"])

    def run(
        spec: str | None,
        *words: object,
        check: bool = False,
        before: str = "",
        runner: str = "",
        **settings: str,
    ) -> str:
        library = build(spec, check=check) if spec else ""
        done = subprocess.run(
            [
                "sh",
                "-c",
                f'{before} LD_PRELOAD="{library}" exec {runner} {binary} {" ".join(map(str, words))}',
            ],
            env={**host_environment(), **settings},
            capture_output=True,
            text=True,
            check=False,
            timeout=300,
        )
        if done.returncode == 77:
            pytest.skip(done.stdout.strip())
        assert done.returncode == 0, done.stderr
        if not check:
            assert done.stderr == ""
        return done.stderr if check else done.stdout

    return run


@pytest.mark.parametrize("spec", [*DESIGNS, "spans:checks=none"])
@pytest.mark.parametrize("mode", ["mix 4", "forks 60", "crowd 70", "ends 200", "spawn 5", "clone 20"])
def test_no_blocks_overlap_and_payloads_stay(stress: Callable[..., str], mode: str, spec: str) -> None:
    assert stress(spec, mode).endswith(": done\n")


@pytest.mark.parametrize("mode", ["mix 4", "forks 60", "ends 100", "clone 20"])
def test_the_heap_is_sound_between_all_calls(stress: Callable[..., str], mode: str) -> None:
    """spans, verified while there are threads."""
    assert "heap verified" in stress("spans", mode, check=True)


@pytest.mark.parametrize("spec", TWO_KINDS)
def test_hundreds_of_forks_of_a_program_with_threads(stress: Callable[..., str], spec: str) -> None:
    assert stress(spec, "forks 300", STRESS_PLAIN="1") == "forks: done\n"


@pytest.mark.parametrize("spec", DESIGNS)
def test_thousands_of_threads_at_once(stress: Callable[..., str], spec: str) -> None:
    assert stress(spec, "crowd 3200") == "crowd: done\n"


def test_more_threads_than_a_design_has_numbers_for(
    stress: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    stress("spans", "crowd 2")
    monkeypatch.setenv("CC", f"{os.environ.get('CC', 'cc')} -DTHREADS_MOST=64u")
    for check in (False, True):
        for mode in ("crowd 300", "refill 90", "ends 50", "mix 4"):
            stress("spans", mode, check=check)


@pytest.mark.parametrize("spec", TWO_KINDS)
def test_libraries_come_and_go(stress: Callable[..., str], spec: str, program: Callable[..., str]) -> None:
    library = shared(program)
    assert stress(spec, "loads 100", LIBRARY=library) == "loads: done\n"


def shared(program: Callable[..., str]) -> str:
    """programs/library.c, as a shared library."""
    return program("library", "-shared", "-fPIC")


@pytest.mark.parametrize("spec", TWO_KINDS)
def test_handlers_of_fork_that_allocate(spec: str, program: Callable[..., str]) -> None:
    """A handler waits for a lock, and the thread that has it for malloc: our own handler must come later."""
    library = shared(program)
    environment = {**host_environment(), "LIBRARY_FORKS": "1", "LIBRARY": library}
    both = with_preload(with_preload(environment, Path(library)), build(spec))
    done = subprocess.run(
        [program("handlers", "-ldl")], env=both, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "done\n", "")


def room(printed: str) -> list[int]:
    """MiB that the program got, row by row."""
    return [int(line.split()[0]) for line in printed.splitlines() if " MiB" in line]


@pytest.mark.parametrize("spec", DESIGNS)
@pytest.mark.parametrize("limit", ["limits 120", "limits -120", "ulimit"])
def test_malloc_gives_null_under_a_limit_and_the_program_goes_on(
    stress: Callable[..., str], limit: str, spec: str
) -> None:
    if limit == "ulimit":
        printed = stress(spec, "limits 0", before="ulimit -v 120000;")
    else:
        printed = stress(spec, limit)
    rows = room(printed)
    assert len(rows) >= 6
    # what the limit leaves, less half for buddy's powers of two and the index of a heap that is one table
    assert min(rows) >= 50
    assert rows[0] <= rows[4] + 1  # all that was freed can be had again


@pytest.mark.parametrize("spec", ["freelist", "rbtree"])
def test_a_limit_leaves_as_much_as_to_the_c_library(stress: Callable[..., str], spec: str) -> None:
    ours, theirs = (room(stress(each, "limits 100")) for each in (spec, None))
    assert all(one >= other - 2 for one, other in zip(ours, theirs, strict=False)), (ours, theirs)


@pytest.mark.parametrize("spec", TWO_KINDS)
def test_valgrind_sees_no_error(stress: Callable[..., str], spec: str) -> None:
    """Valgrind reports reads of what nobody wrote, and system calls that are wrong."""
    if shutil.which("valgrind") is None:
        pytest.skip("valgrind is not installed")
    keeps_our_malloc = "valgrind -q --error-exitcode=9 --soname-synonyms=somalloc=nouserintercepts"
    for mode in ("ends 10", "clone 2"):
        assert stress(spec, mode, runner=keeps_our_malloc, STRESS_PLAIN="1").endswith(": done\n")


@pytest.mark.parametrize("spec", ["rbtree", "spans:checks=none"])
def test_no_thread_races_with_another(spec: str) -> None:
    """Program and heap in one, built with the sanitizer of threads.

    spans with checks=all looks at words that another thread may be writing, and draws no conclusion from
    them alone: the sanitizer would report that.
    """
    renamed = [f"-D{name}=our_{name}" for name in (*FAMILY.split(), "malloc_usable_size", "mmap", "munmap")]
    try:
        binary = compile_c(
            "stress-threads",
            ["native/stress.c", "entry/preload.c", *SOURCES, PROGRAMS / "raw.c"],
            [
                "-std=gnu11",
                "-g",
                "-O1",
                "-pthread",
                "-fno-builtin",
                "-fsanitize=thread",
                *renamed,
                '-DHEAPLAB_ENV="linux.h"',
                *("-include", "spec.h"),
            ],
            {"spec.h": spec_header(design_in_c(spec))},
        )
    except HeaplabError as error:
        if "tsan" not in str(error):
            raise
        pytest.skip("the sanitizer of threads is not installed: install libtsan")
    environment = {**host_environment(), "STRESS_PLAIN": "1", "HEAPLAB_BREAK": "kernel"}
    for mode in ("share 2", "crowd 40"):
        done = subprocess.run(
            [binary, *mode.split()], env=environment, capture_output=True, text=True, check=False, timeout=300
        )
        if "unexpected memory mapping" in done.stderr:
            pytest.skip("the sanitizer of threads does not run on this kernel")
        assert (done.returncode, done.stdout, done.stderr) == (0, f"{mode.split()[0]}: done\n", "")
