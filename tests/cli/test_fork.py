"""`heaplab fork` from the command line."""

import json
import re

import pytest
from click.testing import CliRunner

from heaplab import lab
from heaplab.cli import main
from heaplab.cli.fork import LEGEND
from heaplab.traces import Snapshot, open_trace, snapshotting


def heaplab(*args):
    return CliRunner().invoke(main, ["fork", *map(str, args)])


def test_a_snapshot_is_a_row_a_design_and_the_figures_are_those_of_python(tmp_path):
    found = tmp_path / "found.json"
    shown = heaplab("lua", "--snapshot", "2000", "--frees", "--allocators", "rbtree,slab", "--json", found)
    assert shown.exit_code == 0, shown.output
    assert shown.stdout.startswith("lua-snapshot: 1 fork in ")
    rows = json.loads(found.read_text())
    taken = snapshotting(open_trace("lua"), Snapshot(at=2000, frees=True))
    assert rows == [lab.fork_cost(taken, design).figures() for design in ("rbtree", "slab")]
    line = next(line for line in shown.stdout.splitlines() if line.startswith("slab"))
    assert [int(cell.replace(",", "")) for cell in line.split()[1:]] == [
        rows[1]["shared"],
        *(
            rows[1][f"{side}_{name}"]
            for side in ("parent", "child")
            for name in ("metadata", "alone", "payload")
        ),
    ]


def test_the_legend_explains_each_heading_by_its_own_words():
    shown = heaplab("lua", "--snapshot", "2000", "--allocators", "slab").stdout
    headings = next(line for line in shown.splitlines() if line.startswith("allocator"))
    words = re.findall(r"shared|(?:by )?metadata|alone|(?:by )?payload", headings)
    assert words == ["shared", *["by metadata", "alone", "by payload"] * 2]
    assert set(words) == {line[:12].strip() for line in LEGEND.splitlines()} - {""}


@pytest.mark.parametrize(
    ("args", "sentence"),
    [
        (["lua"], "never forks, so nothing is copied"),
        (["lua", "--frees"], "--frees: is what the child of a --snapshot does"),
        (["lua", "--snapshot", "soon"], "--snapshot soon: give a number of events, or peak"),
        (["lua", "--snapshot", "70000"], "has 69,655 events: no snapshot after 70,000"),
        (["lua", "--snapshot", "peak", "--allocators", "budy"], "did you mean 'buddy'?"),
        (["lua", "--snapshot", "peak", "--json", "/nowhere/x.json"], "there is no directory /nowhere"),
    ],
)
def test_a_mistake_is_one_line_and_status_2(args, sentence):
    result = heaplab(*args)
    assert result.exit_code == 2
    assert sentence in result.stderr
    assert len(result.stderr.splitlines()) == 1
