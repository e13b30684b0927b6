"""The binary buddy: its layouts, its arithmetic, and what it notices."""

import errno
import random
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heaplab import allocators
from heaplab.allocators import Allocator, State
from heaplab.allocators.base import round_up
from heaplab.allocators.design import ROOT_MAGIC
from heaplab.allocators.designs.buddy import LEAST, MOST, ROOT_HEADS, ROOT_ORDERS, Buddy, largest, order_of
from heaplab.allocators.parts.seal import Seal
from heaplab.allocators.sources.brk import ROOT_END
from heaplab.errors import HeapCorruption, Rule
from heaplab.kernel import Kernel
from heaplab.process import Process
from heaplab.testing.steps import random_step
from heaplab.testing.twins import Twins

seal = Seal()

KIB = 1024
#: where the first payload is, from a root that is a multiple of 64 KiB
FIRST = 0x1A0
#: what a fresh heap of two pages is cut into: up to larger and larger alignments
FRESH = [(0x1A0, 32), (0x1C0, 64), (0x200, 512), (0x400, 1024), (0x800, 2048), (0x1000, 4096)]

NewHeap = Callable[..., Allocator]


@pytest.fixture
def process() -> Process:
    """A process whose break is a multiple of 64 KiB, so that offsets from the root show alignment."""
    shell = Kernel(ram="16 MiB", seed=1).init.fork()
    shell.sbrk(-shell.sbrk(0) % (64 * KIB))
    return shell


@pytest.fixture(params=allocators.LANGUAGES)
def new_heap(request: pytest.FixtureRequest, process: Process) -> NewHeap:
    def new(options: str = ":top_pad=4KiB") -> Allocator:
        return allocators.create(f"buddy{options}", process, request.param)

    return new


@pytest.fixture
def heap(new_heap: NewHeap) -> Allocator:
    return new_heap()


def free_blocks(heap: Allocator) -> list[tuple[int, int]]:
    return [(b.payload - heap.root, b.size) for b in heap.walk() if b.state == State.FREE]


def used_blocks(heap: Allocator) -> list[tuple[int, int]]:
    return [(b.payload - heap.root, b.size) for b in heap.walk() if b.state == State.ALLOCATED]


def buddies(heap: Allocator) -> list[int]:
    """Two halves of one block, 64 bytes each; the block at 0x1C0, which has no buddy, is taken before."""
    assert heap.malloc(56) == heap.root + 0x1C0
    pair = [heap.malloc(56), heap.malloc(56)]
    assert pair[0] ^ pair[1] == 64
    return pair


def end_of(heap: Allocator) -> int:
    """The end of the heap, from the root."""
    return heap.process.load64(heap.root + ROOT_END) - heap.root


def write_header(heap: Allocator, p: int, word: int) -> None:
    heap.process.store64(p - 8, word)


def broken(call: Callable[[], object]) -> tuple[int, Rule]:
    """The address and the rule of the HeapCorruption that `call` raises."""
    with pytest.raises(HeapCorruption) as caught:
        call()
    return caught.value.address, caught.value.rule


# ---- arithmetic ----


@given(st.integers(0, 2**40))
def test_order_of_is_the_smallest_power_with_room(size: int) -> None:
    k = order_of(size)
    assert (1 << k) - 8 >= size
    assert k == LEAST or (1 << (k - 1)) - 8 < size


@given(st.integers(1, 2**40), st.integers(1, 2**40))
def test_largest_is_aligned_and_fits(at: int, room: int) -> None:
    k = largest(at, room)
    assert at % (1 << k) == 0
    assert 1 << k <= room
    assert at % (2 << k) != 0 or 2 << k > room


def test_sizes_spread_evenly_over_octaves_cost_one_over_ln_2(heap: Allocator) -> None:
    """The expected over-allocation (x - 1) / ln x of a buddy system of ratio x = 2."""
    n = 300
    total = 0.0
    for i in range(n):
        room = round(2 ** (8 + 5 * (i + 0.5) / n))  # 256 bytes to 8 KiB, header included
        total += (heap.usable_size(heap.malloc(room - 8)) + 8) / room
    assert total / n == pytest.approx(1.4427, abs=0.01)


# ---- layouts ----


def test_a_fresh_heap(heap: Allocator) -> None:
    assert free_blocks(heap) == FRESH
    assert end_of(heap) == 0x2000
    assert used_blocks(heap) == []


def test_an_exact_fit_is_taken_whole(heap: Allocator) -> None:
    assert heap.malloc(24) == heap.root + 0x1A0
    assert heap.malloc(56) == heap.root + 0x1C0
    assert heap.malloc(504) == heap.root + 0x200
    assert free_blocks(heap) == FRESH[3:]


def test_splitting_leaves_the_upper_halves(heap: Allocator) -> None:
    assert heap.malloc(120) == heap.root + 0x200
    assert used_blocks(heap) == [(0x200, 128)]
    assert free_blocks(heap) == [*FRESH[:2], (0x280, 128), (0x300, 256), *FRESH[3:]]


def test_freeing_merges_all_the_way_up(heap: Allocator) -> None:
    p = heap.malloc(120)  # 512 bytes were split twice
    heap.free(p)
    assert free_blocks(heap) == FRESH


def test_only_buddies_merge(heap: Allocator) -> None:
    """0x280 and 0x300 are neighbours of one size, but not the halves of one block."""
    a, b, c, d = (heap.malloc(120) for _ in range(4))
    assert [p - heap.root for p in (a, b, c, d)] == [0x200, 0x280, 0x300, 0x380]
    heap.free(b)
    heap.free(c)
    assert (0x280, 128) in free_blocks(heap)
    assert (0x300, 128) in free_blocks(heap)
    heap.free(a)
    assert (0x200, 256) in free_blocks(heap)
    heap.free(d)
    assert free_blocks(heap) == FRESH


def test_the_block_freed_last_is_taken_first(heap: Allocator) -> None:
    a, _, c, _ = (heap.malloc(120) for _ in range(4))
    heap.free(a)
    heap.free(c)
    assert [heap.malloc(120), heap.malloc(120)] == [c, a]


def test_the_bytes_of_a_small_heap(new_heap: NewHeap, process: Process) -> None:
    """Every word of the root and of a block, on the heap of one allocated block."""
    heap = new_heap()
    root, p = heap.root, heap.malloc(24)
    load = process.load64
    assert load(root + ROOT_MAGIC).to_bytes(8, "little") == b"hl-buddy"
    assert load(root + ROOT_END) == root + 0x2000
    assert [load(root + at) for at in (16, 24, 32)] == [0, 0, 128 * KIB]  # no large block, and from where on
    assert load(root + ROOT_ORDERS) == 1 << 6 | 1 << 9 | 1 << 10 | 1 << 11 | 1 << 12
    heads = [load(root + ROOT_HEADS + 8 * (k - LEAST)) for k in range(LEAST, MOST + 1)]
    assert heads[:8] == [0, root + 0x1C0, 0, 0, *(root + (0x200 << i) for i in range(4))]
    assert not any(heads[8:])
    assert p == root + 0x1A0
    assert load(p - 8) == seal(p, 64 | 5)
    free = root + 0x1C0
    assert [load(free - 8), load(free), load(free + 8)] == [seal(free, 6), 0, root + ROOT_HEADS + 8]
    assert load(root + 0x2000 - 8) == seal(root + 0x2000, 64)


@pytest.mark.parametrize("language", allocators.LANGUAGES)
def test_a_heap_as_small_as_can_be_has_no_block(language: str) -> None:
    """With pages of 64 bytes the root can end where the heap does: then the fence stands in the root.

    The root has 400 bytes, so it ends with a page if it begins 16 bytes before one.
    """
    process = Kernel(ram="64 KiB", page_size=64, seed=1).init.fork()
    process.sbrk(-process.sbrk(0) % 128 + 48)
    heap = allocators.create("buddy:top_pad=0:trim_threshold=0", process, language)
    for _ in range(2):
        assert free_blocks(heap) == []
        assert end_of(heap) == Buddy.ROOT_SIZE
        heap.check()
        p = heap.malloc(24)
        assert p == heap.root + Buddy.ROOT_SIZE
        heap.check()
        heap.free(p)


# ---- growth and trimming ----


def test_growth_merges_with_what_is_free_at_the_end(new_heap: NewHeap) -> None:
    """The heap ends at 0x3000, no power of two: [0x2000, 0x3000) becomes part of what grows there."""
    heap = new_heap(":top_pad=8KiB")
    assert free_blocks(heap)[-2:] == [(0x1000, 4096), (0x2000, 4096)]
    p = heap.malloc(8000)
    assert p == heap.root + 0x2000
    # 4 KiB were missing and top_pad asked for 8 KiB more
    assert end_of(heap) == 0x6000
    assert free_blocks(heap)[-2:] == [(0x1000, 4096), (0x4000, 8192)]
    heap.free(p)
    assert free_blocks(heap)[-2:] == [(0x2000, 8192), (0x4000, 8192)]
    heap.check()


def test_growth_skips_to_the_next_multiple(new_heap: NewHeap) -> None:
    heap = new_heap()
    q = heap.malloc(4000)
    assert q == heap.root + 0x1000
    p = heap.malloc(30000)
    assert p == heap.root + 0x8000
    assert free_blocks(heap)[-3:] == [(0x2000, 8192), (0x4000, 16384), (0x10000, 4096)]
    heap.free(q)
    heap.free(p)
    assert (
        free_blocks(heap)[-3:]
        == [(0x1000, 4096), *[(0x2000 << i, 0x2000 << i) for i in range(3)], (0x10000, 4096)][-3:]
    )
    heap.check()


def test_trimming_keeps_top_pad(new_heap: NewHeap) -> None:
    heap = new_heap(":top_pad=4KiB:trim_threshold=28KiB")
    p, q = heap.malloc(8000), heap.malloc(16000)
    assert [p - heap.root, q - heap.root, end_of(heap)] == [0x2000, 0x4000, 0x9000]
    heap.free(q)
    assert end_of(heap) == 0x9000  # to 0x5000 that would give 16 KiB: too few
    heap.free(p)  # to 0x2000 it gives 28 KiB
    assert end_of(heap) == 0x2000
    assert free_blocks(heap) == FRESH
    assert heap.process.sbrk(0) == heap.root + 0x2000
    heap.check()


def test_no_trimming_below_the_threshold_or_under_a_live_block(new_heap: NewHeap) -> None:
    heap = new_heap(":top_pad=0:trim_threshold=4KiB")
    a, b = heap.malloc(8000), heap.malloc(8000)
    heap.free(a)
    assert end_of(heap) == 0x6000
    heap.free(b)
    assert end_of(heap) == 0x1000


def test_no_free_end_from_pad_and_threshold_on_is_kept(new_heap: NewHeap) -> None:
    heap, rng = new_heap(":top_pad=4KiB:trim_threshold=8KiB"), random.Random(3)
    live: list[int] = []
    trimmed = 0
    for _ in range(600):
        if rng.random() < 0.45 or not live:
            live.append(heap.malloc(rng.choice([24, 500, 5000, 20000])))
            continue
        p = live.pop(rng.randrange(len(live)))
        before = end_of(heap)
        heap.free(p)
        trimmed += end_of(heap) < before
        last = max([FIRST, *(offset + size for offset, size in used_blocks(heap))])
        assert end_of(heap) - round_up(last + 4 * KIB, 4 * KIB) < 8 * KIB
    assert trimmed > 5


def test_a_shrunk_block_at_the_end_is_trimmed_too(new_heap: NewHeap) -> None:
    heap = new_heap(":top_pad=0:trim_threshold=4KiB")
    p = heap.malloc(16000)
    assert heap.realloc(p, 100) == p
    assert end_of(heap) == p + 0x1000 - heap.root
    heap.check()


def test_when_the_break_was_moved_the_heap_stays_as_it_is(new_heap: NewHeap) -> None:
    heap = new_heap(":top_pad=4KiB:trim_threshold=8KiB")
    p = heap.malloc(8000)
    before = list(heap.walk())
    heap.process.sbrk(4096)
    assert heap.malloc(64 * KIB) == 0
    assert heap.process.errno == errno.ENOMEM
    assert list(heap.walk()) == before
    heap.free(p)  # would trim
    heap.check()
    assert end_of(heap) == before[-1].end - heap.root


def test_a_request_beyond_all_addresses_is_refused(new_heap: NewHeap) -> None:
    """mmap_threshold can be so high that it reaches the design itself."""
    heap = new_heap(f":mmap_threshold={2**46}")
    p = heap.malloc(24)
    for size in (2**46 - 7, 2**46 - 1):
        before = heap.process.context.mems
        assert heap.malloc(size) == 0
        assert heap.process.context.mems - before <= 1  # at once: not even the end is looked at
        assert heap.process.errno == errno.ENOMEM
        assert heap.realloc(p, size) == 0
    heap.check()


# ---- aligned_alloc and realloc ----


@pytest.mark.parametrize("alignment", [32, 64, 512, 4096, 32768])
def test_aligned_blocks_are_no_larger_than_others(heap: Allocator, alignment: int) -> None:
    heap.malloc(1)
    for _ in range(3):
        p = heap.aligned_alloc(alignment, 100)
        assert p % alignment == 0
        assert heap.usable_size(p) == 120
    heap.check()


def test_an_aligned_block_gives_back_what_it_was_cut_from(heap: Allocator) -> None:
    p = heap.aligned_alloc(1024, 500)
    assert p == heap.root + 0x400
    assert (0x600, 512) in free_blocks(heap)
    heap.free(p)
    assert free_blocks(heap) == FRESH


def test_shrinking_splits_off_upper_halves(heap: Allocator) -> None:
    p = heap.malloc(1000)
    assert heap.realloc(p, 100) == p
    assert used_blocks(heap) == [(0x400, 128)]
    assert free_blocks(heap) == [*FRESH[:3], (0x480, 128), (0x500, 256), (0x600, 512), *FRESH[4:]]


def test_growing_absorbs_right_buddies(heap: Allocator) -> None:
    p = heap.malloc(200)
    assert p == heap.root + 0x200
    assert heap.realloc(p, 500) == p
    assert used_blocks(heap) == [(0x200, 512)]
    assert heap.realloc(p, 600) != p  # 0x200 is no multiple of 1024
    heap.check()


def test_growing_past_a_live_buddy_moves_and_changes_nothing_else(heap: Allocator) -> None:
    p, q = buddies(heap)
    assert q == p + 64
    heap.process.store64(p, 0xABCD)
    to = heap.realloc(p, 100)
    assert to not in (p, 0)
    assert heap.process.load64(to) == 0xABCD
    assert (p - heap.root, 64) in free_blocks(heap)
    heap.check()


# ---- what is noticed ----


def test_a_double_free(heap: Allocator) -> None:
    p = heap.malloc(24)
    heap.free(p)
    assert broken(lambda: heap.free(p)) == (p, Rule.DOUBLE_FREE)


@pytest.mark.parametrize("first", [0, 1])
def test_a_double_free_of_either_merged_half(heap: Allocator, first: int) -> None:
    """Merged with the buddy to the right or to the left: the old header lies inside a free block."""
    pair = buddies(heap)
    heap.free(pair[first])
    heap.free(pair[1 - first])
    for p in pair:
        assert broken(lambda p=p: heap.free(p)) == (p, Rule.DOUBLE_FREE)


def test_a_double_free_after_the_block_was_absorbed(heap: Allocator) -> None:
    p, q = buddies(heap)
    heap.free(q)
    assert heap.realloc(p, 100) == p
    assert broken(lambda: heap.free(q)) == (q, Rule.DOUBLE_FREE)


@pytest.mark.parametrize("offset", [1, 8, 16, 32, 96])
def test_a_pointer_into_a_block_is_foreign(heap: Allocator, offset: int) -> None:
    p = heap.malloc(200)
    for call in (heap.free, heap.usable_size, lambda q: heap.realloc(q, 10)):
        assert broken(lambda call=call: call(p + offset)) == (p + offset, Rule.FOREIGN_POINTER)
    heap.check()


def test_pointers_outside_the_heap_are_foreign(heap: Allocator) -> None:
    heap.malloc(200)
    for p in (heap.root, heap.root + 0x170, heap.root + end_of(heap), 16, 2**47):
        assert broken(lambda p=p: heap.free(p)) == (p, Rule.FOREIGN_POINTER)


@pytest.mark.parametrize("bit", range(64))
def test_any_flipped_bit_of_a_header_is_noticed(heap: Allocator, bit: int) -> None:
    p = heap.malloc(200)
    header = heap.process.load64(p - 8)
    write_header(heap, p, header ^ 1 << bit)
    assert broken(lambda: heap.free(p)) == (p, Rule.BROKEN_HEADER)
    assert broken(heap.check) == (p, Rule.BROKEN_HEADER)
    assert broken(lambda: list(heap.walk())) == (p, Rule.BROKEN_HEADER)


def test_a_header_copied_elsewhere_is_not_one(heap: Allocator) -> None:
    p, q = heap.malloc(24), heap.malloc(200)
    write_header(heap, q + 32, heap.process.load64(p - 8))
    assert broken(lambda: heap.free(q + 32)) == (q + 32, Rule.FOREIGN_POINTER)


def test_an_overflow_into_the_buddy_is_noticed_when_it_would_merge(heap: Allocator) -> None:
    p, q = buddies(heap)
    heap.process.fill(p, 0x41, 66)
    assert broken(lambda: heap.free(p)) == (q, Rule.BROKEN_HEADER)


def test_an_overflow_past_the_end_breaks_the_fence(new_heap: NewHeap) -> None:
    heap = new_heap(":top_pad=0")
    p = [heap.malloc(4000), heap.malloc(4000)][1]
    end = heap.root + end_of(heap)
    assert p ^ 4096 == end  # so it is the buddy that the fence stands in for
    heap.process.fill(p, 0x41, end - p)
    assert broken(heap.check) == (end, Rule.BROKEN_HEADER)
    assert broken(lambda: heap.free(p)) == (end, Rule.BROKEN_HEADER)


def test_check_finds_a_list_that_does_not_point_back(heap: Allocator) -> None:
    p = heap.root + 0x200
    heap.process.store64(p + 8, heap.root + ROOT_HEADS)  # prev: another list's head
    assert broken(heap.check) == (p, Rule.BROKEN_LINK)
    heap.process.store64(p + 8, 0x123450)  # prev: nowhere
    assert broken(heap.check) == (p, Rule.BROKEN_LINK)


def test_check_finds_a_block_whose_prev_is_not_the_one_before_it(heap: Allocator) -> None:
    a, _, c, _ = (heap.malloc(120) for _ in range(4))
    heap.free(a)
    heap.free(c)  # the list is c, a
    heap.process.store64(a + 8, heap.process.load64(c + 8))
    assert broken(heap.check) == (a, Rule.BROKEN_LINK)


@pytest.mark.parametrize("wild", [0x10, "p", "root", "used"])
def test_check_finds_a_wild_link(heap: Allocator, wild: int | str) -> None:
    used, p = heap.malloc(500), heap.root + 0x400
    link = {"p": p, "root": heap.root, "used": used}.get(wild, wild) if isinstance(wild, str) else wild
    heap.process.store64(p, link)
    assert broken(heap.check)[1] in (Rule.BROKEN_INDEX, Rule.BROKEN_LINK)


def test_check_finds_a_wrong_bit_of_orders(heap: Allocator) -> None:
    orders = heap.root + ROOT_ORDERS
    heap.process.store64(orders, heap.process.load64(orders) ^ 1 << 20)
    assert broken(heap.check) == (heap.root, Rule.BROKEN_INDEX)
    heap.process.store64(orders, heap.process.load64(orders) ^ 1 << 20 ^ 1 << 9)
    assert broken(heap.check) == (heap.root, Rule.BROKEN_INDEX)


def test_check_finds_free_blocks_that_no_list_leads_to(heap: Allocator) -> None:
    """Two free blocks that point at each other, and at nobody else."""
    a, _, c, _ = (heap.malloc(120) for _ in range(4))
    heap.free(a)
    heap.free(c)
    store = heap.process.store64
    store(heap.root + ROOT_HEADS + 8 * (7 - LEAST), 0)
    orders = heap.root + ROOT_ORDERS
    store(orders, heap.process.load64(orders) & ~(1 << 7))
    store(a, c), store(c + 8, a), store(c, a), store(a + 8, c)
    assert broken(heap.check) == (heap.root, Rule.BROKEN_INDEX)


def test_check_finds_buddies_that_were_not_merged(heap: Allocator) -> None:
    a, b = buddies(heap)
    heap.free(b)
    write_header(heap, a, seal(a, 6))
    assert broken(heap.check) == (a, Rule.UNCOALESCED)


def test_check_finds_a_block_where_none_of_its_order_can_be(heap: Allocator) -> None:
    p = [heap.malloc(24), heap.malloc(24)][1]
    for k in (3, 7, 60):
        write_header(heap, p, seal(p, 64 | k))
        assert broken(heap.check) == (p, Rule.BROKEN_HEADER)


def test_check_finds_an_end_that_cannot_be(heap: Allocator) -> None:
    for end in (heap.root, heap.root + 0x1FF0):
        heap.process.store64(heap.root + ROOT_END, end)
        assert broken(heap.check) == (heap.root, Rule.BROKEN_ROOT)


# ---- cost ----


def test_the_vital_statistics_hold(heap: Allocator) -> None:
    context = heap.process.context

    def mems(call: Callable[[], object]) -> int:
        before = context.mems
        call()
        return context.mems - before

    blocks = [heap.malloc(120) for _ in range(4)]
    # of the order wanted, the last of its list: bits, head, header, next; head, bits, header
    assert mems(lambda: heap.malloc(1000)) == 4 + 3
    assert mems(lambda: heap.malloc(400)) == 7 + 2 * 4  # split twice
    assert mems(lambda: heap.free(blocks[0])) == 10  # first in its list
    assert mems(lambda: heap.free(blocks[2])) == 9
    assert mems(lambda: heap.malloc(120)) == 7 + 1  # not the last of its list: the next one has to point back
    # a merge with the left, whose list empties: its tag and links, the word that points to it, and the bits
    assert mems(lambda: heap.free(blocks[1])) == 10 + (1 + 2 + 2 + 2) + 1


# ---- twins ----


@pytest.mark.parametrize(
    "options",
    [
        "",
        ":top_pad=0:trim_threshold=4KiB",
        ":mmap_threshold=2KiB:top_pad=4KiB",
        ":trim_threshold=16KiB:top_pad=0",
    ],
)
def test_twins_leave_the_same_bytes_and_count_the_same_mems(options: str) -> None:
    twins, chance = Twins(f"buddy{options}"), random.Random(options)
    for _ in range(400):
        twins.do(random_step(twins, chance))
    twins.verify_bytes()


def test_attaching_to_another_design_is_refused(process: Process) -> None:
    heap = allocators.create("buddy", process)
    process.store64(heap.root + ROOT_MAGIC, 0)
    assert broken(lambda: heap.attach(process)) == (heap.root, Rule.BROKEN_ROOT)
    assert isinstance(heap, Buddy)
