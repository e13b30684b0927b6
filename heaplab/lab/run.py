"""One run: a trace on an allocator, from boot to record."""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from heaplab.allocators import Spec, parse
from heaplab.errors import UsageError
from heaplab.kernel import Kernel
from heaplab.lab import census, metrics
from heaplab.lab.attributing import Walked, attribute
from heaplab.lab.attribution import Attribution
from heaplab.lab.record import HeapMap, Run, Seconds
from heaplab.lab.replay import Replay
from heaplab.lab.room import host_memory, host_refusal
from heaplab.lab.series import Standing
from heaplab.native.playing import FAILED, FINISHED, STOPPED
from heaplab.traces import Trace
from heaplab.traces.lives import lives
from heaplab.traces.sites import Sites, read_sites, site_of

#: of the simulated machine; committed as it is touched
RAM = "4 GiB"
#: the most walks of a run besides that at the peak
MOST_WALKS = 256
#: events between two reports of progress
_REPORT_EVERY = 32_768


def run(
    trace: Trace,
    allocator: str | Spec,
    language: str = "c",
    *,
    seed: int = 1,
    verify: bool = True,
    payload: bool = True,
    max_mems: int | None = None,
    ram: int | str = RAM,
    walks: int | Sequence[int] = 0,
    lines: bool = False,
    sites: Sites | str | os.PathLike[str] | None = None,
    progress: Callable[[int], None] = lambda done: None,
    watch: Callable[[Replay], None] = lambda replay: None,
) -> Run:
    """Replay `trace` on a new machine and return the record.

    allocator: a spec, or its text, in `language`.  seed: of the kernel: where it places heaps.
    verify: payloads are compared with what was written.  payload: without it payloads are neither written
    nor verified, so pages are touched by the allocator alone, and a trace may have more live than the
    machine's memory.  max_mems: stop before the reference that takes the total above it.
    walks: at so many moments, evenly spread over the events, or after these events, all heaps are walked, as
    they are at the peak in any case; nothing else that is measured changes.  Each costs a walk: about 1 us a
    block in C, 20 us in Python. lines: count the distinct cache lines that each operation touches; the replay
    then takes twice as long or more. sites: the trace's call sites, or the file that `heaplab record --sites`
    wrote of them: who asked for the blocks that pin pages.  The trace is read once more for it. progress:
    called now and then with the number of events done.  watch: called with the replay before it begins. An
    allocator that never returns hangs this process: `compare`, with its `max_seconds`, ends such a run.
    Raises: UsageError for an unknown allocator, a trace that turns out to be damaged, or one that this
    computer has no memory for.

    >>> from heaplab.traces import Event, Op
    >>> trace = Trace.of([Event(Op.MALLOC, 0, 1000), Event(Op.FREE, 0)], "two")
    >>> record = run(trace, "buddy")
    >>> record.outcome, record.peak_live, record.operations
    ('finished', 1000, 2)
    """
    spec = parse(allocator, language) if isinstance(allocator, str) else allocator
    verify = verify and payload
    kernel = Kernel(ram=ram, seed=seed)
    if payload and (why := host_refusal(trace.header, ram, host_memory())):
        raise UsageError(why)
    moments = _moments(trace.header.events, walks)
    site = None if sites is None else _site_of(trace, sites)
    replay = Replay(
        trace, spec, kernel, verify=verify, payload=payload, max_mems=max_mems, lines=lines, watch=watch
    )
    at_peak: _Walk | None = None
    course: list[Standing] = []
    for moment in sorted({*moments, replay.peak}):
        _advance(replay, moment, progress)
        early = replay.end is not None
        if early and moment > replay.peak:
            break
        closely = early or moment == replay.peak  # where the run ended, if that is before the peak
        walk = _walk(replay, closely=closely, site=site)
        if closely:
            at_peak = walk
        if early:
            break
        if moment in moments and walk is not None:
            course.append(walk.standing())
    _advance(replay, trace.header.events, progress)
    if verify:
        replay.verify()
    record = replace(_record(replay, seed, at_peak), walks=tuple(course))
    return _freed(replay, record) if replay.end is None else record


def _site_of(trace: Trace, sites: Sites | str | os.PathLike[str]) -> Callable[[Any], list[str]]:
    """Return a function: from the events that made blocks to the names of the call sites that asked for them.

    Raises: UsageError when these are the sites of another trace.
    """
    asked = sites if isinstance(sites, Sites) else read_sites(sites)
    born = lives(trace)
    stacks = asked.of_blocks(born)
    names = [site_of(stack) or "no call site" for stack in asked.stacks]
    return lambda events: [names[stack] for stack in stacks[born.row[events].astype(np.int64) - 1].tolist()]


def _moments(events: int, walks: int | Sequence[int]) -> set[int]:
    """So many numbers of events, the last of them all of the trace's; fewer when there are fewer events."""
    if not isinstance(walks, int):
        if wrong := [event for event in walks if not 0 < event <= events]:
            raise UsageError(f"walks={wrong[0]}: the trace has the moments 1 to {events:,}")
        return set(walks)
    if not 0 <= walks <= MOST_WALKS:
        raise UsageError(f"walks={walks}: give a number from 0 to {MOST_WALKS}")
    return {max(1, events * step // walks) for step in range(1, walks + 1)} if events else set()


def _advance(replay: Replay, until: int, progress: Callable[[int], None]) -> None:
    while replay.end is None and replay.done < until:
        replay.advance(min(until, replay.done + _REPORT_EVERY))
        progress(replay.done)


@dataclass(frozen=True)
class _Walk:
    """What a walk over all heaps found; excess, heap_map, and the pins: where it looked closely."""

    fragmentation: metrics.Fragmentation
    free: metrics.FreeSpace
    attribution: Attribution
    excess: metrics.Excess | None
    heap_map: HeapMap | None

    def standing(self) -> Standing:
        """The same of a moment among many."""
        return Standing(self.fragmentation, self.free, self.attribution.without_pins())


def _walk(replay: Replay, *, closely: bool, site: Callable[[Any], list[str]] | None) -> _Walk | None:
    """Walk all heaps: what they are now; closely: also their excess, their pins, and the map of the largest.

    None when there is no heap, or one cannot be walked.  That is a failure of the run.
    """
    machine = replay.kernel.machine
    allocated = metadata = heap_pages = most = 0
    excess = largest = None
    walked, spare = [], []
    replay.doing = f"the walk over the heap after {replay.done:,} events"
    try:
        for number, heap in replay.heaps():
            taken = census.take(heap, replay.slots(number))
            walked.append(Walked(heap, taken, replay.slots(number), replay.born(number)))
            allocated += taken.allocated
            metadata += taken.metadata_bytes
            spare.append((taken.free, taken.cached))
            pages = int(heap.process.context.raw.space.heap_pages)
            heap_pages += pages
            if pages > most:
                most, largest = pages, (number, taken)
            if closely:
                its = census.excess(heap, taken, replay.slots(number))
                excess = its if excess is None else excess + its
        attribution = attribute(machine, walked, replay.done, closely=closely, site=site)
        heap_map = None
        if closely and largest is not None:
            number, taken = largest
            heap_map = census.draw(taken, replay.slots(number), process=number, event=replay.done)
    except UsageError:  # of the call sites
        raise
    except Exception as error:
        replay.fail(replay.doing, error)
        return None
    finally:
        replay.doing = ""
    if largest is None:
        return None
    fragmentation = metrics.Fragmentation.of(
        event=replay.done,
        at_peak=replay.done == replay.peak,
        live=int(replay.raw.now.live),
        allocated=allocated,
        metadata=metadata,
        heap=heap_pages * machine.page_size,
    )
    free = metrics.FreeSpace.of(*(np.concatenate(each) for each in zip(*spare, strict=True)))
    return _Walk(fragmentation, free, attribution, excess, heap_map)


def _freed(replay: Replay, record: Run) -> Run:
    """Free all that is live; return the record with what is left, or with what went wrong."""
    left = replay.free_all()
    if replay.end is not None:
        return replace(record, outcome=FAILED, reason=replay.end.reason)
    heap, resident = left
    return replace(record, freed_heap=heap, freed_resident=resident)


def _record(replay: Replay, seed: int, walk: _Walk | None) -> Run:
    raw, end, header = replay.raw, replay.end, replay.trace.header
    operations = int(raw.ops)
    return Run(
        trace=header.name,
        allocator=str(replay.spec),
        language=replay.spec.language,
        seed=seed,
        outcome=FINISHED if end is None else FAILED if end.failed else STOPPED,
        reason="" if end is None else end.reason,
        events=header.events,
        events_done=replay.done,
        operations=operations,
        remote_frees=int(raw.remote_frees),
        processes=header.processes,
        peak_live=int(raw.peak_live.most),
        peak_heap=int(raw.peak_heap.most),
        peak_resident=int(raw.peak_resident.most),
        freed_heap=None,
        freed_resident=None,
        utilisation=metrics.utilisation(int(raw.peak_live.most), int(raw.peak_heap.most)),
        fragmentation=None if walk is None else walk.fragmentation,
        faults=replay.faults(),
        brk_calls=replay.calls("brk"),
        mmap_calls=replay.calls("mmap", "munmap"),
        mems=metrics.Mems.of(int(raw.mems.total), int(raw.mems.most), replay.mems_counts()),
        timeline=replay.timeline(),
        heap_map=None if walk is None else walk.heap_map,
        seconds=Seconds(int(raw.ns) / operations if operations else None, int(raw.ns) / 1e9),
        excess=None if walk is None else walk.excess,
        attribution=None if walk is None else walk.attribution,
        free=None if walk is None else walk.free,
        heap_over_live=replay.over_live("heap"),
        resident_over_live=replay.over_live("resident"),
        lines=replay.lines(),
    )
