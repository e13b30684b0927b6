"""The command line of a script in experiments/: parameters, the answer as text, a figure."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.progress import BarColumn, TaskProgressColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

from heaplab.cli import Ending
from heaplab.cli._outputs import demand_writable_file
from heaplab.errors import UsageError
from heaplab.files import replacing
from heaplab.report.experiment import Experiment, Parameter, Tick, no_tick


def run(experiment: Experiment, args: list[str] | None = None) -> None:
    """Run a script: parse its options, measure, print the answer, draw the figure.

    Exit status: 0; 1 when a claim came out other than the script says; 2 for a user's mistake.
    """
    path = Path(sys.argv[0])
    command(experiment, path.stem).main(args, prog_name=path.name)


def command(experiment: Experiment, name: str) -> click.Command:
    """Return the command line of an experiment whose script has this name."""
    options = [_option(each) for each in experiment.parameters]
    return Ending(
        name,
        callback=lambda **chosen: _carry_out(experiment, name, **chosen),
        help=f"{experiment.question}\n\nSource: {experiment.source}",
        context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
        params=[
            click.Option(["--small"], is_flag=True, help="The small size, of seconds, that the tests run."),
            *options,
            click.Option(
                ["--seed"], type=int, default=experiment.seed, show_default=True, help="Of all that is drawn."
            ),
            click.Option(["--figure"], metavar="FILE", help=f"SVG or PNG.  [default: {name}.svg]"),
            click.Option(["--no-figure"], is_flag=True, help="Draw none."),
            click.Option(["--json", "json_path"], metavar="FILE", help="Write every figure as JSON."),
            click.Option(["--quiet", "-q"], is_flag=True, help="Show no progress."),
        ],
    )


def _carry_out(
    experiment: Experiment,
    name: str,
    *,
    small: bool,
    figure: str | None,
    no_figure: bool,
    json_path: str | None,
    quiet: bool,
    **chosen: Any,
) -> None:
    if figure is not None and no_figure:
        raise UsageError("--figure and --no-figure: give one of them")
    figure = None if no_figure else figure or f"{name}.svg"
    if figure is not None and Path(figure).suffix.lower() not in (".svg", ".png"):
        raise UsageError(f"--figure {figure}: let it end with .svg or .png")
    demand_writable_file("--figure", figure)
    demand_writable_file("--json", json_path)
    changed = {key: value for key, value in chosen.items() if value is not None}
    with _progress(quiet) as tick:
        answer = experiment.answer(tick, small=small, **changed)
    click.echo(str(answer))
    sys.stdout.flush()
    if json_path is not None:
        with replacing(json_path) as file:
            file.write(answer.to_json().encode())
    if figure is not None:
        from heaplab.report.pictures.picture import Picture  # noqa: PLC0415 - matplotlib takes a second

        Picture(answer, lambda told: experiment.draw(told.findings)).save(figure)
        click.echo(f"\nfigure: {figure}")
    if not answer.expected:
        click.get_current_context().exit(1)


def _option(parameter: Parameter) -> click.Option:
    full, small = (
        ",".join(map(str, value)) if isinstance(value, tuple) else str(value)
        for value in (parameter.full, parameter.small)
    )
    sizes = f"[default: {full}" + (f"; with --small: {small}]" if small != full else "]")
    return click.Option(
        [f"--{parameter.name.replace('_', '-')}", parameter.name],
        type=_Value(parameter),
        help=f"{parameter.help}  {sizes}",
    )


class _Value(click.ParamType[Any]):
    """The text of a parameter's value."""

    def __init__(self, parameter: Parameter) -> None:
        self._parameter = parameter
        many = isinstance(parameter.full, tuple)
        some = (*parameter.full, *parameter.small, "")[0] if many else parameter.full
        self._kind: Callable[[str], Any] = type(some)
        self._many = many
        kind = {int: "INTEGER", float: "NUMBER"}.get(type(self._kind("0")), "TEXT")
        self.name = f"{kind},..." if many else kind

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if not isinstance(value, str):
            return value
        parts = [part.strip() for part in value.split(",")] if self._many else [value]
        try:
            found = tuple(self._kind(part) for part in parts)
        except ValueError:
            self.fail(f"{value!r} is not {self.name}", param, ctx)
        least = self._parameter.least
        if least is not None and any(each < least for each in found):
            self.fail(f"{value}: give at least {least:g}", param, ctx)
        return found if self._many else found[0]


@contextmanager
def _progress(quiet: bool) -> Iterator[Tick]:
    """Give what shows progress: a bar with the time left on standard error, if that is a terminal."""
    console = Console(stderr=True)
    if quiet or not console.is_terminal:
        yield no_tick
        return
    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    with Bar(*columns, console=console, transient=True) as bar:
        task = bar.add_task("starting", total=None)

        def tick(done: float, total: float, what: str = "") -> None:
            bar.update(task, completed=done, total=total, description=what or "measuring")

        yield tick
