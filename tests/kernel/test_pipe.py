"""Pipes and the console."""

import errno
import os
import signal
from functools import partial

import pytest

from heaplab.abi import (
    MAP_PRIVATE,
    MAP_SHARED,
    MAP_SHARED_VALIDATE,
    PROT_EXEC,
    PROT_READ,
    PROT_WRITE,
    SigInfo,
    Sys,
)
from heaplab.errors import WouldBlock
from heaplab.kernel.pipe import BUFFER, BUFFERS

ALL = BUFFER * BUFFERS


@pytest.fixture
def ends(process):
    """A pipe that lets nobody sleep: (to read from, to write to)."""
    return process.pipe(os.O_NONBLOCK)


def buffers_left(process, sink):
    """How many whole buffers can still be written; afterwards none."""
    count = 0
    while True:
        try:
            process.write_fd(sink, bytes(BUFFER))
        except BlockingIOError:
            return count
        count += 1


def refused(code, call, *args, **options):
    with pytest.raises(OSError) as caught:
        call(*args, **options)
    assert caught.value.errno == code


def test_bytes_come_out_in_order(kernel, process):
    source, sink = process.pipe()
    child = process.fork()
    child.write_fd(sink, b"one")
    process.write_fd(sink, b"two")
    assert child.read_fd(source, 4) == b"onet"
    assert process.read_fd(source, 100) == b"wo"
    kernel.check()


def test_a_read_waits_while_there_are_writers(process):
    source, sink = process.pipe()
    child = process.fork()
    process.close(sink)
    with pytest.raises(WouldBlock, match="write into the pipe first") as caught:
        process.read_fd(source, 1)
    assert process.read_fd(source, 0) == b""
    assert not caught.value.ready()
    child.exit(0)
    assert caught.value.ready()
    assert process.read_fd(source, 1) == b""


def test_a_write_without_readers(process):
    source, sink = process.pipe()
    child = process.fork()
    process.close(source)
    child.close(source)
    refused(errno.EPIPE, child.write_fd, sink, b"x")
    assert process.wait() == (child.pid, signal.SIGPIPE)
    process.sigaction(signal.SIGPIPE, signal.SIG_IGN)
    refused(errno.EPIPE, process.write_fd, sink, b"x")


def test_a_write_of_nothing_needs_no_reader(process):
    source, sink = process.pipe()
    process.close(source)
    assert process.write_fd(sink, b"") == process.syscall(Sys.WRITE, sink, 8, 0) == 0
    assert process.state == "R"


def test_sigpipe_is_the_writers_own_and_names_it(process):
    source, sink = process.pipe()
    thread = process.spawn_thread()
    process.close(source)
    caught = []
    process.sigaction(signal.SIGPIPE, lambda _, info: caught.append(info))
    process.sigprocmask({signal.SIGPIPE})
    refused(errno.EPIPE, process.write_fd, sink, b"x")
    assert (process.sigpending(), thread.sigpending(), caught) == ({signal.SIGPIPE}, set(), [])
    refused(errno.EPIPE, thread.write_fd, sink, b"x")
    assert caught == [SigInfo(signal.SIGPIPE, pid=process.pid)]


def test_a_full_pipe(process):
    source, sink = process.pipe()
    assert process.write_fd(sink, bytes(ALL + 5)) == ALL
    with pytest.raises(WouldBlock, match="read from the pipe") as caught:
        process.write_fd(sink, b"x")
    process.read_fd(source, BUFFER - 1)
    assert not caught.value.ready()
    process.read_fd(source, 1)
    assert caught.value.ready()
    assert process.write_fd(sink, b"x") == 1


def test_a_write_that_sleeps_goes_on_when_the_readers_are_gone(process):
    source, sink = process.pipe()
    process.write_fd(sink, bytes(ALL))
    with pytest.raises(WouldBlock) as caught:
        process.write_fd(sink, b"x")
    process.close(source)
    assert caught.value.ready()


def test_a_pipe_that_lets_nobody_sleep(process, ends):
    source, sink = ends
    refused(errno.EAGAIN, process.read_fd, source, 1)
    assert process.read_fd(source, 0) == b""
    assert process.write_fd(sink, bytes(ALL + 5)) == ALL
    refused(errno.EAGAIN, process.write_fd, sink, b"x")
    assert process.write_fd(sink, b"") == 0
    child = process.fork()
    refused(errno.EAGAIN, child.write_fd, sink, b"x")
    assert len(child.read_fd(source, 2 * ALL)) == ALL
    process.close(sink)
    refused(errno.EAGAIN, process.read_fd, source, 1)
    child.exit(0)
    assert process.read_fd(source, 1) == b""


def test_a_pipe_is_full_when_no_buffer_is_free(process, ends):
    source, sink = ends
    for _ in range(BUFFERS):
        assert process.write_fd(sink, bytes(3000)) == 3000  # the rest of the last one is too small for it
    refused(errno.EAGAIN, process.write_fd, sink, bytes(3000))
    assert process.write_fd(sink, bytes(1096)) == 1096
    refused(errno.EAGAIN, process.write_fd, sink, b"x")
    process.read_fd(source, 2999)
    refused(errno.EAGAIN, process.write_fd, sink, b"x")
    process.read_fd(source, 1)
    assert buffers_left(process, sink) == 1


@pytest.mark.parametrize(
    ("sizes", "taken"),
    [
        ((1,) * BUFFER, 1),
        ((1,) * (BUFFER + 1), 2),
        ((4095, 1), 1),
        ((4095, 2), 2),
        ((1, BUFFER), 2),  # whole pages are not merged
        ((100, BUFFER + 100), 2),
        ((100, BUFFER + 3997), 3),
        ((BUFFER + 1, BUFFER + 4095), 3),
    ],
)
def test_what_a_write_has_above_whole_pages_goes_behind_the_last(process, ends, sizes, taken):
    for size in sizes:
        assert process.write_fd(ends[1], bytes(size)) == size
    assert buffers_left(process, ends[1]) == BUFFERS - taken


def test_what_was_read_of_a_buffer_is_no_room_in_it(process, ends):
    source, sink = ends
    process.write_fd(sink, bytes(4000))
    process.read_fd(source, 3999)
    process.write_fd(sink, bytes(97))
    assert buffers_left(process, sink) == BUFFERS - 2


def test_nothing_is_merged_into_a_buffer_that_was_read_to_its_end(process, ends):
    source, sink = ends
    process.write_fd(sink, b"x")
    process.read_fd(source, 1)
    process.write_fd(sink, bytes(BUFFER))
    assert buffers_left(process, sink) == BUFFERS - 1


def test_a_full_pipe_takes_what_can_be_merged(process, ends):
    assert process.write_fd(ends[1], bytes(ALL - 1000)) == ALL - 1000
    assert process.write_fd(ends[1], bytes(BUFFER + 900)) == 900
    refused(errno.EAGAIN, process.write_fd, ends[1], bytes(BUFFER + 101))


def test_bytes_come_out_in_order_across_buffers(process, ends):
    source, sink = ends
    said = bytes(index % 251 for index in range(3 * BUFFER))
    for start in range(0, len(said), 1000):
        process.write_fd(sink, said[start : start + 1000])
    assert process.read_fd(source, 5000) == said[:5000]
    assert process.read_fd(source, ALL) == said[5000:]


def test_packets(process):
    source, sink = process.pipe(os.O_NONBLOCK | os.O_DIRECT)
    process.write_fd(sink, b"one")
    process.write_fd(sink, b"two")
    process.write_fd(sink, bytes(BUFFER + 1))
    assert process.read_fd(source, 1) == b"o"  # what of a packet is not asked for is lost
    assert process.read_fd(source, 100) == b"two"
    assert process.read_fd(source, ALL) == bytes(BUFFER)
    assert process.read_fd(source, ALL) == bytes(1)
    assert buffers_left(process, sink) == BUFFERS


# ---- memory of which a part is not there; test machines have pages of 256 bytes


@pytest.fixture
def page(process):
    """The start of two pages, in front of nothing."""
    return process.mmap(2 * process.page_size)


def test_data_that_cannot_be_read_whole_make_no_buffer(process, ends, page):
    source, sink = ends
    write, size = partial(process.syscall, Sys.WRITE, sink), 2 * process.page_size
    assert write(page, size + 1) == -errno.EFAULT
    refused(errno.EAGAIN, process.read_fd, source, 1)
    process.write_fd(sink, b"x")
    assert write(page, size + 1) == -errno.EFAULT  # nor are they merged
    assert process.read_fd(source, ALL) == b"x"


def test_a_write_ends_where_data_cannot_be_read(boot):
    process = boot(page_size=4096, frames=64).init.fork()
    source, sink = process.pipe(os.O_NONBLOCK)
    page = process.mmap(2 * 4096)
    write = partial(process.syscall, Sys.WRITE, sink)
    assert write(page, 3 * 4096) == 8192
    assert len(process.read_fd(source, ALL)) == 8192
    assert write(page + 4096 - 10, 2 * 4096) == 4096
    assert process.write_fd(sink, b"x") == 1
    assert write(page + 2 * 4096 - 10, 4096 + 10) == 10  # merged, and then nothing can be read
    assert len(process.read_fd(source, ALL)) == 4096 + 1 + 10


def test_what_is_not_written_is_not_touched(process, ends, faults):
    assert process.write_fd(ends[1], bytes(ALL)) == ALL
    page = process.mmap(process.page_size)
    assert process.syscall(Sys.WRITE, ends[1], page, 1) == -errno.EAGAIN
    assert process.syscall(Sys.WRITE, ends[1], 8, 1) == -errno.EAGAIN
    assert faults(process, process.load, page, 1) == 1


def test_a_read_takes_whole_what_fits_of_a_buffer_or_nothing(process, ends, page):
    source, sink = ends
    end, read = page + 2 * process.page_size, partial(process.syscall, Sys.READ, source)
    process.write_fd(sink, b"hello")
    assert read(8, 5) == -errno.EFAULT
    assert read(end - 2, 5) == -errno.EFAULT
    assert process.read(end - 2, 2) == b"he"  # and yet nothing is taken out
    assert read(end - 2, 2) == 2
    assert read(page, 99) == 3
    assert process.read(page, 3) == b"llo"


def test_a_read_ends_with_the_last_buffer_that_could_be_stored(process, ends, page):
    source, sink = ends
    end, count = page + 2 * process.page_size, BUFFER - 1
    process.write_fd(sink, bytes(count))
    process.write_fd(sink, b"hello")
    process.read_fd(source, count - 3)
    assert process.syscall(Sys.READ, source, end - 5, 8) == 3
    assert process.read_fd(source, 8) == b"hello"


# ---- what a pipe is not


def test_a_pipe_has_no_places(process):
    source, sink = process.pipe()
    refused(errno.ESPIPE, process.lseek, source, 0)
    refused(errno.ESPIPE, process.pread, source, 1, 0)
    refused(errno.ESPIPE, process.pwrite, sink, b"", 0)
    refused(errno.EINVAL, process.ftruncate, sink, 0)
    refused(errno.EINVAL, process.fsync, sink)
    refused(errno.EBADF, process.read_fd, sink, 1)
    refused(errno.EBADF, process.write_fd, source, b"")


def test_a_pipe_cannot_be_mapped(process):
    source, sink = process.pipe()
    for prot, flags, fd, code in (
        (PROT_READ, MAP_PRIVATE, source, errno.ENODEV),
        (PROT_READ, MAP_SHARED, source, errno.ENODEV),
        (PROT_WRITE, MAP_SHARED, source, errno.EACCES),
        (PROT_READ, MAP_PRIVATE, sink, errno.EACCES),
        (PROT_EXEC, MAP_PRIVATE, sink, errno.EACCES),
        (PROT_EXEC, MAP_SHARED, source, errno.EPERM),  # pipes are of a file system without programs
        (PROT_EXEC, MAP_SHARED_VALIDATE | 0x80000, source, errno.EOPNOTSUPP),
    ):
        refused(code, process.mmap, 1, prot=prot, flags=flags, fd=fd)
    size, end = process.page_size, 1 << 64
    for offset, code in (
        (1 << 63, errno.ENODEV),
        (end - 2 * size, errno.ENODEV),
        (end - size, errno.EOVERFLOW),  # its last byte would be one too many
    ):
        refused(code, process.mmap, 1, prot=PROT_READ, flags=MAP_PRIVATE, fd=source, offset=offset)
    refused(errno.EOVERFLOW, process.mmap, 1, flags=0, fd=sink, offset=end - size)


def test_flags_of_pipe2(process):
    refused(errno.EINVAL, process.pipe, os.O_APPEND)
    refused(errno.EINVAL, process.pipe, os.O_EXCL | os.O_APPEND)
    refused(errno.ENOPKG, process.pipe, os.O_EXCL)  # O_NOTIFICATION_PIPE
    assert process.pipe(os.O_CLOEXEC) == (3, 4)


def test_the_structures_that_pipe_writes(process):
    page = process.mmap(process.page_size)
    assert process.syscall(Sys.PIPE2, page, 0) == 0
    assert process.read(page, 8) == b"\3\0\0\0\4\0\0\0"
    assert process.syscall(Sys.PIPE, 8) == -errno.EFAULT
    assert process.pipe() == (5, 6)


def test_the_console_keeps_what_is_written(kernel, process):
    process.write_fd(1, b"a")
    process.fork().write_fd(2, b"b")
    assert kernel.console.output == b"ab"
    assert process.read_fd(0, 10) == b""
