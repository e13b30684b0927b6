"""Heaps with boundary tags: layouts to read, growth, trimming, and what the tags notice."""

import errno

import pytest

from heaplab import allocators
from heaplab.allocators import State
from heaplab.allocators.families.tagged import ROOT_FIRST, ROOT_INDEX, ROOT_LAST
from heaplab.allocators.parts import tags as blocks
from heaplab.allocators.parts.seal import Seal
from heaplab.allocators.parts.tags import ALLOCATED, LAST, PREV_ALLOCATED, header
from heaplab.allocators.sources.brk import ROOT_END
from heaplab.errors import HeapCorruption, Rule
from heaplab.kernel import Kernel

SEAL = Seal()

DESIGNS = ["freelist", "freelist:order=address", "binheap", "rbtree"]


@pytest.fixture(params=DESIGNS)
def new(request, create):
    """`new(options)`: a heap of each design, of one page unless the options say otherwise."""
    return lambda options=":top_pad=0": create(request.param + options)


def picture(heap):
    """The blocks with their sizes; < where the header says that the block before is free."""
    words = []
    for block in heap.blocks():
        word = heap.process.load64(block.payload - 8)
        words.append(
            f"{'-' if blocks.prev_is_allocated(word) else '<'}"
            f"{'used' if block.state == State.ALLOCATED else 'free'} {block.size}"
            f"{' last' if blocks.is_last(word) else ''}"
        )
    return "  ".join(words)


def broken(call, *args):
    with pytest.raises(HeapCorruption) as caught:
        call(*args)
    return caught.value.address, caught.value.rule


def first_of(heap):
    return heap.process.load64(heap.root + ROOT_FIRST)


# ---- layouts ----


def test_an_empty_heap_is_one_free_block(new):
    heap = new()
    room = heap.root + 4096 - 8 - first_of(heap)
    assert picture(heap) == f"-free {room} last"


def test_splitting_and_merging(new):
    heap = new()
    room = heap.root + 4096 - 8 - first_of(heap)
    a, b, c, _ = (heap.malloc(56) for _ in range(4))
    used = "-used 64"
    rest = f"-free {room - 4 * 64} last"
    assert picture(heap) == f"{used}  {used}  {used}  {used}  {rest}"
    heap.free(a)
    assert picture(heap) == f"-free 64  <used 64  {used}  {used}  {rest}"
    heap.free(c)
    assert picture(heap) == f"-free 64  <used 64  -free 64  <used 64  {rest}"
    heap.free(b)
    assert picture(heap) == f"-free 192  <used 64  {rest}"
    heap.check()


def test_merging_with_the_end(new):
    heap = new()
    before = picture(heap)
    p, q = heap.malloc(56), heap.malloc(56)
    heap.free(q)
    heap.free(p)
    assert picture(heap) == before


def test_a_rest_that_is_no_block_stays_with_the_block(new):
    heap = new()
    least = 48 if heap.NAME == "rbtree" else 32
    p, _ = heap.malloc(120), heap.malloc(1)
    assert heap.realloc(p, 120 - least + 16) == p  # 16 bytes less than a block would be left
    assert picture(heap).startswith("-used 128  -used")
    assert heap.realloc(p, 120 - least) == p
    assert picture(heap).startswith(f"-used {128 - least}  -free {least}  <used")


def test_the_words_of_a_heap_of_four_blocks(create):
    """Every word that is not payload, of a heap that can be drawn on a page."""
    heap = create("freelist:top_pad=0")
    load, at = heap.process.load64, heap.root
    a, b, c = (heap.malloc(24) for _ in range(3))
    heap.free(a)
    heap.free(c)  # merges with the rest
    assert [p - at for p in (a, b, c)] == [0x60, 0x80, 0xA0]
    sentinel, last = at + ROOT_INDEX, c - 8
    assert {
        offset: load(at + offset) for offset in range(0, 0xA8, 8) if offset not in range(0x80, 0x98, 8)
    } == {
        0x00: int.from_bytes(b"freelist", "little"),
        0x08: at + 0x1000,  # end
        0x10: 0,  # no table of large blocks
        0x18: 0,  # no large block
        0x20: 128 << 10,  # requests from here on are large
        0x28: a - 8,  # first
        0x30: last,
        0x38: sentinel,  # rover
        0x40: last,  # the list: the block merged last, then a
        0x48: a - 8,
        0x50: 0,  # so that payloads are multiples of 16
        0x58: header(SEAL, a - 8, 32, PREV_ALLOCATED),
        0x60: sentinel,
        0x68: last,
        0x70: 32,  # footer
        0x78: header(SEAL, b - 8, 32, ALLOCATED),
        0x98: header(SEAL, last, 0xFF8 - 0x98, PREV_ALLOCATED | LAST),
        0xA0: a - 8,
    }
    assert load(last + 16) == sentinel
    assert load(at + 0xFF8) == header(SEAL, at + 0xFF8, 0, ALLOCATED)


# ---- growing and trimming ----


def test_growth_asks_for_what_is_missing(new):
    heap = new()
    p = heap.malloc(6000)
    assert p - 8 == first_of(heap)
    assert heap.process.sbrk(0) == heap.root + 8192
    assert heap.process.syscalls["brk"] == 3  # the fixture's, the root's, and this


def test_growth_of_a_full_heap_starts_behind_it(new):
    heap = new()
    room = heap.usable_size(heap.malloc(4096 - 8 - 8 - (first_of(heap) - heap.root)))
    assert picture(heap) == f"-used {room + 8}"
    p = heap.malloc(100)
    assert p == heap.root + 4096
    heap.check()


def test_realloc_grows_at_the_end_in_place(new):
    heap = new()
    p = heap.malloc(1000)
    for size in (2000, 10_000, 50_000, 100_000):
        assert heap.realloc(p, size) == p
        heap.check()


def test_realloc_takes_from_the_free_block_behind(new):
    heap = new()
    p, q, _ = (heap.malloc(120) for _ in range(3))
    heap.free(q)
    assert heap.realloc(p, 200) == p
    assert picture(heap).startswith("-used 208  -free 48  <used 128")
    assert heap.realloc(p, 240) == p
    assert picture(heap).startswith("-used 256  -used 128")
    assert heap.realloc(p, 100) == p
    assert picture(heap).startswith("-used 112  -free 144  <used 128")
    heap.check()


def test_trimming_keeps_top_pad(new):
    heap = new(":top_pad=8KiB:trim_threshold=16KiB")
    p = heap.malloc(40_000)
    heap.free(p)
    kept = heap.process.sbrk(0) - p
    assert 8192 <= kept <= 8192 + 4096 + 64
    heap.check()


def test_a_free_end_below_the_threshold_is_kept(new):
    heap = new(":top_pad=0:trim_threshold=16KiB")
    p = heap.malloc(12_000)
    end = heap.process.sbrk(0)
    heap.free(p)
    assert heap.process.sbrk(0) == end


def test_aligned_alloc_gives_both_ends_back(new):
    heap = new()
    heap.malloc(1)
    p = heap.aligned_alloc(512, 100)
    assert p == heap.root + 512
    at = [block.payload for block in heap.walk() if block.state == State.FREE]
    assert len(at) == 2
    assert at[0] < p < at[1] == p + 112
    heap.check()


def test_a_heap_of_one_small_page_begins_when_it_grows():
    """Between the root and the first page's end there is no room for a block."""
    for language in allocators.LANGUAGES:
        process = Kernel(ram="64 KiB", page_size=128, seed=1).init.fork()
        process.sbrk(-process.sbrk(0) % 128 + 40)
        heap = allocators.create("rbtree:top_pad=0", process, language)
        assert list(heap.blocks()) == []
        heap.check()
        p = heap.malloc(24)
        assert p == heap.root - 48 + 128  # the page's end, but for the header
        heap.free(p)
        heap.check()


def test_a_request_beyond_all_addresses_is_refused(new):
    """mmap_threshold can be so high that it reaches the design itself: all but the last of these do."""
    heap = new(f":mmap_threshold={(1 << 63) - 1}")
    p = heap.malloc(24)
    before = list(heap.walk())
    for size in (1 << 47, (1 << 63) - 17, (1 << 63) - 2, (1 << 63) - 1):
        for call in (
            heap.malloc,
            lambda size: heap.realloc(p, size),
            lambda size: heap.aligned_alloc(64, size),
            lambda size: heap.aligned_alloc(1 << 62, size),
            lambda size: heap.aligned_alloc(1 << 63, size),
        ):
            heap.process.errno = 0
            assert call(size) == 0
            assert heap.process.errno == errno.ENOMEM
    assert list(heap.walk()) == before
    assert heap.aligned_alloc(1 << 62, 1) == 0
    assert heap.aligned_alloc(1 << 63, 1) == 0
    heap.check()


# ---- what is noticed ----


def test_a_double_free_of_a_block_that_was_swallowed(new):
    heap = new()
    p, q, _ = (heap.malloc(100) for _ in range(3))
    heap.free(p)
    heap.free(q)
    assert broken(heap.free, q) == (q, Rule.DOUBLE_FREE)
    heap.check()


def test_an_overwritten_footer_is_noticed_by_the_next_free(new):
    heap = new()
    p, q, _ = (heap.malloc(100) for _ in range(3))
    heap.free(p)
    for junk in (0, 16, 1 << 40, (1 << 64) - 1, 0x4141414141414141):
        heap.process.store64(q - 16, junk)
        assert broken(heap.free, q) == (q, Rule.BROKEN_FOOTER)
        assert broken(heap.check) == (p, Rule.BROKEN_FOOTER)


def test_an_overflow_is_noticed_when_the_block_itself_is_freed(new):
    heap = new()
    p, q, _ = (heap.malloc(104) for _ in range(3))
    heap.process.fill(p, 0x41, 105)
    assert broken(heap.free, p) == (q, Rule.BROKEN_HEADER)
    assert broken(heap.realloc, p, 200) == (q, Rule.BROKEN_HEADER)


def test_a_free_block_whose_header_was_overwritten_is_not_given_out(new):
    heap = new()
    p, _ = heap.malloc(1000), heap.malloc(1)
    heap.free(p)
    heap.process.store64(p - 8, header(SEAL, p - 8, 2000, PREV_ALLOCATED) ^ 1 << 60)
    assert broken(heap.check)[1] == Rule.BROKEN_HEADER
    assert broken(lambda: [heap.malloc(900) for _ in range(8)])[1] in (Rule.BROKEN_HEADER, Rule.BROKEN_FOOTER)


@pytest.mark.parametrize("junk", [0, 0x4141414141414141, (1 << 64) - 8])
def test_broken_links_are_noticed_when_the_block_leaves_the_index(new, junk):
    heap = new()
    p, q, _ = (heap.malloc(200) for _ in range(3))
    heap.free(q)
    for offset in (0, 8, 16):
        heap.process.store64(q + offset, junk)
    assert broken(heap.check)[1] in (Rule.BROKEN_LINK, Rule.BROKEN_INDEX)
    assert broken(heap.realloc, p, 400) == (q, Rule.BROKEN_LINK)


def test_a_broken_header_before_hides_what_a_foreign_pointer_is(new):
    """Whether a block starts there cannot be known: the header that is certainly broken is named."""
    heap = new()
    p, q = heap.malloc(100), heap.malloc(100)
    heap.process.store64(p - 8, 0)
    assert broken(heap.free, q + 16) == (p, Rule.BROKEN_HEADER)


def test_check_names_blocks_that_were_not_merged(new):
    heap = new()
    p, q, r = (heap.malloc(100) for _ in range(3))
    heap.free(p)
    store = heap.process.store64
    store(q - 8, header(SEAL, q - 8, 112, 0))
    store(r - 16, 112)
    store(r - 8, header(SEAL, r - 8, 112, ALLOCATED))
    assert broken(heap.check) == (q, Rule.UNCOALESCED)


def test_check_compares_flags_with_the_block_before(new):
    heap = new()
    p, q = heap.malloc(100), heap.malloc(100)
    heap.process.store64(q - 8, header(SEAL, q - 8, 112, ALLOCATED))
    assert broken(heap.check) == (q, Rule.BROKEN_HEADER)
    assert p != q


def test_check_finds_a_block_the_index_does_not_hold(new):
    """A block that looks free in every tag, and that no index leads to."""
    heap = new()
    heap.malloc(100)
    p, q = heap.malloc(100), heap.malloc(100)
    store = heap.process.store64
    store(p - 8, header(SEAL, p - 8, 112, PREV_ALLOCATED))
    store(q - 16, 112)
    store(q - 8, header(SEAL, q - 8, 112, ALLOCATED))
    for offset in (0, 8, 16):
        store(p + offset, 0)
    assert broken(heap.check) == (p, Rule.BROKEN_LINK)


def test_check_finds_an_allocated_block_in_the_index(new):
    heap = new()
    p, q, _ = (heap.malloc(100) for _ in range(3))
    heap.free(p)
    store = heap.process.store64
    store(p - 8, header(SEAL, p - 8, 112, ALLOCATED | PREV_ALLOCATED))
    store(q - 8, header(SEAL, q - 8, 112, ALLOCATED | PREV_ALLOCATED))
    address, rule = broken(heap.check)
    assert rule in (Rule.BROKEN_INDEX, Rule.BROKEN_LINK)
    assert address != q


@pytest.mark.parametrize("offset", [ROOT_END, ROOT_FIRST, ROOT_LAST])
def test_check_finds_a_root_that_cannot_be(new, offset):
    heap = new()
    heap.malloc(100)
    good = heap.process.load64(heap.root + offset)
    for wrong in (0, 8, good + 1 << 40, (1 << 64) - 8):
        heap.process.store64(heap.root + offset, wrong)
        assert broken(heap.check) == (heap.root, Rule.BROKEN_ROOT)


def test_a_broken_epilogue_is_noticed(new):
    heap = new()
    heap.malloc(100)
    end = heap.process.sbrk(0)
    heap.process.store64(end - 8, 0)
    assert broken(heap.check) == (end, Rule.BROKEN_HEADER)
    assert broken(heap.malloc, 5000) == (end, Rule.BROKEN_HEADER)
