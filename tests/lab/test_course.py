"""What a course gives: traces with weights, submissions with names, formulas."""

import gzip
from types import SimpleNamespace

import pytest

from heaplab.errors import UsageError
from heaplab.lab.course import Weight, bundled_exams, classic, exams_in, load_formula, shown_names
from heaplab.traces.formats.rep import weight_in

BODY = "a 0 24\nf 0\n"


def mark(utilisation, throughput, weight=Weight.BOTH):
    return SimpleNamespace(weight=weight, valid=True, utilisation=utilisation, throughput=throughput)


# ---- traces ----


@pytest.mark.parametrize(
    ("header", "weight"),
    [
        ("0\n1\n2\n24\n", 0),  # newer: the weight first
        ("1\n1\n2\n24\n", 1),
        ("2\n1\n2\n24\n", 2),
        ("3\n1\n2\n24\n", 3),
        ("20000\n1\n2\n1\n", 1),  # classic: the weight last
        ("20000\n1\n2\n3\n", 3),
        ("20000 # heap\n\n1\n2\n0\n", 0),
        ("\ufeff2\r\n1\r\n2\r\n24\r\n", 2),
        ("1\n2\n", None),  # ids and operations
        ("", None),
        ("20000\n1\n2\n9\n", None),
    ],
)
def test_the_weight_of_every_header(header, weight):
    assert weight_in((header + BODY).encode()) == weight


def test_a_folder_of_traces(tmp_path):
    (tmp_path / "b.rep").write_text("2\n1\n2\n24\n" + BODY)
    (tmp_path / "a.rep.gz").write_bytes(gzip.compress(("20000\n1\n2\n3\n" + BODY).encode()))
    (tmp_path / "c.rep").write_text(BODY)
    (tmp_path / ".hidden").write_text("no trace")
    exams = exams_in(tmp_path)
    assert [(exam.name, exam.weight) for exam in exams] == [
        ("a", Weight.THROUGHPUT),
        ("b", Weight.UTILISATION),
        ("c", Weight.BOTH),
    ]
    assert {exam.trace.header.events for exam in exams} == {2}


def test_a_folder_with_two_traces_of_one_name(tmp_path):
    (tmp_path / "a.rep").write_text(BODY)
    (tmp_path / "a.txt").write_text(BODY)
    assert [exam.name for exam in exams_in(tmp_path)] == ["a.rep", "a.txt"]


def test_folders_that_hold_no_traces(tmp_path):
    for folder, why in [(tmp_path / "no", "is no folder"), (tmp_path, "holds no trace")]:
        with pytest.raises(UsageError, match=why):
            exams_in(folder)


def test_a_double_free_in_a_trace_is_refused(tmp_path):
    """A known driver calls it valid."""
    (tmp_path / "bad.rep").write_text("a 0 24\nf 0\nf 0\n")
    with pytest.raises(UsageError, match=r"bad\.rep.*3.*not allocated"):
        exams_in(tmp_path)


def test_the_bundled_exams_are_the_same_every_time():
    once, again = bundled_exams(), bundled_exams()
    assert [(exam.name, list(exam.trace.events())) for exam in once] == [
        (exam.name, list(exam.trace.events())) for exam in again
    ]
    assert all("aligned" not in exam.trace.header.ops and exam.trace.header.threads == 1 for exam in once)


# ---- names ----


@pytest.mark.parametrize(
    ("texts", "names"),
    [
        (["ann/mm.c", "bob/mm.c"], ["ann", "bob"]),
        (["ann", "bob/"], ["ann", "bob"]),
        (["1/ann/mm.c", "2/ann/mm.c", "bob/mm.c"], ["1/ann", "2/ann", "bob"]),
        (["first.c", "next.c:align=8"], ["first.c", "next.c:align=8"]),
        (["a/mm.c:align=8", "a/mm.c"], ["a:align=8", "a"]),
        (["a/mm.c+list.c"], ["a+list.c"]),
        (["../one/lab/mm.c", "../two/lab/mm.c"], ["one/lab", "two/lab"]),
    ],
)
def test_the_shortest_distinct_names(texts, names):
    assert shown_names(texts) == names


def test_a_submission_named_twice():
    with pytest.raises(UsageError, match=r"ann/mm\.c: is named twice"):
        shown_names(["ann", "ann/mm.c"])


# ---- formulas ----


def test_the_classic_formula():
    assert classic([mark(0.5, 2.0), mark(1.0, 0.5)]) == pytest.approx(100 * (0.6 * 0.75 + 0.4 * 0.75))
    assert classic([mark(1.0, 1.0)]) == pytest.approx(100)
    assert classic([]) == 0


def test_weights_choose_what_a_trace_counts_for():
    marks = [
        mark(1.0, 0.0, Weight.UTILISATION),
        mark(0.0, 1.0, Weight.THROUGHPUT),
        mark(0.0, 0.0, Weight.NOTHING),
    ]
    assert classic(marks) == pytest.approx(100)
    assert classic(marks[:1]) == pytest.approx(60)


def test_a_formula_of_ones_own(tmp_path):
    file = tmp_path / "ours.py"
    file.write_text("def index(traces):\n    return 10 * sum(trace.valid for trace in traces)\n")
    assert load_formula(str(file))([mark(1, 1), mark(0, 0)]) == 20


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("def index(traces) return", r"ours\.py:1: SyntaxError"),
        ("x = 1", r"has no function index\(traces\)"),
        ("def index(traces):\n    return 1 / 0", r"ours\.py:2: ZeroDivisionError"),
        ("def index(traces):\n    return traces[0].style", r"ours\.py:2: AttributeError.*style"),
        ("def index(traces):\n    return 'good'", r"returns 'good', and no number"),
        ("def index(traces):\n    return float('nan')", "returns nan, and no number"),
        ("import nothing_at_all", r"ours\.py:1: ModuleNotFoundError"),
    ],
)
def test_a_formula_that_is_wrong_is_told_with_its_line(tmp_path, text, why):
    file = tmp_path / "ours.py"
    file.write_text(text)
    with pytest.raises(UsageError, match=why):
        load_formula(str(file))([mark(1, 1)])


@pytest.mark.parametrize("text", ["modern", "no/such.py"])
def test_a_formula_that_is_not_there(text):
    with pytest.raises(UsageError, match=f"there is no formula {text}"):
        load_formula(text)
