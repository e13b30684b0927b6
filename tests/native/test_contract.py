"""The malloc family of every design answers as the C library's, and as POSIX demands."""

import subprocess
from collections.abc import Callable

import pytest

from heaplab.allocators import names
from heaplab.native import build
from heaplab.native.preloading import with_preload
from tests.programs import host_environment


@pytest.fixture(scope="module")
def answers(program: Callable[..., str]) -> Callable[..., list[str]]:
    """Runs programs/contract.c on a design, or on the C library's malloc, and returns what it prints."""

    def run(spec: str | None = None, **settings: str) -> list[str]:
        environment = {**host_environment(), **settings}
        if spec is not None:
            environment = with_preload(environment, build(spec))
        done = subprocess.run(
            [program("contract")], env=environment, capture_output=True, text=True, check=False, timeout=120
        )
        assert (done.returncode, done.stderr) == (0, "")
        return done.stdout.splitlines()

    return run


@pytest.fixture(scope="module")
def of_the_library(answers: Callable[..., list[str]]) -> list[str]:
    return answers()


@pytest.mark.parametrize("spec", [*names("c"), "rbtree:checks=none", "spans:checks=none"])
def test_answers_are_the_c_librarys(
    spec: str, answers: Callable[..., list[str]], of_the_library: list[str]
) -> None:
    assert len(of_the_library) > 40
    assert answers(spec) == of_the_library


def test_answers_are_the_same_on_the_kernels_break(
    answers: Callable[..., list[str]], of_the_library: list[str]
) -> None:
    assert answers("freelist", HEAPLAB_BREAK="kernel") == of_the_library
