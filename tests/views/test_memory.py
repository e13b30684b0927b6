"""A hexdump of a heap: every byte once, words decoded, repetitions and long stretches counted."""

import pytest

from heaplab import allocators
from heaplab.allocators import Entry, names
from heaplab.kernel import Kernel
from heaplab.views.changes import BlockChange, block_changes
from heaplab.views.free import free_lines
from heaplab.views.heap import heap_view
from heaplab.views.lines import Line, memory_lines
from heaplab.views.memory import ROW, memory_view


def used(spec: str):
    """A heap with blocks of one byte's value each, of which every other was freed."""
    heap = allocators.create(spec, Kernel(ram="64 MiB").init.fork())
    sizes = (24, 100, 3000, 40, 900, 500_000)
    blocks = [heap.malloc(size) for size in sizes]
    for block, size in zip(blocks, sizes, strict=True):
        heap.process.fill(block, 0xA5, size)
    for block in blocks[::2]:
        heap.free(block)
    return heap


@pytest.mark.parametrize("spec", names())
def test_every_byte_is_shown_once_or_left_out(spec: str) -> None:
    heap = used(spec)
    view = heap_view(heap)
    look = heap.process.look()
    for block in view.blocks:
        memory = memory_view(heap, view, block.start, block.end, most=6)
        at = block.start
        for line in memory.lines:
            assert line.address == at
            if line.data is not None:
                assert line.data == look.peek(at, len(line.data))
            at += line.skipped or len(line.data or b"") or ROW
        assert at == block.end
        if block.state.is_live:
            assert sum(line.word is None for line in memory.lines) <= 8
        told = [line.word for line in memory.lines if line.word]
        assert told == [
            word for word in heap.words(block.start, block.end, block.start) if word.address >= block.start
        ]


def test_repetitions_are_told_once() -> None:
    heap = used("rbtree")
    view = heap_view(heap)
    block = next(block for block in view.live if block.usable > 400_000)
    memory = memory_view(heap, view, block.start, block.end)
    full, skipped = memory.lines[-3:-1]
    assert full.data == b"\xa5" * ROW
    assert skipped.skipped > 400_000
    lines = list(memory_lines(memory, view.place, 80))
    assert any(line.text.startswith("*") and "bytes more, up to mmap" in line.text for line in lines)
    assert max(len(line.text) for line in lines) <= 80


def test_memory_that_cannot_be_read_says_so() -> None:
    heap = used("buddy")
    view = heap_view(heap)
    lines = memory_view(heap, view, 0x1000, 0x1020).lines
    assert {line.hex for line in lines} == {"??"}


def test_a_broken_header_is_said_to_be_broken() -> None:
    heap = used("rbtree")
    block = heap_view(heap).live[0]
    heap.process.store64(block.start, heap.process.load64(block.start) ^ 0x100)
    view = heap_view(heap)
    assert view.fault
    memory = memory_view(heap, view, block.start, block.end)
    assert "seal broken" in memory.lines[0].word.text
    assert isinstance(next(memory_lines(memory, view.place, 80)), Line)


def test_free_blocks_that_lead_round_are_each_shown_once() -> None:
    entries = [Entry(8, 32, "a", 40), Entry(40, 32, "b", 8), Entry(80, 32, "c", 0)]
    lines = free_lines(entries, tree=True)
    assert sorted(line.entry.place for line in lines) == ["a", "b", "c"]
    assert {line.entry.place for line in lines if line.branch.startswith("?")} == {"a", "b"}


def test_a_heap_that_begins_or_ends_has_only_new_or_only_old_blocks() -> None:
    view = heap_view(used("rbtree"))
    [first, *_] = block_changes(None, view)
    assert isinstance(first, BlockChange)
    assert first.words == "new memory"
    assert {change.words for change in block_changes(view, None)} == {"given back"}
    assert block_changes(view, view) == block_changes(None, None) == ()
