"""From the raw files of a recording to the events of a trace: processes, threads and slots get numbers.

Within one file the order of the records is the truth.  Files are merged by time, and a child begins where
its parent's log stood when it was forked.  A process ends with its last record, which is the program's call
of exit if it made one, or when its last child begins, whichever is later.
"""

from collections import deque
from collections.abc import Iterator, Sequence
from itertools import accumulate

import numpy as np
import numpy.typing as npt

from heaplab.native.family import Run, relate
from heaplab.native.raw import Image, Records
from heaplab.traces import Block, Op

_MAX_ALIGN = 1 << 31


class Assembler:
    """The events that `images`, in the order in which they began, amount to.

    Raises: UsageError when there are more processes than a trace can number.
    """

    def __init__(self, images: Sequence[Image]) -> None:
        self._runs = relate(images)

    @property
    def strangers(self) -> int:
        """Frees and reallocs of blocks whose allocation was not seen, in the blocks given out."""
        return sum(run.heap.strangers for run in self._runs)

    @property
    def lost_frees(self) -> int:
        """Addresses handed out again with no free in between, in the blocks given out."""
        return sum(run.heap.lost_frees for run in self._runs)

    def blocks(self, tick: int = 1) -> Iterator[Block]:
        """The events in order, once; times in nanoseconds since the first began, multiples of `tick`.

        Cost: O(1) an event, one to two microseconds; memory for a batch of records of each process.
        """
        origin, step = np.uint64(self._runs[0].image.started), np.uint64(tick)
        numbers = np.zeros(len(self._runs), np.uint16)  # of processes, by key: in the order of their forks
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


def _stream(run: Run) -> Iterator[Block]:
    """The events of `run` in blocks, none empty; processes by key, times of CLOCK_MONOTONIC.

    What a forked child's heap holds is handed to the child when the FORK is given out.
    """
    forks = sorted(run.forks, key=lambda fork: fork.image.fork_index, reverse=True)
    # A thread may be late in reading the clock, even later than a fork that its record precedes.  But all
    # that precedes a fork is earlier than the beginning of that child, and of the children after it.
    latest = list(accumulate((fork.image.started - 1 for fork in forks), min))
    now = run.image.started
    if run.execs:
        yield _beginning(run)
    for records in run.image.batches():
        start = 0
        while start < len(records.index):
            stop = len(records.index)
            if forks:
                stop = int(np.searchsorted(records.index, forks[-1].image.fork_index))
            if stop > start:
                block = _events(run, records[start:stop], latest[-1] if latest else None)
                now = max(now, int(block.time[-1])) if len(block) else now
                if len(block):
                    yield block
            if stop < len(records.index):
                yield _fork(run, forks.pop(), now)
                latest.pop()
            start = stop
    while forks:
        yield _fork(run, forks.pop(), now)
    if run.last:
        yield _process_event(Op.EXIT, run, run.process.end + 1)


def _events(run: Run, records: Records, latest: int | None) -> Block:
    """The events of consecutive records; none is later than `latest`."""
    columns = (records.kind, records.thread, records.address, records.size)
    acts = run.heap.follow(zip(*(column.tolist() for column in columns), strict=True))
    if not acts:
        return Block.of([])
    row, op, slot = (np.array(column) for column in zip(*acts, strict=True))
    size = np.where(op == Op.FREE, 0, records.size[row])
    return Block.build(
        len(acts),
        op=op,
        id=slot,
        size=np.where(op == Op.REALLOC, np.maximum(size, 1), size),  # some C libraries shrink to size 0
        align=np.where(op == Op.ALIGNED, np.minimum(records.align[row], _MAX_ALIGN), 0),
        thread=_threads(run, records.thread[row]),
        time=records.time[row] if latest is None else np.minimum(records.time[row], latest),
        process=run.process.key,
    )


def _threads(run: Run, raw: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """The threads' numbers in the trace: in the order of their first event."""
    known, first, where = np.unique(raw, return_index=True, return_inverse=True)
    for thread in known[np.argsort(first)].tolist():
        run.threads.setdefault(thread, len(run.threads))
    return np.array([run.threads[thread] for thread in known.tolist()])[where]


def _beginning(run: Run) -> Block:
    """The events by which a run begins that began with an exec."""
    now = run.image.started
    execs = _process_event(Op.EXEC, run, now)
    if run.parent is None:
        return execs
    return Block.join([_process_event(Op.FORK, run.parent, now, run.process.key), execs])


def _fork(run: Run, child: Run, now: int) -> Block:
    child.heap = run.heap.forked()
    return _process_event(Op.FORK, run, now, child.process.key)


def _process_event(op: Op, run: Run, now: int, child: int = 0) -> Block:
    return Block.of([(op, child, 0, 0, 0, now, run.process.key)])
