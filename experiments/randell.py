"""Does it pay to round sizes up?  Randell's question of 1969.

    python experiments/randell.py                                        made-up traces and programs
    python experiments/randell.py --quanta 16,48,96 --programs cpython   other quanta, another program

If all blocks are multiples of a quantum, fewer sizes are about, so a free block fits more requests, and less
memory lies between the blocks.  But more memory is lost inside of them.  Randell simulated both and found,
as "an apparently general rule", that rounding costs more inside than it saves between.

Here a trace is rewritten: each request asks for so much that its block, header included, is a multiple of the
quantum.  The designs round to 16 bytes by themselves, so 16 rewrites nothing.  Losses are counted against the
sizes that the program asked for:

    inside    (bytes of blocks - bytes asked for) / bytes asked for, at the peak of what was asked for
    between   (heap at its largest - bytes of blocks - metadata) / bytes asked for, same moment
    total     the sum: how much larger the memory is than what the program asked for

The heap neither trims nor asks for more than it needs, and large blocks have no mappings: so its size is the
memory that the trace takes.  What allocators with size classes do is tried too: so many sizes from a power
of two to the next.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from heaplab.cli._experiments import run as put
from heaplab.errors import HeaplabError
from heaplab.lab import run
from heaplab.report import style
from heaplab.report.experiment import Claim, Experiment, Findings, Parameter, Table, Tick
from heaplab.traces import Block, Op, Trace, open_trace
from heaplab.traces.lives import lives
from heaplab.traces.trace import Provenance
from heaplab.traces.workload import Exponential, Workload, distribution

#: the heap's size is what the trace needs: one piece, no reserve, never trimmed
WHOLE = "mmap_threshold=64GiB:trim_threshold=64GiB:top_pad=0:checks=none"
#: of a block with boundary tags
HEADER = 8
#: what every design rounds to
LEAST = 16
#: why rounding pays for some programs, on fits that waste much
WHY_IT_PAYS = (
    "Randell's requests were random, without a program's habits.  Of gcc on first, lifo, 78 % lie between "
    "blocks, and 37 to 53 % with nine of ten quanta from 48 to 256 bytes (tried one by one), presumably as "
    "sizes that are rounded alike fit the places of blocks that died.  Where a fit loses little, there is "
    "nothing to save"
)
#: lost between blocks, of the bytes asked for: from here on a fit wastes much
WASTEFUL = 0.4

Sizes = npt.NDArray[np.int64]


def multiples(quantum: int, sizes: Sizes) -> Sizes:
    """Round up to multiples of `quantum`.

    >>> multiples(64, np.array([1, 64, 65])).tolist()
    [64, 64, 128]
    """
    return -(-sizes // quantum) * quantum


def classes(count: int, sizes: Sizes) -> Sizes:
    """Round up to the next of `count` sizes from each power of two to the next, in equal steps.

    >>> classes(4, np.array([16, 17, 33, 41, 1000])).tolist()
    [16, 20, 40, 48, 1024]
    """
    power = np.exp2(np.floor(np.log2(sizes))).astype(np.int64)
    step = np.maximum(power // count, 1)
    return -(-sizes // step) * step


def rounded(trace: Trace, to: Callable[[Sizes], Sizes]) -> Trace:
    """Return the trace with requests so large that blocks, headers included, have the sizes `to` gives."""

    def blocks() -> Iterator[Block]:
        for block in trace:
            asked = block.size.astype(np.int64)
            some = (asked > 0) & (block.op != Op.FREE)
            asked[some] = to(asked[some] + HEADER) - HEADER
            yield replace(block, size=asked.astype(np.uint64))

    return Trace.lazy(blocks, Provenance(trace.header.name))


def live_bytes(trace: Trace) -> Sizes:
    """Return the bytes that the program has after each number of events, from 0 to all."""
    blocks, change = lives(trace), np.zeros(trace.header.events + 1, np.int64)
    born = np.asarray(blocks.born, np.int64)
    np.add.at(change, born + 1, blocks.size.astype(np.int64))
    gone = blocks.died < trace.header.events
    np.add.at(change, blocks.died[gone].astype(np.int64) + 1, -blocks.size[gone].astype(np.int64))
    return np.cumsum(change)


@dataclass(frozen=True)
class Loss:
    """Bytes lost for each byte asked for, inside blocks and between them."""

    inside: float
    between: float

    @property
    def total(self) -> float:
        """Both."""
        return self.inside + self.between


def loss(trace: Trace, asked: Sizes, to: Callable[[Sizes], Sizes], design: str, seed: int) -> Loss:
    """Return what rounding loses of memory; asked: of the trace, as `live_bytes` says."""
    found = run(rounded(trace, to), f"{design}:{WHOLE}", payload=False, seed=seed)
    at = found.fragmentation
    if at is None or not at.at_peak:
        raise HeaplabError(f"{trace.header.name} on {design}: {found.reason}")
    live = int(asked[at.event])
    return Loss((at.allocated - live) / live, (found.peak_heap - at.allocated - at.metadata) / live)


@dataclass(frozen=True)
class Row:
    """A trace on a design, with every rounding; a loss each.  mean: bytes of a request."""

    trace: str
    design: str
    mean: float
    by_quantum: tuple[Loss, ...]
    by_classes: tuple[Loss, ...]


def measure(
    *,
    blocks: int,
    allocations: int,
    sizes: tuple[str, ...],
    programs: tuple[str, ...],
    designs: tuple[str, ...],
    quanta: tuple[int, ...],
    spacings: tuple[int, ...],
    repeats: int,
    seed: int,
    tick: Tick,
) -> Findings:
    """Play every trace with every rounding on every design."""
    quanta = tuple(sorted({LEAST, *quanta}))
    ways = [*(partial(multiples, each) for each in quanta), *(partial(classes, each) for each in spacings)]
    named: list[tuple[str, list[Trace]]] = []
    for size in sizes:
        made = Workload(2 * allocations, distribution(size.replace(" ", ",")), Exponential(blocks))
        named.append((size, [made.trace(seed + each) for each in range(repeats)]))
    named += [(name, [open_trace(name)]) for name in programs if name]
    rows: list[Row] = []
    total = len(named) * len(designs)
    for name, traces in named:
        asked = [live_bytes(trace) for trace in traces]
        for design in designs:
            tick(len(rows), total, f"{name} on {design}")
            found = [
                _mean(
                    [loss(trace, live, way, design, seed) for trace, live in zip(traces, asked, strict=True)]
                )
                for way in ways
            ]
            mean = float(lives(traces[0]).size.mean())
            rows.append(Row(name, design, mean, tuple(found[: len(quanta)]), tuple(found[len(quanta) :])))
    return Findings(
        tables(rows, quanta, spacings), claims(rows, quanta, programs), remarks(rows, quanta), (rows, quanta)
    )


def _mean(found: Sequence[Loss]) -> Loss:
    return Loss(
        float(np.mean([each.inside for each in found])), float(np.mean([each.between for each in found]))
    )


def tables(rows: Sequence[Row], quanta: Sequence[int], spacings: Sequence[int]) -> list[Table]:
    """Percentages, inside + between = total."""

    def written(found: Loss) -> str:
        return f"{100 * found.inside:.1f} + {100 * found.between:.1f} = {100 * found.total:.1f}"

    made = [
        Table(
            "Lost by rounding to multiples, % of the bytes asked for: inside + between = total",
            ["trace", "design", "mean size", *(f"{quantum} B" for quantum in quanta)],
            [[row.trace, row.design, round(row.mean), *map(written, row.by_quantum)] for row in rows],
        )
    ]
    if spacings:
        made.append(
            Table(
                "The same, with so many sizes from a power of two to the next",
                ["trace", "design", f"multiples of {LEAST}", *(f"{count} sizes" for count in spacings)],
                [
                    [row.trace, row.design, written(row.by_quantum[0]), *map(written, row.by_classes)]
                    for row in rows
                ],
            )
        )
    return made


@dataclass(frozen=True)
class Case:
    """A row with one quantum.  extra: what rounding costs inside; saved: what it saves between."""

    row: Row
    quantum: int
    extra: float
    saved: float

    @property
    def pays(self) -> bool:
        """Whether memory is saved on the whole."""
        return self.saved >= self.extra

    def __str__(self) -> str:
        return f"{self.row.trace} on {short(self.row.design)}, {self.quantum} B"


def cases(rows: Sequence[Row], quanta: Sequence[int]) -> list[Case]:
    """Every quantum but the first, on every row, against the first."""
    return [
        Case(row, quantum, found.inside - row.by_quantum[0].inside, row.by_quantum[0].between - found.between)
        for row in rows
        for quantum, found in zip(quanta[1:], row.by_quantum[1:], strict=True)
    ]


def claims(rows: Sequence[Row], quanta: Sequence[int], programs: Sequence[str]) -> list[Claim]:
    """Randell's rule, as far as it goes."""
    every = cases(rows, quanta)
    made_up = [case for case in every if case.row.trace not in programs]
    coarse = [case for case in made_up if case.quantum >= case.row.mean / 8]
    fine = [case for case in made_up if case.quantum < case.row.mean / 8]
    real = [case for case in every if case.row.trace in programs]
    made = []
    if coarse:
        shares = [case.saved / case.extra for case in coarse if case.extra > 0]
        made.append(
            Claim.shape(
                "random requests, a quantum of an eighth of their mean or more: what is saved between "
                "blocks, of what it costs inside",
                "less than all of it",
                f"at most {100 * max(shares):.0f} %, median {100 * float(np.median(shares)):.0f} %",
                holds=not any(case.pays for case in coarse),
                rule=f"below 100 % in each of {len(coarse)} cases",
            )
        )
    if fine:
        pays = [case for case in fine if case.pays]
        most = max((case.saved - case.extra for case in fine), default=0.0)
        made.append(
            Claim.shape(
                "random requests, smaller quanta: rounding does not pay either",
                "an apparently general rule",
                f"it costs more in {len(fine) - len(pays)} of {len(fine)} cases; else it saves "
                f"{100 * max(most, 0):.1f} % of the bytes asked for at most",
                holds=len(pays) <= 0.25 * len(fine) and most < 0.02,
                rule="it costs more in three cases of four, and never saves 2 %",
            )
        )
    made += _of_programs(real)
    return made


def _of_programs(real: Sequence[Case]) -> list[Claim]:
    """The rule on programs: by fits that lose little between blocks, and by the others."""
    made = []
    tight = [case for case in real if case.row.by_quantum[0].between < WASTEFUL]
    loose = [case for case in real if case.row.by_quantum[0].between >= WASTEFUL]
    if tight:
        pays = [case for case in tight if case.pays]
        most = max(case.saved - case.extra for case in tight)
        made.append(
            Claim.shape(
                "programs, on designs that lose little between blocks: rounding does not pay",
                "an apparently general rule",
                f"it costs more in {len(tight) - len(pays)} of {len(tight)} cases; else it saves "
                f"{100 * max(most, 0):.1f} % of the bytes asked for at most",
                holds=len(pays) <= 0.1 * len(tight) and most < 0.02,
                rule="it costs more in nine cases of ten, and never saves 2 %",
            )
        )
    if loose:
        best = max(loose, key=lambda case: case.saved - case.extra)
        holds = not any(case.pays for case in loose)
        made.append(
            Claim.shape(
                f"programs, on designs that lose {100 * WASTEFUL:.0f} % or more between blocks",
                "an apparently general rule",
                f"it pays in {sum(case.pays for case in loose)} of {len(loose)} cases, most on {best}: "
                f"{100 * (best.saved - best.extra):.1f} % of the bytes asked for",
                holds=holds,
                rule="it never pays",
                disagrees="" if holds else WHY_IT_PAYS,
            )
        )
    return made


def remarks(rows: Sequence[Row], quanta: Sequence[int]) -> list[str]:
    """Where rounding did the opposite of what it is meant for."""
    grew = [row for row in rows if row.by_quantum[-1].between > 1.05 * row.by_quantum[0].between]
    if not grew:
        return []
    named = "; ".join(f"{row.trace} on {row.design}" for row in grew[:4])
    return [
        f"With {quanta[-1]} bytes, more than without lies between blocks in {len(grew)} of {len(rows)} rows "
        f"({named}{' ...' if len(grew) > 4 else ''}): the blocks have grown, and the gaps with them."
    ]


def draw(findings: Findings) -> Any:
    """Left: what one distribution loses inside and between; right: the total, against no rounding."""
    rows, quanta = findings.drawn
    figure = style.figure(7.2, 3.4)
    parts, totals = figure.subplots(1, 2)
    first = [row for row in rows if row.trace == rows[0].trace]
    share = [quantum / first[0].mean for quantum in quanta]
    parts.plot(
        share,
        [100 * each.inside for each in first[0].by_quantum],
        "k-",
        linewidth=1.6,
        label="inside blocks",
    )
    for at, row in enumerate(first):
        colour, marker = style.SERIES[at % len(style.SERIES)]
        parts.plot(
            share,
            [100 * each.between for each in row.by_quantum],
            f"{marker}--",
            color=colour,
            markersize=4,
            linewidth=1,
            label=f"between, {short(row.design)}",
        )
        parts.plot(
            share, [100 * each.total for each in row.by_quantum], f"{marker}-", color=colour, markersize=4
        )
    traces = list(dict.fromkeys(row.trace for row in rows))
    for at, trace in enumerate(traces):
        colour, marker = style.SERIES[at % len(style.SERIES)]
        its = [row for row in rows if row.trace == trace]
        base = np.array([row.by_quantum[0].total for row in its])
        ratio = [
            float(np.mean((1 + np.array([row.by_quantum[step].total for row in its])) / (1 + base)))
            for step in range(len(quanta))
        ]
        totals.plot(
            [quantum / its[0].mean for quantum in quanta],
            ratio,
            f"{marker}-",
            color=colour,
            markersize=4,
            linewidth=1.2,
            label=trace,
        )
    totals.axhline(1, color=style.GREY, linewidth=1, zorder=0)
    parts.set_xscale("log", base=2)
    totals.set_xscale("log", base=2)
    totals.set_yscale("log", base=2)
    for axes in (parts, totals):
        axes.xaxis.set_major_formatter(_share)
        axes.set_xlabel("quantum / mean size of a request", fontsize=8.5)
        style.plain(axes)
    totals.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
    parts.set_ylabel("lost, % of the bytes asked for", fontsize=8.5)
    totals.set_ylabel("memory taken / without rounding", fontsize=8.5)
    parts.set_ylim(0, None)
    parts.set_title(f"Sizes {first[0].trace}; solid with marks: total", fontsize=9)
    totals.set_title("Mean of the designs", fontsize=9)
    parts.legend(fontsize=7, frameon=False, loc="upper left")
    totals.legend(fontsize=7, frameon=False, loc="upper left")
    return figure


def short(design: str) -> str:
    """Return a design's text for a legend.

    >>> short("freelist:fit=first:order=address")
    'first, address'
    """
    return design.removeprefix("freelist:").replace("fit=", "").replace(":order=", ", ")


def _share(value: float, _position: int) -> str:
    return f"1/{round(1 / value)}" if value < 1 else f"{value:g}"


EXPERIMENT = Experiment(
    question="Does rounding sizes up save more between blocks than it costs inside them?",
    source="Randell, A Note on Storage Fragmentation and Program Segmentation, CACM 12 (1969) 365-369, 372",
    parameters=(
        Parameter("blocks", 800, 200, "Blocks that are live, on the average.", least=10),
        Parameter("allocations", 16_000, 3000, "Requests of each made-up trace.", least=100),
        Parameter(
            "sizes",
            ("uniform 16 2000", "exponential 500", "normal 1000 250", "lognormal 300 1", "powers 16 4096"),
            ("uniform 16 2000", "exponential 500"),
            "Distributions of sizes, bytes, with spaces in place of commas.",
        ),
        Parameter("programs", ("lua", "sqlite", "gcc"), ("",), "Traces of programs."),
        Parameter(
            "designs",
            ("rbtree", "freelist:fit=first:order=address", "freelist:fit=first:order=lifo"),
            ("rbtree", "freelist:fit=first:order=address"),
            "Designs with boundary tags.",
        ),
        Parameter("quanta", (16, 32, 64, 128, 256, 512, 1024), (16, 128, 512), "Bytes.", least=16),
        Parameter("spacings", (16, 8, 4, 2, 1), (1,), "Sizes from a power of two to the next.", least=1),
        Parameter("repeats", 3, 1, "Seeds of each made-up trace; losses are means.", least=1),
    ),
    measure=measure,
    draw=draw,
)

if __name__ == "__main__":
    put(EXPERIMENT)
