"""What the generator knows about processes: rules, as those of memory_rules."""

from collections.abc import Generator, Iterator
from signal import (
    SIGCHLD,
    SIGCONT,
    SIGHUP,
    SIGKILL,
    SIGSTOP,
    SIGTERM,
    SIGTSTP,
    SIGTTIN,
    SIGUSR1,
    SIGUSR2,
    SIGWINCH,
)
from typing import Final

from heaplab.abi import (
    CLONE_CHILD_CLEARTID,
    CLONE_CHILD_SETTID,
    CLONE_FILES,
    CLONE_FS,
    CLONE_NEWNS,
    CLONE_PARENT,
    CLONE_PARENT_SETTID,
    CLONE_SIGHAND,
    CLONE_THREAD,
    CLONE_VFORK,
    CLONE_VM,
    P_ALL,
    P_PGID,
    P_PID,
    RUSAGE_CHILDREN,
    RUSAGE_SELF,
    RUSAGE_THREAD,
    SA_NOCLDSTOP,
    SA_NOCLDWAIT,
    SA_NODEFER,
    SA_RESETHAND,
    SIG_BLOCK,
    SIG_DFL,
    SIG_IGN,
    SIG_SETMASK,
    SIG_UNBLOCK,
    WCONTINUED,
    WEXITED,
    WNOHANG,
    WNOWAIT,
    WSTOPPED,
    WUNTRACED,
    Rlimit,
    sigset,
)
from heaplab.process import THREAD_FLAGS as THREAD
from heaplab.testing.conform.scene import MOST, Scene
from heaplab.testing.conform.steps import (
    CATCHER,
    Birth,
    Clone,
    Exit,
    Fork,
    Getpgid,
    Getpid,
    Getppid,
    Getrusage,
    Getsid,
    Gettid,
    Kill,
    Leave,
    Load,
    Setpgid,
    Setrlimit,
    Setsid,
    Sigaction,
    Sigpending,
    Sigprocmask,
    Step,
    Store,
    Subreaper,
    Tgkill,
    Vfork,
    Wait4,
    Waitid,
)


def fork(scene: Scene) -> Iterator[Step]:
    """A child, and then stores on either side of it."""
    if len(scene.world.views) >= MOST:
        return
    before = set(scene.world.views)
    yield Fork(scene.pid)
    children = [pid for pid in scene.world.views if pid not in before]
    if not children:
        return
    pages = scene.present_pages()
    for _ in range(scene.chance.randint(0, 4) if pages else 0):
        page, who = scene.one(pages), scene.one((scene.pid, *children))
        yield Store(who, page, 8, 0, who) if scene.likely(0.8) else Load(who, page)


def exit_(scene: Scene) -> Iterator[Step]:
    """The end of a process, and at times the parent that looks for it."""
    if scene.pid == 1:
        return
    parent = scene.world.views[scene.pid].ppid
    yield Exit(scene.pid, scene.one((0, 1, 3, 255, 256, 300, -1, scene.chance.randrange(1 << 31))))
    if scene.likely(0.4):
        yield Wait4(parent, scene.one((-1, -1, scene.pid)), WNOHANG)


def wait(scene: Scene) -> Iterator[Step]:
    """A wait, for a child or for what is none."""
    children = [pid for pid, view in scene.world.views.items() if view.ppid == scene.pid]
    target = scene.weighted({-1: 50, 0: 5, -1 - scene.pid: 2, -(1 << 31): 1, scene.pid: 2, 99: 2})
    if children and scene.likely(0.4):
        target = scene.one(children)
    if scene.likely(0.05):
        target = scene.one(list(scene.world.views))
    options = scene.weighted({WNOHANG: 60, 0: 30, WNOHANG | WUNTRACED: 4, WCONTINUED: 2, 0x10: 1, 4: 1})
    status_addr = scene.address() if scene.likely(0.15) else 0
    yield Wait4(scene.pid, target, options, status_addr)


def reap_all(scene: Scene) -> Iterator[Step]:
    """Waits until no child is dead."""
    for _ in range(MOST):
        views = scene.world.views
        if not any(view.ppid == scene.pid and view.state == "Z" for view in views.values()):
            return
        yield Wait4(scene.pid, -1, WNOHANG)


def who_am_i(scene: Scene) -> Iterator[Step]:
    """What a process is called, its parent, what it used, what waits for it."""
    pid = scene.pid
    used = Getrusage(pid, scene.one((RUSAGE_SELF, RUSAGE_CHILDREN, RUSAGE_THREAD, 7)))
    yield scene.one((Getpid(pid), Getppid(pid), Gettid(pid), used, Sigpending(pid)))


def kill(scene: Scene) -> Iterator[Step]:
    """A signal that does nothing, ends, stops or continues somebody, or is none."""
    target = scene.one([*scene.world.views, *scene.world.views, 99])
    sig = scene.weighted(_SIGNALS)
    if scene.likely(0.03):
        target = scene.weighted({0: 2, -1: 1, -scene.pid: 1, -(1 << 31): 1})
        # of several that die at once, and their sender, Linux leaves open who is the first
        sig = scene.one((0, SIGCHLD, SIGWINCH, SIGSTOP, SIGCONT, 65, -1))
    if scene.likely(0.03):
        yield Kill(scene.pid, 99, 65)  # nobody, and no signal: which is looked at first?
    elif scene.likely(0.3):
        yield Tgkill(scene.pid, scene.one((target, scene.world.of(max(target, 1)).tgid, 0)), target, sig)
    else:
        yield Kill(scene.pid, target, sig)


_SIGNALS: Final = {
    0: 20,
    SIGTERM: 8,
    SIGKILL: 8,
    SIGHUP: 3,
    SIGUSR1: 3,
    SIGCHLD: 3,
    SIGCONT: 4,
    SIGSTOP: 4,
    SIGTSTP: 2,
    SIGTTIN: 1,
    SIGWINCH: 2,
    65: 1,
    -1: 1,
}
#: signals that actions and masks are set for
_PLAYED: Final = (SIGTERM, SIGHUP, SIGUSR1, SIGCHLD, SIGCONT, SIGTSTP, SIGWINCH)
#: signals that handlers are given; those from 34 on wait as often as they were sent
_CAUGHT: Final = (SIGTERM, SIGHUP, SIGUSR1, SIGUSR2, SIGCHLD, SIGCONT, SIGTSTP, 34, 40)


def others(scene: Scene) -> list[int]:
    """The children of the process."""
    return [pid for pid, view in scene.world.views.items() if view.ppid == scene.pid]


def stop_and_continue(scene: Scene) -> Iterator[Step]:
    """A child stopped and continued, and what wait tells of that, once (rule 42)."""
    pid, children = scene.pid, others(scene)
    if not children:
        yield from fork(scene)
        return
    child = scene.one(children)
    yield Kill(pid, child, scene.one((SIGSTOP, SIGSTOP, SIGTSTP)))
    for _ in range(scene.chance.randint(1, 3)):
        yield scene.one(
            (
                Wait4(pid, scene.one((-1, child)), WNOHANG | WUNTRACED),
                Wait4(pid, -1, WNOHANG | WUNTRACED | WCONTINUED),
                Waitid(pid, P_PID, child, WNOHANG | scene.one((WSTOPPED, WCONTINUED, WSTOPPED | WNOWAIT))),
                Kill(pid, child, scene.one((SIGTERM, SIGKILL, SIGCONT))),
            )
        )
    yield Kill(pid, child, SIGCONT)
    yield Wait4(pid, child, WNOHANG | scene.one((WCONTINUED, WUNTRACED, 0)))


def born(scene: Scene, birth: Birth) -> Generator[Step, None, int | None]:
    """Let a task be made; the value of `yield from` is its pid, None when it was not."""
    before = set(scene.world.views)
    yield birth
    return next((pid for pid in scene.world.views if pid not in before), None)


def told_once(scene: Scene) -> Iterator[Step]:
    """A stop that is told of once, and signals that a stopped process does not hear but for SIGKILL."""
    pid = scene.pid
    if len(scene.world.views) >= MOST:
        return
    child = yield from born(scene, Fork(pid))
    if child is None:
        return
    yield Kill(pid, child, scene.one((SIGSTOP, SIGTSTP)))
    for _ in range(2):
        yield Wait4(pid, child, WNOHANG | WUNTRACED)
    yield Kill(pid, child, scene.one((SIGTERM, SIGTERM, SIGKILL, SIGUSR1)))
    yield Waitid(pid, P_PID, child, WNOHANG | WEXITED)
    yield Kill(pid, child, SIGCONT)
    yield Waitid(pid, P_PID, child, WNOHANG | WCONTINUED | WEXITED)


def told_again(scene: Scene) -> Iterator[Step]:
    """A dead child that is heard of with WNOWAIT as often as one likes, and then once."""
    pid = scene.pid
    if len(scene.world.views) >= MOST:
        return
    child = yield from born(scene, Fork(pid))
    if child is None:
        return
    yield Exit(child, 9)
    for _ in range(2):
        yield Waitid(pid, P_PID, child, WEXITED | WNOWAIT | WNOHANG)
    for _ in range(2):
        yield Wait4(pid, child, WNOHANG)


def vanishing(scene: Scene) -> Iterator[Step]:
    """Children that leave no zombie, since nobody wants to know (rule 46)."""
    pid = scene.pid
    if len(scene.world.views) >= MOST:
        return
    handler, flags = scene.one(((SIG_IGN, 0), (SIG_DFL, SA_NOCLDWAIT)))
    yield Sigaction(pid, SIGCHLD, handler, flags)
    child = yield from born(scene, scene.one((Fork(pid), Fork(pid), Clone(pid, SIGUSR1), Clone(pid, 0))))
    if child is not None:
        yield Exit(child, 1)
        yield Wait4(pid, scene.one((-1, child)), WNOHANG)
    yield Sigaction(pid, SIGCHLD, SIG_DFL)


def blocked_in_child(scene: Scene) -> Iterator[Step]:
    """A signal blocked by the parent waits in the child too; a stop that waits is undone by SIGCONT."""
    pid = scene.pid
    if len(scene.world.views) >= MOST or pid == 1:
        return
    sig = scene.one((SIGTERM, SIGUSR1, SIGTSTP, SIGTSTP))
    if scene.likely(0.5):
        yield Setpgid(
            pid, 0, 0
        )  # where a terminal's stop has an effect: with somebody outside who could undo it
    yield Sigprocmask(pid, SIG_BLOCK, 1 << (sig - 1))
    child = (yield from born(scene, scene.one((Fork(pid), Fork(pid), Vfork(pid), Clone(pid, THREAD))))) or pid
    yield Kill(1, child, sig)
    if scene.likely(0.5):
        yield Kill(1, child, SIGCONT)
    for who in {child, pid}:
        yield Sigprocmask(who, SIG_UNBLOCK, 1 << (sig - 1))
    if child != pid and child in scene.world.living():
        yield Exit(child, 0)


def orphaned_job(scene: Scene) -> Iterator[Step]:
    """A stopped job whose last tie to its session goes: it is hung up, and continued."""
    pid = scene.pid
    if len(scene.world.views) >= MOST - 2:
        return
    leader = yield from born(scene, Fork(pid))
    if leader is None:
        return
    if scene.likely(0.8):
        yield Setsid(leader) if scene.likely(0.7) else Setpgid(pid, leader, leader)
    job = yield from born(scene, Fork(leader))
    if job is None:
        return
    if scene.likely(0.7):
        yield Setpgid(job, 0, scene.one((0, 0, 0, 7777)))
    member = (yield from born(scene, Fork(job))) or job
    yield Kill(1, scene.one((member, job)), scene.one((SIGSTOP, SIGTSTP)))
    yield Exit(scene.one((leader, leader, job)), 0)
    yield Kill(1, member, scene.one((SIGCONT, SIGTERM, SIGTSTP)))


def last_ties(scene: Scene) -> Iterator[Step]:
    """A stopped job whose group has a tie to the session left: the parent of one that is dead already."""
    pid = scene.pid
    if pid == 1 or len(scene.world.views) >= MOST - 3:
        return
    yield Setpgid(pid, 0, 0)
    stopped = yield from born(scene, Fork(pid))
    keeper = yield from born(scene, Fork(pid))
    if stopped is None or keeper is None:
        return
    dead = yield from born(scene, Fork(keeper))
    if dead is not None:
        yield Exit(dead, 0)
    yield Setpgid(keeper, 0, 0)
    yield Kill(1, stopped, SIGSTOP)
    yield Exit(scene.one((keeper, keeper, pid)), 0)
    yield Kill(1, stopped, scene.one((0, SIGCONT, SIGKILL)))


def orphans(scene: Scene) -> Iterator[Step]:
    """A child and a grandchild of what may be a subreaper: the child ends, and whose is the grandchild?"""
    pid = scene.pid
    if len(scene.world.views) >= MOST - 2:
        return
    yield Subreaper(pid, scene.one((1, 1, 1, 0)))
    child = yield from born(scene, scene.one((Fork(pid), Fork(pid), Vfork(pid), Clone(pid, THREAD))))
    if child is None:
        return
    grandchild = yield from born(scene, Fork(child))
    if grandchild is None:
        return
    if scene.likely(0.3):
        yield Fork(grandchild)
    yield Exit(scene.one((child, grandchild)), 0)
    yield Exit(scene.one((child, grandchild)), 0)
    yield Wait4(pid, -1, WNOHANG)
    yield Wait4(1, -1, WNOHANG)


def whose_children(scene: Scene) -> Iterator[Step]:
    """Two tasks of a process with a dead child each: who waits hears of its own first; or one ends before."""
    pid = scene.pid
    if pid == 1 or len(scene.world.views) >= MOST - 2:
        return
    thread = yield from born(scene, Clone(pid, THREAD))
    if thread is None:
        return
    tasks = scene.chance.sample((pid, thread), 2)
    for task in tasks:
        child = yield from born(scene, Fork(task))
        if child is not None:
            yield Exit(child, 0)
    if scene.likely(0.3):
        yield Leave(thread, 0)
    for _ in range(2):
        yield Wait4(scene.one(tasks), -1, WNOHANG)
    yield scene.one((Leave(thread, 0), Exit(thread, 0)))


def nobody_left(scene: Scene) -> Iterator[Step]:
    """All end but pid 1 and one more; a signal to everybody then reaches nobody."""
    if scene.pid == 1:
        return
    for pid in [pid for pid in scene.world.views if pid not in (1, scene.pid)]:
        yield Kill(1, pid, SIGKILL)
    for who in (1, scene.pid):
        yield from reap_all(Scene(scene.chance, scene.world, who))
    if set(scene.world.views) == {1, scene.pid}:
        yield Kill(scene.pid, -1, scene.one((0, SIGTERM, SIGKILL)))


def invalid_clone(scene: Scene) -> Iterator[Step]:
    """Flags that contradict each other, and a sibling of pid 1 (rule 48)."""
    pid = scene.pid
    yield scene.one(
        (
            Clone(pid, CLONE_THREAD | SIGCHLD),
            Clone(pid, CLONE_THREAD | CLONE_VM),
            Clone(pid, CLONE_THREAD | CLONE_SIGHAND),
            Clone(pid, CLONE_SIGHAND | SIGCHLD),
            Clone(pid, CLONE_NEWNS | CLONE_FS),
            Clone(1, CLONE_PARENT | SIGCHLD),
        )
    )


def continue_all(scene: Scene) -> Iterator[Step]:
    """Whoever is stopped goes on, or ends."""
    for pid, view in list(scene.world.views.items()):
        if view.state == "T":
            yield Kill(scene.pid, pid, scene.one((SIGCONT, SIGCONT, SIGKILL)))


def waitid(scene: Scene) -> Iterator[Step]:
    """waitid, for a child, a process group, anybody, nobody; once or again and again."""
    options = scene.weighted(
        {
            WEXITED: 40,
            WEXITED | WNOWAIT: 20,
            WSTOPPED: 8,
            WCONTINUED: 8,
            WEXITED | WSTOPPED | WCONTINUED: 10,
            0: 2,
        }
    )
    whom = scene.weighted({P_ALL: 40, P_PID: 40, P_PGID: 20, 7: 1})
    target = scene.one([*others(scene), scene.pid, 99, 0, 1, -1])
    if whom == P_PGID:
        target = scene.one([view.pgid for view in scene.world.views.values()])
    yield Waitid(scene.pid, whom, target, options | scene.weighted({WNOHANG: 8, 0: 2}))


def clone(scene: Scene) -> Iterator[Step]:
    """A task that shares some of what its maker has, or what may not be shared alone (rule 48)."""
    if len(scene.world.views) >= MOST:
        return
    flags = scene.weighted(
        {
            SIGCHLD: 8,
            0: 5,
            SIGUSR1: 3,
            SIGTERM: 1,
            CLONE_VM | SIGCHLD: 8,
            CLONE_VM | CLONE_FS: 2,
            CLONE_VM | CLONE_SIGHAND | SIGCHLD: 3,
            CLONE_FILES | SIGCHLD: 4,
            CLONE_PARENT | SIGCHLD: 6,
            CLONE_PARENT | CLONE_VM: 2,
            CLONE_VM | CLONE_VFORK: 2,
            THREAD: 14,
            THREAD | CLONE_PARENT: 1,
            CLONE_THREAD | SIGCHLD: 2,
            CLONE_THREAD | CLONE_VM: 1,
            CLONE_SIGHAND | SIGCHLD: 2,
            CLONE_THREAD | CLONE_SIGHAND: 1,
            CLONE_VM | CLONE_NEWNS | CLONE_FS: 1,
        }
    )
    if not flags & CLONE_VFORK and scene.likely(0.2):
        flags |= CLONE_PARENT_SETTID
    if scene.likely(0.2):
        flags |= CLONE_CHILD_SETTID
    if scene.likely(0.2):
        flags |= CLONE_CHILD_CLEARTID
    before = set(scene.world.views)
    yield Clone(scene.pid, flags, scene.address(), scene.address())
    pages = scene.present_pages()
    for child in set(scene.world.views) - before:
        for _ in range(scene.chance.randint(0, 3) if pages else 0):
            yield Store(scene.one((scene.pid, child)), scene.one(pages), 8, 0, child)


def threads(scene: Scene) -> Iterator[Step]:
    """A process of several tasks, that end in any order, the leader's too, or all at once."""
    if len(scene.world.views) >= MOST - 2 or scene.pid == 1:
        return
    before = set(scene.world.views)
    for _ in range(scene.chance.randint(1, 2)):
        yield Clone(scene.pid, THREAD)
    tasks = [scene.pid, *(pid for pid in scene.world.views if pid not in before)]
    for _ in range(scene.chance.randint(1, 6)):
        who = scene.one([pid for pid in tasks if pid in scene.world.living()] or [1])
        if who == 1:
            break
        address = Scene(scene.chance, scene.world, who).address()
        yield scene.one(
            (
                Store(who, address),
                Load(who, address),
                Getpid(who),
                Gettid(who),
                Getppid(who),
                Fork(who) if scene.likely(0.3) else Getpid(who),
                Leave(who, 5) if scene.likely(0.5) else Gettid(who),
                Wait4(who, -1, WNOHANG),
                Tgkill(who, scene.world.of(who).tgid, scene.one(tasks), scene.one((0, SIGWINCH, SIGUSR1))),
            )
        )
    living = [pid for pid in tasks if pid in scene.world.living()]
    if living:
        yield scene.one((Exit(scene.one(living), 3), Leave(scene.one(living), 4), Getpid(living[0])))


def leave(scene: Scene) -> Iterator[Step]:
    """The end of a task."""
    if scene.pid != 1:
        yield Leave(scene.pid, scene.one((0, 7, 300)))


def vfork(scene: Scene) -> Iterator[Step]:
    """A child in the parent's memory, what it does there, and its end (rule 47)."""
    if len(scene.world.views) >= MOST:
        return
    before = set(scene.world.views)
    yield Vfork(scene.pid)
    for child in set(scene.world.views) - before:
        inner = Scene(scene.chance, scene.world, child)
        for _ in range(scene.chance.randint(0, 4)):
            yield scene.one(
                (
                    Store(child, inner.address()),
                    Load(child, inner.address()),
                    Getppid(child),
                    Kill(1, scene.pid, scene.one((0, 0, 0, SIGTERM, SIGKILL, SIGSTOP))),
                    Fork(child) if scene.likely(0.2) else Getpid(child),
                )
            )
        if scene.likely(0.8):
            yield Exit(child, 1)
        else:
            yield Kill(1, child, SIGKILL)
    if scene.pid in scene.world.living():
        yield Load(scene.pid, scene.address())


def signals_in_vfork(scene: Scene) -> Iterator[Step]:
    """Signals, one after the other, for a task that sleeps in vfork: what of them does it hear, and when?"""
    pid = scene.pid
    if len(scene.world.views) >= MOST - 2:
        return
    parent = (yield from born(scene, Fork(pid))) if scene.likely(0.8) or pid == 1 else pid
    if parent is None:
        return
    if scene.likely(0.3):
        yield Clone(parent, THREAD)
    child = yield from born(scene, Vfork(parent))
    if child is None:
        return
    first = scene.one((SIGSTOP, SIGSTOP, SIGTSTP, SIGCONT, SIGUSR1))
    for sig in (first, scene.one((SIGTERM, SIGTERM, SIGUSR1, SIGSTOP, SIGWINCH))):
        yield Tgkill(1, parent, parent, sig) if scene.likely(0.2) else Kill(1, parent, sig)
    yield Exit(child, 0)
    yield Kill(1, parent, scene.one((0, SIGCONT, SIGTERM, SIGKILL)))


def jobs(scene: Scene) -> Iterator[Step]:
    """Process groups and sessions: made, joined, asked for."""
    some = [*scene.world.views, 0, scene.pid, 99]
    yield scene.one(
        (
            Setpgid(scene.pid, scene.one([0, *others(scene)]), 0),
            Setpgid(scene.pid, scene.one(some), scene.one(some)),
            Setpgid(scene.pid, 0, scene.one([view.pgid for view in scene.world.views.values()])),
            Setpgid(scene.pid, 0, -1),
            Getpgid(scene.pid, scene.one(some)),
            Getsid(scene.pid, scene.one(some)),
            Setsid(scene.pid),
        )
    )


def to_group(scene: Scene) -> Iterator[Step]:
    """A signal to a process group, or to all; and a wait for one of it."""
    pgid = scene.one([view.pgid for view in scene.world.views.values()])
    if pgid <= 1 or scene.likely(0.2):
        yield Kill(scene.pid, scene.one((-1, 0)), scene.one((0, SIGCHLD, SIGCONT)))
    else:
        harmless = (0, SIGCHLD, SIGWINCH, SIGCONT, SIGSTOP, SIGTSTP)
        alone = sum(view.pgid == pgid for view in scene.world.views.values()) == 1
        sig = scene.one((*harmless, SIGTERM, SIGKILL) if alone else harmless)
        yield Kill(scene.pid, -pgid, sig)
        yield Wait4(scene.pid, -pgid, WNOHANG | scene.one((0, WUNTRACED)))


def actions(scene: Scene) -> Iterator[Step]:
    """A signal ignored, or no more; children then vanish by themselves (rule 46)."""
    pid = scene.pid
    yield Sigaction(
        pid,
        scene.one((SIGCHLD, SIGCHLD, *_PLAYED, SIGKILL, 65, 0)),
        scene.one((SIG_IGN, SIG_IGN, SIG_DFL, CATCHER)),
        scene.weighted({0: 10, SA_NOCLDWAIT: 3, SA_NOCLDSTOP: 2, SA_RESETHAND: 1, SA_NODEFER: 1, 1 << 20: 1}),
        some_signals(scene) if scene.likely(0.2) else 0,
    )
    children = others(scene)
    if children and scene.likely(0.4):
        child = scene.one(children)
        yield Kill(pid, child, scene.one((SIGKILL, SIGSTOP)))
        yield Wait4(pid, scene.one((-1, child)), WNOHANG | WUNTRACED)
    if scene.likely(0.6):
        yield Sigaction(pid, SIGCHLD, SIG_DFL)


def some_signals(scene: Scene) -> int:
    """A set of signals, as sigprocmask takes it."""
    return sigset(sig for sig in (*_CAUGHT, SIGKILL, SIGSTOP) if scene.likely(0.3))


def catch(scene: Scene, pid: int, sig: int) -> Sigaction:
    """A signal gets a handler, at times one for once, or one that it may interrupt itself, or with a mask."""
    flags = scene.weighted({0: 10, SA_RESETHAND: 2, SA_NODEFER: 2, SA_NOCLDSTOP: 1, SA_NOCLDWAIT: 1})
    return Sigaction(pid, sig, CATCHER, flags, some_signals(scene) if scene.likely(0.4) else 0)


def handlers(scene: Scene) -> Iterator[Step]:
    """Signals caught, several at once: which handler is set up first, and which runs first?"""
    pid = scene.pid
    tasks = [task for task in scene.world.living() if scene.world.of(task).tgid == scene.known.tgid]
    if 1 in tasks and scene.likely(0.7):
        return
    some = scene.chance.sample(_CAUGHT, scene.chance.randint(1, 4))
    for sig in some:
        yield catch(scene, pid, sig)
    waits = scene.likely(0.7)
    if waits:
        for task in tasks:
            yield Sigprocmask(task, SIG_SETMASK, sigset(some) if scene.likely(0.8) else some_signals(scene))
    for _ in range(scene.chance.randint(1, len(some) + 2)):
        sig, sender = scene.one(some), scene.one((1, pid))
        yield Tgkill(sender, 0, pid, sig) if scene.likely(0.1) else Kill(sender, scene.one(tasks), sig)
        if scene.likely(0.3):
            yield Tgkill(sender, scene.known.tgid, scene.one(tasks), scene.one(some))
    if scene.likely(0.2):
        yield Kill(1, pid, scene.one((SIGSTOP, SIGTSTP, SIGTERM, SIGCONT)))
    if waits:
        yield Sigpending(pid)
        for task in scene.chance.sample(tasks, len(tasks)):
            yield Sigprocmask(task, scene.one((SIG_UNBLOCK, SIG_SETMASK)), scene.one((sigset(some), 0)))
    if pid != 1 or scene.likely(0.5):
        for sig in some:
            yield Sigaction(pid, sig, SIG_DFL)


def which_thread(scene: Scene) -> Iterator[Step]:
    """A process of several tasks that each block something: who takes a signal?"""
    pid = scene.pid
    if len(scene.world.views) >= MOST - 3:
        return
    parent = yield from born(scene, Fork(pid))
    if parent is None:
        return
    tasks = [parent]
    for _ in range(2):
        thread = yield from born(scene, Clone(parent, THREAD))
        tasks += [thread] if thread is not None else []
    some = scene.chance.sample(_CAUGHT, 2)
    for sig in some:
        yield Sigaction(parent, sig, CATCHER)
    if scene.likely(0.4) and len(tasks) == 3:
        # the third takes it, and again when the second would too
        for masks in ((1, 1, 0), (1, 0, 0)):
            for task, blocks in zip(tasks, masks, strict=True):
                yield Sigprocmask(task, SIG_SETMASK, blocks * sigset(some))
            yield Kill(1, parent, some[0])
    for _ in range(3):
        for task in scene.chance.sample(tasks, scene.chance.randint(1, len(tasks))):
            yield Sigprocmask(task, SIG_SETMASK, sigset(sig for sig in some if scene.likely(0.6)))
        yield Kill(1, scene.one(tasks), scene.one(some))
    if scene.likely(0.3):
        yield Leave(scene.one(tasks), 0)
        yield Kill(1, parent, scene.one(some))
    yield Exit(scene.one(tasks), 0)


def heard_of_children(scene: Scene) -> Iterator[Step]:
    """A parent that catches what its children send it, when they stop, go on, and end."""
    pid = scene.pid
    if len(scene.world.views) >= MOST:
        return
    sig = scene.one((SIGCHLD, SIGCHLD, SIGUSR1))
    yield catch(scene, pid, sig)
    if scene.likely(0.2):
        yield Sigprocmask(pid, SIG_BLOCK, sigset([sig]))
    child = yield from born(scene, scene.one((Fork(pid), Clone(pid, sig), Clone(pid, sig | CLONE_PARENT))))
    if child is None:
        return
    for _ in range(scene.chance.randint(0, 2)):
        yield Kill(1, child, scene.one((SIGSTOP, SIGCONT, SIGCONT, SIGTSTP)))
    yield scene.one((Exit(child, 5), Exit(child, 0), Kill(pid, child, SIGKILL), Kill(pid, child, SIGTERM)))
    yield Sigprocmask(pid, SIG_SETMASK, 0)
    yield Waitid(pid, P_ALL, 0, WNOHANG | WEXITED | WSTOPPED | WCONTINUED)
    yield Sigaction(pid, sig, SIG_DFL)


def masks(scene: Scene) -> Iterator[Step]:
    """Signals blocked, sent, and let through."""
    pid = scene.pid
    some = sum(1 << (sig - 1) for sig in _PLAYED if scene.likely(0.4))
    if pid == 1:
        return
    yield Sigprocmask(pid, SIG_BLOCK, some)
    for _ in range(scene.chance.randint(0, 2)):
        yield Kill(scene.one((1, pid)), pid, scene.one(_PLAYED))
    if scene.likely(0.2):
        yield Sigaction(pid, scene.one(_PLAYED), scene.one((SIG_IGN, SIG_DFL)))
    yield Sigprocmask(pid, scene.one((SIG_UNBLOCK, SIG_SETMASK, 9)), scene.one((some, 0)))


def subreaper(scene: Scene) -> Iterator[Step]:
    """A process that takes in the orphans below it (rule 45)."""
    yield Subreaper(scene.pid, scene.one((1, 1, 0)))
    if len(scene.world.views) < MOST - 1:
        yield from family(scene)


def few_processes(scene: Scene) -> Iterator[Step]:
    """A limit on the user's tasks, and one too many."""
    if scene.pid == 1:
        return
    most = len(scene.world.views) + scene.one((-1, 0, 1))
    yield Setrlimit(scene.pid, Rlimit.NPROC, most, 1000)
    if len(scene.world.views) < MOST:
        yield scene.one((Fork(scene.pid), Clone(scene.pid, THREAD), Vfork(scene.pid)))
    yield Setrlimit(scene.pid, Rlimit.NPROC, 1000, 1000)


def family(scene: Scene) -> Iterator[Step]:
    """Children that end in any order, before or after their parent, and are waited for (rules 44 and 45)."""
    if scene.pid == 1 or len(scene.world.views) > MOST - 4:
        return
    children: list[int] = []
    for _ in range(scene.chance.randint(2, 3)):
        before = set(scene.world.views)
        yield Fork(scene.one([scene.pid, *children]))
        children += [pid for pid in scene.world.views if pid not in before]
    everybody = [*children, scene.pid] if scene.likely(0.5) else children
    for pid in scene.chance.sample(everybody, len(everybody)):
        if scene.likely(0.3) and pid in scene.world.living():
            yield Getppid(pid)
        yield Exit(pid, pid)
    for _ in range(len(everybody)):
        yield Wait4(scene.one((1, scene.pid)), -1, WNOHANG)


#: rules, and how often each is taken
PROCESS: Final = {
    fork: 26,
    exit_: 16,
    wait: 16,
    waitid: 8,
    reap_all: 5,
    who_am_i: 4,
    kill: 8,
    family: 4,
    stop_and_continue: 5,
    continue_all: 5,
    clone: 12,
    threads: 6,
    leave: 3,
    vfork: 5,
    signals_in_vfork: 3,
    jobs: 5,
    to_group: 2,
    actions: 5,
    handlers: 6,
    heard_of_children: 4,
    which_thread: 3,
    masks: 4,
    subreaper: 3,
    few_processes: 2,
    told_once: 3,
    told_again: 3,
    vanishing: 3,
    blocked_in_child: 3,
    orphaned_job: 3,
    last_ties: 2,
    orphans: 4,
    whose_children: 3,
    nobody_left: 1,
    invalid_clone: 2,
}
