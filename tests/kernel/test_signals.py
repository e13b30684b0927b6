"""kill: who is reached, and what the default actions do."""

import errno
import signal

import pytest


@pytest.mark.parametrize("sig", [signal.SIGTERM, signal.SIGKILL, signal.SIGINT, signal.SIGUSR1, 34])
def test_most_signals_end_a_process(process, sig):
    child = process.fork()
    process.kill(child.pid, sig)
    assert child.state == "Z"
    assert process.wait() == (child.pid, sig)


@pytest.mark.parametrize("sig", [0, signal.SIGCHLD, signal.SIGCONT, signal.SIGWINCH, signal.SIGURG])
def test_some_do_not(process, sig):
    child = process.fork()
    process.kill(child.pid, sig)
    assert child.state == "R"


@pytest.mark.parametrize(
    ("pid", "sig", "code"), [(4711, 9, errno.ESRCH), (2, 65, errno.EINVAL), (2, -1, errno.EINVAL)]
)
def test_errors(process, pid, sig, code):
    with pytest.raises(OSError) as caught:
        process.kill(pid, sig)
    assert caught.value.errno == code


def test_stopping_is_refused_until_it_is_modelled(process):
    with pytest.raises(OSError) as caught:
        process.kill(process.pid, signal.SIGSTOP)
    assert caught.value.errno == errno.EINVAL


def test_pid_1_takes_no_harm(kernel, process):
    process.kill(1, signal.SIGKILL)
    assert kernel.init.state == "R"


def test_a_zombie_is_reached_and_cannot_die_again(process):
    child = process.fork()
    child.exit(5)
    process.kill(child.pid, signal.SIGKILL)
    assert process.wait() == (child.pid, 5 << 8)


def test_a_process_can_end_itself(process):
    child = process.fork()
    child.kill(child.pid, signal.SIGTERM)
    assert process.wait() == (child.pid, signal.SIGTERM)


def test_all_but_init_and_the_sender(kernel, process):
    others = [kernel.init.fork(), process.fork()]
    process.kill(-1, signal.SIGKILL)
    assert [other.state for other in others] == ["X", "Z"]
    assert (process.state, kernel.init.state) == ("R", "R")


def test_a_group(kernel, process):
    child = process.fork()
    process.kill(0, signal.SIGTERM)
    assert {process.state, child.state} <= {"X", "Z"}
    assert kernel.init.state == "R"
