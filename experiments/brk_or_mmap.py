"""Large blocks: from the break, or a mapping each?  Thresholds, trimming, and what makes them sluggish.

    python experiments/brk_or_mmap.py                                     made-up traces and programs
    python experiments/brk_or_mmap.py --thresholds 64KiB,1MiB,dynamic --programs gcc --native dynamic

A block in a mapping of its own goes back to the kernel as soon as it is freed, wherever it lies.  But each
such block costs two system calls, and a page fault for each page, every time.  A block from the break costs
neither if an earlier block has left its place; but the place stays with the program.  The page mallopt(3) of
Linux says so, and what glibc makes of it:

    M_MMAP_THRESHOLD   requests from 128 KiB on are mapped.  The threshold is dynamic: when a mapped block is
                       freed, requests up to its size are no longer mapped, up to 32 MiB
    M_TRIM_THRESHOLD   the end of the heap goes back when so much is free there; dynamic: twice the other one.
                       "a trade-off between increasing the number of system calls (when the parameter is set
                       low) and wasting unused memory at the top of the heap (when ... high)"
    M_TOP_PAD          asked for beyond what is needed, and kept when trimming; the same trade-off

heaplab's designs have these three as parameters, by the same rules.  Two made-up programs use large blocks:

    buffers    among many small blocks, one request in fifty is a buffer of 64 KiB to 2 MiB that is freed soon
    tides      six times memory is filled, one block in ten a large one, and given back

"resident" is the mean over the run: what the program occupies while it works.  All is counted on the model;
with --native the system's own glibc plays the same trace, and its system calls are counted.
"""

import os
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import Any

from heaplab.cli._experiments import run as put
from heaplab.errors import HeaplabError
from heaplab.lab import run
from heaplab.native.peers import find_peer
from heaplab.native.playing import FINISHED, play_space
from heaplab.native.stage import Stage
from heaplab.report import style
from heaplab.report.experiment import Claim, Experiment, Findings, Parameter, Table, Tick
from heaplab.traces import Event, Op, Trace, open_trace
from heaplab.traces.workload import Exponential, Kind, Lognormal, Phase, Uniform, Workload
from heaplab.units import format_size

KIB, MIB = 1 << 10, 1 << 20
#: where glibc's threshold begins, and where its dynamic one ends: mallopt(3)
DEFAULT, HIGHEST = "128KiB", 32 * MIB


#: bytes that make a size no multiple of a page
ODD = 1000


@dataclass(frozen=True)
class Cost:
    """What a run cost.  resident: mean bytes over the events; live: the same of the payload.

    faults: minor.  brk, mappings: system calls; None where nobody counts them.  left: bytes resident when
    all was freed.
    """

    faults: int
    brk: int | None
    mappings: int | None
    resident: float
    live: float
    left: int

    @property
    def work(self) -> int:
        """What the kernel was asked for: faults and system calls."""
        return self.faults + (self.brk or 0) + (self.mappings or 0)


def cost(trace: Trace, design: str, seed: int) -> Cost:
    """Play a trace on a design on the model."""
    found = run(trace, design, verify=False, seed=seed)
    if found.outcome != FINISHED or None in (found.faults, found.freed_resident):
        raise HeaplabError(f"{trace.header.name} on {design}: {found.reason}")
    line = found.timeline
    count = max(len(line.event), 1)
    return Cost(
        int(found.faults or 0),
        found.brk_calls,
        found.mmap_calls,
        sum(line.resident) / count,
        sum(line.live) / count,
        int(found.freed_resident or 0),
    )


def glibc(trace: Trace, threshold: str) -> Cost:
    """Play a trace on the system's glibc; threshold: bytes as text, or dynamic.

    Raises: HeaplabError where there is no glibc, or no way to play on it.
    """
    with closing(Stage(trace)) as stage, _tunable(threshold):
        space = play_space(stage, find_peer("glibc"))
    if space.end.outcome != FINISHED:
        raise HeaplabError(f"glibc: {space.end.reason}")
    count = max(len(space.event), 1)
    resident, live = sum(space.resident) / count, sum(space.live) / count
    return Cost(space.faults, space.brk_calls, space.mmap_calls, resident, live, space.freed_resident or 0)


@contextmanager
def _tunable(threshold: str) -> Iterator[None]:
    """Let programs started meanwhile have another M_MMAP_THRESHOLD: the C library reads it from here."""
    if threshold == "dynamic":
        yield
        return
    name = "MALLOC_MMAP_THRESHOLD_"
    before = os.environ.get(name)
    os.environ[name] = str(_bytes(threshold))
    try:
        yield
    finally:
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before


def _bytes(text: str) -> int:
    """The bytes of a threshold's text."""
    for unit, size in (("KiB", KIB), ("MiB", MIB)):
        if text.endswith(unit):
            return int(text.removesuffix(unit)) * size
    return int(text)


def buffers(events: int) -> Workload:
    """Small blocks, and among them large ones that live shortly."""
    small = Kind(0.98, Lognormal(48, 1), Exponential(2000))
    large = Kind(0.02, Uniform(64 * KIB, 2 * MIB), Exponential(50))
    return Workload(events, kinds=(small, large), name="buffers")


def tides(events: int) -> Workload:
    """Memory that is filled and given back, six times."""
    small = Kind(0.9, Lognormal(200, 1), Exponential(200))
    large = Kind(0.1, Uniform(64 * KIB, MIB), Exponential(400))
    return Workload(events, kinds=(small, large), phases=(Phase("sawtooth", teeth=6),), name="tides")


def again_and_again(size: int, times: int) -> Trace:
    """Return the trace of a program that allocates and frees a block of one size, so many times."""
    one = [Event(Op.MALLOC, 0, size), Event(Op.FREE, 0)]
    return Trace.of(one * times, f"{times} x {format_size(size)}")


@dataclass(frozen=True)
class Point:
    """One run.  of: the table it is in.  what: the parameter that was varied."""

    of: str
    trace: str
    what: str
    found: Cost


def measure(
    *,
    events: int,
    thresholds: tuple[str, ...],
    trims: tuple[str, ...],
    pads: tuple[str, ...],
    programs: tuple[str, ...],
    design: str,
    native: tuple[str, ...],
    seed: int,
    tick: Tick,
) -> Findings:
    """Play everything: thresholds, trims, pads, the dynamic rule, and glibc itself."""
    traces = [buffers(events).trace(seed), tides(events).trace(seed)]
    traces += [open_trace(name) for name in programs if name]
    real = [way for way in native if way]
    points: list[Point] = []
    remarks: list[str] = []
    total = len(traces) * (len(thresholds) + len(real)) + len(trims) + len(pads) + 4

    def add(of: str, trace: Trace, what: str, found: Cost) -> None:
        points.append(Point(of, trace.header.name, what, found))
        tick(len(points), total, f"{trace.header.name}, {what}")

    for trace in traces:
        for threshold in thresholds:
            found = cost(trace, f"{design}:mmap_threshold={threshold}", seed)
            add("thresholds", trace, threshold, found)
    whole = f"{design}:mmap_threshold=64GiB"
    for trim in trims:
        add("trims", traces[1], trim, cost(traces[1], f"{whole}:trim_threshold={trim}:top_pad=0", seed))
    for pad in pads:
        add("pads", traces[1], pad, cost(traces[1], f"{whole}:trim_threshold=0:top_pad={pad}", seed))
    for size in (MIB + ODD, HIGHEST - MIB + ODD, HIGHEST + MIB + ODD, MIB):
        trace = again_and_again(size, 8)
        found = run(trace, design, payload=False, seed=seed)
        add("rule", trace, "dynamic", Cost(0, found.brk_calls, found.mmap_calls, 0, 0, 0))
    try:
        for way in real:
            for trace in traces:
                add("native", trace, way, glibc(trace, way))
    except HeaplabError as error:
        remarks.append(f"glibc was left out: {error}")
    return Findings(tables(points), claims(points), remarks, points)


def _of(points: Sequence[Point], of: str) -> list[Point]:
    return [point for point in points if point.of == of]


def tables(points: Sequence[Point]) -> list[Table]:
    """The runs as tables, a line a run."""
    heads = ["faults", "brk calls", "mmap, munmap", "resident, MiB", "live, MiB", "left, KiB"]

    def line(each: Point) -> list[str | int | float | None]:
        its = each.found
        return [its.faults, its.brk, its.mappings, its.resident / MIB, its.live / MIB, its.left / KIB]

    titles = {
        "thresholds": ("From which size on blocks are mapped", "mmap_threshold"),
        "native": ("The system's own glibc", "mmap_threshold"),
        "trims": ("What a trim must give back, without mappings and with top_pad=0", "trim_threshold"),
        "pads": ("What is kept at the end, without mappings and with trim_threshold=0", "top_pad"),
    }
    made = []
    for of, (title, head) in titles.items():
        rows = [[each.trace, each.what, *line(each)] for each in _of(points, of)]
        if rows:
            made.append(Table(title, ["trace", head, *heads], rows))
    rule: list[list[str | int | float | None]] = [
        [each.trace, (each.found.mappings or 0) // 2] for each in _of(points, "rule")
    ]
    made.append(
        Table(
            "A block allocated and freed again and again: the dynamic threshold", ["blocks", "mapped"], rule
        )
    )
    return made


def claims(points: Sequence[Point]) -> list[Claim]:
    """What mallopt(3) says, and ours."""
    return [
        *_rule(_of(points, "rule")),
        *_mapping_or_not(_of(points, "thresholds")),
        *_dynamic(_of(points, "thresholds")),
        *(
            _trade_off(its, name)
            for its, name in ((_of(points, "trims"), "M_TRIM_THRESHOLD"), (_of(points, "pads"), "M_TOP_PAD"))
            if len(its) > 1
        ),
        *_as_glibc(_of(points, "thresholds"), _of(points, "native")),
    ]


def _rule(its: Sequence[Point]) -> list[Claim]:
    # the table of large blocks is a mapping of its own, made with the first of them
    *odd, whole = [(each.found.mappings or 0) // 2 for each in its]
    return [
        Claim.shape(
            "mallopt(3), the dynamic threshold: of 8 equal blocks in turn are mapped, of 1, 31 and 33 MiB "
            f"and {ODD} bytes",
            "1, 1, 8",
            ", ".join(map(str, odd)),
            holds=odd == [1, 1, 8],
            rule="the same numbers",
        ),
        Claim.near(
            "the same, of exactly 1 MiB (published: glibc 2.36 itself, played with --native)",
            1.0,
            float(whole),
            within=0,
            disagrees="the page says that the threshold becomes the size of the freed block, and that "
            "requests of the threshold and more are mapped.  glibc takes the mapping's size, and its "
            "mapping has room for a header: a page more.  Our mappings have no header, so a block of whole "
            "pages is as large as the threshold that it left, and is mapped again",
        ),
    ]


def _ends(its: Sequence[Point]) -> Iterator[tuple[str, Cost, Cost]]:
    """Each trace that has large blocks: with the smallest fixed threshold, and with the largest."""
    for trace in dict.fromkeys(each.trace for each in its):
        fixed = [each for each in its if each.trace == trace and each.what != "dynamic"]
        least, most = (pick(fixed, key=lambda each: _bytes(each.what)).found for pick in (min, max))
        if least.mappings != most.mappings:
            yield trace, least, most


def _mapping_or_not(its: Sequence[Point]) -> list[Claim]:
    ends = list(_ends(its))
    faults = [f"{trace} {least.faults / most.faults:.1f}" for trace, least, most in ends]
    resident = [f"{trace} {most.resident / least.resident:.2f}" for trace, least, most in ends]
    return [
        Claim.shape(
            "mallopt(3): mapping costs the kernel work: faults with the smallest threshold, over the largest",
            "more",
            ", ".join(faults),
            holds=bool(ends) and all(least.faults >= most.faults for _, least, most in ends),
            rule="not fewer on any trace",
        ),
        Claim.shape(
            "mallopt(3): what is not mapped stays: resident with the largest threshold, over the smallest",
            "more",
            ", ".join(resident),
            holds=bool(ends) and all(most.resident >= 0.995 * least.resident for _, least, most in ends),
            rule="not less on any trace, but for half a percent",
        ),
    ]


def _dynamic(its: Sequence[Point]) -> list[Claim]:
    """What the dynamic threshold changes, against glibc's old fixed one."""
    fixed = {each.trace: each.found for each in its if each.what == DEFAULT}
    moving = {each.trace: each.found for each in its if each.what == "dynamic"}
    both = [trace for trace in moving if trace in fixed and fixed[trace].mappings != moving[trace].mappings]
    if not both:
        return []
    before, after = (sum(each[trace].work for trace in both) for each in (fixed, moving))
    return [
        Claim.shape(
            "the dynamic threshold spares the kernel's work where large blocks come and go: faults and "
            f"system calls, of those with {DEFAULT} fixed",
            "fewer",
            f"{100 * after / before:.0f} % over all traces; "
            + ", ".join(f"{trace} {100 * moving[trace].work / fixed[trace].work:.0f} %" for trace in both),
            holds=after < before,
            rule="fewer over all traces whose mappings it changes",
        ),
        Claim.shape(
            f"and pays in memory: resident, over that with {DEFAULT} fixed",
            "more",
            ", ".join(f"{trace} {moving[trace].resident / fixed[trace].resident:.2f}" for trace in both),
            holds=all(moving[trace].resident >= 0.99 * fixed[trace].resident for trace in both),
            rule="not less on any of them, but for one percent",
        ),
    ]


def _trade_off(its: Sequence[Point], name: str) -> Claim:
    low, high = its[0], its[-1]
    return Claim.shape(
        f"mallopt(3): {name} is a trade-off between system calls and memory; {low.what} to {high.what}",
        "fewer calls, more memory",
        f"brk calls {low.found.brk:,} to {high.found.brk:,}, resident {low.found.resident / MIB:.2f} to "
        f"{high.found.resident / MIB:.2f} MiB",
        holds=(low.found.brk or 0) > (high.found.brk or 0) and low.found.resident < high.found.resident,
        rule="from the smallest to the largest calls fall and resident memory rises",
    )


def _as_glibc(its: Sequence[Point], native: Sequence[Point]) -> list[Claim]:
    """Whether our designs map what glibc maps."""
    ours = {(each.trace, each.what): each.found for each in its}
    pairs = [
        (each.what, each.found.mappings, ours[each.trace, each.what].mappings or 0)
        for each in native
        if (each.trace, each.what) in ours and each.found.mappings is not None and each.trace == "buffers"
    ]
    return [
        Claim.shape(
            f"calls of mmap and munmap on buffers, threshold {what}: glibc itself",
            f"{theirs:,}",
            f"{mine:,}",
            holds=abs(mine - theirs) <= max(0.1 * theirs, 4),
            rule="within 10 % of it, or 4 calls: our table of large blocks has a mapping too",
        )
        for what, theirs, mine in pairs
        if theirs is not None
    ]


def draw(findings: Findings) -> Any:
    """Left: faults against memory, a line a trace, a mark a threshold; right: trims and pads."""
    points: Sequence[Point] = findings.drawn
    figure = style.figure(7.2, 3.4)
    work, end = figure.subplots(1, 2)
    its = _of(points, "thresholds")
    for at, trace in enumerate(dict.fromkeys(each.trace for each in its)):
        colour, marker = style.SERIES[at % len(style.SERIES)]
        fixed = sorted(
            (each for each in its if each.trace == trace and each.what != "dynamic"),
            key=lambda each: _bytes(each.what),
        )
        moving = [each for each in its if each.trace == trace and each.what == "dynamic"]
        work.plot(*_place(fixed), f"{marker}-", color=colour, markersize=4, linewidth=1, label=trace)
        work.plot(
            *_place(moving), "*", color=colour, markersize=11, markeredgecolor="black", markeredgewidth=0.6
        )
        if trace == "buffers":
            _name(work, [fixed[0], fixed[-1]], colour)
    work.plot([], [], "*", color="white", markeredgecolor="black", markersize=9, label="dynamic threshold")
    work.set_xscale("log")
    work.xaxis.set_major_formatter(lambda value, _: f"{100 * value:g} %")
    work.set_yscale("log")
    style.log_counts(work.yaxis)
    work.set_xlabel("resident beyond live, means over the run", fontsize=8.5)
    work.set_ylabel("page faults", fontsize=8.5)
    work.set_title("From which size on blocks are mapped", fontsize=9)
    for (of, name), (colour, marker) in zip(
        (("trims", "trim_threshold (top_pad 0)"), ("pads", "top_pad (trim_threshold 0)")),
        style.SERIES,
        strict=False,
    ):
        line = _of(points, of)
        xs = [each.found.resident / MIB for each in line]
        ys = [max(each.found.brk or 0, 1) for each in line]
        end.plot(xs, ys, f"{marker}-", color=colour, markersize=4, linewidth=1, label=name)
        for each, x, y in list(zip(line, xs, ys, strict=True))[2:]:
            end.annotate(
                each.what, (x, y), textcoords="offset points", xytext=(5, 4), fontsize=6.5, color=colour
            )
    end.set_yscale("log")
    style.log_counts(end.yaxis)
    end.set_xlabel("resident, MiB, mean over the run", fontsize=8.5)
    end.set_ylabel("brk calls", fontsize=8.5)
    end.set_title("How much is kept at the end of the heap (tides)", fontsize=9)
    for axes in (work, end):
        style.plain(axes)
        axes.legend(fontsize=7, frameon=False, loc="lower left" if axes is work else "upper right")
    return figure


def _name(axes: Any, points: Sequence[Point], colour: str) -> None:
    """Write the thresholds beside their marks."""
    for each, x, y in zip(points, *_place(points), strict=True):
        axes.annotate(
            each.what, (x, y), textcoords="offset points", xytext=(5, 4), fontsize=6.5, color=colour
        )


def _place(points: Sequence[Point]) -> tuple[list[float], list[int]]:
    """Memory beyond what is live, as a share of it, and faults of the points."""
    beyond = [each.found.resident / max(each.found.live, 1) - 1 for each in points]
    return beyond, [each.found.faults for each in points]


EXPERIMENT = Experiment(
    question="Large blocks: from the break, or a mapping each?",
    source="mallopt(3), Linux manual pages (M_MMAP_THRESHOLD, M_TRIM_THRESHOLD, M_TOP_PAD)",
    parameters=(
        Parameter("events", 20_000, 4000, "Of each made-up trace.", least=100),
        Parameter(
            "thresholds",
            ("64KiB", "128KiB", "512KiB", "1MiB", "32MiB", "dynamic"),
            ("128KiB", "32MiB", "dynamic"),
            "mmap_threshold; 128KiB is glibc's default, dynamic its rule.",
        ),
        Parameter(
            "trims", ("0", "1MiB", "4MiB", "16MiB", "32MiB", "64MiB"), ("0", "64MiB"), "trim_threshold."
        ),
        Parameter("pads", ("0", "128KiB", "1MiB", "4MiB", "16MiB"), ("0", "4MiB"), "top_pad."),
        Parameter("programs", ("sqlite", "node", "cpython", "bash"), ("",), "Traces of programs."),
        Parameter("design", "rbtree", "rbtree", "A design that has the three parameters."),
        Parameter(
            "native",
            ("dynamic", "128KiB"),
            ("",),
            "Thresholds with which the system's own glibc plays the traces too; '' for none.",
        ),
    ),
    measure=measure,
    draw=draw,
)

if __name__ == "__main__":
    put(EXPERIMENT)
