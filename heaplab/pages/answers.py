"""Answers to the questions of a page or a widget about a run: a window, a moment, a block, as containers.

heaplab/views/packing.py says what the containers hold.
"""

from collections.abc import Mapping, Sequence
from functools import partial
from threading import Lock
from typing import Any, Final

import numpy as np

from heaplab.errors import UsageError
from heaplab.lab.moments import Moments
from heaplab.traces.event import MAX_SIZE
from heaplab.views.contents import (
    Column,
    Columns,
    Texts,
    block_columns,
    event_columns,
    grid_of,
    level_columns,
    manifest,
    told_of,
)
from heaplab.views.moment import look_of, moment_columns
from heaplab.views.packing import pack
from heaplab.views.run import DesignRun, RunView

#: blocks, and events, of a window; of more blocks it is a grid
MOST_BLOCKS: Final = 60_000
MOST_EVENTS: Final = 1_000_000
#: columns and rows of a grid; bytes of a block
MOST_CELLS: Final = 4096
MOST_BYTES: Final = 4096
#: answers are packed fast
_LEVEL: Final = 1


class Answers:
    """Who answers questions about a run.  Safe for several threads at once.

    view: of the run.  moments: of its designs, in its order; they stay the caller's, who closes them.

    Each method takes its question as keywords, numbers or their text, and returns a container.
    Raises: UsageError, a sentence, for a question that makes no sense.

    >>> from heaplab.traces import Event, Op, Trace
    >>> from heaplab.views.packing import unpack
    >>> from heaplab.views.run import view_of
    >>> trace = Trace.of([Event(Op.MALLOC, 0, 1000), Event(Op.MALLOC, 1, 50), Event(Op.FREE, 0)], "three")
    >>> with Moments(trace, "buddy") as moments:
    ...     answers = Answers(view_of([moments]), [moments])
    ...     about, columns = unpack(answers.moment(run=0, moment=2))
    ...     window, _ = unpack(answers.window(run=0, **{"from": 0, "to": 3}))
    >>> about["kind"], columns["r0.live.size"].tolist(), columns["r0.live.slot"].tolist(), window["mode"]
    ('moment', [64, 1024], [2, 1], 'blocks')
    """

    def __init__(self, view: RunView, moments: Sequence[Moments]) -> None:
        self._view = view
        self._moments = moments
        self._lock = Lock()

    def window(self, /, **question: Any) -> bytes:
        """Return the part of one run between two events and two addresses: its blocks, or a grid of many.

        run; process (0); from, to: events; low, high: addresses (all); width, height: of the picture, pixels
        (1024 by 512); colour: takes no part.
        Cost: 10 ns for every block of the run, 0.5 us for each in the part.
        """
        ask = _Asked(question, "run", "process", "from", "to", "low", "high", "width", "height", "colour")
        number, process = self._run(ask), ask.number("process", 0, 0xFFFF, 0)
        first = ask.number("from", 0, self._view.header.events)
        last = ask.number("to", first, self._view.header.events)
        low = ask.number("low", 0, MAX_SIZE, 0)
        high = ask.number("high", low, MAX_SIZE, MAX_SIZE)
        width = ask.number("width", 1, MOST_CELLS, 1024)
        height = ask.number("height", 1, MOST_CELLS, 512)
        view, run, texts = self._view, self._view.runs[number], Texts()
        rows = _rows_in(view, run, process, first, last, low, high)
        about: dict[str, Any] = {
            **{"run": number, "process": process, "from": first, "to": last, "low": low, "high": high},
            **{"exact": [first, last], "runs": [told_of(run)]},
        }
        if len(rows) > MOST_BLOCKS:
            return self._grid(rows, about, width, height)
        columns = block_columns(view, rows, [number], texts)
        if last - first <= MOST_EVENTS:
            columns |= event_columns(view, first, last, rows, [number])
        return pack(manifest(view, "window", texts, mode="blocks", **about), columns, level=_LEVEL)

    def _grid(self, rows: Column, about: dict[str, Any], width: int, height: int) -> bytes:
        view, number = self._view, about["run"]
        regions = np.clip(view.runs[number].regions, about["low"], about["high"])
        level = grid_of(
            view,
            view.runs[number],
            rows,
            first=about["from"],
            last=about["to"],
            regions=regions[regions[:, 0] < regions[:, 1]],
            columns=width,
            many=height,
        )
        levels, columns = level_columns(number, about["process"], [level], "level.")
        told = manifest(view, "window", Texts(), mode="grid", levels=levels, **about)
        return pack(told, columns, level=_LEVEL)

    def moment(self, /, **question: Any) -> bytes:
        """Return one moment of one run, whole: all processes, and the references of the event before.

        run; moment: so many events are carried out.
        Cost: that of `Moments.at`, and a walk.
        """
        ask = _Asked(question, "run", "moment")
        number = self._run(ask)
        done = self._done(ask, number)
        with self._lock:
            texts, copied = Texts(), partial(self._view.runs[number].copied.at, done)
            recorded, columns = moment_columns(self._moments[number].at(done), texts, copied)
        about = {"run": number, "moment": done, "fault": recorded.fault}
        return self._packed("moment", texts, columns, about)

    def block(self, /, **question: Any) -> bytes:
        """Return one span of a heap at a moment: its first bytes, and the design's own words in it.

        run; moment; process (0); start: an address within the span.
        Cost: that of `Moments.at`, and a walk.
        """
        ask = _Asked(question, "run", "moment", "process", "start")
        number, process = self._run(ask), ask.number("process", 0, 0xFFFF, 0)
        done, start = self._done(ask, number), ask.number("start", 0, MAX_SIZE)
        with self._lock:
            heap = look_of(self._moments[number].at(done).heap(process))
            span = next((each for each in heap.walk() if each.start <= start < each.end), None)
            if span is None:
                raise UsageError(f"start={start}: no span of the heap has this address at moment {done}")
            shown = min(span.size, MOST_BYTES)
            content = heap.process.peek(span.start, shown) or b""
            words = list(heap.words(span.start, span.start + shown, span.start))
        texts = Texts()
        columns: Columns = {"byte.value": np.frombuffer(content, np.uint8)}
        for name in ("address", "size", "to"):
            columns[f"word.{name}"] = np.array([getattr(word, name) for word in words], np.uint64)
        for name in ("name", "text"):
            columns[f"word.{name}"] = np.array([texts(getattr(word, name)) for word in words], np.uint32)
        about = {
            **{"run": number, "moment": done, "process": process, "state": int(span.state)},
            **{"start": span.start, "size": span.size, "payload": span.payload, "usable": span.usable},
        }
        return self._packed("block", texts, columns, about)

    def _packed(self, kind: str, texts: Texts, columns: Columns, about: dict[str, Any]) -> bytes:
        told = [told_of(self._view.runs[about["run"]])]
        return pack(manifest(self._view, kind, texts, runs=told, **about), columns, level=_LEVEL)

    def _run(self, ask: "_Asked") -> int:
        return ask.number("run", 0, len(self._view.runs) - 1, 0)

    def _done(self, ask: "_Asked", run: int) -> int:
        return ask.number("moment", 0, self._view.runs[run].events)


class _Asked:
    """A question: names and numbers, as they came."""

    def __init__(self, question: Mapping[str, Any], *names: str) -> None:
        self._question = question
        for name in question:
            if name not in names:
                raise UsageError(f"{name}: no such word in this question; its words are {', '.join(names)}")

    def number(self, name: str, least: int, most: int, default: int | None = None) -> int:
        """Return a whole number.  Raises: UsageError when it is missing, none, or out of bounds."""
        value = self._question.get(name, default)
        if value is None:
            raise UsageError(f"{name} is missing: say {name}=NUMBER")
        try:
            number = round(value) if isinstance(value, float) else int(value)
        except (TypeError, ValueError, OverflowError):
            raise UsageError(f"{name}={value}: no whole number") from None
        if not least <= number <= most:
            raise UsageError(f"{name}={number}: it is to be from {least} to {most}")
        return number


def _rows_in(
    view: RunView, run: DesignRun, process: int, first: int, last: int, low: int, high: int
) -> Column:
    """Return the rows of the blocks that are there after one of the events, and touch the addresses."""
    lives, places = view.lives, run.places
    rows = np.flatnonzero(lives.died[: int(np.searchsorted(lives.born, last))] > first)
    address = places.address[rows]
    start = address - places.lead[rows]
    there = (address != 0) & (start < high) & (start + places.span[rows] > low)
    found: Column = rows[there & (lives.process[rows] == process)]
    return found
