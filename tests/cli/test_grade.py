"""`heaplab grade`: the command line; what is graded how is tested in tests/lab/test_grading.py."""

import csv
import io
import json
import re

import pytest
from click.testing import CliRunner
from rich.console import Console

from heaplab import confining
from heaplab.cli import main
from heaplab.csrc import c_sources
from heaplab.errors import HeaplabError
from heaplab.lab.course import Exam, Weight
from heaplab.lab.grading import Grade, Grading, Marked
from heaplab.report.grades import show_grades
from heaplab.traces import Event, Op, Trace

try:
    confining.layers()
except (HeaplabError, OSError) as error:  # another system than Linux on x86-64
    pytest.skip(f"nothing is graded here: {error}", allow_module_level=True)

REFERENCE = (c_sources() / "outside" / "reference.c").read_text()


def grade(*arguments):
    return CliRunner().invoke(main, ["grade", *map(str, arguments)], standalone_mode=True)


@pytest.fixture(scope="module")
def course(tmp_path_factory):
    """Two submissions, ann's right and bob's wrong, and a folder with a trace."""
    folder = tmp_path_factory.mktemp("course")
    wrong = REFERENCE.replace("set(rest, whole - size, 0)", "set(rest, whole, 0)")
    for name, text in [("ann", REFERENCE), ("bob", wrong)]:
        (folder / name).mkdir()
        (folder / name / "mm.c").write_text(text)
    (folder / "traces").mkdir()
    body = "a 0 400\na 1 24\nf 0\na 0 24\na 2 24\nf 0\nf 1\nf 2\n"
    (folder / "traces" / "short.rep").write_text("2\n3\n8\n424\n" + body)
    return folder


def test_tables_json_csv_and_status(course, tmp_path):
    files = {name: tmp_path / f"x.{name}" for name in ("json", "csv")}
    result = grade(
        *(course / "bob", course / "ann", "--traces", course / "traces"),
        *(f"--{name}={path}" for name, path in files.items()),
    )
    assert (result.exit_code, result.stderr) == (1, "")
    summary = result.stdout.partition("\n\n")[0].splitlines()
    assert [line.split()[0] for line in summary[3:]] == ["ann", "bob", "reference"]
    assert "short, 8 events, counts for utilisation alone" in result.stdout
    assert re.search(r"! bob: event \d \(malloc \d 24\): mm\.c:40 wrote 8 bytes", result.stdout), (
        result.stdout
    )
    read = json.loads(files["json"].read_text())
    assert [(each["name"], each["valid"]) for each in read["submissions"]] == [
        *(("reference", 1), ("ann", 1), ("bob", 0))
    ]
    assert read["traces"]["short"]["weight"] == 2
    rows = list(csv.DictReader(io.StringIO(files["csv"].read_text())))
    assert [(row["submission"], row["valid"], row["weight"]) for row in rows] == [
        *(("reference", "True", "2"), ("ann", "True", "2"), ("bob", "False", "2"))
    ]
    assert float(rows[1]["index"]) == read["submissions"][1]["index"]


def test_who_is_valid_on_all_gives_status_0_and_a_formula_the_index(course, tmp_path):
    (tmp_path / "ours.py").write_text("def index(traces):\n    return 7 * len(traces)\n")
    result = grade(course / "ann", "--traces", course / "traces", "--formula", tmp_path / "ours.py")
    assert result.exit_code == 0, result.output
    assert "7.0 1 of 1" in result.stdout


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "Missing argument 'FILE...'"),
        (["no/mm.c"], "there is no submission no/mm.c"),
        (["{}/ann", "{}/ann/mm.c"], "is named twice"),
        (["{}/ann", "--traces", "{}/ann/mm.c"], "is no folder"),
        (["{}/ann", "--traces", "{}/ann"], "mm.c"),
        (["{}/ann", "--formula", "modern"], "there is no formula modern"),
        (["{}/ann", "--json", "{}"], "is a directory"),
    ],
)
def test_mistakes_are_one_line_and_status_2(course, arguments, said):
    result = grade(*(each.format(course) for each in arguments))
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.startswith("heaplab: ")
    assert said in result.stderr
    assert result.stderr.count("\n") == 1


def test_what_is_not_protected_is_said(course, monkeypatch):
    monkeypatch.setattr("heaplab.lab.grading.what_is_missing", lambda: ["foreign code can do this"])
    result = grade(course / "ann", "--traces", course / "traces")
    assert (result.exit_code, result.stderr) == (0, "heaplab: foreign code can do this\n")


def test_a_narrow_terminal_gets_narrow_tables():
    trace = Trace.of([Event(Op.MALLOC, 0, 8), Event(Op.FREE, 0)])
    mark = Marked("t", Weight.BOTH, True, "", 0.5, 0.5, 2, 8, 16, 3.0, 4)
    fine = Grade("a-submission-with-a-long-name", "a", 50.0, (mark,))
    bad = Grade("b", "b", 0.0, (Marked("t", Weight.BOTH, False, "it is gone"),), "it is gone")
    grading = Grading((fine, bad), fine, (Exam("t", trace),), {"throughput": "mems"}, 2)
    out = io.StringIO()
    show_grades(grading, Console(file=out, width=44, highlight=False))
    assert max(map(len, out.getvalue().splitlines())) <= 44
    assert "! b: it is gone" in out.getvalue()
