"""Program errors that were found to be let through, each as small as it can be, in both languages.

A heap may name the error (HeapCorruption) or go on soundly.  It must not write to other memory, return what
is no block of its own, unmap what is the program's, kill the process, or go on for ever.
"""

import pytest

from heaplab.allocators import State
from heaplab.errors import HeapCorruption, OutOfFuel, ProcessDied
from heaplab.testing.attacks.guard import guarded
from heaplab.testing.attacks.judge import Outcome

KIB = 1024
DESIGNS = ("freelist", "buddy", "binheap", "rbtree")
PATTERN = b"\xc5" * 4096


@pytest.fixture
def mine(process):
    """A mapping of the program's own, full of PATTERN."""
    page = process.mmap(4096)
    process.write(page, PATTERN)
    return page


@pytest.fixture(autouse=True)
def fuel(process):
    """More references than any of these tests needs: who makes more goes round in a loop."""
    process.context.fuel = 1_000_000


def outcome(call, *args):
    """What comes of a call that may kill the process, or never end."""

    def judged():
        try:
            call(*args)
        except HeapCorruption:
            return Outcome.NAMED
        except OutOfFuel:
            return Outcome.HANG
        except ProcessDied:
            return Outcome.SEGV
        except OSError:
            return Outcome.ERROR
        return Outcome.HARMLESS

    return next(guarded([judged]))


def named(call, *args):
    return outcome(call, *args) is Outcome.NAMED


# ---- the buddy ----


def test_the_buddy_returns_no_block_that_a_stray_link_names(create, process, mine):
    """free(a); *a = x: the second malloc returned x."""
    heap = create("buddy")
    a = heap.malloc(100)
    heap.free(a)
    process.store64(a, mine + 128)
    with pytest.raises(HeapCorruption):
        assert mine + 128 not in [heap.malloc(100) for _ in range(2)]
    assert process.read(mine, 4096) == PATTERN


def test_the_buddy_that_is_its_own_next_is_not_handed_out_twice(create, process):
    heap = create("buddy")
    a = heap.malloc(100)
    heap.free(a)
    process.store64(a, a)
    with pytest.raises(HeapCorruption):
        assert heap.malloc(100) != heap.malloc(100)


def test_the_buddy_unlinks_no_block_whose_neighbours_do_not_point_back(create, process, mine):
    """free(a); a[0] = V; a[1] = W; free(b): V was written to *W, and W to *(V + 8)."""
    heap = create("buddy")
    a, b = sorted(heap.malloc(100) for _ in range(2))
    while a ^ b != 128:
        a, b = b, heap.malloc(100)
    heap.free(a)
    process.store64(a, mine + 512)
    process.store64(a + 8, mine + 1024)
    with pytest.raises(HeapCorruption):
        heap.free(b)
    assert process.read(mine, 4096) == PATTERN


# ---- boundary tags ----


@pytest.mark.parametrize("child", [0, 8])
def test_the_tree_moves_no_node_whose_children_do_not_point_back(create, process, child):
    """What a block is cut from moves in the tree: the parent was written into both words called children."""
    page = process.mmap(4096)  # zeros: as a node, one too small for any request
    heap = create("rbtree")
    a, _ = heap.malloc(3000), heap.malloc(100)
    heap.free(a)
    process.store64(a + child, page + 8)
    with pytest.raises(HeapCorruption):
        heap.malloc(1000)
    assert not any(process.read(page, 4096))


def test_insertion_by_address_writes_behind_no_link_that_does_not_point_back(create, process, mine):
    heap = create("freelist:order=address")
    a, _, b, _ = (heap.malloc(100) for _ in range(4))
    heap.free(a)
    process.store64(a, mine + 8)
    with pytest.raises(HeapCorruption):
        heap.free(b)
    assert process.read(mine, 4096) == PATTERN


def test_insertion_by_address_follows_no_link_out_of_the_heap(create, process):
    heap = create("freelist:order=address")
    a, _, b, _ = (heap.malloc(100) for _ in range(4))
    heap.free(a)
    process.store64(a, 0x10008)
    assert named(heap.free, b)


@pytest.mark.parametrize("fit", ["first", "next", "best", "worst"])
@pytest.mark.parametrize("size", [5000, 200 * KIB - 64])
def test_a_free_block_that_is_its_own_next_ends_the_search(create, process, fit, size):
    heap = create(f"freelist:fit={fit}:mmap_threshold=1MiB")
    a, _ = heap.malloc(100), heap.malloc(100)
    heap.free(a)
    process.store64(a, a - 8)
    assert outcome(heap.malloc, size) in (Outcome.NAMED, Outcome.HARMLESS)
    assert named(heap.check)


@pytest.mark.parametrize("child", [0, 8])
def test_a_free_block_that_is_its_own_child_ends_the_search(create, process, child):
    heap = create("rbtree")
    a, _ = heap.malloc(100), heap.malloc(100)
    heap.free(a)
    process.store64(a + child, a - 8)
    for size in (16, 5000):
        assert outcome(heap.malloc, size) in (Outcome.NAMED, Outcome.HARMLESS)
    assert named(heap.check)


@pytest.mark.parametrize("design", ["freelist", "binheap", "rbtree"])
def test_a_blocks_own_address_is_no_valid_header(create, process, design):
    """The seal, (address ^ tag) * FACTOR, is 0 where the tag is the address: a pointer to itself passed."""
    heap = create(design)
    a, b = heap.malloc(100), heap.malloc(100)
    heap.free(b)
    process.store64(b - 8, b - 8)
    assert named(heap.check)
    assert named(heap.free, a)


def test_the_binary_heap_follows_no_word_of_its_array_that_is_no_block(create, process):
    """The array is a mapping of its own: the block below it may write past its end, into the array."""
    heap = create("binheap")
    p = heap.malloc(150 * KIB)
    process.store64(p + heap.usable_size(p), 0x4141414141414141)
    assert named(heap.check)
    assert outcome(heap.malloc, 3000) in (Outcome.NAMED, Outcome.HARMLESS)


# ---- large blocks ----


def words_of(heap, p):
    """The addresses of the words that the heap keeps of the large block at p, apart from its payload."""
    for span in heap.walk():
        if span.state is State.METADATA and not heap.root <= span.start < heap.process.sbrk(0):
            for at in range(span.start, span.end, 8):
                if heap.process.load64(at) == p:
                    return range(at, at + 32, 8)
    raise AssertionError("no word of metadata names the block")


@pytest.mark.parametrize("design", DESIGNS)
def test_two_words_of_a_large_block_do_not_make_free_unmap_the_programs_memory(create, process, design):
    heap = create(design)
    p, mine = heap.malloc(200 * KIB), process.mmap(4096)
    process.write(mine, PATTERN)
    _, base, length, _ = words_of(heap, p)
    process.store64(base, mine)
    process.store64(length, 4096)
    with pytest.raises(HeapCorruption):
        heap.free(p)
    assert process.read(mine, 4096) == PATTERN


CALLS = {
    "check": lambda heap, p: heap.check(),
    "walk": lambda heap, p: list(heap.walk()),
    "free": lambda heap, p: heap.free(p),
    "realloc": lambda heap, p: heap.realloc(p, 150 * KIB),
    "malloc": lambda heap, p: heap.malloc(200 * KIB),
}


@pytest.mark.parametrize(
    "design", ["freelist", "buddy"]
)  # a tagged one and the other: Large is the same in all
@pytest.mark.parametrize("call", CALLS)
def test_no_word_of_a_large_block_kills_the_process_or_hangs(create, process, design, call):
    """Each of its words, replaced by what points nowhere, or to another block; and check names it."""
    heap = create(design)
    older, p = heap.malloc(200 * KIB), heap.malloc(200 * KIB)
    for at in words_of(heap, p):
        before = process.load64(at)
        for link in (0x1234560, 1 << 47, 0x4141414141414141, 8, older, p + 4096, heap.root):
            process.store64(at, link)
            allowed = (Outcome.NAMED,) if call == "check" else (Outcome.NAMED, Outcome.HARMLESS)
            for which in older, p:
                made = outcome(CALLS[call], heap, which)
                assert made in allowed, f"{link:#x} in the word at {at:#x}: {made}"
        process.store64(at, before)
