"""The minimiser: of what it returns no step can be left out, and no size made smaller."""

from itertools import combinations
from random import Random

import pytest

from heaplab.allocators import Spec, Trait
from heaplab.allocators.designs.buddy import Buddy
from heaplab.allocators.designs.freelist import FreeList
from heaplab.allocators.designs.rbtree import RBTree
from heaplab.testing.authors import Author
from heaplab.testing.checked_heap import CheckedHeap
from heaplab.testing.failure import report, seen_on
from heaplab.testing.minimise import minimise
from heaplab.testing.renumbering import lives, named_apart, renumbered
from heaplab.testing.shrinking import shrink
from heaplab.testing.steps import Exit, Fork, Free, Malloc, Realloc, random_step, step_of
from heaplab.testing.trials import Replayed, played
from heaplab.traces import Op, open_trace


def failing_steps(design, seed, n=400):
    """Random steps on which the design fails, and the trial that says so."""
    trial = played(lambda: CheckedHeap(design))
    heap, chance, steps = CheckedHeap(design), Random(seed), []
    author = Author(chance)
    for _ in range(n):
        steps.append(random_step(heap, chance) if seed % 2 else author.step(heap))
        try:
            heap.do(steps[-1])
        except Exception:
            return trial(steps), trial
    pytest.fail("the design does not fail")


def lines(failure):
    return [str(step) for step in failure.steps]


class LostSplit(RBTree):
    """The second block of 600 bytes or more after one was freed loses what was split off behind it."""

    since_free = None

    def _malloc(self, size, alignment):
        p = super()._malloc(size, alignment)
        if p and 600 <= size < 5000:
            self.large = {*getattr(self, "large", ()), p}
        if p and 600 <= size < 5000 and self.since_free is not None:
            self.since_free += 1
            if self.since_free == 2:
                self._store(p + self._usable(p), 0)
        return p

    def _free(self, p):
        if p in getattr(self, "large", ()):
            self.large = self.large - {p}
            self.since_free = 0
        super()._free(p)


@pytest.mark.parametrize("seed", range(4))
def test_a_lost_split_is_four_steps(seed):
    """This one stayed at 20 to 38 steps when sizes and steps were left to Hypothesis alone."""
    failure, trial = failing_steps(LostSplit, seed)
    minimal = minimise(failure, trial)
    assert minimal.finished
    assert lines(minimal.failure) == ["malloc 0 600", "free 0", "malloc 0 600", "malloc 1 600"]


class ManyAtOnce(Buddy):
    """The seventh block of more than 100 bytes that lives is the first one again."""

    def _malloc(self, size, alignment):
        same = [span.payload for span in self.walk() if span.state.is_live and span.usable > 100]
        again = len(same) >= 6 and size > 100 and alignment == 16
        return same[0] if again else super()._malloc(size, alignment)


def test_what_needs_many_blocks_has_as_many_and_no_more():
    failure, trial = failing_steps(ManyAtOnce, 3)
    minimal = minimise(failure, trial, seconds=120)
    assert len(minimal.failure.steps) == 7
    assert {type(step) for step in minimal.failure.steps} == {Malloc}


@pytest.mark.parametrize("design", [LostSplit, ManyAtOnce])
def test_no_step_can_be_left_out_and_no_size_made_smaller(design):
    failure, trial = failing_steps(design, 5)
    steps = list(minimise(failure, trial, seconds=120).failure.steps)
    for n in (1, 2):
        for left_out in combinations(range(len(steps)), n):
            rest = [step for place, step in enumerate(named_apart(steps)) if place not in left_out]
            assert trial(renumbered(rest)) is None
    for place, step in enumerate(steps):
        if getattr(step, "size", 0):
            smaller = type(step)(step.slot, step.size - 1)
            assert trial([*steps[:place], smaller, *steps[place + 1 :]]) is None


def test_the_budget_is_kept_and_what_was_found_is_kept_too():
    failure, trial = failing_steps(LostSplit, 1)
    minimal = minimise(failure, trial, attempts=5)
    assert not minimal.finished
    assert minimal.attempts == 5
    assert trial(minimal.failure.steps).kind == failure.kind
    assert minimise(failure, trial, seconds=0).failure == failure


def test_the_newest_is_freed_first_where_a_design_wants_that():
    class Stack(FreeList):
        TRAITS = FreeList.TRAITS & ~Trait.ANY_ORDER

        def _malloc(self, size, alignment):
            assert size != 777, "this one"
            return super()._malloc(size, alignment)

    trial = played(lambda: CheckedHeap(Stack))
    seen = []

    def watched(steps):
        seen.append(steps)
        return trial(steps)

    failure = trial([Malloc(0, 8), Malloc(1, 8), Free(1), Free(0), Malloc(0, 777)])
    assert lines(minimise(failure, watched, newest_first=True).failure) == ["malloc 0 777"]
    for steps in seen:
        assert renumbered(steps, newest_first=True) == list(steps)


# ---- steps that hang together ----


def test_blocks_get_the_lowest_slots_and_what_is_not_possible_is_left_out():
    steps = [Free(1), Malloc(5, 8), Fork(3), Malloc(2, 8, process=3), Free(5, process=3), Exit(process=9)]
    assert list(map(str, renumbered(steps))) == [
        "malloc 0 8", "fork 1", "malloc 1 8 (process 1, thread 0)", "free 0 (process 1, thread 0)"
    ]  # fmt: skip


def test_what_makes_a_child_goes_with_all_that_it_does():
    apart = named_apart([Malloc(0, 8), Fork(1), Free(0, process=1), Malloc(0, 9, process=1), Realloc(0, 3)])
    assert sorted(lives(apart)) == [[0, 2, 4], [1, 2, 3], [3]]


@pytest.mark.parametrize("name", ["bash", "cpython-prefork"])
def test_the_steps_of_a_trace_are_its_events(name):
    events = [event for event, _ in zip(open_trace(name).events(), range(20_000), strict=False)]
    steps = [step_of(event) for event in events]
    assert all(
        step.event()._replace(time=0) == event._replace(time=0)
        for step, event in zip(steps, events, strict=True)
    )
    assert Op.EXIT in {event.op for event in events} or name != "bash"
    slots = renumbered(steps)
    assert len(slots) == len(steps)


# ---- long traces ----


class Forgets(Buddy):
    """realloc to more than 3,000 bytes forgets the first byte."""

    def _resize(self, p, size):
        if size > 3000:
            self.process.fill(p, 255, 1)
        return super()._resize(p, size)


class Circle(Buddy):
    """Goes round in a circle when it frees more than 5,000 bytes."""

    def _free(self, p):
        while self._usable(p) > 5000:
            pass
        super()._free(p)


class Asleep(Buddy):
    """The same, and reads nothing."""

    def _free(self, p):
        while self._usable(p) > 5000:
            while True:
                pass
        super()._free(p)


class Strays(Buddy):
    """Dies of a store to nowhere when a block of more than 5,000 bytes is freed."""

    def _free(self, p):
        if self._usable(p) > 5000:
            self._store(64, 1)
        super()._free(p)


class Tells(Buddy):
    """Its walk says that blocks of more than 5,000 bytes are free."""

    def _walk(self):
        return (span for span in super()._walk() if span.usable < 5000)


@pytest.mark.parametrize(
    ("design", "steps", "sentence"),
    [
        (Forgets, ["malloc 0 1", "realloc 0 3001"], "has lost what was written to it, from byte 0 on"),
        (Circle, ["malloc 0 4089", "free 0"], "no end after"),
        (Asleep, ["malloc 0 4089", "free 0"], "no end after"),
        (Strays, ["malloc 0 4089", "free 0"], "SIGSEGV"),
        (Tells, ["malloc 0 4089"], "the heap cannot be what its walk says"),
    ],
)
def test_a_trace_shrinks_whatever_fails(design, steps, sentence):
    patience = 0.3 if design is Asleep else 1  # each attempt that sleeps is waited for
    shrunk = shrink(open_trace("lua"), Replayed(Spec.of(design), most=3_000_000, seconds=patience))
    assert shrunk is not None
    assert len(shrunk.first.steps) > 100
    assert lines(shrunk.shortest) == steps
    assert sentence in shrunk.shortest.sentence


def test_a_trace_that_does_not_fail_is_none():
    assert shrink(open_trace("lua"), Replayed(Spec.of(Buddy))) is None


# ---- what is shown ----


def test_the_report_has_the_steps_once_what_broke_and_the_heap_before_and_after():
    trial = played(lambda: CheckedHeap(Strays))
    failure = trial([Malloc(0, 6000), Malloc(1, 24), Free(0)])
    text = report(failure, seen_on(lambda: CheckedHeap(Strays)), of=396)
    assert text.startswith(
        "The shortest steps found that fail, 3 steps of 396:\n    malloc 0 6000\n    malloc 1 24"
    )
    assert text.count("malloc 1 24") == 1
    assert "What broke: free 0: process" in text
    before, after = text.partition("The heap before the last step:")[2].split("The heap after it:")
    assert "block 0: 6000 bytes" in before
    assert "block 1: 24 bytes" in after


def test_of_a_large_heap_what_changes_is_shown():
    steps = [Malloc(slot, 24) for slot in range(200)]
    text = report(
        played(lambda: CheckedHeap(Strays))([*steps, Malloc(200, 9000), Free(200)]),
        seen_on(lambda: CheckedHeap(Strays)),
    )
    picture = text.partition("The heap before the last step:")[2]
    assert "more" in picture
    assert picture.count("\n") < 60
