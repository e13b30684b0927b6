"""The heaps of one moment as columns, and as a container of packing.py without the run around it."""

from collections.abc import Callable
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from heaplab.allocators import Allocator
from heaplab.errors import UsageError
from heaplab.lab.census import page_runs
from heaplab.lab.moments import Moment, Moments
from heaplab.native.playing import FINISHED
from heaplab.views.contents import Columns, Texts, live_columns, manifest_of, recorded_columns
from heaplab.views.packing import pack
from heaplab.views.recorded import Recorded, record

#: of the event before a moment
MOST_REFERENCES: Final = 10_000
_COPIED_ARE_OWN: Final = "pages that were copied after a fork are shown as the process's own"

Column = npt.NDArray[Any]


def moment_container(moments: Moments, done: int) -> bytes:
    """Return a container of kind "moment": the heaps of one design after `done` events.

    Its regions are those of that moment.
    Cost: that of `Moments.at`, and a walk.  Raises: UsageError when the replay does not come so far,
    or no process is alive then.

    >>> from heaplab.traces import Event, Op, Trace
    >>> from heaplab.views.packing import unpack
    >>> trace = Trace.of([Event(Op.MALLOC, 0, 1000), Event(Op.MALLOC, 1, 50), Event(Op.FREE, 0)], "three")
    >>> with Moments(trace, "buddy") as moments:
    ...     about, columns = unpack(moment_container(moments, 2))
    >>> about["kind"], about["moment"], columns["r0.live.size"].tolist()
    ('moment', 2, [64, 1024])
    """
    texts, moment, spec = Texts(), moments.at(done), moments.spec
    if not moment.processes:
        raise UsageError(f"{moments.trace.header.name}: no process is alive after {done:,} events")
    recorded, columns = moment_columns(moment, texts)
    page = moment.heap(moment.processes[0]).process.page_size
    start, size = (recorded.spans[name].astype(np.int64) for name in ("start", "size"))
    order = np.argsort(start, kind="stable")
    regions = np.stack(page_runs(start[order], (start + size)[order], page), axis=1)
    told = {
        "allocator": str(spec),
        "language": spec.language,
        "outcome": FINISHED,
        "reason": "",
        "events": done,
        "page_size": page,
        "structure": spec.design.STRUCTURE,
        "regions": regions.tolist(),
    }
    header = moments.trace.header
    about = {
        "run": 0,
        "moment": done,
        "fault": recorded.fault,
        "exact": [max(done - 1, 0), done],
        "remarks": [_COPIED_ARE_OWN] if header.processes > 1 else [],
    }
    return pack(manifest_of(header, "moment", texts, runs=[told], **about), columns)


def moment_columns(
    moment: Moment, texts: Texts, copied: Callable[[int], Column] = lambda number: np.empty(0, np.uint64)
) -> tuple[Recorded, Columns]:
    """Return all heaps of a moment, and their columns: its walk, its labels, and the references before it.

    copied: the addresses of the pages of a process that were copied after a fork.
    """
    done = moment.done
    heaps = {each: look_of(moment.heap(each)) for each in moment.processes}
    recorded = record(done, heaps, _sharers(moment), copied)
    labels = {process: moment.labels(process) for process in moment.processes}
    references = moment.moments.references(done - 1)[-MOST_REFERENCES:] if done else []
    columns: dict[str, Column] = {"key.moment": np.array([done], np.uint32)}
    columns |= recorded_columns(0, [recorded], texts)
    columns |= live_columns(recorded, labels)
    columns["ref.address"] = np.array([each.address for each in references], np.uint64)
    columns["ref.store"] = np.array([each.is_store for each in references], np.uint8)
    return recorded, columns


def look_of(heap: Allocator) -> Allocator:
    """Return the same heap as a look sees it: what is asked of it is no system call."""
    return heap.attach(heap.process.look())


def _sharers(moment: Moment) -> Callable[[int, Column, Column], Column]:
    """Return who tells how many processes of the trace have each page: snapshots do not count."""

    def sharers(number: int, address: Column, _frame: Column) -> Column:
        if len(moment.processes) == 1:
            return np.ones(len(address), np.int64)
        return np.array([moment.sharers(number, page) for page in address.tolist()], np.int64)

    return sharers
