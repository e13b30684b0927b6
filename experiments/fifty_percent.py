"""Are half as many blocks free as are live?  Knuth's fifty-percent rule, and where Shore saw it fail.

    python experiments/fifty_percent.py                              every design, two minutes
    python experiments/fifty_percent.py --designs rbtree --variations 1,2,8 --blocks 4000

**The rule.**  N blocks are live, F blocks are free, neighbouring free blocks are merged at once.  p is the
share of requests that do not fit exactly: they split a free block, and its rest stays free.  An exact fit
takes one free block away, so an allocation changes F by -(1 - p) on the average.  A free changes F by 1 - q,
where q is the average number of free neighbours (0, 1 or 2) of a block that is freed.  When F neither rises
nor falls, q = p.  Each free block has two live neighbours, so the average live block has 2 F / N free
neighbours.  If the blocks that die are like all live blocks, 2 F / N = q = p, and F = p N / 2.

**Where it fails.**  The step "blocks that die are like all live blocks" is an assumption.  Shore found that
it fails when two things come together.  An allocator puts each block at the same end of the free block that
it took, so neighbours were allocated one after the other.  And lifetimes decide in which order blocks die:
equal lifetimes free them in the order of their allocation, so a block that dies has a neighbour that has just
died.
Here the coefficient of variation (cv) of lifetimes runs from 0 (all equal) over 1 (exponential: every live
block is as likely to die next as any other) to 4 (most die young, a few live long).

F and N are exact: every block's place is known after every event.  At the end of each run the heap is walked,
and the walk must count the same free blocks.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from heaplab import allocators
from heaplab.allocators import State
from heaplab.cli._experiments import run
from heaplab.errors import HeaplabError, UsageError
from heaplab.kernel import Kernel
from heaplab.lab import RAM
from heaplab.lab.trail import Trail
from heaplab.report import style
from heaplab.report.experiment import Claim, Experiment, Findings, Parameter, Table, Tick
from heaplab.traces import Block, Op, Trace, open_trace
from heaplab.traces.lives import lives
from heaplab.traces.workload import (
    Constant,
    Distribution,
    Exponential,
    Hyperexponential,
    Uniform,
    Workload,
    distribution,
)

#: every block is in the part of the heap that grows by brk, where blocks have neighbours
ONE_PIECE = "mmap_threshold=64GiB:checks=none"
#: events between two counts of F and N
EVERY = 500


@dataclass(frozen=True)
class Balance:
    """What one run came to, on the average over its second half.

    live, free: blocks.  split: p, the share of allocations that left a free block behind.
    neighbours: q, free neighbours of a block that was freed.  used: live bytes over the bytes up to the end
    of the last live block: Shore's efficiency.
    """

    live: float
    free: float
    split: float
    neighbours: float
    used: float

    @property
    def ratio(self) -> float:
        """F / N over p / 2: 1 where Knuth's rule holds."""
        return 2 * self.free / self.live / self.split if self.split else math.nan


class Neighbours:
    """The live blocks side by side, and what happens to them.

    A span is from where a block begins to where it ends, its header included; where two live blocks touch,
    the end of one is the start of the other.
    """

    def __init__(self) -> None:
        self._ends: dict[int, int] = {}  # of the live blocks, by start
        self._starts: set[int] = set()
        self._bottom = 1 << 64  # the lowest start
        self._live = 0
        self._counted: list[tuple[int, int, int, float]] = []
        self._allocations = self._splits = self._frees = self._neighbours = 0

    def begin(self, start: int, end: int, size: int, *, counted: bool) -> None:
        """A block comes; counted: it is a request of the second half."""
        self._ends[start] = end
        self._starts.add(end)
        self._live += size
        self._bottom = min(self._bottom, start)
        if counted:
            self._allocations += 1
            self._splits += self._free_neighbours(start, end) > 0

    def end(self, start: int, size: int, *, counted: bool) -> None:
        """A block goes."""
        end = self._ends.pop(start)
        self._starts.discard(end)
        self._live -= size
        if counted:
            self._frees += 1
            self._neighbours += self._free_neighbours(start, end)

    def _free_neighbours(self, start: int, end: int) -> int:
        return (end not in self._ends) + (start not in self._starts and start != self._bottom)

    @property
    def free(self) -> int:
        """Free blocks: behind as many live blocks there is none.  The free end of the heap is one of them."""
        return len(self._starts - self._ends.keys())

    def count(self) -> None:
        """Take F, N and the bytes as they are now into the averages."""
        used = max(self._starts) - min(self._ends) if self._ends else 0
        self._counted.append((len(self._ends), self.free, self._live, used))

    def balance(self) -> Balance:
        """The averages."""
        live, free, payload, used = np.mean(self._counted or [(1, 0, 0, 1)], axis=0)
        return Balance(
            float(live),
            float(free),
            self._splits / max(self._allocations, 1),
            self._neighbours / max(self._frees, 1),
            float(payload / (used or 1)),
        )


def balance(trace: Trace, design: str, seed: int) -> Balance:
    """Play a trace of one process on a design and return how its blocks were balanced in the second half.

    Raises: HeaplabError when the heap's walk counts other free blocks than the places of the blocks say.
    """
    spec = allocators.parse(f"{design}:{ONE_PIECE}", "c")
    whole = Block.join(trace)
    trail = Trail(trace, spec, Kernel(ram=RAM, seed=seed), payload=False, block=whole)
    trail.advance(len(whole))
    if trail.end is not None:
        raise HeaplabError(f"{design}: {trail.end.reason}")
    blocks = lives(trace, whole)
    places = trail.places(blocks)
    starts, ends = places.start.tolist(), (places.start + places.span).tolist()
    sizes, before = blocks.size.tolist(), blocks.before.tolist()
    side_by_side, half = Neighbours(), len(whole) // 2
    for event, (op, row) in enumerate(zip(whole.op.tolist(), blocks.row.tolist(), strict=True)):
        if row and op == Op.FREE:
            side_by_side.end(starts[row - 1], sizes[row - 1], counted=event >= half)
        elif row:
            if before[row - 1]:  # realloc ends one block and begins another: neither is a request that fits
                side_by_side.end(starts[before[row - 1] - 1], sizes[before[row - 1] - 1], counted=False)
            fits = op != Op.REALLOC and event >= half
            side_by_side.begin(starts[row - 1], ends[row - 1], sizes[row - 1], counted=fits)
        if event >= half and event % EVERY == 0:
            side_by_side.count()
    walked = sum(span.state == State.FREE for _, heap in trail.heaps() for span in heap.blocks())
    if abs(walked - side_by_side.free) > 1:  # a gap before the first block, or no room behind the last
        raise HeaplabError(f"{design}: the walk has {walked} free blocks, the places {side_by_side.free}")
    trail.close()
    return side_by_side.balance()


def drawn_ends(trace: Trace, high: float, seed: int) -> Balance:
    """Play a trace on Shore's control: first fit that draws at which end of the free block it puts a block.

    high: how likely that is the high end; 0 is what all designs do.  No headers, no rounding; the free block
    freed last is looked at first; the end of the heap serves what fits nowhere else.
    """
    blocks, whole = lives(trace), Block.join(trace)
    at_high_end = (np.random.default_rng(seed).random(len(blocks)) < high).tolist()
    sizes = blocks.size.tolist()
    order: list[int] = []  # starts of the free blocks
    size_at: dict[int, int] = {}  # of the free blocks, by start
    start_of: dict[int, int] = {}  # and by end
    place: dict[int, int] = {}
    side_by_side, half, top = Neighbours(), len(whole) // 2, 0
    for event, (op, row) in enumerate(
        zip(whole.op.tolist(), (blocks.row.astype(int) - 1).tolist(), strict=True)
    ):
        need, counted = sizes[row], event >= half
        if op == Op.FREE:
            start = place.pop(row)
            end = start + need
            side_by_side.end(start, need, counted=counted)
            if end in size_at:
                order.remove(end)
                end += size_at.pop(end)
            if start in start_of:
                start = start_of.pop(start)
                order.remove(start)
                del size_at[start]
            if end == top:
                top = start
            else:
                order.append(start)
                size_at[start], start_of[end] = end - start, start
        else:
            found = next((at for at in range(len(order) - 1, -1, -1) if size_at[order[at]] >= need), None)
            if found is None:
                start, top = top, top + need
            else:
                start = order[found]
                rest = size_at.pop(start) - need
                if not rest:
                    del order[found], start_of[start + need]
                elif at_high_end[row]:
                    del start_of[start + rest + need]
                    size_at[start], start_of[start + rest] = rest, start
                    start += rest
                else:
                    order[found] = start + need
                    size_at[start + need], start_of[start + need + rest] = rest, start + need
            place[row] = start
            side_by_side.begin(start, start + need, need, counted=counted)
        if event >= half and event % EVERY == 0:
            side_by_side.count()
    return side_by_side.balance()


def lifetimes(mean: float, variation: float) -> Distribution:
    """Return lifetimes with this mean and coefficient of variation.

    >>> [str(lifetimes(100, cv)) for cv in (0, 1, 4)]
    ['constant,100', 'exponential,100', 'hyperexponential,100,4']
    """
    spread = math.sqrt(3) * variation
    if spread == 0:
        return Constant(mean)
    if spread <= 1:
        return Uniform(mean * (1 - spread), mean * (1 + spread))
    if variation == 1:
        return Exponential(mean)
    if variation > 1:
        return Hyperexponential(mean, variation)
    raise UsageError(f"--variations {variation:g}: give 0 to 0.577 (equal, uniform), 1, or more")


@dataclass(frozen=True)
class Point:
    """One run.  what: what was varied.  of: the table it is in."""

    of: str
    design: str
    sizes: str
    cv: float
    found: Balance


def points(
    blocks: int,
    allocations: int,
    sizes: Sequence[str],
    variations: Sequence[float],
    designs: Sequence[str],
    programs: Sequence[str],
    seed: int,
) -> Iterator[Point]:
    """Yield all runs: sizes, then lifetimes, then Shore's two controls, then programs."""

    def made(size: str, variation: float, deaths: str = "drawn") -> Trace:
        lifetime = lifetimes(blocks, variation)
        dist = distribution(size.replace(" ", ","))
        return Workload(2 * allocations, dist, lifetime, deaths=deaths, seed=seed).trace()

    for size in sizes:
        trace = made(size, 1)
        for design in designs:
            yield Point("sizes", design, size, 1, balance(trace, design, seed))
    for variation in variations:
        trace = made(sizes[0], variation)
        for design in designs:
            yield Point("lifetimes", design, sizes[0], variation, balance(trace, design, seed))
        for name, high in (("low end", 0.0), ("either end", 0.5)):
            yield Point("ends", name, sizes[0], variation, drawn_ends(trace, high, seed))
        random = made(sizes[0], variation, "random")
        yield Point("victims", designs[-1], sizes[0], variation, balance(random, designs[-1], seed))
    for program in programs:
        trace = open_trace(program)
        if trace.header.processes > 1:
            raise UsageError(
                f"--programs {program}: has several processes; each would be a balance of its own"
            )
        for design in designs:
            yield Point("programs", design, program, math.nan, balance(trace, design, seed))


def measure(
    *,
    blocks: int,
    allocations: int,
    sizes: tuple[str, ...],
    variations: tuple[float, ...],
    designs: tuple[str, ...],
    programs: tuple[str, ...],
    seed: int,
    tick: Tick,
) -> Findings:
    """Play all of it; see `points`."""
    programs = tuple(name for name in programs if name)
    total = len(sizes) * len(designs) + len(variations) * (len(designs) + 3) + len(programs) * len(designs)
    found: list[Point] = []
    for point in points(blocks, allocations, sizes, variations, designs, programs, seed):
        found.append(point)
        tick(len(found), total, f"{point.of}: {point.design}")
    return Findings(tables(found), claims(found), remarks(found), found)


def tables(found: Sequence[Point]) -> list[Table]:
    """The runs as tables, a line a run."""
    heads = ["free / live", "p / 2", "over it", "q of the freed", "2 F / N of the live", "bytes used"]

    def line(each: Point) -> list[str | float]:
        its = each.found
        typical = 2 * its.free / its.live
        return [typical / 2, its.split / 2, its.ratio, its.neighbours, typical, its.used]

    titles = {
        "sizes": ("Exponential lifetimes: p by design and sizes", "sizes", lambda each: each.sizes),
        "lifetimes": ("Lifetimes: cv 0 equal, 0.577 uniform, 1 exponential", "cv", lambda each: each.cv),
        "ends": (
            "Shore's control: a block is put at the low end of its free block, or at either",
            "cv",
            None,
        ),
        "victims": ("The same moments of death, but any live block dies then", "cv", None),
        "programs": ("Programs, over the second half of their events", "program", lambda each: each.sizes),
    }
    made = []
    for of, (title, head, key) in titles.items():
        its = [each for each in found if each.of == of]
        rows = [[each.design, (key or (lambda each: each.cv))(each), *line(each)] for each in its]
        if rows:
            made.append(Table(title, ["design", head, *heads], rows))
    return made


def claims(found: Sequence[Point]) -> list[Claim]:
    """What Knuth and Shore published, and ours."""
    of = {
        name: [each for each in found if each.of == name]
        for name in ("sizes", "lifetimes", "ends", "victims")
    }
    even = [each.found for each in of["sizes"]]
    mean = float(np.mean([each.ratio for each in even if each.split > 0.02]))
    off = max(abs(each.neighbours - each.split) for each in (point.found for point in of["lifetimes"]))
    regular = [each for each in of["lifetimes"] if each.cv < 1]
    spread = [each for each in of["lifetimes"] if each.cv > 1]
    made = [
        Claim.near(
            "Knuth's rule, lifetimes without memory: free / live over p / 2, mean of designs and sizes",
            1.0,
            mean,
            within=0.05,
        ),
        Claim.shape(
            "Shore's derivation: blocks that are freed have p free neighbours, whatever the lifetimes",
            "q = p",
            f"largest difference {off:.3f}",
            holds=off < 0.03,
            rule="differ by less than 0.03 in every run",
        ),
    ]
    if regular and spread:
        low = min(regular, key=lambda each: each.found.ratio)
        high = max(spread, key=lambda each: each.found.ratio)
        made += [
            Claim.shape(
                "Shore: the ratio deviates in both directions",
                "considerably less and more than p / 2",
                f"{low.found.ratio:.2f} of it ({low.design}, cv {low.cv:g}) to {high.found.ratio:.2f} "
                f"({high.design}, cv {high.cv:g})",
                holds=low.found.ratio < 0.9 and high.found.ratio > 1.1,
                rule="below 0.9 for a cv below 1, above 1.1 for a cv above 1",
            ),
            _rises(of["lifetimes"]),
            _ends(of["ends"]),
            _victims(of["victims"]),
            _efficiency(of["lifetimes"]),
        ]
    return made


def _rises(its: Sequence[Point]) -> Claim:
    """Shore: the more lifetimes vary, the less the order of deaths follows the order of births."""
    by_cv = [
        float(np.mean([each.found.ratio for each in its if each.cv == cv]))
        for cv in sorted({each.cv for each in its})
    ]
    return Claim.shape(
        "Shore: the deviation goes with the cv of lifetimes",
        "less order, the larger the cv",
        "mean of designs " + ", ".join(f"{ratio:.2f}" for ratio in by_cv),
        holds=all(low < high for low, high in pairwise(by_cv)),
        rule="the mean of all designs rises with the cv",
    )


def _ends(its: Sequence[Point]) -> Claim:
    """Shore: without systematic placement the deviation shrinks."""
    low = {each.cv: each.found.ratio for each in its if each.design == "low end"}
    either = {each.cv: each.found.ratio for each in its if each.design == "either end"}
    changed = [cv for cv in low if abs(low[cv] - 1) > 0.05]
    return Claim.shape(
        "Shore: systematic placement is a cause; at either end the deviation shrinks",
        "it does",
        "; ".join(f"cv {cv:g}: {low[cv]:.2f} to {either[cv]:.2f}" for cv in changed),
        holds=bool(changed) and all(abs(either[cv] - 1) < abs(low[cv] - 1) for cv in changed),
        rule="nearer to 1 at each cv where the low end is off by more than 0.05",
    )


def _victims(its: Sequence[Point]) -> Claim:
    """Shore: the order of releases is the other cause."""
    off = max(abs(each.found.ratio - 1) for each in its)
    return Claim.shape(
        "Shore: the order of deaths is the other cause; if any live block may die next, the rule holds",
        "ratio 1",
        f"off by at most {off:.3f} at every cv",
        holds=off < 0.1,
        rule="off by less than 0.1",
    )


def _efficiency(its: Sequence[Point]) -> Claim:
    """Shore: memory is used the less well, the larger the cv of lifetimes."""
    cvs = sorted({each.cv for each in its})
    used = [float(np.mean([each.found.used for each in its if each.cv == cv])) for cv in cvs]
    falls = [share for cv, share in zip(cvs, used, strict=True) if cv <= 1]
    return Claim.shape(
        "Shore: efficiency falls as the cv of lifetimes rises, up to 1",
        "it falls strongly, and beyond 1 too",
        ", ".join(f"cv {cv:g}: {share:.3f}" for cv, share in zip(cvs, used, strict=True)),
        holds=all(low < high for high, low in pairwise(falls)),
        rule="live bytes over used bytes, mean of designs, fall from each cv to the next up to 1",
    )


def remarks(found: Sequence[Point]) -> list[str]:
    """What else is to be seen."""
    made = [
        "Efficiency: above a cv of 1 ours hardly changes any more, and Shore's went on falling.  His memory "
        "had one size and was always full, for requests waited; ours grows to what is needed.  Whether that "
        "is the cause was not tried."
    ]
    its = [each for each in found if each.of == "programs"]
    if not its:
        return made
    low, high = (pick(its, key=lambda each: each.found.ratio) for pick in (min, max))
    return [
        *made,
        f"Programs are in no equilibrium, and their blocks die in groups: their ratios are from "
        f"{low.found.ratio:.2f} ({low.sizes}) to {high.found.ratio:.2f} ({high.sizes}) of p / 2.",
    ]


def draw(findings: Findings) -> Any:
    """Two panels: the rule, over sizes and designs; and its failure, over lifetimes."""
    found: Sequence[Point] = findings.drawn
    figure = style.figure(7.2, 3.4)
    rule, failure = figure.subplots(1, 2)
    designs = list(dict.fromkeys(each.design for each in found if each.of == "sizes"))
    for at, design in enumerate(designs):
        colour, marker = style.SERIES[at % len(style.SERIES)]
        label = design.removeprefix("freelist:").replace(":order=", ", ").replace("fit=", "")
        its = [each for each in found if each.of == "sizes" and each.design == design]
        rule.plot(
            [each.found.split for each in its],
            [each.found.free / each.found.live for each in its],
            marker,
            color=colour,
            markersize=5,
            alpha=0.85,
            label=label,
        )
        lines = [each for each in found if each.of == "lifetimes" and each.design == design]
        failure.plot(
            range(len(lines)), [each.found.ratio for each in lines], f"{marker}-", color=colour, markersize=5
        )
    rule.plot([0, 1], [0, 0.5], color=style.GREY, linewidth=1, zorder=0, label="p / 2")
    programs = [each for each in found if each.of == "programs"]
    rule.plot(
        [each.found.split for each in programs],
        [each.found.free / each.found.live for each in programs],
        "x",
        color=style.GREY,
        markersize=4,
        label="programs",
    )
    for name, dash, what in (
        ("ends", ":", "low end"),
        ("ends", "--", "either end"),
        ("victims", "-.", "any dies"),
    ):
        its = [each for each in found if each.of == name and what in (each.design, "any dies")]
        failure.plot(
            range(len(its)),
            [each.found.ratio for each in its],
            dash,
            color=style.BLACK,
            linewidth=1.2,
            label={"low end": "control: at the low end", "either end": "control: at either end"}.get(
                what, "any live block dies next"
            ),
        )
    variations = list(dict.fromkeys(each.cv for each in found if each.of == "lifetimes"))
    failure.axhline(1, color=style.GREY, linewidth=1, zorder=0)
    failure.set_xticks(range(len(variations)), [f"{cv:g}" for cv in variations])
    rule.set(
        xlabel="p: share of requests that split a free block",
        ylabel="free blocks / live blocks",
        xlim=(0, 1.03),
        ylim=(0, None),
    )
    failure.set(xlabel="cv of lifetimes", ylabel="free / live over p / 2 (1: Knuth's rule)", ylim=(0, None))
    rule.set_title("Lifetimes without memory (cv 1)", fontsize=9)
    failure.set_title("Lifetimes that vary less, or more", fontsize=9)
    for axes in (rule, failure):
        style.plain(axes)
        axes.xaxis.label.set_size(8.5)
        axes.yaxis.label.set_size(8.5)
    rule.legend(fontsize=7, frameon=False, loc="upper left")
    failure.legend(fontsize=7, frameon=False, loc="lower right")
    return figure


EXPERIMENT = Experiment(
    question="Are half as many blocks free as are live?",
    source="Knuth, The Art of Computer Programming 1, 2.5 (the fifty-percent rule); Shore, Anomalous "
    "Behavior of the Fifty-Percent Rule in Dynamic Memory Allocation, CACM 20 (1977) 812-820",
    parameters=(
        Parameter("blocks", 1000, 150, "Blocks that are live, on the average.", least=10),
        Parameter("allocations", 60_000, 6000, "Requests; the second half is looked at.", least=100),
        Parameter(
            "sizes",
            (
                *("uniform 16 2000", "exponential 500", "lognormal 48 1", "powers 16 4096"),
                *("values 64x1 128x1 192x1 256x1", "values 64x1 128x1"),
            ),
            ("uniform 16 2000", "powers 16 4096"),
            "Distributions of sizes, bytes, with spaces in place of commas; lifetimes vary with the first.",
        ),
        Parameter(
            "variations",
            (0.0, 0.3, 0.577, 1.0, 2.0, 4.0),
            (0.0, 1.0, 4.0),
            "Coefficients of variation of lifetimes: 0 to 0.577, 1, or more.",
            least=0,
        ),
        Parameter(
            "designs",
            (
                *("freelist:fit=first:order=address", "freelist:fit=first:order=lifo"),
                *("freelist:fit=next:order=address", "freelist:fit=best", "rbtree", "binheap"),
            ),
            ("freelist:fit=first:order=address", "freelist:fit=first:order=lifo", "binheap"),
            "Designs that merge free neighbours at once; the last one also lets any block die.",
        ),
        Parameter(
            "programs",
            ("lua", "sqlite", "jq"),
            ("",),
            "Traces of one process, where nothing is in equilibrium.",
        ),
    ),
    measure=measure,
    draw=draw,
)

if __name__ == "__main__":
    run(EXPERIMENT)
