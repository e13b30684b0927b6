"""experiments/model_predicts_linux.py: a part of its proof, on every design; and it says what differs."""

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

from heaplab.allocators import names
from heaplab.errors import UsageError
from heaplab.kernel import Kernel
from heaplab.lab.prediction import predict
from heaplab.native.proving import NotPossible, observe
from heaplab.traces import Event, Op, Trace

SCRIPT = Path(__file__).resolve().parents[2] / "experiments" / "model_predicts_linux.py"


@pytest.fixture(scope="module")
def script() -> ModuleType:
    try:
        observe(Trace.of([Event(Op.MALLOC, 0, 1)]), "buddy")
    except (NotPossible, UsageError) as missing:
        pytest.skip(str(missing))
    spec = importlib.util.spec_from_file_location("model_predicts_linux", SCRIPT)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_nothing_differs_for_a_design_from_outside_the_tree(script: ModuleType) -> None:
    path = str(SCRIPT.with_name("lifo.c"))
    found = script.measure(traces=("lua", "dot"), designs=(path,), huge=(), seed=1, tick=lambda *_: None)
    assert [(row.trace.header.name, row.design) for row in found.drawn] == [("lua", path), ("dot", path)]
    assert all(claim.holds for claim in found.claims)
    assert found.remarks == []


def test_nothing_differs_on_traces_with_forks_execs_and_threads(script: ModuleType) -> None:
    traces = ("lua", "dot", "redis")
    found = script.measure(traces=traces, designs=tuple(names("c")), huge=(), seed=1, tick=lambda *_: None)
    assert [(row.trace.header.name, row.design) for row in found.drawn] == [
        (trace, design) for trace in traces for design in names("c")
    ]
    for row in found.drawn:
        assert not row.differs
        assert row.linux.faults >= row.linux.peak > 0
        assert len(row.linux.calls) >= 3
        assert row.huge is None
    assert [claim.numbers for claim in found.claims] == [(0, 0)] * len(found.claims)


def test_what_differs_is_a_claim_that_fails_and_a_sentence(
    script: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        script, "predict", lambda trace, spec: predict(trace, spec, kernel=Kernel("4 GiB", fork="eager"))
    )
    found = script.measure(traces=("redis",), designs=("rbtree",), huge=(), seed=1, tick=lambda *_: None)
    assert [claim.holds for claim in found.claims[:3]] == [True, False, False]
    assert "redis on rbtree: faults: process 0 has" in found.remarks[0]
    assert "in memory and its own on the model, and in memory and shared on Linux" in found.remarks[1]
