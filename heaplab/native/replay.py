"""How long a trace takes on the C library's own malloc."""

from contextlib import closing
from dataclasses import dataclass

from heaplab._core import lib
from heaplab.native.stage import Stage
from heaplab.traces import Trace


@dataclass(frozen=True)
class NativeRun:
    """What a native replay took.

    operations: calls of malloc and its kin.  seconds: the replay as a whole, payload writes included; forks,
    execs and exits left out.
    """

    operations: int
    seconds: float


def replay_native(trace: Trace) -> NativeRun:
    """Replay `trace` once on glibc's malloc, in a process of its own, as `heaplab.native.play` times it.

    Raises: MemoryError when malloc gives no memory; UsageError for a damaged trace.

    >>> from heaplab.traces import Event, Op
    >>> replay_native(Trace.of([Event(Op.MALLOC, 0, 1000), Event(Op.FREE, 0)])).operations
    2
    """
    with closing(Stage(trace)) as stage:
        played = stage.play(lib.HL_PLAY_TIME, None)
    if played.why != lib.HL_PLAY_DONE:
        raise MemoryError(f"malloc has no memory for {trace.header.name}")
    return NativeRun(int(played.raw.operations), int(played.raw.ns) / 1e9)
