"""mremap: rules 24 to 27.

What these tests say was compared with Linux 6.18: random sequences of mmap, mprotect, mremap, madvise, mlock,
ftruncate, fork and accesses; results, fault counts and maps were equal.
"""

import errno

import pytest

from heaplab.abi import (
    MAP_ANONYMOUS,
    MAP_FIXED,
    MAP_PRIVATE,
    MAP_SHARED,
    MREMAP_DONTUNMAP,
    MREMAP_FIXED,
    MREMAP_MAYMOVE,
    PROT_NONE,
    PROT_READ,
    PROT_WRITE,
    Rlimit,
)
from heaplab.errors import BusError, SegmentationFault
from heaplab.kernel.mm import Mm

SIZE = 256
RW = PROT_READ | PROT_WRITE
PRIVATE = MAP_PRIVATE | MAP_ANONYMOUS
SHARED = MAP_SHARED | MAP_ANONYMOUS
TO = MREMAP_MAYMOVE | MREMAP_FIXED


def refused(code, call, *args, **kwargs):
    with pytest.raises(OSError) as caught:
        call(*args, **kwargs)
    assert errno.errorcode[caught.value.errno] == errno.errorcode[code]


@pytest.fixture
def area(process):
    """An address in the middle of nothing."""
    area = process.mmap(64 * SIZE)
    process.munmap(area, 64 * SIZE)
    return area


@pytest.fixture
def vmas(process, area):
    """(first page, pages) of each VMA in the area."""

    def vmas():
        ranges = [
            [int(part, 16) for part in line.split()[0].split("-")] for line in process.maps().splitlines()
        ]
        return [
            ((start - area) // SIZE, (end - start) // SIZE)
            for start, end in ranges
            if area <= start < area + 64 * SIZE
        ]

    return vmas


def fixed(process, area, page, pages=1, prot=RW, flags=PRIVATE, **kwargs):
    at = area + page * SIZE
    assert process.mmap(pages * SIZE, at, prot, flags | MAP_FIXED, **kwargs) == at
    return at


def frame(process, va):
    return process.frame_of(va)


def test_rule_24_in_place(kernel, process, area, vmas):
    at = fixed(process, area, 0, 2)
    process.store64(at, 7)
    assert process.mremap(at, 2 * SIZE, 5 * SIZE) == at
    assert vmas() == [(0, 5)]
    assert process.mremap(at, 5 * SIZE, SIZE) == at
    assert vmas() == [(0, 1)]
    assert process.load64(at) == 7
    assert process.mremap(at, SIZE, SIZE) == at
    kernel.check()


def test_rule_24_grown_up_to_a_like_neighbour_it_merges(process, area, vmas):
    at = fixed(process, area, 0, 2)
    fixed(process, area, 4, 2)
    assert process.mremap(at, 2 * SIZE, 4 * SIZE) == at
    assert vmas() == [(0, 6)]


def test_what_fork_left_grows_up_to_an_unwritten_neighbour_and_merges(kernel, process, area):
    """Rule 18 is about whole VMAs; what is new between the two holds no page of the parent's."""
    low = fixed(process, area, 0)
    process.store64(low, 1)
    fixed(process, area, 2)
    child = process.fork()
    assert len(child.maps().splitlines()) == 3
    child.mremap(low, SIZE, 2 * SIZE)
    assert len(child.maps().splitlines()) == 2
    kernel.check()


def test_rule_24_without_room_it_may_not_or_moves(kernel, process, area, faults):
    at = fixed(process, area, 0, 2)
    fixed(process, area, 2, prot=PROT_READ)
    process.store64(at, 7)
    process.store64(at + SIZE, 8)
    refused(errno.ENOMEM, process.mremap, at, 2 * SIZE, 3 * SIZE)
    before = frame(process, at)
    moved = process.mremap(at, 2 * SIZE, 3 * SIZE, MREMAP_MAYMOVE)
    assert moved != at
    assert frame(process, moved) == before
    assert faults(process, process.load64, moved) == 0
    assert faults(process, process.store64, moved + SIZE, 9) == 0
    assert (process.load64(moved), process.load64(moved + SIZE)) == (7, 9)
    with pytest.raises(SegmentationFault):
        process.load64(at)


def test_the_part_before_the_end_cannot_grow_in_place(process, area):
    at = fixed(process, area, 0, 4)
    refused(errno.ENOMEM, process.mremap, at, 2 * SIZE, 3 * SIZE)


def test_rule_25_errors(kernel, process, area):
    at = fixed(process, area, 0, 2)
    fixed(process, area, 2, prot=PROT_READ)
    task_size = kernel.system.tasks[process.pid].mm.layout.task_size
    refused(errno.EFAULT, process.mremap, area + 20 * SIZE, SIZE, 2 * SIZE)
    refused(errno.EFAULT, process.mremap, area + 20 * SIZE, SIZE, SIZE)
    refused(errno.EFAULT, process.mremap, at, 3 * SIZE, 4 * SIZE, MREMAP_MAYMOVE)  # across VMAs
    refused(errno.EINVAL, process.mremap, at, 0, SIZE, MREMAP_MAYMOVE)
    refused(errno.EINVAL, process.mremap, at, SIZE, 0)
    refused(errno.EINVAL, process.mremap, at + 1, SIZE, SIZE)
    refused(errno.EINVAL, process.mremap, at, SIZE, task_size + SIZE)
    refused(errno.EINVAL, process.mremap, at, SIZE, SIZE, 8)
    refused(errno.EINVAL, process.mremap, at, SIZE, SIZE, MREMAP_FIXED, area + 9 * SIZE)
    refused(errno.EINVAL, process.mremap, at, SIZE, SIZE, MREMAP_DONTUNMAP)
    refused(errno.EINVAL, process.mremap, at, SIZE, SIZE, TO, area + 9 * SIZE + 1)
    refused(errno.EINVAL, process.mremap, at, SIZE, SIZE, TO, task_size)
    refused(errno.EINVAL, process.mremap, at, 2 * SIZE, 2 * SIZE, TO, at + SIZE)  # overlap
    refused(errno.EINVAL, process.mremap, at, SIZE, 2 * SIZE, MREMAP_MAYMOVE | MREMAP_DONTUNMAP)


def test_rule_25_shrinking_may_go_across(process, area, vmas):
    at = fixed(process, area, 0, 2)
    fixed(process, area, 3, 2, prot=PROT_READ)
    assert process.mremap(at, 5 * SIZE, SIZE) == at
    assert vmas() == [(0, 1)]


def test_shrinking_does_not_reach_beyond_user_memory(kernel, process, area):
    process.mmap(2 * SIZE, area)
    beyond = kernel.task(process.pid).memory.layout.task_size - area + SIZE
    refused(errno.EINVAL, process.mremap, area, beyond, SIZE)


def test_rule_26_a_written_vma_keeps_its_offset_and_stays_alone(process, area, vmas):
    fixed(process, area, 10)
    unwritten = fixed(process, area, 0)
    assert process.mremap(unwritten, SIZE, SIZE, TO, area + 11 * SIZE) == area + 11 * SIZE
    assert vmas() == [(10, 2)]
    written = fixed(process, area, 0)
    process.store64(written, 1)
    process.mremap(written, SIZE, SIZE, TO, area + 12 * SIZE)
    assert vmas() == [(10, 2), (12, 1)]
    process.mremap(area + 12 * SIZE, SIZE, SIZE, TO, written)
    fixed(process, area, 1)
    assert vmas() == [(0, 2), (10, 2)]  # back home, it has its neighbours again


def test_fixed_replaces_what_is_there_and_splits_what_it_leaves(kernel, process, area, vmas):
    at = fixed(process, area, 0, 4)
    process.fill(at, 3, 4 * SIZE)
    target = fixed(process, area, 20, 4)
    process.fill(target, 4, 4 * SIZE)
    process.mremap(at + SIZE, SIZE, SIZE, TO, target + SIZE)
    kernel.check()
    assert vmas() == [(0, 1), (2, 2), (20, 1), (21, 1), (22, 2)]
    assert [process.load(target + page * SIZE, 1) for page in range(4)] == [4, 3, 4, 4]


def test_fixed_shrinks_on_the_way(process, area, vmas):
    at = fixed(process, area, 0, 4)
    process.fill(at, 3, 4 * SIZE)
    process.mremap(at, 4 * SIZE, 2 * SIZE, TO, area + 30 * SIZE)
    assert vmas() == [(30, 2)]
    assert process.read(area + 30 * SIZE, 2 * SIZE) == b"\3" * 2 * SIZE


def test_several_vmas_move_together_with_the_gaps_between_them(process, area, vmas):
    fixed(process, area, 0)
    fixed(process, area, 1, prot=PROT_READ)
    fixed(process, area, 4, 2)
    process.mremap(area, 6 * SIZE, 6 * SIZE, TO, area + 30 * SIZE)
    assert vmas() == [(30, 1), (31, 1), (34, 2)]
    refused(errno.EFAULT, process.mremap, area + 29 * SIZE, 3 * SIZE, 3 * SIZE, TO, area)


def test_rule_27_dontunmap_leaves_zeros(kernel, process, area, vmas, faults):
    at = fixed(process, area, 0, 2)
    process.fill(at, 5, 2 * SIZE)
    moved = process.mremap(at, 2 * SIZE, 2 * SIZE, MREMAP_MAYMOVE | MREMAP_DONTUNMAP)
    assert process.load(moved, 1) == 5
    assert faults(process, process.load, at, 1) == 1
    assert process.load(at, 1) == 0
    fixed(process, area, 2)
    assert vmas()[0] == (0, 3)  # what stays is as if it had never been written


def test_old_length_0_has_a_shared_mapping_twice(kernel, process, area):
    fd = process.memfd_create("twice")
    process.ftruncate(fd, 4 * SIZE)
    at = fixed(process, area, 0, 4, flags=MAP_SHARED, fd=fd)
    again = process.mremap(at + SIZE, 0, 2 * SIZE, MREMAP_MAYMOVE)
    process.store64(again, 9)
    assert process.load64(at + SIZE) == 9
    kernel.check()


def test_shared_memory_does_not_grow_with_its_mapping(process, area):
    at = fixed(process, area, 0, flags=SHARED)
    process.mremap(at, SIZE, 2 * SIZE)
    process.store64(at, 1)
    with pytest.raises(BusError):
        process.load64(at + SIZE)


def test_a_move_owes_a_flush(kernel, process, area, monkeypatch):
    at = fixed(process, area, 0)
    process.store64(at, 1)
    with monkeypatch.context() as patch:
        patch.setattr(Mm, "flush_range", lambda *_: None)
        process.mremap(at, SIZE, SIZE, TO, area + 9 * SIZE)
    with pytest.raises(AssertionError, match="TLB entries are stale"):
        kernel.check()
    process.context.space.flush()


def test_a_move_finds_room_for_its_tables(boot):
    kernel = boot(frames=64)
    process, victim = kernel.init.fork(), kernel.init.fork()
    at = process.mmap(2 * SIZE)
    process.fill(at, 7, 2 * SIZE)
    eaten = victim.mmap(64 * SIZE)
    while kernel.machine.free_frames:
        victim.store64(eaten, 1)
        eaten += SIZE
    moved = process.mremap(at, 2 * SIZE, 2 * SIZE, TO, at - 4096 * SIZE)
    assert victim.state == "X"
    assert process.read(moved, 2 * SIZE) == b"\7" * 2 * SIZE
    kernel.check()


def test_limits_hold_for_what_it_adds(process, area):
    at = fixed(process, area, 0, 2)
    pages = process.context.space.raw.vm_pages
    process.setrlimit(Rlimit.AS, ((pages + 1) * SIZE, 1 << 40))
    refused(errno.ENOMEM, process.mremap, at, 2 * SIZE, 4 * SIZE)
    refused(errno.ENOMEM, process.mremap, at, 2 * SIZE, 4 * SIZE, MREMAP_MAYMOVE)
    refused(errno.ENOMEM, process.mremap, at, 2 * SIZE, 2 * SIZE, MREMAP_MAYMOVE | MREMAP_DONTUNMAP)
    assert process.mremap(at, 2 * SIZE, 3 * SIZE) == at


def test_rule_27_what_stays_counts_as_never_written(process, area, faults):
    at = fixed(process, area, 0)
    process.store64(at, 5)
    process.mremap(at, SIZE, SIZE, MREMAP_MAYMOVE | MREMAP_DONTUNMAP)
    process.load64(at)
    child = process.fork()
    assert faults(child, child.load64, at) == 1  # rule 6


def peak(process):
    return int(process.status().partition("VmPeak:")[2].split()[0])


def test_that_both_places_were_there_for_a_moment_is_no_peak(process, area):
    process = process.fork()
    at = fixed(process, area, 0, 8)
    before = peak(process)
    process.mremap(at, 8 * SIZE, 8 * SIZE, TO, area + 20 * SIZE)
    assert peak(process) == before
    process.mremap(area + 20 * SIZE, 8 * SIZE, 8 * SIZE, TO | MREMAP_DONTUNMAP, area + 40 * SIZE)
    assert peak(process) == before + 8 * SIZE // 1024


def test_the_new_place_gets_page_tables_though_there_is_no_page(process, area):
    at = fixed(process, area, 0, 2)
    process.store64(at + SIZE, 1)
    span = SIZE * SIZE // 8  # of one table
    far = (process.mmap(2 * span, prot=PROT_NONE) + span - 1) & -span
    tables = process.context.space.tables
    process.mremap(at, SIZE, SIZE, TO, far)
    assert process.context.space.tables == tables + 1


def test_dontunmap_unlocks_and_goes_on_counting(kernel, process, area):
    """Measured, Linux 6.18: VmLck stays as it was, and what was moved comes on top."""

    def locked():
        return int(process.status().partition("VmLck:")[2].split()[0]) * 1024 // SIZE

    at = fixed(process, area, 0, 8)
    process.mlock(at, 8 * SIZE)
    process.mremap(at, 8 * SIZE, 8 * SIZE, TO | MREMAP_DONTUNMAP, area + 20 * SIZE)
    assert locked() == 16
    process.munmap(at, 30 * SIZE)
    assert locked() == 8
    kernel.check()


def test_tables_above_are_made_though_there_is_none_of_pages(boot):
    """Measured, Linux 6.18: VmPTE grows by a page, for a table of the upper levels at the new place."""
    kernel = boot(page_size=4096)
    process = kernel.init.fork()
    near = process.mmap(4096, 0x1000_0000, flags=PRIVATE | MAP_FIXED)
    process.store64(near, 1)  # so that there are tables of the upper levels
    old = process.mmap(4096, near + (2 << 20), flags=PRIVATE | MAP_FIXED)
    tables = process.context.space.tables
    process.mremap(old, 4096, 4096, TO, 0x5555_5555_5000)
    assert process.context.space.tables == tables + 1
