"""The MMU: accesses, faults, counters, and a TLB that goes stale when nobody flushes."""

from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from heaplab.errors import UsageError
from heaplab.machine import Context, FrameKind, Machine, Pte, Space
from tests.machine.conftest import PAGE, USER_RW, DemandZero

READ, WRITE, PROTECTION = 4, 6, 1


@pytest.mark.parametrize("size", [1, 2, 4, 8])
@pytest.mark.parametrize("offset", [0, 1, PAGE - 1, PAGE - 7])
def test_values_come_back_aligned_or_not(context: Context, size: int, offset: int) -> None:
    value = 0x8877665544332211 & ((1 << 8 * size) - 1)
    context.store(offset, value, size)
    assert context.load(offset, size) == value
    assert context.read(offset, size) == value.to_bytes(size, "little")


def test_one_reference_a_load_or_store_whatever_its_size(context: Context) -> None:
    context.store64(PAGE - 4, 1)
    context.load64(PAGE - 4)
    context.load(3, 1)
    assert (context.loads, context.stores, context.mems) == (2, 1, 3)
    assert context.bulk == 0
    context.fill(0, 1, 2 * PAGE)
    context.copy(0, PAGE, 10)
    context.write(5, b"abc")
    assert (context.mems, context.bulk) == (3, 2 * PAGE + 13)


def test_faults_tell_address_access_and_cause(context: Context, handler: DemandZero) -> None:
    context.load64(8)
    context.store64(PAGE + 16, 1)
    assert handler.seen == [(8, READ), (PAGE + 16, WRITE)]
    assert context.faults == 2
    context.space.protect_range(0, PAGE, clear=Pte.WRITE)
    context.space.flush_page(0)
    with pytest.raises(LookupError):
        context.store64(24, 1)
    assert handler.seen[-1] == (24, WRITE | PROTECTION)
    context.space.protect_range(0, PAGE, clear=Pte.USER)
    context.space.flush_page(0)
    with pytest.raises(LookupError):
        context.load64(24)
    assert handler.seen[-1] == (24, READ | PROTECTION)


def test_compare_and_swap_is_a_write_also_when_it_stores_nothing(
    context: Context, handler: DemandZero
) -> None:
    assert context.cas64(8, 0, 7)
    assert not context.cas64(8, 0, 9)
    assert context.load64(8) == 7
    assert (context.loads, context.stores) == (3, 1)
    assert handler.seen == [(8, WRITE)]  # one fault for the load and the store
    context.space.protect_range(0, PAGE, clear=Pte.WRITE)
    context.space.flush_page(0)
    with pytest.raises(LookupError):
        context.cas64(8, 0, 9)
    assert handler.seen[-1] == (8, WRITE | PROTECTION)


def test_first_writes_in_the_demand_window_do_not_ask(
    context: Context, space: Space, handler: DemandZero
) -> None:
    space.raw.demand_start, space.raw.demand_end, space.raw.demand_flags = PAGE, 3 * PAGE, USER_RW
    for page in range(5):
        context.store64(page * PAGE, page)
    assert handler.seen == [(0, WRITE), (3 * PAGE, WRITE), (4 * PAGE, WRITE)]
    assert (context.faults, context.tlb_misses, context.raw.minor_faults) == (5, 10, 2)
    assert [context.load64(page * PAGE) for page in range(5)] == [0, 1, 2, 3, 4]
    space.unmap_range(PAGE, 3 * PAGE)
    space.flush()
    context.load64(PAGE)  # a read is the kernel's
    assert handler.seen[-1] == (PAGE, READ)
    space.protect_range(PAGE, 2 * PAGE, clear=Pte.WRITE)
    space.flush()
    with pytest.raises(LookupError):  # and so is a right that is missing
        context.store64(PAGE, 1)


def test_a_write_in_the_demand_window_copies_what_others_have_too(
    machine: Machine, context: Context, space: Space, handler: DemandZero
) -> None:
    for page in range(3):
        context.store64(page * PAGE, 7)
    other = Space(machine)
    space.fork_range(other, 0, 3 * PAGE, cow=True)
    space.flush()
    frames = [Pte.frame(space.pte(page * PAGE)) for page in range(3)]
    handler.seen.clear()
    space.raw.demand_start, space.raw.demand_end, space.raw.demand_flags = PAGE, 3 * PAGE, USER_RW
    assert context.load64(PAGE) == 7  # the TLB has the frame that goes
    context.store64(PAGE + 8, 8)
    assert (handler.seen, context.raw.minor_faults) == ([], 1)
    assert (context.load64(PAGE), context.load64(PAGE + 8)) == (7, 8)
    assert machine.stale_tlb_entries() == 0
    assert Pte.frame(space.pte(PAGE)) != frames[1] == Pte.frame(other.pte(PAGE))
    other.delete()
    for page in (0, 2):  # outside; and a frame that nobody else has any more
        with pytest.raises(LookupError):
            context.store64(page * PAGE, 1)


def test_accessed_and_dirty_are_set_by_the_hardware(context: Context, space: Space) -> None:
    space.map_zeroed(0, FrameKind.ANON, USER_RW)
    assert not space.pte(0) & (Pte.ACCESSED | Pte.DIRTY)
    context.load64(0)
    assert space.pte(0) & (Pte.ACCESSED | Pte.DIRTY) == Pte.ACCESSED
    context.store64(0, 1)
    assert space.pte(0) & Pte.DIRTY


@pytest.mark.parametrize(
    "va", [1 << 28, 1 << 40, 1 << 47, 1 << 48, (1 << 63) + 8, (1 << 64) - 8, (1 << 64) - 1]
)
def test_wild_addresses_fault_and_never_alias(machine: Machine, va: int) -> None:
    space = Space(machine)
    context = Context(machine, space, DemandZero(space, limit=1 << 28))
    context.store64(va & 0xFFFFF00, 1)  # its page is in the TLB, under the low bits of the wild address
    for access in (context.load64, lambda a: context.store64(a, 1), lambda a: context.read(a, 1)):
        with pytest.raises(LookupError):
            access(va)


def test_spaces_do_not_see_each_other(machine: Machine, new_context: Callable[[Space], Context]) -> None:
    contexts = [new_context(Space(machine)) for _ in range(4)]
    for i, context in enumerate(contexts):
        context.store64(0, i)
    for _ in range(2):
        assert [context.load64(0) for context in contexts] == [0, 1, 2, 3]


def test_high_address_bits_cannot_pass_for_another_space(
    machine: Machine, new_context: Callable[[Space], Context]
) -> None:
    mine, other = Space(machine), Space(machine)
    handler = DemandZero(mine, limit=1 << 28)
    context = Context(machine, mine, handler)
    new_context(other).store64(0, 1)
    with pytest.raises(LookupError):
        context.load64((mine.asid ^ other.asid) << 48)


def test_an_entry_changed_without_a_flush_is_stale(machine: Machine, context: Context, space: Space) -> None:
    context.store64(0, 1)
    frame = Pte.frame(space.pte(0))
    machine.get(frame)  # so that nobody else gets it
    assert machine.stale_tlb_entries() == 0
    space.unmap_range(0, PAGE)
    assert machine.stale_tlb_entries() == 1
    context.store64(0, 2)
    assert machine.ram[frame][0] == 2, "the access still reached the old frame"
    space.flush_page(0)
    assert machine.stale_tlb_entries() == 0
    context.store64(0, 3)
    assert machine.ram[frame][0] == 2


def test_a_right_taken_without_a_flush_is_still_used(
    machine: Machine, context: Context, space: Space
) -> None:
    context.store64(0, 1)
    space.protect_range(0, PAGE, clear=Pte.WRITE)
    assert machine.stale_tlb_entries() == 1
    context.store64(0, 2)
    space.flush()
    with pytest.raises(LookupError):
        context.store64(0, 3)


def test_a_space_counts_its_tlb_entries(machine: Machine, new_context: Callable[[Space], Context]) -> None:
    spaces = [Space(machine) for _ in range(3)]
    contexts = [new_context(space) for space in spaces]

    def counts() -> list[int]:
        assert [space.cached for space in spaces] == [space.tlb_entries() for space in spaces]
        return [space.cached for space in spaces]

    for page in range(10):
        contexts[0].store64(page * PAGE, 1)
    assert counts() == [10, 0, 0]
    for page in range(4, 12):  # six fall upon entries of the first: the TLB has 16 places
        contexts[1].load64(page * PAGE)
    assert counts() == [4, 8, 0]
    contexts[1].store64(4 * PAGE, 1)
    contexts[1].load64((4 + 16) * PAGE)  # upon an entry of its own
    assert counts() == [4, 8, 0]
    spaces[0].flush_page(2 * PAGE)
    spaces[0].flush_page(4 * PAGE)  # which is the other's
    assert counts() == [3, 8, 0]
    spaces[0].flush()
    spaces[2].flush()
    assert counts() == [0, 8, 0]
    misses = contexts[1].tlb_misses
    assert contexts[1].load64(5 * PAGE) == 0
    assert contexts[1].tlb_misses == misses
    assert machine.stale_tlb_entries() == 0
    spaces.pop().delete()
    assert counts() == [0, 8]


def test_a_right_given_needs_no_flush(context: Context, space: Space) -> None:
    space.map_zeroed(0, FrameKind.ANON, Pte.USER)
    context.load64(0)
    space.update(0, set=Pte.WRITE)
    context.store64(0, 2)
    assert context.load64(0) == 2


def test_a_store_across_pages_is_whole_or_not_at_all(machine: Machine) -> None:
    space = Space(machine)
    context = Context(machine, space, DemandZero(space, limit=PAGE))
    context.store64(PAGE - 8, 0)
    with pytest.raises(LookupError):
        context.store64(PAGE - 4, (1 << 64) - 1)
    assert context.load64(PAGE - 8) == 0


def test_a_failing_bulk_write_leaves_the_pages_before_it(machine: Machine) -> None:
    space = Space(machine)
    context = Context(machine, space, DemandZero(space, limit=PAGE))
    with pytest.raises(LookupError):
        context.write(0, b"x" * (PAGE + 1))
    assert context.read(0, PAGE) == b"x" * PAGE


def test_a_fault_that_takes_the_other_page_away_loses_nothing(machine: Machine) -> None:
    class Reclaiming(DemandZero):
        """Has room for one page at a time until its third fault."""

        def fault(self, va: int, error_code: int) -> int:
            if len(self.seen) < 3:
                self.space.unmap_range(0, 1 << 28)
                self.space.flush()
            return super().fault(va, error_code)

    space = Space(machine)
    handler = Reclaiming(space)
    context = Context(machine, space, handler)
    context.fill(0, 7, PAGE)
    context.copy(0, PAGE, PAGE)
    assert len(handler.seen) > 3
    assert context.read(0, PAGE) == bytes(PAGE)


def test_without_a_space_every_access_faults(context: Context, handler: DemandZero) -> None:
    context.store64(0, 1)
    context.switch(None)
    handler.limit = 0
    for access in (lambda: context.load64(0), lambda: context.store(0, 1, 1), lambda: context.fill(0, 1, 8)):
        with pytest.raises(LookupError):
            access()
    assert [va for va, _ in handler.seen] == [0, 0, 0, 0]


@pytest.mark.parametrize("size", [0, 3, 16, -1])
def test_no_access_has_such_a_size(context: Context, size: int) -> None:
    with pytest.raises(UsageError, match="make it 1, 2, 4 or 8"):
        context.load(0, size)
    with pytest.raises(UsageError, match="make it 1, 2, 4 or 8"):
        context.store(0, 1, size)


def test_addresses_and_values_wrap_as_in_c(context: Context) -> None:
    context.store64(1 << 64, -1)
    assert context.load64(0) == (1 << 64) - 1
    context.store(-(1 << 64) + 8, -2, 2)
    assert context.read(8 + (1 << 64), 3) == b"\xfe\xff\x00"


def test_the_bad_load_value_is_data_too(context: Context) -> None:
    context.store64(0, 0xBADC0DEDBADC0DED)
    assert context.load64(0) == 0xBADC0DEDBADC0DED


def test_a_handler_that_never_maps_is_found_out(machine: Machine) -> None:
    class Liar:
        def fault(self, va: int, error_code: int) -> int:
            return 0

        def syscall(self, nr: int, *args: int) -> int:
            return 0

    context = Context(machine, Space(machine), Liar())
    with pytest.raises(MemoryError, match="tried again each time"):
        context.load64(0)


def test_tlb_misses_are_repeatable(machine: Machine) -> None:
    def misses() -> int:
        space = Space(machine)
        context = Context(machine, space, DemandZero(space))
        for i in range(40):
            context.store64((i * 7919 % 24) * PAGE, i)
        count = context.tlb_misses
        space.delete()
        return count

    assert misses() == misses() > 24


BYTES = st.binary(max_size=3 * PAGE)
PLACES = st.integers(0, 4 * PAGE)


@settings(deadline=None, max_examples=150)
@given(
    st.lists(
        st.tuples(st.sampled_from(["write", "copy", "fill", "store"]), PLACES, PLACES, BYTES), max_size=12
    )
)
def test_bulk_operations_agree_with_a_bytearray(steps: list[tuple[str, int, int, bytes]]) -> None:
    machine = Machine(64 * PAGE, page_size=PAGE, tlb=4)
    space = Space(machine)
    context = Context(machine, space, DemandZero(space))
    model = bytearray(8 * PAGE)
    for verb, a, b, data in steps:
        n = len(data)
        if verb == "write":
            context.write(a, data)
            model[a : a + n] = data
        elif verb == "copy":
            context.copy(a, b, n)
            model[a : a + n] = model[b : b + n]
        elif verb == "fill":
            context.fill(a, b & 0xFF, n)
            model[a : a + n] = bytes([b & 0xFF]) * n
        else:
            context.store64(a, b)
            model[a : a + 8] = b.to_bytes(8, "little")
    assert context.read(0, len(model)) == model
