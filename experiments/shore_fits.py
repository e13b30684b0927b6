"""First fit or best fit?  Shore's crossover; and next fit, where Bays saw it fall behind.

    python experiments/shore_fits.py                             both questions, a minute and a half
    python experiments/shore_fits.py --requests 100000 --seeds 20 --figure fits.png

**The memory** is one piece of 32,768 units and never grows.  Requests wait in one queue, in the order in
which they come, and there is always one that waits.  When the first of the queue does not fit into any free
block, time goes on until a block's time is over.  So the memory is as full as the policy can keep it.  What a
block asks for, and how long it stays, are drawn independently; times are uniform between 5 and 15.

**Efficiency** is the share of the memory that blocks occupy, on the average over time, once the memory has
filled.  A unit is 16 bytes, and a block's header lies inside its units, so headers cost nothing here: all
that is lost is lost between blocks.  The policies are those of the design `freelist`, ordered by address;
freed neighbours are merged at once.

**Shore** compared first fit and best fit by the distribution of sizes.  Here each kind that he used has one
point or several.  The lognormal distribution makes a line, because its coefficient of variation (cv) can be
chosen freely.  All have the mean of 256 units, 1/128 of the memory.

**Bays** compared next fit with both, by the mean size of requests, which are exponential.

Sizes above the memory are drawn again.  All policies see the same requests and times (common random numbers),
so differences are of pairs, and their standard errors (+-, and the bars of the figure) are small.
"""

import heapq
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from heaplab.allocators import State, create
from heaplab.cli._experiments import run
from heaplab.kernel import Kernel
from heaplab.report import style
from heaplab.report.experiment import Claim, Experiment, Findings, Parameter, Table, Tick
from heaplab.traces.workload import (
    Distribution,
    Exponential,
    Hyperexponential,
    Lognormal,
    Normal,
    Uniform,
)

UNITS = 32_768
UNIT = 16
HEADER = 8
MEAN = UNITS // 128
#: a block of the design has at least two units
LEAST = 2
RLIMIT_DATA = 2

#: the kinds that Shore compared, by name
KINDS: dict[str, Distribution] = {
    "normal": Normal(MEAN, MEAN / 4),
    "uniform": Uniform(0, 2 * MEAN),
    "exponential": Exponential(MEAN),
}


def lognormal(mean: float, cv: float) -> Lognormal:
    """The lognormal distribution of this mean and coefficient of variation."""
    square = math.log1p(cv * cv)
    return Lognormal(mean * math.exp(-square / 2), math.sqrt(square))


def drawn(sizes: Distribution, count: int, seed: int) -> tuple[list[int], list[float]]:
    """Units that requests ask for, and times that blocks stay."""
    random = np.random.default_rng(seed)
    units = np.maximum(np.rint(sizes.sample(random, count)), LEAST)
    while len(over := np.flatnonzero(units > UNITS)):
        units[over] = np.maximum(np.rint(sizes.sample(random, len(over))), LEAST)
    return units.astype(int).tolist(), random.uniform(5, 15, count).tolist()


def efficiency(fit: str, requests: tuple[list[int], list[float]]) -> float:
    """The share of a full memory that blocks occupy under a policy, over the last three quarters."""
    process = Kernel(ram="16 MiB", seed=1).init.fork()
    options = f"order=address:mmap_threshold=64GiB:trim_threshold=64GiB:top_pad={UNITS * UNIT}:checks=none"
    heap = create(f"freelist:fit={fit}:{options}", process, "c")
    process.setrlimit(RLIMIT_DATA, (0, 0))  # the break stays where it is
    memory = sum(block.size for block in heap.blocks() if block.state == State.FREE) // UNIT
    malloc, free = heap.malloc, heap.free
    leaving: list[tuple[float, int, int]] = []
    now = began = area = 0.0
    occupied = 0
    warm = len(requests[0]) // 4
    for number, (units, stays) in enumerate(zip(*requests, strict=True)):
        while occupied + units > memory or not (place := malloc(units * UNIT - HEADER)):
            leaves, other, its = heapq.heappop(leaving)
            area += occupied * (leaves - now)
            now = leaves
            occupied -= its
            free(other)
        heapq.heappush(leaving, (now + stays, place, units))
        occupied += units
        if number == warm:
            area, began = 0.0, now
    return area / ((now - began) * memory)


@dataclass(frozen=True)
class Point:
    """Efficiencies of policies on requests of one distribution, in per cent: a number for each seed."""

    name: str
    cv: float
    mean: float
    shares: dict[str, list[float]]

    def average(self, fit: str) -> float:
        return float(np.mean(self.shares[fit]))

    def ahead(self, fit: str, other: str) -> tuple[float, float]:
        """By how many points of efficiency one policy is ahead of the other, and the standard error."""
        gaps = np.subtract(self.shares[fit], self.shares[other])
        return float(gaps.mean()), float(gaps.std(ddof=1) / math.sqrt(len(gaps)))

    def far(self, fit: str, other: str) -> float:
        """The same relative to the other, in per cent."""
        return 100 * (self.average(fit) / self.average(other) - 1)


@dataclass(frozen=True)
class Drawn:
    """What the figure shows."""

    kinds: Sequence[Point]
    line: Sequence[Point]
    memory: Sequence[Point]


def measure(
    *,
    requests: int,
    seeds: int,
    wide: tuple[float, ...],
    variations: tuple[float, ...],
    memories: tuple[int, ...],
    seed: int,
    tick: Tick,
) -> Findings:
    """Fill the memory with each kind of requests, under each policy."""
    kinds = {**KINDS, **{f"hyperexponential, cv {cv:g}": Hyperexponential(MEAN, cv) for cv in wide}}
    total = (len(kinds) + len(variations)) * 2 + len(memories) * 3
    done = 0

    def point(name: str, sizes: Distribution, mean: float, fits: tuple[str, ...]) -> Point:
        nonlocal done
        shares: dict[str, list[float]] = {}
        for fit in fits:
            tick(done, total, f"{fit} fit, {name}")
            done += 1
            shares[fit] = [
                100 * efficiency(fit, drawn(sizes, requests, seed * 1000 + number)) for number in range(seeds)
            ]
        return Point(name, sizes.cv, mean, shares)

    both = ("first", "best")
    spread = [point(name, sizes, MEAN, both) for name, sizes in kinds.items()]
    line = [point(f"lognormal, cv {cv:g}", lognormal(MEAN, cv), MEAN, both) for cv in variations]
    memory = [
        point(f"1/{part} of memory", Exponential(UNITS / part), UNITS / part, ("first", "best", "next"))
        for part in memories
    ]
    return Findings(
        [_table_of_kinds([*spread, *line]), _table_of_memory(memory)],
        [*_shore(spread, line), *_bays(memory)],
        (),
        Drawn(spread, line, memory),
    )


def _table_of_kinds(points: Sequence[Point]) -> Table:
    heads = ("sizes", "cv", "first fit, %", "best fit, %", "first - best, points", "+-")
    return Table(
        f"Efficiency by the distribution of sizes; mean 1/{UNITS // MEAN} of the memory; +- is the "
        "standard error of paired differences",
        heads,
        [
            (
                point.name,
                point.cv,
                point.average("first"),
                point.average("best"),
                *point.ahead("first", "best"),
            )
            for point in points
        ],
    )


def _table_of_memory(points: Sequence[Point]) -> Table:
    heads = ("mean size", "first fit, %", "best fit, %", "next fit, %", "next - first, points", "+-")
    return Table(
        "Efficiency by the mean of exponential sizes",
        heads,
        [
            (
                point.name,
                *(point.average(fit) for fit in ("first", "best", "next")),
                *point.ahead("next", "first"),
            )
            for point in points
        ],
    )


def crossover(points: Sequence[Point]) -> float | None:
    """The cv at which first fit overtakes best fit, between two points on the line; None if it does not."""
    ahead = [point.ahead("first", "best")[0] for point in points]
    for left, right, before, after in zip(points, points[1:], ahead, ahead[1:], strict=False):
        if before < 0 <= after:
            return left.cv + (right.cv - left.cv) * -before / (after - before)
    return None


def _shore(kinds: Sequence[Point], line: Sequence[Point]) -> list[Claim]:
    claims = []
    named = {point.name: point for point in kinds}
    for name, winner, loser in (
        ("uniform", "best", "first"),
        ("normal", "best", "first"),
        ("exponential", "first", "best"),
        *((name, "first", "best") for name in named if name.startswith("hyperexponential")),
    ):
        ahead, half = named[name].ahead(winner, loser)
        claims.append(
            Claim.shape(
                f"the better policy for {name} sizes",
                f"{winner} fit (Shore)",
                f"{winner} fit is ahead by {ahead:.2f} +- {half:.2f} points of efficiency",
                holds=ahead > 0,
                rule="ahead on the average",
            )
        )
    near = {name: abs(named[name].far("first", "best")) for name in ("normal", "uniform", "exponential")}
    claims.append(
        Claim.shape(
            "how far first fit and best fit are apart for normal, uniform and exponential sizes, %",
            "1 to 3 (Shore)",
            ", ".join(f"{far:.1f}" for far in near.values()),
            holds=all(far <= 3 for far in near.values()),
            rule="at most 3 % of the efficiency",
        )
    )
    wide = [point for point in kinds if point.name.startswith("hyperexponential")]
    claims.append(
        Claim.shape(
            "how far they are apart for hyperexponential sizes, %",
            "1 to 3 (Shore)",
            ", ".join(f"{point.far('first', 'best'):.1f} at cv {point.cv:g}" for point in wide),
            holds=all(point.far("first", "best") <= 3 for point in wide),
            rule="at most 3 % of the efficiency",
            disagrees="the gap grows with the cv, and at which cv Shore measured was not found out",
        )
    )
    found = crossover(line)
    if len(line) > 1:
        claims.append(
            Claim.between(
                "cv of lognormal sizes at which first fit overtakes best fit (published: about 1)",
                0.7,
                1.3,
                math.inf if found is None else found,
            )
        )
    return claims


def _bays(points: Sequence[Point]) -> list[Claim]:
    small = [point for point in points if point.mean < UNITS / 16]
    large = [point for point in points if point.mean > UNITS / 16]
    behind = {point.name: -point.far("next", "first") for point in points}
    claims = []
    if small:
        claims.append(
            Claim.shape(
                "next fit for mean sizes below 1/16 of the memory",
                "clearly worse (Bays)",
                ", ".join(f"{behind[point.name]:.1f} % behind first fit at {point.name}" for point in small),
                holds=all(behind[point.name] > 0 for point in small) and max(behind.values()) > 2,
                rule="behind first fit at each, and somewhere by more than 2 %",
            )
        )
    if large:
        claims.append(
            Claim.shape(
                "next fit for mean sizes above 1/16 of the memory",
                "similar to first and best fit (Bays)",
                ", ".join(f"{behind[point.name]:.1f} % behind first fit at {point.name}" for point in large),
                holds=all(abs(behind[point.name]) <= 1 for point in large),
                rule="within 1 % of first fit",
            )
        )
    return claims


def draw(findings: Findings) -> Any:
    """On the left who is ahead, by the spread of sizes; on the right the three policies, by their mean."""
    shown: Drawn = findings.drawn
    figure = style.figure(7.2, 3.1)
    left, right = figure.subplots(1, 2)
    _draw_shore(left, shown)
    _draw_bays(right, shown.memory)
    return figure


def _draw_shore(axes: Any, shown: Drawn) -> None:
    axes.axhline(0, color=style.GREY, linewidth=0.8)
    _errors(axes, shown.line, color=style.BLUE, marker="o", label="lognormal", line="-")
    marks = {"normal": "s", "uniform": "^", "exponential": "D", "hyperexponential": "v"}
    colours = (style.GREEN, style.ORANGE, style.VERMILION, style.PURPLE)
    for (kind, mark), colour in zip(marks.items(), colours, strict=True):
        its = [point for point in shown.kinds if point.name.startswith(kind)]
        _errors(axes, its, color=colour, marker=mark, label=kind, line="")
    axes.text(0.03, 0.97, "above 0: first fit is better", transform=axes.transAxes, fontsize=8, va="top")
    axes.text(0.03, 0.90, "below: best fit is better", transform=axes.transAxes, fontsize=8, va="top")
    axes.set_xlabel("coefficient of variation of sizes", fontsize=8)
    axes.set_ylabel("first fit - best fit,\npoints of efficiency", fontsize=8)
    axes.legend(fontsize=7, facecolor="white", edgecolor="none", framealpha=1, loc="lower right")
    style.plain(axes)


def _errors(axes: Any, points: Sequence[Point], *, color: str, marker: str, label: str, line: str) -> None:
    ahead = [point.ahead("first", "best") for point in points]
    axes.errorbar(
        [point.cv for point in points],
        [gap for gap, _ in ahead],
        yerr=[half for _, half in ahead],
        color=color,
        marker=marker,
        markersize=4.5,
        linestyle=line or "none",
        linewidth=1.2,
        capsize=2,
        label=label,
    )


def _draw_bays(axes: Any, points: Sequence[Point]) -> None:
    parts = [point.mean / UNITS for point in points]
    for fit, (colour, mark) in zip(("first", "best", "next"), style.SERIES, strict=False):
        shares = [point.average(fit) for point in points]
        axes.plot(parts, shares, color=colour, marker=mark, markersize=4.5, linewidth=1.2, label=f"{fit} fit")
    axes.axvline(1 / 16, color=style.GREY, linewidth=0.8, linestyle=":")
    axes.text(1 / 16, 0.98, " 1/16", transform=axes.get_xaxis_transform(), fontsize=8, va="top")
    axes.set_xscale("log", base=2)
    axes.set_xticks(parts, [f"1/{round(1 / part)}" for part in parts])
    axes.minorticks_off()
    axes.set_xlabel("mean of exponential sizes, part of the memory", fontsize=8)
    axes.set_ylabel("efficiency, % of the memory", fontsize=8)
    axes.legend(fontsize=7, frameon=False, loc="lower left")
    style.plain(axes)


EXPERIMENT = Experiment(
    question="First fit or best fit, and when is next fit worse?",
    source="Shore, On the external storage fragmentation produced by first-fit and best-fit allocation "
    "strategies (CACM 18, 1975); Bays, A comparison of next-fit, first-fit, and best-fit (CACM 20, 1977)",
    parameters=(
        Parameter("requests", full=20_000, small=2_500, help="Of each run.", least=100),
        Parameter("seeds", full=6, small=2, help="Runs of each policy on each distribution.", least=2),
        Parameter(
            "wide",
            full=(1.5, 2.0, 3.0),
            small=(2.0,),
            help="Coefficients of variation of hyperexponential sizes.",
            least=1,
        ),
        Parameter(
            "variations",
            full=(0.25, 0.5, 0.75, 1.0, 1.25, 1.5, 2.0, 3.0),
            small=(0.5, 1.5),
            help="Coefficients of variation of lognormal sizes.",
            least=0.01,
        ),
        Parameter(
            "memories",
            full=(4, 8, 16, 32, 64, 128, 256),
            small=(4, 128),
            help="By how many times the memory is larger than the mean size.",
            least=2,
        ),
    ),
    measure=measure,
    draw=draw,
)

if __name__ == "__main__":
    run(EXPERIMENT)
