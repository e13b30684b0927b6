"""Programs that end without a word, hide, and go away: recorded, or named in a warning."""

import os
import re
import shutil
import signal
import subprocess
import sys
import threading

import pytest

from heaplab.native import record
from heaplab.native.missing import obstacle
from heaplab.traces import Op, open_trace
from tests.programs import host_environment

MEGABYTE = 1 << 20
FORK_AND_LEAVE = """
import os, time
reading, writing = os.pipe()
if os.fork() == 0:
    os.write(writing, b"x")
    time.sleep(600)
os.read(reading, 1)
"""


def asked(trace, size):
    """How many blocks of that size were asked for."""
    return sum(event.op == Op.MALLOC and event.size == size for event in trace.events())


@pytest.mark.parametrize("way", ["_exit", "exit_group", "SIGKILL", "SIGSEGV"])
def test_a_process_holds_its_blocks_until_it_ends(program, recorded, way):
    """50 MB of the idle child beside 60 MB of its parent; no longer beside the 70 MB that follow."""
    recording, trace = recorded(program("leaving"), "overlap", way)
    assert recording.status == 0
    assert recording.warnings == ()
    peak = trace.header.peak_live
    assert 110 * MEGABYTE <= peak < 111 * MEGABYTE
    assert trace.header.ops["exit"] == 1


def test_a_daemon_is_recorded_to_its_end(program, recorded):
    recording, trace = recorded(program("leaving"), "daemon")
    assert (recording.status, recording.warnings) == (0, ())
    assert trace.header.processes == 3
    assert asked(trace, 77) == 1000


def test_a_shell_leaves_a_job_behind(recorded):
    recording, trace = recorded("sh", "-c", "(sleep 0.2; ls / >/dev/null) & exit 3")
    assert (recording.status, recording.warnings) == (3, ())
    assert trace.header.processes == 3  # the last command takes the place of the inner shell


def test_nobody_need_wait(recorded, tmp_path):
    recording, trace = recorded(sys.executable, "-S", "-c", FORK_AND_LEAVE, wait=False, env=sleeper(tmp_path))
    assert recording.status == 0
    assert recording.warnings == (
        "1 process was still running when the recording ended: what followed is missing",
    )
    assert trace.header.ops["fork"] == 1
    stop_sleepers(tmp_path)


def sleeper(tmp_path):
    """An environment by which processes that were left behind are found again."""
    return {**os.environ, "HEAPLAB_TEST": str(tmp_path)}


def stop_sleepers(tmp_path):
    mark = f"HEAPLAB_TEST={tmp_path}".encode()
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{pid}/environ", "rb") as file:
                if mark in file.read().split(b"\0"):
                    os.kill(int(pid), signal.SIGKILL)
        except OSError:
            continue


def test_an_interrupt_ends_the_waiting(tmp_path):
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "heaplab", "record", "-o", tmp_path / "x.hlt", "--"),
            *(sys.executable, "-S", "-c", FORK_AND_LEAVE),
        ],
        stderr=subprocess.PIPE,
        text=True,
        env=sleeper(tmp_path),
    )
    line = process.stderr.readline()
    assert line.endswith("has ended; 1 process goes on, recorded to the end: Ctrl-C ends the recording\n")
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=30) == 0
    stop_sleepers(tmp_path)  # it has the pipe open too
    told = process.stderr.read()
    assert "warning: 1 process was still running" in told
    assert open_trace(tmp_path / "x.hlt").header.processes == 2


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can change the root directory")
def test_rights_and_root_directory_may_be_given_up(program, recorded, tmp_path_factory):
    folder = tmp_path_factory.mktemp("root")
    recording, trace = recorded(program("leaving"), "rights", str(folder))
    assert (recording.status, recording.warnings) == (0, ())
    assert (asked(trace, 77), asked(trace, 78)) == (100_000, 1000)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can change the root directory")
def test_a_program_in_another_root_is_named_and_runs_as_ever(program, tmp_path, tmp_path_factory, capfd):
    """It would complain of a library that it cannot find."""
    folder = tmp_path_factory.mktemp("root")
    loaded = subprocess.run(
        ["ldd", program("ends")], capture_output=True, text=True, check=True, env=host_environment()
    )
    needed = [word for word in loaded.stdout.split() if word.startswith("/")]
    for file in [program("ends"), *needed]:
        place = folder / file.lstrip("/")
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(file, place)
    recording = record(["chroot", str(folder), program("ends"), "return", "10"], tmp_path / "x.hlt")
    assert recording.status == 9
    assert recording.warnings == (
        f"{folder}{program('ends')} was not recorded: it was run where it cannot open the "
        "recorder's library, in another root directory or without the rights to read it",
    )
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("way", ["limited", "narrow"])
def test_limits_are_the_programs_own(program, recorded, way):
    """No file may grow; the address space has no room for the log."""
    recording, trace = recorded(program("leaving"), way)
    assert recording.status == 0
    if recording.warnings:  # the program was faster than the monitor, and there was no room for its log
        assert way == "narrow"
        assert re.fullmatch(
            r"leaving .* is recorded up to its call .*Cannot allocate memory", *recording.warnings
        )
    else:
        assert trace.header.ops["malloc"] - {"limited": 100_000, "narrow": 1_000_000}[way] < 10


@pytest.mark.parametrize(
    "command",
    [["env", "-i"], ["leaving", "cleared"], ["leaving", "unset", "execlp"], ["leaving", "unset", "execv"]],
)
def test_a_cleared_environment_does_not_end_the_recording(program, recorded, command):
    ends = program("ends")
    if command[0] == "env":
        words = ["env", "-i", ends, "return", "1001"]
    else:
        words = [program("leaving"), command[1], ends, *command[2:]]
    recording, trace = recorded(*words)
    assert recording.status == 9
    assert asked(trace, 50) == 1001
    assert recording.warnings == (
        f"{ends} was to run without the recorder in its environment: it was put back, and recorded",
    )


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make a network namespace")
def test_a_network_namespace_is_no_wall(program, recorded):
    recording, trace = recorded("unshare", "--net", program("ends"), "return", "1001")
    assert (recording.status, recording.warnings) == (9, ())
    assert asked(trace, 50) == 1001


def test_a_shell_without_the_recorder_is_named(program, recorded):
    recording, _ = recorded(program("leaving"), "unset", "ls / >/dev/null", "system")
    assert recording.warnings == ("ls / >/dev/null was not recorded: the recorder was not loaded into it",)


def test_a_static_program_among_others_is_named(program, recorded):
    static = program("ends", "-static")
    recording, trace = recorded("sh", "-c", f"{static} return 5; {static} return 5; ls /; exit 2")
    assert recording.status == 2
    assert recording.warnings == (f"{static} was not recorded (2 times): it is statically linked",)
    assert trace.header.processes == 2


def test_a_spawned_static_program_is_named(program, recorded):
    static = program("ends", "-static")
    code = f"import os; os.waitpid(os.posix_spawn({static!r}, ['x', 'return', '5'], {{}}), 0)"
    recording, _ = recorded(sys.executable, "-S", "-c", code)
    assert recording.warnings == (f"{static} was not recorded: it is statically linked",)


def test_a_program_that_fails_to_exec_is_no_loss(recorded):
    recording, _ = recorded("sh", "-c", "/no/such/program; exit 0")
    assert recording.warnings == ()
    code = "import os\ntry: os.execve('/no/such/program', ['x'], {})\nexcept OSError: pass"
    assert recorded(sys.executable, "-S", "-c", code)[0].warnings == ()


def test_short_lives_are_told_apart_in_a_hurry(program, recorded):
    """Children that end before the monitor may have met them.  Those that failed to exec are no loss."""
    static = program("ends", "-static")
    code = f"""
import subprocess
for _ in range(50):
    try:
        subprocess.run(["no-such-program"], close_fds=False)
    except FileNotFoundError:
        subprocess.run([{static!r}, "return", "1"], close_fds=False)
"""
    recording, _ = recorded(sys.executable, "-S", "-c", code)
    assert recording.warnings == (f"{static} was not recorded (50 times): it is statically linked",)


@pytest.mark.skipif(shutil.which("musl-gcc") is None, reason="there is no musl-gcc: install musl-tools")
def test_a_program_of_another_c_library_is_recorded(recorded, tmp_path_factory):
    source = os.path.join(os.path.dirname(__file__), "programs", "ends.c")
    target = tmp_path_factory.mktemp("musl") / "ends"
    subprocess.run(
        ["musl-gcc", "-O1", "-fno-builtin", "-o", target, source], check=True, env=host_environment()
    )
    recording, trace = recorded(str(target), "return", "100001")
    assert (recording.status, recording.warnings) == (9, ())
    assert asked(trace, 50) == 100_001


def test_what_stands_in_the_way_of_a_program(program, tmp_path):
    static = program("ends", "-static")
    script = tmp_path / "script"
    script.write_text(f"#!{static} -x\n")
    assert obstacle(str(script)) == f"it is statically linked ({static})"
    setuid = tmp_path / "setuid"
    shutil.copy(program("ends"), setuid)
    setuid.chmod(0o4755)
    assert obstacle(str(setuid)) == "it is setuid"
    assert obstacle(program("ends")) == "the recorder was not loaded into it"


def test_two_recordings_at_once_keep_apart(program, tmp_path):
    made = {}

    def run(count):
        made[count] = record([program("ends"), "return", str(count)], tmp_path / f"{count}.hlt")

    threads = [threading.Thread(target=run, args=[count]) for count in (1000, 2000)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [asked(open_trace(tmp_path / f"{count}.hlt"), 50) for count in (1000, 2000)] == [1000, 2000]
