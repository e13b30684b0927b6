"""clone: what tasks share, threads, vfork: rules 47 and 48."""

import errno
import signal

import pytest

from heaplab.abi import (
    CLONE_CHILD_CLEARTID,
    CLONE_CHILD_SETTID,
    CLONE_FILES,
    CLONE_NEWPID,
    CLONE_NEWUSER,
    CLONE_PARENT,
    CLONE_PARENT_SETTID,
    CLONE_SIGHAND,
    CLONE_THREAD,
    CLONE_VFORK,
    CLONE_VM,
    PROT_READ,
    WALL,
    WCLONE,
    WNOHANG,
)
from heaplab.errors import OutOfMemory, SegmentationFault, WouldBlock
from heaplab.process import THREAD_FLAGS

SIGCHLD = signal.SIGCHLD
SIZE = 256


def refused(code, call, *args):
    with pytest.raises(OSError) as caught:
        call(*args)
    assert caught.value.errno == code


@pytest.mark.parametrize(
    "flags",
    [
        CLONE_THREAD,
        CLONE_THREAD | CLONE_VM,
        CLONE_SIGHAND,
        CLONE_SIGHAND | CLONE_THREAD,
        CLONE_NEWPID | SIGCHLD,
        CLONE_NEWUSER | SIGCHLD,
    ],
)
def test_rule_48_combinations_that_contradict_themselves(kernel, process, flags):
    refused(errno.EINVAL, process.clone, flags)
    kernel.check()


def test_rule_48_init_has_no_parent_to_share(kernel):
    refused(errno.EINVAL, kernel.init.clone, CLONE_PARENT | SIGCHLD)


def test_rule_48_clone_parent_makes_a_sibling(process):
    child = process.fork()
    sibling = child.clone(CLONE_PARENT | signal.SIGUSR1)
    assert sibling.ppid == process.pid
    refused(errno.ECHILD, child.wait)
    sibling.exit(4)
    assert process.wait() == (sibling.pid, 4 << 8)  # its exit signal is the caller's, not the one given


def test_a_thread_is_a_task_of_the_same_process(kernel, process):
    thread = process.spawn_thread(4 * process.page_size)
    assert thread.getpid() == process.getpid() == process.gettid()
    assert thread.gettid() == process.pid + 1
    assert thread.getppid() == process.getppid()
    assert "Threads:\t2\n" in process.status()
    kernel.check()


def test_threads_share_memory_and_have_stacks_of_their_own(kernel, process):
    size = process.page_size
    threads = [process.spawn_thread(2 * size) for _ in range(3)]
    word = process.mmap(size)
    for number, thread in enumerate(threads):
        thread.store64(thread.stack - 8, number)
        thread.store64(word + 8 * number, number + 1)
    assert [process.load64(word + 8 * n) for n in range(3)] == [1, 2, 3]
    assert [process.load64(thread.stack - 8) for thread in threads] == [0, 1, 2]
    assert len({thread.stack for thread in threads}) == 3
    thread = threads[0]
    with pytest.raises(SegmentationFault):  # into the page that guards its stack
        thread.load64(thread.stack - 2 * size - 8)
    assert process.state == "X"


def test_what_one_thread_maps_all_see(process):
    thread = process.spawn_thread(process.page_size)
    page = thread.mmap(process.page_size)
    process.store64(page, 7)
    thread.munmap(page, process.page_size)
    with pytest.raises(SegmentationFault):
        process.load64(page)


def test_a_thread_ends_alone_and_leaves_nothing_behind(kernel, process):
    thread = process.spawn_thread(process.page_size)
    thread.exit_thread(3)
    assert (thread.state, process.state) == ("X", "R")
    assert thread.tid not in kernel.system.tasks
    refused(errno.ECHILD, process.wait)


def test_exit_ends_all_threads(kernel, process):
    child = process.fork()
    threads = [child.spawn_thread(child.page_size) for _ in range(2)]
    threads[0].exit(6)
    assert {thread.state for thread in threads} == {"X"}
    assert process.wait() == (child.pid, 6 << 8)


def test_a_leader_that_ends_first_is_a_zombie_until_the_last_is_gone(process):
    # measured, Linux 6.18: leader _exit(3), last thread _exit(5): status 0x500
    child = process.fork()
    thread = child.spawn_thread(child.page_size)
    child.exit_thread(3)
    assert child.state == "Z"
    assert process.waitpid(child.pid, WNOHANG) == (0, 0)
    assert thread.getpid() == child.pid
    thread.exit_thread(5)
    assert process.wait() == (child.pid, 5 << 8)


def test_a_signal_to_a_dead_leader_reaches_the_process(process):
    child = process.fork()
    thread = child.spawn_thread(child.page_size)
    child.exit_thread(0)
    process.kill(child.pid, signal.SIGTERM)
    assert thread.state == "X"
    assert process.wait() == (child.pid, signal.SIGTERM)


def test_a_fault_in_one_thread_ends_all(process):
    child = process.fork()
    thread = child.spawn_thread(child.page_size)
    with pytest.raises(SegmentationFault):
        thread.store64(8, 1)
    assert process.wait() == (child.pid, signal.SIGSEGV)


def test_fork_copies_only_the_thread_that_calls(process):
    thread = process.spawn_thread(process.page_size)
    child = thread.fork()
    assert "Threads:\t1\n" in child.status()
    assert child.ppid == process.pid
    child.exit(0)
    assert process.wait()[0] == child.pid  # any thread may wait for it
    child = process.fork()
    child.exit(0)
    assert thread.wait()[0] == child.pid


def test_clone_vm_alone_is_another_process_in_the_same_memory(kernel, process):
    page = process.mmap(process.page_size)
    child = process.clone(CLONE_VM | SIGCHLD)
    child.store64(page, 5)
    assert process.load64(page) == 5
    assert child.getpid() != process.getpid()
    child.exit(1)
    assert process.load64(page) == 5
    assert process.wait() == (child.pid, 1 << 8)
    kernel.check()


def test_sighand_is_shared_or_copied(process):
    shared = process.clone(CLONE_VM | CLONE_SIGHAND | SIGCHLD)
    copied = process.clone(CLONE_VM | CLONE_FILES | SIGCHLD)
    process.sigaction(signal.SIGTERM, signal.SIG_IGN)
    for child in (shared, copied):
        process.kill(child.pid, signal.SIGTERM)
    assert (shared.state, copied.state) == ("R", "Z")


def test_tids_are_written_where_clone_says(kernel, process):
    page = process.mmap(2 * process.page_size)
    there = page + process.page_size
    flags = CLONE_PARENT_SETTID | CLONE_CHILD_SETTID | SIGCHLD
    child = process.clone(flags, 0, page, there)
    assert (process.load(page, 4), process.load(there, 4)) == (child.pid, 0)
    assert child.load(there, 4) == child.pid
    assert child.load(page, 4) == 0  # the copy was made before
    kernel.check()


def test_tids_that_cannot_be_written_are_not(process):
    child = process.clone(CLONE_PARENT_SETTID | CLONE_CHILD_SETTID | SIGCHLD, 0, 8, 8)
    assert child.state == "R"


def test_the_end_of_a_thread_is_written_where_clone_says(kernel, process):
    word = process.mmap(process.page_size)
    flags = THREAD_FLAGS | CLONE_PARENT_SETTID | CLONE_CHILD_CLEARTID
    thread = process.clone(flags, 0, word, word)
    assert process.load(word, 4) == thread.tid
    process.fork().exit(0)  # the page is to be copied for that write
    thread.exit_thread()
    assert process.load(word, 4) == 0
    kernel.check()


def test_where_the_end_cannot_be_written_it_is_looked_for_sleepers(kernel, process):
    """Linux wakes whoever sleeps there on a futex, and reads the page to find them."""
    page = process.mmap(SIZE, prot=PROT_READ)
    for address, present in ((page + 2, False), (page + 4, True)):
        child = process.clone(CLONE_VM | CLONE_CHILD_CLEARTID | SIGCHLD, 0, 0, address)
        child.exit(0)
        assert bool(kernel.task(process.pid).memory.space.pte(page)) is present
        process.wait()


def test_nobody_is_left_to_see_the_end(process):
    word = process.mmap(process.page_size)
    child = process.clone(CLONE_CHILD_CLEARTID | SIGCHLD, 0, 0, word)
    grandchild = child.fork()
    child.store(word, 7, 4)
    child.exit(0)
    assert (process.load(word, 4), grandchild.load(word, 4)) == (0, 0)


def test_an_exit_signal_of_ones_own(process):
    # measured, Linux 6.18: without __WCLONE the wait finds no such child
    child = process.clone(0)
    child.exit(2)
    refused(errno.ECHILD, process.waitpid, -1, WNOHANG)
    assert process.waitpid(-1, WCLONE) == (child.pid, 2 << 8)
    child = process.clone(signal.SIGTERM)
    assert process.waitpid(child.pid, WALL | WNOHANG) == (0, 0)
    child.exit(0)
    assert process.state == "X"  # pid 1 collects it at once


def test_rule_47_vfork(kernel, process):
    size = process.page_size
    page = process.mmap(size)
    free = kernel.machine.free_frames
    child = process.vfork()
    assert process.state == "D"
    assert "State:\tD (disk sleep)\n" in process.status()
    assert kernel.machine.free_frames == free  # nothing was copied
    child.store64(page, 1)
    new = child.mmap(size)
    child.store64(new, 2)
    kernel.check()
    child.exit(7)
    assert process.state == "R"
    assert (process.load64(page), process.load64(new)) == (1, 2)
    assert process.wait() == (child.pid, 7 << 8)


def test_rule_47_who_sleeps_can_do_nothing(process):
    page = process.mmap(process.page_size)
    process.store64(page, 1)
    child = process.vfork()
    for act in (process.fork, process.getpid, process.wait, lambda: process.exit(0)):
        with pytest.raises(WouldBlock, match=f"vforked, {child.pid}, execs or exits"):
            act()
    for act in (lambda: process.load64(page), lambda: process.store64(page, 2)):
        with pytest.raises(WouldBlock, match="sleeps"):
            act()
    child.exit(0)
    assert process.load64(page) == 1


def test_vfork_of_a_vforked_child(kernel, process):
    child = process.vfork()
    grandchild = child.vfork()
    assert (process.state, child.state, grandchild.state) == ("D", "D", "R")
    grandchild.exit(0)
    assert (process.state, child.state) == ("D", "R")
    child.exit(0)
    assert process.state == "R"
    kernel.check()


def test_another_thread_goes_on_while_one_is_in_vfork(process):
    thread = process.spawn_thread(process.page_size)
    child = process.vfork()
    assert (process.state, thread.state) == ("D", "R")
    assert thread.getpid() == process.pid
    child.exit(0)


@pytest.mark.parametrize("sig", [signal.SIGKILL, signal.SIGTERM])
def test_who_sleeps_in_vfork_can_be_killed(kernel, process, sig):
    # measured, Linux 6.18: status 0xf while the child still lives
    parent = process.fork()
    child = parent.vfork()
    process.kill(parent.pid, sig)
    assert process.waitpid(parent.pid) == (parent.pid, sig)
    assert (child.state, child.ppid) == ("R", 1)
    child.mmap(child.page_size)
    kernel.check()


def test_other_signals_wait_until_it_wakes(process):
    # measured, Linux 6.18, with SIGQUIT (it would dump core) and SIGSTOP
    for sig, state in ((signal.SIGQUIT, "Z"), (signal.SIGSTOP, "T")):
        parent = process.fork()
        child = parent.vfork()
        process.kill(parent.pid, sig)
        assert parent.state == "D"
        child.exit(0)
        assert parent.state == state


def test_vfork_without_sharing_memory_sleeps_too(process):
    page = process.mmap(process.page_size)
    child = process.clone(CLONE_VFORK | SIGCHLD)
    child.store64(page, 3)
    assert process.state == "D"
    child.exit(0)
    assert process.load64(page) == 0


def test_when_memory_ends_all_that_share_it_go(boot):
    kernel = boot(frames=96)
    hog = kernel.init.fork()
    thread, sharer = hog.spawn_thread(hog.page_size), hog.clone(CLONE_VM | SIGCHLD)
    room = hog.mmap(90 * hog.page_size)
    with pytest.raises(OutOfMemory):
        thread.fill(room, 1, 90 * hog.page_size)
    assert {hog.state, thread.state, sharer.state} == {"X"}


def test_init_is_not_killed_for_its_vforked_child(boot):
    kernel = boot(frames=96)
    bystander = kernel.init.fork()
    child = kernel.init.vfork()
    room = child.mmap(64 * child.page_size)
    for page in range(40):
        child.store64(room + page * child.page_size, 1)
    assert bystander.state == "R"
    child.exit(0)
    assert kernel.init.state == "R"
    kernel.init.munmap(room, 64 * child.page_size)
