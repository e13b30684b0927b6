"""The text of Android's memory_replay, read and written.

    THREAD: malloc ADDRESS SIZE [START END]              THREAD: realloc NEW OLD SIZE [START END [PRESENT]]
    THREAD: calloc ADDRESS COUNT SIZE [START END]        THREAD: free ADDRESS [START END [PRESENT]]
    THREAD: memalign ADDRESS ALIGN SIZE [START END]      THREAD: thread_done ADDRESS [END]

`thread_done` frees what the thread kept, if that is not 0x0, and ends the thread.  START and END are
nanoseconds; the time of an event is its START.  PRESENT is how many bytes of the block were
resident when it was released.
"""

import re
from typing import BinaryIO

from heaplab.errors import UsageError
from heaplab.traces.calls import ALIGNED, CALLOC, FREE, MALLOC, REALLOC, THREAD_EXIT, Call, Refusal
from heaplab.traces.event import MAX_SIZE, NULL_ID, Op
from heaplab.traces.formats.base import Format, first_line
from heaplab.traces.trace import Trace

_FIRST_LINE = re.compile(rb"\d+: [a-z_]+ 0x[0-9a-fA-F]+")


class MemoryReplay(Format):
    """The grammar of memory_replay's text, and the sum of the present bytes in it."""

    name = "memory_replay"
    shape = "of memory_replay"

    def __init__(self) -> None:
        self._present = 0
        self._told = 0  # how often

    @classmethod
    def recognises(cls, start: bytes) -> bool:
        return _FIRST_LINE.match(first_line(start)) is not None

    def parse(self, piece: bytes) -> Call | None:
        words = piece.split()
        if not words:
            return None
        who, op, address = words[0], words[1], int(words[2], 16)
        if not (who.endswith(b":") and who[:-1].isdigit()) or address < 0:
            raise ValueError
        count = len(words)
        if op == b"malloc":
            if count == 4:
                return (MALLOC, who, address, int(words[3]), 0, 0)
            return (MALLOC, who, address, int(words[3]), 0, _times(words, 4))
        if op == b"free":
            if count == 3:
                return (FREE, who, address, 0, 0, 0)
            return (FREE, who, address, 0, 0, self._released(words, 3))
        if op == b"realloc":
            return (REALLOC, who, address, int(words[4]), int(words[3], 16), self._released(words, 5))
        if op == b"calloc":
            many, size = int(words[3]), int(words[4])
            if many < 0 or size < 0:
                raise Refusal("has a size that no allocation can have", "calls with impossible sizes")
            return (CALLOC, who, address, many * size, 0, _times(words, 5))
        if op == b"memalign":
            align = int(words[3])
            if align < 0:
                raise ValueError
            return (ALIGNED, who, address, int(words[4]), align, _times(words, 5))
        if op == b"thread_done" and count <= 4:
            return (THREAD_EXIT, who, address, 0, 0, int(words[3]) if count == 4 else 0)
        raise ValueError

    def _released(self, words: list[bytes], at: int) -> int:
        """The time of a line whose times begin at word `at`, with the present bytes behind them."""
        if len(words) == at + 3:
            present = int(words.pop())
            if not 0 <= present <= MAX_SIZE:
                raise ValueError
            self._present += present
            self._told += 1
        return _times(words, at)

    def note(self) -> str:
        if not self._told:
            return super().note()
        return (
            f"{super().note()}; {self._present:,} B were present in the {self._told:,} blocks that were "
            "released, of that only the sum is kept"
        )


def _times(words: list[bytes], at: int) -> int:
    """The first of the two times at word `at`, where the line ends or has both; 0 for none."""
    if len(words) == at:
        return 0
    start, end = map(int, words[at:])
    if start < 0 or end < 0:
        raise ValueError
    return start


def write_memory_replay(trace: Trace, file: BinaryIO) -> None:
    """Write `trace` to `file`, with times if it has any.  A call's END is its START: a trace has one time.

    Blocks get made-up addresses.  Raises: UsageError when the trace has process events.
    """
    timed = trace.header.duration > 0
    for block in trace:
        text = []
        for op, slot, size, align, thread, time, _ in zip(
            *(column.tolist() for column in block.columns().values()), strict=True
        ):
            if op >= Op.FORK and op != Op.THREAD_EXIT:
                raise UsageError(
                    f"{trace.source}: has more than one program or process, memory_replay holds one: "
                    "`heaplab trace cut --process` takes one out"
                )
            address = (slot + 1) * 16
            if op == Op.MALLOC:
                call = f"malloc {address:#x} {size}"
            elif op == Op.FREE:
                call = "free 0x0" if slot == NULL_ID else f"free {address:#x}"
            elif op == Op.CALLOC:
                call = f"calloc {address:#x} 1 {size}"
            elif op == Op.REALLOC:
                call = f"realloc {address:#x} {address:#x} {size}"
            elif op == Op.ALIGNED:
                call = f"memalign {address:#x} {align} {size}"
            else:
                call = "thread_done 0x0"
            # 0 says "no time": the first time is 1
            times = "" if not timed else f" {time + 1}" if op == Op.THREAD_EXIT else f" {time + 1} {time + 1}"
            text.append(f"{thread + 1}: {call}{times}\n")
        file.write("".join(text).encode())
