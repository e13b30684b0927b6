"""Heaps and film strips, drawn: legible, and drawn from the data."""

import re

import pytest

from heaplab import allocators
from heaplab.kernel import Kernel
from heaplab.report import filmstrip, heap
from heaplab.report.pictures.draw_heap import Axis
from heaplab.report.pictures.draw_index import tree

SCRIPT = "a0 400; a1 100; a2 600; a3 100; f0; f2; a4 280; fork; f4 @1"


def alive(spec, rounds=40):
    made = allocators.create(spec, Kernel(ram="16 MiB", seed=1).init.fork())
    blocks = [made.malloc(16 * number % 700) for number in range(rounds)]
    for block in blocks[::2]:
        made.free(block)
    return made


@pytest.mark.parametrize("spec", ["rbtree", "slab"])
def test_a_heap_is_legible(spec, legible):
    legible(heap(alive(spec)))


def test_a_heap_of_thousands_of_blocks_is_drawn_in_bounded_space():
    picture = heap(alive("freelist", 3000))
    width, height = picture.figure().get_size_inches() * 72
    assert width < 1000
    assert height < 2500
    assert "too many to draw their links" in picture._repr_svg_()


@pytest.mark.parametrize("spec", ["slab", "spans"])
def test_a_film_strip_is_legible(spec, legible):
    legible(filmstrip([spec], SCRIPT))


def test_a_film_strip_shows_each_request_and_each_live_block(legible):
    strip = filmstrip(["freelist:fit=first", "freelist:fit=best"], SCRIPT)
    legible(strip)
    texts = re.findall(r">([^<>]+)</text>", strip._repr_svg_())
    for request in strip.data.requests:
        assert texts.count(request) == 1
    # block 1 of 112 bytes lives in every still after its malloc, in both columns
    assert texts.count("1: 112") + texts.count("1") >= 2 * 7


def test_what_went_wrong_stands_in_the_strip():
    strip = filmstrip("rbtree", "a0 10; f0; f0")
    assert "double free" in strip._repr_svg_()


def test_a_broken_heap_is_drawn_with_its_fault():
    broken = alive("freelist")
    victim = next(block for block in broken.walk() if block.state.is_live)
    broken.process.store64(victim.start, 1)
    assert "The heap is broken" in heap(broken)._repr_svg_()


def test_an_axis_is_rising_and_marks_what_it_cuts():
    axis = Axis.over([0, 100, 200, 100_000, 100_100], 400, 300)
    places = [axis.at(address) for address in range(0, 100_101, 50)]
    assert places == sorted(places)
    assert places[-1] == pytest.approx(400)
    assert axis.cut_in(200, 100_000) is not None
    assert axis.cut_in(0, 200) is None


def test_a_list_is_no_tree_and_a_tree_is_one():
    assert tree(heap(alive("freelist")).data.free) == []
    nodes = tree(heap(alive("rbtree")).data.free)
    assert [node.rank for node in sorted(nodes, key=lambda node: node.column)] == list(
        range(1, len(nodes) + 1)
    )
