"""`heaplab conform`: the kernel model judged by the real kernel."""

import difflib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import click
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

from heaplab.cli import FOUND_WRONG, INTERRUPTED, OK
from heaplab.errors import UsageError
from heaplab.testing import conform as judge
from heaplab.testing.conform import mutants


@click.command()
@click.option("--steps", type=click.IntRange(min=1), default=20_000, show_default=True, help="In all.")
@click.option("--seed", type=int, default=1, show_default=True, help="Of the first sequence.")
@click.option("--seeds", type=click.IntRange(min=1), default=40, show_default=True, help="Sequences.")
@click.option("--only", type=click.Choice(list(judge.PROFILES)), default="all", help="Steps of one kind.")
@click.option("--replay", "path", metavar="FILE", help="Play the steps in FILE, a line each, instead.")
@click.option(
    "--mutants",
    "names",
    is_flag=False,
    flag_value="",
    metavar="[NAME,...]",
    help="Plant mistakes in the model, each by itself, and see each found.",
)
@click.option("--quiet", "-q", is_flag=True, help="Show no progress.")
def conform(
    steps: int, seed: int, seeds: int, only: str, path: str | None, names: str | None, quiet: bool
) -> None:
    """Play random system calls, loads and stores on the real kernel and on the model, and compare.

    After every step the two are compared: results, faults, signals, VMAs, page tables, which frames are
    shared, process states.  The first difference ends the run; the shortest sequence that leads to it is
    shown, with both sides.  Needs Linux on x86-64, and root.

    With --mutants the model is made wrong on purpose, one mistake at a time, and up to --steps are played on
    each; --only takes the mistakes of one kind.

    Exit status: 1 when the two differ; with --mutants, when a mistake is not found.
    """
    if path is not None and names is not None:
        raise UsageError("--replay plays on the model as it is, --mutants on wrong ones: choose one of them")
    if path is not None:
        click.get_current_context().exit(_replay(Path(path)))
    if names is not None:
        chosen = _chosen(names, only)
        click.get_current_context().exit(_judge_mutants(chosen, steps, -(-steps // seeds), seed, quiet))
    report, interrupted = judge.Report(), False
    with _progress_bar(steps, quiet) as show:
        try:
            judge.conform(range(seed, seed + seeds), -(-steps // seeds), only, show, report)
        except KeyboardInterrupt:
            interrupted = True
    for found in report.found:
        _show_found(found, interrupted)
    click.echo(
        f"{report.steps:,} steps over {report.seeds} seeds, "
        f"{report.steps / (report.seconds or 1):,.0f} steps/s, {len(report.found) or 'no'} difference"
    )
    if interrupted:
        click.echo("heaplab: interrupted", err=True)
        click.get_current_context().exit(INTERRUPTED)
    click.get_current_context().exit(FOUND_WRONG if report.found else OK)


def _replay(path: Path) -> int:
    steps = judge.parse_all(path.read_text(errors="replace"))
    for step in steps:
        if judge.reaches_agent(step):
            raise UsageError(f"{step} is about the agents' own memory: choose addresses from 0x401000 on")
    left_out: list[judge.Step] = []
    judge.demand_rights()
    with judge.bound_to_one_cpu():
        played = judge.play_once(judge.replay(steps, left_out))
    _show_steps(played)
    for step in left_out:
        click.echo(f"# left out, for its task was not there to take it, or would have ended pid 1: {step}")
    if not played.differences:
        click.echo(f"{len(played.steps)} of {len(steps)} steps, no difference")
    return FOUND_WRONG if played.differences else OK


def _show_found(found: judge.Found, interrupted: bool) -> None:
    click.echo(f"seed {found.seed} differs after {len(found.first.steps)} steps.")
    if found.shortest is None:
        if not interrupted:
            click.echo("Played again it does not: the real kernel did not answer the same twice.")
        _show_steps(found.first)
    else:
        so_far = " so far" if interrupted else ""
        click.echo(f"The shortest sequence{so_far} that differs, for --replay:")
        _show_steps(found.shortest)


def _show_steps(played: judge.Played) -> None:
    for step in played.steps:
        click.echo(str(step))
    for difference in played.differences:
        click.echo("".join(f"# {line}\n" for line in str(difference).splitlines()), nl=False)


def _chosen(names: str, only: str) -> list[mutants.Mutant]:
    """The mutants that are named, all without a name; of them those whose profile is `only`."""
    unknown = [name for name in names.split(",") if name and name not in mutants.MUTANTS]
    if unknown:
        near = difflib.get_close_matches(unknown[0], mutants.MUTANTS, 1)
        hint = f"did you mean {near[0]}?" if near else "heaplab.testing.conform.mutants.MUTANTS has all names"
        raise UsageError(f"there is no mutant {unknown[0]!r}: {hint}")
    chosen = [mutants.MUTANTS[name] for name in names.split(",") if name]
    for mutant in chosen:
        if only not in ("all", mutant.profile):
            raise UsageError(f"{mutant.name} is no mutant of --only {only}: its kind is {mutant.profile}")
    return chosen or [each for each in mutants.MUTANTS.values() if only in ("all", each.profile)]


def _judge_mutants(chosen: list[mutants.Mutant], steps: int, length: int, seed: int, quiet: bool) -> int:
    """Judge, say of each how it went as soon as that is known, and show a table; also when interrupted."""
    verdicts: list[mutants.Verdict] = []
    with _mutants_bar(len(chosen), steps, quiet) as (show, say):
        try:
            for verdict in mutants.judge(chosen, steps, length, seed, show):
                verdicts.append(verdict)
                say(verdict)
        except KeyboardInterrupt:
            pass
    mutants.show(verdicts)
    if len(verdicts) < len(chosen):
        click.echo(f"heaplab: interrupted after {len(verdicts)} of {len(chosen)} mutants", err=True)
        return INTERRUPTED
    return OK if all(verdict.outcome == mutants.CAUGHT for verdict in verdicts) else FOUND_WRONG


@contextmanager
def _mutants_bar(
    count: int, steps: int, quiet: bool
) -> Iterator[tuple[Callable[[mutants.Verdict], None], Callable[[mutants.Verdict], None]]]:
    """Give what shows progress in one mutant, and what says that it is done, both on standard error."""
    console = Console(stderr=True, highlight=False, soft_wrap=True)
    if quiet:
        yield lambda verdict: None, lambda verdict: None
        return
    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("starting", total=count * steps)
        done = 0

        def show(verdict: mutants.Verdict) -> None:
            bar.update(
                task,
                completed=done * steps + verdict.steps,
                description=f"{done} of {count} done, {verdict.mutant.name}: {verdict.steps:,} steps",
            )

        def say(verdict: mutants.Verdict) -> None:
            nonlocal done
            done += 1
            bar.update(task, completed=done * steps)
            console.print(f"{verdict.mutant.name}: {verdict.outcome}, {verdict.steps:,} steps", markup=False)

        yield show, say


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

        def show(report: judge.Report) -> None:
            done = f"{report.seeds} seeds, {report.steps:,} steps"
            if report.found and report.found[0].shortest is not None:
                done = f"a difference after {done}; shrunk to {len(report.found[0].shortest.steps)}"
            bar.update(task, completed=report.steps, description=done)

        yield show
