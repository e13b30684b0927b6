"""Steps tried on a new heap: do they fail, and how?

A trial takes possible steps and returns the failure, or None.  `played` verifies everything after each step;
`Replayed` is what `heaplab compare` does with a trace: quick, and it sees what a program would.

A trial says how far it is (`note`), so that someone can tell at which step it crashed, or that it goes on.
isolation.py carries trials out in a process of their own.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Final, Protocol

from heaplab.allocators import Spec
from heaplab.errors import HeaplabError
from heaplab.kernel import Kernel
from heaplab.lab import census
from heaplab.lab.replay import Replay, hl_py_heap
from heaplab.testing.checked_heap import CheckedHeap
from heaplab.testing.failure import NO_END, Failure, failure_of, without_numbers
from heaplab.testing.limits import FEW_MEMS, FEW_SECONDS, MOST_SECONDS, progress_demanded
from heaplab.testing.steps import Step
from heaplab.testing.twins import Twins
from heaplab.traces import Event, Trace

#: called with the number of steps that have begun, before each step and each verification
Note = Callable[[int], None]
#: traces of more steps say how far they are once in STRETCH steps
_FEW: Final = 2000
STRETCH: Final = 256


def silent(at: int) -> None:
    """Note nothing."""


class Trial(Protocol):
    """Plays possible steps."""

    def __call__(self, steps: Sequence[Step], note: Note = silent) -> Failure | None:
        """Return how the steps fail, or None."""


def played(fresh: Callable[[], CheckedHeap | Twins]) -> Trial:
    """Return the trial that verifies the heap that `fresh` makes after every step, and twins' bytes at last.

    >>> from heaplab.testing.steps import Malloc
    >>> played(lambda: CheckedHeap("freelist"))([Malloc(0, 100)]) is None
    True
    """

    def trial(steps: Sequence[Step], note: Note = silent) -> Failure | None:
        done = 0
        try:
            heap = fresh()
            heap.note = note
            for step in steps:
                done += 1
                heap.do(step)
            if isinstance(heap, Twins):
                heap.verify_bytes()
        except Exception as error:
            return failure_of(error, steps[:done])
        return None

    return trial


def _events(steps: Sequence[Step], note: Note) -> Iterator[Event]:
    """The steps as events; of many this takes a while."""
    for done, step in enumerate(steps):
        if done % STRETCH == 0:
            note(0)
        yield step.event()


class Replayed:
    """The trial that `heaplab compare` is: a replay in one go, payloads verified, the heap walked at the end.

    most: of the memory references, which ends a loop.  seconds: that one call of a design in Python may take,
    in the main thread.  No signal reaches a loop in C that makes no reference: `isolation.Apart` ends it.
    seed, ram: of the machine.
    """

    def __init__(
        self,
        spec: Spec,
        *,
        most: int | None = None,
        seconds: float = MOST_SECONDS,
        seed: int = 1,
        ram: int | str = "4 GiB",
    ) -> None:
        self.spec = spec
        self.most = most
        self.seconds = seconds
        self.seed = seed
        self.ram = ram
        self._seen = (0, 0)
        self._singly_from = 0

    def __call__(self, steps: Sequence[Step], note: Note = silent) -> Failure | None:
        return self.replay(steps, len(steps), note)

    def replay(
        self, steps: Sequence[Step], walk_at: int, note: Note = silent, singly_from: int | None = None
    ) -> Failure | None:
        """Replay the steps; walk over the heaps after `walk_at` of them.

        singly_from: note every step from here on; without it all steps if they are few, else every 256th.
        """
        self._singly_from = (
            singly_from if singly_from is not None else 0 if len(steps) <= _FEW else len(steps)
        )
        trace = Trace.of(_events(steps, note), "the steps")
        kernel = Kernel(ram=self.ram, seed=self.seed)
        replay = Replay(trace, self.spec, kernel, max_mems=self.most, samples=1)
        self._advance(replay, walk_at, note)
        if replay.end is None and (wrong := self._walk(replay)):
            last = f"the heap cannot be what its walk says after {steps[walk_at - 1]}" if walk_at else ""
            return Failure(tuple(steps[:walk_at]), f"walk: {without_numbers(wrong)}", f"{last}: {wrong}")
        self._advance(replay, len(steps), note)
        note(len(steps))
        if replay.end is None:
            replay.verify()
        return self._failure(replay, steps)

    def _advance(self, replay: Replay, until: int, note: Note) -> None:
        with progress_demanded(lambda: replay.done, hl_py_heap.__name__, self.seconds):
            while replay.end is None and replay.done < until:
                stretch = 1 if replay.done >= self._singly_from else STRETCH
                stop = min(until, replay.done + stretch)
                note(stop)
                replay.advance(stop)
        note(replay.done)

    @staticmethod
    def _walk(replay: Replay) -> str:
        """Why a walk over the heaps cannot be true; nothing if it can."""
        for number, heap in replay.heaps():
            try:
                census.take(heap, replay.slots(number))
            except HeaplabError as error:
                return str(error)
            except Exception as error:
                return f"{type(error).__name__}: {error}"
        return ""

    def _failure(self, replay: Replay, steps: Sequence[Step]) -> Failure | None:
        self._seen = int(replay.raw.mems.total), int(replay.raw.mems.most)
        end = replay.end
        if end is None:
            return None
        done = replay.done
        if done >= len(steps):
            return Failure(tuple(steps), without_numbers(end.reason), end.reason)
        step = steps[done]
        if not end.failed:
            return Failure(
                tuple(steps[: done + 1]), NO_END, f"{step}: {NO_END} after {self.most:,} mems in all"
            )
        reason = end.reason.removeprefix(f"event {done} ({step}): ")
        kind = NO_END if NO_END in reason else without_numbers(reason)
        if kind.startswith("HeapCorruption"):
            kind = kind.partition(" (")[0]
        return Failure(tuple(steps[: done + 1]), kind, f"{step}: {reason}")

    def mems_of(self, steps: Sequence[Step], note: Note = silent) -> tuple[int, int]:
        """Replay the steps; return the memory references of all of them, and of the one with the most."""
        self.replay(steps, len(steps), note)
        return self._seen

    def for_hangs(self, failure: Failure, mems: int, most: int) -> "Replayed":
        """Return the trial that soon ends what hangs as `failure` does.

        mems, most: of the steps before the last one.  A hang is a step that makes 20 times as many references
        as each before it, and 100,000 at least; or, where it made none, one that takes FEW_SECONDS.
        """
        return Replayed(
            self.spec,
            most=mems + max(FEW_MEMS, 20 * most),
            seconds=self.seconds if "mems" in failure.sentence else min(self.seconds, FEW_SECONDS),
            seed=self.seed,
            ram=self.ram,
        )
