"""experiments/model_vs_linux.py: a part of its proof, on every design; and it says what differs."""

import importlib.util
import json
from pathlib import Path
from types import ModuleType

import pytest

from heaplab.allocators import names
from heaplab.errors import UsageError
from heaplab.kernel import Kernel
from heaplab.lab.prediction import predict
from heaplab.native.proving import NotPossible, observe
from heaplab.traces import Event, Op, Trace

SCRIPT = Path(__file__).resolve().parents[2] / "experiments" / "model_vs_linux.py"


@pytest.fixture(scope="module")
def script() -> ModuleType:
    try:
        observe(Trace.of([Event(Op.MALLOC, 0, 1)]), "buddy")
    except (NotPossible, UsageError) as missing:
        pytest.skip(str(missing))
    spec = importlib.util.spec_from_file_location("model_vs_linux", SCRIPT)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_nothing_differs_for_a_design_from_outside_the_tree(
    script: ModuleType, capsys: pytest.CaptureFixture[str]
) -> None:
    path = str(SCRIPT.with_name("lifo.c"))
    assert script.main(["lua", "dot", "--no-huge", "--json", "--allocators", path]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert [(row["trace"], row["allocator"], row["differs"]) for row in rows] == [
        ("lua", path, "0"),
        ("dot", path, "0"),
    ]


def test_nothing_differs_on_traces_with_forks_execs_and_threads(
    script: ModuleType, capsys: pytest.CaptureFixture[str]
) -> None:
    assert script.main(["lua", "dot", "redis", "--no-huge", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert [(row["trace"], row["allocator"]) for row in rows] == [
        (trace, design) for trace in ("lua", "dot", "redis") for design in names("c")
    ]
    for row in rows:
        assert (row["differs"], row["first"], row["huge_faults"]) == ("0", [], None)
        assert row["processes"] == (2 if row["trace"] == "redis" else 1)
        assert row["faults"] >= row["peak"] > 0
        assert row["calls"] >= 3


def test_the_table_has_a_column_for_huge_pages(
    script: ModuleType, capsys: pytest.CaptureFixture[str]
) -> None:
    assert script.main(["lua", "--allocators", "spans:checks=links"]) == 0
    shown = capsys.readouterr().out
    assert "huge:" in shown
    assert "spans:checks=links" in shown
    assert "1 of 1 are equal: calls, faults and pages" in shown


def test_what_differs_is_told_and_is_status_1(
    script: ModuleType, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        script, "predict", lambda trace, spec: predict(trace, spec, kernel=Kernel("4 GiB", fork="eager"))
    )
    assert script.main(["redis", "--allocators", "rbtree", "--no-huge"]) == 1
    shown = capsys.readouterr().out
    assert "redis on rbtree: faults: process 0 has" in shown
    assert "in memory and its own on the model, and in memory and shared on Linux" in shown
    assert "0 of 1 are equal" in shown


def test_mistakes_are_one_sentence(script: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    assert script.main(["lua", "--allocators", "rbtre"]) == 2
    assert script.main(["lau"]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert [line.split(":")[0] for line in lines] == ["model_vs_linux"] * 2
