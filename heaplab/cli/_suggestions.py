"""What to do next: the commands that make a failure of `heaplab compare` small."""

import shlex
from collections.abc import Iterator

from heaplab import lab
from heaplab.lab.record import NATIVE
from heaplab.native.playing import CRASHED, FAILED, HUNG

#: lines at most
_MOST = 3


def suggestions(comparison: lab.Comparison) -> list[str]:
    """Return lines with the commands that make failures small: at most three, and how many more.

    A command opens the trace again, and writes payloads; so a trace from a pipe, one that was read leniently,
    and a replay without payloads get none.  Nor do real allocators, but for those from outside.
    """
    commands = list(_commands(comparison))
    lines = [f"to make it small: {command}" for command in commands[:_MOST]]
    if len(commands) > _MOST:
        lines.append(f"... and {len(commands) - _MOST} more")
    return lines


def _commands(comparison: lab.Comparison) -> Iterator[str]:
    settings = comparison.settings
    options: list[str] = []
    if settings["seed"] != 1:
        options += ["--seed", str(settings["seed"])]
    if settings["ram"] != lab.RAM:
        options += ["--ram", str(settings["ram"])]
    for run in comparison.runs:
        source = comparison.again.get(run.trace)
        if (
            run.outcome not in (FAILED, CRASHED, HUNG)
            or (run.language == NATIVE and run.allocator not in settings["outside"])
            or source is None
            or not settings["payload"]
            or (settings["lenient"] and any(each.startswith(f"{source}:") for each in comparison.remarks))
        ):
            continue
        words = ["heaplab", "shrink", source, "--allocators", run.allocator]
        if run.language != NATIVE:
            words += ["--language", run.language] if run.language != "c" else []
            words += options
        yield shlex.join([*words, "-o", "small.rep"])
