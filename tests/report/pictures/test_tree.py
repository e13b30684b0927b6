"""The tree of processes: every state, who lends memory to whom, and what has changed."""

import signal

import pytest

from heaplab.kernel import Kernel
from heaplab.kernel.scheduler import Scheduler
from heaplab.report import process_tree


@pytest.fixture
def kernel() -> Kernel:
    """A shell with children in every state."""
    kernel = Kernel(ram="4 MiB", seed=1)
    shell = kernel.init.fork()
    shell.name = "sh"
    done, killed, stopped, server, lender = [shell.fork() for _ in range(5)]
    done.exit(3)
    shell.kill(killed.pid, signal.SIGKILL)
    shell.kill(stopped.pid, signal.SIGSTOP)
    server.name = "server"
    server.spawn_thread()
    lender.name = "a_long_name_15b"
    lender.vfork().fork()
    return kernel


def test_it_says_what_each_process_is(kernel):
    assert str(process_tree(kernel)) == (
        "init(1) R: running\n"
        "`-sh(2) R: running\n"
        "   |-sh(3) Z: zombie, exit code 3\n"
        "   |-sh(4) Z: zombie, ended by SIGKILL\n"
        "   |-sh(5) T: stopped by SIGSTOP\n"
        "   |-server(6) R: running\n"
        "   |     task 6 R: running\n"
        "   |     task 8 R: running\n"
        "   `-a_long_name_15b(7) D: asleep in vfork until 9 execs or exits\n"
        "      `-a_long_name_15b(9) R: running; in the memory of 7\n"
        "         `-a_long_name_15b(10) R: running\n"
    )


def test_it_has_the_same_processes_as_the_kernels_own_tree(kernel):
    nodes = list(process_tree(kernel).data.root.walk())
    names = [line.lstrip("|` -").removesuffix(" <defunct>") for line in kernel.tree().splitlines()]
    assert [f"{node.name}({node.pid})" for node in nodes] == names


def test_orphans_and_those_who_are_gone_are_told_by_an_earlier_tree(kernel):
    before = process_tree(kernel)
    kernel.process(2).exit(0)
    now = process_tree(kernel, before)
    moved = {node.pid: node.orphan_of for node in now.data.root.walk() if node.orphan_of is not None}
    assert moved == {5: 2, 6: 2, 7: 2}
    assert now.data.gone == (2, 3, 4)
    assert all(node.orphan_of is None for node in process_tree(kernel).data.root.walk())


def test_a_leader_that_has_ended_before_its_threads_is_no_zombie_yet(kernel):
    kernel.process(6).exit_thread()
    server = next(node for node in process_tree(kernel).data.root.walk() if node.pid == 6)
    assert (server.state, server.threads) == ("R", ((6, "Z"), (8, "R")))


def test_who_sleeps_in_a_call_is_asleep(legible):
    def sleeper(sys):
        yield sys.fork()
        yield sys.pause()

    scheduler = Scheduler(seed=1)
    scheduler.run(sleeper)
    picture = process_tree(scheduler.kernel)
    assert [node.state for node in picture.data.root.walk()] == ["R", "S", "S"]
    legible(picture)


def test_looking_changes_nothing(kernel):
    free, calls = kernel.machine.free_frames, kernel.process(2).syscalls.copy()
    assert process_tree(kernel) == process_tree(kernel)
    assert (kernel.machine.free_frames, kernel.process(2).syscalls) == (free, calls)


def test_it_is_legible(kernel, legible):
    before = process_tree(kernel)
    legible(before)
    kernel.process(2).exit(0)
    legible(process_tree(kernel, before))
    legible(process_tree(Kernel(ram="1 MiB")))


def test_many_children_are_legible(legible):
    kernel = Kernel(ram="16 MiB", seed=1)
    shell = kernel.init.fork()
    for _ in range(30):
        shell.fork().exit(1)
    legible(process_tree(kernel))
