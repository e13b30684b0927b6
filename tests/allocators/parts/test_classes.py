"""Size classes, runs of ones and a radix tree, on numbers and on a dictionary of words."""

from types import SimpleNamespace

from hypothesis import given
from hypothesis import strategies as st

from heaplab.allocators.parts import bitruns
from heaplab.allocators.parts.classes import class_of, class_size
from heaplab.allocators.parts.radix import RadixTree

WORDS = st.integers(0, (1 << 64) - 1)


@given(st.integers(0, 1 << 24))
def test_a_class_is_the_smallest_with_room(size):
    c = class_of(size)
    assert class_size(c) >= size
    assert c == 0 or class_size(c - 1) < size


@given(st.integers(0, 160))
def test_classes_are_16_bytes_apart_and_then_an_eighth(c):
    size, step = class_size(c), class_size(c + 1) - class_size(c)
    assert size % 16 == 0
    assert class_of(size) == c
    assert step == 16 if size < 256 else step * 8 <= size < step * 16


@given(st.integers(4, 20))
def test_a_power_of_two_is_a_class(k):
    assert class_size(class_of(1 << k)) == 1 << k


@given(WORDS, st.integers(1, 64), st.sampled_from([1, 2, 4, 8, 16, 32]))
def test_runs_start_where_n_ones_stand(bits, n, step):
    found = bitruns.starts(bits, n, step)
    for at in range(64):
        fits = at + n <= 64 and at % step == 0 and bits >> at & ((1 << n) - 1) == (1 << n) - 1
        assert (found >> at & 1 == 1) == fits


@given(WORDS.filter(bool))
def test_the_lowest_run(bits):
    at, n = bitruns.lowest(bits), bitruns.length(bits)
    run = bitruns.mask(at, n)
    assert bits & run == run
    assert bits & (run - 1 & ~run if at else 0) == 0
    assert at + n == 64 or not bits >> (at + n) & 1


@given(
    st.dictionaries(st.integers(0, (1 << 32) - 1), st.integers(1, 1 << 47), max_size=40),
    st.lists(st.integers(0, (1 << 40) - 1), max_size=40),
    st.sampled_from([7, 9, 13]),
)
def test_a_radix_tree_is_a_dictionary(values, others, bits):
    words: dict[int, int] = {}
    memory = SimpleNamespace(load64=lambda at: words.get(at, 0), store64=words.__setitem__)
    nodes = iter(range(1 << 20, 1 << 40, 8 << bits))
    tree = RadixTree(memory, 0, bits, 32)
    for number, value in values.items():
        assert tree.set(number, value, lambda: next(nodes))
    for number in [*values, *others]:
        assert tree.get(number) == values.get(number, 0)
    for number in values:
        assert tree.set(number, 0, lambda: 0), "a number in use needs no node"
        assert tree.get(number) == 0


def test_a_radix_tree_without_room_for_a_node_is_as_it_was():
    words: dict[int, int] = {}
    tree = RadixTree(SimpleNamespace(load64=lambda at: words.get(at, 0), store64=words.__setitem__), 0, 9, 30)
    assert not tree.set(5, 1, lambda: 0)
    assert words == {}
    assert tree.get(5) == 0
