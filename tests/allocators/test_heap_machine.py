"""The state machine: every design passes it against its twin, and a planted fault shrinks in it."""

import signal
from concurrent.futures import ThreadPoolExecutor
from typing import ClassVar

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from heaplab.allocators import Trait
from heaplab.allocators.designs.rbtree import RBTree
from heaplab.errors import HeapCorruption
from heaplab.testing.checked_heap import CheckedHeap
from heaplab.testing.heap_machine import heap_machine
from heaplab.testing.specs import defaults, tuned
from heaplab.testing.steps import KINDS, Fork, Free, Malloc, ThreadExit

few = settings(
    max_examples=30,
    stateful_step_count=30,
    deadline=None,
    derandomize=True,
    database=None,
    report_multiple_bugs=False,
    suppress_health_check=list(HealthCheck),
)


shrinking = settings(few, max_examples=200, stateful_step_count=12, phases=[Phase.generate])


@pytest.mark.parametrize("spec", [*defaults(), *map(tuned, defaults())])
def test_twins_are_equal_step_by_step(spec):
    run_state_machine_as_test(heap_machine(spec, twins=True), settings=few)


class Forgetful(RBTree):
    """When it merges with the free blocks on both sides, it forgets to take one out of the tree."""

    def _release(self, block, size, prev_size):
        if prev_size:
            self._index.remove = lambda block, size, where=None: None
        super()._release(block, size, prev_size)
        vars(self._index).pop("remove", None)


def failure(design, **limits):
    """What the state machine raises for this design, and the steps it has shrunk that to."""
    with pytest.raises((AssertionError, HeapCorruption)) as caught:
        run_state_machine_as_test(heap_machine(design, **limits), settings=shrinking)
    told = "\n".join(caught.value.__notes__)
    lines = [line.strip() for line in told.partition(":\n")[2].partition("\n\n")[0].splitlines()]
    return str(caught.value), lines[lines.index(next(line for line in lines if line.split()[0] in KINDS)) :]


def test_a_planted_fault_shrinks_to_the_smallest_trace_that_shows_it():
    _, steps = failure(Forgetful)
    merged = ["malloc 0 0", "malloc 1 0", "free 0", "free 1"]
    split_off = ["aligned 0 0 32", "free 0"]  # what was in front of the block is free already
    assert steps in (merged, split_off)


def test_an_allocator_written_this_morning_is_named_by_its_file(tmp_path):
    mine = tmp_path / "mine.py"
    mine.write_text(
        "from heaplab.allocators.designs.freelist import FreeList\n"
        "class Mine(FreeList):\n"
        "    NAME = 'mine'\n"
        "    def aligned_alloc(self, alignment, size):\n"
        "        return self.malloc(size)\n"
    )
    what, steps = failure(str(mine))
    assert "is no multiple of the alignment" in what
    assert len(steps) <= 5
    assert steps[-1].startswith("aligned ")


def test_steps_print_as_lines_of_a_trace():
    heap = CheckedHeap("freelist")
    for step in (Malloc(0, 24), Fork(1), Free(0, process=1, thread=2), ThreadExit(thread=3)):
        heap.do(step)
    assert [str(step) for step in heap.steps] == [
        "malloc 0 24", "fork 1", "free 0 (process 1, thread 2)", "thread_exit (process 0, thread 3)"
    ]  # fmt: skip


# ---- what the machine draws ----


def drawn(design, n=40):
    """The steps of some runs of the machine."""
    steps = []

    class Recorded(heap_machine(design)):
        def teardown(self):
            steps.extend(self.heap.steps)
            super().teardown()

    run_state_machine_as_test(Recorded, settings=settings(few, max_examples=n))
    return steps


def test_a_design_without_threads_is_called_on_one():
    assert {(type(step) is ThreadExit, step.thread) for step in drawn(RBTree, 10)} == {(False, 0)}


def test_a_design_with_threads_is_called_on_four_and_hears_of_their_ends():
    class Threaded(RBTree):
        TRAITS = RBTree.TRAITS | Trait.THREADS
        ended: ClassVar = []

        def _malloc(self, size, alignment):
            self.ended.append(("malloc", self.process.context.thread))
            return super()._malloc(size, alignment)

        def thread_exit(self, thread):
            assert thread == self.process.context.thread
            self.ended.append(("exit", thread))

    drawn(Threaded)
    assert set(Threaded.ended) == {(what, thread) for what in ("malloc", "exit") for thread in range(4)}


def test_without_any_order_the_newest_is_freed_first():
    class Stacked(RBTree):
        TRAITS = RBTree.TRAITS & ~Trait.ANY_ORDER
        order: ClassVar = []

        def _malloc(self, size, alignment):
            p = super()._malloc(size, alignment)
            if p:
                self.order.append((self.process.pid, p))
            return p

        def _free(self, p):
            mine = [block for pid, block in self.order if pid == self.process.pid]
            assert not mine or mine[-1] == p
            if mine:
                self.order.remove((self.process.pid, p))
            super()._free(p)

    class Machine(heap_machine(Stacked)):
        def __init__(self):
            Stacked.order.clear()
            super().__init__()

    run_state_machine_as_test(Machine, settings=few)


# ---- what must not go on for ever ----


class TooMuch(RBTree):
    """Says that a block has room for 8 bytes more than it has."""

    def _usable(self, p):
        return super()._usable(p) + 8


class Endless(RBTree):
    """Goes round in a circle when it frees a block of more than 4,000 bytes, and reads what it passes."""

    def _free(self, p):
        while self._usable(p) > 4000:
            pass
        super()._free(p)


class Asleep(RBTree):
    """Goes round in a circle, and reads nothing."""

    def _free(self, p):
        while True:
            pass


def test_a_usable_size_8_too_large_is_named_at_the_first_malloc():
    what, steps = failure(TooMuch)
    assert "usable_size says" in what
    assert steps == ["malloc 0 0"]


def test_a_usable_size_too_large_is_told_with_both_numbers():
    heap = CheckedHeap(TooMuch)
    with pytest.raises(AssertionError, match=r"block 0 at 0x\w+: usable_size says 48 bytes, the walk 40"):
        heap.do(Malloc(0, 24))


def test_an_endless_loop_that_touches_memory_ends_at_the_same_reference():
    for _ in range(2):
        heap = CheckedHeap(Endless, mems=10_000)
        heap.do(Malloc(0, 100))
        heap.do(Free(0))
        heap.do(Malloc(0, 5000))
        before = heap.process(0).context.mems
        with pytest.raises(AssertionError) as caught:
            heap.do(Free(0))
        assert str(caught.value) == "free 0: no end after 10,000 memory references"
        assert heap.process(0).context.mems - before == 10_000


def test_an_endless_loop_shrinks():
    what, steps = failure(Endless, mems=10_000)
    assert what.endswith("no end after 10,000 memory references")
    assert steps == ["malloc 0 3993", "free 0"]


def test_an_endless_loop_in_c_ends_too():
    """A list in a circle: the budget holds in C, where Ctrl-C does not reach."""
    heap = CheckedHeap("freelist:checks=none", "c", mems=100_000)
    for slot in range(2):
        heap.do(Malloc(slot, 1000))
    heap.do(Free(0))
    block = heap.live[0][1].address - 1008 - 8
    heap.process(0).store64(block + 8, block)
    with pytest.raises(AssertionError, match="malloc 2 5000: no end after 100,000 memory references"):
        heap.carry_out(Malloc(2, 5000))


def test_an_endless_loop_that_touches_nothing_ends_by_the_clock():
    heap = CheckedHeap(Asleep, seconds=0.2)
    heap.do(Malloc(0, 100))
    with pytest.raises(AssertionError, match=r"free 0: no end after 0\.2 s"):
        heap.do(Free(0))
    assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)


def test_off_the_main_thread_there_is_no_clock_and_no_error():
    heap = CheckedHeap("rbtree")
    with ThreadPoolExecutor(1) as pool:
        pool.submit(heap.do, Malloc(0, 100)).result()
    assert len(heap.live[0]) == 1
