"""The judge at work: agents, short trials, the command.  Skips where the real kernel may not be asked."""

import os
import re
import signal

import pytest
from click.testing import CliRunner

from heaplab.cli import main
from heaplab.cli.conform import _show_found
from heaplab.errors import UsageError
from heaplab.testing import conform
from heaplab.testing.conform import run
from heaplab.testing.conform.agents import AGENT_END
from heaplab.testing.conform.generate import Generator
from heaplab.testing.conform.images import images
from heaplab.testing.conform.observe import Difference
from heaplab.testing.conform.play import Played
from heaplab.testing.conform.real import RealSide
from heaplab.testing.conform.steps import parse_all

TOP = 0x7FFF_F7FF_F000  # of mmap's area, without randomisation


def trial(source):
    with conform.bound_to_one_cpu():
        return conform.play_once(source)


def told(played):
    return [str(difference) for difference in played.differences]


@pytest.fixture
def real(rights):
    with conform.bound_to_one_cpu():
        side = RealSide()
        yield side
        side.close()


def outcomes(real, text):
    """What became of each step; without what a child used, for its agent's own is in it."""
    return [re.sub(r"ru_minflt \d+, ru_majflt 0, ", "", str(real.perform(step))) for step in parse_all(text)]


def test_agents_do_what_they_are_told(real):
    text = f"""
        [1] fork()
        [2] getpid()
        [2] mmap(addr=0x0, length=0x2000, prot=READ|WRITE, flags=PRIVATE|ANONYMOUS)
        [2] load(addr={TOP - 0x2000:#x})
        [2] store(addr={TOP - 0x2000:#x}, value=0x1122)
        [2] load(addr={TOP - 0x2000:#x}, size=1)
        [2] store(addr={TOP:#x})
        [2] fork()
        [3] store(addr={TOP - 0x2000:#x}, value=0x5)
        [2] load(addr={TOP - 0x2000:#x})
        [2] mprotect(addr={TOP - 0x2000:#x}, length=0x1000, prot=READ)
        [2] store(addr={TOP - 0x2000:#x}, fatal=1)
    """
    assert outcomes(real, text) == [
        "2, 0 minor faults",
        "2, 0 minor faults",
        f"{TOP - 0x2000:#x}, 0 minor faults",
        "0, 1 minor faults",
        "0, 1 minor faults",
        "0x22, 0 minor faults",
        f"SIGSEGV, si_code 1, at {TOP:#x}, 0 minor faults",
        "3, 0 minor faults",
        "0, 1 minor faults",
        "0x1122, 0 minor faults",
        "0, 0 minor faults",
        f"SIGSEGV, si_code 2, at {TOP - 0x2000:#x}, 0 minor faults",
    ]
    states = {pid: (view.state, view.ppid) for pid, view in real.views().items()}
    assert states == {1: ("R", 0), 2: ("Z", 1), 3: ("R", 1)}
    assert outcomes(real, "[1] wait4(target=-1, options=0)") == ["2, status 0xb, 0 minor faults"]
    assert list(real.views()) == [1, 3]


def test_agents_make_tasks_of_every_kind(real):
    text = """
        [1] fork()
        [2] vfork()
        [3] getppid()
        [3] exit(code=3)
        [2] wait4(target=-1, options=0)
        [2] clone(flags=VM|FS|FILES|SIGHAND|THREAD|SYSVSEM)
        [4] gettid()
        [4] getpid()
        [4] leave(code=0)
        [2] sigaction(sig=SIGCHLD, handler=IGN)
        [2] waitid(whom=ALL, target=0, options=EXITED)
    """
    assert outcomes(real, text) == [
        "2, 0 minor faults",
        "3, 0 minor faults",
        "2, 0 minor faults",
        "0, 0 minor faults",
        "3, status 0x300, 0 minor faults",
        "4, 0 minor faults",
        "4, 0 minor faults",
        "2, 0 minor faults",
        "0, 0 minor faults",
        "0, was DFL, 0, 0x0, 0x0, 0 minor faults",
        "-ECHILD, 0 minor faults",
    ]
    assert [view.threads for view in real.views().values()] == [1, 1]


def test_a_parent_sleeps_until_its_vforked_child_execs(real):
    assert outcomes(real, "[1] fork()\n[2] vfork()") == ["2, 0 minor faults", "3, 0 minor faults"]
    assert [view.state for view in real.views().values()] == ["R", "D", "R"]
    names = [image.path for image in images()]
    (said,) = outcomes(real, f"[3] exec(image={names.index('bin/bss')}, argc=2)")
    assert "argc 2, pointers 0x7fff" in said
    views = real.views()
    assert [view.state for view in views.values()] == ["R", "R", "R"]
    assert [view.comm for view in views.values()] == ["init", "init", "bss"]
    assert [vma.name for vma in views[3].maps.vmas] == ["bin/bss", "bin/bss", "", "[stack]"]
    assert outcomes(real, "[3] getpid()") == ["3, 0 minor faults"]


def test_a_thread_that_execs_becomes_the_process(real):
    thread = "clone(flags=VM|FS|FILES|SIGHAND|THREAD|SYSVSEM)"
    outcomes(real, f"[1] fork()\n[2] {thread}\n[2] {thread}")
    assert list(real.views()) == [1, 2, 3, 4]
    outcomes(real, "[4] exec(image=0)")
    assert [(pid, view.threads) for pid, view in real.views().items()] == [(1, 1), (2, 1)]
    assert outcomes(real, "[2] gettid()") == ["2, 0 minor faults"]


def test_a_program_that_cannot_start_dies(real):
    names = [image.path for image in images()]
    outcomes(real, "[1] fork()")
    assert outcomes(real, f"[2] exec(image={names.index('bin/absent')})") == ["-ENOENT, 0 minor faults"]
    assert list(real.views()) == [1, 2]


def test_agents_stop_and_go_on(real):
    outcomes(real, "[1] fork()\n[2] kill(target=2, sig=SIGSTOP)")
    assert real.views()[2].state == "T"
    (said,) = outcomes(real, "[1] wait4(target=2, options=NOHANG|UNTRACED)")
    assert said == "2, status 0x137f, 0 minor faults"
    outcomes(real, "[1] kill(target=2, sig=SIGCONT)")
    assert real.views()[2].state == "R"
    assert outcomes(real, "[2] getpid()") == ["2, 0 minor faults"]


def test_agents_note_the_signals_that_they_catch(real):
    text = """
        [1] fork()
        [2] sigaction(sig=SIGUSR1, handler=CATCH, mask=0x4000)
        [2] sigaction(sig=SIGCHLD, handler=CATCH)
        [1] kill(target=2, sig=SIGUSR1)
        [2] fork()
        [3] exit(code=5)
        [2] sigpending()
    """
    outcomes(real, text)
    assert [str(caught) for caught in real.views()[2].caught] == [
        "SIGUSR1 (si_code 0, si_pid 1, si_status 0; blocked 0x4200)",
        "SIGCHLD (si_code 1, si_pid 3, si_status 5; blocked 0x10000)",
    ]
    assert real.views()[2].caught == ()


def test_what_calls_write_is_told(real):
    text = """
        [1] memfd()
        [1] pwrite(fd=0, count=3, value=0x7, offset=0x1)
        [1] pread(fd=0, count=0x10)
        [1] open(file=1, flags=0)
        [1] read(fd=1, count=0x3)
        [1] getrlimit(resource=NOFILE)
    """.replace("count=3", "count=0x3")
    assert outcomes(real, text) == [
        "0, 0 minor faults",
        "3, 0 minor faults",
        "4, 1*00 3*07, 0 minor faults",
        "1, 0 minor faults",
        "3, 1*01 1*02 1*03, 0 minor faults",
        "0, 0x400, 0x400, 0 minor faults",
    ]


def test_pipes_let_nobody_sleep(real):
    text = """
        [1] fork()
        [2] pipe(flags=CLOEXEC)
        [2] read(fd=0, count=0x1)
        [2] write(fd=1, count=0x3, value=0x7)
        [2] read(fd=0, count=0x9)
        [2] close(fd=1)
        [2] read(fd=0, count=0x9)
        [2] pipe(flags=APPEND)
        [2] pipe()
        [2] close(fd=1)
        [2] write(fd=2, count=0x1)
        [1] wait4(target=-1, options=0)
    """
    assert outcomes(real, text)[1:] == [
        "0, 0, 1, 0 minor faults",
        "-EAGAIN, 0 minor faults",
        "3, 0 minor faults",
        "3, 3*07, 0 minor faults",
        "0, 0 minor faults",
        "0, 0 minor faults",
        "-EINVAL, 0 minor faults",
        "0, 1, 2, 0 minor faults",
        "0, 0 minor faults",
        "0, 0 minor faults",
        "2, status 0xd, 0 minor faults",
    ]


def test_agents_ignore_nothing_that_their_driver_ignores(rights):
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with conform.bound_to_one_cpu():
            side = RealSide()
            said = outcomes(
                side, "[1] sigaction(sig=SIGHUP, handler=DFL)\n[1] sigprocmask(how=BLOCK, mask=0x0)"
            )
            side.close()
    finally:
        signal.signal(signal.SIGHUP, before)
    assert said == ["0, was DFL, 0, 0x0, 0x0, 0 minor faults", "0, was 0x0, 0 minor faults"]


def test_who_is_about_to_vanish_is_waited_for(real, monkeypatch):
    look, states = real.agents.stat, iter("RX")
    monkeypatch.setattr(real.agents, "stat", lambda pid: look(pid)._replace(state=next(states, "S")))
    assert real.views()[1].state == "R"


def test_an_agent_begins_with_nothing_but_its_stack(real):
    (stack,) = real.views()[1].maps.vmas
    assert stack.name == "[stack]"
    assert real.start.brk == AGENT_END


def test_a_call_that_sleeps_is_said_to(real, monkeypatch):
    monkeypatch.setattr("heaplab.testing.conform.agents.PATIENCE", 0.02)
    assert outcomes(real, "[1] fork()\n[1] wait4(target=-1, options=0)")[1] == "sleeps, 0 minor faults"


def test_no_agent_is_left(rights):
    with conform.bound_to_one_cpu():
        side = RealSide()
        first = int(side.agents.slot(1).pid)
        side.perform(parse_all("[1] fork()")[0])
        os.kill(first, 0)
        side.close()
    with pytest.raises(ProcessLookupError):
        os.kill(first, 0)


@pytest.mark.parametrize("profile", conform.PROFILES)
def test_a_short_trial(rights, profile):
    report = conform.conform(range(1, 4), 200, profile)
    assert [told(found.first) for found in report.found] == []
    assert (report.seeds, report.steps) == (3, 600)


def test_the_same_steps_every_time(rights):
    assert trial(Generator(11, 150)).steps == trial(Generator(11, 150)).steps


# ---- the command


def test_the_command(rights):
    result = CliRunner().invoke(main, ["conform", "-q"])
    assert result.exit_code == 0, result.output
    assert result.output.startswith("20,000 steps over 40 seeds, ")
    assert result.output.endswith("no difference\n")


def test_a_replay(rights, tmp_path):
    path = tmp_path / "steps"
    path.write_text("[1] fork()\n[2] brk(addr=0x0)\n")
    result = CliRunner().invoke(main, ["conform", "--replay", str(path)])
    assert result.output == "[1] fork()\n[2] brk(addr=0x0)\n2 of 2 steps, no difference\n"


def test_a_replay_with_a_pipe_does_not_hang(rights, tmp_path):
    path = tmp_path / "steps"
    path.write_text("[1] pipe()\n[1] read(fd=0, count=0x1)\n")
    result = CliRunner().invoke(main, ["conform", "--replay", str(path)])
    assert result.output.endswith("2 of 2 steps, no difference\n")


def test_a_replay_says_what_it_leaves_out(rights, tmp_path):
    path = tmp_path / "steps"
    path.write_text("[1] exit(code=0)\n[9] getpid()\n[1] getpid()\n")
    result = CliRunner().invoke(main, ["conform", "--replay", str(path)])
    assert result.output.splitlines()[0] == "[1] getpid()"
    assert [line.rpartition(": ")[2] for line in result.output.splitlines()[1:3]] == [
        "[1] exit(code=0)",
        "[9] getpid()",
    ]
    assert result.output.endswith("1 of 3 steps, no difference\n")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--mutants", "last-owner-copies", "--replay", "steps"], "choose one of them"),
        (["--mutants", "last-owner-copies", "--only", "files"], "last-owner-copies"),
    ],
)
def test_options_that_contradict_each_other(arguments, said):
    result = CliRunner().invoke(main, ["conform", *arguments])
    assert (result.exit_code, said in result.output) == (2, True)


def test_the_agents_memory_is_nobody_elses(tmp_path):
    path = tmp_path / "steps"
    path.write_text("[1] munmap(addr=0x200000, length=0x200000)\n")
    result = CliRunner().invoke(main, ["conform", "--replay", str(path)])
    assert (result.exit_code, "the agents' own memory" in result.output) == (2, True)


def test_without_rights_it_says_so(monkeypatch):
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(UsageError, match="must be root"):
        run.demand_rights()


def test_elsewhere_it_says_so(monkeypatch):
    monkeypatch.setattr("sys.platform", "darwin")
    with pytest.raises(UsageError, match="Linux on x86-64"):
        run.demand_rights()


@pytest.mark.parametrize(("interrupted", "said"), [(True, False), (False, True)])
def test_an_interrupted_run_does_not_say_that_a_difference_did_not_show_again(capsys, interrupted, said):
    steps = parse_all("[1] fork()")
    found = conform.Found(7, Played(steps, [Difference("parent", "1", "2")]))
    _show_found(found, interrupted)
    out = capsys.readouterr().out
    assert ("did not answer the same twice" in out) is said
    assert "[1] fork()" in out
