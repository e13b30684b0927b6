"""Who does what in a workload: threads, their ends, and children that are forked for a snapshot."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from heapq import heappop, heappush
from typing import Any

import numpy as np
import numpy.typing as npt

from heaplab.traces.event import BLOCK_EVENTS, COLUMNS, NULL_ID, Block, Op, Row
from heaplab.traces.lives import BIRTHS
from heaplab.traces.workload.distributions import Distribution
from heaplab.traces.workload.shapes import Snapshots, Threads

Column = npt.NDArray[Any]

_FREES = np.array([op == Op.FREE for op in Op])


@dataclass(frozen=True)
class Played:
    """Events of one process, before it is known who does them: columns, and the number of each block."""

    op: Column
    slot: Column
    size: Column
    align: Column
    time: Column
    number: Column


class Actors:
    """Gives events their threads, and adds free(NULL), the ends of threads, forks, and what children do.

    A block's lane is its number, scrambled, so that no table of blocks is needed.
    """

    def __init__(
        self, threads: Threads, fork: Snapshots | None, sizes: Distribution, nulls: float, seed: int
    ) -> None:
        self._threads = threads
        self._fork = fork
        self._sizes = sizes
        self._nulls = nulls
        self._random = np.random.default_rng([seed, 0x666F726B])
        self._salt = int(np.random.default_rng([seed, 0x6C616E65]).integers(1 << 62))
        self._born = 0
        self._events = 0
        self._time = 0
        self._used = 0  # slots that the parent ever used
        self._agenda: list[tuple[int, int, Row]] = []  # event before which it happens, order, what
        self._order = 0
        self._processes = 1
        self._alive: set[int] = set()

    def played(self, events: Played) -> Iterator[Block]:
        """The events as blocks, with all that is added between them."""
        if not len(events.op):  # reallocs of blocks that were dead
            return
        births = BIRTHS[events.op]
        born = self._born + np.cumsum(births) - births
        columns: dict[str, Any] = {
            "op": events.op,
            "id": events.slot,
            "size": events.size,
            "align": events.align,
            "thread": self._thread(events, born),
            "time": events.time,
        }
        whole = Block.build(len(events.op), **columns)
        places, rows = self._added(events, births, born)
        self._born += int(births.sum())
        self._events += len(events.op)
        self._time = int(events.time[-1])
        if not rows:
            yield whole
            return
        yield from _chunks(_inserted(whole, places, rows))

    def last_words(self) -> Iterator[Block]:
        """The ends of the children that live yet."""
        if self._alive:
            yield Block.of([(Op.EXIT, 0, 0, 0, 0, self._time, child) for child in sorted(self._alive)])

    # ---- threads ----

    def _thread(self, events: Played, born: Column) -> Column | int:
        threads = self._threads
        if threads.total == 1 and threads.pattern != "larson":
            return 0
        chance = _scrambled(events.number + self._salt)
        lane = chance % np.uint64(threads.number)
        other = _scrambled(chance)
        frees = _FREES[events.op]
        if threads.pattern == "producer":
            consumer = threads.number + other % np.uint64(int(threads.other))
            return np.where(frees, consumer, lane)
        if threads.pattern == "larson":
            generation = (born // self._round()).astype(np.uint64)
            heir = (lane + generation) % np.uint64(threads.number)
            return heir + np.uint64(threads.number) * (generation % np.uint64(2))
        away = frees & ((other >> np.uint64(11)) * 2.0**-53 < threads.other)
        step = 1 + _scrambled(other) % np.uint64(threads.number - 1)
        return np.where(away, (lane + step) % np.uint64(threads.number), lane)

    def _round(self) -> int:
        """Allocations of all threads of larson until they end."""
        return self._threads.number * int(self._threads.other)

    # ---- what is added ----

    def _added(self, events: Played, births: Column, born: Column) -> tuple[list[int], list[Row]]:
        places, rows = self._ends_of_threads(events, births, born)
        if self._nulls:
            some = self._random.poisson(self._nulls, len(events.op))
            for at in np.repeat(np.arange(len(some)), some).tolist():
                places.append(at)
                rows.append((int(Op.FREE), NULL_ID, 0, 0, 0, int(events.time[at]), 0))
        if self._fork is None:
            return places, rows
        used = np.maximum.accumulate(np.where(births, events.slot + 1, 0))
        used = np.concatenate(([self._used], np.maximum(used, self._used)))
        self._used = int(used[-1])
        first, stop = self._events, self._events + len(events.op)
        every = self._fork.every
        for at in range(-(-max(first, 1) // every) * every, stop, every):
            self._plan_child(self._fork, at, int(used[at - first]))
        agenda: list[tuple[int, Row]] = []
        while self._agenda and self._agenda[0][0] < stop:
            at, _, row = heappop(self._agenda)
            time = int(events.time[at - first])
            agenda.append((at - first, (*row[:5], time, row[6])))
            if row[0] == Op.EXIT:
                self._alive.discard(row[6])
        both = sorted([*zip(places, rows, strict=True), *agenda], key=lambda each: each[0])
        return [place for place, _ in both], [row for _, row in both]

    def _ends_of_threads(self, events: Played, births: Column, born: Column) -> tuple[list[int], list[Row]]:
        if self._threads.pattern != "larson":
            return [], []
        fresh = births & (born % self._round() == 0) & (born > 0)
        places, rows = [], []
        for at in np.flatnonzero(fresh).tolist():
            # heirs begin before the others end, so two generations in turn have numbers of their own
            first = self._threads.number * ((int(born[at]) // self._round() - 1) % 2)
            for thread in range(first, first + self._threads.number):
                places.append(at)
                rows.append((int(Op.THREAD_EXIT), 0, 0, 0, thread, int(events.time[at]), 0))
        return places, rows

    def _plan_child(self, fork: Snapshots, at: int, slot: int) -> None:
        child = self._processes
        self._processes += 1
        self._alive.add(child)
        self._put(at, (Op.FORK, child, 0, 0, 0, 0, 0))
        sizes = np.clip(np.rint(self._sizes.sample(self._random, fork.requests)), 1, 1 << 40)
        for number, size in enumerate(sizes.astype(np.int64).tolist(), 1):
            when = at + fork.life * number // (fork.requests + 1)
            self._put(when, (Op.MALLOC, slot, size, 0, 0, 0, child))
            self._put(when, (Op.FREE, slot, 0, 0, 0, 0, child))
        self._put(at + fork.life, (Op.EXIT, 0, 0, 0, 0, 0, child))

    def _put(self, at: int, row: Row) -> None:
        self._order += 1
        heappush(self._agenda, (at, self._order, row))


def _scrambled(values: Column) -> Column:
    """Every number as another one that looks random: the last step of splitmix64."""
    mixed = values.astype(np.uint64)
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return np.asarray(mixed ^ (mixed >> np.uint64(31)))


def _inserted(block: Block, places: list[int], rows: list[Row]) -> Block:
    """The block with rows in front of the events at these places, in ascending order."""
    more = zip(*rows, strict=True)
    columns = {
        name: np.insert(getattr(block, name), places, np.array(column, dtype))
        for (name, dtype), column in zip(COLUMNS.items(), more, strict=True)
    }
    return replace(block, **columns)


def _chunks(block: Block) -> Iterator[Block]:
    for start in range(0, len(block), BLOCK_EVENTS):
        yield block[start : start + BLOCK_EVENTS]
