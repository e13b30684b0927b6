"""fork and copy-on-write: rules 4, 5, 6 and 33."""

import errno
import os

import pytest

from heaplab.abi import MADV_DONTNEED, MAP_ANONYMOUS, MAP_NORESERVE, MAP_PRIVATE, MAP_SHARED, PROT_READ
from heaplab.machine import FrameKind

SHARED = MAP_SHARED | MAP_ANONYMOUS
PRIVATE = MAP_PRIVATE | MAP_ANONYMOUS


@pytest.fixture
def page(process):
    page = process.mmap(process.page_size)
    process.store64(page, 1)
    return page


def test_rule_4_fork_is_free_and_so_is_reading(kernel, process, page, faults):
    process.write(page + 8, b"unchanged")
    frames = kernel.machine.used(FrameKind.ANON)
    assert faults(process, process.fork) == 0
    child = kernel.process(process.pid + 1)
    assert (faults(child, child.load64, page), faults(process, process.load64, page)) == (0, 0)
    assert child.read(page + 8, 9) == b"unchanged"
    assert kernel.machine.used(FrameKind.ANON) == frames


@pytest.mark.parametrize("parent_first", [True, False])
def test_rule_5_the_first_writer_copies_and_the_last_owner_reuses(
    kernel, process, page, faults, parent_first
):
    child = process.fork()
    first, last = (process, child) if parent_first else (child, process)
    shared = process.frame_of(page)
    assert faults(first, first.store64, page, 2) == 1
    assert first.frame_of(page) != shared
    assert (first.load64(page), last.load64(page)) == (2, 1)
    assert faults(last, last.store64, page, 3) == 1
    assert last.frame_of(page) == shared
    assert (first.load64(page), last.load64(page)) == (2, 3)
    assert faults(last, last.store64, page, 4) == faults(first, first.store64, page, 4) == 0


@pytest.mark.parametrize(
    "leave", [lambda child, page: child.exit(0), lambda child, page: child.munmap(page, 256)]
)
def test_rule_5_reuse_after_the_other_has_left(process, page, faults, leave):
    child = process.fork()
    shared = process.frame_of(page)
    leave(child, page)
    assert faults(process, process.store64, page, 2) == 1
    assert process.frame_of(page) == shared


def test_a_whole_page_is_copied(kernel, process, page):
    process.write(page, bytes(range(256)))
    child = process.fork()
    child.store(page + 100, 0xFF, 1)
    assert process.read(page, 256) == bytes(range(256))
    assert child.read(page, 256) == bytes(range(100)) + b"\xff" + bytes(range(101, 256))


def test_rule_6_only_written_private_memory_is_copied(kernel, process, faults):
    size = process.page_size
    zeros = process.mmap(size, prot=PROT_READ)
    shared = process.mmap(size, flags=SHARED)
    process.load64(zeros)
    process.store64(shared, 5)
    child = process.fork()
    space = child.context.space
    assert space.pte(zeros) == space.pte(shared) == 0
    assert space.tables == 1
    assert faults(child, child.load64, zeros) == faults(child, child.load64, shared) == 1
    assert child.load64(shared) == 5


def test_rule_6_an_anon_vma_takes_its_zero_pages_along(process, faults):
    size = process.page_size
    two = process.mmap(2 * size)
    process.load64(two)
    process.store64(two + size, 1)
    child = process.fork()
    assert faults(child, child.load64, two) == 0


def test_shared_memory_is_seen_by_both(process):
    page = process.mmap(process.page_size, flags=SHARED)
    child, other = process.fork(), process.fork()
    child.store64(page, 7)
    assert (process.load64(page), other.load64(page)) == (7, 7)
    process.munmap(page, process.page_size)
    child.exit(0)
    assert other.load64(page) == 7


def test_rule_33_a_childs_break_is_its_own(process):
    start = process.sbrk(0)
    process.sbrk(600)
    child = process.fork()
    assert child.sbrk(0) == start + 600
    child.sbrk(-600)
    assert (child.sbrk(0), process.sbrk(0)) == (start, start + 600)


def test_a_tree_of_copies(kernel, process, page):
    family = [process]
    for value in range(2, 8):
        family.append(family[-1].fork())
        family[-1].store64(page, value)
        kernel.check()
    assert [member.load64(page) for member in family] == [1, 2, 3, 4, 5, 6, 7]


def test_errno_is_copied(process):
    process.errno = errno.EBUSY
    assert process.fork().errno == errno.EBUSY


def test_pids_run_out(boot):
    kernel = boot(pid_max=6)
    children = [kernel.init.fork() for _ in range(4)]
    with pytest.raises(OSError, match=os.strerror(errno.EAGAIN)):
        kernel.init.fork()
    children[1].exit(0)
    assert kernel.init.fork().pid == children[1].pid


def test_rule_40_fork_refuses_one_mapping_larger_than_the_machine(boot):
    kernel = boot(frames=64)
    process = kernel.init.fork()
    half = 40 * process.page_size
    process.mmap(half)
    process.mmap(half)  # merges with the first
    with pytest.raises(OSError, match=os.strerror(errno.ENOMEM)):
        process.fork()
    kernel.check()


def test_rule_40_what_is_not_reserved_is_not_counted(boot):
    process = boot(frames=64).init.fork()
    process.mmap(80 * process.page_size, flags=PRIVATE | MAP_NORESERVE)
    process.fork()


def test_a_child_gets_page_tables_where_its_parent_has_them(process):
    """Though there is no page any more: Linux makes one while it looks for what is to be copied."""
    area = process.mmap(process.page_size)
    process.store64(area, 1)
    process.madvise(area, process.page_size, MADV_DONTNEED)
    child = process.fork()
    assert child.context.space.tables == process.context.space.tables
