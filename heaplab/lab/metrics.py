"""What the laboratory measures, each quantity defined once.

| metric | unit | definition |
|--------|------|------------|
| live | bytes | payload requested and not yet freed, all processes of the trace together |
| heap | bytes | address space that brk and private anonymous mmap gave the processes (their VMAs) |
| resident | bytes | distinct anonymous frames in use; a frame that fork shares counts once |
| peak | | the most there ever was after an event |
| freed | | what is left when, after the last event, every live block is freed, by slot, on thread 0 |
| utilisation | ratio | peak live / peak heap |
| internal fragmentation | share of the heap | (blocks + metadata - live) / heap, at the peak of live |
| external fragmentation | share of the heap | (heap - blocks - metadata) / heap, at the same moment |
| excess | bytes | heap - live, at the same moment: see `Excess` for where it lies |
| attribution | bytes | where resident lies, at the same moment: see `lab.attribution` |
| free blocks | count | blocks that a later request can have, at a moment: see `FreeSpace` |
| used / live | ratio | Johnstone and Wilson's four: see `OverLive`; used is heap, or resident |
| operations | count | calls of the allocator: malloc and its kin, free, and the ends of threads |
| remote frees | count | frees and reallocs by another thread than last allocated or reallocated the block |
| faults | count | minor page faults, the payload's included |
| brk, mmap calls | count | system calls made by the processes; mmap and munmap together |
| mems per op | memory references | loads and stores of 1 to 8 bytes that the allocator makes in one call |
| lines per op | cache lines | distinct lines of 64 bytes that these touch, counted if asked for |
| ns per op | nanoseconds | processor time of a replay on the model, the payload's accesses included |
| native ns per op | nanoseconds | processor time of a replay without clocks, less one without allocator |
| p50 to p99.99 | nanoseconds | percentiles of a call's time, from a replay with a clock around each call |

The last two are of real allocators (`heaplab.native.play`); those have no mems, and no walk.  Of their memory
heap is what is private and writable, less what the program had before the allocator ran; resident is measured
where it may be at its peak, which leaves that too low by half a percent at most.

Blocks are those that a program has, headers included.  They, and metadata apart from them, are what the walk
over the heap shows; so internal and external fragmentation and live / heap add up to 1.  Bytes that an
allocator copies or clears in bulk (realloc, calloc) are no mems.  On the model no clock is read within the
replay: a pair of readings around each call costs as much as a fast allocator's call.
"""

import math
from collections.abc import Iterable
from dataclasses import astuple, dataclass
from typing import Any, Final, Self

import numpy as np
import numpy.typing as npt

from heaplab._core import lib

#: the shares of operations that a record says percentiles of
PERCENTILES: Final = {"p50": 0.5, "p99": 0.99, "p999": 0.999, "p9999": 0.9999}


def utilisation(peak_live: int, peak_heap: int) -> float | None:
    """Return peak live / peak heap, both in bytes; None without a heap.

    >>> utilisation(3 << 20, 4 << 20)
    0.75
    """
    return peak_live / peak_heap if peak_heap else None


@dataclass(frozen=True)
class Fragmentation:
    """Where the bytes of the heap are, at one moment.

    event: so many events were carried out.  at_peak: this is the peak of the live payload; if not, the run
    ended before it.  live, allocated, metadata, heap: bytes.  internal, external: shares of the heap, 0 to 1.

    >>> fragmentation = Fragmentation.of(
    ...     event=9, at_peak=True, live=600, allocated=680, metadata=20, heap=1000
    ... )
    >>> fragmentation.internal, fragmentation.external
    (0.1, 0.3)
    """

    event: int
    at_peak: bool
    live: int
    allocated: int
    metadata: int
    heap: int
    internal: float
    external: float

    @classmethod
    def of(
        cls, *, event: int, at_peak: bool, live: int, allocated: int, metadata: int, heap: int
    ) -> "Fragmentation":
        """Return the fragmentation of a heap of `heap` bytes."""
        whole, used = heap or 1, allocated + metadata
        internal, external = (used - live) / whole, (heap - used) / whole
        return cls(event, at_peak, live, allocated, metadata, heap, internal, external)


@dataclass(frozen=True)
class Excess:
    """Where the bytes of the heap lie that are no live payload, at one moment; exact.

    live, heap: bytes; heap - live, the excess, is the sum of the five that follow.
    internal: rounding, padding and headers, in the blocks that a program has.  metadata: the design's own,
    apart from the blocks.  All else is free space, by the page that it lies in.  unbacked: the page has no
    frame, so the space costs no memory.  vacant: the page has a frame, and neither blocks nor metadata: it
    could go back to the kernel.  pinned: the page holds a block or metadata, and stays as long as they do.
    sparse: what of pinned lies in pages that are more than half free.
    blocks: that a program has.  sparse_blocks: those that lie in such pages, at least with a byte.
    A page that two processes share is counted in both, as live payload is.

    >>> Excess.of(live=90, blocks=np.array([[4096, 4196]]), metadata=np.array([[8192, 11192]]),
    ...     heap=np.array([[4096, 16384]]), resident=np.array([4096, 8192]), page=4096)
    Excess(live=90, heap=12288, internal=10, metadata=3000, unbacked=4096, vacant=0, pinned=5092,
           sparse=3996, blocks=1, sparse_blocks=1)
    """

    live: int
    heap: int
    internal: int
    metadata: int
    unbacked: int
    vacant: int
    pinned: int
    sparse: int
    blocks: int
    sparse_blocks: int

    @classmethod
    def of(
        cls,
        *,
        live: int,
        blocks: npt.NDArray[Any],
        metadata: npt.NDArray[Any],
        heap: npt.NDArray[Any],
        resident: npt.NDArray[Any],
        page: int,
    ) -> "Excess":
        """Return where the excess of one process's heap lies.

        live: bytes.  blocks, metadata, heap: rows (start, end) by address, none overlapping; of heap whole
        pages.  resident: the addresses of the heap's pages that have frames of their own.  page: bytes.
        """
        pages = np.concatenate([np.arange(start, end, page) for start, end in heap.tolist()] or [heap[:, 0]])
        used = _covered(blocks, pages, page) + _covered(metadata, pages, page)
        free = page - used
        backed = np.isin(pages, resident)
        sparse = backed & (used > 0) & (2 * free > page)
        before = np.concatenate(([0], np.cumsum(sparse)))
        first = np.searchsorted(pages, blocks[:, 0], side="right") - 1
        behind = np.searchsorted(pages, blocks[:, 1], side="left")
        return cls(
            live=live,
            heap=len(pages) * page,
            internal=int((blocks[:, 1] - blocks[:, 0]).sum()) - live,
            metadata=int((metadata[:, 1] - metadata[:, 0]).sum()),
            unbacked=int(free[~backed].sum()),
            vacant=int(free[backed & (used == 0)].sum()),
            pinned=int(free[backed & (used > 0)].sum()),
            sparse=int(free[sparse].sum()),
            blocks=len(blocks),
            sparse_blocks=int((before[behind] > before[first]).sum()),
        )

    def __add__(self, other: "Excess") -> "Excess":
        """The excess of two heaps together."""
        return Excess(*(mine + its for mine, its in zip(astuple(self), astuple(other), strict=True)))

    @property
    def bytes(self) -> int:
        """heap - live."""
        return self.heap - self.live


def _covered(spans: npt.NDArray[Any], pages: npt.NDArray[Any], page: int) -> npt.NDArray[Any]:
    """Return how many bytes of each page the spans cover: rows (start, end) by address, none overlapping."""
    if not len(spans):
        return np.zeros(len(pages), np.int64)
    before = np.concatenate(([0], np.cumsum(spans[:, 1] - spans[:, 0])))

    def reached(places: npt.NDArray[Any]) -> npt.NDArray[Any]:
        at = np.searchsorted(spans[:, 0], places, side="right") - 1
        into = np.minimum(places - spans[at, 0], spans[at, 1] - spans[at, 0])
        return np.where(at < 0, 0, before[at] + into)

    covered: npt.NDArray[Any] = reached(pages + page) - reached(pages)
    return covered


@dataclass(frozen=True)
class FreeSpace:
    """The free blocks of all heaps, at one moment: those that a later request can have.

    blocks: how many; bytes, largest: bytes.  by_size: how many have 2^k to 2^(k+1) - 1 bytes, by k.
    cached, cached_bytes: besides, what the program gave back and the design holds back, for a thread or to
    merge it later.

    >>> FreeSpace.of(np.array([64, 4096, 100]), np.array([32]))
    FreeSpace(blocks=3, bytes=4260, largest=4096, by_size=(0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 1), cached=1,
              cached_bytes=32)
    """

    blocks: int
    bytes: int
    largest: int
    by_size: tuple[int, ...]
    cached: int
    cached_bytes: int

    @classmethod
    def of(cls, free: npt.NDArray[Any], cached: npt.NDArray[Any]) -> "FreeSpace":
        """Return what these blocks are together: bytes, one number each."""
        _, power = np.frexp(free.astype(np.float64))
        return cls(
            len(free),
            int(free.sum()),
            int(free.max(initial=0)),
            tuple(np.bincount(np.maximum(power - 1, 0)).tolist()) if len(free) else (),
            len(cached),
            int(cached.sum()),
        )


@dataclass(frozen=True)
class OverLive:
    """How much memory was used for the live payload: the four measures of Johnstone and Wilson (ISMM 1998).

    Used is the heap, or resident memory.  mean: used / live over the whole run, the mean of used over all
    events by the mean of live.  at_peak_live: both at the peak of live, where it is first reached.
    at_peak_used: both at the peak of used, likewise.  of_peaks: peak of used / peak of live, which need not
    be at one moment. event: so many events had been carried out when used was at its peak for the first
    time.  None where nothing was live.
    """

    mean: float | None
    at_peak_live: float | None
    at_peak_used: float | None
    of_peaks: float | None
    event: int

    @classmethod
    def of(cls, used: tuple[int, int, int], live: tuple[int, int], sums: tuple[int, int]) -> "OverLive":
        """Return the measures.

        used: its peak, the live payload at that moment, and the event.  live: its peak, and what was used
        then. sums: of used and of live, over all events.

        >>> OverLive.of((4096, 100, 1), (2000, 4096), (20480, 6400))
        OverLive(mean=3.2, at_peak_live=2.048, at_peak_used=40.96, of_peaks=2.048, event=1)
        """

        def over(part: int, whole: int) -> float | None:
            return part / whole if whole else None

        return cls(
            over(*sums), over(live[1], live[0]), over(used[0], used[1]), over(used[0], live[0]), used[2]
        )


@dataclass(frozen=True)
class Mems:
    """Memory references of one run's operations.

    total, max: exact.  mean: total / operations.  p50 to p9999: at least 50, 99, 99.9 and 99.99 % of the
    operations need no more; exact below 4096, above it too high by less than 1 %.  Without operations there
    is only the total, and of a real allocator not even that.
    """

    total: int | None
    mean: float | None = None
    p50: int | None = None
    p99: int | None = None
    p999: int | None = None
    p9999: int | None = None
    max: int | None = None

    @classmethod
    def of(cls, total: int, most: int, counts: npt.NDArray[np.uint64]) -> Self:
        """Return what the replay counted: `counts` are operations by bucket of csrc/replay."""
        operations = int(counts.sum())
        if not operations:
            return cls(total)
        levels = {name: min(percentile(counts, share), most) for name, share in PERCENTILES.items()}
        return cls(total, total / operations, max=most, **levels)

    @classmethod
    def of_each(cls, mems: npt.NDArray[np.uint32]) -> Self:
        """Return what the operations needed, one number each.

        >>> Mems.of_each(np.array([1, 2, 3, 6], np.uint32))
        Mems(total=12, mean=3.0, p50=2, p99=6, p999=6, p9999=6, max=6)
        """
        if not len(mems):
            return cls(0)
        total = int(mems.sum(dtype=np.uint64))
        found = np.quantile(mems, list(PERCENTILES.values()), method="inverted_cdf")
        levels = dict(zip(PERCENTILES, found.astype(int).tolist(), strict=True))
        return cls(total, total / len(mems), max=int(mems.max()), **levels)


class Lines(Mems):
    """Distinct cache lines of 64 bytes (HL_LINE) that one run's operations touch, each once an operation.

    Of loads and stores, as mems; what is copied or cleared in bulk is left out.  The figures are those of
    Mems.
    """


def percentile(counts: npt.NDArray[np.uint64], share: float) -> int:
    """Return the least number of mems (a bucket's top) that `share` of the operations do not exceed.

    >>> counts = np.zeros(lib.HL_MEMS_BUCKETS, np.uint64)
    >>> counts[5], counts[7] = 99, 1
    >>> percentile(counts, 0.99), percentile(counts, 0.991)
    (5, 7)
    """
    reached = np.cumsum(counts)
    if not reached[-1]:
        return 0
    wanted = math.ceil(share * int(reached[-1]))
    return int(lib.hl_mems_bucket_top(int(np.searchsorted(reached, wanted))))


def geometric_mean(values: Iterable[float]) -> float:
    """Return the geometric mean of values from 0 up: 0 when one is 0; nan for none, or when one is below 0.

    >>> geometric_mean([1, 4]), geometric_mean([0, 4])
    (2.0, 0.0)
    """
    all_values = list(values)
    if not all_values or not min(all_values) >= 0:
        return math.nan
    if 0 in all_values:
        return 0.0
    return math.exp(math.fsum(map(math.log, all_values)) / len(all_values))
