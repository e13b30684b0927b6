"""`heaplab conform`: the kernel model judged by the real kernel."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import click
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

from heaplab.testing import conform as judge

OK, DIFFERENT = 0, 1


@click.command()
@click.option("--steps", type=click.IntRange(min=1), default=20_000, show_default=True, help="In all.")
@click.option("--seed", type=int, default=1, show_default=True, help="Of the first sequence.")
@click.option("--seeds", type=click.IntRange(min=1), default=40, show_default=True, help="Sequences.")
@click.option("--only", type=click.Choice(list(judge.PROFILES)), default="all", help="Steps of one kind.")
@click.option("--replay", "path", metavar="FILE", help="Play the steps in FILE, a line each, instead.")
@click.option("--quiet", "-q", is_flag=True, help="Show no progress.")
def conform(steps: int, seed: int, seeds: int, only: str, path: str | None, quiet: bool) -> None:
    """Play random system calls, loads and stores on the real kernel and on the model, and compare.

    After every step the two are compared: results, faults, signals, VMAs, page tables, which frames are
    shared, process states.  The first difference ends the run; the shortest sequence that leads to it is
    shown, with both sides.  Needs Linux on x86-64, and root.

    Exit status: 1 when the two differ.
    """
    if path is not None:
        click.get_current_context().exit(_replay(Path(path)))
    with _progress_bar(steps, quiet) as show:
        report = judge.conform(range(seed, seed + seeds), -(-steps // seeds), only, show)
    for found in report.found:
        _show_found(found)
    click.echo(
        f"{report.steps:,} steps over {report.seeds} seeds, "
        f"{report.steps / report.seconds:,.0f} steps/s, {len(report.found) or 'no'} difference"
    )
    click.get_current_context().exit(DIFFERENT if report.found else OK)


def _replay(path: Path) -> int:
    judge.demand_rights()
    with judge.bound_to_one_cpu():
        played = judge.play_once(judge.replay(judge.parse_all(path.read_text())))
    _show_steps(played)
    if not played.differences:
        click.echo(f"{len(played.steps)} steps, no difference")
    return DIFFERENT if played.differences else OK


def _show_found(found: judge.Found) -> None:
    click.echo(f"seed {found.seed} differs after {len(found.first.steps)} steps.")
    if found.shortest is None:
        click.echo("Played again it does not: the real kernel did not answer the same twice.")
        _show_steps(found.first)
    else:
        click.echo("The shortest sequence that differs, for --replay:")
        _show_steps(found.shortest)


def _show_steps(played: judge.Played) -> None:
    for step in played.steps:
        click.echo(str(step))
    for difference in played.differences:
        click.echo("".join(f"# {line}\n" for line in str(difference).splitlines()), nl=False)


@contextmanager
def _progress_bar(steps: int, quiet: bool) -> Iterator[Callable[[judge.Report], None]]:
    """Give what shows progress: a bar on standard error if that is a terminal, else nothing."""
    console = Console(stderr=True)
    if quiet or not console.is_terminal:
        yield lambda report: None
        return
    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task("starting", total=steps)
        yield lambda report: bar.update(
            task, completed=report.steps, description=f"{report.seeds} seeds, {report.steps:,} steps"
        )
