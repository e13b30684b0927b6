"""Tables on the terminal and through a pipe: whole numbers, nothing cut off, means that may be compared."""

import dataclasses
import io
import re

import pytest
from rich.console import Console

from heaplab import report
from heaplab.lab.columns import COLUMNS, MORE, shown_columns
from heaplab.lab.metrics import Mems, geometric_mean
from heaplab.report.means import MEANS, MEMS, UTILISATION, Summary
from heaplab.report.sheets import WIDE, fold_name
from heaplab.report.tables import LEGEND


def shown(comparison, width):
    out = io.StringIO()
    report.show(comparison, Console(file=out, width=width, highlight=False))
    return out.getvalue()


def words(text):
    return re.sub(r"\s+", " ", text)


def changed(comparison, change):
    """The comparison with `change(number, run)` in the place of each run."""
    runs = tuple(change(number, run) for number, run in enumerate(comparison.runs))
    return dataclasses.replace(comparison, runs=runs)


# ---- widths ----


@pytest.mark.parametrize("width", [40, 60, 80, 90, 100, 120, 200, WIDE])
def test_no_figure_is_cut_off_or_folded_and_no_line_too_wide(comparison, width):
    text = shown(comparison, width)
    assert "…" not in text
    assert max(len(line.rstrip()) for line in text.splitlines()) <= width
    for name in comparison.headers:
        runs = comparison.of_trace(name)
        for column in shown_columns(comparison):
            for cell in column.cells(runs):
                assert re.search(rf"(?<!\S){re.escape(cell)}(?!\S)", text), (column.key, cell)
        for run in runs:
            assert re.sub(r"\s", "", run.reason) in re.sub(r"\s", "", text)


@pytest.mark.parametrize("width", [80, 100, 120, 200, WIDE])
def test_a_name_of_usual_length_stands_on_one_line(comparison, width):
    for allocator in {run.allocator for run in comparison.runs}:
        assert any(line.startswith(f"{allocator} ") for line in shown(comparison, width).splitlines())


def test_a_narrow_terminal_gets_as_many_tables_as_it_takes(comparison):
    name = "freelist:fit=first:order=address"
    wide = shown(comparison, WIDE).count(name)
    assert shown(comparison, 200).count(name) == wide
    assert shown(comparison, 100).count(name) == wide + 2  # two traces, a second table each
    assert shown(comparison, 80).count(name) == wide + 4


def test_a_long_path_leaves_room_for_figures(comparison):
    path = "/home/somebody/a/rather/long/path/to/where/designs/are/kept/design.py:fit=best:order=address"
    one = dataclasses.replace(comparison.runs[0], allocator=path)
    long = changed(comparison, lambda number, run: one if number == 0 else run)
    text = shown(long, 80)
    assert max(len(line.rstrip()) for line in text.splitlines()) <= 80
    assert path in shown(long, WIDE)
    assert text.count("mems/op") < 12


@pytest.mark.parametrize("name", ["buddy", "a:b=c", "/x" * 40, "y" * 100, ":::", "a" * 20 + ":" + "b" * 19])
def test_folding_a_name_loses_nothing(name):
    lines = fold_name(name, 20).split("\n")
    assert "".join(lines) == name
    assert all(0 < len(line) <= 20 for line in lines)


def test_the_legend_fits_80_columns():
    assert max(map(len, LEGEND.splitlines())) <= 80


# ---- marks and notes ----


def test_runs_that_did_not_finish_are_marked_and_explained(comparison):
    lines = shown(comparison, WIDE).splitlines()
    assert any(line.startswith("freelist:fit=worst               *") for line in lines)
    assert any("* freelist:fit=worst stopped: more than 50,000 mems" in line for line in lines)
    assert any("! freelist:fit=worst crashed: its process was ended by SIGSEGV" in line for line in lines)
    assert any("! buddy failed: event 7 (free 3): no" in line for line in lines)


def test_what_was_not_measured_is_a_dash(comparison):
    second = shown(comparison, WIDE).split("\n\n")[1]
    [crashed] = [line for line in second.splitlines() if line.startswith("freelist:fit=worst")]
    assert crashed.split()[1:] == ["!", *["-"] * len(shown_columns(comparison))]
    [failed] = [line for line in second.splitlines() if line.startswith("buddy")]
    assert failed.split().count("-") == 2
    tabled = {column.key for column in COLUMNS if column.group != MORE}
    assert tabled - {column.key for column in shown_columns(comparison)} == {
        *("native_ns_per_op", "native_ns_spread", "latency_p50_ns", "latency_p99_ns", "latency_p999_ns"),
        *("latency_p9999_ns", "lines_mean", "lines_p99", "lines_max"),
        *("heap_over_best", "resident_over_best"),
    }


def test_a_run_without_operations_or_live_bytes_or_mems(comparison):
    nothing = {"operations": 0, "peak_live": 0, "utilisation": 0.0, "mems": Mems(0)}
    none = changed(comparison, lambda number, run: dataclasses.replace(run, **nothing))
    free = changed(comparison, lambda number, run: dataclasses.replace(run, mems=Mems(0, 0.0, *[0] * 5)))
    for strange in (none, free):
        for width in (80, WIDE):
            assert "nan" not in shown(strange, width)
    assert words("utilisation: also without").strip() in words(shown(none, WIDE))
    assert Summary(free).value(MEMS, "rbtree") == 0
    assert Summary(none).value(MEMS, "rbtree") is None


# ---- designs in Python among designs in C ----


def mixed(comparison):
    return changed(
        comparison,
        lambda number, run: dataclasses.replace(run, language="python") if run.allocator == "rbtree" else run,
    )


def test_a_design_in_python_is_marked_and_has_no_ns_beside_cs(comparison):
    text = shown(mixed(comparison), WIDE)
    rows = [line.split() for line in text.splitlines() if line.startswith("rbtree")]
    assert [row[1] for row in rows] == ["^"] * 3
    assert [row[-1] for row in rows] == ["-"] * 3
    assert text.count("^ rbtree: in Python; its ns would be Python's") == 2
    rows = [line.split() for line in text.splitlines() if line.startswith("freelist:fit=first")]
    assert all(row[-1] != "-" for row in rows)


def test_designs_that_are_all_in_python_have_their_ns(comparison):
    python = changed(comparison, lambda number, run: dataclasses.replace(run, language="python"))
    assert "in Python" not in shown(python, WIDE)
    rows = [line.split() for line in shown(python, WIDE).splitlines() if line.startswith("rbtree")]
    assert all(row[-1] != "-" for row in rows)


# ---- means ----


def finished(comparison):
    """The comparison as if all had finished but what the test says."""
    by_trace = {name: comparison.of_trace(name)[3] for name in comparison.headers}  # rbtree's
    return changed(
        comparison,
        lambda number, run: dataclasses.replace(by_trace[run.trace], allocator=run.allocator),
    )


def test_means_are_over_the_traces_that_all_finished(comparison):
    """Of two traces buddy finished the first; freelist:fit=worst none, which takes none from the others."""
    summary = Summary(comparison)
    first, second = comparison.headers
    assert (summary.shown, summary.common) == (
        ["freelist:fit=first:order=address", "buddy", "rbtree"],
        [first],
    )
    for allocator in summary.shown:
        [run] = [run for run in comparison.of_trace(first) if run.allocator == allocator]
        assert summary.value(MEMS, allocator) == pytest.approx(run.mems.mean)
    assert all(summary.value(mean, "freelist:fit=worst") is None for mean in MEANS)
    assert summary.title == "Geometric means over 1 of 2 traces: those that every allocator finished"
    assert summary.notes() == [
        f"without {second}: not finished by buddy",
        "freelist:fit=worst: no trace finished, so no means",
    ]
    rows = shown(comparison, WIDE).partition("Geometric means")[2].splitlines()
    found = {line.split()[0]: line.split()[1:] for line in rows if " of 2 " in line and "those" not in line}
    assert found["freelist:fit=worst"] == ["!", "0", "of", "2", "-", "-", "-", "-", "-"]
    assert found["buddy"][:3] == ["1", "of", "2"]
    assert found["rbtree"][:3] == ["2", "of", "2"]


def test_one_trace_has_no_means_in_the_plural(comparison):
    whole = finished(comparison)
    first = next(iter(whole.headers))
    alone = dataclasses.replace(
        whole, headers={first: whole.headers[first]}, runs=tuple(whole.of_trace(first))
    )
    assert Summary(alone).title == "Figures of the one trace, which every allocator finished"


def test_means_over_all_traces_when_all_finished(comparison):
    summary = Summary(finished(comparison))
    assert summary.title == "Geometric means over all 2 traces: those that every allocator finished"
    assert summary.notes() == []
    values = [run.mems.mean for run in comparison.runs if run.allocator == "rbtree"]
    assert summary.value(MEMS, "buddy") == pytest.approx(geometric_mean(values))


def test_no_trace_that_all_finished_leaves_no_means(comparison):
    whole = finished(comparison)
    none = changed(
        whole, lambda number, run: dataclasses.replace(run, outcome="stopped") if number in (0, 5) else run
    )
    summary = Summary(none)
    first, second = comparison.headers
    assert summary.common == []
    assert all(summary.cells(mean) == ["-"] * 4 for mean in MEANS)
    assert summary.notes() == [
        f"without {first}: not finished by freelist:fit=first:order=address",
        f"without {second}: not finished by freelist:fit=worst",
    ]


def test_a_figure_that_one_run_lacks_takes_its_trace_from_that_column_alone(comparison):
    dead = changed(
        finished(comparison),
        lambda number, run: dataclasses.replace(run, peak_live=0) if number < 4 else run,
    )
    first, second = comparison.headers
    summary = Summary(dead)
    assert (summary.traces_of(UTILISATION), summary.traces_of(MEMS)) == ([second], [first, second])
    assert summary.notes() == [
        f"utilisation: also without {first}, where nothing was live",
        f"resident / live: also without {first}, where nothing was live",
    ]


# ---- real allocators among designs on the model ----


@pytest.mark.parametrize("width", [60, 80, 120, WIDE])
def test_rows_of_real_allocators_are_whole_at_every_width(with_real, width):
    text = shown(with_real, width)
    assert "…" not in text
    assert max(len(line.rstrip()) for line in text.splitlines()) <= width
    for name in with_real.headers:
        runs = with_real.of_trace(name)
        for column in shown_columns(with_real):
            for cell in column.cells(runs):
                assert re.search(rf"(?<!\S){re.escape(cell)}(?!\S)", text), (column.key, cell)
    assert words(with_real.left_out[0]) in words(text)


def test_each_world_has_its_own_time_and_a_wide_spread_is_marked(with_real):
    first = shown(with_real, WIDE).split("\n\n")[0].splitlines()
    rows = {line.split()[0]: line.split() for line in first}
    assert rows["glibc"][-6:] == ["30.0", "2.0", "5.0", "50.0", "500", "5000"]
    assert rows["/opt/lib/my.so"][-6:-4] == ["12.5~", "6.0"]
    assert rows["glibc"][-10:-6] == ["-"] * 4  # mems, and the model's time
    assert rows["rbtree"][-6:] == ["-"] * 6
    assert "~: more than a tenth of the median" in words(shown(with_real, WIDE))
    assert "native" not in LEGEND


def test_a_hung_real_allocator_costs_its_own_row(with_real):
    lines = shown(with_real, WIDE).splitlines()
    assert "! /opt/lib/my.so hung: event 7 (free 3): no end after 30 s" in lines
    summary = Summary(with_real)
    assert summary.shown == ["freelist:fit=first:order=address", "buddy", "rbtree", "glibc", "/opt/lib/my.so"]


def test_means_of_one_world_do_not_hang_on_the_other(comparison, with_real):
    summary, alone = Summary(with_real), Summary(comparison)
    assert [mean.title for mean in summary.means][-1] == "native\nns/op"
    assert summary.value(MEMS, "rbtree") == alone.value(MEMS, "rbtree")
    assert summary.value(MEMS, "glibc") is None
    native = summary.means[-1]
    assert summary.value(native, "glibc") == pytest.approx(30)
    assert summary.value(native, "rbtree") is None
    assert summary.value(UTILISATION, "glibc") == summary.value(UTILISATION, "rbtree")
    assert native not in alone.means
    assert not any("also without" in note for note in summary.notes())
