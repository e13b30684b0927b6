"""What designs promise that keep something for each thread, and of all designs called on several."""

from random import Random

from heaplab.allocators import Allocator, State, Trait
from heaplab.testing.checked_heap import CheckedHeap
from heaplab.testing.contract.factory import (
    Clause,
    HeapFactory,
    allocated,
    clause,
    fill,
    holds,
    memory_of,
    needs,
    on_thread,
)
from heaplab.testing.steps import random_step

THREADS = 4


def taken(heap: Allocator, thread: int, n: int, size: int = 100) -> list[int]:
    """Blocks that a thread has taken."""
    with on_thread(heap, thread):
        blocks = [heap.malloc(size) for _ in range(n)]
    assert 0 not in blocks
    return blocks


def freed(heap: Allocator, thread: int, blocks: list[int]) -> None:
    """Let a thread free blocks, the newest first."""
    with on_thread(heap, thread):
        for p in reversed(blocks):
            heap.free(p)


@clause
def threads_have_one_heap(factory: HeapFactory) -> None:
    """Blocks of different threads lie apart, and each thread sees what the others wrote, and may free it."""
    heap = factory.heap()
    blocks = [p for thread in range(THREADS) for p in taken(heap, thread, 50)]
    assert len(set(blocks)) == len(blocks)
    assert sorted(allocated(heap)) == sorted(blocks)
    for byte, p in enumerate(blocks):
        fill(heap, p, byte, 100)
    assert all(holds(heap, p, byte, 100) for byte, p in enumerate(blocks))
    heap.check()
    freed(heap, 1, blocks)
    assert not allocated(heap)
    heap.check()


@clause
def blocks_outlive_their_thread(factory: HeapFactory) -> None:
    """The end of a thread frees none of its blocks, and another thread of its number finds nothing of it."""
    heap = factory.heap()
    blocks = taken(heap, 1, 100)
    for byte, p in enumerate(blocks):
        fill(heap, p, byte, 100)
    heap.thread_exit(1)
    heap.check()
    assert sorted(allocated(heap)) == sorted(blocks)
    more = taken(heap, 1, 100) + taken(heap, 2, 100)
    assert not set(more) & set(blocks)
    assert all(holds(heap, p, byte, 100) for byte, p in enumerate(blocks))
    freed(heap, 2, blocks + more)
    heap.check()
    assert not allocated(heap)


@needs(Trait.THREADS | Trait.REUSES | Trait.ANY_ORDER)
def what_another_thread_frees_is_used_again(factory: HeapFactory) -> None:
    """One takes, another frees, ten times: never does the heap need twice the memory of the first time."""
    heap, held = factory.heap(), []
    for _ in range(10):
        blocks = taken(heap, 1, 100, 3000)
        held.append(memory_of(heap.process))
        freed(heap, 2, blocks)
        assert not allocated(heap)
    heap.check()
    assert max(held) <= 2 * held[0], f"{held} bytes were held for blocks of 300,000"


@needs(Trait.THREADS)
def the_end_of_a_thread_leaves_nothing_cached(factory: HeapFactory) -> None:
    """What a thread had back and the design kept for it is free for all again."""
    heap = factory.heap()
    blocks = taken(heap, 1, 500) + taken(heap, 1, 50, 3000)
    freed(heap, 1, blocks)
    heap.thread_exit(1)
    cached = [span for span in heap.walk() if span.state == State.CACHED]
    assert not cached, f"{len(cached)} blocks are still kept, the first at {cached[0].payload:#x}"
    heap.check()


@needs(Trait.THREADS | Trait.REUSES)
def the_end_of_a_thread_gives_its_memory_to_others(factory: HeapFactory) -> None:
    """Thread after thread takes as much, frees it and ends: never is twice the memory of the first needed."""
    heap, held = factory.heap(), []
    for thread in range(1, 12):
        blocks = taken(heap, thread, 100, 3000)
        held.append(memory_of(heap.process))
        freed(heap, thread, blocks)
        heap.thread_exit(thread)
    heap.check()
    assert max(held) <= 2 * held[0], f"{held} bytes were held for blocks of 300,000"


@needs(Trait.THREADS)
def a_thread_that_ends_twice_or_never_began_is_no_error(factory: HeapFactory) -> None:
    """There is nothing to give back then."""
    heap = factory.heap()
    p = heap.malloc(100)
    for thread in (7, 7, 0, 0, 65_535):
        heap.thread_exit(thread)
        heap.check()
    heap.free(p)
    assert not allocated(heap)


@needs(Trait.THREADS)
def random_steps_on_threads_break_nothing(factory: HeapFactory) -> None:
    """Four hundred of them on four threads, with their ends, and with forks."""
    heap, chance = CheckedHeap(factory.spec), Random(12)
    for _ in range(400):
        heap.do(random_step(heap, chance, crowd=80))


CLAUSES: tuple[Clause, ...] = (
    threads_have_one_heap,
    blocks_outlive_their_thread,
    what_another_thread_frees_is_used_again,
    the_end_of_a_thread_leaves_nothing_cached,
    the_end_of_a_thread_gives_its_memory_to_others,
    a_thread_that_ends_twice_or_never_began_is_no_error,
    random_steps_on_threads_break_nothing,
)
