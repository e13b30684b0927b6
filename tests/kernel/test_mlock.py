"""mlock, mincore, msync; compared with Linux 6.18 as test_mremap.py says."""

import errno
import os

import pytest

from heaplab.abi import (
    MAP_ANONYMOUS,
    MAP_LOCKED,
    MAP_PRIVATE,
    MAP_SHARED,
    MS_ASYNC,
    MS_INVALIDATE,
    MS_SYNC,
    PROT_NONE,
    PROT_READ,
    PROT_WRITE,
    Rlimit,
    Sys,
)
from heaplab.machine import FrameKind

SIZE = 256
RW = PROT_READ | PROT_WRITE
PRIVATE = MAP_PRIVATE | MAP_ANONYMOUS


def refused(code, call, *args, **kwargs):
    with pytest.raises(OSError) as caught:
        call(*args, **kwargs)
    assert errno.errorcode[caught.value.errno] == errno.errorcode[code]


def vmas(process):
    return len(process.maps().splitlines()) - 1


def locked(kernel, process):
    return kernel.system.tasks[process.pid].mm.vmas.locked


def test_locked_pages_are_there(kernel, process, faults):
    area = process.mmap(4 * SIZE)
    assert faults(process, process.mlock, area + SIZE + 5, SIZE) == 2  # rounded outwards: two pages
    assert (vmas(process), locked(kernel, process)) == (3, 2)
    assert faults(process, process.store64, area + SIZE, 1) == 0
    process.munlock(area, 4 * SIZE)
    assert (vmas(process), locked(kernel, process)) == (1, 0)


def test_the_lock_is_not_inherited(kernel, process):
    area = process.mmap(2 * SIZE, flags=PRIVATE | MAP_LOCKED)
    assert kernel.machine.used(FrameKind.ANON) == 2
    child = process.fork()
    kernel.check()
    assert (locked(kernel, process), locked(kernel, child)) == (2, 0)
    process.munmap(area, SIZE)
    assert locked(kernel, process) == 1


def test_up_to_a_hole_and_enomem(kernel, process):
    area = process.mmap(4 * SIZE)
    process.munmap(area + 2 * SIZE, SIZE)
    refused(errno.ENOMEM, process.mlock, area, 4 * SIZE)
    assert (locked(kernel, process), kernel.machine.used(FrameKind.ANON)) == (2, 0)
    refused(errno.ENOMEM, process.munlock, area, 4 * SIZE)
    assert locked(kernel, process) == 0
    process.mlock(area, 0)


def test_pages_that_cannot_be_made(kernel, process):
    none = process.mmap(SIZE, prot=PROT_NONE)
    refused(errno.ENOMEM, process.mlock, none, SIZE)
    assert locked(kernel, process) == 1


def test_what_nobody_may_access_cannot_be_locked_though_it_has_pages(process):
    area = process.mmap(2 * SIZE)
    process.mlock(area + SIZE, SIZE)
    process.mprotect(area + SIZE, SIZE, PROT_NONE)
    refused(errno.ENOMEM, process.mlock, area, 2 * SIZE)


def test_what_becomes_writable_while_locked_is_copied_at_once(process, faults):
    area = process.mmap(2 * SIZE, prot=PROT_READ)
    process.mlock(area, 2 * SIZE)
    assert faults(process, process.mprotect, area, 2 * SIZE, RW) == 2
    assert faults(process, process.store64, area, 1) == 0


def test_rlimit_memlock(kernel, process):
    process.setrlimit(Rlimit.MEMLOCK, (3 * SIZE, 3 * SIZE))
    area = process.mmap(4 * SIZE)
    refused(errno.ENOMEM, process.mlock, area, 4 * SIZE)
    process.mlock(area, 2 * SIZE)
    process.mlock(area, 3 * SIZE)  # what is locked already counts once
    refused(errno.EAGAIN, process.mmap, SIZE, flags=PRIVATE | MAP_LOCKED)
    refused(errno.EAGAIN, process.mremap, area + 2 * SIZE, SIZE, 2 * SIZE, 1)
    process.munlock(area, SIZE)
    process.mmap(SIZE, flags=PRIVATE | MAP_LOCKED)
    process.setrlimit(Rlimit.MEMLOCK, (0, 0))
    refused(errno.EPERM, process.mlock, area, SIZE)
    refused(errno.EPERM, process.mmap, SIZE, flags=PRIVATE | MAP_LOCKED)


def test_mincore(process):
    fd = process.memfd_create("f")
    process.pwrite(fd, b"x", SIZE)
    area = process.mmap(3 * SIZE)
    mapped = process.mmap(3 * SIZE, flags=MAP_SHARED, fd=fd)
    process.store64(area + SIZE, 1)
    process.load64(area + 2 * SIZE)
    assert process.mincore(area, 3 * SIZE) == b"\0\1\1"
    assert process.mincore(mapped, 3 * SIZE) == b"\0\1\0"  # in the cache, if not in the page tables
    assert process.mincore(area, 0) == b""
    refused(errno.EINVAL, process.mincore, area + 1, SIZE)
    refused(errno.ENOMEM, process.mincore, area, 1 << 40)
    process.munmap(area + 2 * SIZE, SIZE)
    refused(errno.ENOMEM, process.mincore, area, 3 * SIZE)


def test_mincore_gives_what_lies_before_the_hole(process):
    area, vec = process.mmap(3 * SIZE), process.mmap(SIZE)
    process.store64(area, 1)
    process.store64(vec, 0)
    process.munmap(area + 2 * SIZE, SIZE)
    process.fill(vec, 9, 4)
    assert process.syscall(Sys.MINCORE, area, 3 * SIZE, vec) == -errno.ENOMEM
    assert process.read(vec, 4) == b"\1\0\t\t"
    assert process.syscall(Sys.MINCORE, area, SIZE, area + 2 * SIZE) == -errno.EFAULT


def test_msync(kernel, process):
    kernel.write_file("/f", bytes(3 * SIZE))
    fd = process.open("/f", os.O_RDWR)
    area = process.mmap(3 * SIZE, flags=MAP_SHARED, fd=fd)
    for page in range(3):
        process.store64(area + page * SIZE, page + 1)
    inode = kernel.system.files.find("/f")
    process.msync(area + SIZE, SIZE)
    assert inode.dirty == {0, 2}
    assert bytes(inode.disk[SIZE : SIZE + 8]) == (2).to_bytes(8, "little")
    process.msync(area, 3 * SIZE, MS_ASYNC)
    assert inode.dirty == {0, 2}  # not now
    process.munmap(area + SIZE, SIZE)
    refused(errno.ENOMEM, process.msync, area, 3 * SIZE)
    assert inode.dirty == set()
    kernel.check()


def test_msync_errors(process):
    area = process.mmap(SIZE)
    refused(errno.EINVAL, process.msync, area + 1, SIZE)
    refused(errno.EINVAL, process.msync, area, SIZE, MS_ASYNC | MS_SYNC)
    refused(errno.EINVAL, process.msync, area, SIZE, 8)
    process.mlock(area, SIZE)
    refused(errno.EBUSY, process.msync, area, SIZE, MS_INVALIDATE)
    process.msync(area, SIZE)
    process.msync(area, 0)


def test_the_first_page_that_cannot_be_made_ends_it(kernel, process):
    area = process.mmap(2 * SIZE)
    process.mprotect(area, SIZE, PROT_NONE)
    refused(errno.ENOMEM, process.mlock, area, 2 * SIZE)
    assert (locked(kernel, process), kernel.machine.used(FrameKind.ANON)) == (2, 0)


def test_ranges_of_no_length_change_nothing(process):
    area = process.mmap(4 * SIZE)
    for nothing in (process.mlock, process.munlock):
        nothing(area + SIZE, 0)
    assert vmas(process) == 1
    # rounded up, the length is 0
    assert process.syscall(Sys.MUNLOCK, area, (1 << 64) - 1) == 0
    assert process.syscall(Sys.MUNLOCK, area, (1 << 64) - SIZE) == -errno.EINVAL
    assert process.syscall(Sys.MLOCK, area, (1 << 64) - SIZE) == -errno.ENOMEM
