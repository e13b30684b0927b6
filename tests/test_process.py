"""The handle: what it binds, how libc differs from the kernel, what a child's handle is."""

import errno

import pytest

from heaplab.errors import SegmentationFault
from heaplab.kernel import Kernel
from heaplab.process import Process


@pytest.fixture
def process() -> Process:
    return Kernel(ram="1 MiB").init.fork()


def test_memory_in_all_sizes(process: Process) -> None:
    page = process.mmap(2 * process.page_size)
    process.store64(page, 0x1122334455667788)
    assert [process.load(page, size) for size in (1, 2, 4, 8)] == [
        0x88,
        0x7788,
        0x55667788,
        0x1122334455667788,
    ]
    process.store(page + 2, 0xABCD, 2)
    assert process.read(page, 4) == b"\x88\x77\xcd\xab"
    edge = page + process.page_size - 3
    process.write(edge, b"across")
    process.copy(page + 1, edge, 6)
    process.fill(edge, 0x2E, 6)
    assert process.read(page, 8) == b"\x88across\x11"
    assert process.read(edge, 6) == b"......"


def test_loads_and_stores_are_the_contexts_own(process: Process) -> None:
    assert process.load64 is process.context.load64
    assert process.store64 is process.context.store64


def test_a_failed_call_raises_and_sets_errno(process: Process) -> None:
    with pytest.raises(OSError, match="Invalid argument") as caught:
        process.munmap(1, 1)
    assert caught.value.errno == process.errno == errno.EINVAL
    process.errno = 0
    assert process.errno == 0
    process.sbrk(100)
    assert process.errno == 0  # what succeeds leaves it alone


def test_errno_is_the_one_of_the_c_core(process: Process) -> None:
    process.context.raw.err = errno.ENOMEM
    assert process.errno == errno.ENOMEM


def test_sbrk_zero_asks_without_a_call(process: Process) -> None:
    start = process.sbrk(0)
    assert process.syscalls["brk"] == 0
    assert process.sbrk(5000) == start
    assert process.sbrk(0) == process.brk(0) == start + 5000
    assert process.syscalls["brk"] == 2


@pytest.mark.parametrize("increment", [1 << 63, 1 << 64, 1 << 80, -(1 << 63), -(1 << 80)])
def test_sbrk_out_of_range(process: Process, increment: int) -> None:
    with pytest.raises(OSError) as caught:
        process.sbrk(increment)
    assert caught.value.errno == errno.ENOMEM


def test_fork_gives_a_handle_of_the_child(process: Process) -> None:
    child = process.fork()
    assert (child.ppid, child.getppid()) == (process.pid, process.pid)
    assert child.pid == child.getpid() != process.pid
    assert child.context is not process.context
    assert (child.minflt, child.syscalls) == (0, {"getppid": 1, "getpid": 1})


def test_counters_outlive_the_process(process: Process) -> None:
    child = process.fork()
    page = child.mmap(100)
    child.store64(page, 1)
    child.exit(0)
    process.wait()
    assert (child.minflt, child.context.stores, child.syscalls["mmap"]) == (1, 1, 1)
    assert (child.state, child.pid) == ("X", 3)


def test_repr_says_who_and_how(process: Process) -> None:
    child = process.fork()
    child.exit(0)
    assert (repr(process), repr(child)) == ("<Process 2 init R>", "<Process 3 init Z>")


def test_a_killed_process_says_why_in_one_sentence(process: Process) -> None:
    with pytest.raises(SegmentationFault) as caught:
        process.store64(0x10, 1)
    assert str(caught.value) == (
        "process 2 was ended by SIGSEGV: store at 0x10: SEGV_MAPERR, nothing is mapped there"
    )


def test_counts_of_calls_are_those_of_the_moment(process: Process) -> None:
    before = process.syscalls
    process.getpid()
    process.getpid()
    assert process.syscalls - before == {"getpid": 2}
    process.syscalls["getpid"] = 99  # nobody's but the reader's
    assert process.syscalls["getpid"] == 2
