"""Screens above the program's: the help, and a choice among a few things."""

from collections.abc import Sequence
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.screen import ModalScreen

from heaplab.terminal.keys import help_lines
from heaplab.terminal.listing import Listing
from heaplab.views import finding
from heaplab.views.lines import Line


class Choice(ModalScreen[int | None]):
    """Lines, of which one is chosen: its `to`; None when nobody chose."""

    DEFAULT_CSS = """
    Choice { align: center middle; }
    Choice > Vertical { width: 80; max-width: 100%; height: auto; max-height: 100%; }
    Choice Listing { border: round $primary; height: auto; max-height: 22; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,q,question_mark", "leave", show=False),
    ]

    def __init__(self, title: str, lines: Sequence[Line], cursor: int = 0) -> None:
        super().__init__()
        self._content = title, lines, cursor

    def compose(self) -> ComposeResult:
        """Make the list."""
        with Vertical():
            yield Listing(id="choice")

    def on_mount(self) -> None:
        """Fill the list."""
        listing = self.query_one(Listing)
        listing.styles.height = len(self._content[1]) + 2
        listing.show(*self._content)
        listing.focus()

    def on_listing_followed(self, message: Listing.Followed) -> None:
        """Take the line."""
        message.stop()
        self.dismiss(message.line.to)

    def action_leave(self) -> None:
        """Take none."""
        self.dismiss(None)


class Help(Choice):
    """All keys, and what can be searched for."""

    def __init__(self) -> None:
        text = (finding.__doc__ or "").splitlines()
        lines = [Line(line) for line in help_lines()]
        lines += [Line(""), *(Line(line) for line in text)]
        super().__init__("keys; Escape closes", lines)

    def on_listing_followed(self, message: Listing.Followed) -> None:
        """Close it."""
        message.stop()
        self.dismiss(None)
