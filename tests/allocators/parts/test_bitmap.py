"""The bitmap on a dictionary in Python and on an array in C, against a set of numbers."""

from random import Random

import pytest

AT = 0x100


@pytest.fixture(params=["python", "c"])
def world(request, new_world):
    return new_world(request.param)


def bits_of(world, n):
    words = range((n + 63) // 64)
    return {64 * w + i for w in words for i in range(64) if world.peek(AT + 8 * w) >> i & 1}


def first_run(bits, n, start, enough):
    """The first run from `start` on, whole."""
    for first in range(start, n):
        if first in bits:
            length = next(i for i in range(n - first + 1) if first + i not in bits)
            return first, length
    return n, 0


@pytest.mark.parametrize("n", [1, 63, 64, 65, 100, 128, 255, 256])
def test_fill_sets_just_the_n(world, n):
    world.poke(AT + 8 * ((n + 63) // 64), 77)
    world.call("fill", AT, n)
    assert bits_of(world, n) == set(range(n))
    assert world.call("is_full", AT, n)
    assert world.peek(AT + 8 * ((n + 63) // 64)) == 77
    world.call("clear", AT, n - 1, 1)
    assert not world.call("is_full", AT, n)


@pytest.mark.parametrize("n", [5, 64, 100, 200, 256])
def test_ranges_and_runs(world, n):
    chance, bits = Random(n), set(range(n))
    world.call("fill", AT, n)
    for _ in range(150):
        start = chance.randrange(n)
        length = chance.randrange(1, min(n - start, 80) + 1)
        if chance.random() < 0.5:
            world.call("set", AT, start, length)
            bits |= set(range(start, start + length))
        else:
            world.call("clear", AT, start, length)
            bits -= set(range(start, start + length))
        assert bits_of(world, n) == bits
        start, enough = chance.randrange(n + 1), chance.choice([1, 3, 30, 300])
        first, length = world.run(AT, n, start, enough)
        wanted = first_run(bits, n, start, enough)
        assert first == wanted[0]
        assert min(length, enough) == min(wanted[1], enough)
        length = chance.randrange(1, 40)
        places = (p for p in range(n) if all(p + i in bits for i in range(length)))
        assert world.find(AT, n, length) == next(places, -1)
        w = chance.randrange((n + 63) // 64)
        following = (v for v in range(w, (n + 63) // 64) if any(bit // 64 == v for bit in bits))
        assert world.call("next_word", AT, n, w) == next(following, (n + 63) // 64)


def test_no_word_is_looked_at_in_vain(world):
    world.call("fill", AT, 256)
    before = world.mems
    assert world.find(AT, 256, 30) == 0
    assert world.call("next_word", AT, 256, 2) == 2
    world.call("clear", AT, 60, 10)
    assert [now - then for now, then in zip(world.mems, before, strict=True)] == [1 + 1 + 2, 2]


def test_both_languages_make_as_many_references(new_world):
    worlds, chance = (new_world("python"), new_world("c")), Random(1)
    for world in worlds:
        world.call("fill", AT, 256)
    for _ in range(300):
        kind, start = chance.choice(["set", "clear", "clear"]), chance.randrange(250)
        length, enough = chance.randrange(1, 256 - start), chance.randrange(1, 100)
        for world in worlds:
            world.call(kind, AT, start, length)
            world.run(AT, 256, start, enough)
            world.find(AT, 256, enough)
        assert worlds[0].mems == worlds[1].mems
