"""The trace of a workload, made window by window.

A window is some thousand allocations, drawn at once: when each comes, how large it is, when it is
reallocated and when it dies.  What lies beyond the window's end is pending, in two stores of moments, one of
deaths and one of reallocs.  All that is due in the window is put in the order of time, deaths before
allocations at equal times, and carried out; slots are handed out on the way (`Slots`).

A block has a number: how many were allocated before it.
"""

import math
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from heaplab.traces.event import BLOCK_EVENTS, Block, Op
from heaplab.traces.workload.actors import Actors, Played
from heaplab.traces.workload.distributions import Empirical
from heaplab.traces.workload.joint import Blocks, BySize, Joint
from heaplab.traces.workload.shapes import Kind, Phase, Realloc
from heaplab.traces.workload.slots import BIRTH, DEATH, RESIZE, Slots

if TYPE_CHECKING:
    from heaplab.traces.workload.workload import Workload

Column = npt.NDArray[Any]

TICK = 50
"""Nanoseconds of a tick in the trace: about what a busy program shows."""

_WINDOW = 1 << 14
_LARGEST = 1 << 40
_LATEST = 1 << 53  # ticks: beyond it float64 would skip some


@dataclass
class _Store:
    """Moments to come, in no order: when, of which block, and of a realloc the new size."""

    time: Column
    number: Column
    size: Column

    @classmethod
    def empty(cls) -> "_Store":
        return cls(np.empty(0), np.empty(0, np.int64), np.empty(0, np.int64))

    def __len__(self) -> int:
        return len(self.time)

    def add(self, other: "_Store") -> None:
        if len(other):
            self.time = np.concatenate((self.time, other.time))
            self.number = np.concatenate((self.number, other.number))
            self.size = np.concatenate((self.size, other.size))

    def rows(self, which: Column) -> "_Store":
        return _Store(self.time[which], self.number[which], self.size[which])

    def take(self, until: float) -> "_Store":
        """Take out what comes until then."""
        due = self.time <= until
        taken = self.rows(due)
        if len(taken):
            self.keep(~due)
        return taken

    def keep(self, which: Column) -> None:
        self.time, self.number, self.size = self.time[which], self.number[which], self.size[which]


@dataclass(frozen=True)
class _Drawn:
    """Allocations: when each comes, bytes, and of its death and its reallocs the moments after that."""

    time: Column
    size: Column
    life: Column
    resizes: _Store  # time: since the allocation; number: row


class Maker:
    """Makes the trace of a workload, once."""

    def __init__(self, workload: "Workload") -> None:
        self._workload = workload
        self._random = np.random.default_rng([workload.seed, 0x776F726B])
        self._slots = Slots(workload.deaths, np.random.default_rng([workload.seed, 0x64656164]))
        self._actors = Actors(workload.threads, workload.fork, workload.sizes, workload.nulls, workload.seed)
        self._deaths = _Store.empty()
        self._resizes = _Store.empty()
        self._held_deaths = _Store.empty()  # of a ramp's blocks; times since the ramp's end
        self._held_resizes = _Store.empty()
        self._now = 0.0
        self._phase_began = 0.0
        self._number = 0  # of the next block
        self._left = workload.events
        self._decks: dict[str, Column] = {}  # of the phase: what was not dealt yet

    def blocks(self) -> Iterator[Block]:
        """The events, block by block."""
        phases = self._workload.phases or (Phase(),)
        whole = sum(phase.share for phase in phases)
        reached, done = 0.0, 0
        for phase in phases:
            reached += phase.share
            until = round(self._workload.events * reached / whole)
            budget = min(until - done, self._left)
            self._phase_began = self._now
            self._decks.clear()
            yield from getattr(self, f"_{phase.shape}")(phase, budget)
            done = until
        yield from self._actors.last_words()

    # ---- shapes ----

    def _plateau(self, phase: Phase, budget: int) -> Iterator[Block]:
        if not phase.ticks:
            yield from self._run(phase, budget)
            return
        end = self._now + phase.ticks
        if phase.joint is not None:
            yield from self._run(phase, self._left, births=int(np.rint(phase.joint.weights).sum()))
        yield from self._run(None, self._left, until=end)
        self._now = max(self._now, end)

    def _ramp(self, phase: Phase, budget: int) -> Iterator[Block]:
        yield from self._run(phase, budget, hold=True)
        self._release(self._held_deaths.time)

    def _peak(self, phase: Phase, budget: int) -> Iterator[Block]:
        before = self._left
        yield from self._run(phase, budget - budget // 2, hold=True)
        self._release(1.0 + np.argsort(np.argsort(self._held_deaths.time, kind="stable")))
        yield from self._run(None, budget - (before - self._left))

    def _sawtooth(self, phase: Phase, budget: int) -> Iterator[Block]:
        left = self._left - budget
        for tooth in range(phase.teeth):
            room = (self._left - left) // (phase.teeth - tooth)
            first, self._phase_began = self._number, self._now
            yield from self._run(phase, room, births=max(1, room // 2))
            own = self._deaths.number >= first
            self._deaths.time[own] = self._now
            self._resizes.keep(self._resizes.number < first)
            yield from self._run(None, min(int(own.sum()), self._left - left), until=self._now)

    def _drain(self, phase: Phase, budget: int) -> Iterator[Block]:
        order = np.argsort(self._deaths.time, kind="stable")[:budget]
        self._deaths.time[order] = self._now + 1 + np.arange(len(order))
        self._resizes = _Store.empty()
        yield from self._run(None, budget, until=self._now + len(order))

    def _release(self, times: Column) -> None:
        """Let the lifetimes of blocks that a ramp held back begin; times: the deaths, from now on."""
        if len(self._held_deaths):
            self._held_deaths.time = self._now + times
            self._held_resizes.time = self._now + self._held_resizes.time
            block = self._held_resizes.number - self._held_deaths.number[0]  # a ramp's numbers are dense
            self._held_resizes.keep(self._held_resizes.time < self._held_deaths.time[block])
            self._deaths.add(self._held_deaths)
            self._resizes.add(self._held_resizes)
            self._held_deaths, self._held_resizes = _Store.empty(), _Store.empty()

    # ---- windows ----

    def _run(
        self,
        phase: Phase | None,
        budget: int,
        *,
        hold: bool = False,
        births: int | None = None,
        until: float = math.inf,
    ) -> Iterator[Block]:
        """Carry on for `budget` events, or until `births` blocks have come.

        phase: what blocks come; None: none do.  hold: those that come do not die before `_release`.
        until: without blocks that come, no later than then.
        """
        came = 0
        while budget > 0 and (births is None or came < births):
            count = 0 if phase is None else min(_WINDOW, budget, budget if births is None else births - came)
            drawn = self._draw(phase, count)
            end = float(drawn.time[-1]) if len(drawn.time) else until
            if len(drawn.time) < count or not count:  # nobody else comes
                end, phase = until, None
            done = yield from self._window(drawn, min(end, _LATEST), budget, hold)
            if not done:
                break
            came += len(drawn.time)
            budget -= done

    def _window(self, drawn: _Drawn, end: float, budget: int, hold: bool) -> Generator[Block, None, int]:
        """Carry out what happens until `end`, `budget` events at most; return how many."""
        count = len(drawn.time)
        numbers = self._number + np.arange(count)
        soonest = np.nextafter(drawn.time, np.inf)
        deaths = _Store(
            np.maximum(drawn.time + drawn.life, np.nextafter(soonest, np.inf)), numbers, numbers * 0
        )
        resizes = drawn.resizes
        if hold:
            self._held_deaths.add(_Store(drawn.life, numbers, deaths.size))
            self._held_resizes.add(_Store(resizes.time, numbers[resizes.number], resizes.size))
        else:
            self._deaths.add(deaths)
            times = np.maximum(drawn.time[resizes.number] + resizes.time, soonest[resizes.number])
            self._resizes.add(_Store(times, numbers[resizes.number], resizes.size))
        due = self._resizes.take(end), self._deaths.take(end), _Store(drawn.time, numbers, drawn.size)
        time = np.concatenate([each.time for each in due])
        order = np.argsort(time, kind="stable")
        all_numbers = np.concatenate([each.number for each in due])[order]
        kinds = np.repeat(np.array([RESIZE, DEATH, BIRTH], np.uint8), [len(each) for each in due])[order]
        sizes = np.concatenate([each.size for each in due])[order]
        time = time[order]
        done = 0
        start = 0
        while start < len(time) and done < budget:
            stop = min(start + BLOCK_EVENTS, start + budget - done, len(time))
            block = self._carry_out(
                time[start:stop], all_numbers[start:stop], kinds[start:stop], sizes[start:stop]
            )
            done += len(block.op)
            self._now = float(time[stop - 1])
            start = stop
            yield from self._actors.played(block)
        born = int(np.count_nonzero(kinds[:start] == BIRTH))
        self._number += born
        if start < len(time):
            rest = slice(start, None)
            back = _Store(time[rest], all_numbers[rest], sizes[rest])
            kind = kinds[rest]
            self._deaths.add(back.rows(kind == DEATH))
            self._resizes.add(back.rows(kind == RESIZE))
            self._forget_unborn()
        elif math.isfinite(end) and count:
            self._now = max(self._now, end)
        self._left -= done
        return done

    def _forget_unborn(self) -> None:
        """Blocks that the budget did not let come are drawn again."""
        for store in (self._deaths, self._resizes, self._held_deaths, self._held_resizes):
            store.keep(store.number < self._number)

    def _carry_out(self, time: Column, numbers: Column, kinds: Column, sizes: Column) -> Played:
        slot, number, kept = self._slots.follow(numbers, kinds)
        if kept is not None:
            time, kinds, sizes = time[kept], kinds[kept], sizes[kept]
        op = _OPS[kinds]
        align = np.zeros(len(op), np.int64)
        workload = self._workload
        if workload.calloc or workload.aligned:
            chance = self._random.random(len(op))
            births = kinds == BIRTH
            op[births & (chance < workload.calloc)] = Op.CALLOC
            aligned = births & (chance >= 1 - workload.aligned)
            op[aligned] = Op.ALIGNED
            align[aligned] = 1 << self._random.integers(5, 13, int(aligned.sum()))
        return Played(
            op, slot, np.where(kinds == DEATH, 0, sizes), align, (time * TICK).astype(np.uint64), number
        )

    # ---- chance ----

    def _draw(self, phase: Phase | None, count: int) -> _Drawn:
        if phase is None or not count:
            return _Drawn(np.empty(0), np.empty(0, np.int64), np.empty(0), _Store.empty())
        sizes, lives, fixed, resizes = self._population(phase, count)
        arrival = phase.arrival or self._workload.arrival
        if isinstance(arrival, str):
            gaps = sizes.astype(float)
        elif phase.ticks and isinstance(arrival, Empirical):
            gaps = arrival.rows(self._random, self._deal("arrival", np.array(arrival.weights), count))
        else:
            gaps = arrival.sample(self._random, count)
        time = self._now + np.cumsum(gaps)
        lives[fixed] += self._phase_began - time[fixed]
        resizes.time = np.minimum(resizes.time, np.maximum(lives[resizes.number], 0))
        come = int(np.searchsorted(time, _LATEST))
        resizes.keep(resizes.number < come)
        return _Drawn(time[:come], sizes[:come], lives[:come], resizes)

    def _deal(self, name: str, weights: Column, count: int) -> Column:
        """Return rows, each as often as its weight says before any comes again."""
        decks = [self._decks.get(name, np.empty(0, np.int64))]
        have = len(decks[0])
        while have < count:
            deck = np.repeat(np.arange(len(weights)), np.maximum(np.rint(weights), 0).astype(np.int64))
            self._random.shuffle(deck)
            decks.append(deck)
            have += len(deck)
        whole = np.concatenate(decks)
        self._decks[name] = whole[count:]
        return whole[:count]

    def _population(self, phase: Phase, count: int) -> tuple[Column, Column, Column, _Store]:
        kinds = self._workload.kinds
        if not kinds:
            return self._blocks(phase, Kind(1.0), count)
        weights = np.array([kind.weight for kind in kinds])
        which = self._random.choice(len(kinds), count, p=weights / weights.sum())
        sizes, lives, fixed = np.empty(count, np.int64), np.empty(count), np.empty(count, np.bool_)
        resizes = _Store.empty()
        for number, kind in enumerate(kinds):
            its = np.flatnonzero(which == number)
            sizes[its], lives[its], fixed[its], more = self._blocks(phase, kind, len(its))
            more.number = its[more.number]
            resizes.add(more)
        return sizes, lives, fixed, resizes

    def _blocks(self, phase: Phase, kind: Kind, count: int) -> tuple[Column, Column, Column, _Store]:
        """Draw sizes, lifetimes, which lifetimes count from the phase's beginning, and reallocs."""
        sizes_, lives_, joint = self._workload.sources(phase, kind)
        if joint is not None:
            if phase.ticks:
                drawn = joint.rows(self._random, self._deal("joint", joint.weights, count))
            else:
                drawn = joint.sample(self._random, count)
            lives, fixed = drawn.lives, drawn.fixed
            sizes = _rounded(drawn.sizes, least=0)
            if drawn.times.any():
                return sizes, lives, fixed, _steps(drawn)
        else:
            sizes = _rounded(sizes_.sample(self._random, count))
            fixed = np.zeros(count, np.bool_)
            if isinstance(lives_, BySize):
                lives = lives_.sample(self._random, sizes)
            else:
                lives = lives_.sample(self._random, count)
        realloc = kind.realloc or self._workload.realloc
        resizes = _Store.empty() if realloc is None else self._reallocs(realloc, sizes, lives, sizes_, joint)
        return sizes, lives, fixed, resizes

    def _reallocs(
        self, realloc: Realloc, sizes: Column, lives: Column, source: Any, joint: Joint | None
    ) -> _Store:
        random, times = self._random, realloc.times
        rows = np.flatnonzero(random.random(len(sizes)) < realloc.share)
        horizon = max(float(self._workload.events), 1.0)
        moments = (
            np.sort(random.random((len(rows), times)), axis=1) * np.minimum(lives[rows], horizon)[:, None]
        )
        steps = np.arange(1, times + 1)
        if realloc.pattern == "multiply":
            later = sizes[rows, None] * np.minimum(float(realloc.amount) ** steps, _LARGEST)
        elif realloc.pattern == "add":
            later = sizes[rows, None] + realloc.amount * steps
        elif joint is not None:
            later = joint.sample(random, moments.size).sizes.reshape(moments.shape)
        else:
            later = source.sample(random, moments.size).reshape(moments.shape)
        return _Store(moments.ravel(), np.repeat(rows, times), _rounded(later.ravel()))


_OPS = np.zeros(3, np.uint8)
_OPS[[BIRTH, DEATH, RESIZE]] = Op.MALLOC, Op.FREE, Op.REALLOC


def _steps(drawn: Blocks) -> _Store:
    """The reallocs that a table says: sizes that go from the first to the last, and have the mean."""
    rows = np.repeat(np.arange(len(drawn.times)), drawn.times)
    step = np.arange(len(rows)) - np.repeat(np.cumsum(drawn.times) - drawn.times, drawn.times) + 1
    times = drawn.times[rows]
    part, ends = step / times, step == times
    first, last, mean = (np.maximum(each[rows], 1) for each in (drawn.sizes, drawn.finals, drawn.means))

    def mean_of(sizes: Column) -> Column:
        before_last = np.bincount(rows, weights=np.where(ends, 0, sizes), minlength=len(drawn.times))
        return np.asarray(np.maximum(before_last[rows] / np.maximum(times - 1, 1), 1))

    by_factor = first * (last / first) ** part
    between = (mean - first) * (last - mean) > 0
    # x ** p has the mean 1 / (p + 1) over 0 to 1
    bend = np.where(between, (last - mean) / np.where(between, mean - first, 1), 0)
    bent = first + (last - first) * part**bend
    # up to a top in the middle, and down again
    top = 2 * mean - (first + last) / 2
    tent = np.where(part < 0.5, first + (top - first) * 2 * part, top + (last - top) * (2 * part - 1))
    other = np.where(between, bent, np.where(mean > np.maximum(first, last), tent, mean))
    grows = np.abs(mean_of(by_factor) - mean) <= mean / 10
    curve = np.where(grows, by_factor, other * mean / mean_of(other))
    return _Store(part * drawn.spans[rows], rows, _rounded(np.where(ends, last, curve)))


def _rounded(sizes: Column, least: int = 1) -> Column:
    return np.clip(np.rint(sizes), least, _LARGEST).astype(np.int64)
