"""Which design for which program?

    python experiments/which_design.py                             nine designs on thirteen programs, a minute
    python experiments/which_design.py --programs gcc,redis --designs rbtree,spans

Each design runs each program once, a sweep of cells.  What a design costs is the memory that it keeps (peak
of resident memory over peak of live payload) and the references that it makes (mems an operation).
A design is on a program's front if no other one needs less of both.  Means are geometric, over the programs,
with intervals of 95 %.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from heaplab import lab
from heaplab.cli._experiments import run
from heaplab.lab.metrics import geometric_mean
from heaplab.lab.sweeping.statistics import Mean, means, value_of
from heaplab.lab.sweeping.store import Row
from heaplab.native.playing import FINISHED
from heaplab.report import style
from heaplab.report.experiment import Claim, Experiment, Findings, Parameter, Table, Tick
from heaplab.traces import corpus

FIRST, LIFO, BEST, BUDDY = "freelist:order=address", "freelist", "freelist:fit=best", "buddy"
DESIGNS = (FIRST, LIFO, "freelist:fit=next", BEST, "rbtree", "binheap", BUDDY, "slab", "spans")
SHORT = {
    FIRST: "first fit, by address",
    LIFO: "first fit, LIFO",
    "freelist:fit=next": "next fit",
    BEST: "best fit",
    "rbtree": "rbtree (best fit)",
}
#: two programs that fork most take half of the time
PROGRAMS = tuple(name for name in corpus.names() if name != "cpython-prefork")
RESIDENT, HEAP, MEMS = "resident_over_live_of_peaks", "heap_over_live_of_peaks", "mems_mean"


@dataclass(frozen=True)
class Costs:
    """What the sweep came to: finished cells by program and design, and means by design."""

    rows: dict[tuple[str, str], Row]
    means: dict[str, dict[str, Mean]]
    programs: Sequence[str]
    designs: Sequence[str]

    def value(self, program: str, design: str, figure: str) -> float:
        """A figure of a cell; infinite if the cell did not finish."""
        row = self.rows.get((program, design))
        value = None if row is None else value_of(row, figure)
        return math.inf if value is None else value

    def least(self, program: str, figure: str) -> str:
        """The design that has the least of a figure on a program."""
        return min(self.designs, key=lambda design: self.value(program, design, figure))

    def front(self, program: str) -> list[str]:
        """The designs that no other one is below in both costs."""
        costs = {
            design: (self.value(program, design, RESIDENT), self.value(program, design, MEMS))
            for design in self.designs
        }
        return [
            design
            for design, (space, time) in costs.items()
            if math.isfinite(space)
            and not any(
                (other, cost) != (space, time) and other <= space and cost <= time
                for other, cost in costs.values()
            )
        ]


def measure(*, programs: Sequence[str], designs: Sequence[str], seed: int, tick: Tick) -> Findings:
    """Run all designs on all programs."""
    swept = lab.sweep(
        programs,
        designs,
        seeds=[seed],
        progress=lambda now: tick(now.events, now.total, f"{now.runs} of {now.planned} cells"),
    )
    rows = {
        (row.figures["trace"], row.figures["allocator"]): row
        for row in swept.rows
        if row.figures["outcome"] == FINISHED
    }
    found = {
        figure: {
            group[0]: mean for group, mean in means(swept.rows, figure, ["allocator"], geometric=True).items()
        }
        for figure in (RESIDENT, HEAP, MEMS)
    }
    costs = Costs(rows, found, programs, designs)
    return Findings(
        [_of_designs(costs), _of_programs(costs)], _claims(costs), _remarks(costs, swept), drawn=costs
    )


def _of_designs(costs: Costs) -> Table:
    heads = [
        "design",
        "resident / live",
        "95 %",
        "heap / live",
        "mems / op",
        "95 %",
        "least memory",
        "on the front",
    ]
    rows = []
    for design in costs.designs:
        space, heap, time = (costs.means[figure][design] for figure in (RESIDENT, HEAP, MEMS))
        least = sum(costs.least(program, RESIDENT) == design for program in costs.programs)
        front = sum(design in costs.front(program) for program in costs.programs)
        rows.append(
            [design, space.value, _interval(space), heap.value, time.value, _interval(time), least, front]
        )
    return Table(
        f"By design: geometric means over {len(costs.programs)} programs, and in how many it is", heads, rows
    )


def _interval(mean: Mean) -> str:
    return f"{mean.low:.3g} to {mean.high:.3g}" if math.isfinite(mean.low) else "-"


def _of_programs(costs: Costs) -> Table:
    rows = []
    for program in costs.programs:
        space, time = (costs.least(program, figure) for figure in (RESIDENT, MEMS))
        rows.append(
            [
                program,
                space,
                costs.value(program, space, RESIDENT),
                time,
                costs.value(program, time, MEMS),
                ", ".join(costs.front(program)),
            ]
        )
    heads = ["program", "least memory", "resident / live", "fewest mems", "mems / op", "the front"]
    return Table("By program", heads, rows)


def _claims(costs: Costs) -> list[Claim]:
    heap = {design: mean.value for design, mean in costs.means[HEAP].items()}
    order = sorted(heap, key=lambda design: heap[design])
    tagged = [design for design in order if design in (FIRST, LIFO, "freelist:fit=next", BEST, BUDDY)]
    claims = []
    if {FIRST, LIFO, "freelist:fit=next", BEST, BUDDY} <= heap.keys():
        claims.append(
            Claim.shape(
                "the two of the classical policies that need the least heap for real programs",
                "best fit, and first fit by address (Johnstone and Wilson 1998)",
                f"{SHORT.get(tagged[0], tagged[0])} ({heap[tagged[0]]:.3f} of live), "
                f"{SHORT.get(tagged[1], tagged[1])} ({heap[tagged[1]]:.3f})",
                holds=set(tagged[:2]) == {BEST, FIRST},
                rule="the same two, by the geometric mean of peak heap / peak live",
            )
        )
    if {BEST, BUDDY} <= heap.keys():
        claims.append(
            Claim.shape(
                "utilisation of best fit and of a buddy system",
                "78 and 54 % (known solutions of the malloc lab, on its 11 traces)",
                f"{100 / heap[BEST]:.0f} and {100 / heap[BUDDY]:.0f} %",
                holds=0.1 < 1 / heap[BEST] - 1 / heap[BUDDY] < 0.4,
                rule="best fit uses 10 to 40 points more of the heap",
            )
        )
    if BUDDY in heap:
        claims.append(
            Claim.near(
                "blocks of a binary buddy system over the payload in them",
                1.44,
                geometric_mean(_blocks_over_live(costs, program) for program in costs.programs),
                within=0.1,
            )
        )
    winners = {costs.least(program, RESIDENT) for program in costs.programs}
    claims.append(
        Claim.shape(
            "designs that need the least memory for some program",
            "more than one: no policy is best for every program (Robson 1974 and later)",
            f"{len(winners)} of {len(costs.designs)}: {', '.join(sorted(winners))}",
            holds=len(winners) > 1,
            rule="more than one",
        )
    )
    return claims


def _blocks_over_live(costs: Costs, program: str) -> float:
    """Blocks over payload at the peak of live: what buddy rounds up, and its headers."""
    internal = costs.value(program, BUDDY, "internal_fragmentation")
    return 1 + internal * costs.value(program, BUDDY, "heap_over_live_at_peak_live")


def _remarks(costs: Costs, swept: lab.Sweep) -> list[str]:
    both = [
        design
        for design in costs.designs
        if all(design in costs.front(program) for program in costs.programs)
    ]
    said = (
        f"On the front of every program: {', '.join(both)}."
        if both
        else "No design is on every program's front."
    )
    missing = [row.figures for row in swept.rows if row.figures["outcome"] != FINISHED]
    return [
        said,
        *(f"{row['allocator']} on {row['trace']}: {row['outcome']}: {row['reason']}" for row in missing),
    ]


def draw(findings: Findings) -> Any:
    """Left: memory against references, means with intervals.  Right: memory by program, over the least."""
    costs: Costs = findings.drawn
    figure = style.figure(7.4, 4.0)
    means_of, matrix = figure.subplots(1, 2, width_ratios=(1, 1.25))
    _draw_means(means_of, costs)
    _draw_matrix(figure, matrix, costs)
    return figure


def _draw_means(axes: Any, costs: Costs) -> None:
    style.plain(axes)
    for at, design in enumerate(costs.designs):
        space, time = costs.means[RESIDENT][design], costs.means[MEMS][design]
        colour, mark = style.SERIES[at % len(style.SERIES)]
        if at >= len(style.SERIES):
            colour, mark = style.GREY, "h"
        ends = [
            None if not math.isfinite(mean.low) else [[mean.value - mean.low], [mean.high - mean.value]]
            for mean in (space, time)
        ]
        axes.errorbar(
            space.value,
            time.value,
            xerr=ends[0],
            yerr=ends[1],
            fmt=mark,
            color=colour,
            elinewidth=0.7,
            markersize=5.5,
            label=SHORT.get(design, design),
        )
    axes.loglog()
    for axis, marks in ((axes.xaxis, (1, 1.2, 1.5, 2, 3)), (axes.yaxis, (1, 2, 5))):
        axis.set_major_locator(LogLocator(subs=marks, numticks=12))
        axis.set_major_formatter(FuncFormatter(lambda value, _place: f"{value:g}"))
        axis.set_minor_formatter(NullFormatter())
    axes.set_xlabel("peak resident / peak live", fontsize=8.5)
    axes.set_ylabel("memory references an operation", fontsize=8.5)
    axes.legend(fontsize=6.5, frameon=False, loc="upper right", handletextpad=0.3, labelspacing=0.3)


def _draw_matrix(figure: Any, axes: Any, costs: Costs) -> None:
    table = np.array(
        [[costs.value(program, design, RESIDENT) for design in costs.designs] for program in costs.programs]
    )
    over = table / table.min(axis=1, keepdims=True)
    image = axes.imshow(np.log2(np.minimum(over, 4)), cmap="YlOrBr", vmin=0, vmax=2, aspect="auto")
    for row, column in np.ndindex(*over.shape):
        value = over[row, column]
        shown = "-" if not math.isfinite(value) else "1" if value == 1 else f"{value:.2f}"
        axes.text(
            column,
            row,
            shown,
            ha="center",
            va="center",
            fontsize=5.8,
            fontweight="bold" if value == 1 else "normal",
            color="white" if value > 2.4 else "black",
        )
    names = [SHORT.get(design, design) for design in costs.designs]
    axes.set_xticks(range(len(names)), names, rotation=45, ha="right", fontsize=7)
    axes.set_yticks(range(len(costs.programs)), costs.programs, fontsize=7)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    bar = figure.colorbar(image, ax=axes, ticks=[0, 1, 2], shrink=0.6, pad=0.02)
    bar.ax.set_yticklabels(["1", "2", "4"], fontsize=7)
    bar.set_label("peak resident, by the least of the row", fontsize=7)
    bar.outline.set_visible(False)


EXPERIMENT = Experiment(
    question="Which design for which program?",
    source="M. S. Johnstone and P. R. Wilson, The memory fragmentation problem: solved?, ISMM 1998; "
    "D. E. Knuth, The Art of Computer Programming 1, 2.5 (buddy systems)",
    parameters=(
        Parameter("programs", full=PROGRAMS, small=("lua", "git-grep"), help="Bundled traces."),
        Parameter(
            "designs",
            full=DESIGNS,
            small=(FIRST, LIFO, "freelist:fit=next", BEST, BUDDY, "spans"),
            help="Designs in C.",
        ),
    ),
    measure=measure,
    draw=draw,
)

if __name__ == "__main__":
    run(EXPERIMENT)
