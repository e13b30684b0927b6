"""Page tables: entries, walks, ranges, and a model of them in a dictionary."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from heaplab.machine import FrameKind, Machine, Pte, Space
from tests.machine.conftest import PAGE, USER_RW


def test_a_walk_passes_four_tables(machine: Machine, space: Space) -> None:
    va = 0b00001_00010_00011_00100_00000000
    frame = space.map_zeroed(va, FrameKind.ANON, USER_RW)
    walk = space.walk(va)
    assert walk[0][0] == space.root
    assert len(walk) == 4
    for (_, entry), (table, _) in pairwise(walk):
        assert Pte.frame(entry) == table
    assert Pte.frame(walk[-1][1]) == frame
    # the entry stands in the table's frame, where the index of the address says
    leaf = machine.ram[walk[-1][0]].view(np.uint64)
    assert leaf[0b00100] == walk[-1][1]
    assert len(space.walk(va + (1 << 18))) == 2


def test_addresses_beyond_the_tables_have_no_entry(space: Space) -> None:
    for va in (1 << 28, 1 << 47, (1 << 64) - PAGE):
        assert space.pte(va) == 0
        assert space.walk(va) == []
        assert not space.map(va, 0, USER_RW)


def test_mapping_counts_frames_tables_and_rss(machine: Machine, space: Space) -> None:
    frame = machine.alloc(FrameKind.ANON)
    assert frame is not None
    assert space.map(0, frame, USER_RW)
    assert (machine.refcount[frame], machine.mapcount[frame]) == (1, 1)
    machine.get(frame)
    assert space.map(PAGE, frame, USER_RW)
    assert (machine.refcount[frame], machine.mapcount[frame]) == (2, 2)
    assert (space.rss(FrameKind.ANON), space.tables) == (2, 4)
    assert space.unmap_range(0, PAGE) == 1
    assert (machine.refcount[frame], machine.mapcount[frame]) == (1, 1)


def test_mapping_over_a_page_drops_it(machine: Machine, space: Space) -> None:
    first = space.map_zeroed(0, FrameKind.ANON, USER_RW)
    second = space.map_zeroed(0, FrameKind.ANON, USER_RW)
    assert (machine.kind[first], machine.kind[second]) == (FrameKind.FREE, FrameKind.ANON)
    assert space.rss(FrameKind.ANON) == 1


def test_out_of_frames_changes_nothing(machine: Machine, space: Space) -> None:
    frame = machine.alloc(FrameKind.ANON)
    hoard = []
    while (taken := machine.alloc(FrameKind.ANON)) is not None:
        hoard.append(taken)
    assert not space.map(0, frame, USER_RW)
    assert space.map_zeroed(0, FrameKind.ANON, USER_RW) is None
    assert (machine.refcount[frame], machine.mapcount[frame]) == (1, 0)
    with pytest.raises(MemoryError):
        Space(machine)


def test_a_copy_has_the_bytes_and_leaves_the_other_owner_alone(machine: Machine, space: Space) -> None:
    frame = space.map_zeroed(0, FrameKind.ANON, USER_RW)
    machine.ram[frame] = 9
    child = Space(machine)
    assert space.fork_range(child, 0, PAGE, cow=True) == 1
    copy = child.map_copy(0, USER_RW)
    assert copy != frame
    assert np.array_equal(machine.ram[copy], machine.ram[frame])
    assert (machine.refcount[frame], machine.refcount[copy]) == (1, 1)


def test_fork_takes_the_right_to_write_from_both(machine: Machine, space: Space) -> None:
    space.map_zeroed(0, FrameKind.ANON, USER_RW | Pte.ACCESSED | Pte.DIRTY)
    child = Space(machine)
    space.fork_range(child, 0, PAGE, cow=True)
    assert not space.pte(0) & Pte.WRITE
    assert child.pte(0) & (Pte.WRITE | Pte.ACCESSED | Pte.DIRTY) == Pte.DIRTY
    shared = Space(machine)
    space.update(0, set=Pte.WRITE)
    space.fork_range(shared, 0, PAGE, cow=False)
    assert shared.pte(0) & (Pte.WRITE | Pte.ACCESSED | Pte.DIRTY) == Pte.WRITE


def test_a_frame_that_fork_shares_is_nobodys_own(machine: Machine, space: Space) -> None:
    space.map_zeroed(0, FrameKind.ANON, USER_RW | Pte.EXCLUSIVE)
    child = Space(machine)
    space.fork_range(child, 0, PAGE, cow=True)
    assert not (space.pte(0) | child.pte(0)) & Pte.EXCLUSIVE


def test_rights_can_be_given_to_those_entries_alone_that_have_a_bit(machine: Machine, space: Space) -> None:
    for page, flags in enumerate((Pte.USER, Pte.USER | Pte.EXCLUSIVE, Pte.EXCLUSIVE)):
        space.map_zeroed(page * PAGE, FrameKind.ANON, flags)
    both = Pte.USER | Pte.EXCLUSIVE
    assert space.protect_range(0, 4 * PAGE, having=both, clear=Pte.EXCLUSIVE, set=Pte.WRITE) == 1
    written = [bool(entry & int(Pte.WRITE)) for entry in space.ptes(0, 4).tolist()]
    assert written == [False, True, False, False]
    assert not space.pte(PAGE) & Pte.EXCLUSIVE


def test_fork_without_frames_for_tables_says_so(machine: Machine, space: Space) -> None:
    space.map_zeroed(0, FrameKind.ANON, USER_RW)
    child = Space(machine)
    while machine.alloc(FrameKind.ANON) is not None:
        pass
    assert space.fork_range(child, 0, PAGE, cow=True) is None
    child.delete()


def test_tables_go_when_no_neighbour_needs_them(machine: Machine, space: Space) -> None:
    low, high = 0, 1 << 13  # neighbours in the table above the leaf tables
    space.map_zeroed(low, FrameKind.ANON, USER_RW)
    space.map_zeroed(high, FrameKind.ANON, USER_RW)
    assert space.tables == 5
    space.unmap_range(high, high + PAGE)
    space.free_tables(high, high + PAGE, low + PAGE, high + PAGE)
    assert space.tables == 5, "the ceiling is inside what the table serves"
    space.free_tables(high, high + PAGE, low + PAGE, 1 << 27)
    assert space.tables == 4
    space.unmap_range(low, low + PAGE)
    space.free_tables(low, low + PAGE, 0, 1 << 28)
    assert space.tables == 1


def test_deleting_a_space_gives_every_frame_back(machine: Machine, space: Space) -> None:
    for va in (0, 1 << 13, 1 << 18, 1 << 27):
        space.map_zeroed(va, FrameKind.ANON, USER_RW)
    space.delete()
    assert machine.free_frames == machine.frame_count


PAGES = st.sampled_from([*range(6), 31, 32, 33, 1023, 1024, (1 << 20) - 1]).map(lambda n: n * PAGE)
STEPS = st.lists(
    st.tuples(st.sampled_from(["map", "unmap", "protect", "move", "fork"]), PAGES, PAGES), max_size=30
)


@settings(deadline=None, max_examples=150)
@given(STEPS)
def test_ranges_agree_with_a_dictionary(steps: list[tuple[str, int, int]]) -> None:
    machine = Machine(256 * PAGE, page_size=PAGE)
    space = Space(machine)
    children: list[tuple[Space, dict[int, int]]] = []
    model: dict[int, int] = {}  # page -> frame
    for verb, a, b in steps:
        if verb == "map" and (frame := space.map_zeroed(a, FrameKind.ANON, USER_RW)) is not None:
            model[a] = frame
        elif verb == "unmap":
            gone = [page for page in model if a <= page < b]
            assert space.unmap_range(a, b) == len(gone)
            for page in gone:
                del model[page]
        elif verb == "protect":
            count = sum(a <= page < b for page in model)
            assert space.protect_range(a, b, clear=Pte.WRITE) == count
        elif verb == "move" and (b >= a + 2 * PAGE or b + 2 * PAGE <= a) and not model.keys() & {b, b + PAGE}:
            inside = {page: frame for page, frame in model.items() if a <= page < a + 2 * PAGE}
            if b + 2 * PAGE <= 1 << 28 and space.move_range(a, 2 * PAGE, b) is not None:
                for page, frame in inside.items():
                    del model[page]
                    model[page - a + b] = frame
        elif verb == "fork" and len(children) < 3:
            child = Space(machine)
            if space.fork_range(child, a, max(a, b), cow=True) is not None:
                children.append((child, {p: f for p, f in model.items() if a <= p < b}))
        for owner, expected in [(space, model), *children]:
            assert {page: Pte.frame(owner.pte(page)) for page in expected} == expected
            assert owner.rss(FrameKind.ANON) == len(expected)
    owners = np.zeros(machine.frame_count, dtype=int)
    for _, expected in [(space, model), *children]:
        for frame in expected.values():
            owners[frame] += 1
    anonymous = machine.kind == FrameKind.ANON
    assert np.array_equal(machine.mapcount[anonymous], owners[anonymous])
    assert np.array_equal(machine.refcount[anonymous], owners[anonymous])
    assert np.array_equal(space.ptes(0, 40) != 0, [page * PAGE in model for page in range(40)])
    for owner in [space, *(child for child, _ in children)]:
        owner.delete()
    assert machine.free_frames == machine.frame_count


TABLE = 32 * PAGE  # what a leaf table serves
UPPER = 32 * TABLE  # what the table above it serves


def test_fork_shares_whole_leaf_tables_and_copies_the_ends() -> None:
    machine = Machine(256 * PAGE, page_size=PAGE, tlb=16, poison=True)
    parent, child = Space(machine), Space(machine)
    whole = [TABLE, 3 * TABLE + 5 * PAGE, 31 * TABLE, UPPER, UPPER + 9 * TABLE, 3 * UPPER + 31 * TABLE]
    emptied = [2 * TABLE, 2 * UPPER + TABLE]  # leaf tables without an entry: fork makes nothing for them
    ends = [PAGE, 4 * UPPER]  # their tables have entries outside of the range, too
    outside = [0, 4 * UPPER + PAGE]
    for va in whole + emptied + ends + outside:
        parent.map_zeroed(va, FrameKind.ANON, USER_RW)
    for va in emptied:
        parent.unmap_range(va, va + PAGE)
    assert parent.fork_tables(child, PAGE, 4 * UPPER + PAGE) == len(whole + ends)
    for va in whole + ends:
        ours, theirs = parent.walk(va)[3][0], child.walk(va)[3][0]
        assert (ours == theirs) == (va in whole), hex(va)
        assert machine.refcount[ours] == (2 if va in whole else 1)
        assert parent.pte(va) == child.pte(va)
        assert not child.pte(va) & Pte.WRITE
    for va in emptied + outside:
        assert child.pte(va) == 0
    # a root, one table of the third level, three above leaf tables (none for what is empty), the leaf tables
    assert child.tables == 1 + 1 + 4 + len(whole + ends)
    assert machine.mapcount[child.walk(TABLE)[2][0]] == 4  # the first end's, and three of the whole
    assert child.rss(FrameKind.ANON) == len(whole + ends)
    for space in (parent, child):
        space.delete()
    assert machine.free_frames == machine.frame_count


def test_fork_that_finds_no_frame_for_an_upper_table_leaves_counts_that_agree() -> None:
    machine = Machine(64 * PAGE, page_size=PAGE, tlb=16, poison=True)
    parent, child = Space(machine), Space(machine)
    for va in (0, TABLE, UPPER, UPPER + TABLE):
        parent.map_zeroed(va, FrameKind.ANON, USER_RW)
    hoard = []
    while machine.free_frames > 2:  # for the first upper table and the one above it
        hoard.append(machine.alloc(FrameKind.ANON))
    assert parent.fork_tables(child, 0, 2 * UPPER) is None
    assert (child.tables, child.rss(FrameKind.ANON)) == (1 + 2 + 2, 2)
    child.delete()
    for va in (0, TABLE, UPPER, UPPER + TABLE):
        assert machine.refcount[parent.walk(va)[3][0]] == 1
    for frame in hoard:
        machine.put(frame)
    parent.delete()
    assert machine.free_frames == machine.frame_count
