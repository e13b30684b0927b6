"""What becomes of a program that corrupts its heap: one line that names block and rule, and SIGABRT."""

import re
import signal
import subprocess
from collections.abc import Callable

import pytest

from heaplab.allocators import Trait, names
from heaplab.allocators.stated import stated
from heaplab.errors import Rule
from heaplab.native import build
from heaplab.native.preloading import with_preload
from tests.programs import host_environment

TRAITS = {name: stated(name).traits for name in names("c")}
#: the rule that each way breaks; of a large block nothing is left, so its second free is a foreign pointer's
WAYS = {
    "double": Rule.DOUBLE_FREE,
    "double-later": Rule.DOUBLE_FREE,
    "double-large": Rule.FOREIGN_POINTER,
    "realloc": Rule.FREED_REALLOC,
    "realloc-to-nothing": Rule.FREED_REALLOC,
    "usable-freed": Rule.FREED_USABLE_SIZE,
    "usable": Rule.FOREIGN_POINTER,
    "foreign": Rule.FOREIGN_POINTER,
    "inside": Rule.FOREIGN_POINTER,
    "odd": Rule.FOREIGN_POINTER,
    "wild": Rule.FOREIGN_POINTER,
}
Corrupt = Callable[..., tuple[int, list[str], str]]


@pytest.fixture(scope="module")
def corrupt(program: Callable[..., str]) -> Corrupt:
    """Runs programs/corrupt.c on a design: its status, what it printed, and what stands on standard error."""

    def run(spec: str, *words: str, check: bool = False) -> tuple[int, list[str], str]:
        done = subprocess.run(
            [program("corrupt"), *words],
            env=with_preload(host_environment(), build(spec, check=check)),
            capture_output=True,
            text=True,
            check=False,
            timeout=100,
        )
        return done.returncode, done.stdout.splitlines(), done.stderr

    return run


def rule_told(spec: str, block: str, told: str) -> Rule:
    """The rule that the one line on standard error names, with that block."""
    found = re.fullmatch(rf"heaplab: {re.escape(spec)}[^ ]*: block {block}: (.*)\n", told)
    assert found, told
    return next(rule for rule in Rule if rule.text == found[1])


def is_ended_by_abort(outcome: tuple[int, list[str], str], spec: str, *rules: Rule) -> bool:
    status, printed, told = outcome
    assert rule_told(spec, printed[0], told) in rules
    return status == -signal.SIGABRT


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("spec", [name for name, traits in TRAITS.items() if traits & Trait.DETECTS])
def test_one_line_names_block_and_rule(corrupt: Corrupt, spec: str, way: str) -> None:
    assert is_ended_by_abort(corrupt(spec, way), spec, WAYS[way])


@pytest.mark.parametrize("spec", [name for name, traits in TRAITS.items() if traits & Trait.HEADERS])
def test_an_overflow_into_the_next_header_is_named_with_the_next_block(corrupt: Corrupt, spec: str) -> None:
    assert is_ended_by_abort(corrupt(spec, "overflow"), spec, Rule.BROKEN_HEADER)


@pytest.mark.parametrize("spec", TRAITS)
def test_a_handler_of_sigabrt_may_allocate(corrupt: Corrupt, spec: str) -> None:
    # another thread may have got what a small block was; a large one's address it does not get
    for way, rule, threads in (
        ("double", Rule.DOUBLE_FREE, []),
        ("double-large", Rule.FOREIGN_POINTER, ["threads"]),
    ):
        outcome = corrupt(spec, way, "handler", *threads)
        assert is_ended_by_abort(outcome, spec, rule)
        assert outcome[1][1:] == ["handled"]


@pytest.mark.parametrize("spec", TRAITS)
def test_with_check_it_is_the_same(corrupt: Corrupt, spec: str) -> None:
    for way in ("double", "realloc", "usable-freed"):
        assert is_ended_by_abort(corrupt(spec, way, check=True), spec, WAYS[way])


@pytest.mark.parametrize("spec", [*(f"{name}:checks=none" for name in TRAITS), "rbtree:checks=links"])
def test_with_fewer_checks_nothing_hangs(corrupt: Corrupt, spec: str) -> None:
    """The program may end otherwise, or go on; alarm would end it when it hangs."""
    for way in [*WAYS, "overflow"]:
        status, _, _ = corrupt(spec, way)
        assert status != -signal.SIGALRM
