"""Every registered allocator keeps the contract, in both languages, whatever its options say."""

from collections import defaultdict
from copy import deepcopy

import pytest

from heaplab import allocators
from heaplab.allocators import State, Trait, parse
from heaplab.allocators.designs.freelist import FreeList
from heaplab.errors import HeaplabError
from heaplab.testing import contract
from heaplab.testing.contract import HeapFactory
from heaplab.testing.contract.memory import all_state_is_in_memory
from heaplab.testing.specs import defaults, tuned, varied

#: clauses of thousands of calls.  In C they are for every spec.  In Python they are for every design, as it
#: is and tuned: with its options it is held to what C does, call by call, by test_twins.py
LONG = {
    "random_steps_break_nothing",
    "random_steps_on_threads_break_nothing",
    "a_lack_of_frames_harms_no_other_process",
    "a_thousand_holes_are_filled_again",
    "free_memory_goes_back_to_the_kernel",
    "every_refusal_in_turn_loses_nothing",
    "trimming_leaves_a_sound_heap",
}


def cases():
    assert {contract.name(clause) for clause in contract.CLAUSES} > LONG
    for language in allocators.LANGUAGES:
        plain = [*defaults(language), *map(tuned, defaults(language))]
        for spec in dict.fromkeys([*plain, *varied(language)]):
            for clause in contract.applying(spec, language):
                if language == "c" or spec in plain or contract.name(clause) not in LONG:
                    yield spec, language, clause


CASES = list(cases())


@pytest.mark.parametrize(
    ("spec", "language", "clause"),
    CASES,
    ids=[f"{spec} {language} {contract.name(clause)}" for spec, language, clause in CASES],
)
def test_contract(spec, language, clause):
    clause(HeapFactory(spec, language))


def test_every_clause_applies_to_some_design():
    assert {clause for _, _, clause in CASES} == set(contract.CLAUSES) - waiting_for_a_design()


def waiting_for_a_design():
    """Clauses for traits that none of heaplab's designs has."""
    traits = [parse(name).design.TRAITS for name in defaults()]
    return {
        clause for clause in contract.CLAUSES if not any(contract.needed(clause) in have for have in traits)
    }


def test_why_a_clause_does_not_apply_is_said():
    class Careless(FreeList):
        TRAITS = FreeList.TRAITS & ~(Trait.DETECTS | Trait.TRIMS)

    left_out = contract.left_out(Careless)
    assert left_out["a_double_free_is_noticed"] == "it is for designs with DETECTS"
    assert left_out["a_freed_heap_is_trimmed"] == "it is for designs with TRIMS"
    assert left_out["random_steps_on_threads_break_nothing"] == "it is for designs with THREADS"
    assert {contract.name(clause) for clause in contract.applying(Careless)}.isdisjoint(left_out)
    assert len(contract.applying(Careless)) + len(left_out) == len(contract.CLAUSES)


@pytest.mark.parametrize(
    ("spec", "detects"),
    [
        ("freelist", True),
        ("freelist:checks=links", False),
        ("freelist:checks=none", False),
        ("freelist:seal=off", False),
        ("freelist:seal=keyed", True),
    ],
)
def test_a_design_detects_what_its_options_let_it(spec, detects):
    assert (Trait.DETECTS in HeapFactory(spec).traits) is detects


def test_options_that_a_design_lacks_are_left_out():
    options = HeapFactory("freelist").heap(chunk=4096, top_pad=0).options
    assert "chunk" not in options
    assert options["top_pad"] == 0


class Noting(FreeList):
    """A free list with notes beside it, in the object: good enough to try clauses on.

    A look at the heap is an object of its own with the same options, so the notes go by them.
    """

    def __init__(self, *args):
        super().__init__(*args)
        self.notes = self.options.setdefault("notes", defaultdict(list))

    def attach(self, process):
        other = super().attach(process)
        other.notes = other.options["notes"] = deepcopy(self.notes)
        return other

    def _walk(self):
        back = {p for name, blocks in self.notes.items() if name != "order" for p in blocks}
        for span in super()._walk():
            yield span._replace(state=State.CACHED) if span.payload in back else span


class PerThread(Noting):
    """Keeps up to ten blocks for each thread that freed them."""

    TRAITS = FreeList.TRAITS | Trait.THREADS

    def _malloc(self, size, alignment):
        mine = self.notes[self.process.context.thread]
        for p in mine:
            if super()._usable(p) >= size and p % alignment == 0:
                mine.remove(p)
                return p
        return super()._malloc(size, alignment)

    def _free(self, p):
        mine = self.notes[self.process.context.thread]
        if len(mine) < 10:
            mine.append(p)
        else:
            super()._free(p)

    def thread_exit(self, thread):
        for p in self.notes.pop(thread, []):
            super()._free(p)


class KeepsAtExit(PerThread):
    """Does nothing when a thread ends."""

    def thread_exit(self, thread):
        pass


class NeverFromOthers(PerThread):
    """Keeps without end what other threads than the one that took a block free."""

    def _malloc(self, size, alignment):
        p = FreeList._malloc(self, size, alignment)
        self.notes["order"].append((self.process.context.thread, p))
        return p

    def _free(self, p):
        if (self.process.context.thread, p) in self.notes["order"]:
            FreeList._free(self, p)
        else:
            self.notes["lost"].append(p)


def broken_by(design, trait):
    """The names of the clauses for this trait that the design breaks."""
    found = set()
    for clause in contract.applying(design):
        if trait in contract.needed(clause) and "random" not in contract.name(clause):
            try:
                clause(HeapFactory(design))
            except (AssertionError, HeaplabError):
                found.add(contract.name(clause))
    return found


def test_the_clauses_of_threads_tell_a_sound_design_from_a_leaky_one():
    assert broken_by(PerThread, Trait.THREADS) == set()
    assert broken_by(KeepsAtExit, Trait.THREADS) == {"the_end_of_a_thread_leaves_nothing_cached"}
    assert broken_by(NeverFromOthers, Trait.THREADS) == {"what_another_thread_frees_is_used_again"}


class Region(Noting):
    """Never gives a block out again, as a region does: free only marks."""

    TRAITS = Trait.ANY_ORDER | Trait.CONTIGUOUS

    def _free(self, p):
        self.notes["gone"].append(p)

    def _resize(self, p, size):
        return False


class Stack(Noting):
    """Takes back the newest block alone."""

    TRAITS = Trait.REUSES | Trait.CONTIGUOUS

    def _malloc(self, size, alignment):
        p = super()._malloc(size, alignment)
        if p:
            self.notes["order"].append(p)
        return p

    def _free(self, p):
        assert self.notes["order"].pop() == p, "not the newest"
        super()._free(p)


@pytest.mark.parametrize("design", [Region, Stack])
def test_designs_that_promise_little_are_held_to_that(design):
    """A region and a stack, by notes on a free list: the clauses that apply make sense for them."""
    clauses = [clause for clause in contract.applying(design) if clause is not all_state_is_in_memory]
    assert len(clauses) > 15
    for clause in clauses:
        clause(HeapFactory(design))
    assert "freed_memory_is_used_again" in contract.left_out(Region)
    assert "a_thousand_holes_are_filled_again" in contract.left_out(Stack)
