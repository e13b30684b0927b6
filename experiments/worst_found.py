"""How bad can it get?  The worst traces that a search finds, design by design, beside Robson's program.

    python experiments/worst_found.py
    python experiments/worst_found.py --designs slab --budget 2000

Theorems say how much memory some program forces an allocator to need, and which program.  Designs with size
classes and buddies are outside of most of them.  A search needs no theorem: `heaplab.testing.worst` tries
programs of phases (which blocks are kept, by which rule; what is asked for next), by Hypothesis, by a genetic
search and by hill climbing, and makes the worst one that it finds smaller.  It knows rules that look at
addresses and such that do not; it is not given Robson's program.

What is to be large is resident memory over M, the payload that a program may have live, for blocks of `least`
to `largest` bytes.  Requests may be of any size; bounds for powers of two stand beside them for comparison.
"""

from collections.abc import Sequence
from typing import Any

from heaplab.cli._experiments import run
from heaplab.lab.adversaries import bounds
from heaplab.lab.record import NATIVE
from heaplab.native.peers import find_peers
from heaplab.report import style
from heaplab.report.experiment import Claim, Experiment, Findings, Parameter, Table, Tick
from heaplab.testing.worst import Worst, worst

FIRST_FIT = "freelist:fit=first:order=address"
BEST_FIT = ("freelist:fit=best", "rbtree")


def measure(
    *,
    live: int,
    least: int,
    largest: int,
    budget: int,
    real_budget: int,
    designs: tuple[str, ...],
    native: tuple[str, ...],
    seed: int,
    tick: Tick,
) -> Findings:
    """Search for every allocator."""
    peers, left_out = find_peers([name for name in native if name])
    entrants = [
        *((design, "c", budget) for design in designs),
        *((peer, NATIVE, real_budget) for peer in peers),
    ]
    found: list[Worst] = []
    for number, (allocator, language, each) in enumerate(entrants):
        found.append(
            worst(
                allocator,
                language,
                budget=each,
                live=live,
                least=least,
                largest=largest,
                goal="resident",
                seed=seed,
                tell=lambda progress, at=number, of=each, who=allocator: tick(
                    at + progress.tried / of, len(entrants), str(who)
                ),
            )
        )
    return Findings(tables(found), claims(found), [*remarks(found), *left_out], found)


def tables(found: Sequence[Worst]) -> list[Table]:
    """What was found; and the worst programs."""
    heads = [
        "allocator",
        "",
        "best found",
        *(best.method for best in found[0].methods),
        "Robson's program",
        "events",
        "phases",
        "programs tried",
    ]
    rows = [
        [
            each.allocator,
            "real" if each.language == NATIVE else "model",
            each.found,
            *(best.ratio for best in each.methods),
            each.robson,
            each.trace.header.events,
            len(each.program.phases),
            each.tried,
        ]
        for each in found
    ]
    programs = [
        [each.allocator, number + 1, str(phase)]
        for each in found
        for number, phase in enumerate(each.program.phases)
    ]
    first = found[0]
    return [
        Table(
            f"Peak resident memory over M; every allocator needs {first.bound:.2f} for some program, "
            f"first fit at most {upper(first):.0f}, half fit {2 * upper(first):.0f} (powers of two)",
            heads,
            rows,
        ),
        Table("The worst programs, made smaller", ["allocator", "phase", "what it does"], programs),
    ]


def upper(found: Worst) -> float:
    """What first fit needs at most, over M."""
    return bounds.first_fit(found.live, found.largest, found.least) / found.live


def claims(found: Sequence[Worst]) -> list[Claim]:
    """What the theorems say, and what was found."""
    model = [each for each in found if each.language != NATIVE]
    least = min(model, key=lambda each: each.found / each.bound)
    first = [each for each in found if each.allocator == FIRST_FIT]
    best = [each for each in found if each.allocator in BEST_FIT and each.language != NATIVE]
    buddies = [each for each in found if each.allocator == "buddy"]
    classes = [each for each in found if each.allocator in ("slab", "spans")]
    made = [
        Claim.shape(
            "Robson 1974: for every allocator there is a program that makes it need the bound",
            f"{least.bound:.2f} M",
            f"a search without the theorem finds {least.found / least.bound:.2f} of that at least "
            f"({least.allocator}), for each of {len(model)} designs",
            holds=least.found >= 0.9 * least.bound,
            rule="90 % of the bound or more, for every design",
        )
    ]
    if first:
        most = first[0]
        made.append(
            Claim.shape(
                "Robson: first fit by address needs at most M(1 + ceil(log2 n)), for powers of two",
                f"{upper(most):.0f} M",
                f"the worst found is {most.found:.2f} M",
                holds=most.found <= upper(most),
                rule="nothing above was found",
            )
        )
    if first and best:
        most = max(best, key=lambda each: each.found)
        made.append(
            Claim.shape(
                "Robson 1977: the worst case of best fit is far worse than that of first fit, about M(n - 2)",
                f"{bounds.best_fit(most.live, most.largest, most.least) / most.live:.0f} M against "
                f"{upper(most):.0f} M",
                f"found {most.found:.2f} M ({most.allocator}) against {first[0].found:.2f} M",
                holds=most.found > first[0].found,
                rule="a worse trace was found for best fit, by a list or a tree, than for first fit",
            )
        )
    if buddies:
        most = buddies[0]
        made.append(
            Claim.shape(
                "half fit, which rounds up as buddies do, needs at most 2M(1 + ceil(log2 n))",
                f"{2 * upper(most):.0f} M",
                f"{most.found:.2f} M for the binary buddy",
                holds=most.robson < most.found <= 2 * upper(most),
                rule="worse than Robson's program, and not above",
            )
        )
    if classes:
        low = min(classes, key=lambda each: each.found / each.robson)
        made.append(
            Claim.shape(
                "Robson's program is the worst for the best possible allocator alone",
                "designs may have worse",
                f"those with size classes have: {low.found / low.robson:.2f} times as bad at least",
                holds=low.found > 1.2 * low.robson,
                rule="for slab and spans 1.2 times Robson's program or more",
            )
        )
    return made


def remarks(found: Sequence[Worst]) -> list[str]:
    """What else is to be seen."""
    wins = {best.method: 0 for best in found[0].methods}
    for each in found:
        first = next(best.method for best in each.methods if best.ratio == each.found)
        wins[first] += 1
    said = [
        "The first to come to the best ratio: "
        + ", ".join(f"{name} {count}" for name, count in wins.items())
        + "."
    ]
    missed = [short(each) for each in found if each.found < each.robson]
    if missed:
        said.append(f"Too few programs were tried to find what Robson's does to {', '.join(missed)}.")
    return said


def draw(findings: Findings) -> Any:
    """Two panels: what was found beside Robson's program; and how the search came there."""
    found: Sequence[Worst] = findings.drawn
    figure = style.figure(7.2, 3.5)
    left, right = figure.subplots(1, 2, width_ratios=(1.2, 1))
    names = [short(each) for each in found]
    rows = range(len(found))
    left.barh(rows, [each.found for each in found], height=0.6, color=style.SKY, label="worst found")
    left.plot(
        [each.robson for each in found],
        rows,
        "D",
        color=style.VERMILION,
        markersize=5,
        label="Robson's program",
    )
    bound = found[0].bound
    for at, dash, label in (
        (bound, "-", "every allocator, some program"),
        (upper(found[0]), "--", "first fit, at most"),
        (2 * upper(found[0]), ":", "half fit, at most"),
    ):
        left.axvline(at, color=style.BLACK, linewidth=1, linestyle=dash, label=label)
    left.set_yticks(rows, names)
    left.invert_yaxis()
    left.set(xlabel="peak resident memory over M", xlim=(0, None))
    handles, labels = left.get_legend_handles_labels()
    figure.legend(
        handles, labels, fontsize=7, frameon=False, loc="outside lower center", ncols=5, columnspacing=1
    )
    for at, each in enumerate(found):
        colour, marker = style.SERIES[at % len(style.SERIES)]
        tried = [*(tried for tried, _ in each.course), each.tried]
        ratio = [*(ratio for _, ratio in each.course), each.course[-1][1]]
        dash = ("-", "--", ":")[at // len(style.SERIES)]
        right.step(tried, ratio, dash, where="post", color=colour, linewidth=1.2)
        right.plot(tried[-1], ratio[-1], marker, color=colour, markersize=4, label=short(each))
    right.set(xlabel="programs tried", ylabel="worst so far, over M", ylim=(0, None))
    right.legend(
        fontsize=6.2,
        frameon=False,
        loc="center right",
        bbox_to_anchor=(1, 0.62),
        ncols=2,
        columnspacing=0.8,
        handletextpad=0.3,
    )
    for axes in (left, right):
        style.plain(axes)
        axes.xaxis.label.set_size(8.5)
        axes.yaxis.label.set_size(8.5)
    return figure


def short(found: Worst) -> str:
    """An allocator's name for a legend."""
    name = found.allocator.removeprefix("freelist:").replace(":order=", ", ").replace("fit=", "")
    return f"{name} (real)" if found.language == NATIVE else name


EXPERIMENT = Experiment(
    question="How much memory does the worst trace need that a search can find?",
    source="Robson, Bounds for Some Functions Concerning Dynamic Storage Allocation, JACM 21 (1974) 491-499; "
    "Worst Case Fragmentation of First Fit and Best Fit Storage Allocation Strategies, The Computer Journal "
    "20 (1977) 242-244",
    parameters=(
        Parameter("live", 1 << 17, 1 << 15, "M: bytes of payload that are live at most.", least=1 << 12),
        Parameter("least", 64, 64, "The smallest blocks, in bytes, about.", least=32),
        Parameter("largest", 2048, 512, "The largest blocks, in bytes.", least=64),
        Parameter("budget", 300, 120, "Programs to try on each design.", least=3),
        Parameter("real_budget", 40, 3, "Programs to try on each real allocator.", least=3),
        Parameter(
            "designs",
            (FIRST_FIT, "freelist:fit=best", "rbtree", "binheap", "buddy", "slab", "spans"),
            ("rbtree", "slab"),
            "Designs, on the model.",
        ),
        Parameter(
            "native",
            ("glibc", "mimalloc"),
            ("",),
            "Real allocators; those that are not installed are left out.",
        ),
    ),
    measure=measure,
    draw=draw,
)

if __name__ == "__main__":
    run(EXPERIMENT)
