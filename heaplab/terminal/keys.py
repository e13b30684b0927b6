"""The keys of the stepping program: bindings, footer and help are made of this one table."""

from typing import NamedTuple


class Key(NamedTuple):
    """keys: as Textual names them, for one action; shown: as people read them.

    short: in the footer, "" when it is not there.  help: a line, with N for a number typed before.
    """

    keys: tuple[str, ...]
    shown: str
    action: str
    short: str
    help: str


KEYS = (
    Key(("right", "space"), "→", "forwards", "next", "next event; N→ goes N events on"),
    Key(("left",), "←", "backwards", "", "event before; N← goes N events back"),
    Key(("f",), "f", "find('fault')", "fault", "next event with a page fault"),
    Key(("F",), "F", "find_back('fault')", "", "the one before"),
    Key(("s",), "s", "find('call')", "call", "next event with a system call: brk, mmap, ..."),
    Key(("S",), "S", "find_back('call')", "", "the one before"),
    Key(("e",), "e", "find('end')", "", "next fork, exec, exit or end of a thread"),
    Key(("E",), "E", "find_back('end')", "", "the one before"),
    Key(("b",), "b", "block", "block", "next event of this event's block; Nb goes to block N"),
    Key(("B",), "B", "block_back", "", "event of this block before"),
    Key(("h",), "h", "history", "", "history of this block: malloc, reallocs, free; Nh of block N"),
    Key(("p",), "p", "peak", "", "go to the peak of live, heap or resident bytes"),
    Key(("x",), "x", "failure", "", "go to the failure, where the run ended early"),
    Key(("g",), "g", "go", "go", "go to what is typed, as below; Ng goes to event N"),
    Key(("slash",), "/", "search", "search", "search forwards for what is typed, as below"),
    Key(("n",), "n", "again", "", "next event that the search finds"),
    Key(("N",), "N", "again_back", "", "the one before"),
    Key(("tab",), "Tab", "panel(1)", "panel", "next panel; Shift+Tab the one before"),
    Key(("shift+tab",), "Shift+Tab", "panel(-1)", "", ""),
    Key(("backspace",), "Backspace", "link_back", "", "back to where the last link was followed"),
    Key(("t",), "t", "tree", "", "free blocks as a tree, or as a list"),
    Key(("P",), "P", "process", "", "choose the process whose heap is shown"),
    Key(("question_mark",), "?", "help", "help", "this page"),
    Key(("q", "ctrl+c"), "q", "quit", "quit", "end"),
)
#: keys of the lists themselves
OF_LISTS = (
    ("↑ ↓", "move in a panel; so do PgUp, PgDn, Home, End and the wheel"),
    ("Enter", "follow the line's link: its block is shown in the panel memory"),
    ("0 to 9", "the number N before a key; Escape forgets it"),
)


def footer(width: int) -> str:
    """Return the footer: as many keys as a width has room for, help and end always.

    >>> footer(32)
    '→ next  f fault  ? help  q quit'
    """
    words = [f"{key.shown} {key.short}" for key in KEYS if key.short]
    first, last = words[:-2], words[-2:]
    while first and len("  ".join(first + last)) > width:
        first.pop()
    return "  ".join(first + last)


def help_lines() -> list[str]:
    """Return the table of keys, a line a key."""
    rows = [(key.shown, key.help) for key in KEYS if key.help]
    rows[-2:-2] = OF_LISTS
    return [f"{shown:<12}{help_}" for shown, help_ in rows]
