"""The laboratory: traces through allocators, measured.

compare(traces, allocators)   many runs, in worker processes -> Comparison
run(trace, allocator)         one run, in this process -> Run
Moments(trace, allocator)     any moment of a run, and a log of all its events
metrics                       what is measured, each quantity defined once
"""

from heaplab.lab.compare import (
    DEFAULT_MAX_MEMS,
    DEFAULT_MAX_SECONDS,
    Clock,
    Comparison,
    Progress,
    compare,
    default_allocators,
)
from heaplab.lab.moments import Moments
from heaplab.lab.record import HeapMap, Run, Seconds, Timeline
from heaplab.lab.run import RAM, run

__all__ = [
    "DEFAULT_MAX_MEMS",
    "DEFAULT_MAX_SECONDS",
    "RAM",
    "Clock",
    "Comparison",
    "HeapMap",
    "Moments",
    "Progress",
    "Run",
    "Seconds",
    "Timeline",
    "compare",
    "default_allocators",
    "run",
]
