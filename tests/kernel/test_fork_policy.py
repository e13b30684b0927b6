"""Fork by eager copying, copy-on-write, or shared page tables: the same results at different costs."""

import random

import pytest

from heaplab.abi import (
    MADV_DOFORK,
    MADV_DONTFORK,
    MADV_DONTNEED,
    MADV_WIPEONFORK,
    MAP_ANONYMOUS,
    MAP_FIXED,
    MAP_PRIVATE,
    MAP_SHARED,
    MREMAP_MAYMOVE,
    PROT_NONE,
    PROT_READ,
    PROT_WRITE,
)
from heaplab.errors import SegmentationFault, UsageError
from heaplab.kernel import Kernel
from heaplab.kernel.fork_policy import POLICIES
from heaplab.machine import FrameKind, Pte

RW = PROT_READ | PROT_WRITE
PAGES = 80  # with 256-byte pages a table has 32 entries


@pytest.fixture(params=list(POLICIES))
def policy(request):
    return request.param


def written(boot, policy, pages=PAGES, frames=1024):
    """A process with `pages` pages written, and the address of the first."""
    kernel = boot(frames=frames, fork=policy)
    process = kernel.init.fork()
    base = process.mmap(pages * process.page_size)
    for page in range(pages):
        process.store64(base + page * process.page_size, page)
    return kernel, process, base


def test_an_unknown_policy_is_refused():
    with pytest.raises(UsageError, match="choose among copy-on-write, eager, shared-tables"):
        Kernel(fork="lazy")


def test_either_side_keeps_its_own(boot, policy):
    kernel, process, base = written(boot, policy)
    size = process.page_size
    child = process.fork()
    kernel.check()
    for page in range(0, PAGES, 3):
        process.store64(base + page * size, 1000 + page)
    for page in range(0, PAGES, 2):
        child.store64(base + page * size, 2000 + page)
        kernel.check()
    for page in range(PAGES):
        assert process.load64(base + page * size) == page + 1000 * (page % 3 == 0)
        assert child.load64(base + page * size) == page + 2000 * (page % 2 == 0)


def test_frames_at_fork(boot):
    """Eager copies take a frame a page, copy-on-write one a table, shared tables only those above them."""
    taken = {}
    for policy in POLICIES:
        kernel, process, _ = written(boot, policy)
        before = kernel.machine.free_frames
        process.fork()
        taken[policy] = before - kernel.machine.free_frames
    tables = taken["copy-on-write"]
    assert taken["eager"] == tables + PAGES
    assert tables - 5 <= taken["shared-tables"] < tables


def test_minor_faults_of_writes_after_fork(boot):
    """What the policies may differ in: faults of the parent's writes while the child lives, and after it."""
    faults = {}
    for policy in POLICIES:
        kernel, process, base = written(boot, policy)
        counts = []
        for _ in range(2):
            child = process.fork()
            if counts:
                child.exit(0)
            before = process.minflt
            for page in range(PAGES):
                process.store64(base + page * process.page_size, page)
            counts.append(process.minflt - before)
            kernel.check()
        faults[policy] = counts
    assert faults["eager"] == [0, 0]
    assert faults["copy-on-write"] == [PAGES, PAGES]
    assert faults["shared-tables"][0] == PAGES
    assert faults["shared-tables"][1] <= PAGES // 32 + 2  # one for each table, which it has to itself again


def test_a_table_is_shared_until_it_is_written_through(boot):
    kernel, process, base = written(boot, "shared-tables")
    child, other = process.fork(), process.fork()
    va = (base | 0x1FFF) + 1  # where a table begins
    leaf = process.context.space.walk(va)[3][0]
    assert [p.context.space.walk(va)[3][0] for p in (child, other)] == [leaf, leaf]
    assert kernel.machine.refcount[leaf] == 3
    assert not process.context.space.walk(va)[2][1] & Pte.WRITE
    frame = process.frame_of(va)
    assert kernel.machine.mapcount[frame] == 1  # counted in the table, not in those who share it
    child.store64(va, 5)
    assert kernel.machine.refcount[leaf] == 2
    assert kernel.machine.mapcount[frame] == 1
    assert kernel.machine.mapcount[child.frame_of(va + 256)] == 2
    assert process.context.space.rss(FrameKind.ANON) == child.context.space.rss(FrameKind.ANON)
    kernel.check()


@pytest.mark.parametrize("pages", [(0, PAGES), (3, 4), (30, 40), (10, 70)])
@pytest.mark.parametrize("change", ["munmap", "none", "read", "fixed"])
def test_a_range_changes_for_one_side_only(boot, policy, change, pages):
    kernel, process, base = written(boot, policy)
    size = process.page_size
    child = process.fork()
    start, length = base + pages[0] * size, (pages[1] - pages[0]) * size
    if change == "munmap":
        process.munmap(start, length)
    elif change == "fixed":
        process.mmap(length, start, RW, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED)
    else:
        process.mprotect(start, length, PROT_READ if change == "read" else PROT_NONE)
    kernel.check()
    for page in range(PAGES):
        assert child.load64(base + page * size) == page
        child.store64(base + page * size, 7)
        if not pages[0] <= page < pages[1]:
            assert process.load64(base + page * size) == page
    kernel.check()
    if change == "fixed":
        assert process.load64(start) == 0
    elif change == "read":
        assert process.load64(start) == pages[0]
    with pytest.raises(SegmentationFault):
        process.store64(start, 1) if change != "fixed" else process.store64(base - size, 1)


def test_no_frame_for_a_table_of_ones_own(boot):
    """A part of a shared table cannot be unmapped without a frame: munmap and mprotect say ENOMEM."""
    kernel, process, base = written(boot, "shared-tables")
    size = process.page_size
    process.fork()
    hog = []
    while (frame := kernel.machine.alloc(FrameKind.ANON)) is not None:
        hog.append(frame)
    for call in (process.munmap, lambda *range_: process.mprotect(*range_, PROT_READ)):
        with pytest.raises(OSError, match="Cannot allocate memory"):
            call(base + 3 * size, size)
    for frame in hog:
        kernel.machine.put(frame)
    kernel.check()
    assert process.load64(base + 3 * size) == 3
    process.munmap(base + 3 * size, size)


MEMORY_CALLS = ["mmap", "munmap", "mprotect", "mremap", "madvise"]


def play(policy, seed):
    """A random program of a few processes; everything it sees."""
    chance = random.Random(seed)
    kernel = Kernel(ram=4096 * 256, page_size=256, tlb=64, poison=True, seed=seed, fork=policy)
    first = kernel.init.fork()
    size = first.page_size
    base = first.mmap(PAGES * size) + 40 * size
    alive, seen = [first], []
    for _ in range(120):
        process = chance.choice(alive)
        va = base + chance.randrange(-40, 40) * size
        length = chance.choice([1, 2, 32, 33]) * size
        step = chance.choice(["store"] * 4 + ["load"] * 2 + MEMORY_CALLS + ["fork", "exit"])
        try:
            if step == "store":
                seen.append(process.store64(va + 8 * chance.randrange(32), chance.randrange(1 << 64)))
            elif step == "load":
                seen.append(process.read(va, size))
            elif step == "fork" and len(alive) < 6:
                alive.append(process.fork())
                seen.append(alive[-1].pid)
            elif step == "exit" and len(alive) > 1:
                alive.remove(process)
                seen.append(process.exit(0))
            elif step == "mmap":
                flags = chance.choice([MAP_PRIVATE, MAP_PRIVATE, MAP_SHARED]) | MAP_ANONYMOUS | MAP_FIXED
                seen.append(process.mmap(length, va, RW, flags))
            elif step == "mremap":
                seen.append(process.mremap(va, length, chance.choice([1, 2, 32]) * size, MREMAP_MAYMOVE))
            elif step == "madvise":
                advice = chance.choice([MADV_DONTNEED, MADV_DONTFORK, MADV_DOFORK, MADV_WIPEONFORK])
                seen.append(process.madvise(va, length, advice))
            elif step == "munmap":
                seen.append(process.munmap(va, length))
            elif step == "mprotect":
                seen.append(process.mprotect(va, length, chance.choice([RW, RW, PROT_READ, PROT_NONE])))
        except SegmentationFault as fault:
            seen.append(fault.address)
            alive.remove(process)
            alive = alive or [kernel.init.fork()]
        except OSError as error:
            seen.append(error.errno)
        kernel.check()
        seen.append([p.maps() for p in alive])
        seen.append([p.context.space.rss(FrameKind.ANON) for p in alive])
    for process in alive:
        process.exit(0)
    kernel.check()
    assert list(kernel.system.tasks) == [1]
    return seen


@pytest.mark.parametrize("seed", range(12))
def test_all_policies_show_the_same(seed):
    reference = play("copy-on-write", seed)
    assert play("shared-tables", seed) == reference
    assert play("eager", seed) == reference
