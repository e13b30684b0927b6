"""`view`: a run as a widget, whose questions are answered."""

import sys

import pytest

from heaplab import synthetic, view
from heaplab.errors import UsageError
from heaplab.views.packing import unpack


def test_a_run_is_a_widget_that_answers():
    pytest.importorskip("anywidget", reason="anywidget is not installed: it shows the view")
    widget = view(synthetic(300, seed=1), ["buddy", "rbtree"], at=100)
    manifest, columns = unpack(widget.container)
    assert [run["allocator"] for run in manifest["runs"]] == ["buddy", "rbtree"]
    assert len(columns["event.op"]) == 300
    told, _ = unpack(widget._transport.moment(run=1, moment=150))
    assert told["kind"] == "moment"


def test_what_cannot_be_viewed_is_told(monkeypatch):
    monkeypatch.setitem(sys.modules, "heaplab.pages.widget", None)
    with pytest.raises(UsageError, match=r"heaplab\[notebook\]"):
        view(synthetic(10, seed=1))


@pytest.mark.parametrize("designs", [[], ["buddy"] * 4, "buddy"])
def test_one_to_three_designs(designs):
    pytest.importorskip("anywidget", reason="anywidget is not installed: it shows the view")
    with pytest.raises(UsageError, match="one to 3 designs"):
        view(synthetic(10, seed=1), designs)
