"""The shortest steps that fail: blocks are left out, then single steps, then sizes are made smaller.

What Hypothesis shrinks are its own draws, and it gives up after some hundred attempts.  Here it is steps, and
the end is known, if the budget lasts: no step can be left out; of 40 steps and fewer, no two; of 100 and
fewer, no size is made smaller by one.

A long trace is cut at the event that fails; then whole blocks go, malloc with its free, half of them at a
time, a quarter, and so on (the delta debugging of Zeller and Hildebrandt, 2002, over blocks instead of
lines).  Few steps can be a dead end: twenty of which none can go, where four others do.  So at last all
sequences of a few steps are tried, in the sizes that are there, the shortest first.
"""

import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import combinations, count, islice
from typing import Final

from heaplab.testing.failure import Failure
from heaplab.testing.renumbering import lives, named_apart, renumbered, spans, without
from heaplab.testing.steps import (
    HUGE,
    KINDS,
    Aligned,
    Calloc,
    Fork,
    Free,
    Malloc,
    Realloc,
    Step,
    ThreadExit,
    requested,
)
from heaplab.testing.trials import Trial

#: steps of which all pairs are tried
_PAIRS: Final = 40
#: more steps than these are not looked at one by one for smaller sizes: equal sizes are lowered together
_MANY: Final = 100
#: the most steps in a sequence of which all are tried: at once, and at last
_SHALLOW: Final = 3
_DEEP: Final = 6
#: sequences of one length that are tried, at most
_MOST_SEQUENCES: Final = 3000


@dataclass(frozen=True)
class Minimal:
    """What minimising came to.

    failure: of the fewest steps.  attempts: how often steps were played.  finished: whether nothing was left
    to try; False when the budget was spent before.
    """

    failure: Failure
    attempts: int
    finished: bool


def minimise(
    failure: Failure,
    trial: Trial,
    *,
    newest_first: bool = False,
    attempts: int = 20_000,
    seconds: float = 60.0,
    tell: Callable[[Failure], None] = lambda failure: None,
) -> Minimal:
    """Return the shortest steps found that fail as `failure` does: with a failure of its kind.

    newest_first: for a design without ANY_ORDER.  attempts, seconds: how often steps are played, and how long
    all of it may take; one attempt is not interrupted.  tell: called with each failure that is smaller.

    >>> from heaplab.allocators.designs.rbtree import RBTree
    >>> from heaplab.testing.checked_heap import CheckedHeap
    >>> from heaplab.testing.trials import played
    >>> class NoZeros(RBTree):
    ...     def _free(self, p):
    ...         assert self._usable(p) < 1000, "too large"
    ...         super()._free(p)
    >>> trial = played(lambda: CheckedHeap(NoZeros))
    >>> steps = [Malloc(0, 500), Malloc(1, 2500), Fork(1), Calloc(2, 3, 700), Free(0), Free(1)]
    >>> print(*minimise(trial(steps), trial).failure.steps, sep="; ")
    malloc 0 985; free 0
    """
    search = _Search(failure, trial, newest_first, attempts, time.monotonic() + seconds, tell)
    try:
        search.run()
    except _Spent:
        return Minimal(search.failure, search.attempts, False)
    return Minimal(search.failure, search.attempts, True)


class _Spent(Exception):
    """The budget is spent."""


class _Search:
    """The best steps so far, and what is tried to better them."""

    def __init__(
        self,
        failure: Failure,
        trial: Trial,
        newest_first: bool,
        attempts: int,
        deadline: float,
        tell: Callable[[Failure], None],
    ) -> None:
        self.failure = failure
        self.attempts = 0
        self._trial = trial
        self._newest_first = newest_first
        self._most_attempts = attempts
        self._deadline = deadline
        self._tell = tell
        self._tried: set[int] = set()
        self._best = named_apart(failure.steps)

    def run(self) -> None:
        """Go on until a whole round betters nothing."""
        self._drop_lives()
        while True:
            before = self.failure
            self._drop_steps()
            self._try_all_short_ones(_SHALLOW)
            self._simplify_steps()
            self._lower_sizes()
            self._drop_pairs()
            self._join_requests()
            self._try_all_short_ones(_DEEP)
            if self.failure is before:
                return

    def _attempt(self, apart: Sequence[Step]) -> bool:
        """Play these steps; take them if they are smaller and fail alike."""
        steps = renumbered(apart, newest_first=self._newest_first)
        if not steps or _weight(steps) >= _weight(self.failure.steps):
            return False
        key = hash(tuple(steps))
        if key in self._tried:
            return False
        self._tried.add(key)
        if self.attempts >= self._most_attempts or time.monotonic() > self._deadline:
            raise _Spent
        self.attempts += 1
        found = self._trial(steps)
        if found is None or found.kind != self.failure.kind:
            return False
        if _weight(found.steps) >= _weight(self.failure.steps):
            return False
        self.failure = found
        self._best = named_apart(found.steps)
        self._tell(found)
        return True

    # ---- fewer steps ----

    def _drop_lives(self) -> None:
        """Leave out whole blocks and whole children, many at a time, down to one."""
        size = len(lives(self._best)) // 2
        while size:
            start = 0
            while start < len(units := lives(self._best)):
                if not self._attempt(
                    without(self._best, {place for unit in units[start : start + size] for place in unit})
                ):
                    start += size
            size //= 2

    def _drop_steps(self) -> None:
        """Leave out steps that stand side by side, many at a time, down to one; and a fork alone."""
        size = len(self._best) // 2
        while size:
            start = 0
            while start < len(self._best):
                if not self._attempt(self._best[:start] + self._best[start + size :]):
                    start += size
            size //= 2
        self._better(_without_a_fork)

    def _drop_pairs(self) -> None:
        """Leave out any two steps."""
        if len(self._best) <= _PAIRS:
            self._better(
                lambda steps: (without(steps, set(pair)) for pair in combinations(range(len(steps)), 2))
            )

    def _join_requests(self) -> None:
        """Let one block take the place of several mallocs in a row: of all their bytes, then of fewer."""
        if len(self._best) <= _MANY:
            self._better(_with_joined_requests)

    def _better(self, candidates: Callable[[list[Step]], Iterator[list[Step]]]) -> None:
        """Try all candidates; after one that is better go on with those made of it, from the same place."""
        place, left = 0, candidates(self._best)
        while (candidate := next(left, None)) is not None:
            if self._attempt(candidate):
                left = islice(candidates(self._best), place, None)
            else:
                place += 1

    # ---- simpler steps ----

    def _simplify_steps(self) -> None:
        """Let each step be a simpler one."""
        place = 0
        while place < len(self._best):
            if not any(self._attempt(self._with(place, other)) for other in _simpler(self._best[place])):
                place += 1

    def _with(self, place: int, step: Step) -> list[Step]:
        return [*self._best[:place], step, *self._best[place + 1 :]]

    def _lower_sizes(self) -> None:
        """Make each size as small as it can be: of all steps that have it at once, then of each by itself."""
        for size in sorted({_size(step) for step in self._best}, reverse=True):
            self._lower([place for place, step in enumerate(self._best) if _size(step) == size])
        for place in count():
            if place >= len(self._best) or len(self._best) > _MANY:
                return
            self._lower([place])

    def _lower(self, places: list[int]) -> None:
        """Halve what can be taken off the size that the steps at these places have, as for a threshold."""
        if not places:
            return
        length = len(self._best)
        least = 1 if any(isinstance(self._best[place], Realloc) for place in places) else 0

        def try_size(size: int) -> bool:
            chosen = set(places)
            return self._attempt(
                [_resized(step, size) if place in chosen else step for place, step in enumerate(self._best)]
            )

        size = _size(self._best[places[0]])
        if size <= least or try_size(least):
            return
        low, high = least, size  # low does not fail, high does
        while high - low > 1 and len(self._best) == length:
            middle = (low + high) // 2
            if try_size(middle):
                high = middle
            else:
                low = middle

    # ---- other steps ----

    def _try_all_short_ones(self, deepest: int) -> None:
        """Try every sequence of fewer steps, in the kinds and sizes that are there, the shortest first."""
        depth = 1
        while depth < min(len(self._best), deepest + 1):
            sequences = _sequences(_alphabet(self._best), depth, self._newest_first)
            if not any(self._attempt(steps) for steps in islice(sequences, _MOST_SEQUENCES)):
                depth += 1


def _size(step: Step) -> int:
    return int(getattr(step, "size", 0))


def _resized(step: Step, size: int) -> Step:
    assert isinstance(step, Malloc | Calloc | Aligned | Realloc)
    return replace(step, size=size)


def _weight(steps: Sequence[Step]) -> tuple[int, ...]:
    """What is to become less: the steps, then how much is not simple in them, then bytes."""
    kinds = list(KINDS.values())
    if len(steps) > 1000:  # bytes of so many steps say nothing
        return (len(steps),)
    return (
        len(steps),
        sum(kinds.index(type(step)) + step.thread for step in steps),
        sum(getattr(step, name, 0) for step in steps for name in ("size", "n", "alignment")),
    )


def _without_a_fork(steps: list[Step]) -> Iterator[list[Step]]:
    """Without one fork: what the child did, its parent does."""
    for place, step in enumerate(steps):
        if isinstance(step, Fork):
            others = steps[:place] + steps[place + 1 :]
            yield [
                replace(other, process=step.process) if other.process == step.child else other
                for other in others
            ]


def _with_joined_requests(steps: list[Step]) -> Iterator[list[Step]]:
    """With one malloc for several in a row; frees of the others go with them."""
    for start, stop in spans(len(steps), len(steps) // 2):
        run = steps[start:stop]
        if len(run) > 1 and all(isinstance(step, Malloc) for step in run):
            total = sum(_size(step) for step in run)
            for size in (total, total + 16 * len(run), max(map(_size, run))):
                yield [*steps[:start], _resized(run[0], size), *steps[stop:]]


def _simpler(step: Step) -> Iterator[Step]:
    if step.thread:
        yield replace(step, thread=0)
    match step:
        case Calloc(slot, n, size):
            yield Malloc(slot, n * size, process=step.process, thread=step.thread)
            if n > 1:
                yield replace(step, n=1, size=n * size)
                yield replace(step, n=1)
        case Aligned(slot, alignment, size):
            yield Malloc(slot, size, process=step.process, thread=step.thread)
            yield from (replace(step, alignment=1 << bits) for bits in range(alignment.bit_length() - 1))


def _alphabet(steps: Sequence[Step]) -> list[Step]:
    """Steps to make others of: those that are there, but for their slots; sizes that repeat, and the last."""
    kinds = {type(step) for step in steps}
    sizes = [size for step in steps if (size := requested(step)) < HUGE[0]]
    often = [size for size, _ in Counter(sizes).most_common(2)]
    few = dict.fromkeys([*sizes[-1:], *often, *sorted(set(sizes))[-2:]])
    letters: list[Step] = [Malloc(0, size) for size in few]
    if Free in kinds:
        letters.append(Free(0))
    if Realloc in kinds:
        letters += [Realloc(0, size) for size in few if size]
    if ThreadExit in kinds:
        letters.append(ThreadExit())
    letters += {
        replace(step, slot=0, process=0, thread=0) for step in steps if isinstance(step, Calloc | Aligned)
    }
    threads = sorted({step.thread for step in steps})
    return [replace(letter, thread=thread) for letter in letters for thread in threads]


def _sequences(alphabet: list[Step], length: int, newest_first: bool) -> Iterator[list[Step]]:
    """Every possible sequence of so many steps in one process."""

    def longer(steps: list[Step], live: tuple[int, ...]) -> Iterator[list[Step]]:
        if len(steps) == length:
            yield steps
            return
        fresh = len(steps)
        for letter in alphabet:
            match letter:
                case Malloc() | Calloc() | Aligned():
                    yield from longer([*steps, replace(letter, slot=fresh)], (*live, fresh))
                case Free():
                    for slot in live[-1:] if newest_first else live:
                        rest = tuple(other for other in live if other != slot)
                        yield from longer([*steps, replace(letter, slot=slot)], rest)
                case Realloc():
                    for slot in live:
                        yield from longer([*steps, replace(letter, slot=slot)], live)
                case _:
                    yield from longer([*steps, letter], live)

    return longer([], ())
