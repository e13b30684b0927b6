"""A workload that was learned from a trace, and knows how like its own trace is."""

from dataclasses import dataclass, field, fields
from functools import cached_property
from pathlib import Path

from heaplab.errors import HeaplabError
from heaplab.traces import Trace, open_trace
from heaplab.traces.workload import Workload
from heaplab.traces.workload.learning import WINDOWS, learn, one_heap
from heaplab.workload.likeness import Likeness, likeness


@dataclass(frozen=True)
class Fit(Workload):
    """A workload, and the trace that it was learned from: see `fit`."""

    original: Trace | None = field(default=None, compare=False, repr=False)
    """What was learned: of several processes the busiest alone."""

    @cached_property
    def likeness(self) -> Likeness:
        """How far the workload's trace is from the original; made when it is first asked for."""
        if self.original is None:
            raise HeaplabError("this fit has no original: heaplab.workload.fit(trace) makes one that has")
        return likeness(self.original, self.trace())

    def __repr__(self) -> str:
        return f"<Fit {self}>"

    __str__ = Workload.__str__


def fit(trace: str | Path | Trace, *, windows: int = WINDOWS, seed: int = 0) -> Fit:
    """Return a workload that is like a trace: its sizes, lifetimes, both together, and its phases.

    trace: a name, a file or a trace.  windows: how many phases.  seed: of the workload's chance.
    `likeness` says how far its own trace is from the original; `save` writes it as a .toml file.
    Cost: 1 us an event; 5 if the trace has several processes, of which the one with the most allocations is
    learned.
    Raises: UsageError when the trace cannot be opened, or allocates nothing.

    >>> like = fit("lua", windows=8)
    >>> str(like)
    'workload:like=lua:windows=8:events=69655:seed=0'
    >>> abs(like.likeness["requested"].far) < 0.01
    True
    """
    opened = trace if isinstance(trace, Trace) else open_trace(trace)
    original = one_heap(opened)
    learned = learn(original, windows)
    values = {each.name: getattr(learned, each.name) for each in fields(learned)}
    return Fit(**{**values, "seed": seed}, original=original)
