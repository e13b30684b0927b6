"""Fuel: a budget of references ends a program at the same reference each time, and no count differs."""

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heaplab._core import lib
from heaplab.allocators import create
from heaplab.errors import OutOfFuel, UsageError
from heaplab.kernel import Kernel
from heaplab.machine import Context, Machine, Space
from tests.machine.conftest import PAGE, DemandZero


@pytest.mark.parametrize("size", [1, 2, 4, 8])
def test_the_reference_that_finds_no_fuel_is_not_made(
    context: Context, handler: DemandZero, size: int
) -> None:
    context.fuel = 3
    context.store(0, 1, size)
    context.store(0, 2, size)
    assert (context.load(0, size), context.fuel) == (2, 0)
    for _ in range(2):
        with pytest.raises(OutOfFuel, match="the budget of 3 memory references is spent") as caught:
            context.store(0, 9, size)
        assert caught.value.budget == 3
        with pytest.raises(OutOfFuel):
            context.load(PAGE, size)
    assert (context.loads, context.stores, context.mems, context.fuel) == (1, 2, 3, 0)
    assert len(handler.seen) == 1, "a reference that was not made faulted"
    context.fuel = None
    assert context.load(0, size) == 2


def test_the_fast_loads_and_stores_too(context: Context) -> None:
    context.fuel = 1
    context.store64(0, 5)
    with pytest.raises(OutOfFuel):
        context.store64(0, 6)
    with pytest.raises(OutOfFuel):
        context.load64(0)
    context.fuel = 1
    assert context.load64(0) == 5


def test_without_a_limit_there_is_none(context: Context) -> None:
    assert context.fuel is None
    for _ in range(100):
        context.store64(0, 1)
    context.fill(0, 1, 4 * PAGE)
    assert (context.fuel, context.mems) == (None, 100)
    context.fuel = 1 << 80
    context.load64(0)
    assert context.fuel == (1 << 63) - 2
    with pytest.raises(UsageError, match="make it 0 or more"):
        context.fuel = -1


STEPS = st.lists(
    st.one_of(
        st.sampled_from(["load", "store", "fill", "none"]), st.integers(0, 12), st.just(1 << 64), st.just(-1)
    ),
    max_size=40,
)


@given(STEPS)
def test_counters_are_exact_whatever_the_budgets(steps: list[str | int]) -> None:
    machine = Machine(64 * PAGE, page_size=PAGE, tlb=16)
    space = Space(machine)
    context = Context(machine, space, DemandZero(space))
    loads = stores = bulk = 0
    left: int | None = None
    for step in steps:
        if step == "none":
            left = context.fuel = None
        elif isinstance(step, int):
            if step >= 0:
                context.fuel = step
                left = min(step, (1 << 63) - 1)
        else:
            spent = left == 0
            try:
                if step == "load":
                    context.load64(0)
                    loads += 1
                elif step == "store":
                    context.store(8, 1, 1)
                    stores += 1
                else:
                    context.fill(0, 1, 16)
                    bulk += 16
            except OutOfFuel:
                assert spent
            else:
                assert not spent
                left = None if left is None else left - 1
        assert (context.loads, context.stores, context.mems) == (loads, stores, loads + stores)
        assert (context.bulk, context.fuel) == (bulk, left)


@pytest.mark.parametrize(
    "bulk",
    [
        lambda context: context.fill(0, 1, 0),
        lambda context: context.copy(0, PAGE, 10),
        lambda context: context.read(0, 1),
        lambda context: context.write(0, b""),
    ],
)
def test_a_loop_of_bulk_work_ends(context: Context, bulk: Callable[[Context], object]) -> None:
    context.fuel = 10
    for _ in range(10):
        bulk(context)
    with pytest.raises(OutOfFuel):
        bulk(context)
    assert (context.mems, context.fuel) == (0, 0)


def test_bulk_work_costs_a_unit_for_4096_bytes_and_all_of_it_or_none_is_done(context: Context) -> None:
    context.fuel = 5
    context.fill(0, 1, 4095)
    context.fill(0, 2, 4096)
    assert (context.fuel, context.bulk) == (2, 8191)
    with pytest.raises(OutOfFuel):
        context.fill(0, 3, 2 * 4096)
    assert (context.fuel, context.bulk) == (0, 8191)
    context.fuel = None
    assert context.load(0, 1) == 2


@pytest.mark.parametrize("language", ["c", "python"])
def test_a_heap_runs_dry_at_the_same_reference_every_time(language: str) -> None:
    def run(fuel: int | None) -> tuple[int, int, int, bytes]:
        process = Kernel(ram="1 MiB", seed=1).init.fork()
        heap = create("rbtree", process, language=language)
        before = process.context.mems
        process.fuel = fuel
        try:
            for size in range(8, 800, 8):
                heap.free(heap.malloc(size))
        except OutOfFuel:
            assert process.context.mems - before == fuel
        process.fuel = None
        context = process.context
        return context.mems - before, context.stores, context.tlb_misses, process.read(heap.root, 4096)

    whole = run(None)
    assert run(whole[0]) == whole
    for fuel in (0, 1, 100, whole[0] - 1):
        assert run(fuel) == run(fuel)
        assert run(fuel)[0] == fuel


def test_c_tells_why_an_access_failed(context: Context, handler: DemandZero) -> None:
    handler.limit = PAGE
    assert lib.hl_load64(context.raw, PAGE + 8) == lib.HL_BAD_LOAD
    assert (context.raw.failed, context.raw.fault_address) == (lib.HL_REFUSED, PAGE + 8)
    with pytest.raises(LookupError):
        context.check()
    context.fuel = 0
    assert lib.hl_store64(context.raw, 0, 1) == -1
    assert context.raw.failed == lib.HL_OUT_OF_FUEL
    with pytest.raises(OutOfFuel):
        context.check()
    context.check()


def test_a_forked_child_has_no_limit() -> None:
    parent = Kernel(ram="1 MiB").init.fork()
    page = parent.mmap(4096)
    parent.fuel = 1
    child = parent.fork()
    assert (parent.fuel, child.fuel) == (1, None)
    child.store64(page, 1)
    child.store64(page, 2)
    assert parent.fuel == 1
