"""The recorder of system calls: it sees threads, children and new programs, and changes nothing."""

import errno
import signal
import subprocess
from pathlib import Path

import pytest

from heaplab.compiling import compile_c
from heaplab.native.calls import Call, CallLog

PROGRAM = Path(__file__).parent / "programs" / "traced.c"


@pytest.fixture(scope="module")
def traced() -> Path:
    return compile_c("traced", [PROGRAM, "native/calls.c"], ["-std=gnu11", "-O1", "-pthread"])


def run(program: Path, log: CallLog, end: str) -> tuple[int, list[int]]:
    """Return its status and the numbers that it writes."""
    command = [str(program), str(log.fd), str(log.length), end]
    done = subprocess.run(command, pass_fds=[log.fd], capture_output=True, text=True, check=False, timeout=60)
    if done.returncode == 77:
        pytest.skip(f"the system allows no ptrace with seccomp: {done.stdout.strip()}")
    return done.returncode, [int(word) for word in done.stdout.split()]


def test_it_records_what_is_asked_for_in_order(traced: Path) -> None:
    log = CallLog(100)
    status, (refused, page, at, stopped, exited, pid) = run(traced, log, "exit")
    assert (status, stopped, exited) == (5, 1, 1)
    assert refused == errno.EPERM
    calls = list(log)
    assert calls[:2] == [  # brk(0) only asks
        Call(1, pid, "brk", (at + 4096,), at + 4096),
        Call(2, pid, "munmap", (page + 1, 4096), -22),
    ]
    thread, forked, execed = calls[2:]
    assert (thread.mark, thread.name, thread.args, thread.result) == (3, "madvise", (page, 4096, 4), 0)
    assert (forked.mark, forked.name, forked.result) == (4, "mremap", page)
    assert (execed.mark, execed.name, execed.result) == (5, "mprotect", -22)
    assert thread.task != pid
    assert forked.task == execed.task != pid
    assert log.count == sum(log.seen.values()) == 5


def test_what_finds_no_room_is_counted(traced: Path) -> None:
    log = CallLog(2)
    run(traced, log, "exit")
    assert len(list(log)) == 2
    assert log.count == 5
    assert log.seen["madvise"] == 1


def test_it_ends_as_the_program_ends(traced: Path) -> None:
    status, _ = run(traced, CallLog(100), "abort")
    assert status == -signal.SIGABRT
