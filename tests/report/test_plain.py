"""What print() shows of comparisons, runs, maps and timelines."""

import dataclasses
import re

import pytest

from heaplab.lab import HeapMap, Timeline
from heaplab.lab.columns import COLUMNS, MORE
from heaplab.report import plain
from heaplab.units import format_size


def test_a_comparison_prints_as_its_tables(with_real):
    text = str(with_real)
    lines = text.splitlines()
    assert max(map(len, lines)) <= plain.WIDTH, "folded"
    for name, header in with_real.headers.items():
        assert f"{name}: {header.program}, {header.events:,} events" in text
    assert text.count("freelist:fit=worst") > 2
    assert all(run.reason in text for run in with_real.runs if run.outcome == "failed")
    assert "ns/op        processor time" not in text, "the legend is for the command line"
    assert with_real.left_out[0] in text
    assert str(dataclasses.replace(with_real, interrupted=True)).endswith("\ninterrupted")


def test_a_narrow_terminal_makes_it_narrow(comparison, monkeypatch):
    monkeypatch.setattr(plain.os, "get_terminal_size", lambda _number: plain.os.terminal_size((60, 24)))
    monkeypatch.setattr(plain.sys, "stdout", open("/dev/null"))  # noqa: SIM115
    assert max(map(len, str(comparison).splitlines())) <= 60


def test_a_run_prints_in_a_few_lines(with_real):
    for run in with_real.runs:
        text = str(run)
        lines = text.splitlines()
        assert lines[0].startswith(f"{run.trace} on {run.allocator} in {run.language}: {run.outcome}")
        assert len(lines) < 14
        told = " ".join(text.split())
        for column in COLUMNS:
            if column.group != MORE and (value := column.of(run)) is not None:
                assert column.form(value) in told, column.key
        assert ("resident at the peak of live" in told) == (run.attribution is not None)
        assert ("resident " in text) == bool(run.timeline.event) or not run.measured


def test_an_attribution_prints_its_parts_and_pins(comparison):
    found = comparison.runs[0].attribution
    text = str(found)
    assert text.startswith(f"{format_size(found.resident)} resident after {found.event:,} events")
    for name, size in found.parts.items():
        assert re.search(rf"^  {name} +\d.*% +{size:,} B$", text, re.MULTILINE)
    assert text.count(" would fall") == len(found.pins) + bool(found.sparse_pages)
    assert f"{found.falls:,} would fall without them" in text


@pytest.fixture
def heap_map():
    """Two regions: 8 cells in all, the last one cut short."""
    regions = ((0x10000, 256), (0x40000, 244))
    return HeapMap(0, 7, regions, 64, (64, 32, 0, 10, 0, 0, 64, 40), (0, 32, 48, 0, 0, 64, 0, 12))


def test_a_map_prints_as_rows_of_characters(heap_map):
    said, legend, row = str(heap_map).splitlines()
    assert (
        said == "process 0 after 7 events: 500 B in 2 regions, 42.0% payload, 31.2% overhead, the rest free"
    )
    assert "64 bytes" in legend
    assert row.split() == ["0x10000", "##o+.o##"]


def test_rows_have_their_addresses_and_free_rows_are_told_once():
    cells = plain._ACROSS * 9
    regions = ((0x10000, 16 * plain._ACROSS), (0x90000, 16 * (cells - plain._ACROSS)))
    used = (16,) * (plain._ACROSS + 1)
    many = HeapMap(1, 5, regions, 16, used + (0,) * (cells - len(used) - 1) + (16,), (0,) * cells)
    rows = str(many).splitlines()[2:]
    assert [row.split()[0] for row in rows] == ["0x10000", "0x90000", "0x90400", "*", "0x91800", "0x91c00"]
    assert rows[0].split()[1] == "#" * plain._ACROSS
    assert rows[1].split()[1] == "#" + "." * (plain._ACROSS - 1)


def test_maps_of_runs_print_all_of_the_heap(comparison):
    for run in comparison.runs:
        if run.heap_map is not None:
            rows = [line.split() for line in str(run.heap_map).splitlines()[2:]]
            assert len(rows) <= plain._DOWN
            assert int(rows[0][0], 16) == run.heap_map.regions[0][0]
            assert all(re.fullmatch("[#o+.]+", row[1]) for row in rows if len(row) == 2)


def test_an_empty_map_and_an_empty_timeline_print():
    assert "0 regions" in str(HeapMap(0, 0, (), 16, (), ()))
    assert str(Timeline((), (), (), ())) == "nothing was sampled"
    assert str(Timeline((1,), (0,), (0,), (0,))).count("0 B at most") == 3
