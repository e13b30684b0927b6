"""The laboratory: traces through allocators, measured.

compare(traces, allocators)   many runs, in worker processes -> Comparison
sweep(traces, allocators)     a grid of runs, each made once and kept -> Sweep
diff(rows, rows)              what became better or worse -> Diff
tune(spec, traces)            parameters searched for a goal -> Tuning
run(trace, allocator)         one run, in this process -> Run
Moments(trace, allocator)     any moment of a run, and a log of all its events
offline(trace)                the best placement known of a trace's blocks -> Offline
fork_cost(trace, allocator)   the pages copied after forks, by whose write -> ForkCost
adversary(function, allocator)  a function drives an allocator by the addresses that it sees -> Duel
metrics                       what is measured, each quantity defined once
"""

from heaplab.lab.adversaries import Duel, adversary
from heaplab.lab.attribution import Attribution, Pin
from heaplab.lab.compare import (
    DEFAULT_MAX_MEMS,
    DEFAULT_MAX_SECONDS,
    Clock,
    Comparison,
    compare,
    default_allocators,
)
from heaplab.lab.forking import ForkCost, fork_cost
from heaplab.lab.metrics import FreeSpace, OverLive
from heaplab.lab.moments import Moments
from heaplab.lab.offline import Offline, offline
from heaplab.lab.plan import Progress
from heaplab.lab.record import HeapMap, Run, Seconds, Timeline
from heaplab.lab.run import RAM, run
from heaplab.lab.series import Series, Standing
from heaplab.lab.sweeping.diff import Diff, diff
from heaplab.lab.sweeping.sweep import Sweep, sweep
from heaplab.lab.sweeping.tune import Tuning, tune

__all__ = [
    "DEFAULT_MAX_MEMS",
    "DEFAULT_MAX_SECONDS",
    "RAM",
    "Attribution",
    "Clock",
    "Comparison",
    "Diff",
    "Duel",
    "ForkCost",
    "FreeSpace",
    "HeapMap",
    "Moments",
    "Offline",
    "OverLive",
    "Pin",
    "Progress",
    "Run",
    "Seconds",
    "Series",
    "Standing",
    "Sweep",
    "Timeline",
    "Tuning",
    "adversary",
    "compare",
    "default_allocators",
    "diff",
    "fork_cost",
    "offline",
    "run",
    "sweep",
    "tune",
]
