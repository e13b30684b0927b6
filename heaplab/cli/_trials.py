"""Options of the commands that play made-up scripts."""

from collections.abc import Callable
from typing import Any

import click

from heaplab.allocators.registry import LANGUAGES


def script_options(*, shrink_seconds: float) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Return the decorator that adds what fuzz and check are told of scripts.

    shrink_seconds: the default.
    """
    options = (
        click.option(
            "--seconds",
            type=click.FloatRange(min=0, min_open=True),
            default=10.0,
            show_default=True,
            help="Begin no new script after this time.",
        ),
        click.option("--steps", type=click.IntRange(min=1), help="Begin no new script after so many steps."),
        click.option("--seed", type=int, default=1, show_default=True, help="Of all that is drawn."),
        click.option("--language", type=click.Choice(LANGUAGES), default="c", show_default=True),
        click.option(
            "--step-seconds",
            type=click.FloatRange(min=0, min_open=True),
            default=5.0,
            show_default=True,
            help="A step that takes longer has no end.",
        ),
        click.option(
            "--shrink-seconds",
            type=click.FloatRange(min=0),
            default=shrink_seconds,
            show_default=True,
            help="Spend no more time on making the steps of a failure few.",
        ),
    )

    def add(command: Callable[..., Any]) -> Callable[..., Any]:
        for option in reversed(options):
            command = option(command)
        return command

    return add
