"""Resource limits and overcommit: rules 37, 39, 40."""

import errno
import struct

import pytest

from heaplab.abi import (
    CLONE_THREAD,
    MAP_ANONYMOUS,
    MAP_FIXED,
    MAP_GROWSDOWN,
    MAP_NORESERVE,
    MAP_PRIVATE,
    MAP_SHARED,
    PROT_NONE,
    PROT_READ,
    PROT_WRITE,
    RLIM_INFINITY,
    Rlimit,
    Sys,
)
from heaplab.errors import SegmentationFault

SIZE = 256
RW = PROT_READ | PROT_WRITE
PRIVATE = MAP_PRIVATE | MAP_ANONYMOUS
SHARED = MAP_SHARED | MAP_ANONYMOUS


def refused(code, call, *args, **kwargs):
    with pytest.raises(OSError) as caught:
        call(*args, **kwargs)
    assert errno.errorcode[caught.value.errno] == errno.errorcode[code]


def pages(process):
    return process.context.space.raw.vm_pages


def limit(process, resource, soft):
    process.setrlimit(resource, (soft, RLIM_INFINITY))


def test_limits_are_inherited_and_then_ones_own(process):
    process.setrlimit(Rlimit.AS, (1 << 30, 1 << 31))
    child = process.fork()
    assert child.getrlimit(Rlimit.AS) == (1 << 30, 1 << 31)
    child.setrlimit(Rlimit.AS, (1 << 20, 1 << 20))
    assert process.getrlimit(Rlimit.AS) == (1 << 30, 1 << 31)


def test_errors(process):
    refused(errno.EINVAL, process.getrlimit, 16)
    refused(errno.EINVAL, process.setrlimit, Rlimit.AS, (2, 1))
    process.setrlimit(Rlimit.AS, (1 << 40, 1 << 40))
    refused(errno.EPERM, process.setrlimit, Rlimit.AS, (1 << 40, 1 << 41))


def test_the_calls_with_memory(process):
    page = process.mmap(SIZE)
    process.write(page, struct.pack("<QQ", 5 << 20, 6 << 20))
    assert process.syscall(Sys.SETRLIMIT, Rlimit.DATA, page) == 0
    assert process.syscall(Sys.GETRLIMIT, Rlimit.DATA, page + 16) == 0
    assert process.read(page, 16) == process.read(page + 16, 16)
    child = process.fork()
    assert process.syscall(Sys.PRLIMIT64, child.pid, Rlimit.STACK, page, page + 32) == 0
    assert child.getrlimit(Rlimit.STACK) == (5 << 20, 6 << 20)
    assert struct.unpack("<QQ", process.read(page + 32, 16))[1] == RLIM_INFINITY
    assert process.syscall(Sys.PRLIMIT64, 99, Rlimit.STACK, 0, 0) == -errno.ESRCH
    assert process.syscall(Sys.GETRLIMIT, Rlimit.DATA, 8) == -errno.EFAULT


def test_rule_39_as_counts_all_vmas(process):
    limit(process, Rlimit.AS, (pages(process) + 2) * SIZE)
    area = process.mmap(2 * SIZE, prot=PROT_NONE)
    refused(errno.ENOMEM, process.mmap, SIZE, prot=PROT_NONE)
    refused(errno.ENOMEM, process.mmap, SIZE, flags=SHARED)
    refused(errno.ENOMEM, process.sbrk, SIZE)
    assert process.mmap(2 * SIZE, area, flags=PRIVATE | MAP_FIXED) == area  # over what is there
    refused(errno.ENOMEM, process.mmap, 2 * SIZE, area + SIZE, flags=PRIVATE | MAP_FIXED)
    process.fork().exit(0)


def test_rule_39_as_stops_the_stack(kernel, process):
    limit(process, Rlimit.AS, pages(process) * SIZE)
    task = kernel.system.tasks[process.pid]
    stack = task.mm.vmas.at(task.mm.start_stack)
    with pytest.raises(SegmentationFault):
        process.load64(stack.start - 8)


def test_rule_39_data_counts_private_writable_ones(kernel, process):
    data = kernel.system.tasks[process.pid].mm.vmas.data
    assert data == 0  # a stack is none
    limit(process, Rlimit.DATA, 3 * SIZE)
    process.mmap(2 * SIZE)
    refused(errno.ENOMEM, process.mmap, 2 * SIZE)
    process.mmap(9 * SIZE, flags=SHARED)
    readable = process.mmap(9 * SIZE, prot=PROT_READ)
    refused(errno.ENOMEM, process.mprotect, readable, 2 * SIZE, RW)
    process.mprotect(readable, SIZE, RW)
    refused(errno.ENOMEM, process.sbrk, SIZE)
    kernel.check()


def test_a_soft_data_limit_of_0_counts_for_the_break_alone(process):
    process.setrlimit(Rlimit.DATA, (0, RLIM_INFINITY))
    process.mmap(SIZE)
    refused(errno.ENOMEM, process.sbrk, 1)
    process.setrlimit(Rlimit.DATA, (0, 0))
    refused(errno.ENOMEM, process.mmap, SIZE)


def test_rule_39_data_bounds_the_break_by_bytes(process):
    limit(process, Rlimit.DATA, SIZE + 10)
    refused(errno.ENOMEM, process.sbrk, SIZE + 11)
    process.sbrk(SIZE)
    refused(errno.ENOMEM, process.sbrk, 11)


def test_rule_37_the_stack_grows_up_to_its_limit(kernel, process):
    task = kernel.system.tasks[process.pid]
    stack = task.mm.vmas.at(task.mm.start_stack)
    lowest = stack.start - 3 * SIZE
    limit(process, Rlimit.STACK, stack.end - lowest)
    process.load64(lowest)
    assert stack.start == lowest
    with pytest.raises(SegmentationFault):
        process.load64(lowest - 8)


def test_a_growing_mapping_has_the_same_limit(process):
    limit(process, Rlimit.STACK, 3 * SIZE)
    area = process.mmap(SIZE, flags=PRIVATE | MAP_GROWSDOWN)
    process.store64(area - 2 * SIZE, 1)
    with pytest.raises(SegmentationFault):
        process.store64(area - 2 * SIZE - 8, 1)


def test_a_grown_stack_counts_as_written(process, faults):
    """expand_downwards makes the anon_vma, so fork copies what a read of the stack brought."""
    area = process.mmap(SIZE, flags=PRIVATE | MAP_GROWSDOWN)
    process.load64(area - SIZE)
    child = process.fork()
    assert faults(child, child.load64, area - SIZE) == 0


# ---- tasks


def test_nproc_counts_all_tasks_and_the_new_one(kernel, process):
    limit(process, Rlimit.NPROC, 4)  # init and the process are two
    children = [process.fork() for _ in range(2)]
    for refused_call in (process.fork, process.vfork, children[0].fork, process.spawn_thread):
        refused(errno.EAGAIN, refused_call)
    kernel.init.fork()  # whose limit is another
    kernel.check()


def test_nproc_counts_threads_and_the_dead_until_they_are_collected(process):
    limit(process, Rlimit.NPROC, 4)
    thread = process.spawn_thread(SIZE)
    child = process.fork()
    child.exit(0)
    refused(errno.EAGAIN, process.fork)
    process.wait()
    process.fork().exit(0)
    refused(errno.EAGAIN, process.fork)
    thread.exit_thread()  # leaves nothing to collect
    process.fork()


def test_nproc_is_asked_after_the_flags_and_before_memory(boot):
    kernel = boot(frames=24, overcommit_memory=2)
    process = kernel.init.fork()
    limit(process, Rlimit.NPROC, 2)
    refused(errno.EINVAL, process.clone, CLONE_THREAD)
    refused(errno.EAGAIN, process.fork)
    limit(process, Rlimit.NPROC, 3)
    process.mmap(3 * SIZE)
    refused(errno.ENOMEM, process.fork)


def test_a_fork_without_memory_takes_no_pid(boot):
    """Linux numbers a task when all else is copied."""
    kernel = boot(frames=24, overcommit_memory=2)
    process = kernel.init.fork()
    area = process.mmap(3 * SIZE)
    refused(errno.ENOMEM, process.fork)
    process.munmap(area, 3 * SIZE)
    assert process.fork().pid == process.pid + 1


def test_nproc_is_looked_at_when_a_task_is_made(kernel, process):
    child = process.fork()
    limit(process, Rlimit.NPROC, 0)
    assert (process.state, child.state) == ("R", "R")
    refused(errno.EAGAIN, process.fork)
    assert child.fork().getrlimit(Rlimit.NPROC) == (RLIM_INFINITY, RLIM_INFINITY)
    assert f"Uid:\t{1000}" in kernel.status(1)


# ---- overcommit


@pytest.fixture
def strict(boot):
    """A kernel of 256 frames that promises half of them."""
    return boot(overcommit_memory=2)


def test_rule_40_mode_2_promises_no_more_than_the_ratio(strict):
    committed = strict.system.committed
    process = strict.init.fork()
    assert strict.system.committed == 2 * committed  # the stack
    room = 128 - 2 * committed - (pages(process)) // 32
    refused(errno.ENOMEM, process.mmap, (room + 1) * SIZE)
    area = process.mmap((room - 10) * SIZE)
    refused(errno.ENOMEM, process.mmap, 20 * SIZE)
    refused(errno.ENOMEM, process.mmap, 20 * SIZE, flags=SHARED)
    refused(errno.ENOMEM, process.mmap, 20 * SIZE, flags=PRIVATE | MAP_NORESERVE)
    refused(errno.ENOMEM, process.sbrk, 20 * SIZE)
    refused(errno.ENOMEM, process.fork)
    readable = process.mmap(20 * SIZE, prot=PROT_READ)
    refused(errno.ENOMEM, process.mprotect, readable, 20 * SIZE, RW)
    process.munmap(area, 40 * SIZE)
    process.mprotect(readable, 20 * SIZE, RW)
    strict.check()


def test_mode_2_counts_shared_memory_once(strict):
    process = strict.init.fork()
    before = strict.system.committed
    area = process.mmap(10 * SIZE, flags=SHARED)
    child = process.fork()
    stack = strict.system.committed - before - 10
    child.exit(0)
    assert strict.system.committed == before + 10
    assert stack > 0
    process.munmap(area, 10 * SIZE)
    assert strict.system.committed == before


def test_memfds_are_counted_as_they_fill(kernel, process):
    before = kernel.system.committed
    fd = process.memfd_create("f")
    process.ftruncate(fd, 20 * SIZE)
    address = process.mmap(20 * SIZE, flags=MAP_SHARED, fd=fd)
    assert kernel.system.committed == before
    process.store64(address, 1)
    assert kernel.system.committed == before + 1
    process.ftruncate(fd, 0)
    assert kernel.system.committed == before


def test_replacing_takes_no_promise_twice(strict):
    process = strict.init.fork()
    area = process.mmap(90 * SIZE)
    process.mmap(90 * SIZE, area, flags=PRIVATE | MAP_FIXED)
    strict.check()


def test_a_mapping_that_is_refused_late_promises_nothing(boot):
    kernel = boot(max_map_count=3)
    process = kernel.init.fork()
    area = process.mmap(6 * SIZE)
    process.mmap(SIZE, prot=PROT_READ)
    before = kernel.system.committed
    refused(errno.ENOMEM, process.mmap, SIZE, area + SIZE, flags=SHARED | MAP_FIXED)
    assert kernel.system.committed == before
    kernel.check()


def test_mode_2_keeps_a_reserve_back(strict):
    process = strict.init.fork()
    process.mmap(320 * SIZE, prot=PROT_NONE)
    room = 128 - strict.system.committed - pages(process) // 32
    assert pages(process) // 32 >= 10
    refused(errno.ENOMEM, process.mmap, room * SIZE)
    process.mmap((room - 1) * SIZE)
