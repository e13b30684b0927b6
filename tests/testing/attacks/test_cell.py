"""Cells: the same seed gives the same counts, and heaps are sound where the program makes no mistake."""

import pytest

from heaplab.testing.attacks import KINDS, Outcome, cell, table
from heaplab.testing.attacks.draw import draw

DESIGNS = ("freelist", "freelist:order=address", "freelist:fit=next", "buddy", "binheap", "rbtree")


@pytest.mark.parametrize("kind", KINDS)
def test_attacks_are_drawn_from_the_seed(kind):
    assert draw(kind, 1, 5) == draw(kind, 1, 5) != draw(kind, 2, 5)
    assert str(draw(kind, 1, 5)) == "\n".join(map(str, draw(kind, 1, 5).steps))


@pytest.mark.parametrize("language", ["python", "c"])
@pytest.mark.parametrize("design", DESIGNS)
def test_a_program_without_mistakes_loses_nothing(design, language):
    assert cell(design, language, "none", attacks=60).counts == {Outcome.HARMLESS: 60}


@pytest.mark.parametrize("kind", ["double", "links"])
def test_both_languages_answer_alike(kind):
    python, c = (cell("freelist", language, kind, attacks=100) for language in ("python", "c"))
    assert python.counts == c.counts


@pytest.mark.parametrize("design", DESIGNS)
def test_every_double_free_is_named(design):
    assert cell(design, "c", "double", attacks=300).bad == 0


def test_the_table_has_a_row_for_each_cell():
    lines = table([cell("buddy", "c", kind, attacks=10) for kind in ("none", "double")]).splitlines()
    assert lines[0].split() == ["design", "kind", "named", "harmless"]
    assert [line.split()[2] for line in lines[1:]] == ["none", "double"]
