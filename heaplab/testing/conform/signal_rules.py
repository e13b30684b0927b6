"""What the generator knows about signals, handlers, and process groups: rules, as those of memory_rules."""

from collections.abc import Iterator
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
    CLONE_PARENT,
    P_ALL,
    P_PID,
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
    sigset,
)
from heaplab.process import THREAD_FLAGS as THREAD
from heaplab.testing.conform.codec import CATCHER
from heaplab.testing.conform.scene import MOST, Scene, born, others
from heaplab.testing.conform.steps import (
    Clone,
    Exit,
    Fork,
    Getpgid,
    Getsid,
    Kill,
    Leave,
    Setpgid,
    Setsid,
    Sigaction,
    Sigpending,
    Sigprocmask,
    Step,
    Tgkill,
    Vfork,
    Wait4,
    Waitid,
)


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


def stop_and_continue(scene: Scene) -> Iterator[Step]:
    """A child stopped and continued, and what wait tells of that, once (rule 42)."""
    pid, children = scene.pid, others(scene)
    if not children:
        if len(scene.world.views) < MOST:
            yield Fork(pid)
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


def continue_all(scene: Scene) -> Iterator[Step]:
    """Whoever is stopped goes on, or ends."""
    for pid, view in list(scene.world.views.items()):
        if view.state == "T":
            yield Kill(scene.pid, pid, scene.one((SIGCONT, SIGCONT, SIGKILL)))


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
    """A stopped job whose group has one tie to its session left: the parent of one that is dead already."""
    if len(scene.world.views) >= MOST - 3:
        return
    leader = yield from born(scene, Fork(scene.pid))
    if leader is None:
        return
    yield Setsid(leader)
    stopped = yield from born(scene, Fork(leader))
    keeper = yield from born(scene, Fork(leader))
    if stopped is None or keeper is None:
        return
    dead = yield from born(scene, Fork(keeper))
    if dead is not None:
        yield Exit(dead, 0)
    yield Setpgid(keeper, 0, 0)
    yield Kill(1, stopped, SIGSTOP)
    yield Exit(scene.one((keeper, keeper, leader)), 0)
    yield Kill(1, stopped, scene.one((0, SIGCONT, SIGKILL)))
    yield Exit(leader, 0)


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
    ignores, deaf = Sigaction(pid, sig, SIG_IGN), Sigaction(pid, sig, CATCHER, SA_NOCLDSTOP)
    yield scene.one((catch(scene, pid, sig), catch(scene, pid, sig), deaf, ignores))
    if scene.likely(0.4):
        yield Sigprocmask(pid, SIG_BLOCK, sigset([sig]))
    child = yield from born(scene, scene.one((Fork(pid), Clone(pid, sig), Clone(pid, sig | CLONE_PARENT))))
    if child is None:
        return
    for change in scene.one(((), (SIGSTOP,), (SIGSTOP, SIGCONT), (SIGTSTP, SIGCONT), (SIGCONT,))):
        yield Kill(1, child, change)
    yield Sigpending(pid)
    yield scene.one((Exit(child, 5), Exit(child, 0), Kill(pid, child, SIGKILL), Kill(pid, child, SIGTERM)))
    yield Sigprocmask(pid, SIG_SETMASK, 0)
    yield Waitid(pid, P_ALL, 0, WNOHANG | WEXITED | WSTOPPED | WCONTINUED)
    yield Sigaction(pid, sig, SIG_DFL)


def asked_of_init(scene: Scene) -> Iterator[Step]:
    """A signal that pid 1 blocks, and what becomes of it when it asks for the default, or ignores it."""
    sig = scene.one((SIGTERM, SIGHUP, SIGUSR1, SIGCHLD))
    yield Sigprocmask(1, SIG_BLOCK, sigset([sig]))
    yield Kill(scene.pid, 1, sig)
    yield Sigaction(1, sig, scene.one((SIG_DFL, SIG_DFL, SIG_IGN)))
    yield Sigpending(1)
    yield Sigaction(1, sig, SIG_DFL)
    yield Sigprocmask(1, SIG_UNBLOCK, sigset([sig]))


#: rules, and how often each is taken
SIGNAL: Final = {
    kill: 8,
    stop_and_continue: 5,
    told_once: 3,
    continue_all: 5,
    blocked_in_child: 3,
    signals_in_vfork: 5,
    jobs: 5,
    to_group: 2,
    orphaned_job: 3,
    last_ties: 2,
    actions: 5,
    masks: 4,
    handlers: 8,
    which_thread: 3,
    heard_of_children: 8,
    asked_of_init: 2,
}
