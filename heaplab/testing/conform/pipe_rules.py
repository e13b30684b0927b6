"""What the generator knows about pipes: rules, as those of memory_rules.

All pipes have O_NONBLOCK.  The driver's memory holds 512 bytes, so what is longer is written from a block of
the process's own, with marks here and there, and read into one.
"""

import os
from collections.abc import Generator, Iterator
from signal import SIGPIPE
from typing import Final

from heaplab.abi import (
    MAP_FIXED,
    MAP_GROWSDOWN,
    MAP_PRIVATE,
    MAP_SHARED,
    PROT_EXEC,
    PROT_READ,
    SIG_BLOCK,
    SIG_DFL,
    SIG_IGN,
    SIG_UNBLOCK,
    WNOHANG,
    Rlimit,
)
from heaplab.process import THREAD_FLAGS
from heaplab.testing.conform.codec import PAGE
from heaplab.testing.conform.file_rules import NOWHERE, fewer_descriptors
from heaplab.testing.conform.images import images
from heaplab.testing.conform.scene import ARENA, MOST, PRIVATE, RW, Scene, born
from heaplab.testing.conform.signal_rules import catch
from heaplab.testing.conform.steps import (
    SCRATCH,
    Clone,
    Close,
    Dup,
    Exec,
    Exit,
    Fork,
    Fsync,
    Ftruncate,
    Load,
    Lseek,
    Mmap,
    Munmap,
    Pipe,
    Pread,
    Pwrite,
    Read,
    Setrlimit,
    Sigaction,
    Sigprocmask,
    Step,
    Store,
    Vfork,
    Wait4,
    Write,
)

#: of a block: it holds what fills a pipe, from within a page on
_PAGES: Final = 18
_FULL: Final = 16 * PAGE
_SIZES: Final = (1, 100, PAGE - 1, PAGE, PAGE + 1, 5000, _FULL)
#: writes of sizes that meet at the end of a buffer, or just miss it; and the same above whole pages
_MEETING: Final = ((4000, 96), (4000, 97), (PAGE - 1, 1), (PAGE - 1, 2), (1, PAGE), (1, PAGE - 1), (100, 100))

_Ends = tuple[int, int]


def made(scene: Scene, flags: int) -> Generator[Step, None, _Ends | None]:
    """Let a pipe be made; the value of `yield from` is its ends, to read from and to write to."""
    yield from fewer_descriptors(scene)
    before = scene.pipes()
    yield Pipe(scene.pid, flags)
    return next((ends for ends in scene.pipes() if ends not in before), None)


def some_pipe(scene: Scene) -> Generator[Step, None, _Ends | None]:
    """One of the process's pipes, or a new one."""
    pipes = scene.pipes()
    if pipes and scene.likely(0.5):
        return scene.one(pipes)
    return (yield from made(scene, scene.weighted({0: 10, os.O_CLOEXEC: 3, os.O_DIRECT: 2})))


def block(scene: Scene) -> Generator[Step, None, int]:
    """Let there be memory that holds more than a pipe, marked here and there; the value is where."""
    at = scene.one(ARENA[: len(ARENA) - _PAGES])
    yield Mmap(scene.pid, at, _PAGES * PAGE, RW, PRIVATE | MAP_FIXED)
    for _ in range(scene.chance.randint(1, 4)):
        yield Store(scene.pid, mark(scene, at), 8, 0, scene.chance.getrandbits(64))
    return at


def mark(scene: Scene, at: int) -> int:
    """A place in a block where there may be a mark: near either end of a page."""
    return at + scene.chance.randrange(_PAGES) * PAGE + scene.one((0, 8, PAGE - 8))


def write(scene: Scene, sink: int, count: int, at: int) -> Step:
    """A write from a block, or a short one from the driver."""
    if count <= SCRATCH and scene.likely(0.7):
        return Write(scene.pid, sink, count, scene.chance.randrange(256))
    return Write(scene.pid, sink, count, 1, at + scene.one((0, 0, 8, 100, PAGE - 4)))


def read(scene: Scene, source: int, count: int, at: int) -> Step:
    """A read into a block, or a short one to the driver."""
    if count <= SCRATCH and scene.likely(0.7):
        return Read(scene.pid, source, count)
    return Read(scene.pid, source, count, at + scene.one((0, 0, 8, 100, PAGE - 4)))


def talk(scene: Scene) -> Iterator[Step]:
    """Short writes and reads at the ends of any pipe, also one whose other end is elsewhere, or nowhere."""
    sources, sinks = scene.pipe_ends(writes=False), scene.pipe_ends(writes=True)
    for _ in range(scene.chance.randint(1, 5)):
        count = scene.one((0, 1, 8, 100, SCRATCH))
        if sinks and scene.likely(0.5):
            yield Write(scene.pid, scene.one(sinks), count, scene.chance.randrange(256))
        elif sources:
            yield Read(scene.pid, scene.one(sources), count)
        else:
            yield Pipe(scene.pid, scene.one((0, os.O_CLOEXEC)))


def fill(scene: Scene) -> Iterator[Step]:
    """A pipe filled by writes of odd sizes until no buffer is free, and drained by reads of others."""
    ends = yield from some_pipe(scene)
    if ends is None:
        return
    source, sink = ends
    at = yield from block(scene)
    size = scene.one(_SIZES[2:])
    for _ in range(min(_FULL // size, 16) + 1):
        if scene.likely(0.15):
            yield write(scene, sink, scene.one(_SIZES[:2]), at)
        yield write(scene, sink, size, at)
    size = scene.one(_SIZES[2:])
    for _ in range(min(_FULL // size, 8) + 1):
        if scene.likely(0.3):
            yield write(scene, sink, scene.one(_SIZES), at)
        if scene.likely(0.15):
            yield read(scene, source, scene.one(_SIZES[:2]), at)
        yield read(scene, source, size, at)
    yield Load(scene.pid, mark(scene, at))


def meet(scene: Scene) -> Iterator[Step]:
    """Writes that fit into the last buffer or just not; how many they took is seen when the pipe is full."""
    ends = yield from some_pipe(scene)
    if ends is None:
        return
    source, sink = ends
    at = yield from block(scene)
    if scene.likely(0.4):
        # what was read of a buffer makes no room in it
        yield write(scene, sink, PAGE - 96, at)
        yield read(scene, source, scene.one((100, 3000)), at)
        yield write(scene, sink, scene.one((96, 97, 500)), at)
    for _ in range(scene.chance.randint(0, 2)):
        for size in scene.one(_MEETING):
            yield write(scene, sink, size + scene.one((0, 0, PAGE)), at)
            if scene.likely(0.3):
                yield read(scene, source, scene.one((1, 100, PAGE - 1, PAGE)), at)
    yield write(scene, sink, _FULL, at)
    yield write(scene, sink, scene.one((1, 100, PAGE + 1, PAGE + 100)), at)
    for _ in range(scene.chance.randint(1, 3)):
        yield read(scene, source, scene.one(_SIZES), at)


def cut_memory(scene: Scene) -> Iterator[Step]:
    """Data that end where nothing is mapped: what is taken of a write then, and what is left of a read."""
    ends = yield from some_pipe(scene)
    if ends is None:
        return
    source, sink = ends
    at = yield from block(scene)
    hole = at + scene.chance.randint(1, 4) * PAGE
    yield Munmap(scene.pid, hole, PAGE)
    for _ in range(scene.chance.randint(2, 6)):
        before = scene.one((0, 1, 4, 100, PAGE, PAGE + 100))
        start = max(hole - before, at)
        count = scene.one((before, before + 1, before + 100, PAGE, PAGE + before, 2 * PAGE, 3 * PAGE))
        yield scene.one(
            (
                Write(scene.pid, sink, count, 1, start),
                Read(scene.pid, source, count, start),
                write(scene, sink, scene.one(_SIZES), at),
            )
        )
    yield Read(scene.pid, source, SCRATCH)
    yield Load(scene.pid, hole - 8)


def the_end(scene: Scene) -> Iterator[Step]:
    """What comes out when there is nobody left to write: what is in there, and then the end."""
    ends = yield from made(scene, 0)
    if ends is None:
        return
    source, sink = ends
    if scene.likely(0.3):
        yield Dup(scene.pid, sink)
    yield Write(scene.pid, sink, scene.one((0, 3, 100)), 5)
    yield Close(scene.pid, sink)
    for count in (2, SCRATCH, 1):
        yield Read(scene.pid, source, count)


def without_readers(scene: Scene) -> Iterator[Step]:
    """A write that nobody could read: SIGPIPE kills, is ignored, caught, or waits until let through."""
    pid = scene.pid
    if scene.likely(0.6) and len(scene.world.views) < MOST:
        child = yield from born(scene, Fork(pid))
        scene = Scene(scene.chance, scene.world, child or pid)
    pid = scene.pid
    ends = yield from made(scene, 0)
    if ends is None:
        return
    source, sink = ends
    bit = 1 << SIGPIPE - 1
    writer = pid
    if scene.likely(0.3):
        yield Sigprocmask(pid, SIG_BLOCK, bit)
        writer = (yield from born(scene, Clone(pid, THREAD_FLAGS))) or pid
    else:
        yield scene.one(
            (
                Sigaction(pid, SIGPIPE, SIG_IGN),
                catch(scene, pid, SIGPIPE),
                Sigprocmask(pid, SIG_BLOCK, bit),
                Sigprocmask(pid, SIG_UNBLOCK, bit),
                Sigaction(pid, SIGPIPE, SIG_DFL),
            )
        )
    if scene.likely(0.3):
        yield Write(pid, sink, 5)
    yield Close(pid, source)
    yield Write(writer, sink, scene.one((0, 1, 1, 5000)), 1, scene.one((0, 0, 0, NOWHERE)))
    yield Write(scene.one((pid, writer)), sink, 1)
    for who in (pid, writer):
        yield Sigprocmask(who, SIG_UNBLOCK, bit)
    yield Sigaction(pid, SIGPIPE, SIG_DFL)
    yield Wait4(scene.world.views[pid].ppid if pid in scene.world.views else 1, -1, WNOHANG)


def across_fork(scene: Scene) -> Iterator[Step]:
    """A pipe between parent and child, who close ends, or end themselves: when does the other hear of it?"""
    pid = scene.pid
    if len(scene.world.views) >= MOST:
        return
    ends = yield from some_pipe(scene)
    if ends is None:
        return
    source, sink = ends
    child = yield from born(scene, scene.one((Fork(pid), Fork(pid), Clone(pid, THREAD_FLAGS))))
    if child is None:
        return
    yield Sigaction(pid, SIGPIPE, scene.one((SIG_IGN, SIG_DFL)))
    for _ in range(scene.chance.randint(3, 9)):
        who = scene.one((pid, child))
        count = scene.one((0, 1, 8, 100))
        yield scene.one(
            (
                Close(who, scene.one(ends)),
                Write(who, sink, count, who),
                Read(who, source, count),
                Read(who, source, SCRATCH),
                Exit(child, 0) if scene.likely(0.2) else Read(who, source, 1),
            )
        )


def across_exec(scene: Scene) -> Iterator[Step]:
    """A pipe that exec closes or keeps, in a child: does the parent read the end?"""
    pid = scene.pid
    if len(scene.world.views) >= MOST:
        return
    ends = yield from made(scene, scene.one((os.O_CLOEXEC, os.O_CLOEXEC, 0)))
    if ends is None:
        return
    source, sink = ends
    if scene.likely(0.3):
        yield Dup(pid, scene.one(ends))
    child = yield from born(scene, scene.one((Fork(pid), Fork(pid), Vfork(pid))))
    if child is None:
        return
    if scene.likely(0.5):
        yield Write(child, sink, 5, 7)
    yield Exec(child, scene.chance.randrange(len(images())))
    yield Close(pid, scene.one((sink, sink, source)))
    yield Read(pid, source, 3)
    yield Read(pid, source, SCRATCH)
    yield scene.one((Read(child, source, 1), Write(child, sink, 1), Exit(child, 0)))
    yield Read(pid, source, 1)


def invalid_pipe(scene: Scene) -> Iterator[Step]:
    """What the kernel refuses of a pipe's ends, or of pipe2."""
    pid, page = scene.pid, scene.arena_page()
    sources, sinks = scene.pipe_ends(writes=False), scene.pipe_ends(writes=True)
    fd = scene.one([*sources, *sinks, scene.fd()])
    source = scene.one(sources or [fd])
    yield scene.one(
        (
            Pipe(pid, scene.one((os.O_EXCL, os.O_APPEND, os.O_EXCL | os.O_APPEND, 1 << 31))),
            Pipe(pid, 0, scene.one((NOWHERE, page))),
            Read(pid, fd, 5),
            Write(pid, fd, 0),
            Read(pid, fd, 1, NOWHERE),
            Read(pid, fd, 0, 1 << 47),
            Write(pid, fd, 1, 1, scene.one((NOWHERE, 1 << 47))),
            Pread(pid, fd, 1, 0, scene.one((0, 0, (1 << 64) - 1))),
            Pwrite(pid, fd, scene.one((0, 1)), 1, 0, 0),
            Lseek(pid, fd, 0, scene.one((0, 1, 2, 9))),
            Ftruncate(pid, fd, scene.one((0, (1 << 64) - 1))),
            Fsync(pid, fd),
            Mmap(pid, 0, PAGE, scene.prot(), scene.one((MAP_PRIVATE, MAP_SHARED, 0)), fd, 0),
            Mmap(pid, 0, PAGE, PROT_EXEC, scene.one((MAP_PRIVATE, MAP_SHARED)), source, 0),
            Mmap(pid, 0, PAGE, PROT_READ, MAP_PRIVATE | MAP_GROWSDOWN, fd, 0),
            Mmap(pid, page, PAGE, RW, MAP_PRIVATE | MAP_FIXED, fd, scene.one((0, 1 << 63, (1 << 64) - PAGE))),
        )
    )


def few_descriptors(scene: Scene) -> Iterator[Step]:
    """A limit that leaves room for one end, or both, or none."""
    most = len(scene.known.fds) + scene.one((0, 1, 1, 2))
    yield Setrlimit(scene.pid, Rlimit.NOFILE, most, 1024)
    yield Pipe(scene.pid)
    yield Setrlimit(scene.pid, Rlimit.NOFILE, 1024, 1024)


#: rules, and how often each is taken
PIPE: Final = {
    talk: 10,
    fill: 6,
    meet: 8,
    cut_memory: 6,
    the_end: 4,
    without_readers: 6,
    across_fork: 8,
    across_exec: 5,
    invalid_pipe: 6,
    few_descriptors: 1,
}
