"""Steps that hang together: which belong to one block, and what is left when some are left out."""

import heapq
from collections.abc import Iterator, Sequence
from dataclasses import replace

from heaplab.testing.steps import (
    HUGE,
    Aligned,
    Calloc,
    Exec,
    Exit,
    Fork,
    Free,
    Malloc,
    Realloc,
    Step,
    requested,
)
from heaplab.traces import NULL_ID


class _Names:
    """The blocks of one process: by the slot that the old steps gave them, the slot that the new ones do."""

    def __init__(self) -> None:
        self.slots: dict[int, int] = {}  # the newest last
        self._used = 0
        self._back: list[int] = []

    def copy(self) -> "_Names":
        twin = _Names()
        twin.slots, twin._used, twin._back = dict(self.slots), self._used, list(self._back)
        return twin

    def lowest(self) -> int:
        """The lowest slot that is free."""
        return self._back[0] if self._back else self._used

    def take(self, old: int) -> None:
        if self._back:
            self.slots[old] = heapq.heappop(self._back)
        else:
            self.slots[old] = self._used
            self._used += 1

    def release(self, old: int) -> None:
        heapq.heappush(self._back, self.slots.pop(old))


def renumbered(steps: Sequence[Step], *, newest_first: bool = False) -> list[Step]:
    """Return the steps that are possible one after another, without those that are not.

    A block gets the lowest slot that is free, a child the next number: what a trace demands.
    newest_first: only the newest block of a process may be freed, and none reallocated.
    Requests of HUGE[0] bytes and more are taken to be refused: their blocks do not live.
    Cost: O(n log n), about 2 us a step.

    >>> steps = [Free(0), Malloc(7, 24), Malloc(3, 8), Free(7), Fork(4), Free(3, process=4)]
    >>> print(*renumbered(steps), sep="; ")
    malloc 0 24; malloc 1 8; free 0; fork 1; free 1 (process 1, thread 0)
    """
    processes: dict[int, tuple[int, _Names]] = {0: (0, _Names())}
    born = 1
    possible: list[Step] = []
    for step in steps:
        if step.process not in processes:
            continue
        number, names = processes[step.process]
        changes = {} if number == step.process else {"process": number}
        match step:
            case Malloc(slot) | Calloc(slot) | Aligned(slot):
                if slot in names.slots:
                    continue  # its free was left out: another slot would change what later steps mean
                new = names.lowest()
                if requested(step) < HUGE[0]:
                    names.take(slot)
                if new != slot:
                    changes["slot"] = new
            case Free(slot) if slot != NULL_ID:
                if slot not in names.slots or (newest_first and slot != next(reversed(names.slots))):
                    continue
                if names.slots[slot] != slot:
                    changes["slot"] = names.slots[slot]
                names.release(slot)
            case Realloc(slot):
                if newest_first or slot not in names.slots:
                    continue
                if names.slots[slot] != slot:
                    changes["slot"] = names.slots[slot]
            case Fork(child):
                if child in processes:
                    continue
                processes[child] = (born, names.copy())
                if child != born:
                    changes["child"] = born
                born += 1
            case Exec():
                processes[step.process] = (number, _Names())
            case Exit():
                if len(processes) == 1:
                    continue
                del processes[step.process]
        possible.append(replace(step, **changes) if changes else step)
    return possible


def named_apart(steps: Sequence[Step]) -> list[Step]:
    """Return possible steps with a slot of its own for every block that ever lived in a process.

    So a step that is left out changes the meaning of no other.

    >>> print(*named_apart([Malloc(0, 8), Free(0), Malloc(0, 24), Free(0)]), sep="; ")
    malloc 0 8; free 0; malloc 1 24; free 1
    """
    names: dict[int, dict[int, int]] = {0: {}}
    fresh = 0
    apart: list[Step] = []
    for step in steps:
        own = names[step.process]
        match step:
            case Malloc(slot) | Calloc(slot) | Aligned(slot):
                own[slot] = fresh
                fresh += 1
                apart.append(replace(step, slot=own[slot]))
            case Free(slot) | Realloc(slot) if slot != NULL_ID:
                apart.append(replace(step, slot=own[slot]))
            case _:
                apart.append(step)
        if isinstance(step, Fork):
            names[step.child] = dict(own)
        elif isinstance(step, Exec):
            names[step.process] = {}
    return apart


def lives(apart: Sequence[Step]) -> list[list[int]]:
    """Return the steps of each block, and those of each child, as places in `apart` (of `named_apart`).

    The fork that makes a child goes with all that the child does.  What belongs to no block and no child
    (the end of a thread, free(NULL)) stands alone.  First come blocks that were freed: most failures can do
    without.  Blocks of one size stand together, for what one of them does many may do.
    """
    blocks: dict[int, list[int]] = {}
    children: dict[int, list[int]] = {}
    alone: list[list[int]] = []
    for place, step in enumerate(apart):
        if step.process in children:
            children[step.process].append(place)
        match step:
            case Malloc(slot) | Calloc(slot) | Aligned(slot) | Free(slot) | Realloc(slot) if slot != NULL_ID:
                blocks.setdefault(slot, []).append(place)
            case Fork(child):
                children[child] = [place]
            case _ if not step.process:
                alone.append([place])
    over = {slot for step in apart if isinstance(step, Free) for slot in [step.slot]}
    gone = [places for slot, places in blocks.items() if slot in over]
    live = [places for slot, places in blocks.items() if slot not in over]

    def by_size(places: list[int]) -> tuple[int, list[int]]:
        return requested(apart[places[0]]), places

    return [*alone, *sorted(gone, key=by_size), *sorted(children.values()), *sorted(live, key=by_size)]


def without(steps: Sequence[Step], places: set[int]) -> list[Step]:
    """Return the steps but for those at these places."""
    return [step for place, step in enumerate(steps) if place not in places]


def spans(n: int, longest: int) -> Iterator[tuple[int, int]]:
    """Yield stretches of 0 to n - 1 as (from, to): of `longest` places, then of half as many, down to one.

    >>> list(spans(5, 2))
    [(0, 2), (2, 4), (4, 5), (0, 1), (1, 2), (2, 3), (3, 4), (4, 5)]
    """
    while longest:
        yield from ((start, min(start + longest, n)) for start in range(0, n, longest))
        longest //= 2
