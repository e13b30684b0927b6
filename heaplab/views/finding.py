"""Where to go in a replay: a fault, a block's history, the peak, a search.

An event is named in words, by `heaplab step --at` and in the program:

    1000                      event 1000
    first, last               of the trace, or of what the run could do
    peak                      of live bytes; also `peak heap`, `peak resident`
    failure                   the event at which the run ended early
    block 270                 its last event up to now, or else its first one
    anything else             a search: the next event of which all words hold

Words of a search:

    malloc, free, calloc, realloc, aligned
    fork, exec, exit, thread-exit
    end                       one of these four
    fault                     with a page fault
    call, brk, mmap, munmap   with a system call for memory, or with this one
    block 270                 of a block by its slot
    size 100, size 100-4k     that requests so many bytes
    at 0x5000-0x5fff          whose payload, given or freed, begins there
    process 1, thread 2       of these
"""

import re
from bisect import bisect_left
from collections.abc import Callable, Iterator
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from heaplab.errors import UsageError
from heaplab.lab.moments import Log, Moments
from heaplab.traces import Block, Op
from heaplab.traces.lives import Lives, lives
from heaplab.units import parse_size

#: tells of events [start, stop) which are meant
Test = Callable[[int, int], npt.NDArray[np.bool_]]

OPS = {op.name.lower().replace("_", "-"): op for op in Op}
_GIVING = (Op.MALLOC, Op.CALLOC, Op.REALLOC, Op.ALIGNED)
_ENDING = (Op.FORK, Op.EXEC, Op.EXIT, Op.THREAD_EXIT)
_OF_BLOCKS = (*_GIVING, Op.FREE)
#: events by which the replay goes on while it looks for one
_STRETCH = 16_384
#: what may be asked for, in a sentence's end
GRAMMAR = (
    "write a number, first, last, peak, failure, block N, or words of a search, as fault, brk, or "
    "'malloc size 1k-8k'"
)
_RANGE = re.compile(r"([^-]+)(?:-([^-]+))?")


class Finder:
    """Finds events of a replay; what it has to know of later events is replayed when it is asked for.

    columns: all events of the trace.

    >>> from heaplab.traces import Event, Trace
    >>> events = [Event(Op.MALLOC, 0, 100), Event(Op.MALLOC, 1, 5000), Event(Op.REALLOC, 0, 300)]
    >>> moments = Moments(Trace.of([*events, Event(Op.FREE, 0)]), "rbtree")
    >>> finder = Finder(moments)
    >>> finder.find("peak"), finder.find("block 1"), finder.find("malloc size 1k-8k"), finder.history(0)
    (2, 1, 1, (0, 2, 3))
    >>> moments.close()
    """

    def __init__(self, moments: Moments) -> None:
        self.moments = moments
        self.columns = Block.join(moments.trace) if moments.events else Block.build(0)

    # ---- by number ----

    @property
    def last(self) -> int:
        """The last event that can be shown: of the trace, or once that is known, the one of the failure."""
        last = self.moments.events - 1
        return min(last, len(self._log(last + 1))) if self.moments.end else last

    def check(self, event: int) -> int:
        """Return the event's number.  Raises: UsageError, with the reason, when there is no such event."""
        if not self.moments.events:
            raise UsageError(f"{self.moments.trace.source}: has no events, so there is nothing to show")
        self._log(event + 1)
        if 0 <= event <= self.last:
            return event
        end = self.moments.end
        why = f", where the run ended: {end.reason}" if end and event < self.moments.events else ""
        raise UsageError(f"there is no event {event:,}: events go from 0 to {self.last:,}{why}")

    # ---- in words ----

    def find(self, text: str, now: int = -1) -> int:
        """Return the event that the text names; a search begins after event `now`, then at the start.

        Raises: UsageError when there is no such event, or when the text says nothing that this page lists.
        """
        self.check(0)
        words = text.lower().split()
        match words:
            case [number] if number.replace(",", "").isdigit():
                return self.check(int(number.replace(",", "")))
            case ["first"]:
                return 0
            case ["last"]:
                self._log(self.moments.events)
                return self.last
            case ["failure"]:
                return self.failure()
            case ["peak"]:
                return self.peak("live")
            case ["peak", ("live" | "heap" | "resident") as what]:
                return self.peak(what)
            case ["block", slot] if slot.isdigit():
                return self._block(int(slot), now)
        found = self.search(text, now)
        if found is None:
            found = self.search(text, -1)
        if found is None:
            raise UsageError(f"no event is '{text}'")
        return found

    def failure(self) -> int:
        """Return the event at which the run ended early.  Raises: UsageError when it did not."""
        self._log(self.moments.events)
        if self.moments.end is None:
            raise UsageError("the run has no failure: all events of the trace were carried out")
        return self.last

    def peak(self, what: str) -> int:
        """Return the first event after which `what` (live, heap, resident) is at its peak.

        Cost: the whole replay, once.
        """
        column = getattr(self._log(self.moments.events), what)
        return int(column.argmax()) if len(column) else 0

    def _block(self, slot: int, now: int) -> int:
        events = np.flatnonzero(self._of_block(slot))
        events = events[events <= self.last]
        if not len(events):
            raise UsageError(f"no event is about a block {slot}: a block's number is its slot in the trace")
        before = int(np.searchsorted(events, now, side="right"))
        return int(events[max(before - 1, 0)])

    def _of_block(self, slot: int) -> npt.NDArray[np.bool_]:
        of_slot: npt.NDArray[np.bool_] = np.isin(self.columns.op, _OF_BLOCKS) & (self.columns.id == slot)
        return of_slot

    def search(self, text: str, now: int, step: int = 1) -> int | None:
        """Return the next event after `now` (step 1), or before it (-1), of which all words are true.

        Cost: a replay up to the event found.
        Raises: UsageError when a word is none of a search.
        """
        tests = list(self._tests(text.lower().split()))
        if not tests:
            raise UsageError(f"'{text}' says no event: {GRAMMAR}")
        for start, stop in self._stretches(now, step):
            found = np.ones(stop - start, np.bool_)
            for test in tests:
                if found.any():
                    found &= test(start, stop)
            hits = np.flatnonzero(found)
            if len(hits):
                event = start + int(hits[0 if step > 0 else -1])
                self._log(event + 1)
                return event if event <= self.last else None
        return None

    def _stretches(self, now: int, step: int) -> Iterator[tuple[int, int]]:
        if step > 0:
            start = now + 1
            while start <= self.last:
                stop = min(start + _STRETCH, self.moments.events)
                yield start, stop
                start = stop
            return
        stop = min(now, self.moments.events)
        while stop > 0:
            yield max(stop - _STRETCH, 0), stop
            stop -= _STRETCH

    def _tests(self, words: list[str]) -> Iterator[Test]:
        columns, rest = self.columns, iter(words)
        for word in rest:
            if word in OPS:
                yield self._op(OPS[word])
            elif word == "fault":
                yield lambda start, stop: self._logged("faults", start, stop) > 0
            elif word in ("call", "brk", "mmap", "munmap", "mremap", "madvise"):
                yield self._call("" if word == "call" else f"{word}(")
            elif word == "end":
                yield lambda start, stop: np.isin(columns.op[start:stop], _ENDING)
            elif word == "block":
                yield self._equal(self._of_block(self._number(word, next(rest, ""))), True)
            elif word in ("thread", "process"):
                yield self._equal(getattr(columns, word), self._number(word, next(rest, "")))
            elif word == "size":
                yield self._size(next(rest, ""))
            elif word == "at":
                yield self._address(next(rest, ""))
            else:
                raise UsageError(f"'{word}' is no word of a search: {GRAMMAR}")

    @staticmethod
    def _number(word: str, text: str) -> int:
        if not text.isdigit():
            raise UsageError(f"'{word} {text}': write a number after '{word}'")
        return int(text)

    @staticmethod
    def _equal(column: npt.NDArray[Any], value: int | bool) -> Test:
        return lambda start, stop: column[start:stop] == value

    def _op(self, op: Op) -> Test:
        return self._equal(self.columns.op, op)

    def _size(self, text: str) -> Test:
        low, high = _range("size", text, parse_size)
        sizes = self.columns.size
        return lambda start, stop: (
            np.isin(self.columns.op[start:stop], _GIVING)
            & (sizes[start:stop] >= low)
            & (sizes[start:stop] <= high)
        )

    def _address(self, text: str) -> Test:
        low, high = _range("at", text, lambda part: int(part, 16))

        def test(start: int, stop: int) -> npt.NDArray[np.bool_]:
            found = self.addresses(stop)[start:]
            return np.pad((found >= low) & (found <= high) & (found > 0), (0, stop - start - len(found)))

        return test

    def _call(self, begins: str) -> Test:
        def test(start: int, stop: int) -> npt.NDArray[np.bool_]:
            calls = self._log(stop).calls
            first = bisect_left(calls, start, key=lambda call: call.event)
            found = np.zeros(stop - start, np.bool_)
            for call in calls[first : bisect_left(calls, stop, key=lambda call: call.event)]:
                found[call.event - start] |= call.text.startswith(begins)
            return found

        return test

    def _logged(self, column: str, start: int, stop: int) -> npt.NDArray[Any]:
        values = getattr(self._log(stop), column)[start:stop]
        return np.pad(values, (0, stop - start - len(values)))  # the event that ended the run has no row

    def _log(self, until: int) -> Log:
        return self.moments.log(min(max(until, 0), self.moments.events))

    # ---- blocks ----

    @cached_property
    def _lives(self) -> Lives:
        return lives(self.moments.trace)

    def history(self, event: int) -> tuple[int, ...]:
        """Return the events of the block that `event` is about: its malloc, its reallocs, its free.

        Of a block that a child has by a fork, what the parent did with it before comes first.
        Returns: () for an event that is about no block.  Cost: O(events) the first time.
        """
        known = self._lives
        rows = [int(known.row[event]) - 1]
        if rows[0] < 0:
            return ()
        while known.before[rows[0]]:
            rows.insert(0, int(known.before[rows[0]]) - 1)
        ends: list[int] = []
        while not ends and (end := int(known.died[rows[-1]])) < self.moments.events:
            op = self.columns.op[end]
            if op == Op.REALLOC:
                rows.append(int(known.row[end]) - 1)
            elif op == Op.FREE:
                ends.append(end)
            else:  # the process has ended
                break
        return (*(int(known.born[row]) for row in rows if not known.copied[row]), *ends)

    def addresses(self, until: int) -> npt.NDArray[np.uint64]:
        """Return the payload's address of each event before `until`: of the block that it gives, or frees."""
        known = self._lives
        given: npt.NDArray[np.uint64] = self._log(until).address.copy()
        freed = np.flatnonzero((self.columns.op[: len(given)] == Op.FREE) & (known.row[: len(given)] > 0))
        rows = known.row[freed].astype(np.int64) - 1
        while (copied := known.copied[rows]).any():  # by a fork: it lies where the parent's does
            rows = np.where(copied, known.before[rows].astype(np.int64) - 1, rows)
        given[freed] = given[known.born[rows]]
        return given


def _range(word: str, text: str, parse: Callable[[str], int]) -> tuple[int, int]:
    """Return the ends of `100` or `100-200`, both included."""
    match = _RANGE.fullmatch(text)
    try:
        if match is None:
            raise ValueError
        low = parse(match[1])
        high = parse(match[2]) if match[2] else low
    except (ValueError, UsageError):
        raise UsageError(f"'{word} {text}': write one value after '{word}', or two as LOW-HIGH") from None
    return low, high
