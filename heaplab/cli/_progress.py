"""Progress of a command: a line on standard error, if that is a terminal."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.status import Status


@contextmanager
def status_line(first: str, *, quiet: bool = False) -> Iterator[Callable[[str], None]]:
    """Give what shows a sentence in place of the one before; `first` is the first.

    Nothing is shown with `quiet`, nor where standard error is no terminal.
    """
    console = Console(stderr=True)
    if quiet or not console.is_terminal:
        yield lambda sentence: None
        return
    with Status(first, console=console) as status:
        yield status.update
