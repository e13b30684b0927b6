"""The best placement that is known of a trace, kept by the trace's content."""

import hashlib
import json
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np

from heaplab import __version__
from heaplab.compiling import cache
from heaplab.csrc import c_sources
from heaplab.errors import UsageError
from heaplab.files import replacing
from heaplab.lab.offline.heuristics import HEURISTICS, height
from heaplab.lab.offline.rectangles import Column, Rectangles
from heaplab.machine import USUAL_PAGE
from heaplab.shown import text
from heaplab.traces import Trace, open_trace

#: a placement so near to the lower bound is good enough
_NEAR = 1.001
_COLUMNS = ("op", "id", "size", "align", "process")


@dataclass(frozen=True)
class Offline:
    """How little memory the blocks of a trace can do with.

    trace: its name.  events, blocks: how many; what fork or realloc makes of a block is one more.
    lower_bound: bytes: the peak of the live bytes of all processes, each block rounded up to 16.  No heap
    can be smaller at its peak.
    live_pages: pages that hold the distinct live bytes at their peak: what fork copies counts once, since the
    copies may share frames.  No design has fewer resident, if programs write their blocks.
    placements: bytes that each heuristic needs, those that were tried.
    address: of each block of `traces.lives.lives(trace)`, in the best placement.

    >>> from heaplab import lab
    >>> from heaplab.traces import Event, Op
    >>> found = lab.offline(Trace.of([Event(Op.MALLOC, 0, 24), Event(Op.MALLOC, 1, 8), Event(Op.FREE, 0)]))
    >>> found.lower_bound, found.best, found.heuristic, found.live_pages
    (48, 48, 'best fit', 1)
    """

    trace: str
    events: int
    blocks: int
    lower_bound: int
    live_pages: int
    placements: Mapping[str, int]
    address: Column = field(repr=False, compare=False)

    @property
    def best(self) -> int:
        """Bytes of the best placement known."""
        return min(self.placements.values(), default=0)

    @property
    def heuristic(self) -> str:
        """The name of the heuristic that found it; the first of several."""
        return min(self.placements, key=self.placements.__getitem__, default="")

    @property
    def optimal(self) -> bool:
        """Whether the best placement known is the best there is: it has the size of the lower bound."""
        return self.best == self.lower_bound

    def above(self, size: int) -> float:
        """Return how much more `size` bytes are than the best placement, as a share of it.

        >>> Offline("t", 1, 1, 80, 1, {"best fit": 100}, np.empty(0)).above(104)
        0.04
        """
        return (size - self.best) / self.best if self.best else 0.0

    def as_dict(self) -> dict[str, Any]:
        """The figures as plain data, without the addresses."""
        names = ("trace", "events", "blocks", "lower_bound", "live_pages", "best", "heuristic", "optimal")
        return {name: getattr(self, name) for name in names} | {"placements": dict(self.placements)}

    def __str__(self) -> str:
        return text(self, "heaplab.report.offline:offline_text")


def offline(
    trace: Trace | str | Path,
    *,
    every: bool = False,
    progress: Callable[[str], None] = lambda sentence: None,
) -> Offline:
    """Return the bounds of a trace and the best placement known.

    every: try all heuristics; without it no more are tried when a placement is within a thousandth of the
    lower bound.  progress: called with a sentence before each.
    What was found is kept by the trace's content in ~/.cache/heaplab.
    Cost: some seconds for 300,000 blocks the first time; then reading the trace.
    Raises: UsageError for a trace that cannot be read or placed.
    """
    opened = trace if isinstance(trace, Trace) else open_trace(trace)
    name = opened.header.name
    progress(f"{name}: reading")
    known = _Known.of(opened)
    if not known.lower_bound or not known.enough(every):
        rectangles = Rectangles.of(opened)
        known.bound(rectangles)
        try:
            for wish, heuristic in HEURISTICS.items():
                if known.enough(every):
                    break
                if wish not in known.needs:
                    progress(f"{name}: {wish}")
                    known.add(wish, rectangles, heuristic.place(rectangles))
        finally:  # what was found before Ctrl-C is not lost
            known.write()
    return known.offline(opened, every)


@dataclass(eq=False)
class _Known:
    """What is known of a trace, in memory and in its file.

    needs: bytes by heuristic; None where it cannot place such a trace.  address: of the best of them.
    """

    file: Path | None
    blocks: int = 0
    lower_bound: int = 0
    live_pages: int = 0
    needs: dict[str, int | None] = field(default_factory=dict)
    address: Column = field(default_factory=lambda: np.empty(0, np.uint64))

    @classmethod
    def of(cls, trace: Trace) -> "_Known":
        """Return what earlier calls found, or nothing."""
        try:
            file = cache() / "offline" / f"{_key(trace)}.npz"
        except UsageError:  # no home directory: nothing is kept
            return cls(None)
        broken = (OSError, ValueError, KeyError, TypeError, BadZipFile)
        with suppress(*broken), np.load(file, allow_pickle=False) as kept:
            return cls(file, address=kept["address"], **json.loads(str(kept["figures"])))
        return cls(file)

    def write(self) -> None:
        if self.file is None:
            return
        figures = {name: getattr(self, name) for name in ("blocks", "lower_bound", "live_pages", "needs")}
        with suppress(OSError):  # nowhere to write: the next call takes as long
            self.file.parent.mkdir(parents=True, exist_ok=True)
            with replacing(self.file) as out:
                np.savez_compressed(out, address=self.address, figures=np.array(json.dumps(figures)))

    def bound(self, rectangles: Rectangles) -> None:
        self.blocks, self.lower_bound = len(rectangles.start), rectangles.live
        self.live_pages = -(-rectangles.distinct // USUAL_PAGE)

    def add(self, name: str, rectangles: Rectangles, address: Column | None) -> None:
        if address is None:
            self.needs[name] = None
            return
        needed = height(rectangles, address)
        if needed < min(self.placements(every=True).values(), default=needed + 1):
            self.address = address[rectangles.block]
        self.needs[name] = needed

    def placements(self, every: bool) -> dict[str, int]:
        """What heuristics need, in their order; unless `every`, up to the first that is good enough."""
        found: dict[str, int] = {}
        for name in HEURISTICS:
            needed = self.needs.get(name)
            if needed is not None:
                found[name] = needed
            if not every and needed is not None and self.near(needed):
                break
        return found

    def enough(self, every: bool) -> bool:
        known = [needed for needed in self.needs.values() if needed is not None]
        return len(self.needs) == len(HEURISTICS) or (not every and any(map(self.near, known)))

    def near(self, needed: int) -> bool:
        return needed <= self.lower_bound * _NEAR

    def offline(self, trace: Trace, every: bool) -> Offline:
        header, placements = trace.header, self.placements(every)
        return Offline(
            *(header.name, header.events, self.blocks, self.lower_bound, self.live_pages, placements),
            address=self.address,
        )


def _key(trace: Trace) -> str:
    """A name for the trace's content, and for the heuristics as they are."""
    key = hashlib.sha256(__version__.encode())
    for file in sorted([*Path(__file__).parent.glob("*.py"), *(c_sources() / "packing").glob("*.[ch]")]):
        key.update(file.read_bytes())
    for block in trace:
        for column in _COLUMNS:
            key.update(np.ascontiguousarray(getattr(block, column)).data)
    return key.hexdigest()[:24]
