"""The OOM killer: when no frame is left and none can be reclaimed, a process is ended and its frames go on.

Source: Linux, mm/oom_kill.c (oom_badness, select_bad_process).
"""

from signal import SIGKILL
from typing import Final

from heaplab.errors import KernelPanic, OutOfMemory
from heaplab.kernel.reclaim import reclaim
from heaplab.kernel.system import System
from heaplab.kernel.task import Task

MAX_RECLAIM_RETRIES: Final = 16


def badness(task: Task) -> int:
    """Return how much ending the task would bring: frames of its pages and of its page tables.

    Nothing, of one that was vforked: its memory is its parent's.
    """
    assert task.mm is not None
    if task.vfork_parent is not None and task.vfork_parent.mm is task.mm:
        return -1
    return task.mm.rss + task.mm.counted_tables


def choose_victim(system: System) -> Task | None:
    """Return the worst task but pid 1; of equals the youngest.  O(tasks)"""
    victim, worst = None, -1
    for task in system.living():
        if task.group is not system.init.group:
            points = badness(task)
            if points >= max(worst, 0):
                victim, worst = task, points
    return victim


def make_room(system: System) -> Task | None:
    """End the worst process; return it, or None when there is none to end."""
    victim = choose_victim(system)
    if victim is not None:
        system.oom_kills.append(victim.pid)
        mm = victim.mm
        # whoever else runs in that memory keeps it: other processes on it go as well
        for group in {task.group: None for task in system.living() if task.mm is mm}:
            if group is not system.init.group and group.living:
                system.kill(group, SIGKILL)
    return victim


def out_of_memory(current: Task, attempt: int = 0) -> None:
    """Make room for something of `current` that is then tried again: reclaim, or end a process.

    attempt: how often that was done for it already; what reclaim gives may be too little each time.
    Raises: OutOfMemory if `current` was the one that had to go; KernelPanic when there was none but pid 1.
    """
    if attempt < MAX_RECLAIM_RETRIES and reclaim(current.system):
        return
    victim = make_room(current.system)
    if victim is None:
        raise KernelPanic("out of memory, and no process but pid 1 is left to kill")
    if current.mm is None:
        raise OutOfMemory(current.pid)
