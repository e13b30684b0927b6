"""Progress of a command: a line on standard error, if that is a terminal."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, TaskProgressColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar
from rich.status import Status
from rich.text import Text

from heaplab.lab import Progress

#: columns of what turns before a sentence
_SPINNER = 2


@contextmanager
def status_line(first: str, *, quiet: bool = False) -> Iterator[Callable[[str], None]]:
    """Give what shows a sentence in place of the one before; `first` is the first.

    A sentence longer than the line is cut.  Nothing is shown with `quiet`, nor where standard error is no
    terminal.
    """
    console = Console(stderr=True)
    if quiet or not console.is_terminal:
        yield lambda sentence: None
        return

    def line(sentence: str) -> Text:
        text = Text(sentence)
        text.truncate(console.width - _SPINNER, overflow="ellipsis")
        return text

    with Status(line(first), console=console) as status:
        yield lambda sentence: status.update(line(sentence))


@contextmanager
def progress_bar(quiet: bool) -> Iterator[Callable[[Progress], None]]:
    """Give what shows progress: a bar on standard error if that is a terminal, else nothing."""
    console = Console(stderr=True)
    if quiet or not console.is_terminal:
        yield lambda progress: None
        return
    bar = Bar(
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        TextColumn("{task.fields[events]}"),
        TimeRemainingColumn(),
        console=console,
        transient=True,
    )
    with bar:
        task = bar.add_task("starting", total=None, events="")
        yield lambda now: bar.update(
            task,
            completed=now.events,
            total=now.total,
            description=now.doing or f"{now.runs} of {now.planned} runs",
            events=f"{now.events:,} of {now.total:,} events",
        )
