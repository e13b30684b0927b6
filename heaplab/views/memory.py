"""Memory with the design's own words decoded: a hexdump that says what it shows."""

from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

from heaplab.allocators import Allocator
from heaplab.allocators.base import Word
from heaplab.views.heap import BlockView, HeapView

#: bytes on a line: of a word, and of what is no word
WORD, ROW = 8, 16
#: lines of a stretch without words: of a payload, or of free memory
MOST_ROWS = 8
#: bytes of such a stretch that are read
_READ = 4096


@dataclass(frozen=True)
class MemoryLine:
    """Bytes from `address` on, up to ROW of them, and the word that begins there.

    word: the design's own, decoded; None: payload, free memory, or the rest of a long word.
    data: None where nothing may be read.  skipped: so many bytes are left out instead.
    """

    address: int
    data: bytes | None
    word: Word | None = None
    skipped: int = 0

    @property
    def hex(self) -> str:
        """The bytes as hexadecimal digits, in the order of addresses."""
        return "??" if self.data is None else self.data.hex(" ")

    @property
    def ascii(self) -> str:
        """The bytes as characters, a dot for what is none."""
        return "".join(chr(byte) if 32 <= byte < 127 else "." for byte in self.data or b"")


@dataclass(frozen=True)
class MemoryView:
    """A stretch of a heap: what it is, and its bytes line by line."""

    title: str
    start: int
    end: int
    lines: tuple[MemoryLine, ...]

    @property
    def links(self) -> tuple[Word, ...]:
        """The words that lead somewhere."""
        return tuple(line.word for line in self.lines if line.word is not None and line.word.to)


def block_at(view: HeapView, address: int) -> BlockView | None:
    """Return the block, or the metadata, that an address lies in; None outside of the heap.

    Cost: O(log blocks).
    """
    at = bisect_right(view.blocks, address, key=lambda block: block.start) - 1
    return view.blocks[at] if at >= 0 and address < view.blocks[at].end else None


def words_of(heap: Allocator, view: HeapView, start: int, end: int) -> list[Word]:
    """Return the design's words in [start, end), by address; none of a design that nobody can decode."""
    block = block_at(view, start)
    return sorted(heap.words(start, end, block.start if block else 0))


def memory_view(
    heap: Allocator, view: HeapView, start: int, end: int, *, most: int = MOST_ROWS
) -> MemoryView:
    """Return what stands at [start, end) in a heap of which `view` is the view.

    most: lines of each stretch without words; of longer ones the middle is left out.
    """
    block = block_at(view, start)
    name = named(view, block) if block and block.start == start else f"memory at {view.place(start)}"
    title = f"{name}: {end - start:,} bytes from {start:#x} on"
    words = words_of(heap, view, start, end)
    return MemoryView(title, start, end, tuple(_lines(heap, words, start, end, most)))


def named(view: HeapView, block: BlockView) -> str:
    """Return what a block is called: live ones by their slot, others by their state and place."""
    if block.label is not None:
        return block.name
    kind = "metadata" if block.name == "metadata" else f"{block.name} block"
    return f"{kind} {view.place(block.start)}"


def _lines(heap: Allocator, words: Sequence[Word], start: int, end: int, most: int) -> Iterator[MemoryLine]:
    look = heap.process.look()
    at = start
    for word in words:
        if word.address < at or word.address >= end:
            if word.name == "broken":
                yield MemoryLine(at, b"", word)
            continue
        yield from _rows(look.peek, at, word.address, most)
        size = min(word.size, WORD, end - word.address)
        yield MemoryLine(word.address, look.peek(word.address, size), word)
        at = word.address + size
        rest = min(word.address + word.size, end)
        yield from _rows(look.peek, at, rest, most)
        at = max(at, rest)
    yield from _rows(look.peek, at, end, most)


def _rows(peek: Callable[[int, int], bytes | None], start: int, end: int, most: int) -> list[MemoryLine]:
    """The lines of bytes without words: one for those that repeat, and the middle of many is left out."""
    if start >= end:
        return []
    head = min(end, start + _READ)
    bounds = [start, *range((start // ROW + 1) * ROW, head, ROW), head]
    lines: list[MemoryLine] = []

    def skip(to: int) -> None:
        at = lines.pop().address if lines[-1].skipped else lines[-1].address + len(lines[-1].data or b"")
        lines.append(MemoryLine(at, None, skipped=to - at))

    before: bytes | None = b""
    for first, last in pairwise(bounds):
        data = peek(first, last - first)
        if data == before and data is not None and last < end:
            skip(last)
        else:
            lines.append(MemoryLine(first, data))
        before = data
    if head < end:
        skip(end - ROW)
        lines.append(MemoryLine(end - ROW, peek(end - ROW, ROW)))
    if len(lines) > most:
        cut = lines[most - 2].address
        lines[most - 2 : -1] = [MemoryLine(cut, None, skipped=lines[-1].address - cut)]
    return lines
