"""exit: how a task ends, how a process ends with its last task, and how its parent hears of it.

    running --exit--> zombie --wait of the parent--> gone
                        |
                 its children's parent is its reaper from here on

Source: Linux, kernel/exit.c (do_exit, do_group_exit, forget_original_parent, exit_notify, release_task),
kernel/signal.c (do_notify_parent).
"""

from contextlib import suppress
from signal import SIGCHLD, SIGCONT, SIGHUP

from heaplab.abi import LAST_SIGNAL, SA_NOCLDWAIT, SI_KERNEL, SIG_IGN, SigInfo
from heaplab.errors import KernelPanic, OutOfMemory
from heaplab.kernel.sigqueue import complete_stop, look_for_signals, send
from heaplab.kernel.system import System
from heaplab.kernel.task import Group, Task
from heaplab.kernel.uaccess import copy_from_user, put_user


def exit_group(group: Group, status: int, caller: Task | None = None) -> None:
    """End all tasks of a process.

    status: as wait reports it (rule 42): the exit code << 8, or the number of a signal, with 0x80 for a core.
    caller: the task whose doing it is; it ends first, then those born after it, then the others.  Without one
    a signal does it: to whichever of the tasks is on the CPU first, then to the others as they were born.
    Measured, Linux 6.18; the order is seen by who gets the children.
    """
    if group.ending is None:
        group.ending = status
    if caller is not None:
        tasks = group.ring(caller)
    else:
        running = group.leader.system.current
        tasks = sorted(group.living.values(), key=lambda task: task is not running)
    for task in tasks:
        do_exit(task, status)


def do_exit(task: Task, status: int) -> None:
    """End one task; with the last of its group, the process, whose status this one's is then.

    Its memory goes with the last task that uses it.  A leader waits, a zombie, until the others are gone too;
    their ends are nobody's business, so they leave nothing behind.
    Raises: KernelPanic when it is pid 1's last.
    """
    group = task.group
    if group is task.system.init.group and len(group.living) == 1:
        raise KernelPanic(f"attempted to kill init: status {status:#x}")
    clear_tid(task)
    if task.mm is None:
        return  # for that write memory was short, and the OOM killer chose this process
    group.used += task.rusage
    leave_mm(task)
    task.files.put()
    task.context.switch(None)
    task.frames.clear()
    task.system.signalled.pop(task, None)
    if group.target is task:
        group.target = group.ring(task)[1 % len(group.living)]
    del group.living[task.pid]
    if task is not group.leader:
        _forget_task(task)
    if group.living:
        _hand_on_children(task)
    else:
        group.exit_code = status if group.ending is None else group.ending
        _group_is_dead(group)


def _hand_on_children(task: Task) -> None:
    """Let the children of a task that has ended be those of the process's first task; behind its own."""
    group = task.group
    heir = next(iter(group.living.values()))
    for child in [leader.group for leader in group.children.values()]:
        if child.parent_task is task:
            group.adopt(child, heir)


def clear_tid(task: Task) -> None:
    """Zero where CLONE_CHILD_CLEARTID said, if anybody is left to see it: so a join learns of the end."""
    address, task.clear_child_tid = task.clear_child_tid, 0
    if address and task.mm is not None and task.mm.users > 1:
        with suppress(OSError, OutOfMemory):
            put_user(task, address, bytes(4))
        # whoever sleeps on it as a futex is woken; to find them, Linux reads there
        if not address % 4 and task.mm is not None:
            with suppress(OutOfMemory):
                copy_from_user(task, address, 4)


def leave_mm(task: Task) -> None:
    """Part with the address space: at exit, and when exec brings a new one.  A parent in vfork wakes."""
    mm, task.mm = task.mm, None
    assert mm is not None
    end_vfork(task)
    if task.vfork_child is not None:  # it was killed in its sleep
        task.vfork_child.vfork_parent = None
        task.vfork_child = None
    mm.put()


def end_vfork(child: Task) -> None:
    """Wake the parent that sleeps for the sake of this child (rule 47)."""
    parent, child.vfork_parent = child.vfork_parent, None
    if parent is not None:
        parent.vfork_child = None
        parent.take_or_leave_cpu()
        complete_stop(parent.group)
        if parent.sigpending:
            look_for_signals(parent)  # what came in its sleep


def _group_is_dead(group: Group) -> None:
    system = group.leader.system
    group.stop_signal = group.job_event = 0
    group.announce()
    reaper = find_reaper(group)
    orphans = [child.group for child in group.children.values()]
    for orphan in orphans:
        _reparent(orphan, reaper)
    if group.parent is not None:
        _hang_up_orphaned_jobs(group, group.parent)
    if _notify_parent(group):
        release(group)
    _let_init_collect(system, [*orphans, group])


def find_reaper(group: Group) -> Group:
    """Return who takes in the children of a process: the nearest subreaper above it, or pid 1 (rule 45)."""
    init = group.leader.system.init.group
    above = group.parent if group.children else None  # without children nobody has to be found
    while above is not None and above is not init:
        if above.subreaper:
            return above
        above = above.parent
    return init


def _reparent(child: Group, reaper: Group) -> None:
    old = child.parent
    assert old is not None
    reaper.adopt(child, next(iter(reaper.living.values())))
    child.exit_signal = SIGCHLD
    vanishes = not child.living and _notify_parent(child)
    _hang_up_orphaned_jobs(child, old)  # it was a tie of its group to the session, if it is dead too
    if vanishes:
        release(child)


def _notify_parent(group: Group) -> bool:
    """Send the parent the exit signal; return whether it wants the zombie to vanish by itself (rule 46)."""
    parent, signum = group.parent, group.exit_signal
    assert parent is not None
    if parent.execs != group.parent_execs:
        signum = SIGCHLD  # the program that wanted another signal is no more
    action = parent.sighand[SIGCHLD]
    ignored = signum == SIGCHLD and action.handler == SIG_IGN
    if 1 <= signum <= LAST_SIGNAL and not ignored:
        code, status = group.end
        send(parent, SigInfo(signum, code, group.tgid, status), named=group.parent_task)
    return ignored or (signum == SIGCHLD and bool(action.flags & SA_NOCLDWAIT))


def _let_init_collect(system: System, groups: list[Group]) -> None:
    """Run pid 1's program, a loop of waits; `groups` are those whose end, or new parent, it may hear of."""
    if system.init_reaps:
        for group in groups:
            if not group.living and system.init.children.get(group.tgid) is group.leader:
                release(group)


def release(group: Group) -> None:
    """Forget a zombie: only now its pid is free."""
    assert group.parent is not None
    group.parent.disown(group)
    group.enter(0)
    _forget_task(group.leader)


def _forget_task(task: Task) -> None:
    del task.system.tasks[task.pid]
    task.system.pids.free(task.pid)


# ---- process groups without a shell


def is_orphaned(system: System, pgid: int, without: Group | None = None) -> bool:
    """Whether nobody of a process group has a parent in the same session outside the group.

    Nobody could then continue what stops.  without: a process that does not count any more.
    Source: Linux, kernel/exit.c, will_become_orphaned_pgrp.
    """
    return not any(
        group.parent is not None
        and group.parent.pgid != pgid
        and group.parent.sid == group.sid
        and (group.parent is not system.init.group or system.settings.pid_namespace)
        for group in system.process_groups.get(pgid, ())
        if group is not without and group.living
    )


def _hang_up_orphaned_jobs(group: Group, parent: Group) -> None:
    """Wake the stopped jobs of a process group that the end of `group`, or of `parent`, leaves alone.

    Source: Linux, kernel/exit.c, kill_orphaned_pgrp.
    """
    system = group.leader.system
    without = None if group.living else group
    if parent.pgid == group.pgid or parent.sid != group.sid or not is_orphaned(system, group.pgid, without):
        return
    members = system.members(group.pgid)
    if any(member.stop_signal for member in members):
        for signum in (SIGHUP, SIGCONT):
            for member in members:
                send(member, SigInfo(signum, SI_KERNEL))
