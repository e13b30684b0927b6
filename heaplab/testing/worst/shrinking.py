"""A smaller program that does as much harm: fewer phases, and simpler ones."""

from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace

from heaplab.testing.worst.methods import Spent
from heaplab.testing.worst.programs import EIGHTHS, Phase, Program


def smaller(program: Program, good: Callable[[Program], bool]) -> Iterator[Program]:
    """Yield smaller and smaller programs that are still `good`, until none is, or `good` raises Spent."""
    with suppress(Spent):
        going = True
        while going:
            going = False
            for candidate in _candidates(program):
                if good(candidate):
                    program, going = candidate, True
                    yield program
                    break


def _candidates(program: Program) -> Iterator[Program]:
    """Programs with one thing less, the greatest steps first."""
    phases = program.phases
    if len(phases) > 1:
        for at in range(len(phases)):
            yield replace(program, phases=phases[:at] + phases[at + 1 :])
    for at, phase in enumerate(phases):
        for other in _simpler(phase, first=at == 0):
            yield replace(program, phases=(*phases[:at], other, *phases[at + 1 :]))


def _simpler(phase: Phase, *, first: bool) -> Iterator[Phase]:
    if first and phase.keep != "none":
        yield replace(phase, keep="none", step=1)
    if phase.keep == "random":
        yield replace(phase, keep="every")
    if phase.keep in ("all", "none") and phase.step != 1:
        yield replace(phase, step=1)
    if phase.step & (phase.step - 1):  # a power of two is simpler
        yield replace(phase, step=1 << phase.step.bit_length())
        yield replace(phase, step=1 << phase.step.bit_length() - 1)
    if phase.fill < EIGHTHS:
        yield replace(phase, fill=EIGHTHS)
    if phase.request > 8 and phase.request % 8:
        yield replace(phase, request=phase.request // 8 * 8)
