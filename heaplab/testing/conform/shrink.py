"""The shortest sequence that still differs: fewer steps, then fewer processes, then simpler arguments.

Source: Zeller and Hildebrandt, Simplifying and Isolating Failure-Inducing Input, 2002 (ddmin).
"""

from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import replace

from heaplab.testing.conform.steps import Birth, Getpgid, Getsid, Kill, Setpgid, Step, Tgkill, Wait

#: plays steps; returns those that were done up to the difference, or None when nothing differs
Trial = Callable[[Sequence[Step]], list[Step] | None]


def shrink(steps: Sequence[Step], trial: Trial) -> Iterator[list[Step]]:
    """Yield ever shorter or simpler sequences that differ; of the last no step can be left out.

    steps: such that trial(steps) differs.  The difference need not stay the same one while it shrinks.
    Each is what the last call of trial returned.
    Cost: O(n log n) trials for most sequences of n steps, O(n^2) for the worst; of those most are short, for
    kinds of steps go first.

    >>> from heaplab.testing.conform.steps import Brk, Getpid
    >>> steps = [Getpid(2), Brk(2, 5), Getpid(3), Brk(2, 7), Brk(2, 9)]
    >>> def differs(some):
    ...     return list(some) if Brk(2, 5) in some and Brk(2, 7) in some else None
    >>> [len(each) for each in shrink(steps, differs)]
    [3, 2]
    """
    best = yield from _without_kinds(list(steps), trial)
    while True:
        before = best
        best = yield from _fewer(best, trial)
        best = yield from _first_that_differs(best, _with_one_process_less, trial)
        best = yield from _first_that_differs(best, _with_one_step_simpler, trial)
        if best == before:
            return


#: yields what differs on the way, and returns the last
_Shrinking = Generator[list[Step], None, list[Step]]


def _without_kinds(steps: list[Step], trial: Trial) -> _Shrinking:
    """Leave out all steps of a kind, and all of a process: most have nothing to do with the difference."""
    marks: tuple[Callable[[Step], object], ...] = (type, lambda step: step.pid)
    for mark in marks:
        for value in dict.fromkeys(map(mark, steps)):
            rest = [step for step in steps if mark(step) != value]
            shorter = trial(rest) if len(rest) < len(steps) else None
            if shorter is not None:
                steps = shorter
                yield steps
    return steps


def _fewer(steps: list[Step], trial: Trial) -> _Shrinking:
    """Leave out runs of steps, long ones first, from the end: what a difference needs is mostly there."""
    size = max(1, len(steps) // 2)
    while True:
        end = len(steps)
        while end > 0:
            start = max(0, end - size)
            shorter = trial(steps[:start] + steps[end:])
            if shorter is not None:
                # it may have ended before the last of the steps
                steps = shorter
                yield steps
            end = min(start, len(steps))
        if size == 1:
            return steps
        size //= 2


def _first_that_differs(
    steps: list[Step], changes: Callable[[list[Step]], Iterator[list[Step]]], trial: Trial
) -> _Shrinking:
    """Make one change after the other, as long as what comes of it differs and is no longer."""
    while True:
        tried = (trial(changed) for changed in changes(steps))
        found = next((done for done in tried if done is not None and len(done) <= len(steps)), None)
        if found is None:
            return steps
        steps = found
        yield steps


def _with_one_process_less(steps: list[Step]) -> Iterator[list[Step]]:
    """Leave out a birth, and what the child did, or let its parent do it; pids are given in sequence."""
    forks = [index for index, step in enumerate(steps) if isinstance(step, Birth)]
    for child, index in enumerate(forks, start=2):
        parent, rest = steps[index].pid, steps[:index] + steps[index + 1 :]
        strangers = [step for step in rest if child not in (step.pid, getattr(step, "target", None))]
        yield [_renumbered(step, child, parent) for step in strangers]
        yield [_renumbered(step, child, parent) for step in rest]


def _renumbered(step: Step, child: int, parent: int) -> Step:
    """The step in a world without the process `child`."""

    def number(pid: int) -> int:
        return parent if pid == child else pid - 1 if pid > child else pid

    if isinstance(step, Kill | Tgkill | Wait | Setpgid | Getpgid | Getsid):
        step = replace(step, target=number(step.target))
    return replace(step, pid=number(step.pid))


def _with_one_step_simpler(steps: list[Step]) -> Iterator[list[Step]]:
    for index, step in enumerate(steps):
        for simpler in step.simpler():
            yield [*steps[:index], simpler, *steps[index + 1 :]]
