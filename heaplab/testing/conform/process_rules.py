"""What the generator knows about tasks, from their birth to the wait: rules, as those of memory_rules."""

from collections.abc import Iterator
from signal import (
    SIGCHLD,
    SIGKILL,
    SIGSTOP,
    SIGTERM,
    SIGUSR1,
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
    SA_NOCLDWAIT,
    SIG_DFL,
    SIG_IGN,
    WCONTINUED,
    WEXITED,
    WNOHANG,
    WNOWAIT,
    WSTOPPED,
    WUNTRACED,
    Rlimit,
)
from heaplab.process import THREAD_FLAGS as THREAD
from heaplab.testing.conform.scene import MOST, Scene, born, others
from heaplab.testing.conform.signal_rules import SIGNAL
from heaplab.testing.conform.steps import (
    Clone,
    Exit,
    Fork,
    Getpid,
    Getppid,
    Getrusage,
    Gettid,
    Kill,
    Leave,
    Load,
    Setrlimit,
    Sigaction,
    Sigpending,
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
    family: 4,
    clone: 12,
    threads: 6,
    leave: 3,
    vfork: 5,
    subreaper: 3,
    few_processes: 2,
    told_again: 3,
    vanishing: 3,
    orphans: 4,
    whose_children: 3,
    nobody_left: 1,
    invalid_clone: 2,
    **SIGNAL,
}
