"""Mistakes about processes: clone, exit, wait."""

from typing import Final

from heaplab.testing.conform.mutants.plant import Edit, Mutant

WAIT: Final = (
    Mutant(
        "wait-in-order-of-death",
        "process",
        "wait returns zombies in the order they died.",
        "rule 44: in the order they were forked",
        (
            Edit(
                "exit._group_is_dead",
                "group.announce()",
                "group.announce()\n"
                "    if group.parent is not None:\n"
                "        children = group.parent.children\n"
                "        children[group.tgid] = children.pop(group.tgid)",
            ),
        ),
    ),
    Mutant(
        "wait-youngest-first",
        "process",
        "wait looks at the youngest child first.",
        "rule 44: in the order they were forked",
        (
            Edit(
                "wait._news",
                "return [child for _, child in caller.news]",
                "return [child for _, child in caller.news][::-1]",
            ),
        ),
    ),
    Mutant(
        "wait-takes-threads-for-one",
        "process",
        "wait looks at all children of a process alike, whichever of its tasks made them.",
        "kernel/exit.c, do_wait: the caller's own first, then those of the tasks after it",
        (
            Edit(
                "wait._news",
                "if len(caller.living) == 1:",
                "if caller.living:",
                when="len(caller.living) > 1",
            ),
        ),
    ),
    Mutant(
        "heir-has-them-first",
        "process",
        "The children of a task that ends keep their places among those of the task that gets them.",
        "kernel/exit.c, forget_original_parent: they come behind its own",
        (Edit("exit._hand_on_children", "group.adopt(child, heir)", "child.parent_task = heir"),),
    ),
    Mutant(
        "exec-forgets-no-signal",
        "exec",
        "A child ends with the signal that its parent wanted before it was another program.",
        "kernel/signal.c, do_notify_parent: SIGCHLD where parent_exec_id is another",
        (
            Edit(
                "exit._notify_parent",
                "if parent.execs != group.parent_execs:",
                "if False:",
                when="parent.execs != group.parent_execs and signum != SIGCHLD",
            ),
        ),
    ),
    Mutant(
        "orphans-waited-for-by-pid",
        "process",
        "wait looks at children in the order of their pids, adopted ones among them.",
        "kernel/exit.c, reparent_leader: the adopted come last",
        (
            Edit(
                "wait._news",
                "return [child for _, child in caller.news]",
                "return sorted((child for _, child in caller.news), key=lambda child: child.tgid)",
            ),
        ),
    ),
    Mutant(
        "wait-leaves-the-zombie",
        "process",
        "wait reads the status but leaves the zombie in the table.",
        "rule 43: once reaped it is gone",
        (Edit("exit.release", "_forget_task(group.leader)", "group.children.clear()"),),
    ),
    Mutant(
        "wait-does-not-free-the-pid",
        "process",
        "wait forgets the zombie but not its pid, which is never used again.",
        "kernel/pid.c, free_pid",
        (Edit("exit._forget_task", "task.system.pids.free(task.pid)", "pass"),),
    ),
    Mutant(
        "nohang-without-children",
        "process",
        "wait with WNOHANG and without children returns 0.",
        "rule 41: ECHILD",
        (Edit("wait._look", "if not possible:", "if not possible and not options & WNOHANG:"),),
    ),
    Mutant(
        "wait4-takes-waitid-options",
        "process",
        "wait4 accepts the options that only waitid has.",
        "rule 41: EINVAL",
        (Edit("wait.wait4", "if options & ~_WAIT4:", "if options & ~(_WAIT4 | _WAITID):"),),
    ),
    Mutant(
        "wait4-of-int-min",
        "process",
        "wait4 of -2147483648 looks for a process group.",
        "kernel/exit.c, kernel_wait4: ESRCH",
        (Edit("wait.wait4", "if pid == -(1 << 31):", "if pid < -(1 << 31):"),),
    ),
    Mutant(
        "wait4-any-group",
        "process",
        "wait4 of a process group takes children of any.",
        "the group of each is compared",
        (
            Edit(
                "wait._eligible",
                "if idtype == P_PGID and child.pgid != number:",
                "if number < 0:",
                when="idtype == P_PGID and child.pgid != number",
            ),
        ),
    ),
    Mutant(
        "status-without-a-child",
        "process",
        "wait4 that finds nothing writes a status all the same.",
        "kernel/exit.c: written only when a child was found",
        (
            Edit(
                "taskcalls.sys_wait4",
                "if stat_addr and report.pid:",
                "if stat_addr:",
                when="not report.pid",
            ),
        ),
    ),
    Mutant(
        "exit-code-not-masked",
        "process",
        "The status has all bits of the exit code.",
        "rule 42: (code & 0xff) << 8",
        (Edit("taskcalls.sys_exit_group", "(code & 0xFF) << 8", "(code & 0xFFFF) << 8"),),
    ),
    Mutant(
        "nowait-collects",
        "process",
        "waitid with WNOWAIT takes the zombie away.",
        "it remains to be waited for",
        (
            Edit(
                "wait._collect",
                "if not options & WNOWAIT:",
                "if options & WEXITED:",
                when="options & WNOWAIT",
            ),
        ),
    ),
    Mutant(
        "stop-is-not-reported",
        "process",
        "wait with WUNTRACED does not hear of a stopped child.",
        "rule 42: status 0x137f",
        (
            Edit(
                "wait._job_report",
                "if event == CLD_STOPPED and options & WSTOPPED:",
                "if event == CLD_STOPPED and options & WCONTINUED:",
                when="event == CLD_STOPPED and options & WSTOPPED",
            ),
        ),
    ),
    Mutant(
        "stop-is-reported-twice",
        "process",
        "wait reports the same stop each time it is called.",
        "kernel/exit.c, wait_task_stopped: once",
        (Edit("wait._job_report", "child.job_event = 0", "pass"),),
    ),
    Mutant(
        "continue-is-reported-unasked",
        "process",
        "wait without WCONTINUED hears of a child that goes on.",
        "only with WCONTINUED",
        (
            Edit(
                "wait._job_report",
                "elif event == CLD_CONTINUED and options & WCONTINUED:",
                "elif event == CLD_CONTINUED:",
                when="event == CLD_CONTINUED",
            ),
        ),
    ),
    Mutant(
        "clone-children-are-waited-for",
        "process",
        "wait without __WCLONE takes children that end with another signal than SIGCHLD.",
        "kernel/exit.c, eligible_child: on demand only",
        (
            Edit(
                "wait._eligible",
                "return bool(options & WALL) or (child.exit_signal != SIGCHLD) == bool(options & WCLONE)",
                "return True",
                when="child.exit_signal != SIGCHLD",
            ),
        ),
    ),
)

FAMILY: Final = (
    Mutant(
        "orphaned-when-reaped",
        "process",
        "Orphans change hands only when their dead parent is waited for.",
        "rule 45: when it exits",
        (
            Edit(
                "exit._group_is_dead",
                "    for orphan in orphans:\n        _reparent(orphan, reaper)\n",
                "    reaper.living\n",
            ),
            Edit(
                "exit.release",
                "    assert group.parent is not None\n",
                "    assert group.parent is not None\n"
                "    for child in list(group.children.values()):\n"
                "        _reparent(child.group, find_reaper(group))\n",
            ),
        ),
    ),
    Mutant(
        "orphans-go-to-the-grandparent",
        "process",
        "Orphans go to their parent's parent.",
        "rule 45 and the lecture: to pid 1, or a subreaper",
        (
            Edit(
                "exit.find_reaper",
                "    return init\n",
                "    return group.parent if group.parent is not None and group.parent.living else init\n",
            ),
        ),
    ),
    Mutant(
        "subreaper-ignored",
        "process",
        "Orphans pass their subreaper by.",
        "rule 45: it receives them",
        (
            Edit(
                "exit.find_reaper",
                "if above.subreaper:",
                "if above is init:",
                when="above.subreaper and group.children",
            ),
        ),
    ),
    Mutant(
        "subreaper-inherited",
        "process",
        "A subreaper's children are subreapers.",
        "prctl(2): the setting is not inherited by fork",
        (
            Edit(
                "fork._found_group",
                "group.oom_score_adj = creator.oom_score_adj",
                "group.oom_score_adj, group.subreaper = creator.oom_score_adj, creator.subreaper",
                when="creator.subreaper",
            ),
        ),
    ),
    Mutant(
        "ignored-sigchld-leaves-zombies",
        "process",
        "Children are zombies though their parent ignores SIGCHLD.",
        "rule 46: they are reaped by themselves",
        (
            Edit(
                "exit._notify_parent",
                "return ignored or (signum",
                "return (signum",
                when="ignored",
            ),
        ),
    ),
    Mutant(
        "nocldwait-leaves-zombies",
        "process",
        "Children are zombies though their parent set SA_NOCLDWAIT.",
        "rule 46: they are reaped by themselves",
        (
            Edit(
                "exit._notify_parent",
                "bool(action.flags & SA_NOCLDWAIT)",
                "action.flags < 0",
                when="action.flags & SA_NOCLDWAIT",
            ),
        ),
    ),
    Mutant(
        "orphan-keeps-its-exit-signal",
        "process",
        "An orphan made with another signal than SIGCHLD tells its new parent by that one.",
        "kernel/exit.c, reparent_leader: exit_signal becomes SIGCHLD",
        (
            Edit(
                "exit._reparent",
                "child.exit_signal = SIGCHLD",
                "pass",
                when="child.exit_signal != SIGCHLD",
            ),
        ),
    ),
    Mutant(
        "leader-ends-the-process",
        "process",
        "A process is dead when its leader exits, though threads live.",
        "it waits, a zombie, for the others",
        (
            Edit(
                "exit.do_exit",
                "if group.living:",
                "if task is not group.leader and group.living:",
                when="task is group.leader and group.living",
            ),
        ),
    ),
    Mutant(
        "pid-reused-at-once",
        "process",
        "The lowest free pid is given out.",
        "rule 49: pids are sequential",
        (Edit("pid.PidAllocator.alloc", "first = max(self._next, lowest)", "first = lowest"),),
    ),
    Mutant(
        "getpid-is-the-thread",
        "process",
        "getpid of a thread is its own number.",
        "the tgid",
        (
            Edit(
                "taskcalls.sys_getpid",
                "return task.tgid",
                "return task.pid",
                when="task.tgid != task.pid",
            ),
        ),
    ),
)

CLONE: Final = (
    Mutant(
        "vfork-copies",
        "process",
        "A vforked child gets a copy of the memory.",
        "rule 47: the parent's; its stores are seen",
        (
            Edit(
                "fork.clone",
                "_share_mm(caller) if flags & CLONE_VM else _copy_mm(caller)",
                "_share_mm(caller) if flags & CLONE_VM and not flags & CLONE_VFORK else _copy_mm(caller)",
                when="flags & CLONE_VFORK",
            ),
        ),
    ),
    Mutant(
        "vfork-does-not-wait",
        "process",
        "The parent goes on beside its vforked child.",
        "rule 47: it sleeps until exec or exit",
        (
            Edit(
                "fork.clone",
                "    if flags & CLONE_VFORK:\n",
                "    if flags & CLONE_VFORK and mm is None:\n",
                when="flags & CLONE_VFORK",
            ),
        ),
    ),
    Mutant(
        "clone-vm-copies",
        "process",
        "CLONE_VM without CLONE_THREAD or CLONE_VFORK copies the memory.",
        "kernel/fork.c, copy_mm: CLONE_VM decides",
        (
            Edit(
                "fork.clone",
                "_share_mm(caller) if flags & CLONE_VM else",
                "_share_mm(caller) if flags & (CLONE_THREAD | CLONE_VFORK) else",
                when="flags & CLONE_VM and not flags & (CLONE_THREAD | CLONE_VFORK)",
            ),
        ),
    ),
    Mutant(
        "clone-parent-ignored",
        "process",
        "CLONE_PARENT makes a child of the caller.",
        "rule 48: of the caller's parent",
        (
            Edit(
                "fork._found_group",
                "if flags & CLONE_PARENT:",
                "if flags & CLONE_PARENT and flags < 0:",
                when="flags & CLONE_PARENT",
            ),
        ),
    ),
    Mutant(
        "clone-parent-of-init",
        "process",
        "pid 1 may clone with CLONE_PARENT.",
        "kernel/fork.c, copy_process: EINVAL, its child would be nobody's",
        (
            Edit(
                "fork._check",
                "(flags & CLONE_PARENT and caller.group is caller.system.init.group)",
                "(flags & CLONE_PARENT and caller.group is None)",
                when="flags & CLONE_PARENT and caller.group is caller.system.init.group",
            ),
        ),
    ),
    Mutant(
        "thread-without-sighand",
        "process",
        "CLONE_THREAD without CLONE_SIGHAND is accepted.",
        "rule 48: EINVAL",
        (
            Edit(
                "fork._check",
                "(flags & CLONE_THREAD and not flags & CLONE_SIGHAND)",
                "flags < 0",
                when="flags & CLONE_THREAD and not flags & CLONE_SIGHAND",
            ),
        ),
    ),
    Mutant(
        "sighand-without-vm",
        "process",
        "CLONE_SIGHAND without CLONE_VM is accepted.",
        "rule 48: EINVAL",
        (
            Edit(
                "fork._check",
                "(flags & CLONE_SIGHAND and not flags & CLONE_VM)",
                "flags < 0",
                when="flags & CLONE_SIGHAND and not flags & CLONE_VM",
            ),
        ),
    ),
    Mutant(
        "fork-resets-handlers",
        "process",
        "A child starts without its parent's handlers.",
        "fork copies them",
        (Edit("fork._found_group", "else creator.sighand.copy()", "else type(creator.sighand)()"),),
    ),
    Mutant(
        "fork-shares-handlers",
        "process",
        "What a child does about a signal is done for its parent too.",
        "only with CLONE_SIGHAND",
        (Edit("fork._found_group", "else creator.sighand.copy()", "else creator.sighand"),),
    ),
    Mutant(
        "fork-shares-limits",
        "process",
        "A child's limits are its parent's.",
        "copied; only threads share them",
        (Edit("fork.clone", "child.limits = caller.limits.fork()", "child.limits = caller.limits"),),
    ),
)

PROCESSES: Final = (*WAIT, *FAMILY, *CLONE)
