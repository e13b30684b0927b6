"""A small comparison with every outcome in it."""

import dataclasses

import pytest

from heaplab import lab
from heaplab.lab import Comparison, Run, Seconds
from heaplab.lab.metrics import Mems
from heaplab.native.playing import Latency, Times
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


@pytest.fixture(scope="session")
def with_real(comparison) -> Comparison:
    """The comparison with two real allocators behind the others; that on the second trace hangs once."""
    runs = []
    for name in comparison.headers:
        of_trace = comparison.of_trace(name)
        runs += [*of_trace, *(_real(of_trace[3], "glibc", 30.0), _real(of_trace[3], "/opt/lib/my.so", 12.5))]
    runs[-1] = Run.lost(
        trace=runs[-1].trace,
        events=4000,
        allocator="/opt/lib/my.so",
        language="native",
        seed=1,
        outcome="hung",
        reason="event 7 (free 3): no end after 30 s",
    )
    missing = "left out: jemalloc: libjemalloc.so.2 is not installed: Debian's package libjemalloc2 has it"
    return dataclasses.replace(comparison, runs=tuple(runs), left_out=(missing,))


def _real(run: Run, allocator: str, ns: float) -> Run:
    """A run as on a real allocator."""
    times = Times(ns, ns - 1, ns + (1 if allocator == "glibc" else 5), 10.0, (ns - 1, ns, ns + 1))
    return dataclasses.replace(
        run,
        allocator=allocator,
        language="native",
        mems=Mems(None),
        fragmentation=None,
        heap_map=None,
        **dict.fromkeys(("excess", "attribution", "free", "heap_over_live", "resident_over_live")),
        brk_calls=None,
        mmap_calls=None,
        seconds=Seconds(None, 0.5, times, Latency(5.0, 50.0, 500.0, 5000.0)),
    )
