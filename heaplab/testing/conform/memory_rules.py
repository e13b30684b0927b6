"""What the generator knows about memory: rules, each a few steps of one process that belong together.

A rule is a function that yields steps; between two of them the world goes on, at times with steps of others.
"""

from collections.abc import Iterator
from typing import Final

from heaplab.abi import (
    MADV_DONTNEED,
    MAP_ANONYMOUS,
    MAP_FIXED,
    MAP_FIXED_NOREPLACE,
    MAP_GROWSDOWN,
    MAP_NORESERVE,
    MAP_POPULATE,
    MAP_PRIVATE,
    MAP_SHARED,
    MREMAP_FIXED,
    MREMAP_MAYMOVE,
    PROT_EXEC,
    PROT_NONE,
    PROT_READ,
)
from heaplab.testing.conform.codec import PAGE
from heaplab.testing.conform.scene import ARENA, MOST, PRIVATE, RW, SHARED, TASK_SIZE, Scene
from heaplab.testing.conform.steps import (
    Brk,
    Fork,
    Load,
    Madvise,
    Mmap,
    Mprotect,
    Mremap,
    Munmap,
    Step,
    Store,
)

_FIXED_PRIVATE: Final = PRIVATE | MAP_FIXED


def access(scene: Scene) -> Iterator[Step]:
    """A load or a store."""
    size = scene.one((1, 2, 4, 8, 8))
    offset = scene.chance.randrange(PAGE // size) * size
    address = scene.address() + offset
    # pid 1 is the last to die
    fatal = int(scene.pid != 1 and scene.pid not in scene.world.entangled and scene.likely(0.02))
    if scene.likely(0.6):
        yield Store(scene.pid, address, size, fatal, scene.chance.getrandbits(8 * size))
    else:
        yield Load(scene.pid, address, size, fatal)


def store_run(scene: Scene) -> Iterator[Step]:
    """Stores to several pages of one VMA."""
    vma = scene.vma()
    if vma is None:
        return
    first = scene.page_of(vma)
    for page in range(first, min(first + scene.chance.randint(2, 5) * PAGE, vma.end), PAGE):
        yield Store(scene.pid, page, 8, 0, page)


def wild_access(scene: Scene) -> Iterator[Step]:
    """An access where no program has anything."""
    address = scene.one((0, 8, PAGE, TASK_SIZE - 8, TASK_SIZE, 1 << 47, 1 << 63, (1 << 64) - PAGE))
    yield Store(scene.pid, address) if scene.likely(0.5) else Load(scene.pid, address)


def mmap(scene: Scene) -> Iterator[Step]:
    """A mapping: somewhere, at a hint, beside another one, or over what is there."""
    length, prot, flags = scene.length(), scene.prot(), scene.map_flags()
    if scene.likely(0.02):
        # of whole huge pages, for which Linux chooses other places
        length, flags = scene.chance.randint(1, 3) << 21, (flags | MAP_NORESERVE) & ~MAP_POPULATE
    where = scene.weighted(
        {"anywhere": 40, "hint": 20, "beside": 25, "fixed": 12, "noreplace": 6, "stack": 2}
    )
    addr = 0
    if where == "hint":
        addr = scene.one((scene.edge(), scene.arena_page())) + scene.one((0, 0, 123))
    elif where == "beside" and (vma := scene.vma()) is not None and vma.name != "[stack]":
        pages = (length + PAGE - 1) // PAGE * PAGE
        addr = vma.end if scene.likely(0.5) else vma.start - pages
    elif where in ("fixed", "noreplace"):
        addr = scene.one((scene.arena_page(), max(scene.edge(), ARENA.start)))
        flags |= MAP_FIXED if where == "fixed" else MAP_FIXED_NOREPLACE
    elif where == "stack" and flags & MAP_PRIVATE:
        flags |= MAP_GROWSDOWN
    yield Mmap(scene.pid, max(addr, 0), length, prot, flags)


def twin(scene: Scene) -> Iterator[Step]:
    """A neighbour with the same protection, so that the two merge or must not."""
    vma = scene.vma()
    if vma is None or vma.name == "[stack]":
        return
    prot = sum(bit for letter, bit in (("r", 1), ("w", 2), ("x", 4)) if letter in vma.rights)
    length = scene.chance.randint(1, 3) * PAGE
    addr = vma.end if scene.likely(0.5) else vma.start - length
    kind = PRIVATE if vma.rights.endswith("p") else SHARED
    yield Mmap(scene.pid, addr, length, prot, kind | MAP_FIXED_NOREPLACE)
    if scene.likely(0.5):
        yield Store(scene.pid, addr)


def munmap(scene: Scene) -> Iterator[Step]:
    """A range taken out: whole VMAs, parts of them, several, a hole."""
    addr, length = scene.range()
    yield Munmap(scene.pid, addr, length - scene.one((0, 0, 0, 1)))


def mprotect(scene: Scene) -> Iterator[Step]:
    """Another protection, and at times back again."""
    addr, length = scene.range()
    prot = scene.prot() if scene.likely(0.7) else PROT_READ
    yield Mprotect(scene.pid, addr, length, prot)
    if scene.likely(0.3):
        yield Store(scene.pid, addr)
    if scene.likely(0.4):
        yield Mprotect(scene.pid, addr, length, RW)
        yield Store(scene.pid, addr)


def gap_fill(scene: Scene) -> Iterator[Step]:
    """Two neighbours of a gap, used or not, and then the gap filled (rules 15 and 16)."""
    pages, pid = scene.chance.randint(1, 2) * PAGE, scene.pid
    low = scene.arena_page()
    high = low + 2 * pages
    yield Mmap(pid, low, 3 * pages, RW, _FIXED_PRIVATE)
    yield Munmap(pid, low + pages, pages)
    for place in (low, high):
        if scene.likely(0.7):
            yield Store(pid, place)
    yield Mmap(pid, low + pages, pages, RW, _FIXED_PRIVATE)
    for place in (low + pages, low, high):
        if scene.likely(0.5):
            yield Store(pid, place)


def split_and_join(scene: Scene) -> Iterator[Step]:
    """A VMA cut by mprotect in pieces, used or not, that then become alike again (rules 14 and 17)."""
    pid, low = scene.pid, scene.arena_page()
    prot = scene.one((RW, RW, PROT_READ, PROT_NONE))
    yield Mmap(pid, low, 4 * PAGE, prot, _FIXED_PRIVATE)
    places = [low + index * PAGE for index in range(4)]
    for place in places:
        if scene.likely(0.5):
            yield scene.one((Store(pid, place), Load(pid, place)))
    for _ in range(scene.chance.randint(1, 4)):
        first = scene.one(places)
        length = scene.chance.randint(1, (low + 4 * PAGE - first) // PAGE) * PAGE
        yield Mprotect(pid, first, length, scene.one((RW, PROT_READ, PROT_NONE)))
        if scene.likely(0.5):
            yield Store(pid, scene.one(places))
    yield Mprotect(pid, low, 4 * PAGE, scene.one((RW, PROT_READ)))
    yield Store(pid, scene.one(places))


def large_range(scene: Scene) -> Iterator[Step]:
    """More pages than the TLB is flushed of one by one, used, then all protected, moved or taken away."""
    pid, low, pages = scene.pid, scene.arena_page() + 64 * PAGE, scene.chance.randint(34, 48)
    whole = pages * PAGE
    yield Mmap(pid, low, whole, RW, _FIXED_PRIVATE)
    places = [low, low + whole - PAGE, low + scene.chance.randrange(pages) * PAGE]
    for place in places:
        yield Store(pid, place)
    yield scene.one(
        (
            Munmap(pid, low, whole),
            Mprotect(pid, low, whole, scene.one((PROT_NONE, PROT_READ))),
            Mremap(pid, low, whole, whole, MREMAP_MAYMOVE | MREMAP_FIXED, low + 128 * PAGE),
            Madvise(pid, low, whole, MADV_DONTNEED),
            Fork(pid) if len(scene.world.views) < MOST else Munmap(pid, low, whole),
        )
    )
    for place in places:
        yield Store(pid, place) if scene.likely(0.5) else Load(pid, place)
    yield Munmap(pid, low, whole)


def growing(scene: Scene) -> Iterator[Step]:
    """A mapping that grows down, and another one below, which stops it if it may be accessed (rule 38)."""
    pid, low = scene.pid, 0x2000_0000
    gap = scene.one((2, 20, 255, 256, 257, 258, 300)) * PAGE
    if scene.likely(0.7):
        yield Mmap(pid, low, PAGE, scene.one((RW, PROT_READ, PROT_NONE)), _FIXED_PRIVATE)
    top = low + PAGE + gap
    yield Mmap(pid, top, 2 * PAGE, scene.one((RW, RW, PROT_READ)), _FIXED_PRIVATE | MAP_GROWSDOWN)
    if scene.likely(0.4):
        yield Store(pid, top)
    for _ in range(scene.chance.randint(1, 3)):
        page = top - scene.one((1, 1, 2, 3, 200)) * PAGE
        yield Store(pid, page) if scene.likely(0.4) else Load(pid, page)
    if scene.likely(0.4) and len(scene.world.views) < MOST:
        yield Fork(pid)
    for vma in [vma for vma in scene.vmas if low <= vma.start < low + (PAGE << 10)]:
        if scene.likely(0.3):
            yield Mmap(pid, vma.end, PAGE, RW, _FIXED_PRIVATE | scene.one((0, MAP_GROWSDOWN)))
        yield Store(pid, vma.start)
    yield Munmap(pid, low, PAGE << 10)


def beyond_the_limit(scene: Scene) -> Iterator[Step]:
    """A mapping of which a page was read, touched where it may not grow to; what does a child get of it?"""
    pid, at = scene.pid, scene.one((0x2800_0000, 0x3000_0000))
    yield Mmap(pid, at, 2 * PAGE, scene.one((RW, PROT_READ)), _FIXED_PRIVATE | MAP_GROWSDOWN)
    yield Load(pid, at)
    yield Load(pid, at - scene.one((2046, 2047, 2048, 4000)) * PAGE)  # RLIMIT_STACK is 2048 pages
    if len(scene.world.views) < MOST:
        yield Fork(pid)
    yield Munmap(pid, at - (PAGE << 11), PAGE << 12)


def between_two(scene: Scene) -> Iterator[Step]:
    """A VMA between two that were written one by one: whose anon_vma does it take, and with whom merge?"""
    pid, low = scene.pid, scene.arena_page()
    places = [low, low + PAGE, low + 2 * PAGE]
    yield Mmap(pid, low, 3 * PAGE, RW, _FIXED_PRIVATE)
    yield Mprotect(pid, places[1], PAGE, RW | PROT_EXEC)
    for place in scene.chance.sample((places[0], places[2]), scene.one((1, 2, 2))):
        yield Store(pid, place)
    yield Store(pid, places[1])
    yield Mprotect(pid, places[1], PAGE, RW)


def reserved_or_not(scene: Scene) -> Iterator[Step]:
    """Neighbours of which one is never to be counted against overcommit: they do not merge."""
    pid, low = scene.pid, scene.arena_page()
    if scene.likely(0.3):
        # what was never to be counted is not, whatever protection it had in between
        for place in (low, low + 2 * PAGE):
            yield Mmap(pid, place, 2 * PAGE, RW, _FIXED_PRIVATE | MAP_NORESERVE)
            yield Mprotect(pid, low, 2 * PAGE, PROT_READ)
            yield Mprotect(pid, low, 2 * PAGE, RW)
        return
    flags = [_FIXED_PRIVATE, _FIXED_PRIVATE | MAP_NORESERVE]
    scene.chance.shuffle(flags)
    prots = scene.one(((RW, RW), (PROT_READ, RW), (RW, PROT_READ)))
    yield Mmap(pid, low, 2 * PAGE, prots[0], flags[0])
    yield Mmap(pid, low + 2 * PAGE, 2 * PAGE, prots[1], flags[1])
    if scene.likely(0.3):
        yield Store(pid, low)
    yield Mprotect(pid, low, 4 * PAGE, scene.one((RW, RW, PROT_READ)))
    if scene.likely(0.3):
        yield Mprotect(pid, low, 4 * PAGE, RW)


def brk(scene: Scene) -> Iterator[Step]:
    """The break moved: up, down, back, into what lies above, to nonsense."""
    if scene.known.heap.brk is None:
        yield Brk(scene.pid, 0)
    by = scene.one((1, 100, PAGE - 1, PAGE, PAGE + 1, 3 * PAGE, 20 * PAGE))
    wanted = scene.weighted(
        {
            scene.brk + by: 50,
            scene.brk - by: 25,
            scene.start_brk + by: 8,
            scene.start_brk: 4,
            scene.start_brk - 1: 3,
            scene.brk: 3,
            0: 3,
            ARENA.start + PAGE: 1,
            TASK_SIZE + PAGE: 1,
            (1 << 64) - 1: 1,
        }
    )
    yield Brk(scene.pid, max(wanted, 0))
    top = scene.brk
    if scene.likely(0.5) and top > scene.start_brk:
        yield Store(scene.pid, scene.one((top - 1, (top - 1) // PAGE * PAGE, top // PAGE * PAGE)), 1)


def brk_against_mapping(scene: Scene) -> Iterator[Step]:
    """A mapping just above the break, and the break pushed against it (rules 34 and 35)."""
    if scene.known.heap.brk is None:
        yield Brk(scene.pid, 0)
    pid, top = scene.pid, (scene.brk + PAGE - 1) // PAGE * PAGE
    gap = scene.chance.randint(0, 3) * PAGE
    yield Mmap(pid, top + gap, 2 * PAGE, scene.one((RW, RW, PROT_READ)), PRIVATE | MAP_FIXED_NOREPLACE)
    for _ in range(2):
        yield Brk(pid, scene.brk + scene.one((1, PAGE, gap or PAGE)))
        if scene.likely(0.5):
            yield Store(pid, scene.brk - 1, 1)
    if scene.likely(0.7):
        yield Munmap(pid, top + gap, 2 * PAGE)


def shared_window(scene: Scene) -> Iterator[Step]:
    """A shared mapping of more than one fault-around window (rule 7), touched here and there."""
    pid, pages = scene.pid, scene.chance.randint(10, 40)
    at = scene.arena_page()
    yield Mmap(pid, at, pages * PAGE, scene.one((RW, RW, PROT_READ)), SHARED | MAP_FIXED)
    for _ in range(scene.chance.randint(2, 6)):
        page = at + scene.chance.randrange(pages) * PAGE
        yield Store(pid, page) if scene.likely(0.6) else Load(pid, page)


def read_then_write(scene: Scene) -> Iterator[Step]:
    """The zero frame first, a frame of one's own then (rule 2)."""
    vma = scene.vma()
    if vma is None:
        return
    page = scene.page_of(vma)
    yield Load(scene.pid, page)
    if scene.likely(0.6):
        yield Store(scene.pid, page)


def invalid(scene: Scene) -> Iterator[Step]:
    """A call that the kernel refuses (rules 19, 20, 23, 40)."""
    pid, page = scene.pid, scene.arena_page()
    length = scene.length()
    yield scene.one(
        (
            Mmap(pid, 0, 0, RW, PRIVATE),
            Mmap(pid, 0, PAGE, RW, MAP_ANONYMOUS),
            Mmap(pid, page + 1, PAGE, RW, PRIVATE | MAP_FIXED),
            Mmap(pid, page + 1, PAGE, RW, PRIVATE | MAP_FIXED_NOREPLACE),
            Mmap(pid, 0, PAGE, RW, PRIVATE, -1, 1),
            Mmap(pid, 0, PAGE, RW, PRIVATE, -1, PAGE),
            Mmap(pid, 0, PAGE, RW, MAP_PRIVATE),
            Mmap(pid, 0, PAGE, RW, MAP_SHARED, 99),
            Mmap(pid, 0, 0, RW, MAP_PRIVATE, 99),
            Mmap(pid, 0, 1 << 47, RW, PRIVATE),
            Mmap(pid, 0, (1 << 64) - 1, RW, PRIVATE),
            Mmap(pid, 0, 1 << 46, RW, PRIVATE),
            Mmap(pid, TASK_SIZE, PAGE, RW, PRIVATE | MAP_FIXED),
            Mmap(pid, TASK_SIZE - PAGE, length, RW, PRIVATE),
            Mmap(pid, 0, PAGE, RW, SHARED | MAP_GROWSDOWN),
            Munmap(pid, page, 0),
            Munmap(pid, page + 1, PAGE),
            Munmap(pid, TASK_SIZE, PAGE),
            Munmap(pid, TASK_SIZE + PAGE, PAGE),
            Munmap(pid, page, (1 << 64) - PAGE),
            Munmap(pid, page, TASK_SIZE),
            Mprotect(pid, page + 1, PAGE, RW),
            Mprotect(pid, page, 0, RW),
            Mprotect(pid, page, length, RW),
            Mprotect(pid, page, PAGE, 0x10),
            Mprotect(pid, page, (1 << 64) - PAGE, RW),
            Mprotect(pid, TASK_SIZE, PAGE, PROT_NONE),
        )
    )


#: rules, and how often each is taken
MEMORY: Final = {
    access: 34,
    store_run: 6,
    wild_access: 1,
    mmap: 12,
    twin: 6,
    munmap: 8,
    mprotect: 9,
    gap_fill: 2,
    split_and_join: 3,
    brk: 6,
    brk_against_mapping: 1,
    shared_window: 2,
    read_then_write: 4,
    invalid: 3,
    large_range: 2,
    beyond_the_limit: 1,
    growing: 2,
    reserved_or_not: 2,
    between_two: 2,
}
