"""Steps tried on a new heap: do they fail, and how?

A trial takes possible steps and returns the failure, or None.  `played` verifies everything after each step;
`Replayed` is what `heaplab compare` does with a trace: quick, and it sees what a program would.
"""

from collections.abc import Callable, Sequence

from heaplab.allocators import Spec
from heaplab.errors import HeaplabError
from heaplab.kernel import Kernel
from heaplab.lab import census
from heaplab.lab.replay import Replay, hl_py_heap
from heaplab.testing.checked_heap import CheckedHeap
from heaplab.testing.failure import NO_END, Failure, failure_of, without_numbers
from heaplab.testing.limits import FEW_MEMS, FEW_SECONDS, MOST_SECONDS, progress_demanded
from heaplab.testing.steps import Step, step_of
from heaplab.testing.twins import Twins
from heaplab.traces import Trace

Trial = Callable[[Sequence[Step]], Failure | None]


def played(fresh: Callable[[], CheckedHeap | Twins]) -> Trial:
    """Return the trial that verifies the heap that `fresh` makes after every step, and twins' bytes at last.

    >>> from heaplab.testing.steps import Malloc
    >>> played(lambda: CheckedHeap("freelist"))([Malloc(0, 100)]) is None
    True
    """

    def trial(steps: Sequence[Step]) -> Failure | None:
        heap, done = fresh(), 0
        try:
            for step in steps:
                done += 1
                heap.do(step)
            if isinstance(heap, Twins):
                heap.verify_bytes()
        except Exception as error:
            return failure_of(error, steps[:done])
        return None

    return trial


class Replayed:
    """The trial that `heaplab compare` is: a replay in one go, payloads verified, the heap walked at the end.

    most: of the memory references, which ends a loop.  seconds: that one call of a design in Python may take,
    in the main thread; no signal reaches a loop in C.  seed, ram: of the machine.
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

    def __call__(self, steps: Sequence[Step]) -> Failure | None:
        return self.replay(steps, len(steps))

    def replay(self, steps: Sequence[Step], walk_at: int) -> Failure | None:
        """Replay the steps; walk over the heaps after `walk_at` of them."""
        trace = Trace.of((step.event() for step in steps), "the steps")
        kernel = Kernel(ram=self.ram, seed=self.seed)
        replay = Replay(trace, self.spec, kernel, max_mems=self.most, samples=1)
        self._advance(replay, walk_at)
        if replay.end is None and (wrong := self._walk(replay)):
            last = f"the heap cannot be what its walk says after {steps[walk_at - 1]}" if walk_at else ""
            return Failure(tuple(steps[:walk_at]), f"walk: {without_numbers(wrong)}", f"{last}: {wrong}")
        self._advance(replay, len(steps))
        if replay.end is None:
            replay.verify()
        return self._failure(replay, steps)

    def _advance(self, replay: Replay, until: int) -> None:
        with progress_demanded(lambda: replay.done, hl_py_heap.__name__, self.seconds):
            while replay.end is None and replay.done < until:
                replay.advance(until)

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
        self._seen = int(replay.raw.mems), int(replay.raw.mems_max)
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

    def for_hangs(self, failure: Failure) -> "Replayed":
        """Return the trial that soon ends what hangs as `failure` does.

        A hang is a step that makes 20 times as many references as each before it, and 100,000 at least; or,
        where it made none, one that takes FEW_SECONDS.
        """
        self(failure.steps[:-1])
        mems, most = self._seen
        return Replayed(
            self.spec,
            most=mems + max(FEW_MEMS, 20 * most),
            seconds=self.seconds if "mems" in failure.sentence else min(self.seconds, FEW_SECONDS),
            seed=self.seed,
            ram=self.ram,
        )


def failing(trace: Trace, trial: Replayed) -> tuple[Failure, Trial] | None:
    """Return how a trace fails, and the trial to make that minimal with; None when it does not fail.

    Heaps are walked at the peak of what lives, as `heaplab compare` does.
    Cost: memory for all events, some 300 bytes each.
    """
    steps = [step_of(event) for event in trace.events()]
    failure = trial.replay(steps, min(trace.header.peak_index + 1, len(steps)))
    if failure is None:
        return None
    if failure.kind == NO_END:
        return failure, trial.for_hangs(failure)
    return failure, trial
