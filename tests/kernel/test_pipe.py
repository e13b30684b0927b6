"""Pipes and the console."""

import errno
import os
import signal

import pytest

from heaplab.abi import MAP_PRIVATE, Sys
from heaplab.errors import WouldBlock
from heaplab.kernel.pipe import CAPACITY, PIPE_BUF


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


def test_a_full_pipe(process):
    source, sink = process.pipe()
    assert process.write_fd(sink, bytes(CAPACITY + 5)) == CAPACITY
    with pytest.raises(WouldBlock, match="read from the pipe") as caught:
        process.write_fd(sink, b"x")
    process.read_fd(source, 10)
    assert caught.value.ready()
    assert process.write_fd(sink, b"x") == 1
    with pytest.raises(WouldBlock):  # all at once or not at all
        process.write_fd(sink, bytes(PIPE_BUF))


def test_a_pipe_has_no_places(process):
    source, sink = process.pipe()
    refused(errno.ESPIPE, process.lseek, source, 0)
    refused(errno.ESPIPE, process.pread, source, 1, 0)
    refused(errno.ESPIPE, process.pwrite, sink, b"", 0)
    refused(errno.EINVAL, process.ftruncate, sink, 0)
    refused(errno.EINVAL, process.fsync, sink)
    refused(errno.ENODEV, process.mmap, 1, flags=MAP_PRIVATE, fd=source)
    refused(errno.EBADF, process.read_fd, sink, 1)
    refused(errno.EBADF, process.write_fd, source, b"")
    refused(errno.EINVAL, process.pipe, os.O_APPEND)


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
