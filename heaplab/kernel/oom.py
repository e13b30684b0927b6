"""The OOM killer: when no frame is left and none can be reclaimed, a process is ended and its frames go on.

Source: Linux, mm/oom_kill.c (oom_badness, select_bad_process).
"""

import errno
from signal import SIGKILL
from typing import Final

from heaplab.errors import KernelPanic, OutOfMemory
from heaplab.kernel.reclaim import reclaim
from heaplab.kernel.system import System, fail
from heaplab.kernel.task import Group, Task

MAX_RECLAIM_RETRIES: Final = 16
OOM_SCORE_ADJ_MIN: Final = -1000
OOM_SCORE_ADJ_MAX: Final = 1000


def badness(group: Group) -> int | None:
    """Return how much ending a process would bring, in frames: its pages and page tables, and its adjustment.

    None: it is not to be ended.  That is pid 1, who has oom_score_adj -1000, and who was vforked and still
    runs in its parent's memory.
    """
    system = group.leader.system
    task = next((task for task in group.living.values() if task.mm is not None), None)
    if task is None or group is system.init.group or group.oom_score_adj == OOM_SCORE_ADJ_MIN:
        return None
    if task.vfork_parent is not None and task.vfork_parent.mm is task.mm:
        return None
    # as Linux divides: of a machine with fewer than 1000 frames the adjustment is nothing
    adjustment = group.oom_score_adj * (system.machine.frame_count // 1000)
    return task.memory.rss + task.memory.counted_tables + adjustment


def score(group: Group) -> int:
    """Return /proc/PID/oom_score: badness in thousandths of memory, moved to 0 and more; 0: never."""
    points = badness(group)
    if points is None:
        return 0
    # C divides towards zero
    thousandths = abs(points) * 1000 // group.leader.system.machine.frame_count
    return (1000 + (thousandths if points >= 0 else -thousandths)) * 2 // 3


def set_score_adj(group: Group, value: int) -> None:
    """Set oom_score_adj of a process, and of those it shares its memory with, but for vforked ones.

    Raises: OSError EINVAL.
    Source: Linux, fs/proc/base.c, __set_oom_adj.
    """
    if not OOM_SCORE_ADJ_MIN <= value <= OOM_SCORE_ADJ_MAX:
        fail(errno.EINVAL)
    group.oom_score_adj = value
    system = group.leader.system
    own = next(iter(group.living.values()), None)
    if own is None or own.vfork_parent is not None or own.memory.users == len(group.living):
        return
    for task in system.living():
        if task.mm is own.mm and task.vfork_parent is None and task.group is not system.init.group:
            task.group.oom_score_adj = value


def choose_victim(system: System) -> Group | None:
    """Return the worst process; of equals the youngest.  O(tasks)"""
    victim, worst = None, None
    for group in system.groups():
        points = badness(group)
        if points is not None and (worst is None or points >= worst):
            victim, worst = group, points
    return victim


def make_room(system: System) -> Group | None:
    """End the worst process; return it, or None when there is none to end."""
    victim = choose_victim(system)
    if victim is not None:
        system.oom_kills.append(victim.tgid)
        mm = next(iter(victim.living.values())).mm
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
