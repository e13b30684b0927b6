"""wait4 and waitid: who is heard of, when, and what is told: rules 41, 42, 44 to 46."""

import errno
import os
import signal
import struct
from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from heaplab.abi import (
    CLD_CONTINUED,
    CLD_EXITED,
    CLD_KILLED,
    CLD_STOPPED,
    CLONE_PARENT,
    P_ALL,
    P_PGID,
    P_PID,
    RUSAGE_CHILDREN,
    RUSAGE_SELF,
    RUSAGE_THREAD,
    SA_NOCLDSTOP,
    SA_NOCLDWAIT,
    WALL,
    WCLONE,
    WCONTINUED,
    WEXITED,
    WNOHANG,
    WNOTHREAD,
    WNOWAIT,
    WSTOPPED,
    WUNTRACED,
    SigInfo,
    Sys,
)
from heaplab.errors import WouldBlock
from heaplab.kernel import Kernel
from heaplab.kernel import wait as waiting
from heaplab.kernel.system import UID

SIGCHLD, SIGCONT, SIGSTOP = signal.SIGCHLD, signal.SIGCONT, signal.SIGSTOP


def refused(code, call, *args):
    with pytest.raises(OSError) as caught:
        call(*args)
    assert caught.value.errno == code


def test_rule_42_stopped_and_continued(process):
    child = process.fork()
    process.kill(child.pid, SIGSTOP)
    assert child.state == "T"
    assert process.waitpid(-1, WNOHANG) == (0, 0)  # without WUNTRACED nobody asks
    pid, status = process.waitpid(-1, WUNTRACED)
    assert (pid, status) == (child.pid, 0x137F)
    assert os.WIFSTOPPED(status)
    assert os.WSTOPSIG(status) == SIGSTOP
    assert process.waitpid(-1, WUNTRACED | WNOHANG) == (0, 0)  # told once
    process.kill(child.pid, SIGCONT)
    assert child.state == "R"
    assert process.waitpid(-1, WUNTRACED | WNOHANG) == (0, 0)
    pid, status = process.waitpid(-1, WCONTINUED)
    assert (pid, status) == (child.pid, 0xFFFF)
    assert os.WIFCONTINUED(status)
    assert process.waitpid(-1, WCONTINUED | WNOHANG) == (0, 0)


def test_a_stop_not_heard_of_before_the_continue_is_past(process):
    child = process.fork()
    process.kill(child.pid, SIGSTOP)
    process.kill(child.pid, SIGCONT)
    assert process.waitpid(-1, WUNTRACED | WNOHANG) == (0, 0)
    process.kill(child.pid, SIGSTOP)
    assert process.waitpid(-1, WCONTINUED | WNOHANG) == (0, 0)


def test_rule_44_living_children_with_news_come_in_the_order_of_birth_too(process):
    first, second, third = [process.fork() for _ in range(3)]
    third.exit(0)
    process.kill(second.pid, SIGSTOP)
    assert process.waitpid(-1, WUNTRACED)[0] == second.pid
    assert process.waitpid(-1, WUNTRACED)[0] == third.pid
    first.exit(0)
    assert process.wait()[0] == first.pid


def test_waitid_tells_what_siginfo_holds(process):
    child = process.fork()
    child.exit(3)
    assert process.waitid(P_ALL, 0, WEXITED) == SigInfo(SIGCHLD, CLD_EXITED, child.pid, 3)
    child = process.fork()
    process.kill(child.pid, SIGSTOP)
    assert process.waitid(P_PID, child.pid, WSTOPPED) == SigInfo(SIGCHLD, CLD_STOPPED, child.pid, SIGSTOP)
    process.kill(child.pid, SIGCONT)
    assert process.waitid(P_PID, child.pid, WCONTINUED) == SigInfo(SIGCHLD, CLD_CONTINUED, child.pid, SIGCONT)
    process.kill(child.pid, 9)
    assert process.waitid(P_PGID, 0, WEXITED) == SigInfo(SIGCHLD, CLD_KILLED, child.pid, 9)


def test_waitid_leaves_what_wnowait_says(process):
    # measured, Linux 6.18
    child = process.fork()
    child.exit(1)
    assert process.waitid(P_ALL, 0, WEXITED | WNOWAIT) == process.waitid(P_ALL, 0, WEXITED | WNOWAIT)
    assert child.state == "Z"
    assert process.wait() == (child.pid, 1 << 8)
    child = process.fork()
    process.kill(child.pid, SIGSTOP)
    assert process.waitid(P_ALL, 0, WSTOPPED | WNOWAIT)
    assert process.waitid(P_ALL, 0, WSTOPPED)
    assert process.waitid(P_ALL, 0, WSTOPPED | WNOHANG) is None


def test_waitid_for_stops_when_all_are_dead(process):
    process.fork().exit(1)
    refused(errno.ECHILD, process.waitid, P_ALL, 0, WSTOPPED | WNOHANG)  # measured, Linux 6.18


@pytest.mark.parametrize(
    ("idtype", "number", "options"),
    [
        (P_ALL, 0, WNOHANG),  # for nothing
        (P_ALL, 0, WEXITED | 0x10),
        (P_PID, 0, WEXITED),
        (P_PID, -1, WEXITED),
        (P_PGID, -1, WEXITED),
        (7, 1, WEXITED),
    ],
)
def test_rule_41_bad_arguments_of_waitid(process, idtype, number, options):
    process.fork()
    refused(errno.EINVAL, process.waitid, idtype, number, options)


def test_waits_that_would_sleep(process):
    process.fork()
    with pytest.raises(WouldBlock) as caught:
        process.waitid(P_ALL, 0, WEXITED | WSTOPPED)
    assert not caught.value.ready()
    process.kill(process.pid + 1, SIGSTOP)
    assert caught.value.ready()
    assert process.waitid(P_ALL, 0, WSTOPPED) is not None  # to ask was to change nothing


def test_groups_are_told_apart(kernel, process):
    ours, theirs = process.fork(), process.fork()
    theirs.setpgid(0, 0)
    for child in (theirs, ours):
        child.exit(0)
    assert process.waitpid(0) == (ours.pid, 0)
    refused(errno.ECHILD, process.waitpid, 0)
    refused(errno.ECHILD, process.waitid, P_PGID, process.getpgid(), WEXITED)
    assert process.waitpid(-theirs.pid) == (theirs.pid, 0)


def test_rule_45_a_subreaper_takes_in_orphans(process):
    process.set_child_subreaper()
    child = process.fork()
    grandchild = child.fork()
    great = grandchild.fork()
    child.exit(0)
    assert grandchild.ppid == process.pid
    grandchild.exit(1)
    assert great.ppid == process.pid
    great.exit(2)
    assert [process.wait() for _ in range(3)] == [
        (child.pid, 0),
        (grandchild.pid, 1 << 8),
        (great.pid, 2 << 8),
    ]


def test_rule_45_the_nearest_living_subreaper(process):
    process.set_child_subreaper()
    near = process.fork()
    near.set_child_subreaper()
    child = near.fork()
    orphan = child.fork()
    child.exit(0)
    assert orphan.ppid == near.pid
    near.exit(0)
    assert orphan.ppid == process.pid
    process.set_child_subreaper(False)
    other = process.fork()
    late = other.fork()
    other.exit(0)
    assert late.ppid == 1


@pytest.mark.parametrize(
    ("handler", "flags"), [(signal.SIG_IGN, 0), (signal.SIG_DFL, SA_NOCLDWAIT), (lambda *_: 0, SA_NOCLDWAIT)]
)
def test_rule_46_children_that_nobody_waits_for(kernel, process, handler, flags):
    process.sigaction(SIGCHLD, handler, flags)
    child, other = process.fork(), process.fork()
    child.exit(0)
    assert child.state == "X"
    assert process.waitpid(-1, WNOHANG) == (0, 0)  # while another lives
    other.exit(0)
    refused(errno.ECHILD, process.wait)
    assert kernel.system.tasks.keys() == {1, process.pid}


def test_rule_46_those_dead_before_remain(process):
    child = process.fork()
    child.exit(5)
    process.sigaction(SIGCHLD, signal.SIG_IGN)
    assert process.wait() == (child.pid, 5 << 8)


def test_rule_46_orphans_of_a_subreaper_that_ignores(process):
    process.set_child_subreaper()
    child = process.fork()
    zombie = child.fork()
    zombie.exit(0)
    process.sigaction(SIGCHLD, signal.SIG_IGN)
    child.exit(0)
    assert (child.state, zombie.state) == ("X", "X")


def test_a_parent_hears_of_ends_and_stops(process):
    heard = []
    process.sigaction(SIGCHLD, lambda _, info: heard.append(info))
    child = process.fork()
    process.kill(child.pid, SIGSTOP)
    process.kill(child.pid, SIGCONT)
    child.exit(2)
    assert [(info.code, info.status) for info in heard] == [
        (CLD_STOPPED, SIGSTOP),
        (CLD_CONTINUED, SIGCONT),
        (CLD_EXITED, 2),
    ]
    assert {info.pid for info in heard} == {child.pid}
    heard.clear()
    process.sigaction(SIGCHLD, lambda _, info: heard.append(info), SA_NOCLDSTOP)
    child = process.fork()
    process.kill(child.pid, SIGSTOP)
    process.kill(child.pid, 9)
    assert [info.code for info in heard] == [CLD_KILLED]


def touch(process, pages):
    room = process.mmap(pages * process.page_size)
    for page in range(pages):
        process.store64(room + page * process.page_size, 1)


def test_rusage_of_children(process):
    child = process.fork()
    grandchild = child.fork()
    touch(grandchild, 5)
    grandchild.exit(0)
    touch(child, 3)
    child.wait()
    child.exit(0)
    assert process.getrusage(RUSAGE_CHILDREN).minflt == 0  # not collected yet
    pid, _, used = process.wait4(-1)
    assert (pid, used.minflt) == (child.pid, 8)
    assert process.getrusage(RUSAGE_CHILDREN) == used
    uncollected = process.fork()
    process.sigaction(SIGCHLD, signal.SIG_IGN)
    touch(uncollected, 4)
    uncollected.exit(0)
    assert process.getrusage(RUSAGE_CHILDREN) == used


def test_rusage_of_threads(process):
    before = process.getrusage(RUSAGE_SELF).minflt
    thread = process.spawn_thread(process.page_size)
    touch(thread, 4)
    assert thread.getrusage(RUSAGE_THREAD).minflt == 4
    assert process.getrusage(RUSAGE_THREAD).minflt == before
    thread.exit_thread()
    assert process.getrusage(RUSAGE_SELF).minflt == before + 4
    refused(errno.EINVAL, process.getrusage, 2)


def test_the_structures_that_calls_write(process):
    size = process.page_size
    page = process.mmap(size)
    process.store64(page, 0)
    child = process.fork()
    touch(child, 6)
    process.kill(child.pid, signal.SIGTERM)
    assert process.syscall(Sys.WAITID, P_ALL, 0, page, WEXITED | WNOWAIT, 0) == 0
    signo, error, code, pid, uid, status = struct.unpack("<3i4x3i", process.read(page, 28))
    assert (signo, error, code, pid, uid, status) == (SIGCHLD, 0, CLD_KILLED, child.pid, UID, signal.SIGTERM)
    assert process.syscall(Sys.WAIT4, -1, 0, 0, page) == child.pid
    assert process.load64(page + 64) == 6  # ru_minflt
    assert process.syscall(Sys.GETRUSAGE, -1, page) == 0
    assert process.load64(page + 64) == 6


def test_waitid_writes_its_structure_whatever_comes(process):
    # measured, Linux 6.18: zeros where there is nothing to tell; what lies between the fields stays
    page = process.mmap(process.page_size)
    for options, result in ((WEXITED, -errno.ECHILD), (0, -errno.EINVAL), (WEXITED | WNOHANG, 0)):
        if not result:
            process.fork()
        process.fill(page, 0xFF, 40)
        assert process.syscall(Sys.WAITID, P_ALL, 0, page, options, 0) == result
        assert process.read(page, 40) == bytes(12) + b"\xff" * 4 + bytes(12) + b"\xff" * 12
        assert process.syscall(Sys.WAITID, P_ALL, 0, 8, options, 0) == -errno.EFAULT


def test_waitid_for_any_heeds_no_number(process):
    child = process.fork()
    child.exit(3)
    assert process.waitid(P_ALL, -1, WEXITED) == SigInfo(SIGCHLD, CLD_EXITED, child.pid, 3)


def test_a_thread_may_wait_for_its_own_children_alone(process):
    thread, other = (process.spawn_thread(process.page_size) for _ in range(2))
    child = thread.fork()
    child.exit(5)
    for task in (process, other):
        refused(errno.ECHILD, task.waitpid, -1, WNOTHREAD)
        refused(errno.ECHILD, task.waitpid, child.pid, WNOTHREAD)
    assert thread.waitid(P_ALL, 0, WEXITED | WNOWAIT | WNOTHREAD).pid == child.pid
    thread.exit_thread()
    # the children of a thread that ends go to the first that lives
    refused(errno.ECHILD, other.waitpid, -1, WNOTHREAD)
    assert process.waitpid(-1, WNOTHREAD) == (child.pid, 5 << 8)


def test_threads_and_siblings_are_children_of_who_made_the_process(process):
    thread = process.spawn_thread(process.page_size)
    child = thread.fork()
    sibling = child.spawn_thread(child.page_size).clone(CLONE_PARENT)
    sibling.exit(1)
    refused(errno.ECHILD, process.waitpid, -1, WNOTHREAD)
    assert thread.waitpid(-1, WNOTHREAD) == (sibling.pid, 1 << 8)


def test_an_exit_signal_that_there_is_not_is_not_sent(process):
    # measured, Linux 6.18
    child = process.clone(200)
    child.exit(4)
    assert process.state == "R"
    assert process.waitpid(child.pid, WALL) == (child.pid, 4 << 8)


def heard_by_search(group, idtype, number, options):
    """The child that a wait hears of by looking at all of them in order; None; or ECHILD."""
    waiting = False
    for child in [leader.group for leader in group.children.values()]:
        named = {P_ALL: True, P_PID: child.tgid == number, P_PGID: child.pgid == number}[idtype]
        if not named or not (options & WALL or (child.exit_signal != SIGCHLD) == bool(options & WCLONE)):
            continue
        if not child.living:
            if options & WEXITED:
                return child.tgid
            continue
        waiting = True
        if child.job_event and options & {CLD_STOPPED: WSTOPPED, CLD_CONTINUED: WCONTINUED}[child.job_event]:
            return child.tgid
    return None if waiting else errno.ECHILD


VERBS = [
    "fork",
    "fork",
    "clone",
    "exit",
    "exit",
    "stop",
    "continue",
    "setpgid",
    "setsid",
    "wait",
    "wait",
    "wait",
]
CHANGES = [WEXITED, WSTOPPED, WCONTINUED, WEXITED | WSTOPPED, WEXITED | WSTOPPED | WCONTINUED]


@settings(max_examples=150, deadline=None)
@given(
    steps=st.lists(
        st.tuples(
            st.sampled_from(VERBS),
            st.integers(0, 30),
            st.integers(0, 30),
            st.sampled_from([P_ALL, P_ALL, P_PGID, P_PID]),
            st.sampled_from(CHANGES),
            st.sampled_from([0, 0, 0, WALL, WCLONE]),
            st.sampled_from([0, 0, WNOWAIT]),
        ),
        max_size=60,
    )
)
def test_wait_hears_of_whom_a_search_through_all_children_finds(steps):
    kernel = Kernel(ram=400 * 256, page_size=256, tlb=64)
    top = kernel.init.fork()
    top.setsid()
    top.set_child_subreaper()
    top.sigaction(signal.SIGHUP, signal.SIG_IGN)  # what orphaned groups with stopped members get
    family = [top]
    for verb, one, two, idtype, changes, clones, nowait in steps:
        family = [process for process in family if process.state not in "ZX"]
        process, other = family[one % len(family)], family[two % len(family)]
        if verb in ("fork", "clone") and len(family) < 12 and process.state == "R":
            family.append(process.fork() if verb == "fork" else process.clone(int(signal.SIGWINCH)))
        elif verb == "exit" and process is not top:
            top.kill(process.pid, 9)
        elif verb in ("stop", "continue") and process is not top:
            top.kill(process.pid, SIGSTOP if verb == "stop" else SIGCONT)
        elif process.state != "R":
            continue
        elif verb == "setpgid":
            with suppress(OSError):
                process.setpgid(0, 0 if one % 2 else other.getpgid() if other.state == "R" else 0)
        elif verb == "setsid":
            with suppress(OSError):
                process.setsid()
        elif verb == "wait":
            number = {P_ALL: 0, P_PID: other.pid, P_PGID: kernel.task(other.pid).group.pgid}[idtype]
            options = changes | clones | nowait | WNOHANG
            expected = heard_by_search(kernel.task(process.pid).group, idtype, number, options)
            try:
                info = process.waitid(idtype, number, options)
                heard = info.pid if info is not None else None
            except ChildProcessError as error:
                heard = error.errno
            assert heard == expected
        kernel.check()


def test_wait_looks_only_at_children_with_something_to_tell(boot, monkeypatch):
    process = boot(frames=1024).init.fork()
    children = [process.fork() for _ in range(60)]
    looked_at = []
    eligible = waiting._eligible
    monkeypatch.setattr(waiting, "_eligible", lambda *how: looked_at.append(how) or eligible(*how))
    for child in (children[50], children[40], children[59]):
        child.exit(0)
    assert [process.wait()[0] for _ in range(3)] == [children[each].pid for each in (40, 50, 59)]
    process.kill(children[45].pid, SIGSTOP)
    assert process.waitpid(-1, WUNTRACED)[0] == children[45].pid
    assert process.waitpid(-1, WNOHANG) == (0, 0)
    children[30].setpgid(0, 0)
    assert process.waitpid(-children[30].pid, WNOHANG) == (0, 0)
    assert process.waitpid(children[35].pid, WNOHANG) == (0, 0)
    assert len(looked_at) <= 8


def test_what_is_heard_again_and_what_moves_stays_in_order(process):
    """Orphans with something to tell stand behind the reaper's own children, even if these tell it later."""
    process.set_child_subreaper()
    between, own = process.fork(), process.fork()
    zombie, stopped = between.fork(), between.fork()
    zombie.exit(1)
    process.kill(stopped.pid, SIGSTOP)
    between.exit(2)
    assert process.waitid(P_ALL, 0, WSTOPPED | WNOWAIT).pid == stopped.pid
    own.exit(3)
    heard = [process.waitid(P_ALL, 0, WEXITED | WSTOPPED).pid for _ in range(4)]
    assert heard == [between.pid, own.pid, zombie.pid, stopped.pid]


def test_a_process_group_of_other_parents_children_is_nobody_to_wait_for(process):
    first, *_ = [process.fork() for _ in range(3)]
    grandchild = first.fork()
    grandchild.setpgid(0, 0)
    refused(errno.ECHILD, process.waitpid, -grandchild.pid, WNOHANG)
    first.exit(0)  # and pid 1 takes in the grandchild
    refused(errno.ECHILD, process.waitpid, -grandchild.pid, WNOHANG)


def test_each_task_waits_for_its_own_children_first(process):
    """Then for those of the tasks after it, as Linux walks the threads of a process (rule 44)."""
    first, second = process.spawn_thread(), process.spawn_thread()
    born = {task: task.fork() for task in (second, first, process)}  # the oldest child is the second thread's
    for child in born.values():
        child.exit(0)

    for task in (process, first, second):
        assert task.waitid(os.P_ALL, 0, os.WEXITED | os.WNOWAIT).pid == born[task].pid
    assert [second.wait()[0] for _ in range(3)] == [born[task].pid for task in (second, process, first)]


def test_the_children_of_a_thread_that_ends_are_the_first_tasks_last(process):
    thread = process.spawn_thread()
    oldest = thread.fork()
    youngest = process.fork()
    for child in (oldest, youngest):
        child.exit(0)
    thread.exit_thread(0)
    assert process.wait()[0] == youngest.pid
    assert process.wait()[0] == oldest.pid
