"""The grid: which cells there are, and what is no grid."""

import pytest

from heaplab.errors import UsageError
from heaplab.lab.sweeping.grid import Grid


def points(*args, **values):
    return [
        (point.trace, point.allocator, point.seed, dict(point.parameters))
        for point in Grid.of(*args, values).points()
    ]


def test_each_cell_is_there_once_for_what_its_texts_have():
    found = points(["gcc", "w:{mean}"], ["f:{fit}", "rbtree"], ["glibc"], [1, 2], fit=["a", "b"], mean=[3])
    assert len(found) == 2 * 2 * 4
    assert found[:5] == [
        ("gcc", "f:a", 1, {"fit": "a"}),
        ("gcc", "f:b", 1, {"fit": "b"}),
        ("gcc", "rbtree", 1, {}),
        ("gcc", "glibc", 1, {}),
        ("gcc", "f:a", 2, {"fit": "a"}),
    ]
    assert found[8] == ("w:3", "f:a", 1, {"fit": "a", "mean": 3})


def test_a_parameter_of_both_texts_has_one_value_in_a_cell():
    assert points(["w:{n}"], ["f:{n}"], [], [1], n=[1, 2]) == [
        ("w:1", "f:1", 1, {"n": 1}),
        ("w:2", "f:2", 1, {"n": 2}),
    ]


def test_the_seed_is_one_in_an_allocator_and_stays_in_a_trace():
    assert points(["w:{seed}"], ["f:{seed}"], [], [5]) == [("w:{seed}", "f:5", 5, {})]


@pytest.mark.parametrize(
    ("args", "values", "sentence"),
    [
        (([], ["a"], [], [1]), {}, "the grid is empty: name at least one trace and one allocator"),
        ((["t"], [], [], [1]), {}, "the grid is empty: name at least one trace and one allocator"),
        ((["t"], ["a"], [], []), {}, "the grid is empty: give at least one seed"),
        ((["t"], ["{x}"], [], [1]), {"x": []}, "the grid is empty: x has no values"),
        ((["t"], ["a"], [], [1, 1]), {}, r"seeds=\[1, 1\]: a seed is given twice"),
        ((["t"], ["{x}"], [], [1]), {"x": [1, "1"]}, "x=1, 1: a value is given twice"),
        ((["t"], ["{x}"], [], [1]), {"x": [None]}, "x=None: a parameter is a text or a number"),
        ((["t"], ["{fut}"], [], [1]), {"fit": ["a"]}, r"\{fut\} has no values: did you mean \{fit\}\?"),
        ((["t"], ["{x}"], [], [1]), {}, r"\{x\} has no values: give some, as in x=\[1, 2\]"),
        ((["t"], ["a"], [], [1]), {"x": [1]}, r"no trace and no allocator has \{x\} in its text"),
        ((["t"], ["{faults}"], [], [1]), {"faults": [1]}, "'faults' is called like a figure"),
    ],
)
def test_what_is_no_grid_is_one_sentence(args, values, sentence):
    with pytest.raises(UsageError, match=sentence):
        points(*args, **values)
