"""Who asked for the memory: the call stacks of a recording by name, and what each allocated."""

from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from heaplab.native.family import Run
from heaplab.native.symbols import symbols_of
from heaplab.traces import Trace
from heaplab.traces.lives import lives
from heaplab.traces.sites import Asked, Sites, Stack


def sites(
    runs: Sequence[Run], numbers: Mapping[int, int], modules: Mapping[int, Sequence[tuple[int, str]]]
) -> Sites:
    """Return the call stacks of a recording's acquisitions, once its images were followed with their `sites`.

    numbers: of the processes in the trace, by key.  modules: start and path of the files of code, by image.
    """
    known: dict[Stack, int] = {(): 0}
    parts: dict[int, list[tuple[npt.NDArray[np.uint32], npt.NDArray[np.uint64]]]] = {}
    for run in runs:
        if run.sites is None:
            continue
        hashes, sizes = run.sites.acquisitions()
        found, first, which = np.unique(hashes, return_index=True, return_inverse=True)
        places = modules.get(run.image.number, ())
        named = np.zeros(len(found), np.uint32)
        for each in np.argsort(first).tolist():  # hashes change from run to run, this order does not
            stack = tuple(_names(run.sites.frames.get(int(found[each]), ()), places))
            named[each] = known.setdefault(stack, len(known))
        parts.setdefault(numbers[run.process.key], []).append((named[which], sizes))
    asked = {
        number: Asked.of(*(np.concatenate(columns) for columns in zip(*each, strict=True)))
        for number, each in parts.items()
    }
    return Sites(tuple(known), {number: each for number, each in asked.items() if len(each)})


@dataclass
class Use:
    """What the acquisitions of one call stack come to.

    calls: of malloc and its kin.  requested: bytes, all together.  peak: bytes live when the trace's
    live payload is largest.
    """

    calls: int = 0
    requested: int = 0
    peak: int = 0


def uses(trace: Trace, found: Sites) -> list[tuple[Stack, Use]]:
    """Return the call stacks of a trace and their use, the largest at the peak first.

    Cost: 0.2 us an event; memory for the lives of its blocks, 50 bytes an event.
    """
    born = lives(trace)
    which = found.of_blocks(born)
    calls = np.flatnonzero(~born.copied)
    live = born.live(trace.header.peak_index + 1)
    counted = [Use() for _ in found.stacks]
    for stack, size in zip(which[calls].tolist(), born.size[calls].tolist(), strict=True):
        counted[stack].calls += 1
        counted[stack].requested += size
    for stack, size in zip(which[live].tolist(), born.size[live].tolist(), strict=True):
        counted[stack].peak += size
    told = [(stack, use) for stack, use in zip(found.stacks, counted, strict=True) if use.calls]
    return sorted(told, key=lambda each: (-each[1].peak, -each[1].requested, each[0]))


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
