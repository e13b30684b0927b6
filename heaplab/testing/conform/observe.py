"""What can be seen after a step, in one form for the real kernel and for the model, and how the two differ.

An Outcome is what the step itself gave.  A View is what /proc tells of one process.  Pages are the
page-table entries of ranges that both sides were asked for.
Frames and inodes have other numbers on the two sides: only which of them are the same is compared.
"""

import errno
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import lru_cache
from signal import Signals
from typing import Final

import numpy as np
import numpy.typing as npt

from heaplab.testing.conform.codec import PAGE

#: the result of a call that has not come back
SLEEPS: Final = -(1 << 63)
#: VMAs of more pages are looked at only at their ends and where they were accessed
_WHOLE: Final = 512
_END: Final = 32


@dataclass(frozen=True)
class Start:
    """How pid 1 stands when a sequence begins, for the model to be made alike."""

    brk: int
    stack: tuple[int, int]
    touched: tuple[int, ...]  # pages of the stack that are there, all zeros
    limits: tuple[tuple[int, int, int], ...] = ()  # resource, soft, hard
    peak: int = 0  # pages that it has had at once


@dataclass(frozen=True)
class Fault:
    """A signal that an access got."""

    signo: int
    si_code: int
    address: int

    def __str__(self) -> str:
        return f"{Signals(self.signo).name}, si_code {self.si_code}, at {self.address:#x}"


@dataclass(frozen=True)
class Outcome:
    """What one step gave.

    result  of the call, or a negative errno, or SLEEPS; the value that was loaded
    minflt  minor faults that it took
    fault   the signal, if it was an access that got one
    told    what the call wrote through pointers, in words
    """

    result: int = 0
    minflt: int = 0
    fault: Fault | None = None
    told: str = ""

    def __str__(self) -> str:
        if self.result == SLEEPS:
            text = "sleeps"
        elif self.fault is not None:
            text = str(self.fault)
        elif -4096 < self.result < 0:
            text = f"-{errno.errorcode.get(-self.result, -self.result)}"
        else:
            text = f"{self.result:#x}" if self.result > 9 else str(self.result)
        told = f", {self.told}" if self.told else ""
        return f"{text}{told}, {self.minflt} minor faults"


@dataclass(frozen=True)
class Vma:
    """A line of /proc/PID/maps, but for its inode, which has another number on each side."""

    start: int
    end: int
    rights: str
    offset: int
    name: str

    def __str__(self) -> str:
        return f"{self.start:x}-{self.end:x} {self.rights} {self.offset:x} {self.name}".rstrip()


@dataclass(frozen=True)
class Maps:
    """A process's VMAs, and beside each its inode, 0 when it has no file."""

    vmas: tuple[Vma, ...]
    inodes: tuple[int, ...]


@dataclass(frozen=True)
class View:
    """What /proc tells of a task.

    state           R, T, D, Z, ...
    ppid            its parent's pid
    maps
    pgid, sid       its process group and session
    threads         tasks of its process
    comm            its name
    minflt          minor faults of its process so far, and of the children that it waited for
    cminflt
    caught          the signals that its handler got since the last look
    """

    state: str
    ppid: int
    maps: Maps
    pgid: int = 0
    sid: int = 0
    threads: int = 1
    comm: str = ""
    minflt: int = 0
    cminflt: int = 0
    caught: tuple["Caught", ...] = ()


@dataclass(frozen=True)
class Caught:
    """A signal as a handler got it: fields of siginfo_t, and the signals that are blocked meanwhile."""

    signo: int
    code: int
    pid: int
    status: int
    blocked: int

    def __str__(self) -> str:
        name = Signals(self.signo).name if self.signo in list(Signals) else str(self.signo)
        return (
            f"{name} (si_code {self.code}, si_pid {self.pid}, si_status {self.status}; "
            f"blocked {self.blocked:#x})"
        )


Views = dict[int, View]
Span = tuple[int, int, int]  # pid, first address, number of pages

_MAPS_LINE: Final = re.compile(r"([0-9a-f]+)-([0-9a-f]+) (....) ([0-9a-f]+) \S+ (\d+) *(.*)\n")


@lru_cache(4096)
def parse_maps(text: str, above: int = 0, below: int = 1 << 47) -> Maps:
    """Read the text of /proc/PID/maps, as far as it is about addresses in [above, below)."""
    vmas, inodes = [], []
    for start, end, rights, offset, inode, name in _MAPS_LINE.findall(text):
        if above <= int(start, 16) < below:
            vmas.append(Vma(int(start, 16), int(end, 16), rights, int(offset, 16), name))
            inodes.append(int(inode))
    return Maps(tuple(vmas), tuple(inodes))


@dataclass(frozen=True)
class Pages:
    """The page-table entries of some spans, one after the other.

    present, exclusive (no other entry maps the frame), file (shared memory): as pagemap has them.
    frame: a number, meaningful where an entry is present.
    """

    present: npt.NDArray[np.bool_]
    exclusive: npt.NDArray[np.bool_]
    file: npt.NDArray[np.bool_]
    frame: npt.NDArray[np.uint64]


def spans_of(views: Views, accessed: Iterable[int]) -> list[Span]:
    """Return the ranges of pages to look at: all of the VMAs, but of large ones only the interesting parts.

    accessed: the addresses that steps went to so far.
    """
    return [
        (pid, start, (end - start) // PAGE)
        for pid, view in views.items()
        for start, end in _ranges(view.maps, accessed)
    ]


def _ranges(maps: Maps, accessed: Iterable[int]) -> Iterator[tuple[int, int]]:
    """The ranges of one process; neighbours are one range."""
    low = high = 0
    for vma in maps.vmas:
        for start, end in _parts(vma, accessed):
            if start == high:
                high = end
                continue
            if high:
                yield low, high
            low, high = start, end
    if high:
        yield low, high


def _parts(vma: Vma, accessed: Iterable[int]) -> Iterator[tuple[int, int]]:
    pages = (vma.end - vma.start) // PAGE
    if pages <= _WHOLE:
        yield vma.start, vma.end
        return
    yield vma.start, vma.start + _END * PAGE
    within = {at // PAGE * PAGE for at in accessed if vma.start + _END * PAGE <= at < vma.end - _END * PAGE}
    for page in sorted(within):
        yield page, page + PAGE
    yield vma.end - _END * PAGE, vma.end


# ---- differences: each is a sentence, and what the real kernel and the model say


@dataclass(frozen=True)
class Difference:
    """One thing that the two sides disagree about."""

    what: str
    real: str
    model: str

    def __str__(self) -> str:
        return f"{self.what}\n    real    {self.real}\n    model   {self.model}"


def compare_outcomes(real: Outcome, model: Outcome) -> list[Difference]:
    """Return how the two differ: nothing, or one difference."""
    return [] if real == model else [Difference("the step's outcome", str(real), str(model))]


def compare_views(real: Views, model: Views) -> list[Difference]:
    """Return how the two differ: in the processes there are, in their states, parents and VMAs."""
    if list(real) != list(model):
        return [Difference("the processes that exist", str(list(real)), str(list(model)))]
    found = []
    for pid, mine in real.items():
        theirs = model[pid]
        for what, here, there in (
            ("state", mine.state, theirs.state),
            ("parent", mine.ppid, theirs.ppid),
            ("process group", mine.pgid, theirs.pgid),
            ("session", mine.sid, theirs.sid),
            ("threads", mine.threads, theirs.threads),
            ("name", mine.comm, theirs.comm),
            ("minor faults", mine.minflt, theirs.minflt),
            ("minor faults of children", mine.cminflt, theirs.cminflt),
            ("caught", _once_from_children(mine.caught), _once_from_children(theirs.caught)),
            ("maps", mine.maps.vmas, theirs.maps.vmas),
        ):
            if here != there:
                found.append(Difference(f"process {pid}: {what}", _text(here), _text(there)))
    return found or _compare_inodes(real, model)


def caught_by_any(tasks: list[int], views: Views) -> Views:
    """Return the views as if one of these tasks had caught what they all did, in no order."""
    there = [pid for pid in tasks if pid in views]
    caught = (replace(each, blocked=0) for pid in there for each in views[pid].caught)
    of_all = tuple(sorted(caught, key=lambda each: (each.signo, each.code, each.pid, each.status)))
    return views | {pid: replace(views[pid], caught=of_all if pid == there[0] else ()) for pid in there}


def _once_from_children(caught: tuple[Caught, ...]) -> tuple[Caught, ...]:
    """Leave out what children send when such a signal was sent in the same step already.

    Whether it comes a second time depends on who runs first, parent or child: Linux leaves that open.
    """
    signums = [each.signo if each.code > 0 else 0 for each in caught]
    return tuple(
        each
        for index, each in enumerate(caught)
        if not signums[index] or signums[index] not in signums[:index]
    )


def _text(value: object) -> str:
    return "".join(f"\n        {line}" for line in value) if isinstance(value, tuple) else str(value)


def _compare_inodes(real: Views, model: Views) -> list[Difference]:
    """Which mappings are of the same file?"""
    here = [inode for view in real.values() for inode in view.maps.inodes]
    there = [inode for view in model.values() for inode in view.maps.inodes]
    if len(set(zip(here, there, strict=True))) == len(set(here)) == len(set(there)):
        return []
    return [Difference("which mappings are of one file", str(here), str(there))]


def compare_pages(spans: list[Span], real: Pages, model: Pages) -> list[Difference]:
    """Return how the page tables differ: in entries, their bits, or which of them share a frame."""
    found = []
    for what in ("present", "exclusive", "file"):
        here, there = getattr(real, what), getattr(model, what)
        if not np.array_equal(here, there):
            where = np.flatnonzero(here != there).tolist()
            pages = ", ".join(_place(spans, index) for index in where[:8])
            found.append(
                Difference(f"{what} bit of {pages}", str(bool(here[where[0]])), str(bool(there[where[0]])))
            )
    return found or _compare_frames(spans, real, model)


def _compare_frames(spans: list[Span], real: Pages, model: Pages) -> list[Difference]:
    """Do the same entries share a frame?  Then the real frames and the model's stand in pairs, one to one."""
    where = np.flatnonzero(real.present)
    here, there = real.frame[where].tolist(), model.frame[where].tolist()
    if len(set(zip(here, there, strict=True))) == len(set(here)) == len(set(there)):
        return []
    first_here: dict[int, int] = {}  # frame -> the first entry that maps it
    first_there: dict[int, int] = {}
    for index, mine, theirs in zip(where.tolist(), here, there, strict=True):
        one, other = first_here.setdefault(mine, index), first_there.setdefault(theirs, index)
        if one != other:
            return [
                Difference(
                    f"the frame of {_place(spans, index)}",
                    _shared(spans, index, one),
                    _shared(spans, index, other),
                )
            ]
    raise AssertionError("frames do not stand in pairs, yet no entry tells")


def _shared(spans: list[Span], index: int, first: int) -> str:
    return "its own" if index == first else f"that of {_place(spans, first)}"


def _place(spans: list[Span], index: int) -> str:
    for pid, start, pages in spans:
        if index < pages:
            return f"{start + index * PAGE:#x} of process {pid}"
        index -= pages
    raise IndexError(index)


def frame_at(spans: list[Span], pages: Pages, pid: int, address: int) -> int | None:
    """Return the frame that `address` of process `pid` is mapped to, or None."""
    base = 0
    for owner, start, count in spans:
        if owner == pid and start <= address < start + count * PAGE:
            index = base + (address - start) // PAGE
            return int(pages.frame[index]) if pages.present[index] else None
        base += count
    return None
