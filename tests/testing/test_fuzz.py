"""The fuzz: scripts as programs write them, and what they find."""

import subprocess
import sys
from collections import Counter
from random import Random

import pytest
from hypothesis import find, given, settings
from hypothesis import strategies as st
from hypothesis.errors import NoSuchExample

from heaplab.allocators.designs.freelist import FreeList
from heaplab.testing.authors import Author
from heaplab.testing.checked_heap import CheckedHeap
from heaplab.testing.fuzz import fuzz
from heaplab.testing.registration import register
from heaplab.testing.renumbering import renumbered
from heaplab.testing.steps import Aligned, Calloc, Fork, Free, Malloc, Realloc, requested
from heaplab.testing.strategies import sizes, steps, traces
from heaplab.traces import Trace


def script(seed, n=400, **habits):
    heap, author, written = CheckedHeap("freelist", "c", ram="256 MiB"), Author(Random(seed), **habits), []
    for _ in range(n):
        written.append(author.step(heap))
        heap.carry_out(written[-1])
    return written, heap


def test_sizes_repeat_and_the_heap_grows_and_drains():
    for seed in range(3):
        written, _ = script(seed, kinds=(Malloc, Free))
        sizes = Counter(requested(step) for step in written if isinstance(step, Malloc))
        assert sizes.most_common(1)[0][1] > 15
        live = [0]
        for step in written:
            live.append(live[-1] + (1 if isinstance(step, Malloc) else -1))
        most = max(live)
        assert most > 8
        assert min(live[live.index(most) :] + live[live.index(8) :]) < most // 2


@pytest.mark.parametrize(
    "kinds", [(Malloc, Free), (Malloc, Realloc), (Calloc, Free), (Aligned, Realloc), (Malloc, Realloc, Free)]
)
def test_just_the_kinds_that_are_asked_for_are_written(kinds):
    written, _ = script(1, kinds=kinds)
    assert {type(step) for step in written} == set(kinds)


class Forgets(FreeList):
    """calloc refuses without errno."""

    def calloc(self, n, size):
        before = self.process.errno
        p = super().calloc(n, size)
        self.process.errno = before
        return p


def test_an_errno_of_before_does_not_hide_one_that_is_not_set():
    heap = CheckedHeap(Forgets)
    heap.do(Malloc(0, 1 << 40))
    with pytest.raises(AssertionError, match="errno is 0, not ENOMEM"):
        heap.do(Calloc(0, 1, 1 << 40))


class Sixth(FreeList):
    """The sixth request of one size in a row, after one of that size was freed, gets a wrong block."""

    last, in_a_row, freed = 0, 0, False

    def _malloc(self, size, alignment):
        self.in_a_row = self.in_a_row + 1 if size == self.last else 1
        self.last = size
        p = super()._malloc(size, alignment)
        return p - 16 if self.in_a_row > 5 and self.freed and size > 30 else p

    def _free(self, p):
        self.freed = True
        super()._free(p)


def test_what_only_repeated_sizes_show_is_found_and_made_minimal():
    found = fuzz(Sixth, seconds=100, seed=1, shrink_seconds=60)
    assert found.minimal is not None
    assert len(found.minimal.failure.steps) <= 8
    assert {step.size for step in found.minimal.failure.steps if isinstance(step, Malloc)} <= {0, 31}


class Loops(FreeList):
    """Never returns from a free of 600 bytes or more, and touches nothing."""

    def _free(self, p):
        while self._usable(p) >= 600:
            while True:
                pass
        super()._free(p)


def test_a_loop_without_a_reference_shrinks_within_its_budget():
    found = fuzz(Loops, seconds=60, step_seconds=1, shrink_seconds=60)
    assert "no end after 1 s" in found.minimal.failure.sentence
    assert list(map(str, found.minimal.failure.steps)) == ["malloc 0 585", "free 0"]


def test_an_error_of_the_design_itself_is_a_failure():
    class Raises(FreeList):
        def _free(self, p):
            return {}[p]

    found = fuzz(Raises, seconds=60)
    assert "KeyError" in found.minimal.failure.sentence
    assert list(map(str, found.minimal.failure.steps)) == ["malloc 0 0", "free 0"]


# ---- strategies ----


@settings(max_examples=30, deadline=None)
@given(steps(kinds=[Malloc, Free, Fork], max_size=30))
def test_steps_are_possible(script):
    assert renumbered(script) == script
    heap = CheckedHeap("rbtree", "c")
    for step in script:
        heap.do(step)


@settings(max_examples=20, deadline=None)
@given(traces(processes=False))
def test_traces_are_valid(trace):
    assert sum(len(block) for block in trace) == trace.header.events


def test_hypothesis_knows_traces_by_their_type():
    register()

    @settings(max_examples=5, deadline=None)
    @given(st.from_type(Trace))
    def test(trace):
        assert isinstance(trace, Trace)

    test()


@pytest.mark.parametrize("language", ["python", "c"])
def test_a_sound_design_passes(language):
    found = fuzz("freelist", language, steps=600, seconds=300)
    assert found.first is None
    assert len(found.ways) > 10


def test_hypothesis_goes_on_where_the_core_is_not_built():
    code = (
        "import sys; sys.modules['heaplab._core._heaplab'] = None; import hypothesis; "
        "from heaplab.testing.registration import register; register(); print('goes on')"
    )
    command = [sys.executable, "-W", "error", "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.stdout == "goes on\n", done.stderr


def test_no_size_that_is_drawn_is_negative():
    with pytest.raises(NoSuchExample):
        find(
            sizes(),
            lambda size: not 0 <= size <= 1 << 20,
            settings=settings(max_examples=2000, database=None),
        )
