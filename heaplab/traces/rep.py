"""The .rep traces of malloc courses, read and written.

Two or four header lines with one number each, then one operation a line:

    a 5 100     malloc of 100 bytes, called 5           f 5     free
    r 5 200     realloc                                 f -1    free(NULL)

The header is `ids, ops`; or `heap size, ids, ops, weight` (classic); or `weight, ids, ops, peak live bytes`
(newer, and what is written here).  There are no times, threads, processes, alignments and callocs.
"""

from collections.abc import Iterator
from typing import BinaryIO

from heaplab.errors import UsageError
from heaplab.traces.event import NULL_ID, Op, Row
from heaplab.traces.slots import SlotTable
from heaplab.traces.text import Lines
from heaplab.traces.trace import Trace

_LETTERS = {Op.MALLOC: "a", Op.CALLOC: "a", Op.ALIGNED: "a", Op.REALLOC: "r", Op.FREE: "f"}


def is_rep(start: bytes) -> bool:
    """Whether a file that starts like this is meant as .rep: a number on a line of its own."""
    return start.lstrip().split(b"\n", 1)[0].strip().isdigit()


def read_rep(source: str, file: BinaryIO) -> Iterator[Row]:
    """The events of a .rep file.  Raises: UsageError naming the line."""
    lines = Lines(source, file)
    slots = SlotTable()
    header: list[int] = []
    count = 0
    for words in lines:
        if count == 0 and len(words) == 1 and words[0].isdigit():
            header.append(int(words[0]))
            continue
        if count == 0 and len(header) not in (2, 4):
            raise lines.wrong(f"follows {len(header)} header lines: a .rep file has 2 or 4")
        count += 1
        try:
            row = _rep_event(lines, slots, words)
        except (ValueError, IndexError):
            raise lines.wrong("is no operation: write `a ID SIZE`, `r ID SIZE`, `f ID` or `f -1`") from None
        except KeyError:
            raise lines.wrong("names an id that is not allocated") from None
        yield row
    if len(header) not in (2, 4):
        raise lines.whole(f"has {len(header)} header lines, and a .rep file has 2 or 4")
    promised = header[1] if len(header) == 2 else header[2]
    if count != promised:
        raise lines.whole(f"promises {promised} operations and has {count}: it is truncated or edited")


def _rep_event(lines: Lines, slots: SlotTable, words: list[bytes]) -> Row:
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


def write_rep(trace: Trace, file: BinaryIO) -> None:
    """Write `trace` to `file`.  Times, threads with their ends, alignments are lost; callocs become mallocs.

    Raises: UsageError when it has process events, which .rep has no words for.
    """
    header = trace.header
    operations = header.events - header.ops.get("thread_exit", 0)
    file.write(f"1\n{header.slots}\n{operations}\n{header.peak_live}\n".encode())
    for block in trace:
        lines = []
        for event in block:
            if event.op == Op.THREAD_EXIT:
                continue
            letter = _LETTERS.get(event.op)
            if letter is None:
                raise UsageError(f"{trace.source}: has more than one program or process, .rep holds one")
            if letter == "f":
                lines.append(f"f {-1 if event.id == NULL_ID else event.id}\n")
            else:
                lines.append(f"{letter} {event.id} {event.size}\n")
        file.write("".join(lines).encode())
