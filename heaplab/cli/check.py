"""`heaplab check`: does an allocator keep the contract of malloc?  On one screen."""

import json
import textwrap
from collections.abc import Iterator
from functools import partial

import click

from heaplab.cli._outputs import demand_writable_file
from heaplab.cli._progress import status_line
from heaplab.cli._trials import script_options
from heaplab.files import replacing
from heaplab.outside import Outside, find_allocator
from heaplab.testing import foreign
from heaplab.testing.checking import Broken, Checked, Part
from heaplab.testing.checking import check as hold_against

OK, FOUND_WRONG = 0, 1
#: columns of the screen
_WIDTH = 80
#: what went wrong in a part is told in full for so many, and by name for the others
_TOLD = 2
#: steps that are shown of a longer list, at its beginning and at its end
_FIRST_STEPS, _LAST_STEPS = 30, 10
#: clauses left out for one reason are named if there are no more
_NAMED = 2


@click.command()
@click.argument("allocator", metavar="SPEC|FILE")
@script_options(shrink_seconds=20.0)
@click.option("--json", "json_path", metavar="FILE", help="Write all that was found as JSON.")
@click.option("--quiet", "-q", is_flag=True, help="Show no progress.")
def check(
    allocator: str,
    seconds: float,
    steps: int | None,
    seed: int,
    language: str,
    step_seconds: float,
    shrink_seconds: float,
    json_path: str | None,
    quiet: bool,
) -> None:
    """Say whether an allocator keeps the contract of malloc.

    Tried are the clauses of the contract, every refusal of memory in turn, made-up scripts for a while, and
    short traces.  What goes wrong is told with the shortest steps that show it.  With --steps two checks are
    equal but for the seconds.

    Exit status: 1 when something is broken.
    """
    demand_writable_file("--json", json_path)
    with status_line("starting", quiet=quiet) as show:
        found = find_allocator(allocator, language)
        hold = partial(foreign.check, found) if isinstance(found, Outside) else partial(hold_against, found)
        checked = hold(
            seconds=seconds if steps is None else float("inf"),
            steps=steps,
            seed=seed,
            step_seconds=step_seconds,
            shrink_seconds=shrink_seconds,
            tell=lambda what: show(f"{allocator}: {what}"),
        )
    if json_path is not None:
        with replacing(json_path) as file:
            file.write(json.dumps(checked.data(), indent=2).encode() + b"\n")
    click.echo("\n".join(_screen(checked)))
    click.get_current_context().exit(OK if checked.passed else FOUND_WRONG)


def _screen(checked: Checked) -> Iterator[str]:
    verdict = "keeps" if checked.passed else "BREAKS"
    yield f"{checked.allocator} ({checked.language}) {verdict} the contract of malloc."
    yield ""
    for part in checked.parts:
        yield from _row(part)
    reasons: dict[str, list[str]] = {}
    for part in checked.parts:
        for name, why in part.left_out.items():
            reasons.setdefault(why, []).append(name)
    if reasons:
        yield ""
        yield "Left out:"
        for why, names in reasons.items():
            yield from _wrapped(f"{', '.join(names) if len(names) <= _NAMED else len(names)}: {why}", "  ")
    # what steps show says more than a clause that is broken
    for part in sorted(checked.parts, key=lambda part: not (part.broken and part.broken[0].steps)):
        for broken in part.broken[:_TOLD]:
            yield from _told(broken)
        if others := part.broken[_TOLD:]:
            yield ""
            yield from _wrapped(f"Also broken: {', '.join(each.what for each in others)}", "")


def _row(part: Part) -> Iterator[str]:
    head = f"  {part.name:10}{part.outcome:10}"
    lines = textwrap.wrap(part.told, _WIDTH - len(head) - 9)
    for number, line in enumerate(lines or [""]):
        if number == 0:
            yield f"{head}{line:{_WIDTH - len(head) - 9}}{part.seconds:7.1f} s"
        else:
            yield " " * len(head) + line


def _told(broken: Broken) -> Iterator[str]:
    yield ""
    yield f"{broken.what}:"
    if broken.steps:
        n = len(broken.steps)
        count = f"{n:,} step" + "s" * (n != 1) + (f" of {broken.of:,}" if broken.of > n else "")
        yield f"  The shortest steps found that fail, {count}:"
        yield from (f"    {step}" for step in _few(broken.steps))
    yield from _wrapped(f"What broke: {broken.sentence}", "  ")
    if broken.place:
        yield f"  At {broken.place}"


def _few(steps: tuple[str, ...]) -> Iterator[str]:
    if len(steps) <= _FIRST_STEPS + _LAST_STEPS:
        yield from steps
        return
    yield from steps[:_FIRST_STEPS]
    yield f"... {len(steps) - _FIRST_STEPS - _LAST_STEPS:,} more"
    yield from steps[-_LAST_STEPS:]


def _wrapped(text: str, indent: str) -> list[str]:
    return textwrap.wrap(text, _WIDTH, initial_indent=indent, subsequent_indent=indent + "  ")
