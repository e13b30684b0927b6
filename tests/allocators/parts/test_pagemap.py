"""The page map on a dictionary in Python and on an array in C, against a dictionary of pages."""

from random import Random

import pytest

from heaplab.errors import HeapCorruption

FIRST, SECOND = 0x1000, 0x8000


@pytest.fixture(params=[(language, page) for language in ("python", "c") for page in (64, 4096)], ids=str)
def world(request, new_world):
    language, page = request.param
    made = new_world(language, page)
    made.page = page
    made.call("map_begin", FIRST, 6)
    return made


def test_pages_come_and_go(world):
    """Pages side by side and far apart; most of the time the table is half full."""
    chance, page, known = Random(1), world.page, {}
    top = (1 << 47) - page
    for _ in range(3000):
        p = chance.choice(
            [chance.randrange(40) * page, top - chance.randrange(40) * page, chance.randrange(1 << 47)]
        )
        p = (p & -page) or page
        if p in known and chance.random() < 0.7:
            world.call("map_remove", p)
            del known[p]
        elif p not in known and world.call("map_has_room", 1):
            known[p] = chance.choice([0, 5, (page << 17) - 1])
            world.call("map_insert", p, known[p])
        assert world.lookup(p + chance.randrange(page)) == known.get(p)
        assert world.peek(8) == len(known) <= 32
    assert all(world.lookup(p) == number for p, number in known.items())


def test_a_larger_table_has_the_same_pages(world):
    pages = {n * 3 * world.page: n for n in range(1, 33)}
    for p, number in pages.items():
        world.call("map_insert", p, number)
    assert not world.call("map_has_room", 1)
    world.call("map_move", SECOND, 7)
    assert world.call("map_has_room", 32)
    assert world.peek(0) == SECOND | 7
    for n in range(64):
        world.poke(FIRST + 8 * n, 0)
    assert {p: world.lookup(p) for p in pages} == pages
    assert world.lookup(world.page) is None


def test_a_lookup_of_pages_side_by_side_is_two_loads(world):
    """The golden ratio spreads them: 32 pages in 64 slots, none in another's place."""
    for n in range(32):
        world.call("map_insert", (1 << 30) + n * world.page, n)
    before = world.mems[0]
    for n in range(32):
        assert world.lookup((1 << 30) + n * world.page) == n
    assert world.mems[0] - before == 2 * 32


@pytest.mark.parametrize("word", [FIRST, FIRST | 2, FIRST | 41, FIRST | 63])
def test_a_table_that_cannot_be_is_corrupt(world, word):
    world.poke(0, word)
    with pytest.raises(HeapCorruption):
        world.lookup(world.page)


def test_a_table_without_a_free_slot_is_corrupt_not_endless(world):
    for n in range(64):
        world.poke(FIRST + 8 * n, (n + 1) * world.page << 17)
    with pytest.raises(HeapCorruption):
        world.lookup(1 << 40)
