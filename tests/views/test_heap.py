"""A heap at one moment, as data: it is what the heap, the page tables and the kernel say."""

import random

import pytest

from heaplab import allocators
from heaplab.allocators import Allocator, State, names
from heaplab.kernel import Kernel
from heaplab.views.heap import PageState, heap_view


def used(spec: str, language: str = "python", seed: int = 3) -> Allocator:
    """A heap after some requests, payloads written."""
    heap = allocators.create(spec, Kernel(ram="64 MiB", seed=1).init.fork(), language)
    chance, live = random.Random(seed), []
    for _ in range(60):
        size = chance.choice((24, 100, 900, 5000, 200_000))
        live.append(heap.malloc(size))
        heap.process.fill(live[-1], 1, size)
        if chance.random() < 0.5:
            heap.free(live.pop(chance.randrange(len(live))))
    return heap


@pytest.mark.parametrize("spec", names())
def test_it_is_the_walk_the_index_and_the_pages(spec: str) -> None:
    heap = used(spec)
    process = heap.process
    references, faults = process.context.loads + process.context.stores, process.minflt
    view = heap_view(heap)
    assert [(b.start, b.size, b.payload, b.usable, b.state) for b in view.blocks] == list(heap.walk())
    assert list(view.free) == list(heap.index())
    # all pages that the spans lie in, each once, and as the page tables have them
    spans = {page for b in view.blocks for page in range(b.start & -4096, b.end, 4096)}
    assert [page.address for page in view.pages] == sorted(spans)
    for page in view.pages:
        frame = process.frame_of(page.address)
        assert page.frame == frame
        assert (page.state is PageState.ABSENT) == (frame is None)
    # looking has changed nothing
    assert (process.context.loads + process.context.stores, process.minflt) == (references, faults)


def test_pages_shared_with_a_child_are_shared_until_one_writes() -> None:
    heap = used("freelist")
    child = heap.process.fork()
    resident = [page for page in heap_view(heap).pages if page.state is not PageState.ABSENT]
    assert {page.state for page in resident} == {PageState.SHARED}
    assert {page.sharers for page in resident} == {2}
    child.store64(resident[-1].address, child.load64(resident[-1].address))
    for view in heap_view(heap), heap_view(heap.attach(child)):
        owned = [page.address for page in view.pages if page.state is PageState.OWN]
        assert owned == [resident[-1].address]


def test_regions_are_the_break_and_the_mappings() -> None:
    heap = used("freelist:mmap_threshold=128k")
    view = heap_view(heap)
    assert [region.name for region in view.regions].count("brk") == 1
    brk = next(region for region in view.regions if region.name == "brk")
    assert brk.end == view.brk == heap.process.sbrk(0)
    large = next(block for block in view.blocks if block.state is State.LARGE)
    assert view.place(large.start).startswith("mmap")
    assert view.place(heap.root) == f"+{heap.root - brk.start:#x}"


def test_a_broken_heap_is_shown_with_its_fault() -> None:
    heap = used("rbtree")
    block = next(block for block in heap.walk() if block.state is State.ALLOCATED)
    heap.process.store64(block.start, 0xDEAD)
    view = heap_view(heap)
    assert f"{block.payload:#x}" in view.fault
    assert "the heap is broken" in str(view)


def test_a_heap_can_be_looked_at_in_a_core() -> None:
    kernel = Kernel(ram="16 MiB", core=True)
    heap = allocators.create("buddy", kernel.init.fork())
    p = heap.malloc(100)
    with pytest.raises(Exception, match="SIGSEGV"):
        heap.process.load64(8)
    view = heap_view(heap.attach(heap.process.core))
    assert [block.payload for block in view.live] == [p]
    assert view.title == "buddy"
