"""`--check`: the line at exit is right to the call and to the block."""

import re
import subprocess
from collections import Counter
from collections.abc import Callable

import pytest

from heaplab.allocators import names
from heaplab.native import build
from heaplab.native.preloading import with_preload
from tests.programs import host_environment

LINE = (
    r"heaplab: (\S+): process (\d+) \(tally\): (?P<malloc>\d+) malloc, (?P<calloc>\d+) calloc, "
    r"(?P<realloc>\d+) realloc, (?P<aligned>\d+) aligned, (?P<free>\d+) free; (?P<refused>\d+) refused; "
    r"peak (?P<peak>\d+) bytes; kept (?P<blocks>\d+) blocks, (?P<bytes>\d+) bytes; "
    r"heap verified (?P<verified>\d+) times\n"
)
#: what tally.c does, beside the C library's own calls
CALLS = {"malloc": 101, "calloc": 20, "realloc": 10, "aligned": 5, "free": 75, "refused": 1, "blocks": 50}

Told = Callable[[str, str], list[Counter[str]]]


@pytest.fixture(scope="module")
def told(program: Callable[..., str]) -> Told:
    """What each process of programs/tally.c told, in the order of their ends."""

    def run(spec: str, way: str) -> list[Counter[str]]:
        environment = with_preload(host_environment(), build(spec, check=True))
        done = subprocess.run(
            [program("tally"), way], env=environment, capture_output=True, text=True, check=False
        )
        assert (done.returncode, done.stdout) == (0, "")
        return [
            Counter({name: int(value) for name, value in found.groupdict().items()})
            for line in done.stderr.splitlines(keepends=True)
            if (found := re.fullmatch(LINE, line))
        ]

    return run


def more(one: Counter[str], other: Counter[str]) -> dict[str, int]:
    """By how much `one` is more, of what CALLS has."""
    return {name: one[name] - other[name] for name in CALLS}


@pytest.mark.parametrize("spec", [*names("c"), "rbtree:checks=none"])
def test_the_summary_is_right_to_the_block(told: Told, spec: str) -> None:
    [with_calls], [without] = told(spec, "calls"), told(spec, "none")
    assert more(with_calls, without) == CALLS
    assert with_calls["bytes"] - without["bytes"] >= 50 * 1000
    assert with_calls["peak"] - without["bytes"] >= 100 * 1000
    assert with_calls["verified"] >= 8


@pytest.mark.parametrize("spec", names("c"))
def test_calls_of_threads_are_counted(told: Told, spec: str) -> None:
    [with_calls], [without] = told(spec, "thread"), told(spec, "nothread")
    assert more(with_calls, without) == CALLS


@pytest.mark.parametrize("spec", names("c"))
def test_a_child_counts_its_own_calls(told: Told, spec: str) -> None:
    (child, parent), (idle_child, idle_parent) = told(spec, "child"), told(spec, "nochild")
    assert more(child, idle_child) == CALLS
    assert parent == idle_parent
    assert idle_child["malloc"] == 0
    assert idle_child["blocks"] == parent["blocks"]


def test_it_is_told_when_standard_error_is_closed(told: Told) -> None:
    """As the tools of coreutils do before they end."""
    assert told("rbtree", "closed") == told("rbtree", "none")
