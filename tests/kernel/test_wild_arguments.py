"""Arguments that no sane program passes: an errno each, Linux's, and never an exception of Python's."""

import errno
import os
import signal
from collections.abc import Callable

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from heaplab.abi import (
    MADV_NORMAL,
    MAP_ANONYMOUS,
    MAP_FIXED_NOREPLACE,
    MAP_PRIVATE,
    MAP_SHARED,
    MAP_SHARED_VALIDATE,
    MREMAP_FIXED,
    MREMAP_MAYMOVE,
    PR_GET_NAME,
    PR_SET_NAME,
    PROT_NONE,
    RLIM_INFINITY,
    Rlimit,
    Sys,
)
from heaplab.errors import ProcessDied, UsageError, WouldBlock
from heaplab.kernel import Kernel
from heaplab.kernel.elf import make_elf
from heaplab.machine import REGISTER

SIZE = 256
TOP = 1 << 64  # one more than a register holds
FILE_PAGES = 3


# ---- everything at once


def scene(frames: int, **options: object) -> tuple[Kernel, list[int]]:
    """A kernel with one process, and addresses at which there is something."""
    kernel = Kernel(ram=frames * SIZE, page_size=SIZE, tlb=64, poison=True, seed=1, **options)
    kernel.write_file("/p", make_elf(page_size=SIZE, data=b"abc", bss=300))
    kernel.write_file("/s", b"#!/p x\n")
    kernel.write_file("/d", bytes(FILE_PAGES * SIZE))
    process = kernel.init.fork()
    page = process.mmap(4 * SIZE)
    process.write(page, b"/p\0\0\0\0\0\0" + page.to_bytes(8, "little") + bytes(8) + b"/s\0")
    areas = [page, page + 8, page + 24, process.mmap(4 * SIZE, flags=MAP_SHARED | MAP_ANONYMOUS)]
    areas += [process.mmap(4 * SIZE, flags=MAP_PRIVATE, fd=process.open("/d", os.O_RDWR)), process.sbrk(600)]
    areas += [kernel.task(process.pid).memory.start_stack]
    return kernel, areas


small = st.integers(0, 66)
bit = st.integers(0, 63).map(lambda number: 1 << number)
registers = st.one_of(
    st.tuples(st.integers(0, 6), st.sampled_from([0, 0, 0, 1, 8, SIZE, SIZE - 4, 2 * SIZE, -8])),
    small,
    small.map(lambda number: REGISTER - number),
    st.sampled_from([SIZE, 4 * SIZE, 0x21, 0x22, 0x31, 0x32, 1 << 47, (1 << 47) - SIZE, REGISTER >> 1]),
    st.builds(int.__or__, bit, bit),
    st.integers(0, REGISTER),
)
calls = st.lists(
    st.tuples(st.integers(0, 7), st.sampled_from(Sys), st.lists(registers, min_size=6, max_size=6)),
    min_size=1,
    max_size=30,
)


@settings(
    max_examples=120,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
    database=None,
)
@given(
    calls=calls,
    frames=st.sampled_from([64, 192]),
    overcommit=st.sampled_from([0, 1, 2]),
    fork=st.sampled_from(["copy-on-write", "eager", "shared-tables"]),
    pid_max=st.sampled_from([6, 32768]),
)
def test_every_call_with_wild_registers(
    reap_all: Callable[[Kernel], None],
    calls: list[tuple[int, Sys, list[int | tuple[int, int]]]],
    frames: int,
    overcommit: int,
    fork: str,
    pid_max: int,
) -> None:
    kernel, areas = scene(frames, overcommit_memory=overcommit, fork=fork, pid_max=pid_max)
    for which, number, values in calls:
        others = [pid for pid, task in kernel.system.tasks.items() if pid > 1 and task.mm is not None]
        process = kernel.process(others[which % len(others)]) if others else kernel.init.fork()
        args = [
            value if isinstance(value, int) else (areas[value[0] % len(areas)] + value[1]) & REGISTER
            for value in values
        ]
        try:
            result = process.syscall(number, *args)
        except (WouldBlock, ProcessDied):
            continue
        except UsageError as error:
            assert "machine code" in str(error)  # noqa: PT017  what a handler at an address comes to
            continue
        finally:
            kernel.check()
        assert type(result) is int
        assert -4095 <= result < 1 << 63
        assert result >= 0 or -result in errno.errorcode
        if result >= SIZE:
            areas.append(result)
    reap_all(kernel)


wild = st.one_of(st.integers(-70, 70), st.integers(-TOP, TOP))
METHODS = {
    "brk": 1,
    "sbrk": 1,
    "munmap": 2,
    "mprotect": 3,
    "mremap": 5,
    "madvise": 3,
    "mlock": 2,
    "munlock": 2,
    "mincore": 2,
    "msync": 3,
    "getrlimit": 1,
    "pipe": 1,
    "read_fd": 2,
    "pread": 3,
    "lseek": 3,
    "ftruncate": 2,
    "fsync": 1,
    "dup": 1,
    "close": 1,
    "clone": 4,
    "waitpid": 2,
    "waitid": 3,
    "getrusage": 1,
    "kill": 2,
    "tgkill": 3,
    "sigaction": 3,
    "setpgid": 2,
    "getpgid": 1,
    "getsid": 1,
}


@settings(max_examples=200, deadline=None, database=None)
@given(st.sampled_from(sorted(METHODS)), st.lists(wild, min_size=5, max_size=5))
def test_every_method_with_wild_numbers(name: str, numbers: list[int]) -> None:
    kernel, _ = scene(128)
    process = kernel.process(2)
    try:
        getattr(process, name)(*numbers[: METHODS[name]])
    except (OSError, WouldBlock, ProcessDied):
        kernel.check()


# ---- what was found, and its like; the answers are those of Linux 6.18


@pytest.fixture
def page(process):
    return process.mmap(4 * SIZE)


def test_lengths_wrap_as_registers_do(process, page):
    call, minus_one = process.syscall, TOP - 1
    assert call(Sys.MREMAP, page, 1 << 63, SIZE, 0, 0) == -errno.EINVAL
    assert call(Sys.MREMAP, page, minus_one, SIZE, MREMAP_MAYMOVE | MREMAP_FIXED, 1 << 30) == -errno.EINVAL
    assert call(Sys.MPROTECT, page, minus_one, PROT_NONE) == -errno.ENOMEM
    assert call(Sys.MADVISE, page, minus_one, MADV_NORMAL) == -errno.EINVAL
    assert call(Sys.MSYNC, page, minus_one, 0) == 0
    assert call(Sys.MLOCK, page, minus_one) == call(Sys.MUNLOCK, page, minus_one) == 0
    assert call(Sys.MLOCK, 8, minus_one) == -errno.ENOMEM  # of one page, at 0
    assert call(Sys.MUNLOCK, page, TOP - SIZE) == -errno.EINVAL
    assert call(Sys.MMAP, 0, minus_one, 3, MAP_PRIVATE | MAP_ANONYMOUS, 0, 0) == -errno.ENOMEM
    assert call(Sys.BRK, minus_one) == process.sbrk(0)


def test_buffers_that_are_not_the_users(process, page):
    fd = process.memfd_create("f")
    process.write_fd(fd, b"x")
    for call in (Sys.READ, Sys.WRITE, Sys.PREAD64, Sys.PWRITE64):
        for buffer, count in ((1 << 47, 0), (TOP - 1, 0), (1 << 63, 1), (page, 1 << 62)):
            assert process.syscall(call, fd, buffer, count, 0) == -errno.EFAULT
    assert process.syscall(Sys.MINCORE, page, SIZE, TOP - 1) == -errno.EFAULT
    assert process.syscall(Sys.MINCORE, 0, SIZE, TOP - 1) == -errno.EFAULT  # before the hole is seen
    assert process.syscall(Sys.MINCORE, 0, SIZE, page) == -errno.ENOMEM


def test_which_mistake_is_seen_first(process, page):
    source, sink = process.pipe()
    call, last = process.syscall, (1 << 63) - 1
    assert call(Sys.PREAD64, 99, 8, 1, TOP - 1) == call(Sys.PWRITE64, 99, 8, 1, TOP - 1) == -errno.EINVAL
    assert call(Sys.PREAD64, sink, 8, 1, 0) == call(Sys.PWRITE64, source, 8, 1, 0) == -errno.ESPIPE
    assert call(Sys.READ, sink, 8, 1) == call(Sys.WRITE, source, 8, 1) == -errno.EBADF
    fd = process.memfd_create("f")
    assert call(Sys.PREAD64, fd, page, 2, last - 1) == call(Sys.PWRITE64, fd, 8, 2, last - 1) == -errno.EINVAL
    assert call(Sys.LSEEK, source, 0, 5) == -errno.EINVAL
    assert call(Sys.LSEEK, source, 0, 0) == -errno.ESPIPE
    assert call(Sys.MEMFD_CREATE, 8, 0x100) == -errno.EINVAL
    assert call(Sys.MEMFD_CREATE, 8, 0) == -errno.EFAULT
    process.write(page, b"/missing\0")
    assert call(Sys.EXECVE, page, 8, 8) == -errno.ENOENT
    at_the_end = 1 << 63
    assert call(Sys.MMAP, 0, SIZE, 1, MAP_SHARED, fd, at_the_end) == -errno.EOVERFLOW
    assert call(Sys.MMAP, 0, SIZE, 1, MAP_SHARED, sink, at_the_end) == -errno.EACCES


def test_pipes_by_number(process, page):
    source, sink = process.pipe()
    process.write(page, b"hello")
    assert process.syscall(Sys.WRITE, sink, page, 5) == 5
    assert process.syscall(Sys.READ, source, 8, 5) == -errno.EFAULT  # and nothing is lost
    end = page + 4 * SIZE
    assert process.syscall(Sys.READ, source, end - 2, 5) == -errno.EFAULT
    assert process.syscall(Sys.READ, source, end - 2, 2) == 2
    assert process.syscall(Sys.READ, source, page + SIZE, 99) == 3
    assert process.read(end - 2, 2) + process.read(page + SIZE, 3) == b"hello"
    with pytest.raises(WouldBlock):
        process.syscall(Sys.READ, source, page, 1)


def test_a_read_of_a_long_file_goes_as_far_as_the_buffer(process, page):
    fd = process.memfd_create("f")
    process.ftruncate(fd, 1 << 62)
    assert process.syscall(Sys.PREAD64, fd, page + SIZE, 1 << 20, 5) == 3 * SIZE
    assert process.syscall(Sys.READ, fd, page, 1 << 20) == 4 * SIZE
    assert process.lseek(fd, 0, os.SEEK_CUR) == 4 * SIZE


def test_files_on_disk_are_no_longer_than_a_gibibyte(kernel, process):
    kernel.write_file("/d", b"x")
    fd = process.open("/d", os.O_RDWR)
    most = 1 << 30
    process.ftruncate(fd, most)
    assert process.syscall(Sys.FTRUNCATE, fd, most + 1) == -errno.EFBIG
    assert process.syscall(Sys.PWRITE64, fd, process.mmap(SIZE), 1, most) == -errno.EFBIG
    assert process.syscall(Sys.MMAP, 0, SIZE, 1, MAP_SHARED, fd, most) == -errno.EOVERFLOW
    assert process.pwrite(fd, b"xy", most - 1) == 1
    process.ftruncate(fd, 1)


def test_names_are_bytes(kernel, process, page, tmp_path):
    process.write(page, b"\xff\\\n\xff" * 4)
    assert process.syscall(Sys.PRCTL, PR_SET_NAME, page) == 0
    assert process.syscall(Sys.PRCTL, PR_GET_NAME, page + SIZE) == 0
    assert process.read(page + SIZE, 17) == b"\xff\\\n\xff" * 3 + b"\xff\\\n" + bytes(2)
    assert process.syscall(Sys.MEMFD_CREATE, page, 0) >= 0
    process.mmap(SIZE, flags=MAP_SHARED, fd=3)
    assert r"/memfd:" + "\udcff\\" + r"\012" in process.maps()  # no line of maps is broken
    assert process.status().startswith("Name:\t\udcff\\\\\\n\udcff")
    kernel.write_proc(tmp_path)
    assert (tmp_path / str(process.pid) / "comm").read_bytes() == b"\xff\\\n\xff" * 3 + b"\xff\\\n\n"


def test_no_limit_can_be_said_as_minus_one(process):
    process.setrlimit(Rlimit.AS, (-1, -1))  # as the module resource has it
    assert process.getrlimit(Rlimit.AS) == (RLIM_INFINITY, RLIM_INFINITY)


def test_shared_validate_knows_linuxs_older_flags(process):
    fd = process.memfd_create("f")
    for known in (0x80, 1 << 26, 1 << 30):  # MAP_ABOVE4G, sizes of huge pages
        assert process.mmap(SIZE, flags=MAP_SHARED_VALIDATE | known, fd=fd)
    free = process.mmap(SIZE)
    process.munmap(free, SIZE)
    with pytest.raises(OSError) as caught:
        process.mmap(SIZE, free, flags=MAP_SHARED_VALIDATE | MAP_FIXED_NOREPLACE, fd=fd)
    assert caught.value.errno == errno.EOPNOTSUPP


def test_a_killed_thread_leaves_its_leader_to_be_collected(kernel, process):
    child = process.fork()
    thread = child.spawn_thread(SIZE)
    child.exit_thread(0)
    process.kill(thread.tid, signal.SIGKILL)
    assert process.wait() == (child.pid, signal.SIGKILL)
