"""How much memory do private caches of threads cost, and what do frees by other threads?

    python experiments/threads.py                                  a minute
    python experiments/threads.py --threads 1,2,16 --designs spans,rbtree --natives glibc

**Blow-up** is what an allocator takes because there are several threads: its peak, over the peak that it has
when one thread makes the same requests in the same order.  1 is ideal.  (Berger and others divide by what an
ideal allocator takes; the peak of the live payload stands beside it in the tables.)

**Programs.**  `producer`: one thread allocates a batch of blocks, another frees them, many times over.
`turns`: each thread allocates a batch and frees it, one thread after the other.  `larson`: threads hand their
blocks over to the next thread, which frees them.  `exchange`: some blocks are freed by another thread than
their own.  `queue`: two threads allocate, and two others free.  Besides, three recorded programs.

**Allocators.**  `private:freed=here` and `private:freed=home` are experiments/private_heaps.py: pure private
heaps, and private heaps with ownership.  `spans` has an arena a thread, and a block that another thread frees
goes back to its arena.  All other designs have one heap under one lock.  Real allocators play the same traces
with real threads that take turns, so their memory does not depend on chance; their times are of one thread.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from heaplab import allocators, lab
from heaplab.allocators import Spec
from heaplab.cli._experiments import run
from heaplab.errors import HeaplabError
from heaplab.native import playing
from heaplab.native.peers import Peer, find_peers
from heaplab.report import style
from heaplab.report.experiment import Claim, Experiment, Findings, Parameter, Table, Tick
from heaplab.traces import Block, Event, Op, Trace, open_trace
from heaplab.traces.workload import Exponential, Threads, Uniform, Workload

HERE = "private:freed=here"
HOME = "private:freed=home"
SIZE = 1000
#: how often real allocators are timed
_ROUNDS = 3
_PRIVATE = Path(__file__).with_name("private_heaps.py")


# ---- programs ----


def producer(rounds: int, batch: int) -> Trace:
    """One thread allocates a batch, the other frees it, `rounds` times."""

    def events() -> Iterator[Event]:
        for _ in range(rounds):
            yield from (Event(Op.MALLOC, slot, SIZE) for slot in range(batch))
            yield from (Event(Op.FREE, slot, thread=1) for slot in range(batch))

    return Trace.of(events(), f"producer-{rounds}")


def turns(threads: int, batch: int) -> Trace:
    """Each thread in turn allocates a batch and frees it, twice over."""

    def events() -> Iterator[Event]:
        for thread in list(range(threads)) * 2:
            yield from (Event(Op.MALLOC, slot, SIZE, thread=thread) for slot in range(batch))
            yield from (Event(Op.FREE, slot, thread=thread) for slot in range(batch))

    return Trace.of(events(), f"turns-{threads}")


def busy(events: int, seed: int) -> list[Trace]:
    """Servers whose threads free each other's blocks."""
    patterns = {
        "larson": Threads("larson", 4, max(events // 40, 1)),
        "exchange": Threads("private", 4, 0.3),
        "queue": Threads("producer", 2, 2),
    }
    return [
        Workload(
            events=events,
            sizes=Uniform(10, 500),
            lifetimes=Exponential(max(events // 20, 1)),
            threads=threads,
            seed=seed,
            name=name,
        ).trace()
        for name, threads in patterns.items()
    ]


def alone(trace: Trace) -> Trace:
    """The same requests in the same order, all by one thread."""

    def blocks() -> Iterator[Block]:
        for block in trace:
            kept = block.op != Op.THREAD_EXIT
            columns = {name: np.ascontiguousarray(each[kept]) for name, each in block.columns().items()}
            yield replace(Block(**columns), thread=np.zeros(int(kept.sum()), np.uint16))

    return Trace.lazy(blocks, trace.header.provenance())


# ---- runs ----


@dataclass(frozen=True)
class Cost:
    """One trace on one allocator.

    live, heap, resident: bytes at their peaks.  alone: resident, if one thread does it all.
    remote: frees by other threads.  mems, ns: an operation; ns: of a real allocator.
    """

    trace: str
    allocator: str
    live: int
    heap: int
    resident: int
    alone: int
    remote: int
    mems: float | None
    ns: float | None

    @property
    def blowup(self) -> float:
        return self.resident / self.alone


def _spec(name: str) -> Spec:
    head, _, options = name.partition(":")
    if head != "private":
        return allocators.parse(name, "c")
    return allocators.parse(":".join(filter(None, (str(_PRIVATE), options))), "python")


class Runs:
    """Runs every allocator on traces, each also as if by one thread."""

    def __init__(self, designs: Sequence[str], natives: Sequence[str], seed: int) -> None:
        self.designs, self._seed = designs, seed
        self.peers, self.missing = find_peers(natives)

    def on_model(self, trace: Trace, design: str) -> Cost:
        """Replay the trace on a design."""
        several, one = (self._run(each, design) for each in (trace, alone(trace)))
        return Cost(
            trace.header.name,
            design,
            several.peak_live,
            several.peak_heap,
            several.peak_resident or 0,
            one.peak_resident or 1,
            several.remote_frees,
            several.mems.mean,
            None,
        )

    def _run(self, trace: Trace, design: str) -> lab.Run:
        done = lab.run(trace, _spec(design), seed=self._seed)
        if done.reason:
            raise HeaplabError(f"{trace.header.name} on {design}: {done.reason}")
        return done

    def on_linux(self, trace: Trace, peer: Peer, *, rounds: int = 0) -> Cost:
        """Play the trace on a real allocator."""
        several = playing.play(trace, peer, rounds=rounds)
        one = playing.play(alone(trace), peer, rounds=0)
        for played in (several, one):
            if played.end.outcome != playing.FINISHED:
                raise HeaplabError(f"{trace.header.name} on {peer}: {played.end.reason}")
        return Cost(
            trace.header.name,
            str(peer),
            several.space.peak_live,
            several.space.peak_heap,
            several.space.peak_resident,
            max(one.space.peak_resident, 1),
            several.space.remote_frees,
            None,
            several.times.ns_per_op if several.times else None,
        )


@dataclass(frozen=True)
class Found:
    """What the figure is drawn of: rows (x, cost)."""

    producer: list[tuple[int, Cost]]
    turns: list[tuple[int, Cost]]
    busy: list[Cost]


def measure(
    *,
    designs: tuple[str, ...],
    natives: tuple[str, ...],
    rounds: tuple[int, ...],
    threads: tuple[int, ...],
    batch: int,
    events: int,
    traces: tuple[str, ...],
    seed: int,
    tick: Tick,
) -> Findings:
    """Run all programs on all allocators."""
    runs = Runs(designs, natives, seed)
    shaped = [(count, producer(count, batch)) for count in rounds]
    taken = [(count, turns(count, batch)) for count in threads]
    servers = [*busy(events, seed), *map(open_trace, traces)]
    steps = len(shaped) + len(taken) + len(servers)
    found = Found([], [], [])
    for done, (program, count, trace) in enumerate(
        [
            *(("producer", count, trace) for count, trace in shaped),
            *(("turns", count, trace) for count, trace in taken),
            *(("busy", 0, trace) for trace in servers),
        ]
    ):
        tick(done, steps, trace.header.name)
        costs = [runs.on_model(trace, design) for design in designs if _can(trace, design)]
        costs += [
            runs.on_linux(trace, peer, rounds=_ROUNDS if program == "busy" else 0) for peer in runs.peers
        ]
        if program == "busy":
            found.busy.extend(costs)
        else:
            getattr(found, program).extend((count, cost) for cost in costs)
    remarks = [*_remarks(found), *runs.missing]
    return Findings(_tables(found, rounds, threads), _claims(found), remarks, found)


def _can(trace: Trace, design: str) -> bool:
    """Pure private heaps refuse aligned blocks, and are slow: they play the made-up programs."""
    return not design.startswith("private") or not trace.header.ops.get("aligned")


def _tables(found: Found, rounds: Sequence[int], threads: Sequence[int]) -> list[Table]:
    def spread(rows: list[tuple[int, Cost]], counts: Sequence[int], name: str) -> list[Any]:
        names = list(dict.fromkeys(cost.allocator for _, cost in rows))
        return [
            (
                allocator,
                *(
                    next(
                        getattr(cost, name) if name == "blowup" else cost.resident / cost.live
                        for at, cost in rows
                        if (at, cost.allocator) == (count, allocator)
                    )
                    for count in counts
                ),
            )
            for allocator in names
        ]

    return [
        Table(
            "One producer, one consumer: peak resident memory over peak live payload, by rounds",
            ("allocator", *map(str, rounds)),
            spread(found.producer, rounds, "over live"),
        ),
        Table(
            "Threads take turns: blow-up, by the number of threads",
            ("allocator", *map(str, threads)),
            spread(found.turns, threads, "blowup"),
        ),
        Table(
            "Threads that free each other's blocks",
            (
                *("trace", "allocator", "live, KiB", "heap, KiB", "resident, KiB", "by one thread, KiB"),
                *("blow-up", "remote frees", "mems/op", "ns/op"),
            ),
            [
                (
                    *(cost.trace, cost.allocator, cost.live >> 10, cost.heap >> 10, cost.resident >> 10),
                    *(cost.alone >> 10, cost.blowup, cost.remote, cost.mems, cost.ns),
                )
                for cost in found.busy
            ],
        ),
    ]


def _of(rows: list[tuple[int, Cost]], allocator: str) -> dict[int, Cost]:
    return {count: cost for count, cost in rows if cost.allocator == allocator}


def _claims(found: Found) -> list[Claim]:
    claims = []
    source = "Hoard, ASPLOS 2000, abstract"
    if pure := _of(found.producer, HERE):
        first, last = min(pure), max(pure)
        claims.append(
            Claim.near(
                f"pure private heaps, producer and consumer: memory after {last} rounds over that after "
                f'{first} ("unbounded", {source}; so it grows with the rounds)',
                last / first,
                pure[last].resident / pure[first].resident,
                within=0.1,
            )
        )
    if owned := _of(found.turns, HOME):
        most = max(owned)
        claims.append(
            Claim.near(
                f'private heaps with ownership, {most} threads in turn: blow-up ("a factor of P", {source})',
                most,
                owned[most].blowup,
                within=0.1,
            )
        )
        bounded = _of(found.producer, HOME)
        claims.append(_flat("private heaps with ownership", bounded))
    if "spans" in {cost.allocator for _, cost in found.producer}:
        claims.append(_flat("spans", _of(found.producer, "spans")))
    locked = [
        cost.blowup
        for cost in (*(cost for _, cost in (*found.producer, *found.turns)), *found.busy)
        if cost.ns is None and cost.mems is not None and not cost.allocator.startswith(("private", "spans"))
    ]
    if locked:
        claims.append(
            Claim.shape(
                "blow-up of one heap under one lock",
                "1: nothing depends on who calls",
                f"{min(locked):.4g} to {max(locked):.4g}, {len(locked)} runs",
                holds=min(locked) == max(locked) == 1,
                rule="1 exactly",
            )
        )
    return claims


def _flat(name: str, by_rounds: dict[int, Cost]) -> Claim:
    first, last = by_rounds[min(by_rounds)], by_rounds[max(by_rounds)]
    return Claim.near(
        f"{name}, producer and consumer: memory after {max(by_rounds)} rounds over that after "
        f"{min(by_rounds)} (blocks that go home: bounded)",
        1,
        last.resident / first.resident,
        within=0.1,
    )


def _remarks(found: Found) -> list[str]:
    said = []
    if spans := _of(found.turns, "spans"):
        most = max(spans)
        said.append(
            f"spans has a blow-up of {spans[most].blowup:.2f} with {most} threads in turn: a thread keeps "
            "what it freed last for a while, as its `delay` says.  So its blow-up is bounded by the number "
            "of threads, and is less where batches are larger."
        )
    growing = [
        allocator
        for allocator in dict.fromkeys(cost.allocator for _, cost in found.producer)
        if (rows := _of(found.producer, allocator))
        and rows[max(rows)].resident > 1.5 * rows[min(rows)].resident
    ]
    said.append(
        f"Memory that grows with the rounds of producer and consumer: {', '.join(growing) or 'none'}."
    )
    return said


# ---- the figure ----


def draw(findings: Findings) -> Any:
    """Memory by rounds, and blow-up by threads."""
    found: Found = findings.drawn
    figure = style.figure(7.2, 3.7)
    left, right = figure.subplots(1, 2)
    modelled = list(dict.fromkeys(cost.allocator for _, cost in found.turns if cost.mems is not None))
    real = list(dict.fromkeys(cost.allocator for _, cost in found.turns if cost.mems is None))
    shown = [*modelled, *(name for name in real if not name.startswith("heaplab:"))]  # drawn already
    for place, name in enumerate(shown):
        colour, marker = style.SERIES[place % len(style.SERIES)]
        looks: dict[str, Any] = {"color": colour, "marker": marker, "markersize": 4, "linewidth": 1.2}
        if name in real:
            looks |= {"linestyle": ":", "markerfacecolor": "none", "markersize": 6}
        rows = _of(found.producer, name)
        left.plot(rows.keys(), [cost.resident / cost.live for cost in rows.values()], **looks, label=name)
        rows = _of(found.turns, name)
        right.plot(rows.keys(), [cost.blowup for cost in rows.values()], **looks)
    counts = sorted({count for count, _ in found.turns})
    right.plot(counts, counts, color=style.GREY, linewidth=0.8, zorder=1)
    for axes, title, across, up in (
        (left, "one producer, one consumer", "rounds", "resident / live, at the peaks"),
        (right, "threads in turn; grey: as many times as threads", "threads", "blow-up"),
    ):
        axes.set_xscale("log", base=2)
        axes.set_yscale("log", base=2)
        axes.xaxis.set_major_formatter("{x:g}")
        axes.yaxis.set_major_formatter("{x:g}")
        axes.set_xlabel(across, fontsize=8)
        axes.set_ylabel(up, fontsize=8)
        axes.set_title(title, fontsize=9)
        style.plain(axes)
    figure.legend(loc="outside lower center", ncols=4, fontsize=7.5, frameon=False)
    return figure


EXPERIMENT = Experiment(
    question="What do threads' private caches cost in memory?",
    source="Berger, McKinley, Blumofe and Wilson, Hoard: A Scalable Memory Allocator for Multithreaded "
    "Applications, ASPLOS 2000 (definition of blow-up; from a factor of P to unbounded)",
    parameters=(
        Parameter(
            "designs",
            full=(HERE, HOME, "spans", "slab", "rbtree", "freelist:fit=best"),
            small=(HERE, HOME, "spans", "rbtree"),
            help="private:freed=here|home, and specs of designs in C.",
        ),
        Parameter(
            "natives",
            full=("glibc", "jemalloc", "mimalloc", "tcmalloc", "heaplab:spans"),
            small=(),
            help="Real allocators; what is not installed is left out.",
        ),
        Parameter("rounds", full=(1, 4, 16, 64), small=(1, 8), help="Of producer and consumer.", least=1),
        Parameter("threads", full=(1, 2, 4, 8, 16), small=(1, 4), help="That take turns.", least=1),
        Parameter("batch", full=1000, small=200, help="Blocks of 1000 bytes in a batch.", least=1),
        Parameter("events", full=60_000, small=1_000, help="Of a server.", least=100),
        Parameter("traces", full=("git-grep", "node", "redis"), small=(), help="Recorded programs."),
    ),
    measure=measure,
    draw=draw,
)

if __name__ == "__main__":
    run(EXPERIMENT)
