"""Any moment of a replay, forwards and backwards.

Two things are asked of a replay that is looked at: figures of every event, and the heap as it was after any
of them.  They come from two replays of one trace, for to fork is to change what faults later.

    the log     a replay as `lab.run` makes it: of every event the address, the mems, the faults, and what
                was live, heap and resident after it; and the system calls
    moments     a replay that leaves forks of its processes behind, now and then.  The kernel shares their
                pages until somebody writes.  To go to a moment is to fork the nearest of them that lies
                before, and to carry out the events in between.  Contents, addresses, and which pages are
                there, are those of a replay that was never forked

Event k leads from moment k to moment k + 1; moment 0 is the empty heap.

Costs: a `Moments` holds all events that were asked for, 29 bytes each, and for those in the log 40 more.
Measured on synthetic traces with rbtree in C, seconds of the processor, and MiB resident at the peak:

    events       resident   reading   replay     log     first `at(events)`   any `at`   a step either way
    1 million           5       0.5      0.3     0.4                    1.4      0.007               0.001
    10 million          5       4.7      4.2     8.9                    6.3      0.051               0.001
    1 million         329       0.6      4.7     4.7                   12.5      0.409               0.006
"""

import gc
from bisect import bisect_left
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, Self

import numpy as np
import numpy.typing as npt

from heaplab._core import ffi, lib
from heaplab.allocators import Allocator, Spec, parse
from heaplab.errors import UsageError
from heaplab.kernel import Kernel
from heaplab.kernel.task import Task
from heaplab.lab.replay import End, RawLog, Replay
from heaplab.lab.room import host_memory, host_refusal
from heaplab.lab.run import RAM
from heaplab.lab.snapshots import Snapshots
from heaplab.machine import FrameKind, Pte
from heaplab.machine.context import Reference
from heaplab.native.calls import ARGUMENTS, strace
from heaplab.native.stage import live_blocks
from heaplab.process import Process
from heaplab.traces import Block, Event, Trace
from heaplab.traces.event import COLUMNS
from heaplab.traces.raw import raw_events
from heaplab.units import counted

#: events between two reports of progress
_REPORT_EVERY: Final = 32_768
#: a machine with more frames in use is worth a search for garbage
_WORTH_COLLECTING: Final = 16_384
#: references of one event that are kept
_MOST_REFERENCES: Final = 1 << 22
_UNKNOWN: Final = 2**64 - 1

Column = npt.NDArray[Any]


@dataclass(frozen=True)
class Label:
    """What the trace knows of a live block.

    slot: the block's number in events.  size: bytes that were requested.  event: the last event that
    allocated or reallocated the block.  thread, process: the ones that made this event.  A block that a
    forked child has from its parent keeps the parent's label.
    """

    slot: int
    size: int
    event: int
    thread: int
    process: int


@dataclass(frozen=True)
class Call:
    """A system call for memory.

    event: during which a heap made it; -1 for those that made the first heap.  process: by the trace's
    number.  text: as strace writes it.
    """

    event: int
    process: int
    text: str


@dataclass(frozen=True)
class Start:
    """How things stand before the first event: minor faults so far, bytes of heap, and of resident memory."""

    faults: int
    heap: int
    resident: int


@dataclass(frozen=True, eq=False)
class Log:
    """What the first events did: of each column a row an event.

    address   of the block's payload, 0 for an event that leaves no block
    mems      memory references of the allocator, in this event
    faults    minor faults of all processes, in this event, those that the payload brings included
    live      payload bytes after the event, of all processes
    heap      bytes of address space that brk and mmap gave them, after the event
    resident  bytes of frames with anonymous memory, each once, after the event
    calls     system calls for memory, in their order
    start     how things stood before
    """

    address: Column
    mems: Column
    faults: Column
    live: Column
    heap: Column
    resident: Column
    calls: list[Call]
    start: Start

    def __repr__(self) -> str:
        return f"<Log of {counted(len(self), 'event')}>"

    def __len__(self) -> int:
        return len(self.address)


class Moments:
    """The moments of a trace's replay on one design.

    trace, spec, language, seed, ram, payload: as of `lab.run`.  max_mems: the most references in all; the log
    ends there, also inside a call, so an allocator that never returns hangs nobody.
    progress: called now and then with the number of events done, by the log and on the way to a moment.

    events: how many the trace has.  block: all of them as columns, filled as far as the log or `event` came.
    end: why the replay ended early; None before the log has come so far, and if it never does.
    Raises: UsageError for an unknown allocator, and for a trace that this computer has no memory for.
    A context manager: at its end all processes are gone.

    >>> from heaplab.traces import Event, Op, Trace
    >>> trace = Trace.of([Event(Op.MALLOC, 0, 1000), Event(Op.MALLOC, 1, 50), Event(Op.FREE, 0)], "three")
    >>> with Moments(trace, "buddy") as moments:
    ...     log, labels = moments.log(), moments.at(2).labels()
    ...     print(log.mems.tolist(), log.live.tolist(), len(moments.references(1)))
    ...     print(labels[int(log.address[0])])
    ...     print(*[span.state.name for span in moments.at(3).heap().blocks()][:2])
    [7, 7, 9] [1000, 1050, 50] 7
    Label(slot=0, size=1000, event=0, thread=0, process=0)
    FREE ALLOCATED
    """

    def __init__(
        self,
        trace: Trace,
        spec: str | Spec,
        language: str = "c",
        *,
        seed: int = 1,
        ram: int | str = RAM,
        payload: bool = True,
        max_mems: int | None = None,
        progress: Callable[[int], None] = lambda done: None,
    ) -> None:
        if payload and (why := host_refusal(trace.header, ram, host_memory())):
            raise UsageError(why)
        self.trace = trace
        self.spec = parse(spec, language) if isinstance(spec, str) else spec
        self.events = trace.header.events
        self.end: End | None = None
        self._seed, self._ram, self._payload, self._max_mems = seed, ram, payload, max_mems
        self._progress = progress
        self._closed = False
        # of all events, filled as far as `_loaded`
        self.block = Block(**{name: np.zeros(self.events, dtype) for name, dtype in COLUMNS.items()})
        self._raw_events = raw_events(self.block)
        self._blocks = iter(trace)
        self._loaded = 0
        # the log
        self._log = RawLog(self.events)
        self._rows = self._log.columns
        self._system_calls: list[Call] = []
        self._start = Start(0, 0, 0)
        self._logging: Replay | None = None
        self._log_ended = False
        self._logged = 0
        self._snapshots = Snapshots(
            self._begin_again,
            self.events,
            trace.header.slots,
            trace.header.processes,
            progress,
        )

    def __repr__(self) -> str:
        return f"<Moments of {self.trace.header.name} on {self.spec}: {counted(self.events, 'event')}>"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End all processes and give their memory back; no moment is good any more."""
        if self._closed:
            return
        self._closed = True
        touched = self._snapshots.touched_frames
        self._snapshots.close()
        self._logging = None
        if touched > _WORTH_COLLECTING:
            gc.collect()  # kernel, tasks and heaps refer to each other in circles

    def _demand_open(self) -> None:
        if self._closed:
            raise UsageError("these moments are closed: make others")

    # ---- events ----

    def event(self, k: int) -> Event:
        """Return event k.  Raises: UsageError when the trace has none of that number."""
        if not 0 <= k < self.events:
            raise UsageError(
                f"{self.trace.header.name} has no event {k}: its events are 0 to {self.events - 1}"
            )
        self._load(k + 1)
        return next(iter(self.block[k : k + 1]))

    def _load(self, until: int) -> None:
        """Have the first events in memory, at least `until`."""
        while self._loaded < until:
            block = next(self._blocks)[: self.events - self._loaded]
            for name, column in block.columns().items():
                getattr(self.block, name)[self._loaded : self._loaded + len(block)] = column
            self._loaded += len(block)
        if self._loaded == self.events:
            for _ in self._blocks:  # at its end a trace says whether it was what its header promised
                pass

    # ---- the log ----

    @property
    def done(self) -> int:
        """How many events the log has: in the end all, or those before the replay's early end."""
        return self._logged

    def log(self, until: int | None = None) -> Log:
        """Return what the first `until` events did, or all; fewer if the replay ends early: see `end`.

        The columns are views: they cost nothing, and are good for as long as somebody holds them.
        Cost: of events that nobody has asked for yet, that of a replay.
        Raises: UsageError when the trace turns out to be damaged.
        """
        rows = self._reach(self.events if until is None else until)
        made = self._system_calls
        if rows < self._logged or self.end is None:
            made = made[: bisect_left(made, rows, key=lambda call: call.event)]
        return Log(
            **{name: column[:rows] for name, column in self._rows.items()},
            calls=list(made),
            start=self._start,
        )

    def _reach(self, until: int) -> int:
        """Let the log have the first `until` events; return how many of them it has."""
        self._demand_open()
        if self._logging is None and not self._log_ended:
            self._logging = self._begin_log()
        replay = self._logging
        if replay is not None:
            while replay.end is None and replay.done < min(until, self.events):
                stop = min(until, self.events, replay.done + _REPORT_EVERY)
                self._load(stop)
                replay.advance(stop)
                self._logged = replay.done
                self._snapshots.need = int(replay.raw.peak_resident.most) // replay.kernel.machine.page_size
                self._progress(replay.done)
            if replay.end is None and replay.done == self.events and replay.raw.verify:
                replay.verify()
            if replay.end is not None or replay.done == self.events:
                self.end, self._logging, self._log_ended = replay.end, None, True
        return max(0, min(until, self._logged))

    def _begin_log(self) -> Replay:
        def watch(replay: Replay) -> None:
            def note(task: Task, name: str, registers: tuple[int, ...], result: int) -> None:
                number = replay.numbers.get(task.tgid)
                if number is not None and name in ARGUMENTS:
                    event = -1 if replay.doing else replay.done
                    self._system_calls.append(Call(event, number, strace(name, registers, result)))

            replay.kernel.system.on_call = note

        replay = self._new_replay(verify=self._payload, watch=watch)
        machine = replay.kernel.machine
        self._start = Start(
            replay.faults(),
            sum(int(member.process.context.raw.space.heap_pages) for member in replay.members.values())
            * machine.page_size,
            machine.used(FrameKind.ANON) * machine.page_size,
        )
        lib.hl_replay_log(replay.raw, self._log.raw)
        return replay

    def _begin_again(self) -> Replay:
        """Return a replay at moment 0 that compares what it does with the log."""
        replay = self._new_replay(verify=False)
        lib.hl_replay_compare(replay.raw, self._log.raw)
        return replay

    def _new_replay(self, **options: Any) -> Replay:
        return Replay(
            self.trace,
            self.spec,
            Kernel(ram=self._ram, seed=self._seed),
            payload=self._payload,
            max_mems=self._max_mems,
            samples=0,
            block=self.block,
            **options,
        )

    # ---- moments ----

    def at(self, done: int) -> "Moment":
        """Return the moment at which `done` events are carried out.

        The log comes so far first.  The moment is good until this object is closed, or until so many others
        were asked for, by this or by `references`: 16, and 4 where the machine's memory is short.
        Cost: that of the events since the snapshot before; there is one for every 64th part of the trace.
        Where the machine has no room for two replays, that of all events.
        Raises: UsageError when the replay does not come so far.
        """
        if not 0 <= done <= self.events:
            raise UsageError(f"{self.trace.header.name} has no moment {done}: they are 0 to {self.events}")
        if self._reach(done) < done:
            assert self.end is not None
            raise UsageError(
                f"there is no moment {done}, for the replay ends at moment {self._logged}: {self.end.reason}"
            )
        return Moment(self, done, self._snapshots.at(done))

    def references(self, k: int) -> list[Reference]:
        """Return the references that the allocator makes in event k, in order; the payload's are not its own.

        The event is carried out once more, observed.  Of the event at which a replay ends early these are the
        references up to its end; of more than four million, the last four million.
        Raises: UsageError as `event` and `at` do.
        """
        event = self.event(k)
        self._reach(k + 1)
        self.at(k)
        replay = self._snapshots.run_to(k)
        try:
            member = replay.members.get(event.process)
            if member is None:
                return []
            context = member.process.context
            most = int(self._rows["mems"][k]) if k < self._logged else _MOST_REFERENCES
            context.observe(True, keep=min(most, _MOST_REFERENCES))
            replay.advance(k + 1)
            context.observe(False)
            return context.recent(_MOST_REFERENCES)
        finally:
            replay.close()

    def _origins(self, done: int, process: int, slots: npt.NDArray[np.int64], count: int) -> Column:
        """Return which events the blocks in `slots` are from; `count` slots were ever used."""
        event = np.zeros(count, np.uint64)
        event[slots] = _UNKNOWN
        out = ffi.cast("uint64_t *", event.ctypes.data)
        lib.hl_replay_origins(self._raw_events, done, process, count, out)
        return event[slots].astype(np.int64)


class Moment:
    """The heaps of a trace after some of its events.

    done: how many events.  moments: whose it is.  processes: the trace's numbers of those that are alive.
    """

    def __init__(self, moments: Moments, done: int, replay: Replay) -> None:
        self.moments = moments
        self.done = done
        self.processes: tuple[int, ...] = tuple(sorted(replay.members))
        self._replay = replay

    def __repr__(self) -> str:
        return f"<Moment {self.done} of {self.moments.trace.header.name} on {self.moments.spec}>"

    def heap(self, number: int = 0) -> Allocator:
        """Return the heap of a process: to look at, for other moments are reached from here.

        Raises: UsageError when no such process is alive, and when the moment is no longer good.
        """
        return self._standing(number).members[number].heap

    def labels(self, number: int = 0) -> dict[int, Label]:
        """Return what the trace knows of the blocks that live in a process, by the address of the payload.

        Cost: at most 2 ns for every event before; 1 us for every block.  Raises: as `heap`.
        """
        slots = self._standing(number).slots(number)
        blocks, block = live_blocks(slots), self.moments.block
        event = self.moments._origins(self.done, number, blocks[:, 2], len(slots))
        rows = zip(
            *(column.tolist() for column in (*blocks.T, event, block.thread[event], block.process[event])),
            strict=True,
        )
        return {
            address: Label(slot, size, event, thread, process)
            for address, size, slot, event, thread, process in rows
        }

    def sharers(self, number: int, page_address: int) -> int:
        """Return how many processes of the trace have the frame that a process has at a page; 0: it has none.

        Raises: as `heap`.
        """
        members = self._standing(number).members
        own = _frame(members[number].process, page_address)
        if own is None:
            return 0
        return sum(_frame(member.process, page_address) == own for member in members.values())

    def _standing(self, number: int) -> Replay:
        if self._replay.closed:
            raise UsageError(f"moment {self.done} is no longer good: ask for it again")
        if number not in self.processes:
            alive = ", ".join(map(str, self.processes)) or "none"
            raise UsageError(f"no process {number} is alive at moment {self.done}: choose among {alive}")
        return self._replay


def _frame(process: Process, va: int) -> int | None:
    space = process.context.space
    entry = space.pte(va) if space is not None else 0
    return Pte.frame(entry) if entry & Pte.PRESENT else None
