"""The page in one file: sound whatever the comparison is, nothing of elsewhere, no broken heap drawn."""

import base64
import dataclasses
import io
import json
import re
from html.parser import HTMLParser

import matplotlib.image
import numpy as np
import pytest

from heaplab import report
from heaplab.lab import Clock, HeapMap, Run
from heaplab.lab.columns import shown_columns
from heaplab.report.maps import Grid, pixels, png, shares
from heaplab.report.onepage import page_text
from heaplab.report.verdict import verdict
from heaplab.units import format_size

VOID = {"meta", "link", "img", "input", "br"}


class Parsed(HTMLParser):
    """A page taken apart: balanced tags, the text that is seen, images, and the data."""

    def __init__(self, text):
        super().__init__()
        self.open, self.text, self.images, self.links, self.cells, self.data = [], "", [], [], [], ""
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        attributes = dict(attrs)
        for name in ("src", "href"):
            if name in attributes:
                self.links.append(attributes[name])
        if tag == "img":
            self.images.append(attributes)
        if tag == "td":
            self.cells.append(attributes.get("data-v"))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        within = self.open[-1] if self.open else ""
        if within == "script":
            self.data = self.data or data
        elif within != "style":
            self.text += data

    @property
    def report(self):
        return json.loads(self.data)


def named(comparison, name):
    """The comparison with its first trace alone, under another name."""
    old = next(iter(comparison.headers))
    runs = tuple(dataclasses.replace(run, trace=name) for run in comparison.of_trace(old))
    header = dataclasses.replace(comparison.headers[old], name=name)
    return dataclasses.replace(comparison, headers={name: header}, runs=runs)


def left_with(comparison, *runs):
    traces = {run.trace for run in runs}
    headers = {name: header for name, header in comparison.headers.items() if name in traces}
    return dataclasses.replace(comparison, runs=runs, headers=headers, planned=len(runs))


# ---- what is there ----


def test_the_page_has_the_verdict_the_tables_and_the_notes(comparison):
    page = Parsed(page_text(comparison))
    assert str(verdict(comparison)).partition("\n")[0] in page.text
    for run in comparison.runs:
        assert run.allocator in page.text
        assert run.reason in page.text
        for column in shown_columns(comparison):
            if (value := column.of(run)) is not None:
                assert repr(value) in page.cells
    for name in comparison.headers:
        assert f"{name}" in page.text
    assert "seed 1" in page.text
    assert "utilisation" in page.text


def test_the_page_needs_nothing_from_elsewhere(comparison):
    text = page_text(comparison)
    page = Parsed(text)
    assert all(link.startswith(("data:", "#")) for link in page.links)
    assert "default-src 'none'" in text
    outside = text.replace("http://www.w3.org/2000/svg", "")
    assert not re.search(r"https?://|@import|url\(", outside)


def test_numbers_sort_as_numbers_and_dashes_have_none(comparison):
    text = page_text(comparison)
    for cell in re.findall(r"<td[^>]*>(?:<b>)?-(?:</b>)?</td>", text):
        assert "data-v" not in cell
    assert re.search(r'<td data-v="\d+">\d', text)


def test_the_summary_names_each_trace_and_has_each_figure_of_it(comparison):
    page = Parsed(page_text(comparison))
    matrix = {each["name"]: each["cells"] for each in page.report["matrix"]}
    assert set(matrix) >= {"utilisation", "resident / live", "mems/op mean"}
    allocators = list(dict.fromkeys(run.allocator for run in comparison.runs))
    for run in comparison.runs:
        row = matrix["utilisation"][allocators.index(run.allocator)]
        [text, value] = row[list(comparison.headers).index(run.trace)]
        assert value == (run.utilisation if run.outcome == "finished" else None)
        assert (text == "-") == (value is None)


def test_one_trace_has_no_summary(comparison):
    page = Parsed(page_text(left_with(comparison, *comparison.runs[:4])))
    assert "matrix" not in page.report
    assert "Over all traces" not in page.text


def test_every_trace_has_curves_and_the_clock_of_a_comparison_with_walks(comparison):
    name = next(iter(comparison.headers))
    events = comparison.runs[0].timeline.event
    clock = Clock(events, tuple(range(len(events))))
    page = Parsed(page_text(dataclasses.replace(comparison, clocks={name: clock})))
    first, second = page.report["traces"]
    assert first["clock"]["event"] == list(events)
    assert second["clock"] is None
    assert [len(trace["runs"]) for trace in (first, second)] == [4, 3]


def test_a_page_is_written_whole_over_an_older_one_or_not_at_all(comparison, tmp_path, monkeypatch):
    path = tmp_path / "r.html"
    assert report.write_page(comparison, path) == path
    before = path.read_bytes()

    def fail(comparison, trace):
        raise RuntimeError("no")

    monkeypatch.setattr("heaplab.report.onepage.whole.verdict_of", fail)
    with pytest.raises(RuntimeError):
        report.write_page(comparison, path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


# ---- whatever the comparison is ----


@pytest.mark.parametrize(
    "name",
    ["<script>alert(1)</script>", "</script><!--", "größe 𝄞 \u2028", "x" * 200, "a\"b'c&d", "a\udc80b"],
)
def test_strange_names_are_names(comparison, tmp_path, name):
    strange = named(comparison, name)
    strange = dataclasses.replace(
        strange,
        runs=tuple(dataclasses.replace(run, allocator=f"{run.allocator}{name}") for run in strange.runs),
    )
    path = report.write_page(strange, tmp_path / "r.html")
    page = Parsed(path.read_text())
    assert name.replace("\udc80", "?") in page.text
    assert page.report["allocators"][0]["name"].endswith(name)


def test_a_single_run_makes_a_page(comparison):
    page = Parsed(page_text(left_with(comparison, comparison.runs[0])))
    assert len(page.images) == 1


def test_runs_that_all_crashed_make_a_page_that_says_so(comparison):
    lost = [run for run in comparison.runs if run.outcome == "crashed"]
    page = Parsed(page_text(left_with(comparison, *lost)))
    assert "No run finished" in page.text
    assert "nothing was measured of any run" in page.text
    assert page.images == []


def test_no_run_at_all_makes_a_page(comparison):
    page = Parsed(page_text(dataclasses.replace(comparison, runs=(), headers={}, interrupted=True)))
    assert "Interrupted after 0 of" in page.text


def test_real_allocators_alone_have_curves_and_no_walk(with_real):
    real = [run for run in with_real.runs if run.language == "native"]
    page = Parsed(page_text(left_with(with_real, *real)))
    assert page.images == []
    assert (
        page.text.count("glibc: nobody can walk a real allocator's heap") == 6
    )  # two kinds of bars, and maps
    assert [len(trace["runs"]) for trace in page.report["traces"]] == [2, 1]


def test_resident_bytes_have_bars_of_their_own(comparison):
    run = comparison.runs[0]
    forked = dataclasses.replace(run.attribution, copied=run.attribution.payload)
    page = page_text(left_with(comparison, dataclasses.replace(run, attribution=forked)))
    assert "Where the resident bytes are at the peak of live" in page
    assert f"copied by writes after a fork: {format_size(forked.copied)}" in page
    wrong = dataclasses.replace(run, attribution=dataclasses.replace(forked, vacant=-1))
    assert Parsed(page_text(left_with(comparison, wrong))).text.count("its walk adds up to no heap") == 1


def test_many_runs_stay_small(comparison):
    """14 traces on 9 allocators: as large as the whole corpus."""
    run = max(comparison.runs, key=lambda run: len(run.timeline.event))
    headers = {f"t{number}": comparison.headers[run.trace] for number in range(14)}
    runs = tuple(
        dataclasses.replace(run, trace=trace, allocator=f"a{number}")
        for trace in headers
        for number in range(9)
    )
    text = page_text(dataclasses.replace(comparison, headers=headers, runs=runs, planned=len(runs)))
    assert len(text) < 6_000_000
    looks = [(look["colour"], look["dash"]) for look in Parsed(text).report["allocators"]]
    assert len(set(looks)) == 9


# ---- broken heaps ----


@pytest.mark.parametrize("outcome", ["failed", "crashed", "hung"])
def test_nothing_is_drawn_of_a_broken_heap_and_the_reason_is_told(comparison, outcome):
    whole = comparison.runs[0]
    if outcome == "failed":
        broken = dataclasses.replace(whole, outcome="failed", reason="event 9 (free 3): it overlaps block 4")
    else:
        broken = Run.lost(
            trace=whole.trace,
            events=whole.events,
            allocator=whole.allocator,
            language="c",
            seed=1,
            outcome=outcome,
            reason="event 9: it is gone",
        )
    page = Parsed(page_text(left_with(comparison, broken, *comparison.runs[2:4])))
    assert len(page.images) == 2
    assert (
        page.text.count(f"{broken.allocator}: {outcome}: {broken.reason}") == 3
    )  # two kinds of bars, and maps


def test_a_heap_that_was_stopped_is_drawn_and_labelled(comparison):
    stopped = comparison.runs[1]
    page = Parsed(page_text(left_with(comparison, stopped)))
    assert f"{stopped.allocator} (stopped)" in page.images[0]["alt"]
    nothing = dict.fromkeys(("excess", "attribution", "heap_map", "fragmentation"))
    between = dataclasses.replace(stopped, **nothing)
    page = Parsed(page_text(left_with(comparison, between)))
    assert page.text.count("its heap could not be walked where the run was stopped") == 3


def test_a_map_that_no_heap_can_have_costs_no_other(comparison):
    run = comparison.runs[0]
    for wild in (
        dataclasses.replace(run.heap_map, payload=(), overhead=(1, 2)),
        dataclasses.replace(run.heap_map, payload=(-5, *run.heap_map.payload[1:])),
        dataclasses.replace(run.heap_map, overhead=tuple(10**9 for _ in run.heap_map.overhead)),
        dataclasses.replace(run.heap_map, regions=((0, 10**9),)),
    ):
        broken = dataclasses.replace(run, heap_map=wild)
        page = Parsed(page_text(left_with(comparison, broken, *comparison.runs[2:4])))
        assert len(page.images) == 2
        assert f"{run.allocator}: its map" in page.text


def test_walks_and_excess_that_no_heap_can_have_are_left_out(comparison):
    run = comparison.runs[0]
    wild = dataclasses.replace(
        run,
        fragmentation=dataclasses.replace(run.fragmentation, internal=-456999.5, external=457000.5),
        excess=dataclasses.replace(run.excess, internal=-5),
    )
    page = Parsed(page_text(left_with(comparison, wild, comparison.runs[2])))
    assert "memory over the trace is left out, for it cannot be drawn" in page.text
    assert f"{run.allocator}: its walk adds up to no heap" in page.text


# ---- maps ----

HEAP = HeapMap(0, 5, ((0x1000, 64), (0x8000, 40)), 32, (32, 0, 16, 8), (0, 16, 0, 0))


def test_pixels_have_the_mean_colour_of_their_bytes():
    grid = Grid(104, 32, 4, 1)
    sizes, payload, overhead = shares(HEAP, grid)
    assert sizes.tolist() == [32, 32, 32, 8]
    assert payload.tolist() == [1, 0, 0.5, 1]
    assert overhead.tolist() == [0, 0.5, 0, 0]
    image = pixels(HEAP, Grid(104, 32, 5, 1))
    assert image[0, :, 3].tolist() == [1, 1, 1, 1, 0]


def test_a_png_is_read_as_it_was_written():
    image = pixels(HEAP, Grid.for_heaps([HEAP]))
    read = matplotlib.image.imread(io.BytesIO(png(image)))
    assert np.abs(read - image).max() < 1 / 255


def test_what_is_known_of_each_pixel_is_in_the_page(comparison):
    run = comparison.runs[0]
    page = Parsed(page_text(left_with(comparison, run)))
    [found] = page.report["traces"][0]["maps"]
    known = np.frombuffer(base64.b64decode(found["shares"]), np.uint8).reshape(-1, 2)
    assert len(known) == found["columns"] * found["rows"]
    payload = (known[:, 0] / 255 * found["cell"]).sum()
    assert payload == pytest.approx(sum(run.heap_map.payload), rel=0.02)


def test_of_an_allocator_from_outside_the_map_says_what_is_known(comparison):
    outside = dataclasses.replace(comparison.runs[0], language="native", excess=None)
    said = "the payloads alone are known"
    assert said in Parsed(page_text(left_with(comparison, outside))).text
    assert said not in Parsed(page_text(left_with(comparison, comparison.runs[0]))).text


def test_a_map_says_how_its_view_is_opened(comparison):
    name = next(iter(comparison.headers))
    run = dataclasses.replace(comparison.runs[0], seed=3)
    again = dataclasses.replace(left_with(comparison, run), again={name: "my trace.hlt"})
    [found] = Parsed(page_text(again)).report["traces"][0]["maps"]
    event = run.heap_map.event - 1
    assert found["command"] == (
        f"heaplab view 'my trace.hlt' --allocators {run.allocator} --at {event} --seed 3 -o view.html"
    )
    [memory] = Parsed(page_text(left_with(comparison, run))).report["traces"][0]["maps"]
    assert "made in memory" in memory["command"]
