"""Call stacks of recorded programs, against what the functions of programs/sites.c ask for."""

import csv

import pytest

from heaplab.native import record
from heaplab.native.symbols import Symbols
from heaplab.traces import open_trace


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
