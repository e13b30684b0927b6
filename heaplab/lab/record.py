"""The record of one run: plain data, whatever is shown of it."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, is_dataclass
from types import UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

from heaplab.lab.attribution import Attribution
from heaplab.lab.metrics import Excess, Fragmentation, FreeSpace, Lines, Mems, OverLive
from heaplab.lab.series import Series, Standing
from heaplab.native.playing import CRASHED, HUNG, Latency, Times
from heaplab.shown import html, text
from heaplab.units import format_size

#: the language of real allocators
NATIVE = "native"


@dataclass(frozen=True)
class Timeline:
    """How things stood after so many events; bytes, each tuple as long as `event`."""

    event: tuple[int, ...]
    live: tuple[int, ...]
    heap: tuple[int, ...]
    resident: tuple[int, ...]

    def __repr__(self) -> str:
        last = f", up to event {self.event[-1]:,}" if self.event else ""
        return f"<Timeline of {len(self.event)} samples{last}>"

    def __str__(self) -> str:
        return text(self, "heaplab.report.plain:timeline_text")


@dataclass(frozen=True)
class HeapMap:
    """One process's heap, cut into cells: what of each is payload and what overhead; the rest is free.

    Cells run through the regions (runs of pages that belong to the heap) in address order, without the gaps
    between them.  Overhead is what of blocks is no payload, and metadata.

    process: its number in the trace.  event: as in `Fragmentation`.  regions: (address, bytes).
    cell: bytes; the last cell may be cut short.  payload, overhead: bytes in each cell.
    """

    process: int
    event: int
    regions: tuple[tuple[int, int], ...]
    cell: int
    payload: tuple[int, ...]
    overhead: tuple[int, ...]

    def __repr__(self) -> str:
        size = format_size(sum(size for _, size in self.regions))
        when = f"process {self.process} after {self.event:,} events"
        return f"<HeapMap of {when}: {size} in {len(self.payload)} cells>"

    def __str__(self) -> str:
        return text(self, "heaplab.report.plain:map_text")

    def _repr_html_(self) -> str | None:
        return html(self, "heaplab.report.notebook:map_html")


@dataclass(frozen=True)
class Seconds:
    """The only figures that differ from run to run.

    replay: processor time of the whole replay, the payload's writing and verifying included.
    ns_per_op: the same on the model in nanoseconds per operation; None without operations.
    times, latency: of a real allocator.
    """

    ns_per_op: float | None
    replay: float
    times: Times | None = None
    latency: Latency | None = None


@dataclass(frozen=True)
class Run:
    """One trace on one allocator: what was asked for, how it ended, and what was measured (see `metrics`).

    trace: its name.  allocator: a spec, or the name of a real one.  language: "c", "python", or "native" for
    a real allocator, whose run is no model's.
    outcome: "finished"; "stopped" at the limit of mems; "failed": the allocator broke the contract, or got no
    memory; "crashed": the process it ran in died; "hung": one event took more than the seconds allowed.
    reason: why, when not finished.
    events: of the trace.  events_done: until the end.  operations: calls of the allocator.
    remote_frees: see `metrics`.  processes: that ever lived.  peak_live, peak_heap, peak_resident: bytes.
    freed_heap, freed_resident: bytes, when all is freed; None when the trace was not finished.
    utilisation: None without a heap.  fragmentation, heap_map: None when the heap could not be walked; the
    reason says why.  brk_calls, mmap_calls: None where they could not be counted; so are peak_resident and
    faults of an allocator from outside that was stopped while it was judged.
    excess, attribution, free: at the moment of `fragmentation`.  walks: how the run stood at the moments
    asked for, in order; `series` has them as columns.  heap_over_live, resident_over_live: over the whole
    run.  lines: None unless asked for.  What the model alone knows is None of a real allocator.
    best_placement: bytes: the smallest heap that is known to hold the trace's blocks (`lab.offline`); None
    unless asked for.
    """

    trace: str
    allocator: str
    language: str
    seed: int
    outcome: str
    reason: str
    events: int
    events_done: int
    operations: int
    remote_frees: int
    processes: int
    peak_live: int
    peak_heap: int
    peak_resident: int | None
    freed_heap: int | None
    freed_resident: int | None
    utilisation: float | None
    fragmentation: Fragmentation | None
    faults: int | None
    brk_calls: int | None
    mmap_calls: int | None
    mems: Mems
    timeline: Timeline
    heap_map: HeapMap | None
    seconds: Seconds
    excess: Excess | None = None
    attribution: Attribution | None = None
    free: FreeSpace | None = None
    heap_over_live: OverLive | None = None
    resident_over_live: OverLive | None = None
    lines: Lines | None = None
    walks: tuple[Standing, ...] = ()
    best_placement: int | None = None

    @property
    def series(self) -> Series:
        """The walks, as columns."""
        return Series.of(self.walks)

    @property
    def heap_over_best(self) -> float | None:
        """How much larger the peak of the heap is than the best placement known, as a share of it."""
        return self.peak_heap / self.best_placement - 1 if self.best_placement else None

    @property
    def resident_over_best(self) -> float | None:
        """The same of resident memory; below 0 where processes share after a fork, or pages go back early."""
        if not self.best_placement or self.peak_resident is None:
            return None
        return self.peak_resident / self.best_placement - 1

    @property
    def measured(self) -> bool:
        """Whether the figures are the run's: of one whose process is lost nothing was measured."""
        return self.outcome not in (CRASHED, HUNG)

    @classmethod
    def lost(
        cls,
        *,
        trace: str,
        events: int,
        events_done: int = 0,
        allocator: str,
        language: str,
        seed: int,
        outcome: str,
        reason: str,
    ) -> "Run":
        """Return the record of a run that took its process along: nothing is known but why."""
        return cls(
            trace=trace,
            allocator=allocator,
            language=language,
            seed=seed,
            outcome=outcome,
            reason=reason,
            events=events,
            events_done=events_done,
            operations=0,
            remote_frees=0,
            processes=0,
            peak_live=0,
            peak_heap=0,
            peak_resident=0,
            freed_heap=None,
            freed_resident=None,
            utilisation=None,
            fragmentation=None,
            faults=0,
            brk_calls=0,
            mmap_calls=0,
            mems=Mems(0),
            timeline=Timeline((), (), (), ()),
            heap_map=None,
            seconds=Seconds(None, 0.0),
        )

    def as_dict(self) -> dict[str, Any]:
        """The record as dictionaries, tuples and numbers; all that differs between runs is in "seconds".

        What was not measured is None.
        """
        whole = asdict(self)
        if not self.measured:
            whole |= dict.fromkeys(_FIGURES)
            whole["seconds"] = dict.fromkeys(whole["seconds"])
        return whole

    def __repr__(self) -> str:
        return f"<Run of {self.trace} on {self.allocator} in {self.language}: {self.outcome}>"

    def __str__(self) -> str:
        return text(self, "heaplab.report.plain:run_text")

    def _repr_html_(self) -> str | None:
        return html(self, "heaplab.report.notebook:run_html")


#: the fields of a run that are measured, and empty in the record of one whose process is lost
_FIGURES = (
    "operations",
    "processes",
    "peak_live",
    "peak_heap",
    "peak_resident",
    "freed_heap",
    "freed_resident",
    "utilisation",
    "fragmentation",
    "faults",
    "brk_calls",
    "mmap_calls",
    "mems",
    "timeline",
    "heap_map",
    "excess",
    "attribution",
    "free",
    "heap_over_live",
    "resident_over_live",
    "lines",
    "walks",
)


def restored_run(data: Mapping[str, Any]) -> Run:
    """Return the run whose `as_dict` this is, as it comes back from JSON.

    Raises: KeyError, TypeError when it is none, or that of a heaplab whose runs have other fields.
    """
    run: Run = _restored(Run, data)
    return run


def _restored(kind: Any, data: Any) -> Any:
    """Plain data as what an annotation says."""
    if data is None:
        return None
    if is_dataclass(kind) and isinstance(kind, type):
        hints = get_type_hints(kind)
        known = {each.name: each for each in fields(kind)}
        given = {name: _restored(hints[name], data[name]) for name in known if name in data}
        return kind(**given)
    arms = [arm for arm in get_args(kind) if arm is not type(None)]
    if get_origin(kind) in (Union, UnionType) and len(arms) == 1:
        return _restored(arms[0], data)
    if get_origin(kind) is tuple:
        each = [arms[0]] * len(data) if arms[-1] is ... else arms
        return tuple(_restored(arm, part) for arm, part in zip(each, data, strict=True))
    return data
