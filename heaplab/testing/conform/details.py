"""What /proc says of one process in full: status and smaps, as far as the two kernels can be held to it.

Both texts are brought into one form, which differs only where the kernels do; then it is a text to compare.
It costs more than all else that is looked at, so it is asked for now and then, and at the end of a sequence.
"""

import re
from collections.abc import Iterator
from typing import Final

from heaplab.testing.conform.agents import AGENT_END
from heaplab.testing.conform.observe import Difference

#: lines of status that are compared.  Not: what has to do with the agents' own pages, which count in VmRSS,
#: RssFile, RssShmem, VmHWM, VmExe and VmLib; whose they are; when they ran.  State, parent, groups: see View
_STATUS: Final = (
    *("Umask", "Tgid", "TracerPid", "NStgid", "NSpid", "NSpgid", "NSsid", "Kthread"),
    *("VmPeak", "VmSize", "VmLck", "VmPin", "RssAnon", "VmData", "VmStk", "VmPTE", "VmSwap", "HugetlbPages"),
    *("Threads", "SigPnd", "ShdPnd", "SigBlk", "SigIgn", "SigCgt", "NoNewPrivs", "Seccomp"),
)
#: of smaps not Referenced: a page keeps that from times when it was something else's
_STATUS_LINE: Final = re.compile(rf"^(?:{'|'.join(_STATUS)}):.*\n", re.MULTILINE)
_AREA: Final = re.compile(r"^([0-9a-f]+)-([0-9a-f]+) .*\n((?:[A-Z].*\n)*)", re.MULTILINE)
_LEFT_OUT: Final = re.compile(r"^Referenced:.*\n", re.MULTILINE)
_TASK_SIZE: Final = 1 << 47


def kib(status: str, name: str) -> int:
    """Return the number in a line of status."""
    return int(status.partition(f"\n{name}:")[2].split(maxsplit=1)[0])


def of(status: str, smaps: str) -> str:
    """Bring the two texts into the form that is compared."""
    parts = _STATUS_LINE.findall(status)
    for start, end, fields in _AREA.findall(smaps):
        if AGENT_END <= int(start, 16) < _TASK_SIZE:
            parts += [f"{start}-{end}\n", _LEFT_OUT.sub("", fields)]
    return "".join(parts)


def compare(pid: int, real: str, model: str) -> list[Difference]:
    """Return the lines in which the two differ."""
    if real == model:
        return []
    here, there = dict(_named(real)), dict(_named(model))
    nothing = "no such line"
    return [
        Difference(f"process {pid}: {name}", here.get(name, nothing), there.get(name, nothing))
        for name in {**here, **there}
        if here.get(name) != there.get(name)
    ]


def _named(text: str) -> Iterator[tuple[str, str]]:
    """Yield each line's name, with the range it is about, and its value."""
    where = ""
    for line in text.splitlines():
        name, colon, value = line.partition(":")
        if colon:
            yield f"{name}{where}", " ".join(value.split())
        else:
            where = f" of {name}"
