"""Is fragmentation solved?  Johnstone and Wilson: for real programs, nearly; with the right policy.

    python experiments/fragmentation_solved.py                       every program of one process, one minute
    python experiments/fragmentation_solved.py --traces jq --designs buddy,freelist:fit=next

**The four measures.**  Memory used over memory that the program has live: (1) in the mean over the run, (2)
at the peak of live, (3) at the peak of used, (4) the one peak over the other (`metrics.OverLive`).  Used is
the heap: what brk gave, page by page, without padding, and, where large blocks are mapped, their mappings.

**Overheads taken out.**  Headers, rounding and metadata are the implementation's; what is left is the
policy's. At the peak of used the heap is walked, and live + free space / live - 1 is the fragmentation that
is meant here (measure 3, net).

**Large blocks.**  glibc and others map blocks of 128 KiB and more by themselves; with `--mapped 64GiB` the
heap is in one piece, as then.  First and best fit by address are measured both ways.

Address order alone is told from last-in-first-out for first fit; next fit, worst fit by a binary heap, and
the binary buddy system are beside them, for contrast.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, median
from typing import Any

from heaplab import lab
from heaplab.cli._experiments import run
from heaplab.errors import HeaplabError, UsageError
from heaplab.report import style
from heaplab.report.experiment import Claim, Experiment, Findings, Parameter, Table, Tick
from heaplab.traces import open_trace
from heaplab.traces.lives import lives

#: the two of which the claim was made
SOLVED = ("freelist:fit=first:order=address", "freelist:fit=best:order=address")
NAMES = {
    SOLVED[0]: "first fit, by address",
    SOLVED[1]: "best fit, by address",
    "freelist:fit=first": "first fit, last freed first",
    "freelist:fit=next": "next fit",
    "binheap": "worst fit",
    "buddy": "binary buddy",
}
#: of one piece
WHOLE = "64GiB"
#: what counts as near zero, in the mean over programs: shares of live
NEAR_ZERO = 0.05


@dataclass(frozen=True)
class Used:
    """One run: the measures, and what of the third is fragmentation, a share of live."""

    trace: str
    design: str
    mapped: str
    measures: lab.OverLive
    net: float


def used(name: str, design: str, mapped: str, seed: int) -> Used:
    """Play a trace on a design twice: for the peak of used, and for a walk at that moment.

    mapped: blocks from this size on have mappings of their own.
    Raises: HeaplabError when the run does not finish.
    """
    trace, spec = open_trace(name), f"{design}:top_pad=0:mmap_threshold={mapped}"
    whole = lab.run(trace, spec, payload=False, seed=seed)
    if whole.outcome != "finished" or whole.heap_over_live is None:
        raise HeaplabError(f"{name} on {spec}: {whole.reason}")
    event = whole.heap_over_live.event
    [standing] = lab.run(trace, spec, payload=False, seed=seed, walks=[event]).walks
    found = standing.fragmentation
    free = found.heap - found.allocated - found.metadata
    return Used(name, design, mapped, whole.heap_over_live, free / found.live)


def measure(*, traces: Sequence[str], designs: Sequence[str], mapped: str, seed: int, tick: Tick) -> Findings:
    """Play every program on every design, with large blocks mapped and in one piece."""
    if processes := [name for name in traces if open_trace(name).header.processes > 1]:
        raise UsageError(f"{', '.join(processes)}: the measures are of one process alone")
    plan = [
        (name, design, size)
        for name in traces
        for design in designs
        for size in ((mapped, WHOLE) if design in SOLVED else (mapped,))
    ]
    found = []
    for number, (name, design, size) in enumerate(plan):
        tick(number, len(plan), f"{name} on {design}")
        found.append(used(name, design, size, seed))
    return Findings(
        tables=[_policies(found, designs, mapped), _programs(found, traces, designs, mapped)],
        claims=_claims(found, designs, mapped),
        remarks=[*_others(found, designs, mapped), *_remarks(found, mapped)],
        drawn=(found, list(traces), list(designs), mapped),
    )


def _net(found: Sequence[Used], design: str, mapped: str) -> list[float]:
    return [each.net for each in found if each.design == design and each.mapped == mapped]


def _policies(found: Sequence[Used], designs: Sequence[str], mapped: str) -> Table:
    heads = ["policy", "large blocks", "1 mean", "2 peak of live", "3 peak of used", "4 peaks"]
    rows: list[list[str | float]] = []
    for design in designs:
        for size in (mapped, WHOLE):
            of = [each.measures for each in found if each.design == design and each.mapped == size]
            if not of:
                continue
            columns = zip(
                *((it.mean or 0, it.at_peak_live or 0, it.at_peak_used or 0, it.of_peaks or 0) for it in of),
                strict=True,
            )
            net = _net(found, design, size)
            where = "in the heap" if size == WHOLE else "mapped"
            name = NAMES.get(design, design)
            rows.append([name, where, *map(fmean, columns), 100 * fmean(net), 100 * median(net)])
    return Table(
        "Heap over live, means over programs; net: fragmentation at the peak of used, % of live",
        [*heads, "3 net, mean %", "3 net, median %"],
        rows,
    )


def _programs(found: Sequence[Used], traces: Sequence[str], designs: Sequence[str], mapped: str) -> Table:
    values = {(each.trace, each.design): 100 * each.net for each in found if each.mapped == mapped}
    return Table(
        f"Fragmentation at the peak of used, % of live; blocks from {mapped} on mapped",
        ["program", *(NAMES.get(design, design) for design in designs)],
        [[name, *(values[name, design] for design in designs)] for name in traces],
    )


def _claims(found: Sequence[Used], designs: Sequence[str], mapped: str) -> list[Claim]:
    rule = f"mean over the programs below {100 * NEAR_ZERO:g} % of live"
    claims = []
    for design in (each for each in SOLVED if each in designs):
        mean = fmean(_net(found, design, mapped))
        what = f"fragmentation of {NAMES[design]}, overheads taken out"
        claims.append(Claim.shape(what, "near zero", _percent(mean), holds=mean < NEAR_ZERO, rule=rule))
    return claims


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %" if share >= 0.1 else f"{100 * share:.1f} %"


def _others(found: Sequence[Used], designs: Sequence[str], mapped: str) -> list[str]:
    """What other policies come to."""
    means = {design: fmean(_net(found, design, mapped)) for design in designs if design not in SOLVED}
    told = ", ".join(f"{NAMES.get(design, design)} {_percent(mean)}" for design, mean in means.items())
    return [f"Other policies, on the same programs: {told}."] if means else []


def _remarks(found: Sequence[Used], mapped: str) -> list[str]:
    """Which programs have more, and what the two kinds of heaps differ in, where it is much."""
    remarks = []
    for name in dict.fromkeys(each.trace for each in found):
        of = {each.design: each for each in found if each.trace == name and each.mapped == mapped}
        more = [of[design] for design in SOLVED if design in of and of[design].net >= NEAR_ZERO]
        if more:
            told = " and ".join(f"{_percent(each.net)} on {NAMES[each.design]}" for each in more)
            remarks.append(
                f"{name} has {told}: its largest live block is {_percent(_largest(more[0]))} of live."
            )
    for each in found:
        if each.mapped != WHOLE or each.design not in SOLVED:
            continue
        [beside] = [
            it for it in found if (it.trace, it.design, it.mapped) == (each.trace, each.design, mapped)
        ]
        if each.net > beside.net + NEAR_ZERO:
            remarks.append(
                f"{each.trace} on {NAMES[each.design]}: {_percent(each.net)} with all blocks in one heap, "
                f"{_percent(beside.net)} with the large ones mapped."
            )
    return remarks


def _largest(used: Used) -> float:
    """The largest block, of what is live at the peak of used, as a share of it."""
    blocks = lives(open_trace(used.trace))
    sizes = blocks.size[blocks.live(used.measures.event)]
    return float(sizes.max() / sizes.sum())


def draw(findings: Findings) -> Any:
    """Draw the fragmentation of each program under each policy, on a logarithmic axis."""
    found, traces, designs, mapped = findings.drawn
    figure = style.figure(5.2, 0.32 * len(traces) + 2.1)
    axes = figure.subplots()
    values = {(each.trace, each.design): 100 * each.net for each in found if each.mapped == mapped}
    for design, (colour, marker) in zip(designs, style.SERIES, strict=False):
        solved = design in SOLVED
        axes.plot(
            [max(values[name, design], 0.01) for name in traces],
            range(len(traces)),
            marker,
            color=colour,
            markersize=6 if solved else 7,
            markerfacecolor=colour if solved else "none",
            zorder=3 if solved else 2,
            label=NAMES.get(design, design),
        )
    axes.axvline(100 * NEAR_ZERO, color=style.GREY, linewidth=0.8, linestyle=":")
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axes.set_yticks(range(len(traces)), traces)
    axes.invert_yaxis()
    axes.set_xlabel(
        f"fragmentation at the peak of the heap, % of live; {100 * NEAR_ZERO:g} % is dotted", fontsize=8
    )
    axes.grid(axis="y", color=style.LIGHT, linewidth=0.6)
    style.plain(axes)
    figure.legend(loc="outside upper center", ncols=2, fontsize=7, frameon=False)
    return figure


EXPERIMENT = Experiment(
    question="Is fragmentation solved?",
    source="Johnstone and Wilson, The memory fragmentation problem: solved? ISMM 1998: for eight real "
    "programs first and best fit with address order and immediate coalescing have near zero fragmentation "
    "once overheads are taken out",
    parameters=(
        Parameter(
            "traces",
            full=("cpython", "dot", "gawk", "git", "git-grep", "jq", "lua", "node", "perl", "sqlite"),
            small=("git", "git-grep"),
            help="Programs of one process: bundled traces, files, workloads.",
        ),
        Parameter(
            "designs",
            full=tuple(NAMES),
            small=(*SOLVED, "freelist:fit=next", "freelist:fit=first"),
            help="Designs that serve all blocks from one heap.",
        ),
        Parameter("mapped", full="128KiB", small="128KiB", help="Blocks from this size on are mapped."),
    ),
    measure=measure,
    draw=draw,
)

if __name__ == "__main__":
    run(EXPERIMENT)
