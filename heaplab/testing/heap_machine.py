"""Any allocator under Hypothesis: a state machine whose failures shrink to a smallest trace that shows them.

    from heaplab.testing.heap_machine import heap_machine

    TestMine = heap_machine("mine.py").TestCase            # a file, a spec, or a class

A failure prints the shortest steps that fail so, once, as lines of a trace, what broke, and the heap before
and after the last step (failure.py).  The steps are made few by minimise.py, at once and within a budget of
seconds; Hypothesis draws, and remembers what it drew, but shrinks nothing.
"""

from functools import cached_property
from random import Random
from types import TracebackType
from typing import Any, ClassVar, NamedTuple

from hypothesis import HealthCheck, Phase, settings, target
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule, run_state_machine_as_test

from heaplab.allocators import Allocator, Spec, State, Trait
from heaplab.testing.authors import USUAL, some_size
from heaplab.testing.checked_heap import CheckedHeap
from heaplab.testing.contract.factory import HeapFactory
from heaplab.testing.failure import failure_of, report, seen_on
from heaplab.testing.limits import FEW_MEMS, FEW_SECONDS, MOST_SECONDS
from heaplab.testing.minimise import minimise
from heaplab.testing.steps import (
    HUGE,
    MOST_ALIGNMENT,
    SIZES,
    Aligned,
    Calloc,
    Fork,
    Free,
    Malloc,
    Realloc,
    Step,
    ThreadExit,
    can_be_freed,
    can_move,
    most_threads,
    spec_of,
)
from heaplab.testing.trials import played
from heaplab.testing.twins import Twins

MOST_PROCESSES = 3

_weights = {Malloc: 6, Free: 6, Realloc: 2}
_others = Random(1)
# Few draws a step, and each is an index, so that Hypothesis can change one without changing what others mean.
kinds = st.sampled_from([kind for kind in USUAL for _ in range(_weights.get(kind, 1))])
sizes = st.sampled_from(
    [
        *SIZES * 10,
        *(2 * [(1 << bits) + more for bits in range(4, 15) for more in (0, -16, -8, -1, 1)]),
        *(some_size(_others) for _ in range(150)),
        *HUGE * 4,
    ]
)
who = st.integers(0, MOST_PROCESSES * 4 - 1)
"""Process and thread: taken apart by divmod."""
which = st.integers(0, 15)
"""One of several: taken modulo how many there are.  Of calloc the elements, of aligned_alloc the bits."""
again = st.integers(0, 2)
"""0: a size of its own; else one that was asked for before: programs repeat their sizes."""

Draw = tuple[type[Step], int, int, int, int]


class _Found(NamedTuple):
    """A failure as it was raised, and its report."""

    error: Exception
    traceback: TracebackType | None
    text: str


class HeapMachine(RuleBasedStateMachine):
    """malloc, calloc, aligned_alloc, realloc, free, fork and the ends of threads, in any order.

    In up to three processes, and on up to four threads if the design has THREADS; the newest is freed first
    if it has no ANY_ORDER.  There is one rule, and it takes the same draws whatever the step is and whatever
    lives.

    The first failure is made minimal at once.  From then on no heap is made any more: the draws that failed
    raise what they raised, and all others do nothing.  So Hypothesis has nothing to shrink, and the settings
    of `TestCase` leave shrinking out.
    """

    spec: ClassVar[Spec]
    twins: ClassVar[bool]
    mems: ClassVar[int]
    seconds: ClassVar[float]
    shrink_seconds: ClassVar[float]
    _found: ClassVar[dict[tuple[Draw, ...], _Found]]

    def __init__(self) -> None:
        super().__init__()
        self._draws: list[Draw] = []
        self._steps: list[Step] = []
        self._sizes: list[int] = []
        self._sound = True
        self._ways: set[tuple[type[Step], int]] = set()

    @cached_property
    def heap(self) -> CheckedHeap | Twins:
        """The heap that the steps are done to."""
        return self._fresh(self.seconds)

    @classmethod
    def _fresh(cls, seconds: float) -> CheckedHeap | Twins:
        if cls.twins:
            return Twins(str(cls.spec), mems=cls.mems, seconds=seconds)
        return CheckedHeap(cls.spec, mems=cls.mems, seconds=seconds)

    @rule(kind=kinds, who=who, which=which, again=again, size=sizes)
    def step(self, kind: type[Step], who: int, which: int, again: int, size: int) -> None:
        """Do a step of this kind, or a malloc when it is not possible now."""
        self._draws.append((kind, who, which, again, size))
        if self._found:
            self._repeat()
            return
        if again and self._sizes:
            size = self._sizes[-1 - which % len(self._sizes)]
        self._sizes.append(size)
        step = self._possible(kind, *divmod(who, 4), which, size)
        self._steps.append(step)
        self._sound = False
        before = self._mems(step)
        try:
            self.heap.do(step)
        except Exception as error:
            self._remember(error)
            raise
        self._sound = True
        self._ways.add((type(step), self._mems(step) - before))

    def _mems(self, step: Step) -> int:
        return self.heap.heaps[step.process].process.context.mems

    def _remember(self, error: Exception) -> None:
        """Make a failure minimal."""
        seconds = min(self.seconds, FEW_SECONDS)
        failure = failure_of(error, self._steps)
        minimal = minimise(
            failure,
            played(lambda: self._fresh(seconds)),
            newest_first=Trait.ANY_ORDER not in self.spec.design.TRAITS,
            seconds=self.shrink_seconds,
        )
        shown = seen_on(lambda: CheckedHeap(self.spec, mems=self.mems, seconds=seconds))
        text = report(minimal.failure, shown, of=len(failure.steps))
        self._found[tuple(self._draws)] = _Found(error, error.__traceback__, text)

    def _repeat(self) -> None:
        """Raise what these draws have raised, if they have."""
        found = self._found.get(tuple(self._draws))
        if found is not None:
            raise found.error.with_traceback(found.traceback)

    def _repr_step(self, rule: Any, data: Any, result: Any) -> str:
        """A line of the report, where Hypothesis would show a draw: the steps are shown once, and few.

        Hypothesis asks once for every step that it drew; the last one gets all lines that are left.
        """
        now = tuple(self._draws)
        at = len(now) - 1
        for draws, found in self._found.items():
            if draws[: at + 1] == now:
                lines = found.text.splitlines()
                return "\n".join(lines[at:] if draws == now else lines[at : at + 1])
        return ""

    def _possible(self, kind: type[Step], process: int, thread: int, which: int, size: int) -> Step:
        number, thread = process % len(self.heap.heaps), thread % most_threads(self.heap)
        live = self.heap.live[number]
        freeable = can_be_freed(self.heap, number)
        new = next(slot for slot in range(len(live) + 1) if slot not in live)
        if kind is Free and live:
            return Free(sorted(freeable)[which % len(freeable)], process=number, thread=thread)
        if kind is Realloc and live and can_move(self.heap):
            return Realloc(sorted(live)[which % len(live)], max(1, size), process=number, thread=thread)
        if kind is Calloc:
            return Calloc(new, which % 4 + 1, size, process=number, thread=thread)
        if kind is Aligned:
            return Aligned(new, 1 << which % (MOST_ALIGNMENT + 1), size, process=number, thread=thread)
        if kind is Fork and len(self.heap.heaps) < MOST_PROCESSES:
            return Fork(len(self.heap.heaps), process=number, thread=thread)
        if kind is ThreadExit and most_threads(self.heap) > 1:
            return ThreadExit(process=number, thread=thread)
        return Malloc(new, size, process=number, thread=thread)

    def teardown(self) -> None:
        """Compare the twins' bytes; tell Hypothesis how much of the design this run has seen."""
        if self._found or not self._sound:
            return
        if isinstance(self.heap, Twins):
            self.heap.verify_bytes()
        free = sum(span.state == State.FREE for span in self.heap.heaps[0].walk())
        target(float(len(self._ways)), label="ways through the design")
        target(float(free), label="free blocks")


def heap_machine(
    design: str | Spec | type[Allocator],
    language: str = "python",
    *,
    twins: bool = False,
    mems: int = FEW_MEMS,
    seconds: float = MOST_SECONDS,
    shrink_seconds: float = 20.0,
) -> type[HeapMachine]:
    """Return the state machine for a design: a spec, its text, the path of a file, or a class.

    twins: do every step in Python and in C, and compare addresses, counts, references in order, and bytes.
    mems, seconds: the most that a step may take, so that what goes on for ever fails, with a sentence.
    shrink_seconds: the most that is spent on making a failure minimal.

    >>> few = settings(max_examples=3, stateful_step_count=5, database=None)
    >>> run_state_machine_as_test(heap_machine("freelist"), settings=few)
    """
    of = {
        "spec": spec_of(design, language),
        "twins": twins,
        "mems": mems,
        "seconds": seconds,
        "shrink_seconds": shrink_seconds,
        "_found": {},
    }
    machine: type[HeapMachine] = type("HeapMachine", (HeapMachine,), of)
    machine.TestCase.settings = settings(
        deadline=None,
        suppress_health_check=list(HealthCheck),
        phases=[Phase.explicit, Phase.reuse, Phase.generate, Phase.target],
    )
    return machine


def check_steps(factory: HeapFactory) -> None:
    """No steps break the design, whatever their order: Hypothesis draws them.

    >>> check_steps(HeapFactory("freelist"))    # doctest: +SKIP
    """
    machine = heap_machine(factory.spec)
    run_state_machine_as_test(machine, settings=machine.TestCase.settings)
