"""Are mallocs free of fragmentation?  A web proxy's cache that runs for days, and an editor.

    python experiments/long_running_server.py                               proxy, editor, redis
    python experiments/long_running_server.py --cluster 32760               clusters that fit a buddy's block
    python experiments/long_running_server.py --native glibc,jemalloc --cache 32

Bohra and Gabber played the requests of Hummingbird, a file system for web proxies, and of GNU Emacs on nine
mallocs.  Fragmentation is theirs: 100 (heap / live - 1), in per cent, at the end of the trace.

Their traces are not to be had.  Ours are made by what the paper says of them; all else is our own choice, and
an option.

**proxy** (their sections 2 and 3): a cache of bounded size holds *files*, of sizes without a favourite, and
*clusters* of 32 KiB, the unit of the disk.  A file that is asked for the first time comes into memory.  When
the cache is full, what was not used for the longest time goes: files are packed into a cluster, which is
written and freed soon after; a cluster that is on the disk is simply freed.  A request for a file on the disk
reads its cluster.  Small metadata of fixed sizes stay as long as the file, or the cluster, is on the disk.
More than half of all bytes allocated must be clusters: the paper's Table 1.  Four days; at night the daemon
writes part of the cache out.
Ours: popularity by Zipf's law with exponent 0.8; sizes lognormal, median 2000 bytes, sigma 1.5 (mean 6 KiB,
as the paper's 27.6 GB in 4.8 million requests), at most 18 % of the cache (their 39.9 MB of 217.4 MB).

**editor** (their section 4): almost only objects below 2 KiB; the program visits file after file, and what it
keeps of each adds up, so that live memory grows to the end.
Ours: of a hundred requests ten are blocks of Lisp objects, 1020 bytes as in Emacs's alloc.c, which stay; 89
are small and die soon or after some files; one is a file's text, of some KiB.

**redis**: a real server's trace of the corpus, with its shutdown cut off at the last peak of live memory.
"""

import math
from collections import OrderedDict, deque
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np

from heaplab.cli._experiments import run as put
from heaplab.errors import HeaplabError
from heaplab.lab import Timeline, run
from heaplab.native.peers import find_peer
from heaplab.native.playing import FINISHED, play_space
from heaplab.native.stage import Stage
from heaplab.report import style
from heaplab.report.experiment import Claim, Experiment, Findings, Parameter, Table, Tick
from heaplab.traces import Op, Trace, open_trace
from heaplab.traces.event import Row, in_blocks
from heaplab.traces.trace import Provenance
from heaplab.traces.workload import NEVER, Constant, Empirical, Exponential, Kind, Lognormal, Workload

MIB = 1 << 20
#: bytes of what the proxy keeps of a file, and of a cluster, on the disk
FILE_RECORD, CLUSTER_RECORD = 96, 64
DAYS = 4
#: bytes: Emacs allocates its conses, symbols, markers and intervals in blocks of this size (src/alloc.c)
LISP_BLOCK = 1020
#: bytes that our buddy keeps in front of each payload
HEADER = 8

#: Bohra and Gabber, tables 3 and 4: fragmentation at the end, %; None: the heap overflowed
PUBLISHED = {
    "PhK/BSD": (30.5, 3.65),
    "Solaris default": (34.7, 3.65),
    "GNU": (41.8, 21.44),
    "modified buddy": (50.7, 29.82),
    "Doug Lea": (80.6, 2.69),
    "Quickfit": (138.7, 3.09),
    "CSRI": (258.8, 3.08),
    "Vmalloc": (527.7, 3.35),
    "Solaris 3X": (math.inf, 101.48),
}


class Proxy:
    """The cache of a web proxy: `requests` of files, as rows of a trace.

    cache: bytes.  documents: how many files there are.  cluster: bytes.  disk: of caches.  write: requests
    until a cluster is written.  night: the part of the cache that is given up each night.
    """

    def __init__(
        self, cache: int, documents: int, cluster: int, disk: int, write: int, night: float, seed: int
    ) -> None:
        self._random = np.random.default_rng(seed)
        self._cache, self._cluster, self._disk, self._write = cache, cluster, disk, write
        self._night = night
        sizes = np.exp(self._random.normal(math.log(2000), 1.5, documents))
        self._sizes: list[int] = np.clip(sizes, 128, 0.18 * cache).astype(int).tolist()
        popular = 1 / np.arange(1, documents + 1) ** 0.8
        self._popular = popular / popular.sum()
        self._rows: list[Row] = []
        self._spare: list[int] = []  # slots
        self._slots = 0
        self._bytes: dict[int, int] = {}  # of each block, by slot
        self._cached = 0
        #: what is cached, the least recently used first: ("file" or "cluster", number) to slot
        self._recent: OrderedDict[tuple[str, int], int] = OrderedDict()
        self._home: dict[int, int] = {}  # of files on the disk: their cluster
        self._records: dict[int, int] = {}  # of files: slots
        self._clusters: dict[int, tuple[int, list[int]]] = {}  # on the disk: slot of the record, files
        self._oldest: deque[int] = deque()  # clusters on the disk, by age
        self._writing: deque[tuple[int, int]] = deque()  # until which request, slot
        self._named = 0  # clusters so far

    def rows(self, requests: int) -> list[Row]:
        """Serve so many requests; return the events."""
        wanted = self._random.choice(len(self._sizes), requests, p=self._popular).tolist()
        day = max(requests // DAYS, 1)
        for now, file in enumerate(wanted):
            while self._writing and self._writing[0][0] <= now:
                self._free(self._writing.popleft()[1])
            self._serve(file)
            self._shrink(self._cache, now)
            if now % day == day // 2:  # so that the trace ends by day, with a full cache
                self._shrink(int(self._cache * (1 - self._night)), now)
        return self._rows

    def _serve(self, file: int) -> None:
        if ("file", file) in self._recent:
            self._recent.move_to_end(("file", file))
        elif file not in self._home:
            self._records[file] = self._malloc(FILE_RECORD)
            self._cache_it(("file", file), self._sizes[file])
        elif ("cluster", self._home[file]) in self._recent:
            self._recent.move_to_end(("cluster", self._home[file]))
        else:
            self._cache_it(("cluster", self._home[file]), self._cluster)

    def _shrink(self, bound: int, now: int) -> None:
        """Write out, or drop, what was not used for the longest time, until `bound` bytes are cached."""
        while self._cached > bound and self._recent:
            key = next(iter(self._recent))
            if key[0] == "cluster":
                self._drop(key)
            else:
                self._pack(key[1], now)

    def _pack(self, first: int, now: int) -> None:
        """Pack a file, and others that were not used for long, into a cluster; a large file has several."""
        files, filled = [first], self._sizes[first]
        for kind, file in list(islice(self._recent, 1, 200)):
            if kind == "file" and filled + self._sizes[file] <= self._cluster:
                files.append(file)
                filled += self._sizes[file]
        for _ in range(-(-filled // self._cluster)):
            self._writing.append((now + self._write, self._malloc(self._cluster)))
        number, self._named = self._named, self._named + 1
        self._clusters[number] = self._malloc(CLUSTER_RECORD), files
        self._oldest.append(number)
        for file in files:
            self._home[file] = number
            self._drop(("file", file))
        if len(self._oldest) * self._cluster > self._disk * self._cache:
            self._forget(self._oldest.popleft())

    def _forget(self, number: int) -> None:
        """The disk is full: its oldest cluster is overwritten."""
        record, files = self._clusters.pop(number)
        self._free(record)
        for file in files:
            del self._home[file]
            self._free(self._records.pop(file))
        if ("cluster", number) in self._recent:
            self._drop(("cluster", number))

    def _cache_it(self, key: tuple[str, int], size: int) -> None:
        self._recent[key] = self._malloc(size)
        self._cached += size

    def _drop(self, key: tuple[str, int]) -> None:
        slot = self._recent.pop(key)
        self._cached -= self._bytes[slot]
        self._free(slot)

    def _malloc(self, size: int) -> int:
        slot = self._spare.pop() if self._spare else self._slots
        self._slots = max(self._slots, slot + 1)
        self._bytes[slot] = size
        self._rows.append((Op.MALLOC, slot, size, 0, 0, 0, 0))
        return slot

    def _free(self, slot: int) -> None:
        self._spare.append(slot)
        self._rows.append((Op.FREE, slot, 0, 0, 0, 0, 0))


def proxy(requests: int, cache: int, cluster: int, night: float, seed: int) -> Trace:
    """Return the trace of a proxy with a cache of so many bytes."""
    served = Proxy(cache, int(0.75 * requests), cluster, 8, 20, night, seed)
    return Trace.of_blocks(in_blocks(served.rows(requests)), "proxy")


def editor(events: int, seed: int, lisp: int = LISP_BLOCK) -> Trace:
    """Return the trace of an editor that visits file after file; lisp: bytes of a block of Lisp objects."""
    small = Empirical((16, 24, 32, 48, 64, 96, 128, 256, 512, 1024), (30, 20, 16, 10, 8, 6, 4, 3, 2, 1))
    kinds = (
        Kind(10, Constant(lisp), NEVER),
        Kind(60, small, Exponential(30)),
        Kind(29, small, Exponential(1500)),
        Kind(1, Lognormal(8192, 1.0), Exponential(200)),
    )
    return Workload(events, kinds=kinds, name="editor").trace(seed)


def without_shutdown(trace: Trace) -> Trace:
    """Return the events up to the peak of live memory, all processes that there were by then included."""
    until = trace.header.peak_index + 1

    def blocks() -> Iterator[Any]:
        left = until
        for block in trace:
            yield block[:left]
            left -= min(left, len(block))
            if not left:
                return

    return Trace.lazy(blocks, Provenance(trace.header.name))


@dataclass(frozen=True)
class Heap:
    """What a run came to.  course: event, live, heap over time; outcome: why it ended, "" for the end."""

    trace: str
    allocator: str
    course: Timeline
    outcome: str = ""

    @property
    def fragmentation(self) -> float:
        """100 (heap / live - 1), at the end; infinite where there was no more memory."""
        return math.inf if self.outcome else 100 * (self.course.heap[-1] / self.course.live[-1] - 1)

    @property
    def growth(self) -> float:
        """The heap at the end over the heap after half of the events."""
        middle = self.course.heap[int(np.searchsorted(self.course.event, self.course.event[-1] / 2))]
        return self.course.heap[-1] / middle


def played(trace: Trace, allocator: str, seed: int) -> Heap:
    """Play a trace on a design."""
    found = run(trace, allocator, payload=False, seed=seed)
    return Heap(trace.header.name, allocator, found.timeline, found.reason)


def played_natively(trace: Trace, allocator: str) -> Heap:
    """Play a trace on a real allocator.

    Raises: HeaplabError where it is not installed, or nothing can be played.
    """
    with closing(Stage(trace)) as stage:
        space = play_space(stage, find_peer(allocator))
    course = Timeline(space.event, space.live, space.heap, space.resident)
    return Heap(
        trace.header.name, allocator, course, "" if space.end.outcome == FINISHED else space.end.reason
    )


@dataclass(frozen=True)
class Result:
    """An allocator on a trace: means of the seeds."""

    trace: str
    allocator: str
    fragmentation: float
    growth: float
    first: Heap


@dataclass(frozen=True)
class Fits:
    """Our buddy on requests that its header leaves within a power of two."""

    proxy: Heap
    editor: Heap


def measure(
    *,
    requests: int,
    cache: float,
    cluster: int,
    night: float,
    events: int,
    designs: tuple[str, ...],
    programs: tuple[str, ...],
    native: tuple[str, ...],
    repeats: int,
    seed: int,
    tick: Tick,
) -> Findings:
    """Make the traces; play them on every design."""
    room = int(cache * MIB)
    seeds = range(seed, seed + repeats)
    traces = {
        "proxy": [proxy(requests, room, cluster, night, each) for each in seeds],
        "editor": [editor(events, each) for each in seeds],
        **{name: [without_shutdown(open_trace(name))] for name in programs if name},
    }
    real = [name for name in native if name]
    rows: list[Result] = []
    remarks: list[str] = []
    total = len(traces) * (len(designs) + len(real)) + 1
    for name, its in traces.items():
        for design in designs:
            found = [played(trace, design, seed) for trace in its]
            rows.append(_row(name, design, found))
            tick(len(rows), total, f"{name} on {design}")
        for allocator in real:
            try:
                rows.append(_row(name, allocator, [played_natively(its[0], allocator)]))
            except HeaplabError as error:
                remarks.append(f"{allocator} was left out of {name}: {error}")
            tick(len(rows), total, f"{name} on {allocator}")
    # what a buddy's own header costs: everything large is as many bytes smaller
    fits = Fits(
        played(proxy(requests, room, cluster - HEADER, night, seed), "buddy", seed),
        played(editor(events, seed, LISP_BLOCK - HEADER), "buddy", seed),
    )
    tick(total, total, "buddy's header")
    share = cluster_share(traces["proxy"][0], cluster)
    remarks.insert(
        0,
        "Fragmentation falls as the cache grows against what a design takes at once (slab: 256 KiB, spans: "
        "1 MiB); the paper's cache had 217 MB.",
    )
    return Findings(tables(rows, fits), claims(rows, fits, share, designs), remarks, rows)


def _row(trace: str, allocator: str, found: Sequence[Heap]) -> Result:
    return Result(
        trace,
        allocator,
        float(np.mean([each.fragmentation for each in found])),
        float(np.mean([each.growth for each in found])),
        found[0],
    )


def cluster_share(trace: Trace, cluster: int) -> float:
    """Return which part of the bytes allocated are clusters."""
    sizes = np.concatenate([block.size for block in trace])
    return float(sizes[sizes == cluster].sum() / sizes.sum())


def ranks(values: Sequence[float]) -> Any:
    """Return the ranks of values, equal ones sharing the mean of theirs.

    >>> ranks([30.0, 10.0, 10.0]).tolist()
    [3.0, 1.5, 1.5]
    """
    order = np.asarray(values)
    return np.array([(order < each).sum() + ((order == each).sum() + 1) / 2 for each in order])


def correlation(one: Sequence[float], other: Sequence[float]) -> float:
    """Return Spearman's rank correlation: 1 for the same ranking, -1 for the opposite one.

    >>> correlation([1, 2, 3], [10, 20, math.inf])
    1.0
    """
    return float(np.round(np.corrcoef(ranks(one), ranks(other))[0, 1], 12))


def tables(rows: Sequence[Result], fits: Fits) -> list[Table]:
    """Ours, by trace; and theirs."""
    made = []
    for name in dict.fromkeys(row.trace for row in rows):
        its = sorted((row for row in rows if row.trace == name), key=lambda row: row.fragmentation)
        lines: list[list[str | float]] = [
            [row.allocator, row.fragmentation, row.growth, row.first.course.live[-1] / MIB] for row in its
        ]
        if control := {"proxy": fits.proxy, "editor": fits.editor}.get(name):
            live = control.course.live[-1] / MIB
            lines.append(
                [f"buddy, large ones {HEADER} bytes less", control.fragmentation, control.growth, live]
            )
        made.append(
            Table(
                name,
                ["allocator", "fragmentation, %", "heap at the end / at half", "live at the end, MiB"],
                lines,
            )
        )
    published: list[list[str | float]] = [
        [name, "overflow" if math.isinf(one) else one, other] for name, (one, other) in PUBLISHED.items()
    ]
    made.append(
        Table(
            "Bohra and Gabber, tables 3 and 4: fragmentation, %",
            ["malloc", "Hummingbird", "Emacs"],
            published,
        )
    )
    return made


def claims(rows: Sequence[Result], fits: Fits, share: float, designs: Sequence[str]) -> list[Claim]:
    """Form and ranking."""
    of = {
        name: {row.allocator: row for row in rows if row.trace == name and row.allocator in designs}
        for name in ("proxy", "editor")
    }
    proxies, editors = of["proxy"], of["editor"]
    best, worst = (pick(proxies.values(), key=lambda row: row.fragmentation) for pick in (min, max))
    low, high = (pick(editors.values(), key=lambda row: row.fragmentation) for pick in (min, max))
    both = [(proxies[name].fragmentation, editors[name].fragmentation) for name in designs]
    made = [
        Claim.shape(
            "Hummingbird: most of the bytes allocated are clusters",
            "more than half",
            f"{100 * share:.0f} %",
            holds=share > 0.5,
            rule="above 50 %",
        ),
        Claim(
            "Hummingbird: fragmentation of the best malloc, %",
            "30.5",
            f"{best.fragmentation:.1f} ({short(best.allocator)})",
            holds=15 <= best.fragmentation <= 65,
            rule="15 to 65: tens, not units; half of it to twice",
            numbers=(30.5, best.fragmentation),
        ),
        Claim.shape(
            "Hummingbird: the worst malloc grows until memory overflows, and most grow all the time",
            "overflow; the last but one 527.7 %",
            f"{worst.fragmentation:.0f} % ({short(worst.allocator)}), {worst.growth:.2f} times its heap at "
            "half",
            holds=worst.fragmentation > 300 and worst.growth > 1.1,
            rule="above 300 %, and still growing by 10 % in the second half",
        ),
        Claim(
            "Emacs: fragmentation of the best malloc, %",
            "2.69",
            f"{low.fragmentation:.1f} ({short(low.allocator)})",
            holds=low.fragmentation <= 12,
            rule="12 at most: so little that it is headers, rounding, and what a design takes at once",
            numbers=(2.69, low.fragmentation),
        ),
        Claim.shape(
            "Emacs: the worst malloc takes much more than the best",
            "101.48 %, 38 times the best",
            f"{high.fragmentation:.0f} % ({short(high.allocator)}), "
            f"{high.fragmentation / low.fragmentation:.0f} times the best",
            holds=high.fragmentation > 5 * low.fragmentation,
            rule="five times the best, or more",
        ),
        Claim.shape(
            "the ranking on one program says little of the other: rank correlation of the two",
            f"{correlation(*zip(*PUBLISHED.values(), strict=True)):.2f}",
            f"{correlation(*zip(*both, strict=True)):.2f}",
            holds=correlation(*zip(*both, strict=True)) < 0.8,
            rule="below 0.8",
        ),
    ]
    if {"slab", "buddy", "rbtree"} <= proxies.keys():
        made += _like_theirs(proxies, editors, fits)
    return made


def _like_theirs(proxies: dict[str, Result], editors: dict[str, Result], fits: Fits) -> list[Claim]:
    """Designs of the kind of one of theirs: slab (PhK's pages of one size), buddy, best fit (Lea)."""
    slab, tree = proxies["slab"].fragmentation, proxies["rbtree"].fragmentation
    buddy = fits.proxy.fragmentation
    return [
        Claim.shape(
            "Hummingbird: pages of one size (PhK) are better than buddy and than best fit (Doug Lea)",
            "30.5, 50.7, 80.6 %",
            f"slab {slab:.1f}, buddy {buddy:.1f} (clusters {HEADER} bytes smaller), rbtree {tree:.1f} %",
            holds=slab < min(buddy, tree),
            rule="slab is the best of the three",
        ),
        Claim.near(
            "Hummingbird: modified buddy, %",
            50.7,
            proxies["buddy"].fragmentation,
            within=0.5,
            disagrees=f"our buddy keeps {HEADER} bytes in front of each payload, so a cluster of 32 KiB "
            f"takes 64 KiB; with clusters that are {HEADER} bytes smaller it has {buddy:.1f} %",
        ),
        Claim.near(
            "Emacs: modified buddy, %",
            29.82,
            editors["buddy"].fragmentation,
            within=0.5,
            disagrees=f"the same: {LISP_BLOCK} bytes and a header take 2048; {HEADER} bytes smaller they "
            f"take 1024, and it has {fits.editor.fragmentation:.1f} %.  The published figure lies between: "
            "so do sizes of a real Emacs, which we do not know in full",
        ),
    ]


def short(allocator: str) -> str:
    """Return an allocator's text for a legend."""
    return allocator.removeprefix("freelist:").replace("fit=", "").replace(":order=", ", ")


def draw(findings: Findings) -> Any:
    """Left: the proxy's heaps over time; right: both programs, theirs and ours."""
    rows: Sequence[Result] = findings.drawn
    figure = style.figure(7.2, 3.6)
    course, ranking = figure.subplots(1, 2)
    its = sorted((row for row in rows if row.trace == "proxy"), key=lambda row: -row.fragmentation)
    names = sorted({row.allocator for row in rows})
    for row in its:
        colour, _ = style.SERIES[names.index(row.allocator) % len(style.SERIES)]
        line = row.first.course
        whole = line.event[-1]
        course.plot(
            [event / whole * DAYS for event in line.event],
            [heap / MIB for heap in line.heap],
            color=colour,
            linewidth=1.2,
            linestyle=_dash(names, row.allocator),
            label=short(row.allocator),
        )
    line = its[0].first.course
    course.fill_between(
        [event / line.event[-1] * DAYS for event in line.event],
        [live / MIB for live in line.live],
        color=style.LIGHT,
    )
    course.text(0.15, 1.2, "live", fontsize=7.5)
    course.set_yscale("log")
    style.log_counts(course.yaxis)
    course.set(xlabel="days", ylabel="heap, MiB", xlim=(0, DAYS), ylim=(1, None))
    course.set_title("The proxy's heap", fontsize=9)
    course.legend(fontsize=6.5, frameon=False, loc="lower right", ncols=2, bbox_to_anchor=(1, 0.02))
    top = 2000.0
    for name, values in PUBLISHED.items():
        ranking.plot(
            range(2), [min(each, top) for each in values], "o-", color=style.GREY, markersize=3, linewidth=0.8
        )
        if name in ("PhK/BSD", "modified buddy", "Doug Lea", "Solaris 3X"):
            ranking.annotate(
                name, (1, values[1]), textcoords="offset points", xytext=(4, -2), fontsize=6, color=style.GREY
            )
    for allocator in names:
        dash = _dash(names, allocator)
        colour, marker = style.SERIES[names.index(allocator) % len(style.SERIES)]
        pair = [
            row.fragmentation
            for name in ("proxy", "editor")
            for row in rows
            if row.trace == name and row.allocator == allocator
        ]
        ranking.plot(
            [2.2, 3.2],
            [min(each, top) for each in pair],
            f"{marker}{dash}",
            color=colour,
            markersize=4,
            linewidth=1.2,
        )
    ranking.set_yscale("log")
    ranking.set_xticks([0, 1, 2.2, 3.2], ["Hummingbird", "Emacs", "proxy", "editor"], fontsize=7.5)
    ranking.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
    ranking.set(ylabel="fragmentation at the end, %", xlim=(-0.3, 3.5))
    ranking.set_title("Published (grey), and ours as on the left", fontsize=9)
    for axes in (course, ranking):
        style.plain(axes)
        axes.xaxis.label.set_size(8.5)
        axes.yaxis.label.set_size(8.5)
    return figure


def _dash(names: Sequence[str], allocator: str) -> str:
    """How its line is drawn: there are more allocators than colours."""
    return "-" if names.index(allocator) < len(style.SERIES) else "--"


EXPERIMENT = Experiment(
    question="Are mallocs free of fragmentation, in a server that runs for days?",
    source="Bohra and Gabber, Are Mallocs Free of Fragmentation?, USENIX Annual Technical Conference, "
    "FREENIX track (2001), tables 3 and 4",
    parameters=(
        Parameter("requests", 40_000, 8000, "That the proxy serves in its four days.", least=100),
        Parameter("cache", 8.0, 3.0, "Bytes that the proxy keeps in memory, in MiB.", least=0.25),
        Parameter("cluster", 32768, 32768, "Bytes of a cluster.", least=1024),
        Parameter("night", 0.2, 0.2, "The part of the cache that is written out each night.", least=0),
        Parameter("events", 200_000, 40_000, "Of the editor.", least=1000),
        Parameter(
            "designs",
            (
                *("slab", "spans", "buddy", "rbtree", "binheap"),
                *("freelist:fit=first:order=address", "freelist:fit=next", "freelist:fit=first:order=lifo"),
            ),
            ("slab", "buddy", "rbtree", "freelist:fit=first:order=lifo"),
            "Designs.",
        ),
        Parameter("programs", ("redis",), ("",), "Traces of real servers."),
        Parameter("native", ("glibc",), ("",), "Real allocators beside them; '' for none."),
        Parameter("repeats", 2, 1, "Seeds of the made-up traces; figures are means.", least=1),
    ),
    measure=measure,
    draw=draw,
)

if __name__ == "__main__":
    put(EXPERIMENT)
