"""Mapped files: rules 6 to 12, 21, 23."""

import errno
import os
import signal

import pytest

from heaplab.abi import (
    MAP_ANONYMOUS,
    MAP_FIXED,
    MAP_GROWSDOWN,
    MAP_POPULATE,
    MAP_PRIVATE,
    MAP_SHARED,
    MAP_SHARED_VALIDATE,
    PROT_READ,
    PROT_WRITE,
    Sys,
)
from heaplab.errors import BusError
from heaplab.kernel.mm import Mm
from heaplab.machine import FrameKind

SIZE = 256
RW = PROT_READ | PROT_WRITE


def refused(code, call, *args, **kwargs):
    with pytest.raises(OSError) as caught:
        call(*args, **kwargs)
    assert errno.errorcode[caught.value.errno] == errno.errorcode[code]


def beyond(call, *args):
    with pytest.raises(BusError) as caught:
        call(*args)
    assert caught.value.si_code == 2
    return caught.value


class GivenUp(Exception):
    """What the handler of a program raises that does not want to die."""


def given_up(_signum, _info):
    raise GivenUp


def memfd(process, pages):
    """A memfd; page n is full of n + 1."""
    fd = process.memfd_create("pages")
    for page in range(pages):
        process.write_fd(fd, bytes([page + 1]) * SIZE)
    return fd


def vmas(process):
    """(pages, rights, offset in pages) of each mapping of a file."""
    found = []
    for line in process.maps().splitlines():
        where, rights, offset, _, inode = line.split()[:5]
        start, end = (int(part, 16) for part in where.split("-"))
        if inode != "0":
            found.append(((end - start) // SIZE, rights, int(offset, 16) // SIZE))
    return found


def aligned(process, pages):
    """An address that begins a window of 16 pages, with `pages` free behind it."""
    area = process.mmap((pages + 32) * SIZE)
    process.munmap(area, (pages + 32) * SIZE)
    return (area + 16 * SIZE) & -(16 * SIZE)


# ---- faults


def test_rule_6_shared_and_unwritten_private_mappings_arrive_empty(process, faults):
    fd = memfd(process, 2)
    shared = process.mmap(2 * SIZE, flags=MAP_SHARED, fd=fd)
    private = process.mmap(2 * SIZE, flags=MAP_PRIVATE, fd=fd)
    written = process.mmap(2 * SIZE, flags=MAP_PRIVATE, fd=fd)
    for address in (shared, private, written):
        process.load64(address)
    process.store64(written, 99)
    child = process.fork()
    entries = [
        child.context.space.pte(address) != 0 for address in (shared, private, written, written + SIZE)
    ]
    assert entries == [False, False, True, True]
    assert faults(child, child.load64, written) == 0
    assert faults(child, child.store64, written, 7) == 1
    assert process.load64(written) == 99
    child.store64(shared, 5)
    assert process.load64(shared) == process.load64(private) == 5


def test_rule_7_the_window_is_aligned_and_clipped_to_vma_and_cache(process, faults):
    fd = memfd(process, 40)
    base = aligned(process, 40)
    process.mmap(40 * SIZE, base, flags=MAP_SHARED | MAP_FIXED, fd=fd)
    space = process.context.space
    assert faults(process, process.load64, base + 20 * SIZE) == 1
    mapped = [page for page in range(40) if space.pte(base + page * SIZE)]
    assert mapped == list(range(16, 32))
    process.munmap(base + 2 * SIZE, SIZE)
    assert faults(process, process.load64, base + 5 * SIZE) == 1
    mapped = [page for page in range(16) if space.pte(base + page * SIZE)]
    assert mapped == list(range(3, 16))


def test_rule_7_the_window_ends_with_the_file(kernel, process):
    """A page of the cache behind the end, which a failed write left, is not mapped."""
    fd = process.memfd_create("x")
    area = process.mmap(2 * SIZE, prot=PROT_READ, flags=MAP_PRIVATE, fd=fd)
    assert process.syscall(Sys.PWRITE64, fd, area, 1, 0) == -errno.EFAULT
    assert 0 in kernel.task(process.pid).files[fd].inode.pages
    assert not process.context.space.pte(area)


def test_rule_7_holes_are_not_made(kernel, process, faults):
    fd = process.memfd_create("sparse")
    process.pwrite(fd, b"x", 9 * SIZE)
    base = aligned(process, 10)
    process.mmap(10 * SIZE, base, flags=MAP_SHARED | MAP_FIXED, fd=fd)
    assert faults(process, process.load64, base + 2 * SIZE) == 1
    assert kernel.machine.used(FrameKind.FILE) == 2
    assert faults(process, process.load64, base + 9 * SIZE) == 0
    assert faults(process, process.load64, base + 3 * SIZE) == 1


def test_rule_8_shared_write_after_read(process, faults):
    address = process.mmap(SIZE, flags=MAP_SHARED, fd=memfd(process, 1))
    assert faults(process, process.load64, address) == 1
    assert faults(process, process.store64, address, 1) == 0


def test_rule_9_private_writes(kernel, process, faults):
    fd = memfd(process, 2)
    address = process.mmap(2 * SIZE, flags=MAP_PRIVATE, fd=fd)
    assert faults(process, process.load64, address) == 1
    assert faults(process, process.store64, address, 0) == 1
    process.munmap(address, 2 * SIZE)
    address = process.mmap(2 * SIZE, flags=MAP_PRIVATE, fd=fd)
    assert faults(process, process.store64, address, 0) == 1
    assert process.read(address, 9) == bytes(8) + b"\1"
    assert process.pread(fd, 2, 0) == b"\1\1"
    assert kernel.machine.used(FrameKind.ANON) == 1
    assert kernel.machine.used(FrameKind.FILE) == 2


def test_rule_9_even_the_only_mapping_copies(process, faults):
    fd = memfd(process, 1)
    address = process.mmap(SIZE, flags=MAP_PRIVATE, fd=fd)
    process.close(fd)
    process.load64(address)
    before = process.frame_of(address)
    assert faults(process, process.store64, address, 1) == 1
    assert process.frame_of(address) != before


def test_rule_10_later_shared_writes_are_seen_by_pages_not_yet_written(process):
    fd = memfd(process, 2)
    private = process.mmap(2 * SIZE, flags=MAP_PRIVATE, fd=fd)
    shared = process.mmap(2 * SIZE, flags=MAP_SHARED, fd=fd)
    process.load64(private)
    process.store64(private + SIZE, 50)
    process.store64(shared, 60)
    process.store64(shared + SIZE, 70)
    assert (process.load64(private), process.load64(private + SIZE)) == (60, 50)
    process.pwrite(fd, (80).to_bytes(8, "little"), 0)
    assert (process.load64(private), process.load64(shared)) == (80, 80)


@pytest.mark.parametrize("flags", [MAP_SHARED, MAP_PRIVATE])
@pytest.mark.parametrize("access", ["load64", "store64"])
def test_rule_11_past_the_last_page_is_sigbus(kernel, process, flags, access):
    fd = memfd(process, 1)
    process.pwrite(fd, b"ab", SIZE)
    address = process.mmap(4 * SIZE, flags=flags, fd=fd)
    assert process.read(address + SIZE, SIZE) == b"ab" + bytes(SIZE - 2)
    process.store64(address + SIZE + 8, 1)  # the tail may be written, too
    child = process.fork()
    before = child.minflt
    error = beyond(getattr(child, access), address + 2 * SIZE, *([1] if access == "store64" else []))
    assert (error.address, child.minflt) == (address + 2 * SIZE, before)
    assert process.wait() == (child.pid, 7)
    process.ftruncate(fd, 3 * SIZE)
    assert process.load64(address + 2 * SIZE) == 0
    assert "SIGBUS" in str(error)


def test_a_write_past_the_end_makes_the_vma_one_that_fork_copies(process):
    """Linux prepares the anon_vma for the copy before it looks for the page (rule 6)."""
    fd = memfd(process, 1)
    area = process.mmap(2 * SIZE, flags=MAP_PRIVATE, fd=fd)
    process.sigaction(signal.SIGBUS, given_up)
    with pytest.raises(GivenUp):
        process.store(area + SIZE, 1, 1)
    process.load(area, 1)
    before = (child := process.fork()).minflt
    child.load(area, 1)
    assert child.minflt == before


def test_rule_12_truncation_takes_private_copies_too(kernel, process):
    fd = memfd(process, 3)
    private = process.mmap(3 * SIZE, flags=MAP_PRIVATE, fd=fd)
    shared = process.mmap(3 * SIZE, flags=MAP_SHARED, fd=fd)
    for page in range(3):
        process.store64(private + page * SIZE, 10 + page)
        process.load64(shared + page * SIZE)
    child = process.fork()
    process.ftruncate(fd, SIZE + 4)
    kernel.check()
    assert kernel.machine.used(FrameKind.FILE) == 2
    assert process.load64(private + SIZE) == 11  # the page that holds the new end stays a copy
    assert process.read(shared + SIZE, 8) == b"\2" * 4 + bytes(4)
    beyond(child.load64, private + 2 * SIZE)
    process.ftruncate(fd, 3 * SIZE)
    assert process.load64(private + 2 * SIZE) == 0
    assert process.load64(shared + 2 * SIZE) == 0


def test_rule_12_from_another_process(kernel, process):
    fd = memfd(process, 2)
    address = process.mmap(2 * SIZE, flags=MAP_SHARED, fd=fd)
    child = process.fork()
    child.store64(address + SIZE, 1)
    process.ftruncate(fd, SIZE)
    kernel.check()
    beyond(child.load64, address + SIZE)


def test_offset_and_length(process):
    fd = memfd(process, 5)
    address = process.mmap(2 * SIZE, flags=MAP_SHARED, fd=fd, offset=3 * SIZE)
    assert (process.load(address, 1), process.load(address + SIZE, 1)) == (4, 5)
    assert process.mmap(1, flags=MAP_SHARED, fd=fd, offset=SIZE) % SIZE == 0
    assert vmas(process) == [(1, "rw-s", 1), (2, "rw-s", 3)]


def test_populate_reads_ahead_and_copies(process, faults):
    fd = memfd(process, 5)
    base = aligned(process, 40)
    flags = MAP_POPULATE | MAP_FIXED
    assert faults(process, process.mmap, 5 * SIZE, base, RW, flags | MAP_SHARED, fd) == 1
    assert faults(process, process.mmap, 5 * SIZE, base + 16 * SIZE, RW, flags | MAP_PRIVATE, fd) == 5
    assert process.context.space.rss(FrameKind.ANON) == 5
    assert faults(process, process.mmap, 9 * SIZE, base + 16 * SIZE, RW, flags | MAP_PRIVATE, fd) == 5


# ---- VMAs


def test_rule_21_neighbours_merge_where_offsets_continue(process):
    fd = memfd(process, 6)
    base = aligned(process, 8)
    for page, offset in ((0, 0), (1, 1), (2, 3), (3, 4)):
        process.mmap(SIZE, base + page * SIZE, flags=MAP_SHARED | MAP_FIXED, fd=fd, offset=offset * SIZE)
    assert vmas(process) == [(2, "rw-s", 0), (2, "rw-s", 3)]
    other = process.open("/f", os.O_CREAT | os.O_RDWR)
    process.mmap(SIZE, base + 4 * SIZE, flags=MAP_SHARED | MAP_FIXED, fd=other, offset=5 * SIZE)
    process.mmap(SIZE, base + 5 * SIZE, flags=MAP_PRIVATE | MAP_FIXED, fd=fd, offset=5 * SIZE)
    assert vmas(process) == [(2, "rw-s", 0), (2, "rw-s", 3), (1, "rw-s", 5), (1, "rw-p", 5)]


def test_rule_21_one_file_opened_twice_does_not_merge(kernel, process):
    kernel.write_file("/f", bytes(4 * SIZE))
    base = aligned(process, 4)
    for page in range(2):
        fd = process.open("/f")
        where = base + page * SIZE
        process.mmap(SIZE, where, PROT_READ, MAP_PRIVATE | MAP_FIXED, fd, page * SIZE)
    assert vmas(process) == [(1, "r--p", 0), (1, "r--p", 1)]
    fd = process.dup(fd)
    process.mmap(SIZE, base + 2 * SIZE, PROT_READ, MAP_PRIVATE | MAP_FIXED, fd, 2 * SIZE)
    assert vmas(process) == [(1, "r--p", 0), (2, "r--p", 1)]


def test_rule_23_the_descriptor_must_be_open_and_allow_it(kernel, process):
    kernel.write_file("/f", bytes(SIZE))
    read, write = process.open("/f"), process.open("/f", os.O_WRONLY)
    refused(errno.EBADF, process.mmap, SIZE, fd=99, flags=MAP_SHARED)
    refused(errno.EACCES, process.mmap, SIZE, fd=read, flags=MAP_SHARED)
    refused(errno.EACCES, process.mmap, SIZE, prot=PROT_READ, fd=write, flags=MAP_SHARED)
    refused(errno.EACCES, process.mmap, SIZE, prot=PROT_READ, fd=write, flags=MAP_PRIVATE)
    refused(errno.EINVAL, process.mmap, SIZE, fd=read, flags=MAP_PRIVATE, offset=1)
    refused(errno.EINVAL, process.mmap, SIZE, fd=read, flags=0)
    refused(errno.EINVAL, process.mmap, SIZE, fd=read, flags=MAP_PRIVATE | MAP_GROWSDOWN)
    refused(errno.EOVERFLOW, process.mmap, SIZE, fd=read, flags=MAP_PRIVATE, offset=(1 << 64) - SIZE)
    refused(errno.EOVERFLOW, process.mmap, 2 * SIZE, fd=read, flags=MAP_PRIVATE, offset=(1 << 63) - SIZE)
    refused(errno.EOPNOTSUPP, process.mmap, SIZE, fd=read, flags=MAP_SHARED_VALIDATE | 0x80000)
    private = process.mmap(SIZE, fd=read, flags=MAP_PRIVATE)
    process.store64(private, 1)
    shared = process.mmap(SIZE, prot=PROT_READ, fd=read, flags=MAP_SHARED)
    assert [rights for _, rights, _ in vmas(process)] == ["r--s", "rw-p"]
    refused(errno.EACCES, process.mprotect, shared, SIZE, RW)
    process.mprotect(shared, SIZE, PROT_READ)


def test_the_columns_of_maps(boot):
    kernel = boot(page_size=4096, frames=64, aslr=False)
    kernel.write_file("/bin/true", bytes(3 * 4096))
    process = kernel.init.fork()
    process.mmap(4096, prot=PROT_READ, flags=MAP_PRIVATE, fd=process.open("/bin/true"), offset=8192)
    process.mmap(4096, flags=MAP_SHARED, fd=process.memfd_create("a b"))
    assert process.maps() == (
        "7ffff7ffd000-7ffff7ffe000 rw-s 00000000 00:01 2                          /memfd:a b (deleted)\n"
        "7ffff7ffe000-7ffff7fff000 r--p 00002000 08:01 1                          /bin/true\n"
        "7ffffffde000-7ffffffff000 rw-p 00000000 00:00 0                          [stack]\n"
    )


# ---- files on disk: the kernel keeps track of what is dirty


def test_a_page_not_in_the_cache_is_a_major_fault(kernel, process):
    kernel.write_file("/f", bytes(range(256)) * 4)
    address = process.mmap(4 * SIZE, prot=PROT_READ, flags=MAP_PRIVATE, fd=process.open("/f"))
    assert process.load(address + 5, 1) == 5
    assert (process.majflt, process.minflt) == (1, 0)
    child = process.fork()
    child.load(address, 1)
    assert (child.majflt, child.minflt) == (0, 1)


def test_the_first_write_to_each_shared_page_is_noticed(kernel, process, faults):
    kernel.write_file("/f", bytes(2 * SIZE))
    fd = process.open("/f", os.O_RDWR)
    address = process.mmap(2 * SIZE, flags=MAP_SHARED, fd=fd)
    dirty = kernel.system.files.find("/f").dirty
    process.load64(address)
    assert (faults(process, process.store64, address, 1), dirty) == (1, {0})
    assert faults(process, process.store64, address, 2) == 0
    process.fsync(fd)
    assert kernel.read_file("/f")[:1] == b"\2"
    assert dirty == set()
    assert faults(process, process.store64, address, 3) == 1
    assert dirty == {0}
    process.mprotect(address, SIZE, PROT_READ)
    process.mprotect(address, SIZE, RW)
    assert faults(process, process.store64, address, 4) == 0


def test_a_first_write_dirties_in_one_fault(kernel, process, faults):
    kernel.write_file("/f", bytes(2 * SIZE))
    fd = process.open("/f", os.O_RDWR)
    process.pread(fd, 2 * SIZE, 0)
    address = process.mmap(2 * SIZE, flags=MAP_SHARED, fd=fd)
    assert faults(process, process.store64, address, 1) == 1
    assert kernel.system.files.find("/f").dirty == {0}


def test_writing_back_owes_a_flush(kernel, process, monkeypatch):
    kernel.write_file("/f", bytes(SIZE))
    fd = process.open("/f", os.O_RDWR)
    address = process.mmap(SIZE, flags=MAP_SHARED, fd=fd)
    process.store64(address, 1)
    with monkeypatch.context() as patch:
        patch.setattr(Mm, "flush_range", lambda *_: None)
        process.fsync(fd)
    with pytest.raises(AssertionError, match="TLB entries are stale"):
        kernel.check()
    process.context.space.flush()


def test_status_tells_files_from_shared_memory(boot):
    kernel = boot(page_size=4096, frames=64)
    kernel.write_file("/f", b"x" * 3 * 4096)
    process = kernel.init.fork()
    mapped = process.mmap(3 * 4096, flags=MAP_PRIVATE, fd=process.open("/f"))
    process.load(mapped, 1)
    process.load(mapped + 4096, 1)
    process.store(mapped + 2 * 4096, 1, 1)
    shared = process.mmap(4096, flags=MAP_SHARED, fd=memfd(process, 16))
    process.load(shared, 1)
    fields = dict(line.split(":\t") for line in process.status().splitlines())
    kib = {name: int(fields[name].split()[0]) for name in ("RssAnon", "RssFile", "RssShmem", "VmRSS")}
    assert kib == {"RssAnon": 4, "RssFile": 8, "RssShmem": 4, "VmRSS": 16}


@pytest.mark.parametrize("how", ["ftruncate", "pwrite"])
@pytest.mark.parametrize("on_disk", [True, False])
def test_what_was_stored_past_the_end(kernel, process, how, on_disk):
    """Growth brings it into a memfd, and zeroes it in a file on disk (Linux 6.18: tmpfs, ext4)."""
    fd = process.open("/f", os.O_CREAT | os.O_RDWR) if on_disk else process.memfd_create("f")
    process.ftruncate(fd, 10)
    address = process.mmap(2 * SIZE, flags=MAP_SHARED, fd=fd)
    process.store(address + 20, 77, 1)
    if how == "ftruncate":
        process.ftruncate(fd, SIZE)
    else:
        process.pwrite(fd, b"x", 100)
    stored = 0 if on_disk else 77
    assert process.load(address + 20, 1) == process.pread(fd, 30, 0)[20] == stored
    kernel.check()


def test_shared_anonymous_memory_has_no_offset(process):
    address = process.mmap(SIZE, flags=MAP_SHARED | MAP_ANONYMOUS, offset=SIZE)
    process.store64(address, 1)
    assert vmas(process) == [(1, "rw-s", 0)]


def test_a_fault_behind_the_file_leaves_the_upper_page_tables(kernel, process):
    """Measured, Linux 6.18: VmPTE counts them; who maps nothing more there gives them back by munmap."""
    process.sigaction(signal.SIGBUS, given_up)
    area = process.mmap(SIZE, 0x100000, flags=MAP_SHARED | MAP_FIXED, fd=process.memfd_create("empty"))
    tables = process.context.space.tables
    with pytest.raises(GivenUp):
        process.load64(area)
    assert process.context.space.tables > tables
    process.munmap(area, SIZE)
    assert process.context.space.tables == tables
