"""The order of references: a hash that tells two orders apart, and the last references themselves."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heaplab.allocators import create
from heaplab.errors import OutOfFuel, UsageError
from heaplab.kernel import Kernel
from heaplab.machine import Context, Machine, Reference, Space
from heaplab.process import Process
from tests.machine.conftest import PAGE, DemandZero

Step = tuple[bool, int, int]
SIZES = st.sampled_from([1, 2, 4, 8])
STEPS: st.SearchStrategy[list[Step]] = st.lists(st.tuples(st.booleans(), st.integers(0, 8 * PAGE), SIZES))


def new() -> Context:
    machine = Machine(64 * PAGE, page_size=PAGE, tlb=4)
    space = Space(machine)
    return Context(machine, space, DemandZero(space))


def play(context: Context, steps: list[Step]) -> None:
    for is_store, address, size in steps:
        if is_store and size == 8:
            context.store64(address, address)
        elif is_store:
            context.store(address, address, size)
        elif size == 8:
            context.load64(address)
        else:
            context.load(address, size)


def counts(context: Context) -> tuple[object, ...]:
    tlb = [(entry.read_tag, entry.write_tag) for entry in context.machine.raw.tlb[0:4]]
    return context.loads, context.stores, context.tlb_misses, context.faults, context.bulk, tlb


@given(STEPS)
def test_observed_or_not_all_counts_are_the_same(steps: list[Step]) -> None:
    observed, unobserved = new(), new()
    observed.observe(True)
    play(observed, steps)
    play(unobserved, steps)
    observed.copy(0, PAGE, 100)
    unobserved.copy(0, PAGE, 100)
    assert counts(observed) == counts(unobserved)
    assert observed.recent(1000) == [Reference(address, is_store) for is_store, address, _ in steps]
    observed.observe(False)
    play(observed, steps)
    play(unobserved, steps)
    assert counts(observed) == counts(unobserved)
    assert len(observed.recent(1000)) == len(steps)


@given(STEPS, STEPS)
def test_orders_are_equal_if_the_references_are(steps: list[Step], others: list[Step]) -> None:
    first, second = new(), new()
    first.observe(True)
    second.observe(True)
    play(first, steps)
    play(second, others)
    same = [step[:2] for step in steps] == [step[:2] for step in others]
    assert (first.order == second.order) == same
    second.observe(True)
    assert second.recent(9) == []
    play(second, steps)
    assert first.order == second.order


@pytest.mark.parametrize(
    "steps",
    [
        [(True, 8, 8), (False, 8, 8)],
        [(False, 0, 8), (False, 8, 8)],
        [(False, 8, 8), (False, 8, 8)],
        [(False, 0, 8)],
        [(True, 0, 8)],
        [],
    ],
)
def test_order_kind_place_and_number_are_told_apart(steps: list[Step]) -> None:
    orders = []
    for program in (steps, [(False, 8, 8), (True, 8, 8)], [(False, 8, 8), (False, 0, 8)]):
        context = new()
        context.observe(True)
        play(context, program)
        orders.append(context.order)
    assert len(set(orders)) == 3


def test_only_so_many_are_kept(context: Context) -> None:
    assert (context.order, context.recent(5)) == (0, [])
    context.observe(True, keep=4)
    for address in range(10):
        context.load(address, 1)
    assert [address for address, _ in context.recent(100)] == [6, 7, 8, 9]
    assert context.recent(1) == [(9, False)]
    assert context.recent(0) == context.recent(-3) == []
    with pytest.raises(UsageError, match="keep 0 or more"):
        context.observe(True, keep=-1)
    with pytest.raises(MemoryError):
        context.observe(True, keep=1 << 60)


def test_a_reference_for_which_there_is_no_fuel_is_none(context: Context) -> None:
    context.observe(True)
    context.fuel = 1
    context.load64(0)
    with pytest.raises(OutOfFuel):
        context.load64(8)
    assert context.recent(9) == [(0, False)]


def test_twins_make_the_same_references_in_the_same_order() -> None:
    def process() -> Process:
        return Kernel(ram="1 MiB", seed=1).init.fork()

    orders = []
    for language in ("python", "c"):
        heap = create("freelist", process(), language=language)
        heap.process.context.observe(True)
        blocks = [heap.malloc(size) for size in (24, 1000, 8, 5000)]
        for block in (blocks[1], blocks[0], blocks[3]):
            heap.free(block)
        orders.append((heap.process.context.order, heap.process.context.recent(9999)))
    assert orders[0] == orders[1]
