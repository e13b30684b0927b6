"""What the generator knows about files and their mappings: rules, as those of memory_rules."""

import os
from collections.abc import Iterator
from typing import Final

from heaplab.abi import (
    MADV_DONTNEED,
    MADV_POPULATE_WRITE,
    MAP_FIXED,
    MAP_GROWSDOWN,
    MAP_NORESERVE,
    MAP_POPULATE,
    MAP_PRIVATE,
    MAP_SHARED,
    MAP_SHARED_VALIDATE,
    MFD_CLOEXEC,
    MREMAP_MAYMOVE,
    PROT_EXEC,
    PROT_READ,
    PROT_WRITE,
    WNOHANG,
    Rlimit,
)
from heaplab.testing.conform.codec import PAGE
from heaplab.testing.conform.observe import Vma
from heaplab.testing.conform.scene import MOST, RW, Scene
from heaplab.testing.conform.steps import (
    FILES,
    SCRATCH,
    Close,
    Dup,
    Fork,
    Fsync,
    Ftruncate,
    Load,
    Lseek,
    Madvise,
    Memfd,
    Mmap,
    Mprotect,
    Mremap,
    Munmap,
    Open,
    Pread,
    Pwrite,
    Read,
    Setrlimit,
    Step,
    Store,
    Wait4,
    Write,
)

#: descriptors of one process, above which some are closed
_MANY_FDS: Final = 8
#: an address where no rule maps anything
NOWHERE: Final = 0x3000_0000


def fewer_descriptors(scene: Scene) -> Iterator[Step]:
    """Some descriptors closed, where there are many."""
    fds = list(scene.known.fds)
    if len(fds) > _MANY_FDS:
        for fd in scene.chance.sample(fds, 4):
            yield Close(scene.pid, fd)


def new_file(scene: Scene) -> Iterator[Step]:
    """A file of shared memory, of some pages, or one of those that were there, opened in every way."""
    yield from fewer_descriptors(scene)
    fds = list(scene.known.fds)
    if scene.likely(0.6):
        yield Memfd(scene.pid, scene.one((0, 0, MFD_CLOEXEC)))
        new = [fd for fd in scene.known.fds if fd not in fds]
        if new and scene.likely(0.9):
            yield Ftruncate(scene.pid, new[0], size(scene))
    else:
        flags = scene.one((os.O_RDONLY, os.O_RDONLY, os.O_WRONLY, os.O_RDWR, os.O_RDWR))
        flags |= scene.weighted({0: 10, os.O_CLOEXEC: 3, os.O_APPEND: 2, os.O_TRUNC: 1})
        yield Open(scene.pid, scene.chance.randrange(len(FILES)), flags)


def size(scene: Scene) -> int:
    """A size of a file: whole pages, or not."""
    return scene.pages() * PAGE + scene.one((0, 0, 1, 100, PAGE - 1))


def place(scene: Scene) -> int:
    """A place in a file: mostly near the start, at the edge of a page or within."""
    return scene.chance.randrange(6) * PAGE + scene.one((0, 0, 8, 100, PAGE - 8, PAGE - 100))


def map_file(scene: Scene) -> Iterator[Step]:
    """A mapping of a file, private or shared, anywhere or beside another, from the start or not."""
    offset = scene.one((0, 0, 0, 1, 2, 3, 20)) * PAGE
    flags = scene.weighted({MAP_PRIVATE: 50, MAP_SHARED: 45, MAP_SHARED_VALIDATE: 5})
    flags |= scene.weighted({0: 20, MAP_POPULATE: 2, MAP_NORESERVE: 1})
    length, prot, addr = scene.length(), scene.prot(), 0
    if scene.likely(0.4):
        addr, flags = scene.arena_page(), flags | MAP_FIXED
    elif scene.likely(0.4) and (vma := scene.vma()) is not None:
        addr = vma.end
    yield Mmap(scene.pid, addr, length, prot, flags, scene.fd(), offset)


def window(scene: Scene) -> Iterator[Step]:
    """A file of more than a fault-around window, some of its pages there, mapped and touched (rule 7)."""
    fds = scene.files()
    if not fds:
        yield from new_file(scene)
        return
    fd, pid, pages = scene.one(fds), scene.pid, scene.chance.randint(10, 40)
    yield Ftruncate(pid, fd, pages * PAGE)
    for _ in range(scene.chance.randint(0, 6)):
        yield Pwrite(pid, fd, 8, 7, 0, scene.chance.randrange(pages) * PAGE)
    at = scene.arena_page()
    flags = scene.one((MAP_SHARED, MAP_PRIVATE)) | MAP_FIXED
    yield Mmap(pid, at, pages * PAGE, scene.one((RW, RW, PROT_READ)), flags, fd, 0)
    for _ in range(scene.chance.randint(2, 6)):
        page = at + scene.chance.randrange(pages) * PAGE
        yield Store(pid, page) if scene.likely(0.4) else Load(pid, page)
    if scene.likely(0.4):
        yield Ftruncate(pid, fd, scene.chance.randrange(pages) * PAGE + scene.one((0, 100)))
        for _ in range(3):
            page = at + scene.chance.randrange(pages) * PAGE
            yield Store(pid, page) if scene.likely(0.4) else Load(pid, page)


def truncate(scene: Scene) -> Iterator[Step]:
    """A file cut or grown, under what maps it, and accesses around its end (rules 11 and 12)."""
    yield Ftruncate(scene.pid, scene.fd(), scene.one((size(scene), size(scene), 0, 50)))
    for _ in range(2):
        vma = file_vma(scene)
        if vma is not None:
            page = scene.page_of(vma)
            offset = scene.one((0, 96, 104, PAGE - 8))
            yield Store(scene.pid, page + offset) if scene.likely(0.5) else Load(scene.pid, page + offset)


def file_vma(scene: Scene) -> Vma | None:
    """One of the VMAs that map a file, in any process of the scene."""
    vmas = [vma for vma in scene.vmas if vma.name and not vma.name.startswith("[")]
    return scene.one(vmas) if vmas else None


def touch_file(scene: Scene) -> Iterator[Step]:
    """A page of a mapped file read, then written, and the other way round (rules 8, 9 and 10)."""
    vma = file_vma(scene)
    if vma is None:
        yield from map_file(scene)
        return
    page = scene.page_of(vma)
    for _ in range(scene.chance.randint(1, 3)):
        yield Store(scene.pid, page + 8) if scene.likely(0.5) else Load(scene.pid, page)


def copy_or_see(scene: Scene) -> Iterator[Step]:
    """One file mapped privately and shared: what is not copied yet sees what others write (rule 10)."""
    fds = scene.files()
    if not fds:
        return
    fd, pid, low = scene.one(fds), scene.pid, scene.arena_page()
    yield Mmap(pid, low, 2 * PAGE, RW, MAP_PRIVATE | MAP_FIXED, fd, 0)
    yield Mmap(pid, low + 4 * PAGE, 2 * PAGE, RW, MAP_SHARED | MAP_FIXED, fd, 0)
    for _ in range(scene.chance.randint(2, 6)):
        page = low + scene.one((0, 1, 4, 5)) * PAGE
        value = scene.chance.randrange(1 << 16)
        yield scene.one(
            (
                Store(pid, page, 8, 0, value),
                Load(pid, page),
                Pwrite(pid, fd, 8, value & 0xFF, 0, (page - low) % (4 * PAGE)),
                Madvise(pid, page, PAGE, MADV_DONTNEED),
            )
        )


def transfer(scene: Scene) -> Iterator[Step]:
    """Bytes read or written, by the driver's memory or by the process's own."""
    fd = scene.fd()
    count = scene.one((0, 1, 8, 100, SCRATCH))
    buf = 0
    if scene.likely(0.3):
        buf, count = scene.address() + scene.one((0, 100, PAGE - 50)), scene.one((1, 8, 100, PAGE, 3 * PAGE))
    value = scene.chance.randrange(256)
    yield scene.one(
        (
            Read(scene.pid, fd, count, buf),
            Pread(scene.pid, fd, count, buf, place(scene)),
            Pread(scene.pid, fd, count, buf, place(scene)),
            Write(scene.pid, fd, count, value, buf),
            Pwrite(scene.pid, fd, count, value, buf, place(scene)),
            Pwrite(scene.pid, fd, count, value, buf, place(scene)),
        )
    )


def kernel_writes(scene: Scene) -> Iterator[Step]:
    """A page that was read, then written by the kernel for the process, and read again."""
    vma, pid = scene.vma(), scene.pid
    if vma is None:
        return
    page = scene.page_of(vma)
    yield Load(pid, page)
    yield scene.one(
        (
            Pread(pid, scene.fd(), 8, page, scene.chance.randrange(4) * PAGE),
            Pread(pid, scene.fd(), 8, page, scene.chance.randrange(4) * PAGE),
            Madvise(pid, page, PAGE, MADV_POPULATE_WRITE),
            Wait4(pid, -1, WNOHANG, page),
        )
    )
    yield Load(pid, page)


def tail(scene: Scene) -> Iterator[Step]:
    """A file cut within a page that was written, and grown again: what was cut reads zero."""
    fds = scene.files()
    if not fds:
        yield from new_file(scene)
        return
    fd, pid, at = scene.one(fds), scene.pid, scene.arena_page()
    yield Ftruncate(pid, fd, 2 * PAGE)
    yield Mmap(pid, at, 2 * PAGE, RW, scene.one((MAP_SHARED, MAP_SHARED, MAP_PRIVATE)) | MAP_FIXED, fd, 0)
    yield Store(pid, at + PAGE + 200)
    yield Ftruncate(pid, fd, PAGE + scene.one((100, 200, 204, 300)))
    yield Load(pid, at + PAGE + 200)
    yield Store(pid, at + PAGE + 400)
    yield Ftruncate(pid, fd, 2 * PAGE)
    yield Load(pid, at + PAGE + scene.one((200, 400)))


def behind_the_end(scene: Scene) -> Iterator[Step]:
    """A page of the cache behind the file's end, left by a write that failed: no window maps it (rule 7)."""
    fds = scene.files()
    if not fds:
        yield from new_file(scene)
        return
    fd, pid, at, pages = scene.one(fds), scene.pid, scene.arena_page(), scene.chance.randint(1, 4)
    yield Ftruncate(pid, fd, pages * PAGE)
    yield Pwrite(pid, fd, 8, 5, 0, 0)
    yield Mmap(
        pid, at, (pages + 2) * PAGE, PROT_READ, scene.one((MAP_PRIVATE, MAP_SHARED)) | MAP_FIXED, fd, 0
    )
    yield Pwrite(pid, fd, 8, 0, NOWHERE, (pages + scene.one((0, 0, 1))) * PAGE)
    yield Load(pid, at)
    if scene.likely(0.5):
        yield Ftruncate(pid, fd, (pages + 1) * PAGE)
        yield Load(pid, at + pages * PAGE)


def open_mode(scene: Scene) -> Iterator[Step]:
    """A file opened for less than all, mapped, and a right asked for that it does not give (rule 23)."""
    before = set(scene.known.fds)
    yield Open(scene.pid, 1, scene.one((os.O_RDONLY, os.O_RDONLY, os.O_WRONLY)))
    for fd in set(scene.known.fds) - before:
        at, kind = scene.arena_page(), scene.one((MAP_SHARED, MAP_SHARED, MAP_PRIVATE))
        yield Mmap(scene.pid, at, 2 * PAGE, scene.one((PROT_READ, PROT_READ, RW)), kind | MAP_FIXED, fd, 0)
        if scene.likely(0.5):
            yield Close(scene.pid, fd)
        yield Mprotect(scene.pid, at, PAGE, RW)
        yield Store(scene.pid, at)


def offset(scene: Scene) -> Iterator[Step]:
    """An offset moved, and read at; descriptors that were duplicated or inherited have one together."""
    fd = scene.fd()
    whence = scene.one((os.SEEK_SET, os.SEEK_CUR, os.SEEK_END, 9))
    yield Lseek(scene.pid, fd, scene.one((0, 10, place(scene), -1, 1 << 62)), whence)
    if scene.likely(0.5):
        yield Dup(scene.pid, fd)
    yield Read(scene.pid, scene.fd(), 20)


def close(scene: Scene) -> Iterator[Step]:
    """A descriptor closed; the mappings of its file stay."""
    yield Close(scene.pid, scene.fd())


def fsync(scene: Scene) -> Iterator[Step]:
    """A file brought to disk, of which it has none."""
    yield Fsync(scene.pid, scene.fd())


def fork_with_files(scene: Scene) -> Iterator[Step]:
    """A child with mapped files: shared mappings arrive empty, private copies are shared (rule 6)."""
    if len(scene.world.views) >= MOST:
        return
    before = set(scene.world.views)
    yield Fork(scene.pid)
    vma = file_vma(scene)
    for child in set(scene.world.views) - before if vma is not None else ():
        assert vma is not None
        for who in (child, scene.pid):
            page = scene.page_of(vma)
            yield Store(who, page) if scene.likely(0.5) else Load(who, page)


def remap_file(scene: Scene) -> Iterator[Step]:
    """A mapping of a file moved, grown past its end, cut, protected, or had twice (mremap of no length)."""
    vma = file_vma(scene)
    if vma is None:
        return
    pid, at, length = scene.pid, scene.page_of(vma), scene.pages() * PAGE
    yield scene.one(
        (
            Mremap(pid, vma.start, vma.end - vma.start, vma.end - vma.start + length, MREMAP_MAYMOVE),
            Mremap(pid, vma.start, 0, length, MREMAP_MAYMOVE),
            Mremap(pid, at, PAGE, PAGE, MREMAP_MAYMOVE),
            Munmap(pid, at, length),
            Mprotect(pid, at, length, scene.prot()),
            Mprotect(pid, vma.start, vma.end - vma.start, RW),
        )
    )
    if scene.likely(0.5):
        yield Store(pid, at) if scene.likely(0.5) else Load(pid, at)


def invalid_file(scene: Scene) -> Iterator[Step]:
    """Calls that the kernel refuses (rule 23)."""
    pid, fd, page = scene.pid, scene.fd(), scene.arena_page()
    yield scene.one(
        (
            Mmap(pid, 0, PAGE, RW, MAP_SHARED, fd, 100),
            Mmap(pid, 0, PAGE, RW, MAP_PRIVATE, fd, 1 << 63),
            Mmap(pid, 0, 2 * PAGE, RW, MAP_PRIVATE, fd, (1 << 64) - PAGE),
            Mmap(pid, 0, PAGE, RW, MAP_PRIVATE | MAP_GROWSDOWN, fd, 0),
            Mmap(pid, 0, PAGE, RW, 0, fd, 0),
            Mmap(pid, 0, PAGE, RW, 8, fd, 0),
            Mmap(pid, 0, PAGE, PROT_READ | PROT_EXEC, MAP_SHARED_VALIDATE | 0x80000, fd, 0),
            Mmap(pid, page, PAGE, PROT_WRITE, MAP_SHARED | MAP_FIXED, fd, 0),
            Ftruncate(pid, fd, (1 << 64) - 1),
            Ftruncate(pid, -1, 0),
            Memfd(pid, 0x100),
            Close(pid, -1),
            Dup(pid, -1),
            Pread(pid, fd, 8, 0, (1 << 64) - 1),
            Pwrite(pid, fd, 8, 1, 0, (1 << 64) - 1),
            Pwrite(pid, fd, 8, 1, 0, (1 << 63) - 4),
            Open(pid, 77, os.O_RDONLY),
            Open(pid, 0, os.O_RDWR | os.O_CREAT | os.O_EXCL),
            Read(pid, -5, 8),
            Write(pid, 99, 8),
        )
    )


def few_descriptors(scene: Scene) -> Iterator[Step]:
    """A limit on descriptors, and one too many."""
    pid = scene.pid
    yield Setrlimit(pid, Rlimit.NOFILE, len(scene.known.fds), 1024)
    yield scene.one((Memfd(pid), Dup(pid, scene.fd()), Open(pid, 1, os.O_RDONLY)))
    yield Setrlimit(pid, Rlimit.NOFILE, 1024, 1024)


def offset_of_two(scene: Scene) -> Iterator[Step]:
    """Two descriptors of one open file have one offset."""
    pid, fd = scene.pid, scene.fd()
    before = set(scene.known.fds)
    yield Dup(pid, fd)
    others = [each for each in scene.known.fds if each not in before]
    if others:
        one, other = scene.chance.sample((fd, others[0]), 2)
        yield Lseek(pid, one, scene.one((1, 100, PAGE)), os.SEEK_SET)
        yield Lseek(pid, other, 0, os.SEEK_CUR)
        yield scene.one((Write(pid, other, 10), Read(pid, other, 10)))
        yield Lseek(pid, one, 0, os.SEEK_CUR)


#: rules, and how often each is taken
FILE: Final = {
    offset_of_two: 2,
    new_file: 14,
    map_file: 20,
    window: 6,
    truncate: 10,
    touch_file: 16,
    copy_or_see: 6,
    transfer: 16,
    offset: 4,
    close: 3,
    fsync: 1,
    fork_with_files: 4,
    remap_file: 8,
    invalid_file: 3,
    few_descriptors: 1,
    kernel_writes: 4,
    tail: 3,
    open_mode: 3,
    behind_the_end: 2,
}
