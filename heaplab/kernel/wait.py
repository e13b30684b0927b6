"""wait: how a parent hears of its children's ends, stops and continues, and collects the dead.

Of several children with something to tell, the one that was forked first (rule 44).

Source: Linux, kernel/exit.c (do_wait, wait_consider_task, wait_task_zombie, kernel_waitid).
"""

import errno
from collections.abc import Iterable
from signal import SIGCHLD, SIGCONT
from typing import Final, NamedTuple

from heaplab.abi import (
    CLD_CONTINUED,
    CLD_STOPPED,
    P_ALL,
    P_PGID,
    P_PID,
    WALL,
    WCLONE,
    WCONTINUED,
    WEXITED,
    WNOHANG,
    WNOTHREAD,
    WNOWAIT,
    WSTOPPED,
    WUNTRACED,
    Rusage,
    SigInfo,
)
from heaplab.errors import WouldBlock
from heaplab.kernel.exit import release
from heaplab.kernel.system import fail
from heaplab.kernel.task import Group, Task

_ANY_CALL: Final = WNOHANG | WCONTINUED | WNOTHREAD | WALL | WCLONE
_WAIT4: Final = _ANY_CALL | WUNTRACED
_WAITID: Final = _ANY_CALL | WSTOPPED | WEXITED | WNOWAIT

CONTINUED: Final = 0xFFFF
_STOPPED: Final = 0x7F


class Report(NamedTuple):
    """What wait tells: a child, its status (rule 42), the same as siginfo, and what it used."""

    pid: int
    status: int
    info: SigInfo
    rusage: Rusage


NOTHING: Final = Report(0, 0, SigInfo(0), Rusage())


def wait4(task: Task, pid: int, options: int) -> Report:
    """Collect a dead child; with WUNTRACED and WCONTINUED also hear of stops and continues.

    pid: of the child; -1 any; 0 any of the caller's process group; -g any of group g.
    Returns: NOTHING with WNOHANG when none has anything to tell yet.
    Raises: OSError ECHILD when there is no such child, EINVAL (rule 41).  WouldBlock when it would sleep.
    """
    if options & ~_WAIT4:
        fail(errno.EINVAL)
    if pid == -(1 << 31):
        fail(errno.ESRCH)
    options |= WEXITED
    if pid > 0:
        return _wait(task, P_PID, pid, options)
    if pid == -1:
        return _wait(task, P_ALL, 0, options)
    return _wait(task, P_PGID, -pid or task.group.pgid, options)


def waitid(task: Task, idtype: int, number: int, options: int) -> Report:
    """Hear of those changes that the options name; with WNOWAIT they remain to be heard of again.

    idtype: P_ALL, P_PID, P_PGID (number 0: the caller's own group).  Otherwise like wait4.
    """
    if options & ~_WAITID or not options & (WEXITED | WSTOPPED | WCONTINUED):
        fail(errno.EINVAL)
    # not modelled: P_PIDFD
    if (
        idtype not in (P_ALL, P_PID, P_PGID)
        or (number <= 0 and idtype == P_PID)
        or (number < 0 and idtype == P_PGID)
    ):
        fail(errno.EINVAL)
    return _wait(task, idtype, number or task.group.pgid, options)


def _wait(task: Task, idtype: int, number: int, options: int) -> Report:
    report = _look(task, idtype, number, options)
    if report is not None:
        return report
    if options & WNOHANG:
        return NOTHING

    def ready() -> bool:
        try:
            return _look(task, idtype, number, options | WNOWAIT) is not None
        except OSError:
            return True

    raise WouldBlock(
        f"wait of process {task.tgid} would sleep: let a child exit first, or pass WNOHANG to only look",
        ready,
    )


def _look(task: Task, idtype: int, number: int, options: int) -> Report | None:
    """Return what a child has to tell; None when that may yet come.  Raises: OSError ECHILD.

    Cost: O(log children), and those that are passed over: who has something to tell that was not asked for,
    and, when nobody has what was asked for, those before the first who may yet have it.
    """
    caller = task.group
    named = _named(caller, idtype, number)
    for child in named if idtype == P_PID else _news(task):
        if not _eligible(task, child, idtype, number, options):
            continue
        report = None
        if child.living:
            report = _job_report(caller, child, options)
        elif options & WEXITED:
            report = _collect(caller, child, options)
        if report is not None:
            return report  # at once: what was told is news no longer
    # the dead do neither stop nor continue any more
    possible = any(child.living and _eligible(task, child, idtype, number, options) for child in named)
    if not possible:
        fail(errno.ECHILD)
    return None


def _named(caller: Group, idtype: int, number: int) -> Iterable[Group]:
    """Return the children that a wait names; of those of a process group perhaps all."""
    if idtype == P_PID:
        return [caller.children[number].group] if number in caller.children else []
    members = caller.leader.system.process_groups.get(number, {})
    if idtype == P_PGID and len(members) < len(caller.children):
        return (group for group in members if group.parent is caller)
    return (leader.group for leader in caller.children.values())


def _eligible(task: Task, child: Group, idtype: int, number: int, options: int) -> bool:
    if idtype == P_PID and child.tgid != number:
        return False
    if idtype == P_PGID and child.pgid != number:
        return False
    if options & WNOTHREAD and child.parent_task is not task:
        return False
    # children made by clone with another signal than SIGCHLD are waited for on demand only
    return bool(options & WALL) or (child.exit_signal != SIGCHLD) == bool(options & WCLONE)


def _news(task: Task) -> list[Group]:
    """Return the children with something to tell: first the task's own, then those of the tasks after it."""
    caller = task.group
    if len(caller.living) == 1:
        return [child for _, child in caller.news]
    turn = {each: turn for turn, each in enumerate(caller.ring(task))}
    return sorted((child for _, child in caller.news), key=lambda child: turn[child.parent_task])


def _collect(caller: Group, child: Group, options: int) -> Report:
    code, status = child.end
    used = child.used + child.children_used
    report = Report(child.tgid, child.exit_code, SigInfo(SIGCHLD, code, child.tgid, status), used)
    if not options & WNOWAIT:
        caller.children_used += used
        release(child)
    return report


def _job_report(caller: Group, child: Group, options: int) -> Report | None:
    event = child.job_event
    if event == CLD_STOPPED and options & WSTOPPED:
        signum = child.stop_signal
        status = signum << 8 | _STOPPED
    elif event == CLD_CONTINUED and options & WCONTINUED:
        signum = int(SIGCONT)
        status = CONTINUED
    else:
        return None
    if not options & WNOWAIT:
        child.job_event = 0
        caller.forget_news(child)
    return Report(
        child.tgid, status, SigInfo(SIGCHLD, event, child.tgid, signum), child.rusage + child.children_used
    )
