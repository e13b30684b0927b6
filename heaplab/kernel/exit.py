"""exit and wait: how a task ends, and how its parent hears of it.

    running --exit--> zombie --wait of the parent--> gone
                        |
                 its children's parent is pid 1 from here on

Source: Linux, kernel/exit.c (do_exit, forget_original_parent, do_wait).
"""

import errno

from heaplab.abi import WCONTINUED, WNOHANG, WUNTRACED
from heaplab.errors import KernelPanic, WouldBlock
from heaplab.kernel.system import fail
from heaplab.kernel.task import Task

# __WNOTHREAD, __WALL and __WCLONE choose among threads and clone's children: all children here are alike
_WAIT_OPTIONS = WNOHANG | WUNTRACED | WCONTINUED | 0xE000_0000


def do_exit(task: Task, status: int) -> None:
    """End a task: its memory goes, its children get pid 1 as their parent, and it waits for its own to wait.

    status: as wait reports it (rule 42): the exit code << 8, or the number of a signal.
    Raises: KernelPanic when it is pid 1.
    """
    system = task.system
    if task is system.init:
        raise KernelPanic(f"attempted to kill init: status {status:#x}")
    assert task.mm is not None
    assert task.parent is not None
    mm, task.mm = task.mm, None
    task.context.switch(None)
    mm.put()
    task.files.put()
    task.exit_code = status
    for child in task.children.values():
        child.parent = system.init
    system.init.children.update(task.children)
    task.children.clear()
    if system.init_reaps:
        for child in [child for child in system.init.children.values() if child.mm is None]:
            release(child)


def kill_task(task: Task, signum: int) -> None:
    """End a task by a signal."""
    do_exit(task, int(signum))


def release(task: Task) -> None:
    """Forget a zombie: only now its pid is free."""
    assert task.parent is not None
    del task.parent.children[task.pid]
    del task.system.tasks[task.pid]
    task.system.pids.free(task.pid)


def wait(task: Task, pid: int, options: int) -> tuple[int, int]:
    """Collect a dead child: (its pid, its status); with WNOHANG (0, 0) when none is dead yet.

    pid: of the child; -1 any; 0 any of the caller's group; -g any of group g.
    Of several dead, the one that was forked first (rule 44).
    Raises: OSError ECHILD when there is no such child, EINVAL (rule 41).  WouldBlock when it would sleep:
    by hand, nobody else runs meanwhile.
    """
    if options & ~_WAIT_OPTIONS:
        fail(errno.EINVAL)
    if pid == -(1 << 31):
        fail(errno.ESRCH)
    children = [child for child in task.children.values() if _eligible(task, child, pid)]
    if not children:
        fail(errno.ECHILD)
    for child in children:
        if child.mm is None:
            release(child)
            return child.pid, child.exit_code
    if options & WNOHANG:
        return 0, 0
    raise WouldBlock(
        f"wait of process {task.pid} would sleep: let a child exit first, or pass WNOHANG to only look"
    )


def _eligible(task: Task, child: Task, pid: int) -> bool:
    if pid > 0:
        return child.pid == pid
    return pid == -1 or child.pgid == (task.pgid if pid == 0 else -pid)
