"""Tasks, and the thread groups they form: what runs, and what the outside calls a process.

    Group 7                       tgid: the pid of its first task, the leader
      Task 7  ---+                tasks have each their own pid, stack and blocked signals
      Task 9  ---+--> one Mm      CLONE_THREAD makes a task of the same group; it shares mm and sighand
                                  CLONE_VM alone, and vfork, make another group on the same mm

Source: Linux, include/linux/sched.h (task_struct), include/linux/sched/signal.h (signal_struct).
"""

from __future__ import annotations

import dataclasses
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Callable, Iterable
from signal import SIGBUS, SIGFPE, SIGILL, SIGSEGV, SIGSYS, SIGTRAP
from typing import TYPE_CHECKING, Final

from heaplab.abi import CLD_DUMPED, CLD_EXITED, CLD_KILLED, FIRST_REALTIME, SIG_DFL, Rusage, SigInfo
from heaplab.machine import Context

if TYPE_CHECKING:
    from heaplab.kernel.file import FdTable
    from heaplab.kernel.limits import Limits
    from heaplab.kernel.mm import Mm
    from heaplab.kernel.system import System
    from heaplab.look import Core

#: what a program runs when it catches a signal: a Python callable, opaque to the kernel
Handler = Callable[..., object]
#: from here on are the addresses that stand for them in struct sigaction; no program has memory there
_HANDLER_BASE: Final = 1 << 47


@dataclasses.dataclass(frozen=True)
class Action:
    """What a process does on a signal: SIG_DFL, SIG_IGN, or a handler; with flags (SA_*) and a mask.

    handler: a number above SIG_IGN is an address, which is kept: machine code is not run.
    restorer: an address that libc gives, kept likewise.
    """

    handler: int | Handler = SIG_DFL
    flags: int = 0
    mask: frozenset[int] = frozenset()
    restorer: int = 0


class Sighand:
    """The table of actions; shared by tasks made with CLONE_SIGHAND, copied at fork.

    handlers    those that were shown to rt_sigaction's callers, by the addresses that stand for them there
    """

    __slots__ = ("actions", "handlers")

    def __init__(
        self, actions: Iterable[tuple[int, Action]] = (), handlers: Iterable[tuple[int, Handler]] = ()
    ) -> None:
        self.actions: dict[int, Action] = dict(actions)
        self.handlers: dict[int, Handler] = dict(handlers)

    def __getitem__(self, signum: int) -> Action:
        return self.actions.get(signum, _DEFAULT)

    def copy(self) -> Sighand:
        """Return a table of one's own with the same actions."""
        new = Sighand.__new__(Sighand)
        new.actions, new.handlers = self.actions.copy(), self.handlers.copy()
        return new

    def address(self, handler: int | Handler) -> int:
        """Return what struct sigaction says for a handler: of a callable, always the same address."""
        if not callable(handler):
            return int(handler)
        for known, other in self.handlers.items():
            if other == handler:
                return known
        address = _HANDLER_BASE + 16 * len(self.handlers)
        self.handlers[address] = handler
        return address


_DEFAULT = Action()
#: what faults raise
_SYNCHRONOUS: Final = frozenset({SIGSEGV, SIGBUS, SIGILL, SIGTRAP, SIGFPE, SIGSYS})
_NOTHING_USED = Rusage()


class Pending:
    """Signals that were sent and not yet acted upon; below 32 each at most once."""

    __slots__ = ("infos",)

    def __init__(self) -> None:
        self.infos: list[SigInfo] = []

    def add(self, info: SigInfo) -> bool:
        """Note a signal; False when it waits already."""
        if info.signo < FIRST_REALTIME and any(info.signo == other.signo for other in self.infos):
            return False
        self.infos.append(info)
        return True

    def discard(self, signums: frozenset[int]) -> None:
        """Forget some signals."""
        self.infos = [info for info in self.infos if info.signo not in signums]

    def first(self, blocked: set[int]) -> SigInfo | None:
        """Return the signal to act upon first of those not blocked: a fault's, or the lowest number."""
        return min(
            (info for info in self.infos if info.signo not in blocked),
            key=lambda info: (info.signo not in _SYNCHRONOUS, info.signo),
            default=None,
        )


class SignalFrame:
    """A handler that was set up on a task's stack: it runs once those above it have returned.

    blocked   what was blocked before, and is again when it returns
    running   it has begun
    """

    __slots__ = ("action", "blocked", "info", "running")

    def __init__(self, info: SigInfo, action: Action, blocked: set[int]) -> None:
        self.info = info
        self.action = action
        self.blocked = blocked
        self.running = False


class Group:
    """A thread group: a process, as its parent, kill and wait see it.

    fixed at birth
        tgid          the pid of its leader
    until its last task exits
        living        tasks that have not exited, by pid, in the order of their birth
        sighand       what to do on signals
        pending       signals sent to the process, for any of its tasks to take
        target        the task where the search for one that takes a signal begins
        doomed        a signal sent that is the end of the process; 0: none
        stop_signal   what stopped it; 0: it is not stopped
        stopping      some of its tasks have yet to stop
        untold        it goes on after a stop: what SIGCHLD is to tell the parent of that, (CLD_*, status)
        subreaper     it takes in its descendants' orphans (PR_SET_CHILD_SUBREAPER)
    until it is collected
        leader        also when it has exited before the others
        parent        who waits for it: the one that forked it, or after that one's end its reaper
        place         its place among the parent's children: orphans come behind the reaper's own
        children      leaders, by pid, in the order of their places, zombies included
        news          of these the dead, and those with a job_event: (place, child), in order
        parent_task   the task of the parent's whose child it is: the one that forked it, then another
        pgid, sid     process group (set by `enter`) and session, inherited
        exit_signal   what the parent gets at its end
        execs         how often it has exec'ed
        parent_execs  how often its parent had, when it was forked
        oom_score_adj from -1000, never, to 1000, first: how willingly the OOM killer takes it; inherited
        exit_code     the status that wait reports, once dead
        core          what is left of its memory, if a signal ended it that leaves a core
        ending        the status of exit_group or of a fatal signal, while and after all tasks are ended
        job_event     CLD_STOPPED or CLD_CONTINUED, as long as no wait has reported it; else 0
    counters
        used          by tasks that have exited
        children_used by children collected, and theirs
    """

    __slots__ = (
        "children",
        "children_used",
        "core",
        "doomed",
        "ending",
        "execs",
        "exit_code",
        "exit_signal",
        "job_event",
        "leader",
        "living",
        "news",
        "oom_score_adj",
        "parent",
        "parent_execs",
        "parent_task",
        "pending",
        "pgid",
        "place",
        "sid",
        "sighand",
        "stop_signal",
        "stopping",
        "subreaper",
        "target",
        "tgid",
        "untold",
        "used",
    )

    def __init__(self, leader: Task, pgid: int, sid: int, sighand: Sighand, exit_signal: int) -> None:
        self.tgid = leader.pid
        self.leader = leader
        self.living: dict[int, Task] = {}
        self.place = next(leader.system.places)
        self.parent: Group | None = None
        self.children: dict[int, Task] = {}
        self.parent_task: Task
        self.news: list[tuple[int, Group]] = []
        self.pgid = 0
        self.enter(pgid)
        self.sid = sid
        self.sighand = sighand
        self.pending = Pending()
        self.target = leader
        self.doomed = 0
        self.exit_signal = exit_signal
        self.execs = self.parent_execs = 0
        self.oom_score_adj = 0
        self.exit_code = 0
        self.core: Core | None = None
        self.ending: int | None = None
        self.stop_signal = 0
        self.stopping = False
        self.untold: tuple[int, int] | None = None
        self.job_event = 0
        self.subreaper = False
        self.used = self.children_used = _NOTHING_USED

    @property
    def rusage(self) -> Rusage:
        """What its tasks used, living and dead."""
        return sum((task.rusage for task in self.living.values()), self.used)

    @property
    def threads(self) -> int:
        """How many tasks it has; a leader that has exited is there until it is waited for."""
        return len(self.living) + (self.leader.mm is None)

    def ring(self, first: Task) -> list[Task]:
        """Return the living tasks in the order of their birth, beginning with one, and round."""
        tasks = list(self.living.values())
        at = tasks.index(first)
        return tasks[at:] + tasks[:at]

    def adopt(self, child: Group, task: Task) -> None:
        """Become the parent of a process, which is a child of this task, its place behind all others."""
        if child.parent is not None:
            child.parent.disown(child)
            child.place = next(child.leader.system.places)
        child.parent, child.parent_task = self, task
        self.children[child.tgid] = child.leader
        if child.job_event or not child.living:
            child.announce()

    def disown(self, child: Group) -> None:
        """Be the parent of a process no longer."""
        del self.children[child.tgid]
        self.forget_news(child)

    def announce(self) -> None:
        """Be among the parent's news until that has heard of it.  O(log news)"""
        if self.parent is not None:
            news, entry = self.parent.news, (self.place, self)
            index = bisect_left(news, entry)
            if news[index : index + 1] != [entry]:
                news.insert(index, entry)

    def forget_news(self, child: Group) -> None:
        """Have heard of a child, if there was anything to hear.  O(log news)"""
        entry = (child.place, child)
        index = bisect_left(self.news, entry)
        if self.news[index : index + 1] == [entry]:
            del self.news[index]

    def enter(self, pgid: int) -> None:
        """Leave its process group for another, which begins with the first to enter; 0: for none."""
        process_groups = self.leader.system.process_groups
        if self.pgid:
            members = process_groups[self.pgid]
            del members[self]
            if not members:
                del process_groups[self.pgid]
        if pgid:
            process_groups.setdefault(pgid, {})[self] = None
        self.pgid = pgid

    @property
    def end(self) -> tuple[int, int]:
        """How a dead process ended, as siginfo tells it: (CLD_*, the exit code or the signal)."""
        signum = self.exit_code & 0x7F
        if not signum:
            return CLD_EXITED, self.exit_code >> 8
        return (CLD_KILLED if self.core is None else CLD_DUMPED), signum


class Task:
    """A thread of execution, from clone to its exit, a leader to the wait that collects it.

    fixed at birth (but exec gives the pid of the leader to whoever calls it)
        system, pid
        group       the process it belongs to
        context     its registers, as far as there are any: address space and counters
    until it exits
        mm          its address space; None once it is dead
        files       its descriptors; CLONE_FILES shares the table
        limits      resource limits; threads share them
        comm        its name
        entry       the address its program starts at, once it has exec'ed
        stack       where its stack pointer started; 0: at the same place as its parent's
        blocked     signals that wait
        pending     signals sent to this task alone
        sigpending  it is to look for signals when it next returns from the kernel (TIF_SIGPENDING)
        frames      handlers that were set up and have not returned, the topmost last
        vfork_child a task on the same mm; this one sleeps until that execs or exits
        vfork_parent  the same from the other side
        clear_child_tid  address that is zeroed at its exit (CLONE_CHILD_CLEARTID); 0: none
        scheduled   a scheduler runs its handlers; else they run as soon as a signal arrives
        waiting     its system call sleeps until something happens
    counters, kept after death
        minflt      page faults that were mended without reading a disk; the context has the number, because
                    the MMU mends faults too, in the window that `VmaMap` keeps
        majflt      page faults for which a page was read from disk
        syscalls    system calls by name
    """

    __slots__ = (
        "__weakref__",
        "blocked",
        "clear_child_tid",
        "comm",
        "context",
        "entry",
        "files",
        "frames",
        "group",
        "limits",
        "majflt",
        "mm",
        "pending",
        "pid",
        "scheduled",
        "sigpending",
        "stack",
        "syscalls",
        "system",
        "vfork_child",
        "vfork_parent",
        "waiting",
    )

    def __init__(self, system: System, pid: int, mm: Mm, comm: str) -> None:
        self.system = system
        self.pid = pid
        self.group: Group
        self.context: Context
        self.mm: Mm | None = mm
        self.comm = comm
        self.stack = 0
        self.entry = 0
        self.blocked: set[int] = set()
        self.pending = Pending()
        self.sigpending = False
        self.frames: list[SignalFrame] = []
        self.vfork_child: Task | None = None
        self.vfork_parent: Task | None = None
        self.clear_child_tid = 0
        self.scheduled = False
        self.waiting = False
        self.files: FdTable
        self.limits: Limits
        self.majflt = 0
        self.syscalls: defaultdict[str, int] = defaultdict(int)

    def __repr__(self) -> str:
        return f"<Task {self.pid} {self.comm} {self.state}>"

    def join(self, group: Group) -> None:
        """Become a task of a group."""
        self.group = group
        group.living[self.pid] = self

    @property
    def tgid(self) -> int:
        """The pid of the process: of its first task."""
        return self.group.tgid

    @property
    def parent(self) -> Task | None:
        """The leader of the parent process."""
        return self.group.parent.leader if self.group.parent is not None else None

    @property
    def children(self) -> dict[int, Task]:
        """The leaders of the process's children."""
        return self.group.children

    @property
    def memory(self) -> Mm:
        """The address space of a task that lives."""
        assert self.mm is not None
        return self.mm

    @property
    def may_run(self) -> bool:
        """Whether it could go on now: it is neither stopped nor asleep for the sake of a vforked child."""
        return self.vfork_child is None and not self.group.stop_signal

    @property
    def state(self) -> str:
        """The letters of ps: R running; S asleep; D asleep, a vforked child has its memory; T stopped;
        Z a zombie: dead, and not yet waited for; X collected."""
        if self.mm is None:
            return "Z" if self.system.tasks.get(self.pid) is self else "X"
        if self.vfork_child is not None:
            return "D"
        if self.group.stop_signal:
            return "T"
        return "S" if self.waiting else "R"

    @property
    def minflt(self) -> int:
        """See above."""
        return int(self.context.raw.minor_faults)

    @minflt.setter
    def minflt(self, count: int) -> None:
        self.context.raw.minor_faults = count

    @property
    def rusage(self) -> Rusage:
        """What it used so far."""
        if self.mm is None:
            return Rusage(self.minflt, self.majflt)
        peak = int(self.mm.space.raw.peak_rss) << self.mm.page_shift
        return Rusage(self.minflt, self.majflt, peak >> 10)

    def take_or_leave_cpu(self) -> None:
        """Let accesses reach the memory if it may run; else each traps, and hears why not."""
        space = self.mm.space if self.mm is not None and self.may_run else None
        self.context.switch(space)
