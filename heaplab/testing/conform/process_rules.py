"""What the generator knows about processes: rules, as those of memory_rules."""

from collections.abc import Iterator
from signal import SIGCHLD, SIGCONT, SIGHUP, SIGKILL, SIGTERM, SIGUSR1, SIGWINCH
from typing import Final

from heaplab.abi import WCONTINUED, WNOHANG, WUNTRACED
from heaplab.testing.conform.scene import Scene
from heaplab.testing.conform.steps import Exit, Fork, Getpid, Getppid, Kill, Load, Step, Store, Wait4

#: processes at once, pid 1 and the dead included
MOST: Final = 9


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
    """What a process is called, and its parent."""
    yield scene.one((Getpid(scene.pid), Getppid(scene.pid)))


def kill(scene: Scene) -> Iterator[Step]:
    """A signal that does nothing, or ends somebody, or is none."""
    target = scene.one([*scene.world.views, *scene.world.views, 99])
    sig = scene.weighted(
        {
            0: 20,
            SIGTERM: 8,
            SIGKILL: 8,
            SIGHUP: 3,
            SIGUSR1: 3,
            SIGCHLD: 3,
            SIGCONT: 2,
            SIGWINCH: 2,
            65: 1,
            -1: 1,
        }
    )
    if scene.likely(0.03):
        target = scene.weighted({0: 2, -1: 1, -scene.pid: 1, -(1 << 31): 1})
        # several that die at once die in an order that Linux leaves open, and orphans change hands by it
        sig = scene.one((0, SIGCHLD, SIGCONT, SIGWINCH, 65, -1))
    yield Kill(scene.pid, target, sig)


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
    fork: 30,
    exit_: 18,
    wait: 20,
    reap_all: 5,
    who_am_i: 6,
    kill: 8,
    family: 4,
}
