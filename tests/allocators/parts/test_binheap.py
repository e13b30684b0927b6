"""The binary heap on a list of words, against sorting; and its array's growth."""

import errno
import resource
from random import Random

import pytest

from heaplab import allocators
from heaplab.allocators.families.tagged import ROOT_INDEX
from heaplab.allocators.parts.binheap import CAPACITY, COUNT, BinaryHeap
from heaplab.allocators.parts.index import Survey
from heaplab.allocators.parts.seal import Seal
from heaplab.allocators.parts.tags import header, size_of
from heaplab.errors import HeapCorruption, Rule
from heaplab.kernel import Kernel

BASE = 0x100
SEAL = Seal()


class Words(dict):
    """A memory of words, where mappings are handed out upwards."""

    page_size = 4096
    top = 1 << 40
    load64 = dict.__getitem__
    store64 = dict.__setitem__

    def mmap(self, length):
        self.top += length
        return self.top - length

    def munmap(self, addr, length):
        for word in range(addr, addr + length, 8):
            self.pop(word, None)

    def copy(self, dst, src, n):
        for offset in range(0, n, 8):
            self[dst + offset] = self[src + offset]


def test_the_largest_comes_first_whatever_was_done_before():
    words, chance, keys = Words(), Random(3), {}
    heap = BinaryHeap(words, BASE, {})
    heap.init(64)
    for step in range(4000):
        kind = chance.random()
        if kind < (0.6 if step < 2000 else 0.3) or not keys:
            block, size = (step + 1) * 0x10000 + 8, 16 * chance.randrange(2, 60)
            assert heap.reserve(64 * (len(keys) + 1))
            heap.insert(block, size)
        else:
            block = chance.choice(list(keys))
            old = keys.pop(block)
            if kind < 0.75:
                heap.remove(block, old)
                block = 0
            elif kind < 0.9:
                size = old + 16 * chance.randrange(10)
                heap.grow(block, old, block, size)
            else:
                size = max(32, old - 16 * chance.randrange(10))
                heap.shrink(block, old, block + 16, size)
                block += 16
        if block:
            keys[block] = size
            words[block] = header(SEAL, block, size, 0)
        largest = max(keys, key=lambda block: (keys[block], -block), default=0)
        found, word, _ = heap.find(1)
        assert (found, size_of(word)) == (largest, keys.get(largest, 0))
        if step % 100 == 0:
            survey = Survey(words, SEAL, 8, 1 << 40)
            for block in keys:
                survey.walked(block)
                heap.check_links(survey, block)
            heap.check(survey)
            survey.close(BASE)


def test_every_hole_has_a_slot_and_the_array_moves(create, process):
    """As many free blocks as a heap can have: every second one of the smallest."""
    heap = create("binheap:top_pad=0:trim_threshold=1GiB")
    maps = process.syscalls["mmap"]
    blocks = [heap.malloc(24) for _ in range(20_000)]
    for p in blocks[::2]:
        heap.free(p)
    load = process.load64
    count, capacity = load(heap.root + ROOT_INDEX + COUNT), load(heap.root + ROOT_INDEX + CAPACITY)
    assert 10_000 <= count <= capacity <= 4 * count
    assert 4 <= process.syscalls["mmap"] - maps <= 8
    assert process.syscalls["munmap"] == process.syscalls["mmap"] - 1
    heap.check()
    for p in blocks[1::2]:
        heap.free(p)
    heap.check()
    assert load(heap.root + ROOT_INDEX + COUNT) == 1


def limited(room):
    """A process whose address space may grow by that many bytes."""
    process = Kernel(ram="16 MiB", seed=1).init.fork()
    limit_to(process, room)
    return process


def limit_to(process, room):
    used = int(process.context.space.raw.vm_pages) * process.page_size
    process.setrlimit(resource.RLIMIT_AS, (used + room, used + room))


@pytest.mark.parametrize("language", allocators.LANGUAGES)
def test_when_the_array_cannot_grow_malloc_fails_and_free_does_not(language):
    """One page for the heap there is, but not the two pages of the array that would go with it."""
    process = limited(1 << 20)
    heap = allocators.create("binheap:top_pad=0", process, language)
    limit_to(process, 28 * 1024 + 4096)
    blocks = []
    while p := heap.malloc(24):
        blocks.append(p)
    assert process.errno == errno.ENOMEM
    assert process.sbrk(0) - heap.root <= 32 * 1024 < process.sbrk(4096) + 4096 - heap.root
    process.sbrk(-4096)
    heap.check()
    for p in blocks[::2] + blocks[1::2]:
        heap.free(p)
    heap.check()


@pytest.mark.parametrize("language", allocators.LANGUAGES)
def test_a_heap_without_room_for_its_array_is_not_created(language):
    process = limited(33 * 4096 + 4096)
    before = process.sbrk(0)
    with pytest.raises(MemoryError):
        allocators.create("binheap", process, language)
    assert process.syscalls["mmap"] == 1
    assert process.sbrk(0) == before


@pytest.mark.parametrize("language", allocators.LANGUAGES)
def test_a_heap_without_room_for_its_root_is_not_created(language):
    process = limited(4096)
    with pytest.raises(MemoryError, match="root"):
        allocators.create("binheap", process, language)


@pytest.mark.parametrize("fault", ["slot", "order", "count", "too many", "stranger"])
def test_check_finds(create, process, fault):
    heap = create("binheap")
    holes = [heap.malloc(16 * n) for n in range(2, 30) if heap.malloc(1)]
    for p in holes:
        heap.free(p)
    load, store = process.load64, process.store64
    array = load(heap.root + ROOT_INDEX)
    match fault:
        case "slot":
            store(holes[5], load(holes[5]) + 1)
        case "order":
            top, below = load(array), load(array + 8)
            store(array, below), store(below + 8, 0)
            store(array + 8, top), store(top + 8, 1)
        case "count":
            store(heap.root + ROOT_INDEX + COUNT, load(heap.root + ROOT_INDEX + COUNT) - 1)
        case "too many":
            store(heap.root + ROOT_INDEX + COUNT, 1 << 40)
        case "stranger":
            store(array + 16, heap.root)
    with pytest.raises(HeapCorruption) as caught:
        heap.check()
    assert caught.value.rule in (Rule.BROKEN_INDEX, Rule.BROKEN_LINK)
