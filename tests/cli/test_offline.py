"""`heaplab offline`: bounds and placements of traces."""

import json

import pytest
from click.testing import CliRunner

from heaplab.cli import main
from heaplab.lab.offline import HEURISTICS
from heaplab.traces import TraceWriter, synthetic


@pytest.fixture
def path(tmp_path, monkeypatch):
    """A small trace in a file; what is found of it is kept elsewhere."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    trace = synthetic(1000, seed=1)
    with TraceWriter.create(tmp_path / "small.hlt", trace.header.provenance()) as writer:
        for block in trace:
            writer.write(block)
    return str(tmp_path / "small.hlt")


def run(*args):
    return CliRunner().invoke(main, ["offline", *args])


def test_it_shows_bounds_and_placements(path, tmp_path):
    figures = tmp_path / "figures.json"
    shown = run(path, "--every", "--json", str(figures))
    assert shown.exit_code == 0
    first, second, *_ = shown.output.splitlines()
    assert "1,000 events" in first
    assert second.startswith("  lower bound")
    [found] = json.loads(figures.read_text())
    assert list(found["placements"]) == list(HEURISTICS)
    assert found["best"] == min(found["placements"].values()) >= found["lower_bound"]
    assert run(path, "--every").output == shown.output


def test_a_trace_that_is_not_there_is_a_users_mistake(path):
    done = CliRunner().invoke(main, ["offline", f"{path}.gz"], standalone_mode=True)
    assert done.exit_code == 2
    assert len(done.output.splitlines()) == 1
