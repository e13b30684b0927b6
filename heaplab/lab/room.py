"""Whether there is memory for a run: the machine's, and this computer's."""

from pathlib import Path

from heaplab.machine.machine import USUAL_PAGE
from heaplab.traces import Header
from heaplab.units import format_size, parse_size

#: bytes of a worker process that has done nothing yet
_WORKER = 96 << 20
#: bytes that a replay keeps for each slot of the trace
_SLOT = 16
#: frames that one page table maps
_MAPPED = 512


def host_memory(proc: Path = Path("/proc"), cgroups: Path = Path("/sys/fs/cgroup")) -> int | None:
    """Return how many bytes this process and its children may still take; None when nothing tells.

    MemAvailable of /proc/meminfo, or what the limits (memory.max) of this process's control groups leave:
    the least of them.  Files in the page cache can be given up, so they count as available.
    """
    found = []
    for line in _read(proc / "meminfo").splitlines():
        if line.startswith("MemAvailable:"):
            found.append(int(line.split()[1]) << 10)
    for line in _read(proc / "self/cgroup").splitlines():
        if line.startswith("0::"):
            group = cgroups / line[3:].strip().lstrip("/")
            for each in (group, *group.parents):
                if not each.is_relative_to(cgroups):
                    break
                if (left := _left_in(each)) is not None:
                    found.append(left)
    return min(found, default=None)


def _left_in(group: Path) -> int | None:
    most, used = _read(group / "memory.max").strip(), _read(group / "memory.current").strip()
    if not most.isdigit() or not used.isdigit():  # "max": no limit
        return None
    stat = dict(line.split() for line in _read(group / "memory.stat").splitlines())
    return max(int(most) - int(used) + int(stat.get("inactive_file", 0)), 0)


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""


def machine_refusal(header: Header, ram: int | str) -> str | None:
    """Return why a machine with `ram` cannot hold the trace's payloads, in a sentence; None when it may.

    What is live in several processes may be shared after a fork, so their traces are not judged.
    """
    pages = -(-header.peak_live // USUAL_PAGE)
    if header.processes > 1 or (pages + pages // _MAPPED) * USUAL_PAGE <= parse_size(ram):
        return None
    return (
        f"{header.name}: the machine has too little memory (--ram {ram}) for this trace: "
        f"{format_size(header.peak_live)} are live at its peak"
    )


def host_refusal(header: Header, ram: int | str, host: int | None) -> str | None:
    """Return why a run with payloads cannot fit in this computer's memory, in a sentence; None when it may.

    host: what `host_memory` says.  A run takes no more than the machine has.
    """
    need = min(header.peak_live, parse_size(ram)) + _SLOT * header.slots
    if header.processes > 1 or host is None or need <= host:
        return None
    return (
        f"{header.name}: a run needs {format_size(need)} of this computer's memory, and "
        f"{format_size(host)} are available: --no-payload needs far less"
    )


def fitting_jobs(wanted: int, headers: list[Header], ram: int | str, host: int | None, payload: bool) -> int:
    """Return how many of `wanted` workers may run at once so that the largest traces fit in `host` bytes.

    >>> from heaplab.traces import synthetic
    >>> fitting_jobs(8, [synthetic(1000).header], "4 GiB", 300 << 20, payload=True)
    3
    """
    if host is None:
        return wanted
    size = parse_size(ram)
    most = max((min(header.peak_live, size) for header in headers), default=0) if payload else 0
    slots = max((header.slots for header in headers), default=0)
    each = _WORKER + most + most // 4 + _SLOT * slots  # allocators need more than what is live
    return max(1, min(wanted, host // each))
