"""What became of the mutants, as a table for people."""

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from heaplab.testing.conform.mutants.verdict import CAUGHT, Verdict

_LONGEST = 100  # characters of what differed


def show(verdicts: Sequence[Verdict]) -> None:
    """Print the table, each mutant a row, and how many were caught."""
    table = Table(box=None, padding=(0, 1, 0, 0), pad_edge=False, header_style="dim")
    table.add_column("mutant", no_wrap=True)
    table.add_column("kind", no_wrap=True)
    table.add_column("", no_wrap=True)
    table.add_column("steps", justify="right", no_wrap=True)
    table.add_column("s", justify="right", no_wrap=True)
    table.add_column("what differed", no_wrap=True)
    for verdict in verdicts:
        style = "" if verdict.outcome == CAUGHT else "bold"
        table.add_row(
            Text(verdict.mutant.name),
            verdict.mutant.profile,
            Text(verdict.outcome, style),
            f"{verdict.steps:,}",
            f"{verdict.seconds:.1f}",
            Text(what_differed(verdict)),
        )
    # a line a mutant, however narrow the terminal is
    console = Console(highlight=False, width=max(Console(width=1000).measure(table).maximum, 80))
    console.print(table)
    caught = [verdict for verdict in verdicts if verdict.outcome == CAUGHT]
    seconds = sum(verdict.seconds for verdict in verdicts)
    most = max((verdict.steps for verdict in caught), default=0)
    console.print(f"{len(caught)} of {len(verdicts)} caught, after {most:,} steps at most; {seconds:,.0f} s")


def what_differed(verdict: Verdict) -> str:
    """Return the difference in one line; of a mutant that was not caught, how often it was come to."""
    if verdict.showed is None:
        return f"nothing; come to {verdict.reached:,} times" if verdict.reached else ""
    sides = verdict.showed.real, verdict.showed.model
    line = verdict.showed.what
    if not any("\n" in side for side in sides):  # whole maps are too much for a line
        line += f": real {sides[0]}; model {sides[1]}"
    return line if len(line) <= _LONGEST else line[: _LONGEST - 3] + "..."
