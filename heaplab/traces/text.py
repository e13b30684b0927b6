"""Traces as text, read: the .rep files of malloc courses, and Android's memory_replay.

`.rep`: two or four header lines with one number each, then one operation a line:

    a 5 100     malloc of 100 bytes, called 5           f 5     free
    r 5 200     realloc                                 f -1    free(NULL)

The last header lines but one or two are always ids, operations: `ids, ops`; `heap size, ids, ops, weight`
(classic); `weight, ids, ops, peak live bytes` (newer).

memory_replay: `THREAD: malloc ADDRESS SIZE`, `calloc ADDRESS COUNT SIZE`, `memalign ADDRESS ALIGN SIZE`,
`realloc NEW OLD SIZE`, `free ADDRESS`, `thread_done ADDRESS`, the last freeing what the thread kept.

Neither has times: every event's is 0.
"""

import re
from collections.abc import Iterator
from typing import BinaryIO

from heaplab.errors import UsageError
from heaplab.traces.event import MAX_SIZE, NULL_ID, Op, Row
from heaplab.traces.slots import SlotTable

_LINE_LIMIT = 200
_MAX_ALIGN = 1 << 31
_REPLAY_LINE = re.compile(rb"\d+: [a-z_]+ 0x[0-9a-f]+")


class _Lines:
    """The lines of a text trace, counted, and the sentences for what can be wrong in one."""

    def __init__(self, source: str, file: BinaryIO) -> None:
        self._source = source
        self._file = file
        self.number = 0
        self.line = b""

    def __iter__(self) -> Iterator[list[bytes]]:
        """The words of each line that has any."""
        while line := self._file.readline(_LINE_LIMIT):
            self.number += 1
            self.line = line
            if len(line) == _LINE_LIMIT:
                raise self.wrong("is too long for a trace")
            if words := line.split():
                yield words

    def wrong(self, why: str) -> UsageError:
        """The error that `why` holds for the line at hand."""
        shown = self.line.strip()[:40].decode(errors="backslashreplace")
        return UsageError(f"{self._source}: line {self.number} ({shown}) {why}")

    def whole(self, why: str) -> UsageError:
        """The error that `why` holds for the file."""
        return UsageError(f"{self._source}: {why}")

    def size(self, word: bytes) -> int:
        """The size, count or alignment that `word` says."""
        size = int(word)
        if not 0 <= size <= MAX_SIZE:
            raise self.wrong("has a size that no allocation can have")
        return size


def is_rep(start: bytes) -> bool:
    """Whether a file that starts like this is meant as .rep: a number on a line of its own."""
    return start.split(b"\n", 1)[0].strip().isdigit()


def is_replay(start: bytes) -> bool:
    """Whether a file that starts like this is meant for memory_replay."""
    return _REPLAY_LINE.match(start) is not None


def read_rep(source: str, file: BinaryIO) -> Iterator[Row]:
    """The events of a .rep file.  Raises: UsageError naming the line."""
    lines = _Lines(source, file)
    slots = SlotTable()
    header: list[int] = []
    count = 0
    for words in lines:
        if count == 0 and len(words) == 1:
            header.append(_number(lines, words[0]))
            continue
        if count == 0 and len(header) not in (2, 4):
            raise lines.wrong(f"follows {len(header)} header lines: a .rep file has 2 or 4")
        count += 1
        try:
            yield _rep_event(lines, slots, words)
        except (ValueError, IndexError):
            raise lines.wrong("is no operation: write `a ID SIZE`, `r ID SIZE`, `f ID` or `f -1`") from None
        except KeyError:
            raise lines.wrong("names an id that is not allocated") from None
    if len(header) not in (2, 4):
        raise lines.whole(f"has {len(header)} header lines, and a .rep file has 2 or 4")
    if count != header[-1 if len(header) == 2 else 2]:
        promised = header[-1 if len(header) == 2 else 2]
        raise lines.whole(f"promises {promised} operations and has {count}: it is truncated or edited")


def _rep_event(lines: _Lines, slots: SlotTable, words: list[bytes]) -> Row:
    if words[0] == b"f":
        (name,) = map(int, words[1:])
        return (Op.FREE, NULL_ID if name == -1 else slots.release(name), 0, 0, 0, 0, 0)
    op, name, size = words[0], int(words[1]), lines.size(words[2])
    if len(words) > 3 or name < 0:
        raise ValueError
    if op == b"a":
        if name in slots:
            raise lines.wrong("allocates an id that is allocated already")
        return (Op.MALLOC, slots.take(name), size, 0, 0, 0, 0)
    if op == b"r":
        if size == 0:
            return (Op.FREE, slots.release(name), 0, 0, 0, 0, 0)
        return (Op.REALLOC, slots.slot(name), size, 0, 0, 0, 0)
    raise ValueError


def _number(lines: _Lines, word: bytes) -> int:
    try:
        return int(word)
    except ValueError:
        raise lines.wrong("is no header line: it needs one number") from None


def read_replay(source: str, file: BinaryIO) -> Iterator[Row]:
    """The events of a file for Android's memory_replay.  Raises: UsageError naming the line."""
    lines = _Lines(source, file)
    slots = SlotTable()
    threads: dict[bytes, int] = {}
    for words in lines:
        try:
            thread = threads.setdefault(words[0], len(threads))
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


def _replay_event(lines: _Lines, slots: SlotTable, words: list[bytes]) -> tuple[int, int, int, int] | None:
    """Op, slot, size, align of the line; None when nothing happens."""
    thread, op, address = words[0], words[1], int(words[2], 16)
    numbers = words[3:]
    if not (thread.endswith(b":") and thread[:-1].isdigit()):
        raise ValueError
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
    lines: _Lines, slots: SlotTable, new: int, old: int, size: int
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
