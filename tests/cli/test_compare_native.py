"""`heaplab compare --native`: real allocators in the table."""

import csv
import json

import pytest
from click.testing import CliRunner

from heaplab.cli import main
from heaplab.native import peers


def compare(*args):
    return CliRunner().invoke(main, ["compare", *map(str, args)])


def test_real_allocators_are_rows_of_the_one_table(tmp_path):
    result = compare(
        "lua",
        "--allocators=rbtree",
        "--native=glibc,heaplab:rbtree",
        "--rounds=2",
        "--latency",
        f"--json={tmp_path / 'a.json'}",
        f"--csv={tmp_path / 'a.csv'}",
    )
    assert (result.exit_code, result.stderr) == (0, "")
    head, titles, *rows = result.stdout.splitlines()[1:6]
    assert "p99.9" in titles
    assert head.split()[-6:] == ["native", "ns/op", "ns", "ns", "ns", "ns"]
    assert [row.split()[0] for row in rows] == ["rbtree", "glibc", "heaplab:rbtree"]
    assert rows[0].split()[1:3] == rows[1].split()[1:3] == ["69.7k", "354"]
    assert "native ns/op processor time" in result.stdout
    runs = json.loads((tmp_path / "a.json").read_text())["runs"]
    assert [run["language"] for run in runs] == ["c", "native", "native"]
    assert runs[0]["peak_heap"] == runs[2]["peak_heap"]
    with open(tmp_path / "a.csv") as file:
        real = list(csv.DictReader(file))[1:]
    assert all(
        float(row["native_ns_per_op"]) == run["seconds"]["times"]["ns_per_op"]
        for row, run in zip(real, runs[1:], strict=True)
    )


def test_what_is_missing_is_named_with_its_package(monkeypatch):
    monkeypatch.setitem(peers.DEBIAN, "tcmalloc", ("libabsent.so.4", "libtcmalloc-minimal4"))
    result = compare("lua", "--allocators=buddy", "--native=tcmalloc")
    assert result.exit_code == 0
    sentence = "tcmalloc: libabsent.so.4 is not installed: Debian's package libtcmalloc-minimal4 has it"
    assert f"\nleft out: {sentence}\n" in result.stdout
    assert "native" not in result.stdout


@pytest.mark.parametrize(
    ("args", "sentence"),
    [
        (["--native="], "names no native allocator"),
        (["--native=glib"], "there is no native allocator 'glib': did you mean glibc?"),
        (["--native=./absent.so"], "./absent.so: there is no such file"),
        (["--native=glibc,glibc"], "the allocator glibc is given twice"),
        (["--native=heaplab:no"], "there is no allocator 'no' in c"),
        (["--native=glibc", "--rounds=0"], "Invalid value for '--rounds'"),
    ],
)
def test_a_mistake_is_one_line_and_status_2_before_any_work(args, sentence):
    result = compare("lua", "--allocators=buddy", *args)
    assert (result.exit_code, result.stdout, result.stderr.count("\n")) == (2, "", 1)
    assert sentence in result.stderr
