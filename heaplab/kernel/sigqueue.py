"""Sending signals: what is ignored, what is noted, what a stop and a continue do to each other.

A signal sent is only noted; `deliver` in signals acts upon it when a task next returns from the kernel, as
Linux does.  That way exit, which tells the parent, needs nothing of what signals can do.

Source: Linux, kernel/signal.c (prepare_signal, __send_signal_locked); signal(7).
"""

from signal import SIGCHLD, SIGCONT, SIGSTOP, SIGTSTP, SIGTTIN, SIGTTOU, SIGURG, SIGWINCH
from typing import Final

from heaplab.abi import CLD_CONTINUED, SA_NOCLDSTOP, SIG_DFL, SIG_IGN, SigInfo
from heaplab.kernel.task import Group, Task

IGNORED: Final = frozenset({SIGCHLD, SIGCONT, SIGURG, SIGWINCH})
STOPPING: Final = frozenset({SIGSTOP, SIGTSTP, SIGTTIN, SIGTTOU})
_CONTINUING: Final = frozenset({SIGCONT})


def send(group: Group, info: SigInfo, task: Task | None = None, named: Task | None = None) -> None:
    """Note a signal for a process, or for one task of it; the dead take none.

    named: the task by whose number the process was named: it is the one to be woken, if it lives.
    """
    signum = info.signo
    if not group.living:
        return
    everywhere = [group.pending, *(member.pending for member in group.living.values())]
    if signum in STOPPING:
        for pending in everywhere:
            pending.discard(_CONTINUING)
    elif signum == SIGCONT:
        for pending in everywhere:
            pending.discard(STOPPING)
        resume(group)
    if named is None or group.living.get(named.pid) is not named:
        named = next(iter(group.living.values()))
    if task is None and named.vfork_child is not None:
        task = named  # it sleeps for a child's sake, is not woken, and no other task looks in its stead
    receiver = task or named
    if signum not in receiver.blocked and ignores(group, signum):
        return
    (task.pending if task is not None else group.pending).add(info)
    receiver.system.signalled[group] = None


def ignores(group: Group, signum: int) -> bool:
    """Whether the signal would have no effect.  pid 1 is reached only by what it has handlers for."""
    handler = group.sighand[signum].handler
    if handler != SIG_DFL:
        return handler == SIG_IGN
    return signum in IGNORED or group is group.leader.system.init.group


def resume(group: Group) -> None:
    """Let a stopped process go on."""
    if group.stop_signal:
        group.stop_signal = 0
        job_changed(group, CLD_CONTINUED, SIGCONT)
        for task in group.living.values():
            task.take_or_leave_cpu()
        signalled = group.leader.system.signalled
        signalled.pop(group, None)
        signalled[group] = None  # what came while it was stopped, after those that were awake


def job_changed(group: Group, code: int, signum: int) -> None:
    """Let the parent know that the process stopped or goes on, by a wait and by SIGCHLD."""
    group.job_event = code
    group.announce()
    parent = group.parent
    if parent is not None and not parent.sighand[SIGCHLD].flags & SA_NOCLDSTOP:
        send(parent, SigInfo(SIGCHLD, code, group.tgid, signum))
