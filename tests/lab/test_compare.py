"""Many runs in worker processes: order, crashes, interruption, traces from anywhere."""

import dataclasses
import importlib
import os
import subprocess
import sys
import textwrap
import time
from contextlib import suppress
from pathlib import Path

import pytest

from heaplab import lab
from heaplab.allocators import names
from heaplab.errors import UsageError
from heaplab.native.peers import find_peer
from heaplab.traces import Event, Op, Provenance, Trace, TraceWriter, synthetic

CRASHING = """
import os, signal
from heaplab.allocators import names
from heaplab.allocators.designs.buddy import Buddy

class Crashing(Buddy):
    NAME = "crashing"

    def _free(self, p):
        {deed}
"""


def same(runs):
    return [dataclasses.replace(run, seconds=None) for run in runs]


@pytest.fixture(scope="module")
def traces():
    return [synthetic(3000, seed=seed, slots=100) for seed in (1, 2, 3)]


@pytest.fixture
def design(tmp_path):
    """Write a design into a file and return its spec."""

    def design(deed):
        path = tmp_path / "design.py"
        path.write_text(textwrap.dedent(CRASHING).format(deed=deed))
        return str(path)

    return design


def test_runs_come_in_the_order_asked_for_and_equal_those_of_one_process(traces):
    comparison = lab.compare(traces, ["rbtree", "buddy"], jobs=2)
    wanted = [
        lab.run(trace, spec, max_mems=lab.DEFAULT_MAX_MEMS)
        for trace in traces
        for spec in ("rbtree", "buddy")
    ]
    assert same(comparison.runs) == same(wanted)
    assert same(lab.compare(traces, ["rbtree", "buddy"], jobs=1).runs) == same(comparison.runs)
    assert comparison.of_trace(traces[1].header.name) == list(comparison.runs[2:4])
    assert not comparison.interrupted


def test_progress_ends_with_all_events_of_all_runs(traces):
    news = []
    comparison = lab.compare(traces[:2], ["buddy"], progress=news.append)
    assert (news[-1].events, news[-1].total, news[-1].runs) == (6000, 6000, 2)
    assert {run.trace for run in comparison.runs} == {now.latest.trace for now in news if now.latest}
    assert [now.events for now in news] == sorted(now.events for now in news)


@pytest.mark.parametrize(
    ("deed", "reason"),
    [
        ("os.kill(os.getpid(), signal.SIGSEGV)", "its process was ended by SIGSEGV"),
        ("os._exit(7)", "its process ended with status 7"),
    ],
)
def test_a_crash_costs_its_own_run_alone(traces, design, deed, reason):
    comparison = lab.compare(traces[:2], [design(deed), "buddy"], "python", jobs=2)
    assert [run.outcome for run in comparison.runs] == ["crashed", "finished", "crashed", "finished"]
    crashed = comparison.runs[0]
    assert (crashed.reason, crashed.events, crashed.operations) == (reason, 3000, 0)


def test_a_heap_that_fails_leaves_the_worker_alive(traces, design):
    comparison = lab.compare(traces[:1], [design("raise IndexError"), "buddy"], "python", jobs=1)
    assert [run.outcome for run in comparison.runs] == ["failed", "finished"]


def test_ctrl_c_keeps_what_is_finished(traces):
    def interrupt(progress):
        if progress.runs == 2:
            raise KeyboardInterrupt

    comparison = lab.compare(traces, ["buddy"], jobs=1, progress=interrupt)
    assert comparison.interrupted
    assert (len(comparison.runs), comparison.planned) == (2, 3)
    assert same(comparison.runs) == same(lab.compare(traces[:2], ["buddy"]).runs)


def children() -> set[int]:
    """The processes whose parent this one is; other tests may run beside it and have theirs."""
    found = set()
    for path in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            if int(path.read_text().rpartition(")")[2].split()[1]) == os.getpid():
                found.add(int(path.parent.name))
    return found


def test_no_worker_is_left_behind(traces):
    before = children()
    with pytest.raises(RuntimeError):
        lab.compare(traces, ["buddy"], jobs=2, progress=lambda now: (_ for _ in ()).throw(RuntimeError))
    assert children() <= before


def test_a_worker_dies_with_a_parent_that_is_killed(design, tmp_path):
    begun = tmp_path / "begun"
    spec = design(f"open({str(begun)!r}, 'w').write(str(os.getpid()))\n        while True: pass")
    program = f"from heaplab import lab; lab.compare(['lua'], [{spec!r}], 'python', jobs=1)"
    parent = subprocess.Popen([sys.executable, "-c", program])
    until(lambda: begun.exists() and begun.read_text())
    worker = int(begun.read_text())
    parent.kill()
    parent.wait()
    until(lambda: not Path(f"/proc/{worker}").exists())


def until(condition):
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_traces_from_files_of_all_kinds(tmp_path):
    events = [Event(Op.MALLOC, 0, 100), Event(Op.FREE, 0)]
    with TraceWriter.create(tmp_path / "x.hlt", Provenance("named")) as writer:
        for block in Trace.of(events):
            writer.write(block)
    (tmp_path / "y.rep").write_text("100\n1\n2\n1\na 0 100\nf 0\n")
    comparison = lab.compare([tmp_path / "x.hlt", str(tmp_path / "y.rep"), Trace.of(events, "z")], ["buddy"])
    assert [run.trace for run in comparison.runs] == ["named", "y", "z"]
    assert len({dataclasses.replace(run, seconds=None, trace="") for run in comparison.runs}) == 1


def test_traces_of_one_name_are_told_apart_by_their_place(tmp_path):
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "x.rep").write_text("100\n1\n2\n1\na 0 100\nf 0\n")
    paths = [str(tmp_path / folder / "x.rep") for folder in ("a", "b")]
    assert [run.trace for run in lab.compare(paths, ["buddy"]).runs] == paths
    with pytest.raises(UsageError, match="given twice"):
        lab.compare([paths[0], paths[0]], ["buddy"])


def test_a_trace_damaged_in_its_middle_is_a_users_mistake(tmp_path):
    path = tmp_path / "x.hlt"
    with TraceWriter.create(path, Provenance("x")) as writer:
        for block in synthetic(200_000, slots=50):
            writer.write(block)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(UsageError, match=r"x\.hlt"):
        lab.compare([path], ["buddy"])
    good = synthetic(1000, seed=2)
    comparison = lab.compare([path, good], ["buddy", "rbtree"], native=["glibc"], rounds=1)
    assert [run.trace for run in comparison.runs] == [good.header.name] * 3
    assert list(comparison.headers) == [good.header.name]
    assert list(comparison.unread) == ["x"]
    assert "x.hlt" in comparison.unread["x"]


def test_of_a_trace_damaged_behind_its_header_real_allocators_say_so_too(tmp_path):
    path = tmp_path / "x.hlt"
    with TraceWriter.create(path, Provenance("x")) as writer:
        for block in synthetic(200_000, slots=50):
            writer.write(block)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    comparison = lab.compare([path, synthetic(1000, seed=2)], [], native=["glibc"], rounds=1)
    assert (len(comparison.runs), list(comparison.unread)) == (1, ["x"])


def test_a_real_allocator_among_the_designs_stands_where_it_was_given():
    comparison = lab.compare([synthetic(1000)], [find_peer("glibc"), "buddy"], rounds=1)
    assert [(run.allocator, run.language) for run in comparison.runs] == [("glibc", "native"), ("buddy", "c")]


def test_a_trace_too_large_for_the_machine_costs_its_own_runs():
    large = Trace.of([Event(Op.MALLOC, 0, 8 << 20)], "large")
    comparison = lab.compare([large, synthetic(1000)], ["buddy"], ram="4 MiB")
    assert comparison.unread == {
        "large": "large: the machine has too little memory (--ram 4 MiB) for this trace: "
        "8.00 MiB are live at its peak"
    }
    assert len(comparison.runs) == 1
    assert len(lab.compare([large], ["buddy"], ram="4 MiB", payload=False).runs) == 1


def test_fewer_runs_at_once_where_this_computer_has_little_memory(monkeypatch):
    module = importlib.import_module("heaplab.lab.compare")  # the package has the function by this name
    monkeypatch.setattr(module, "host_memory", lambda: 100 << 20)
    traces = [synthetic(1000, seed=seed) for seed in (1, 2)]
    comparison = lab.compare(traces, ["buddy"], jobs=2)
    assert len(comparison.runs) == 2
    assert comparison.remarks == ("1 run at once, not 2: this computer's memory may not suffice for more",)
    with pytest.raises(UsageError, match="of this computer's memory, and 100 MiB are available"):
        lab.compare([Trace.of([Event(Op.MALLOC, 0, 200 << 20)])], ["buddy"])


@pytest.mark.parametrize(("traces", "allocators"), [([], ["buddy"]), (["x"], [])])
def test_nothing_to_compare(traces, allocators):
    with pytest.raises(UsageError):
        lab.compare(traces, allocators)


def test_defaults_name_every_family_that_stands():
    families = {spec.split(":")[0] for spec in lab.default_allocators()}
    assert families == set(names("c"))


def test_a_comparison_with_walks_knows_when_the_moments_of_its_timelines_were():
    events = [Event(Op.MALLOC, slot, 10, time=1000 * slot) for slot in range(5)]
    timed, untimed = Trace.of(events, "timed"), Trace.of([Event(Op.MALLOC, 0, 1)], "untimed")
    found = lab.compare([timed, untimed], ["rbtree"], walks=2, jobs=1)
    assert list(found.clocks) == ["timed"]
    assert found.clocks["timed"].event == found.runs[0].timeline.event == (1, 2, 3, 4, 5)
    assert found.clocks["timed"].time == (0, 1000, 2000, 3000, 4000)
    assert [len(run.walks) for run in found.runs] == [2, 1]
    assert lab.compare([timed], ["rbtree"], jobs=1).clocks == {}
