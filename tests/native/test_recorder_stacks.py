"""Call stacks of recorded programs, against what the functions of programs/sites.c ask for."""

import csv
from collections import Counter

import numpy as np
import pytest

from heaplab.errors import UsageError
from heaplab.native import record
from heaplab.native.raw import Kind, Records
from heaplab.native.sitelog import SiteLog
from heaplab.native.symbols import Symbols
from heaplab.traces import open_trace
from heaplab.traces.sites import site_of
from heaplab.views import run_view


@pytest.fixture
def stacks(program, tmp_path):
    """The rows of the file of call stacks, and the trace's header."""
    record([program("sites")], tmp_path / "x.hlt", stacks=tmp_path / "x.csv")
    with (tmp_path / "x.csv").open(newline="") as file:
        rows = [{**row, "stack": row["stack"].split(";")} for row in csv.DictReader(file)]
    return rows, open_trace(tmp_path / "x.hlt").header


def test_functions_and_what_they_ask_for(stacks):
    rows, _ = stacks
    found = {
        tuple(row["stack"][row["stack"].index("main") :]): (
            int(row["calls"]),
            int(row["requested"]),
            int(row["peak"]),
        )
        for row in rows
        if "main" in row["stack"]
    }
    assert found == {
        ("main", "tables", "wrapper"): (100, 100_000, 200_000),  # twice at the peak: the child has them too
        ("main", "buffers", "wrapper"): (10, 50_000, 0),
        ("main", "buffers"): (1, 6000, 12_000),
        ("main", "in_child", "wrapper"): (1, 50_000, 50_000),
    }


def test_the_sums_are_the_traces(stacks):
    rows, header = stacks
    acquisitions = sum(header.ops.get(name, 0) for name in ("malloc", "calloc", "aligned", "realloc"))
    assert sum(int(row["calls"]) for row in rows) == acquisitions
    assert sum(int(row["requested"]) for row in rows) == header.requested
    assert sum(int(row["peak"]) for row in rows) == header.peak_live


def test_the_sites_of_blocks_are_the_functions_that_asked(program, tmp_path):
    record([program("sites")], tmp_path / "x.hlt", sites=tmp_path / "x.sites")
    view = run_view(open_trace(tmp_path / "x.hlt"), ["buddy"], sites=tmp_path / "x.sites")
    stacks = [stack[stack.index("main") :] if "main" in stack else stack for stack in view.stacks]
    own = Counter((stacks[stack], size) for stack, size in of_process(view, 0))
    assert own.pop(((), 1024), 0) <= 1  # of the C library before main
    assert own == {
        (("main", "tables", "wrapper"), 1000): 100,
        (("main", "buffers", "wrapper"), 5000): 10,
        (("main", "buffers"), 6000): 1,
    }
    childs = Counter(stacks[stack] for stack, _ in of_process(view, 1))
    assert childs == {
        ("main", "tables", "wrapper"): 100,  # copies
        ("main", "buffers"): 1,
        ("main", "in_child", "wrapper"): 1,
    }
    assert {site_of(stack) for stack in stacks[1:]} == {"wrapper", "buffers"}


def of_process(view, process):
    here = view.lives.process == process
    return zip(view.stack[here].tolist(), view.lives.size[here].tolist(), strict=True)


def test_sites_of_programs_that_a_shell_runs(program, tmp_path):
    """Images that a fork or an exec begins log their stacks anew."""
    command = f"{program('sites')}; exec {program('sites')}"
    record(["sh", "-c", command], tmp_path / "x.hlt", sites=tmp_path / "x.sites")
    view = run_view(open_trace(tmp_path / "x.hlt"), ["buddy"], sites=tmp_path / "x.sites")
    tables = [number for number, stack in enumerate(view.stacks) if stack[-2:] == ("tables", "wrapper")]
    assert len(tables) == 1  # by names: images that are one program share it
    assert set(view.lives.size[view.stack == tables[0]].tolist()) == {1000}
    assert np.count_nonzero((view.stack == tables[0]) & ~view.lives.copied) == 200


def test_sites_of_another_trace_are_refused(program, tmp_path):
    record([program("sites")], tmp_path / "x.hlt", sites=tmp_path / "x.sites")
    record([program("sites")], tmp_path / "y.hlt", sites=tmp_path / "y.sites")
    assert (tmp_path / "x.sites").read_bytes() == (tmp_path / "y.sites").read_bytes()
    text = (tmp_path / "x.sites").read_text()
    (tmp_path / "x.sites").write_text(text.replace(" 5000 ", " 5001 "))
    with pytest.raises(
        UsageError, match=r"acquisition 100 of process 0 has 5001 bytes, the trace's has 5000"
    ):
        run_view(open_trace(tmp_path / "x.hlt"), ["buddy"], sites=tmp_path / "x.sites")


def test_a_stack_belongs_to_the_next_acquisition_of_its_thread_also_in_the_next_batch():
    log = SiteLog()
    first = [
        *[(Kind.FRAME, 1, 0x10, 7), (Kind.FRAME, 2, 0x30, 8), (Kind.FRAME, 1, 0x20, 7)],
        *[(Kind.SITE, 1, 0, 7), (Kind.SITE, 2, 0, 8), (Kind.MALLOC, 1, 0x1000, 24)],
        *[(Kind.MALLOC, 3, 0x2000, 32), (Kind.FRAME, 1, 0x40, 9)],
    ]
    second = [(Kind.MALLOC, 2, 0x3000, 40), (Kind.SITE, 1, 0, 9), (Kind.MALLOC, 1, 0x4000, 48)]
    for rows, makes, sizes in ((first, [5, 6], [24, 32]), (second, [0, 2], [40, 48])):
        log.follow(records(rows), np.array(makes), np.array(sizes, np.uint64))
    hashes, sizes = log.acquisitions()
    assert hashes.tolist() == [7, 0, 8, 9]
    assert sizes.tolist() == [24, 32, 40, 48]
    assert log.frames == {7: (0x10, 0x20), 8: (0x30,), 9: (0x40,)}


def records(rows):
    kind, thread, address, size = np.array(rows, np.int64).T
    zeros = np.zeros(len(rows), np.int64)
    return Records(index=zeros, time=zeros, kind=kind, thread=thread, address=address, size=size, align=zeros)


def test_a_trace_with_stacks_is_the_same_trace(program, tmp_path):
    record([program("sites")], tmp_path / "x.hlt", stacks=tmp_path / "x.csv")
    record([program("sites")], tmp_path / "y.hlt")
    one, other = (
        [(event.op, event.id, event.size, event.process) for event in open_trace(tmp_path / name).events()]
        for name in ("x.hlt", "y.hlt")
    )
    assert one == other


def test_names_from_symbol_tables(program, tmp_path):
    assert Symbols(tmp_path / "none").name(0x123) == "none+0x123"
    (tmp_path / "text").write_text("no program")
    assert Symbols(tmp_path / "text").name(5) == "text+0x5"
