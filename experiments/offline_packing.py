"""Does offline packing say how much memory an allocator will need?

    python experiments/offline_packing.py                      the corpus, six designs and glibc, two minutes
    python experiments/offline_packing.py --traces lua,gcc,perl --real ""

**The question.** A trace's blocks are rectangles of time and bytes. To place them with all births and
deaths known is two-dimensional packing; an allocator has to place each block when it is born. Lamprakos and
others packed 28 programs offline, and compared with the peak resident memory of four allocators. They found
three things: the packing's height and resident memory are correlated (Spearman's rank correlation above
0.65 in half of the cases), GNU's malloc needs at least the packing's height in 87.5 % of the cases, and
93.75 % stay below Robson's bound.

**Here.** Each trace is packed by heuristics of `heaplab.lab.offline`; designs run on the model, real
allocators on Linux. Memory is the peak of resident memory. Height differs between programs by a factor of
thirty, so a correlation over programs of bytes with bytes says little: any two measures of memory would be
close. So it is also taken of what is wasted, the ratio to the peak of live payload.

**Robson's bound.** Blocks of powers of two up to n, at most M live: first fit may need M (1 + log2(n) / 2)
- n + 1, in units of the smallest block. Requests are rounded up to powers of two for it, from 16 bytes.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import log2
from typing import Any

import numpy as np

from heaplab import lab
from heaplab.cli._experiments import run
from heaplab.errors import UsageError
from heaplab.lab.offline import GRANULE, HEURISTICS, Rectangles
from heaplab.machine import USUAL_PAGE
from heaplab.report import style
from heaplab.report.experiment import Claim, Experiment, Findings, Parameter, Table, Tick
from heaplab.traces import corpus, open_trace

#: what Lamprakos and others found
CORRELATED, AT_LEAST_OFFLINE, BELOW_ROBSON = 0.65, 87.5, 93.75

#: small programs, in place of the corpus
SMALL = tuple(
    f"workload:events=4000:sizes={sizes}:lifetimes={lifetimes}:name={sizes.split(',')[0]}"
    for sizes, lifetimes in (
        ("uniform,16,9000", "exponential,900"),
        ("exponential,3000", "uniform,10,1500"),
        ("powers,16,16384", "hyperexponential,800,3"),
        ("lognormal,2000,1", "exponential,400"),
    )
)


@dataclass(frozen=True)
class Program:
    """One trace: its packings, and the peak of resident memory of each allocator; bytes."""

    name: str
    live: int
    packed: lab.Offline
    robson: float
    resident: dict[str, int]
    heap: dict[str, int]

    @property
    def apart(self) -> bool:
        """Whether no blocks are shared after a fork: what is shared may be less than what is packed."""
        return self.packed.live_pages * USUAL_PAGE >= self.packed.lower_bound

    def waste(self, size: float) -> float:
        """How much more than the lower bound, %."""
        return 100 * (size / self.packed.lower_bound - 1)


def robson(trace: str) -> float:
    """Return Robson's lower bound for programs with the peak and the largest block of a trace, bytes."""
    rectangles = Rectangles.of(open_trace(trace))
    power = 2.0 ** np.ceil(np.log2(rectangles.size.astype(np.float64) / GRANULE))
    change = np.zeros(rectangles.ticks + 1)
    np.add.at(change, rectangles.start, power[rectangles.owner])
    np.subtract.at(change, rectangles.until, power[rectangles.owner])
    most, largest = float(np.cumsum(change).max()), float(power.max())
    return GRANULE * (most * (1 + log2(largest) / 2) - largest + 1)


def measure(
    *,
    traces: tuple[str, ...],
    designs: tuple[str, ...],
    real: tuple[str, ...],
    every: int,
    seed: int,
    tick: Tick,
) -> Findings:
    """Pack and play every trace."""
    names = list(traces if traces != ("corpus",) else corpus.names())
    if len(names) < 3:
        raise UsageError("--traces: a rank correlation needs three traces at least")
    found = []
    for at, name in enumerate(names):
        tick(at, len(names), name)
        packed = lab.offline(name, every=bool(every), progress=lambda what, at=at: tick(at, len(names), what))
        trace = open_trace(name)
        runs = [lab.run(trace, design, seed=seed, verify=False) for design in designs]
        if native := [each for each in real if each]:
            runs += lab.compare([trace], [], native=native, seed=seed, rounds=1).runs
        runs = [each for each in runs if each.outcome == "finished"]
        found.append(
            Program(
                trace.header.name,
                runs[0].peak_live,
                packed,
                robson(name),
                {each.allocator: each.peak_resident or 0 for each in runs},
                {each.allocator: each.peak_heap for each in runs},
            )
        )
    tick(len(names), len(names))
    return Findings(tables(found), claims(found), remarks(found), found)


def allocators(found: Sequence[Program]) -> list[str]:
    """Those that have finished every trace, in order."""
    return [name for name in found[0].resident if all(name in each.resident for each in found)]


def spearman(one: Sequence[float], other: Sequence[float]) -> float:
    """Return Spearman's rank correlation; equal values share the mean of their ranks.

    >>> round(spearman([1, 2, 3, 4], [10, 30, 20, 40]), 6)
    0.8
    """

    def ranks(values: Sequence[float]) -> Any:
        _, at, counts = np.unique(values, return_inverse=True, return_counts=True)
        return (np.cumsum(counts) - (counts - 1) / 2)[at]

    return float(np.corrcoef(ranks(one), ranks(other))[0, 1])


def correlations(found: Sequence[Program]) -> dict[str, tuple[float, float, float]]:
    """Return Spearman's correlations over programs, by allocator.

    Of packing and resident memory in bytes, of both over live, and of best fit without headers and resident
    memory over live.
    """
    best = [each.packed.best for each in found]
    of = {}
    for name in allocators(found):
        resident = [each.resident[name] for each in found]
        above = [each.resident[name] / each.live for each in found]
        rounding = [each.packed.best / each.live for each in found]
        fit = [each.packed.placements["best fit"] / each.live for each in found]
        pairs = ((best, resident), (rounding, above), (fit, above))
        of[name] = tuple(spearman(one, other) for one, other in pairs)
    return of


def tables(found: Sequence[Program]) -> list[Table]:
    """Packings by trace, allocators by trace, correlations by allocator."""
    shown = [name for name in HEURISTICS if any(name in each.packed.placements for each in found)]
    packings = [
        [
            each.name,
            each.packed.blocks,
            each.packed.lower_bound,
            each.waste(each.packed.best),
            each.packed.heuristic,
            *(
                each.waste(each.packed.placements[name]) if name in each.packed.placements else None
                for name in shown
            ),
        ]
        for each in found
    ]
    names = allocators(found)
    residents = [
        [each.name, each.packed.best, *(each.resident[name] / each.packed.best for name in names)]
        for each in found
    ]
    of = correlations(found)
    return [
        Table(
            "Packings, % above the lower bound",
            ["trace", "blocks", "lower bound, bytes", "best", "found by", *shown],
            packings,
        ),
        Table(
            "Peak of resident memory over the best packing",
            ["trace", "best packing, bytes", *names],
            residents,
        ),
        Table(
            "Spearman's correlation over the traces, of resident memory with",
            ["allocator", "best packing, bytes", "best packing, over live", "best fit, over live"],
            [[name, *of[name]] for name in names],
        ),
    ]


def claims(found: Sequence[Program]) -> list[Claim]:
    """What was published, and ours."""
    names, of = allocators(found), correlations(found)
    gnu = next((name for name in names if name == "glibc"), None)
    bytes_with = [of[name][0] for name in names]
    pairs = [(each, name) for each in found for name in names]
    below = 100 * float(np.mean([each.resident[name] < each.robson for each, name in pairs]))
    made = [
        Claim.shape(
            "packing and peak resident memory, bytes: Spearman's correlation over programs",
            f"above {CORRELATED} in half of the cases",
            f"{min(bytes_with):.2f} to {max(bytes_with):.2f}",
            holds=sum(value > CORRELATED for value in bytes_with) >= len(names) / 2,
            rule=f"above {CORRELATED} for at least half of the allocators",
        ),
        Claim.shape(
            "peak resident memory below Robson's bound, % of programs and allocators",
            f"{BELOW_ROBSON}",
            f"{below:.1f}",
            holds=below >= BELOW_ROBSON,
            rule="at least as many",
        ),
    ]
    apart = [each for each in found if each.apart]
    if gnu is not None and apart:
        least = 100 * float(np.mean([each.resident[gnu] >= each.packed.best for each in apart]))
        made.append(
            Claim.shape(
                "GNU's malloc needs at least the packing's height, % of programs "
                f"({len(apart)} of {len(found)}: whose processes share no blocks after a fork)",
                f"{AT_LEAST_OFFLINE}",
                f"{least:.1f}",
                holds=least >= AT_LEAST_OFFLINE,
                rule="at least as many",
            )
        )
    return made


def remarks(found: Sequence[Program]) -> list[str]:
    """How good the packings are."""
    of = correlations(found)
    proven = sum(each.packed.optimal for each in found)
    worst = max(found, key=lambda each: each.waste(each.packed.best))
    naive = max(found, key=lambda each: each.waste(each.packed.placements["best fit"]))
    of_waste = [max(of[name][1:]) for name in of]
    return [
        "Spearman's correlation of what allocators waste, resident memory over live, with packings' waste, "
        f"the better of best packing and best fit: {min(of_waste):.2f} to {max(of_waste):.2f}.",
        f"On {proven} of {len(found)} traces the best packing has the height of the lower bound: none is "
        f"better.  It is at most {worst.waste(worst.packed.best):.2f} % above ({worst.name}).  A packing "
        "without waste says what is live, and nothing else.  What allocators waste, they waste since they do "
        "not know the future, and because of headers, size classes and pages that they keep.",
        "Best fit without headers, which knows no future, is at most "
        f"{naive.waste(naive.packed.placements['best fit']):.1f} % above the lower bound ({naive.name}).",
    ]


def draw(findings: Findings) -> Any:
    """Two panels: how far above the lower bound everybody is; packing against resident memory."""
    found: Sequence[Program] = findings.drawn
    names = allocators(found)
    figure = style.figure(7.2, 0.9 + 0.24 * max(len(found), 8))
    left, right = figure.subplots(1, 2, width_ratios=[1.5, 1])
    order = sorted(found, key=lambda each: each.packed.best)
    for row, each in enumerate(order):
        left.axhline(row, color=style.LIGHT, linewidth=0.8, zorder=0)
        left.plot(
            max(each.waste(each.packed.placements["best fit"]), 0.003),
            row,
            "|",
            color=style.BLACK,
            markersize=8,
            label="best fit without headers" if not row else None,
        )
        left.plot(
            max(each.waste(each.packed.best), 0.003),
            row,
            "o",
            color=style.BLACK,
            fillstyle="none",
            markersize=7,
            label="best packing" if not row else None,
        )
        for at, name in enumerate(names):
            colour, marker = style.SERIES[at % len(style.SERIES)]
            left.plot(
                max(each.waste(each.resident[name]), 0.003),
                row,
                marker,
                color=colour,
                markersize=4.5,
                alpha=0.9,
                label=name.removeprefix("freelist:") if not row else None,
            )
    left.set_xscale("log")
    left.set_yticks(range(len(order)), [each.name for each in order])
    left.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    left.set(xlabel="peak above the lower bound, % (0.003: none, or below)", ylim=(-0.6, len(order) - 0.4))
    for at, name in enumerate(names):
        colour, marker = style.SERIES[at % len(style.SERIES)]
        right.plot(
            [each.packed.best / 2**20 for each in found],
            [each.resident[name] / 2**20 for each in found],
            marker,
            color=colour,
            markersize=4.5,
            alpha=0.9,
        )
    ends = [min(each.packed.best for each in found) / 2**21, max(each.packed.best for each in found) / 2**19]
    right.plot(ends, ends, color=style.GREY, linewidth=1, zorder=0)
    right.annotate("equal", (ends[1] * 0.6, ends[1] * 0.45), fontsize=7, color=style.GREY)
    right.set_xscale("log", base=2)
    right.set_yscale("log", base=2)
    right.set(xlabel="best packing, MiB", ylabel="peak of resident memory, MiB")
    for axes in (right.xaxis, right.yaxis):
        axes.set_major_formatter(lambda value, _: f"{value:g}")
    for axes in (left, right):
        style.plain(axes)
        axes.xaxis.label.set_size(8.5)
        axes.yaxis.label.set_size(8.5)
    figure.legend(
        *left.get_legend_handles_labels(), fontsize=7, frameon=False, loc="outside lower center", ncols=5
    )
    return figure


EXPERIMENT = Experiment(
    question="Does offline packing say how much memory an allocator will need?",
    source="Lamprakos, Xydis, Catthoor, Soudris, Viewing Allocators as Bin Packing Solvers Demystifies "
    "Fragmentation (arXiv 2304.10862) and The Unexpected Efficiency of Bin Packing Algorithms for Dynamic "
    "Storage Allocation in the Wild (arXiv 2305.01497), 2023; Robson, JACM 21 (1974)",
    parameters=(
        Parameter("traces", ("corpus",), SMALL, "Names of traces; corpus: all that are bundled."),
        Parameter(
            "designs",
            ("freelist:fit=first:order=address", "freelist:fit=best", "rbtree", "buddy", "slab", "spans"),
            ("freelist:fit=best", "buddy"),
            "Designs that run on the model.",
        ),
        Parameter("every", 0, 0, "1: try all heuristics, also when one is near to the lower bound."),
        Parameter("real", ("glibc",), ("",), "Real allocators; an empty name: none."),
    ),
    measure=measure,
    draw=draw,
)

if __name__ == "__main__":
    run(EXPERIMENT)
