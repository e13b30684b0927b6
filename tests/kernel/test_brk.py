"""brk: rules 16 of the mission (the border of validity) and 32 to 36."""

import errno

import pytest

from heaplab.abi import MAP_ANONYMOUS, MAP_FIXED, MAP_PRIVATE, PROT_READ
from heaplab.errors import SegmentationFault

SIZE = 256
FIXED = MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED


@pytest.fixture
def start(process):
    return process.brk(0)


def heap(process, start):
    """The VMAs marked [heap], in pages relative to the start of the break."""
    lines = [line.split() for line in process.maps().splitlines() if line.endswith("[heap]")]
    ranges = [[int(part, 16) for part in line[0].split("-")] for line in lines]
    return [((low - start) // SIZE, (high - start) // SIZE) for low, high in ranges]


def test_the_break_is_the_border(process, start):
    assert process.brk(start + 2 * SIZE) == start + 2 * SIZE
    process.store64(start + 2 * SIZE - 8, 1)
    with pytest.raises(SegmentationFault):
        process.load64(start + 2 * SIZE)


def test_rule_32_a_brk_that_fails_returns_the_current_break(kernel, process, start):
    process.brk(start + SIZE)
    for wanted in (start - 1, 0, (1 << 64) - 1, 1 << 63, start + (kernel.machine.frame_count + 2) * SIZE):
        assert process.brk(wanted) == start + SIZE
    assert process.errno == 0


def test_rule_32_the_tail_of_the_last_page_is_writable(process, start):
    process.brk(start + 10)
    process.store(start + SIZE - 1, 7, 1)
    assert heap(process, start) == [(0, 1)]
    process.brk(start + 20)
    assert process.load(start + SIZE - 1, 1) == 7


def test_rule_33_shrinking_frees_and_growing_again_reads_zero(kernel, process, start):
    free = kernel.machine.free_frames
    process.sbrk(3 * SIZE)
    process.fill(start, 0xFF, 3 * SIZE)
    process.sbrk(-2 * SIZE - 10)
    assert heap(process, start) == [(0, 1)]
    kernel.check()
    process.sbrk(2 * SIZE + 10)
    assert process.read(start + SIZE, 2 * SIZE) == bytes(2 * SIZE)
    assert process.load(start + SIZE - 1, 1) == 0xFF
    process.brk(start)
    assert kernel.machine.free_frames == free


def test_rule_34_one_page_stays_free_below_the_next_mapping(process, start):
    process.mmap(SIZE, start + 4 * SIZE, flags=FIXED)
    assert process.brk(start + 3 * SIZE + 1) == start
    assert process.brk(start + 3 * SIZE) == start + 3 * SIZE


def test_rule_35_an_adjacent_mapping_becomes_heap(process, start):
    process.brk(start + SIZE)
    process.mmap(SIZE, start + SIZE, flags=FIXED)
    assert heap(process, start) == [(0, 2)]
    process.mmap(SIZE, start + 2 * SIZE, PROT_READ, FIXED)
    assert heap(process, start) == [(0, 2)]


def test_rule_36_without_randomisation_the_break_starts_at_the_end_of_bss(boot):
    starts = {boot(aslr=False, seed=seed).init.brk(0) for seed in range(3)}
    assert starts == {boot(aslr=False).system.init.mm.layout.start_brk}


def test_rule_18_in_a_child_new_heap_is_a_vma_of_its_own(process, start):
    process.sbrk(SIZE)
    process.store64(start, 1)
    child = process.fork()
    child.sbrk(SIZE)
    process.sbrk(SIZE)
    assert heap(child, start) == [(0, 1), (1, 2)]
    assert heap(process, start) == [(0, 2)]


def test_brk_over_a_hole_made_by_munmap(kernel, process, start):
    process.brk(start + 4 * SIZE)
    process.munmap(start + 2 * SIZE, 2 * SIZE)
    assert process.brk(start + 3 * SIZE) == start + 4 * SIZE  # nothing of the heap is there to give back
    assert process.brk(start + SIZE) == start + SIZE
    assert heap(process, start) == [(0, 1)]


def test_sbrk_is_libcs(process, start):
    assert process.sbrk(0) == start
    assert process.syscalls["brk"] == 1  # the fixture's
    assert process.sbrk(100) == start
    assert process.sbrk(-100) == start + 100
    with pytest.raises(OSError) as caught:
        process.sbrk(1 << 62)
    assert caught.value.errno == process.errno == errno.ENOMEM
    with pytest.raises(OSError) as caught:
        process.sbrk(-(1 << 40))
    assert caught.value.errno == errno.ENOMEM
    assert process.sbrk(0) == start


def test_the_core_sees_the_break(process, start):
    process.sbrk(12345 % SIZE)
    assert process.context.space.raw.brk == process.sbrk(0)
