"""A small comparison with every outcome in it."""

import dataclasses

import pytest

from heaplab import lab
from heaplab.lab import Comparison, Run
from heaplab.traces import synthetic


@pytest.fixture(scope="session")
def comparison() -> Comparison:
    """Two traces on four designs; on the first one is stopped, on the second one crashes and one fails."""
    traces = [synthetic(4000, seed=seed, slots=400, median=100 * seed) for seed in (1, 2)]
    specs = ["freelist:fit=first:order=address", "freelist:fit=worst", "buddy", "rbtree"]
    whole = lab.compare(traces, specs, jobs=1)
    runs = list(whole.runs)
    stopped = lab.run(traces[0], specs[1], max_mems=50_000)
    runs[1] = dataclasses.replace(stopped, trace=runs[1].trace)
    runs[5] = Run.lost(
        trace=runs[5].trace,
        events=4000,
        allocator=specs[1],
        language="c",
        seed=1,
        outcome="crashed",
        reason="its process was ended by SIGSEGV",
    )
    runs[6] = dataclasses.replace(
        runs[6], outcome="failed", reason="event 7 (free 3): no", fragmentation=None, heap_map=None
    )
    return dataclasses.replace(whole, runs=tuple(runs))
