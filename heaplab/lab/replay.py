"""Replays a trace: the model's processes do what the recorded ones did.

csrc/replay carries out the heap's events, a stretch of a block at a time, each on the thread that the trace
says; this side makes the processes and their heaps, and carries out FORK, EXEC and EXIT.
"""

import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from heaplab._core import ffi, lib
from heaplab.allocators import Allocator, Spec
from heaplab.allocators.core import CAllocator
from heaplab.errors import BusError, HeaplabError, KernelPanic, OutOfFuel, OutOfMemory, SegmentationFault
from heaplab.kernel import Kernel
from heaplab.lab import census, metrics
from heaplab.lab.record import Timeline
from heaplab.machine import FrameKind
from heaplab.native.stage import SLOT
from heaplab.process import Process
from heaplab.traces import Block, Event, Op, Trace
from heaplab.traces.raw import raw_events
from heaplab.units import format_size

#: events carried out in one call: between two calls Ctrl-C is heard
_STRETCH = 8192
#: a machine with less than this part of its frames free is exhausted
_FEW = 32
#: points of the timeline
SAMPLES = 500
_NO_LIMIT = 2**64 - 1
_LOG = {"address": "<u8", "mems": "<u4", "faults": "<u4", "live": "<u8", "heap": "<u8", "resident": "<u8"}
_SAMPLE = np.dtype([(name, "<u8") for name in ("event", "live", "heap", "resident")])

_NO_EVENTS = np.empty(0, np.int64)

# What heaps written in Python raised in the replay's callback; see heaplab.machine.context.
_raised: list[BaseException] = []


def _keep(_type: Any, value: BaseException, where: Any) -> None:
    _raised.append(value.with_traceback(where))


@ffi.def_extern(error=lib.HL_HEAP_RAISED, onerror=_keep)  # type: ignore[untyped-decorator]
def hl_py_heap(handle: Any, op: int, p: int, size: int, align: int) -> int:
    heap: Allocator = ffi.from_handle(handle)
    if op == Op.FREE:
        heap.free(p)
        return 0
    if op == Op.MALLOC:
        return heap.malloc(size)
    if op == Op.CALLOC:
        return heap.calloc(1, size)
    if op == Op.REALLOC:
        return heap.realloc(p, size)
    if op == Op.THREAD_EXIT:
        heap.thread_exit(heap.process.context.thread)
        return 0
    return heap.aligned_alloc(align, size)


def _counts(tally: Any) -> np.ndarray[Any, np.dtype[np.uint64]]:
    return np.frombuffer(ffi.buffer(tally.count), np.uint64).copy()


def _told(error: Exception) -> str:
    """The error in words; of one that nobody raised on purpose also the line."""
    told = f"{type(error).__name__}: {error}"
    frames = traceback.extract_tb(error.__traceback__)
    if isinstance(error, HeaplabError | OSError | MemoryError) or not frames:
        return told
    return f"{told} ({Path(frames[-1].filename).name}, line {frames[-1].lineno})"


def _named(slot: int, size: int, address: int) -> str:
    return f"block {slot} ({size} bytes at {address:#x})"


@dataclass(frozen=True)
class End:
    """Why a replay ended before the trace did: `reason` is a sentence."""

    failed: bool
    reason: str


@dataclass
class _Member:
    """A process of the trace, alive.  handle: of the heap, for the C side."""

    process: Process
    heap: Allocator
    handle: Any


class RawLog:
    """What each event of a replay did, one row an event: hl_log of csrc/replay.

    columns: address (of the block that the event leaves), live, heap and resident (bytes), mems, faults.
    raw: the same for the C side, good for as long as the log lives.
    """

    def __init__(self, events: int) -> None:
        """Make room for so many events."""
        self.columns: dict[str, census.Array] = {
            name: np.zeros(events, dtype) for name, dtype in _LOG.items()
        }
        pointers = {
            name: ffi.cast(f"uint{8 * column.itemsize}_t *", column.ctypes.data)
            for name, column in self.columns.items()
        }
        self.raw = ffi.new("hl_log *", pointers)


class Replay:
    """A trace being carried out on heaps of one design; `advance` does the work.

    trace: whose blocks are read as they are needed.  kernel: whose processes it runs in; nobody else's.
    verify: compare payloads with what was written.  payload: write them.  max_mems: stop before the
    reference that takes the total above it.  lines: count the distinct cache lines of each operation, for
    which the contexts are observed.

    watch: called with this object before the first call of the allocator.  block: all events of the trace as
    one block, for a replay that is to have branches; without it the trace is read.

    end: why it is over early, None until then.  doing: what it does besides events, in words; "" at an event.
    raw: the C side, with its counters.  numbers: by pid, the trace's numbers of its processes, from before
    the first call of their allocators on.
    """

    def __init__(
        self,
        trace: Trace,
        spec: Spec,
        kernel: Kernel,
        *,
        verify: bool = True,
        payload: bool = True,
        max_mems: int | None = None,
        lines: bool = False,
        samples: int = SAMPLES,
        watch: Callable[["Replay"], None] = lambda replay: None,
        block: Block | None = None,
    ) -> None:
        self._blocks = iter(trace if block is None else [block])
        self._block: Block | None = None
        self._events: Any = None
        self._begin(trace, spec, kernel, lib.hl_replay_new(kernel.machine.raw, lib.hl_py_heap))
        self.doing = "before the first event"
        if block is not None:
            self._next_block()
        self.raw.verify = verify
        self.raw.payload = payload
        if lines and lib.hl_replay_count_lines(self.raw):
            raise MemoryError("this computer has no memory for the replay")
        self.raw.mems_limit = _NO_LIMIT if max_mems is None else max_mems
        events = max(trace.header.events, 1)
        points = np.linspace(1, events, min(samples, events)).astype(np.uint64)
        wanted = np.union1d(points, np.array([self.peak], np.uint64))
        self._sample_at = np.append(wanted, np.uint64(_NO_LIMIT))
        self._samples = np.zeros(len(wanted), _SAMPLE)
        self.raw.sample_at = ffi.cast("uint64_t *", self._sample_at.ctypes.data)
        self.raw.samples = ffi.cast("hl_sample *", self._samples.ctypes.data)
        watch(self)
        try:
            self._start(0, kernel.init.fork())
        except Exception as error:
            self.fail(self.doing, error)
        self.doing = ""

    def _begin(self, trace: Trace, spec: Spec, kernel: Kernel, raw: Any) -> None:
        if raw == ffi.NULL:
            raise MemoryError("this computer has no memory for the replay")
        self.raw: Any = ffi.gc(raw, lib.hl_replay_delete)
        self.trace = trace
        self.spec = spec
        self.kernel = kernel
        self.end: End | None = None
        self.doing = ""
        self.closed = False
        self.members: dict[int, _Member] = {}
        self.numbers: dict[int, int] = {}
        self._faults = 0
        self._calls: Counter[str] = Counter()

    # ---- progress ----

    @property
    def peak(self) -> int:
        """How many events lead up to the peak of the live payload, the one that reaches it included."""
        return min(self.trace.header.peak_index + 1, self.trace.header.events)

    @property
    def done(self) -> int:
        """Events carried out."""
        return int(self.raw.events)

    @property
    def strayed(self) -> int | None:
        """The first event that did not do what a log says; None: all have done it, or there is no log."""
        event = int(self.raw.strayed)
        return None if event == _NO_LIMIT else event

    def advance(self, until: int) -> None:
        """Carry out events until `until` of them are done, the trace is over, or the replay ends early."""
        while self.end is None and self.done < until:
            if self._block is None or self.raw.row == len(self._block):
                self._next_block()
            if self._block is None:
                return
            row = int(self.raw.row)
            self._stretch(row, min(len(self._block), row + until - self.done, row + _STRETCH))

    def feed(self, block: Block) -> None:
        """Carry out events that the trace does not have: an adversary's, who saw the last addresses."""
        if block is not self._block:
            self._block, self._events = block, raw_events(block)
        self.raw.row = 0
        self.advance(self.done + len(block))

    def _stretch(self, _row: int, stop: int) -> None:
        """Carry out rows [_row, stop) of the block at hand, as far as nothing comes between."""
        self._settle(lib.hl_replay_run(self.raw, self._events, stop))

    def branch(self, fork: Callable[[Process], Process] = Process.fork) -> "Replay":
        """Return another replay that stands where this one does, in forks of its processes.

        The two go on apart; faults of both differ from what they would have been, for all pages are shared
        at first.  The branch verifies no payloads, takes no samples, and counts faults and calls from 0.
        This replay must have been given its `block`.
        fork: makes a child of a process.
        Raises: OSError, MemoryError, OutOfMemory when the kernel has no memory or no pid for the forks;
        HeapCorruption when no heap stands where one should.  Then none of the forks is left.
        """
        branch = Replay.__new__(Replay)
        branch._begin(self.trace, self.spec, self.kernel, lib.hl_replay_branch(self.raw))
        branch._blocks, branch._block, branch._events = iter(()), self._block, self._events
        branch.end = self.end
        try:
            for number, member in self.members.items():
                branch._fork(self, number, number, fork(member.process))
        except BaseException:
            branch.close()
            raise
        return branch

    def close(self) -> None:
        """End the processes, whatever the trace says."""
        self.closed = True
        for number in list(self.members):
            self._leave(number)

    def verify(self) -> None:
        """Compare what is still live with what was written, unless the replay has ended early."""
        self.doing = "after the last event"
        for number, member in self.members.items():
            if self.end is None:
                why = lib.hl_replay_verify(self.raw, number)
                if why != lib.HL_REPLAY_DONE:
                    self.end = End(True, f"{self.doing}: {self._explain(why, member)}")
        self.doing = ""

    def free_all(self) -> tuple[int, int]:
        """Free every block that is live, in the order of slots, on thread 0; return what is left.

        Returns: bytes of heap and resident.  What the processes count goes on counting.  A heap that raises
        ends the replay: see `end`.
        """
        try:
            for number, member in self.members.items():
                context, heap = member.process.context, member.heap
                context.thread, context.fuel = 0, None
                for address in census.live_addresses(self.slots(number)):
                    self.doing = f"the free of the block at {address:#x} after the last event"
                    heap.free(address)
        except Exception as error:
            self.fail(self.doing, error)
            return 0, 0
        finally:
            self.doing = ""
        machine = self.kernel.machine
        pages = sum(int(member.process.context.raw.space.heap_pages) for member in self.members.values())
        return pages * machine.page_size, machine.used(FrameKind.ANON) * machine.page_size

    def fail(self, what: str, error: Exception) -> None:
        """End the replay because `what` raised, unless it has ended before: then that says more.

        A heap whose call was broken off at the limit of mems may be between two states: that is no failure.
        """
        if self.end is None:
            self.end = End(True, f"{what}: {_told(error)}")

    def _next_block(self) -> None:
        self._block = next(self._blocks, None)
        self.raw.row = 0
        if self._block is not None:
            self._events = raw_events(self._block)

    def _settle(self, why: int) -> None:
        """Do what a call of the C side leaves to do."""
        if why == lib.HL_REPLAY_DONE:
            return
        event = self._event()
        if why == lib.HL_REPLAY_PROCESS:
            try:
                reason = self._process_event(event)
            except Exception as error:
                reason = self._told(error)
            if reason is None:
                lib.hl_replay_passed(self.raw)
                return
        else:
            member = self.members.get(event.process)
            if why == lib.HL_REPLAY_RAISED and member is not None:
                raised = self._raised(member)
                if isinstance(raised, OutOfFuel):
                    limit = int(self.raw.mems_limit)
                    self.end = End(False, f"more than {limit:,} mems at event {self.done} ({event})")
                    return
                reason = self._told(raised)
            else:
                reason = self._explain(why, member)
        self.end = End(True, f"event {self.done} ({event}): {reason}")

    def where(self) -> str:
        """What it is doing, in words."""
        if self.doing:
            return f"{self.end.reason}; {self.doing}" if self.end and self.end.failed else self.doing
        if self._block is None or int(self.raw.row) >= len(self._block):
            return f"after {self.done:,} events"
        return f"event {self.done} ({self._event()})"

    def _event(self) -> Event:
        """The event at hand."""
        assert self._block is not None
        row = int(self.raw.row)
        return next(iter(self._block[row : row + 1]))

    def _explain(self, why: int, member: _Member | None) -> str:
        """What is wrong, in words."""
        raw = self.raw
        at, offset = int(raw.bad_address), int(raw.bad_offset)
        block = _named(raw.bad_id, raw.bad_size, at)
        if why == lib.HL_REPLAY_NO_ACCESS and member is not None:
            error = self._raised(member)
            if isinstance(error, SegmentationFault | BusError):
                return f"{block} is not memory that can be read and written: {_told(error)}"
            return self._told(error)
        if why == lib.HL_REPLAY_KILLED or member is None:
            return f"process {raw.bad_process} is dead, though the trace does not say so"
        return {
            lib.HL_REPLAY_NO_MEMORY: f"the allocator gave no memory{self._want()}",
            lib.HL_REPLAY_MISALIGNED: f"the block at {at:#x} is not a multiple of {offset}",
            lib.HL_REPLAY_NOWHERE: f"the block at {at:#x} is in no address space",
            lib.HL_REPLAY_OVERLAP: f"{block} overlaps "
            f"{_named(raw.other_id, raw.other_size, raw.other_address)}",
            lib.HL_REPLAY_TOO_LARGE: f"{block} is larger than all memory of its process",
            lib.HL_REPLAY_NOT_ZERO: f"calloc's block at {at:#x} is not zero at byte {offset}",
            lib.HL_REPLAY_WRONG_BYTE: f"block {raw.bad_id} at {at:#x} has lost what was written to it, "
            f"from byte {offset} on",
            lib.HL_REPLAY_HOST_MEMORY: "this computer has no memory for the replay",
        }[why]

    def _told(self, error: Exception) -> str:
        """The error in words; that the machine's memory is exhausted comes first, for it is the cause."""
        if isinstance(error, OutOfMemory | KernelPanic):
            return f"{self._exhausted()}: {_told(error)}"
        return _told(error)

    def _want(self) -> str:
        """Why the kernel may have refused the allocator: the end of a sentence, "" when it had memory."""
        machine, size = self.kernel.machine, int(self.raw.bad_size)
        whole = machine.frame_count * machine.page_size
        if machine.free_frames < machine.frame_count // _FEW:
            return f": {self._exhausted()}"
        if size > whole:
            return f": the machine has {format_size(whole)} (--ram)"
        return ""

    def _exhausted(self) -> str:
        live = format_size(int(self.raw.now.live))
        return f"the machine's memory (--ram) is exhausted, with {live} live"

    def _raised(self, member: _Member) -> Exception:
        """What an allocator, the kernel or the MMU raised."""
        try:
            if _raised:
                raise _raised.pop()
            if isinstance(member.heap, CAllocator):
                member.heap.raise_failure()
            member.process.context.check()
        except Exception as error:
            return error
        raise AssertionError("the replay says that something was raised, and nothing was")

    # ---- processes ----

    def _start(self, number: int, process: Process) -> None:
        """Let a process begin with an empty heap."""
        self.numbers[process.pid] = number
        heap = self.spec.create(process)
        member, where = self._place(number, process, heap)
        if lib.hl_replay_start(self.raw, *where):
            raise MemoryError("this computer has no memory for the replay")
        self.members[number] = member

    def _fork(self, origin: "Replay", parent: int, number: int, child: Process) -> None:
        """Let a process begin that has just been forked from `origin`'s process `parent`."""
        old = origin.members[parent]
        self.numbers[child.pid] = number
        child.context.thread = old.process.context.thread
        try:
            member, where = self._place(number, child, old.heap.attach(child))
            if lib.hl_replay_fork(self.raw, origin.raw, parent, *where):
                raise MemoryError("this computer has no memory for the replay")
        except BaseException:
            self._end(child)
            raise
        self.members[number] = member

    def _place(self, number: int, process: Process, heap: Allocator) -> tuple[_Member, tuple[Any, ...]]:
        """Return a member of the replay, and what the C side is to know of it."""
        member = _Member(process, heap, ffi.new_handle(heap))
        if self.raw.lines != ffi.NULL:
            process.context.observe(True, keep=1)
        raw = heap.raw if isinstance(heap, CAllocator) else ffi.NULL
        return member, (number, process.context.raw, raw, member.handle)

    def _process_event(self, event: Event) -> str | None:
        """Carry out FORK, EXEC or EXIT; what is wrong, if something is."""
        number = event.process
        member = self.members[number]
        if event.op == Op.FORK:
            member.process.context.thread = event.thread
            self._fork(self, number, event.id, member.process.fork())
            return None
        if self.raw.verify:
            why = lib.hl_replay_verify(self.raw, number)
            if why != lib.HL_REPLAY_DONE:
                return self._explain(why, member)
        self._leave(number)
        if event.op == Op.EXEC:
            self._start(number, self.kernel.init.fork())
        return None

    def _leave(self, number: int) -> None:
        """Let a process exit, and its parent collect it."""
        lib.hl_replay_end(self.raw, number)
        member = self.members.pop(number)
        self._end(member.process)
        self._count(member)

    def _end(self, process: Process) -> None:
        init, pid, parent = self.kernel.init.pid, process.pid, process.ppid
        self.numbers.pop(pid, None)
        if process.context.space is not None:
            process.exit(0)
        if parent != init:  # which collects by itself
            self.kernel.process(parent).waitpid(pid)

    def _count(self, member: _Member) -> None:
        self._faults += member.process.minflt
        self._calls += member.process.syscalls

    # ---- what it measured ----

    def mems(self) -> int:
        """Memory references of the living processes so far; also within a call of the allocator."""
        contexts = [member.process.context for member in list(self.members.values())]
        return sum(context.loads + context.stores for context in contexts)

    def faults(self) -> int:
        """Minor faults of all processes so far."""
        return self._faults + sum(member.process.minflt for member in self.members.values())

    def calls(self, *names: str) -> int:
        """System calls of these names, of all processes so far."""
        alive = [member.process.syscalls for member in self.members.values()]
        return sum(calls[name] for calls in (self._calls, *alive) for name in names)

    def timeline(self) -> Timeline:
        """The samples so far, and how things stand now."""
        names = _SAMPLE.names or ()
        columns = [self._samples[name][: int(self.raw.sampled)].tolist() for name in names]
        if not columns[0] or columns[0][-1] < self.done:
            for column, name in zip(columns, names, strict=True):
                column.append(int(getattr(self.raw.now, name)))
        return Timeline(*map(tuple, columns))

    def mems_counts(self) -> np.ndarray[Any, np.dtype[np.uint64]]:
        """Operations by bucket of mems."""
        return _counts(self.raw.mems)

    def lines(self) -> metrics.Lines | None:
        """Distinct cache lines of the operations; None unless they are counted."""
        tally = self.raw.lines
        if tally == ffi.NULL:
            return None
        return metrics.Lines.of(int(tally.total), int(tally.most), _counts(tally))

    def over_live(self, used: str) -> metrics.OverLive:
        """Return how much was used for the live payload.  used: "heap" or "resident"."""
        raw, page = self.raw, self.kernel.machine.page_size
        peak, pages = getattr(raw, f"peak_{used}"), int(getattr(raw, f"sum_{used}_pages"))
        return metrics.OverLive.of(
            (int(peak.most), int(peak.live), int(peak.event)),
            (int(raw.peak_live.most), int(getattr(raw.peak_live, used))),
            (pages * page, int(raw.sum_live)),
        )

    def slots(self, number: int) -> census.Array:
        """The slots of a process: address and size of each live payload; `SLOT` says how.

        They are those of the C side itself: good until the replay goes on.
        """
        count = ffi.new("uint64_t *")
        at = lib.hl_replay_slots(self.raw, number, count)
        if not count[0]:
            return np.empty(0, SLOT)
        return np.frombuffer(ffi.buffer(at, count[0] * SLOT.itemsize), SLOT)

    def born(self, number: int) -> census.Array:
        """For each slot of a process: the event that made its block, or last reallocated it."""
        count = len(self.slots(number))
        at = lib.hl_replay_born(self.raw, number)
        return np.frombuffer(ffi.buffer(at, 4 * count), np.uint32).astype(np.int64) if count else _NO_EVENTS

    def heaps(self) -> Iterator[tuple[int, Allocator]]:
        """The heaps of the living processes, by number."""
        return ((number, member.heap) for number, member in self.members.items())
