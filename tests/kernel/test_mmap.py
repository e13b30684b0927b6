"""mmap and munmap: rules 15, 16, 18, 19, 21, 22, 23, 40."""

import errno

import pytest

from heaplab.abi import (
    MAP_32BIT,
    MAP_ANONYMOUS,
    MAP_FIXED,
    MAP_FIXED_NOREPLACE,
    MAP_GROWSDOWN,
    MAP_HUGETLB,
    MAP_NORESERVE,
    MAP_PRIVATE,
    MAP_SHARED,
    PROT_NONE,
    PROT_READ,
    PROT_WRITE,
)
from heaplab.machine import FrameKind

MAP_DROPPABLE = 0x08
PRIVATE = MAP_PRIVATE | MAP_ANONYMOUS
SHARED = MAP_SHARED | MAP_ANONYMOUS
RW = PROT_READ | PROT_WRITE
SIZE = 256


def vmas(process):
    """What is mapped but stack and heap: (start, pages), addresses in pages relative to the lowest."""
    lines = [line.split() for line in process.maps().splitlines() if "[" not in line]
    ranges = [tuple(int(part, 16) for part in line[0].split("-")) for line in lines]
    return [((start - ranges[0][0]) // SIZE, (end - start) // SIZE) for start, end in ranges]


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


def fixed(process, area, page, pages=1, prot=RW, flags=PRIVATE):
    assert process.mmap(pages * SIZE, area + page * SIZE, prot, flags | MAP_FIXED) == area + page * SIZE


# ---- merging


def test_rule_15_alike_neighbours_merge(process, area):
    fixed(process, area, 0)
    fixed(process, area, 1)
    assert vmas(process) == [(0, 2)]
    fixed(process, area, 3)
    assert vmas(process) == [(0, 2), (3, 1)]
    fixed(process, area, 2)
    assert vmas(process) == [(0, 4)]


@pytest.mark.parametrize(
    ("prot", "flags"),
    [(PROT_READ, PRIVATE), (RW, PRIVATE | MAP_NORESERVE), (RW, SHARED), (RW, PRIVATE | MAP_GROWSDOWN)],
)
def test_rule_15_others_do_not(process, area, prot, flags):
    fixed(process, area, 0)
    fixed(process, area, 1, prot=prot, flags=flags)
    assert vmas(process) == [(0, 1), (1, 1)]


@pytest.mark.parametrize("written", [0, 1])
def test_rule_15_one_written_side_is_no_obstacle(process, area, written):
    fixed(process, area, written)
    process.store64(area + written * SIZE, 1)
    fixed(process, area, 1 - written)
    assert vmas(process) == [(0, 2)]


def test_rule_16_a_filled_gap_merges_with_the_left(process, area):
    for page in (0, 2):
        fixed(process, area, page)
        process.store64(area + page * SIZE, 1)
    fixed(process, area, 1)
    assert vmas(process) == [(0, 2), (2, 1)]


def test_rule_16_but_with_both_if_one_was_not_written(process, area):
    for page in (0, 2):
        fixed(process, area, page)
    process.store64(area + 2 * SIZE, 1)
    fixed(process, area, 1)
    assert vmas(process) == [(0, 3)]


def test_rule_18_an_inherited_written_vma_stays_alone(process, area):
    fixed(process, area, 1)
    process.store64(area + SIZE, 1)
    child = process.fork()
    for page in (0, 2):
        fixed(child, area, page)
        fixed(process, area, page)
    assert vmas(child) == [(0, 1), (1, 1), (2, 1)]
    assert vmas(process) == [(0, 3)]


def test_rule_18_an_inherited_unwritten_one_does_not(process, area):
    fixed(process, area, 1)
    child = process.fork()
    fixed(child, area, 0)
    assert vmas(child) == [(0, 2)]


def test_parts_of_one_inherited_vma_do_not_find_together_in_the_child(process, area):
    fixed(process, area, 0, pages=2)
    process.store64(area, 1)
    process.mprotect(area, SIZE, PROT_READ)
    assert vmas(process) == [(0, 1), (1, 1)]
    child = process.fork()
    for member in (process, child):
        member.mprotect(area, SIZE, RW)
    assert vmas(process) == [(0, 2)]
    assert vmas(child) == [(0, 1), (1, 1)]


def test_neighbours_that_will_be_alike_share_an_anon_vma_from_the_start(process, area):
    fixed(process, area, 0)
    fixed(process, area, 1)
    process.mprotect(area, SIZE, PROT_NONE)
    process.mprotect(area, SIZE, RW)
    fixed(process, area, 3)
    process.store64(area, 1)
    process.store64(area + 3 * SIZE, 1)
    assert vmas(process) == [(0, 2), (3, 1)]
    process.mprotect(area, SIZE, PROT_READ)
    process.store64(area + SIZE, 1)  # takes the anon_vma of the read-only neighbour
    process.mprotect(area, SIZE, RW)
    assert vmas(process) == [(0, 2), (3, 1)]


def test_rule_21_shared_neighbours_never_merge(process, area):
    fixed(process, area, 0, flags=SHARED)
    fixed(process, area, 1, flags=SHARED)
    assert vmas(process) == [(0, 1), (1, 1)]


def test_rule_21_but_parts_of_one_file_do(process, area):
    fixed(process, area, 0, pages=3, flags=SHARED)
    process.mprotect(area + SIZE, SIZE, PROT_READ)
    assert vmas(process) == [(0, 1), (1, 1), (2, 1)]
    process.mprotect(area + SIZE, SIZE, RW)
    assert vmas(process) == [(0, 3)]


# ---- munmap


def test_rule_19_the_middle_splits(kernel, process, area):
    fixed(process, area, 0, pages=5)
    for page in range(5):
        process.store64(area + page * SIZE, page)
    process.munmap(area + 2 * SIZE, SIZE)
    kernel.check()
    assert vmas(process) == [(0, 2), (3, 2)]
    assert [process.load64(area + page * SIZE) for page in (0, 1, 3, 4)] == [0, 1, 3, 4]


def test_rule_19_over_several_and_holes(kernel, process, area):
    for page in (0, 2, 4):
        fixed(process, area, page, pages=2)
    fixed(process, area, 8, pages=3)
    process.munmap(area + SIZE, 9 * SIZE)
    kernel.check()
    assert vmas(process) == [(0, 1), (10, 1)]


def test_rule_19_length_is_rounded_up(process, area):
    fixed(process, area, 0, pages=3)
    process.munmap(area, SIZE + 1)
    assert vmas(process) == [(0, 1)]


def test_rule_19_errors(kernel, process, area):
    task_size = kernel.system.tasks[process.pid].mm.layout.task_size
    process.munmap(area, SIZE)  # a hole
    refused(errno.EINVAL, process.munmap, area, 0)
    refused(errno.EINVAL, process.munmap, area + 1, SIZE)
    refused(errno.EINVAL, process.munmap, area, task_size)
    refused(errno.EINVAL, process.munmap, area, (1 << 64) - 1)
    refused(errno.EINVAL, process.munmap, task_size + SIZE, SIZE)
    refused(errno.EINVAL, process.munmap, 1 << 63, SIZE)
    process.munmap(task_size - SIZE, SIZE)


def test_unmapping_gives_pages_and_tables_back(kernel, process, area):
    space = process.context.space
    for _ in range(2):
        fixed(process, area, 0, pages=40)
        process.fill(area, 1, 40 * SIZE)
        assert (space.rss(FrameKind.ANON), space.tables) == (40, 5 + (area // SIZE % 32 > 24))
        process.munmap(area, 40 * SIZE)
        assert space.rss(FrameKind.ANON) == 0
        assert space.tables <= 2  # one that could serve the stack as well stays


def test_max_map_count(boot):
    process = boot(max_map_count=6).init.fork()
    area = process.mmap(20 * SIZE)
    for page in (1, 4, 7):
        process.munmap(area + page * SIZE, SIZE)
    assert len(process.maps().splitlines()) == 5
    process.munmap(area + 10 * SIZE, SIZE)
    assert len(process.maps().splitlines()) == 6
    refused(errno.ENOMEM, process.munmap, area + 13 * SIZE, SIZE)
    refused(errno.ENOMEM, process.mprotect, area + 13 * SIZE, SIZE, PROT_READ)
    process.munmap(area + 19 * SIZE, SIZE)  # at an end, it needs no split


# ---- placement


def test_rule_22_top_down_into_the_highest_hole_that_fits(process):
    a = process.mmap(8 * SIZE)
    assert process.mmap(SIZE) == a - SIZE
    process.munmap(a + 2 * SIZE, 2 * SIZE)
    process.munmap(a + 5 * SIZE, SIZE)
    assert process.mmap(2 * SIZE) == a + 2 * SIZE
    assert process.mmap(SIZE) == a + 5 * SIZE
    process.munmap(a + 2 * SIZE, 4 * SIZE)
    assert process.mmap(SIZE) == a + 5 * SIZE
    assert process.mmap(4 * SIZE) == a - 5 * SIZE


def test_rule_22_a_hint_at_a_free_place_is_used_rounded_down(process, area):
    assert process.mmap(SIZE, area + 10 * SIZE + 77) == area + 10 * SIZE
    taken = process.mmap(SIZE, area + 10 * SIZE)
    assert taken not in (area + 10 * SIZE, 0)
    assert process.mmap(3 * SIZE, area + 8 * SIZE) != area + 8 * SIZE  # does not fit below


def test_rule_22_a_hint_too_low_is_raised(kernel, process):
    lowest = kernel.system.tasks[process.pid].mm.layout.min_addr
    assert process.mmap(SIZE, SIZE) == max(lowest, SIZE)


def test_when_nothing_fits_below_it_goes_above(boot):
    kernel = boot(overcommit_memory=1)
    process = kernel.init.fork()
    layout = kernel.system.tasks[process.pid].mm.layout
    process.mmap(layout.mmap_base - layout.min_addr, flags=PRIVATE)
    above = process.mmap(SIZE)
    assert above == layout.mmap_base
    kernel.check()


# ---- errors


def test_rule_23_errors(kernel, process, area):
    refused(errno.EINVAL, process.mmap, 0)
    refused(errno.EINVAL, process.mmap, SIZE, flags=MAP_ANONYMOUS)
    refused(errno.EINVAL, process.mmap, SIZE, area + 1, flags=PRIVATE | MAP_FIXED)
    refused(errno.EBADF, process.mmap, SIZE, flags=MAP_PRIVATE)
    refused(errno.EPERM, process.mmap, SIZE, 0, flags=PRIVATE | MAP_FIXED)
    fixed(process, area, 1)
    refused(errno.EEXIST, process.mmap, 2 * SIZE, area, flags=PRIVATE | MAP_FIXED_NOREPLACE)
    assert process.mmap(SIZE, area, flags=PRIVATE | MAP_FIXED_NOREPLACE) == area
    task_size = kernel.system.tasks[process.pid].mm.layout.task_size
    refused(errno.ENOMEM, process.mmap, SIZE, task_size, flags=PRIVATE | MAP_FIXED)
    assert process.syscall(9, 0, SIZE, RW, PRIVATE, -1 & 0xFFFFFFFF, 1) == -errno.EINVAL
    assert process.errno == errno.ENOMEM


@pytest.mark.parametrize("length", [1 << 62, (1 << 64) - 1, 1 << 64, 1 << 70, (1 << 64) - SIZE])
def test_rule_23_too_large(process, length):
    refused(errno.ENOMEM, process.mmap, length)
    refused(errno.ENOMEM, process.mmap, length, flags=SHARED)


@pytest.mark.parametrize(
    ("flag", "code"),
    [(MAP_HUGETLB, errno.EINVAL), (MAP_32BIT, errno.ENOMEM), (MAP_DROPPABLE, errno.EINVAL)],
)
def test_what_is_not_modelled_is_refused(process, flag, code):
    refused(code, process.mmap, SIZE, flags=PRIVATE | flag)
    refused(errno.EINVAL, process.mmap, SIZE, flags=SHARED | MAP_GROWSDOWN)


def test_rule_40_the_obviously_excessive_is_refused(kernel, process):
    ram = kernel.machine.frame_count * SIZE
    refused(errno.ENOMEM, process.mmap, ram + SIZE)
    refused(errno.ENOMEM, process.mmap, ram + SIZE, flags=SHARED)
    process.munmap(process.mmap(ram), ram)
    process.munmap(process.mmap(ram + SIZE, flags=PRIVATE | MAP_NORESERVE), ram + SIZE)
    none = process.mmap(ram + SIZE, prot=PROT_NONE)
    refused(errno.ENOMEM, process.mprotect, none, ram + SIZE, RW)
    process.mprotect(none, SIZE, RW)


def test_rule_40_mode_1_refuses_nothing(boot):
    kernel = boot(overcommit_memory=1)
    process = kernel.init.fork()
    process.mmap(2 * kernel.machine.frame_count * SIZE)


def test_fixed_replaces(kernel, process, area):
    fixed(process, area, 0, pages=3)
    process.fill(area, 7, 3 * SIZE)
    fixed(process, area, 1)
    kernel.check()
    assert [process.load(area + page * SIZE, 1) for page in range(3)] == [7, 0, 7]


def test_a_refused_fixed_mapping_leaves_what_was_there(boot):
    kernel = boot(frames=64)
    process = kernel.init.fork()
    area = process.mmap(64 * SIZE, prot=PROT_READ)
    process.mmap(64 * SIZE, prot=PROT_READ)
    refused(errno.ENOMEM, process.mmap, 65 * SIZE, area - 64 * SIZE, flags=PRIVATE | MAP_FIXED)
    # Linux cuts at the ends of the range before it refuses, and the cuts stay
    vmas = [line.split()[0] for line in process.maps().splitlines()[:-1]]
    assert vmas == [
        f"{start:08x}-{end:08x}"
        for start, end in ((area - 64 * SIZE, area + SIZE), (area + SIZE, area + 64 * SIZE))
    ]


def test_counts_of_pages(process, area):
    raw = process.context.space.raw
    stack = raw.vm_pages
    fixed(process, area, 0, pages=5)
    fixed(process, area, 9, pages=2, flags=SHARED)
    assert (raw.vm_pages - stack, raw.heap_pages) == (7, 5)
    process.munmap(area + SIZE, SIZE)
    process.sbrk(3 * SIZE)
    assert (raw.vm_pages - stack, raw.heap_pages) == (9, 7)
    process.munmap(area, 64 * SIZE)
    process.sbrk(-3 * SIZE)
    assert (raw.vm_pages - stack, raw.heap_pages) == (0, 0)


def test_whole_huge_pages_are_aligned(process):
    """As Linux does where huge pages are built in, used or not; shared memory goes where there is room."""
    huge = SIZE << 5
    top = process.mmap(SIZE)
    first = process.mmap(huge)
    assert first % huge == 0
    assert top - first - huge < huge
    # the place below is aligned already, and yet one with room to spare is looked for
    assert process.mmap(2 * huge) == first - 2 * huge
    assert process.mmap(huge + SIZE) == first - 3 * huge - SIZE
    assert process.mmap(huge, flags=SHARED) % huge
