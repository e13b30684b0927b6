"""Looking at a heap changes nothing, and ends soundly whatever the heap's metadata say."""

from random import Random

import pytest

from heaplab import allocators
from heaplab.allocators import State
from heaplab.errors import HeapCorruption
from heaplab.testing.checked_heap import CheckedHeap
from heaplab.testing.steps import random_step
from heaplab.testing.twins import resident

DESIGNS = [(name, language) for language in allocators.LANGUAGES for name in allocators.names(language)]
LOOKS = ("walk", "index", "check")


@pytest.fixture(params=DESIGNS, ids=" ".join)
def checked(request):
    """A heap with some history."""
    heap, chance = CheckedHeap(*request.param), Random(5)
    for _ in range(120):
        heap.do(random_step(heap, chance, processes=1))
    return heap


def look(heap, how):
    """Look at all there is to see."""
    return list(getattr(heap, how)() or ())


def seen_from_below(process):
    """All that the machine and the kernel count of a process, and its pages."""
    context, space = process.context, process.context.space
    return (
        (context.loads, context.stores, context.bulk, context.tlb_misses, context.faults),
        (process.minflt, process.majflt, process.syscalls, process.maps(), process.errno),
        (space.tables, space.cached, context.machine.free_frames),
        dict(resident(process)),
    )


@pytest.mark.parametrize("how", LOOKS)
def test_a_look_changes_nothing(checked, how):
    heap = checked.heaps[0]
    before = seen_from_below(heap.process)
    look(heap, how)
    assert seen_from_below(heap.process) == before


def test_the_index_has_blocks_that_are_not_allocated(checked):
    heap = checked.heaps[0]
    spans = {span.start: span for span in heap.walk()}
    entries = list(heap.index())
    for entry in entries:
        assert spans[entry.start].state in (State.FREE, State.CACHED), entry
        assert spans[entry.start].size == entry.size
    assert len({entry.start for entry in entries}) == len(entries)


def test_the_twins_have_the_same_index():
    for name in set(allocators.names("c")) & set(allocators.names("python")):
        indices = []
        for language in allocators.LANGUAGES:
            checked, chance = CheckedHeap(name, language), Random(2)
            for _ in range(60):
                checked.do(random_step(checked, chance, processes=1))
            indices.append(list(checked.heaps[0].index()))
        assert indices[0] == indices[1], name


def words_of(heap):
    """The words of the heap's metadata and free blocks, and of the headers before payloads."""
    for span in heap.walk():
        if span.state.is_live:
            yield from range(span.start, span.payload, 8)
        else:
            yield from range(span.start, span.start + min(span.size, 512), 8)


def test_looks_at_a_broken_heap_end_in_heap_corruption(checked):
    """One to four words overwritten: by noise, by addresses of the heap, by addresses of nobody's."""
    heap, chance = checked.heaps[0], Random(9)
    words = list(words_of(heap))
    named = 0
    for _ in range(200):
        child = heap.attach(heap.process.fork())
        for _ in range(chance.randrange(1, 5)):
            value = chance.choice(
                [
                    chance.getrandbits(64),
                    chance.choice(words),
                    chance.choice(words) ^ 8,
                    0,
                    8,
                    heap.root,
                    1 << 46,
                ]
            )
            child.process.store64(chance.choice(words), value)
        for how in LOOKS:
            try:
                look(child, how)
            except HeapCorruption:
                named += 1
        child.process.exit(0)
        heap.process.wait()
    assert named > 20
