"""Traces that no program made: for tests, and for questions about sizes and lifetimes."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from heaplab.traces.event import BLOCK_EVENTS, NULL_ID, Block, Op
from heaplab.traces.trace import Provenance, Trace

_INTERVAL = 50  # nanoseconds between events, about what a busy program shows


def synthetic(
    events: int,
    *,
    seed: int = 0,
    slots: int = 1000,
    median: int = 48,
    spread: float = 1.0,
    realloc: float = 0.05,
    aligned: float = 0.01,
    threads: int = 1,
    remote: float = 0.3,
) -> Trace:
    """Return a made-up trace of one process, generated block by block each time it is iterated over.

    Every event picks one of `slots` slots at random: a free one is allocated, a live one is freed, so half
    of them are live in equilibrium and lifetimes are geometric.  Sizes are lognormal: half are below
    `median` bytes, and `spread` is the standard deviation of their logarithm.
    realloc: the part of events that reallocate a live block (on a free slot these do free(NULL)).
    aligned: the part of allocations that ask for an alignment, 32 to 4096 bytes.
    threads: how many take part, each with as many allocations.  remote: the part of frees and reallocs that
    another thread does than the one that allocated the block, or reallocated it last.
    Cost: 0.3 us an event, twice (once to count); memory for one block.  Equal arguments, equal traces.

    >>> trace = synthetic(100_000, seed=3, slots=50)
    >>> trace.header.events, trace.header.slots
    (100000, 50)
    """

    def blocks() -> Iterator[Block]:
        random = np.random.default_rng(seed)
        hands = _Hands(slots, threads, remote, seed)
        live = np.zeros(slots, np.bool_)
        names = np.full(slots, -1, np.int64)  # by which slots go, in the order of their first allocation
        for start in range(0, events, BLOCK_EVENTS):
            count = min(BLOCK_EVENTS, events - start)
            slot = random.integers(0, slots, count)
            moves = random.random(count) < realloc
            before = _toggle(live, slot, ~moves)
            _give_names(names, slot[~moves])
            op = np.where(before, Op.FREE, np.where(random.random(count) < aligned, Op.ALIGNED, Op.MALLOC))
            op[moves] = np.where(before[moves], Op.REALLOC, Op.FREE)
            sizes = np.exp(random.normal(np.log(median), spread, count)).clip(1, 1 << 40)
            yield Block.build(
                count,
                op=op,
                id=np.where(moves & ~before, NULL_ID, names[slot]),
                size=np.where(op == Op.FREE, 0, sizes),
                align=np.where(op == Op.ALIGNED, 1 << random.integers(5, 13, count), 0),
                thread=hands.threads_of(slot, before),
                time=np.arange(start, start + count) * _INTERVAL,
            )

    name = f"synthetic-{events}-{seed}"
    return Trace.lazy(blocks, Provenance(name, program="heaplab.traces.synthetic"))


class _Hands:
    """Which thread does what to which slot.

    A slot's thread moves on, modulo the number of threads: by any distance when the slot is allocated,
    otherwise by 0, or with the probability `remote` by another distance.
    """

    def __init__(self, slots: int, threads: int, remote: float, seed: int) -> None:
        self._threads = threads
        self._remote = remote
        self._random = np.random.default_rng([seed, 1])
        self._holder = np.zeros(slots, np.int64)

    def threads_of(self, slot: npt.NDArray[np.int64], live: npt.NDArray[np.bool_]) -> Any:
        """The thread of each event on `slot`; `live` says whether the slot was live before it."""
        if self._threads == 1:
            return np.zeros(len(slot), np.int64)
        away = self._random.random(len(slot)) < self._remote
        other = self._random.integers(1, self._threads, len(slot))
        anyone = self._random.integers(0, self._threads, len(slot))
        order = np.argsort(slot, kind="stable")
        slots, moves = slot[order], np.where(live, other * away, anyone)[order]
        first = np.concatenate(([True], slots[1:] != slots[:-1]))
        moves[first] += self._holder[slots[first]]
        total = np.cumsum(moves)
        start = np.maximum.accumulate(np.where(first, total - moves, 0))
        thread = np.empty_like(slot)
        thread[order] = (total - start) % self._threads
        last = np.concatenate((first[1:], [True]))
        self._holder[slots[last]] = thread[order[last]]
        return thread


def _toggle(live: npt.NDArray[np.bool_], slot: npt.NDArray[np.int64], toggles: npt.NDArray[np.bool_]) -> Any:
    """Toggle live[slot] event by event where `toggles`; return what live[slot] was before each event."""
    order = np.argsort(slot, kind="stable")
    slots, turns = slot[order], toggles[order].astype(np.int64)
    earlier = np.cumsum(turns) - turns
    first = np.concatenate(([True], slots[1:] != slots[:-1]))
    base = np.maximum.accumulate(np.where(first, earlier, 0))
    before = np.empty_like(toggles)
    before[order] = live[slots] ^ ((earlier - base) % 2 == 1)
    last = np.concatenate((first[1:], [True]))
    live[slots[last]] = before[order[last]] ^ toggles[order[last]]
    return before


def _give_names(names: npt.NDArray[np.int64], slot: npt.NDArray[np.int64]) -> None:
    """Name those of `slot` that have no name yet with the next numbers, in order of first appearance."""
    new, where = np.unique(slot, return_index=True)
    fresh = names[new] < 0
    new, where = new[fresh], where[fresh]
    names[new[np.argsort(where)]] = np.arange(len(new)) + names.max() + 1
