"""How the images of a recording are related: which process each belongs to, and how it began.

the first of all                    process 0
forked from an image                a child of that image's process, from that record on
same process as an earlier one      the same process, after an exec
anything else (vfork, posix_spawn)  a child of the process that is its parent, or else of process 0,
                                    that did exec at once
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from heaplab.errors import UsageError
from heaplab.native.heaplog import HeapLog
from heaplab.native.raw import Image, Kind
from heaplab.native.sitelog import SiteLog
from heaplab.traces.slots import SlotTable

_MAX_PROCESSES = 1 << 16


@dataclass(eq=False)
class Process:
    """A process, through all its images.

    key: its number in the order in which files were begun.  end: when it ended: when it called exit, or else
    when its parent had waited for it, or else when it was seen to be gone.  lives: it had not ended
    when the recording did.
    """

    key: int
    end: int
    lives: bool = False


@dataclass(eq=False)
class Run:
    """An image in its place among the others.

    process: whose it is.  parent: the run that made the process; None for process 0 and after an exec.
    forks: the runs forked from this one.  execs: it began with an exec.  last: of its process.
    heap: as far as it was followed.  threads: those that live, by their numbers in the log; their slots are
    their numbers in the trace.  actor: the thread that did the last thing in it, as the trace numbers it.
    sites: the call stacks of its acquisitions; None: nobody wants them.
    """

    image: Image
    process: Process
    parent: "Run | None" = None
    forks: "list[Run]" = field(default_factory=list)
    execs: bool = False
    last: bool = True
    heap: HeapLog = field(default_factory=HeapLog)
    threads: SlotTable = field(default_factory=SlotTable)
    actor: int = 0
    sites: SiteLog | None = None


def relate(images: Sequence[Image], deaths: Mapping[int, int]) -> list[Run]:
    """Return the runs of `images`, which are in the order in which they began.

    deaths: when each process was seen to be gone, by the number that its images have.
    Raises: UsageError when there are more processes than a trace can number.
    """
    runs: list[Run] = []
    processes = 0
    for image in images:
        run = Run(image, Process(processes, image.started))
        _place(run, runs)
        runs.append(run)
        processes += run.process.key == processes
    if processes > _MAX_PROCESSES:
        raise UsageError(
            f"{processes:,} processes were recorded, a trace holds {_MAX_PROCESSES:,}: record less"
        )
    waited = _waited(runs)
    for run in reversed(runs):
        time, kind = run.image.last()
        death = deaths.get(run.image.process)
        run.process.lives |= run.last and death is None
        if run.last and kind != Kind.EXIT and death is not None:
            time = max(time, min(death, waited.get(run.image.process, death)))
        run.process.end = max(run.process.end, time)
        if run.parent is not None:
            run.parent.process.end = max(run.parent.process.end, run.image.started)
    return runs


def _waited(runs: Sequence[Run]) -> dict[int, int]:
    """The last moment at which each process can have ended whose parent waited for it."""
    begun: dict[int, list[Run]] = {}
    for run in runs:
        begun.setdefault(run.image.pid, []).append(run)
    moments: dict[int, int] = {}
    for run in runs:
        for time, pid in run.image.waits():
            before = [other for other in begun.get(pid, ()) if other.image.started < time]
            if before:
                moments.setdefault(before[-1].image.process, time - 1)
    return moments


def _place(run: Run, runs: list[Run]) -> None:
    """Find out how `run` began; `runs` began before it."""
    image = run.image
    for other in reversed(runs):
        if image.forked_from and other.image.started == image.forked_from:
            run.parent = other
            other.forks.append(run)
            return
        if not image.forked_from and other.image.process == image.process:
            run.process, run.execs = other.process, True
            other.last = False
            return
    if runs:
        parents = [other for other in runs if other.image.pid == image.parent_pid]
        run.parent, run.execs = (parents[-1] if parents else runs[0]), True
