"""The shortest sequence that still differs: fewer steps, then fewer processes, then simpler arguments.

Source: Zeller and Hildebrandt, Simplifying and Isolating Failure-Inducing Input, 2002 (ddmin).
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

from heaplab.testing.conform.steps import Birth, Getpgid, Getsid, Kill, Setpgid, Step, Tgkill, Wait

#: plays steps; returns those that were done up to the difference, or None when nothing differs
Trial = Callable[[Sequence[Step]], list[Step] | None]


def shrink(steps: Sequence[Step], trial: Trial) -> list[Step]:
    """Return a sequence that differs, of which no step can be left out and no argument be made simpler.

    steps: such that trial(steps) differs.  The difference need not stay the same one while it shrinks.
    Cost: O(n log n) trials for most sequences of n steps, O(n^2) for the worst.

    >>> from heaplab.testing.conform.steps import Brk, Getpid
    >>> steps = [Getpid(2), Brk(2, 5), Getpid(3), Brk(2, 7), Brk(2, 9)]
    >>> def differs(some):
    ...     return list(some) if Brk(2, 5) in some and Brk(2, 7) in some else None
    >>> [str(step) for step in shrink(steps, differs)]
    ['[2] brk(addr=0x5)', '[2] brk(addr=0x7)']
    """
    best = list(steps)
    while True:
        before = best
        best = _fewer(best, trial)
        best = _first_that_differs(best, _with_one_process_less, trial)
        best = _first_that_differs(best, _with_one_step_simpler, trial)
        if best == before:
            return best


def _fewer(steps: list[Step], trial: Trial) -> list[Step]:
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
            end = min(start, len(steps))
        if size == 1:
            return steps
        size //= 2


def _first_that_differs(
    steps: list[Step], changes: Callable[[list[Step]], Iterator[list[Step]]], trial: Trial
) -> list[Step]:
    """Make one change after the other, as long as what comes of it differs and is no longer."""
    found: list[Step] | None = steps
    while found is not None:
        steps = found
        tried = (trial(changed) for changed in changes(steps))
        found = next((done for done in tried if done is not None and len(done) <= len(steps)), None)
    return steps


def _with_one_process_less(steps: list[Step]) -> Iterator[list[Step]]:
    """Leave out a birth, and let the parent do what the child did; pids are given in sequence from 2 on."""
    forks = [index for index, step in enumerate(steps) if isinstance(step, Birth)]
    for child, index in enumerate(forks, start=2):
        parent = steps[index].pid
        yield [_renumbered(step, child, parent) for step in steps[:index] + steps[index + 1 :]]


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
