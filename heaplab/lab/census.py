"""Looking at a heap as a whole: the allocated blocks, as arrays, and the map drawn from them."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np
import numpy.typing as npt

from heaplab.allocators import Allocator, State
from heaplab.allocators.core import SPAN, CAllocator
from heaplab.lab.record import HeapMap

#: the most cells of a map
CELLS = 4096

#: blocks looked at together
_AT_ONCE = 65536
#: hl_slot of csrc/replay/slots.h; `size` has the stamp in its high 16 bits
SLOT = np.dtype([("address", "<u8"), ("size", "<u8")])
_SIZE = np.uint64(2**48 - 1)

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Census:
    """The allocated blocks of a heap.

    spans: a row (start, end) for each, in address order.  large: which of them have a mapping of their own.
    """

    spans: Array
    large: Array

    @property
    def allocated(self) -> int:
        """Bytes of all allocated blocks, metadata included."""
        return int((self.spans[:, 1] - self.spans[:, 0]).sum())


def take(heap: Allocator) -> Census:
    """Walk the heap.

    Cost: one walk; 17 bytes of memory for each allocated block.
    Raises: HeapCorruption when the walk breaks off.
    """
    spans, large = [], []
    for rows in heap.walk_rows(_AT_ONCE) if isinstance(heap, CAllocator) else _walk_python(heap):
        taken = rows[(rows["state"] == State.ALLOCATED) | (rows["state"] == State.LARGE)]
        start = taken["start"].astype(np.int64)
        spans.append(np.stack((start, start + taken["size"].astype(np.int64)), axis=1))
        large.append(taken["state"] == State.LARGE)
    all_spans = np.concatenate([np.empty((0, 2), np.int64), *spans])
    all_large = np.concatenate([np.empty(0, np.bool_), *large])
    # the walk in C gives large blocks last, as they were made
    order = np.argsort(all_spans[:, 0], kind="stable") if all_large.any() else slice(None)
    return Census(all_spans[order], all_large[order])


def _walk_python(heap: Allocator) -> Iterator[Array]:
    walk = iter(heap.walk())
    while rows := [(*span, 0) for span in islice(walk, _AT_ONCE)]:
        yield np.array(rows, SPAN)


def draw(heap: Allocator, census: Census, slots: Array, *, process: int, event: int) -> HeapMap:
    """Return the map of a heap.

    slots: of the replay: the payloads that live in it.  process, event: as HeapMap says.
    """
    page = heap.process.page_size
    brk = (heap.root // page * page, heap.process.sbrk(0))
    regions = np.array(sorted([brk, *map(tuple, census.spans[census.large].tolist())]), np.int64)
    sizes = regions[:, 1] - regions[:, 0]
    total = int(sizes.sum())
    cell = max(16, -(-total // CELLS // 16) * 16)
    edges = np.minimum(np.arange(-(-total // cell) + 1) * cell, total)

    payload = _covered(_payloads(slots), regions, edges)
    occupied = _covered(census.spans, regions, edges)
    return HeapMap(
        process=process,
        event=event,
        regions=tuple((int(start), int(size)) for start, size in zip(regions[:, 0], sizes, strict=True)),
        cell=cell,
        payload=tuple(payload.tolist()),
        overhead=tuple((occupied - payload).tolist()),
    )


def _payloads(slots: Array) -> Array:
    """Return where the payloads lie: rows (start, end) in address order."""
    alive = slots[slots["address"] != 0]
    alive = alive[np.argsort(alive["address"], kind="stable")]
    start = alive["address"].astype(np.int64)
    return np.stack((start, start + (alive["size"] & _SIZE).astype(np.int64)), axis=1)


def _covered(spans: Array, regions: Array, edges: Array) -> Array:
    """Return how many bytes between each edge and the next the spans cover.

    spans, regions: rows (start, end) in address order, none overlapping.  edges: offsets in the regions put
    end to end.
    """
    places = np.concatenate(([0], np.cumsum(regions[:, 1] - regions[:, 0])))
    reached = np.zeros(len(edges), np.int64)  # bytes covered up to each edge
    for first in range(0, len(spans), _AT_ONCE):
        part = spans[first : first + _AT_ONCE]
        region = np.searchsorted(regions[:, 0], part[:, 0], side="right") - 1
        start = part[:, 0] - regions[region, 0] + places[region]
        length = part[:, 1] - part[:, 0]
        before = np.concatenate(([0], np.cumsum(length)))
        at = np.searchsorted(start, edges, side="right") - 1
        reached += np.where(at < 0, 0, before[at] + np.clip(edges - start[at], 0, length[at]))
    return np.diff(reached)
