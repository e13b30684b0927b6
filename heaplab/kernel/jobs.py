"""Process groups and sessions, as far as kill and wait need them.

Source: Linux, kernel/sys.c (setpgid, setsid).
"""

import errno

from heaplab.kernel.system import fail
from heaplab.kernel.task import Group, Task


def find(caller: Task, pid: int) -> Group:
    """Return the process of a pid, 0: the caller's.  Raises: OSError ESRCH."""
    task = caller if pid == 0 else caller.system.tasks.get(pid)
    if task is None:
        fail(errno.ESRCH)
    return task.group


def setpgid(caller: Task, pid: int, pgid: int) -> None:
    """Put the caller (0), or a child that has not exec'ed, into a process group of the session, or a new one.

    pgid: 0 is the pid itself.  Raises: OSError EINVAL, ESRCH, EPERM, EACCES.
    """
    pid, pgid = pid or caller.tgid, pgid or pid or caller.tgid
    if pgid < 0:
        fail(errno.EINVAL)
    task = caller.system.tasks.get(pid)
    if task is None:
        fail(errno.ESRCH)
    group = task.group
    if task is not group.leader:
        fail(errno.EINVAL)
    if group.parent is caller.group:
        if group.sid != caller.group.sid:
            fail(errno.EPERM)
        if group.execs:
            fail(errno.EACCES)
    elif group is not caller.group:
        fail(errno.ESRCH)
    if group.sid == group.tgid:
        fail(errno.EPERM)
    in_session = any(other.sid == group.sid for other in caller.system.process_groups.get(pgid, ()))
    if pgid != pid and not in_session:
        fail(errno.EPERM)
    group.enter(pgid)


def setsid(caller: Task) -> int:
    """Begin a new session with a new process group; return its number.  Raises: OSError EPERM."""
    group = caller.group
    if group.tgid in caller.system.process_groups:
        fail(errno.EPERM)
    group.enter(group.tgid)
    group.sid = group.tgid
    return group.sid
