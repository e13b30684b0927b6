"""The judge knows each outcome when it sees it: on allocators that are wrong on purpose."""

import pytest

from heaplab.allocators import parse
from heaplab.allocators.designs.freelist import FreeList
from heaplab.errors import HeapCorruption, Rule
from heaplab.testing.attacks.attack import Attack, FreeWrong, Place, Spill, Value, Write
from heaplab.testing.attacks.cell import outcome_of, shrink
from heaplab.testing.attacks.judge import Ground, Outcome
from heaplab.testing.steps import Free, Malloc, Realloc, spec_of


class Wrong(FreeList):
    """A sound heap but for one call: the malloc of 13 bytes."""

    NAME = "wrong"

    def malloc(self, size):
        return super().malloc(size) if size != 13 else self.fault()

    def fault(self):
        raise NotImplementedError

    @property
    def mapping(self):
        """Where the judge's mapping is: the last but the stack's."""
        return int(self.process.maps().splitlines()[-2].split("-")[0], 16)

    def block(self):
        return next(span.payload for span in self.walk() if span.state.is_live)


FAULTS = {
    Outcome.NAMED: lambda heap: heap._corrupt(heap.root, Rule.BROKEN_ROOT),
    Outcome.REFUSED: lambda heap: 0,
    Outcome.OVERLAP: lambda heap: heap.block() + 16,
    Outcome.OUTSIDE: lambda heap: heap.mapping + 64,
    Outcome.WROTE: lambda heap: heap.process.store(heap.mapping + 64, 0, 1) or 0,
    Outcome.UNMAPPED: lambda heap: heap.process.munmap(heap.mapping, 4096) or 0,
    Outcome.SEGV: lambda heap: heap.process.load64(8),
    Outcome.ERROR: lambda heap: {}["no such thing"],
}


def wrong(fault):
    return Ground(spec_of(type("Planted", (Wrong,), {"fault": fault})))


STEPS = Attack((Malloc(0, 100), Malloc(1, 200), Free(1), Malloc(2, 13), Malloc(3, 50)))


@pytest.mark.parametrize("outcome", FAULTS)
def test_each_outcome(outcome):
    assert wrong(FAULTS[outcome]).play(STEPS) is outcome


@pytest.mark.parametrize("offset", [8, -4096])
def test_a_block_that_is_misaligned_or_below_the_heap_is_outside(offset):
    ground = wrong(lambda heap: heap.root + 16 * 1024 + offset if offset > 0 else heap.root + offset)
    assert ground.play(STEPS) is Outcome.OUTSIDE


def test_a_write_into_a_live_block_is_noticed():
    assert wrong(lambda heap: heap.process.store(heap.block() + 99, 0, 1) or 0).play(STEPS) is Outcome.WROTE


def test_damage_done_before_the_error_is_named_counts():
    def fault(heap):
        heap.process.store(heap.mapping, 0, 1)
        raise HeapCorruption(heap.root, Rule.BROKEN_ROOT)

    assert wrong(fault).play(STEPS) is Outcome.WROTE


def test_a_walk_that_leaves_a_live_block_out_is_noticed():
    class Forgetful(FreeList):
        def walk(self):
            return (span for span in super().walk() if span.usable < 300)

    ground = Ground(spec_of(Forgetful))
    assert ground.play(Attack((Malloc(0, 100),))) is Outcome.HARMLESS
    assert ground.play(Attack((Malloc(0, 1000),))) is Outcome.LOST


def test_a_call_that_never_ends_hangs_and_the_next_attack_is_played():
    def fault(heap):
        while True:
            heap.process.load64(heap.root)

    ground = wrong(fault)
    assert outcome_of(ground, STEPS) is Outcome.HANG
    assert outcome_of(ground, Attack((Malloc(0, 100),))) is Outcome.HARMLESS


def test_an_attack_shrinks_to_what_its_outcome_needs():
    ground = wrong(lambda heap: heap.mapping + 64)
    assert shrink(ground, STEPS, Outcome.OUTSIDE) == Attack((Malloc(2, 13),))


def test_a_realloc_keeps_the_content_and_a_refused_one_the_block():
    ground = Ground(parse("freelist", "c"))
    assert (
        ground.play(Attack((Malloc(0, 100), Realloc(0, 9000), Realloc(0, 10), Free(0)))) is Outcome.HARMLESS
    )


def test_what_the_program_destroys_of_its_own_is_its_own_doing():
    spill = Spill(Value(Place.BEHIND, -8, slot=0), bytes(24))
    attack = Attack((Malloc(0, 104), Malloc(1, 104), spill, Malloc(2, 104)))
    assert (
        Ground(parse("freelist", "c")).play(attack) is Outcome.NAMED
    )  # by check; block 1 is not blamed on it


def test_a_step_that_has_lost_its_block_is_passed_over():
    lost = (Free(3), Realloc(3, 10), Write(Value(Place.BLOCK, 0, 3), Value(Place.ROOT)),
            FreeWrong(Value(Place.BLOCK, 0, 3)), Write(Value(Place.MAPPING), Value(Place.ROOT)))  # fmt: skip
    assert Ground(parse("rbtree", "c")).play(Attack(lost)) is Outcome.HARMLESS
