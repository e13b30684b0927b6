"""Tables on the terminal and through a pipe: whole numbers, nothing cut off."""

import io

import pytest
from rich.console import Console

from heaplab import report
from heaplab.report.columns import short
from heaplab.report.tables import WIDE


def shown(comparison, width):
    out = io.StringIO()
    report.show(comparison, Console(file=out, width=width, highlight=False))
    return out.getvalue()


@pytest.mark.parametrize("width", [90, 100, 120, WIDE])
def test_no_figure_is_cut_off_or_folded(comparison, width):
    text = shown(comparison, width)
    assert "…" not in text
    for run in comparison.runs:
        rows = [line for line in text.splitlines() if line.startswith(run.allocator + " ")]
        assert rows, run.allocator
    table = text.split("Geometric")[0]
    for run in comparison.runs:
        if run.outcome != "crashed":
            assert f"{run.mems.mean:.1f}" in table or short(round(run.mems.mean)) in table
            assert short(run.mems.max) in table


def test_a_narrow_terminal_gets_two_tables_no_wider_than_itself(comparison):
    narrow, wide = shown(comparison, 100), shown(comparison, WIDE)
    tables = [line for line in narrow.splitlines() if not line.startswith(("*", "!"))]
    assert max(map(len, tables)) <= 100
    count = wide.count("freelist:fit=first:order=address")
    assert narrow.count("freelist:fit=first:order=address") == count + 2


def test_runs_that_did_not_finish_are_marked_and_explained(comparison):
    lines = shown(comparison, WIDE).splitlines()
    assert any(line.startswith("freelist:fit=worst               *") for line in lines)
    assert any("* freelist:fit=worst stopped: more than 50,000 mems" in line for line in lines)
    assert any("! freelist:fit=worst crashed: its process was ended by SIGSEGV" in line for line in lines)
    assert any("! buddy failed: event 7 (free 3): no" in line for line in lines)


def test_the_summary_counts_what_each_allocator_finished(comparison):
    summary = shown(comparison, WIDE).split("Geometric means")[1].splitlines()
    finished = {line.split()[0]: line.split()[1:4] for line in summary if " of 2 " in line}
    assert {name: words[0] for name, words in finished.items()} == {
        "freelist:fit=first:order=address": "2",
        "freelist:fit=worst": "0",
        "buddy": "1",
        "rbtree": "2",
    }
    assert all(
        word == "-" for line in summary if line.startswith("freelist:fit=worst") for word in line.split()[4:]
    )
