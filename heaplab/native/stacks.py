"""Who asked for the memory: what each call stack allocated, and holds when the trace's live payload peaks."""

from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from heaplab.native.family import Run, relate
from heaplab.native.raw import Image, Kind, Records
from heaplab.native.symbols import symbols_of

_Site = tuple[int, int]
"""An image's number, and the hash of a call stack in it; 0 where none was logged."""


@dataclass
class Use:
    """What the acquisitions of one call stack come to.

    calls: of malloc and its kin.  requested: bytes, all together.  peak: bytes live when the trace's
    live payload is largest.
    """

    calls: int = 0
    requested: int = 0
    peak: int = 0


@dataclass
class _Heap:
    """The blocks of one image: size and site by address."""

    blocks: dict[int, tuple[int, _Site]] = field(default_factory=dict)
    reallocs: dict[int, list[tuple[int, tuple[int, _Site] | None]]] = field(default_factory=dict)
    sites: dict[int, int] = field(default_factory=dict)  # by thread: of its next acquisition


def uses(
    images: Sequence[Image],
    deaths: Mapping[int, int],
    modules: Mapping[int, Sequence[tuple[int, str]]],
    peak: int,
) -> list[tuple[tuple[str, ...], Use]]:
    """Return the call stacks of a recording, as names of functions from the outermost on, and their use.

    images, deaths: as `Assembler` takes them.  modules: start and path of the files of code, by image.
    peak: when the live payload is largest, in nanoseconds of CLOCK_MONOTONIC.
    The largest at the peak come first.  Cost: about a microsecond a record.
    """
    counted: dict[_Site, Use] = {}
    frames: dict[_Site, tuple[int, ...]] = {}
    heaps: dict[Run, _Heap] = {}
    runs = relate(images, deaths)
    for run in runs:
        heap = heaps.setdefault(run, _Heap())
        _follow(run, heap, counted, frames, heaps, peak)
        if run.image.started <= peak < _end(run, runs):
            for size, site in heap.blocks.values():
                counted.setdefault(site, Use()).peak += size
        heap.blocks.clear()
    named: dict[tuple[str, ...], Use] = {}
    for site, use in counted.items():
        names = tuple(_names(frames.get(site, ()), modules.get(site[0], ())))
        total = named.setdefault(names, Use())
        total.calls += use.calls
        total.requested += use.requested
        total.peak += use.peak
    return sorted(named.items(), key=lambda item: (-item[1].peak, -item[1].requested, item[0]))


def _end(run: Run, runs: Sequence[Run]) -> int:
    """When the image's heap is gone."""
    if run.last:
        return run.process.end + 1 if not run.process.lives else 1 << 63
    return min(
        other.image.started
        for other in runs
        if other.process is run.process and other.image.started > run.image.started
    )


def _follow(
    run: Run,
    heap: _Heap,
    counted: dict[_Site, Use],
    frames: dict[_Site, tuple[int, ...]],
    heaps: dict[Run, _Heap],
    peak: int,
) -> None:
    """Count the image's acquisitions, and follow its blocks up to `peak`; its children get copies."""
    forks = sorted(run.forks, key=lambda child: child.image.fork_index, reverse=True)
    parts: dict[tuple[int, int], list[int]] = {}  # by thread and hash: the frames of a new stack
    for index, time, kind, thread, address, size in _rows(run.image.batches()):
        while forks and forks[-1].image.fork_index <= index:
            heaps[forks.pop()] = _Heap(dict(heap.blocks))
        if kind == Kind.FRAME:
            parts.setdefault((thread, size), []).append(address)
        elif kind == Kind.SITE:
            heap.sites[thread] = size
            if (thread, size) in parts:
                frames[run.image.number, size] = tuple(parts.pop((thread, size)))
        elif kind <= Kind.REALLOC_END:
            asked = _step(heap, kind, thread, address, size, run.image.number, alive=time <= peak)
            if asked is not None:
                use = counted.setdefault(asked, Use())
                use.calls += 1
                use.requested += size
    while forks:
        heaps[forks.pop()] = _Heap(dict(heap.blocks))


def _rows(batches: Iterator[Records]) -> Iterator[tuple[int, int, int, int, int, int]]:
    for each in batches:
        columns = (each.index, each.time, each.kind, each.thread, each.address, each.size)
        yield from zip(*(column.tolist() for column in columns), strict=True)


def _step(
    heap: _Heap, kind: int, thread: int, address: int, size: int, image: int, *, alive: bool
) -> _Site | None:
    """Carry out one record; return the site if it is an acquisition.  Blocks change only while `alive`."""
    if kind == Kind.FREE:
        if alive:
            heap.blocks.pop(address, None)
        return None
    if kind == Kind.REALLOC_BEGIN:
        heap.reallocs.setdefault(thread, []).append(
            (address, heap.blocks.pop(address, None) if alive else None)
        )
        return None
    site = (image, heap.sites.pop(thread, 0))
    calls = heap.reallocs.get(thread)
    old, block = calls.pop() if kind == Kind.REALLOC_END and calls else (0, None)
    if address == 0:
        if block is not None and size != 0:  # it failed: all is as before
            heap.blocks[old] = block
        return None
    if alive:
        heap.blocks[address] = (max(size, 1) if kind == Kind.REALLOC_END else size, site)
    return site


def _names(frames: Sequence[int], modules: Sequence[tuple[int, str]]) -> Iterator[str]:
    """The functions' names, from the outermost on."""
    starts = sorted(modules)
    for frame in reversed(frames):
        place = bisect_right(starts, (frame, "\U0010ffff")) - 1
        if place < 0:
            yield f"{frame:#x}"
        else:
            start, path = starts[place]
            yield symbols_of(path).name(frame - 1 - start)  # a return address is behind the call
