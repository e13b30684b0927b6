"""The shortest steps that make a heap fail: steps are left out, and those that stay made simpler.

Hypothesis shrinks too, but in its own draws, and gives up after some hundred attempts.  Here it is steps that
are taken away; those that are then no longer possible are passed over.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

from heaplab.errors import HeaplabError
from heaplab.testing.checked_heap import CheckedHeap
from heaplab.testing.steps import Aligned, Calloc, Fork, Free, Malloc, Realloc, Step, ThreadExit, can_be_freed
from heaplab.testing.twins import Twins

Heap = CheckedHeap | Twins


def shrunk(steps: Sequence[Step], fresh: Callable[[], Heap], *, attempts: int = 2000) -> list[Step]:
    """Return the shortest steps found that fail as these do, on a heap that `fresh` makes.

    They fail as these do if the error is of the same type and its text the same but for the numbers.
    attempts: how often steps are played, at most.
    Returns: the steps as they are when playing them raises nothing.

    >>> from heaplab.allocators.designs.rbtree import RBTree
    >>> class NoZeros(RBTree):
    ...     def _free(self, p):
    ...         assert self._usable(p) < 1000, "too large"
    ...         super()._free(p)
    >>> steps = [Malloc(0, 500), Malloc(1, 2500), Fork(1), Calloc(2, 3, 700), Free(0), Free(1)]
    >>> print(*shrunk(steps, lambda: CheckedHeap(NoZeros)), sep="; ")
    malloc 0 985; free 0
    """
    best, error = play(steps, fresh())
    if error is None:
        return list(steps)
    kind, left = _kind(error), attempts
    again = True
    while again and left > 0:
        again = False
        for candidate in _simpler(best):
            left -= 1
            if left <= 0:
                break
            played, error = play(candidate, fresh())
            if error is not None and _kind(error) == kind and _weight(played) < _weight(best):
                best, again = played, True
                break
    return best


def play(steps: Sequence[Step], heap: Heap) -> tuple[list[Step], Exception | None]:
    """Carry out the steps that are possible, up to one that fails; return these, and the error if one failed.

    Slots are numbered anew: a block gets the lowest that is free.
    """
    played: list[Step] = []
    slots: dict[int, dict[int, int]] = {0: {}}
    for step in steps:
        renamed = _possible(step, slots, heap)
        if renamed is None:
            continue
        played.append(renamed)
        try:
            heap.do(renamed)
        except (AssertionError, HeaplabError) as error:
            return played, error
        match step:
            case Malloc(slot) | Calloc(slot) | Aligned(slot):
                slots[step.process][slot] = renamed.slot  # type: ignore[attr-defined]
            case Free(slot):
                del slots[step.process][slot]
            case Fork(child):
                slots[child] = dict(slots[step.process])
    return played, None


def _kind(error: Exception) -> tuple[type, str]:
    return type(error), re.sub(r"0x[0-9a-f]+|\d+", "n", str(error))


def _possible(step: Step, slots: dict[int, dict[int, int]], heap: Heap) -> Step | None:
    if step.process not in slots:
        return None
    own, live = slots[step.process], heap.live[step.process]
    match step:
        case Malloc() | Calloc() | Aligned():
            return replace(step, slot=next(slot for slot in range(len(live) + 1) if slot not in live))
        case Free(slot) | Realloc(slot):
            slot = own.get(slot, -1)
            wanted = live if isinstance(step, Realloc) else can_be_freed(heap, step.process)
            return replace(step, slot=slot) if slot in wanted else None
        case Fork(child):
            return step if child not in slots else None
    return step


def _simpler(steps: list[Step]) -> Iterator[list[Step]]:
    """Yield what may be shorter or simpler, the shortest first."""
    length = len(steps) - 1
    while length:
        for at in range(0, len(steps), length):
            yield steps[:at] + steps[at + length :]
        length //= 2
    for at, step in enumerate(steps):
        if isinstance(step, Fork):  # what the child did, its parent does
            others = steps[:at] + steps[at + 1 :]
            yield [
                replace(other, process=step.process) if other.process == step.child else other
                for other in others
            ]
    for at, step in enumerate(steps):
        for other in _simpler_step(step):
            yield [*steps[:at], other, *steps[at + 1 :]]


def _simpler_step(step: Step) -> Iterator[Step]:
    if step.thread:
        yield replace(step, thread=0)
    match step:
        case Calloc(slot, n, size):
            yield Malloc(slot, n * size, process=step.process, thread=step.thread)
            if n > 1:
                yield replace(step, n=1)
            yield from (replace(step, size=less) for less in _less(size))
        case Aligned(slot, alignment, size):
            yield Malloc(slot, size, process=step.process, thread=step.thread)
            yield from (replace(step, alignment=1 << bits) for bits in range(alignment.bit_length() - 1))
            yield from (replace(step, size=less) for less in _less(size))
        case Malloc(_, size) | Realloc(_, size):
            least = isinstance(step, Realloc)
            yield from (replace(step, size=less) for less in _less(size) if less >= least)


def _less(size: int) -> Iterator[int]:
    """Smaller sizes: round ones, then by halving, then by one."""
    yield from (less for less in (0, 1, 24, 100, 1000, 5000, 20_000) if less < size)
    by = size // 2
    while by:
        yield size - by
        by //= 2


def _weight(steps: Sequence[Step]) -> tuple[int, ...]:
    """What is to become less: the steps, then how much is not simple in them."""
    kinds = (Malloc, Free, Realloc, Calloc, Aligned, Fork, ThreadExit)
    return (
        len(steps),
        sum(kinds.index(type(step)) + step.thread for step in steps),
        sum(getattr(step, name, 0) for step in steps for name in ("size", "n", "alignment")),
    )
