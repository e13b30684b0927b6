"""rt_sigaction, rt_sigprocmask and rt_sigpending by number, with the structs of the kernel."""

import errno
import signal
import struct

import pytest

from heaplab.abi import (
    SA_NOCLDSTOP,
    SA_NOCLDWAIT,
    SA_NODEFER,
    SA_RESETHAND,
    SA_RESTORER,
    SA_SIGINFO,
    SIG_BLOCK,
    SIG_DFL,
    SIG_IGN,
    SIG_SETMASK,
    SIG_UNBLOCK,
    Sys,
    sigset,
)
from heaplab.errors import SegmentationFault, UsageError
from heaplab.kernel.elf import make_elf
from heaplab.kernel.scheduler import run

USR1, USR2, KILL, STOP, CHLD = (
    int(signum) for signum in (signal.SIGUSR1, signal.SIGUSR2, signal.SIGKILL, signal.SIGSTOP, signal.SIGCHLD)
)


class Actions:
    """A process that sets and reads its actions through memory."""

    def __init__(self, process):
        self.process = process
        self.page = process.mmap(process.page_size)

    def set(self, signum, handler, flags=0, restorer=0, mask=0):
        self.process.write(self.page, struct.pack("<4Q", handler, flags, restorer, mask))
        return self.process.syscall(Sys.RT_SIGACTION, signum, self.page, self.page + 32, 8)

    def old(self):
        return struct.unpack("<4Q", self.process.read(self.page + 32, 32))

    def get(self, signum):
        assert self.process.syscall(Sys.RT_SIGACTION, signum, 0, self.page + 32, 8) == 0
        return self.old()


@pytest.fixture
def actions(process):
    return Actions(process)


def test_what_was_set_is_read_back(actions):
    assert actions.get(USR1) == (SIG_DFL, 0, 0, 0)
    flags = SA_SIGINFO | SA_RESTORER | SA_NODEFER
    assert actions.set(USR1, 0x401000, flags, 0x402000, sigset([3, 64])) == 0
    assert actions.old() == (SIG_DFL, 0, 0, 0)
    assert actions.set(USR1, SIG_IGN) == 0
    assert actions.old() == (0x401000, flags, 0x402000, sigset([3, 64]))
    assert actions.process.sigaction(USR1, None) == SIG_IGN


def test_a_mask_has_neither_kill_nor_stop_and_unknown_flags_are_forgotten(actions):
    assert actions.set(USR1, 0x401000, (1 << 64) - 1, 0, (1 << 64) - 1) == 0
    # 0x400 is SA_UNSUPPORTED: programs learn from its absence that the kernel forgets what it does not know
    known = SA_NOCLDSTOP | SA_NOCLDWAIT | SA_SIGINFO | 0x800 | 0x0C000000 | 0xD0000000
    assert actions.get(USR1) == (0x401000, known, 0, sigset(set(range(1, 65)) - {KILL, STOP}))


@pytest.mark.parametrize("signum", [0, 65, -1, KILL, STOP])
def test_signals_that_cannot_be_set(actions, signum):
    assert actions.set(signum, SIG_IGN) == -errno.EINVAL


def test_all_there_are_can_be_asked(actions):
    assert actions.get(KILL) == actions.get(STOP) == actions.get(64) == (SIG_DFL, 0, 0, 0)
    assert actions.process.syscall(Sys.RT_SIGACTION, 65, 0, 0, 8) == -errno.EINVAL
    assert actions.process.syscall(Sys.RT_SIGACTION, USR1, 0, 0, 8) == 0


def test_sizes_and_addresses_that_are_wrong(actions):
    process, page = actions.process, actions.page
    for size in (0, 4, 16, 128):
        assert process.syscall(Sys.RT_SIGACTION, USR1, 0, page, size) == -errno.EINVAL
        assert process.syscall(Sys.RT_SIGPROCMASK, SIG_BLOCK, 0, page, size) == -errno.EINVAL
    # the size is looked at first, the action read next; the old one is written when all is done
    assert process.syscall(Sys.RT_SIGACTION, USR1, 8, page, 4) == -errno.EINVAL
    assert process.syscall(Sys.RT_SIGACTION, 0, 8, page, 8) == -errno.EFAULT
    process.write(page, struct.pack("<4Q", SIG_IGN, 0, 0, 0))
    assert process.syscall(Sys.RT_SIGACTION, USR1, page, 8, 8) == -errno.EFAULT
    assert actions.get(USR1)[0] == SIG_IGN


def test_a_function_has_an_address_by_which_it_can_be_set_again(actions):
    heard = []
    process = actions.process
    process.sigaction(USR1, lambda signum, _: heard.append(signum), SA_NODEFER)
    function, flags, *_ = actions.get(USR1)
    assert function not in (SIG_DFL, SIG_IGN)
    assert flags == SA_NODEFER
    assert actions.set(USR1, SIG_IGN) == 0
    process.kill(process.pid, USR1)
    assert actions.set(USR1, function) == actions.set(USR2, function) == 0
    assert actions.get(USR1)[0] == actions.get(USR2)[0] == function
    process.kill(process.pid, USR1)
    child = process.fork()
    process.kill(child.pid, USR2)
    assert heard == [USR1, USR2]
    process.sigaction(USR2, heard.append)
    assert actions.get(USR2)[0] != function


def test_a_handler_for_once_leaves_its_flags(actions):
    actions.process.sigaction(USR1, lambda *_: None, SA_RESETHAND | SA_NODEFER, [USR2])
    actions.process.kill(actions.process.pid, USR1)
    assert actions.get(USR1) == (SIG_DFL, SA_RESETHAND | SA_NODEFER, 0, sigset([USR2]))


def test_exec_keeps_of_an_action_only_that_it_is_ignored(kernel, actions):
    kernel.write_file("/p", make_elf(page_size=256))
    assert actions.set(CHLD, SIG_IGN, SA_NOCLDSTOP, 0, sigset([USR1])) == 0
    assert actions.set(USR1, 0x401000, SA_NODEFER) == 0
    actions.process.execve("/p", ["p"])
    after = Actions(actions.process)
    assert after.get(CHLD) == (SIG_IGN, 0, 0, 0)
    assert after.get(USR1) == (SIG_DFL, 0, 0, 0)


def test_machine_code_is_not_run_and_the_signal_stays(kernel, actions):
    process = actions.process
    sender = kernel.init.fork()
    assert actions.set(USR1, 0x401000) == 0
    with pytest.raises(UsageError, match=f"process {process.pid} catches signal 10 .* at 0x401000"):
        sender.kill(process.pid, USR1)
    assert process.state == "R"
    assert sender.getpid() == sender.pid
    assert actions.set(USR1, SIG_IGN) == 0
    assert process.state == "R"
    kernel.check()


def test_machine_code_of_a_fault_is_not_run(kernel, actions):
    actions.set(signal.SIGSEGV, 0x401000)
    with pytest.raises(UsageError, match="process 2 catches signal 11 with machine code"):
        actions.process.load64(0)
    actions.process.sigprocmask({signal.SIGSEGV})
    with pytest.raises(SegmentationFault):
        actions.process.load64(0)


def test_machine_code_is_not_run_in_scheduled_programs():
    def main(sys):
        yield sys.sigaction(USR1, 0x401000)
        yield sys.kill((yield sys.getpid()), USR1)
        yield sys.exit(0)

    with pytest.raises(UsageError, match="machine code at 0x401000"):
        run(main)


def test_masks(process):
    page = process.mmap(process.page_size)

    def change(how, signums):
        process.store64(page, sigset(signums))
        result = process.syscall(Sys.RT_SIGPROCMASK, how, page, page + 8, 8)
        return result, process.load64(page + 8)

    assert change(SIG_BLOCK, [USR1, KILL, STOP]) == (0, 0)
    assert change(SIG_BLOCK, [USR2]) == (0, sigset([USR1]))
    assert change(SIG_UNBLOCK, [USR1, 5]) == (0, sigset([USR1, USR2]))
    assert change(SIG_SETMASK, [64]) == (0, sigset([USR2]))
    assert process.sigprocmask() == {64}
    assert change(3, [1])[0] == -errno.EINVAL
    assert process.syscall(Sys.RT_SIGPROCMASK, 99, 0, page, 8) == 0  # who only asks, need not say how
    assert process.load64(page) == sigset([64])
    assert process.syscall(Sys.RT_SIGPROCMASK, SIG_BLOCK, 8, page, 8) == -errno.EFAULT
    process.store64(page, sigset([1]))
    assert process.syscall(Sys.RT_SIGPROCMASK, SIG_SETMASK, page, 8, 8) == -errno.EFAULT
    assert process.sigprocmask() == {1}


def test_what_was_blocked_comes_when_it_is_let_through(process):
    child = process.fork()
    page = child.mmap(child.page_size)
    child.store64(page, sigset([USR1]))
    child.syscall(Sys.RT_SIGPROCMASK, SIG_BLOCK, page, 0, 8)
    process.kill(child.pid, USR1)
    assert child.state == "R"
    child.syscall(Sys.RT_SIGPROCMASK, SIG_UNBLOCK, page, 0, 8)
    assert process.wait() == (child.pid, USR1)


def test_pending_are_those_sent_and_blocked(process):
    page = process.mmap(process.page_size)
    process.sigprocmask({USR1, USR2, 40})
    process.kill(process.pid, USR1)
    process.tgkill(process.pid, process.tid, 40)
    assert process.sigpending() == {USR1, 40}
    assert process.fork().sigpending() == set()
    process.fill(page, 0xFF, 16)
    assert process.syscall(Sys.RT_SIGPENDING, page, 4) == 0  # fewer bytes than there are may be asked for
    assert process.load64(page) == 0xFFFFFFFF << 32 | sigset([USR1])
    assert process.syscall(Sys.RT_SIGPENDING, page, 8) == 0
    assert process.load64(page) == sigset([USR1, 40])
    assert process.syscall(Sys.RT_SIGPENDING, page, 9) == -errno.EINVAL
    assert process.syscall(Sys.RT_SIGPENDING, 8, 8) == -errno.EFAULT
