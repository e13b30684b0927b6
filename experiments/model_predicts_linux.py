"""Does the model predict Linux?  The same trace and design on both, page for page.

    python experiments/model_predicts_linux.py                       every bundled trace and design
    python experiments/model_predicts_linux.py --traces lua,bash --designs rbtree,spans:checks=links

On the one side is the model.  On the other is a real program with the design's C file as its malloc, in as
many real processes as the trace has, which fork and exec where the trace does (csrc/native/prove.c).
Compared are each system call with its arguments and result; the minor faults of each process, at 200 moments
and more; and each page of the heaps, at the peak of the live payload, at the end, and before each fork, exec
and exit: whether it is in memory, whether it is shared, and which side of a fork has copied it.

The exit status is 1 when something differs; sentences say where first.  "huge" is Linux alone, once more,
with huge pages wherever the heap has room for them: that is what the model leaves out.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from heaplab import allocators
from heaplab.allocators import Spec
from heaplab.cli._experiments import run
from heaplab.lab.prediction import predict
from heaplab.native.differences import Differences, differences
from heaplab.native.footprint import Footprint
from heaplab.native.proving import observe
from heaplab.report import style
from heaplab.report.experiment import Claim, Experiment, Findings, Parameter, Table, Tick
from heaplab.traces import Trace, corpus, open_trace

#: calls that are kept of a real run, beside as many as the model predicts
_MORE_CALLS = 4096


@dataclass(frozen=True)
class Row:
    """One trace on one design, in both worlds.

    model, linux: what they say.  differs: how much.  huge: Linux with huge pages, None where nobody asked.
    """

    trace: Trace
    design: str
    model: Footprint
    linux: Footprint
    differs: Differences
    huge: Footprint | None


def prove(trace: Trace, spec: Spec, *, huge: bool) -> Row:
    """Play the trace in both worlds and return what they say.

    Raises: HeaplabError with what went wrong in one of them, or what this system lacks.
    """
    model = predict(trace, spec)
    capacity = len(model.calls) + _MORE_CALLS
    linux = observe(trace, spec, capacity=capacity)
    again = observe(trace, spec, capacity=capacity, huge=True) if huge else None
    return Row(trace, str(spec), model, linux, differences(model, linux), again)


def measure(
    *, traces: tuple[str, ...], designs: tuple[str, ...], huge: tuple[str, ...], seed: int, tick: Tick
) -> Findings:
    """Prove every pair.  seed: has no effect, because addresses are the same in both worlds."""
    specs = [allocators.parse(design, "c") for design in designs]
    pairs = [(open_trace(name), name, spec) for name in traces for spec in specs]
    rows = []
    for done, (trace, name, spec) in enumerate(pairs):
        tick(done, len(pairs), f"{name} on {spec}")
        rows.append(prove(trace, spec, huge=name in huge))
    first = [
        f"{row.trace.header.name} on {row.design}: {sentence}"
        for row in rows
        for sentence in row.differs.first
    ]
    return Findings([_table(rows)], _claims(rows), first, rows)


def _table(rows: Sequence[Row]) -> Table:
    heads = (
        *("trace", "design", "processes", "calls", "faults", "heap pages", "in memory at the peak"),
        *("at the end", "copied in child", "in parent", "huge: faults", "peak", "end", "differs"),
    )
    cells = []
    for row in rows:
        linux, huge = row.linux, row.huge
        cells.append(
            (
                *(row.trace.header.name, row.design, row.trace.header.processes, len(linux.calls)),
                *(linux.faults, linux.heap, linux.peak, linux.end),
                *(linux.copied_in_child, linux.copied_in_parent),
                *((huge.faults, huge.peak, huge.end) if huge else (None, None, None)),
                str(row.differs),
            )
        )
    return Table("What Linux was seen to do, and by how much the model's prediction differs", heads, cells)


def _claims(rows: Sequence[Row]) -> list[Claim]:
    seen = [row for row in rows if row.linux.copied_in_child is not None]
    amounts = {
        f"system calls that differ, of {sum(len(row.linux.calls) for row in rows):,}": "calls",
        f"minor faults that differ, of {sum(row.linux.faults for row in rows):,}": "faults",
        f"pages that differ at some look, of {sum(row.linux.peak for row in rows):,} at the peaks": "pages",
    }
    copied = sum(_copies(row.linux) for row in seen)
    if copied:  # Linux shows frames to root alone
        amounts[f"copies after forks that differ, of {copied:,}"] = "copies"
    return [
        Claim.near(
            f"{what}; {len(rows)} pairs of trace and design",
            0,
            sum(getattr(row.differs, name) for row in rows),
            within=0,
        )
        for what, name in amounts.items()
    ]


def _copies(footprint: Footprint) -> int:
    return (footprint.copied_in_child or 0) + (footprint.copied_in_parent or 0)


_QUANTITIES = (
    ("system calls", "o", style.BLUE, lambda footprint: len(footprint.calls)),
    ("minor faults", "s", style.ORANGE, lambda footprint: footprint.faults),
    ("pages in memory at the peak", "^", style.GREEN, lambda footprint: footprint.peak),
    ("pages copied after forks", "D", style.VERMILION, _copies),
)


def draw(findings: Findings) -> Any:
    """Every quantity of every pair, predicted and seen; and the copies after forks, design by design."""
    rows: list[Row] = findings.drawn
    forking = [row for row in rows if _copies(row.linux)]
    figure = style.figure(7.2 if forking else 4.2, 3.6)
    panels = figure.subplots(1, 2 if forking else 1, squeeze=False)[0]
    both, most = panels[0], 1
    for name, marker, colour, quantity in _QUANTITIES:
        points = np.array([(quantity(row.model), quantity(row.linux)) for row in rows])
        points = points[points.all(axis=1)]
        most = max(most, int(points.max(initial=1)))
        both.plot(
            *points.T, marker, color=colour, markersize=4.5, markerfacecolor="none", label=name, zorder=3
        )
    both.plot([1, 2 * most], [1, 2 * most], color=style.GREY, linewidth=0.8, zorder=1)
    both.set_xscale("log")
    both.set_yscale("log")
    both.set_xlabel("predicted by the model", fontsize=8)
    both.set_ylabel("seen on Linux", fontsize=8)
    both.set_title(f"{len(rows)} pairs of trace and design", fontsize=9)
    both.legend(fontsize=7, frameon=False)
    style.plain(both)
    if forking:
        _draw_copies(panels[1], forking)
    return figure


def _draw_copies(axes: Any, rows: Sequence[Row]) -> None:
    designs = list(dict.fromkeys(row.design for row in rows))
    names = sorted({row.trace.header.name for row in rows})
    place = np.arange(len(designs))
    left = np.zeros(len(designs))
    for name, colour in zip(names, (style.SKY, style.ORANGE, style.YELLOW, style.LIGHT), strict=False):
        here = [
            row for design in designs for row in rows if (row.design, row.trace.header.name) == (design, name)
        ]
        width = np.array([_copies(row.model) for row in here])
        axes.barh(place, width, 0.6, left=left, color=colour, label=f"model, {name}")
        left += width
    linux = [sum(_copies(row.linux) for row in rows if row.design == design) for design in designs]
    axes.plot(linux, place, "k|", markersize=14, markeredgewidth=1.6, label="Linux, all of them")
    axes.set_yticks(place, [style.name_lines(design) for design in designs])
    axes.invert_yaxis()
    axes.set_xlabel("pages copied after forks", fontsize=8)
    axes.set_title("traces that fork", fontsize=9)
    axes.legend(fontsize=7, frameon=False)
    style.counts(axes.xaxis)
    style.plain(axes)


EXPERIMENT = Experiment(
    question="Does the model predict Linux?",
    source="heaplab's own promise (README): nothing differs on any bundled trace and design; Linux judges",
    parameters=(
        Parameter("traces", full=tuple(corpus.names()), small=("lua",), help="Names or files."),
        Parameter(
            "designs",
            full=tuple(allocators.names("c")),
            small=("rbtree", "spans"),
            help="Specs of designs in C.",
        ),
        Parameter(
            "huge",
            full=("lua", "sqlite"),
            small=("lua",),
            help="Those of the traces that Linux also plays with huge pages.",
        ),
    ),
    measure=measure,
    draw=draw,
)

if __name__ == "__main__":
    run(EXPERIMENT)
