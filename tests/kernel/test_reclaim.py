"""Reclaim: files give their memory up before a process has to go; rule 29 when memory is short."""

import os

import pytest

from heaplab.abi import (
    MADV_FREE,
    MAP_ANONYMOUS,
    MAP_LOCKED,
    MAP_PRIVATE,
    MAP_SHARED,
    MREMAP_FIXED,
    MREMAP_MAYMOVE,
    PROT_READ,
)
from heaplab.errors import OutOfMemory
from heaplab.kernel.mm import Mm
from heaplab.machine import FrameKind

SIZE = 256
DATA = bytes(range(1, 251)) * 40


@pytest.fixture
def small(boot):
    """A machine of 80 frames, with a file of 40 pages on its disk."""
    kernel = boot(frames=80)
    kernel.write_file("/f", DATA)
    return kernel


def fill_up(process, spare=0):
    """Write private pages until no frame is free."""
    machine = process.context.machine
    area = process.mmap((machine.frame_count - 8) * SIZE)
    while machine.free_frames > spare:
        process.store64(area, 1)
        area += SIZE
    return area


def test_clean_pages_go_before_processes(small):
    process, other = small.init.fork(), small.init.fork()
    fd = process.open("/f")
    assert process.pread(fd, len(DATA), 0) == DATA
    cached = small.machine.used(FrameKind.FILE)
    area = fill_up(other)
    other.store64(area, 1)
    assert small.machine.used(FrameKind.FILE) < cached
    assert not small.system.oom_kills
    small.check()
    assert process.pread(fd, len(DATA), 0) == DATA


def test_dirty_pages_are_written_back_first(small):
    process, other = small.init.fork(), small.init.fork()
    fd = process.open("/f", os.O_RDWR)
    process.pwrite(fd, b"new", 0)
    inode = small.system.files.find("/f")
    other.store64(fill_up(other), 1)
    assert (inode.pages, inode.dirty) == ({}, set())
    assert bytes(inode.disk[:4]) == b"new" + DATA[3:4]
    small.check()


def test_mapped_pages_go_from_all_address_spaces(small):
    process = small.init.fork()
    address = process.mmap(40 * SIZE, prot=PROT_READ, flags=MAP_PRIVATE, fd=process.open("/f"))
    for page in range(10):
        process.load64(address + page * SIZE)
    child = process.fork()
    for page in range(10):
        child.load64(address + page * SIZE)
    other = small.init.fork()
    area = fill_up(other)
    for _ in range(2):
        other.store64(area, 1)
        area += SIZE
    small.check()
    assert process.context.space.rss(FrameKind.FILE) == child.context.space.rss(FrameKind.FILE) == 0
    major = child.majflt
    assert child.read(address, 40 * SIZE) == DATA.ljust(40 * SIZE, b"\0")
    assert child.majflt > major


def test_what_was_used_lately_gets_a_second_chance(small):
    process = small.init.fork()
    fd = process.open("/f")
    process.pread(fd, 40 * SIZE, 0)
    address = process.mmap(4 * SIZE, prot=PROT_READ, flags=MAP_SHARED, fd=fd)
    process.load64(address)
    other = small.init.fork()
    other.store64(fill_up(other), 1)
    inode = small.system.files.find("/f")
    assert 0 in inode.pages  # the oldest, but accessed
    assert 1 in inode.pages or 5 not in inode.pages
    assert len(inode.pages) < 40
    small.check()


def test_taking_the_accessed_bit_owes_a_flush(small, monkeypatch):
    process, other = small.init.fork(), small.init.fork()
    fd = process.open("/f")
    process.pread(fd, 40 * SIZE, 0)
    address = process.mmap(SIZE, prot=PROT_READ, flags=MAP_SHARED, fd=fd)
    process.load64(address)
    flushed = []
    honest = Mm.flush_range
    monkeypatch.setattr(Mm, "flush_range", lambda mm, *range_: (flushed.append(range_), honest(mm, *range_)))
    other.store64(fill_up(other), 1)
    assert (address, address + SIZE) in flushed


def test_private_copies_and_locked_pages_stay(small):
    process = small.init.fork()
    fd = process.open("/f")
    private = process.mmap(2 * SIZE, flags=MAP_PRIVATE, fd=fd)
    process.store64(private, 5)
    locked = process.mmap(2 * SIZE, prot=PROT_READ, flags=MAP_SHARED | MAP_LOCKED, fd=fd, offset=4 * SIZE)
    other = small.init.fork()
    with pytest.raises(OutOfMemory):
        other.fill(other.mmap(80 * SIZE), 1, 80 * SIZE)
    small.check()
    inode = small.system.files.find("/f")
    assert set(inode.pages) == {4, 5}
    before = process.minflt, process.majflt
    assert process.load64(private) == 5
    assert process.read(locked, 2 * SIZE) == DATA[4 * SIZE : 6 * SIZE]
    assert (process.minflt, process.majflt) == before


def test_shared_memory_is_not_on_disk_and_stays(boot):
    kernel = boot(frames=64)
    process, other = kernel.init.fork(), kernel.init.fork()
    fd = process.memfd_create("stays")
    process.write_fd(fd, b"kept")
    with pytest.raises(OutOfMemory):
        other.fill(other.mmap(64 * SIZE), 1, 64 * SIZE)
    assert process.pread(fd, 4, 0) == b"kept"


def test_a_copy_whose_original_is_reclaimed_under_it(small):
    """The write fault finds no frame; what it wanted to copy is the only thing to reclaim."""
    process, other = small.init.fork(), small.init.fork()
    address = process.mmap(SIZE, flags=MAP_PRIVATE, fd=process.open("/f"))
    process.load64(address)
    fill_up(other)
    process.store(address, 200, 1)
    assert process.read(address, 3) == bytes([200]) + DATA[1:3]
    small.check()


def test_a_page_that_crowds_out_its_own_table_does_not_go_round_for_ever(small):
    process, other = small.init.fork(), small.init.fork()
    address = process.mmap(SIZE, prot=PROT_READ, flags=MAP_PRIVATE, fd=process.open("/f"))
    fill_up(other, spare=1)
    assert process.load(address, 1) == 1
    assert other.state == "X"  # one frame was not enough for the page and its tables
    small.check()


def test_a_file_larger_than_memory_can_be_read_and_written(boot):
    kernel = boot(frames=40)
    process = kernel.init.fork()
    fd = process.open("/big", os.O_CREAT | os.O_RDWR)
    data = bytes(i * 7 % 251 for i in range(100 * SIZE))
    assert process.write_fd(fd, data) == len(data)
    assert process.pread(fd, len(data), 0) == data
    kernel.check()
    assert kernel.read_file("/big") == data
    assert not kernel.system.oom_kills
    address = process.mmap(len(data), flags=MAP_SHARED, fd=fd)
    for page in range(100):
        process.store(address + page * SIZE, 99, 1)
    assert not kernel.system.oom_kills
    process.msync(address, len(data))
    assert kernel.read_file("/big")[::SIZE] == bytes([99]) * 100


def test_fork_and_mremap_reclaim_too(boot):
    kernel = boot(frames=120)
    kernel.write_file("/f", DATA)
    process = kernel.init.fork()
    written = process.mmap(4 * SIZE)
    process.fill(written, 7, 4 * SIZE)
    fd = process.open("/f")
    fill_up(process, spare=40)
    process.pread(fd, len(DATA), 0)
    child = process.fork()
    child.exit(0)
    process.pread(fd, len(DATA), 0)
    far = written - 4096 * SIZE
    while kernel.machine.free_frames:
        process.store64(process.mmap(SIZE), 1)
    moved = process.mremap(written, 4 * SIZE, 4 * SIZE, MREMAP_MAYMOVE | MREMAP_FIXED, far)
    assert process.read(moved, 4) == b"\7" * 4
    assert not kernel.system.oom_kills
    kernel.check()


def test_rule_29_freed_pages_go_when_memory_is_short(boot):
    kernel = boot(frames=64)
    process, other = kernel.init.fork(), kernel.init.fork()
    area = process.mmap(8 * SIZE, flags=MAP_PRIVATE | MAP_ANONYMOUS)
    process.fill(area, 7, 8 * SIZE)
    process.madvise(area, 8 * SIZE, MADV_FREE)
    process.store(area + SIZE, 8, 1)  # wanted after all
    assert process.load(area, 1) == 7
    other.store64(fill_up(other), 1)
    kernel.check()
    assert not kernel.system.oom_kills
    assert process.read(area, SIZE) == bytes(SIZE)
    assert process.read(area + SIZE, SIZE) == bytes([8]) + b"\7" * (SIZE - 1)


@pytest.mark.parametrize(
    ("policy", "who", "left"),
    [
        # measured on Linux 6.18, in a memory cgroup whose limit was lowered
        ("copy-on-write", ["parent", "child"], []),
        ("copy-on-write", ["before fork"], []),
        ("copy-on-write", ["parent"], ["child"]),  # taken before the child's entry is found dirty
        ("copy-on-write", ["child"], ["parent", "child"]),  # the parent's comes first, and is dirty
        ("copy-on-write", [], ["parent", "child"]),
        # the same by a policy that Linux does not have
        ("shared-tables", ["parent", "child"], []),
        ("shared-tables", ["parent"], ["child"]),
        ("shared-tables", ["child"], ["parent", "child"]),
        ("shared-tables", ["before fork"], ["parent", "child"]),  # no frame is left for a table of one's own
    ],
)
def test_rule_29_pages_that_others_share(boot, policy, who, left):
    kernel = boot(frames=64, fork=policy)
    process = kernel.init.fork()
    area = process.mmap(8 * SIZE)
    process.fill(area, 7, 8 * SIZE)
    if "before fork" in who:
        process.madvise(area, 8 * SIZE, MADV_FREE)
    family = {"parent": process, "child": process.fork()}
    for name in who:
        if name in family:
            family[name].madvise(area, 8 * SIZE, MADV_FREE)
    other = kernel.init.fork()
    with pytest.raises(OutOfMemory):
        other.fill(other.mmap(64 * SIZE), 1, 64 * SIZE)
    for name, member in family.items():
        assert member.read(area, 8 * SIZE) == (b"\7" if name in left else b"\0") * 8 * SIZE
    kernel.check()


def test_rule_29_locked_pages_stay(boot):
    kernel = boot(frames=64)
    process = kernel.init.fork()
    area = process.mmap(4 * SIZE)
    process.fill(area, 7, 4 * SIZE)
    process.madvise(area, 4 * SIZE, MADV_FREE)
    child = process.fork()
    process.mprotect(area, 4 * SIZE, PROT_READ)  # so that mlock need not make them its own
    process.mlock(area, 4 * SIZE)
    other = kernel.init.fork()
    with pytest.raises(OutOfMemory):
        other.fill(other.mmap(64 * SIZE), 1, 64 * SIZE)
    assert process.read(area, 4 * SIZE) == child.read(area, 4 * SIZE) == b"\7" * 4 * SIZE
    kernel.check()
