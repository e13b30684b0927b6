"""Sending signals: what is ignored, what is noted, who is to look, what stop and continue do to each other.

A signal sent is only noted; `deliver` in signals acts upon it when the task that was chosen for it next
returns from the kernel, as Linux does.  That way exit, which tells the parent, needs nothing of what signals
can do.

Source: Linux, kernel/signal.c (prepare_signal, __send_signal_locked, complete_signal); signal(7).
"""

from signal import (
    SIGABRT,
    SIGBUS,
    SIGCHLD,
    SIGCONT,
    SIGFPE,
    SIGILL,
    SIGKILL,
    SIGQUIT,
    SIGSEGV,
    SIGSTOP,
    SIGSYS,
    SIGTRAP,
    SIGTSTP,
    SIGTTIN,
    SIGTTOU,
    SIGURG,
    SIGWINCH,
    SIGXCPU,
    SIGXFSZ,
)
from typing import Final

from heaplab.abi import CLD_CONTINUED, CLD_STOPPED, SA_NOCLDSTOP, SIG_DFL, SIG_IGN, SigInfo
from heaplab.kernel.task import Group, Task

IGNORED: Final = frozenset({SIGCHLD, SIGCONT, SIGURG, SIGWINCH})
STOPPING: Final = frozenset({SIGSTOP, SIGTSTP, SIGTTIN, SIGTTOU})
_CONTINUING: Final = frozenset({SIGCONT})
#: before these end a process they would dump its memory, for which it has to be awake
CORE: Final = frozenset(
    {SIGQUIT, SIGILL, SIGTRAP, SIGABRT, SIGBUS, SIGFPE, SIGSEGV, SIGXCPU, SIGXFSZ, SIGSYS}
)


def send(group: Group, info: SigInfo, task: Task | None = None, named: Task | None = None) -> None:
    """Note a signal for a process, or for one task of it; the dead take none.

    named: the task by whose number the process was named, or whose child has news: it is asked first.
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
    receiver = task or named
    if signum not in receiver.blocked and ignores(group, signum):
        return
    pending = task.pending if task is not None else group.pending
    if pending.add(info):
        _choose(group, signum, [task] if task is not None else [named, *group.ring(group.target)])


def _choose(group: Group, signum: int, candidates: list[Task]) -> None:
    """Let the first task that wants a signal look for it; when that is the end of the process, mark it.

    Where nobody does, the signal waits until somebody looks for another reason.
    """
    chosen = next((task for task in candidates if _wants(task, signum)), None)
    if chosen is None:
        return
    if len(candidates) > 1 and chosen is not candidates[0]:
        group.target = chosen
    ends = signum not in STOPPING | CORE and group.sighand[signum].handler == SIG_DFL
    if ends and not ignores(group, signum) and not group.doomed:
        group.doomed = signum
    look_for_signals(chosen)


def _wants(task: Task, signum: int) -> bool:
    """Whether a task would take a signal; one that has something to look for already is left to that."""
    if signum in task.blocked:
        return False
    return signum == SIGKILL or not (task.group.stop_signal or task.sigpending)


def look_for_signals(task: Task) -> None:
    """Let a task look for signals before it goes on; one asleep in vfork when it wakes."""
    task.sigpending = True
    task.system.signalled[task] = None


def ignores(group: Group, signum: int) -> bool:
    """Whether the signal would have no effect.  pid 1 is reached only by what it has handlers for."""
    is_init = group is group.leader.system.init.group
    return is_ignored(group, signum) or (is_init and group.sighand[signum].handler == SIG_DFL)


def is_ignored(group: Group, signum: int) -> bool:
    """Whether the process ignores the signal, whoever it is."""
    handler = group.sighand[signum].handler
    return handler == SIG_IGN or (handler == SIG_DFL and signum in IGNORED)


def resume(group: Group) -> None:
    """Let a stopped process go on."""
    if group.stop_signal:
        # of a stop that never was complete the parent hears only now
        group.untold = (CLD_STOPPED, 0) if group.stopping else (CLD_CONTINUED, int(SIGCONT))
        group.stop_signal, group.stopping = 0, False
        _note_change(group, CLD_CONTINUED)
        for task in group.living.values():
            task.take_or_leave_cpu()
            task.system.signalled.pop(task, None)
            look_for_signals(task)  # for what came while it was stopped, after those that were awake


def stop(group: Group, signum: int) -> None:
    """Let a process stop; its parent hears of it when the last of its tasks has, asleep in vfork or not."""
    group.stop_signal, group.stopping = signum, True
    for task in group.living.values():
        task.take_or_leave_cpu()
        if task.vfork_child is not None:
            task.sigpending = True  # it stops when it wakes, and until then takes no other signal
    complete_stop(group)


def complete_stop(group: Group) -> None:
    """Let the parent hear of a stop, once no task is left that has yet to stop."""
    if group.stopping and all(task.vfork_child is None for task in group.living.values()):
        group.stopping = False
        _note_change(group, CLD_STOPPED)
        _tell_parent(group, CLD_STOPPED, group.stop_signal)


def tell_of_resume(group: Group) -> None:
    """Tell the parent by SIGCHLD that the process goes on: it does so itself, once it runs."""
    if group.untold is not None:
        (code, status), group.untold = group.untold, None
        _tell_parent(group, code, status)


def _note_change(group: Group, code: int) -> None:
    """Let the parent's wait hear that the process stopped or goes on."""
    group.job_event = code
    group.announce()


def _tell_parent(group: Group, code: int, signum: int) -> None:
    parent = group.parent
    if parent is None:
        return
    action = parent.sighand[SIGCHLD]
    if action.handler != SIG_IGN and not action.flags & SA_NOCLDSTOP:
        send(parent, SigInfo(SIGCHLD, code, group.tgid, signum), named=group.parent_task)
