"""Replays a trace on the C library's own malloc, in this process."""

from dataclasses import dataclass
from typing import Any

from heaplab._core import ffi, lib
from heaplab.traces import Trace
from heaplab.traces.raw import raw_events


@dataclass(frozen=True)
class NativeRun:
    """What a native replay took.

    operations: calls of malloc and its kin.  seconds: the replay as a whole, payload writes included; forks,
    execs and exits left out.  ns_per_op: within malloc alone.
    """

    operations: int
    seconds: float
    ns_per_op: float


def replay_native(trace: Trace) -> NativeRun:
    """Replay `trace` on the malloc this process has, with the payload writes of the replay on the model.

    Nothing is verified.  A forked child's blocks are allocated anew: all processes share this one's heap.
    Raises: MemoryError when malloc gives no memory; UsageError for a damaged trace.

    >>> from heaplab.traces import Event, Op
    >>> replay_native(Trace.of([Event(Op.MALLOC, 0, 1000), Event(Op.FREE, 0)])).operations
    2
    """
    raw: Any = ffi.gc(lib.hl_native_new(), lib.hl_native_delete)
    for block in trace:
        if lib.hl_native_run(raw, raw_events(block), len(block)):
            raise MemoryError(f"malloc has no memory for {trace.header.name}")
    clock, operations = raw.clock, int(raw.ops)
    ns_per_tick = clock.wall_ns / clock.wall_ticks if clock.wall_ticks else 0.0
    return NativeRun(
        operations, clock.wall_ns / 1e9, clock.ticks * ns_per_tick / operations if operations else 0.0
    )
