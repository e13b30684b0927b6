"""What a confined program cannot do; each deed is a function of programs/hostile.c."""

import os
import signal
import socket
import subprocess
import sys
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from heaplab import confining
from heaplab._core import lib
from heaplab.compiling import compile_c
from heaplab.confining import Limits, confined
from heaplab.errors import HeaplabError
from heaplab.native.stage import Stage
from heaplab.traces import Event, Op, Trace

try:
    HAVE = confining.layers()
except Exception as error:  # another system than Linux on x86-64
    pytest.skip(f"nothing is confined here: {error}", allow_module_level=True)

needs_filter = pytest.mark.skipif(not HAVE["seccomp"], reason="the kernel has no filter of system calls")
#: without which layers the file system is shut off all the same
SHUT = [
    pytest.param(
        without,
        id=name,
        marks=pytest.mark.skipif(not HAVE[name], reason=f"the kernel has no {name} for this user"),
    )
    for name, without in [("landlock", frozenset()), ("namespaces", frozenset({"landlock"}))]
]
SECRET = "what nobody may read"
LIMITS = Limits(cpu_seconds=1, address_space=1 << 30)


@pytest.fixture
def hostile(program, tmp_path):
    """Does a deed, confined; returns what came of it, or the signal that ended it."""
    path = program("hostile")

    def do(deed, argument="", limits=LIMITS, **settings):
        status, said = confining.run([path, deed, str(argument)], limits, folder=tmp_path, **settings)
        return signal.Signals(-status).name if status is not None and status < 0 else said.strip()[-200:]

    return do


@pytest.fixture
def secret(tmp_path):
    file = tmp_path / "secret"
    file.write_text(SECRET)
    file.chmod(0o600)
    return file


@pytest.fixture
def bystander():
    """A process of the same user, that lives to the end of the test."""
    process = subprocess.Popen([sys.executable, "-c", "import signal; signal.pause()"])
    yield process
    assert process.poll() is None
    process.kill()
    process.wait()


# ---- files ----


@pytest.mark.parametrize("without", SHUT)
@pytest.mark.parametrize(
    "deed", ["reads", "writes", "deletes", "renames", "shortens", "makes_readable", "dates"]
)
def test_no_file_but_those_named(hostile, secret, without, deed):
    before = secret.stat()
    assert hostile(deed, secret, replace(LIMITS, without=without)) in ("EACCES", "EPERM", "ENOENT")
    after = secret.stat()
    assert secret.read_text() == SECRET
    assert (before.st_mode, before.st_mtime_ns) == (after.st_mode, after.st_mtime_ns)


@pytest.mark.parametrize("without", SHUT)
def test_files_named_can_be_read_and_not_written(hostile, secret, without):
    limits = replace(LIMITS, read=[secret.parent], without=without)
    assert hostile("reads", secret, limits) == "done"
    assert hostile("writes", secret, limits) in ("EACCES", "EROFS")
    assert hostile("deletes", secret, limits) in ("EACCES", "EROFS")
    assert secret.read_text() == SECRET


@pytest.mark.parametrize("without", SHUT)
def test_a_folder_to_write_is_not_the_one_beside_it(hostile, tmp_path, secret, without):
    (tmp_path / "own").mkdir()
    limits = replace(LIMITS, write=[tmp_path / "own"], without=without)
    assert hostile("writes", tmp_path / "own" / "x", limits) == "done"
    assert hostile("writes", tmp_path / "x", limits) in ("EACCES", "EROFS", "ENOENT")
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize("without", SHUT)
@pytest.mark.parametrize(
    "path", ["/etc/shadow", "/proc/1/cmdline", "/proc/1/environ", "/root", "/dev/mem", "/"]
)
def test_no_file_of_the_system(hostile, without, path):
    expected = ("EACCES", "ENOENT", "done") if path == "/" and without else ("EACCES", "ENOENT", "EPERM")
    assert hostile("reads", path, replace(LIMITS, without=without)) in expected


@pytest.mark.parametrize("without", SHUT)
def test_a_link_leads_nowhere_else(hostile, tmp_path, secret, without):
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "link").symlink_to(secret)
    limits = replace(LIMITS, write=[tmp_path / "own"], without=without)
    assert hostile("reads", tmp_path / "own" / "link", limits) in ("EACCES", "ENOENT")


def test_the_disk_is_not_filled(hostile, tmp_path):
    (tmp_path / "own").mkdir()
    limits = replace(LIMITS, write=[tmp_path / "own"], file_size=1 << 16)
    assert hostile("fills", tmp_path / "own" / "x", limits) == "EFBIG"
    assert (tmp_path / "own" / "x").stat().st_size <= 1 << 16


def test_who_prints_megabytes_is_told_to_stop_and_lives(hostile):
    assert set(hostile("prints")) <= set("x")  # nothing more could be written, so its last words are lost
    status, said = confining.run(["/usr/bin/head", "-c", "100000000", "/dev/zero"], LIMITS)
    assert (status, len(said) <= confining.MOST_TOLD) == (1, True)


# ---- network and processes ----


@needs_filter
@pytest.mark.parametrize("deed", ["connects", "connects_by_file", "makes_pair"])
def test_no_network(hostile, deed):
    assert hostile(deed) == "EPERM"


@needs_filter
@pytest.mark.parametrize("deed", ["forks", "clones"])
def test_no_process_and_no_thread(hostile, deed):
    assert hostile(deed) == "EAGAIN"


def test_so_many_processes_and_no_more(hostile):
    if os.getuid() == 0:
        pytest.skip("root is exempt from RLIMIT_NPROC")
    assert hostile("forks", limits=replace(LIMITS, children=8)) == "EAGAIN"


@needs_filter
def test_what_it_started_ends_with_it(program, tmp_path):
    read, write = os.pipe()
    with closing(os.fdopen(read, "rb")) as heard:
        line = ["/usr/bin/sh", "-c", "sleep 1000 & exec sleep 1000"]
        command = confined(line, replace(LIMITS, children=8), keep=[write], environment={"PATH": "/usr/bin"})
        process = subprocess.Popen(command, env={}, pass_fds=[write], start_new_session=True)
        os.close(write)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        assert heard.read() == b""  # the last that had the pipe open is gone


@needs_filter
@pytest.mark.parametrize("deed", ["kills", "traces", "raises_limit_of"])
def test_no_other_process_is_touched(hostile, bystander, deed):
    assert hostile(deed, bystander.pid) == "EPERM"
    assert hostile(deed, bystander.pid, replace(LIMITS, without=frozenset({"landlock"}))) == "EPERM"


@needs_filter
@pytest.mark.parametrize("deed", ["kills_parent", "peeks", "escapes_group", "hurries", "unshares"])
def test_nor_the_parent_nor_its_own_bounds(hostile, deed):
    assert hostile(deed) == "EPERM"


@needs_filter
def test_no_signal_to_all(hostile, bystander):
    assert hostile("kills_all", limits=replace(LIMITS, without=frozenset({"landlock"}))) == "EPERM"


@needs_filter
@pytest.mark.parametrize(
    "deed", ["hides_memory", "leaves_memory", "asks_the_kernel", "rings", "raises_limit"]
)
def test_no_call_that_goes_round_the_limits(hostile, deed):
    assert hostile(deed) == "EPERM"


@needs_filter
@pytest.mark.parametrize("deed", ["clones3", "from_the_future"])
def test_calls_whose_arguments_cannot_be_seen_do_not_exist(hostile, deed):
    assert hostile(deed) == "ENOSYS"


@needs_filter
@pytest.mark.parametrize("deed", ["asks_as_x32", "asks_as_i386"])
def test_calls_by_another_convention_end_it(hostile, deed):
    assert hostile(deed) == "SIGSYS"


# ---- time, memory, what it has from its parent ----


def test_processor_time_ends(hostile):
    assert hostile("burns") == "SIGKILL"  # it ignores SIGXCPU


def test_memory_ends(hostile):
    assert hostile("eats") == "ENOMEM"


def test_the_clock_ends_who_sleeps(program):
    assert confining.run(["/usr/bin/sleep", "1000"], LIMITS, max_seconds=0.1) == (None, "")


def test_the_environment_is_the_one_stated(hostile, monkeypatch):
    monkeypatch.setenv("SECRET", "42")
    assert hostile("knows_secrets") == "ENOENT"
    assert hostile("knows_secrets", environment={"SECRET": "1"}) == "done"


def test_descriptors_are_those_kept(program, secret):
    with secret.open() as file:
        for keep, expected in [([], b"EBADF\n"), ([file.fileno()], b"done\n")]:
            line = confined([program("hostile"), "finds_descriptor", str(file.fileno())], LIMITS, keep=keep)
            assert subprocess.check_output(line, env={}, pass_fds=[file.fileno()]) == expected


def test_a_library_preloaded_into_the_confiner_is_refused():
    done = subprocess.run(
        confined(["/usr/bin/true"], LIMITS),
        env={"LD_PRELOAD": "/nowhere.so"},
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 126
    assert "a library is preloaded into confine itself" in done.stderr


def test_a_program_that_is_not_there():
    status, said = confining.run(["/nowhere/at/all"], LIMITS)
    assert (status, said.count("\n")) == (126, 1)
    assert "/nowhere/at/all: No such file or directory" in said


# ---- the compiler ----


@pytest.fixture
def compiled(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))

    def build(text, **settings):
        source = tmp_path / "mine" / "mm.c"
        source.parent.mkdir(exist_ok=True)
        source.write_text(text)
        return compile_c(
            "mm.so", [source], ["-shared", "-fPIC"], {"mm.h": "int x;"}, confined=Limits(**settings)
        )

    return build


@pytest.mark.parametrize("without", SHUT)
def test_the_compiler_reads_its_own_headers_and_the_sources(compiled, tmp_path, without):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "config.h").write_text("int y;")
    text = '#include <stdio.h>\n#include "mm.h"\n#include "config.h"\nint f(void) { return x + y; }\n'
    assert compiled(text, without=without).is_file()


@pytest.mark.parametrize("without", SHUT)
@pytest.mark.parametrize("how", ['#include "{}"', '__asm__(".incbin \\"{}\\"");'])
def test_the_compiler_reads_nothing_else(compiled, secret, without, how):
    with pytest.raises(HeaplabError, match="cannot compile") as caught:
        compiled(how.format(secret), without=without)
    assert SECRET not in str(caught.value)


def test_the_compiler_does_not_fill_the_disk(compiled):
    with pytest.raises(HeaplabError, match="cannot compile"):
        compiled("char x[1ul << 33] = {1};")


def test_the_compiler_ends(compiled, tmp_path, monkeypatch):
    monkeypatch.setattr("heaplab.compiling.MAX_SECONDS", 0.2)
    (tmp_path / "mine").mkdir()
    os.mkfifo(tmp_path / "mine" / "never.h")  # nobody writes it
    with pytest.raises(HeaplabError, match=r"no end after 0.2 s"):
        compiled('#include "never.h"')


# ---- the player ----


@pytest.fixture
def stage():
    events = [Event(Op.MALLOC, 0, 100_000), Event(Op.REALLOC, 0, 200_000), Event(Op.FREE, 0)]
    with closing(Stage(Trace.of(events))) as stage:
        yield stage


@pytest.mark.parametrize("pass_", [lib.HL_PLAY_TIME, lib.HL_PLAY_LATENCY, lib.HL_PLAY_SPACE])
@pytest.mark.parametrize("without", SHUT)
def test_the_player_plays_in_confinement(stage, pass_, without):
    free, shut = (
        stage.play(pass_, None, confined=limits) for limits in (None, replace(LIMITS, without=without))
    )
    assert shut.why == lib.HL_PLAY_DONE, shut.said
    assert (shut.raw.peak_live, shut.raw.peak_heap) == (free.raw.peak_live, free.raw.peak_heap)


@pytest.mark.parametrize("without", SHUT)
def test_processes_and_threads_of_a_trace_play_in_confinement(without):
    events = [
        *(Event(Op.MALLOC, 0, 5000), Event(Op.MALLOC, 1, 70, thread=1), Event(Op.FORK, 1)),
        *(Event(Op.FREE, 0, process=1), Event(Op.EXIT, process=1), Event(Op.FREE, 0)),
    ]
    with closing(Stage(Trace.of(events))) as stage:
        played = stage.play(lib.HL_PLAY_SPACE, None, confined=replace(LIMITS, without=without))
    assert played.why == lib.HL_PLAY_DONE, (played.said, played.raw.error)


@needs_filter
@pytest.mark.parametrize(
    ("deed", "error"),
    [("reads", "EACCES"), ("connects", "EPERM"), ("forks", "EAGAIN"), ("kills_parent", "EPERM")],
)
def test_a_library_is_refused_what_a_program_is(stage, program, deed, error):
    library = Path(program("hostile", "-shared", "-fPIC", f"-DPRELOADED={deed}"))
    played = stage.play(lib.HL_PLAY_TIME, library, confined=LIMITS)
    assert (played.words, played.why) == (error, lib.HL_PLAY_DONE)


def test_a_library_that_burns_time_ends(stage, program):
    library = Path(program("hostile", "-shared", "-fPIC", "-DPRELOADED=burns"))
    played = stage.play(lib.HL_PLAY_TIME, library, confined=LIMITS)
    assert "SIGKILL" in played.said


# ---- what is told ----


def test_what_is_missing_is_said():
    nothing = {"landlock": 0, "namespaces": 0, "seccomp": 0}
    assert len(confining.what_protects(nothing)) == 1
    assert len(confining.what_is_missing(nothing)) == 2
    assert confining.what_is_missing({**nothing, "namespaces": 1, "seccomp": 1}) == []


def test_the_network_is_there_for_others():
    """The test of `connects` shows something: unconfined, a socket can be had."""
    socket.socket().close()
    assert Path(confining.program()).is_file()
