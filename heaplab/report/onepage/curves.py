"""Memory over a trace, of several allocators: plain data that page.js draws."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from heaplab.lab import Clock, Run
from heaplab.native.playing import FINISHED

#: curves that nowhere lie further apart than this share of the largest value look alike
ALIKE = 0.05
_MEMORY = ("heap", "resident")


def curves(runs: Sequence[Run], clock: Clock | None, places: Sequence[int]) -> dict[str, Any]:
    """Return the curves of one trace's runs.

    clock: when the trace's events were, or None.  places: of each run's allocator, for its colour.
    Returns: "events"; "clock": {"event", "time"} or None; "grids": the moments that runs were looked at,
    {"event", "live"}; "runs": {"allocator", "grid", "heap", "resident", "ended", "walks"}, a run that has no
    curve left out; "alike": by quantity, how far apart the curves are at most, as a share of the largest
    value, or None where they do not look alike.
    Raises: ValueError for a timeline that no run can have.
    """
    grids: list[dict[str, list[int]]] = []
    drawn = []
    for run, place in zip(runs, places, strict=True):
        if not run.timeline.event:
            continue
        grid = _grid(run)
        if grid not in grids:
            grids.append(grid)
        drawn.append(
            {
                "allocator": place,
                "grid": grids.index(grid),
                "heap": list(run.timeline.heap),
                "resident": list(run.timeline.resident),
                "ended": None if run.outcome == FINISHED else run.outcome,
                "walks": _walks(run),
            }
        )
    return {
        "events": max((run.events for run in runs), default=0),
        "clock": clock and {"event": list(clock.event), "time": list(clock.time)},
        "grids": grids,
        "runs": drawn,
        "alike": {name: _alike([run for run in runs if run.timeline.event], name) for name in _MEMORY},
    }


def _walks(run: Run) -> dict[str, list[float]]:
    """The fragmentation at the moments of the walks, and at the peak."""
    found = {walk.event: walk for walk in (*run.walks, run.fragmentation) if walk is not None}
    walks = [walk for _, walk in sorted(found.items())]
    shares = [share for walk in walks for share in (walk.internal, walk.external)]
    if any(not -1 <= share <= 1 for share in shares):
        raise ValueError(f"the walks of {run.allocator} found more than its heap has")
    return {
        "event": [walk.event for walk in walks],
        "internal": [round(walk.internal, 6) for walk in walks],
        "external": [round(walk.external, 6) for walk in walks],
    }


def _grid(run: Run) -> dict[str, list[int]]:
    line = run.timeline
    columns = (line.event, line.live, line.heap, line.resident)
    if len({len(column) for column in columns}) > 1 or min(map(min, columns)) < 0:
        raise ValueError(f"the timeline of {run.allocator} is none that a run can have")
    return {"event": list(line.event), "live": list(line.live)}


def _alike(runs: Sequence[Run], name: str) -> float | None:
    """How far the curves lie apart at most, as a share of the largest value; None if that is much."""
    if len(runs) < 2:
        return None
    ends = [run.timeline.event[-1] for run in runs]
    moments = np.array(sorted({event for run in runs for event in run.timeline.event if event <= min(ends)}))
    values = []
    for run in runs:
        at = np.searchsorted(run.timeline.event, moments, side="right") - 1
        column = np.array(getattr(run.timeline, name))
        values.append(np.where(at < 0, 0, column[np.maximum(at, 0)]))
    largest = max(max(getattr(run.timeline, name)) for run in runs)
    if not len(moments) or not largest:
        return None
    apart = float(np.ptp(np.array(values), axis=0).max() / largest)
    return apart if apart <= ALIKE else None
