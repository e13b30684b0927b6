"""From addresses to slots: the one place that knows what the calls in a text trace do to the heap.

A text names blocks by address, and addresses are used again; a call may fail, be given NULL, move a block, or
release one whose allocation was never seen.  `Heaps` follows the calls and gives the events.
"""

from collections import Counter
from collections.abc import Callable, Hashable

from heaplab.traces.calls import (
    ALIGNED,
    BAD_ALIGNMENTS,
    BAD_SIZES,
    BAD_TIMES,
    BEGIN,
    CALLOC,
    EXEC,
    EXIT,
    FREE,
    MALLOC,
    MISSING_FREES,
    REALLOC,
    REALLOC_BEGIN,
    REALLOC_END,
    RESIZE,
    THREAD_EXIT,
    TOO_MANY,
    UNKNOWN_FREES,
    UNKNOWN_REALLOCS,
    Call,
    Refusal,
)
from heaplab.traces.event import MAX_SIZE, NULL_ID, Op, Row
from heaplab.traces.slots import SlotTable

_FORK = int(Op.FORK)
_MAX_ALIGN = 1 << 31
_MAX_NUMBER = 0xFFFF
_MAX_TIME = 1 << 62
_MOST_COPIED = 1 << 23  # entries of tables copied by forks: about 1 GB


class _Process:
    """A process of the trace: its blocks by address, its threads by name."""

    def __init__(self, number: int, slots: SlotTable) -> None:
        self.number = number
        self.slots = slots
        self.threads: SlotTable = SlotTable()
        self.fresh = True
        self.reallocs: dict[Hashable, list[tuple[int, int | None]]] = {}  # of each thread, not returned


class Heaps:
    """The live blocks of every process in a text, by address.

    process_of: the name of the process that a thread belongs to.
    spawns: whether a new process begins with an empty heap; otherwise it begins with a copy of another's.
    lenient: what cannot be is mended or skipped, and counted in `skipped`; otherwise it is a `Refusal`.
    unknown, taken: the words for a call that names no block, or that allocates where one is.
    `rows` are the events until now; whoever takes them empties it.

    >>> heaps = Heaps(lambda who: 0)
    >>> for call in [(MALLOC, "a", 0x1000, 24, 0, 0), (REALLOC, "a", 0x2000, 48, 0x1000, 0)]:
    ...     heaps.follow(call)
    >>> [(row[0], row[1], row[2]) for row in heaps.rows]
    [(0, 0, 24), (3, 0, 48)]
    >>> heaps.follow((FREE, "a", 0x1000, 0, 0, 0))
    Traceback (most recent call last):
    heaplab.traces.calls.Refusal: names an address where no block is
    """

    def __init__(
        self,
        process_of: Callable[[Hashable], Hashable],
        *,
        spawns: bool = False,
        lenient: bool = False,
        unknown: str = "names an address where no block is",
        taken: str = "allocates a block where one is",
    ) -> None:
        self.rows: list[Row] = []
        self.skipped: Counter[str] = Counter()
        self._process_of = process_of
        self._spawns = spawns
        self._lenient = lenient
        self._unknown_block = unknown
        self._taken = taken
        self._actors: dict[Hashable, tuple[SlotTable, int, int, _Process]] = {}
        self._processes: dict[Hashable, _Process] = {}
        self._born = 0
        self._copied = 0
        self._first_time = 0
        self._time = 0

    def follow(self, call: Call) -> None:
        """Add the events that `call` leads to.  Cost: O(1), under a microsecond; a fork copies a table.

        Raises: Refusal when the call cannot be.
        """
        kind, who, address, size, extra, time = call
        time = self._pass(time) if time else self._time
        slots, thread, number, process = self._actors.get(who) or self._meet(who)
        if kind in (MALLOC, CALLOC, ALIGNED):
            if address:
                if not 0 <= size <= MAX_SIZE:
                    raise Refusal("has a size that no allocation can have", BAD_SIZES)
                if kind == ALIGNED:
                    extra = _alignment(extra)
                if address in slots:
                    self._lost_free(slots, address, thread, time, number, self._taken)
                self.rows.append((kind, slots.take(address), size, extra, thread, time, number))
        elif kind == FREE:
            if not address:
                self.rows.append((FREE, NULL_ID, 0, 0, thread, time, number))
            elif address in slots:
                self.rows.append((FREE, slots.release(address), 0, 0, thread, time, number))
            else:
                self._unknown(UNKNOWN_FREES)
        elif kind == REALLOC:
            self._realloc(address, extra, size, (slots, thread, number), time)
        else:
            self._rare(kind, who, address, size, time)
        process.fresh = False

    def _pass(self, time: int) -> int:
        """The trace's time when the file says `time`: where the file's clock goes back, it stands."""
        if not 0 < time < _MAX_TIME:
            raise Refusal("has a time that no clock shows", BAD_TIMES)
        if not self._first_time:
            self._first_time = time
        self._time = max(self._time, time - self._first_time)
        return self._time

    # ---- threads and processes ----

    def _meet(self, who: Hashable) -> tuple[SlotTable, int, int, _Process]:
        """The place of a thread that is new, in a process that may be new too."""
        name = self._process_of(who)
        process = self._processes.get(name) or self._new_process(name)
        if len(process.threads) > _MAX_NUMBER:
            raise Refusal(f"brings the threads above {_MAX_NUMBER + 1}", TOO_MANY)
        actor = (process.slots, process.threads.take(who), process.number, process)
        self._actors[who] = actor
        return actor

    def _new_process(self, name: Hashable) -> _Process:
        slots: SlotTable = SlotTable()
        if self._born:
            parent = next(iter(self._processes.values()), None)  # the eldest
            if parent is None or self._born > _MAX_NUMBER:
                raise Refusal("belongs to a process that no process of the trace can fork", TOO_MANY)
            self.rows.append((_FORK, self._born, 0, 0, 0, self._time, parent.number))
            if self._spawns:
                self.rows.append((EXEC, 0, 0, 0, 0, self._time, self._born))
            else:
                self._copied += len(parent.slots)
                if self._copied > _MOST_COPIED:
                    raise Refusal("forks more live blocks than heaplab can follow", TOO_MANY)
                slots = parent.slots.copy()
        process = _Process(self._born, slots)
        self._processes[name] = process
        self._born += 1
        return process

    def _rare(self, kind: int, who: Hashable, address: int, size: int, time: int) -> None:
        slots, thread, number, process = self._actors[who]
        if kind == REALLOC_BEGIN:
            self._realloc_begin(process, who, address)
        elif kind == REALLOC_END:
            self._realloc_end(process, who, address, size, time)
        elif kind == RESIZE:
            if address not in slots:
                self.follow((MALLOC, who, address, size, 0, 0))
            elif size == 0:
                self.follow((FREE, who, address, 0, 0, 0))
            else:
                self._realloc(address, address, size, (slots, thread, number), time)
        elif kind == THREAD_EXIT:
            if address:
                self.follow((FREE, who, address, 0, 0, 0))
            self.rows.append((THREAD_EXIT, 0, 0, 0, thread, time, number))
            process.threads.release(who)
            del self._actors[who]
        elif kind == EXEC:
            if not process.fresh or len(slots):
                self.rows.append((EXEC, 0, 0, 0, thread, time, number))
            self._forget(process)
            replacement = _Process(number, SlotTable())
            self._processes[self._process_of(who)] = replacement
        elif kind == EXIT:
            if len(self._processes) > 1:  # a trace of one process ends with its last call
                self.rows.append((EXIT, 0, 0, 0, thread, time, number))
                self._forget(process)
                del self._processes[self._process_of(who)]
        else:
            assert kind == BEGIN, f"a call of no known kind, {kind}"

    def _forget(self, process: _Process) -> None:
        for who in process.threads.names():
            del self._actors[who]

    # ---- what cannot be ----

    def _unknown(self, kind: str) -> None:
        if not self._lenient:
            raise Refusal(self._unknown_block, kind)
        self.skipped[kind] += 1

    def _lost_free(
        self, slots: SlotTable, address: int, thread: int, time: int, number: int, why: str
    ) -> None:
        """A block is given out where one is: its free was not seen."""
        self._missing(why)
        self.rows.append((FREE, slots.release(address), 0, 0, thread, time, number))

    def _missing(self, why: str) -> None:
        if not self._lenient:
            raise Refusal(why, MISSING_FREES)
        self.skipped[MISSING_FREES] += 1

    # ---- realloc ----

    def _realloc(self, new: int, old: int, size: int, place: tuple[SlotTable, int, int], time: int) -> None:
        slots, thread, number = place
        if not new:  # it failed, or freed
            if old and size == 0:
                if old in slots:
                    self.rows.append((FREE, slots.release(old), 0, 0, thread, time, number))
                else:
                    self._unknown(UNKNOWN_REALLOCS)
            return
        if not 0 <= size <= MAX_SIZE:
            raise Refusal("has a size that no allocation can have", BAD_SIZES)
        slot = None
        if old in slots:
            slot = slots.detach(old)
        elif old:
            self._unknown(UNKNOWN_REALLOCS)
        self._settle(new, slot, size, place, time)

    def _settle(
        self, new: int, slot: int | None, size: int, place: tuple[SlotTable, int, int], time: int
    ) -> None:
        """A realloc returned `new`, for the block of `slot` or for one that nobody knows."""
        slots, thread, number = place
        if new in slots:
            why = self._taken if slot is None else "moves a block to where one is"
            self._lost_free(slots, new, thread, time, number, why)
        if slot is None:
            self.rows.append((MALLOC, slots.take(new), size, 0, thread, time, number))
        else:
            slots.attach(new, slot)
            # Some C libraries shrink to a block of size 0
            self.rows.append((REALLOC, slot, max(size, 1), 0, thread, time, number))

    def _realloc_begin(self, process: _Process, who: Hashable, address: int) -> None:
        slot = None
        if address in process.slots:
            slot = process.slots.detach(address)
        elif address:
            self._unknown(UNKNOWN_REALLOCS)
        process.reallocs.setdefault(who, []).append((address, slot))

    def _realloc_end(self, process: _Process, who: Hashable, new: int, size: int, time: int) -> None:
        calls = process.reallocs.get(who)
        if not calls:
            raise Refusal("ends a realloc that did not begin", UNKNOWN_REALLOCS)
        old, slot = calls.pop()
        slots, thread, number, _ = self._actors[who]
        possible = 0 <= size <= MAX_SIZE
        if new and possible:
            self._settle(new, slot, size, (slots, thread, number), time)
        elif slot is not None and (size == 0 or old in slots):
            if size:  # it failed, but the file has given the address to somebody else meanwhile
                self._missing("fails to move a block whose address is taken")
            slots.give_back(slot)
            self.rows.append((FREE, slot, 0, 0, thread, time, number))
        elif slot is not None:  # it failed
            slots.attach(old, slot)
        if new and not possible:
            raise Refusal("has a size that no allocation can have", BAD_SIZES)


def _alignment(align: int) -> int:
    """The power of two that memalign rounds `align` up to."""
    if align > _MAX_ALIGN:
        raise Refusal("has an alignment above 2 GiB", BAD_ALIGNMENTS)
    return 1 << max(0, align - 1).bit_length()
