"""Spans: their words, threads, giving back, what is noticed, and the twins, step by step."""

from collections import Counter
from itertools import pairwise
from random import Random
from resource import RLIMIT_AS

import pytest

from heaplab.allocators import State, Trait, create, parse
from heaplab.allocators.designs import spans
from heaplab.allocators.designs.spans import (
    ARENA_MAILBOX,
    HEAD,
    REMOTE,
    ROOT_ARENAS,
    ROOT_THREADS,
    SHAPE,
    STATE,
)
from heaplab.allocators.parts.classes import class_of, class_size
from heaplab.allocators.parts.seal import TAG, Seal
from heaplab.allocators.sources import segments
from heaplab.allocators.sources.segments import Geometry
from heaplab.errors import HeapCorruption, Rule
from heaplab.kernel import Kernel
from heaplab.testing.twins import resident

KIB, MIB = 1024, 1 << 20
G = Geometry(4096)
seal = Seal()


@pytest.fixture
def process():
    return Kernel(ram="64 MiB", seed=1).init.fork()


@pytest.fixture(params=["python", "c"])
def new(request, process):
    return lambda options="": create("spans" + options, process, request.param)


@pytest.fixture
def heap(new):
    return new()


def on(heap, thread):
    """The same heap, called on this thread from now on."""
    heap.process.context.thread = thread
    return heap


def mems(heap, call, *args):
    context = heap.process.context
    before = context.loads + context.stores
    call(*args)
    return context.loads + context.stores - before


def broken(call, *args):
    with pytest.raises(HeapCorruption) as caught:
        call(*args)
    return caught.value.address, caught.value.rule


def states(heap, p):
    """The state of the span of the walk that p is the payload of."""
    return next(span.state for span in heap.walk() if span.payload == p and span.state != State.METADATA)


def span_of(p):
    return G.slot_of(p)


def frames(process):
    return len(list(resident(process)))


# ---- vital statistics ----


@pytest.mark.parametrize(
    ("checks", "fresh", "freed", "free", "remote", "first"),
    [("none", 4, 5, 6, 7, 11), ("links", 4, 5, 6, 7, 11), ("all", 6, 7, 10, 11, 14)],
)
def test_mems_of_the_short_paths(new, checks, fresh, freed, free, remote, first):
    heap = new(f":checks={checks}")
    blocks = [heap.malloc(100) for _ in range(20)]
    assert mems(heap, heap.malloc, 100) == fresh
    assert mems(heap, heap.free, blocks[3]) == free
    assert mems(heap, heap.malloc, 100) == freed
    on(heap, 1)
    assert mems(heap, heap.free, blocks[5]) == first
    assert mems(heap, heap.free, blocks[6]) == remote


def test_traits_are_kept_promises(heap):
    assert heap.TRAITS & Trait.THREADS
    assert not heap.TRAITS & (Trait.CONTIGUOUS | Trait.HEADERS | Trait.COALESCES)


def test_the_words_of_a_small_heap(heap):
    load = heap.process.load64
    p, q = heap.malloc(100), heap.malloc(100)
    assert q == p + 112
    span = span_of(p)
    capacity = G.slice // 112
    assert p == G.slice_of(span) + G.slice - capacity * 112
    assert load(span + HEAD) == span
    assert (
        load(span + STATE)
        == spans.LISTED | spans.CLEAN | 2 * spans.ONE_USED | (capacity - 2) * spans.ONE_LEFT
    )
    assert load(span + SHAPE) == seal(span, 1 << 8 | class_of(100))
    heap.free(p)
    unit = (p - G.segment_of(p)) // 16
    assert load(span + STATE) & spans.UNITS == unit
    assert load(p) == seal(p, 0)
    heap.free(q)
    assert load(q) == seal(q, unit)
    assert [heap.malloc(100), heap.malloc(100)] == [q, p]


def test_blocks_of_a_power_of_two_are_aligned(heap):
    for k in range(4, 17):
        assert {heap.malloc(1 << k) % (1 << min(k, 15)) for _ in range(5)} == {0}


@pytest.mark.parametrize("bits", range(4, 23))
def test_any_alignment(heap, bits):
    for size in (0, 1, 100, 5000, 40_000, 100_000, 3 * MIB):
        p = heap.aligned_alloc(1 << bits, size)
        assert p % (1 << bits) == 0
        assert heap.usable_size(p) >= size
        heap.process.fill(p, 7, size)
        heap.check()
        heap.free(p)
    heap.check()


def test_fresh_memory_is_zero_and_calloc_does_not_touch_it(new):
    heap = new()
    heap.malloc(5000)
    before = frames(heap.process)
    heap.calloc(1, 5000)
    assert frames(heap.process) == before, "nothing was written: the pages are not there"


# ---- the walk ----


def test_each_byte_of_a_segment_is_in_one_span(heap):
    chance, live = Random(3), {}
    for _ in range(600):
        if live and chance.random() < 0.45:
            p = chance.choice(list(live))
            heap.free(p)
            del live[p]
        else:
            size = chance.choice([1, 50, 100, 600, 5000, 30_000, 70_000, 300_000])
            live[heap.malloc(size)] = size
    walk = list(heap.walk())
    assert walk == sorted(walk)
    by_segment = Counter()
    for span, following in pairwise(walk):
        assert span.end <= following.start
    for span in walk:
        if span.state != State.LARGE and heap_segments(heap).get(G.segment_of(span.start)):
            by_segment[G.segment_of(span.start)] += span.size
    assert set(by_segment.values()) == {G.segment}
    live_in_walk = {span.payload: span.usable for span in walk if span.state.is_live}
    assert live_in_walk.keys() == live.keys()
    assert all(live_in_walk[p] >= size for p, size in live.items())


def heap_segments(heap):
    """The segments that the arenas' rings have."""
    load, found = heap.process.load64, {}
    arena = load(heap.root + ROOT_ARENAS)
    while arena:
        at = load(arena + segments.NEXT) & TAG
        while at != arena:
            found[at] = arena
            at = load(at + segments.NEXT) & TAG
        arena = load(arena + spans.ARENA_NEXT)
    return found


def test_looking_changes_nothing(new):
    for checks in ("none", "links", "all"):
        heap = new(f":checks={checks}")
        blocks = [heap.malloc(50) for _ in range(300)]
        for p in blocks[::3]:
            heap.free(p)
        context = heap.process.context
        before = context.loads, context.stores, heap.process.minflt
        freed = {span.payload for span in heap.walk() if span.state == State.FREE}
        assert {*blocks[::3]} < freed
        assert [entry.start for entry in heap.index()][:3] == blocks[::3][:-4:-1]
        heap.check()
        assert (context.loads, context.stores, heap.process.minflt) == before


# ---- threads ----


def test_each_thread_has_its_arena(heap):
    load = heap.process.load64
    p = on(heap, 0).malloc(100)
    q = on(heap, 1).malloc(100)
    assert G.segment_of(p) != G.segment_of(q)
    arenas = [load(heap.root + ROOT_THREADS + 8 * thread) for thread in (0, 1, 2)]
    assert 0 not in arenas[:2]
    assert arenas[0] != arenas[1]
    assert arenas[2] == 0


def test_a_block_that_another_thread_frees_is_cached_until_its_owner_needs_more(heap):
    load = heap.process.load64
    capacity = 32 * KIB // class_size(class_of(4000))
    blocks = [on(heap, 0).malloc(4000) for _ in range(capacity)]
    arena = load(heap.root + ROOT_THREADS)
    for p in blocks[:3]:
        on(heap, 1).free(p)
    span = span_of(blocks[0])
    assert load(span + REMOTE) >> spans.UNIT_BITS == 3
    assert load(arena + ARENA_MAILBOX) == span
    heap.check()
    assert [states(heap, p) for p in blocks[:4]] == [State.CACHED] * 3 + [State.ALLOCATED]
    assert {on(heap, 0).malloc(4000) for _ in range(3)} == set(blocks[:3])
    assert load(arena + ARENA_MAILBOX) == load(span + REMOTE) == 0
    heap.check()


def test_a_thread_without_an_arena_can_free(heap):
    p, run = on(heap, 0).malloc(100), heap.malloc(100_000)
    on(heap, 7).free(p)
    heap.free(run)
    assert states(heap, run) == State.CACHED
    heap.check()
    on(heap, 0).malloc(200)
    heap.check()


def test_many_threads(heap):
    blocks = [on(heap, thread).malloc(64) for thread in (0, 31, 32, 500, 1000, 3000)]
    assert len({G.segment_of(p) for p in blocks}) == len(blocks)
    heap.check()
    assert on(heap, 1 << 20).malloc(64) == 0
    assert heap.process.errno == 12
    for thread, p in zip((3000, 1000, 500, 32, 31, 0), blocks, strict=True):
        on(heap, thread).free(p)
    heap.check()


def test_a_thread_that_begins_takes_the_arena_of_one_that_ended(heap):
    blocks = [on(heap, 1).malloc(100) for _ in range(10)]
    heap.free(blocks[4])
    heap.thread_exit(1)
    heap.check()
    assert on(heap, 2).malloc(100) == blocks[4]
    heap.free(blocks[5])
    assert heap.malloc(100) == blocks[5], "its blocks are the new thread's own"
    heap.check()


def test_a_thread_that_needs_slices_adopts_what_others_left(heap):
    first = on(heap, 0).malloc(100)
    left = [on(heap, 1).malloc(30_000) for _ in range(100)]
    heap.thread_exit(1)
    on(heap, 0)
    for p in left[::2]:
        heap.free(p)  # to an arena that no thread has
    heap.check()
    count = len(heap_segments(heap))
    again = [heap.malloc(30_000) for _ in range(200)]
    assert {*left[::2]} <= {*again}
    assert len(set(heap_segments(heap).values())) == 1, "one arena has all segments"
    assert len(heap_segments(heap)) <= 2 * count
    for p in [first, *again, *left[1::2]]:
        heap.free(p)
    heap.check()
    assert not [span for span in heap.walk() if span.state.is_live]


def test_a_forked_child_frees_the_blocks_of_all_threads(heap):
    p, q = on(heap, 0).malloc(100), on(heap, 1).malloc(100)
    child = heap.attach(heap.process.fork())
    child.process.context.thread = 0
    child.free(p)
    child.free(q)
    child.check()
    assert states(child, q) == State.CACHED
    child.process.context.thread = 1
    assert q in {child.malloc(100) for _ in range(400)}, "a thread of the number goes on with the arena"
    heap.check()
    assert states(heap, p) == states(heap, q) == State.ALLOCATED


# ---- giving back ----


def test_pages_go_back_after_the_delay(new):
    heap = new(":delay=1MiB")
    blocks = [heap.malloc(100_000) for _ in range(30)]  # runs of 4 slices, in 2 segments
    keep = blocks[::15]
    for p in blocks:
        heap.process.fill(p, 1, 100_000)
    full = frames(heap.process)
    gone = [p for p in blocks if p not in keep]
    for p in gone[:7]:
        heap.free(p)
    assert "madvise" not in heap.process.syscalls
    assert frames(heap.process) == full
    for p in gone[7:]:
        heap.free(p)
    assert heap.process.syscalls["madvise"] > 0
    assert frames(heap.process) < full - 7 * 25 + 30
    heap.check()
    for p in keep:
        assert heap.process.load(p + 99_999, 1) == 1
    for _ in range(2):
        for p in [heap.malloc(100_000) for _ in range(30)]:
            heap.free(p)
    heap.check()


def test_an_empty_segment_is_unmapped_after_the_delay(new):
    heap = new(":delay=256KiB")
    blocks = [heap.malloc(100_000) for _ in range(40)]
    count = len(heap_segments(heap))
    for p in blocks:
        heap.free(p)
    for _ in range(12):
        heap.free(heap.malloc(100_000))
    assert len(heap_segments(heap)) < count
    heap.check()


def test_without_a_delay_pages_go_back_at_once(new):
    heap = new(":delay=0")
    stays, p = heap.malloc(100_000), heap.malloc(100_000)
    heap.process.fill(p, 1, 100_000)
    before = frames(heap.process)
    heap.free(p)
    assert frames(heap.process) == before - 25
    heap.free(stays)
    assert heap_segments(heap) == {}


def test_memory_that_went_back_is_zero_for_calloc(new):
    heap = new(":delay=0")
    heap.malloc(100_000)
    p = heap.malloc(100_000)
    heap.process.fill(p, 1, 100_000)
    heap.free(p)
    bulk = heap.process.context.bulk
    assert heap.calloc(1, 100_000) == p
    assert heap.process.context.bulk == bulk
    assert not any(heap.process.read(p, 100_000))


@pytest.mark.parametrize("size", [100, 5000, 60_000])
def test_one_block_freed_and_taken_again_is_no_system_call(heap, size):
    heap.malloc(100)
    calls = heap.process.syscalls.total()
    for _ in range(200):
        heap.free(heap.malloc(size))
    assert heap.process.syscalls.total() == calls


# ---- realloc ----


def test_a_block_stays_while_half_of_it_is_used(heap):
    p = heap.malloc(1000)
    assert heap.realloc(p, 1024) == p
    assert heap.realloc(p, 520) == p
    assert heap.realloc(p, 100) != p


def test_a_run_takes_the_slices_behind_it_and_gives_them_back(heap):
    p = heap.malloc(100_000)
    heap.process.fill(p, 9, 100_000)
    assert heap.realloc(p, 400_000 // 4) == p
    calls = heap.process.syscalls.total()
    assert heap.realloc(p, 127 * KIB) == p
    q = heap.malloc(70_000)
    assert heap.realloc(p, 70_000) == p
    assert heap.usable_size(p) == 80 * KIB
    heap.check()
    assert heap.realloc(p, 126 * KIB) == p
    heap.check()
    assert heap.process.syscalls.total() == calls
    assert heap.process.read(p, 70_000) == b"\x09" * 70_000
    heap.free(q)
    assert heap.realloc(p, 100) != p
    heap.check()


# ---- what is noticed ----


@pytest.mark.parametrize("size", [1, 100, 5000, 60_000, 100_000])
def test_double_free(heap, size):
    p, q = heap.malloc(size), heap.malloc(size)
    heap.free(p)
    assert broken(heap.free, p) == (p, Rule.DOUBLE_FREE)
    heap.process.fill(p, 0x41, size)
    assert broken(heap.free, p) == (p, Rule.DOUBLE_FREE)
    assert heap.usable_size(q) >= size


@pytest.mark.parametrize("thread", [0, 1])
def test_double_free_of_what_another_thread_freed(heap, thread):
    p, _ = heap.malloc(100), heap.malloc(100)
    on(heap, 1).free(p)
    on(heap, thread)
    assert broken(heap.free, p) == (p, Rule.DOUBLE_FREE)


def test_foreign_pointers_are_not_followed(heap):
    p, run = heap.malloc(1000), heap.malloc(100_000)
    inside = G.segment_of(p)
    fresh = p + 2 * 1024
    foreign = [8, 4096, 0x1000_0000_0000, (1 << 64) - 16, heap.process.mmap(4096), heap.root]
    for q in [
        *foreign,
        p + 16,
        p + 1,
        p - 16,
        fresh,
        run + 4096,
        inside,
        inside + 64,
        inside + 40 * G.slice,
    ]:
        for call in heap.free, heap.usable_size, lambda q: heap.realloc(q, 5):
            assert broken(call, q) == (q, Rule.FOREIGN_POINTER), hex(q)
    heap.check()


@pytest.mark.parametrize("checks", ["links", "all"])
def test_a_word_written_to_a_freed_block_is_no_link(new, checks):
    heap = new(f":checks={checks}")
    p, q, target = heap.malloc(100), heap.malloc(100), heap.malloc(100)
    for junk in (0, target, (target - G.segment_of(target)) // 16, (1 << 64) - 1):
        heap.free(q)
        heap.free(p)
        old = heap.process.load64(p)
        heap.process.store64(p, junk)
        assert broken(heap.check) == (p, Rule.BROKEN_LINK)
        assert broken(heap.malloc, 100) == (p, Rule.BROKEN_LINK)
        heap.process.store64(p, old)
        assert [heap.malloc(100), heap.malloc(100)] == [p, q]


@pytest.mark.parametrize("what", ["block", "slot", "segment", "arena", "root"])
def test_a_broken_heap_is_named_and_never_followed(new, what):
    """One random word of the metadata overwritten: check says so, or nothing can be wrong with it."""
    chance = Random(what)
    unnoticed = 0
    for _ in range(60):
        heap = new()
        blocks = [on(heap, n % 2).malloc(chance.choice([50, 100, 4000, 8000])) for n in range(60)]
        for p in blocks[::3]:
            on(heap, chance.randrange(2)).free(p)
        arena, segment = heap.process.load64(heap.root + ROOT_ARENAS), G.segment_of(blocks[1])
        at = {
            "block": blocks[3],
            "slot": span_of(blocks[1]) + 8 * chance.randrange(6),
            "segment": segment + 8 * chance.choice([0, 1, 2, 3, 5, 6]),
            "arena": arena + 8 * chance.choice([0, 1, 5, 6, 8, 16 + class_of(100)]),
            "root": heap.root + 8 * chance.choice([0, 5, 24]),
        }[what]
        old = heap.process.load64(at)
        new_word = chance.choice(
            [0, 1, old + 64, old ^ 1 << chance.randrange(64), chance.getrandbits(64), blocks[1]]
        )
        heap.process.store64(at, new_word)
        if new_word == old:
            continue
        try:
            heap.check()
            unnoticed += 1
            list(heap.walk())
        except HeapCorruption:
            pass
    assert unnoticed <= 6, "words of no span's list, and the flag of a clean span, can be anything"


# ---- exhaustion ----


@pytest.mark.parametrize("page_size", [64, 256, 4096])
def test_nothing_is_lost_when_memory_ends(page_size):
    for language in ("python", "c"):
        process = Kernel(ram=256 * page_size * 16, page_size=page_size, seed=1).init.fork()
        process.setrlimit(RLIMIT_AS, (6 * Geometry(page_size).segment,) * 2)
        heap = create("spans", process, language)
        g = Geometry(page_size)
        blocks = []
        while p := heap.malloc(g.slice // 2):
            blocks.append(p)
        assert blocks
        assert process.errno == 12
        heap.check()
        assert heap.malloc(3 * g.slice) == 0
        assert heap.aligned_alloc(g.slice, 2 * g.slice) == 0
        assert heap.realloc(blocks[0], 6 * g.segment) == 0
        heap.check()
        assert [span.payload for span in heap.walk() if span.state.is_live] == sorted(blocks)
        heap.free(blocks.pop())
        assert heap.malloc(g.slice // 2)
        for p in blocks:
            heap.free(p)
        heap.check()


def test_a_heap_that_cannot_begin():
    for language in ("python", "c"):
        process = Kernel(ram="1 MiB", seed=1).init.fork()
        process.setrlimit(RLIMIT_AS, (300 * KIB, 300 * KIB))
        maps = process.maps()
        process.setrlimit(RLIMIT_AS, (4096, 4096))
        with pytest.raises(MemoryError):
            create("spans", process, language)
        assert process.maps() == maps


# ---- the twins ----


class Pair:
    """The same calls on both languages: equal in results, counts, the order of references, and bytes."""

    def __init__(self, spec, page_size, ram):
        self.heaps = []
        for language in ("python", "c"):
            process = Kernel(ram=ram, page_size=page_size, seed=1).init.fork()
            self.heaps.append(parse(spec, language).create(process))
            process.context.observe(True)

    def call(self, thread, verb, *args):
        results = [getattr(on(heap, thread), verb)(*args) for heap in self.heaps]
        seen = [
            (heap.process.context.order, heap.process.context.bulk, heap.process.syscalls, heap.process.errno)
            for heap in self.heaps
        ]
        assert results[0] == results[1], (verb, args)
        assert seen[0] == seen[1], (verb, args)
        return results[0]

    def write(self, p, n):
        for heap in self.heaps:
            heap.process.write(p, bytes([p >> 4 & 255]) * n)

    def verify(self, live):
        for heap in self.heaps:
            heap.check()
        walks = [list(heap.walk()) for heap in self.heaps]
        assert walks[0] == walks[1]
        assert {span.payload for span in walks[0] if span.state.is_live} == live.keys()
        assert all(a.end <= b.start for a, b in pairwise(walks[0]))
        for heap in self.heaps:
            for p, n in live.items():
                assert heap.process.read(p, n) == bytes([p >> 4 & 255]) * n


@pytest.mark.parametrize("options", ["", ":delay=64KiB:checks=none", ":delay=0:checks=links:seal=keyed"])
@pytest.mark.parametrize(("page_size", "ram"), [(4096, "32 MiB"), (256, "8 MiB"), (64, "128 KiB")])
def test_twins_on_threads(options, page_size, ram):
    pair, chance, live = Pair("spans" + options, page_size, ram), Random(options), {}
    slice_size = Geometry(page_size).slice

    def size():
        most = chance.choice(
            [page_size // 8, page_size // 8, 2 * slice_size + 9, 20 * slice_size, 80 * slice_size]
        )
        return chance.randrange(1, most)

    for step in range(700):
        thread = chance.choice((0, 0, 0, 1, 2, 40))
        kind = chance.random()
        if kind < 0.02:
            pair.call(thread, "thread_exit", chance.choice((1, 2, 40)))
        elif kind < (0.6 if step // 150 % 2 == 0 else 0.35) or not live:
            n = size()
            verb = chance.choice(["malloc", "malloc", "malloc", "calloc", "aligned_alloc"])
            args = {"malloc": (n,), "calloc": (1, n), "aligned_alloc": (1 << chance.randrange(16), n)}[verb]
            if p := pair.call(thread, verb, *args):
                if verb == "calloc":
                    assert not any(pair.heaps[0].process.read(p, n))
                    assert not any(pair.heaps[1].process.read(p, n))
                live[p] = min(n, 2000)
                pair.write(p, live[p])
        elif kind < 0.7:
            old, n = chance.choice(list(live)), size()
            if p := pair.call(thread, "realloc", old, n):
                kept = min(live.pop(old), n)
                for heap in pair.heaps:
                    assert heap.process.read(p, kept) == bytes([old >> 4 & 255]) * kept
                live[p] = min(n, 2000)
                pair.write(p, live[p])
        else:
            p = chance.choice(list(live))
            del live[p]
            pair.call(thread, "free", p)
        if step % 25 == 0:
            pair.verify(live)
    pages = [dict(resident(heap.process)) for heap in pair.heaps]
    assert pages[0] == pages[1]
    assert pair.heaps[0].process.maps() == pair.heaps[1].process.maps()
