"""What sizes a trace asks for."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import accumulate

import numpy as np

from heaplab.traces.event import Op
from heaplab.traces.trace import Trace
from heaplab.units import counted


@dataclass(frozen=True)
class SizeClass:
    """Requests of `low` to `high` bytes: how many, and how many bytes together."""

    low: int
    high: int
    count: int
    total: int


class SizeProfile:
    """The sizes requested by a trace's allocations, reallocations included.

    Cost: one pass over the trace; memory for the different sizes.

    >>> from heaplab.traces import Event
    >>> sizes = SizeProfile(Trace.of([Event(Op.MALLOC, i, size) for i, size in enumerate([0, 5, 6, 100])]))
    >>> sizes.quantile(0.5), sizes.quantile(1)
    (5, 100)
    >>> [(each.low, each.high, each.count) for each in sizes.classes()]
    [(0, 0, 1), (4, 7, 2), (64, 127, 1)]
    """

    def __init__(self, trace: Trace) -> None:
        counts: Counter[int] = Counter()
        for block in trace:
            requests = block.size[(block.op <= Op.ALIGNED) & (block.op != Op.FREE)]
            values, times = np.unique(requests, return_counts=True)
            counts.update(dict(zip(values.tolist(), times.tolist(), strict=True)))
        self._sizes = sorted(counts)
        self._counts = [counts[size] for size in self._sizes]
        self.requests = sum(self._counts)
        """How many requests there were."""

    def __repr__(self) -> str:
        return f"<SizeProfile of {counted(self.requests, 'request')}>"

    def quantile(self, part: float) -> int:
        """Return the smallest size that `part` (0 to 1) of the requests do not exceed; 0 without requests."""
        for size, count in zip(self._sizes, accumulate(self._counts), strict=True):
            if count >= part * self.requests:
                return size
        return 0

    def classes(self) -> Iterator[SizeClass]:
        """The requests by powers of two, in order, without empty classes."""
        bits = [size.bit_length() for size in self._sizes]
        for bit in sorted(set(bits)):
            rows = [
                (size, count)
                for size, count, its in zip(self._sizes, self._counts, bits, strict=True)
                if its == bit
            ]
            low, high = (1 << bit) >> 1, (1 << bit) - 1
            yield SizeClass(
                low, high, sum(count for _, count in rows), sum(size * count for size, count in rows)
            )
