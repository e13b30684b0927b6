"""One sequence, played on both sides and compared after every step."""

import os
import traceback
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from signal import SIGCHLD
from typing import NamedTuple, Protocol

from heaplab.abi import (
    CLONE_FILES,
    CLONE_SIGHAND,
    CLONE_THREAD,
    CLONE_VFORK,
    CLONE_VM,
    MFD_CLOEXEC,
    WNOHANG,
)
from heaplab.errors import WouldBlock
from heaplab.testing.conform import details
from heaplab.testing.conform.codec import CATCHER
from heaplab.testing.conform.observe import (
    Difference,
    Outcome,
    Pages,
    Span,
    Start,
    Views,
    caught_by_any,
    compare_outcomes,
    compare_pages,
    compare_views,
    frame_at,
    spans_of,
)
from heaplab.testing.conform.steps import (
    Access,
    Birth,
    Brk,
    Close,
    Dup,
    Exec,
    Exit,
    Leave,
    Memfd,
    Open,
    Pipe,
    Sigaction,
    Step,
    Wait,
)


class Side(Protocol):
    """One of the two: it does steps, and can be looked at."""

    def perform(self, step: Step) -> Outcome: ...
    def views(self) -> Views: ...
    def pages(self, spans: list[Span]) -> Pages: ...
    def details(self, pid: int) -> str: ...


class RealSide(Side, Protocol):
    """The real one."""

    def minflt(self, pid: int) -> int: ...


class ModelSide(Side, Protocol):
    """The model."""

    def set_minflt(self, pid: int, total: int) -> None: ...


@dataclass(frozen=True)
class PageTables:
    """The page tables as both sides have them."""

    spans: list[Span]
    real: Pages
    model: Pages


@dataclass
class Heap:
    """Where the break of an address space began, and where it is; None: nobody has asked since exec."""

    start: int | None = None
    brk: int | None = None


class Descriptor(NamedTuple):
    """What was learnt of one descriptor.

    closes   exec closes it
    pipe     which pipe's end it is, by a number; 0: it is none
    writes   the end to write to
    """

    closes: bool
    pipe: int = 0
    writes: bool = False


@dataclass
class Known:
    """What was learnt of one task from its steps.

    tgid     the pid of its process
    heap     tasks with one memory have one
    fds      its descriptors; tasks that share them have one dict
    actions  what it does on which signal, as far as it said so; tasks that share that have one dict
    """

    tgid: int
    heap: Heap
    fds: dict[int, Descriptor] = field(default_factory=dict)
    actions: dict[int, int] = field(default_factory=dict)


@dataclass
class World:
    """What both sides agree on after the last step; by it the next one is chosen.

    known: each task's.  accessed: the addresses that steps went to.
    entangled: tasks whose signal actions are another process's too.  pipes: how many were made.
    """

    start: Start
    views: Views = field(default_factory=dict)
    tables: PageTables | None = None
    known: dict[int, Known] = field(default_factory=dict)
    accessed: set[int] = field(default_factory=set)
    entangled: set[int] = field(default_factory=set)
    pipes: int = 0

    def __post_init__(self) -> None:
        self.known.setdefault(1, Known(1, Heap(self.start.brk, self.start.brk)))

    def of(self, pid: int) -> Known:
        """What is known of a task."""
        return self.known.setdefault(pid, Known(pid, Heap()))

    def living(self) -> list[int]:
        """The tasks that can take steps."""
        return [pid for pid, view in self.views.items() if view.state == "R"]

    def note(self, step: Step, outcome: Outcome) -> None:
        """Remember what no observation will tell."""
        known, result = self.of(step.pid), outcome.result
        match step:
            case Access():
                self.accessed.add(step.addr)
            case Brk():
                known.heap.brk = result
                known.heap.start = known.heap.start or result
            case Birth() if result > 0:
                self._note_birth(step, known, result)
            case Exec() if result > 0:
                fds = {fd: what for fd, what in known.fds.items() if not what.closes}
                self.known[known.tgid] = Known(known.tgid, Heap(), fds)
                self.entangled.discard(known.tgid)
            case Sigaction() if result == 0:
                known.actions[step.sig] = step.handler
            case Memfd() if result >= 0:
                known.fds[result] = Descriptor(bool(step.flags & MFD_CLOEXEC))
            case Open() if result >= 0:
                known.fds[result] = Descriptor(bool(step.flags & os.O_CLOEXEC))
            case Pipe() if outcome.told:
                self.pipes += 1
                for fd, writes in zip(map(int, outcome.told.split(", ")), (False, True), strict=True):
                    known.fds[fd] = Descriptor(bool(step.flags & os.O_CLOEXEC), self.pipes, writes)
            case Dup() if result >= 0:
                known.fds[result] = known.fds.get(step.fd, Descriptor(False))._replace(closes=False)
            case Close() if result == 0:
                known.fds.pop(step.fd, None)

    def _note_birth(self, step: Birth, parent: Known, child: int) -> None:
        self.known[child] = Known(
            parent.tgid if step.shares & CLONE_THREAD else child,
            parent.heap if step.shares & CLONE_VM else replace(parent.heap),
            parent.fds if step.shares & CLONE_FILES else dict(parent.fds),
            parent.actions if step.shares & CLONE_SIGHAND else dict(parent.actions),
        )
        if step.shares & (CLONE_SIGHAND | CLONE_THREAD) == CLONE_SIGHAND:
            self.entangled |= {step.pid, child}
        elif step.pid in self.entangled and step.shares & CLONE_THREAD:
            self.entangled.add(child)


#: gives the next step; None ends the sequence
Source = Callable[[World], Step | None]


@dataclass(frozen=True)
class Played:
    """What came of a sequence: the steps that were done, and what differed after the last of them."""

    steps: list[Step]
    differences: list[Difference]


def replay(steps: Iterable[Step], left_out: list[Step] | None = None) -> Source:
    """Return a source of these steps, but for those whose task is not there to take them.

    Nor is pid 1 let end: it would be the end of all.  left_out: gets what is not played.
    """
    rest = iter(steps)

    def next_step(world: World) -> Step | None:
        for step in rest:
            if step.pid in world.living() and not ends_init(step, world):
                return step
            if left_out is not None:
                left_out.append(step)
        return None

    return next_step


def is_open(step: Step, world: World) -> bool:
    """Whether what comes of a step is the scheduler's choice.

    A parent that sleeps in vfork, and has a handler for SIGCHLD: does it wake before that is sent, or after?
    """
    known = world.of(step.pid)
    if isinstance(step, Birth):
        return bool(step.shares & CLONE_VFORK) and known.actions.get(SIGCHLD) == CATCHER
    if not isinstance(step, Sigaction) or step.sig != SIGCHLD or step.handler != CATCHER:
        return False
    return any(
        view.state == "D" and world.of(pid).actions is known.actions for pid, view in world.views.items()
    )


def ends_init(step: Step, world: World) -> bool:
    """Whether a step would be the end of pid 1, or of one of its tasks."""
    ends = isinstance(step, Exit | Leave) or getattr(step, "fatal", 0) != 0
    return ends and world.of(step.pid).tgid == 1


def play(source: Source, real: RealSide, model: ModelSide, start: Start, *, every: int = 1) -> Played:
    """Play the steps that `source` gives until it ends, or something differs.

    every: after so many steps one process is looked at in full; at the end all are.
    """
    match = _Match(real, model, start)
    steps: list[Step] = []
    differences = match.observe()
    while not differences and (step := source(match.world)) is not None:
        step, differences = match.step(step)
        steps.append(step)
        if not differences and len(steps) % every == 0:
            differences = match.observe_in_full([step.pid])
    return Played(steps, differences or match.observe_in_full(match.world.views))


class _Match:
    """The two sides of one sequence, and what was last seen of them."""

    def __init__(self, real: RealSide, model: ModelSide, start: Start) -> None:
        self.real = real
        self.model = model
        self.world = World(start)
        model.set_minflt(1, real.minflt(1))

    def step(self, step: Step) -> tuple[Step, list[Difference]]:
        """Do one step on both sides; return it as it was done, and how they differ then."""
        try:
            step, expected = self._perform_on_model(step)
        except Exception as error:
            where = traceback.extract_tb(error.__traceback__)[-1]
            said = f"{type(error).__name__} in {where.name}, {where.filename}:{where.lineno}: {error}"
            return step, [Difference("the model broke", str(self.real.perform(step)), said)]
        outcome = self.real.perform(step)
        self.world.note(step, outcome)
        if isinstance(step, Birth | Exec) and outcome.result == expected.result > 0:
            who = outcome.result if isinstance(step, Birth) else self.world.of(step.pid).tgid
            self.model.set_minflt(who, self.real.minflt(who))
        before = self.world.tables
        differences = compare_outcomes(outcome, expected) or self.observe()
        if not differences and isinstance(step, Access) and before is not None:
            differences = self._compare_change(step, before)
        return step, differences

    def _perform_on_model(self, step: Step) -> tuple[Step, Outcome]:
        """A wait that would sleep only looks instead, on both sides: there is nobody to wake it."""
        try:
            return step, self.model.perform(step)
        except WouldBlock:
            assert isinstance(step, Wait)
            step = replace(step, options=step.options | WNOHANG)
            return step, self.model.perform(step)

    def observe(self) -> list[Difference]:
        """Look at both sides; return how they differ."""
        views, theirs = self.real.views(), self.model.views()
        for pid in self._ended_together(views):
            if pid in theirs:
                self.model.set_minflt(pid, views[pid].minflt)
                theirs[pid] = replace(theirs[pid], minflt=views[pid].minflt)
        for tasks in self._woken_together(views):
            views, theirs = (caught_by_any(tasks, each) for each in (views, theirs))
        if differences := compare_views(views, theirs):
            return differences
        spans = spans_of(views, self.world.accessed)
        tables = PageTables(spans, self.real.pages(spans), self.model.pages(spans))
        self.world.views, self.world.tables = views, tables
        return compare_pages(spans, tables.real, tables.model)

    def _ended_together(self, views: Views) -> list[int]:
        """Return the processes of which several tasks ended in the last step.

        One that is to zero a word at its end (CLONE_CHILD_CLEARTID) may fault for it, unless it is the last:
        who that is the scheduler decides.
        """
        before = self.world.views
        return [
            pid
            for pid, view in views.items()
            if view.state == "Z" and pid in before and before[pid].state != "Z" and before[pid].threads > 1
        ]

    def _woken_together(self, views: Views) -> list[list[int]]:
        """Return the tasks of each process that was stopped: who of them runs first takes what waits."""
        stopped: dict[int, list[int]] = {}
        for pid, view in self.world.views.items():
            if view.state == "T" and pid in views:
                stopped.setdefault(self.world.of(pid).tgid, []).append(pid)
        return [tasks for tasks in stopped.values() if len(tasks) > 1]

    def observe_in_full(self, pids: Iterable[int]) -> list[Difference]:
        """Look at all that /proc says of some processes; return how the two sides differ."""
        for pid in pids:
            view = self.world.views.get(pid)
            if view is None or view.state == "Z":
                continue
            differences = details.compare(pid, self.real.details(pid), self.model.details(pid))
            if differences:
                return differences
        return []

    def _compare_change(self, step: Access, before: PageTables) -> list[Difference]:
        """Did the access change the frame of its page on one side only: a copy here, reuse there?"""
        after = self.world.tables
        assert after is not None
        said = []
        for side in ("real", "model"):
            old, new = (
                frame_at(tables.spans, getattr(tables, side), step.pid, step.addr)
                for tables in (before, after)
            )
            said.append("the same frame as before" if old == new else "another frame")
        return [] if said[0] == said[1] else [Difference(f"the page of {step.addr:#x}", said[0], said[1])]
