"""Signals: who is reached by kill, what a signal does to its receiver, and who waits for one.

Source: Linux, kernel/signal.c (kill_something_info, get_signal, do_sigaction, force_sig_fault); signal(7).
"""

import dataclasses
import errno
from collections.abc import Iterable
from signal import SIGBUS, SIGKILL, SIGSEGV, SIGSTOP, Signals
from typing import Final, NoReturn

from heaplab.abi import (
    LAST_SIGNAL,
    SA_EXPOSE_TAGBITS,
    SA_NOCLDSTOP,
    SA_NOCLDWAIT,
    SA_NODEFER,
    SA_ONSTACK,
    SA_RESETHAND,
    SA_RESTART,
    SA_RESTORER,
    SA_SIGINFO,
    SI_TKILL,
    SI_USER,
    SIG_BLOCK,
    SIG_DFL,
    SIG_IGN,
    SIG_SETMASK,
    SIG_UNBLOCK,
    SigInfo,
)
from heaplab.errors import BusError, ProcessDied, SegmentationFault, UsageError, WouldBlock
from heaplab.kernel.coredump import end_status
from heaplab.kernel.exit import exit_group, is_orphaned
from heaplab.kernel.sigqueue import (
    CORE,
    STOPPING,
    ignores,
    is_ignored,
    look_for_signals,
    send,
    stop,
    tell_of_resume,
)
from heaplab.kernel.system import System, fail
from heaplab.kernel.task import Action, Group, SignalFrame, Task

#: nothing catches, blocks or ignores these
_UNSTOPPABLE: Final = frozenset({int(SIGKILL), int(SIGSTOP)})
#: the flags of an action that Linux knows; it forgets the others, so that a program can find out
_KNOWN_FLAGS: Final = (
    SA_NOCLDSTOP
    | SA_NOCLDWAIT
    | SA_SIGINFO
    | SA_ONSTACK
    | SA_RESTART
    | SA_NODEFER
    | SA_RESETHAND
    | SA_EXPOSE_TAGBITS
    | SA_RESTORER
)


# ---- sending


def kill(sender: Task, pid: int, signum: int) -> None:
    """Send a signal to the process `pid`, to the group of 0 (the sender's) or -pid, or to all (-1).

    signum 0 only looks.  Raises: OSError ESRCH when there is nobody (a zombie is somebody), EINVAL for no
    signal.
    """
    receivers = _receivers(sender.system, sender, pid)
    if not receivers:
        fail(errno.ESRCH)
    if not 0 <= signum <= LAST_SIGNAL:
        fail(errno.EINVAL)
    named = sender.system.tasks.get(pid) if pid > 0 else None
    for group in receivers:
        if signum:
            send(group, SigInfo(signum, SI_USER, sender.tgid), named=named)


def _receivers(system: System, sender: Task, pid: int) -> list[Group]:
    if pid > 0:
        task = system.tasks.get(pid)
        return [task.group] if task is not None else []
    if pid == -1:
        return [group for group in system.groups() if group not in (system.init.group, sender.group)]
    if pid == -(1 << 31):
        return []
    pgid = sender.group.pgid if pid == 0 else -pid
    return system.members(pgid)


def tgkill(sender: Task, tgid: int | None, tid: int, signum: int) -> None:
    """Send a signal to one task; tgid None: of whatever process (tkill).

    Raises: OSError EINVAL, ESRCH.
    """
    if tid <= 0 or (tgid is not None and tgid <= 0):
        fail(errno.EINVAL)
    task = sender.system.tasks.get(tid)
    if task is None or (tgid is not None and task.tgid != tgid):
        fail(errno.ESRCH)
    if not 0 <= signum <= LAST_SIGNAL:
        fail(errno.EINVAL)
    if signum and task.mm is not None:
        send(task.group, SigInfo(signum, SI_TKILL, sender.tgid), task)


# ---- receiving


def deliver(system: System) -> None:
    """Act upon what was sent, as each receiver would on its way back from the kernel: the caller first."""
    signalled = system.signalled
    while signalled:
        running = system.current.group if system.current is not None else None
        group = next((task.group for task in signalled if task.group is running), next(iter(signalled)).group)
        for task in list(group.living.values()):
            if task in signalled:
                del signalled[task]
                _act(task)


def caught(task: Task) -> tuple[SigInfo, Action] | None:
    """Take the next signal that the task has a handler for; act upon the others before it.

    It is the caller that runs the handler.  Raises: UsageError for one of which only the address is known.
    """
    while _lives(task):
        info = _next(task)
        if info is None:
            task.sigpending = task.sigpending and task.vfork_child is not None
            return None
        action = task.group.sighand[info.signo]
        if not callable(action.handler):
            _must_not_be_code(task, info.signo, action)
        _take(task, info)
        if callable(action.handler):
            _reset(task, info.signo, action)
            return info, action
        if not ignores(task.group, info.signo):
            _default(task, info)
    return None


def _lives(task: Task) -> bool:
    return task.mm is not None and task.group.living.get(task.pid) is task


def _reset(task: Task, signum: int, action: Action) -> None:
    """Forget a handler that was asked for once (SA_RESETHAND)."""
    if action.flags & SA_RESETHAND:
        task.group.sighand.actions[signum] = dataclasses.replace(action, handler=SIG_DFL)


def _must_not_be_code(task: Task, signum: int, action: Action) -> None:
    if action.handler not in (SIG_DFL, SIG_IGN):
        raise UsageError(
            f"process {task.tgid} catches signal {signum} with machine code at {action.handler:#x}, and that "
            "is not run: give the signal a Python function by Process.sigaction"
        )


def has_caught(task: Task) -> bool:
    """Whether the task is to look for signals, and there is one that it has a handler for."""
    info = _next(task) if task.sigpending else None
    return info is not None and callable(task.group.sighand[info.signo].handler)


def _act(task: Task) -> None:
    """Act upon a task's signals, as it does when it returns from the kernel.

    All handlers are set up first, the topmost for the last signal; then they run, from the top down.
    """
    if task.may_run or task.group.doomed:
        tell_of_resume(task.group)
    while not (task.scheduled and has_caught(task)):
        found = caught(task)
        if found is not None:
            _set_up(task, *found)
        elif task.frames and not task.frames[-1].running and task.may_run:
            _run_handler(task)
        else:
            return


def _set_up(task: Task, info: SigInfo, action: Action) -> None:
    task.frames.append(SignalFrame(info, action, set(task.blocked)))
    task.blocked |= handler_mask(info, action)


def _run_handler(task: Task) -> None:
    """Run the topmost handler of a program that is driven by hand: a plain function of (signum, SigInfo)."""
    frame, system = task.frames[-1], task.system
    assert callable(frame.action.handler)
    interrupted, system.current = system.current, task
    frame.running = True
    try:
        frame.action.handler(frame.info.signo, frame.info)
    except BaseException:
        # a jump out of it: neither it nor what was set up below goes on
        frame.running = False
        while task.frames and not task.frames[-1].running:
            task.blocked = task.frames.pop().blocked
        raise
    else:
        if task.frames and task.frames[-1] is frame:  # else it made the task exec, or exit
            task.blocked = task.frames.pop().blocked
    finally:
        system.current = interrupted
        if _lives(task):
            look_for_signals(task)  # for what was blocked meanwhile


def handler_mask(info: SigInfo, action: Action) -> set[int]:
    """Return what is blocked while a handler runs: its mask, and the signal itself."""
    return set(action.mask) | (set() if action.flags & SA_NODEFER else {info.signo})


def _next(task: Task) -> SigInfo | None:
    """Return the signal to act upon now, if any; who is stopped, or asleep in vfork, only hears its end."""
    queues = (task.pending, task.group.pending)
    if task.group.doomed:
        ends = (info for pending in queues for info in pending.infos if info.signo == task.group.doomed)
        return next(ends, None)
    if not task.may_run:
        return None
    return queues[0].first(task.blocked) or queues[1].first(task.blocked)


def _take(task: Task, info: SigInfo) -> None:
    infos = task.pending.infos
    (infos if info in infos else task.group.pending.infos).remove(info)


def _default(task: Task, info: SigInfo) -> None:
    """Do what a signal does by default: stop the process, or end it, some with a core."""
    group, signum = task.group, info.signo
    if signum in CORE:
        died = ProcessDied(task.tgid, Signals(signum), "it was sent")
        exit_group(group, end_status(task, died, info))
    elif signum not in STOPPING:
        exit_group(group, signum)
    elif signum == SIGSTOP or not is_orphaned(group.leader.system, group.pgid):
        stop(group, signum)


def access_fault(task: Task, va: int, signum: int, si_code: int, *, write: bool) -> None:
    """Tell a task that its access to `va` cannot be made: its handler runs, and the access is tried again.

    Without a handler, or when it is blocked, the process ends and whoever made the access gets
    SegmentationFault (signum SIGSEGV) or BusError (SIGBUS).
    """
    info = SigInfo(signum, si_code, address=va)
    action = task.group.sighand[signum]
    if callable(action.handler) and signum not in task.blocked:
        if task.scheduled:
            task.pending.add(info)
            look_for_signals(task)
            raise InterruptedError(errno.EINTR, "the access waits for a handler")
        _reset(task, signum, action)
        _set_up(task, info, action)
        _run_handler(task)
        return
    if signum not in task.blocked:
        _must_not_be_code(task, signum, action)
    kind = {int(SIGSEGV): SegmentationFault, int(SIGBUS): BusError}[signum]
    access = "store" if write else "load"
    died = kind(task.pid, va, si_code, access)
    exit_group(task.group, end_status(task, died, info, access), task)
    raise died


# ---- what a process says about signals


def sigaction(task: Task, signum: int, action: Action | None) -> Action:
    """Say what a signal is to do; None only asks.  Return what it did so far.

    Raises: OSError EINVAL for no signal, and to change SIGKILL or SIGSTOP.
    """
    if not 1 <= signum <= LAST_SIGNAL or (action is not None and signum in _UNSTOPPABLE):
        fail(errno.EINVAL)
    if action is not None and not callable(action.handler) and not isinstance(action.handler, int):
        raise UsageError(
            f"{action.handler!r} is no handler: give a function of (signum, SigInfo), SIG_DFL or SIG_IGN"
        )
    sighand = task.group.sighand
    old = sighand[signum]
    if action is not None:
        sighand.actions[signum] = dataclasses.replace(
            action, flags=action.flags & _KNOWN_FLAGS, mask=frozenset(_checked(action.mask) - _UNSTOPPABLE)
        )
        if is_ignored(task.group, signum):  # POSIX 3.3.1.3: what is ignored does not stay pending
            for pending in (task.group.pending, *(each.pending for each in task.group.living.values())):
                pending.discard(frozenset({signum}))
    return old


def sigprocmask(task: Task, how: int, signums: Iterable[int] | None) -> set[int]:
    """Let signals wait: these too (SIG_BLOCK), these no more (SIG_UNBLOCK), or these alone (SIG_SETMASK).

    signums: None only asks.  Returns: what was blocked.  Raises: OSError EINVAL.
    """
    old = set(task.blocked)
    if signums is not None:
        given = _checked(signums) - _UNSTOPPABLE
        if how == SIG_BLOCK:
            task.blocked |= given
        elif how == SIG_UNBLOCK:
            task.blocked -= given
        elif how == SIG_SETMASK:
            task.blocked = given
        else:
            fail(errno.EINVAL)
        look_for_signals(task)
    return old


def _checked(signums: Iterable[int]) -> set[int]:
    """Return a set of signals.  Raises: OSError EINVAL for a number that is none."""
    given = set(signums)
    if not all(1 <= signum <= LAST_SIGNAL for signum in given):
        fail(errno.EINVAL)
    return given


def sigpending(task: Task) -> set[int]:
    """Return the signals that were sent, and wait because they are blocked."""
    return {
        info.signo for pending in (task.pending, task.group.pending) for info in pending.infos
    } & task.blocked


def pause(task: Task) -> NoReturn:
    """Sleep until a handler has run, or a signal ends the process.

    Raises: WouldBlock by hand; under a scheduler it becomes EINTR.
    """
    raise WouldBlock(
        f"pause of process {task.pid} would sleep until a signal comes: send one that it has no handler for, "
        "or run the program under a scheduler",
        ready=lambda: False,
    )
