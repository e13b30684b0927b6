"""One moment of a replay, whole, as columns: what a `HeapView` says, of all processes."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from heaplab.allocators import Allocator, Entry, State
from heaplab.allocators.core import SPAN, CAllocator
from heaplab.errors import HeaplabError, UsageError
from heaplab.lab.census import page_runs
from heaplab.machine import FrameKind, Pte

#: spans asked for together
_AT_ONCE = 65536
_SPAN = ("start", "size", "payload", "usable", "state")
#: names of the numbers in `pages["state"]`
PAGE_STATES = ("absent", "zero", "own", "shared", "copied")
_ABSENT, _ZERO, _OWN, _SHARED, _COPIED = range(len(PAGE_STATES))

Column = npt.NDArray[Any]
Columns = Mapping[str, Column]


@dataclass(frozen=True, eq=False, repr=False)
class Recorded:
    """All heaps at one moment: columns by process, then address, but `free`, which is in the design's order.

    spans: of the walk, start, size, payload, usable, state, process; without those of live blocks where other
    columns have them.  pages: runs of pages of one state:
    address, count, state, process; absent ones are left out.  brk: value, process.  free: a process and an
    entry each.  fault: why a walk broke off, "" when none did.
    """

    moment: int
    spans: Columns
    pages: Columns
    brk: Columns
    free: tuple[tuple[int, Entry], ...]
    fault: str = ""

    def __repr__(self) -> str:
        return f"<Recorded moment {self.moment:,}: {len(self.spans['start']):,} spans>"

    @property
    def live(self) -> Columns:
        """The spans that are live blocks."""
        return _rows(self.spans, _is_live(self.spans["state"]))

    @property
    def rest(self) -> Columns:
        """The spans that are no live blocks."""
        return _rows(self.spans, ~_is_live(self.spans["state"]))


def _none(*names: str) -> Columns:
    return {name: np.empty(0, np.uint64) for name in (*names, "process")}


#: a moment that a run did not come to
NOTHING = Recorded(
    0,
    _none("start", "size", "payload", "usable", "state"),
    _none("address", "count", "state"),
    _none("value"),
    (),
)


def _is_live(state: Column) -> Column:
    return np.isin(state, (State.ALLOCATED, State.LARGE))


def _rows(columns: Columns, which: Column) -> Columns:
    return {name: column[which] for name, column in columns.items()}


def record(
    moment: int,
    heaps: Mapping[int, Allocator],
    sharers: Callable[[int, Column, Column], Column],
    copied: Callable[[int], Column],
    *,
    live: bool = True,
) -> Recorded:
    """Return all of a moment.

    heaps: of the processes, by number.  sharers: how many processes have each of some pages: of a process,
    by the addresses and frames.  copied: the addresses of the pages of a process that were copied after a
    fork.
    live: keep the spans of live blocks; who has them in other columns saves the memory.
    A heap that is broken is recorded as far as its walk goes.
    Cost: a walk, a pass over the free blocks, and over the entries of all pages.
    """
    if not heaps:
        return replace(NOTHING, moment=moment)
    spans, pages, brk, free, fault = [], [], [], [], ""
    for number, heap in sorted(heaps.items()):
        rows, entries, why = _walk(heap)
        fault = fault or why
        kept = rows if live else rows[~_is_live(rows["state"])]
        spans.append(_named(number, {name: kept[name].copy() for name in _SPAN}))
        free += [(number, entry) for entry in entries]
        pages.append(_named(number, _pages(number, heap, rows, sharers, copied(number))))
        brk.append(_named(number, {"value": np.array([heap.process.sbrk(0)], np.uint64)}))
    return Recorded(moment, _joined(spans), _joined(pages), _joined(brk), tuple(free), fault)


def _named(number: int, columns: dict[str, Column]) -> dict[str, Column]:
    count = len(next(iter(columns.values())))
    return {**columns, "process": np.full(count, number, np.uint16)}


def _joined(parts: list[dict[str, Column]]) -> Columns:
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _walk(heap: Allocator) -> tuple[Column, list[Entry], str]:
    """Return the spans by address, the free entries, and why one of the two broke off."""
    rows: list[Column] = [np.empty(0, SPAN)]
    entries: list[Entry] = []
    fault = ""
    try:
        rows += _spans(heap)
        entries += heap.index()
    except UsageError:  # a design without a twin does not tell of its free blocks
        pass
    except Exception as error:  # a walk of somebody's own may raise what it likes
        fault = str(error) if isinstance(error, HeaplabError) else f"{type(error).__name__}: {error}"
    every = np.concatenate(rows)
    start = every["start"]
    if (start[1:] < start[:-1]).any():  # the walk in C is in the design's order
        every = every[np.argsort(start, kind="stable")]
    return every, entries, fault


def _spans(heap: Allocator) -> Iterator[Column]:
    if isinstance(heap, CAllocator):
        yield from (rows.copy() for rows in heap.walk_rows(_AT_ONCE))
    else:
        yield np.array([(*span, 0) for span in heap.walk()], SPAN)


def _pages(
    number: int,
    heap: Allocator,
    spans: Column,
    sharers: Callable[[int, Column, Column], Column],
    copied: Column,
) -> dict[str, Column]:
    context = heap.process.look().context
    machine, page = context.machine, heap.process.page_size
    starts, ends = page_runs(spans["start"], spans["start"] + spans["size"], page)
    entries, addresses = [np.empty(0, np.uint64)], [np.empty(0, np.uint64)]
    for start, end in zip(starts.tolist(), ends.tolist(), strict=True):
        entries.append(context.ptes(start, (end - start) // page))
        addresses.append(np.arange(start, end, page, dtype=np.uint64))
    entry, address = np.concatenate(entries), np.concatenate(addresses)
    frame = Pte.frames(entry)
    there = (entry & np.uint64(Pte.PRESENT)) != 0
    state = np.where(np.isin(address, copied), _COPIED, _OWN)
    state = np.where(sharers(number, address, frame) > 1, _SHARED, state)
    state = np.where(machine.kind[frame] == FrameKind.ZERO, _ZERO, state)
    state = np.where(there, state, _ABSENT)
    return _runs(address, state, page)


def _runs(address: Column, state: Column, page: int) -> dict[str, Column]:
    """Put pages of one state side by side together; leave absent ones out."""
    if not len(address):
        return {"address": address, "count": address, "state": address}
    new = (state[1:] != state[:-1]) | (address[1:] != address[:-1] + np.uint64(page))
    first = np.flatnonzero(np.concatenate(([True], new)))
    count = np.diff(np.append(first, len(address)))
    there = state[first] != _ABSENT
    return {"address": address[first][there], "count": count[there], "state": state[first][there]}
