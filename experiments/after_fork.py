"""What does an allocator's metadata cost after fork?  A server that writes snapshots, as redis does.

    python experiments/after_fork.py                                 half a minute
    python experiments/after_fork.py --values 100,8000 --designs rbtree,slab

**The server** keeps `keys` values of one size.  It replaces values at random, so neighbours in memory have
nothing to do with each other.  Then it forks.  The child reads every value and writes it to a file; every
hundred values it allocates a buffer of 4 KiB.  Meanwhile the parent replaces a share of the keys.  By default
the share is such that a child that keeps what it has written costs as large a part of the memory as the
source says: 1127 of 6222 MB, and 542 of 1682 MB.

**Two children.**  One keeps what it has written.  The other frees each value when it has written it: it will
not read the value again, and the parent may then write to pages that it has alone.  Redis and Valkey do so,
or have discussed it (see the source).  Whether it pays depends on where the allocator writes when it frees.

**Counted** is each page that is copied, on the model, exactly: in which process, and whether its first write
was to metadata or to the payload of a new block (`lab.fork_cost`).  Nobody writes into a value that is live.
"released" is what would be copied if pages without a live block went back to the kernel at once: the copies
less those of pages that nobody else had a use for.

**Besides**, what two real programs' forks cost: a prefork server in Python, and a shell script.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.patches import Patch

from heaplab.cli._experiments import run
from heaplab.errors import UsageError
from heaplab.lab.forking import ForkCost, fork_cost
from heaplab.report import style
from heaplab.report.experiment import Claim, Experiment, Findings, Parameter, Table, Tick
from heaplab.traces import Snapshot, Trace, open_trace, snapshotting
from heaplab.traces.workload import Constant, Exponential, Phase, Workload

#: replacements of the average value before the fork
ROUNDS = 4
BUFFER_EVERY = 100

#: redis pull request 15260 (2026): copied memory with and without frees in the child, in MB
PUBLISHED = {2000: (736, 1127), 500: (519, 542)}
#: the design whose words lie apart from the blocks
APART = "slab"


def server(value: int, keys: int, writes: float, *, frees: bool, seed: int) -> Trace:
    """Return the trace of the server and one child.  value: bytes; writes: the share of keys."""
    replaced = (2 + 2 * ROUNDS) * keys  # a ramp of one allocation a key; then two events a replacement
    whole = Workload(
        events=replaced + int(2 * writes * keys) + keys,
        sizes=Constant(value),
        lifetimes=Exponential(keys),
        phases=(Phase("ramp", 1), Phase("plateau", 2 * ROUNDS + 2)),
        seed=seed,
        name=f"server-{value}",
    ).trace()
    taken = Snapshot(at=replaced, length=int(2 * writes * keys), every=BUFFER_EVERY, frees=frees)
    return snapshotting(whole, taken)


@dataclass(frozen=True)
class Pair:
    """One design and one size of values: the child that keeps them, and the one that frees them."""

    design: str
    value: int
    keeps: ForkCost
    frees: ForkCost

    @property
    def ratio(self) -> float:
        """Pages copied if the child frees, over those if it does not."""
        return self.frees.both.pages / self.keeps.both.pages

    @property
    def released(self) -> float:
        """The same, if the child's empty pages were the kernel's at once."""
        return (self.frees.both.pages - self.frees.both.needless) / self.keeps.both.pages


def measure(
    *,
    values: tuple[int, ...],
    keys: int,
    writes: tuple[float, ...],
    designs: tuple[str, ...],
    traces: tuple[str, ...],
    seed: int,
    tick: Tick,
) -> Findings:
    """Run every design on every server, and on the traces."""
    if len(writes) != len(values):
        raise UsageError(f"--writes: give {len(values)} numbers, one for each of --values")
    pairs, total = [], len(values) * len(designs) * 2 + len(designs) * len(traces)
    done = 0
    for value, share in zip(values, writes, strict=True):
        for design in designs:
            costs = []
            for frees in (False, True):
                tick(done, total, f"{design}, values of {value} bytes")
                trace = server(value, keys, share, frees=frees, seed=seed)
                costs.append(fork_cost(trace, design, seed=seed))
                done += 1
            pairs.append(Pair(design, value, *costs))
    real = []
    for name in traces:
        trace = open_trace(name)
        for design in designs:
            tick(done, total, f"{design}, {name}")
            real.append(fork_cost(trace, design, seed=seed))
            done += 1
    return Findings([*_tables(pairs), *_of_programs(real)], _claims(pairs), _remarks(pairs), pairs)


def _tables(pairs: Sequence[Pair]) -> list[Table]:
    heads = (
        *("value, bytes", "design", "pages at fork", "child"),
        *("parent: metadata", "payload", "child: metadata", "payload", "copied, %"),
    )
    rows = [
        (
            *(pair.value, pair.design, cost.shared, child),
            *(cost.parent.metadata, cost.parent.payload, cost.child.metadata, cost.child.payload),
            100 * cost.both.pages / cost.shared,
        )
        for pair in pairs
        for child, cost in (("keeps", pair.keeps), ("frees", pair.frees))
    ]
    ratios = [(pair.value, pair.design, pair.ratio, pair.released) for pair in pairs]
    return [
        Table("Pages copied after the fork, by the first write to each", heads, rows),
        Table(
            "Pages copied if the child frees, over those if it keeps",
            ("value, bytes", "design", "ratio", "if released"),
            ratios,
        ),
    ]


def _of_programs(costs: Sequence[ForkCost]) -> list[Table]:
    if not costs:
        return []
    heads = ("trace", "design", "forks", "pages at forks", "by metadata", "alone", "by payload", "copied, %")
    rows = [
        (
            *(cost.trace, cost.allocator, cost.forks, cost.shared, cost.both.metadata, cost.both.alone),
            *(cost.both.payload, 100 * cost.both.pages / cost.shared),
        )
        for cost in costs
    ]
    return [Table("Programs: pages copied on both sides of all forks", heads, rows)]


def _claims(pairs: Sequence[Pair]) -> list[Claim]:
    apart = {pair.value: pair for pair in pairs if pair.design == APART}
    claims = [
        Claim.near(
            f"copied pages if the child frees values of {value} bytes, over those if it keeps them (jemalloc "
            f"there; here {APART}, its empty pages released)",
            frees / keeps,
            apart[value].released,
            within=0.2,
        )
        for value, (frees, keeps) in PUBLISHED.items()
        if value in apart
    ]
    beside = [pair for pair in pairs if pair.design != APART]
    if beside:
        least = min(pair.frees.child.metadata / pair.frees.shared for pair in beside)
        most = max((pair.frees.child.metadata / pair.frees.shared for pair in apart.values()), default=0.0)
        claims.append(
            Claim.shape(
                "frees in the child copy pages, because the allocator changes data of its own",
                "so in redis pull request 8974, for small objects; no figure",
                f"words in the blocks: at least {100 * least:.0f} % of the pages; words apart: at most "
                f"{100 * most:.1f} %",
                holds=least > 0.5 and most < 0.05,
                rule="above half of the pages in one, below a twentieth in the other",
            )
        )
        worst = min(beside, key=lambda pair: pair.ratio)
        claims.append(
            Claim.shape(
                "a child that dismisses values does better not to call free",
                "so redis decided (8974); Valkey 905 and redis 15260 call it, on jemalloc",
                f"{worst.design}: {worst.ratio:.2f} times the copies at least, where free writes into blocks",
                holds=worst.ratio > 1,
                rule="a ratio above 1 in each design with words in the blocks",
            )
        )
    return claims


def _remarks(pairs: Sequence[Pair]) -> list[str]:
    told = [
        f"{pair.design} as it ships copies {pair.ratio:.2f} times as much with frees at {pair.value} bytes: "
        "it unmaps whole chunks of 64 pages or more, and so returns few pages in the child's life; jemalloc "
        "purges runs of pages."
        for pair in pairs
        if pair.design == APART
    ]
    links = [pair for pair in pairs if pair.design == "spans"]
    if links:
        told.append(
            "spans keeps its words apart but for one: the link in a freed block.  With values of "
            f"{links[0].value} bytes this word costs {links[0].frees.child.metadata:,} pages in a child that "
            f"frees, and {links[0].keeps.parent.metadata:,} in the parent of one that does not."
        )
    return told


_PARTS = (
    ("parent, metadata", style.BLUE, lambda cost: cost.parent.metadata),
    ("parent, payload", style.SKY, lambda cost: cost.parent.payload),
    ("child, metadata", style.VERMILION, lambda cost: cost.child.metadata),
    ("child, payload", style.ORANGE, lambda cost: cost.child.payload),
)


def draw(findings: Findings) -> Any:
    """Two bars a design: the child that keeps, and below it the one that frees."""
    pairs: list[Pair] = findings.drawn
    values = sorted({pair.value for pair in pairs}, reverse=True)
    figure = style.figure(7.2, 1.3 + 0.42 * len(pairs) / len(values))
    panels = figure.subplots(1, len(values), sharey=True, squeeze=False)[0]
    for axes, value in zip(panels, values, strict=True):
        shown = [pair for pair in pairs if pair.value == value]
        place = np.arange(len(shown))[::-1].astype(float)
        for offset, name in ((0.2, "keeps"), (-0.2, "frees")):
            left = np.zeros(len(shown))
            for _, colour, part in _PARTS:
                costs = [getattr(pair, name) for pair in shown]
                width = np.array([100 * part(cost) / cost.shared for cost in costs])
                axes.barh(place + offset, width, 0.36, left=left, color=colour)
                left += width
        released = [
            100 * (pair.frees.both.pages - pair.frees.both.needless) / pair.frees.shared for pair in shown
        ]
        axes.plot(released, place - 0.2, "D", color=style.BLACK, markersize=3.5)
        axes.set_yticks(place, [style.name_lines(pair.design) for pair in shown])
        axes.set_title(f"values of {value:,} bytes", fontsize=9)
        axes.set_xlabel("pages copied, % of the pages at the fork", fontsize=8)
        axes.set_xlim(0, 104)
        style.plain(axes)
    handles: list[Any] = [Patch(color=colour, label=label) for label, colour, _ in _PARTS]
    handles += panels[0].plot([], [], "D", color=style.BLACK, markersize=3.5, label="frees, released")
    figure.legend(
        handles=handles, loc="outside lower center", ncols=5, fontsize=7.5, frameon=False, handlelength=1.2
    )
    figure.suptitle(
        "Of each design the upper bar is a child that keeps what it has written, the lower one that frees it",
        fontsize=8.5,
    )
    return figure


EXPERIMENT = Experiment(
    question="What does an allocator's metadata cost after fork?",
    source="redis pull requests 8974 (2021), 15260 (2026; table of 2000 and 500 bytes); Valkey 905 (2024)",
    parameters=(
        Parameter("values", full=(2000, 500), small=(2000, 500), help="Sizes of values, bytes.", least=1),
        Parameter("keys", full=20_000, small=1_000, help="Values that are live.", least=100),
        Parameter(
            "writes",
            full=(0.093, 0.05),
            small=(0.093, 0.05),
            help="Shares of keys that the parent replaces, one for each size.",
            least=0,
        ),
        Parameter(
            "designs",
            full=("freelist:fit=best", "binheap", "rbtree", "buddy", "spans", "slab"),
            small=("rbtree", "buddy", "spans", "slab"),
            help="Specs.",
        ),
        Parameter("traces", full=("cpython-prefork", "bash"), small=(), help="Traces with forks."),
    ),
    measure=measure,
    draw=draw,
)

if __name__ == "__main__":
    run(EXPERIMENT)
