"""The judge at work: agents, short trials, the command.  Skips where the real kernel may not be asked."""

import os

import pytest
from click.testing import CliRunner

from heaplab.cli import main
from heaplab.errors import UsageError
from heaplab.testing import conform
from heaplab.testing.conform import run
from heaplab.testing.conform.agents import AGENT_END
from heaplab.testing.conform.generate import Generator
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
    return [str(real.perform(step)) for step in parse_all(text)]


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
    result = CliRunner().invoke(main, ["conform", "--steps", "100", "--seeds", "2", "-q"])
    assert result.exit_code == 0
    assert result.output.startswith("100 steps over 2 seeds, ")
    assert result.output.endswith("no difference\n")


def test_a_replay(rights, tmp_path):
    path = tmp_path / "steps"
    path.write_text("[1] fork()\n[2] brk(addr=0x0)\n")
    result = CliRunner().invoke(main, ["conform", "--replay", str(path)])
    assert result.output == "[1] fork()\n[2] brk(addr=0x0)\n2 steps, no difference\n"


def test_without_rights_it_says_so(monkeypatch):
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(UsageError, match="must be root"):
        run.demand_rights()


def test_elsewhere_it_says_so(monkeypatch):
    monkeypatch.setattr("sys.platform", "darwin")
    with pytest.raises(UsageError, match="Linux on x86-64"):
        run.demand_rights()
