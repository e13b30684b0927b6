"""Allocators from outside are fuzzed, shrunk and checked: an implicit list with faults, each by its line."""

import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner

from heaplab.cli import main
from heaplab.errors import UsageError
from heaplab.outside import find_outside
from heaplab.testing import foreign
from heaplab.testing.checking import Outcome
from heaplab.testing.steps import Aligned, Free, Malloc, Realloc
from heaplab.traces import synthetic

pytestmark = pytest.mark.skipif(shutil.which("gcc") is None, reason="needs gcc")
SUBMISSIONS = Path(__file__).parents[1] / "outside" / "submissions"


def outside(name):
    found = find_outside(str(SUBMISSIONS / f"{name}.c"))
    assert found is not None
    return found


def checked(name):
    patience = 0.5 if name == "endless_loop" else 20
    return foreign.check(outside(name), seconds=60, steps=2000, step_seconds=patience, shrink_seconds=2)


def told(result):
    return "\n".join(broken.sentence for part in result.parts for broken in part.broken)


def test_a_sound_one_passes():
    result = checked("implicit")
    assert result.passed, told(result)
    assert {part.outcome for part in result.parts} == {Outcome.PASSED}
    [contract] = [part for part in result.parts if part.name == "contract"]
    assert contract.left_out == {"aligned_alloc": "it has no such function"}


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("missing_merge", "wrote 8 bytes"),
        ("wrong_split", "implicit.c:"),
        ("overflow", "implicit.c:"),
        ("endless_loop", "no end after"),
        ("wild_pointer", "implicit.c:"),
        ("misaligned", "is not a multiple of 16"),
        ("realloc_loses", "has lost what was written to it"),
    ],
)
def test_each_fault_is_named(name, sentence):
    result = checked(name)
    assert not result.passed
    assert sentence in told(result)
    [fuzz] = [part for part in result.parts if part.name == "fuzz"]
    assert all(len(broken.steps) <= 30 for broken in fuzz.broken)


def test_kinds_are_those_that_it_has_functions_for():
    assert Aligned not in foreign.kinds_for(outside("implicit"))
    with pytest.raises(UsageError, match="has no aligned"):
        foreign.fuzz(outside("implicit"), kinds=[Malloc, Aligned])


def test_two_fuzzes_with_steps_are_equal():
    first, second = (
        foreign.fuzz(outside("implicit"), steps=1000, seconds=60, kinds=[Malloc, Free, Realloc], seed=5)
        for _ in range(2)
    )
    assert first == second


def test_a_trace_is_shrunk():
    trace = synthetic(2000, seed=1, slots=100, aligned=0)
    shrunk = foreign.shrink(trace, foreign.Judging(outside("missing_merge")), seconds=5)
    assert shrunk is not None
    assert len(shrunk.shortest.steps) <= 6
    assert shrunk.shortest.place.startswith("implicit.c:")


def test_the_command_line():
    path = SUBMISSIONS / "missing_merge.c"
    result = CliRunner().invoke(main, ["fuzz", str(path), "--steps=500", "--shrink-seconds=3"])
    assert result.exit_code == 1, result.output
    assert "What broke: " in result.stdout
    assert "implicit.c:" in result.stdout
    result = CliRunner().invoke(main, ["fuzz", str(path), "--kinds=malloc,aligned"])
    assert result.exit_code == 2
    assert "has no aligned: leave it out of the kinds" in result.stderr
