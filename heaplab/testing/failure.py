"""What went wrong on which steps: its kind, a sentence, and the heap before and after the last of them."""

import difflib
import re
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from heaplab.allocators import Allocator, State
from heaplab.errors import HeapCorruption, HeaplabError, ProcessDied
from heaplab.testing.checked_heap import CheckedHeap, Payload
from heaplab.testing.steps import Step

#: the kind of every failure that is a step without an end, by the clock or by its memory references
NO_END: Final = "no end"
_ROOT: Final = Path(__file__).parents[1]
#: the folders of heaplab where designs in Python stand
_DESIGNS: Final = ("designs", "families")
#: a heap of more spans than this is shown where it changes
_WHOLE = 24
#: lines shown around a change
_AROUND = 2


@dataclass(frozen=True)
class Failure:
    """Steps that end in a failure.

    steps: the last one fails, or the heap is wrong after it.  kind: equal for two failures of one cause, as
    far as can be told.  sentence: what is wrong, for a person.  place: the line of the allocator's source
    where it went wrong, as "mine.py:47", if it is known.
    """

    steps: tuple[Step, ...]
    kind: str
    sentence: str
    place: str = ""

    def __str__(self) -> str:
        return self.sentence


def expected(error: Exception) -> bool:
    """Whether the text of an error says all: it was raised on purpose."""
    return isinstance(error, AssertionError | HeaplabError | OSError | MemoryError) and bool(str(error))


def failure_of(error: Exception, steps: Sequence[Step]) -> Failure:
    """Return the failure that an exception at the last of `steps` is."""
    last = str(steps[-1]) if steps else "the start"
    text = str(error)
    if isinstance(error, HeapCorruption):
        kind = error.rule.name
    elif isinstance(error, ProcessDied):
        kind = type(error).__name__
    elif NO_END in text:
        kind = NO_END
    elif expected(error):
        kind = f"{type(error).__name__}: {without_numbers(text.replace(last, ''))}"
    else:
        frames = traceback.extract_tb(error.__traceback__)
        place = f"{Path(frames[-1].filename).name}, line {frames[-1].lineno}" if frames else "unknown"
        kind = f"{type(error).__name__} at {place}"
        text = f"{type(error).__name__}: {text} ({place})" if text else kind
    if last not in text:
        text = f"{last}: {text}"
    return Failure(tuple(steps), kind, text, place_of(error))


def place_of(error: BaseException) -> str:
    """Return the innermost line of a design in Python that an exception came through, or nothing."""
    told = error.__cause__ or error
    for frame in reversed(traceback.extract_tb(told.__traceback__)):
        path = Path(frame.filename)
        if path.is_file() and (_ROOT not in path.parents or path.parent.name in _DESIGNS):
            return f"{path.name}:{frame.lineno}"
    return ""


def without_numbers(text: str) -> str:
    """Return the text with `n` for each number.

    >>> without_numbers("block 1 at 0x4010: no end after 0.3 s")
    'block n at n: no end after n s'
    """
    return re.sub(r"0x[0-9a-f]+|\d+(?:[.,]\d+)*", "n", text)


# ---- a heap as text ----


def picture(heap: Allocator, live: dict[int, Payload]) -> list[str]:
    """Return the walk over a heap as lines: address, bytes, and what the span is.

    A walk that breaks off ends in a line that says why.

    >>> from heaplab.testing.steps import Malloc
    >>> checked = CheckedHeap("buddy")
    >>> checked.do(Malloc(0, 100))
    >>> lines = picture(checked.heaps[0], checked.live[0])
    >>> [line.partition(" ")[2].strip() for line in lines if "block" in line]
    ['128 block 0: 100 bytes']
    """
    owners = {payload.address: (slot, payload) for slot, payload in live.items()}
    lines = []
    try:
        for span in heap.walk():
            if span.state.is_live and span.payload in owners:
                slot, payload = owners.pop(span.payload)
                what = f"block {slot}: {payload.size} bytes"
            else:
                what = {State.ALLOCATED: "allocated, nobody's", State.LARGE: "large, nobody's"}.get(
                    span.state, span.state.name.lower()
                )
            lines.append(f"{span.start:#x} {span.size:8} {what}")
    except Exception as error:
        lines.append(f"here the walk breaks off: {error}")
    for address, (slot, payload) in sorted(owners.items()):
        lines.append(f"{address:#x} {'?':>8} block {slot}: {payload.size} bytes, not in the walk")
    return lines


#: gives the picture of a process's heap after these steps on a new heap
Seen = Callable[[Sequence[Step], int], list[str]]


def seen_on(fresh: Callable[[], CheckedHeap]) -> Seen:
    """Return what carries steps out on the heap that `fresh` makes, and draws it."""

    def seen(steps: Sequence[Step], process: int) -> list[str]:
        heap = fresh()
        with suppress(Exception):  # what is wrong is told apart; here it ends what can be shown
            for step in steps:
                heap.carry_out(step)
        if process not in heap.heaps:
            return ["the process is gone"]
        return picture(heap.heaps[process], heap.live[process])

    return seen


def before_and_after(seen: Seen, steps: Sequence[Step]) -> tuple[list[str], list[str]]:
    """Return the picture of a heap before the last step and after it.

    Of a long picture only what lies around the differences is left.
    """
    process = steps[-1].process
    first, second = seen(steps[:-1], process), seen(steps, process)
    if max(len(first), len(second)) > _WHOLE:
        first, second = (_cut(lines) for lines in _around_changes(first, second))
    return first, second


def _around_changes(first: list[str], second: list[str]) -> Iterator[list[str]]:
    matcher = difflib.SequenceMatcher(None, first, second, autojunk=False)
    groups = list(matcher.get_grouped_opcodes(_AROUND))
    yield _elided(first, [(group[0][1], group[-1][2]) for group in groups])
    yield _elided(second, [(group[0][3], group[-1][4]) for group in groups])


def _cut(lines: list[str]) -> list[str]:
    """The first lines and the last ones, if there are many."""
    if len(lines) <= _WHOLE:
        return lines
    return [*lines[: _WHOLE - 4], *_left_out(len(lines) - _WHOLE + 1), *lines[-3:]]


def _elided(lines: list[str], shown: list[tuple[int, int]]) -> list[str]:
    """The lines from one place to another; how many are left out in between."""
    kept: list[str] = []
    at = 0
    for start, stop in shown:
        kept += [*_left_out(start - at), *lines[start:stop]]
        at = stop
    return [*kept, *_left_out(len(lines) - at)]


def _left_out(n: int) -> list[str]:
    return [f"... {n} more"] if n else []


def report(failure: Failure, seen: Seen | None, *, of: int | None = None) -> str:
    """Return a failure as text: the steps, what broke, and the heap before and after the last of them.

    seen: draws the heap; None where there is no picture of it.  of: how many steps there were at first.
    """
    steps = failure.steps
    heading = f"The shortest steps found that fail, {len(steps):,} step" + "s" * (len(steps) != 1)
    if of is not None and of > len(steps):
        heading += f" of {of:,}"
    parts = [
        [f"{heading}:", *(f"    {step}" for step in steps)],
        [f"What broke: {failure.sentence}"],
    ]
    if seen is not None and steps:
        before, after = before_and_after(seen, steps)
        parts += [
            ["The heap before the last step:", *(f"    {line}" for line in before)],
            ["The heap after it:", *(f"    {line}" for line in after)],
        ]
    return "\n\n".join("\n".join(part) for part in parts)
