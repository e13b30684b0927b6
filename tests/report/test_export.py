"""JSON and CSV: every figure, exact, and seconds apart."""

import csv
import dataclasses
import io
import json

from heaplab import report
from heaplab.lab.columns import COLUMNS


def test_json_says_all_that_the_records_do(comparison):
    read = json.loads(report.to_json(comparison))
    assert read["runs"] == json.loads(json.dumps([run.as_dict() for run in comparison.runs]))
    assert read["settings"]["seed"] == 1
    assert list(read["traces"]) == list(comparison.headers)


def test_json_differs_in_seconds_alone(comparison):
    other = dataclasses.replace(
        comparison,
        runs=tuple(
            dataclasses.replace(run, seconds=dataclasses.replace(run.seconds, ns_per_op=1.5, replay=2.5))
            for run in comparison.runs
        ),
    )

    def without_seconds(text):
        read = json.loads(text)
        assert all(run.pop("seconds") for run in read["runs"])
        return read

    first, second = report.to_json(comparison), report.to_json(other)
    assert first != second
    assert without_seconds(first) == without_seconds(second)


def test_csv_has_a_row_a_run_and_figures_that_read_back(comparison):
    rows = list(csv.DictReader(io.StringIO(report.to_csv(comparison))))
    assert len(rows) == len(comparison.runs)
    for row, run in zip(rows, comparison.runs, strict=True):
        assert (row["trace"], row["allocator"], row["outcome"]) == (run.trace, run.allocator, run.outcome)
        for column in COLUMNS:
            value = column.of(run)
            assert row[column.key] == "" if value is None else float(row[column.key]) == value


def test_what_was_not_measured_is_null_and_empty(comparison):
    read = json.loads(report.to_json(comparison))["runs"]
    rows = list(csv.DictReader(io.StringIO(report.to_csv(comparison))))
    crashed, failed = 5, 6
    assert read[crashed]["mems"] is read[crashed]["peak_heap"] is read[crashed]["fragmentation"] is None
    assert read[crashed]["seconds"] == dict.fromkeys(("ns_per_op", "replay", "times", "latency"))
    assert {rows[crashed][column.key] for column in COLUMNS} == {""}
    assert (read[crashed]["outcome"], read[crashed]["events"]) == ("crashed", 4000)
    assert read[failed]["fragmentation"] is None
    assert rows[failed]["internal_fragmentation"] == rows[failed]["external_fragmentation"] == ""
    assert read[failed]["peak_heap"] > 0


def test_a_real_allocators_run_is_a_run_like_the_others(with_real):
    read = json.loads(report.to_json(with_real))["runs"]
    rows = list(csv.DictReader(io.StringIO(report.to_csv(with_real))))
    [number] = [at for at, run in enumerate(with_real.runs) if run.allocator == "glibc" and at < 6]
    assert read[number]["language"] == rows[number]["language"] == "native"
    assert read[number]["seconds"]["times"]["rounds"] == [29.0, 30.0, 31.0]
    assert read[number]["mems"]["total"] is read[number]["brk_calls"] is None
    assert (rows[number]["native_ns_per_op"], rows[number]["ns_per_op"]) == ("30.0", "")
    assert (rows[number]["native_ns_spread"], rows[number]["latency_p999_ns"]) == ("2.0", "500.0")
    assert read[number]["peak_heap"] == with_real.runs[number].peak_heap > 0
