"""`heaplab native`, as from a shell."""

import os
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from heaplab.compiling import compile_c
from heaplab.native import build
from tests.programs import host_environment


def heaplab(
    *words: str | Path, shell: str = "", cwd: Path | None = None, **settings: str
) -> subprocess.CompletedProcess[str]:
    """Run `heaplab native` with these words; `shell` is what follows in the same line of a shell."""
    root = Path(__file__).resolve().parents[2]
    environment = {
        **host_environment(),
        "PYTHONPATH": f"{root}:{os.environ.get('PYTHONPATH', '')}",
        **settings,
    }
    command = [sys.executable, "-m", "heaplab", "native", *words]
    if shell:
        command = ["bash", "-c", f'"$0" "$@" {shell}', *command]
    return subprocess.run(command, env=environment, cwd=cwd, capture_output=True, text=True, check=False)


def refused(done: subprocess.CompletedProcess[str], status: int = 2) -> str:
    """The one line of a command that does nothing."""
    assert (done.returncode, done.stdout) == (status, "")
    assert done.stderr.startswith("heaplab: ")
    assert done.stderr.count("\n") == 1
    return done.stderr


def test_a_program_runs_on_the_design() -> None:
    done = heaplab("run", "rbtree", "--", "sh", "-c", 'echo "$LD_PRELOAD"; exit 7')
    assert (done.returncode, done.stderr) == (7, "")
    assert done.stdout.startswith(str(build("rbtree")))


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("build",), "Missing argument 'SPEC'"),
        (("run", "rbtree"), "Missing argument 'PROGRAM"),
        (("run", "nosuch", "--", "ls"), "no allocator 'nosuch'"),
        (("run", "rbtree", "--", "no-such-program"), "no-such-program: there is no such program"),
        (("run", "rbtree", "--", "/"), "/: there is no such program, or it may not be executed"),
        (("build", "rbtree", "-o", "/no/such/folder.so"), "/no/such/folder.so: No such file or directory"),
        (("build", "rbtree", "-o", "/"), "/: is not a regular file"),
    ],
)
def test_a_mistake_is_one_sentence(words: tuple[str, ...], says: str) -> None:
    assert says in refused(heaplab(*words))


@pytest.mark.parametrize(
    ("settings", "status", "says"),
    [
        ({"CC": "nocc"}, 2, "there is no C compiler nocc to build with: install gcc or clang, or set CC"),
        ({"CC": "'"}, 2, "CC=': No closing quotation"),
        ({"CC": "false"}, 1, "false cannot compile libheaplab-rbtree.so: it ends with status 1"),
        ({"XDG_CACHE_HOME": "/proc"}, 2, "set XDG_CACHE_HOME to a folder that you may write in"),
    ],
)
def test_what_is_missing_is_said(settings: dict[str, str], status: int, says: str, tmp_path: Path) -> None:
    settings = {"XDG_CACHE_HOME": str(tmp_path), **settings}
    assert says in refused(heaplab("run", "rbtree", "--", "ls", **settings), status)


def test_programs_that_would_keep_their_own_malloc_are_refused(tmp_path: Path) -> None:
    source = tmp_path / "static.c"
    source.write_text("int main(void) { return 0; }\n")
    static = compile_c("static", [source], ["-static"])
    assert "statically linked" in refused(heaplab("run", "rbtree", "--", static))
    other = tmp_path / "other"
    other.write_bytes(Path("/bin/true").read_bytes())
    other.chmod(0o755)
    assert heaplab("run", "rbtree", "--", other).returncode == 0
    if os.getuid() == 0:
        os.chown(other, 65534, -1)
        other.chmod(0o755 | stat.S_ISUID)
        assert "runs as another user" in refused(heaplab("run", "rbtree", "--", other))


def test_a_pipe_that_is_closed_early_ends_the_program_as_without_a_design() -> None:
    done = heaplab("run", "rbtree", "--", "yes", shell="| head -n 1; exit ${PIPESTATUS[0]}")
    assert (done.returncode, done.stdout, done.stderr) == (128 + signal.SIGPIPE, "y\n", "")


def test_a_cache_with_spaces_and_colons_in_its_path(tmp_path: Path) -> None:
    odd = tmp_path / "a b:c"
    odd.mkdir()
    done = heaplab("run", "buddy", "--", "sh", "-c", 'echo "$LD_PRELOAD"; kill $$', XDG_CACHE_HOME=str(odd))
    assert (done.returncode, done.stderr) == (128 + signal.SIGTERM, "")
    assert not Path(done.stdout.strip()).exists()  # the link is gone


def test_from_another_directory_and_into_one(tmp_path: Path) -> None:
    (tmp_path / "here").write_text("#!/bin/sh\necho here\n")
    (tmp_path / "here").chmod(0o755)
    assert heaplab("run", "slab", "--", "./here", cwd=tmp_path).stdout == "here\n"
    assert heaplab("build", "slab", "-o", "x.so", cwd=tmp_path).stdout == "x.so\n"
    assert (tmp_path / "x.so").read_bytes() == build("slab").read_bytes()


def test_with_check_each_process_tells_what_it_did() -> None:
    done = heaplab("run", "spans", "--check", "--", "sh", "-c", "ls -d /; ls -d /")
    assert done.stdout == "/\n/\n"
    assert done.stderr.count("(ls): ") == 2


@pytest.mark.parametrize("words", [["--help"], ["run", "--help"], ["build", "--help"]])
def test_help_fits_80_columns(words: list[str]) -> None:
    shown = heaplab(*words, COLUMNS="80").stdout
    assert max(map(len, shown.splitlines())) <= 80
