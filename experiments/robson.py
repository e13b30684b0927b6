"""How much memory can a program force an allocator to need?  Robson's program, his bounds, and real programs.

    python experiments/robson.py
    python experiments/robson.py --designs rbtree,slab --native glibc --largest 4096,65536

**The theorem.**  Blocks are powers of two, at most M bytes are live, the largest block is n times the
smallest.  Then on every allocator that moves no block some program needs M(1 + log2(n)/2) - n + 1.  The
program is known: it reads the addresses that it gets (`heaplab.lab.adversaries.Robson`).  Here it plays
against every design, on the model, and against real allocators.  Its blocks with their headers are the powers
of two.

**What is measured.**  Heap is address space, and grows in steps of 128 KiB and more.  What the theorem speaks
of is nearest to resident memory, if an allocator gives nothing back meanwhile.  Some real allocators have
megabytes before the first block; of these the figure leaves out what is resident after one of 16 bytes.

**Real programs.**  The same bound, for what each bundled trace has live at its peak and its largest block,
in units of 16 bytes.  No theorem keeps a design below it: the bound is what the worst program needs.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from heaplab import lab
from heaplab.cli._experiments import run
from heaplab.lab.adversaries import Robson, adversary, bounds
from heaplab.lab.record import NATIVE
from heaplab.native.peers import find_peers
from heaplab.native.playing import FINISHED
from heaplab.report import style
from heaplab.report.experiment import Claim, Experiment, Findings, Parameter, Table, Tick
from heaplab.traces import open_trace
from heaplab.units import format_size

FIRST_FIT = "freelist:fit=first:order=address"
#: the smallest blocks of real programs, in bytes
UNIT = 16
#: in the figure: half the width of what is drawn at one n, as a factor
_HALF = 2**0.8


@dataclass(frozen=True)
class Duelled:
    """Robson's program against one allocator.  All but n over live: at_start after one block of 16 bytes."""

    allocator: str
    real: bool
    ratio: int  #: n, the largest block over the smallest
    heap: float
    resident: float
    at_start: float
    bound: float
    upper: float

    @property
    def net(self) -> float:
        """Resident memory; of a real allocator without what it has at the start."""
        return self.resident - self.at_start * self.real


@dataclass(frozen=True)
class Played:
    """A program's trace on a design: peak heap and Robson's bound, over what is live at the peak."""

    program: str
    design: str
    heap: float
    bound: float


def measure(
    *,
    live: int,
    least: int,
    largest: tuple[int, ...],
    designs: tuple[str, ...],
    native: tuple[str, ...],
    programs: tuple[str, ...],
    seed: int,
    tick: Tick,
) -> Findings:
    """Play Robson's program against everybody, and the programs on the designs."""
    peers, left_out = find_peers([name for name in native if name])
    entrants = [*((design, "c") for design in designs), *((peer, NATIVE) for peer in peers)]
    programs = tuple(name for name in programs if name)
    total = len(entrants) * len(largest) + len(programs)
    duels: list[Duelled] = []
    for allocator, language in entrants:
        begun = adversary(lambda opponent: opponent.malloc(16), allocator, language, seed=seed)
        for n in largest:
            tick(len(duels), total, f"Robson's program against {allocator}")
            program = Robson(live, n, least)
            duel = adversary(program, allocator, language, seed=seed, verify=False)
            assert duel.outcome == FINISHED, duel
            duels.append(
                Duelled(
                    str(allocator),
                    language == NATIVE,
                    n // least,
                    duel.peak_heap / live,
                    duel.peak_resident / live,
                    begun.peak_resident / live,
                    program.bound / live,
                    bounds.first_fit(live, n, least) / live,
                )
            )
    played: list[Played] = []
    for number, name in enumerate(programs):
        tick(len(duels) + number, total, name)
        played += on_designs(name, designs, seed)
    return Findings(
        tables(duels, played), claims(duels, played), remarks(duels, left_out), (duels, played, live, least)
    )


def on_designs(name: str, designs: Sequence[str], seed: int) -> list[Played]:
    """Play one program's trace on the designs."""
    trace = open_trace(name)
    most = max(int(block.size.max(initial=0)) for block in trace)
    least = bounds.any_allocator(trace.header.peak_live, max(most, UNIT), UNIT) / trace.header.peak_live
    found = lab.compare([trace], designs, seed=seed, payload=False, verify=False)
    return [
        Played(name, each.allocator, each.peak_heap / each.peak_live, least)
        for each in found.runs
        if each.outcome == FINISHED
    ]


def tables(duels: Sequence[Duelled], played: Sequence[Played]) -> list[Table]:
    """Every duel at the largest n; the programs."""
    n = max(each.ratio for each in duels)
    last = [each for each in duels if each.ratio == n]
    made = [
        Table(
            f"Robson's program, largest block {n} times the smallest: the bound is {last[0].bound:.3f} M, "
            f"first fit by address needs {last[0].upper:.0f} M at most",
            ["allocator", "", "heap / M", "resident / M", "at start / M", "over the bound"],
            [
                [
                    each.allocator,
                    "real" if each.real else "model",
                    each.heap,
                    each.resident,
                    each.at_start,
                    each.net / each.bound,
                ]
                for each in last
            ],
        )
    ]
    if played:
        names = list(dict.fromkeys(each.program for each in played))
        rows = []
        for name in names:
            its = [each for each in played if each.program == name]
            low, high = (pick(its, key=lambda each: each.heap) for pick in (min, max))
            rows.append([name, its[0].bound, low.heap, low.design, high.heap, high.design])
        heads = ["program", "bound / live", "least heap / live", "by", "most heap / live", "by"]
        made.append(
            Table("Real programs: peak heap over peak live, and Robson's bound for them", heads, rows)
        )
    return made


def claims(duels: Sequence[Duelled], played: Sequence[Played]) -> list[Claim]:
    """What was published, and ours."""
    megabytes = 256 << 20
    model = [each for each in duels if not each.real]
    worst = min(duels, key=lambda each: each.resident / each.bound)
    made = [
        Claim.near(
            "the bound over M, for M = 256 MiB and n = 1 MiB",
            11.0,
            bounds.any_allocator(megabytes, 1 << 20) / megabytes,
            within=0.001,
        ),
        Claim.shape(
            "Robson 1974: no allocator can promise less than M(1 + log2(n)/2) - n + 1",
            "none",
            f"the least is {worst.resident / worst.bound:.3f} of the bound ({worst.allocator}, "
            f"n = {worst.ratio}, of {len(duels)} duels)",
            holds=worst.resident >= worst.bound,
            rule="resident memory reaches the bound in every duel",
        ),
    ]
    first = [each for each in model if each.allocator == FIRST_FIT]
    if first:
        widest = max(first, key=lambda each: each.ratio)
        above = max(first, key=lambda each: each.resident / each.upper)
        made += [
            Claim.near(
                f"Robson 1974: what first fit by address needs for this program beyond its first page, "
                f"over M, n = {widest.ratio}",
                widest.bound,
                widest.resident - widest.at_start,
                within=0.02,
            ),
            Claim.shape(
                "Robson: first fit by address needs at most M(1 + ceil(log2 n))",
                "never more",
                f"at most {above.resident / above.upper:.2f} of it",
                holds=above.resident - above.at_start <= above.upper * 1.001,
                rule="resident memory beyond that at start, less than 0.1 % above",
            ),
        ]
    if played:
        below = [each for each in played if each.heap < each.bound]
        share = 100 * len(below) / len(played)
        made.append(
            Claim.shape(
                "Lamprakos and others 2023: real programs stay below Robson's bound",
                "93.75 % of runs",
                f"{share:.4g} % of {len(played)} runs on the model",
                holds=share >= 93.75,
                rule="as large a share, or larger",
            )
        )
    return made


def remarks(duels: Sequence[Duelled], left_out: Sequence[str]) -> list[str]:
    """What else is to be seen."""
    n = max(each.ratio for each in duels)
    net = [each.net / each.bound for each in duels if each.ratio == n]
    said = [
        f"At n = {n} all {len(net)} allocators lie between {min(net):.3f} and {max(net):.3f} of the bound: "
        "against this program the choice of the block does not matter, as the theorem says."
    ]
    return [*said, *left_out]


def draw(findings: Findings) -> Any:
    """Two panels: the duels under the bounds, over n; and the programs beside theirs."""
    duels, played, live, least = findings.drawn
    figure = style.figure(7.2, 3.5)
    left, right = figure.subplots(1, 2, width_ratios=(1.25, 1)) if played else (figure.subplots(), None)
    ratios = sorted({each.ratio for each in duels})
    line = {each.ratio: each for each in duels}
    for n in ratios:
        bar = left.hlines(line[n].bound, n / _HALF, n * _HALF, color=style.BLACK, linewidth=1.4)
    bar.set_label("Robson's bound")
    upper = [line[n].upper for n in ratios]
    left.plot(ratios, upper, "--", color=style.GREY, linewidth=1.2, label="first fit, at most")
    allocators = list(dict.fromkeys((each.allocator, each.real) for each in duels))
    for at, (allocator, real) in enumerate(allocators):
        colour, marker = style.SERIES[at % len(style.SERIES)]
        its = [each for each in duels if (each.allocator, each.real) == (allocator, real)]
        spread = _HALF ** (1.8 * at / max(len(allocators) - 1, 1) - 0.9)
        left.plot(
            [each.ratio * spread for each in its],
            [each.net for each in its],
            marker,
            color=colour,
            markerfacecolor="none" if real else colour,
            markersize=4.5,
            label=short(allocator) + (" (real)" if real else ""),
        )
    left.set_xscale("log", base=2)
    left.set_xticks(ratios, [f"{n}" for n in ratios])
    left.minorticks_off()
    left.set(
        xlabel=f"n: largest block, in smallest blocks of {least} bytes",
        ylabel="resident memory over M (real: less that at start)",
        ylim=(0, None),
    )
    left.legend(fontsize=6.2, frameon=False, loc="upper left", ncols=2, columnspacing=0.8, handletextpad=0.4)
    if right is not None:
        names = list(dict.fromkeys(each.program for each in played))
        designs = list(dict.fromkeys(each.design for each in played))
        for row, name in enumerate(names):
            bound = next(each.bound for each in played if each.program == name)
            right.plot([bound] * 2, [row - 0.35, row + 0.35], color=style.BLACK, linewidth=1.8)
        for at, design in enumerate(designs):
            colour, marker = style.SERIES[at % len(style.SERIES)]
            its = [each for each in played if each.design == design]
            right.plot(
                [each.heap for each in its],
                [names.index(each.program) for each in its],
                marker,
                color=colour,
                markersize=4,
                alpha=0.8,
            )
        right.set_yticks(range(len(names)), names)
        right.set_ylim(len(names) - 0.4, -0.6)
        right.set(xlabel="peak heap over peak live; bar: Robson's bound", xlim=(0, None))
        right.set_title("Real programs, model", fontsize=9)
    left.set_title(f"Robson's program, M = {format_size(live)}", fontsize=9)
    for axes in (left, right):
        if axes is not None:
            style.plain(axes)
            axes.xaxis.label.set_size(8)
            axes.yaxis.label.set_size(8)
    return figure


def short(allocator: str) -> str:
    """An allocator's name for a legend."""
    return allocator.removeprefix("freelist:").replace(":order=", ", ").replace("fit=", "")


EXPERIMENT = Experiment(
    question="How much memory can a program force an allocator to need?",
    source="Robson, Bounds for Some Functions Concerning Dynamic Storage Allocation, JACM 21 (1974) 491-499; "
    "Lamprakos and others, arXiv 2304.10862 (2023), for real programs",
    parameters=(
        Parameter("live", 1 << 20, 1 << 17, "M: bytes that are live at most.", least=1 << 12),
        Parameter("least", 64, 64, "The smallest block, in bytes.", least=32),
        Parameter(
            "largest",
            (64, 256, 1024, 4096, 16384),
            (64, 4096),
            "The largest blocks, in bytes: powers of two.",
            least=64,
        ),
        Parameter(
            "designs",
            (
                FIRST_FIT,
                "freelist:fit=next",
                "freelist:fit=best",
                "rbtree",
                "binheap",
                "buddy",
                "slab",
                "spans",
            ),
            (FIRST_FIT, "slab"),
            "Designs, on the model.",
        ),
        Parameter(
            "native",
            ("glibc", "jemalloc", "mimalloc", "tcmalloc"),
            ("glibc",),
            "Real allocators; those that are not installed are left out.",
        ),
        Parameter(
            "programs",
            ("lua", "sqlite", "git", "gcc", "perl", "bash", "jq", "dot"),
            ("lua",),
            "Bundled traces that are played on the designs.",
        ),
    ),
    measure=measure,
    draw=draw,
)

if __name__ == "__main__":
    run(EXPERIMENT)
