"""The state machine: every design passes it against its twin, and a planted fault shrinks in it."""

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from heaplab import allocators
from heaplab.allocators.designs.rbtree import RBTree
from heaplab.errors import HeapCorruption
from heaplab.testing.heap_machine import heap_machine
from heaplab.testing.steps import Fork, Free, Malloc, Trial

#: so that the heap grows, is trimmed, and hands over to mmap with small blocks
TUNED = "top_pad=0:trim_threshold=4KiB:mmap_threshold=20000"
SPECS = [
    "freelist",
    f"freelist:fit=next:order=address:{TUNED}",
    f"buddy:{TUNED}",
    f"binheap:{TUNED}",
    f"rbtree:{TUNED}",
]

few = settings(
    max_examples=30,
    stateful_step_count=30,
    deadline=None,
    derandomize=True,
    database=None,
    report_multiple_bugs=False,
    suppress_health_check=list(HealthCheck),
)


shrinking = settings(few, max_examples=200, stateful_step_count=12, phases=[Phase.generate, Phase.shrink])


@pytest.mark.parametrize("spec", SPECS)
def test_twins_are_equal_step_by_step(spec):
    run_state_machine_as_test(heap_machine(spec, twins=True), settings=few)


def test_all_designs_are_covered():
    assert {spec.partition(":")[0] for spec in SPECS} >= set(allocators.names())


class Forgetful(RBTree):
    """When it merges with the free blocks on both sides, it forgets to take one out of the tree."""

    def _release(self, block, size, prev_size):
        if prev_size:
            self._index.remove = lambda block, size, where=None: None
        super()._release(block, size, prev_size)
        vars(self._index).pop("remove", None)


def failure(design):
    """What the state machine raises for this design, and the steps it has shrunk that to."""
    with pytest.raises((AssertionError, HeapCorruption)) as caught:
        run_state_machine_as_test(heap_machine(design), settings=shrinking)
    lines = [note for note in caught.value.__notes__ if note.split()[0] in ("malloc", "free", "aligned")]
    return str(caught.value), lines


def test_a_planted_fault_shrinks_to_the_smallest_trace_that_shows_it():
    _, steps = failure(Forgetful)
    assert steps == ["malloc 0 0", "malloc 1 0", "free 0", "free 1"]


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
    trial = Trial("freelist")
    for step in (Malloc(0, 24), Fork(1), Free(0, process=1)):
        trial.do(step)
    assert [str(step) for step in trial.steps] == ["malloc 0 24", "fork 1", "free 0 (process 1, thread 0)"]
