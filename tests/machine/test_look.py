"""A context that looks: loads without a trace, stores that fail, and spaces that go under its eyes."""

import gc

import pytest

from heaplab._core import lib
from heaplab.errors import OutOfFuel, Unreadable, UsageError
from heaplab.machine import Context, FrameKind, Looking, Machine, Pte, Space
from tests.machine.conftest import PAGE, USER_RW


class Pages:
    """Shows what it was given, by page number; a frame, bytes, None, or an error to raise."""

    def __init__(self, pages: dict[int, int | bytes | Exception | None]) -> None:
        self.pages = pages
        self.asked: list[int] = []

    def look(self, va: int) -> int | bytes | None:
        self.asked.append(va)
        shown = self.pages.get(va // PAGE)
        if isinstance(shown, Exception):
            raise shown
        return shown

    def syscall(self, nr: int, *args: int) -> int:
        raise UsageError("no call")


def test_it_sees_what_is_mapped_and_leaves_no_trace(machine: Machine, space: Space, context: Context) -> None:
    context.store64(8, 0xABCD)
    space.update(0, clear=Pte.ACCESSED | Pte.DIRTY)
    space.flush()
    before = context.tlb_misses, context.faults, context.mems, space.pte(0), machine.free_frames
    pages = Pages({})
    look = Looking(machine, space, pages)
    assert (look.load64(8), look.load(9, 1), look.read(8, 2)) == (0xABCD, 0xAB, b"\xcd\xab")
    assert (context.tlb_misses, context.faults, context.mems, space.pte(0), machine.free_frames) == before
    assert (space.cached, pages.asked, look.raw.tlb_misses) == (0, [], 0)


def test_where_no_entry_is_the_handler_is_asked(machine: Machine, space: Space, context: Context) -> None:
    context.store64(0, 7)
    frame = Pte.frame(space.pte(0))
    look = Looking(machine, space, Pages({1: frame, 2: b"\x01" * PAGE, 4: OSError("broken")}))
    assert (look.load64(PAGE), look.load64(2 * PAGE)) == (7, 0x0101010101010101)
    assert look.load64(2 * PAGE - 4) == 0x0101010100000000
    assert look.read(PAGE, 2 * PAGE)[:1] + look.read(PAGE, 2 * PAGE)[-1:] == b"\x07\x01"
    with pytest.raises(Unreadable, match="nothing at 0x300 may be read") as caught:
        look.load64(3 * PAGE - 4)
    assert caught.value.address == 3 * PAGE
    with pytest.raises(OSError, match="broken"):
        look.read(4 * PAGE, 1)
    assert look.load64(PAGE) == 7
    assert space.pte(PAGE) == 0


@pytest.mark.parametrize("va", [1 << 28, 1 << 47, 1 << 48, (1 << 64) - 8, (1 << 64) - 4])
def test_wild_addresses_are_unreadable(machine: Machine, space: Space, context: Context, va: int) -> None:
    context.store64(va & 0xFFFFF00, 1)
    look = Looking(machine, space, Pages({va // PAGE: None}))
    with pytest.raises(Unreadable) as caught:
        look.load64(va)
    assert caught.value.address == va


def test_what_user_programs_may_not_read_is_unreadable(machine: Machine, space: Space) -> None:
    space.map_zeroed(0, FrameKind.ANON, Pte.WRITE)
    pages = Pages({})
    with pytest.raises(Unreadable):
        Looking(machine, space, pages).load64(0)
    assert pages.asked == []


def test_a_store_or_a_bulk_write_fails(machine: Machine, space: Space, context: Context) -> None:
    context.store64(0, 7)
    look = Looking(machine, space, Pages({}))
    assert lib.hl_store64(look.raw, 0, 1) == -1
    assert look.raw.failed == lib.HL_LOOKS_ONLY
    with pytest.raises(UsageError, match="a store at 0x0 through a look"):
        look.check()
    for store, args in ((lib.hl_store, (3, 1, 2)), (lib.hl_fill, (0, 1, 8)), (lib.hl_copy, (0, 8, 8))):
        assert store(look.raw, *args) == -1
        with pytest.raises(UsageError):
            look.check()
    assert context.load64(0) == 7


def test_its_budget_is_its_own(machine: Machine, space: Space, context: Context) -> None:
    context.store64(0, 7)
    look = Looking(machine, space, Pages({}))
    look.fuel = 2
    assert (look.load64(0), look.load64(0)) == (7, 7)
    with pytest.raises(OutOfFuel):
        look.load64(0)
    assert (look.loads, context.fuel, context.mems) == (2, None, 1)


def test_when_the_space_goes_nothing_is_readable(machine: Machine) -> None:
    space = Space(machine)
    space.map_zeroed(0, FrameKind.ANON, USER_RW)
    looks = [Looking(machine, space, Pages({1: 0})) for _ in range(4)]
    assert [look.load64(0) for look in looks] == [0] * 4
    del looks[1]
    gc.collect()
    space.delete()
    later = Space(machine)  # which may lie where the first lay
    later.map_zeroed(0, FrameKind.ANON, USER_RW)
    for look in looks:
        for va in (0, PAGE):
            with pytest.raises(Unreadable):
                look.load64(va)
    del looks[0]
    gc.collect()


def test_a_machine_and_its_looks_may_be_collected_in_any_order() -> None:
    for first in (0, 1):
        machine = Machine(16 * PAGE, page_size=PAGE)
        look = Looking(machine, Space(machine), Pages({}))
        parts = [machine.raw, look.raw]
        del machine, look  # now only their C sides are left
        del parts[first]
        gc.collect()
        del parts
        gc.collect()
