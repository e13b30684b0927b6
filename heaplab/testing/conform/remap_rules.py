"""What the generator knows about moving, advising on and locking memory: rules, as those of memory_rules."""

from collections.abc import Iterator
from typing import Final

from heaplab.abi import (
    MADV_DODUMP,
    MADV_DOFORK,
    MADV_DONTDUMP,
    MADV_DONTFORK,
    MADV_DONTNEED,
    MADV_DONTNEED_LOCKED,
    MADV_FREE,
    MADV_KEEPONFORK,
    MADV_NORMAL,
    MADV_POPULATE_READ,
    MADV_POPULATE_WRITE,
    MADV_RANDOM,
    MADV_SEQUENTIAL,
    MADV_WILLNEED,
    MADV_WIPEONFORK,
    MAP_FIXED,
    MAP_LOCKED,
    MREMAP_DONTUNMAP,
    MREMAP_FIXED,
    MREMAP_MAYMOVE,
    MS_ASYNC,
    MS_INVALIDATE,
    MS_SYNC,
    PROT_READ,
    RLIM_INFINITY,
    Rlimit,
)
from heaplab.testing.conform.agents import AGENT_END, AGENT_START
from heaplab.testing.conform.codec import PAGE
from heaplab.testing.conform.scene import ARENA, MOST, PRIVATE, RW, SHARED, TASK_SIZE, Scene
from heaplab.testing.conform.steps import (
    Fork,
    Getrlimit,
    Load,
    Madvise,
    Mincore,
    Mlock,
    Mmap,
    Mprotect,
    Mremap,
    Msync,
    Munlock,
    Munmap,
    Setrlimit,
    Step,
    Store,
)

_ADVICE: Final = {
    MADV_DONTNEED: 30,
    MADV_FREE: 10,
    MADV_DONTFORK: 6,
    MADV_DOFORK: 4,
    MADV_WIPEONFORK: 6,
    MADV_KEEPONFORK: 3,
    MADV_POPULATE_READ: 8,
    MADV_POPULATE_WRITE: 8,
    MADV_WILLNEED: 3,
    MADV_NORMAL: 3,
    MADV_RANDOM: 3,
    MADV_SEQUENTIAL: 3,
    MADV_DONTDUMP: 2,
    MADV_DODUMP: 2,
    MADV_DONTNEED_LOCKED: 3,
    5: 1,
}


def madvise(scene: Scene) -> Iterator[Step]:
    """Advice on a range, and an access to it."""
    addr, length = scene.range()
    yield Madvise(scene.pid, addr, length, scene.weighted(_ADVICE))
    if scene.likely(0.5):
        yield Store(scene.pid, addr) if scene.likely(0.5) else Load(scene.pid, addr)


def advice_for_fork(scene: Scene) -> Iterator[Step]:
    """What a child is to get, or not, and the child (rule 31)."""
    addr, length = scene.range()
    yield Madvise(scene.pid, addr, length, scene.one((MADV_DONTFORK, MADV_WIPEONFORK)))
    if scene.likely(0.5):
        yield Store(scene.pid, addr)
    if len(scene.world.views) < MOST:
        before = set(scene.world.views)
        yield Fork(scene.pid)
        for child in set(scene.world.views) - before:
            yield Load(child, addr)


def mremap(scene: Scene) -> Iterator[Step]:
    """A mapping grown, shrunk or moved: in place, anywhere, onto something, beside something (24 to 27)."""
    addr, length = scene.range()
    new_length = scene.weighted(
        {length: 35, length + scene.pages() * PAGE: 35, PAGE: 15, scene.pages() * PAGE: 15}
    )
    flags = scene.weighted(
        {
            0: 20,
            MREMAP_MAYMOVE: 40,
            MREMAP_MAYMOVE | MREMAP_FIXED: 30,
            MREMAP_MAYMOVE | MREMAP_DONTUNMAP: 6,
            MREMAP_MAYMOVE | MREMAP_FIXED | MREMAP_DONTUNMAP: 6,
        }
    )
    new_addr = 0
    if flags & MREMAP_FIXED:
        new_addr = scene.one((scene.arena_page(), max(scene.edge(), ARENA.start)))
    elif flags & MREMAP_DONTUNMAP and scene.likely(0.3):
        new_addr = scene.arena_page()
    if flags & MREMAP_DONTUNMAP and scene.likely(0.8):
        new_length = length
    yield Mremap(scene.pid, addr, length, new_length, flags, new_addr)
    for place in (addr, new_addr or addr):
        if scene.likely(0.4):
            yield Store(scene.pid, place) if scene.likely(0.5) else Load(scene.pid, place)


def move_and_return(scene: Scene) -> Iterator[Step]:
    """Part of a mapping moved away, written or not, and back: it may merge again (rule 26)."""
    pid, low, away = scene.pid, scene.arena_page(), ARENA.stop + 16 * PAGE
    yield Mmap(pid, low, 4 * PAGE, RW, PRIVATE | MAP_FIXED)
    for page in range(low, low + 4 * PAGE, PAGE):
        if scene.likely(0.5):
            yield Store(pid, page)
    at = low + scene.chance.randrange(4) * PAGE
    move = MREMAP_MAYMOVE | MREMAP_FIXED
    yield Mremap(pid, at, PAGE, PAGE, move, away)
    if scene.likely(0.4):
        yield Mmap(pid, away + PAGE, PAGE, RW, PRIVATE | MAP_FIXED)
    if scene.likely(0.5):
        yield Store(pid, away)
    yield Mremap(pid, away, PAGE, PAGE, move, at)
    yield Store(pid, at)


def move_several(scene: Scene) -> Iterator[Step]:
    """A range of several VMAs and gaps moved at once, onto what may be there."""
    addr, length = scene.range()
    start = addr - scene.one((0, 0, 0, PAGE))
    length += scene.one((0, PAGE, 4 * PAGE))
    yield Mremap(
        scene.pid, start, length, length, MREMAP_MAYMOVE | MREMAP_FIXED, scene.arena_page() + 64 * PAGE
    )


def grow_to_the_next(scene: Scene) -> Iterator[Step]:
    """A mapping grown up to the next one, or a page less, or into it."""
    pid, low, flags = scene.pid, scene.arena_page(), PRIVATE | MAP_FIXED
    yield Munmap(pid, low, 8 * PAGE)
    yield Mmap(pid, low, 2 * PAGE, RW, flags)
    yield Mmap(pid, low + 5 * PAGE, PAGE, scene.one((RW, RW, PROT_READ)), flags)
    for page in (low, low + 5 * PAGE):
        if scene.likely(0.4):
            yield Store(pid, page)
    new_length = scene.one((4, 5, 5, 5, 6)) * PAGE
    yield Mremap(pid, low, 2 * PAGE, new_length, scene.one((0, 0, MREMAP_MAYMOVE)))
    yield Store(pid, low + 4 * PAGE)


def leave_behind(scene: Scene) -> Iterator[Step]:
    """What MREMAP_DONTUNMAP leaves: zeros, in a VMA as new, that forks and merges as such (rule 27)."""
    pid, low, flags = scene.pid, scene.arena_page(), PRIVATE | MAP_FIXED
    yield Mmap(pid, low, 3 * PAGE, RW, flags)
    for page in (low, low + PAGE, low + 2 * PAGE):
        if scene.likely(0.7):
            yield Store(pid, page)
    part = scene.one((0, 0, 0, PAGE))
    move = MREMAP_MAYMOVE | MREMAP_DONTUNMAP
    yield Mremap(pid, low + part, 3 * PAGE - part, 3 * PAGE - part, move)
    if scene.likely(0.5):
        yield Mmap(pid, low + 3 * PAGE, PAGE, RW, flags)
    if scene.likely(0.5):
        yield Load(pid, low)
    if scene.likely(0.5) and len(scene.world.views) < MOST:
        yield Fork(pid)
    yield Store(pid, low)


def holes(scene: Scene) -> Iterator[Step]:
    """Calls on a range with a hole: some go on behind it, some stop there, and all say so (rule 20)."""
    pid, low = scene.pid, scene.arena_page()
    yield Mmap(pid, low, 5 * PAGE, RW, scene.one((PRIVATE, SHARED)) | MAP_FIXED)
    for page in range(low, low + 5 * PAGE, PAGE):
        yield Store(pid, page)
    yield Munmap(pid, low + scene.one((0, 2, 2, 4)) * PAGE, PAGE)
    yield scene.one(
        (
            Msync(pid, low, 5 * PAGE, scene.one((MS_SYNC, MS_ASYNC))),
            Madvise(pid, low, 5 * PAGE, scene.weighted(_ADVICE)),
            Mprotect(pid, low, 5 * PAGE, PROT_READ),
            Mlock(pid, low, 5 * PAGE),
            Munlock(pid, low, 5 * PAGE),
            Mincore(pid, low, 5 * PAGE),
            Mremap(pid, low, 5 * PAGE, 5 * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, low + 64 * PAGE),
            Mremap(pid, low, 5 * PAGE, 6 * PAGE, MREMAP_MAYMOVE),
            Munmap(pid, low, 5 * PAGE),
        )
    )
    for page in range(low, low + 5 * PAGE, PAGE):
        if scene.likely(0.5):
            yield Store(pid, page) if scene.likely(0.5) else Load(pid, page)


def twice(scene: Scene) -> Iterator[Step]:
    """A mapping had twice: shared ones can be, private ones not."""
    vma = scene.vma()
    if vma is not None:
        yield Mremap(scene.pid, vma.start, 0, scene.pages() * PAGE, MREMAP_MAYMOVE)


def mlock(scene: Scene) -> Iterator[Step]:
    """Memory locked, used, given up (not while it is locked), unlocked."""
    addr, length = scene.range()
    yield Mlock(scene.pid, addr + scene.one((0, 0, 1)), length)
    if scene.likely(0.3):
        yield Madvise(scene.pid, addr, length, scene.one((MADV_DONTNEED, MADV_FREE, MADV_DONTNEED_LOCKED)))
    if scene.likely(0.2):
        yield Mprotect(scene.pid, addr, length, scene.prot())
    if scene.likely(0.6):
        yield Munlock(scene.pid, addr, length)


def locked_mapping(scene: Scene) -> Iterator[Step]:
    """mmap with MAP_LOCKED, within the limit or beyond."""
    yield Mmap(scene.pid, 0, scene.length(), scene.prot(), scene.map_flags() | MAP_LOCKED)


def munlock(scene: Scene) -> Iterator[Step]:
    """Memory unlocked, wherever."""
    addr, length = scene.range()
    yield Munlock(scene.pid, addr, length)


def mincore(scene: Scene) -> Iterator[Step]:
    """Which pages are in memory."""
    addr, length = scene.range()
    yield Mincore(scene.pid, addr + scene.one((0, 0, 0, 1)), length)


def msync(scene: Scene) -> Iterator[Step]:
    """Memory synchronised: nothing to see, but for its errors."""
    addr, length = scene.range()
    flags = scene.one((MS_SYNC, MS_ASYNC, MS_INVALIDATE, MS_SYNC | MS_ASYNC, MS_SYNC | MS_INVALIDATE, 8, 0))
    yield Msync(scene.pid, addr, length, flags)


def limits(scene: Scene) -> Iterator[Step]:
    """A limit set for a while, and what it refuses (rule 39)."""
    if scene.pid == 1:
        return
    pid = scene.pid
    resource = scene.one((Rlimit.AS, Rlimit.DATA, Rlimit.STACK, Rlimit.MEMLOCK))
    used = sum(vma.end - vma.start for vma in scene.vmas) + AGENT_END - AGENT_START
    most = {Rlimit.STACK: 8 << 20, Rlimit.MEMLOCK: 64 << 10}.get(resource, RLIM_INFINITY)
    soft = scene.one((used, used, used + PAGE, used + 3 * PAGE, used // 2, 20 * PAGE, 0, 34 * PAGE))
    yield Getrlimit(pid, resource)
    yield Setrlimit(pid, resource, min(soft, most), most)
    for _ in range(scene.chance.randint(1, 4)):
        addr, length = scene.range()
        yield scene.one(
            (
                Mmap(pid, 0, scene.length(), scene.prot(), scene.map_flags()),
                Mmap(pid, scene.arena_page(), length, scene.prot(), PRIVATE | MAP_FIXED),
                Mmap(pid, addr, length, scene.prot(), PRIVATE | MAP_FIXED),
                Mprotect(pid, addr, length, scene.prot()),
                Mremap(pid, addr, length, length + scene.pages() * PAGE, MREMAP_MAYMOVE),
                Mlock(pid, addr, length),
                Store(pid, scene.below_stack()),
            )
        )
    yield Setrlimit(pid, resource, most, most)


def invalid_remap(scene: Scene) -> Iterator[Step]:
    """Calls that the kernel refuses (rules 25, 28)."""
    pid, page, length = scene.pid, scene.arena_page(), scene.length()
    vma = scene.vma()
    at = vma.start if vma is not None else page
    yield scene.one(
        (
            Mremap(pid, at, 0, PAGE, MREMAP_MAYMOVE),
            Mremap(pid, at, PAGE, 0, MREMAP_MAYMOVE),
            Mremap(pid, at, PAGE, PAGE, MREMAP_FIXED, page),
            Mremap(pid, at, PAGE, PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, page + 1),
            Mremap(pid, at + 1, PAGE, PAGE, MREMAP_MAYMOVE),
            Mremap(pid, at, 2 * PAGE, 2 * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, at + PAGE),
            Mremap(pid, at, PAGE, 2 * PAGE, MREMAP_MAYMOVE | MREMAP_DONTUNMAP),
            Mremap(pid, at, PAGE, PAGE, MREMAP_DONTUNMAP),
            Mremap(pid, at, PAGE, PAGE, 8),
            Mremap(pid, at, PAGE, 1 << 47, MREMAP_MAYMOVE),
            Mremap(pid, at, PAGE, PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, TASK_SIZE),
            Mremap(pid, at, (1 << 64) - 1, PAGE, MREMAP_MAYMOVE),
            Mremap(pid, TASK_SIZE, PAGE, 2 * PAGE, MREMAP_MAYMOVE),
            Madvise(pid, at + 1, length, MADV_DONTNEED),
            Madvise(pid, at, 0, MADV_DONTNEED),
            Madvise(pid, at, (1 << 64) - 1, MADV_DONTNEED),
            Madvise(pid, at, (1 << 64) - 2 * PAGE, MADV_DONTNEED),
            Madvise(pid, at, length, 99),
            Madvise(pid, page, length, MADV_POPULATE_READ),
            Mlock(pid, at, 0),
            Mlock(pid, at, (1 << 64) - PAGE),
            Mlock(pid, at, 1 << 40),
            Munlock(pid, at, (1 << 64) - PAGE),
            Mincore(pid, at, 0),
            Mincore(pid, page, 4 * PAGE),
            Msync(pid, at, (1 << 64) - PAGE, MS_SYNC),
            Msync(pid, at, 0, MS_SYNC),
            Getrlimit(pid, 16),
            Setrlimit(pid, Rlimit.AS, 5, 4),
            Setrlimit(pid, Rlimit.MEMLOCK, 0, 1 << 40),
        )
    )


#: rules, and how often each is taken
REMAP: Final = {
    madvise: 22,
    advice_for_fork: 3,
    mremap: 18,
    move_and_return: 4,
    move_several: 3,
    mlock: 5,
    locked_mapping: 2,
    munlock: 2,
    mincore: 4,
    msync: 2,
    limits: 4,
    invalid_remap: 4,
    grow_to_the_next: 2,
    leave_behind: 3,
    holes: 4,
    twice: 2,
}
