"""Distributions: their moments, their texts, and files of people's own."""

import math

import numpy as np
import pytest

from heaplab.errors import UsageError
from heaplab.traces.workload import (
    NEVER,
    Constant,
    Empirical,
    Exponential,
    Hyperexponential,
    Lognormal,
    Mixture,
    Normal,
    Powers,
    Uniform,
    distribution,
)

ALL = [
    Constant(64),
    Uniform(16, 512),
    Normal(256, 64),
    Normal(100, 200),
    Normal(0, 10),
    Exponential(1000),
    Hyperexponential(64, 3),
    Hyperexponential(64, 1),
    Lognormal(48, 1.0),
    Powers(16, 4096),
    Powers(1, 1024, 0.5),
    Empirical((16, 24, 4096), (30, 10, 1)),
    Empirical((0, 100), (1, 1), (50, 200)),
    Mixture(((9, Constant(16)), (1, Exponential(4096)))),
]


@pytest.mark.parametrize("each", ALL, ids=str)
def test_moments_are_those_of_what_is_drawn(each):
    drawn = each.sample(np.random.default_rng(1), 200_000)
    deviation = each.mean * each.cv
    assert drawn.mean() == pytest.approx(each.mean, abs=5 * deviation / math.sqrt(len(drawn)) + 1e-9)
    assert drawn.std() == pytest.approx(deviation, rel=0.05)
    assert (drawn >= 0).all()


@pytest.mark.parametrize("each", [*ALL, NEVER], ids=str)
def test_a_text_names_it(each):
    assert distribution(str(each)) == each
    assert str(distribution(str(each))) == str(each)


@pytest.mark.parametrize("each", ALL, ids=str)
def test_equal_seeds_draw_equal_numbers(each):
    one, same = (each.sample(np.random.default_rng(3), 100) for _ in range(2))
    assert (one == same).all()


def test_a_normal_of_mean_zero_is_half_a_bell():
    assert Normal(0, 10).mean == pytest.approx(10 * math.sqrt(2 / math.pi))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("lognormal,48", "sizes=lognormal,48: lognormal takes median,spread: write lognormal,48,1.0"),
        ("lognormal,48,x", "sizes=lognormal,48,x: lognormal takes median,spread"),
        ("lognormal,48,1,2", "sizes=lognormal,48,1,2: lognormal takes median,spread"),
        ("lognormal,-1,1", "sizes=lognormal,-1,1: needs a median above 0"),
        (
            "exponental,3",
            "sizes=exponental,3: there is no distribution 'exponental': did you mean exponential?",
        ),
        ("zipf,3", "sizes=zipf,3: there is no distribution 'zipf': write one of constant"),
        ("uniform,9,3", "sizes=uniform,9,3: needs 0 <= low <= high"),
        ("normal,9,nan", "sizes=normal,9,nan: needs a mean"),
        ("powers,3,16", "sizes=powers,3,16: needs two powers of two"),
        ("powers,16", "sizes=powers,16: powers takes low,high,ratio: write powers,16,4096"),
        ("hyperexponential,64,0.5", "sizes=hyperexponential,64,0.5: needs a mean above 0"),
        ("constant,-1", "sizes=constant,-1: the value must be a number from 0 on"),
        ("2*constant,1+constant,3", "sizes=2*constant,1+constant,3: 'constant,3' is no part of a mixture"),
        ("0*constant,1", "0*constant,1: weights must be finite"),
        ("values,16xa", "sizes=values,16xa: '16xa' is no value with a weight: write values,16x3,24x1"),
        ("values,16x-3", "empirical: weights must be finite and not negative"),
        ("empirical", "sizes=empirical: needs a file: write empirical,sizes.csv"),
        ("empirical,none.csv", "none.csv: cannot be read: No such file or directory"),
        ("", "sizes=: there is no distribution ''"),
    ],
)
def test_a_mistake_names_the_key_and_the_mend(text, message):
    with pytest.raises(UsageError) as caught:
        distribution(text, "sizes")
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "values", "weights", "tops"),
    [
        ("16\n24\n", (16, 24), (1, 1), (16, 24)),
        ("16,3\n24,1\n", (16, 24), (3, 1), (16, 24)),
        ("# measured\n16\t3\n\n24 1 # rare\n", (16, 24), (3, 1), (16, 24)),
        ("0,16,3\n16,32,1\n", (0, 16), (3, 1), (16, 32)),
        ("size,place,probability\n16,x,0.75\n24,y,0.25\n", (16, 24), (0.75, 0.25), (16, 24)),
        ("weight,high,low\n3,16,1\n", (1,), (3,), (16,)),
        ("lifetime,size,count\n7,16,3\n", (16,), (3,), (16,)),
    ],
)
def test_files_of_ones_own(tmp_path, text, values, weights, tops):
    path = tmp_path / "sizes.csv"
    path.write_text(text)
    found = distribution(f"empirical,{path}", "sizes")
    assert (found.values, found.weights, found.tops) == (values, weights, tops)
    assert str(found) == f"empirical,{path}"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("16,x\n", "line 1 is no row"),
        ("16,3\n24\n", "line 2 is no row of 2 numbers: write for instance 16,3"),
        ("1,2,3,4\n", "line 1 has 4 columns and no names"),
        ("lifetime,count\n1,2\n", "has no column sizes: name the columns in the first row"),
        ("# nothing\n", "has no rows of numbers: write for instance 16,3"),
        ("size,count\n", "has no rows of numbers: write for instance 16,3"),
        ("# mine\na,b\n1,2\n", "line 2 names no column that heaplab knows: name them size, lifetime and"),
        ("16,0\n", "weights must be finite and not negative, and one must be above 0"),
        ("-16,1\n", "values must not be negative"),
        ("nan,1\n", "values must not be negative"),
    ],
)
def test_a_wrong_file_names_the_line(tmp_path, text, message):
    path = tmp_path / "sizes.csv"
    path.write_text(text)
    with pytest.raises(UsageError, match=str(path)) as caught:
        distribution(f"empirical,{path}", "sizes")
    assert message in str(caught.value)


def test_a_file_that_is_no_text(tmp_path):
    path = tmp_path / "sizes.csv"
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UsageError, match="is no text"):
        Empirical.load(path)
