"""Mistakes about signals: who is reached, what they do by default, and handlers."""

from typing import Final

from heaplab.testing.conform.mutants.plant import Edit, Mutant

SIGNALS: Final = (
    Mutant(
        "zombies-take-no-signals",
        "process",
        "kill of a zombie gives ESRCH.",
        "rule 43: it succeeds until the zombie is reaped",
        (
            Edit(
                "signals._receivers",
                "return [task.group] if task is not None else []",
                "return [task.group] if task is not None and task.group.living else []",
                when="task is not None and not task.group.living",
            ),
        ),
    ),
    Mutant(
        "signal-checked-before-pid",
        "process",
        "kill of nobody with a signal that does not exist gives EINVAL.",
        "kernel/signal.c, kill_something_info: ESRCH, the receiver is looked for first",
        (
            Edit(
                "signals.kill",
                "if not receivers:",
                "if not receivers and 0 <= signum <= LAST_SIGNAL:",
                when="not receivers and not 0 <= signum <= LAST_SIGNAL",
            ),
        ),
    ),
    Mutant(
        "kill-all-reaches-the-sender",
        "process",
        "kill(-1) counts the sender among the receivers.",
        "kernel/signal.c: all but pid 1 and the sender; ESRCH when that is nobody",
        (
            Edit(
                "signals._receivers",
                "group not in (system.init.group, sender.group)",
                "group is not system.init.group",
            ),
        ),
    ),
    Mutant(
        "init-can-be-killed",
        "process",
        "A signal without a handler ends pid 1 too.",
        "kernel/signal.c, sig_task_ignored: SIGNAL_UNKILLABLE",
        (
            Edit(
                "sigqueue.ignores",
                "is_init = group is group.leader.system.init.group",
                "is_init = False",
            ),
        ),
    ),
    Mutant(
        "init-forgets-what-waits",
        "process",
        "What waits for pid 1 goes when it asks for the default, which does nothing to it.",
        "kernel/signal.c, do_sigaction: only what is ignored goes",
        (
            Edit(
                "signals.sigaction",
                "if is_ignored(task.group, signum):",
                "if ignores(task.group, signum):",
                when="ignores(task.group, signum) and not is_ignored(task.group, signum)",
            ),
        ),
    ),
    Mutant(
        "sigcont-does-not-resume",
        "process",
        "SIGCONT leaves a stopped process stopped.",
        "it goes on, whatever it does about the signal",
        (
            Edit(
                "sigqueue.send",
                "        resume(group)\n",
                "        group.living\n",
                when="group.stop_signal",
            ),
        ),
    ),
    Mutant(
        "stop-survives-sigcont",
        "process",
        "A stop signal that waits still stops the process after SIGCONT.",
        "kernel/signal.c, prepare_signal: each takes the other back",
        (
            Edit(
                "sigqueue.send",
                "pending.discard(STOPPING)",
                "pending.discard(frozenset())",
                when="any(info.signo in STOPPING for pending in everywhere for info in pending.infos)",
            ),
        ),
    ),
    Mutant(
        "stopped-cannot-be-killed",
        "process",
        "SIGKILL waits until a stopped process is continued.",
        "it ends it at once",
        (
            Edit(
                "sigqueue._wants",
                "return signum == SIGKILL or not",
                "return not",
                when="signum == SIGKILL and task.group.stop_signal",
            ),
        ),
    ),
    Mutant(
        "stopped-hears-sigterm",
        "process",
        "SIGTERM ends a stopped process.",
        "signal(7): it waits until the process goes on",
        (
            Edit(
                "sigqueue._wants",
                "(task.group.stop_signal or task.sigpending)",
                "task.sigpending",
                when="task.group.stop_signal",
            ),
        ),
    ),
    Mutant(
        "asleep-in-vfork-hears-the-second",
        "process",
        "A task asleep in vfork dies of SIGTERM though a stop waits for it already.",
        "kernel/signal.c, wants_signal: not one that has a signal to look for",
        (
            Edit(
                "sigqueue._wants",
                "(task.group.stop_signal or task.sigpending)",
                "task.group.stop_signal",
                when="task.sigpending and task.vfork_child is not None",
            ),
        ),
    ),
    Mutant(
        "orphaned-group-stops",
        "process",
        "SIGTSTP stops a process of an orphaned group, which nobody would continue.",
        "kernel/signal.c, get_signal: ignored there",
        (
            Edit(
                "signals._default",
                "signum == SIGSTOP or not is_orphaned(group.leader.system, group.pgid)",
                "signum in STOPPING",
            ),
        ),
    ),
    Mutant(
        "orphaned-group-takes-no-sigstop",
        "process",
        "SIGSTOP does not stop a process of an orphaned group.",
        "it always stops",
        (
            Edit(
                "signals._default",
                "signum == SIGSTOP or not is_orphaned(group.leader.system, group.pgid)",
                "not is_orphaned(group.leader.system, group.pgid)",
            ),
        ),
    ),
    Mutant(
        "orphaned-jobs-stay-stopped",
        "process",
        "Stopped processes whose group becomes orphaned stay stopped.",
        "kernel/exit.c, kill_orphaned_pgrp: SIGHUP and SIGCONT",
        (
            Edit(
                "exit._hang_up_orphaned_jobs",
                "if any(member.stop_signal for member in members):",
                "if not members:",
                when="any(member.stop_signal for member in members)",
            ),
        ),
    ),
    Mutant(
        "blocked-signals-are-reset",
        "process",
        "A child blocks no signals.",
        "fork copies the mask",
        (
            Edit(
                "fork.clone",
                "child.blocked = set(caller.blocked)",
                "child.blocked = set()",
                when="caller.blocked",
            ),
        ),
    ),
    Mutant(
        "setpgid-after-exec",
        "exec",
        "A child that has exec'ed can still be moved to another process group.",
        "setpgid(2): EACCES",
        (
            Edit(
                "jobs.setpgid",
                "if group.execs:",
                "if group.sid < 0:",
                when="group.execs",
            ),
        ),
    ),
    Mutant(
        "setpgid-to-any-number",
        "process",
        "A process can be put into a group that does not exist.",
        "setpgid(2): EPERM",
        (
            Edit(
                "jobs.setpgid",
                "if pgid != pid and not in_session:",
                "if pgid < 0 and not in_session:",
                when="pgid != pid and not in_session",
            ),
        ),
    ),
)

HANDLERS: Final = (
    Mutant(
        "first-signal-runs-first",
        "process",
        "Of several handlers the one that was set up first runs first.",
        "kernel/signal.c: each is set up above the one before, and the topmost runs",
        (
            Edit(
                "signals._act",
                "_set_up(task, *found)",
                "_set_up(task, *found)\n            _run_handler(task)",
            ),
        ),
    ),
    Mutant(
        "handlers-mask-is-forgotten",
        "process",
        "While a handler runs, its sa_mask is not blocked.",
        "sigaction(2): it is",
        (
            Edit(
                "signals.handler_mask",
                "set(action.mask) |",
                "set() |",
                when="action.mask",
            ),
        ),
    ),
    Mutant(
        "handler-is-interrupted-by-its-own-signal",
        "process",
        "A handler may be interrupted by its own signal.",
        "sigaction(2): only with SA_NODEFER",
        (
            Edit(
                "signals.handler_mask",
                "set() if action.flags & SA_NODEFER else {info.signo}",
                "set()",
                when="not action.flags & SA_NODEFER",
            ),
        ),
    ),
    Mutant(
        "nodefer-is-forgotten",
        "process",
        "A handler blocks its own signal, whatever SA_NODEFER says.",
        "sigaction(2): with SA_NODEFER it does not",
        (
            Edit(
                "signals.handler_mask",
                "set() if action.flags & SA_NODEFER else {info.signo}",
                "{info.signo}",
                when="action.flags & SA_NODEFER",
            ),
        ),
    ),
    Mutant(
        "handler-stays-after-resethand",
        "process",
        "A handler for once stays.",
        "sigaction(2): SA_RESETHAND",
        (
            Edit(
                "signals._reset",
                "if action.flags & SA_RESETHAND:",
                "if signum < 0:",
                when="action.flags & SA_RESETHAND",
            ),
        ),
    ),
    Mutant(
        "mask-stays-after-the-handler",
        "process",
        "What a handler blocked stays blocked when it returns.",
        "rt_sigreturn restores the mask",
        (
            Edit(
                "signals._run_handler",
                "            task.blocked = task.frames.pop().blocked\n    finally",
                "            task.frames.pop()\n    finally",
            ),
        ),
    ),
    Mutant(
        "signals-are-counted",
        "process",
        "A standard signal that waits already waits twice.",
        "kernel/signal.c, legacy_queue: once",
        (
            Edit(
                "task.Pending.add",
                "if info.signo < FIRST_REALTIME and",
                "if info.signo < 0 and",
                when="info.signo < FIRST_REALTIME and any(info.signo == other.signo for other in self.infos)",
            ),
        ),
    ),
    Mutant(
        "real-time-signals-are-not-counted",
        "process",
        "A real-time signal that waits already is lost.",
        "signal(7): they queue",
        (
            Edit(
                "task.Pending.add",
                "if info.signo < FIRST_REALTIME and",
                "if info.signo > 0 and",
                when="info.signo >= FIRST_REALTIME and info.signo in [each.signo for each in self.infos]",
            ),
        ),
    ),
    Mutant(
        "highest-signal-first",
        "process",
        "Of several signals the highest number is taken first.",
        "kernel/signal.c, next_signal: the lowest",
        (
            Edit(
                "task.Pending.first",
                "(info.signo not in _SYNCHRONOUS, info.signo)",
                "(info.signo not in _SYNCHRONOUS, -info.signo)",
                when="len(self.infos) > 1",
            ),
        ),
    ),
    Mutant(
        "sigchld-asks-the-first-thread",
        "process",
        "SIGCHLD is for the first thread, whichever forked the child.",
        "kernel/signal.c, do_notify_parent: the one that forked it is asked first",
        (
            Edit(
                "exit._notify_parent",
                "named=group.parent_task)",
                "named=None)",
                when="len(parent.living) > 1",
            ),
        ),
    ),
    Mutant(
        "search-begins-with-the-first-thread",
        "process",
        "The search for a thread that takes a signal begins with the first one each time.",
        "kernel/signal.c, complete_signal: with curr_target",
        (
            Edit(
                "sigqueue._choose",
                "group.target = chosen",
                "pass",
                when="group.target is not chosen",
            ),
        ),
    ),
    Mutant(
        "stop-is-told-to-who-ignores",
        "process",
        "A parent that ignores and blocks SIGCHLD has one waiting when a child stops.",
        "kernel/signal.c, do_notify_parent_cldstop",
        (
            Edit(
                "sigqueue._tell_parent",
                "action.handler != SIG_IGN and not",
                "action.handler != -1 and not",
                when="action.handler == SIG_IGN",
            ),
        ),
    ),
    Mutant(
        "nocldstop-is-forgotten",
        "process",
        "SIGCHLD is sent when a child stops, whatever SA_NOCLDSTOP says.",
        "sigaction(2): then it is not",
        (
            Edit(
                "sigqueue._tell_parent",
                "not action.flags & SA_NOCLDSTOP",
                "action.flags >= 0",
                when="action.flags & SA_NOCLDSTOP",
            ),
        ),
    ),
    Mutant(
        "sigchld-does-not-say-how",
        "process",
        "SIGCHLD does not say with which code or signal a child ended.",
        "sigaction(2): si_status",
        (
            Edit(
                "exit._notify_parent",
                "SigInfo(signum, code, group.tgid, status)",
                "SigInfo(signum, code, group.tgid)",
                when="status",
            ),
        ),
    ),
    Mutant(
        "sigpending-tells-the-processs-alone",
        "process",
        "sigpending leaves out what was sent to the one thread.",
        "sigpending(2): what the thread and the process have",
        (
            Edit(
                "signals.sigpending",
                "for pending in (task.pending, task.group.pending)",
                "for pending in (task.group.pending,)",
                when="task.pending.infos",
            ),
        ),
    ),
    Mutant(
        "dead-children-are-no-ties",
        "process",
        "A dead child that gets another parent leaves no job behind.",
        "kernel/exit.c, reparent_leader: kill_orphaned_pgrp for the dead too",
        (
            Edit(
                "exit._reparent",
                "    _hang_up_orphaned_jobs(child, old)",
                "    if child.living:\n        _hang_up_orphaned_jobs(child, old)",
                when="not child.living",
            ),
        ),
    ),
)
