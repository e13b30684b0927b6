"""Running a program under the monitor (csrc/record/monitor.c), and reading what the monitor saw."""

import os
import secrets
import shutil
import signal
import stat
import subprocess
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import numpy.typing as npt

from heaplab.errors import HeaplabError, UsageError
from heaplab.native.preloading import preloadable, with_preload
from heaplab.native.raw import Clock

_RESIDENT = np.dtype([("process", "<u8"), ("time", "<u8"), ("bytes", "<u8")])


@dataclass(frozen=True)
class Sight:
    """What the monitor saw.  Processes go by the monitor's numbers, times by the recording's clock.

    deaths: when each process that ended did so; nanoseconds of CLOCK_MONOTONIC.
    left: the processes that still ran when the recording ended.
    unseen: programs that ran without beginning a log, by path, one entry for each run.
    restored: programs into whose environment the recorder was put back.
    unreachable: programs that were run from where the recorder's library cannot be opened.
    modules: for each image, by its number, start and path of the files that its code is from.
    lost: errno by the number of an image of which a part could not be written.
    resident: columns process, time (as deaths), bytes; empty if nobody asked for it.
    """

    clock: Clock
    deaths: dict[int, int] = field(default_factory=dict)
    left: list[int] = field(default_factory=list)
    unseen: list[str] = field(default_factory=list)
    restored: list[str] = field(default_factory=list)
    unreachable: list[str] = field(default_factory=list)
    modules: dict[int, list[tuple[int, str]]] = field(default_factory=dict)
    lost: dict[int, int] = field(default_factory=dict)
    resident: npt.NDArray[np.void] = field(default_factory=lambda: np.empty(0, _RESIDENT))


def library() -> Path:
    """The recorder's shared library, built with the package.  Raises: UsageError when it was not."""
    return _built("_recorder")


def _built(name: str) -> Path:
    spec = find_spec(f"heaplab.native.{name}")
    if spec is None or spec.origin is None:
        raise UsageError("the recorder was not built: run `pip install .`, or `setup.py build_ext --inplace`")
    return Path(spec.origin)


def run_monitored(
    command: Sequence[str],
    executable: str,
    env: Mapping[str, str],
    directory: Path,
    *,
    stdout: int | None = None,
    wait: bool = True,
    resident_every: int = 0,
    stacks: bool = False,
    waiting: Callable[[int], None] = lambda _: None,
) -> int:
    """Run the program with the recorder loaded; return its status as `subprocess` has it.

    directory: an empty one, which takes the raw files and what the monitor saw.
    wait: until the processes have ended that the program leaves behind; an interrupt ends the waiting.
    resident_every: nanoseconds between two looks at resident sizes; 0: none.
    stacks: log the call stack of every acquisition.
    waiting: called with how many processes are waited for, once, after a second.
    Raises: UsageError when the program cannot be started.
    """
    address = f"heaplab-{os.getpid()}-{secrets.token_hex(8)}.{secrets.token_hex(8)}"
    with _open_to_all(library()) as place, preloadable(place) as recorder:
        settings = {**with_preload(env, recorder), "HEAPLAB_RECORD": address}
        lines = [os.fsencode(f"{name}={value}") for name, value in settings.items()]
        (directory / "environment").write_bytes(b"".join(line + b"\0" for line in lines))
        reading, writing = os.pipe()
        with os.fdopen(reading) as told:
            try:
                monitor = subprocess.Popen(
                    [
                        *(_built("_monitor"), directory, str(writing), str(resident_every)),
                        *(
                            "wait" if wait else "nowait",
                            "stacks" if stacks else "nostacks",
                            address,
                            executable,
                            *command,
                        ),
                    ],
                    env={},
                    stdout=stdout,
                    pass_fds=[writing],
                )
            finally:
                os.close(writing)
            with monitor, _signals_go_to(monitor):
                status = None
                for line in told:
                    word, _, number = line.partition(" ")
                    if word == "refused":
                        raise UsageError(f"{command[0]}: cannot be started: {os.strerror(int(number))}")
                    if word == "ended":
                        status = os.waitstatus_to_exitcode(int(number))
                    elif word == "waiting":
                        waiting(int(number))
    if status is None or monitor.returncode:
        raise HeaplabError(
            f"the recorder's monitor ended with status {monitor.returncode}: nothing is recorded"
        )
    return status


def read_sight(directory: Path) -> Sight:
    """Return what the monitor saw and wrote to `directory`."""
    rows = [line.split("\t") for line in os.fsdecode((directory / "events").read_bytes()).splitlines()]
    (clock,) = (Clock.of(*map(int, row[1:])) for row in rows if row[0] == "clock")
    sight = Sight(clock, resident=np.fromfile(directory / "resident", _RESIDENT))
    sight.resident["time"] = clock.nanoseconds(sight.resident["time"].astype(np.int64))
    for what, number, *rest in rows:
        if what == "died":
            sight.deaths[int(number)] = clock.at(int(rest[0]))
        elif what == "left":
            sight.left.append(int(number))
        elif what == "module":
            sight.modules.setdefault(int(number), []).append((int(rest[0]), rest[1]))
        elif what == "lost":
            sight.lost[int(number)] = int(rest[0])
        elif what in ("unseen", "restored", "unreachable"):
            getattr(sight, what).append(rest[0])
    return sight


@contextmanager
def _open_to_all(path: Path) -> Iterator[Path]:
    """Give a path to the file `path` that a program can open which was root's and gives up its rights."""
    folders = [folder.stat().st_mode & stat.S_IXOTH for folder in path.parents]
    if os.geteuid() != 0 or (all(folders) and path.stat().st_mode & stat.S_IROTH):
        yield path
        return
    with tempfile.TemporaryDirectory(dir="/tmp") as directory:
        Path(directory).chmod(0o755)
        copy = Path(shutil.copy(path, directory))
        copy.chmod(0o755)
        yield copy


@contextmanager
def _signals_go_to(monitor: "subprocess.Popen[bytes]") -> Iterator[None]:
    """Outlive what ends the program, so that its trace is written: the monitor knows what a signal means.

    A terminal's Ctrl-C reaches the program by itself, and the monitor bears it until the program has ended.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {
        number: signal.signal(number, lambda number, _: monitor.send_signal(number))
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    }
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
