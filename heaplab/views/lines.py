"""What is seen of a step, as lines: text, and the address that a line leads to."""

import re
import textwrap
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

from heaplab.views.changes import BlockChange, PageChange
from heaplab.views.free import FreeLine
from heaplab.views.heap import BlockView
from heaplab.views.memory import MemoryView
from heaplab.views.references import ReferenceView

#: writes an address: `HeapView.place`
Place = Callable[[int], str]


_ADDRESS = re.compile(r"(?<!size )\b0x[0-9a-f]{4,}\b")


class Line(NamedTuple):
    """A line.  to: the address that it leads to, 0 for none.  mark: what it is: heading, store, link, ...

    at: of a line of memory, the address of its bytes.
    """

    text: str
    to: int = 0
    mark: str = ""
    at: int = 0


def count(n: int, noun: str) -> str:
    """Return a number of things.

    >>> count(1, "fault"), count(2000, "fault")
    ('1 fault', '2,000 faults')
    """
    return f"{n:,} {noun}{'' if n == 1 else 's'}"


def placed(text: str, place: Place) -> str:
    """Return a text with its addresses written as places.

    >>> placed("0x5008, the free last block, size 0x5040", lambda at: f"+{at - 0x5000:#x}")
    '+0x8, the free last block, size 0x5040'
    """
    return _ADDRESS.sub(lambda match: place(int(match[0], 16)), text)


def reference_lines(references: Iterable[ReferenceView], place: Place, width: int) -> Iterator[Line]:
    """Yield the references in order; what a word says stands behind its name, or below where it is long."""
    found = list(references)
    room = max((len(place(ref.address)) for ref in found), default=0)
    for number, ref in enumerate(found, 1):
        kind = "store" if ref.is_store else "load"
        head = f"{number:3} {kind:5} {place(ref.address):<{room}}  {ref.what}"
        to, mark = ref.to or ref.address, "store" if ref.is_store else "load"
        was, now = (placed(said, place) for said in (ref.before, ref.after))
        said = f"{was}, now {now}" if was and now and was != now else now or was
        if not said:
            yield Line(head, to, mark)
        elif len(head) + len(said) + 2 <= width:
            yield Line(f"{head}: {said}", to, mark)
        else:
            yield Line(head, to, mark)
            if was and now and was != now:
                yield from _wrapped("was  ", was, width, to, "was")
                yield from _wrapped("now  ", now, width, to, "now")
            else:
                yield from _wrapped("", said, width, to, "says")


def _wrapped(head: str, text: str, width: int, to: int, mark: str) -> Iterator[Line]:
    indent = " " * 10
    rows = textwrap.wrap(text, width - len(indent) - len(head)) or [""]
    for number, row in enumerate(rows):
        yield Line(indent + (head if not number else " " * len(head)) + row, to, mark)


def change_lines(changes: Iterable[BlockChange], place: Place) -> Iterator[Line]:
    """Yield what the blocks were and what they are, stretch by stretch."""
    for change in changes:
        yield Line(change.words, change.start, "heading")
        for head, blocks in (("was", change.before), ("now", change.after)):
            for number, block in enumerate(blocks):
                yield Line(f"  {head if not number else '':3}  {block_text(block, place)}", block.start, head)


def block_text(block: BlockView, place: Place) -> str:
    """Return a block in words: what it is and the bytes that were asked for, its own bytes, and its place."""
    name = block.name
    if block.label is not None:
        name += f" ({count(block.label.size, 'byte')})"
    return f"{name:28} {size_text(block.size):>20} at {place(block.start)}"


def size_text(size: int) -> str:
    """Return bytes as people write them, and as headers do.

    >>> size_text(8), size_text(3008)
    ('8 bytes', '3,008 bytes, 0xbc0')
    """
    return count(size, "byte") + (f", {size:#x}" if size > 9 else "")


def page_lines(changes: Iterable[PageChange], place: Place, page_size: int) -> Iterator[Line]:
    """Yield the pages that changed, run by run."""
    for change in changes:
        end = f" to {place(change.address + change.count * page_size - 1)}" if change.count > 1 else ""
        yield Line(
            f"{count(change.count, 'page')} {change.words}: {place(change.address)}{end}", change.address
        )


def memory_lines(memory: MemoryView, place: Place, width: int) -> Iterator[Line]:
    """Yield a hexdump: a word a line with what it says, 16 bytes a line of what is no word."""
    room = max(len(place(address)) for address in (memory.start, memory.end - 1))
    for line in memory.lines:
        at = f"{place(line.address):<{room}}"
        if line.skipped:
            end = place(line.address + line.skipped)
            yield Line(f"{'*':<{room}} {count(line.skipped, 'byte')} more, up to {end}")
        elif line.word is None:
            yield Line(f"{at} {line.hex:<47} {line.ascii}", 0, "data", line.address)
        else:
            head = f"{at} {line.hex:<23} "
            text = placed(line.word.text, place)
            said = f"{line.word.name}: {text}" if text else line.word.name
            mark = "link" if line.word.to else "word"
            for number, row in enumerate(textwrap.wrap(said, max(width - len(head), 20)) or [""]):
                yield Line((head if not number else " " * len(head)) + row, line.word.to, mark, line.address)


def free_texts(lines: Iterable[FreeLine], place: Place) -> Iterator[Line]:
    """Yield the free blocks: where they are, how many bytes, and the place that the design has them in."""
    for line in lines:
        if line.entry is None:
            yield Line(placed(line.group, place), 0, "heading")
            continue
        entry = line.entry
        told = f"  {placed(entry.place, place)}" if entry.place else ""
        yield Line(f"{line.branch}{place(entry.start)}  {size_text(entry.size)}{told}", entry.start, "link")
