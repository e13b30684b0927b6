"""A list of lines with a cursor; a line may lead to an address."""

from collections.abc import Sequence
from typing import ClassVar

from rich.markup import escape
from rich.segment import Segment
from rich.style import Style
from textual import events
from textual.binding import Binding, BindingType
from textual.message import Message
from textual.strip import Strip
from textual.widget import Widget

from heaplab.views.lines import Line

#: how lines look, by their mark; words and signs say the same
_STYLES = {
    "heading": Style(bold=True),
    "store": Style(bold=True),
    "was": Style(dim=True),
    "now": Style(color="green"),
    "word": Style(color="green"),
    "link": Style(color="cyan"),
    "data": Style(dim=True),
}
_PLAIN = Style()
_CURSOR = Style(reverse=True)
#: lines that the wheel moves by
_WHEEL = 3


class Listing(Widget, can_focus=True):
    """Lines, of which one is chosen; Enter follows it.  What does not fit in the width is cut."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up", "move(-1)", show=False),
        Binding("down", "move(1)", show=False),
        Binding("pageup", "page(-1)", show=False),
        Binding("pagedown", "page(1)", show=False),
        Binding("home", "end(-1)", show=False),
        Binding("end", "end(1)", show=False),
        Binding("enter", "follow", show=False),
    ]

    class Followed(Message):
        """Enter was pressed on a line.  number: of the line in its list."""

        def __init__(self, listing: "Listing", number: int, line: Line) -> None:
            super().__init__()
            self.listing = listing
            self.number = number
            self.line = line

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self.lines: Sequence[Line] = ()
        self.cursor = 0
        self._top = 0
        self._title = ""

    def show(self, title: str, lines: Sequence[Line], cursor: int = 0) -> None:
        """Show other lines, with the cursor at one of them."""
        self.lines, self._title = lines, title
        self._top = 0
        self._place(cursor)

    @property
    def line(self) -> Line | None:
        """The line at the cursor; None of an empty list."""
        return self.lines[self.cursor] if self.lines else None

    def _place(self, cursor: int) -> None:
        self.cursor = max(0, min(cursor, len(self.lines) - 1))
        height = max(self.size.height, 1)
        self._top = max(min(self._top, self.cursor), self.cursor - height + 1)
        where = f"{self._title} (line {self.cursor + 1:,} of {len(self.lines):,})"
        self.border_title = escape(where if len(self.lines) > height else self._title)
        self.refresh()

    def render_line(self, y: int) -> Strip:
        """Return the line at height y, as Textual asks for it."""
        width = self.size.width
        number = self._top + y
        if number >= len(self.lines):
            return Strip.blank(width)
        line = self.lines[number]
        style = _STYLES.get(line.mark, _PLAIN)
        if number == self.cursor and self.has_focus:
            style += _CURSOR
        return Strip([Segment(line.text, style)]).adjust_cell_length(width, style)

    def action_go(self, line: int) -> None:
        """Move the cursor to a line."""
        self._place(line)

    def action_move(self, lines: int) -> None:
        """Move the cursor."""
        self._place(self.cursor + lines)

    def action_page(self, pages: int) -> None:
        """Move the cursor by as many lines as are seen."""
        self._place(self.cursor + pages * max(self.size.height - 1, 1))

    def action_end(self, side: int) -> None:
        """Move the cursor to the first line, or to the last."""
        self._place(0 if side < 0 else len(self.lines) - 1)

    def action_follow(self) -> None:
        """Tell that the line was chosen."""
        if self.lines:
            self.post_message(self.Followed(self, self.cursor, self.lines[self.cursor]))

    def on_click(self, event: events.Click) -> None:
        """Choose the line under the pointer; a second click follows it."""
        number = self._top + event.get_content_offset_capture(self).y
        if number < len(self.lines):
            again = number == self.cursor and self.has_focus
            self._place(number)
            if again:
                self.action_follow()

    def on_mouse_scroll_down(self) -> None:
        """Move on."""
        self._place(self.cursor + _WHEEL)

    def on_mouse_scroll_up(self) -> None:
        """Move back."""
        self._place(self.cursor - _WHEEL)

    def on_resize(self) -> None:
        """Keep the cursor in sight."""
        self._place(self.cursor)
