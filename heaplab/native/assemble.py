"""From the raw files of a recording to the events of a trace: processes, threads and slots get numbers.

Within one file the order of the records is the truth.  Files are merged by time, and a child begins where
its parent's log stood when it was forked.  How each image began is told by its header:

    the first of all                    process 0
    forked from an image                FORK by that image's process, at the very record
    same pid and birth as an earlier    EXEC in that process
    anything else (vfork, posix_spawn)  FORK by the process that is its parent, or else by process 0, and EXEC

A process ends with its last record, which is the program's call of exit if it made one, or when its last
child begins, whichever is later.
"""

import heapq
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from itertools import accumulate

from heaplab.native.heaplog import HeapLog
from heaplab.native.raw import Image
from heaplab.traces import Op
from heaplab.traces.event import Row


class _Step(IntEnum):
    """What a run does beside what its records say."""

    BEGIN = 100
    FORK = 101
    END = 102


@dataclass(eq=False)
class _Process:
    """A process, through all its images.  end: when it is known to have been there last."""

    end: int
    number: int = 0


@dataclass(eq=False)
class _Run:
    """An image in its place among the others.

    order: its index.  process: whose it is.  parent: the run that made the process, unless it is process 0.
    forks: the runs forked from this one.  execs: it began with an exec.  last: of its process.
    """

    image: Image
    order: int
    process: _Process
    parent: "_Run | None" = None
    forks: "list[_Run]" = field(default_factory=list)
    execs: bool = False
    last: bool = True
    heap: HeapLog = field(default_factory=HeapLog)
    threads: dict[int, int] = field(default_factory=dict)


class Assembler:
    """The events that `images`, in the order in which they began, amount to."""

    def __init__(self, images: Sequence[Image]) -> None:
        self._runs: list[_Run] = []
        self._processes = 1
        for image in images:
            self._place(_Run(image, len(self._runs), _Process(image.started)))
        for run in reversed(self._runs):
            run.process.end = max(run.process.end, run.image.last_time())
            if run.parent is not None:
                run.parent.process.end = max(run.parent.process.end, run.image.started)

    @property
    def strangers(self) -> int:
        """Frees and reallocs of blocks whose allocation was not seen."""
        return sum(run.heap.strangers for run in self._runs)

    @property
    def lost_frees(self) -> int:
        """Addresses handed out again with no free in between."""
        return sum(run.heap.lost_frees for run in self._runs)

    def _place(self, run: _Run) -> None:
        """Find out how `run` began."""
        image = run.image
        for other in reversed(self._runs):
            if image.forked_from and other.image.started == image.forked_from:
                run.parent = other
                other.forks.append(run)
                break
            if not image.forked_from and (other.image.pid, other.image.birth) == (image.pid, image.birth):
                run.process, run.execs = other.process, True
                other.last = False
                break
        else:
            if self._runs:
                parents = [other for other in self._runs if other.image.pid == image.parent_pid]
                run.parent, run.execs = (parents[-1] if parents else self._runs[0]), True
        self._runs.append(run)

    def rows(self, tick: int = 1) -> Iterator[Row]:
        """The events in order; times in nanoseconds since the first image began, multiples of `tick`."""
        origin = self._runs[0].image.started
        exits: list[Row] = []  # held back: behind the last event of all they would say nothing
        for time, order, kind, raw_thread, address, size, align in heapq.merge(*map(_steps, self._runs)):
            run = self._runs[order]
            when = (time - origin) // tick * tick
            if kind == _Step.END:
                exits.append((Op.EXIT, 0, 0, 0, 0, when, run.process.number))
                continue
            if kind == _Step.BEGIN:
                rows = self._begin(run, when)
            elif kind == _Step.FORK:
                rows = [self._fork(run, self._runs[address], when)]
            else:
                acts = run.heap.acts(kind, thread=raw_thread, address=address, size=size, align=align)
                thread = run.threads.setdefault(raw_thread, len(run.threads))
                rows = [(*act, thread, when, run.process.number) for act in acts]
            if rows and exits:
                yield from exits
                exits.clear()
            yield from rows

    def _begin(self, run: _Run, when: int) -> list[Row]:
        """The events by which `run` begins; one that was forked has begun with its parent's step."""
        rows = []
        if run.execs:
            if run.parent is not None:
                rows.append(self._fork(run.parent, run, when))
            run.heap = HeapLog()
            rows.append((Op.EXEC, 0, 0, 0, 0, when, run.process.number))
        return rows

    def _fork(self, parent: _Run, child: _Run, when: int) -> Row:
        child.process.number = self._processes
        child.heap = parent.heap.forked()
        self._processes += 1
        return (Op.FORK, child.process.number, 0, 0, 0, when, parent.process.number)


def _steps(run: _Run) -> Iterator[Row]:
    """What `run` does, in order of time: its beginning, its records, its children's forks, its end.

    A step is time, order of the run, kind, thread, address (for FORK the child's order), size, align.
    """
    order = run.order
    forks = sorted(run.forks, key=lambda fork: fork.image.fork_index, reverse=True)
    # A thread may have read the clock late, after a fork that its record precedes: no record is later than
    # the beginning of any child that is still to be forked.
    latest = list(accumulate((fork.image.started for fork in forks), min))
    now = run.image.started
    yield (now, order, _Step.BEGIN, 0, 0, 0, 0)
    for index, time, kind, thread, address, size, align in run.image.records():
        while forks and index >= forks[-1].image.fork_index:
            yield (now, order, _Step.FORK, 0, forks.pop().order, 0, 0)
            latest.pop()
        now = min(time, latest[-1]) if latest else time
        yield (now, order, kind, thread, address, size, align)
    while forks:
        yield (now, order, _Step.FORK, 0, forks.pop().order, 0, 0)
    if run.last:  # behind all that happens at the same time, as the beginning of a child
        yield (run.process.end + 1, order, _Step.END, 0, 0, 0, 0)
