"""What `heaplab compare` puts behind the maps of its page."""

from heaplab import lab
from heaplab.allocators import parse
from heaplab.cli import _moments
from heaplab.traces import TraceWriter, synthetic
from heaplab.views.packing import unpack


def compared(tmp_path, specs, language="c"):
    trace = synthetic(400, seed=1, slots=50)
    path = tmp_path / "t.hlt"
    with TraceWriter.create(path, trace.header.provenance()) as writer:
        for block in trace:
            writer.write(block)
    return lab.compare([path], specs, language, jobs=1)


def test_the_moment_of_each_map_is_that_of_the_peak(tmp_path):
    specs = [parse("buddy", "c"), parse("rbtree", "c")]
    comparison = compared(tmp_path, specs)
    found = _moments.moments_at_peaks(comparison, specs)
    assert list(found) == [(run.trace, run.allocator) for run in comparison.runs]
    for run in comparison.runs:
        about, columns = unpack(found[run.trace, run.allocator])
        assert about["moment"] == run.fragmentation.event
        assert int(columns["r0.live.requested"].sum()) == run.fragmentation.live
        assert int(columns["r0.live.size"].sum()) == run.fragmentation.allocated


def test_designs_in_python_and_what_is_too_much_have_none(tmp_path, monkeypatch):
    python = [parse("buddy", "python")]
    assert _moments.moments_at_peaks(compared(tmp_path, python, "python"), python) == {}
    specs = [parse("buddy", "c"), parse("rbtree", "c")]
    comparison = compared(tmp_path, specs)
    with monkeypatch.context() as patch:
        patch.setattr(_moments, "_MOST_EVENTS", 1)
        assert _moments.moments_at_peaks(comparison, specs) == {}
    monkeypatch.setattr(_moments, "_MOST_BYTES", 1)
    assert _moments.moments_at_peaks(comparison, specs) == {}
