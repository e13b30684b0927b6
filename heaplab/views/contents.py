"""What goes into the containers of packing.py: manifests and columns, made of a run's data."""

import itertools
import json
import zlib
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from heaplab.allocators import State
from heaplab.lab.moments import Label
from heaplab.traces import Header, Op
from heaplab.traces.sites import site_of
from heaplab.views.levels import Grid, grid
from heaplab.views.packing import Piece, join, store
from heaplab.views.recorded import NOTHING, PAGE_STATES, Recorded
from heaplab.views.run import DesignRun, RunView

VERSION: Final = 1
#: bytes of a run's container, so that a page of it, in base64 and with its script, is below 5 MB
ROOM: Final = 3_500_000
#: moments of the overview
CURVE: Final = 1000
#: runs of more events are not even tried as a whole
MOST_EXACT: Final = 2_000_000
#: events of the exact part of a longer one: as many at first, and no fewer
FIRST_WINDOW: Final = 400_000
LAST_WINDOW: Final = 1000
#: the part of the room that it may take; recorded moments have the rest
FOR_ROWS: Final = 0.85
#: the exact part is good enough when it fills so much of its room, or after so many tries; how near the next
#: try comes to filling it
GOOD_PART: Final = 0.85
TRIES: Final = 3
NEARLY: Final = 0.95
#: columns and rows of the finest level
COLUMNS: Final = 1024
ROWS: Final = 256
#: a process with a smaller part of the blocks has no levels
LEAST_PART: Final = 64
#: bytes that the JSON has for a column, deflated
_DESCRIBED: Final = 16
_SPAN: Final = ("start", "size", "state", "process")

Column = npt.NDArray[Any]
Columns = dict[str, Column]


class Texts:
    """The texts that columns of one container index; the first one is empty."""

    def __init__(self) -> None:
        self._numbers = {"": 0}

    def __call__(self, text: str) -> int:
        """Return the number of a text, which is kept from now on."""
        return self._numbers.setdefault(text, len(self._numbers))

    def like(self) -> "Texts":
        """Return others that have the same numbers until more are added."""
        other = Texts()
        other._numbers = dict(self._numbers)
        return other

    def take(self, other: "Texts") -> None:
        """Take the place of others that were made `like` these."""
        self._numbers = other._numbers

    def all(self) -> list[str]:
        """Return the texts in the order of their numbers."""
        return list(self._numbers)


def manifest(view: RunView, kind: str, texts: Texts, **more: Any) -> dict[str, Any]:
    """Return what the manifest of every kind says, and `more`."""
    runs = [told_of(run) for run in view.runs]
    return manifest_of(view.header, kind, texts, **{"runs": runs, **more})


def manifest_of(
    header: Header, kind: str, texts: Texts, *, runs: Sequence[Mapping[str, Any]], **more: Any
) -> dict[str, Any]:
    """Return the same without a view.  runs: as `told_of` tells of them."""
    return {
        "version": VERSION,
        "kind": kind,
        "trace": {
            "name": header.name,
            "program": header.program,
            "note": header.note,
            "events": header.events,
            "processes": header.processes,
            "threads": header.threads,
            "peak": header.peak_index,
            "peak_live": header.peak_live,
        },
        "runs": list(runs),
        "texts": texts.all(),
        "states": [state.name.lower() for state in State],
        "page_states": list(PAGE_STATES),
        "ops": [op.name.lower() for op in Op],
        "exact": [0, 0],
        "remarks": [],
        **more,
    }


def told_of(run: DesignRun) -> dict[str, Any]:
    """Return what a manifest says of a run."""
    return {
        "allocator": run.allocator,
        "language": run.language,
        "outcome": run.outcome,
        "reason": run.reason,
        "events": run.events,
        "page_size": run.page_size,
        "structure": run.structure,
        "regions": run.regions.tolist(),
    }


def block_columns(view: RunView, rows: Column, runs: Sequence[int], texts: Texts) -> Columns:
    """Return the columns of the blocks in `rows`, ascending; of these runs, numbered from 0."""
    lives = view.lives
    columns = {
        f"block.{name}": getattr(lives, name)[rows]
        for name in ("born", "died", "slot", "size", "thread", "process")
    }
    columns["block.before"] = _renumbered(lives.before[rows], rows, len(lives))
    if view.stack is not None:
        columns |= _site_columns(view, view.stack[rows], texts)
    for number, which in enumerate(runs):
        places = view.runs[which].places
        named = np.array([texts(text) for text in places.texts], np.uint32)
        columns[f"r{number}.address"] = places.address[rows]
        columns[f"r{number}.lead"] = places.lead[rows]
        columns[f"r{number}.span"] = places.span[rows]
        columns[f"r{number}.word"] = named[places.word[rows]]
    return columns


def _site_columns(view: RunView, stack: Column, texts: Texts) -> Columns:
    used, which = np.unique(stack, return_inverse=True)
    stacks = [view.stacks[number] for number in used.tolist()]
    site = np.array([texts(site_of(each)) for each in stacks], np.uint32)
    whole = np.array([texts(" > ".join(each)) for each in stacks], np.uint32)
    return {"block.site": site[which], "block.stack": whole[which]}


def event_columns(view: RunView, start: int, stop: int, rows: Column, runs: Sequence[int]) -> Columns:
    """Return the columns of the events from `start` to `stop`.

    rows: the blocks that the container has.  A run that ended before has zeros, and live is the trace's.
    """
    columns = {
        "event.op": view.op[start:stop],
        "event.thread": view.thread[start:stop],
        "event.process": view.process[start:stop],
        "event.row": _renumbered(view.lives.row[start:stop], rows, len(view.lives)),
        "event.live": view.live[start:stop],
    }
    if view.time.any():
        columns["event.time"] = view.time[start:stop]
    for number, which in enumerate(runs):
        log = view.runs[which].log
        for name in ("mems", "faults", "heap", "resident"):
            column = getattr(log, name)[start:stop]
            whole = np.zeros(stop - start, column.dtype)
            whole[: len(column)] = column
            columns[f"r{number}.{name}"] = whole
    return columns


def _renumbered(numbers: Column, rows: Column, all_rows: int) -> Column:
    """Return rows + 1 of all blocks as rows + 1 of those in `rows`; 0 where a block is not among them."""
    if len(rows) == all_rows:
        return numbers
    place = np.zeros(all_rows + 1, np.uint32)
    place[rows + 1] = np.arange(1, len(rows) + 1)
    found: Column = place[numbers]
    return found


def curve_columns(view: RunView, points: int) -> Columns:
    """Return the overview: all runs in so many moments, and the end."""
    events = view.header.events
    moments = np.unique(np.linspace(min(1, events), events, min(points, max(events, 1))).astype(np.int64))
    moments = moments[moments > 0]
    columns = {"curve.moment": moments, "curve.live": view.live[moments - 1]}
    if view.time.any():
        columns["curve.time"] = view.time[moments - 1]
    for number, run in enumerate(view.runs):
        log, there = run.log, np.minimum(moments, run.events)
        sums = np.append(np.uint64(0), np.cumsum(log.mems, dtype=np.uint64))
        columns[f"r{number}.curve.mems"] = np.diff(sums[there], prepend=sums[:1])
        for name in ("heap", "resident"):
            before = np.append(np.uint64(0), getattr(log, name))
            columns[f"r{number}.curve.{name}"] = np.where(there == moments, before[there], 0)
    return columns


def call_columns(view: RunView, start: int, stop: int, texts: Texts) -> Columns:
    """Return the system calls for memory of the events from `start` to `stop`."""
    columns: Columns = {}
    for number, run in enumerate(view.runs):
        calls = [call for call in run.log.calls if start <= call.event < stop]
        columns[f"r{number}.call.event"] = np.array([call.event for call in calls], np.uint32)
        columns[f"r{number}.call.process"] = np.array([call.process for call in calls], np.uint16)
        columns[f"r{number}.call.text"] = np.array([texts(call.text) for call in calls], np.uint32)
    return columns


def recorded_columns(number: int, recorded: Iterable[Recorded], texts: Texts) -> Columns:
    """Return the recorded moments of the run that the container calls `number`."""
    moments = list(recorded)
    columns: Columns = {}
    for name, tables in (
        ("span", [{key: each.rest[key] for key in _SPAN} for each in moments]),
        ("free", [_free(each, texts) for each in moments]),
        ("page", [dict(each.pages) for each in moments]),
        ("brk", [dict(each.brk) for each in moments]),
    ):
        lengths = [len(table["process"]) for table in tables]
        columns[f"r{number}.{name}.first"] = np.concatenate(([0], np.cumsum(lengths, dtype=np.int64)))
        for key in tables[0] if tables else ():
            columns[f"r{number}.{name}.{key}"] = np.concatenate([table[key] for table in tables])
    return columns


def _free(moment: Recorded, texts: Texts) -> Mapping[str, Column]:
    entries = [entry for _, entry in moment.free]
    return {
        "start": np.array([entry.start for entry in entries], np.uint64),
        "size": np.array([entry.size for entry in entries], np.uint64),
        "under": np.array([entry.under for entry in entries], np.uint64),
        "group": np.array([texts(entry.group) for entry in entries], np.uint32),
        "place": np.array([texts(entry.place) for entry in entries], np.uint32),
        "process": np.array([process for process, _ in moment.free], np.uint16),
    }


def live_columns(recorded: Recorded, labels: Mapping[int, Mapping[int, Label]]) -> Columns:
    """Return the live blocks of a moment.  labels: by process, then by the payload's address."""
    live = recorded.live
    columns = {f"r0.live.{name}": column for name, column in live.items()}
    where = zip(live["process"].tolist(), live["payload"].tolist(), strict=True)
    named = [labels.get(process, {}).get(payload) for process, payload in where]
    columns["r0.live.slot"] = np.array([each.slot + 1 if each else 0 for each in named], np.uint64)
    columns["r0.live.requested"] = np.array([each.size if each else 0 for each in named], np.uint64)
    columns["r0.live.event"] = np.array([each.event if each else 0 for each in named], np.uint64)
    columns["r0.live.thread"] = np.array([each.thread if each else 0 for each in named], np.uint64)
    return columns


def level_columns(
    run: int, process: int, levels: Iterable[Grid], prefix: str
) -> tuple[list[dict[str, Any]], Columns]:
    """Return what the manifest says of levels, and their columns."""
    told: list[dict[str, Any]] = []
    columns: Columns = {}
    for number, level in enumerate(levels):
        name = f"{prefix}{number}"
        columns[name] = level.cells.ravel()
        told.append(
            {
                **{"run": run, "process": process, "first": level.first, "events": level.events},
                **{"bytes": level.bytes, "columns": len(level.sums), "rows": len(level.starts)},
                **{"starts": level.starts.tolist(), "column": name},
            }
        )
    return told, columns


# ---- a whole run ----


def run_container(view: RunView, *, room: int = ROOM, at: int | None = None) -> bytes:
    """Return the container of a run: all of it to the byte if it fits, else levels and a part to the byte.

    room: bytes of the container, at most.  at: the event that the exact part of a long run is around; by
    default that of the peak.
    Moments recorded whole are left out, every other one, until it fits.
    Cost: 1 us an event and design.
    """
    texts = Texts()
    events = view.header.events
    base = _stored(curve_columns(view, CURVE))
    told: list[dict[str, Any]] = []
    remarks = [f"{run.allocator}: {run.reason}" for run in view.runs if run.reason]
    start, stop = 0, events
    exact = _exact(view, start, stop, texts) if events <= MOST_EXACT else {}
    if not exact or _bytes(base, exact) + _text_bytes(texts) > room:
        told, levels = _levels(view)
        base |= _stored(levels)
        left = int((room - _bytes(base)) * FOR_ROWS)
        start, stop, exact, texts = _window(view, left, view.peak if at is None else at)
        remarks.append(
            f"blocks are shown to the byte from event {start:,} to {stop:,}; "
            "`heaplab view --serve` shows all of them"
        )
    recorded, some = _thinned(view, room - _bytes(base, exact), texts, {view.peak + 1, (at or 0) + 1})
    if some < len(view.runs[0].recorded):
        remarks.append(f"{some} moments are recorded whole; `heaplab view --serve` shows every one")
    more = {"levels": told} if told else {}
    about = manifest(view, "run", texts, exact=[start, stop], remarks=remarks, **more)
    return join(about, base | exact | recorded)


def _stored(columns: Columns) -> dict[str, Piece]:
    with ThreadPoolExecutor(2) as pool:  # zlib lets go of the interpreter
        made = pool.map(store, columns, columns.values())
        return dict(zip(columns, made, strict=True))


def _bytes(*parts: Mapping[str, Piece]) -> int:
    return sum(len(piece.stream) + _DESCRIBED for part in parts for piece in part.values())


def _text_bytes(texts: Texts) -> int:
    return len(zlib.compress(json.dumps(texts.all()).encode(), 1))


def _exact(view: RunView, start: int, stop: int, texts: Texts) -> dict[str, Piece]:
    """Return the blocks and events from `start` to `stop`, to the byte."""
    rows, runs = view.lives.within(start, stop), range(len(view.runs))
    columns = block_columns(view, rows, runs, texts) | event_columns(view, start, stop, rows, runs)
    return _stored(columns | call_columns(view, start, stop, texts))


def _window(view: RunView, room: int, middle: int) -> tuple[int, int, dict[str, Piece], Texts]:
    """Return as many events around `middle` as there is room for, to the byte, and the texts."""
    events = view.header.events
    count, found = min(events, FIRST_WINDOW), None
    for tries in itertools.count():
        texts = Texts()
        start = max(0, min(middle - count // 2, events - count))
        exact = _exact(view, start, start + count, texts)
        took = _bytes(exact) + _text_bytes(texts)
        if took <= room or count <= LAST_WINDOW:
            found = start, start + count, exact, texts
        if found and (took > room * GOOD_PART or count in (events, LAST_WINDOW) or tries >= TRIES):
            break
        count = max(min(int(count * room / took * NEARLY), events), LAST_WINDOW)
    assert found is not None
    return found


def _levels(view: RunView) -> tuple[list[dict[str, Any]], Columns]:
    """Return pyramids of every run, of each process that has a good part of the blocks."""
    told: list[dict[str, Any]] = []
    columns: Columns = {}
    lives = view.lives
    numbers, counts = np.unique(lives.process, return_counts=True)
    large = numbers[counts >= len(lives) // LEAST_PART].tolist()
    for number, run in enumerate(view.runs):
        for process in large:
            rows = np.flatnonzero((lives.process == process) & (run.places.address != 0))
            level = grid_of(
                view,
                run,
                rows,
                first=0,
                last=view.header.events,
                regions=run.regions,
                columns=COLUMNS,
                many=ROWS // len(large),
            )
            some, made = level_columns(number, process, level.pyramid(), f"level.{number}.{process}.")
            told += some
            columns |= made
    return told, columns


def grid_of(
    view: RunView,
    run: DesignRun,
    rows: Column,
    *,
    first: int,
    last: int,
    regions: Column,
    columns: int,
    many: int,
) -> Grid:
    """Return how full the regions are with the blocks in `rows`; see `grid`."""
    lives, places = view.lives, run.places
    return grid(
        places.start[rows],
        places.span[rows],
        lives.born[rows],
        np.minimum(lives.died[rows], run.events),
        regions=regions,
        first=first,
        last=last,
        columns=columns,
        rows=max(many, 1),
    )


def _thinned(view: RunView, room: int, texts: Texts, kept: set[int]) -> tuple[dict[str, Piece], int]:
    """Return as many recorded moments as there is room for, those in `kept` last of all to go."""
    moments = sorted({each.moment for run in view.runs for each in run.recorded})
    while True:
        chosen, told = set(moments), texts.like()
        columns: Columns = {"key.moment": np.array(moments, np.uint32)}
        for number, run in enumerate(view.runs):
            there = {each.moment: each for each in run.recorded if each.moment in chosen}
            columns |= recorded_columns(number, [there.get(each, NOTHING) for each in moments], told)
        pieces = _stored(columns)
        if _bytes(pieces) + _text_bytes(told) <= room or len(moments) <= 1:
            texts.take(told)
            return pieces, len(moments)
        fewer = [each for n, each in enumerate(moments) if n % 2 == 0 or each in kept]
        moments = fewer if len(fewer) < len(moments) else moments[1:]
