"""The page and its figures: all there, labelled, nothing on top of anything else."""

import dataclasses
import itertools
from html.parser import HTMLParser

import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg

from heaplab import report
from heaplab.lab import Run
from heaplab.lab.metrics import Mems
from heaplab.report import figures

BY_TRACE = [figures.timeline, figures.heap_map, figures.fragmentation, figures.cost]


def texts_of(figure):
    """Every text drawn, and where: pixels."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    found = [*figure.texts, *(text for legend in figure.legends for text in legend.get_texts())]
    for axes in figure.axes:
        if axes.get_visible():
            found += [axes.title, axes.xaxis.label, axes.yaxis.label, *axes.texts]
            for axis in (axes.xaxis, axes.yaxis):
                low, high = sorted(axis.get_view_interval())
                found += [tick.label1 for tick in axis.get_major_ticks() if low <= tick.get_loc() <= high]
    for text in found:
        if text.get_visible() and text.get_text().strip():
            yield text.get_text(), text.get_window_extent(canvas.get_renderer())


def demand_legible(figure):
    """Return the texts of a figure, none of which is cut off or stands on another."""
    whole = figure.bbox
    texts = list(texts_of(figure))
    assert texts
    for text, box in texts:
        across = whole.x0 - 1 <= box.x0 <= box.x1 <= whole.x1 + 1
        assert across, f"{text!r} is cut off"
        along = whole.y0 - 1 <= box.y0 <= box.y1 <= whole.y1 + 1
        assert along, f"{text!r} is cut off"
    for (one, a), (other, b) in itertools.combinations(texts, 2):
        across = min(a.x1, b.x1) - max(a.x0, b.x0)
        along = min(a.y1, b.y1) - max(a.y0, b.y0)
        assert across < 1 or along < 1, f"{one!r} and {other!r} overlap"
    return [text for text, _ in texts]


@pytest.mark.parametrize("draw", BY_TRACE)
def test_figures_of_a_trace_are_legible_and_axes_carry_units(comparison, draw):
    drawn = [" ".join(demand_legible(draw(comparison.of_trace(name)))) for name in comparison.headers]
    assert any(unit in drawn[0] for unit in ("KiB", "MiB", "% of the heap", "ns per operation"))


@pytest.mark.parametrize("draw", BY_TRACE)
def test_figures_of_one_run_are_legible_too(comparison, draw):
    demand_legible(draw(comparison.runs[:1]))


def test_the_summary_is_legible_and_names_every_allocator(comparison):
    assert {"buddy", "rbtree"} <= set(demand_legible(figures.summary(comparison)))


class Page(HTMLParser):
    def __init__(self):
        super().__init__()
        self.open, self.images, self.text = [], [], ""

    def handle_starttag(self, tag, attrs):
        if tag == "img":
            self.images.append(dict(attrs)["src"])
        elif tag != "meta":
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data


def test_the_page_shows_each_figure_and_each_run_and_can_be_written_over(comparison, tmp_path):
    path = report.write(comparison, tmp_path / "out")
    page = Page()
    page.feed(path.read_text())
    assert page.open == []
    written = {file.name for file in path.parent.iterdir()}
    assert written == {"index.html", *page.images}
    assert len(page.images) == 1 + 4 * len(comparison.headers)
    for run in comparison.runs:
        assert run.allocator in page.text
        assert run.reason in page.text
    assert "seed 1" in page.text
    first = path.read_bytes()
    assert report.write(comparison, path.parent).read_bytes() == first


def test_a_page_can_be_written_of_runs_that_all_crashed(comparison, tmp_path):
    crashed = [run for run in comparison.runs if run.outcome == "crashed"]
    assert crashed
    page = report.write(dataclasses.replace(comparison, runs=tuple(crashed)), tmp_path).read_text()
    assert crashed[0].reason in page


def broken(comparison):
    """The comparison with figures that no heap can have, in a finished run."""
    run = comparison.runs[0]
    assert run.fragmentation
    assert run.heap_map
    wild = dataclasses.replace(
        run,
        fragmentation=dataclasses.replace(run.fragmentation, internal=-456999.557, external=457000.5),
        heap_map=dataclasses.replace(run.heap_map, payload=(), overhead=(1, 2)),
    )
    return dataclasses.replace(comparison, runs=(wild, *comparison.runs[1:]))


def test_a_figure_that_cannot_be_drawn_costs_no_other(comparison, tmp_path):
    path = report.write(broken(comparison), tmp_path)
    page = Page()
    page.feed(path.read_text())
    assert page.open == []
    left_out = page.text.count("is left out, for it cannot be drawn: ")
    assert left_out >= 1
    assert len(page.images) == 1 + 4 * len(comparison.headers) - left_out
    for run in comparison.runs:
        assert run.reason in page.text


def test_figures_without_operations_without_mems_and_of_python_beside_c_are_legible(comparison):
    free, python, hung, whole = comparison.runs[:4]
    runs = [
        dataclasses.replace(free, mems=Mems(0, 0.0, *[0] * 5)),
        dataclasses.replace(python, language="python"),
        Run.lost(
            trace=hung.trace,
            events=hung.events,
            allocator=hung.allocator,
            language="c",
            seed=1,
            outcome="hung",
            reason="",
        ),
        whole,
    ]
    for draw in BY_TRACE:
        demand_legible(draw(runs))
    drawn = figures.cost(runs)
    assert len(drawn.axes[1].collections[0].get_offsets()) == 2
    strange = dataclasses.replace(comparison, runs=(*runs, *comparison.runs[4:]))
    demand_legible(figures.summary(strange))


@pytest.mark.parametrize("draw", BY_TRACE)
def test_figures_with_real_allocators_are_legible(with_real, draw):
    for name in with_real.headers:
        demand_legible(draw(with_real.of_trace(name)))


def test_a_page_of_real_allocators_alone_has_no_figure_of_a_walk(with_real, tmp_path):
    real = dataclasses.replace(
        with_real, runs=tuple(run for run in with_real.runs if run.language == "native")
    )
    page = report.write(real, tmp_path / "report")
    text = page.read_text()
    assert "cannot be drawn" not in text
    assert with_real.left_out[0].partition(":")[0] in text
    assert not list(page.parent.glob("*heap-map.png"))
    assert list(page.parent.glob("*timeline.png"))
