"""kill: who is reached, and what the default actions do."""

import errno
import signal

import pytest

from heaplab.abi import (
    CLD_CONTINUED,
    CLD_STOPPED,
    PROT_READ,
    PROT_WRITE,
    SA_RESETHAND,
    SEGV_ACCERR,
    SI_TKILL,
    SI_USER,
    WNOHANG,
    WUNTRACED,
    SigInfo,
)
from heaplab.errors import SegmentationFault, UsageError, WouldBlock


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
    ("pid", "sig", "code"),
    [(4711, 9, errno.ESRCH), (4711, 65, errno.ESRCH), (2, 65, errno.EINVAL), (2, -1, errno.EINVAL)],
)
def test_errors(process, pid, sig, code):
    with pytest.raises(OSError) as caught:
        process.kill(pid, sig)
    assert caught.value.errno == code


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


def test_a_stopped_process_does_nothing(process):
    page = process.mmap(process.page_size)
    process.store64(page, 1)
    child = process.fork()
    process.kill(child.pid, signal.SIGSTOP)
    for act in (child.getpid, child.fork, lambda: child.load64(page)):
        with pytest.raises(WouldBlock, match=f"process {child.pid} is stopped: send it SIGCONT"):
            act()
    process.kill(child.pid, signal.SIGCONT)
    assert child.load64(page) == 1


def test_signals_wait_while_it_is_stopped(process):
    # measured, Linux 6.18: SIGTERM to a stopped process ends it at SIGCONT
    child = process.fork()
    process.kill(child.pid, signal.SIGSTOP)
    process.kill(child.pid, signal.SIGTERM)
    assert child.state == "T"
    process.kill(child.pid, signal.SIGCONT)
    assert process.wait() == (child.pid, signal.SIGTERM)


def test_sigkill_does_not(process):
    child = process.fork()
    process.kill(child.pid, signal.SIGSTOP)
    process.kill(child.pid, signal.SIGKILL)
    assert process.wait() == (child.pid, signal.SIGKILL)


def test_all_threads_stop(process):
    child = process.fork()
    thread = child.spawn_thread(child.page_size)
    process.tgkill(child.pid, thread.tid, signal.SIGSTOP)
    assert (child.state, thread.state) == ("T", "T")
    process.kill(thread.tid, signal.SIGCONT)  # kill finds the process by any of its threads
    assert (child.state, thread.state) == ("R", "R")


def test_continue_and_stop_undo_each_other(process):
    child = process.fork()
    child.sigprocmask({signal.SIGTSTP, signal.SIGCONT})
    process.kill(child.pid, signal.SIGTSTP)
    process.kill(child.pid, signal.SIGCONT)
    child.sigprocmask({signal.SIGCONT})
    assert child.state == "R"


def test_handlers(process):
    heard = []
    child = process.fork()
    assert child.sigaction(signal.SIGUSR1, lambda *call: heard.append(call)) == signal.SIG_DFL
    process.kill(child.pid, signal.SIGUSR1)
    assert heard == [(signal.SIGUSR1, SigInfo(signal.SIGUSR1, SI_USER, process.pid))]
    thread = child.spawn_thread(child.page_size)
    process.tgkill(child.pid, thread.tid, signal.SIGUSR1)
    assert heard[-1][1].code == SI_TKILL
    assert child.state == "R"


def test_a_forked_child_has_its_parents_handlers_and_none_of_its_signals(process):
    heard = []
    process.sigaction(signal.SIGUSR1, lambda *_: heard.append(1))
    process.sigprocmask({signal.SIGUSR1})
    process.kill(process.pid, signal.SIGUSR1)
    child = process.fork()
    assert child.sigprocmask(()) == {signal.SIGUSR1}
    assert heard == []
    process.kill(child.pid, signal.SIGUSR1)
    assert heard == [1]
    process.sigprocmask(())
    assert heard == [1, 1]


def test_blocked_signals_wait_and_standard_ones_are_counted_once(process):
    heard = []
    for sig in (signal.SIGUSR1, 40):
        process.sigaction(sig, lambda number, _: heard.append(number))
    process.sigprocmask({40, signal.SIGUSR1, signal.SIGKILL})
    for sig in (40, signal.SIGUSR1) * 2:
        process.kill(process.pid, sig)
    assert heard == []
    assert process.sigprocmask(()) == {40, signal.SIGUSR1}
    # the handler of 40 is set up above that of SIGUSR1, and once more when 40 is blocked no longer
    assert heard == [40, 40, signal.SIGUSR1]


def test_to_ignore_forgets_what_waits(process):
    process.sigprocmask({signal.SIGTERM})
    process.kill(process.pid, signal.SIGTERM)
    process.sigaction(signal.SIGTERM, signal.SIG_IGN)
    process.sigaction(signal.SIGTERM, signal.SIG_DFL)
    process.sigprocmask(())
    assert process.state == "R"


def test_a_handler_is_not_interrupted_by_its_own_signal(process):
    depth = []

    def handler(signum, _):
        depth.append(len(depth))
        if len(depth) == 1:
            process.kill(process.pid, signum)
            assert depth == [0]

    process.sigaction(signal.SIGUSR1, handler)
    process.kill(process.pid, signal.SIGUSR1)
    assert depth == [0, 1]


def test_a_handler_for_once(process):
    child = process.fork()
    child.sigaction(signal.SIGUSR1, lambda *_: None, SA_RESETHAND)
    process.kill(child.pid, signal.SIGUSR1)
    assert child.state == "R"
    process.kill(child.pid, signal.SIGUSR1)
    assert child.state == "Z"


def test_a_handler_that_mends_what_faulted(process):
    page = process.mmap(process.page_size, prot=PROT_READ)
    heard = []

    def mend(_, info):
        heard.append((info.code, info.address))
        process.mprotect(page, process.page_size, PROT_READ | PROT_WRITE)

    process.sigaction(signal.SIGSEGV, mend)
    process.store64(page + 8, 7)
    assert process.load64(page + 8) == 7
    assert heard == [(SEGV_ACCERR, page + 8)]


@pytest.mark.parametrize("how", ["ignored", "blocked"])
def test_a_fault_cannot_be_ignored(process, how):
    child = process.fork()
    if how == "ignored":
        child.sigaction(signal.SIGSEGV, signal.SIG_IGN)
    else:
        child.sigaction(signal.SIGSEGV, lambda *_: None)
        child.sigprocmask({signal.SIGSEGV})
    with pytest.raises(SegmentationFault):
        child.load64(0)
    assert process.wait() == (child.pid, signal.SIGSEGV)


@pytest.mark.parametrize("sig", [signal.SIGKILL, signal.SIGSTOP, 0, 65])
def test_what_nobody_may_catch(process, sig):
    with pytest.raises(OSError) as caught:
        process.sigaction(sig, signal.SIG_IGN)
    assert caught.value.errno == errno.EINVAL


@pytest.mark.parametrize(
    ("tgid", "tid", "sig", "code"),
    [(0, 2, 9, errno.EINVAL), (2, 0, 9, errno.EINVAL), (2, 2, 65, errno.EINVAL), (1, 2, 9, errno.ESRCH)],
)
def test_errors_of_tgkill(process, tgid, tid, sig, code):
    with pytest.raises(OSError) as caught:
        process.tgkill(tgid, tid, sig)
    assert caught.value.errno == code


def test_pause_by_hand(process):
    with pytest.raises(WouldBlock, match="run the program under a scheduler"):
        process.pause()


def test_a_signal_for_a_task_asleep_in_vfork_waits_for_it_though_others_are_awake(process):
    """Linux wakes the task that was named, and no other looks in its stead; what kills does not wait."""
    thread = process.spawn_thread()
    child = thread.vfork()
    process.kill(thread.tid, signal.SIGSTOP)
    assert (process.state, thread.state) == ("R", "D")
    process.getpid()
    assert process.state == "R"
    child.exit(0)
    assert (process.state, thread.state) == ("T", "T")


def test_a_signal_for_a_task_awake_is_taken_though_another_sleeps_in_vfork(process):
    parent = process.fork()
    thread = parent.spawn_thread()
    thread.vfork()
    process.kill(parent.pid, signal.SIGSTOP)
    assert parent.state == "T"
    process.kill(thread.tid, signal.SIGTERM)
    process.kill(parent.pid, signal.SIGKILL)
    assert parent.state == "Z"


def test_of_several_that_were_blocked_the_lowest_number_is_acted_upon_first(process):
    child = process.fork()
    child.sigprocmask({signal.SIGTERM, signal.SIGUSR1})
    process.kill(child.pid, signal.SIGTERM)
    process.kill(child.pid, signal.SIGUSR1)
    child.sigprocmask(set())
    assert process.wait() == (child.pid, signal.SIGUSR1)


def test_a_fatal_signal_waits_behind_one_that_a_task_asleep_in_vfork_has_not_heard(process):
    """Whom a signal was sent to already is not asked again (Linux: wants_signal); SIGKILL asks nobody."""
    parent = process.fork()
    child = parent.vfork()
    process.kill(parent.pid, signal.SIGSTOP)
    process.kill(parent.pid, signal.SIGTERM)
    assert parent.state == "D"
    child.exit(0)
    assert parent.state == "Z"
    parent = process.fork()
    parent.vfork()
    process.kill(parent.pid, signal.SIGSTOP)
    process.kill(parent.pid, signal.SIGKILL)
    assert parent.state == "Z"


def test_handlers_are_set_up_one_above_the_other(process):
    """Checked with a C program on Linux: the topmost, which was set up last, runs first."""
    heard = []

    def note(number, _info):
        heard.append((number, process.sigpending() | process.sigprocmask()))

    usr1, usr2, term = signal.SIGUSR1, signal.SIGUSR2, signal.SIGTERM
    process.sigaction(usr1, note)
    process.sigaction(usr2, note, mask={term})
    process.sigaction(term, note)
    process.sigprocmask({usr1, usr2, term})
    for sig in (term, usr2, usr1):
        process.kill(process.pid, sig)
    process.sigprocmask(())
    assert heard == [(usr2, {usr1, usr2, term}), (term, {usr1, term}), (usr1, {usr1})]


def test_a_fault_of_the_past_comes_first(process):
    heard = []
    for sig in (signal.SIGHUP, signal.SIGSEGV):
        process.sigaction(sig, lambda number, _: heard.append(number))
    process.sigprocmask({signal.SIGHUP, signal.SIGSEGV})
    process.kill(process.pid, signal.SIGHUP)
    process.kill(process.pid, signal.SIGSEGV)
    process.sigprocmask(())
    assert heard == [signal.SIGHUP, signal.SIGSEGV]  # set up below


def test_a_stop_holds_back_a_handler_that_was_set_up(process):
    child, heard = process.fork(), []
    child.setpgid(0, 0)
    child.sigaction(signal.SIGUSR1, lambda number, _: heard.append(number))
    child.sigprocmask({signal.SIGUSR1, signal.SIGTSTP})
    process.kill(child.pid, signal.SIGUSR1)
    process.kill(child.pid, signal.SIGTSTP)
    child.sigprocmask(())
    assert (child.state, heard) == ("T", [])
    process.kill(child.pid, signal.SIGCONT)
    assert (child.state, heard) == ("R", [signal.SIGUSR1])
    assert child.sigprocmask() == set()


def test_death_forgets_a_handler_that_was_set_up(process):
    child, heard = process.fork(), []
    child.sigaction(signal.SIGUSR1, lambda number, _: heard.append(number))
    child.sigprocmask({signal.SIGUSR1, signal.SIGTERM})
    process.kill(child.pid, signal.SIGUSR1)
    process.kill(child.pid, signal.SIGTERM)
    child.sigprocmask(())
    assert (child.state, heard) == ("Z", [])


def test_a_jump_out_of_a_handler_leaves_those_below_too(process):
    heard = []

    def jump(_number, _info):
        raise KeyError

    process.sigaction(signal.SIGUSR1, lambda number, _: heard.append(number))
    process.sigaction(signal.SIGUSR2, jump)
    process.sigprocmask({signal.SIGUSR1, signal.SIGUSR2})
    for sig in (signal.SIGUSR1, signal.SIGUSR2):
        process.kill(process.pid, sig)
    with pytest.raises(KeyError):
        process.sigprocmask(())
    assert process.sigprocmask() == set()
    process.kill(process.pid, signal.SIGUSR1)
    assert heard == [signal.SIGUSR1]


def test_a_handler_knows_who_runs_it(kernel, process):
    heard = []
    process.sigaction(signal.SIGUSR1, lambda *_: heard.append(kernel.current.pid))
    child = process.fork()
    process.kill(child.pid, signal.SIGUSR1)
    child.kill(process.pid, signal.SIGUSR1)
    assert heard == [child.pid, process.pid]


def test_who_of_several_threads_takes_a_signal(kernel, process):
    """The one that was named, if it may; else the search goes on from who took one last (curr_target)."""
    heard = []
    threads = [process.spawn_thread() for _ in range(2)]
    process.sigaction(signal.SIGUSR1, lambda *_: heard.append(kernel.current.tid))
    process.kill(process.pid, signal.SIGUSR1)
    process.sigprocmask({signal.SIGUSR1})
    threads[0].sigprocmask({signal.SIGUSR1})
    process.kill(process.pid, signal.SIGUSR1)
    threads[0].sigprocmask(())
    process.kill(process.pid, signal.SIGUSR1)
    assert heard == [process.tid, threads[1].tid, threads[1].tid]
    threads[1].exit_thread(0)
    process.kill(process.pid, signal.SIGUSR1)
    assert heard[3:] == [threads[0].tid]


def test_a_signal_that_all_threads_block_waits_for_the_first_to_let_it_through(kernel, process):
    heard = []
    thread = process.spawn_thread()
    process.sigaction(signal.SIGUSR1, lambda *_: heard.append(kernel.current.tid))
    for task in (process, thread):
        task.sigprocmask({signal.SIGUSR1})
    process.kill(process.pid, signal.SIGUSR1)
    assert heard == []
    assert process.sigpending() == thread.sigpending() == {signal.SIGUSR1}
    thread.sigprocmask(())
    assert heard == [thread.tid]


def test_the_thread_that_forked_hears_of_its_child_first(kernel, process):
    heard = []
    thread = process.spawn_thread()
    process.sigaction(signal.SIGCHLD, lambda *_: heard.append(kernel.current.tid))
    for task in (thread, process):
        task.fork().exit(0)
    assert heard == [thread.tid, process.tid]


def test_who_ignores_sigchld_gets_none_for_a_stop_though_it_is_blocked(process):
    child = process.fork()
    process.sigprocmask({signal.SIGCHLD})
    process.sigaction(signal.SIGCHLD, signal.SIG_IGN)
    process.kill(child.pid, signal.SIGSTOP)
    assert process.sigpending() == set()
    process.sigaction(signal.SIGCHLD, signal.SIG_DFL)
    process.kill(child.pid, signal.SIGCONT)
    assert process.sigpending() == {signal.SIGCHLD}


def test_who_dies_as_soon_as_it_goes_on_is_heard_of_once(process):
    """It tells of both before its parent runs, and a signal that waits already is not counted.

    So it mostly is on Linux; at times the parent runs in between, and hears of both.
    """
    heard = []
    process.sigaction(signal.SIGCHLD, lambda _, info: heard.append(info.code))
    child = process.fork()
    process.kill(child.pid, signal.SIGSTOP)
    process.kill(child.pid, signal.SIGTERM)
    process.kill(child.pid, signal.SIGCONT)
    assert heard == [CLD_STOPPED, CLD_CONTINUED]
    assert child.state == "Z"


def test_pid_1_hears_signals_after_one_that_a_thread_of_it_blocked(kernel):
    """A fatal one, which it has no handler for, is not its end, and nothing is left of it."""
    thread = kernel.init.spawn_thread()
    thread.sigprocmask({signal.SIGHUP})
    thread.kill(thread.tid, signal.SIGHUP)
    heard = []
    kernel.init.sigaction(signal.SIGUSR1, lambda number, _: heard.append(number))
    thread.kill(1, signal.SIGUSR1)
    assert heard == [signal.SIGUSR1]
    assert (kernel.init.state, kernel.init.sigpending()) == ("R", set())
    thread.exit_thread(0)


@pytest.mark.parametrize("wrong", [0, -1, 65])
def test_a_mask_has_signals_that_there_are(process, wrong):
    for call in (lambda: process.sigprocmask({wrong}), lambda: process.sigaction(10, str, mask={wrong})):
        with pytest.raises(OSError) as caught:
            call()
        assert caught.value.errno == errno.EINVAL
    assert "SigBlk:\t0000000000000000" in process.status()


def test_what_is_no_handler(process):
    with pytest.raises(UsageError, match="'x' is no handler: give a function"):
        process.sigaction(signal.SIGUSR1, "x")


def test_what_waits_for_pid_1_stays_when_it_asks_for_the_default(kernel):
    """It would have no effect on it, but it is not ignored (Linux: sig_handler_ignored)."""
    init = kernel.init
    init.sigprocmask({signal.SIGTERM, signal.SIGCHLD})
    init.kill(1, signal.SIGTERM)
    init.kill(1, signal.SIGCHLD)
    for sig in (signal.SIGTERM, signal.SIGCHLD):
        init.sigaction(sig, signal.SIG_DFL)
    assert init.sigpending() == {signal.SIGTERM}


def test_a_stop_is_complete_when_the_last_task_has_stopped(process):
    """One asleep in vfork stops when it wakes; until then wait has nothing to tell."""
    parent = process.fork()
    thread = parent.spawn_thread()
    child = thread.vfork()
    process.kill(parent.pid, signal.SIGSTOP)
    assert (parent.state, thread.state) == ("T", "D")
    assert process.waitpid(parent.pid, WNOHANG | WUNTRACED) == (0, 0)
    child.exit(0)
    assert (parent.state, thread.state) == ("T", "T")
    assert process.waitpid(parent.pid, WNOHANG | WUNTRACED) == (parent.pid, 0x137F)
