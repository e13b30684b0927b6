"""`heaplab.view`: a run as a widget, whose questions are answered."""

import sys

import pytest

from heaplab import synthetic
from heaplab.errors import UsageError
from heaplab.views.packing import unpack


@pytest.fixture
def view():
    pytest.importorskip("anywidget", reason="anywidget is not installed: it shows the view")
    from heaplab import view  # noqa: PLC0415

    return view


def test_a_run_is_a_widget_that_answers(view):
    widget = view(synthetic(300, seed=1), ["buddy", "rbtree"], at=100)
    manifest, columns = unpack(widget.container)
    assert [run["allocator"] for run in manifest["runs"]] == ["buddy", "rbtree"]
    assert len(columns["event.op"]) == 300
    told, _ = unpack(widget._transport.moment(run=1, moment=150))
    assert told["kind"] == "moment"
    widget.close()


def test_a_missing_package_is_told(monkeypatch):
    monkeypatch.delitem(sys.modules, "heaplab.pages.widget", raising=False)
    monkeypatch.delattr(sys.modules["heaplab"], "view", raising=False)
    monkeypatch.setitem(sys.modules, "anywidget", None)
    with pytest.raises(UsageError, match=r"heaplab\[notebook\]"):
        from heaplab import view  # noqa: F401, PLC0415


@pytest.mark.parametrize("designs", [[], ["buddy", "slab", "spans", "rbtree"]])
def test_one_to_three_designs(view, designs):
    with pytest.raises(UsageError, match="one to 3 designs"):
        view(synthetic(10, seed=1), designs)
