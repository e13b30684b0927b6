"""The report in a browser: it sorts, its cursor tells what the records say, its maps what lies under them."""

import dataclasses
import re
from typing import Any

import pytest

from heaplab import lab
from heaplab.lab import Comparison, Run
from heaplab.lab.columns import percent
from heaplab.lab.moments import Moments
from heaplab.report.onepage import page_text
from heaplab.traces import Trace, synthetic
from heaplab.units import format_size
from heaplab.views.moment import moment_container

LOST = "freelist:fit=worst"


def timed_trace() -> Trace:
    events = synthetic(1500, seed=3, slots=150).events()
    return Trace.of([event._replace(time=1000 * at) for at, event in enumerate(events)], "timed")


@pytest.fixture(scope="module")
def comparison() -> Comparison:
    """Two traces, one with times, on four designs, one of which crashed on the first."""
    untimed = [event._replace(time=0) for event in synthetic(900, seed=4, slots=80).events()]
    traces = [timed_trace(), Trace.of(untimed, "untimed")]
    whole = lab.compare(traces, ["buddy", "rbtree", "freelist", LOST], walks=6, jobs=1)
    lost = Run.lost(
        trace="timed", events=1500, allocator=LOST, language="c", seed=1, outcome="crashed", reason="SIGSEGV"
    )
    runs = tuple(lost if (run.trace, run.allocator) == ("timed", LOST) else run for run in whole.runs)
    return dataclasses.replace(whole, runs=runs, again={"timed": "timed.hlt"})


@pytest.fixture(scope="module")
def html(comparison: Comparison) -> str:
    return page_text(comparison)


def run_of(comparison: Comparison, allocator: str) -> Run:
    return next(run for run in comparison.runs if (run.trace, run.allocator) == ("timed", allocator))


def curves(page: Any) -> Any:
    room = page.locator(".curves").first
    room.scroll_into_view_if_needed()
    room.locator("tbody tr").first.wait_for()
    return room


def first_cells(table: Any) -> list[str]:
    return [text.split()[0] for text in table.locator("tbody th").all_inner_texts()]


@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (400, "light"), (1280, "dark")])
def test_the_page_fits_and_does_not_complain(open_page: Any, html: str, width: int, scheme: str) -> None:
    page = open_page(html, width=width, height=800, scheme=scheme)
    for room in page.locator(".curves").all():
        room.scroll_into_view_if_needed()
        room.locator("path.line").first.wait_for(state="attached")
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (sum(map(int, re.findall(r"\d+", ground))) < 3 * 64) == (scheme == "dark")


def test_before_it_is_seen_a_figure_has_its_height_and_printing_draws_all(open_page: Any, html: str) -> None:
    page = open_page(html, width=1280, height=300)
    last = page.locator(".curves").last
    empty = last.bounding_box()["height"]
    assert not last.locator("path.line").count()
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert last.locator("path.line").count()
    assert abs(last.bounding_box()["height"] - empty) < 60


def test_the_key_above_the_curves_names_lines_and_the_area(open_page: Any, html: str) -> None:
    room = curves(open_page(html))
    named = room.locator(".key li:visible").all_inner_texts()
    assert named == [
        "buddy",
        "rbtree",
        "freelist",
        *(["live payload"] if room.locator("path.live").count() else []),
    ]
    room.locator("select").select_option("nothing")
    assert room.locator("path.live").count() == 2
    assert "live payload" in room.locator(".key li:visible").all_inner_texts()
    room.locator("select").select_option("least")
    assert "live payload" not in room.locator(".key li:visible").all_inner_texts()


def test_a_table_wider_than_the_page_keeps_its_first_column(open_page: Any, html: str) -> None:
    page = open_page(html, width=400, height=800)
    table = page.locator(".trace > .wide").first
    first = table.locator("tbody th").first
    table.scroll_into_view_if_needed()
    before = first.bounding_box()["x"]
    table.evaluate("it => it.scrollLeft = 200")
    assert table.evaluate("it => it.scrollLeft") == 200
    assert first.bounding_box()["x"] == before
    box = table.locator("thead th").first.bounding_box()
    for x in range(
        int(box["x"]) + 2, int(box["x"] + box["width"]) - 2, 4
    ):  # no other title lies on the first
        at = f"document.elementFromPoint({x}, {box['y'] + box['height'] - 8})"
        assert page.evaluate(f"{at}.closest('th').cellIndex") == 0


def test_a_click_and_a_key_sort_by_numbers_and_dashes_stay_last(
    open_page: Any, html: str, comparison: Comparison
) -> None:
    page = open_page(html)
    table = page.locator(".trace > .wide table").first
    title = table.locator("thead th").nth(3)
    assert title.inner_text().split() == ["peak", "heap"]
    order = first_cells(table)
    known = {run.allocator: run.peak_heap for run in comparison.of_trace("timed") if run.measured}
    upwards = sorted(known, key=lambda name: (known[name], order.index(name)))
    title.locator("button").click()
    assert title.get_attribute("aria-sort") == "ascending"
    assert first_cells(table) == [*upwards, LOST]
    page.keyboard.press("Enter")
    assert title.get_attribute("aria-sort") == "descending"
    assert [known[name] for name in first_cells(table)[:-1]] == sorted(known.values(), reverse=True)
    assert first_cells(table)[-1] == LOST
    page.keyboard.press("Enter")
    assert (title.get_attribute("aria-sort"), first_cells(table)) == ("none", order)


def test_the_cursor_tells_what_the_records_say_over_events_and_over_time(
    open_page: Any, html: str, comparison: Comparison
) -> None:
    page = open_page(html)
    room = curves(page)
    slider = room.locator("input[type=range]")

    def demand(at: int) -> None:
        rows = {row[0].strip(): row[1:] for row in (
            text.split("\t") for text in room.locator("tbody tr").all_inner_texts()
        )}  # fmt: skip
        assert LOST not in rows
        for allocator, cells in rows.items():
            run = run_of(comparison, allocator)
            line = run.timeline
            walk = max(
                (walk for walk in (*run.walks, run.fragmentation) if walk and walk.event <= line.event[at]),
                key=lambda walk: walk.event,
                default=None,
            )
            shares = [percent(walk.external), percent(walk.internal)] if walk else ["-", "-"]
            assert cells == [format_size(line.heap[at]), format_size(line.resident[at]), *shares]
        said = room.locator(".at").inner_text()
        line = run_of(comparison, "buddy").timeline
        assert said.startswith(f"After {line.event[at]:,} of 1,500 events")
        assert f"{format_size(line.live[at])} live." in said
        assert slider.get_attribute("aria-valuetext") == said

    line = run_of(comparison, "buddy").timeline
    peak = line.live.index(max(line.live))
    demand(peak)
    slider.focus()
    page.keyboard.press("ArrowLeft")
    demand(peak - 1)
    page.keyboard.press("Home")
    demand(0)
    places = []
    for axis in ("events", "time"):
        room.locator(f"input[value={axis}]").check()
        room.locator(".controls").scroll_into_view_if_needed()
        box = room.locator("svg[role=img]").first.bounding_box()
        page.mouse.move(box["x"] + 62 + (box["width"] - 74) / 2, box["y"] + 60)
        at = int(slider.input_value())
        demand(at)
        places.append(line.event[at])
    assert places[0] == pytest.approx(750, abs=2)
    assert places[1] == pytest.approx(750, abs=2)  # events are evenly spaced in this trace


def test_a_trace_without_times_has_no_axis_of_time(open_page: Any, html: str) -> None:
    page = open_page(html)
    room = page.locator(".curves").nth(1)
    room.scroll_into_view_if_needed()
    assert room.locator("input[value=time]").is_disabled()


def test_curves_that_look_alike_show_how_much_they_differ(open_page: Any, comparison: Comparison) -> None:
    run = run_of(comparison, "buddy")
    close = dataclasses.replace(
        run,
        allocator="close",
        timeline=dataclasses.replace(run.timeline, heap=tuple(heap + 64 for heap in run.timeline.heap)),
    )
    page = open_page(page_text(dataclasses.replace(comparison, runs=(run, close))))
    room = curves(page)
    titles = room.locator("text.title").all_text_contents()
    assert titles[0] == "heap above the least, B"
    assert "look alike" in page.locator(".trace .note", has_text="curves of heap").inner_text()
    assert {"0", "60"} <= set(room.locator("svg text").all_text_contents())
    room.locator("select").select_option("nothing")
    assert room.locator("text.title").first.text_content().startswith("heap, ")


def test_one_allocator_can_be_told_from_the_others(open_page: Any, html: str) -> None:
    room = curves(open_page(html))
    button = room.locator("button.swatch", has_text="rbtree")
    button.click()
    assert button.get_attribute("aria-pressed") == "true"
    lines = room.locator("path.line")
    assert lines.count() == 12
    assert room.locator("path.line.faded").count() == 8


def test_a_map_tells_what_lies_under_the_pointer_and_opens_with_its_command(
    open_page: Any, html: str, comparison: Comparison
) -> None:
    page = open_page(html)
    run = run_of(comparison, "rbtree")
    button = page.locator(".maps").first.locator("button.map").nth(1)
    button.scroll_into_view_if_needed()
    box = button.locator("img").bounding_box()
    page.mouse.move(box["x"] + 1, box["y"] + 1)
    said = page.locator(".under").first.inner_text()
    (start, _), *_ = run.heap_map.regions
    where = f"after {run.heap_map.event:,} events: {start:#x}, 0 B into the heap: "
    assert said.startswith(f"timed, rbtree, {where}")
    shares = [int(share) for share in re.findall(r"(\d+) %", said)]
    cell = run.heap_map.cell
    payload, overhead = run.heap_map.payload[0] / cell, run.heap_map.overhead[0] / cell
    assert shares == pytest.approx([100 * payload, 100 * overhead, 100 * (1 - payload - overhead)], abs=1)
    button.focus()
    page.keyboard.press("Enter")
    event = run.heap_map.event - 1
    command = page.locator("dialog code").inner_text()
    assert command == f"heaplab view timed.hlt --allocators rbtree --at {event} -o view.html"
    page.keyboard.press("Escape")
    page.locator("dialog").wait_for(state="detached")


def test_a_map_whose_moment_is_in_the_page_opens_the_heap_then_and_another_beside_it(
    open_page: Any, comparison: Comparison
) -> None:
    moments = {}
    for allocator in ("buddy", "rbtree"):
        with Moments(timed_trace(), allocator) as each:
            moments["timed", allocator] = moment_container(each, run_of(comparison, allocator).heap_map.event)
    page = open_page(page_text(comparison, moments))
    page.locator("button.map").first.click()
    dialog = page.locator("dialog")
    dialog.locator(".heaplab-strip canvas").first.wait_for()
    assert dialog.locator(".heaplab-strip").count() == 1
    live = run_of(comparison, "buddy").fragmentation.live
    dialog.get_by_text(f"{format_size(live)} asked for").first.wait_for()
    assert "not all blocks" not in dialog.inner_text()
    dialog.locator("select").first.select_option(label="rbtree")
    dialog.locator(".heaplab-strip").nth(1).wait_for()
    assert dialog.locator(".heaplab-strip").count() == 2
    page.keyboard.press("Escape")
    dialog.wait_for(state="detached")


def test_the_figure_shown_trace_by_trace_can_be_chosen(
    open_page: Any, html: str, comparison: Comparison
) -> None:
    page = open_page(html)
    page.locator("#matrix-of").select_option(label="utilisation")
    rows = page.locator("#matrix tbody tr").all_inner_texts()
    cells = {row.split("\t")[0]: row.split("\t")[1:] for row in rows}
    assert cells["buddy"][0] == percent(run_of(comparison, "buddy").utilisation)
    assert cells[LOST][0] == "-"


def test_a_name_is_no_script(open_page: Any, comparison: Comparison) -> None:
    name = "<script>document.title = 'taken'</script>"
    [header] = [header for key, header in comparison.headers.items() if key == "timed"]
    runs = tuple(dataclasses.replace(run, trace=name) for run in comparison.of_trace("timed"))
    page = open_page(page_text(dataclasses.replace(comparison, runs=runs, headers={name: header})))
    assert page.title() == "heaplab: allocators compared"
    assert name in page.locator(".trace h2").inner_text()


def test_without_javascript_tables_bars_and_maps_are_there(chromium: Any, html: str, tmp_path: Any) -> None:
    path = tmp_path / "r.html"
    path.write_text(html)
    context = chromium.new_context(java_script_enabled=False, offline=True)
    page = context.new_page()
    page.goto(path.as_uri())
    assert page.locator("#verdict p").first.is_visible()
    assert "drawn by JavaScript" in page.locator(".curves noscript").first.inner_text()
    assert page.locator(".maps img").count() == 7
    context.close()
