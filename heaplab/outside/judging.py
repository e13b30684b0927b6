"""A trace played on an allocator from outside, whose every load and store is counted and judged."""

from contextlib import closing
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from heaplab._core import lib
from heaplab.confining import Limits
from heaplab.native.playing import CRASHED, FAILED, FINISHED, HUNG, MAX_SECONDS, STOPPED, End, end_of, where
from heaplab.native.stage import Pass, Stage, Watching, live_blocks
from heaplab.outside.finding import Outside
from heaplab.outside.kinds import Kind
from heaplab.outside.lines import line_of
from heaplab.traces import Op, Trace
from heaplab.units import counted

#: the kinds of events that a block comes of
_GIVES = (Op.MALLOC, Op.CALLOC, Op.ALIGNED, Op.REALLOC)
#: where the system puts the stack
_STACK = range(0x7FFF_F800_0000, 1 << 47)
#: addresses of 32 bits that are none of the heap of mem_sbrk
_CUT = range(0x80000000, 1 << 32)
#: bytes around a block in which an allocator's header or footer is looked for
_TAG = 16
_M32 = "(gcc -m32): here a pointer, size_t and long have 8 bytes"
Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Judged:
    """What was seen.

    end: how it ended; a failure names the event, and the line of C where there is one.
    mems: references of each operation; None of a shared library.  events_done, operations: until the end.
    peak_live, peak_heap: bytes.  growths: how often the heap was grown.
    live: the blocks at the end or, of a finished trace, at the peak: rows (address, size, id) by address.
    heap: (address, bytes) then; (0, 0) where it is not in one piece.
    """

    end: End
    mems: Array | None
    events_done: int
    operations: int
    peak_live: int
    peak_heap: int
    growths: int
    live: Array
    heap: tuple[int, int]

    def __repr__(self) -> str:
        return f"<Judged: {self.end.outcome}, {counted(self.events_done, 'event')}>"


def judge(
    trace: Trace | Stage,
    outside: Outside,
    *,
    max_mems: int | None = None,
    max_seconds: float | None = MAX_SECONDS,
    refuse: int = 0,
    checkheap: bool = False,
    confined: Limits | None = None,
) -> Judged:
    """Play a trace on an allocator from outside, in a process of its own.

    max_mems: the references that it may make in all; what makes more has no end.  max_seconds: for one event.
    refuse: the growth of its heap with this number, from 1 on, is refused.  checkheap: its mm_checkheap is
    called after each request, and has to be satisfied.
    Of a shared library nothing is counted.  confined: what it may have, if nobody vouches for it.
    Raises: UsageError for a damaged trace.
    """
    if isinstance(trace, Trace):
        with closing(Stage(trace)) as stage:
            return judge(
                stage,
                outside,
                max_mems=max_mems,
                max_seconds=max_seconds,
                refuse=refuse,
                checkheap=checkheap,
                confined=confined,
            )
    played = trace.play(
        lib.HL_PLAY_WATCHED,
        outside.hooked or outside.library,
        aligned=outside.aligned,
        natural=outside.natural,
        watching=Watching(max_mems, refuse, checkheap),
        max_seconds=max_seconds,
        confined=confined,
    )
    return _judged(trace, outside, played, max_seconds)


def _judged(stage: Stage, outside: Outside, played: Pass, max_seconds: float | None) -> Judged:
    raw, watch = played.raw, played.watch
    end = _end(stage, outside, played, max_seconds)
    operations = int(raw.operations)
    mems = played.ticks[: min(operations, stage.events)]
    finished = end.outcome == FINISHED
    heap = (raw.kept_heap_start, raw.kept_heap) if finished else (watch.heap_start, watch.heap)
    return Judged(
        end=end,
        mems=mems if outside.hooked else None,
        events_done=int(raw.row),
        operations=operations,
        peak_live=int(raw.peak_live),
        peak_heap=int(raw.peak_heap),
        growths=int(watch.growths),
        live=live_blocks(played.kept if finished else played.slots),
        heap=(int(heap[0]), int(heap[1])) if heap[0] else (0, 0),
    )


# ---- in words ----


def _end(stage: Stage, outside: Outside, played: Pass, max_seconds: float | None) -> End:
    end = _said(stage, outside, played, max_seconds)
    if outside.kind is Kind.COURSE and end.outcome in (FAILED, CRASHED) and _is_of_32_bits(played):
        name = outside.sources[0].name
        return replace(end, reason=f"{end.reason}; {name} seems to be written for 32 bits {_M32}")
    return end


def _is_of_32_bits(played: Pass) -> bool:
    """Whether pointers were taken to have 4 bytes: two lie side by side, or one has lost its upper half."""
    crash = played.why == lib.HL_PLAY_SIGNAL and int(played.raw.bad_address) in _CUT
    return crash or int(played.watch.address) in _CUT or int(played.watch.halves) > 0


def _said(stage: Stage, outside: Outside, played: Pass, max_seconds: float | None) -> End:
    watch, why = played.watch, int(played.watch.why)
    if played.refused or not (why or played.why != lib.HL_PLAY_DONE):
        return end_of(stage, played, max_seconds)
    at = where(stage, int(played.raw.row))
    line = line_of(outside.hooked, int(watch.site)) if outside.hooked else ""
    if why == lib.HL_WATCH_NO_END:
        return End(STOPPED, f"{at}: {_used_up(played)}" + (f", at {line}" if line else ""))
    if why:
        wrong = _wrong(stage, outside, played, line)
        if why in (lib.HL_WATCH_CHECKHEAP, lib.HL_WATCH_EXIT) and played.words:
            wrong += f": {played.words}"
        return End(FAILED, f"{at}: {wrong}")
    end = end_of(stage, played, max_seconds)
    if line and (played.hung or played.why in (None, lib.HL_PLAY_SIGNAL)):
        said = "its latest reference was at" if end.outcome == HUNG else "at or after"
        end = replace(end, reason=f"{end.reason}, {said} {line}")
    if played.why == lib.HL_PLAY_SIGNAL and int(played.raw.bad_address) in _STACK:
        return replace(end, reason=f"{end.reason}: the stack is used up, as by a recursion without end")
    return end


def _used_up(played: Pass) -> str:
    """A request that made most of the references is said to have no end; else they were many requests'."""
    watch = played.watch
    before = int(played.ticks[: max(int(played.raw.operations) - 1, 0)].sum(dtype=np.uint64))
    if int(watch.mems) + int(watch.bulk) - before > int(watch.most) // 2:
        return f"no end after {int(watch.most):,} mems in all"
    return f"stopped at the limit of {int(watch.most):,} mems in all, which the requests before took"


def _wrong(stage: Stage, outside: Outside, played: Pass, line: str) -> str:
    """What the allocator has done; `line`: where."""
    watch, live = played.watch, live_blocks(played.slots)
    at, width, result = int(watch.address), int(watch.width), int(watch.result)
    who = line or outside.name
    units = f"{width} byte" + "s" * (width != 1)
    if watch.why == lib.HL_WATCH_PAYLOAD:
        into = _block_at(stage, played, live, at, width)
        return f"{who} wrote {units} into {into}{_by(played, live, at, width)}"
    if watch.why in (lib.HL_WATCH_STORE, lib.HL_WATCH_LOAD):
        did = "wrote" if watch.why == lib.HL_WATCH_STORE else "read"
        return f"{who} {did} {units} at {at:#x}, {_outside(watch, at)}"
    return {
        lib.HL_WATCH_INIT: "mm_init says that it failed",
        lib.HL_WATCH_SKEWED: f"the block at {at:#x} is not a multiple of {outside.natural}"
        + (
            f": if the lab asks for 8 bytes, write {outside.name}:align=8"
            if outside.natural == 16 and at % 8 == 0
            else ""
        ),
        lib.HL_WATCH_NOT_THERE: f"the block at {at:#x}, of {units}, is not within the heap"
        + (f", which ends at {watch.heap_start + watch.heap:#x}" if watch.heap_start else ""),
        lib.HL_WATCH_OVERLAP: f"the block at {result:#x}, of {units}, overlaps "
        + _block_at(stage, played, live, at, 1),
        lib.HL_WATCH_NO_REALLOC: f"{outside.name} has no realloc",
        lib.HL_WATCH_EXIT: f"{who} calls exit({at})",
        lib.HL_WATCH_CHECKHEAP: "mm_checkheap is not satisfied with the heap",
    }[watch.why]


def _block_at(stage: Stage, played: Pass, live: Array, at: int, width: int) -> str:
    """The live block that has one of `width` bytes at `at`, and the event that gave it."""
    hit = np.flatnonzero((live[:, 0] < at + width) & (at < live[:, 0] + live[:, 1]))
    if not len(hit):
        return "a live block"
    address, size, number = live[hit[0]].tolist()
    given = _given(stage, int(played.raw.row), number)
    return f"block {number} ({given}{size} bytes at {address:#x})"


def _given(stage: Stage, row: int, number: int) -> str:
    """The event before `row` that gave block `number`, in words; nothing when a process's fork did."""
    found, first = "", 0
    for block in stage.trace:
        part = block[: max(row - first, 0)]
        rows = np.flatnonzero((part.id == number) & np.isin(part.op, _GIVES))
        if len(rows):
            event = next(iter(part[int(rows[-1]) : int(rows[-1]) + 1]))
            found = f"event {first + int(rows[-1])}, {event}; "
        first += len(block)
    return found


def _by(played: Pass, live: Array, at: int, width: int) -> str:
    """Of which block it may be the header or the footer."""
    watch = played.watch
    known = [(int(start), int(start + size), f"block {number}") for start, size, number in live.tolist()]
    for start, whose in (
        (int(watch.result), "the block it gives"),
        (int(watch.subject), "the block it takes"),
    ):
        if start:
            known.insert(0, (start, start, whose))
    for start, end, whose in known:
        if start - _TAG <= at and at + width <= start:
            return f", by the header of {whose}"
        if end > start and end <= at < end + _TAG:
            return f", by the footer of {whose}"
    return ""


def _outside(watch: Any, at: int) -> str:
    if not watch.heap_start:
        return "which is no memory of its own"
    start, end = int(watch.heap_start), int(watch.heap_start + watch.heap)
    if end <= at < end + 2**30:
        distance = f"{at - end:,} bytes" if at > end else "just"
        return f"{distance} behind the end of the heap"
    if at < end < at + int(watch.width):
        return f"across the end of the heap at {end:#x}"
    if 0 < start - at < 2**20:
        return f"{start - at:,} bytes before the heap"
    return f"outside of the heap, which is {start:#x} to {end:#x}"
