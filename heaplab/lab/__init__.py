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

from importlib import import_module
from typing import TYPE_CHECKING, Any

from heaplab.lab.attribution import Attribution, Pin
from heaplab.lab.compare import (
    DEFAULT_MAX_MEMS,
    DEFAULT_MAX_SECONDS,
    Clock,
    Comparison,
    compare,
    default_allocators,
)
from heaplab.lab.metrics import FreeSpace, OverLive
from heaplab.lab.moments import Moments
from heaplab.lab.offline import Offline, offline
from heaplab.lab.plan import Progress
from heaplab.lab.record import HeapMap, Run, Seconds, Timeline
from heaplab.lab.run import RAM, run
from heaplab.lab.series import Series, Standing

if TYPE_CHECKING:
    from heaplab.lab.adversaries import Duel, adversary
    from heaplab.lab.forking import ForkCost, fork_cost
    from heaplab.lab.sweeping.diff import Diff, diff
    from heaplab.lab.sweeping.sweep import Sweep, sweep
    from heaplab.lab.sweeping.tune import Tuning, tune

#: where the names are that no run needs: a worker imports this room, and starts sooner without them.  A name
#: that is also a module's (compare, run, offline) cannot be among them: the module would take its place
_FOUND = {
    **dict.fromkeys(("Duel", "adversary"), "adversaries"),
    **dict.fromkeys(("ForkCost", "fork_cost"), "forking"),
    **dict.fromkeys(("Diff", "diff"), "sweeping.diff"),
    **dict.fromkeys(("Sweep", "sweep"), "sweeping.sweep"),
    **dict.fromkeys(("Tuning", "tune"), "sweeping.tune"),
}

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


def __getattr__(name: str) -> Any:
    """Import what is asked for; it is found at once from then on."""
    if name not in _FOUND:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found = globals()[name] = getattr(import_module(f"{__name__}.{_FOUND[name]}"), name)
    return found
