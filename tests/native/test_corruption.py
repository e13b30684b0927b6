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
WAYS = ["double", "double-later", "double-large", "realloc", "usable", "foreign", "inside", "odd", "wild"]
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
    is_double = way in {"double", "double-later", "realloc"}
    # of a large block nothing is left, so that its second free is one of a foreign pointer
    rule = Rule.DOUBLE_FREE if is_double else Rule.FOREIGN_POINTER
    assert is_ended_by_abort(corrupt(spec, way), spec, rule)


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
    assert is_ended_by_abort(corrupt(spec, "double", check=True), spec, Rule.DOUBLE_FREE)


@pytest.mark.parametrize("spec", [*(f"{name}:checks=none" for name in TRAITS), "rbtree:checks=links"])
def test_with_fewer_checks_nothing_hangs(corrupt: Corrupt, spec: str) -> None:
    """The program may end otherwise, or go on; alarm would end it when it hangs."""
    for way in [*WAYS, "overflow"]:
        status, _, _ = corrupt(spec, way)
        assert status != -signal.SIGALRM
