"""Sequences from seeds: played, and where the two sides differ shrunk to the shortest one that does."""

import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Final

from heaplab.errors import UsageError
from heaplab.testing.conform.agents import TooManyTasks
from heaplab.testing.conform.generate import Generator
from heaplab.testing.conform.model import ModelSide
from heaplab.testing.conform.play import Played, Source, World, play, replay
from heaplab.testing.conform.real import RealSide
from heaplab.testing.conform.shrink import shrink
from heaplab.testing.conform.steps import Step

#: how often a difference is looked for again before it is taken for the real kernel's own mood
_REPLAYS: Final = 3
#: steps after which one process is looked at in full, which takes longer than a step
FULL_LOOK: Final = 4


@dataclass
class Found:
    """A difference: the seed whose sequence showed it, and the shortest sequence found so far.

    shortest: None when it did not show again.
    """

    seed: int
    first: Played
    shortest: Played | None = None


@dataclass
class Report:
    """What a run has done so far."""

    seeds: int = 0
    steps: int = 0
    seconds: float = 0.0
    found: list[Found] = field(default_factory=list)


def demand_rights() -> None:
    """Raise UsageError, with what is missing, where no agent can be run."""
    if not sys.platform.startswith("linux") or os.uname().machine != "x86_64":
        raise UsageError("heaplab conform asks the real kernel, and that must be Linux on x86-64")
    if os.geteuid() != 0:
        raise UsageError(
            "heaplab conform must be root: it makes a pid namespace and reads the frame numbers in /proc"
        )
    with bound_to_one_cpu():
        RealSide().close()


@contextmanager
def bound_to_one_cpu() -> Iterator[None]:
    """Run this thread, and what it starts, on one CPU.

    On another CPU's list of fresh pages a frame has one user more for a while, and a reuse becomes a copy.
    """
    cpus = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(cpus)})
    try:
        yield
    finally:
        os.sched_setaffinity(0, cpus)


def play_once(source: Source, *, every: int = 1) -> Played:
    """Play one sequence on a new tree of agents and a new model; end with the model's own invariants.

    every: after so many steps one process is looked at in full.
    """
    real = RealSide()
    try:
        model = ModelSide(real.start)
        played = play(source, real, model, real.start, every=every)
        if not played.differences:
            model.check()
        return played
    finally:
        real.close()


def conform(
    seeds: Sequence[int],
    steps: int,
    profile: str = "all",
    progress: Callable[[Report], None] = lambda report: None,
    report: Report | None = None,
) -> Report:
    """Play a sequence of `steps` steps for each seed, until one differs; that one is shrunk.

    progress: is called now and then with what is done so far.
    report: to be filled, and returned; what is in it stands when the run is interrupted.
    Raises: UsageError where the real kernel cannot be asked.
    """
    demand_rights()
    report = report if report is not None else Report()
    started = time.perf_counter()

    def counted(source: Source) -> Source:
        def next_step(world: World) -> Step | None:
            step = source(world)
            report.steps += step is not None
            report.seconds = time.perf_counter() - started
            progress(report)
            return step

        return next_step

    with bound_to_one_cpu():
        for seed in seeds:
            played = play_once(counted(Generator(seed, steps, profile)), every=FULL_LOOK)
            report.seeds += 1
            if played.differences:
                found = Found(seed, played)
                report.found.append(found)
                for found.shortest in ever_shorter(played.steps):
                    progress(report)
                break
    return report


def ever_shorter(steps: Sequence[Step]) -> Iterator[Played]:
    """Yield ever shorter sequences that differ, out of one that did; none if that does no more."""
    differed: Played | None = None

    def trial(some: Sequence[Step]) -> list[Step] | None:
        nonlocal differed
        try:
            # in full at the end alone: what differs then has mostly differed for long
            played = play_once(replay(some), every=len(steps) + 1)
        except TooManyTasks:  # the waits are among what was left out
            return None
        if not played.differences:
            return None
        differed = played
        return played.steps

    if not any(trial(steps) for _ in range(_REPLAYS)):
        return
    assert differed is not None
    yield differed
    for _ in shrink(steps, trial):
        yield differed
