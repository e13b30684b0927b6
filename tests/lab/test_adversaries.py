"""Adversaries: what they see is true, what they did can be replayed, and theorems hold of what they cause."""

import os
from random import Random

import numpy as np
import pytest

from heaplab import lab
from heaplab.allocators import names, parse
from heaplab.errors import UsageError
from heaplab.lab.adversaries import Blocks, BuddyKiller, Fragmenter, Robson, adversary, bounds
from heaplab.traces import Event, Op

FITS = [f"freelist:fit={fit}:order=address" for fit in ("first", "next", "best", "worst")]
DESIGNS = [*FITS, *(name for name in names("c") if name != "freelist")]
#: Robson's program small enough for lists that are searched from end to end
SMALL = Robson(live=1 << 17, largest=1 << 11)


def scramble(opponent):
    """Asks in batches and one by one, and decides by addresses."""
    random = Random(1)
    blocks = opponent.malloc_many([random.randrange(1, 600) for _ in range(400)])
    opponent.free_many(blocks[blocks.address // 64 % 3 > 0])
    few = [opponent.malloc(size) for size in (1, 40, 5000, 100)]
    few[1] = opponent.realloc(few[1], 3000 if few[0].address % 32 else 5000)
    opponent.free(few.pop(0))
    for block in few:
        assert block.address % 16 == 0
    opponent.malloc_many(np.full(100, 1000))
    opponent.malloc(200_000)  # a mapping of its own
    opponent.free_many(Blocks.of(few))


# ---- on the model ----


@pytest.mark.parametrize("design", DESIGNS)
def test_the_trace_replayed_gives_what_the_duel_gave(design):
    duel = adversary(scramble, design, seed=3)
    assert (duel.outcome, duel.language, duel.seed) == ("finished", "c", 3)
    run = duel.run
    assert run.outcome == "finished"
    assert (run.peak_live, run.peak_heap, run.peak_resident) == (
        duel.peak_live,
        duel.peak_heap,
        duel.peak_resident,
    )
    assert run.events == run.operations == duel.trace.header.events


@pytest.mark.parametrize("design", names("python"))
def test_both_languages_see_the_same_addresses(design):
    c, python = (adversary(scramble, design, language) for language in ("c", "python"))
    assert [tuple(event) for event in c.trace.events()] == [tuple(event) for event in python.trace.events()]
    assert (c.peak_heap, c.peak_resident) == (python.peak_heap, python.peak_resident)


def test_what_an_adversary_sees():
    def watch(opponent):
        assert (opponent.events, opponent.live) == (0, 0)
        blocks = opponent.malloc_many([100, 24, 300])
        assert (len(blocks), blocks.size.tolist(), opponent.live) == (3, [100, 24, 300], 424)
        assert len(set(blocks.address.tolist())) == 3
        assert [block.address for block in blocks] == blocks.address.tolist()
        opponent.free_many(blocks[blocks.size < 200])
        assert (opponent.live, opponent.events) == (300, 5)
        assert opponent.heap >= opponent.resident > 0
        again = opponent.malloc(24)
        assert again.address == blocks.address[1]  # the latest of its size
        seen.append(blocks)

    seen = []
    duel = adversary(watch, "slab")
    assert [str(event) for event in duel.trace.events()][:4] == [
        "malloc 0 100",
        "malloc 1 24",
        "malloc 2 300",
        "free 0",
    ]
    assert duel.trace.header.name == "watch-against-slab"
    assert seen
    assert "watch against slab (c)" in str(duel)


def test_two_duels_are_equal():
    one, other = (adversary(scramble, "spans", seed=2) for _ in range(2))
    assert list(one.trace.events()) == list(other.trace.events())
    assert one.peak_heap == other.peak_heap


def test_blocks_that_are_not_live_are_refused():
    def frees_twice(opponent):
        block = opponent.malloc(100)
        opponent.free(block)
        opponent.malloc(100)  # in the same slot
        opponent.free(block)

    def frees_twice_at_once(opponent):
        blocks = opponent.malloc_many([10, 20])
        opponent.free_many(blocks[[0, 1, 0]])

    def frees_what_moved(opponent):
        block = opponent.malloc(100)
        opponent.realloc(block, 50_000)
        opponent.free_many(Blocks.of([block]))

    for function, why in (
        (frees_twice, "is not live"),
        (frees_twice_at_once, "twice in one batch"),
        (frees_what_moved, "is not live"),
        (lambda opponent: opponent.malloc(-1), "no program can have that"),
        (lambda opponent: opponent.malloc_many([1, -1]), "no program can have that"),
        (lambda opponent: opponent.realloc(opponent.malloc(1), 0), "give 1 at least"),
    ):
        with pytest.raises(UsageError, match=why):
            adversary(function, "rbtree")


def test_an_adversarys_own_error_passes_through():
    def broken(opponent):
        opponent.malloc(8)
        raise ZeroDivisionError

    for allocator, language in (("buddy", "c"), ("glibc", "native")):
        with pytest.raises(ZeroDivisionError):
            adversary(broken, allocator, language)


@pytest.mark.parametrize(("allocator", "language"), [("buddy", "c"), ("glibc", "native")])
def test_limits_and_failures_end_a_duel_in_its_request(allocator, language):
    reached = []

    def endless(opponent):
        while True:
            opponent.malloc_many([16] * 300)
            reached.append(opponent.events)

    duel = adversary(endless, allocator, language, max_events=1000)
    assert (duel.outcome, duel.trace.header.events, reached) == ("stopped", 1000, [300, 600, 900])
    assert "more than 1,000 requests" in duel.reason

    def too_much(opponent):
        opponent.malloc_many([100, 1 << 46, 100])
        raise AssertionError("the duel is over")

    duel = adversary(too_much, allocator, language)
    assert (duel.outcome, duel.trace.header.events) == ("failed", 2)
    assert "gave no memory" in duel.reason
    assert duel.run.reason == duel.reason


def test_mems_limit_a_duel_as_a_run():
    duel = adversary(SMALL, "rbtree", max_mems=10_000)
    assert (duel.outcome, duel.run.outcome) == ("stopped", "stopped")
    assert duel.reason == duel.run.reason


# ---- real allocators ----


def test_a_design_of_ours_gives_natively_what_it_gives_on_the_model():
    model, real = adversary(SMALL, "rbtree"), adversary(SMALL, "heaplab:rbtree", "native")
    assert list(model.trace.events()) == list(real.trace.events())
    assert (model.peak_live, model.peak_heap) == (real.peak_live, real.peak_heap)
    assert abs(model.peak_resident - real.peak_resident) <= model.peak_resident / 200


def test_a_real_allocators_trace_replayed_gives_what_the_duel_gave():
    duel = adversary(scramble, "glibc", "native")
    assert (duel.outcome, duel.language, duel.allocator) == ("finished", "native", "glibc")
    assert (duel.run.peak_live, duel.run.peak_heap) == (duel.peak_live, duel.peak_heap)
    assert duel.run.mmap_calls


def test_a_mallocs_c_file_is_an_opponent_and_its_end_an_ending(tmp_path):
    source = tmp_path / "bump.c"
    source.write_text(
        "#include <stddef.h>\n"
        "#include <stdlib.h>\n"
        "static char memory[1 << 20] __attribute__((aligned(16)));\n"
        "static size_t used;\n"
        "void *malloc(size_t n) { void *p = memory + used; used += (n + 15) / 16 * 16; return p; }\n"
        "void free(void *p) { if (p && *(unsigned char *)p != 1) abort(); }\n"
    )

    def frees(opponent):
        blocks = opponent.malloc_many([32] * 10)
        assert np.diff(blocks.address).tolist() == [32] * 9
        opponent.free(next(iter(blocks)))

    duel = adversary(frees, str(source))
    assert (duel.language, duel.outcome) == ("native", "crashed")
    assert "SIGABRT" in duel.reason
    assert "event 10 (free 0)" in duel.reason


def test_more_live_blocks_than_there_is_room_for_are_refused():
    with pytest.raises(UsageError, match="give max_blocks"):
        adversary(lambda opponent: opponent.malloc_many([16] * 100), "glibc", "native", max_blocks=50)


def test_nothing_of_a_duel_is_left(tmp_path):
    before = len(os.listdir("/proc/self/fd"))
    adversary(lambda opponent: opponent.malloc(8), "glibc", "native")
    assert len(os.listdir("/proc/self/fd")) == before


# ---- theorems ----


@pytest.mark.parametrize("design", DESIGNS)
def test_robsons_program_reaches_its_bound_on_every_design(design):
    duel = adversary(SMALL, design, verify=False)
    assert duel.peak_resident >= SMALL.bound
    assert duel.peak_live <= SMALL.live


def sawtooth(opponent):
    """Fills what may live with one power of two after the other, up and down; leaves a random part."""
    random, blocks = np.random.default_rng(1), Blocks.of([])
    for power in (6, 9, 7, 11, 6, 8, 10, 6, 11, 6, 7, 9):
        kept = random.random(len(blocks)) < 0.3
        opponent.free_many(blocks[~kept])
        blocks = blocks[kept]
        room = SMALL.live - int(blocks.size.sum()) - 8 * len(blocks)
        more = opponent.malloc_many(np.full(room >> power, (1 << power) - 8))
        blocks = Blocks.join([blocks, more])


def past_first_fit(spec):
    """The programs of powers of two for which a design needs more than first fit ever does."""
    most = bounds.first_fit(SMALL.live, SMALL.largest, SMALL.least)
    heaps = {
        program: adversary(program, spec, verify=False, payload=False).peak_heap
        for program in (SMALL, sawtooth)
    }
    return [program for program, heap in heaps.items() if heap > most]


def test_first_fit_keeps_its_upper_bound():
    assert past_first_fit(parse("freelist:fit=first:order=address", "c")) == []


def test_a_heap_that_uses_nothing_again_is_found_by_that_bound(spec_of):
    assert past_first_fit(spec_of()) == [sawtooth]


def test_the_buddy_killer_kills_buddies():
    program = BuddyKiller(live=1 << 18)
    buddy, tree = (adversary(program, design, verify=False).resident_ratio for design in ("buddy", "rbtree"))
    assert buddy > 5.5
    assert tree < 2
    assert buddy < bounds.half_fit(program.live, program.largest, program.least) / program.live


def test_the_fragmenter_costs_a_heap_of_classes_a_heap_a_class():
    program = Fragmenter(live=1 << 19, sizes=tuple(range(32, 161, 16)))
    ratios = {
        design: adversary(program, design, verify=False).resident_ratio
        for design in ("slab", "spans", "rbtree", "freelist")
    }
    assert min(ratios["slab"], ratios["spans"]) > 0.8 * len(program.sizes)
    assert max(ratios["rbtree"], ratios["freelist"]) < 2


def test_impossible_programs_are_refused():
    for make in (
        lambda: Robson(largest=3000),
        lambda: Robson(header=64),
        lambda: BuddyKiller(least=8),
        lambda: BuddyKiller(largest=100),
        lambda: Fragmenter(sizes=()),
    ):
        with pytest.raises(UsageError):
            make()
    with pytest.raises(ValueError, match="live >= largest"):
        bounds.any_allocator(10, 20)


def test_the_face_of_the_laboratory_has_it():
    assert lab.adversary is adversary
    assert Event(Op.MALLOC, 0, 8) in list(lab.adversary(lambda o: o.malloc(8), "slab").trace.events())
