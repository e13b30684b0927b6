"""The stepping program, driven by Textual's pilot: what each key does, and what is seen then."""

import asyncio
import html
import re
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

pytest.importorskip("textual", reason="Textual is not installed")

from textual import events
from textual.pilot import Pilot
from textual.widgets import Input, Static

from heaplab.lab.moments import Moments
from heaplab.terminal.keys import KEYS, footer
from heaplab.terminal.listing import Listing
from heaplab.terminal.screens import Choice, Help
from heaplab.terminal.stepper import HIGH, PANELS, WIDE, Stepper
from heaplab.traces import Event, Op, Trace
from heaplab.views.step import Steps

#: blocks that come and go; a child; a mapping; the break moves
EVENTS = [
    *(Event(Op.MALLOC, slot, 64 * slot + 8) for slot in range(12)),
    *(Event(Op.FREE, slot) for slot in range(0, 12, 3)),
    Event(Op.REALLOC, 1, 5000),  # 16
    Event(Op.MALLOC, 0, 300_000),
    Event(Op.FORK, 1),  # 18
    Event(Op.FREE, 1, process=1),
    Event(Op.EXIT, process=1),
    Event(Op.FREE, 1),
    Event(Op.FREE, 0),
]


@pytest.fixture(scope="module")
def steps():
    with Moments(Trace.of(EVENTS, "small"), "rbtree") as moments:
        yield Steps(moments)


Script = Callable[[Stepper, Pilot[None]], Awaitable[None]]


def drive(steps: Steps, script: Script, event: int = 0, size: tuple[int, int] = (80, 24)) -> None:
    """Run the program without a terminal, and a script that presses keys."""

    async def run() -> None:
        app = Stepper(steps, event)
        async with app.run_test(size=size) as pilot:
            await pilot.pause()
            await script(app, pilot)

    with ThreadPoolExecutor(1) as apart:  # this thread may have a loop of its own: a browser's
        apart.submit(asyncio.run, run()).result()


def screen(app: Stepper) -> str:
    """What is seen, as text."""
    picture = app.export_screenshot(simplify=True).partition("</style>")[2]
    return html.unescape(re.sub(r"<[^>]+>", "", picture)).replace("\xa0", " ")


def lines(app: Stepper, panel: str) -> list[str]:
    """The lines of a panel."""
    return [line.text for line in app.query_one(f"#{panel}", Listing).lines]


def message(app: Stepper) -> str:
    """The sentence above the footer."""
    return str(app.query_one("#message", Static).content)


async def press(pilot: Pilot[None], *keys: str) -> None:
    """Press keys, and wait until all is drawn."""
    await pilot.press(*keys)
    await pilot.pause()


def test_keys_move_between_events(steps: Steps) -> None:
    log = steps.moments.log()
    faults = [event for event in range(len(EVENTS)) if log.faults[event]]
    calls = sorted({call.event for call in log.calls if call.event >= 0})
    peaks = {name: steps.finder.peak(name) for name in ("live", "heap", "resident")}

    async def script(app: Stepper, pilot: Pilot[None]) -> None:
        async def lead(keys: str, event: int) -> None:
            await press(pilot, *keys.split())
            assert app.step.event == event, keys

        await lead("right", 1)
        await lead("space", 2)
        await lead("left", 1)
        await lead("left left", 0)
        assert message(app) == "this is the first event"
        await lead("1 2 right", 12)
        await lead("1 0 left", 2)
        await lead("5 escape right", 3)
        await lead("9 9 right", len(EVENTS) - 1)
        await lead("right", len(EVENTS) - 1)
        assert message(app) == "this is the last event"
        await lead("7 g", 7)
        await lead("g f i r s t enter", 0)
        await lead("f", faults[0] or faults[1])
        await lead("f", faults[1] if faults[0] else faults[2])
        await lead("F", faults[0] or faults[1])
        await lead("0 g s", calls[0])
        await lead("s", calls[1])
        await lead("S", calls[0])
        await lead("e", 18)
        await lead("e", 20)
        await lead("E", 18)
        await lead("e e", 20)
        assert message(app) == "no event after this one is a fork, an exec, an exit or the end of a thread"
        await lead("1 b", 19)
        await lead("B", 16)
        await lead("B", 1)
        await lead("b b b", 21)
        assert message(app) == "this is the block's last event"
        await lead("h home down enter", 16)
        await lead("5 h enter", 5)
        await lead("9 9 h", 5)
        assert message(app).startswith("no event is about a block 99")
        await lead("p enter", peaks["live"])
        await lead("p down enter", peaks["heap"])
        await lead("p end enter", peaks["resident"])
        await lead("p escape x", peaks["resident"])
        assert message(app).startswith("the run has no failure")
        await lead("0 g slash f r e e enter", 12)
        await lead("n", 13)
        await lead("n n N", 14)
        await lead("g escape right", 15)
        await lead("7 7 7 g", 15)
        assert message(app) == "there is no event 777: events go from 0 to 22"
        await lead("slash w h a t enter", 15)
        assert message(app).startswith("'what' is no word of a search")
        assert message(app).split()[-1] in screen(app)  # folded, not cut

    drive(steps, script)


@pytest.mark.parametrize(
    ("typed", "event"),
    [
        ("/free\r", 12),
        ("/free\rnn", 14),
        ("g1\x7f7\rf\x1b[C", 12),
        ("/\x1b\x1b[C", 1),
        ("12g/end\r", 18),
        ("p\r", 18),
    ],
)
def test_keys_typed_without_a_pause_go_to_the_prompt(steps: Steps, typed: str, event: int) -> None:
    names = {"\r": "enter", "\x7f": "backspace", "\x1b": "escape", "\x1b[C": "right", "/": "slash"}

    async def script(app: Stepper, pilot: Pilot[None]) -> None:
        tree = app._tree
        for key in re.findall(r"\x1b\[C|.", typed, re.DOTALL):
            app.post_message(events.Key(names.get(key, key), key if key.isprintable() else None))
        await pilot.pause()
        while app._typed:
            await pilot.pause()
        assert app.step.event == event
        assert app._tree is tree

    drive(steps, script)


def test_text_that_is_typed_and_pasted_behind_a_key_is_in_the_prompt(steps: Steps) -> None:
    async def script(app: Stepper, pilot: Pilot[None]) -> None:
        for event in (events.Key("slash", "/"), events.Paste("fault"), events.Key("t", "t")):
            app.post_message(event)
        await pilot.pause()
        while app._typed:
            await pilot.pause()
        assert app.query_one("#prompt", Input).value == "faultt"
        assert (app.step.event, app.focused) == (0, app.query_one("#prompt"))

    drive(steps, script)


def test_the_first_screen_shows_the_request_at_80_by_24(steps: Steps) -> None:
    async def script(app: Stepper, pilot: Pilot[None]) -> None:
        step = steps.at(3)
        seen = screen(app)
        for text in (
            step.title,
            step.request,
            step.result,
            *map(str, step.counters),
            "[references]",
            f"{len(step.references)} references",
            *(ref.what for ref in step.references[:4]),
            footer(80),
        ):
            assert text in seen
        for panel, text in [
            ("changes", "allocated, split"),
            ("memory", "header: size 0xd0, allocated, previous"),
            ("free", "in a red-black tree"),
            ("heap", "# resident"),
        ]:
            await press(pilot, "tab")
            assert f"[{panel}]" in screen(app)
            assert text in screen(app)
        await press(pilot, "tab", "shift+tab", "shift+tab")
        assert "[free]" in screen(app)

    drive(steps, script, event=3)


@pytest.mark.parametrize("size", [(80, 24), (WIDE, HIGH)])
def test_nothing_is_cut(steps: Steps, size: tuple[int, int]) -> None:
    async def script(app: Stepper, pilot: Pilot[None]) -> None:
        for event in range(len(EVENTS)):
            app.move(event)
            for panel in PANELS:
                app._show_panel(panel)
                width = app.query_one(f"#{panel}").size.width or size[0]
                assert max(map(len, lines(app, panel))) <= width, (event, panel)
            assert app.query_one("#top").size.height <= 6

    drive(steps, script, size=size)


def test_a_large_terminal_shows_all_panels_at_once(steps: Steps) -> None:
    async def script(app: Stepper, pilot: Pilot[None]) -> None:
        seen = screen(app)
        for text in ("references", "what changed", "block 3: ", "in a red-black tree", "# resident"):
            assert text in seen
        for panel in PANELS:
            listing = app.query_one(f"#{panel}", Listing)
            assert listing.size.height >= 5
            assert listing.size.width >= 70
        await pilot.resize_terminal(80, 24)
        await pilot.pause()
        assert "[references]" in screen(app)

    drive(steps, script, event=3, size=(WIDE, HIGH))


def test_links_lead_to_blocks_and_back(steps: Steps) -> None:
    async def script(app: Stepper, pilot: Pilot[None]) -> None:
        stores = [number for number, line in enumerate(lines(app, "references")) if "store" in line]
        await press(pilot, *["down"] * stores[0], "enter")  # to the root's link to the tree
        memory = app.query_one("#memory", Listing)
        assert app.focused is memory
        assert str(memory.border_title).startswith("free block +")
        assert "header: size 0x" in memory.lines[0].text
        parent = next(number for number, line in enumerate(memory.lines) if "parent: " in line.text)
        await press(pilot, *["down"] * parent, "enter")  # of the tree's root: the heap's root has the link
        assert str(memory.border_title).startswith("metadata +0x0")
        assert "tree: +0x" in memory.line.text
        await press(pilot, "backspace")
        assert str(memory.border_title).startswith("free block +")
        await press(pilot, "backspace")
        references = app.query_one("#references", Listing)
        assert app.focused is references
        assert references.cursor == stores[0]
        await press(pilot, "backspace")
        assert message(app) == "no link was followed"
        await press(pilot, "enter", "right", "tab", "tab")
        assert str(memory.border_title).startswith("block ")  # the next event shows its own block

    drive(steps, script, event=2)


def test_free_blocks_are_a_tree_or_a_list(steps: Steps) -> None:
    async def script(app: Stepper, pilot: Pilot[None]) -> None:
        await press(pilot, "t")
        assert [line for line in lines(app, "free") if line.startswith(("├─", "└─"))] == []
        await press(pilot, "t")
        assert [line for line in lines(app, "free") if line.startswith(("├─", "└─"))]
        starts = [line.to for line in app.query_one("#free", Listing).lines]
        assert sorted(starts) == sorted(entry.start for entry in app.step.heap.free)

    drive(steps, script, event=15)


def test_the_heap_of_another_process_can_be_chosen(steps: Steps) -> None:
    async def script(app: Stepper, pilot: Pilot[None]) -> None:
        assert "process 0 of 2" in screen(app)
        await press(pilot, "P")
        assert isinstance(app.screen, Choice)
        await press(pilot, "end", "enter")
        assert app.step.process == 1
        assert "process 1 of 2" in screen(app)
        await press(pilot, "right")
        assert app.step.process == 1
        await press(pilot, "right", "right")  # it is no more: the heap is that of the event's process
        assert (app.step.event, app.step.process) == (21, 0)

    drive(steps, script, event=18)


def test_the_map_marks_pages_that_came_and_that_were_copied(steps: Steps) -> None:
    def pages(app: Stepper) -> str:
        app._show_panel("heap")
        end = lines(app, "heap").index(
            next(line for line in lines(app, "heap") if line.startswith("# resident"))
        )
        return "".join(
            line.split()[1] for line in lines(app, "heap")[:end] if line.startswith(("+", "mmap1+"))
        )

    async def script(app: Stepper, pilot: Pilot[None]) -> None:
        assert pages(app).count("N") == sum(change.count for change in app.step.pages) > 0
        app.move(18)
        assert set(pages(app)) == {"s", "."}
        app.move(19)
        assert pages(app).count("C") == app.step.faults > 0

    drive(steps, script, event=17)


def test_help_and_footer_are_the_table_of_keys(steps: Steps) -> None:
    async def script(app: Stepper, pilot: Pilot[None]) -> None:
        await press(pilot, "question_mark")
        assert isinstance(app.screen, Help)
        told = "\n".join(line.text for line in app.screen.query_one(Listing).lines)
        for key in KEYS:
            assert key.help in told
        assert "size 100, size 100-4k" in told
        assert max(map(len, told.splitlines())) <= 78
        await press(pilot, "escape")
        assert not isinstance(app.screen, Help)

    drive(steps, script)
    actions = {key.action.partition("(")[0] for key in KEYS}
    assert all(hasattr(Stepper, f"action_{action}") for action in actions)
    assert len(footer(80)) <= 80


def test_a_click_chooses_a_line_and_a_second_one_follows_it(steps: Steps) -> None:
    async def script(app: Stepper, pilot: Pilot[None]) -> None:
        references = app.query_one("#references", Listing)
        await pilot.click(references, offset=(5, 3))
        await pilot.pause()
        assert references.cursor == 2
        await pilot.click(references, offset=(5, 3))
        await pilot.pause()
        assert app.focused is app.query_one("#memory", Listing)

    drive(steps, script, event=5)


def test_a_failure_is_shown_and_reached(steps: Steps) -> None:
    events = [Event(Op.MALLOC, 0, 1000), Event(Op.MALLOC, 1, 900_000), Event(Op.FREE, 0)]

    async def script(app: Stepper, pilot: Pilot[None]) -> None:
        await press(pilot, "x")
        assert app.step.event == 1
        assert "event 1 (malloc 1 900000): " in screen(app)
        await press(pilot, "right")
        assert app.step.event == 1
        assert message(app).startswith("event 1 (malloc 1 900000): ")

    with Moments(Trace.of(events), "freelist", ram="256 KiB") as moments:
        drive(Steps(moments), script)
