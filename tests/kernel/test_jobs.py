"""Process groups and sessions, and what happens to stopped jobs that nobody can continue."""

import errno
import signal

import pytest

from heaplab.abi import SI_KERNEL, SigInfo


def refused(code, call, *args):
    with pytest.raises(OSError) as caught:
        call(*args)
    assert caught.value.errno == code


def test_groups_are_inherited_and_changed(process):
    child = process.fork()
    assert child.getpgid() == process.getpgid() == 1
    process.setpgid(child.pid, 0)
    assert process.getpgid(child.pid) == child.pid
    grandchild = child.fork()
    assert grandchild.getpgid() == child.pid
    grandchild.setpgid(0, process.getpgid())
    assert grandchild.getpgid() == 1


def test_who_may_be_moved_where(kernel, process):
    child = process.fork()
    grandchild = child.fork()
    refused(errno.ESRCH, process.setpgid, 4711, 0)
    refused(errno.ESRCH, process.setpgid, grandchild.pid, 0)
    refused(errno.EINVAL, process.setpgid, child.pid, -1)
    refused(errno.EPERM, process.setpgid, child.pid, 4711)
    refused(errno.ESRCH, process.getpgid, 4711)
    thread = process.spawn_thread(process.page_size)
    refused(errno.EINVAL, process.setpgid, thread.tid, 0)
    assert child.setsid() == child.getsid() == child.getpgid() == child.pid
    refused(errno.EPERM, process.setpgid, child.pid, 1)
    refused(errno.EPERM, child.setpgid, 0, 0)
    refused(errno.EPERM, child.setsid)


def test_a_zombie_keeps_its_group(process):
    child = process.fork()
    child.setpgid(0, 0)
    child.exit(0)
    process.kill(-child.pid, signal.SIGTERM)
    process.wait()
    refused(errno.ESRCH, process.kill, -child.pid, signal.SIGTERM)


@pytest.fixture
def shell(process):
    """A process that leads a session, and can have jobs."""
    process.setsid()
    return process


def test_a_job_can_be_stopped_from_the_terminal(shell):
    job = shell.fork()
    job.setpgid(0, 0)
    shell.kill(-job.pid, signal.SIGTSTP)
    assert job.state == "T"


def test_in_an_orphaned_group_nobody_could_continue_it(shell):
    child = shell.fork()  # of the shell's own group
    shell.kill(child.pid, signal.SIGTSTP)
    assert child.state == "R"
    shell.kill(child.pid, signal.SIGSTOP)
    assert child.state == "T"


def test_stopped_jobs_are_hung_up_on_when_the_shell_ends(shell):
    job = shell.fork()
    job.setpgid(0, 0)
    other = job.fork()
    shell.kill(other.pid, signal.SIGSTOP)
    shell.exit(0)
    assert (job.state, other.state) == ("X", "X")


def test_it_is_the_kernel_that_hangs_up(shell):
    job = shell.fork()
    job.setpgid(0, 0)
    caught = []
    for signum in (signal.SIGHUP, signal.SIGCONT):
        job.sigaction(signum, lambda _, info: caught.append(info))
    shell.kill(job.pid, signal.SIGSTOP)
    shell.exit(0)
    # the handler that was set up last runs first
    assert caught == [SigInfo(signal.SIGCONT, SI_KERNEL), SigInfo(signal.SIGHUP, SI_KERNEL)]


def test_a_dead_child_may_have_been_the_last_tie_of_a_jobs_group(process):
    """It has another parent when its own ends, and with that nobody's parent is in the session any more."""
    job = process.fork()
    job.setpgid(0, 0)
    stopped, keeper = job.fork(), job.fork()
    process.kill(stopped.pid, signal.SIGSTOP)
    keeper.fork().exit(0)  # a zombie of the job's group
    keeper.setpgid(0, 0)
    process.setpgid(job.pid, job.pid)
    assert stopped.state == "T"
    process.exit(0)
    keeper.exit(0)
    assert stopped.state in "ZX"


def test_running_jobs_are_not(shell):
    job = shell.fork()
    job.setpgid(0, 0)
    shell.exit(0)
    assert job.state == "R"


def test_a_signal_reaches_first_who_entered_the_process_group_last(process):
    """So its members end in that order, and their children change hands in it (Linux: attach_pid)."""
    children = [process.fork() for _ in range(3)]
    parents = [child.fork() for child in children]  # in the order of their birth
    for child in children:
        process.setpgid(child.pid, children[0].pid)
    orphans = [parent.pid for parent in parents]
    process.set_child_subreaper()
    process.kill(-children[0].pid, signal.SIGTERM)
    for pid in orphans:
        process.kill(pid, signal.SIGKILL)
    heard = [process.wait()[0] for _ in range(6)]
    assert heard == [*(child.pid for child in children), *reversed(orphans)]


def test_who_sends_a_signal_to_its_own_group_ends_before_the_others(kernel, process):
    """Where Linux leaves open who is first, the model lets it be who is on the CPU: two runs are equal.

    So the others are orphans when they end, and not the children of one that wants to hear of none.
    """
    parent = process.fork()
    parent.setpgid(0, 0)
    parent.sigaction(signal.SIGCHLD, signal.SIG_IGN)
    child = parent.fork()
    process.set_child_subreaper()
    parent.kill(0, signal.SIGKILL)
    assert {process.wait()[0], process.wait()[0]} == {parent.pid, child.pid}
