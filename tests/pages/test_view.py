"""A page as Chromium shows it: what is drawn and said is what the container holds."""

import base64
from contextlib import ExitStack
from threading import Thread
from typing import Any

import numpy as np
import pytest

from heaplab.lab.moments import Moments
from heaplab.pages.answers import Answers
from heaplab.pages.page import heap_page, module, page, style
from heaplab.pages.serving import Server
from heaplab.traces import Event, Op, Trace
from heaplab.views.contents import run_container
from heaplab.views.packing import pack, unpack
from heaplab.views.run import view_of
from tests.pages.conftest import OpenPage, drawn

Told = tuple[dict[str, Any], dict[str, Any]]
VIEW = "document.querySelector('.heaplab').heaplab"


def alive(told: Told, moment: int, process: int = 0) -> set[int]:
    """The rows in the heap of a process at a moment, by the container."""
    columns = told[1]
    born, died = columns["block.born"].astype(int), columns["block.died"].astype(int)
    there = (born < moment) & (moment <= died) & (columns["block.process"] == process)
    return set(np.flatnonzero(there).tolist())


def point(shown: Any, run: int, row: int, part: float = 0.5) -> tuple[float, float]:
    """Where a block is on the screen: that part of the way from its malloc to its free, in mid-height."""
    found = shown.evaluate(
        f"""([run, row, part]) => {{
            const map = {VIEW}.maps[run];
            const {{ left, right, top, bottom }} = map.box(row);
            const box = map.above.canvas.getBoundingClientRect();
            return [box.left + left + (right - left) * part, box.top + (top + bottom) / 2];
        }}""",
        [run, row, part],
    )
    return found[0], found[1]


def by_module(shown: Any, body: str, given: Any) -> Any:
    """Return what the body of a function makes of `given` and of `module`, the JavaScript module."""
    return shown.evaluate(
        f"""async ([text, given]) => {{
            const url = URL.createObjectURL(new Blob([text], {{ type: "text/javascript" }}));
            const module = await import(url);
            {body}
        }}""",
        [module(), given],
    )


def test_every_kind_of_column_is_read(view: Any) -> None:
    chance = np.random.default_rng(1)
    columns = {
        f"{top}.{kind}": column
        for top in (1 << 7, 1 << 15, 1 << 30, 1 << 52)
        for kind, column in {
            "any": chance.integers(0, top, 500),
            "rising": np.sort(chance.integers(0, top, 500)),
            "runs": np.repeat(chance.integers(0, top, 50), 10),
            "empty": np.empty(0, int),
        }.items()
    }
    columns["real"] = chance.random(9)
    packed = pack({"kind": "all", "name": "ä"}, columns)
    manifest, read = by_module(
        view,
        """const { manifest, columns } = await module.decode(module.fromBase64(given));
        return [manifest, Object.fromEntries(Object.entries(columns).map(([k, v]) => [k, [...v]]))];""",
        base64.b64encode(packed).decode(),
    )
    assert manifest == {"kind": "all", "name": "ä"}
    assert read == {name: column.tolist() for name, column in columns.items()}


def test_the_page_reads_what_python_packed(view: Any, told: Told) -> None:
    manifest, columns = told
    assert view.evaluate(f"{VIEW}.data.manifest") == manifest
    read = view.evaluate(
        f"Object.fromEntries(Object.entries({VIEW}.data.columns).map(([k, v]) => [k, [...v]]))"
    )
    assert read.keys() == columns.keys()
    for name, column in columns.items():
        assert read[name] == column.tolist(), name


def test_the_scrubber_moves_the_heap(view: Any, told: Told) -> None:
    manifest, columns = told
    events = manifest["trace"]["events"]
    scrubber = view.get_by_role("slider")
    assert (scrubber.get_attribute("min"), scrubber.get_attribute("max")) == ("0", str(events))
    scrubber.focus()
    view.keyboard.press("Home")
    for moment in range(0, 12):
        drawn(view)
        rows = view.evaluate(f"{VIEW}.strips.map((strip) => [...strip.rows()])")
        assert [set(each) for each in rows] == [alive(told, moment)] * 2
        said = scrubber.get_attribute("aria-valuetext")
        assert said.startswith(f"moment {moment} of {events}, ")
        if moment:
            slot, size = columns["block.slot"][moment - 1], columns["block.size"][moment - 1]
            assert said.endswith(f"after event {moment - 1}: malloc of block {slot}, {size} B")
        view.keyboard.press("ArrowRight")
    child = int(np.flatnonzero(columns["block.process"] == 1)[0])
    forked = int(columns["block.born"][child]) + 1  # the heap of the parent alone is shown
    view.get_by_label("events done", exact=True).fill(str(forked))
    view.keyboard.press("Enter")
    drawn(view)
    live = [view.locator(".heaplab-strip .heaplab-note").nth(run).inner_text() for run in range(2)]
    count = len(alive(told, forked))
    assert alive(told, forked, process=1)
    assert all(text.startswith(f"{count} blocks live, ") for text in live)


def test_the_table_has_the_figures_of_the_moment(view: Any, told: Told) -> None:
    columns = told[1]
    view.evaluate(f"{VIEW}.choose({{ moment: 30 }})")
    drawn(view)
    cells = [row.split("\t") for row in view.locator(".heaplab-side table").inner_text().splitlines()]
    rows = {name: values for name, *values in cells}
    assert rows["references"] == [f"{columns[f'r{run}.mems'][29]:,}" for run in range(2)]
    assert rows["heap"] == [f"{columns[f'r{run}.heap'][29] >> 10} KiB" for run in range(2)]
    assert rows["resident"] == [f"{columns[f'r{run}.resident'][29] >> 10} KiB" for run in range(2)]


@pytest.mark.parametrize("run", [0, 1])
def test_hovering_shows_the_block_under_the_pointer(view: Any, told: Told, run: int) -> None:
    columns = told[1]
    for row in sorted(alive(told, 30))[::5]:
        view.evaluate(f"{VIEW}.zoomTo({row}, {VIEW}.data.runs[{run}])")
        drawn(view)
        for part in (0.04, 0.5, 0.96):
            view.mouse.move(*point(view, run, row, part))
            said = view.locator(".heaplab-tip").inner_text()
            address = int(columns[f"r{run}.address"][row])
            assert said.startswith(f"block {columns['block.slot'][row]}: ")
            assert f" at {address:#x}; allocated by event {columns['block.born'][row]}, " in said


def test_two_designs_stay_on_one_clock(view: Any, told: Told) -> None:
    row = sorted(alive(told, 30))[3]
    x, y = point(view, 0, row, 0.53)
    view.mouse.click(x, y)
    drawn(view)
    moment = view.evaluate(f"{VIEW}.moment")
    assert row in alive(told, moment)
    left = view.locator(".heaplab-marks").first.bounding_box()["x"]
    step = view.locator(".heaplab-marks").first.bounding_box()["width"] / told[0]["trace"]["events"]
    assert (moment - 1) * step - 1 <= x - left <= moment * step + 1  # that of the event clicked on
    # the clock's line, by its colour, in both maps and in the curves
    lines = view.evaluate(
        """() => [...document.querySelectorAll('.heaplab-marks, .heaplab-curves')].map((canvas) => {
            const { data, width } = canvas.getContext('2d').getImageData(0, 8, canvas.width, 1);
            const found = [];
            for (let x = 0; x < width; x++) {
                if (data[4 * x] > 150 && data[4 * x + 1] < 60 && data[4 * x + 3] > 200) found.push(x);
            }
            return found;
        })"""
    )
    assert lines[0]
    assert lines[0] == lines[1]
    assert set(lines[2]) & set(lines[0])
    # the block is described under both designs, and lies in both
    details = view.locator(".heaplab-details").inner_text()
    columns = told[1]
    for run in range(2):
        assert f"{int(columns[f'r{run}.address'][row]):#x}" in details
        assert told[0]["texts"][columns[f"r{run}.word"][row]] in details


def test_a_block_of_a_realloc_tells_of_the_ones_before(view: Any, told: Told) -> None:
    columns = told[1]
    row = max(np.flatnonzero((columns["block.size"] == 5000) & (columns["block.process"] == 0)).tolist())
    view.evaluate(f"{VIEW}.choose({{ row: {row} }})")
    drawn(view)
    said = view.locator(".heaplab-details").inner_text()
    assert "reallocs" in said
    assert "900 B (event 32)" in said


def test_the_free_structure_is_that_of_the_moment(view: Any, told: Told) -> None:
    columns = told[1]
    moment = 35
    view.evaluate(f"{VIEW}.choose({{ moment: {moment} }})")
    drawn(view)
    for run in range(2):
        first, last = columns[f"r{run}.free.first"][moment : moment + 2]
        starts = set(columns[f"r{run}.free.start"][first:last].tolist())
        box = view.locator(".heaplab-structures > div").nth(run)
        drawn_at = box.evaluate(
            "(box) => [...box.querySelectorAll('button[title], title')].map((e) => e.title || e.textContent)"
        )
        assert {int(text.split(",")[0], 16) for text in drawn_at} == starts
        assert f"At this moment: {len(starts)} block" in box.inner_text()


def test_the_pages_are_those_of_the_moment(view: Any, told: Told) -> None:
    manifest, columns = told
    for moment in (1, 20, 35, manifest["trace"]["events"]):
        view.evaluate(f"{VIEW}.choose({{ moment: {moment} }})")
        drawn(view)
        for run in range(2):
            first, last = columns[f"r{run}.page.first"][moment : moment + 2]
            rows = [
                {"address": int(address), "count": int(count), "state": manifest["page_states"][state]}
                for address, count, state, process in zip(
                    *(
                        columns[f"r{run}.page.{name}"][first:last]
                        for name in ("address", "count", "state", "process")
                    ),
                    strict=True,
                )
                if process == 0
            ]
            assert view.evaluate(f"{VIEW}.recorded({VIEW}.data.runs[{run}]).pages") == rows


def test_what_panning_keeps_is_what_painting_anew_would_draw(view: Any) -> None:
    pixels = f"{VIEW}.maps.map((map) => map.raster.pixels.reduce((sum, p) => (sum * 31 + p) % 1e9, 7))"
    view.evaluate(f"{VIEW}.zoom(3)")
    for step in ("pan(0.05, 0)", "pan(-0.1, 0.08)", "pan(0.02, -0.2)"):
        view.evaluate(f"{VIEW}.{step}")
        drawn(view)
    moved = view.evaluate(pixels)
    view.evaluate(
        f"{VIEW}.maps.forEach((map) => {{ const at = {{ ...map.picture }}; map.stale = true; "
        f"{VIEW}.window = at; map.paint(); }})"
    )
    assert view.evaluate(pixels) == moved


def test_keys_move_and_zoom(view: Any) -> None:
    window = f"({VIEW}.window)"
    view.locator(".heaplab-marks").first.focus()
    whole = view.evaluate(window)
    view.keyboard.press("+")
    near = view.evaluate(window)
    assert near["x1"] - near["x0"] < whole["x1"] - whole["x0"]
    assert near["y1"] - near["y0"] < whole["y1"] - whole["y0"]
    view.keyboard.press("ArrowRight")
    assert view.evaluate(window)["x0"] > near["x0"]
    view.keyboard.press("0")
    assert view.evaluate(window) == whole
    before = view.evaluate(f"{VIEW}.moment")
    view.keyboard.press(",")
    assert view.evaluate(f"{VIEW}.moment") == before - 1
    view.locator(".heaplab-strip canvas").first.focus()
    view.keyboard.press("ArrowRight")
    first = view.evaluate(f"{VIEW}.row")
    view.keyboard.press("ArrowRight")
    second = view.evaluate(f"{VIEW}.row")
    low = f"{VIEW}.data.runs[0].low"
    assert view.evaluate(f"{low}[{first}]") < view.evaluate(f"{low}[{second}]")


def test_bytes_are_read_in_units(view: Any) -> None:
    sizes = [0, 1, 1000, 1024, 1536, 10_300, 153_600, 153_700, (1 << 20) - 1, 5 << 20, 11_950_000]
    assert by_module(view, "return given.map(module.bytesText);", sizes) == [
        *("0 B", "1 B", "1000 B", "1 KiB", "1.5 KiB", "10.1 KiB", "150 KiB", "150 KiB"),
        *("1024 KiB", "5 MiB", "11.4 MiB"),
    ]


def test_every_colour_is_named(view: Any) -> None:
    for quality in view.evaluate(
        "[...document.querySelector('.heaplab-tools select').options].map((o) => o.value)"
    ):
        view.get_by_label("colour by").select_option(quality)
        drawn(view)
        items = view.locator(".heaplab-legend li").all_inner_texts()
        assert items
        assert all(items), quality


def test_pages_without_a_frame_and_times_before_any_record_have_colours(view: Any) -> None:
    view.get_by_label("colour by").select_option("page")
    drawn(view)
    items = view.locator(".heaplab-legend li")
    assert len(set(items.locator("span").evaluate_all("(all) => all.map((e) => e.style.background)"))) == 6
    assert [text.split(":")[0] for text in items.all_inner_texts()][-2:] == ["no frame", "not recorded yet"]
    read = f"""(() => {{
        const {{ left, right, low, high, unknown }} = {VIEW}.maps[0].pageTable;
        return [unknown, left.at(-1), right.at(-1), low.at(-1), high.at(-1)];
    }})()"""
    assert view.evaluate(read)[0] is False  # every moment of this trace is recorded
    view.evaluate(f"kept = {VIEW}.data.keyMoments; {VIEW}.data.keyMoments = kept.map((m) => (m < 9 ? 0 : m))")
    view.evaluate(f"{VIEW}.paint('page')")
    drawn(view)
    assert view.evaluate(read) == [True, 0, 8, 0, view.evaluate(f"{VIEW}.data.runs[0].space.size")]
    view.evaluate(f"{VIEW}.data.keyMoments = kept")


def test_the_gaps_of_a_heap_are_where_nothing_is_recorded_of_them(view: Any) -> None:
    for moment in (5, 30, 48):
        view.evaluate(f"{VIEW}.choose({{ moment: {moment} }})")
        drawn(view)
        outside = view.evaluate(
            f"""{VIEW}.strips.flatMap((strip) => {{
                const heap = strip._extents(strip.rows());
                const lies = (low, size) => heap.some(([from, to]) => from <= low && low + size <= to);
                const spans = {VIEW}.recorded(strip.run).spans.filter((span) => span.state === "free");
                const at = spans.map(({{ start, size }}) => [strip.run.space.offset(start), size]);
                return at.filter((span) => !lies(...span));
            }})"""
        )
        assert outside == []


def test_a_red_black_tree_has_its_colours_and_sides(view: Any, told: Told) -> None:
    manifest, columns = told
    for moment in (1, 20, 35):
        first, last = columns["r1.free.first"][moment : moment + 2]
        places = [manifest["texts"][place] for place in columns["r1.free.place"][first:last]]
        view.evaluate(f"{VIEW}.choose({{ moment: {moment} }})")
        drawn(view)
        tree = view.locator(".heaplab-structures > div").nth(1)
        assert tree.locator(".heaplab-node").count() == len(places)
        assert tree.locator(".heaplab-red").count() == sum(place.endswith(" red") for place in places)
        across = tree.locator("line").evaluate_all(
            "(all) => all.map((e) => e.x2.baseVal.value - e.x1.baseVal.value)"
        )
        sides = [place.split()[0][-1] for place in places if not place.startswith("root")]
        assert sorted(each > 0 for each in across) == sorted(side == "R" for side in sides)
        assert 0 not in across


def test_who_asked_for_a_block_is_a_colour_and_is_said(view: Any, told: Told) -> None:
    manifest, columns = told
    for row, slot in enumerate(columns["block.slot"].tolist()):
        site = "" if slot == 3 else ["table", "rows"][slot % 2]
        assert manifest["texts"][columns["block.site"][row]] == site
    colour_by = view.get_by_label("colour by")
    colour_by.select_option("site")
    drawn(view)
    items = view.locator(".heaplab-legend li").all_inner_texts()
    assert sorted(each.split(":")[0] for each in items) == ["not recorded", "rows", "table"]
    colour_by.select_option("stack")
    drawn(view)
    items = view.locator(".heaplab-legend li").all_inner_texts()
    assert "… > a > b > rows > _Znwm" in {each.split(":")[0] for each in items}
    colour_by.select_option("size")
    said = [dict(view.evaluate(f"{VIEW}.data.describe({row}, {VIEW}.data.runs[0], 30)")) for row in range(4)]
    assert [each["call site"] for each in said] == ["table", "rows", "table", "not recorded"]
    assert said[1]["call stack"] == "main > table > a > b > rows > _Znwm"
    assert "call stack" not in said[3]
    tip = view.evaluate(f"{VIEW}.data.summary(1, {VIEW}.data.runs[0])")
    assert tip.endswith(", freed by event 46; asked for in rows")


def test_a_narrow_dark_window_holds_it(open_page: OpenPage, container: bytes) -> None:
    shown = drawn(open_page(page(container, "made-up"), width=400, scheme="dark"))
    assert shown.evaluate("document.documentElement.scrollWidth") <= 400
    assert shown.evaluate(f"{VIEW}.inks.theme") == "dark"
    assert shown.locator(".heaplab-map").count() == 2
    # a page may open at a moment and a block
    shown.goto(f"{shown.url}#at=12&block=3")
    shown.reload()
    drawn(shown)
    assert shown.evaluate(f"[{VIEW}.moment, {VIEW}.data.slot[{VIEW}.row]]") == [13, 3]


def test_heaps_at_one_moment_stand_side_by_side(
    open_page: OpenPage, told: Told, moments: list[bytes]
) -> None:
    shown = drawn(open_page(heap_page(moments, "one moment")))
    columns = told[1]
    for run, rows in enumerate(shown.evaluate(f"{VIEW}.strips.map((strip) => [...strip.rows()])")):
        read = f"{VIEW}.data.runs[{run}]"
        places = {int(columns[f"r{run}.address"][row]): row for row in alive(told, 30)}
        assert {shown.evaluate(f"{read}.address[{row}]") for row in rows} == places.keys()
        address = sorted(places)[5]
        offset = shown.evaluate(f"{read}.space.offset({address})")
        shown.evaluate(f"{VIEW}.look({{ ...{VIEW}.window, y0: {offset - 100}, y1: {offset + 300} }})")
        part = f"(({{ y0, y1 }}) => ({offset} - y0) / (y1 - y0))({VIEW}.window)"
        box = shown.locator(".heaplab-strip canvas").nth(run).bounding_box()
        shown.mouse.move(box["x"] + shown.evaluate(part) * box["width"] + 1, box["y"] + 60)
        slot, size = (int(columns[f"block.{name}"][places[address]]) for name in ("slot", "size"))
        assert f"block {slot}: {size} B at {address:#x}" in shown.locator(".heaplab-tip").inner_text()
    assert shown.get_by_role("slider").count() == 0


def test_a_damaged_container_is_refused_in_words(open_page: OpenPage) -> None:
    html = page(b"nothing", "damaged").replace(
        "{ hash: true });", "{ hash: true }).catch(() => (window.refused = true));"
    )
    shown = open_page(html)
    shown.wait_for_function("window.refused")
    assert "these bytes are no container of heaplab's" in shown.get_by_role("alert").inner_text()


def test_the_widget_shows_the_same_in_a_notebook(open_page: OpenPage, told: Told, container: bytes) -> None:
    """The module as anywidget runs it: a model with the bytes as a DataView, and messages for the rest."""
    html = f"""<!doctype html><style>{style()}</style><div id=cell></div>
        <script type="text/plain" id="module">{module().replace("</", "<!-- /")}</script>
        <script type="module">
        const text = document.getElementById("module").textContent.replaceAll("<!-- /", "</");
        const url = URL.createObjectURL(new Blob([text], {{ type: "text/javascript" }}));
        const {{ default: widget, fromBase64 }} = await import(url);
        const bytes = fromBase64("{base64.b64encode(container).decode()}");
        const listeners = [];
        const traits = {{ container: new DataView(bytes.buffer), options: {{ moment: 7 }}, asks: true }};
        const model = {{
            get: (name) => traits[name],
            on: (name, listener) => listeners.push(listener),
            send: ({{ id }}) => listeners.forEach((each) => each({{ id, error: "nobody knows" }}, [])),
        }};
        await widget.render({{ model, el: document.getElementById("cell") }});
        </script>"""
    shown = drawn(open_page(html))
    assert shown.evaluate(f"{VIEW}.moment") == 7
    assert set(shown.evaluate(f"[...{VIEW}.strips[0].rows()]")) == alive(told, 7)
    said = shown.evaluate(f"{VIEW}.transport.moment({{ run: 0, moment: 1 }}).catch((error) => error.message)")
    assert said == "nobody knows"


def test_a_served_page_asks_for_what_it_lacks(open_page: OpenPage) -> None:
    trace = Trace.of(
        [event for size in range(1500) for event in (Event(Op.MALLOC, 0, size), Event(Op.FREE, 0))], "long"
    )
    with ExitStack() as stack:
        runs = [stack.enter_context(Moments(trace, "rbtree"))]
        seen = view_of(runs)
        short = run_container(seen, room=1)
        assert unpack(short)[0]["exact"][0] > 1000
        server = stack.enter_context(
            Server(page(short, "long", served=True), module(), short, Answers(seen, runs))
        )
        thread = Thread(target=server.serve_forever)
        thread.start()
        stack.callback(thread.join)
        stack.callback(server.shutdown)
        shown = drawn(open_page(url=server.url))
        shown.evaluate(f"{VIEW}.choose({{ moment: 501 }})")
        shown.wait_for_function(
            f"{VIEW}.isWhole({VIEW}.data.runs[0]) && {VIEW}.recorded({VIEW}.data.runs[0]).exact"
        )
        drawn(shown)
        assert (
            shown.get_by_role("slider").get_attribute("aria-valuetext").endswith("malloc of block 0, 250 B")
        )
        assert shown.evaluate(f"[...{VIEW}.strips[0].rows()].map((row) => {VIEW}.data.born[row])") == [500]
        shown.evaluate(f"{VIEW}.choose({{ row: {VIEW}.strips[0].rows()[0] }})")
        shown.wait_for_function(f"{VIEW}.blocks.size")
        drawn(shown)
        assert "header at 0x" in shown.locator(".heaplab-details").inner_text()
