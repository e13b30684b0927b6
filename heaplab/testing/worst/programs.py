"""Programs that the search for the worst trace tries: phases that free by a rule, and then allocate."""

from dataclasses import dataclass, replace
from typing import Any, ClassVar, Protocol, TypeVar

import numpy as np
import numpy.typing as npt

from heaplab.lab.adversaries import Blocks, Opponent
from heaplab.lab.adversaries.buddies import smallest_in_each
from heaplab.lab.adversaries.robson import holding, in_the_way

T = TypeVar("T")

#: which of the live blocks a phase keeps, and what its `step` says then
RULES = {
    "all": "all of them",
    "none": "none",
    "every": "of {step} in the order of allocation one",
    "random": "of {step} one by chance",
    "oldest": "of {step} parts the oldest",
    "newest": "of {step} parts the newest",
    "aligned": "in each aligned {step} bytes the smallest",
    "residue": "what holds a byte of one address modulo {step}",
}
#: of a phase: the parts of what may still live that it allocates
EIGHTHS = 8


@dataclass(frozen=True)
class Phase:
    """Frees what a rule does not keep, and then allocates.

    keep: of RULES.  step: a number of it.  request: bytes of each new block.  fill: eighths of what may live
    besides that is filled with them.
    """

    keep: str
    step: int
    request: int
    fill: int

    def __str__(self) -> str:
        kept = RULES[self.keep].format(step=self.step)
        return f"keep {kept}; fill {self.fill}/{EIGHTHS} of the rest with blocks of {self.request} bytes"


@dataclass(frozen=True)
class Program:
    """A program of phases, which looks at addresses where a rule does; an adversary.

    live: at most so many bytes of payload.

    >>> from heaplab.lab import adversary
    >>> program = Program(1 << 18, (Phase("none", 1, 56, 8), Phase("every", 2, 120, 8)))
    >>> print(program)
    keep none; fill 8/8 of the rest with blocks of 56 bytes
    keep of 2 in the order of allocation one; fill 8/8 of the rest with blocks of 120 bytes
    >>> adversary(program, "rbtree").ratio > 1.5
    True
    """

    live: int
    phases: tuple[Phase, ...]

    name: ClassVar[str] = "program"

    def __call__(self, opponent: Opponent) -> None:
        """Drive an allocator."""
        random = np.random.default_rng(len(self.phases))
        blocks, residue = Blocks.of([]), 0
        for phase in self.phases:
            if phase.keep == "residue" and len(blocks):
                residue = _residue(blocks, residue, phase.step)
            kept = _kept(blocks, phase, residue, random)
            opponent.free_many(blocks[~kept])
            blocks = blocks[kept]
            room = max(self.live - int(blocks.size.sum()), 0) * phase.fill // EIGHTHS
            more = opponent.malloc_many(np.full(room // phase.request, phase.request))
            blocks = Blocks.join([blocks, more])

    def __str__(self) -> str:
        return "\n".join(map(str, self.phases))


def _kept(blocks: Blocks, phase: Phase, residue: int, random: np.random.Generator) -> npt.NDArray[np.bool_]:
    """Which blocks, in the order of allocation, the phase keeps."""
    count, step = len(blocks), phase.step
    kept: npt.NDArray[np.bool_] = np.zeros(count, np.bool_)
    if phase.keep == "all":
        kept[:] = True
    elif phase.keep == "every":
        kept[::step] = True
    elif phase.keep == "random":
        kept = random.random(count) < 1 / step
    elif phase.keep == "oldest":
        kept[: count // step] = True
    elif phase.keep == "newest":
        kept[count - count // step :] = True
    elif phase.keep == "aligned":
        kept = smallest_in_each(blocks, step)
    elif phase.keep == "residue":
        kept = holding(blocks, residue, step)
    return kept


def _residue(blocks: Blocks, residue: int, step: int) -> int:
    """The address modulo `step` that continues the last phase's, and whose blocks stand most in the way."""
    if not residue:
        starts, counts = np.unique(blocks.address % step, return_counts=True)
        residue = int(starts[counts.argmax()])
    return max((residue, residue + step // 2), key=lambda each: in_the_way(blocks, each, step))


class Chooser(Protocol):
    """What decides on the parameters of a program."""

    def integer(self, name: str, low: int, high: int) -> int:
        """Return a number from `low` to `high`."""

    def among(self, name: str, options: tuple[T, ...]) -> T:
        """Return one of `options`."""


#: from the size of one phase to that of the next
_GROWTH: dict[str, Any] = {
    "doubles": lambda size: 2 * size,
    "four times": lambda size: 4 * size,
    "half more": lambda size: size + size // 2,
    "16 more": lambda size: size + 16,
    "64 more": lambda size: size + 64,
    "stays": lambda size: size,
}
#: what is asked for, so that the block has `size` bytes
_REQUESTS: dict[str, Any] = {
    "exactly": lambda size: size,
    "header of 8": lambda size: size - 8,
    "header of 16": lambda size: size - 16,
    "above half": lambda size: size // 2 + 1 - 8,
}
#: the step of a rule for blocks of `size` bytes is this many times the size, or the number itself
_WINDOWS = (1, 2, 4, 8)
_MOST_PHASES = 12
_MOST_STEP = 1 << 20
#: rules, some more than once: to keep all or none is seldom what hurts
_LIKELY = (*RULES, "every", "random", "aligned", "aligned", "residue", "residue")


def drawn(choose: Chooser, live: int, least: int, largest: int) -> Program:
    """Return the program that `choose` decides on: sizes that grow from phase to phase, and one rule."""
    size = least << choose.integer("first", 0, 3)
    grow = _GROWTH[choose.among("growth", tuple(_GROWTH))]
    request = _REQUESTS[choose.among("request", tuple(_REQUESTS))]
    keep = choose.among("keep", _LIKELY)
    step = choose.among("step", (2, 2, 3, 4, 8, 16))
    window = choose.among("window", _WINDOWS)
    page = choose.among("page", (0, 4096, 65536))
    fill = choose.among("fill", (EIGHTHS, EIGHTHS - 1, EIGHTHS // 2))
    phases: list[Phase] = []
    for _ in range(choose.integer("phases", 2, _MOST_PHASES)):
        if size > largest:
            break
        if keep in ("aligned", "residue"):
            step = page or window * size
        first = not phases
        phases.append(
            Phase("none" if first else keep, step, max(request(size), least // 2), EIGHTHS if first else fill)
        )
        size = grow(size)
    return Program(live, tuple(phases))


#: what a neighbour differs in, some more than once
_CHANGES = (
    *("request", "request", "step", "step", "keep", "fill", "copy", "drop", "swap"),
    *("go on", "go on", "go on", "all alike", "all alike", "shift"),
)


def _next(phases: list[Phase], largest: int) -> Phase:
    """One phase more, as the last one; its size is to the last as that was to the one before."""
    last = phases[-1]
    before = phases[-2] if len(phases) > 1 else replace(last, request=max(last.request // 2, 1), step=1)
    request = min(max(last.request * last.request // before.request, 1), largest)
    step = max(last.step * last.step // max(before.step, 1), 1)
    return replace(last, request=request, step=min(step, _MOST_STEP))


def _like(phase: Phase, other: Phase) -> int:
    """The step by which `other` keeps as `phase` does: where it is bytes, as many times its own size."""
    if phase.keep in ("aligned", "residue"):
        return min(max(phase.step * other.request // phase.request, 1), _MOST_STEP)
    return phase.step


def neighbour(program: Program, choose: Chooser, least: int, largest: int) -> Program:
    """Return a program that differs in one thing: a phase more, or fewer, or another number in one."""
    phases = list(program.phases)
    at = choose.integer("at", 0, len(phases) - 1)
    phase = phases[at]
    what = choose.among("what", _CHANGES)
    if what == "request":
        size = choose.among("size", (2.0, 0.5, 1.5, 0.75, 1.0))
        request = int(phase.request * size) + choose.among("more", (-16, -8, 0, 8, 16, 1))
        phases[at] = Phase(phase.keep, phase.step, min(max(request, least // 2), largest), phase.fill)
    elif what == "step":
        step = min(max(int(phase.step * choose.among("times", (2.0, 0.5, 4.0, 0.25, 1.5))), 1), _MOST_STEP)
        phases[at] = Phase(phase.keep, step, phase.request, phase.fill)
    elif what == "keep":
        keep = choose.among("keep", tuple(RULES))
        step = phase.step
        if keep in ("aligned", "residue") and phase.keep not in ("aligned", "residue"):
            step = 2 * phase.request
        elif keep not in ("aligned", "residue") and step > 64:
            step = 2
        phases[at] = Phase(keep, step, phase.request, phase.fill)
    elif what == "fill":
        phases[at] = Phase(phase.keep, phase.step, phase.request, choose.integer("fill", 1, EIGHTHS))
    elif what == "go on" and len(phases) < 2 * _MOST_PHASES:
        phases.append(_next(phases, largest))
    elif what == "all alike":
        phases[1:] = [replace(each, keep=phase.keep, step=_like(phase, each)) for each in phases[1:]]
    elif what == "shift":
        more = choose.among("more", (-8, 8, -16, 16))
        phases = [
            replace(each, request=min(max(each.request + more, least // 2), largest)) for each in phases
        ]
    elif what == "copy" and len(phases) < 2 * _MOST_PHASES:
        phases.insert(at, phase)
    elif what == "drop" and len(phases) > 1:
        del phases[at]
    elif what == "swap":
        other = choose.integer("other", 0, len(phases) - 1)
        phases[at], phases[other] = phases[other], phases[at]
    return Program(program.live, tuple(phases))
