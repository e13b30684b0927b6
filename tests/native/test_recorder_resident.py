"""The resident sizes that the monitor sees, against what a program touched."""

import csv

from heaplab.native import record
from heaplab.traces import open_trace

MEGABYTE = 1 << 20


def looks(path):
    with path.open(newline="") as file:
        return [{name: int(value) for name, value in row.items()} for row in csv.DictReader(file)]


def test_resident_sizes_are_the_programs_own(program, tmp_path):
    """The log of 600,000 calls is 14 MB: none of it counts."""
    record([program("leaving"), "memory"], tmp_path / "x.hlt", resident=tmp_path / "x.csv")
    rows = looks(tmp_path / "x.csv")
    sizes = [row["bytes"] for row in rows]
    assert 40 * MEGABYTE < max(sizes) < 44 * MEGABYTE
    assert 0 < sizes[-1] < 4 * MEGABYTE
    times = [row["nanoseconds"] for row in rows]
    assert times == sorted(times)
    assert times[-1] < open_trace(tmp_path / "x.hlt").header.duration + 10**9
    assert len(rows) > 10


def test_processes_have_the_numbers_of_the_trace(tmp_path):
    command = ["sh", "-c", "sleep 0.1; sleep 0.1"]
    record(command, tmp_path / "x.hlt", resident=tmp_path / "x.csv")
    rows = looks(tmp_path / "x.csv")
    assert {row["process"] for row in rows} == {0, 1, 2}
    assert open_trace(tmp_path / "x.hlt").header.processes == 3
