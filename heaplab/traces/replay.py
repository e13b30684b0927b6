"""The text of Android's memory_replay, read.

    THREAD: malloc ADDRESS SIZE                 THREAD: realloc NEW OLD SIZE
    THREAD: calloc ADDRESS COUNT SIZE           THREAD: free ADDRESS
    THREAD: memalign ADDRESS ALIGN SIZE         THREAD: thread_done ADDRESS

`thread_done` frees what the thread kept, if that is not 0x0, and ends the thread.  There are no times: every
event's is 0.
"""

import re
from collections.abc import Iterator
from typing import BinaryIO

from heaplab.traces.event import MAX_SIZE, NULL_ID, Op, Row
from heaplab.traces.slots import SlotTable
from heaplab.traces.text import Lines

_MAX_ALIGN = 1 << 31
_FIRST_LINE = re.compile(rb"\d+: [a-z_]+ 0x[0-9a-f]+")


def is_replay(start: bytes) -> bool:
    """Whether a file that starts like this is meant for memory_replay."""
    return _FIRST_LINE.match(start) is not None


def read_replay(source: str, file: BinaryIO) -> Iterator[Row]:
    """The events of a file for Android's memory_replay.  Raises: UsageError naming the line."""
    lines = Lines(source, file)
    slots = SlotTable()
    threads = SlotTable()
    for words in lines:
        try:
            name = _thread(words[0])
            thread = threads.slot(name) if name in threads else threads.take(name)
            if thread > 0xFFFF:
                raise lines.wrong("brings the threads above 65536")
            event = _replay_event(lines, slots, words)
        except (ValueError, IndexError):
            raise lines.wrong("is no operation of memory_replay") from None
        except KeyError:
            raise lines.wrong("names an address where no block is") from None
        if event is not None:
            op, slot, size, align = event
            yield (op, slot, size, align, thread, 0, 0)
        if words[1] == b"thread_done":
            yield (Op.THREAD_EXIT, 0, 0, 0, threads.release(name), 0, 0)


def _thread(word: bytes) -> int:
    """The thread that a line begins with.  Raises: ValueError when it begins with something else."""
    if not (word.endswith(b":") and word[:-1].isdigit()):
        raise ValueError
    return int(word[:-1])


def _replay_event(lines: Lines, slots: SlotTable, words: list[bytes]) -> tuple[int, int, int, int] | None:
    """Op, slot, size, align of the line; None when nothing happens."""
    op, address = words[1], int(words[2], 16)
    numbers = words[3:]
    if op in (b"free", b"thread_done"):
        if numbers:
            raise ValueError
        if address == 0:
            return (Op.FREE, NULL_ID, 0, 0) if op == b"free" else None
        return (Op.FREE, slots.release(address), 0, 0)
    if op == b"realloc":
        return _replay_realloc(lines, slots, address, int(numbers[0], 16), lines.size(numbers[1]))
    if address == 0:
        return None  # it failed
    if address in slots:
        raise lines.wrong("allocates a block where one is")
    if op == b"malloc":
        (size,) = map(lines.size, numbers)
        return (Op.MALLOC, slots.take(address), size, 0)
    first, second = map(lines.size, numbers)
    if op == b"calloc":
        if first * second > MAX_SIZE:
            raise lines.wrong("has a size that no allocation can have")
        return (Op.CALLOC, slots.take(address), first * second, 0)
    if op == b"memalign":
        align = 1 << max(0, first - 1).bit_length()  # memalign rounds up to a power of two
        if align > _MAX_ALIGN:
            raise lines.wrong("has an alignment above 2 GiB")
        return (Op.ALIGNED, slots.take(address), second, align)
    raise ValueError


def _replay_realloc(
    lines: Lines, slots: SlotTable, new: int, old: int, size: int
) -> tuple[int, int, int, int] | None:
    if new == 0:  # it failed, or freed
        return (Op.FREE, slots.release(old), 0, 0) if old and size == 0 else None
    if old == 0:
        if new in slots:
            raise lines.wrong("allocates a block where one is")
        return (Op.MALLOC, slots.take(new), size, 0)
    slot = slots.detach(old)
    if new in slots:
        raise lines.wrong("moves a block to where one is")
    slots.attach(new, slot)
    return (Op.REALLOC, slot, max(size, 1), 0)  # some C libraries shrink to a block of size 0
