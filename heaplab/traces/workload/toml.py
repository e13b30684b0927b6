"""Workloads as .toml files: the same keys as in the text, and tables of sizes with lifetimes."""

import math
from collections.abc import Iterator
from dataclasses import fields
from typing import Any

import numpy as np

from heaplab.errors import UsageError
from heaplab.traces.workload.joint import Joint
from heaplab.traces.workload.shapes import Kind, Phase
from heaplab.traces.workload.workload import Workload

_COLUMNS = ("sizes", "lows", "highs", "weights", "fixed")
_NUMBERS = (bool, int, float)


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
    lines = list(_lines(workload, usual=Workload(), always=("events", "sizes", "lifetimes", "arrival", "seed")))
    for part in workload.phases:
        lines += ["", "[[phases]]", *_lines(part, usual=Phase(), always=("shape", "share"))]
        lines += _joint(part.joint, "phases.joint")
    for kind in workload.kinds:
        lines += ["", "[[kinds]]", *_lines(kind, usual=Kind(1.0), always=("weight",))]
        lines += _joint(kind.joint, "kinds.joint")
    lines += _joint(workload.joint, "joint")
    return "\n".join([*lines, ""])


def _lines(part: Any, usual: Any, always: tuple[str, ...]) -> Iterator[str]:
    for each in fields(part):
        value = getattr(part, each.name)
        if each.name in ("phases", "kinds", "joint", "origin"):
            continue
        if each.name in always or value != getattr(usual, each.name):
            yield f"{each.name} = {value if isinstance(value, _NUMBERS) else _quoted(str(value))}"


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n") + '"'


def _joint(joint: Joint | None, name: str) -> Iterator[str]:
    if joint is None:
        return
    yield f"[{name}]"
    for column in _COLUMNS:
        values = getattr(joint, column)
        yield f"{column} = [{', '.join(map(_cell, values.tolist()))}]"


def _cell(value: float) -> str:
    if math.isinf(value):
        return "inf"
    return repr(int(value)) if float(value).is_integer() else repr(float(value))


def joint_of(given: Any) -> Joint:
    """Return the table that TOML made of `[joint]`.  Raises: UsageError when it is none."""
    if not isinstance(given, dict) or not {"sizes", "lows"} <= given.keys() <= {*_COLUMNS}:
        raise UsageError(f"joint: needs the lists {', '.join(_COLUMNS)}, or the name of a file with columns")
    rows = len(given["sizes"])
    usual: dict[str, list[float]] = {
        "highs": given["lows"],
        "weights": [1.0] * rows,
        "fixed": [0.0] * rows,
    }
    try:
        columns = [np.array(given.get(name, usual.get(name)), float) for name in _COLUMNS]
    except (TypeError, ValueError):
        raise UsageError("joint: its lists hold numbers only") from None
    return Joint(*columns[:4], columns[4].astype(np.bool_))
