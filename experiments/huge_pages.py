"""How many pages can be given back when most blocks are dead, and does it matter how large a page is?

    python experiments/huge_pages.py                        a million blocks of 64 bytes, and the corpus
    python experiments/huge_pages.py --objects 100000 --long 0.001,0.01,0.1

**The closed form.** Blocks of 64 bytes lie side by side, and a share p of them lives on after all others
have been freed. If nothing is known about who lives long, the long-lived blocks are scattered at random. A
page of P bytes has P / 64 blocks; it is free of long-lived ones with probability (1 - p)^(P / 64). With p =
1 % that is 0.99^64 = 53 % for pages of 4 KiB, and 0.99^32768, about 10^-143, for pages of 2 MiB: no huge
page would ever be free. This is where LLAMA starts (Maas and others 2020), an allocator that predicts
lifetimes.

**Here.** The blocks are allocated by designs, which put them where they will; then the short-lived ones are
freed, and the free pages are counted for pages from 4 KiB to 2 MiB. Size classes keep the long-lived blocks
apart from others no better than boundary tags do: for a page with k blocks the law is the same, with k
blocks fewer in a page where each has a header.

**What would help.** Whoever knows lifetimes puts the long-lived blocks together. "By lifetime" is the
placement of `lab.offline` that piles the blocks at the bottom which die last.

**Programs.** Their blocks are of many sizes and die in groups. For each trace of the corpus: when live
bytes are lowest in the second half of the trace (after the peak, where there is such a moment), which share
of the pages that blocks were in at the peak holds no block?
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import isnan, log10, nan
from typing import Any

import numpy as np

from heaplab import allocators
from heaplab.cli._experiments import run
from heaplab.errors import HeaplabError
from heaplab.kernel import Kernel
from heaplab.lab import RAM
from heaplab.lab.offline import HEURISTICS, Rectangles
from heaplab.lab.trail import Trail
from heaplab.report import style
from heaplab.report.experiment import Claim, Experiment, Findings, Parameter, Table, Tick
from heaplab.traces import Block, Op, Trace, corpus, open_trace
from heaplab.traces.lives import Lives, lives
from heaplab.units import format_size

SIZE = 64
PAGES = tuple(4096 << step for step in range(10))
BY_LIFETIME = "placed by lifetime"
CLOSED_FORM = "closed form"


@dataclass(frozen=True)
class Freed:
    """The share of pages without a block, by page size.

    of: "objects" or a trace.  where: a design, BY_LIFETIME or CLOSED_FORM.  long: share of objects that live
    on.  shares, pages: of each of PAGES; nan where there is none; how many pages blocks filled before.
    """

    of: str
    where: str
    long: float
    shares: tuple[float, ...]
    pages: tuple[int, ...]


def many_objects(objects: int, long: float, seed: int) -> Trace:
    """Allocate objects one after the other, then free all but a random share, in the order of allocation."""
    stays = np.random.default_rng(seed).random(objects) < long
    slots = np.flatnonzero(~stays)

    def parts() -> Iterator[Block]:
        step = 65_536
        for first in range(0, objects, step):
            count = min(step, objects - first)
            number = np.arange(first, first + count, dtype=np.uint32)
            yield Block.build(count, op=int(Op.MALLOC), id=number, size=SIZE)
        for first in range(0, len(slots), step):
            number = slots[first : first + step].astype(np.uint32)
            yield Block.build(len(number), op=int(Op.FREE), id=number)

    return Trace.of_blocks(parts(), f"{objects} objects, {100 * long:g} % long-lived")


def places(
    trace: Trace, rows: Lives, where: str, seed: int
) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Return the address and the bytes of every block of a trace of one process."""
    if where == BY_LIFETIME:
        rectangles = Rectangles.of(trace)
        address = HEURISTICS["peak by death"].place(rectangles)
        if address is None:
            raise HeaplabError(f"{trace.header.name}: cannot be placed by lifetime")
        return address[rectangles.block].astype(np.int64), rectangles.size[rectangles.block].astype(np.int64)
    trail = Trail(trace, allocators.parse(where, "c"), Kernel(ram=RAM, seed=seed), payload=False)
    trail.advance(trace.header.events)
    if trail.end is not None:
        raise HeaplabError(f"{where}: {trail.end.reason}")
    found = trail.places(rows)
    trail.close()
    address = found.start.astype(np.int64)
    return address - address.min() // PAGES[-1] * PAGES[-1], found.span.astype(np.int64)


def shares(address: Any, size: Any, before: Any, after: Any) -> tuple[tuple[float, ...], tuple[int, ...]]:
    """Return which share of the pages that the blocks `before` fill has none of the blocks `after`.

    And the number of those pages; both for each of PAGES.

    A page less than half full is left out: it is the edge of something, and no test of the law.
    """
    found, counts = [], []
    for page in PAGES:
        covered = np.bincount(*_pages(address[before], size[before], page))
        was = np.flatnonzero(2 * covered >= page)
        still = np.unique(_pages(address[after], size[after], page)[0])
        found.append(1 - len(np.intersect1d(was, still)) / len(was) if len(was) else nan)
        counts.append(len(was))
    return tuple(found), tuple(counts)


def _pages(address: Any, size: Any, page: int) -> tuple[Any, Any]:
    """The numbers of all pages that blocks lie in, and the bytes there of each."""
    first, last = address // page, (address + size - 1) // page
    count = last - first + 1
    number = np.repeat(first, count) + np.arange(count.sum()) - np.repeat(np.cumsum(count) - count, count)
    start, end = np.repeat(address, count), np.repeat(address + size, count)
    return number, np.minimum(end, (number + 1) * page) - np.maximum(start, number * page)


def lowest_after_peak(trace: Trace, rows: Lives) -> tuple[int, int]:
    """Return after how many events live bytes are highest, and lowest from there on.

    The last 2 %, where programs free all, do not count.
    """
    events = trace.header.events
    change = np.zeros(events + 2)
    np.add.at(change, rows.born.astype(int) + 1, rows.size.astype(float))
    np.subtract.at(change, np.minimum(rows.died.astype(int), events) + 1, rows.size.astype(float))
    live = np.cumsum(change)[: events + 1]
    peak, end = int(live.argmax()), max(int(0.98 * events), 1)
    return peak, peak + int(live[peak : max(end, peak + 1)].argmin())


def measure(
    *,
    objects: int,
    long: tuple[float, ...],
    designs: tuple[str, ...],
    programs: tuple[str, ...],
    seed: int,
    tick: Tick,
) -> Findings:
    """Count the free pages of all objects, then of the programs."""
    names = [name for name in (corpus.names() if programs == ("corpus",) else programs) if name]
    total, done, found = len(long) * (len(designs) + 1) + len(names), 0, []
    for share in long:
        trace = many_objects(objects, share, seed)
        rows = lives(trace)
        before, after = rows.live(objects), rows.live(trace.header.events)
        for where in (*designs, BY_LIFETIME):
            tick(done, total, f"{100 * share:g} % long-lived: {where}")
            done += 1
            found.append(
                Freed("objects", where, share, *shares(*places(trace, rows, where, seed), before, after))
            )
        closed = tuple((1 - share) ** (page // SIZE) for page in PAGES)
        found.append(Freed("objects", CLOSED_FORM, share, closed, (0,) * len(PAGES)))
    for name in names:
        tick(done, total, name)
        done += 1
        trace = open_trace(name)
        if trace.header.processes > 1:
            continue
        rows = lives(trace)
        peak, low = lowest_after_peak(trace, rows)
        before, after = rows.live(peak), rows.live(low)
        if sum(rows.size[after]) > 0.9 * sum(rows.size[before]):
            continue
        for where in (designs[0], BY_LIFETIME):
            found.append(Freed(name, where, 0.0, *shares(*places(trace, rows, where, seed), before, after)))
    tick(total, total)
    return Findings(tables(found, objects), claims(found), remarks(found), found)


def tables(found: Sequence[Freed], objects: int) -> list[Table]:
    """Shares of free pages, a line each."""
    heads = [format_size(page).replace(".00", "") for page in PAGES]
    made = []
    its = [each for each in found if each.of == "objects"]
    rows = [
        [each.where, 100 * each.long, *(None if isnan(share) else 100 * share for share in each.shares)]
        for each in its
    ]
    made.append(
        Table(
            f"{objects:,} objects of {SIZE} bytes: free pages by page size, %",
            ["placed", "long-lived, %", *heads],
            rows,
        )
    )
    programs = [each for each in found if each.of != "objects"]
    if programs:
        rows = [
            [each.of, each.where, *(None if isnan(share) else 100 * share for share in each.shares)]
            for each in programs
        ]
        made.append(
            Table("Programs, after the peak: free pages by page size, %", ["trace", "placed", *heads], rows)
        )
    return made


def claims(found: Sequence[Freed]) -> list[Claim]:
    """What LLAMA says, and ours."""
    made = []
    its = [each for each in found if each.of == "objects" and each.long == 0.01]
    closed = next((each for each in its if each.where == CLOSED_FORM), None)
    if closed is None:
        return made
    made.append(Claim.near("0.99^64, %: pages of 4 KiB", 53, 100 * closed.shares[0], within=0.01))
    exponent = (PAGES[-1] // SIZE) * log10(0.99)
    made.append(Claim.near("0.99^32768, its exponent of ten: pages of 2 MiB", -143, exponent, within=0.005))
    for each in its:
        if each.where in (CLOSED_FORM, BY_LIFETIME):
            continue
        if each.where == "slab":  # no headers: as many blocks in a page as in the closed form
            made.append(
                Claim.near("slab, simulated: free pages of 4 KiB, %", 53, 100 * each.shares[0], within=0.05)
            )
        if not isnan(each.shares[-1]):
            made.append(
                Claim.near(
                    f"{each.where}, simulated: free pages of 2 MiB, %", 0, 100 * each.shares[-1], within=0
                )
            )
    together = next(each for each in its if each.where == BY_LIFETIME)
    made.append(
        Claim.shape(
            "who knows lifetimes frees nearly all, of any size",
            "long-lived blocks lie together",
            f"{100 * together.shares[0]:.1f} % of 4 KiB, {100 * together.shares[5]:.1f} % of 128 KiB",
            holds=together.shares[0] > 0.98,
            rule="98 % of the pages of 4 KiB, of 99 % that could be free at most",
        )
    )
    return made


def remarks(found: Sequence[Freed]) -> list[str]:
    """What programs are like."""
    programs = [each for each in found if each.of != "objects"]
    if not programs:
        return []
    step = PAGES.index(65536)
    plain = [each for each in programs if each.where != BY_LIFETIME]
    known = [each for each in programs if each.where == BY_LIFETIME]
    mean = [float(np.mean([each.shares[at] for each in its])) for its in (plain, known) for at in (0, step)]
    return [
        f"After the peak of {len(plain)} programs {100 * mean[0]:.0f} % of the pages of 4 KiB that were used "
        f"are free on {plain[0].where}, and {100 * mean[1]:.0f} % of 64 KiB; placed by lifetime "
        f"{100 * mean[2]:.0f} % and {100 * mean[3]:.0f} %.  Their heaps are too small for pages of 2 MiB."
    ]


def draw(findings: Findings) -> Any:
    """Two panels: the law, over page sizes; and programs."""
    found: Sequence[Freed] = findings.drawn
    programs = [each for each in found if each.of != "objects"]
    figure = style.figure(7.2 if programs else 4.0, 3.6)
    law, *more = np.atleast_1d(figure.subplots(1, 2 if programs else 1, sharey=True)).tolist()
    kib = [page / 1024 for page in PAGES]
    shown = list(dict.fromkeys(each.long for each in found if each.of == "objects"))
    names = list(
        dict.fromkeys(each.where for each in found if each.of == "objects" and each.where != CLOSED_FORM)
    )
    for number, share in enumerate(shown):
        for each in found:
            if each.of != "objects" or each.long != share:
                continue
            values = [100 * value for value in each.shares]
            if each.where == CLOSED_FORM:
                law.plot(
                    kib,
                    values,
                    color=style.GREY,
                    linewidth=1,
                    zorder=0,
                    label=None if number else "(1 - p)^(P / 64)",
                )
                at = min(range(len(values)), key=lambda step: abs(values[step] - 45))
                law.annotate(
                    f"p = {100 * share:g} %", (kib[at] * 1.08, values[at] + 1), fontsize=7, color=style.BLACK
                )
                continue
            if each.where == BY_LIFETIME and share != 0.01:
                continue
            colour, marker = style.SERIES[names.index(each.where)]
            law.plot(
                kib,
                values,
                marker,
                color=colour,
                markersize=4.5,
                fillstyle="none",
                label=None if number and each.where != BY_LIFETIME else each.where.removeprefix("freelist:"),
            )
    law.set(ylabel="pages without a live block, %", ylim=(-3, 104))
    law.set_title(f"{SIZE}-byte objects, p of them long-lived", fontsize=9)
    if programs:
        [axes] = more
        traces = list(dict.fromkeys(each.of for each in programs))
        for each in programs:
            colour, marker = style.SERIES[traces.index(each.of) % len(style.SERIES)]
            known = each.where == BY_LIFETIME
            shown_pages = [at for at, count in enumerate(each.pages) if count >= 8]
            axes.plot(
                [kib[at] for at in shown_pages],
                [100 * each.shares[at] for at in shown_pages],
                ":" if known else "-",
                marker=marker,
                color=colour,
                markersize=4,
                linewidth=1.1,
                label=None if known else each.of,
            )
        axes.plot([], [], ":", color=style.BLACK, linewidth=1.1, label=BY_LIFETIME)
        axes.set_title(
            f"programs after their peak, on {programs[0].where.removeprefix('freelist:')}", fontsize=9
        )
    for axes in (law, *more):
        axes.legend(fontsize=7, frameon=False, loc="upper center", bbox_to_anchor=(0.5, -0.2), ncols=3)
        axes.set_xscale("log", base=2)
        axes.set_xticks(kib, [f"{size:g}" if size < 1024 else f"{size / 1024:g}M" for size in kib])
        axes.set_xlabel("page size P, KiB")
        style.plain(axes)
        axes.minorticks_off()
        axes.xaxis.label.set_size(8.5)
        axes.yaxis.label.set_size(8.5)
    return figure


EXPERIMENT = Experiment(
    question="How many pages can be given back when most blocks are dead, and does a page's size matter?",
    source="Maas, Andersen, Isard, Javanmard, McKinley, Raffel, Learning-based Memory Allocation for C++ "
    "Server Workloads, ASPLOS 2020 (LLAMA)",
    parameters=(
        Parameter("objects", 1_000_000, 40_000, "Blocks of 64 bytes.", least=1000),
        Parameter("long", (0.0001, 0.001, 0.01, 0.1), (0.01,), "Shares of the blocks that live on.", least=0),
        Parameter(
            "designs",
            ("slab", "freelist:fit=best"),
            ("slab",),
            "Who places the blocks; the first also programs.",
        ),
        Parameter(
            "programs", ("corpus",), ("",), "Traces of one process; corpus: all such that are bundled."
        ),
    ),
    measure=measure,
    draw=draw,
)

if __name__ == "__main__":
    run(EXPERIMENT)
