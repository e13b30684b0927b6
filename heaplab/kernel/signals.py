"""Signals: so far those whose effect is the default one.

Source: Linux, kernel/signal.c; signal(7).
"""

import errno
from signal import SIGBUS, SIGCHLD, SIGCONT, SIGSTOP, SIGTSTP, SIGTTIN, SIGTTOU, SIGURG, SIGWINCH
from typing import Final, NoReturn

from heaplab.errors import BusError, SegmentationFault
from heaplab.kernel.exit import kill_task
from heaplab.kernel.system import System, fail
from heaplab.kernel.task import Task

IGNORED: Final = frozenset({SIGCHLD, SIGCONT, SIGURG, SIGWINCH})
STOPPING: Final = frozenset({SIGSTOP, SIGTSTP, SIGTTIN, SIGTTOU})
LAST: Final = 64


def kill(sender: Task, pid: int, sig: int) -> None:
    """Send a signal to the process `pid`, or to the group of 0 (the sender's) or -pid; 0 only looks.

    Raises: OSError ESRCH when there is none (a zombie is one), EINVAL for no signal, and for the stopping
    ones, which are not modelled yet.
    """
    if not 0 <= sig <= LAST or sig in STOPPING:
        fail(errno.EINVAL)
    receivers = _receivers(sender.system, sender, pid)
    if not receivers:
        fail(errno.ESRCH)
    for task in receivers:
        # pid 1 has no handlers, and the default actions do not reach it
        if sig and sig not in IGNORED and task.mm is not None and task is not sender.system.init:
            kill_task(task, sig)


def _receivers(system: System, sender: Task, pid: int) -> list[Task]:
    if pid > 0:
        task = system.tasks.get(pid)
        return [task] if task is not None else []
    if pid == -1:
        return [task for task in system.tasks.values() if task not in (system.init, sender)]
    group = sender.pgid if pid == 0 else -pid
    return [task for task in list(system.tasks.values()) if task.pgid == group]


def access_fault(task: Task, va: int, signum: int, si_code: int, *, write: bool) -> NoReturn:
    """End a task whose access to `va` cannot be made; raise that to whoever made the access.

    signum: SIGSEGV, or SIGBUS for a page beyond the end of its file.
    """
    kill_task(task, signum)
    error = BusError if signum == SIGBUS else SegmentationFault
    raise error(task.pid, va, si_code, "store" if write else "load")
