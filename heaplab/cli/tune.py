"""`heaplab tune`: parameters of a design, searched for a goal."""

import click

from heaplab import report
from heaplab.allocators.registry import LANGUAGES
from heaplab.cli import INTERRUPTED, OK
from heaplab.cli._outputs import demand_writable_file
from heaplab.cli._progress import status_line
from heaplab.errors import UsageError
from heaplab.files import replacing
from heaplab.lab.sweeping.tune import GOALS
from heaplab.lab.sweeping.tune import tune as searched
from heaplab.native.playing import ROUNDS


@click.command()
@click.argument("spec", metavar="SPEC")
@click.argument("traces", nargs=-1, required=True, metavar="TRACE...")
@click.option(
    "--minimise",
    "goals",
    multiple=True,
    metavar="GOAL",
    default=["heap"],
    show_default="heap",
    help=f"Once or twice: {', '.join(GOALS)}, or a figure of a sweep.",
)
@click.option(
    "--trials", type=click.IntRange(min=1), default=50, show_default=True, help="Specs to be tried."
)
@click.option("--seed", type=int, default=1, show_default=True, help="Of the sampler that draws them.")
@click.option(
    "--range", "ranges", multiple=True, metavar="NAME=VALUE,...|A..B", help="What a parameter may be."
)
@click.option(
    "--held-out", multiple=True, metavar="TRACE", help="Try what was found on this trace too, unseen before."
)
@click.option("--store", metavar="DIR", help="Keep what was run there; it is not run again.")
@click.option("--figure", metavar="FILE", help="Draw the trials and the front: SVG or PNG.")
@click.option("--language", type=click.Choice(LANGUAGES), default="c", show_default=True)
@click.option(
    "--rounds", type=click.IntRange(min=1), default=ROUNDS, show_default=True, help="Of native times."
)
@click.option("--jobs", type=click.IntRange(min=1), help="Worker processes.  [default: one a core]")
@click.option("--quiet", "-q", is_flag=True, help="Show no progress.")
def tune(
    spec: str,
    traces: tuple[str, ...],
    goals: tuple[str, ...],
    trials: int,
    seed: int,
    ranges: tuple[str, ...],
    held_out: tuple[str, ...],
    store: str | None,
    figure: str | None,
    language: str,
    rounds: int,
    jobs: int | None,
    quiet: bool,
) -> None:
    """Search the parameters of a design for a goal: less memory, fewer references, less time.

    \b
    heaplab tune freelist gcc lua --minimise mean-heap --minimise mems --trials 60 --store cells

    Options that SPEC gives stay; the others are searched, but for checks and seal, which trade safety and are
    searched if --range names them.  What is minimised is the geometric mean over the traces, as a ratio to
    SPEC as it was given.  With two goals the front is shown: specs that none is better than in both.

    Sizes are tried in powers of two.  Equal seeds try equal specs; with --store the search goes on after
    Ctrl-C, and costs nothing the second time.  With seconds-native each spec is compiled and timed: what is
    better by less than the noise is no better.

    Exit status: 0; 2 for a mistake; 130 when interrupted.
    """
    demand_writable_file("--figure", figure)
    if figure is not None and not figure.lower().endswith((".svg", ".png")):
        raise UsageError(f"--figure {figure}: name a file.svg or file.png")
    given = {}
    for text in ranges:
        name, equals, values = text.partition("=")
        if not equals or not values:
            raise UsageError(f"--range {text}: write NAME=VALUE,... or NAME=A..B")
        given[name] = values
    with status_line("starting", quiet=quiet) as say:
        found = searched(
            spec,
            traces,
            minimise=goals,
            ranges=given,
            trials=trials,
            seed=seed,
            held_out=held_out,
            store=store,
            language=language,
            rounds=rounds,
            jobs=jobs,
            progress=lambda done, planned, latest: say(f"{done} of {planned} specs, the latest {latest}"),
        )
    report.show_tuning(found)
    if figure is not None and found.finished:
        from heaplab.report.fronts import front  # noqa: PLC0415 - it draws

        with replacing(figure) as file:
            front(found).savefig(file, format=figure[-3:].lower())
        click.echo(f"figure: {figure}")
    click.get_current_context().exit(INTERRUPTED if found.interrupted else OK)
