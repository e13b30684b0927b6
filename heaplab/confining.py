"""Starting foreign code so that it can do no harm (csrc/native/confine.c)."""

import functools
import os
import signal
import subprocess
import tempfile
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path

from heaplab.errors import UsageError

#: what programs and their libraries are in; each that exists may be read and executed
SYSTEM = ("/usr", "/lib", "/lib64", "/bin", "/nix/store", "/etc/ld.so.cache", "/etc/alternatives")
_DEVICES = ("/dev/null",)
_MIB = 1 << 20
#: bytes of what a program prints that are kept
MOST_TOLD = 1 << 16


@dataclass(frozen=True)
class Limits:
    """What a confined program may have.  There is never a network, nor a new capability.

    read: files and folders, beside SYSTEM, that it may read and execute; a missing one is passed over.
    write: those that it may write as well.
    cpu_seconds: each of its processes is ended by SIGXCPU, and a second later by SIGKILL.
    address_space: bytes; None: as much as there is.  file_size: bytes of a file; a longer one is EFBIG.
    open_files: descriptors.  children: 0: it can start no process and no thread.  More: so many beside those
    that the user has; root is exempt from that number.

    >>> Limits().children, Limits(cpu_seconds=3).cpu_seconds
    (0, 3)
    """

    read: Sequence[Path] = ()
    write: Sequence[Path] = ()
    cpu_seconds: int = 60
    address_space: int | None = 4096 * _MIB
    file_size: int = _MIB
    open_files: int = 64
    children: int = 0
    #: layers of confinement to do without, as if the kernel did not have them: "landlock", "namespaces"
    without: frozenset[str] = field(default=frozenset())


def program() -> Path:
    """The program that confines others, built with the package.  Raises: UsageError when it was not."""
    spec = find_spec("heaplab._confine")
    if spec is None or spec.origin is None:
        raise UsageError(
            "heaplab cannot confine programs: run `pip install .`, or `setup.py build_ext --inplace`"
        )
    return Path(spec.origin)


def confined(
    command: Sequence[str | Path],
    limits: Limits,
    *,
    environment: Mapping[str, str] | None = None,
    keep: Collection[int] = (),
) -> list[str]:
    """Return the command to start instead of `command`, whose program is a path and not searched for.

    environment: all that it has; None: nothing.  keep: descriptors that stay open beside 0, 1 and 2.
    The process keeps its id.  Start it with `env={}`: what LD_PRELOAD named would run unconfined.
    Raises: UsageError when the program that confines was not built.

    >>> line = confined(["/usr/bin/cat", "/etc/shadow"], Limits())
    >>> subprocess.run(line, env={}, stderr=subprocess.PIPE).stderr
    b'/usr/bin/cat: /etc/shadow: Permission denied\\n'
    """
    read = [*SYSTEM, Path(command[0]).resolve(), *limits.read]
    options = [*(f"read={path}" for path in read), *(f"write={path}" for path in (*_DEVICES, *limits.write))]
    numbers = {
        "cpu": limits.cpu_seconds,
        "memory": limits.address_space,
        "file": limits.file_size,
        "open": limits.open_files,
        "children": limits.children and limits.children + _tasks_of_user(),
    }
    options += [f"{name}={number}" for name, number in numbers.items() if number is not None]
    options += [f"keep={descriptor}" for descriptor in keep]
    options += [f"env={name}={value}" for name, value in (environment or {}).items()]
    options += [f"without={layer}" for layer in sorted(limits.without)]
    return [str(program()), *options, "--", *map(str, command)]


def run(
    command: Sequence[str | Path],
    limits: Limits,
    *,
    environment: Mapping[str, str] | None = None,
    folder: Path | None = None,
    max_seconds: float = 60,
    given: bytes = b"",
) -> tuple[int | None, str]:
    """Run a confined command to its end; return its status (None: no end in time) and what it said.

    folder: the current one.  max_seconds: of the clock, for all that it starts.  given: its standard input.
    What it said is the beginning of its standard output and error, of MOST_TOLD bytes at most.

    >>> run(["/usr/bin/echo", "hello"], Limits())
    (0, 'hello\\n')
    """
    line = confined(command, limits, environment=environment)
    with tempfile.TemporaryFile() as told, tempfile.TemporaryFile() as stdin:
        stdin.write(given)
        stdin.seek(0)
        process = subprocess.Popen(
            line,
            cwd=folder,
            env={},
            stdin=stdin,
            stdout=told,
            stderr=told,
            start_new_session=True,  # what it starts cannot leave this group, and ends with it
        )
        status: int | None = None
        try:
            with suppress(subprocess.TimeoutExpired):
                status = process.wait(max_seconds)
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        told.seek(0)
        return status, told.read(MOST_TOLD).decode(errors="replace")


def _tasks_of_user() -> int:
    """How many processes and threads this user has, all of which RLIMIT_NPROC counts; 0 for root."""
    mine, tasks = os.getuid(), 0
    if mine == 0:
        return 0
    for folder in Path("/proc").iterdir():
        try:
            if folder.name.isdigit() and folder.stat().st_uid == mine:
                tasks += len(os.listdir(folder / "task"))
        except OSError:
            continue  # it has ended
    return tasks


# ---- what there is of it ----


@functools.cache
def layers() -> dict[str, int]:
    """Return what this computer's kernel has of "landlock" (its version), "namespaces" and "seccomp"; 0: not.

    Raises: UsageError when the program that confines was not built.
    """
    told = subprocess.run(
        [program(), "layers"], env={}, capture_output=True, text=True, check=True, stdin=subprocess.DEVNULL
    )
    return {name: int(number) for name, number in (line.split() for line in told.stdout.splitlines())}


def what_protects(have: Mapping[str, int] | None = None) -> list[str]:
    """Return sentences: what keeps a confined program from harm here.  have: as `layers`, the default.

    >>> what_protects({"landlock": 7, "namespaces": 1, "seccomp": 1})[1]
    'files: Landlock, version 7; only the folders named can be read or written'
    """
    have = layers() if have is None else have
    sentences = ["limits: processor time, addresses, the size of a file, descriptors, no core"]
    if version := have["landlock"]:
        sentences.append(f"files: Landlock, version {version}; only the folders named can be read or written")
    elif have["namespaces"]:
        sentences.append("files: a mount namespace with the folders named, and nothing else")
    if have["seccomp"]:
        sentences.append("network, processes: a filter refuses system calls that reach them")
        signals = "Landlock" if have["landlock"] >= 6 else "the filter"
        sentences.append(f"signals: {signals} lets none out")
    elif have["landlock"] >= 6:
        sentences.append("signals: Landlock lets none out")
    return sentences


def what_is_missing(have: Mapping[str, int] | None = None) -> list[str]:
    """Return a sentence for each layer that is missing here; have: as for `what_protects`.

    >>> what_is_missing({"landlock": 0, "namespaces": 0, "seccomp": 1})
    ['foreign code can reach your files: the kernel has neither Landlock nor namespaces for it']
    """
    have = layers() if have is None else have
    sentences = []
    if not have["landlock"] and not have["namespaces"]:
        sentences.append(
            "foreign code can reach your files: the kernel has neither Landlock nor namespaces for it"
        )
    if not have["seccomp"]:
        sentences.append(
            "foreign code can reach the network and your processes: the kernel has no filter for it"
        )
    return sentences
