"""Any allocator under Hypothesis: a state machine whose failures shrink to a smallest trace that shows them.

    from heaplab.testing.heap_machine import heap_machine

    TestMine = heap_machine("mine.py").TestCase            # a file, a spec, or a class

What a failure prints are lines of a trace, the shortest steps that fail so (shrink_steps.py), and what was
wrong after the last step that Hypothesis found.
"""

from random import Random
from typing import ClassVar

from hypothesis import note
from hypothesis import strategies as st
from hypothesis.control import current_build_context
from hypothesis.stateful import RuleBasedStateMachine, rule

from heaplab.allocators import Allocator, Spec
from heaplab.testing.checked_heap import CheckedHeap
from heaplab.testing.limits import FEW_MEMS, MOST_SECONDS
from heaplab.testing.shrink_steps import shrunk
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
from heaplab.testing.twins import Twins

MOST_PROCESSES = 3

KINDS = (Malloc, Free, Realloc, Calloc, Aligned, Fork, ThreadExit)
"""What a step can do, simplest first."""

_others = Random(1)
# Few draws a step, for Hypothesis gives up shrinking after some hundred attempts without success: so a size
# is one draw, a place in a table whose first one is the simplest, and numbers that go together are one.
sizes = st.sampled_from(
    [*SIZES * 10, *(_others.randrange(6000) for _ in range(200)), *HUGE * 4],
)
who = st.integers(0, MOST_PROCESSES * 4 - 1)
"""Process and thread: taken apart by divmod."""
which = st.integers(0, 15)
"""One of several: taken modulo how many there are.  Of calloc the elements, of aligned_alloc the bits."""


class HeapMachine(RuleBasedStateMachine):
    """malloc, calloc, aligned_alloc, realloc, free, fork and the ends of threads, in any order.

    In up to three processes, and on up to four threads if the design has THREADS; the newest is freed first
    if it has no ANY_ORDER.  There is one rule, and it takes the same draws whatever the step is and whatever
    lives, so that Hypothesis can take any step out without changing what the others mean.
    """

    spec: ClassVar[Spec]
    twins: ClassVar[bool]
    mems: ClassVar[int]
    seconds: ClassVar[float]

    def __init__(self) -> None:
        super().__init__()
        self.heap = self._fresh()
        self._steps: list[Step] = []
        self._sound = True

    @classmethod
    def _fresh(cls) -> CheckedHeap | Twins:
        if cls.twins:
            return Twins(str(cls.spec), mems=cls.mems, seconds=cls.seconds)
        return CheckedHeap(cls.spec, mems=cls.mems, seconds=cls.seconds)

    @rule(kind=st.sampled_from(KINDS), who=who, which=which, size=sizes)
    def step(self, kind: type[Step], who: int, which: int, size: int) -> None:
        """Do a step of this kind, or a malloc when it is not possible now."""
        step = self._possible(kind, *divmod(who, 4), which, size)
        self._steps.append(step)
        self._sound = False
        self.heap.do(step)
        self._sound = True

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
        """Compare the twins' bytes; or, at last, note the shortest steps that fail as these did."""
        if self._sound:
            if isinstance(self.heap, Twins):
                self.heap.verify_bytes()
        elif current_build_context().is_final:
            for step in shrunk(self._steps, self._fresh):
                note(str(step))


def heap_machine(
    design: str | Spec | type[Allocator],
    language: str = "python",
    *,
    twins: bool = False,
    mems: int = FEW_MEMS,
    seconds: float = MOST_SECONDS,
) -> type[HeapMachine]:
    """Return the state machine for a design: a spec, its text, the path of a file, or a class.

    twins: do every step in Python and in C, and compare addresses, counts, references in order, and bytes.
    mems, seconds: the most that a step may take, so that what goes on for ever fails, with a sentence.

    >>> from hypothesis import settings
    >>> from hypothesis.stateful import run_state_machine_as_test
    >>> few = settings(max_examples=3, stateful_step_count=5, database=None)
    >>> run_state_machine_as_test(heap_machine("freelist"), settings=few)
    """
    of = {"spec": spec_of(design, language), "twins": twins, "mems": mems, "seconds": seconds}
    return type("HeapMachine", (HeapMachine,), of)
