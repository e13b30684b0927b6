"""Any allocator under Hypothesis: a state machine whose failures shrink to a smallest trace that shows them.

    from heaplab.testing.heap_machine import heap_machine

    TestMine = heap_machine("mine.py").TestCase            # a file, a spec, or a class

What a failure prints are lines of a trace: the steps, and what was wrong after the last one.
"""

from typing import ClassVar

from hypothesis import note
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule

from heaplab.allocators import Allocator, Spec
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
    Trial,
    Twins,
    spec_of,
)

MOST_PROCESSES = 3

sizes = st.one_of(st.sampled_from(SIZES), st.integers(0, 6000), st.sampled_from(HUGE))


KINDS = (Malloc, Free, Realloc, Calloc, Aligned, Fork)
"""What a step can do, simplest first."""

nth = st.integers(0, 15)
"""One of several: taken modulo how many there are."""


class HeapMachine(RuleBasedStateMachine):
    """malloc, calloc, aligned_alloc, realloc, free and fork, in any order, in up to three processes.

    There is one rule, and it takes the same draws whatever the step is and whatever lives, so that Hypothesis
    can take any step out without changing what the others mean.
    """

    spec: ClassVar[Spec]
    twins: ClassVar[bool]

    def __init__(self) -> None:
        super().__init__()
        self.trial: Trial | Twins = Twins(str(self.spec)) if self.twins else Trial(self.spec)
        self._sound = True

    @rule(
        kind=st.sampled_from(KINDS),
        process=nth,
        block=nth,
        size=sizes,
        n=st.integers(1, 4),
        bits=st.integers(0, MOST_ALIGNMENT),
    )
    def step(self, kind: type[Step], process: int, block: int, size: int, n: int, bits: int) -> None:
        """Do a step of this kind, or a malloc when it is not possible now."""
        number = process % len(self.trial.heaps)
        live = sorted(self.trial.live[number])
        new = next(slot for slot in range(len(live) + 1) if slot not in live)
        step: Step
        if kind is Free and live:
            step = Free(live[block % len(live)], process=number)
        elif kind is Realloc and live:
            step = Realloc(live[block % len(live)], max(1, size), process=number)
        elif kind is Calloc:
            step = Calloc(new, n, size, process=number)
        elif kind is Aligned:
            step = Aligned(new, 1 << bits, size, process=number)
        elif kind is Fork and len(self.trial.heaps) < MOST_PROCESSES:
            step = Fork(len(self.trial.heaps), process=number)
        else:
            step = Malloc(new, size, process=number)
        note(str(step))
        self._sound = False
        self.trial.do(step)
        self._sound = True

    def teardown(self) -> None:
        """Compare the twins' bytes, unless something has failed before."""
        if isinstance(self.trial, Twins) and self._sound:
            self.trial.verify_bytes()


def heap_machine(
    design: str | Spec | type[Allocator], language: str = "python", *, twins: bool = False
) -> type[HeapMachine]:
    """Return the state machine for a design: a spec, its text, the path of a file, or a class.

    twins: do every step in Python and in C, and compare addresses, counts and bytes.

    >>> from hypothesis import settings
    >>> from hypothesis.stateful import run_state_machine_as_test
    >>> few = settings(max_examples=3, stateful_step_count=5, database=None)
    >>> run_state_machine_as_test(heap_machine("freelist"), settings=few)
    """
    return type("HeapMachine", (HeapMachine,), {"spec": spec_of(design, language), "twins": twins})
