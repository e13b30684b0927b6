"""mprotect: rules 14, 17, 20."""

import errno

import pytest

from heaplab.abi import (
    MAP_ANONYMOUS,
    MAP_PRIVATE,
    MAP_SHARED,
    PROT_EXEC,
    PROT_NONE,
    PROT_READ,
    PROT_SEM,
    PROT_WRITE,
)
from heaplab.errors import SegmentationFault

RW = PROT_READ | PROT_WRITE
SIZE = 256


def rights(process):
    """The rights of each VMA but stack and heap, and its pages."""
    lines = [line.split() for line in process.maps().splitlines() if "[" not in line]
    ranges = [[int(part, 16) for part in line[0].split("-")] for line in lines]
    return [(line[1][:3], (end - start) // SIZE) for line, (start, end) in zip(lines, ranges, strict=True)]


def test_rule_14_an_exclusive_page_may_be_written_again_at_once(process, faults):
    page = process.mmap(SIZE)
    process.store64(page, 1)
    faults(process, process.mprotect, page, SIZE, PROT_READ)
    faults(process, process.mprotect, page, SIZE, RW)
    assert faults(process, process.store64, page, 2) == 0


def test_rule_14_one_that_was_shared_may_not(process, faults):
    page = process.mmap(SIZE)
    process.store64(page, 1)
    process.fork().exit(0)
    process.wait()
    process.mprotect(page, SIZE, PROT_READ)
    process.mprotect(page, SIZE, RW)
    assert faults(process, process.store64, page, 2) == 1  # reuses the frame, and is exclusive from here on
    process.mprotect(page, SIZE, PROT_NONE)
    process.mprotect(page, SIZE, RW)
    assert faults(process, process.store64, page, 3) == 0


def test_a_page_shared_with_a_child_is_copied_whatever_mprotect_did(kernel, process, faults):
    page = process.mmap(SIZE)
    process.store64(page, 1)
    child = process.fork()
    for member in (process, child):
        member.mprotect(page, SIZE, PROT_READ)
        member.mprotect(page, SIZE, RW)
    child.store64(page, 2)
    kernel.check()
    assert process.load64(page) == 1


def test_the_zero_frame_is_not_written_whatever_mprotect_did(kernel, process, faults):
    page = process.mmap(SIZE)
    process.load64(page)
    process.mprotect(page, SIZE, PROT_READ)
    process.mprotect(page, SIZE, RW)
    assert faults(process, process.store64, page, 2) == 1


def test_shared_memory_may_be_written_again_at_once(process, faults):
    page = process.mmap(SIZE, flags=MAP_SHARED | MAP_ANONYMOUS)
    process.store64(page, 1)
    process.mprotect(page, SIZE, PROT_READ)
    process.mprotect(page, SIZE, RW)
    assert faults(process, process.store64, page, 2) == 0


def test_rights_taken_are_gone_at_once(kernel, process):
    page = process.mmap(2 * SIZE)
    process.store64(page, 1)
    process.store64(page + SIZE, 1)
    process.mprotect(page, SIZE, PROT_READ)
    assert process.load64(page) == 1
    process.store64(page + SIZE, 2)
    with pytest.raises(SegmentationFault):
        process.store64(page, 2)


def test_data_outlives_prot_none(kernel, process, faults):
    page = process.mmap(SIZE)
    process.store64(page, 99)
    faults(process, process.mprotect, page, SIZE, PROT_NONE)
    faults(process, process.mprotect, page, SIZE, PROT_READ)
    assert faults(process, process.load64, page) == 0
    assert process.load64(page) == 99


@pytest.mark.parametrize("written", [False, True])
def test_rule_17_only_an_unwritten_vma_drops_its_accounting(process, written):
    read_only = process.mmap(SIZE, prot=PROT_READ)
    writable = process.mmap(SIZE, prot=RW)
    assert writable == read_only - SIZE
    if written:
        process.store64(writable, 1)
    process.mprotect(writable, SIZE, PROT_READ)
    assert rights(process) == ([("r--", 1), ("r--", 1)] if written else [("r--", 2)])


def test_rule_17_mprotect_to_writable_accounts(process):
    upper = process.mmap(SIZE, prot=RW)
    process.mmap(SIZE, prot=PROT_READ)
    process.mprotect(upper - SIZE, SIZE, RW)
    assert rights(process) == [("rw-", 2)]


def test_rule_20_up_to_a_hole_and_then_enomem(kernel, process):
    area = process.mmap(6 * SIZE)
    process.munmap(area + 3 * SIZE, SIZE)
    with pytest.raises(OSError) as caught:
        process.mprotect(area + SIZE, 5 * SIZE, PROT_READ)
    assert caught.value.errno == errno.ENOMEM
    kernel.check()
    assert rights(process) == [("rw-", 1), ("r--", 2), ("rw-", 2)]


@pytest.mark.parametrize(
    ("offset", "length", "prot", "code"),
    [
        (1, SIZE, PROT_READ, errno.EINVAL),
        (0, SIZE, 0x10, errno.EINVAL),
        (0, SIZE, 0x01000000, errno.EINVAL),  # PROT_GROWSDOWN
        (-SIZE, SIZE, PROT_READ, errno.ENOMEM),
        (-SIZE, 2 * SIZE, PROT_READ, errno.ENOMEM),
        (0, 3 * SIZE, RW, errno.ENOMEM),
        (0, (1 << 64) - 1, PROT_READ, errno.ENOMEM),
    ],
)
def test_errors(process, offset, length, prot, code):
    area = process.mmap(2 * SIZE)
    with pytest.raises(OSError) as caught:
        process.mprotect(area + offset, length, prot)
    assert caught.value.errno == code
    assert rights(process)[0] == ("rw-", 2)


def test_no_length_is_no_error(process):
    process.mprotect(process.mmap(SIZE), 0, PROT_READ)
    assert rights(process) == [("rw-", 1)]


def test_splits_and_merges(kernel, process):
    area = process.mmap(6 * SIZE)
    process.fill(area, 1, 6 * SIZE)
    process.mprotect(area + 2 * SIZE, 2 * SIZE, PROT_READ)
    assert rights(process) == [("rw-", 2), ("r--", 2), ("rw-", 2)]
    process.mprotect(area + SIZE, 2 * SIZE, PROT_READ)  # grows to the left
    assert rights(process) == [("rw-", 1), ("r--", 3), ("rw-", 2)]
    process.mprotect(area + 3 * SIZE, 2 * SIZE, PROT_READ)  # and to the right
    assert rights(process) == [("rw-", 1), ("r--", 4), ("rw-", 1)]
    process.mprotect(area + 4 * SIZE, SIZE, RW)  # is taken in by the right neighbour
    assert rights(process) == [("rw-", 1), ("r--", 3), ("rw-", 2)]
    process.mprotect(area + SIZE, SIZE, RW)  # by the left one
    assert rights(process) == [("rw-", 2), ("r--", 2), ("rw-", 2)]
    kernel.check()
    process.mprotect(area, 6 * SIZE, RW)  # by both
    assert rights(process) == [("rw-", 6)]
    kernel.check()


def test_across_vmas_of_different_kinds(kernel, process):
    low = process.mmap(2 * SIZE, prot=PROT_EXEC | PROT_READ)
    shared = process.mmap(2 * SIZE, low - 2 * SIZE, flags=MAP_SHARED | MAP_ANONYMOUS)
    process.mprotect(shared + SIZE, 2 * SIZE, PROT_NONE)
    assert rights(process) == [("rw-", 1), ("---", 1), ("---", 1), ("r-x", 1)]
    kernel.check()


def test_a_boundary_moves_even_when_no_more_vmas_are_allowed(boot):
    process = boot(max_map_count=3).init.fork()
    area = process.mmap(4 * SIZE, flags=MAP_PRIVATE | MAP_ANONYMOUS)
    process.mprotect(area, SIZE, PROT_READ)
    process.mprotect(area + SIZE, SIZE, PROT_READ)
    assert rights(process) == [("r--", 2), ("rw-", 2)]


def test_prot_sem_says_nothing(process):
    """Accepted and without effect, as measured on Linux 6.18."""
    area = process.mmap(2 * SIZE)
    process.mprotect(area, SIZE, RW | PROT_SEM)
    assert process.maps().count("rw-p") == 2  # with the stack: nothing was split
