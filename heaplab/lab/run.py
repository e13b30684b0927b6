"""One run: a trace on an allocator, from boot to record."""

from collections.abc import Callable
from dataclasses import replace

from heaplab.allocators import Spec, parse
from heaplab.errors import UsageError
from heaplab.kernel import Kernel
from heaplab.lab import census, metrics
from heaplab.lab.record import HeapMap, Run, Seconds
from heaplab.lab.replay import Replay
from heaplab.lab.room import host_memory, host_refusal
from heaplab.native.playing import FAILED, FINISHED, STOPPED
from heaplab.traces import Trace

#: of the simulated machine; committed as it is touched
RAM = "4 GiB"
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
    progress: Callable[[int], None] = lambda done: None,
    watch: Callable[[Replay], None] = lambda replay: None,
) -> Run:
    """Replay `trace` on a new machine and return the record.

    allocator: a spec, or its text, in `language`.  seed: of the kernel: where it places heaps.
    verify: payloads are compared with what was written.  payload: without it payloads are neither written
    nor verified, so pages are touched by the allocator alone, and a trace may have more live than the
    machine's memory.  max_mems: stop before the reference that takes the total above it.  progress: called
    now and then with the number of events done.  watch: called with the replay before it begins.
    An allocator that never returns hangs this process: `compare`, with its `max_seconds`, ends such a run.
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
    replay = Replay(trace, spec, kernel, verify=verify, payload=payload, max_mems=max_mems, watch=watch)
    _advance(replay, replay.peak, progress)
    fragmentation, heap_map = _measure(replay)  # at the peak of live, or where the run ended before it
    _advance(replay, trace.header.events, progress)
    if verify:
        replay.verify()
    record = _record(replay, seed, fragmentation, heap_map)
    return _freed(replay, record) if replay.end is None else record


def _advance(replay: Replay, until: int, progress: Callable[[int], None]) -> None:
    while replay.end is None and replay.done < until:
        replay.advance(min(until, replay.done + _REPORT_EVERY))
        progress(replay.done)


def _measure(replay: Replay) -> tuple[metrics.Fragmentation | None, HeapMap | None]:
    """Walk all heaps: their fragmentation now, and the map of the largest.

    None when there is no heap, or one cannot be walked.  That is a failure of the run.
    """
    page = replay.kernel.machine.page_size
    allocated = metadata = heap_pages = most = 0
    heap_map = largest = None
    replay.doing = f"the walk over the heap after {replay.done:,} events"
    try:
        for number, heap in replay.heaps():
            taken = census.take(heap, replay.slots(number))
            allocated += taken.allocated
            metadata += taken.metadata_bytes
            pages = int(heap.process.context.raw.space.heap_pages)
            heap_pages += pages
            if pages > most:
                most, largest = pages, (number, taken)
        if largest is not None:
            number, taken = largest
            heap_map = census.draw(taken, replay.slots(number), process=number, event=replay.done)
    except Exception as error:
        replay.fail(replay.doing, error)
        largest = None
    replay.doing = ""
    if largest is None:
        return None, None
    fragmentation = metrics.Fragmentation.of(
        event=replay.done,
        at_peak=replay.done == replay.peak,
        live=int(replay.raw.now.live),
        allocated=allocated,
        metadata=metadata,
        heap=heap_pages * page,
    )
    return fragmentation, heap_map


def _freed(replay: Replay, record: Run) -> Run:
    """Free all that is live; return the record with what is left, or with what went wrong."""
    left = replay.free_all()
    if replay.end is not None:
        return replace(record, outcome=FAILED, reason=replay.end.reason)
    heap, resident = left
    return replace(record, freed_heap=heap, freed_resident=resident)


def _record(
    replay: Replay, seed: int, fragmentation: metrics.Fragmentation | None, heap_map: HeapMap | None
) -> Run:
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
        peak_live=int(raw.peak_live),
        peak_heap=int(raw.peak_heap),
        peak_resident=int(raw.peak_resident),
        freed_heap=None,
        freed_resident=None,
        utilisation=metrics.utilisation(int(raw.peak_live), int(raw.peak_heap)),
        fragmentation=fragmentation,
        faults=replay.faults(),
        brk_calls=replay.calls("brk"),
        mmap_calls=replay.calls("mmap", "munmap"),
        mems=metrics.Mems.of(int(raw.mems), int(raw.mems_max), replay.mems_counts()),
        timeline=replay.timeline(),
        heap_map=heap_map,
        seconds=Seconds(int(raw.ns) / operations if operations else None, int(raw.ns) / 1e9),
    )
