"""Do the traces of malloc courses rank allocators as real programs do?

    python experiments/course_traces.py                        a minute
    python experiments/course_traces.py --designs rbtree,slab,spans,buddy --draws 200

**Course traces.** Drivers of malloc courses come with made-up traces of a few kinds: two sizes in turn,
of which one is freed and asked for a little larger (`binary`, `binary2`); two neighbours that have to be
merged (`coalescing`); random sizes and lives (`random`, `random2`); one block that grows step by step
among small ones (`realloc`, `realloc2`).  These are our own, of the same kinds.  **Real programs** are the
bundled traces.

**Ranks.** Each design has one figure over the traces of a group: the mean utilisation, as courses have
it; the geometric means of heap and of resident memory over live payload, and of mems an operation.  The
order of the designs in the two groups is compared by Kendall's tau: 1 if all pairs of designs stand in
the same order, 0 if half of them do.  Its interval is of bootstraps that draw the traces of both groups
anew (95 %).

**How good could it be?** Real programs differ too.  So the real traces are dealt into two halves, many
times: how well does one half rank the designs for the other?  Course traces would be as good if they did
as well.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from heaplab import lab
from heaplab.cli._experiments import run
from heaplab.errors import HeaplabError
from heaplab.native.peers import Peer, find_peers
from heaplab.native.playing import play_times
from heaplab.native.stage import Stage
from heaplab.report import style
from heaplab.report.experiment import Claim, Experiment, Findings, Parameter, Table, Tick
from heaplab.traces import Event, Op, Trace, corpus, open_trace

#: how often real allocators are timed
ROUNDS = 3
#: a time below is the clock's error
LEAST_NS = 1.0
#: real traces without which their halves say nothing about ranks
FEWEST = 8

Figures = npt.NDArray[np.float64]

# ---- traces of a course ----


def _binary(small: int, large: int, larger: int, pairs: int) -> Iterator[Event]:
    """Small and large blocks in turn; the large ones are freed, and slightly larger ones come."""
    for pair in range(pairs):
        yield Event(Op.MALLOC, 2 * pair, small)
        yield Event(Op.MALLOC, 2 * pair + 1, large)
    for pair in range(pairs):
        yield Event(Op.FREE, 2 * pair + 1)
    for pair in range(pairs):
        yield Event(Op.MALLOC, 2 * pair + 1, larger)
    for slot in range(2 * pairs):
        yield Event(Op.FREE, slot)


def _coalescing(rounds: int) -> Iterator[Event]:
    """Two blocks are freed, and one of their common size comes."""
    for _ in range(rounds):
        yield Event(Op.MALLOC, 0, 4095)
        yield Event(Op.MALLOC, 1, 4095)
        yield Event(Op.FREE, 0)
        yield Event(Op.FREE, 1)
        yield Event(Op.MALLOC, 0, 8190)
        yield Event(Op.FREE, 0)


def _random(blocks: int, seed: int) -> Iterator[Event]:
    """Blocks of up to 32 KiB come and go in any order; in the end all are freed."""
    random = np.random.default_rng(seed)
    live: list[int] = []
    fresh, free = 0, []
    for size in random.integers(1, 32 << 10, blocks).tolist():
        slot = free.pop() if free else fresh
        fresh += slot == fresh
        live.append(slot)
        yield Event(Op.MALLOC, slot, size)
        if random.random() < 0.4:
            gone = live.pop(int(random.integers(len(live))))
            free.append(gone)
            yield Event(Op.FREE, gone)
    for slot in live:
        yield Event(Op.FREE, slot)


def _realloc(first: int, step: int, small: int, rounds: int) -> Iterator[Event]:
    """A block grows, and between two steps a small one comes and the one before goes."""
    yield Event(Op.MALLOC, 0, first)
    yield Event(Op.MALLOC, 1, small)
    for number in range(rounds):
        yield Event(Op.REALLOC, 0, first + step * (number + 1))
        yield Event(Op.MALLOC, 2 - number % 2, small)
        yield Event(Op.FREE, 1 + number % 2)
    yield Event(Op.FREE, 0)
    yield Event(Op.FREE, 2 - (rounds - 1) % 2)


def course(scale: int, seed: int) -> list[Trace]:
    """Return traces of the kinds that courses use.  scale: how long they are; 1000: some 10,000 events."""
    made = {
        "binary": _binary(64, 448, 512, 2 * scale),
        "binary2": _binary(16, 112, 128, 4 * scale),
        "coalescing": _coalescing(2 * scale),
        "random": _random(3 * scale, seed),
        "random2": _random(3 * scale, seed + 1),
        "realloc": _realloc(512, 128, 128, 4 * scale),
        "realloc2": _realloc(4092, 5, 16, 4 * scale),
    }
    return [Trace.of(events, name) for name, events in made.items()]


# ---- what is measured ----


@dataclass(frozen=True)
class Metric:
    """A figure of a run, and how those of several traces become one.  more: more is better."""

    name: str
    of: Callable[[lab.Run], float]
    geometric: bool
    more: bool = False

    def over(self, figures: Figures) -> Figures:
        """The designs' figures over the traces: rows are designs."""
        joined: Figures = np.exp(np.log(figures).mean(1)) if self.geometric else figures.mean(1)
        return joined


METRICS = (
    Metric("utilisation", lambda run: run.peak_live / run.peak_heap, geometric=False, more=True),
    Metric("heap / live", lambda run: run.peak_heap / run.peak_live, geometric=True),
    Metric("resident / live", lambda run: (run.peak_resident or 0) / run.peak_live, geometric=True),
    Metric("mems an operation", lambda run: run.mems.mean or 0.0, geometric=True),
)


@dataclass(frozen=True)
class Group:
    """The figures of all designs on some traces: of each metric a row a design, a column a trace."""

    traces: list[str]
    figures: list[Figures]


def _run_all(
    traces: Sequence[Trace], designs: Sequence[str], seed: int, said: Callable[[str], None]
) -> Group:
    figures = np.zeros((len(METRICS), len(designs), len(traces)))
    for column, trace in enumerate(traces):
        for row, design in enumerate(designs):
            said(f"{trace.header.name} on {design}")
            done = lab.run(trace, design, seed=seed, verify=False)
            if done.reason:
                raise HeaplabError(f"{trace.header.name} on {design}: {done.reason}")
            figures[:, row, column] = [metric.of(done) for metric in METRICS]
    return Group([trace.header.name for trace in traces], list(figures))


def kendall(one: Figures, other: Figures) -> float:
    """Kendall's tau-b: pairs in the same order less pairs in the other, over all pairs that are no ties."""
    signs = [np.sign(each[:, None] - each) for each in (one, other)]
    return float((signs[0] * signs[1]).sum() / np.sqrt((signs[0] ** 2).sum() * (signs[1] ** 2).sum()))


def spearman(one: Figures, other: Figures) -> float:
    """Spearman's rho: the correlation of the places, ties in the middle of theirs."""
    places = [np.sign(each[:, None] - each).sum(1) for each in (one, other)]
    return float(np.corrcoef(places)[0, 1])


@dataclass(frozen=True)
class Agreement:
    """How well two groups of traces agree on the order of designs by a metric.

    tau, rho: Kendall's and Spearman's, of the ranks over all traces.  low, high: 95 % of tau's bootstrap.
    halves: mean of tau between halves of the real traces; halves_low, halves_high: 95 % of these.
    beats: the share of such halves that the course traces do not reach.
    """

    metric: str
    tau: float
    low: float
    high: float
    rho: float
    halves: float
    halves_low: float
    halves_high: float
    beats: float


def agree(metric: Metric, made: Figures, real: Figures, draws: int, seed: int) -> Agreement:
    """Compare the ranks that two groups give.  made, real: rows designs, columns traces."""
    random = np.random.default_rng(seed)

    def tau(one: Figures, other: Figures) -> float:
        return kendall(metric.over(one), metric.over(other))

    def drawn(figures: Figures) -> Figures:
        return figures[:, random.integers(0, figures.shape[1], figures.shape[1])]

    boots = np.array([tau(drawn(made), drawn(real)) for _ in range(draws)])
    halves = []
    for _ in range(draws):
        order = random.permutation(real.shape[1])
        half = len(order) // 2
        halves.append(tau(real[:, order[:half]], real[:, order[half:]]))
    whole = tau(made, real)
    low, high = np.nanquantile(boots, (0.025, 0.975))
    half_low, half_high = np.nanquantile(halves, (0.025, 0.975))
    return Agreement(
        metric.name,
        whole,
        float(low),
        float(high),
        spearman(metric.over(made), metric.over(real)),
        float(np.nanmean(halves)),
        float(half_low),
        float(half_high),
        float(np.mean(np.array(halves) > whole)),
    )


@dataclass(frozen=True)
class Found:
    """What the figure is drawn of.

    agreements: by each metric, and by time if real allocators play too.  timed: what these took.
    """

    designs: tuple[str, ...]
    made: Group
    real: Group
    agreements: list[Agreement]
    timed: "Timed | None" = None


@dataclass(frozen=True)
class Timed:
    """Nanoseconds that an operation takes on real allocators, by name."""

    names: list[str]
    made: Group
    real: Group

    def against(self, name: str) -> tuple[float, float] | None:
        """How the time of one is to the geometric mean of the others, on course traces and on real ones."""
        if name not in self.names or len(self.names) < 2:
            return None
        row = self.names.index(name)
        made, real = (np.log(TIME.over(group.figures[0])) for group in (self.made, self.real))
        both = [float(np.exp(each[row] - np.delete(each, row).mean())) for each in (made, real)]
        return both[0], both[1]


TIME = Metric("ns an operation", lambda run: 0.0, geometric=True)


def _time_all(traces: Sequence[Trace], peers: Sequence[Peer], said: Callable[[str], None]) -> Group:
    figures = np.zeros((1, len(peers), len(traces)))
    for column, trace in enumerate(traces):
        said(f"{trace.header.name} on real allocators")
        with closing(Stage(trace)) as stage:
            for row, (end, times) in enumerate(play_times(stage, peers, rounds=ROUNDS)):
                if times is None:
                    raise HeaplabError(f"{trace.header.name} on {peers[row]}: {end.reason}")
                figures[0, row, column] = max(times.ns_per_op, LEAST_NS)
    return Group([trace.header.name for trace in traces], list(figures))


def ranks(metric: Metric, figures: Figures) -> list[int]:
    """The place of each design, the best first; equal figures share a place."""
    over = metric.over(figures)
    better = over[:, None] < over[None, :] if not metric.more else over[:, None] > over[None, :]
    found: list[int] = (1 + better.sum(0)).tolist()
    return found


def measure(
    *,
    designs: tuple[str, ...],
    traces: tuple[str, ...],
    natives: tuple[str, ...],
    scale: int,
    draws: int,
    seed: int,
    tick: Tick,
) -> Findings:
    """Run all designs on both groups and compare the ranks."""
    made_up, recorded = course(scale, seed), [open_trace(name) for name in traces]
    peers, missing = find_peers(natives)
    total, done = (len(designs) + bool(peers)) * (len(made_up) + len(traces)), 0

    def said(what: str) -> None:
        nonlocal done
        tick(done, total, what)
        done += 1

    made = _run_all(made_up, designs, seed, said)
    real = _run_all(recorded, designs, seed, said)
    agreements = [
        agree(metric, made.figures[place], real.figures[place], draws, seed)
        for place, metric in enumerate(METRICS)
    ]
    found, tables = Found(designs, made, real, agreements), []
    if peers:
        groups = [_time_all(each, peers, said) for each in (made_up, recorded)]
        by_time = agree(TIME, groups[0].figures[0], groups[1].figures[0], draws, seed)
        timed = Timed([str(peer) for peer in peers], *groups)
        found = replace(found, agreements=[*agreements, by_time], timed=timed)
        tables.append(_times_table(timed))
    return Findings([*_tables(found), *tables], _claims(found), [*_remarks(found), *missing], found)


def _times_table(timed: Timed) -> Table:
    columns: list[list[Any]] = []
    for group in (timed.made, timed.real):
        columns += [TIME.over(group.figures[0]).tolist(), ranks(TIME, group.figures[0])]
    heads = ("allocator", "ns an operation: course", "rank", "real", "rank")
    rows = [(name, *cells) for name, *cells in zip(timed.names, *columns, strict=True)]
    return Table("Real allocators by time, which differs from run to run", heads, rows)


def _tables(found: Found) -> list[Table]:
    heads, columns = ["design"], []
    for place, metric in enumerate(METRICS):
        for name, group in (("course", found.made), ("real", found.real)):
            heads += [f"{metric.name}: {name}", "rank"]
            columns += [metric.over(group.figures[place]).tolist(), ranks(metric, group.figures[place])]
    rows = [(design, *cells) for design, *cells in zip(found.designs, *columns, strict=True)]
    compared = [
        (
            *(each.metric, each.tau, f"{each.low:.2f} to {each.high:.2f}", each.rho, each.halves),
            *(f"{each.halves_low:.2f} to {each.halves_high:.2f}", 100 * each.beats),
        )
        for each in found.agreements
    ]
    return [
        Table("Designs over both groups of traces, and their places", heads, rows),
        Table(
            "Agreement of the ranks, course against real, and half of the real traces against the other",
            ("by", "tau", "95 %", "rho", "halves: tau", "95 %", "halves that do better, %"),
            compared,
        ),
    ]


#: utilisation of known solutions on the classic eleven traces, per cent: segregated best fit, an explicit
#: list with the last freed block first, a buddy with slabs
PUBLISHED = {"freelist:fit=best": 78, "freelist:fit=first:order=lifo": 74, "buddy": 54}

#: why the claims about ranks do not hold
AS_GOOD = (
    "course traces agree with real programs about as well as half of the real programs with the other "
    "half, so in space and in mems a course loses little by its traces; the statement is about times of "
    "production allocators, and of these it is true (below); single designs do move"
)


def _claims(found: Found) -> list[Claim]:
    by_name = {each.metric: each for each in found.agreements}
    space, time = by_name["resident / live"], by_name["mems an operation"]
    claims = [
        Claim.shape(
            f"ranks by {each.metric}",
            "course traces rank allocators differently from traces of real programs",
            f"tau {each.tau:.2f}; half of the real traces against the other {each.halves:.2f}, and "
            f"{100 * each.beats:.0f} % of such halves agree better than the course traces do",
            holds=each.beats >= 0.95,
            rule="95 % of the halves of the real traces agree better with each other",
            disagrees=AS_GOOD,
        )
        for each in (space, time)
        if len(found.real.traces) >= FEWEST
    ]
    over = dict(zip(found.designs, METRICS[0].over(found.made.figures[0]).tolist(), strict=True))
    if over.keys() >= PUBLISHED.keys():
        ours = [100 * over[design] for design in PUBLISHED]
        claims.append(
            Claim.shape(
                "utilisation on course traces: best fit, first fit with the last freed first, buddy",
                " > ".join(f"{share} %" for share in PUBLISHED.values()),
                ", ".join(f"{share:.1f} %" for share in ours),
                holds=ours == sorted(ours, reverse=True),
                rule="the same order; the classic eleven have four traces of programs, which ours lack",
            )
        )
    ratio = found.timed.against("glibc") if found.timed else None
    if ratio:
        claims.append(
            Claim.shape(
                "time of glibc over the mean of the other real allocators",
                "course traces rank allocators differently; on 16 real traces glibc is slowest, 1 / 0.61",
                f"{ratio[0]:.2f} on course traces, {ratio[1]:.2f} on real ones",
                holds=ratio[0] < 0.8 * ratio[1] and ratio[1] > 1,
                rule="above 1 on real traces, and lower by a fifth at least on course traces",
            )
        )
    return claims


def _remarks(found: Found) -> list[str]:
    told = []
    if len(found.real.traces) < FEWEST:
        told.append(
            f"Fewer than {FEWEST} real traces say nothing about ranks, so nothing is claimed of them."
        )
    for place, metric in enumerate(METRICS[1:], 1):
        made, real = (ranks(metric, group.figures[place]) for group in (found.made, found.real))
        moved = [abs(one - other) for one, other in zip(made, real, strict=True)]
        at = int(np.argmax(moved))
        told.append(
            f"By {metric.name} the design that moves most is {found.designs[at]}: place {made[at]} on course "
            f"traces, {real[at]} on real ones."
        )
    return told


def draw(findings: Findings) -> Any:
    """The places of each design in both groups, by three metrics; a line that rises or falls is a change."""
    found: Found = findings.drawn
    figure = style.figure(7.2, 1.2 + 0.27 * len(found.designs))
    shown = [place for place, metric in enumerate(METRICS) if metric.name != "utilisation"]
    panels = figure.subplots(1, len(shown), sharey=True)
    for axes, place in zip(panels, shown, strict=True):
        metric, agreement = METRICS[place], found.agreements[place]
        made, real = (_order(metric, group.figures[place]) for group in (found.made, found.real))
        for number, design in enumerate(found.designs):
            colour, marker = (*style.SERIES, (style.GREY, "h"))[number % (len(style.SERIES) + 1)]
            axes.plot(
                (0, 1), (made[number], real[number]), marker=marker, color=colour, markersize=4, linewidth=1.3
            )
            if axes is panels[-1]:
                axes.annotate(
                    _short(design),
                    (1, real[number]),
                    xytext=(7, 0),
                    textcoords="offset points",
                    va="center",
                    fontsize=7.5,
                )
            elif axes is panels[0]:
                axes.annotate(
                    _short(design),
                    (0, made[number]),
                    xytext=(-7, 0),
                    textcoords="offset points",
                    ha="right",
                    va="center",
                    fontsize=7.5,
                )
        axes.set_xticks((0, 1), ("course", "real"), fontsize=8)
        axes.set_xlim(-0.15, 1.15)
        axes.set_title(
            f"{metric.name}\ntau {agreement.tau:.2f}\n(halves of the real: {agreement.halves:.2f})",
            fontsize=8,
        )
        axes.set_yticks([])
        axes.spines[["top", "right", "left", "bottom"]].set_visible(False)
        axes.tick_params(length=0)
    panels[0].invert_yaxis()
    figure.suptitle("Places of the designs in both groups of traces; the best is at the top", fontsize=8.5)
    return figure


def _short(design: str) -> str:
    """The values of a free list's options; other specs as they are."""
    name, *options = design.split(":")
    return " ".join(option.partition("=")[2] for option in options) if name == "freelist" else design


def _order(metric: Metric, figures: Figures) -> list[int]:
    """The place of each design, with no two at the same."""
    over = metric.over(figures) * (-1 if metric.more else 1)
    found: list[int] = np.argsort(np.argsort(over, kind="stable"), kind="stable").tolist()
    return found


EXPERIMENT = Experiment(
    question="Do course traces rank allocators as real programs do?",
    source="notes on malloc courses and benchmarks of 16 real traces (rankings differ; utilisation of known "
    "solutions on the classic eleven traces)",
    parameters=(
        Parameter(
            "designs",
            full=(
                *("freelist:fit=first:order=lifo", "freelist:fit=first:order=address", "freelist:fit=next"),
                *("freelist:fit=best", "binheap", "buddy", "rbtree", "slab", "spans"),
            ),
            small=("freelist:fit=first:order=lifo", "freelist:fit=best", "buddy", "slab", "spans"),
            help="Specs.",
        ),
        Parameter("traces", full=tuple(corpus.names()), small=("lua", "dot"), help="Real programs."),
        Parameter(
            "natives",
            full=("glibc", "jemalloc", "mimalloc", "tcmalloc"),
            small=(),
            help="Real allocators that are timed; heaplab:SPEC too; what is not installed is left out.",
        ),
        Parameter("scale", full=500, small=60, help="Of course traces: a tenth of their events.", least=10),
        Parameter("draws", full=1000, small=50, help="Bootstraps, and pairs of halves.", least=10),
    ),
    measure=measure,
    draw=draw,
)

if __name__ == "__main__":
    run(EXPERIMENT)
