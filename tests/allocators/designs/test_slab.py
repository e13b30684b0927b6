"""Slabs: what stands where, what it costs, what is noticed, what goes back, what a child copies."""

import errno
from itertools import pairwise
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heaplab import allocators
from heaplab.abi import Rlimit
from heaplab.allocators import State
from heaplab.allocators.designs.slab import (
    BITS,
    DESCRIPTOR,
    FULL,
    HOME,
    MOST_PAGES,
    ROOT_FRESH,
    ROOT_HEADS,
    ROOT_MAP,
    WORD,
    blocks_in,
    class_of,
    hint_of,
    pages_for,
    pages_of,
    size_of,
    word_of,
)
from heaplab.errors import HeapCorruption, Rule
from heaplab.kernel import Kernel
from heaplab.machine import FrameKind
from heaplab.testing.checked_heap import CheckedHeap
from heaplab.testing.steps import Free, Malloc, Realloc, random_step
from heaplab.testing.twins import Twins

PAGE = 4096
KIB = 1024
N_CLASSES = class_of(MOST_PAGES * PAGE) + 1


@pytest.fixture
def heap(create):
    return create("slab")


def cost(heap, call, *arguments):
    """The mems of a call."""
    before = heap.process.context.mems
    call(*arguments)
    return heap.process.context.mems - before


def broken(call, *arguments):
    """The address and the rule of the HeapCorruption that `call` raises."""
    with pytest.raises(HeapCorruption) as caught:
        call(*arguments)
    return caught.value.address, caught.value.rule


def mapped(process):
    """The ranges that brk and mmap gave."""
    for line in process.maps().splitlines():
        if "[stack]" in line or "r-x" in line or "/" in line:
            continue
        start, end = (int(word, 16) for word in line.split()[0].split("-"))
        yield start, end


def chunks(heap):
    """The memory that is no metadata by brk."""
    return [(start, end) for start, end in mapped(heap.process) if start > heap.process.sbrk(0)]


# ---- classes ----


@given(st.integers(0, MOST_PAGES * PAGE))
def test_a_class_is_the_smallest_with_room(size):
    size_class = class_of(size)
    assert size_of(size_class) >= size
    assert size_class == 0 or size_of(size_class - 1) < size


def test_sizes_spread_evenly_over_octaves_waste_less_than_five_in_a_hundred():
    sizes = [2 ** (7 + 10 * i / 5000) for i in range(5000)]
    waste = sum(size_of(class_of(int(size))) / int(size) for size in sizes) / len(sizes) - 1
    assert waste == pytest.approx(0.046, abs=0.002)
    assert max(size_of(class_of(size)) / size for size in range(129, 70_000)) < 1.125


@pytest.mark.parametrize("page", [64, 256, 4096])
def test_a_slab_wastes_at_most_a_16th(page):
    for size_class in range(class_of(MOST_PAGES * page) + 1):
        size = size_of(size_class)
        pages = pages_for(size, page)
        assert 0 < pages <= MOST_PAGES
        waste = pages * page - blocks_in(size, pages, page) * size
        assert waste * 16 <= pages * page or page == 64


# ---- layout ----


def test_the_words_of_a_small_heap(heap):
    """Two blocks of 112 bytes and one of 16: two slabs, and the chunk that has both."""
    a, b, c = heap.malloc(100), heap.malloc(112), heap.malloc(0)
    load, root = heap.process.load64, heap.root
    assert b == a + 112
    assert (a % PAGE, c) == (0, a + PAGE)
    area = -(-(root + ROOT_HEADS + 8 * (1 + N_CLASSES)) // DESCRIPTOR) * DESCRIPTOR
    assert load(root + ROOT_MAP) == area | 6
    assert load(root + ROOT_MAP + 8) == 2
    first, chunk, second = (area + 512 + DESCRIPTOR * n for n in range(3))
    assert load(root + ROOT_FRESH) == second + DESCRIPTOR
    assert load(root + ROOT_HEADS) == chunk
    assert load(root + ROOT_HEADS + 8 + 8 * 6) == first
    assert load(root + ROOT_HEADS + 8) == second
    assert [load(first + 8 * n) for n in range(5)] == [
        word_of(a, 0, 1, 6),
        0,
        root + ROOT_HEADS + 8 + 8 * 6,
        chunk,
        (1 << 36) - 4,  # 36 blocks, the first two in use
    ]
    assert load(second + WORD) == word_of(c, 0, 1, 0)
    assert load(chunk + WORD) == a << 17 | 255
    assert load(chunk + HOME) == 64 << 32 | 2
    assert load(chunk + BITS) == (1 << 64) - 4
    slots = [load(area + 8 * n) for n in range(64)]
    assert sorted(filter(None, slots)) == sorted(
        page << 17 | (at - area) // DESCRIPTOR for page, at in ((a, first), (c, second))
    )


def test_the_lowest_free_block_is_taken(heap):
    blocks = [heap.malloc(16) for _ in range(256)]
    assert blocks == list(range(blocks[0], blocks[0] + PAGE, 16))
    for which in (200, 3, 70):
        heap.free(blocks[which])
    assert [heap.malloc(16) for _ in range(3)] == [blocks[which] for which in (3, 70, 200)]
    heap.check()


def test_the_index_has_the_free_blocks_of_slabs_in_use(heap):
    blocks = [heap.malloc(100) for _ in range(40)]
    heap.free(blocks[5])
    entries = list(heap.index())
    free = {span.start for span in heap.blocks() if span.state == State.FREE and span.size == 112}
    assert {entry.start for entry in entries} == free
    assert (blocks[5], 112, "class 6, slab 0", 0, "class 6") in entries


def test_blocks_are_aligned_without_padding(heap):
    for bits in range(4, 13):
        for size in (1, 100, 1000, 5000):
            p = heap.aligned_alloc(1 << bits, size)
            assert p % (1 << bits) == 0
            assert size <= heap.usable_size(p) <= max(2 * size, 1 << bits)
    assert heap.aligned_alloc(2 * PAGE, 10) % (2 * PAGE) == 0
    heap.check()


def test_realloc_stays_while_the_class_stays(heap):
    p = heap.malloc(1000)
    heap.process.fill(p, 7, 1000)
    assert heap.realloc(p, 1024) == p
    assert heap.realloc(p, 961) == p
    q = heap.realloc(p, 900)
    assert q != p
    assert heap.process.read(q, 900) == b"\7" * 900


# ---- vital statistics ----


def test_costs(heap):
    assert cost(heap, heap.malloc, 100) == 43  # the first slab of the first chunk
    assert {cost(heap, heap.malloc, 100) for _ in range(34)} == {4}
    assert cost(heap, heap.malloc, 100) == 4 + 5  # fills the slab
    assert cost(heap, heap.malloc, 100) == 4 + 25
    blocks = [span.payload for span in heap.walk() if span.state == State.ALLOCATED]
    assert cost(heap, heap.free, blocks[0]) == 5 + 6  # the slab was full
    assert {cost(heap, heap.free, p) for p in blocks[1:35]} == {5}
    assert cost(heap, heap.free, blocks[35]) == 5 + 25  # its page goes back: the other slab has free blocks


def test_a_pair_at_the_border_of_a_slab_makes_no_slab_each_time(heap):
    blocks = [heap.malloc(100) for _ in range(36)]
    p = heap.malloc(100)
    heap.free(p)
    costs = [(cost(heap, heap.malloc, 100), cost(heap, heap.free, p)) for _ in range(5)]
    assert all(both <= (10, 12) for both in costs), costs
    assert len(blocks) == 36


# ---- what is noticed ----


def test_no_pointer_but_a_block_s_is_taken_for_one(heap):
    """Every address of two pages, at one slab with blocks in use and free ones, and all bits above."""
    blocks = {heap.malloc(100) for _ in range(20)}
    start = min(blocks)
    freed = {start + 112 * n for n in range(0, 20, 3)}
    for p in freed:
        heap.free(p)
    for p in range(start - 16, start + PAGE + 16):
        if p in blocks - freed:
            assert heap.usable_size(p) == 112
            continue
        rule = (
            Rule.DOUBLE_FREE if (p - start) % 112 == 0 and 0 <= p - start < 36 * 112 else Rule.FOREIGN_POINTER
        )
        assert broken(heap.free, p) == (p, rule)
    for bit in range(47, 64):
        p = start + 112 | 1 << bit
        assert broken(heap.free, p) == (p, Rule.FOREIGN_POINTER)
    heap.check()


def test_a_block_whose_slab_went_back_is_foreign(heap):
    filled = [heap.malloc(100) for _ in range(36)]
    p = heap.malloc(100)
    heap.free(filled[0])
    heap.free(p)
    assert broken(heap.free, p) == (p, Rule.FOREIGN_POINTER)


def test_nothing_that_is_written_to_blocks_changes_what_the_heap_does(process):
    """Two heaps get the same requests; over all memory of the other's blocks, free or not, goes noise."""
    heaps = [allocators.create("slab", Kernel(ram="16 MiB", seed=1).init.fork(), "c") for _ in range(2)]
    answers = []
    for noisy, heap in enumerate(heaps):
        chance, noise, live, log = Random(3), Random(4), [], []
        for _ in range(600):
            if live and chance.random() < 0.45:
                heap.free(live.pop(chance.randrange(len(live))))
            else:
                live.append(heap.malloc(chance.choice([10, 100, 500, 3000, 20_000])))
                log.append(live[-1])
            if noisy:
                for start, end in chunks(heap):
                    at = noise.randrange(start, end - 64)
                    heap.process.write(at, noise.randbytes(64))
        heap.check()
        answers.append(log)
    assert answers[0] == answers[1]


@pytest.mark.parametrize("spec", ["slab", "slab:checks=none"])
def test_check_of_broken_metadata_ends_in_a_broken_rule(spec, process):
    """Each word in turn gets other values: check says so or finds nothing, and touches no wild address."""
    heap = allocators.create(spec, process, "c")
    blocks = [heap.malloc(size) for size in (16, 100, 100, 1000, 20_000, 4000) for _ in range(30)]
    for p in blocks[::2]:
        heap.free(p)
    heap.check()
    load, store, chance = process.load64, process.store64, Random(1)
    end, unnoticed, heaps = load(heap.root + ROOT_FRESH), 0, 0
    process.context.fuel = 50_000_000
    for at in range(heap.root + ROOT_MAP, end, 8):
        was = load(at)
        for value in (
            0,
            was ^ 1 << chance.randrange(64),
            was + 64,
            heap.root,
            blocks[1],
            chance.getrandbits(64),
        ):
            store(at, value)
            heaps += value != was
            try:
                heap.check()
                list(heap.walk())
                unnoticed += value != was
            except HeapCorruption:
                pass
        store(at, was)
    heap.check()
    # the links of what is in no list, the bits behind a bitmap's last word, and what large.c has not
    assert unnoticed < heaps * 0.6


@pytest.mark.parametrize(
    ("at", "value", "rule"),
    [
        (WORD, lambda was: was ^ 1 << 8, Rule.BROKEN_HEADER),
        (WORD, lambda was: was ^ 1 << 14, Rule.BROKEN_INDEX),
        (8, lambda was: 12345, Rule.BROKEN_LINK),
        (16, lambda was: was + 8, Rule.BROKEN_LINK),
        (HOME, lambda was: was + DESCRIPTOR, Rule.BROKEN_INDEX),
        (BITS, lambda was: was | 1 << 36, Rule.BROKEN_INDEX),
    ],
)
def test_check_names_the_rule(heap, at, value, rule):
    for _ in range(3):
        heap.malloc(100)
    descriptor = heap.process.load64(heap.root + ROOT_HEADS + 8 + 8 * class_of(100))
    heap.process.store64(descriptor + at, value(heap.process.load64(descriptor + at)))
    assert broken(heap.check)[1] == rule


# ---- what is given back ----


def test_freed_chunks_go_back(create):
    heap = create("slab")
    blocks = [heap.malloc(size) for size in (100, 1000, 9000) for _ in range(400)]
    held = sum(end - start for start, end in chunks(heap))
    assert held > 4 << 20
    for p in blocks:
        heap.free(p)
    heap.check()
    # two idle chunks, and those that the kept slabs stand in
    assert sum(end - start for start, end in chunks(heap)) <= 5 * 256 * KIB


def test_all_goes_back_when_nothing_is_to_be_kept(create):
    heap = create("slab:keep=0:idle_chunks=0")
    blocks = [heap.malloc(size) for size in (16, 100, 1000, 9000, 100_000) for _ in range(50)]
    Random(1).shuffle(blocks)
    for p in blocks:
        heap.free(p)
    heap.check()
    assert chunks(heap) == []


def test_a_mapping_serves_many_slabs(heap):
    """Eight megabytes in some 32 chunks, and few brks."""
    for _ in range(8 * 1024):
        heap.malloc(1000)
    assert heap.process.syscalls["mmap"] <= 33
    assert heap.process.syscalls["brk"] <= 12


def test_spare_descriptors_and_pages_are_used_again(heap):
    for _ in range(3):
        blocks = [heap.malloc(3000) for _ in range(300)]
        for p in blocks:
            heap.free(p)
        if _ == 0:
            end = heap.process.sbrk(0)
    assert heap.process.sbrk(0) == end


# ---- fork ----


def copied_by_a_child(spec, language):
    """How many frames a child takes that frees each second of 4,000 blocks, for data and their metadata."""
    kernel = Kernel(ram="64 MiB", seed=1)
    heap = allocators.create(spec, kernel.init.fork(), language)
    blocks = [heap.malloc(200) for _ in range(4000)]
    for p in blocks:
        heap.process.fill(p, 1, 200)
    child = heap.attach(heap.process.fork())
    before = kernel.machine.used(FrameKind.ANON)
    for p in blocks[::2]:
        child.free(p)
    child.check()
    return kernel.machine.used(FrameKind.ANON) - before


@pytest.mark.parametrize("language", allocators.LANGUAGES)
def test_a_child_that_frees_copies_descriptors_and_no_block(language):
    """800 KB of blocks: 208 pages of slabs, whose descriptors have 64 bytes each."""
    copied = {spec: copied_by_a_child(spec, language) for spec in ("slab", "rbtree", "freelist")}
    assert copied["slab"] <= 5
    assert copied["rbtree"] > 190
    assert copied["freelist"] > 190


# ---- exhaustion ----


@pytest.mark.parametrize("room", [0, 1, 5, 64, 65, 66, 70, 130, 200])
def test_a_kernel_that_refuses_costs_nothing(create, room):
    """A limit on the address space: brk and mmap are refused, wherever the heap stands just then."""
    heap = create("slab:mmap_threshold=64KiB")
    process, chance, live = heap.process, Random(room), {}
    size = sum(end - start for start, end in map(_range, process.maps().splitlines()))
    process.setrlimit(Rlimit.AS, (size + room * PAGE, size + room * PAGE))
    refused = 0
    for step in range(1500):
        n = chance.choice([16, 50, 300, 2000, 9000, 50_000, 70_000])
        process.errno = 0
        before = list(heap.blocks()) if refused < 3 else None
        p = heap.malloc(n)
        if p:
            process.fill(p, step % 256, n)
            live[p] = n, step % 256
            continue
        assert process.errno == errno.ENOMEM
        if before is not None:
            used = {span.payload for span in before if span.state.is_live}
            assert used == {span.payload for span in heap.blocks() if span.state.is_live}
        heap.check()
        refused += 1
        if live:
            p = chance.choice(list(live))
            heap.free(p)
            del live[p]
    assert refused
    for p, (n, byte) in live.items():
        assert process.read(p, n) == bytes([byte]) * n
        heap.free(p)
    heap.check()


def _range(line):
    return tuple(int(word, 16) for word in line.split()[0].split("-"))


# ---- walk ----


@pytest.mark.parametrize("page", [64, 256, 4096])
@pytest.mark.parametrize("language", allocators.LANGUAGES)
def test_the_walk_has_each_byte_once(language, page):
    process = Kernel(ram="4 MiB", page_size=page, seed=1).init.fork()
    before, start = set(mapped(process)), process.sbrk(0)
    heap, chance = allocators.create("slab:idle_chunks=3", process, language), Random(1)
    blocks = [heap.malloc(chance.choice([0, 24, 100, 1000, 3000])) for _ in range(100)]
    blocks.append(heap.aligned_alloc(2 * page, 5))
    for p in chance.sample(blocks, 60):
        heap.free(p)
    spans = list(heap.walk())
    assert all(span.end <= following.start for span, following in pairwise(spans))
    covered = sum(span.size for span in spans)
    given = sum(end - start for start, end in set(mapped(process)) - before)
    assert covered == given - (heap.root - (start & -page)) or covered == given - (heap.root - start)
    ranges = list(mapped(process))
    assert all(any(a <= span.start and span.end <= b for a, b in ranges) for span in spans)


# ---- twins ----

SPECS = [
    "slab",
    "slab:mmap_threshold=20000:chunk=1MiB",
    "slab:keep=0:idle_chunks=0:checks=links",
    "slab:checks=none:seal=keyed:keep=1MiB",
]


@pytest.mark.parametrize("spec", SPECS)
def test_twins(spec):
    twins, chance = Twins(spec), Random(spec)
    for _ in range(200):
        twins.do(random_step(twins, chance))
    twins.verify_bytes()


@pytest.mark.parametrize("page", [64, 256])
def test_twins_on_small_pages(page):
    """Small requests: a machine with pages of 64 bytes has 256 KiB of addresses."""
    twins, chance = Twins("slab", ram="2 MiB", page_size=page), Random(page)
    for _ in range(400):
        live = twins.live[0]
        slot = next(slot for slot in range(len(live) + 1) if slot not in live)
        size = chance.choice([0, 1, 16, 40, 100, 250, 600, 1000, 1500, 3000])
        if live and chance.random() < len(live) / 60:
            twins.do(Free(chance.choice(list(live))))
        elif live and chance.random() < 0.2:
            twins.do(Realloc(chance.choice(list(live)), max(1, size)))
        else:
            twins.do(Malloc(slot, size))
    twins.verify_bytes()


def test_a_full_slab_is_in_no_list():
    checked = CheckedHeap("slab")
    for slot in range(36):
        checked.do(Malloc(slot, 100))
    heap = checked.heaps[0]
    load = heap.process.load64
    assert load(heap.root + ROOT_HEADS + 8 + 8 * class_of(100)) == 0
    area = load(heap.root + ROOT_MAP) & -DESCRIPTOR
    word = load(area + 512)
    assert (hint_of(word), pages_of(word)) == (FULL, 1)
    checked.do(Free(7))
    assert hint_of(load(area + 512)) == 0
