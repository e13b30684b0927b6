"""exit and wait: rules 41 to 45."""

import errno
import os
import signal

import pytest

from heaplab.abi import MAP_ANONYMOUS, MAP_SHARED, PROT_READ, Sys
from heaplab.errors import KernelPanic, SegmentationFault, UsageError, WouldBlock


def refused(code, call, *args):
    with pytest.raises(OSError) as caught:
        call(*args)
    assert caught.value.errno == code


def test_rule_41_without_children(process):
    refused(errno.ECHILD, process.wait)
    refused(errno.ECHILD, process.waitpid, -1, os.WNOHANG)
    refused(errno.EINVAL, process.waitpid, -1, 0x10)
    assert process.errno == errno.EINVAL


def test_rule_41_with_living_ones(kernel, process):
    child, stranger = process.fork(), kernel.init.fork()
    assert process.waitpid(-1, os.WNOHANG) == (0, 0)
    assert process.waitpid(child.pid, os.WNOHANG) == (0, 0)
    refused(errno.ECHILD, process.waitpid, stranger.pid, os.WNOHANG)
    refused(errno.ECHILD, process.waitpid, process.pid)
    refused(errno.ECHILD, process.waitpid, 4711)
    grandchild = child.fork()
    grandchild.exit(0)
    refused(errno.ECHILD, process.waitpid, grandchild.pid)


def test_a_wait_that_would_sleep_says_so(process):
    process.fork()
    with pytest.raises(WouldBlock, match="let a child exit first") as caught:
        process.wait()
    assert isinstance(caught.value, UsageError)


@pytest.mark.parametrize(("code", "status"), [(0, 0), (3, 3 << 8), (255, 255 << 8), (256, 0), (-1, 255 << 8)])
def test_rule_42_status_of_exit(process, code, status):
    child = process.fork()
    child.exit(code)
    pid, seen = process.wait()
    assert (pid, seen) == (child.pid, status)
    assert os.waitstatus_to_exitcode(seen) == code % 256


def test_rule_42_status_of_death_by_signal(process):
    child = process.fork()
    with pytest.raises(SegmentationFault):
        child.load64(0)
    assert process.wait()[1] == signal.SIGSEGV
    child = process.fork()
    process.kill(child.pid, signal.SIGTERM)
    assert os.waitstatus_to_exitcode(process.wait()[1]) == -signal.SIGTERM


def test_rule_43_a_zombie(kernel, process):
    child = process.fork()
    child.exit(0)
    assert child.state == "Z"
    assert "State:\tZ (zombie)\n" in child.status()
    assert child.maps() == ""
    assert "VmSize" not in child.status()
    process.kill(child.pid, 0)
    process.wait()
    assert child.state == "X"
    refused(errno.ESRCH, process.kill, child.pid, 0)


def test_a_zombie_keeps_nothing_but_its_pid(kernel, process):
    free = kernel.machine.free_frames
    child = process.fork()
    child.sbrk(1000)
    child.fill(child.sbrk(0) - 1000, 1, 1000)
    child.exit(0)
    assert kernel.machine.free_frames == free
    assert child.pid in kernel.system.tasks


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 2, 0)])
def test_rule_44_zombies_come_in_the_order_they_were_forked(process, order):
    children = [process.fork() for _ in range(3)]
    for index in order:
        children[index].exit(index)
    assert [process.wait() for _ in children] == [(child.pid, i << 8) for i, child in enumerate(children)]


def test_rule_44_of_those_that_are_dead(process):
    children = [process.fork() for _ in range(3)]
    children[2].exit(0)
    children[1].exit(0)
    assert process.wait()[0] == children[1].pid
    children[0].exit(0)
    assert process.wait()[0] == children[0].pid
    assert process.waitpid(children[2].pid) == (children[2].pid, 0)


def test_rule_45_an_orphan_goes_to_pid_1_when_its_parent_exits(process):
    child = process.fork()
    grandchild = child.fork()
    assert grandchild.getppid() == child.pid
    child.exit(0)
    assert child.state == "Z"
    assert grandchild.getppid() == grandchild.ppid == 1


def test_init_collects_orphans_that_die(kernel, process):
    child = process.fork()
    grandchild = child.fork()
    child.exit(0)
    grandchild.exit(0)
    assert grandchild.state == "X"
    assert grandchild.pid not in kernel.system.tasks


def test_init_collects_zombies_that_become_its_children(kernel, process):
    child = process.fork()
    grandchild = child.fork()
    grandchild.exit(0)
    assert grandchild.state == "Z"
    child.exit(0)
    assert (grandchild.state, child.state) == ("X", "Z")


def test_init_can_be_driven_by_hand(boot):
    kernel = boot(init_reaps=False)
    parent = kernel.init.fork()
    child = parent.fork()
    child.exit(1)
    parent.exit(2)
    assert kernel.init.wait() == (parent.pid, 2 << 8)
    assert kernel.init.wait() == (child.pid, 1 << 8)
    refused(errno.ECHILD, kernel.init.wait)


def test_init_is_not_to_exit(kernel):
    with pytest.raises(KernelPanic):
        kernel.init.exit(0)


def test_wait4_writes_the_status_into_memory(kernel, process):
    page = process.mmap(process.page_size)
    for code in (7, 9):
        child = process.fork()  # the first time the page is made, the second time copied
        child.exit(code)
        assert process.syscall(Sys.WAIT4, -1, page + 4, 0, 0) == child.pid
        assert process.load64(page) == code << 40
        kernel.check()


def test_wait4_into_no_memory_is_efault_and_kills_nobody(process):
    read_only = process.mmap(process.page_size, prot=PROT_READ)
    for bad in (8, read_only, 1 << 63):
        process.fork().exit(0)
        assert process.syscall(Sys.WAIT4, -1, bad, 0, 0) == -errno.EFAULT
    assert process.state == "R"


def test_wait4_across_pages_and_into_shared_memory(kernel, process):
    size = process.page_size
    pages = process.mmap(2 * size, flags=MAP_SHARED | MAP_ANONYMOUS)
    sibling = process.fork()
    process.fork().exit(0xAB)
    process.syscall(Sys.WAIT4, -1, pages + size - 1, 0, 0)
    assert sibling.read(pages + size - 1, 4) == b"\x00\xab\x00\x00"


def test_a_group_can_be_waited_for(kernel, process):
    child = process.fork()
    child.exit(0)
    refused(errno.ECHILD, process.waitpid, -4711)
    assert process.waitpid(0) == (child.pid, 0)


@pytest.mark.parametrize(
    ("how", "order"),
    [
        (lambda tasks, init: tasks[1].exit(0), [0, 2, 3]),  # the caller, those after it, those before it
        (lambda tasks, init: tasks[3].exit(0), [2, 0, 3]),
        (lambda tasks, init: init.kill(tasks[0].pid, signal.SIGKILL), [3, 2, 0]),  # as they were born
        (lambda tasks, init: tasks[2].kill(tasks[0].pid, signal.SIGTERM), [3, 0, 2]),  # but who is on the CPU
    ],
)
def test_the_tasks_of_a_process_end_in_an_order_that_their_children_show(boot, how, order):
    """Each task's children go to the first that lives then, behind its own.  Measured, Linux 6.18."""
    kernel = boot(init_reaps=False)
    process = kernel.init.fork()
    tasks = [process, *(process.spawn_thread() for _ in range(3))]
    children = {number: tasks[number].fork() for number in (0, 2, 3)}
    for child in children.values():
        child.exit(0)
    how(tasks, kernel.init)
    assert kernel.init.wait()[0] == process.pid
    assert [kernel.init.wait()[0] for _ in children] == [children[number].pid for number in order]
