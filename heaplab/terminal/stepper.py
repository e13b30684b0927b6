"""The program that steps through a trace: one event at a time, forwards and backwards."""

from collections.abc import Callable
from contextlib import suppress
from typing import ClassVar, NamedTuple

from textual import events
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Container
from textual.widgets import Input, Static

from heaplab.errors import HeaplabError, UsageError
from heaplab.terminal import panels
from heaplab.terminal.keys import KEYS, footer
from heaplab.terminal.listing import Listing
from heaplab.terminal.screens import Choice, Help
from heaplab.terminal.turns import InTurn
from heaplab.views.lines import Line
from heaplab.views.memory import MemoryView
from heaplab.views.step import Steps, StepView, request_text

#: the panels in their order
PANELS = ("references", "changes", "memory", "free", "heap")
#: lines of a payload, or of free memory, in the panel memory
_ROWS = 256
#: what an event has that a key finds, as a sentence says it; a search that was typed is said as it was
_SOUGHT = {
    "fault": "has a page fault",
    "call": "has a system call for memory",
    "end": "is a fork, an exec, an exit or the end of a thread",
}
#: columns and rows from which on all panels are shown at once
WIDE, HIGH = 160, 38


class _Link(NamedTuple):
    """A link that was followed: the address that it led to, and the panel and line that it was on."""

    to: int
    panel: str
    line: int


class Stepper(InTurn):
    """Steps through the events of `steps`, from `event` on; see `keys` for what it does.

    process: whose heap is shown; None: that of the process whose event it is.
    """

    TITLE = "heaplab step"
    ENABLE_COMMAND_PALETTE = False
    CSS = """
    #top { height: auto; max-height: 9; }
    #tabs { height: 1; color: $text-muted; }
    #panels { height: 1fr; layout: vertical; }
    #panels Listing { height: 1fr; border-top: solid $primary; }
    #panels Listing:focus { border-top: heavy $accent; }
    .narrow #panels Listing { display: none; }
    .narrow #panels Listing.shown { display: block; }
    .wide #tabs { display: none; }
    .wide #panels { layout: grid; grid-size: 2 6; grid-columns: 1fr 1fr; grid-rows: 1fr; grid-gutter: 0 2; }
    .wide #references { row-span: 4; }
    .wide #changes { row-span: 2; }
    .wide #memory, .wide #free, .wide #heap { row-span: 2; }
    #prompt { height: 1; border: none; padding: 0; display: none; }
    #message { height: auto; min-height: 1; max-height: 4; color: $warning; }
    #footer { height: 1; background: $panel; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        *(
            Binding(",".join(key.keys), key.action, key.help, show=False, priority="tab" in key.keys[0])
            for key in KEYS
        ),
        *(Binding(digit, f"digit({digit})", show=False) for digit in "0123456789"),
        Binding("escape", "forget", show=False),
    ]

    def __init__(self, steps: Steps, event: int = 0, process: int | None = None) -> None:
        super().__init__()
        self.steps = steps
        self.finder = steps.finder
        self._event, self._process = event, process
        #: what is shown
        self.step: StepView = steps.at(event, process)
        self._panel = "references"
        self._links: list[_Link] = []  # that were followed, the last one is shown
        self._tree: bool | None = None
        self._count = ""
        self._search = ""
        self._asked: Callable[[str], None] = self._go

    # ---- what is seen ----

    def compose(self) -> ComposeResult:
        """Make the lines above, the panels, and the lines below."""
        yield Static(id="top", markup=False)
        yield Static(id="tabs", markup=False)
        with Container(id="panels"):
            # in the order of the grid: left, right, left, ...
            for name in PANELS:
                yield Listing(id=name)
        yield Static(id="message", markup=False)
        yield Input(id="prompt", select_on_focus=False)
        yield Static(id="footer", markup=False)

    def on_mount(self) -> None:
        """Show the first step."""
        self._focus(self._panel)
        self._draw()

    def on_resize(self, event: events.Resize) -> None:
        """Lines are broken anew, for the new width."""
        wide = event.size.width >= WIDE and event.size.height >= HIGH
        self.screen.set_class(wide, "wide")
        self.screen.set_class(not wide, "narrow")
        self.call_after_refresh(self._draw)

    def _focus(self, panel: str) -> None:
        self._panel = panel
        for name in PANELS:
            self.query_one(f"#{name}", Listing).set_class(name == panel, "shown")
        self.query_one(f"#{panel}", Listing).focus()

    def _draw(self) -> None:
        """Show the step in all that is seen."""
        step = self.step
        others = f" of {len(step.processes)}" if len(step.processes) > 1 else ""
        top = [
            f"{step.title}, process {step.process}{others}",
            step.request,
            f"  {step.outcome}",
            *(f"  {line}" for line in step.counter_lines),
        ]
        self.query_one("#top", Static).update("\n".join(top))
        tabs = "  ".join(f"[{name}]" if name == self._panel else f" {name} " for name in PANELS)
        self.query_one("#tabs", Static).update(tabs)
        self.query_one("#footer", Static).update(footer(self.size.width))
        for name in PANELS:
            listing = self.query_one(f"#{name}", Listing)
            if listing.display:
                content = self._content(name, max(listing.size.width or self.size.width, 40))
                listing.show(*content, listing.cursor)

    def _content(self, panel: str, width: int) -> panels.Content:
        step = self.step
        match panel:
            case "references":
                return panels.references(step, width)
            case "changes":
                return panels.changes(step, width)
            case "memory":
                return panels.memory(step, self._memory(), width, len(self._links))
            case "free":
                return panels.free(step, self._tree)
        return panels.heap(step, width)

    def _memory(self) -> MemoryView | None:
        address = self._links[-1].to if self._links else self.step.address
        shown = self.step.memory or self._links  # an event of another process has its block elsewhere
        return self.steps.memory(self.step, address, most=_ROWS) if shown else None

    def say(self, message: str) -> None:
        """Show a sentence above the footer."""
        self.query_one("#message", Static).update(message)

    # ---- moving ----

    def move(self, event: int) -> None:
        """Show another event."""
        try:
            self.step = self.steps.at(event, self._process_at(event))
        except HeaplabError as error:
            self.say(str(error))
            return
        self._links.clear()
        for panel in PANELS:
            self.query_one(f"#{panel}", Listing).cursor = 0
        self.say("")
        self._draw()

    def _process_at(self, event: int) -> int | None:
        """The process that was chosen, as long as it lives."""
        if self._process is None:
            return None
        done = min(event + 1, self.finder.last + 1)
        return self._process if self._process in self.steps.moments.at(done).processes else None

    def _take_count(self, default: int) -> int:
        text, self._count = self._count, ""
        self.say("")
        return int(text) if text else default

    def action_digit(self, digit: int) -> None:
        """Take a digit of the number before a key."""
        self._count = (self._count + str(digit))[-9:]
        self.say(self._count)

    def action_forget(self) -> None:
        """Forget the number, or what was asked."""
        self._count = ""
        self.say("")
        self._close_prompt()

    def action_forwards(self) -> None:
        """Go N events on."""
        self._by(self._take_count(1))

    def action_backwards(self) -> None:
        """Go N events back."""
        self._by(-self._take_count(1))

    def _by(self, events_on: int) -> None:
        event = self.step.event
        with suppress(UsageError):  # the run may end before: then its last event is the farthest
            self.finder.check(min(event + max(events_on, 0), self.steps.moments.events - 1))
        to = max(0, min(event + events_on, self.finder.last))
        if to == event:
            self.say(
                "this is the first event" if events_on < 0 else self.step.failure or "this is the last event"
            )
        else:
            self.move(to)

    def _to(self, event: int | None, what: str) -> None:
        if event is None:
            self.say(f"no event {what}")
        else:
            self.move(event)

    def action_find(self, text: str) -> None:
        """Go to the next event that a search finds."""
        self._seek(text, 1)

    def action_find_back(self, text: str) -> None:
        """Go to the last event before that a search finds."""
        self._seek(text, -1)

    def _seek(self, text: str, step: int) -> None:
        for _ in range(self._take_count(1)):
            try:
                found = self.finder.search(text, self.step.event, step)
            except UsageError as error:
                self.say(str(error))
                return
            sought = _SOUGHT.get(text, f"is '{text}'")
            self._to(found, f"{'after' if step > 0 else 'before'} this one {sought}")
            if found is None:
                return

    def action_block(self) -> None:
        """Go to the next event of this block, or to block N."""
        if self._count:
            self._go(f"block {self._take_count(0)}")
        else:
            self._in_history(1)

    def action_block_back(self) -> None:
        """Go to the event of this block before."""
        self._in_history(-1)

    def _in_history(self, step: int) -> None:
        history = self.finder.history(self.step.event)
        if not history:
            self.say("this event is about no block")
            return
        at = history.index(self.step.event) + step
        if 0 <= at < len(history):
            self.move(history[at])
        else:
            self.say("this is the block's last event" if step > 0 else "this is the block's first event")

    def action_history(self) -> None:
        """Choose among the events of this block, or of block N."""
        event = self.step.event
        if self._count:
            try:
                event = self.finder.find(f"block {self._take_count(0)}", event)
            except UsageError as error:
                self.say(str(error))
                return
        history = self.finder.history(event)
        if not history:
            self.say("this event is about no block")
            return
        lines = [
            Line(f"{event:>9,}  {request_text(self.steps.moments.event(event))}", event + 1)
            for event in history
        ]
        slot = self.finder.columns.id[event]
        self._choose(f"block {slot}'s events", lines, history.index(event), lambda to: self.move(to - 1))

    def action_peak(self) -> None:
        """Choose whose peak to go to."""
        names = ("live", "heap", "resident")
        lines = [Line(f"peak of {name} bytes", number) for number, name in enumerate(names, 1)]
        self._choose("go to", lines, 0, lambda to: self._go(f"peak {names[to - 1]}"))

    def action_failure(self) -> None:
        """Go to where the run ended early."""
        self._go("failure")

    def action_process(self) -> None:
        """Choose the process whose heap is shown."""
        numbers = self.step.processes
        lines = [Line("of the process whose event it is", 1)]
        lines += [Line(f"process {number}", number + 2) for number in numbers]

        def choose(to: int) -> None:
            self._process = to - 2 if to > 1 else None
            self.move(self.step.event)

        chosen = numbers.index(self._process) + 1 if self._process in numbers else 0
        self._choose("whose heap is shown", lines, chosen, choose)

    def _choose(self, title: str, lines: list[Line], cursor: int, then: Callable[[int], None]) -> None:
        def chosen(to: int | None) -> None:
            if to is not None:
                then(to)

        self.push_screen(Choice(title, lines, cursor), chosen)

    def action_help(self) -> None:
        """Show all keys."""
        self.push_screen(Help())

    # ---- prompts ----

    def action_go(self) -> None:
        """Go to event N, or ask where to."""
        if self._count:
            self.move(self._take_count(0))
        else:
            self._ask("go to (as 1000, last, peak heap, block 270, failure; Escape: not at all):", self._go)

    def action_search(self) -> None:
        """Ask what to search for."""
        self._ask("search (as malloc size 1k-8k, fault, at 0x5000-0x5fff; ? tells more):", self._begin_search)

    def action_again(self) -> None:
        """Search for the same forwards."""
        self._repeat(1)

    def action_again_back(self) -> None:
        """Search for the same backwards."""
        self._repeat(-1)

    def _repeat(self, step: int) -> None:
        if self._search:
            self._seek(self._search, step)
        else:
            self.say("nothing was searched for yet: / begins a search")

    def _go(self, text: str) -> None:
        try:
            self.move(self.finder.find(text, self.step.event))
        except UsageError as error:
            self.say(str(error))

    def _begin_search(self, text: str) -> None:
        self._search = text
        self._repeat(1)

    def _ask(self, question: str, then: Callable[[str], None]) -> None:
        self._asked = then
        prompt = self.query_one("#prompt", Input)
        prompt.value = ""
        prompt.display = True
        self.say(question)
        prompt.focus()

    def on_input_submitted(self, message: Input.Submitted) -> None:
        """Do what was asked."""
        text = message.value.strip()
        self._close_prompt()
        if text:
            self._asked(text)

    def _close_prompt(self) -> None:
        self.query_one("#prompt").display = False
        self.say("")
        self.query_one(f"#{self._panel}", Listing).focus()

    # ---- panels and links ----

    def action_panel(self, step: int) -> None:
        """Go to the next panel, or to the one before."""
        if len(self.screen_stack) == 1:
            self._show_panel(PANELS[(PANELS.index(self._panel) + step) % len(PANELS)])

    def _show_panel(self, panel: str) -> None:
        self._focus(panel)
        self._draw()

    def on_descendant_focus(self, event: events.DescendantFocus) -> None:
        """Remember which panel has the keys, also when it was clicked."""
        if isinstance(event.widget, Listing) and event.widget.id in PANELS:
            self._panel = event.widget.id

    def on_listing_followed(self, message: Listing.Followed) -> None:
        """Show where a line leads."""
        to = message.line.to
        if not to:
            return
        if self.steps.memory(self.step, to) is None:
            self.say(f"{to:#x} is outside of the heap of process {self.step.process}")
            return
        self._links.append(_Link(to, self._panel, message.number))
        self.say("")
        self._show_panel("memory")
        memory = self.query_one("#memory", Listing)
        at = max((line.at for line in memory.lines if line.at <= to), default=0)
        memory.action_go([line.at for line in memory.lines].index(at) if at else 0)

    def action_link_back(self) -> None:
        """Go back to where the last link was followed."""
        if self._links:
            link = self._links.pop()
            self._show_panel(link.panel)
            self.query_one(f"#{link.panel}", Listing).action_go(link.line)
        else:
            self.say("no link was followed")

    def action_tree(self) -> None:
        """Show the free blocks as a tree, or as a list."""
        shown = self._tree if self._tree is not None else panels.drawn_as_tree(self.step)
        self._tree = not shown
        self._show_panel("free")
