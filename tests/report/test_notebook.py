"""What notebooks show: well-formed HTML without script, with the figures and the bars in proportion."""

import re
from xml.etree import ElementTree

import pytest

from heaplab import Kernel, create, open_trace
from heaplab.lab import HeapMap
from heaplab.lab.columns import COLUMNS, MORE, shown_columns
from heaplab.report.notebook import live_curve
from heaplab.traces import Ledger


def parsed(thing):
    """The HTML of a thing, which is XML too, but for spaces that have a name."""
    html = thing._repr_html_()
    assert "cannot be shown" not in html, html
    assert not re.search(r"<script|<link|src=|href=.http|@import", html), "nothing runs, nothing is fetched"
    return ElementTree.fromstring(f"<div>{html.replace('&nbsp;', ' ')}</div>")


def text_of(element):
    return " ".join("".join(element.itertext()).split())


def test_a_comparison_is_its_tables_with_bars(with_real):
    root = parsed(with_real)
    tables = root.findall(".//table")
    assert len(tables) == len(with_real.headers) + 1, "and the summary"
    columns = shown_columns(with_real)
    for table, name in zip(tables, with_real.headers, strict=False):
        runs = with_real.of_trace(name)
        rows = [[text_of(cell) for cell in row] for row in table.findall(".//tbody/tr")]
        assert [row[0] for row in rows] == [run.allocator for run in runs]
        for place, column in enumerate(columns, 1):
            assert [row[place] for row in rows] == column.cells(runs), column.key
    said = text_of(root)
    assert all(run.reason in said for run in with_real.runs if run.outcome == "failed")


def test_a_bar_is_as_long_as_its_share_of_the_largest(comparison):
    name = next(iter(comparison.headers))
    runs = comparison.of_trace(name)
    [place] = [at for at, column in enumerate(shown_columns(comparison), 1) if column.key == "mems_mean"]
    cells = [row[place].get("style") for row in parsed(comparison).find(".//tbody")]
    lengths = [float(re.search(r"([\d.]+)%,transparent", style)[1]) for style in cells]
    top = max(run.mems.mean for run in runs)
    assert lengths == pytest.approx([100 * run.mems.mean / top for run in runs], abs=0.1)
    [live] = [at for at, column in enumerate(shown_columns(comparison), 1) if column.key == "peak_live_bytes"]
    assert "gradient" not in parsed(comparison).find(".//tbody")[0][live].get("style"), "no value is better"


def test_a_run_has_its_figures_and_curves_that_end_where_it_ends(with_real):
    for run in with_real.runs:
        root = parsed(run)
        assert f"{run.trace} on {run.allocator} in {run.language}, {run.outcome}" in text_of(root)
        assert all(
            column.form(value) in text_of(root)
            for column in COLUMNS
            if column.group != MORE and (value := column.of(run))
        )
        curves = root.findall(".//{*}polyline")
        assert len(curves) == (3 if run.timeline.event else 0)
        heights = [float(curve.get("points").split()[-1].split(",")[1]) for curve in curves]
        ends = [
            values[-1] for values in (run.timeline.live, run.timeline.heap, run.timeline.resident) if values
        ]
        assert sorted(heights, reverse=True) == [
            height for _, height in sorted(zip(ends, heights, strict=True))
        ]


def test_a_trace_has_its_header_and_what_is_live():
    trace = open_trace("lua")
    root = parsed(trace)
    assert text_of(root).startswith("lua: lua5.4 5.4.4, recorded ")
    curve = live_curve(trace, 240)
    assert max(curve) == trace.header.peak_live
    [live] = [Ledger("lua").apply(block) for block in [next(iter(trace))]]
    assert curve[0] == live[: 69655 // 240 + 1].max()
    assert len(root.find(".//{*}polyline").get("points").split()) == 240


def test_a_map_is_a_strip_whose_areas_are_its_shares():
    heap_map = HeapMap(0, 7, ((0, 128), (4096, 128)), 64, (64, 32, 0, 0), (0, 32, 0, 32))
    overhead, payload, between = parsed(heap_map).findall(".//{*}path")
    assert payload.get("d") == "M0 40V0.0H120.0V20.0H240.0V40.0H360.0V40.0H480.0V40Z"
    assert overhead.get("d") == "M0 40V0.0H120.0V0.0H240.0V40.0H360.0V20.0H480.0V40Z"
    assert between.get("d") == "M240.0 0V40"
    assert "0 B in 0 regions" in text_of(parsed(HeapMap(0, 0, (), 16, (), ())))


def test_a_kernel_is_its_tree_and_a_process_its_address_space():
    kernel = Kernel(ram="1 MiB", seed=1)
    process = kernel.init.fork()
    process.name = "sh"
    create("rbtree", process)
    assert {"pid 2", "R: running"} <= {each.text for each in parsed(kernel).iter() if each.text}
    assert text_of(parsed(kernel)).startswith("1.00 MiB: 256 frames of 4096 bytes, ")
    assert "[heap]" in text_of(parsed(process))
    assert text_of(parsed(process)).startswith("sh(2): R (running)")
