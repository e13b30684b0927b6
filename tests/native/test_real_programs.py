"""Real programs on every design: a part of what experiments/real_programs.py runs."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

from heaplab.allocators import names
from heaplab.native import build
from tests.programs import host_environment

EXPERIMENT = Path(__file__).resolve().parents[2] / "experiments" / "real_programs.py"


def experiment() -> ModuleType:
    """The module experiments/real_programs.py."""
    spec = importlib.util.spec_from_file_location("real_programs", EXPERIMENT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look for their module there
    spec.loader.exec_module(module)
    return module


REAL = experiment()
PROGRAMS = {program.name: program for program in REAL.programs() if program.quick}
#: what the slow programs run on: each design once
SLOW = {"g++": "rbtree", "node": "spans", "test_json": "slab"}


@pytest.fixture(autouse=True)
def _host(monkeypatch: pytest.MonkeyPatch) -> None:
    """No library of the test's own is preloaded."""
    if "LD_PRELOAD" not in host_environment():
        monkeypatch.delenv("LD_PRELOAD", raising=False)


def verify(name: str, specs: list[str]) -> None:
    """Run the program without and with each design."""
    program = next(each for each in REAL.programs() if each.name == name)
    if absent := REAL.missing(program):
        pytest.skip(f"{', '.join(absent)} is not installed")
    told: list[str] = []
    table = REAL.compare([program], {spec: build(spec) for spec in specs}, told.append)
    assert set(table[name].values()) == {"same"}, "\n".join(told)


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_program_does_the_same_on_every_design(name: str) -> None:
    verify(name, names("c"))


@pytest.mark.parametrize("name", SLOW)
def test_a_slow_program_does_the_same_on_one_design(name: str) -> None:
    verify(name, [SLOW[name]])


def test_a_difference_is_seen(tmp_path: Path) -> None:
    liar = REAL.Program("liar", 'echo "$LD_PRELOAD"', ("sh",))
    told: list[str] = []
    table = REAL.compare([liar], {"rbtree": build("rbtree")}, told.append)
    assert table == {"liar": {"rbtree": "differs"}}
    assert "libheaplab-rbtree.so" in told[0]


def test_a_program_that_is_not_there_is_named() -> None:
    told: list[str] = []
    absent = REAL.Program("absent", "no-such-program", ("no-such-program",))
    assert REAL.compare([absent], {"rbtree": build("rbtree")}, told.append) == {
        "absent": {"rbtree": "not installed"}
    }
    assert told == ["absent: no-such-program is not installed"]
