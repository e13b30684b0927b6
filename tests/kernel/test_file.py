"""Files and descriptors: open, read, write, lseek, ftruncate, dup, close, across fork; the page cache."""

import errno
import os

import pytest

from heaplab.abi import MAP_FIXED, MAP_PRIVATE, MAP_SHARED, PROT_NONE, PROT_READ, Rlimit, Sys
from heaplab.machine import FrameKind

SIZE = 256


def refused(code, call, *args, **kwargs):
    with pytest.raises(OSError) as caught:
        call(*args, **kwargs)
    assert errno.errorcode[caught.value.errno] == errno.errorcode[code]


@pytest.fixture
def fd(process):
    """A memfd of four pages; page n is full of n + 1."""
    fd = process.memfd_create("pages")
    for page in range(4):
        process.write_fd(fd, bytes([page + 1]) * SIZE)
    return fd


def test_read_and_write_move_the_offset(process, fd):
    assert process.lseek(fd, 0) == 0
    assert process.read_fd(fd, SIZE + 1) == b"\1" * SIZE + b"\2"
    assert process.lseek(fd, 0, os.SEEK_CUR) == SIZE + 1
    assert process.write_fd(fd, b"xyz") == 3
    assert process.pread(fd, 5, SIZE) == b"\2xyz\2"
    assert process.lseek(fd, -1, os.SEEK_END) == 4 * SIZE - 1
    assert process.read_fd(fd, 100) == b"\4"
    assert process.read_fd(fd, 100) == b""


def test_pread_and_pwrite_do_not(process, fd):
    at = process.lseek(fd, 0, os.SEEK_CUR)
    process.pwrite(fd, b"hello", SIZE - 2)
    assert process.pread(fd, 7, SIZE - 3) == b"\1hello\2"
    assert process.lseek(fd, 0, os.SEEK_CUR) == at


def test_what_was_never_written_reads_zero_without_a_frame(kernel, process):
    fd = process.memfd_create("sparse")
    process.ftruncate(fd, 10 * SIZE)
    assert process.pread(fd, 20 * SIZE, 0) == bytes(10 * SIZE)
    assert kernel.machine.used(FrameKind.FILE) == 0
    process.pwrite(fd, b"x", 5 * SIZE)
    assert kernel.machine.used(FrameKind.FILE) == 1


def test_a_write_past_the_end_leaves_a_hole(process):
    fd = process.memfd_create("hole")
    process.pwrite(fd, b"end", 3 * SIZE)
    assert process.lseek(fd, 0, os.SEEK_END) == 3 * SIZE + 3
    assert process.pread(fd, 2, 3 * SIZE - 1) == b"\0e"


def test_truncated_and_grown_again_reads_zero(kernel, process, fd):
    process.ftruncate(fd, SIZE + 10)
    assert kernel.machine.used(FrameKind.FILE) == 2
    process.ftruncate(fd, 4 * SIZE)
    assert process.pread(fd, 4 * SIZE, 0) == b"\1" * SIZE + b"\2" * 10 + bytes(3 * SIZE - 10)
    kernel.check()


def test_fork_shares_the_offset_and_not_the_table(kernel, process, fd):
    child = process.fork()
    process.lseek(fd, 7)
    assert child.lseek(fd, 0, os.SEEK_CUR) == 7
    child.close(fd)
    refused(errno.EBADF, child.lseek, fd, 0)
    assert process.read_fd(fd, 1) == b"\1"
    kernel.check()


def test_dup_shares_the_offset(process, fd):
    other = process.dup(fd)
    assert other == fd + 1
    process.lseek(other, 9)
    process.close(fd)
    assert process.lseek(other, 0, os.SEEK_CUR) == 9
    assert process.memfd_create("takes the lowest free number") == fd


def test_the_last_close_frees_the_pages(kernel, process, fd):
    assert kernel.machine.used(FrameKind.FILE) == 4
    child = process.fork()
    address = child.mmap(SIZE, prot=PROT_READ, flags=MAP_SHARED, fd=fd)
    process.close(fd)
    child.close(fd)
    assert kernel.machine.used(FrameKind.FILE) == 4
    assert child.load(address, 1) == 1
    child.munmap(address, SIZE)
    assert kernel.machine.used(FrameKind.FILE) == 0


def test_exit_closes(kernel, process, fd):
    process.exit(0)
    assert kernel.machine.used(FrameKind.FILE) == 0


def test_errors(process, fd):
    for call in (process.close, process.dup, process.fsync):
        refused(errno.EBADF, call, fd + 1)
        refused(errno.EBADF, call, -1)
    refused(errno.EBADF, process.read_fd, 99, 1)
    refused(errno.EBADF, process.write_fd, 99, b"")
    refused(errno.EINVAL, process.lseek, fd, -1)
    refused(errno.EINVAL, process.lseek, fd, 0, 3)
    refused(errno.EINVAL, process.ftruncate, fd, -1)
    refused(errno.EINVAL, process.pread, fd, 1, -1)
    refused(errno.EINVAL, process.pwrite, fd, b"x", -1)
    refused(errno.EINVAL, process.pwrite, fd, b"xx", (1 << 63) - 2)
    refused(errno.EINVAL, process.pread, fd, 2, (1 << 63) - 2)
    refused(errno.EINVAL, process.memfd_create, "x" * 250)
    refused(errno.EINVAL, process.memfd_create, "x", 1 << 20)
    refused(errno.ENOSYS, process.memfd_create, "x", 4)  # MFD_HUGETLB: no huge pages are configured
    assert process.errno == errno.ENOSYS


def test_too_many_files(process):
    process.syscall(Sys.MEMFD_CREATE, 0, 0)
    for _ in range(1024 - 3):
        process.memfd_create("many")
    refused(errno.EMFILE, process.memfd_create, "one more")
    process.close(500)
    assert process.memfd_create("again") == 500
    assert Rlimit.NOFILE == 7


# ---- files on disk


def test_open_modes(kernel, process):
    kernel.write_file("/etc/motd", b"welcome")
    fd = process.open("/etc/motd")
    assert process.read_fd(fd, 100) == b"welcome"
    refused(errno.EBADF, process.write_fd, fd, b"x")
    refused(errno.EINVAL, process.ftruncate, fd, 0)
    out = process.open("/etc/motd", os.O_WRONLY)
    refused(errno.EBADF, process.read_fd, out, 1)
    process.write_fd(out, b"W")
    assert process.pread(fd, 100, 0) == b"Welcome"
    refused(errno.ENOENT, process.open, "/etc/shadow")
    refused(errno.EEXIST, process.open, "/etc/motd", os.O_CREAT | os.O_EXCL)
    refused(errno.EINVAL, process.open, "/etc/motd", os.O_DIRECTORY)
    log = process.open("/etc/motd", os.O_RDWR | os.O_APPEND)
    process.write_fd(log, b"!")
    process.pwrite(log, b"?", 0)
    assert kernel.read_file("/etc/motd") == b"Welcome!?"
    process.open("/etc/motd", os.O_RDWR | os.O_TRUNC)
    assert kernel.read_file("/etc/motd") == b""
    process.write_fd(process.open("/new", os.O_CREAT | os.O_WRONLY), b"made")
    assert kernel.read_file("/new") == b"made"
    with pytest.raises(FileNotFoundError):
        kernel.read_file("/missing")


def test_the_cache_is_filled_by_reading_and_written_back_by_fsync(kernel, process):
    kernel.write_file("/data", bytes(range(256)) * 3)
    fd = process.open("/data", os.O_RDWR)
    assert kernel.machine.used(FrameKind.FILE) == 0
    process.pread(fd, 1, 2 * SIZE)
    assert kernel.machine.used(FrameKind.FILE) == 1
    inode = kernel.system.files.find("/data")
    process.pwrite(fd, b"new", 2 * SIZE)
    assert (inode.dirty, bytes(inode.disk[2 * SIZE :][:3])) == ({2}, b"\0\1\2")
    process.fsync(fd)
    assert (inode.dirty, bytes(inode.disk[2 * SIZE :][:3])) == (set(), b"new")
    kernel.check()


def test_a_file_that_grows_is_written_back_whole(kernel, process):
    fd = process.open("/grow", os.O_CREAT | os.O_RDWR)
    process.pwrite(fd, b"far", 5 * SIZE)
    process.fsync(fd)
    inode = kernel.system.files.find("/grow")
    assert bytes(inode.disk) == bytes(5 * SIZE) + b"far"
    process.ftruncate(fd, 3)
    assert bytes(inode.disk) == bytes(3)


# ---- the system calls themselves, with data in the program's memory


def test_calls_take_their_data_from_memory(kernel, process):
    page = process.mmap(2 * SIZE)
    process.write(page, b"name\0")
    fd = process.syscall(Sys.MEMFD_CREATE, page, 0)
    process.write(page, b"0123456789")
    assert process.syscall(Sys.WRITE, fd, page, 10) == 10
    assert process.syscall(Sys.LSEEK, fd, 2, 0) == 2
    assert process.syscall(Sys.READ, fd, page + SIZE - 3, 6) == 6
    assert process.read(page + SIZE - 3, 6) == b"234567"
    assert process.syscall(Sys.PWRITE64, fd, page + SIZE, 3, 8) == 3
    assert process.syscall(Sys.PREAD64, fd, page, 100, 5) == 6
    assert process.read(page, 7) == b"56756756789"[:3] + b"567" + b"6"
    assert process.syscalls == dict.fromkeys(
        ("mmap", "memfd_create", "write", "lseek", "read", "pwrite64", "pread64"), 1
    )


def test_bad_addresses_are_efault_and_cut_short(process, fd):
    page = process.mmap(2 * SIZE)
    process.munmap(page + SIZE, SIZE)
    edge = page + SIZE
    assert process.syscall(Sys.PREAD64, fd, edge, 10, 0) == -errno.EFAULT
    assert process.syscall(Sys.PREAD64, fd, edge - 4, 10, 0) == 4
    assert process.syscall(Sys.PWRITE64, fd, edge, 10, 0) == -errno.EFAULT
    assert process.syscall(Sys.PWRITE64, fd, edge - 4, 10, 0) == 4
    assert process.syscall(Sys.PREAD64, fd, edge, 0, 0) == 0
    assert process.syscall(Sys.OPEN, edge, 0) == -errno.EFAULT
    process.fill(page, ord("x"), SIZE)
    assert process.syscall(Sys.MEMFD_CREATE, edge - 4, 0) == -errno.EFAULT
    process.mmap(SIZE, edge, flags=MAP_PRIVATE | MAP_FIXED, fd=fd)
    process.mprotect(edge, SIZE, PROT_NONE)
    assert process.syscall(Sys.PREAD64, fd, edge, 10, 0) == -errno.EFAULT


def test_a_name_without_end_is_too_long(process):
    page = process.mmap(32 * SIZE)
    process.fill(page, ord("x"), 32 * SIZE)
    assert process.syscall(Sys.OPEN, page, 0) == -errno.ENAMETOOLONG
    assert process.syscall(Sys.MEMFD_CREATE, page, 0) == -errno.EINVAL


def test_exec_closes_what_it_is_told_to(kernel, process):
    kept = process.memfd_create("kept")
    closed = process.memfd_create("closed", 1)  # MFD_CLOEXEC
    also = process.open("/f", os.O_CREAT | os.O_RDWR | os.O_CLOEXEC)
    copy = process.dup(closed)  # the copy does not have the flag
    child = process.fork()
    kernel.system.tasks[child.pid].files.exec()
    for fd in (closed, also):
        refused(errno.EBADF, child.lseek, fd, 0)
        assert process.lseek(fd, 0) == 0
    assert child.lseek(kept, 0) == child.lseek(copy, 0) == 0


def test_truncation_to_the_same_size_clears_what_lies_behind_the_end(kernel, process):
    fd = process.memfd_create("x")
    process.ftruncate(fd, 100)
    page = process.mmap(SIZE, flags=MAP_SHARED, fd=fd)
    process.store64(page + 104, 7)
    assert process.syscall(Sys.PWRITE64, fd, 64 * SIZE, 10, SIZE) == -errno.EFAULT  # makes page 1 at the end
    assert sorted(kernel.task(process.pid).files[fd].inode.pages) == [0, 1]
    kernel.check()
    process.ftruncate(fd, SIZE)
    process.ftruncate(fd, 100)
    process.store64(page + 104, 7)
    process.ftruncate(fd, 100)
    assert process.load64(page + 104) == 0
    assert sorted(kernel.task(process.pid).files[fd].inode.pages) == [0]


def test_an_empty_write_moves_no_offset(process):
    fd = process.memfd_create("x")
    process.pwrite(fd, b"content", 0)
    assert process.write_fd(fd, b"") == 0
    assert process.read_fd(fd, 3) == b"con"


def test_an_empty_write_does_not_append(kernel, process):
    kernel.write_file("/log", b"content")
    fd = process.open("/log", os.O_RDWR | os.O_APPEND)
    assert process.write_fd(fd, b"") == 0
    assert process.read_fd(fd, 3) == b"con"
