"""Looking at a heap as a whole: its blocks and metadata, as arrays, and the map drawn from them."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np
import numpy.typing as npt

from heaplab._core import ffi, lib
from heaplab.allocators import Allocator, State
from heaplab.allocators.base import ALIGN
from heaplab.allocators.core import SPAN, CAllocator
from heaplab.errors import HeaplabError
from heaplab.lab import metrics
from heaplab.lab.record import HeapMap
from heaplab.machine import FrameKind
from heaplab.machine.space import Pte
from heaplab.native.stage import live_blocks
from heaplab.process import Process

#: the most cells of a map
CELLS = 4096

#: live blocks, or a few more, whose usable size is asked for
_ASKED = 256
#: spans looked at together
_AT_ONCE = 65536
_HIGHEST = np.uint64(2**48)
#: of the kernel: what pages show that were read and never written
_ZERO_FRAME = np.uint64(0)

Array = npt.NDArray[Any]


_NOTHING = np.empty(0, np.int64)


class BrokenWalk(HeaplabError):
    """A walk tells of spans that no heap can have."""


@dataclass(frozen=True)
class Census:
    """What a heap's memory is, as rows (start, end) in address order.

    blocks: those that a program has.  metadata: the design's own bytes, apart from the blocks.
    regions: the runs of pages that all spans of the walk lie in.  free: bytes of each free block; cached: of
    each that the design holds back.
    """

    blocks: Array
    metadata: Array
    regions: Array
    free: Array
    cached: Array

    @property
    def allocated(self) -> int:
        """Bytes of all blocks that a program has, headers included."""
        return _bytes(self.blocks)

    @property
    def metadata_bytes(self) -> int:
        """Bytes of metadata apart from the blocks."""
        return _bytes(self.metadata)


def _bytes(spans: Array) -> int:
    return int((spans[:, 1] - spans[:, 0]).sum())


def take(heap: Allocator, slots: Array) -> Census:
    """Walk the heap.

    slots: of the replay: the payloads that live in it.
    Raises: as `walked`; BrokenWalk also when a live payload is not in a block, or when usable_size says other
    than the walk.  Cost: as `walked`.
    """
    every, state, end = walked(heap)
    live = is_block(state)
    census = Census(
        every[live],
        every[state == State.METADATA],
        np.stack(page_runs(every[:, 0], every[:, 1], heap.process.page_size), axis=1),
        *(every[state == kind, 1] - every[state == kind, 0] for kind in (State.FREE, State.CACHED)),
    )
    payloads = live_payloads(slots)
    some = payloads[:, 0] < payloads[:, 1]
    _demand_inside("the live block", payloads[some], census.blocks, "the walk's blocks")
    _demand_usable(heap, payloads, census.blocks, end[live])
    return census


def walked(heap: Allocator) -> tuple[Array, Array, Array]:
    """Return the spans of a heap: rows (start, end) in address order, the `State` of each, its payload's end.

    Cost: one walk; 24 bytes of memory for each span.
    Raises: HeapCorruption when the walk breaks off; BrokenWalk when the walk does not end, when two of its
    spans overlap, or when a span lies outside of the process's memory.
    """
    memory = _memory(heap.process)
    left = _bytes(memory)
    rows, states, ends = [np.empty((0, 2), np.int64)], [np.empty(0, np.int32)], [np.empty(0, np.int64)]
    for spans in heap.walk_rows(_AT_ONCE) if isinstance(heap, CAllocator) else _walk_python(heap):
        rows.append(_rows(spans))
        states.append(spans["state"].copy())
        ends.append((spans["payload"] + spans["usable"]).astype(np.int64))
        left -= int(np.maximum(spans["size"], ALIGN // 2).sum())
        if left < 0:  # it goes in circles, or soon would
            raise BrokenWalk(
                f"the walk has more bytes than the process, and is still at {int(spans['start'][-1]):#x}"
            )
    every, state, end = np.concatenate(rows), np.concatenate(states), np.concatenate(ends)
    order = np.argsort(every[:, 0], kind="stable")  # the walk in C is in the design's order
    every, state, end = every[order], state[order], end[order]
    _demand_apart(every)
    _demand_inside("the walk's span", every, memory, "the process's memory")
    return every, state, end


def is_block(state: Array) -> Array:
    """Whether each span is a block that a program has."""
    found: Array = (state == State.ALLOCATED) | (state == State.LARGE)
    return found


def page_runs(start: Array, end: Array, page: int) -> tuple[Array, Array]:
    """Return starts and ends of the runs of pages that spans, ascending by start, lie in.

    >>> page_runs(np.array([16, 4096, 20480]), np.array([32, 4100, 20496]), 4096)
    (array([    0, 20480]), array([ 8192, 24576]))
    """
    first, last = start // page * page, (end + page - 1) // page * page
    reached = np.maximum.accumulate(last)
    opens = np.concatenate(([True], first[1:] > reached[:-1]))[: len(first)]
    return first[opens], np.maximum.reduceat(last, np.flatnonzero(opens)) if len(last) else last


def pages_of(start: Array, end: Array, page: int) -> tuple[Array, Array]:
    """Return the pages that spans of bytes lie on: for each, the row of the span and the number of the page.

    A span without a byte lies on no page.  The order is that of the spans, and of the pages of each.

    >>> row, number = pages_of(np.array([4000, 9000, 9000]), np.array([4100, 9000, 9001]), 4096)
    >>> row.tolist(), number.tolist()
    ([0, 0, 2], [0, 1, 2])
    """
    some = np.flatnonzero(start < end)
    first = start[some] // page
    count = (end[some] - 1) // page - first + 1
    place = np.arange(int(count.sum())) - np.repeat(np.cumsum(count) - count, count)
    return np.repeat(some, count), np.repeat(first, count) + place


def _demand_usable(heap: Allocator, payloads: Array, blocks: Array, ends: Array) -> None:
    """Ask for the usable size of some live blocks: it ends where the walk says, at `ends`."""
    for p, _ in payloads[:: max(len(payloads) // _ASKED, 1)].tolist():
        at = int(np.searchsorted(blocks[:, 0], p, side="right")) - 1
        usable, room = heap.usable_size(p), int(ends[at]) - p
        if usable != room:
            raise BrokenWalk(f"usable_size of the block at {p:#x} is {usable}, and by the walk it is {room}")


def _rows(spans: Array) -> Array:
    """Return the start and end of each span, which has its payload inside."""
    start, size, payload, usable = (spans[name] for name in ("start", "size", "payload", "usable"))
    wrong = (start > _HIGHEST) | (size > _HIGHEST - start) | (payload < start) | (payload > start + size)
    wrong |= usable > start + size - payload
    if wrong.any():
        at = int(np.argmax(wrong))
        raise BrokenWalk(
            f"the walk's span at {int(start[at]):#x} cannot have {int(size[at])} bytes, "
            f"{int(usable[at])} of them for the payload at {int(payload[at]):#x}"
        )
    first = start.astype(np.int64)
    return np.stack((first, first + size.astype(np.int64)), axis=1)


def _demand_apart(spans: Array) -> None:
    close = spans[1:, 0] < spans[:-1, 1]
    if close.any():
        at = int(np.argmax(close))
        (a, b), (c, d) = spans[at : at + 2].tolist()
        raise BrokenWalk(f"the walk's spans at {a:#x} to {b:#x} and at {c:#x} to {d:#x} overlap")


def _demand_inside(what: str, spans: Array, places: Array, where: str) -> None:
    """Raise BrokenWalk unless each span lies in one of the places: rows (start, end) in address order."""
    at = np.searchsorted(places[:, 0], spans[:, 0], side="right") - 1
    outside = at < 0
    if len(places):
        outside |= spans[:, 1] > places[at, 1]
    if outside.any():
        start, end = spans[int(np.argmax(outside))].tolist()
        raise BrokenWalk(f"{what} at {start:#x} to {end:#x} is not within {where}")


def _memory(process: Process, *, heap_only: bool = False) -> Array:
    """Return where the process has memory: rows (start, end), as long as they can be.

    heap_only: what the break and private anonymous mappings gave alone.
    """
    runs: list[list[int]] = []
    for line in process.maps().splitlines():
        where, _, _, _, _, *name = line.split(maxsplit=5)
        if heap_only and name not in ([], ["[heap]"]):
            continue
        start, end = (int(word, 16) for word in where.split("-"))
        if runs and runs[-1][1] == start:
            runs[-1][1] = end
        else:
            runs.append([start, end])
    return np.array(runs, np.int64).reshape(-1, 2)


def _walk_python(heap: Allocator) -> Iterator[Array]:
    walk = iter(heap.walk())
    while rows := [(*span, 0) for span in islice(walk, _AT_ONCE)]:
        yield np.array(rows, SPAN)


def draw(census: Census, slots: Array, *, process: int, event: int) -> HeapMap:
    """Return the map of a heap.

    slots: of the replay: the payloads that live in it.  process, event: as HeapMap says.
    """
    return _map(census, live_payloads(slots), process, event)


def draw_payloads(payloads: Array, start: int, size: int, *, event: int) -> HeapMap:
    """Return the map of a heap of which nothing is known but its place and the payloads in it.

    payloads: rows (address, bytes) in address order.  start, size: of the heap, bytes.
    """
    spans = np.stack((payloads[:, 0], payloads[:, 0] + payloads[:, 1]), axis=1).astype(np.int64)
    some = spans[spans[:, 0] < spans[:, 1]]
    region = np.array([[start, start + size]], np.int64)
    census = Census(some, np.empty((0, 2), np.int64), region, _NOTHING, _NOTHING)
    return _map(census, some, 0, event)


def _map(census: Census, payloads: Array, process: int, event: int) -> HeapMap:
    regions = census.regions
    sizes = regions[:, 1] - regions[:, 0]
    total = int(sizes.sum())
    cell = max(16, -(-total // CELLS // 16) * 16)
    edges = np.minimum(np.arange(-(-total // cell) + 1) * cell, total)

    payload = _covered(payloads, regions, edges)
    occupied = _covered(census.blocks, regions, edges) + _covered(census.metadata, regions, edges)
    return HeapMap(
        process=process,
        event=event,
        regions=tuple((int(start), int(size)) for start, size in zip(regions[:, 0], sizes, strict=True)),
        cell=cell,
        payload=tuple(payload.tolist()),
        overhead=tuple((occupied - payload).tolist()),
    )


def excess(heap: Allocator, census: Census, slots: Array) -> metrics.Excess:
    """Return where the bytes of one process's heap lie that are no live payload.

    slots: as `take`.  Cost: O(spans + pages), 16 bytes of memory for each page of the heap.
    """
    process = heap.process
    places = _memory(process, heap_only=True)
    backed = [np.empty(0, np.int64)]
    for start, end in places.tolist():
        entries = _entries(process, start, end)
        backed.append(start + process.page_size * np.flatnonzero(_present(entries)))
    payloads = live_payloads(slots)
    return metrics.Excess.of(
        live=_bytes(payloads),
        blocks=census.blocks,
        metadata=census.metadata,
        heap=places,
        resident=np.concatenate(backed),
        page=process.page_size,
    )


def anonymous_pages(process: Process) -> tuple[Array, Array]:
    """Return the addresses of a process's pages that have anonymous frames, in order, and these frames.

    Cost: 8 bytes of memory for each page of the process's memory.
    """
    machine = process.context.machine
    pages, frames = [_NOTHING], [_NOTHING]
    for start, end in _memory(process).tolist():
        entries = _entries(process, start, end)
        there = np.flatnonzero(_present(entries))
        found = Pte.frames(entries[there]).astype(np.int64)
        anonymous = machine.kinds(found) == FrameKind.ANON
        pages.append(start + process.page_size * there[anonymous])
        frames.append(found[anonymous])
    return np.concatenate(pages), np.concatenate(frames)


def _entries(process: Process, start: int, end: int) -> Array:
    """Return the page-table entries of the pages of [start, end)."""
    count = (end - start) // process.page_size
    entries = np.zeros(count, np.uint64)
    lib.hl_read_ptes(process.context.raw.space, start, count, ffi.cast("uint64_t *", entries.ctypes.data))
    return entries


def _present(entries: Array) -> Array:
    """Whether each entry has a frame other than the frame of zeros."""
    present: Array = (entries & np.uint64(Pte.PRESENT) != 0) & (Pte.frames(entries) != _ZERO_FRAME)
    return present


def live_addresses(slots: Array) -> list[int]:
    """Return the addresses of the blocks that live in `slots`, in the order of slots."""
    blocks = live_blocks(slots)
    found: list[int] = blocks[np.argsort(blocks[:, 2]), 0].tolist()
    return found


def live_payloads(slots: Array) -> Array:
    """Return where the payloads lie: rows (start, end) in address order."""
    blocks = live_blocks(slots)
    return np.stack((blocks[:, 0], blocks[:, 0] + blocks[:, 1]), axis=1)


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
