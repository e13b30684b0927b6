"""How many pages could share a frame, because their live blocks are at different offsets?

    python experiments/meshing.py                          a cache like redis, the corpus; slab and spans
    python experiments/meshing.py --values 3000 --traces lua

**Meshing.** Two pages of one size class whose live blocks are at different offsets can be copied into one
frame; both virtual pages are then mapped to it, and no pointer changes. Mesh (Powers, Tench, Berger,
McGregor, PLDI 2019) does so behind the program's back, and needs 16 % less memory for Firefox and 39 % less
for redis.

**How pairs are found.** Which pages to pair is a matching in a graph: pages are nodes, pages that can be
meshed have an edge. SplitMesher, Mesh's algorithm, puts the pages of a class into random order, halves
them, and compares each page of the one half with t of the other. Its authors prove (lemma 5.3) that it
finds n (1 - exp(-2 k)) / 4 pairs of n pages at least, with high probability, if t = k / q, where q is the
share of pairs that can be meshed. *Greedy* takes for each page, the fullest first, the fullest page that it
can be meshed with: it pairs at least half as many as the best matching. No matching is larger than *bound*:
it may pair any two whose blocks have room in one page. Mesh goes on with what it has meshed, so a frame may
serve many pages: *in passes*.

**Offsets.** Mesh puts each block at a random free offset of its page, so that pages can be meshed at all.
The designs of heaplab do not: they take the lowest, or the one freed last. *Random offsets* are the same
pages, each with as many live blocks, at offsets drawn anew.

**The cache.** Like the benchmark that Mesh was measured with: 700,000 values of 240 bytes, then 170,000 of
492, in a redis with room for 100 MB, a tenth of it here. When it is full it evicts the oldest of five
entries that it draws. Each entry also has a key, a node and an object. The heap is looked at when the last
value is in. In *the pattern* each sixteenth of many equal blocks stays, so that each page has one, all at
one offset. Programs are looked at when live bytes are lowest after the peak, at most 98 % through the
trace.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import comb, exp
from typing import Any

import numpy as np

from heaplab import allocators
from heaplab.cli._experiments import run
from heaplab.errors import HeaplabError
from heaplab.kernel import Kernel
from heaplab.lab import RAM
from heaplab.lab.trail import Trail
from heaplab.report import style
from heaplab.report.experiment import Claim, Experiment, Findings, Parameter, Table, Tick
from heaplab.traces import Event, Op, Trace, corpus, open_trace
from heaplab.traces.lives import Lives, lives

PAGE = 4096
PASSES = 16
CACHE, PATTERN = "cache", "pattern"
#: bytes of a cache's entry: node, object, key
ENTRY = (24, 16, 48)
VALUES = (240, 492)


@dataclass(frozen=True)
class Class:
    """The pages of one size class: the offsets of each page's live blocks as bits; room for `slots`."""

    size: int
    slots: int
    pages: tuple[int, ...]

    @property
    def meshable(self) -> float:
        """q: the share of the pairs of pages that can be meshed; of at most 400 pages, evenly chosen."""
        pages = self.pages[:: len(self.pages) // 400 + 1]
        pairs = len(pages) * (len(pages) - 1) // 2
        apart = sum(not one & other for at, one in enumerate(pages) for other in pages[:at])
        return apart / pairs if pairs else 0.0


@dataclass(frozen=True)
class Heap:
    """One heap at one moment.

    resident: pages that hold a live block.  classes: of the pages that hold blocks of one class alone.
    """

    of: str
    design: str
    resident: int
    classes: tuple[Class, ...]


@dataclass(frozen=True)
class Meshed:
    """Pages saved in a heap.

    drawn: at random offsets.  split: by SplitMesher in one pass; greedy: by greedy; bound: no more than this.
    again: by SplitMesher in passes.  lemma: what SplitMesher's authors prove of one pass.
    """

    heap: Heap
    drawn: bool
    split: int
    again: int
    lemma: float
    greedy: int
    bound: int

    def share(self, pages: float) -> float:
        """Pages in per cent of the resident ones."""
        return 100 * pages / self.heap.resident if self.heap.resident else 0.0


# ---- heaps ----


def cache(values: int, seed: int) -> Trace:
    """Set so many small values, then 17 large ones for 70 small ones.

    The cache has room for 150 bytes of each small one: 100 MB for 700,000, as in Mesh's benchmark.
    """
    rng = np.random.default_rng(seed)
    made: list[Event] = []
    free: list[int] = []
    entries: list[tuple[int, list[int], int]] = []  # age, slots, bytes
    slots = filled = 0
    room = 150 * values
    for age in range(values + 17 * values // 70):
        size = VALUES[age >= values]
        need = size + sum(ENTRY)
        while filled + need > room:
            drawn = rng.integers(0, len(entries), 5)  # redis draws five, and evicts the one idle for longest
            oldest = int(min(drawn, key=lambda at: entries[at][0]))
            entries[oldest], entries[-1] = entries[-1], entries[oldest]
            _, blocks, gone = entries.pop()
            filled -= gone
            made += [Event(Op.FREE, slot) for slot in blocks]
            free += blocks
        taken = []
        for part in (*ENTRY, size):
            if not free:
                free.append(slots)
                slots += 1
            taken.append(free.pop())
            made.append(Event(Op.MALLOC, taken[-1], part))
        entries.append((age, taken, need))
        filled += need
    return Trace.of(made, CACHE)


def pattern(values: int) -> Trace:
    """A tenth as many values of 256 bytes, of which each sixteenth stays: one a page, at the same offset."""
    count = values // 10
    made = [Event(Op.MALLOC, slot, 256) for slot in range(count)]
    return Trace.of([*made, *(Event(Op.FREE, slot) for slot in range(count) if slot % 16)], PATTERN)


def moment(trace: Trace, rows: Lives) -> int:
    """After how many events the heap is looked at."""
    events = trace.header.events
    if trace.header.name in (CACHE, PATTERN):
        return events
    change = np.zeros(events + 2)
    np.add.at(change, rows.born.astype(int) + 1, rows.size.astype(float))
    np.subtract.at(change, np.minimum(rows.died.astype(int), events) + 1, rows.size.astype(float))
    live = np.cumsum(change)[: events + 1]
    peak = int(live.argmax())
    return peak + int(live[peak : max(int(0.98 * events), peak + 1)].argmin())


def heap_of(trace: Trace, design: str, seed: int) -> Heap:
    """Play a trace of one process, and return its pages at the moment that is looked at."""
    rows = lives(trace)
    until = moment(trace, rows)
    trail = Trail(trace, allocators.parse(design, "c"), Kernel(ram=RAM, seed=seed), payload=False)
    trail.advance(until)
    if trail.end is not None:
        raise HeaplabError(f"{design}: {trail.end.reason}")
    found = trail.places(rows)
    trail.close()
    live = rows.live(until)
    start, size = found.start[live].astype(np.int64), found.span[live].astype(np.int64)
    first, last = start // PAGE, (start + size - 1) // PAGE
    crosses = first != last
    resident = np.unique(np.concatenate([first, last, *_between(first, last)]))
    mixed = np.unique(np.concatenate((first[crosses], last[crosses])))
    inside = ~np.isin(first, mixed)
    pages: dict[int, dict[int, int]] = {}
    for page, offset, block in zip(
        first[inside].tolist(), (start[inside] % PAGE).tolist(), size[inside].tolist(), strict=True
    ):
        of_size = pages.setdefault(block, {})
        of_size[page] = of_size.get(page, 0) | 1 << offset // 16
    classes = []
    for block, its in sorted(pages.items()):
        several = [
            page for other, theirs in pages.items() if other != block for page in its if page in theirs
        ]
        alone = tuple(its[page] for page in sorted(its.keys() - set(several)))
        classes.append(Class(block, PAGE // block, alone))
    return Heap(trace.header.name, design, len(resident), tuple(each for each in classes if each.pages))


def _between(first: Any, last: Any) -> Iterator[Any]:
    """The pages inside blocks that lie in more than two."""
    for low, high in zip(first[last > first + 1].tolist(), last[last > first + 1].tolist(), strict=True):
        yield np.arange(low + 1, high)


def at_random(its: Class, rng: np.random.Generator) -> Class:
    """The same pages with as many live blocks, at offsets drawn anew from those of the class."""
    offsets = [1 << slot * its.size // 16 for slot in range(its.slots)]
    drawn = [
        sum(offsets[at] for at in rng.permutation(its.slots)[: page.bit_count()].tolist())
        for page in its.pages
    ]
    return Class(its.size, its.slots, tuple(drawn))


# ---- matchings ----


def split_mesher(its: Class, probes: int, rng: np.random.Generator) -> tuple[int, Class]:
    """Return how many pairs SplitMesher finds with so many probes a page, and the pages afterwards."""
    order = [its.pages[at] for at in rng.permutation(len(its.pages)).tolist()]
    half = len(order) // 2
    left: list[int | None] = list(order[:half])
    right: list[int | None] = list(order[half : 2 * half])
    meshed = order[2 * half :]
    pairs = 0
    for probe in range(min(probes, half)):
        for at in range(half):
            one, other = left[at], right[(at + probe) % half]
            if one is not None and other is not None and not one & other:
                left[at] = right[(at + probe) % half] = None
                meshed.append(one | other)
                pairs += 1
    meshed += [page for page in (*left, *right) if page is not None]
    return pairs, Class(its.size, its.slots, tuple(meshed))


def in_passes(its: Class, probes: int, rng: np.random.Generator) -> tuple[int, int]:
    """Return how many pages SplitMesher saves in one pass, and in up to PASSES, while they find something."""
    first, its = split_mesher(its, probes, rng)
    saved = found = first
    for _ in range(PASSES - 1):
        if not found:
            break
        found, its = split_mesher(its, probes, rng)
        saved += found
    return first, saved


def greedy(its: Class) -> int:
    """Return how many pairs are found by taking for each page, the fullest first, the fullest that it can be
    meshed with."""
    left = sorted(its.pages, key=int.bit_count, reverse=True)
    pairs = 0
    while len(left) > 1:
        page = left.pop(0)
        room = its.slots - page.bit_count()
        for at, other in enumerate(left):
            if other.bit_count() <= room and not page & other:
                del left[at]
                pairs += 1
                break
    return pairs


def bound(its: Class) -> int:
    """Return how many pairs there would be, if all pages could be meshed whose blocks have room in one."""
    counts = sorted(page.bit_count() for page in its.pages)
    low, high, pairs = 0, len(counts) - 1, 0
    while low < high:
        if counts[low] + counts[high] <= its.slots:
            low += 1
            pairs += 1
        high -= 1
    return pairs


def lemma(its: Class, probes: int) -> float:
    """Return how many pairs SplitMesher's authors prove, at least, with high probability."""
    return len(its.pages) * (1 - exp(-2 * probes * its.meshable)) / 4


def mesh(heap: Heap, *, drawn: bool, probes: int, seed: int) -> Meshed:
    """Mesh each class of a heap."""
    rng = np.random.default_rng(seed)
    classes = [at_random(each, rng) for each in heap.classes] if drawn else heap.classes
    return Meshed(
        heap,
        drawn,
        *map(sum, zip(*(in_passes(each, probes, rng) for each in classes), strict=True)),
        sum(lemma(each, probes) for each in classes),
        sum(greedy(each) for each in classes),
        sum(bound(each) for each in classes),
    )


def measure(
    *, values: int, traces: tuple[str, ...], designs: tuple[str, ...], probes: int, seed: int, tick: Tick
) -> Findings:
    """Mesh the cache and the programs on each design."""
    names = [name for name in (corpus.names() if traces == ("corpus",) else traces) if name]
    played = [
        cache(values, seed),
        pattern(values),
        *(trace for name in names if (trace := open_trace(name)).header.processes == 1),
    ]
    found, total = [], len(played) * len(designs)
    for trace in played:
        for design in designs:
            tick(len(found) // 2, total, f"{trace.header.name} on {design}")
            heap = heap_of(trace, design, seed)
            found += [mesh(heap, drawn=drawn, probes=probes, seed=seed) for drawn in (False, True)]
    tick(total, total)
    return Findings(tables(found), claims(found), remarks(found), found)


def tables(found: Sequence[Meshed]) -> list[Table]:
    """A line a heap and way of offsets; and the classes of the cache."""
    heads = [
        "offsets",
        "pages",
        "of one class",
        "SplitMesher",
        "lemma",
        "greedy",
        "bound",
        "in passes",
        "saved, %",
    ]
    rows = [
        [
            each.heap.of,
            each.heap.design,
            "random" if each.drawn else "as they are",
            each.heap.resident,
            sum(len(its.pages) for its in each.heap.classes),
            each.split,
            each.lemma,
            each.greedy,
            each.bound,
            each.again,
            each.share(each.again),
        ]
        for each in found
    ]
    heaps = {each.heap.design: each.heap for each in found if each.heap.of == CACHE}
    classes = [
        [
            heap.design,
            its.size,
            len(its.pages),
            100 * sum(page.bit_count() for page in its.pages) / (its.slots * len(its.pages)),
            its.meshable,
        ]
        for heap in heaps.values()
        for its in heap.classes
        if len(its.pages) > 1
    ]
    return [
        Table("Pages saved by meshing", ["heap", "design", *heads], rows),
        Table(
            "The cache's size classes",
            ["design", "block, bytes", "pages", "blocks live, %", "pairs that mesh: q"],
            classes,
        ),
    ]


def claims(found: Sequence[Meshed]) -> list[Claim]:
    """What Mesh's authors published, and ours."""
    caches = [each for each in found if each.heap.of == CACHE]
    regular = [each for each in found if each.heap.of == PATTERN]
    drawn = [each for each in caches if each.drawn]
    best = max(drawn, key=lambda each: each.share(each.again))
    made = [
        Claim.near(
            "a cache like redis, random offsets: memory saved by SplitMesher in passes, % "
            f"({best.heap.design}, the better design)",
            39,
            best.share(best.again),
            within=0.3,
        ),
        Claim.shape(
            "blocks that are freed in a pattern need random offsets",
            "regular allocation leaves pages that cannot be meshed",
            "the pattern: "
            + "; ".join(
                f"{each.heap.design} {each.share(each.again):.0f} % "
                f"{'at random' if each.drawn else 'as it is'}"
                for each in regular
            ),
            holds=all(each.share(each.again) > 50 if each.drawn else not each.again for each in regular),
            rule="nothing as it is, more than half at random offsets",
        ),
        Claim.shape(
            "lemma 5.3: SplitMesher finds n (1 - exp(-2 k)) / 4 pairs at least",
            f"{sum(each.lemma for each in drawn):.0f} pages",
            f"{sum(each.split for each in drawn)} pages",
            holds=all(each.split >= 0.9 * each.lemma for each in drawn),
            rule="nine tenths of it in each cache at random offsets: it is a limit, for many pages",
        ),
        Claim.shape(
            "SplitMesher finds at least half as many pairs as there are",
            "a half",
            f"{min(_part(each) for each in drawn):.2f} of what greedy finds",
            holds=all(_part(each) >= 0.5 for each in drawn),
            rule="half of greedy's pairs in each cache at random offsets",
        ),
    ]
    return made


def _part(each: Meshed) -> float:
    return each.split / each.greedy if each.greedy else 1.0


def remarks(found: Sequence[Meshed]) -> list[str]:
    """Programs, and what q should be."""
    programs = [each for each in found if each.heap.of not in (CACHE, PATTERN)]
    said = []
    if programs:
        means = [
            float(np.mean([each.share(each.again) for each in programs if each.drawn == drawn]))
            for drawn in (False, True)
        ]
        said.append(
            f"On {len({each.heap.of for each in programs})} programs after their peak meshing would save "
            f"{means[0]:.1f} % of the pages as they are, {means[1]:.1f} % at random offsets, on the average."
        )
    said.append(
        "In the cache random offsets win nothing: it evicts entries that it draws, so its live blocks are at "
        "random offsets as they are."
    )
    for heap in dict.fromkeys(each.heap for each in found if each.heap.of == CACHE):
        full = sum(page.bit_count() == its.slots for its in heap.classes for page in its.pages)
        said.append(
            f"Of the cache's {heap.resident:,} pages on {heap.design} {100 * full / heap.resident:.0f} % are "
            "full, mostly of large values, and cannot be meshed at all."
        )
    half = [
        its for each in found if each.heap.of == CACHE for its in each.heap.classes if its.size in (240, 256)
    ]
    for its in half[:1]:
        live = round(sum(page.bit_count() for page in its.pages) / len(its.pages))
        chance = comb(its.slots - live, live) / comb(its.slots, live)  # comb is 0 where there is no room
        said.append(
            f"Two pages with {live} of {its.slots} blocks live can be meshed with probability {chance:.2g} "
            f"at random offsets: meshing pays when pages are mostly empty, or have few slots."
        )
    return said


def draw(findings: Findings) -> Any:
    """Bars: pages saved, by heap and design; as they are and at random offsets; the bound as a line."""
    found: Sequence[Meshed] = findings.drawn
    designs = list(dict.fromkeys(each.heap.design for each in found))
    heaps = list(dict.fromkeys(each.heap.of for each in found))
    figure = style.figure(7.2, 3.0)
    axes = figure.subplots()
    width = 0.8 / (2 * len(designs))
    for each in found:
        at = designs.index(each.heap.design)
        place = heaps.index(each.heap.of) - 0.4 + width * (2 * at + each.drawn + 0.5)
        colour = style.SERIES[at][0]
        label = f"{each.heap.design}, {'random offsets' if each.drawn else 'as it is'}"
        axes.bar(
            place,
            each.share(each.again),
            width * 0.9,
            color=colour if each.drawn else style.LIGHT,
            edgecolor=colour,
            linewidth=0.9,
            label=label if each.heap.of == heaps[0] else None,
        )
        axes.plot(
            [place - width * 0.4, place + width * 0.4],
            [each.share(each.split)] * 2,
            color=style.BLACK,
            linewidth=1,
            label="in one pass" if each is found[0] else None,
        )
    for value, what in ((39, "Mesh: redis"), (16, "Mesh: Firefox")):
        axes.axhline(value, color=style.GREY, linewidth=0.9, linestyle="--", zorder=0)
        axes.annotate(what, (len(heaps) - 0.42, value + 0.7), fontsize=7, color=style.BLACK, ha="right")
    axes.set_xticks(range(len(heaps)), heaps)
    axes.set(ylabel="pages saved by meshing, %", xlim=(-0.6, len(heaps) - 0.4), ylim=(0, None))
    style.plain(axes)
    axes.yaxis.label.set_size(8.5)
    figure.legend(fontsize=7, frameon=False, loc="outside lower center", ncols=5)
    return figure


EXPERIMENT = Experiment(
    question="How many pages could share a frame, because their live blocks are at different offsets?",
    source="Powers, Tench, Berger, McGregor, Mesh: Compacting Memory Management for C/C++ Applications, "
    "PLDI 2019",
    parameters=(
        Parameter(
            "values",
            70_000,
            4000,
            "Small values that are set in the cache; it has room for 150 bytes of each.",
            least=100,
        ),
        Parameter("traces", ("corpus",), ("",), "Traces of one process; corpus: all such that are bundled."),
        Parameter("designs", ("slab", "spans"), ("slab", "spans"), "Designs with size classes."),
        Parameter("probes", 64, 64, "t: how many pages SplitMesher compares each page with.", least=1),
    ),
    measure=measure,
    draw=draw,
)

if __name__ == "__main__":
    run(EXPERIMENT)
