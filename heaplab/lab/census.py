"""Looking at a heap as a whole: the blocks its walk finds, as arrays, and the map drawn from them."""

from typing import Any

import numpy as np
import numpy.typing as npt

from heaplab._core import ffi, lib
from heaplab.allocators import Allocator, State
from heaplab.allocators.ccore import CAllocator
from heaplab.lab.record import HeapMap

#: the most cells of a map
CELLS = 4096

_WALK_AT_ONCE = 16384
#: hl_block of csrc/heap/heap.h
_BLOCK = np.dtype([("address", "<u8"), ("size", "<u8"), ("usable", "<u8"), ("state", "<i4"), ("", "<i4")])
#: hl_slot of csrc/replay/slots.h; `size` has the stamp in its high 16 bits
SLOT = np.dtype([("address", "<u8"), ("size", "<u8")])

Array = npt.NDArray[Any]


def walk(heap: Allocator) -> Array:
    """Return every block as a row of (address, size, usable, state), in address order.

    Cost: a walk over the heap; 32 bytes a block.  Raises: HeapCorruption when the walk breaks off.
    """
    if not isinstance(heap, CAllocator):
        rows = [(*block, 0) for block in heap.walk()]
        return np.array(rows, _BLOCK)
    cursor, parts = ffi.new("uint64_t[2]"), []
    while True:
        part = np.empty(_WALK_AT_ONCE, _BLOCK)
        count = lib.hl_heap_walk(heap.raw, cursor, ffi.cast("hl_block *", part.ctypes.data), len(part))
        if count < 0:
            heap.raise_failure()
        parts.append(part[:count])
        if count == 0:
            break
    blocks = np.concatenate(parts)
    return blocks[np.argsort(blocks["address"], kind="stable")]


def allocated_bytes(blocks: Array) -> int:
    """Return the bytes of all allocated blocks, metadata included."""
    return int(blocks["size"][blocks["state"] != State.FREE].sum())


def draw(heap: Allocator, blocks: Array, slots: Array, *, process: int, event: int) -> HeapMap:
    """Return the map of a heap.

    blocks: of `walk`.  slots: of the replay: the payloads that live in it.
    """
    spans = _spans(blocks)
    large = spans[blocks["state"] == State.LARGE]
    page = heap.process.page_size
    brk = (heap.root // page * page, heap.process.sbrk(0))
    regions = np.array(sorted([brk, *(tuple(span) for span in large.tolist())]), np.int64)
    sizes = regions[:, 1] - regions[:, 0]
    places = np.concatenate(([0], np.cumsum(sizes)))
    total = int(places[-1])
    cell = max(16, -(-total // CELLS // 16) * 16)
    edges = np.minimum(np.arange(-(-total // cell) + 1) * cell, total)

    def covered(intervals: Array) -> Array:
        """How many bytes of each cell the intervals cover, which are sorted and do not overlap."""
        if not len(intervals):
            return np.zeros(len(edges) - 1, np.int64)
        region = np.searchsorted(regions[:, 0], intervals[:, 0], side="right") - 1
        start = intervals[:, 0] - regions[region, 0] + places[region]
        length = intervals[:, 1] - intervals[:, 0]
        before = np.concatenate(([0], np.cumsum(length)))
        at = np.searchsorted(start, edges, side="right") - 1
        within = np.clip(edges - start[at], 0, length[at])
        return np.diff(np.where(at < 0, 0, before[at] + within))

    alive = slots[slots["address"] != 0]
    alive = alive[np.argsort(alive["address"], kind="stable")]
    begin = alive["address"].astype(np.int64)
    payload = covered(np.stack((begin, begin + (alive["size"] & (2**48 - 1)).astype(np.int64)), axis=1))
    occupied = covered(spans[blocks["state"] != State.FREE])
    return HeapMap(
        process=process,
        event=event,
        regions=tuple((int(start), int(size)) for start, size in zip(regions[:, 0], sizes, strict=True)),
        cell=cell,
        payload=tuple(payload.tolist()),
        overhead=tuple((occupied - payload).tolist()),
    )


def _spans(blocks: Array) -> Array:
    """Where each block starts and ends: what of it is no payload is taken to lie in front of the payload."""
    start = (blocks["address"] - (blocks["size"] - blocks["usable"])).astype(np.int64)
    return np.stack((start, start + blocks["size"].astype(np.int64)), axis=1)
