"""Large blocks: the table of mappings, and the threshold above which they begin, in both languages."""

import resource
from random import Random

import pytest

from heaplab import allocators
from heaplab.allocators import State
from heaplab.allocators.parts.seal import FACTOR, TAG, Seal
from heaplab.allocators.sources.large import COUNT, HIGHEST, LEAST, SLOT, TABLE, THRESHOLD
from heaplab.errors import HeapCorruption, Rule
from heaplab.kernel import Kernel

KIB = 1024
MIB = 1024 * KIB
SEAL = Seal()


@pytest.fixture
def heap(create):
    return create("rbtree")


@pytest.fixture(params=allocators.LANGUAGES)
def language(request):
    return request.param


def roomy(spec, language, ram="128 MiB", page_size=4096):
    """A heap on a machine that has room for many large blocks."""
    return allocators.create(spec, Kernel(ram=ram, page_size=page_size, seed=1).init.fork(), language)


def large(heap):
    return [block for block in heap.walk() if block.state == State.LARGE]


def broken(call, *args):
    with pytest.raises(HeapCorruption) as caught:
        call(*args)
    return caught.value.address, caught.value.rule


def table_of(heap):
    """The address of the table, and how many slots it has."""
    word = heap.process.load64(heap.root + TABLE)
    return word & ~63, 1 << (word & 63) if word else 0


def slots_of(heap):
    """What the slots in use hold, by their number."""
    at, n_slots = table_of(heap)
    load = heap.process.load64
    slots = {n: tuple(load(at + SLOT * n + word) for word in range(0, SLOT, 8)) for n in range(n_slots)}
    return {n: slot for n, slot in slots.items() if slot[0]}


def slot_of(heap, p):
    """The address of the slot that holds p."""
    return table_of(heap)[0] + SLOT * next(n for n, slot in slots_of(heap).items() if slot[0] == p)


def home_of(heap, p):
    """The slot where the search for p begins: the high bits of its page's number times the golden ratio."""
    return p // heap.process.page_size * FACTOR % 2**64 * table_of(heap)[1] >> 64


# ---- words ----


def test_a_heap_without_large_blocks_has_no_table(heap):
    load = heap.process.load64
    heap.malloc(1000)
    assert [load(heap.root + word) for word in (TABLE, COUNT, THRESHOLD)] == [0, 0, 128 * KIB]
    assert heap.process.syscalls["mmap"] == 0


def test_the_words_of_two_large_blocks(heap):
    a, b = heap.malloc(200 * KIB), heap.malloc(300 * KIB + 1)
    assert table_of(heap)[1] == 4096 // SLOT
    assert heap.process.load64(heap.root + COUNT) == 2
    assert slots_of(heap) == {
        home_of(heap, a): (a, a, 200 * KIB, SEAL(a, (a ^ 400 * KIB) & TAG)),
        home_of(heap, b): (b, b, 304 * KIB, SEAL(b, (b ^ 608 * KIB) & TAG)),
    }


def test_the_walk_has_the_table_and_the_blocks(heap):
    a, b = heap.malloc(200 * KIB), heap.malloc(300 * KIB)
    spans = [span for span in heap.walk() if span.start > heap.process.sbrk(0)]
    table = (table_of(heap)[0], 4096, table_of(heap)[0], 0, State.METADATA)
    assert spans == sorted(
        [table, (a, 200 * KIB, a, 200 * KIB, State.LARGE), (b, 300 * KIB, b, 300 * KIB, State.LARGE)]
    )


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 0, 2), (1, 2, 0)])
def test_blocks_leave_the_table_in_any_order(heap, order):
    blocks = [heap.malloc(n * 150 * KIB) for n in (1, 2, 3)]
    for which in order:
        heap.free(blocks[which])
        heap.check()
        blocks[which] = 0
        assert sorted(block.payload for block in large(heap)) == sorted(filter(bool, blocks))


# ---- the table ----


def test_the_table_doubles_when_half_of_it_is_full(language):
    heap = roomy("rbtree:mmap_threshold=4KiB", language)
    blocks = [heap.malloc(4 * KIB) for _ in range(64)]
    assert table_of(heap)[1] == 128
    before, bulk, old = heap.process.syscalls, heap.process.context.bulk, slots_of(heap)
    blocks.append(heap.malloc(4 * KIB))
    assert heap.process.syscalls - before == {"mmap": 2, "munmap": 1}  # a table, the block; the old table
    assert heap.process.context.bulk - bulk == 64 * SLOT
    assert table_of(heap)[1] == 256
    assert set(old.values()) <= set(slots_of(heap).values())
    heap.check()
    for p in blocks:
        heap.free(p)
    assert slots_of(heap) == {}
    heap.check()


def test_a_table_that_cannot_grow_refuses_the_block_and_nothing_else(language):
    heap = roomy("rbtree:mmap_threshold=4KiB", language)
    process = heap.process
    blocks = [heap.malloc(4 * KIB) for _ in range(64)]
    used = int(process.context.space.raw.vm_pages) * 4096
    process.setrlimit(resource.RLIMIT_AS, (used + 4096, used + 4096))  # the table would have two pages
    before = slots_of(heap)
    process.errno = 0
    assert heap.malloc(4 * KIB) == 0
    assert process.errno == 12
    assert slots_of(heap) == before
    heap.free(blocks[5])
    assert heap.malloc(4 * KIB) == blocks[5]
    heap.check()


@pytest.mark.parametrize("page_size", [256, 4096])
def test_the_table_holds_what_a_dictionary_holds(language, page_size):
    """Whatever comes and goes: each block in a slot that its search reaches, and no other block.

    A removal moves slots back, so that no search ends at the hole: each move copies one slot.  Pages that are
    a Fibonacci number apart have hashes near to each other, so blocks of such lengths bring collisions about.
    """
    heap = roomy(f"rbtree:mmap_threshold={page_size}", language, page_size=page_size)
    chance, known, moved = Random(page_size), {}, 0
    for step in range(1200):
        if known and (len(known) == 64 or chance.random() < (0.3 if step < 300 else 0.5)):
            p = chance.choice(list(known))
            bulk = heap.process.context.bulk
            heap.free(p)
            moved += heap.process.context.bulk - bulk
            del known[p]
        else:
            n_pages = chance.choice([1, 2, 3, 55, 89, 144])
            known[heap.malloc(n_pages * page_size)] = n_pages * page_size
        held = slots_of(heap)
        assert {slot[0]: slot[2] for slot in held.values()} == known
        assert heap.process.load64(heap.root + COUNT) == len(known)
        mask = table_of(heap)[1] - 1
        for n, slot in held.items():
            home = home_of(heap, slot[0])
            assert all((home + passed) & mask in held for passed in range((n - home) & mask))
        if step % 50 == 0:
            heap.check()
    assert moved // SLOT > 30


def test_no_pointer_that_was_not_given_is_found(heap):
    p = heap.malloc(300 * KIB)
    for q in (p + 16, p + 4096, p - 4096, p + 300 * KIB, 1 << 47, 4096):
        for call in (heap.free, heap.usable_size, lambda q: heap.realloc(q, 200 * KIB)):
            assert broken(call, q) == (q, Rule.FOREIGN_POINTER)
    heap.free(p)
    assert broken(heap.free, p) == (p, Rule.FOREIGN_POINTER)


# ---- cost ----


def mems(heap, call, *args):
    before = heap.process.context.mems
    call(*args)
    return heap.process.context.mems - before


def test_what_a_large_block_costs(heap):
    """By its words: nothing stands in the way to either block here."""
    p = heap.malloc(200 * KIB)
    q = []
    # threshold 1, table and count 2, the free slot 1, its four words, count 2
    assert mems(heap, lambda: q.append(heap.malloc(150 * KIB))) == 1 + 2 + 1 + 4 + 2
    # end 1, table 1, the slot 1, base, length and seal 3, the slot behind it 1, empty 1, count 2, threshold 2
    assert mems(heap, heap.free, p) == 1 + 1 + 1 + 3 + 1 + 1 + 2 + 2
    # the threshold stays: it is read only
    assert mems(heap, heap.free, q[0]) == 1 + 1 + 1 + 3 + 1 + 1 + 2 + 1


def test_free_costs_the_same_among_10_and_among_10_000_blocks(language):
    """A search passes few slots, for half of them are free at least."""
    costs = {}
    for crowd in (10, 10_000):
        heap = roomy("rbtree:mmap_threshold=4KiB", language)
        blocks = [heap.malloc(4 * KIB) for _ in range(crowd + 200)]
        costs[crowd] = [mems(heap, heap.free, p) for p in Random(1).sample(blocks, 200)]
    assert sum(costs[10_000]) <= sum(costs[10]) + 200
    assert max(costs[10_000]) <= 40


# ---- payloads ----


def test_usable_is_all_up_to_the_end_of_the_mapping(heap):
    for size in (128 * KIB, 200_000, 132 * KIB):
        p = heap.malloc(size)
        assert (p + heap.usable_size(p)) % 4096 == 0
        assert heap.usable_size(p) - size < 4096


@pytest.mark.parametrize("bits", range(5, 22))
def test_alignment_within_a_mapping(heap, bits):
    p = heap.aligned_alloc(1 << bits, 140 * KIB)
    assert p % (1 << bits) == 0
    [block] = large(heap)
    assert (block.payload, block.usable) == (p, heap.usable_size(p))
    assert block.start <= p
    assert p + heap.usable_size(p) == block.end
    assert block.size == 140 * KIB + (1 << bits if bits > 12 else 0)
    heap.process.fill(p, 1, 140 * KIB)
    heap.check()
    heap.free(p)
    assert large(heap) == []


def test_shrinking_gives_pages_back(heap):
    p = heap.malloc(1000 * KIB)
    before = heap.process.syscalls["munmap"]
    assert heap.realloc(p, 500 * KIB - 100) == p
    assert heap.process.syscalls["munmap"] == before + 1
    assert large(heap)[0].size == 500 * KIB
    heap.check()
    heap.process.fill(p, 1, heap.usable_size(p))
    assert heap.realloc(p, 500 * KIB) == p  # there is room in the last page
    assert heap.realloc(p, 500 * KIB + 1) != p
    heap.check()


def test_shrinking_below_all_thresholds_moves_into_the_heap(heap):
    p = heap.malloc(200 * KIB)
    heap.process.fill(p, 7, 200 * KIB)
    q = heap.realloc(p, 100 * KIB)
    assert q < heap.process.sbrk(0)
    assert heap.process.read(q, 100 * KIB) == b"\7" * 100 * KIB
    assert large(heap) == []


def test_growing_moves_with_the_content(heap):
    p = heap.malloc(200 * KIB)
    heap.process.fill(p, 7, 200 * KIB)
    q = heap.realloc(p, 900 * KIB)
    assert q != p
    assert heap.process.read(q, 200 * KIB) == b"\7" * 200 * KIB
    assert [block.payload for block in large(heap)] == [q]


def test_calloc_does_not_write_what_mmap_gave(heap):
    bulk = heap.process.context.bulk
    p = heap.calloc(1, 400 * KIB)
    assert heap.process.context.bulk == bulk
    assert not any(heap.process.read(p, 400 * KIB))


# ---- the threshold ----


def is_large(heap, size):
    p = heap.malloc(size)
    state = next(block.state for block in heap.blocks() if block.payload == p)
    return state == State.LARGE


def test_the_constants_are_those_of_glibc():
    """DEFAULT_MMAP_THRESHOLD_MIN and DEFAULT_MMAP_THRESHOLD_MAX, 64 bits."""
    assert (LEAST, HIGHEST) == (128 * KIB, 4 * MIB * 8)


@pytest.mark.parametrize(
    ("freed", "threshold"),
    [
        ([128 * KIB], 128 * KIB),  # as large as the threshold: it stays
        ([128 * KIB + 1], 132 * KIB),  # the length of the mapping counts
        ([200 * KIB], 200 * KIB),
        ([300 * KIB, 200 * KIB], 300 * KIB),  # never down
        ([200 * KIB, 300 * KIB], 300 * KIB),
        ([32 * MIB], 32 * MIB),
        ([32 * MIB + 1], 128 * KIB),  # so large that the next one may be mapped too
        ([200 * KIB, 40 * MIB], 200 * KIB),
    ],
)
def test_the_dynamic_threshold_is_the_largest_block_freed(language, freed, threshold):
    """glibc's rule: a chunk freed that is larger than mmap_threshold, and at most the highest, sets it."""
    heap = roomy("rbtree:top_pad=0", language)
    for size in freed:
        q = heap.realloc(0, size) if size >= threshold else heap.malloc(size)
        if q < heap.process.sbrk(0):
            heap.free(q)  # it was small by then
            continue
        heap.free(q)
    assert heap.process.load64(heap.root + THRESHOLD) == threshold
    assert not is_large(heap, threshold - 1)
    assert is_large(heap, threshold)
    heap.check()


def test_a_fixed_threshold_stays(language):
    heap = roomy("rbtree:mmap_threshold=200000", language)
    heap.free(heap.malloc(MIB))
    assert not is_large(heap, 199_999)
    assert is_large(heap, 200_000)


def test_what_is_often_freed_is_not_mapped_again(heap):
    """The reason of the rule: one mapping, then the same memory again and again, without a system call."""
    heap.free(heap.malloc(200 * KIB))
    heap.free(heap.malloc(199 * KIB))  # the heap grows to that
    before = heap.process.syscalls.total()
    for _ in range(100):
        heap.free(heap.malloc(199 * KIB))
    assert heap.process.syscalls.total() == before


# ---- what is noticed ----


@pytest.mark.parametrize("word", [8, 16, 24])
def test_an_overwritten_slot_is_noticed_before_anything_is_unmapped(heap, word):
    p = heap.malloc(200 * KIB)
    at = slot_of(heap, p) + word
    good = heap.process.load64(at)
    maps = heap.process.maps()
    for wrong in (good + 4096, good ^ 1 << 20, 0, (1 << 64) - 1):
        heap.process.store64(at, wrong)
        for call in (
            heap.check,
            lambda: heap.free(p),
            lambda: heap.usable_size(p),
            lambda: heap.realloc(p, MIB),
        ):
            assert broken(call) == (p, Rule.BROKEN_HEADER)
    assert heap.process.maps() == maps
    heap.process.store64(at, good)
    heap.free(p)


def test_base_and_length_overwritten_together_are_noticed(heap):
    """Two words of junk must not make free unmap whatever they say."""
    p = heap.malloc(200 * KIB)
    at, page = slot_of(heap, p), heap.root & -4096
    heap.process.store64(at + 8, page)
    heap.process.store64(at + 16, p + 200 * KIB - page)
    assert broken(heap.free, p) == (p, Rule.BROKEN_HEADER)


def test_an_overwritten_payload_is_noticed(heap):
    p = heap.malloc(200 * KIB)
    heap.process.store64(slot_of(heap, p), p + 4096)
    assert broken(heap.free, p) == (p, Rule.FOREIGN_POINTER)
    assert broken(heap.check) == (p + 4096, Rule.BROKEN_HEADER)


def test_a_slot_that_no_search_reaches_is_noticed(heap):
    p = heap.malloc(200 * KIB)
    at, n_slots = table_of(heap)
    here = slot_of(heap, p)
    other = at + SLOT * ((home_of(heap, p) + 9) % n_slots)
    heap.process.copy(other, here, SLOT)
    heap.process.store64(here, 0)
    assert broken(heap.check) == (p, Rule.BROKEN_INDEX)


@pytest.mark.parametrize("count", [0, 2, 1 << 40])
def test_a_wrong_count_is_noticed(heap, count):
    heap.malloc(200 * KIB)
    heap.process.store64(heap.root + COUNT, count)
    assert broken(heap.check) == (heap.root, Rule.BROKEN_INDEX)


def test_a_table_without_a_free_slot_ends_the_search(heap):
    p = heap.malloc(200 * KIB)
    at, n_slots = table_of(heap)
    for n in range(n_slots):
        heap.process.store64(at + SLOT * n, 4096)
    assert broken(heap.free, p) == (heap.root, Rule.BROKEN_INDEX)
