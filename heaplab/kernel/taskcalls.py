"""What the registers of the calls about tasks mean: processes, threads, waits and signals."""

import errno
import os
import struct
from typing import Final

from heaplab.abi import (
    PR_GET_CHILD_SUBREAPER,
    PR_GET_NAME,
    PR_SET_CHILD_SUBREAPER,
    PR_SET_NAME,
    RUSAGE_CHILDREN,
    RUSAGE_SELF,
    RUSAGE_THREAD,
    Rusage,
    signums,
    sigset,
)
from heaplab.kernel import exit as exiting
from heaplab.kernel import jobs, signals
from heaplab.kernel import wait as waiting
from heaplab.kernel.exec import execve
from heaplab.kernel.memcalls import signed32
from heaplab.kernel.system import UID, fail
from heaplab.kernel.task import Action, Handler, Task
from heaplab.kernel.uaccess import get_user, get_user_string, put_user

_PATH_MAX: Final = 4096
_STRING_MAX: Final = 1 << 17  # MAX_ARG_STRLEN


def sys_getpid(task: Task, *_: int) -> int:
    return task.tgid


def sys_getppid(task: Task, *_: int) -> int:
    return task.parent.tgid if task.parent is not None else 0


def sys_gettid(task: Task, *_: int) -> int:
    return task.pid


def sys_execve(task: Task, path: int, argv: int, envp: int, *_: int) -> int:
    name = get_user_string(task, path, _PATH_MAX)
    task.system.files.find(os.fsdecode(name))  # who is not there is missed before the arguments are read
    execve(task, os.fsdecode(name), _get_strings(task, argv), _get_strings(task, envp))
    return 0


def _get_strings(task: Task, array: int) -> list[bytes]:
    """Return the strings of an array of pointers that ends with NULL; none for no array."""
    found: list[bytes] = []
    while array and (pointer := int.from_bytes(get_user(task, array + 8 * len(found), 8), "little")):
        found.append(get_user_string(task, pointer, _STRING_MAX))
    return found


def sys_set_tid_address(task: Task, address: int, *_: int) -> int:
    task.clear_child_tid = address
    return task.pid


def sys_exit(task: Task, code: int, *_: int) -> int:
    exiting.do_exit(task, (code & 0xFF) << 8)
    return 0


def sys_exit_group(task: Task, code: int, *_: int) -> int:
    exiting.exit_group(task.group, (code & 0xFF) << 8, task)
    return 0


def sys_wait4(task: Task, pid: int, stat_addr: int, options: int, rusage: int, *_: int) -> int:
    report = waiting.wait4(task, signed32(pid), options & 0xFFFF_FFFF)
    if stat_addr and report.pid:
        put_user(task, stat_addr, report.status.to_bytes(4, "little"))
    if rusage and report.pid:
        put_user(task, rusage, _rusage_struct(report.rusage))
    return report.pid


def sys_waitid(task: Task, idtype: int, number: int, infop: int, options: int, rusage: int, *_: int) -> int:
    report, result = waiting.NOTHING, 0
    try:
        report = waiting.waitid(task, signed32(idtype), signed32(number), options & 0xFFFF_FFFF)
    except OSError as error:
        result = -(error.errno or errno.EINVAL)  # siginfo is written all the same
    if rusage and report.pid:
        put_user(task, rusage, _rusage_struct(report.rusage))
    if infop:
        info = report.info
        put_user(task, infop, struct.pack("<3i", info.signo, 0, info.code))
        put_user(task, infop + 16, struct.pack("<3i", info.pid, UID if info.pid else 0, info.status))
    return result


def _rusage_struct(used: Rusage) -> bytes:
    """Return struct rusage: two times, then 14 numbers, of which the first and the fifth are known."""
    return struct.pack("<4q14q", *[0] * 4, used.maxrss, 0, 0, 0, used.minflt, used.majflt, *[0] * 8)


def sys_getrusage(task: Task, who: int, address: int, *_: int) -> int:
    put_user(task, address, _rusage_struct(getrusage(task, signed32(who))))
    return 0


def getrusage(task: Task, who: int) -> Rusage:
    """Return what a process, its collected children or one task used.  Raises: OSError EINVAL."""
    if who == RUSAGE_SELF:
        return task.group.rusage
    if who == RUSAGE_CHILDREN:
        return task.group.children_used
    if who == RUSAGE_THREAD:
        return task.rusage
    fail(errno.EINVAL)


def sys_kill(task: Task, pid: int, sig: int, *_: int) -> int:
    signals.kill(task, signed32(pid), signed32(sig))
    return 0


def sys_tkill(task: Task, tid: int, sig: int, *_: int) -> int:
    signals.tgkill(task, None, signed32(tid), signed32(sig))
    return 0


def sys_tgkill(task: Task, tgid: int, tid: int, sig: int, *_: int) -> int:
    signals.tgkill(task, signed32(tgid), signed32(tid), signed32(sig))
    return 0


def sys_pause(task: Task, *_: int) -> int:
    signals.pause(task)


#: struct sigaction as the kernel has it: handler, flags, restorer, mask
_SIGACTION: Final = struct.Struct("<4Q")
_SIGSET_SIZE: Final = 8  # bytes


def sys_rt_sigaction(task: Task, signum: int, new: int, old: int, size: int, *_: int) -> int:
    if size != _SIGSET_SIZE:
        fail(errno.EINVAL)
    sighand, action = task.group.sighand, None
    if new:
        address, flags, restorer, mask = _SIGACTION.unpack(get_user(task, new, _SIGACTION.size))
        action = Action(sighand.handlers.get(address, address), flags, signums(mask), restorer)
    before = signals.sigaction(task, signed32(signum), action)
    if old:
        fields = sighand.address(before.handler), before.flags, before.restorer, sigset(before.mask)
        put_user(task, old, _SIGACTION.pack(*fields))
    return 0


def do_sigaction(
    task: Task, signum: int, handler: int | Handler | None, flags: int, mask: frozenset[int]
) -> int | Handler:
    """The system call rt_sigaction, for a caller whose handlers are Python's; None only asks."""
    action = Action(handler, flags, mask) if handler is not None else None
    return signals.sigaction(task, signum, action).handler


def sys_rt_sigprocmask(task: Task, how: int, new: int, old: int, size: int, *_: int) -> int:
    if size != _SIGSET_SIZE:
        fail(errno.EINVAL)
    given = signums(int.from_bytes(get_user(task, new, _SIGSET_SIZE), "little")) if new else None
    before = signals.sigprocmask(task, signed32(how), given)
    if old:
        put_user(task, old, sigset(before).to_bytes(_SIGSET_SIZE, "little"))
    return 0


def sys_rt_sigpending(task: Task, address: int, size: int, *_: int) -> int:
    if size > _SIGSET_SIZE:
        fail(errno.EINVAL)
    put_user(task, address, sigset(signals.sigpending(task)).to_bytes(_SIGSET_SIZE, "little")[:size])
    return 0


def sys_setpgid(task: Task, pid: int, pgid: int, *_: int) -> int:
    jobs.setpgid(task, signed32(pid), signed32(pgid))
    return 0


def sys_getpgid(task: Task, pid: int, *_: int) -> int:
    return jobs.find(task, signed32(pid)).pgid


def sys_getpgrp(task: Task, *_: int) -> int:
    return task.group.pgid


def sys_setsid(task: Task, *_: int) -> int:
    return jobs.setsid(task)


def sys_getsid(task: Task, pid: int, *_: int) -> int:
    return jobs.find(task, signed32(pid)).sid


def sys_prctl(task: Task, option: int, argument: int, *_: int) -> int:
    group = task.group
    if option == PR_SET_NAME:
        set_name(task, get_user(task, argument, 16).partition(b"\0")[0])
    elif option == PR_GET_NAME:
        put_user(task, argument, os.fsencode(task.comm).ljust(16, b"\0"))
    elif option == PR_SET_CHILD_SUBREAPER:
        group.subreaper = bool(argument)
    elif option == PR_GET_CHILD_SUBREAPER:
        put_user(task, argument, int(group.subreaper).to_bytes(4, "little"))
    else:
        fail(errno.EINVAL)
    return 0


def set_name(task: Task, name: bytes) -> None:
    """Give a task a name, of which 15 bytes are kept."""
    task.comm = os.fsdecode(name[:15])
