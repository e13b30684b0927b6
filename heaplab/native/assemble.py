"""From the raw files of a recording to the events of a trace: processes, threads and slots get numbers.

Within one file the order of the records is the truth.  Files are merged by time, and a child begins where
its parent's log stood when it was forked.  A process ends with its last record, if that is the program's call
of exit, and otherwise when it was seen to be gone.  A thread ends with its last record, if its log says that
it ended; its number is free then.
"""

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate

import numpy as np
import numpy.typing as npt

from heaplab.native.family import Run, relate
from heaplab.native.raw import Image, Records
from heaplab.native.sitelog import SiteLog
from heaplab.native.stacks import sites
from heaplab.traces import Block, Op
from heaplab.traces.sites import Sites

_MAX_ALIGN = 1 << 31
_NEVER = (1 << 63) - 1


class Assembler:
    """The events that `images`, in the order in which they began, amount to.

    deaths: when each process was seen to be gone, by the number that its images have; one that is not in it
    has no end.  with_sites: keep the call stack of each acquisition, 16 bytes.
    Raises: UsageError when there are more processes than a trace can number.
    """

    def __init__(
        self, images: Sequence[Image], deaths: Mapping[int, int], *, with_sites: bool = False
    ) -> None:
        self._runs = relate(images, deaths)
        for run in self._runs if with_sites else ():
            run.sites = SiteLog()
        self._numbers = np.zeros(
            len(self._runs), np.uint16
        )  # of processes, by key: in the order of their forks

    @property
    def strangers(self) -> int:
        """Frees and reallocs of blocks whose allocation was not seen, in the blocks given out."""
        return sum(run.heap.strangers for run in self._runs)

    @property
    def lost_frees(self) -> int:
        """Addresses handed out again with no free in between, in the blocks given out."""
        return sum(run.heap.lost_frees for run in self._runs)

    def numbers(self) -> dict[int, int]:
        """The processes' numbers in the trace by those that their images have, right after the last block."""
        return {run.image.process: int(self._numbers[run.process.key]) for run in self._runs}

    def sites(self, modules: Mapping[int, Sequence[tuple[int, str]]]) -> Sites:
        """The call stacks of all acquisitions, after the last block.

        modules: start and path of the files of code, by image.
        """
        return sites(self._runs, dict(enumerate(self._numbers.tolist())), modules)

    def blocks(self, tick: int = 1) -> Iterator[Block]:
        """The events in order, once; times in nanoseconds since the first began, multiples of `tick`.

        Cost: O(1) an event, one to two microseconds; memory for a batch of records of each process.
        """
        origin, step = np.uint64(self._runs[0].image.started), np.uint64(tick)
        numbers = self._numbers
        born = 1
        exits = Block.of([])  # held back: behind the last event of all they would say nothing
        for block in _merged(self._runs):
            forks = block.op == Op.FORK
            children = block.id[forks]
            numbers[children] = np.arange(born, born + len(children))
            born += len(children)
            block.id[forks] = numbers[children]
            columns = block.columns()
            columns["process"] = numbers[block.process]
            columns["time"] = (block.time - origin) // step * step
            told = Block.join([exits, Block(**columns)])
            others = np.flatnonzero(told.op != Op.EXIT)
            end = int(others[-1]) + 1 if len(others) else 0
            exits = told[end:]
            if end:
                yield told[:end]


def _merged(runs: Sequence[Run]) -> Iterator[Block]:
    """The events of all runs by time.

    Each round gives out what happened up to the horizon, which is as far as every stream under way is known.
    """
    waiting = deque(runs)
    streams: list[tuple[Block, Iterator[Block]]] = []
    while waiting or streams:
        while waiting and (not streams or waiting[0].image.started <= _horizon(streams)):
            stream = _stream(waiting.popleft())
            if (block := next(stream, None)) is not None:
                streams.append((block, stream))
        if not streams:
            return
        horizon = _horizon(streams)
        parts, going_on = [], []
        for block, stream in streams:
            known = int(np.searchsorted(block.time, horizon, "right"))
            parts.append(block[:known])
            rest = block[known:] if known < len(block) else next(stream, None)
            if rest is not None:
                going_on.append((rest, stream))
        streams = going_on
        whole = Block.join(parts)
        order = np.argsort(whole.time, kind="stable")
        yield Block(**{name: column[order] for name, column in whole.columns().items()})


def _horizon(streams: list[tuple[Block, Iterator[Block]]]) -> np.uint64:
    return min(block.time[-1] for block, _ in streams)


@dataclass(frozen=True)
class _Cut:
    """What happens between two records: a child is forked, or (`child` is None) the thread `thread` ends.

    before: the place of the first record that is later.
    """

    before: int
    thread: int = 0
    child: Run | None = None


def _cuts(run: Run) -> list[_Cut]:
    """All cuts of the log, the last one first."""
    ends = [_Cut(last + 1, thread) for last, thread in run.image.thread_ends()]
    forks = [_Cut(child.image.fork_index, child=child) for child in run.forks]
    return sorted([*ends, *forks], key=lambda cut: cut.before)[::-1]


def _stream(run: Run) -> Iterator[Block]:
    """The events of `run` in blocks, none empty; processes by key, times of CLOCK_MONOTONIC.

    What a forked child's heap holds is handed to the child when the FORK is given out.
    """
    cuts = _cuts(run)
    # A thread may be late in reading the clock, even later than a fork that its record precedes.  But all
    # that precedes a fork is earlier than the beginning of that child, and of the children after it.
    bounds = (cut.child.image.started - 1 if cut.child else _NEVER for cut in cuts)
    latest = list(accumulate(bounds, min, initial=_NEVER))
    now = run.image.started
    if run.execs:
        yield _beginning(run)
    for records in run.image.batches():
        start = 0
        while start < len(records.index):
            stop = len(records.index)
            if cuts:
                stop = int(np.searchsorted(records.index, cuts[-1].before))
            if stop > start:
                block = _events(run, records[start:stop], latest[-1])
                now = max(now, min(int(records.time[stop - 1]), latest[-1]))
                if len(block):
                    yield block
            if stop < len(records.index):
                yield from _at_cut(run, cuts.pop(), now)
                latest.pop()
            start = stop
    while cuts:
        yield from _at_cut(run, cuts.pop(), now)
    if run.last and not run.process.lives:
        yield _process_event(Op.EXIT, run, run.process.end + 1, thread=run.actor)


def _events(run: Run, records: Records, latest: int) -> Block:
    """The events of consecutive records; none is later than `latest`."""
    columns = (records.kind, records.thread, records.address, records.size)
    acts = run.heap.follow(zip(*(column.tolist() for column in columns), strict=True))
    row, op, slot = np.array(acts, np.int64).reshape(-1, 3).T
    thread = _threads(run, records.thread[row])
    if (last := int(records.thread[-1])) in run.threads:
        run.actor = run.threads.slot(last)
    size = np.where(op == Op.FREE, 0, records.size[row])
    size = np.where(op == Op.REALLOC, np.maximum(size, 1), size)  # some C libraries shrink to size 0
    if run.sites is not None:
        makes = op != Op.FREE
        run.sites.follow(records, row[makes], size[makes].astype(np.uint64))
    return Block.build(
        len(acts),
        op=op,
        id=slot,
        size=size,
        align=np.where(op == Op.ALIGNED, np.minimum(records.align[row], _MAX_ALIGN), 0),
        thread=thread,
        time=np.minimum(records.time[row], latest),
        process=run.process.key,
    )


def _threads(run: Run, raw: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """The threads' numbers in the trace: free ones, in the order of their first event."""
    known, first, where = np.unique(raw, return_index=True, return_inverse=True)
    for thread in known[np.argsort(first)].tolist():
        _number(run, thread)
    return np.array([run.threads.slot(thread) for thread in known.tolist()], np.int64)[where]


def _number(run: Run, raw: int) -> int:
    """The number in the trace of the thread that is `raw` in the log."""
    return run.threads.slot(raw) if raw in run.threads else run.threads.take(raw)


def _beginning(run: Run) -> Block:
    """The events by which a run begins that began with an exec."""
    now = run.image.started
    execs = _process_event(Op.EXEC, run, now)
    if run.parent is None:
        return execs
    return Block.join([_process_event(Op.FORK, run.parent, now, run.process.key), execs])


def _at_cut(run: Run, cut: _Cut, now: int) -> Iterator[Block]:
    """The event at a cut, if it is one: a thread that did nothing has no end."""
    if cut.child is not None:
        yield _fork(run, cut.child, now)
    elif cut.thread in run.threads:
        thread = run.threads.release(cut.thread)
        run.actor = 0 if run.actor == thread else run.actor
        yield _process_event(Op.THREAD_EXIT, run, now, thread=thread)


def _fork(run: Run, child: Run, now: int) -> Block:
    """The FORK of `child`, which has the forking thread alone.

    The numbers of the other threads stay taken in the child: what the heap keeps for them is nobody's there.
    """
    forker = child.image.thread
    child.actor = 0 if forker is None else _number(run, forker)
    child.heap = run.heap.forked()
    child.threads = run.threads.copy()
    return _process_event(Op.FORK, run, now, child.process.key, child.actor)


def _process_event(op: Op, run: Run, now: int, child: int = 0, thread: int = 0) -> Block:
    return Block.of([(op, child, 0, 0, thread, now, run.process.key)])
