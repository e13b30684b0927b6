"""`heaplab sweep`, `diff` and `tune`: what they print, how they exit, mistakes in one line."""

import csv
from dataclasses import replace

import pytest
from click.testing import CliRunner

from heaplab.cli import main
from heaplab.cli.sweep import parse_params, parse_seeds
from heaplab.errors import UsageError
from heaplab.lab.sweeping.store import Store, read_store
from heaplab.traces import TraceWriter, synthetic


@pytest.fixture(scope="module")
def trace(tmp_path_factory):
    path = tmp_path_factory.mktemp("traces") / "small.hlt"
    made = synthetic(300, slots=20)
    with TraceWriter.create(str(path), made.header.provenance()) as writer:
        for block in made:
            writer.write(block)
    return str(path)


def told(*args):
    done = CliRunner().invoke(main, [str(arg) for arg in args], standalone_mode=False)
    if isinstance(done.exception, SystemExit) or done.exception is None:
        return done.output, done.return_value if done.exception is None else done.exception.code
    raise done.exception


def test_a_sweep_a_diff_and_a_search(trace, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    grid = ["sweep", trace, "--param", "fit=first,best", "--seeds", "1..2", "--jobs", 1]
    shown, status = told(*grid, "--allocators", "freelist:fit={fit}", "--store", "a", "--csv", "a.csv")
    assert status == 0
    assert shown.startswith("4 cells of 4\n")
    with open("a.csv") as file:
        rows = list(csv.DictReader(file))
    assert [(row["fit"], row["seed"]) for row in rows] == [
        ("first", "1"),
        ("best", "1"),
        ("first", "2"),
        ("best", "2"),
    ]
    again, _ = told(*grid, "--allocators", "freelist:fit={fit}", "--store", "a")
    assert again.startswith("4 cells of 4, 4 of them found\n")

    shown, status = told("diff", "a", "a", "--fail-on", "change")
    assert (shown.startswith("nothing differs beyond noise in"), status) == (True, 0)
    rows = [replace(row, figures={**row.figures, "peak_heap_bytes": 4096}) for row in read_store("a")]
    with Store("b") as store:
        store.add(*rows)
    shown, status = told("diff", "a", "b", "--metric", "peak_heap_bytes", "--fail-on", "worse")
    assert "freelist:fit=best   peak_heap_bytes 132 KiB 4.00 KiB -97.0% better" in shown
    assert shown.endswith("of 2 figures 2 became better and 0 worse\n")
    assert status == 0
    assert told("diff", "b", "a", "--metric", "peak_heap_bytes", "--fail-on", "worse")[1] == 1

    options = [
        "--range",
        "fit=first,best",
        "--trials",
        2,
        "--store",
        "a",
        "--jobs",
        1,
        "--figure",
        "front.svg",
    ]
    shown, status = told(
        "tune", "freelist:order=address:top_pad=4k:trim_threshold=0:mmap_threshold=dynamic", trace, *options
    )
    assert status == 0
    assert shown.startswith("2 specs tried; figures are ratios to those of freelist:order=address")
    assert shown.endswith("figure: front.svg\n")
    assert "<svg" in (tmp_path / "front.svg").read_text()


def test_a_cell_that_fails_is_told_and_is_the_status(trace, tmp_path):
    path = tmp_path / "bad.py"
    path.write_text(
        "from heaplab.allocators.designs.buddy import Buddy\n"
        "class Bad(Buddy):\n    NAME = 'bad'\n    def _free(self, p):\n        raise IndexError('lost')\n"
    )
    shown, status = told("sweep", trace, "--allocators", path, "--language", "python", "--jobs", 1)
    assert status == 1
    assert f"! {path} on {trace}, seed 1: failed: " in shown


def test_seeds_and_parameters_are_read():
    assert parse_seeds("3,1..2") == [3, 1, 2]
    assert parse_params(("a=1,x", "b=uniform,1,9;constant,5")) == {
        "a": [1, "x"],
        "b": ["uniform,1,9", "constant,5"],
    }
    for text in ("", "one", "3..1", "1..1000000"):
        with pytest.raises(UsageError, match="--seeds"):
            parse_seeds(text)
    for texts in (("fit",), ("2x=1",), ("a=1", "a=2"), ("store=x",)):
        with pytest.raises(UsageError, match="--param"):
            parse_params(texts)


@pytest.mark.parametrize(
    ("args", "sentence"),
    [
        (["sweep", "gcc"], "the grid is empty"),
        (["sweep", "gcc", "--allocators", "rbtree", "--latency"], "--latency is of real allocators alone"),
        (["sweep", "gcc", "--allocators", "rbtree", "--csv", "/nowhere/x"], "there is no directory /nowhere"),
        (["diff", "nowhere", "gcc"], "nowhere: cannot be read"),
        (["tune", "rbtree", "gcc", "--figure", "x.pdf"], "name a file.svg or file.png"),
        (["tune", "rbtree", "gcc", "--range", "top_pad"], "write NAME=VALUE"),
        (["tune", "rbtree", "gcc", "--minimise", "beauty"], "there is no goal 'beauty'"),
    ],
)
def test_mistakes(args, sentence):
    with pytest.raises(UsageError, match=sentence):
        told(*args)
