"""What POSIX and base.py say of malloc, calloc, realloc, aligned_alloc and free, memory being there."""

import errno
from itertools import pairwise

from heaplab.allocators import Trait
from heaplab.testing.contract.factory import (
    KIB,
    Clause,
    HeapFactory,
    allocated,
    clause,
    fill,
    holds,
    memory_of,
    needs,
)
from heaplab.testing.steps import HUGE


@clause
def blocks_are_aligned_apart_and_large_enough(factory: HeapFactory) -> None:
    """Every block is a multiple of 16, has room for what was asked, and overlaps no other."""
    heap = factory.heap()
    sizes = [*range(70), 100, 500, 1000, 4000, 5000, 100_000, 200_000]
    blocks = sorted((heap.malloc(size), size) for size in sizes)
    for p, size in blocks:
        assert p % 16 == 0
        assert heap.usable_size(p) >= size
    for (p, _), (q, _) in pairwise(blocks):
        assert p + heap.usable_size(p) <= q
    heap.check()


@clause
def all_usable_bytes_can_be_used(factory: HeapFactory) -> None:
    """usable_size bytes of every block can be written, and nothing else changes."""
    heap = factory.heap()
    blocks = [heap.malloc(size) for size in (1, 24, 25, 100, 5000, 200_000)]
    for byte, p in enumerate(blocks):
        fill(heap, p, byte, heap.usable_size(p))
    for byte, p in enumerate(blocks):
        assert holds(heap, p, byte, heap.usable_size(p))
    heap.check()


@clause
def size_0_gives_a_block_of_its_own(factory: HeapFactory) -> None:
    """malloc(0), calloc(0, n) and aligned_alloc(a, 0) give different blocks that can be freed."""
    heap = factory.heap()
    blocks = [heap.malloc(0), heap.malloc(0), heap.calloc(0, 8), heap.calloc(8, 0), heap.aligned_alloc(64, 0)]
    assert 0 not in blocks
    assert len(set(blocks)) == len(blocks)
    for p in reversed(blocks):
        heap.free(p)
    heap.check()
    assert not allocated(heap)


@clause
def null_is_no_block(factory: HeapFactory) -> None:
    """free(0) does nothing, usable_size(0) is 0, realloc(0, n) is malloc(n)."""
    heap = factory.heap()
    heap.free(0)
    assert heap.usable_size(0) == 0
    p = heap.realloc(0, 100)
    assert heap.usable_size(p) >= 100
    assert list(allocated(heap)) == [p]


@needs(Trait.REUSES)
def freed_memory_is_used_again(factory: HeapFactory) -> None:
    """A thousand blocks, one at a time, need no more memory than one."""
    heap = factory.heap()
    heap.free(heap.malloc(1000))
    before = memory_of(heap.process)
    for _ in range(1000):
        heap.free(heap.malloc(1000))
    assert memory_of(heap.process) == before


@needs(Trait.REUSES | Trait.ANY_ORDER)
def a_thousand_holes_are_filled_again(factory: HeapFactory) -> None:
    """Every second block freed, and the holes used for blocks of the same size before the heap grows."""
    heap = factory.heap()
    blocks = [heap.malloc(40) for _ in range(2000)]
    for p in blocks[::2]:
        heap.free(p)
    heap.check()
    before = memory_of(heap.process)
    again = [heap.malloc(40) for _ in range(1000)]
    assert memory_of(heap.process) == before
    for p in again + blocks[1::2]:
        heap.free(p)
    heap.check()


# ---- calloc, realloc, aligned_alloc ----


@clause
def calloc_gives_zeros(factory: HeapFactory) -> None:
    """Also where other content was before, and from mmap."""
    heap = factory.heap()
    for size in (24, 1000, 40_000, 200_000):
        p = heap.malloc(size)
        fill(heap, p, 0xFF, size)
        guard = heap.malloc(1) if Trait.ANY_ORDER in factory.traits else 0
        heap.free(p)
        q = heap.calloc(size // 8, 8)
        assert holds(heap, q, 0, size)
        heap.free(guard)
    heap.check()


@clause
def calloc_refuses_a_product_that_overflows(factory: HeapFactory) -> None:
    """n * size of 2**64 or more is ENOMEM, also when it wraps around to something small."""
    heap = factory.heap()
    for n, size in ((1 << 32, 1 << 32), ((1 << 63) + 1, 2), (1 << 61, 9), (3, (1 << 64) - 1)):
        heap.process.errno = 0
        assert heap.calloc(n, size) == 0
        assert heap.process.errno == errno.ENOMEM
    assert not allocated(heap)


@needs(Trait.ANY_ORDER)
def realloc_keeps_content(factory: HeapFactory) -> None:
    """Growing and shrinking, in place or not, across the mmap threshold and back."""
    heap = factory.heap(mmap_threshold=32 * KIB)
    sizes = (10, 500, 30, 3000, 20_000, 100, 60_000, 70_000, 40_000, 200_000, 33_000, 20, 5000)
    p, kept = heap.malloc(1), 1
    fill(heap, p, 0, 1)
    for byte, size in enumerate(sizes):
        in_the_way = heap.malloc(1 + byte * 10)
        q = heap.realloc(p, size)
        assert holds(heap, q, byte, min(kept, size))
        assert heap.usable_size(q) >= size
        fill(heap, q, byte + 1, size)
        if byte % 2:
            heap.free(in_the_way)
        p, kept = q, size
        heap.check()


@clause
def realloc_to_size_0_frees(factory: HeapFactory) -> None:
    """realloc(p, 0) gives p back and returns 0, as glibc does."""
    heap = factory.heap()
    for size in (100, 200_000):
        assert heap.realloc(heap.malloc(size), 0) == 0
    assert not allocated(heap)


@clause
def realloc_that_fails_leaves_the_block(factory: HeapFactory) -> None:
    """On 0 the block is as it was: where it was, as large, and with its content."""
    heap = factory.heap()
    for size in (100, 200_000):
        p = heap.malloc(size)
        fill(heap, p, 0x55, size)
        for huge in HUGE:
            heap.process.errno = 0
            assert heap.realloc(p, huge) == 0
            assert heap.process.errno == errno.ENOMEM
        assert holds(heap, p, 0x55, size)
        assert heap.usable_size(p) >= size
    heap.check()


@needs(Trait.RESIZES)
def realloc_within_a_block_does_not_move(factory: HeapFactory) -> None:
    """A size that the block has room for leaves it where it is."""
    heap = factory.heap()
    for size in (100, 1000, 200_000):
        p = heap.malloc(size)
        assert heap.realloc(p, heap.usable_size(p)) == p
        assert heap.realloc(p, size) == p


@clause
def aligned_alloc_aligns(factory: HeapFactory) -> None:
    """Every power of two, small blocks and large ones."""
    heap = factory.heap()
    kept: list[int] = []
    for bits in range(18):
        for size in (1, 100, 5000, 150_000):
            kept.append(heap.malloc(8 + bits))
            p = heap.aligned_alloc(1 << bits, size)
            assert p % (1 << bits) == 0
            assert p % 16 == 0
            assert heap.usable_size(p) >= size
            fill(heap, p, bits, size)
            heap.check()
            if size == 100:
                kept.append(p)
            else:
                heap.free(p)
    for p in reversed(kept):
        heap.free(p)
    heap.check()
    assert not allocated(heap)


@clause
def aligned_alloc_refuses_what_is_no_power_of_two(factory: HeapFactory) -> None:
    """EINVAL, and nothing is allocated."""
    heap = factory.heap()
    for alignment in (0, 3, 24, 100, (1 << 63) + 1, (1 << 64) - 1):
        heap.process.errno = 0
        assert heap.aligned_alloc(alignment, 100) == 0
        assert heap.process.errno == errno.EINVAL
    assert not allocated(heap)


CLAUSES: tuple[Clause, ...] = (
    blocks_are_aligned_apart_and_large_enough,
    all_usable_bytes_can_be_used,
    size_0_gives_a_block_of_its_own,
    null_is_no_block,
    freed_memory_is_used_again,
    a_thousand_holes_are_filled_again,
    calloc_gives_zeros,
    calloc_refuses_a_product_that_overflows,
    realloc_keeps_content,
    realloc_to_size_0_frees,
    realloc_that_fails_leaves_the_block,
    realloc_within_a_block_does_not_move,
    aligned_alloc_aligns,
    aligned_alloc_refuses_what_is_no_power_of_two,
)
