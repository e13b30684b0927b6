"""Traces for tests: a Hypothesis strategy for valid ones, and .hlt files in memory."""

import io
from typing import Any

from hypothesis import strategies as st

from heaplab.traces import NULL_ID, Event, Op, Provenance, Trace, TraceWriter
from heaplab.traces.hlt import open_hlt

SIZES = st.one_of(st.integers(0, 64), st.integers(0, 5000), st.sampled_from([1 << 16, 1 << 20, 200_000]))
"""Sizes of requests: mostly small, some above what allocators serve by mmap."""


class _Author:
    """Writes a valid trace event by event, from draws that always have a meaning."""

    def __init__(self, draw: st.DrawFn, *, processes: bool) -> None:
        self.draw = draw
        self.events: list[Event] = []
        self.live: dict[int, set[int]] = {0: set()}
        self.used = {0: 0}
        self.born = 1
        self.time = 0
        self.ops = [op for op in Op if processes or op not in (Op.FORK, Op.EXEC, Op.EXIT)]

    def step(self) -> None:
        """Add one event: the one drawn, or one near to it that is possible."""
        process = self.draw(st.sampled_from(sorted(self.live)))
        op = self.draw(st.sampled_from(self.ops))
        slots = self.live[process]
        if (op == Op.REALLOC and not slots) or (op == Op.EXIT and len(self.live) == 1):
            op = Op.MALLOC
        slot = size = align = 0
        match op:
            case Op.MALLOC | Op.CALLOC | Op.ALIGNED:
                slot, size = self._free_slot(process), self.draw(SIZES)
                align = 1 << self.draw(st.integers(0, 13)) if op == Op.ALIGNED else 0
                slots.add(slot)
            case Op.REALLOC:
                slot, size = (
                    self.draw(st.sampled_from(sorted(slots))),
                    self.draw(SIZES.map(lambda it: it or 1)),
                )
            case Op.FREE:
                slot = self.draw(st.sampled_from([*sorted(slots), NULL_ID]))
                slots.discard(slot)
            case Op.FORK:
                slot = self.born
                self.live[slot], self.used[slot] = set(slots), self.used[process]
                self.born += 1
            case Op.EXEC:
                self.live[process], self.used[process] = set(), 0
            case Op.EXIT:
                del self.live[process]
            case Op.THREAD_EXIT:
                pass
        self.time += self.draw(st.integers(0, 1000))
        thread = self.draw(st.integers(0, 2))
        self.events.append(Event(op, slot, size, align, thread, self.time, process))

    def _free_slot(self, process: int) -> int:
        """A slot that is free: any used before, or the next."""
        choices = [slot for slot in range(self.used[process] + 1) if slot not in self.live[process]]
        slot = self.draw(st.sampled_from(choices))
        self.used[process] = max(self.used[process], slot + 1)
        return slot


@st.composite
def event_lists(draw: st.DrawFn, *, processes: bool = True, max_size: int = 60) -> list[Event]:
    """A strategy for the events of valid traces.

    processes: whether they fork, exec and exit.  max_size: how many events at most.
    """
    author = _Author(draw, processes=processes)
    for _ in range(draw(st.integers(0, max_size))):
        author.step()
    return author.events


def written(trace: Trace, **provenance: Any) -> bytes:
    """Return `trace` as an .hlt file.  provenance: other fields of its header."""
    file = io.BytesIO()
    writer = TraceWriter(file, Provenance(trace.header.name, **provenance), level=1)
    for block in trace:
        writer.write(block)
    writer.finish()
    return file.getvalue()


def reopened(data: bytes, source: str = "x.hlt") -> Trace:
    """Return the trace in the .hlt file `data`, which messages call `source`."""
    return open_hlt(source, lambda: io.BytesIO(data))
