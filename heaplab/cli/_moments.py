"""The heaps at the peaks of a comparison, for the maps of its page."""

from collections.abc import Iterable
from contextlib import suppress

from heaplab import lab
from heaplab.allocators import Spec
from heaplab.allocators.core import CAllocator
from heaplab.errors import HeaplabError
from heaplab.lab.moments import Moments
from heaplab.native.playing import FINISHED
from heaplab.traces import open_trace
from heaplab.views.moment import moment_container

#: events that are replayed once more for all of them, and bytes that they may have
_MOST_EVENTS = 1_000_000
_MOST_BYTES = 3_000_000


def moments_at_peaks(comparison: lab.Comparison, specs: Iterable[object]) -> dict[tuple[str, str], bytes]:
    """Return by trace and allocator the heaps at the peak, of heaplab's own designs in C that finished.

    specs: of the comparison.  Short traces come first; there is an end of events and of bytes.
    Cost: 2 us an event up to each peak.
    """
    designs = [spec for spec in specs if isinstance(spec, Spec) and _ours(spec)]
    found: dict[tuple[str, str], bytes] = {}
    events = size = 0
    finished = {(run.trace, run.allocator) for run in comparison.runs if run.outcome == FINISHED}
    for name, header in sorted(comparison.headers.items(), key=lambda item: item[1].peak_index):
        peak = min(header.peak_index + 1, header.events)
        wanted = [spec for spec in designs if (name, str(spec)) in finished]
        events += peak * len(wanted)
        if events > _MOST_EVENTS or name not in comparison.again:
            continue
        for spec in wanted:
            with suppress(HeaplabError, OSError, MemoryError):  # the map is there without it
                moment = _moment(comparison, name, spec, peak)
                size += len(moment)
                if size > _MOST_BYTES:
                    return found
                found[name, str(spec)] = moment
    return found


def _moment(comparison: lab.Comparison, name: str, spec: Spec, done: int) -> bytes:
    settings = comparison.settings
    trace = open_trace(comparison.again[name], lenient=settings["lenient"])
    options = {option: settings[option] for option in ("seed", "ram", "payload")}
    with Moments(trace, spec, **options) as moments:
        return moment_container(moments, done)


def _ours(spec: Spec) -> bool:
    """Whether it is a design in C that comes with heaplab: others may crash, and this is no worker."""
    return issubclass(spec.design, CAllocator) and spec.design.FILE is None
