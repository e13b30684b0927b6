"""Workloads as .toml files: the same keys as in the text, and tables of sizes with lifetimes."""

import math
from collections.abc import Iterable, Iterator
from dataclasses import fields
from typing import Any

from heaplab.errors import UsageError
from heaplab.traces.workload.joint import JOINT_COLUMNS, Joint
from heaplab.traces.workload.shapes import Kind, Phase
from heaplab.traces.workload.workload import Workload


def written(workload: Workload) -> str:
    """Return the workload as the text of a .toml file.

    >>> print(written(Workload(events=10, phases=(Phase("ramp"), Phase("drain")))))
    events = 10
    sizes = "lognormal,48,1"
    lifetimes = "exponential,1000"
    arrival = "constant,1"
    seed = 0
    <BLANKLINE>
    [[phases]]
    shape = "ramp"
    share = 1.0
    <BLANKLINE>
    [[phases]]
    shape = "drain"
    share = 1.0
    <BLANKLINE>
    """
    lines = _lines(workload.said())
    for part in workload.phases:
        lines += ["", "[[phases]]", *_lines(_said(part, Phase(), ("shape", "share")))]
        lines += _joint(part.joint, "phases.joint")
    for kind in workload.kinds:
        lines += ["", "[[kinds]]", *_lines(_said(kind, Kind(1.0), ("weight",)))]
        lines += _joint(kind.joint, "kinds.joint")
    lines += _joint(workload.joint, "joint")
    return "\n".join([*lines, ""])


def _said(part: Any, usual: Any, always: tuple[str, ...]) -> Iterator[tuple[str, Any]]:
    for each in fields(usual):
        value = getattr(part, each.name)
        if each.name in always or value != getattr(usual, each.name):
            yield each.name, value


def _lines(said: Iterable[tuple[str, Any]]) -> list[str]:
    tables = ("phases", "kinds", "joint")
    return [f"{name} = {_written(value)}" for name, value in said if name not in tables]


def _written(value: object) -> str:
    return str(value) if isinstance(value, int | float) else _quoted(str(value))


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n") + '"'


def _joint(joint: Joint | None, name: str) -> Iterator[str]:
    if joint is None:
        return
    yield f"[{name}]"
    for column in JOINT_COLUMNS:
        values = getattr(joint, column)
        if values.any():
            yield f"{column} = [{', '.join(map(_cell, values.tolist()))}]"


def _cell(value: float) -> str:
    if math.isinf(value):
        return "inf"
    return repr(int(value)) if float(value).is_integer() else repr(float(value))


def joint_of(given: Any) -> Joint:
    """Return the table that TOML made of `[joint]`.  Raises: UsageError when it is none."""
    known = {"sizes", "lows"} <= given.keys() <= {*JOINT_COLUMNS} if isinstance(given, dict) else False
    if not known or not all(isinstance(column, list) for column in given.values()):
        raise UsageError(
            f"joint: write lists of {', '.join(JOINT_COLUMNS)}, the first two at least, or the name of a file"
        )
    try:
        return Joint.build(len(given["sizes"]), **given)
    except (TypeError, ValueError):
        raise UsageError("joint: its lists hold numbers only") from None
