"""How a run stood at chosen moments, from walks over all its heaps; exact."""

from collections.abc import Sequence
from dataclasses import dataclass

from heaplab.lab.attribution import Attribution
from heaplab.lab.metrics import Fragmentation, FreeSpace


@dataclass(frozen=True)
class Standing:
    """How a run stood after `event` events.

    free: of all heaps together.  attribution: where the resident bytes are, without pins.
    """

    fragmentation: Fragmentation
    free: FreeSpace
    attribution: Attribution

    @property
    def event(self) -> int:
        """So many events had been carried out."""
        return self.fragmentation.event

    @property
    def live(self) -> int:
        """Bytes."""
        return self.fragmentation.live

    @property
    def heap(self) -> int:
        """Bytes."""
        return self.fragmentation.heap

    @property
    def resident(self) -> int:
        """Bytes."""
        return self.attribution.resident

    @property
    def internal(self) -> float:
        """A share of the heap."""
        return self.fragmentation.internal

    @property
    def external(self) -> float:
        """A share of the heap."""
        return self.fragmentation.external


@dataclass(frozen=True)
class Series:
    """The standings of a run as columns, each as long as `event`.

    live, heap, resident, largest_free: bytes.  internal, external: shares of the heap.  free_blocks: how
    many. by_size: of each moment, how many free blocks have 2^k to 2^(k+1) - 1 bytes, by k. payload,
    metadata, ...: parts of resident, in bytes, as `Attribution` has them; within is its internal.

    >>> from heaplab.lab import run
    >>> from heaplab.traces import synthetic
    >>> series = run(synthetic(2000, seed=1), "rbtree", walks=4).series
    >>> series.event
    (500, 1000, 1500, 2000)
    >>> all(blocks == sum(sizes) for blocks, sizes in zip(series.free_blocks, series.by_size))
    True
    """

    event: tuple[int, ...]
    live: tuple[int, ...]
    heap: tuple[int, ...]
    resident: tuple[int, ...]
    internal: tuple[float, ...]
    external: tuple[float, ...]
    free_blocks: tuple[int, ...]
    largest_free: tuple[int, ...]
    by_size: tuple[tuple[int, ...], ...]
    payload: tuple[int, ...]
    within: tuple[int, ...]
    metadata: tuple[int, ...]
    pinned: tuple[int, ...]
    vacant: tuple[int, ...]
    copied: tuple[int, ...]

    @classmethod
    def of(cls, standings: Sequence[Standing]) -> "Series":
        """Return the columns."""
        where = [each.attribution for each in standings]
        return cls(
            event=tuple(each.event for each in standings),
            live=tuple(each.live for each in standings),
            heap=tuple(each.heap for each in standings),
            resident=tuple(each.resident for each in standings),
            internal=tuple(each.internal for each in standings),
            external=tuple(each.external for each in standings),
            free_blocks=tuple(each.free.blocks for each in standings),
            largest_free=tuple(each.free.largest for each in standings),
            by_size=tuple(each.free.by_size for each in standings),
            payload=tuple(each.payload for each in where),
            within=tuple(each.internal for each in where),
            metadata=tuple(each.metadata for each in where),
            pinned=tuple(each.pinned for each in where),
            vacant=tuple(each.vacant for each in where),
            copied=tuple(each.copied for each in where),
        )
