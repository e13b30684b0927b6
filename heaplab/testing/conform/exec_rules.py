"""What the generator knows about exec: rules, as those of memory_rules."""

from collections.abc import Iterator
from signal import SIGTERM, SIGUSR1
from typing import Final

from heaplab.abi import SIG_IGN, SIG_SETMASK, WALL, WNOHANG, Rlimit
from heaplab.process import THREAD_FLAGS
from heaplab.testing.conform.codec import PAGE
from heaplab.testing.conform.images import images
from heaplab.testing.conform.scene import MOST, Scene
from heaplab.testing.conform.steps import (
    Brk,
    Clone,
    Exec,
    Exit,
    Fork,
    Load,
    Memfd,
    Setpgid,
    Setrlimit,
    Sigaction,
    Sigprocmask,
    Step,
    Store,
    Vfork,
    Wait4,
)


def image(scene: Scene) -> int:
    """The number of an image."""
    return scene.chance.randrange(len(images()))


def exec_(scene: Scene) -> Iterator[Step]:
    """A new program, and a look at what it is made of."""
    if scene.pid == 1:
        return
    tgid = scene.known.tgid
    yield Exec(scene.pid, image(scene), scene.weighted({1: 6, 2: 2, 0: 1, 7: 1}))
    if tgid not in scene.world.living():
        return
    program = Scene(scene.chance, scene.world, tgid)
    for _ in range(scene.chance.randint(0, 5)):
        vma = program.vma()
        if vma is not None:
            at = program.page_of(vma) + scene.one((0, 96, 104, 0x100, 0x160, PAGE - 8))
            yield Store(tgid, at) if scene.likely(0.4) else Load(tgid, at)
    if scene.likely(0.6):
        yield Brk(tgid, 0)
        yield Brk(tgid, program.brk + scene.one((1, PAGE, 5 * PAGE)))
        yield Store(tgid, program.brk - 1, 1)


def fork_and_exec(scene: Scene) -> Iterator[Step]:
    """A child, made by fork or vfork, that becomes another program; the parent may set its group too late."""
    if len(scene.world.views) >= MOST:
        return
    before = set(scene.world.views)
    yield scene.one((Fork(scene.pid), Vfork(scene.pid)))
    for child in set(scene.world.views) - before:
        yield Exec(child, image(scene))
        if scene.pid in scene.world.living():
            yield Setpgid(scene.pid, child, scene.one((0, child)))


def exec_by_thread(scene: Scene) -> Iterator[Step]:
    """A process of several tasks, of which one, not always the first, execs: the others end."""
    if len(scene.world.views) >= MOST - 2 or scene.pid == 1:
        return
    before = set(scene.world.views)
    for _ in range(scene.chance.randint(1, 2)):
        yield Clone(scene.pid, THREAD_FLAGS)
    born = [pid for pid in scene.world.views if pid not in before and pid in scene.world.living()]
    yield Exec(scene.one([scene.pid, *born, *born]), image(scene))


def what_stays(scene: Scene) -> Iterator[Step]:
    """What exec keeps, and what it does not: ignored signals, masks, descriptors."""
    pid = scene.pid
    if pid == 1:
        return
    yield Memfd(pid, scene.one((0, 1)))
    yield Sigaction(pid, scene.one((SIGTERM, SIGUSR1)), SIG_IGN)
    yield Sigprocmask(pid, SIG_SETMASK, scene.one((0, 1 << SIGTERM - 1)))
    yield Exec(pid, image(scene))


def forgotten_signal(scene: Scene) -> Iterator[Step]:
    """A child that was to end with another signal than SIGCHLD, and a parent that is another program."""
    pid, before = scene.pid, set(scene.world.views)
    if pid == 1 or len(before) >= MOST:
        return
    yield Clone(pid, scene.one((SIGTERM, SIGUSR1, 0)))
    yield Exec(pid, scene.one((0, 1, 2)))
    for child in set(scene.world.views) - before:
        yield Exit(child, 5)
    yield Wait4(pid, -1, WNOHANG | scene.one((WALL, WALL, 0)))


def small_stack(scene: Scene) -> Iterator[Step]:
    """A program that begins with less stack than others."""
    pid = scene.pid
    if pid == 1:
        return
    yield Setrlimit(pid, Rlimit.STACK, scene.one((0, PAGE, 20 * PAGE, 34 * PAGE)), 8 << 20)
    yield Exec(pid, image(scene), scene.one((1, 7)))
    if pid in scene.world.living():
        yield Store(pid, scene.below_stack())
        yield Setrlimit(pid, Rlimit.STACK, 8 << 20, 8 << 20)


#: rules, and how often each is taken
EXEC: Final = {
    exec_: 20,
    fork_and_exec: 10,
    exec_by_thread: 4,
    what_stays: 3,
    small_stack: 2,
    forgotten_signal: 2,
}
