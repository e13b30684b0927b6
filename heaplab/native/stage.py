"""A trace laid out for the player (csrc/native/player.h), and the player started on it, pass by pass."""

import mmap
import os
import select
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from importlib.util import find_spec
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from heaplab import confining
from heaplab._core import ffi, lib
from heaplab.confining import Limits
from heaplab.errors import UsageError
from heaplab.native.peers import NATURAL
from heaplab.native.preloading import preloadable
from heaplab.traces import NULL_ID, Block, Op, Trace
from heaplab.traces.event import COLUMNS

#: points of a timeline, as on the model
SAMPLES = 500
PAGE = 4096
#: threads of one process that a player has stacks for
MOST_THREADS = 1024
#: seconds between two looks at a player that has not ended
_LOOK_EVERY = 0.05
#: seconds that a process which has begun to end may take until it can be waited for
_ENDS_WITHIN = 10.0
#: of what a player wrote to standard error at last, so many characters are told
_LAST_WORDS = 300
_MOST_TOLD = 1 << 16
_NOT_LOADED = "cannot be preloaded"
_COLUMNS = ("op", "id", "size", "align", "thread", "process")
_SLOT_SIZE = 16
#: hl_slot of csrc/replay/slots.h: `address` has the thread in its high 16 bits, and `size` the stamp
SLOT = np.dtype([("address", "<u8"), ("size", "<u8")])
_STACK = 64 << 10  # PLAY_STACK
_PLAYER_SPACE = 64 << 20  # addresses of the player, of its libraries and of its stack
_CALLS_SIZE = 4096  # a struct calls without entries is far less
_NEVER = 2**64 - 1

#: the bits of an address, or of a size, in a SLOT
SLOT_ADDRESS = np.uint64(2**48 - 1)

Array = npt.NDArray[Any]


def program() -> Path:
    """The player, built with the package.  Raises: UsageError when it was not."""
    spec = find_spec("heaplab.native._player")
    if spec is None or spec.origin is None:
        raise UsageError(
            "the player was not built: run `pip install .`, or `setup.py build_ext --inplace`, on Linux"
        )
    return Path(spec.origin)


@dataclass(frozen=True)
class Watching:
    """How an allocator from outside is watched, in the pass HL_PLAY_WATCHED.

    most: references that it may make in all; None: as many as it likes.  refuse: the growth of its heap with
    this number, from 1 on, is refused; 0: none.  checkheap: its mm_checkheap is called after each request.
    """

    most: int | None = None
    refuse: int = 0
    checkheap: bool = False


@dataclass(frozen=True)
class Pass:
    """What one pass of the player left behind.

    why: a HL_PLAY_... of player.h, or None when the player's process ended or hung without a word.
    said: how it ended then.  words: what it wrote to standard error at last.  hung: it made no progress.
    refused: why the library was not loaded, as the dynamic linker says it; "" when it was.
    raw: the hl_player, a copy.  samples: rows of event, live (bytes), heap, resident (pages).
    ticks: of each call, for the pass of latency; or its references, where the allocator is watched.
    watch: the hl_watch then, a copy.  kept: the slots of the process at the peak of what lives.
    """

    why: int | None
    said: str
    words: str
    hung: bool
    refused: str
    raw: Any
    samples: Array = field(default_factory=lambda: np.empty((0, 4), np.uint64))
    ticks: Array = field(default_factory=lambda: np.empty(0, np.uint32))
    watch: Any = None
    slots: Array = field(default_factory=lambda: np.empty(0, SLOT))
    kept: Array = field(default_factory=lambda: np.empty(0, SLOT))

    @classmethod
    def of(cls, raw: Any, status: int | None, told: str, hung: bool, *left: Any) -> "Pass":
        """Return the pass of an hl_player whose process ended with this status, and told that.

        left: samples, ticks, watch, slots and kept, if there are any.
        """
        why, words = int(raw.why), _last_words(told)
        said = _ended(status) + (f": {words}" if words else "")
        copy = ffi.new("hl_player *", raw[0])
        ended = None if why == lib.HL_PLAY_RUNNING else why
        return cls(ended, said, words, hung, _refusal(told), copy, *left)


class Stage:
    """A trace in a file in memory, as the player maps it, until `close`.

    blocks: room for so many that live at once, if not as many as the trace needs (see `duel`).
    Raises: UsageError for a damaged trace, or one with too many threads.
    """

    def __init__(self, trace: Trace, blocks: int | None = None) -> None:
        self.trace = trace
        events = Block.join([Block.of([]), *trace])
        self.events = len(events)
        self.threads = int(events.thread.max(initial=0)) + 1
        if self.threads > MOST_THREADS:
            raise UsageError(
                f"{trace.source}: has {self.threads} threads at once, and there are stacks for {MOST_THREADS}"
            )
        key = events.process.astype(np.uint32) << 16 | events.thread
        self._actors, actor = np.unique(key, return_inverse=True)
        columns = [*((name, getattr(events, name)) for name in _COLUMNS), ("actor", actor.astype(np.uint32))]
        self._offsets: dict[str, int] = {}
        self._file = os.memfd_create("trace")
        end = 0
        for name, column in columns:
            self._offsets[f"{name}_at"] = end
            end += _pages(column.nbytes)
        os.ftruncate(self._file, max(end, PAGE))
        for name, column in columns:
            _write(self._file, self._offsets[f"{name}_at"], column)
        self._executed = int(np.count_nonzero(events.op == Op.EXEC))
        self._slot_count, self._slot_start, self._slots = _place_slots(events, trace.header.processes)
        if blocks is not None:
            self._slot_count, self._slots = np.array([blocks]), blocks
        self._processes = events.process
        peak = self._keep_after = min(trace.header.peak_index + 1, self.events)
        points = np.linspace(1, max(self.events, 1), min(SAMPLES, max(self.events, 1))).astype(np.uint64)
        self._sample_at = np.append(np.union1d(points, np.array([peak], np.uint64)), np.uint64(_NEVER))

    def close(self) -> None:
        """Give its memory back."""
        os.close(self._file)

    def play(
        self,
        pass_: int,
        library: Path | None,
        *,
        aligned: int = lib.HL_BY_MEMALIGN,
        natural: int = NATURAL,
        watching: Watching | None = None,
        max_seconds: float | None = None,
        progress: Callable[[int], None] = lambda row: None,
        confined: Limits | None = None,
    ) -> Pass:
        """Start the player for one pass, with `library` preloaded, and wait for its end.

        pass_: HL_PLAY_...  aligned: HL_BY_...  natural: what every block is a multiple of, if it is as large.
        watching: for HL_PLAY_WATCHED, where the library has hooks.
        max_seconds: after so long without progress it is ended.
        progress: called now and then with the number of events done.
        confined: what the library may have, if it is not to be trusted; the player's own memory comes on top.
        """
        with _memory("player") as file, _memory("places") as places:
            memory = self._lay_out(file, pass_, aligned, natural, watching or Watching())
            if pass_ in (lib.HL_PLAY_FLOOR, lib.HL_PLAY_EMPTY):
                os.ftruncate(places, 1 << 36)
            raw = ffi.cast("hl_player *", ffi.from_buffer(memory))
            files = (file, self._file, places)
            hung, status, told = self._run(raw, library, files, max_seconds, progress, confined)
            samples = (
                np.frombuffer(memory, np.uint64, 4 * int(raw.sampled), int(raw.samples_at))
                .reshape(-1, 4)
                .copy()
            )
            ticks = np.empty(0, np.uint32)
            if pass_ in (lib.HL_PLAY_LATENCY, lib.HL_PLAY_WATCHED):
                ticks = np.frombuffer(memory, np.uint32, int(raw.operations), int(raw.ticks_at)).copy()
            return Pass.of(raw, status, told, hung, samples, ticks, *self._watched(memory, raw))

    def _watched(self, memory: mmap.mmap, raw: Any) -> tuple[Any, Array, Array]:
        """The hl_watch of a watched allocator, the slots of the process at hand, and those kept."""
        watch = ffi.new("hl_watch *", ffi.cast("hl_watch *", ffi.cast("char *", raw) + raw.watch_at)[0])
        if getattr(raw, "pass") != lib.HL_PLAY_WATCHED:
            return watch, np.empty(0, SLOT), np.empty(0, SLOT)
        table = ffi.cast("hl_play_process *", ffi.cast("char *", raw) + raw.processes_at)
        row = min(int(raw.row), self.events - 1)
        number = int(self._processes[row]) if self.events else 0
        at, count = int(table[number].slots), int(table[number].slot_count)
        slots = np.frombuffer(memory, SLOT, count, at).copy()
        kept = np.frombuffer(memory, SLOT, int(table[raw.kept_process].slot_count), int(raw.kept_at)).copy()
        return watch, slots, kept

    def _lay_out(self, file: int, pass_: int, aligned: int, natural: int, watching: Watching) -> mmap.mmap:
        """Make the file of the player: its struct, and behind it the arrays that it points to."""
        processes, points = self.trace.header.processes, len(self._sample_at)
        sizes = {
            "processes_at": processes * ffi.sizeof("hl_play_process"),
            "actors_at": len(self._actors) * ffi.sizeof("hl_play_actor"),
            "families_at": (1 + self._executed) * ffi.sizeof("hl_play_family"),
            "sample_at": points * 8,
            "samples_at": points * ffi.sizeof("hl_play_sample"),
            "ticks_at": self.events * 4 if pass_ in (lib.HL_PLAY_LATENCY, lib.HL_PLAY_WATCHED) else 0,
            "places_at": self.events * 4 if pass_ in (lib.HL_PLAY_FLOOR, lib.HL_PLAY_EMPTY) else 0,
            "calls_at": _CALLS_SIZE,
            "watch_at": ffi.sizeof("hl_watch"),
            "kept_at": int(self._slot_count.max()) * _SLOT_SIZE if pass_ == lib.HL_PLAY_WATCHED else 0,
            "slots": self._slots * _SLOT_SIZE,
        }
        offsets, end = dict(self._offsets), _pages(ffi.sizeof("hl_player"))
        for name, size in sizes.items():
            offsets[name] = end
            end += _pages(size)
        os.ftruncate(file, end)
        memory = mmap.mmap(file, end)
        slots = offsets.pop("slots")
        raw = ffi.cast("hl_player *", ffi.from_buffer(memory))
        for name, offset in offsets.items():
            setattr(raw, name, offset)
        raw.events, raw.processes, raw.threads = self.events, processes, self.threads
        setattr(raw, "pass", pass_)
        raw.aligned, raw.natural = aligned, natural
        raw.keep_after = self._keep_after
        watch = ffi.cast("hl_watch *", ffi.from_buffer(memory) + offsets["watch_at"])
        watch.most = _NEVER if watching.most is None else watching.most
        watch.refuse, watch.checks, watch.align = watching.refuse, watching.checkheap, natural
        table = ffi.cast("hl_play_process *", ffi.from_buffer(memory) + offsets["processes_at"])
        first = np.searchsorted(self._actors, np.arange(processes + 1, dtype=np.uint64) << np.uint64(16))
        for number in range(processes):
            table[number].slots = slots + int(self._slot_start[number]) * _SLOT_SIZE
            table[number].slot_count = int(self._slot_count[number])
            table[number].first_actor = int(first[number])
            table[number].actor_count = int(first[number + 1] - first[number])
        actors = ffi.cast("hl_play_actor *", ffi.from_buffer(memory) + offsets["actors_at"])
        for place, key in enumerate(self._actors.tolist()):
            actors[place].number = key & 0xFFFF
        memory[offsets["sample_at"] : offsets["sample_at"] + points * 8] = self._sample_at.tobytes()
        return memory

    @contextmanager
    def duel(self, library: Path | None, *, aligned: int, natural: int) -> Iterator["Partner"]:
        """Start the player for the pass HL_PLAY_DUEL, and give what carries out batches.

        The stage's trace says how long a batch may be: what its events are does not matter.
        library, aligned, natural: as of `play`.
        """
        with _memory("player") as file, _memory("places") as places:
            memory = self._lay_out(file, lib.HL_PLAY_DUEL, aligned, natural, Watching())
            raw = ffi.cast("hl_player *", ffi.from_buffer(memory))
            files = (file, self._file, places)
            with self._started(library, files, None, subprocess.PIPE) as (process, over, told):
                table = ffi.cast("hl_play_process *", ffi.cast("char *", raw) + raw.processes_at)
                slots = np.frombuffer(memory, SLOT, int(table[0].slot_count), int(table[0].slots))
                columns = mmap.mmap(self._file, 0)
                rows = {
                    name: np.frombuffer(columns, COLUMNS[name], self.events, self._offsets[f"{name}_at"])
                    for name in ("op", "id", "size")
                }
                yield Partner(raw, slots, rows, process, over, told)

    def _run(
        self,
        raw: Any,
        library: Path | None,
        files: tuple[int, int, int],
        max_seconds: float | None,
        progress: Callable[[int], None],
        confined: Limits | None,
    ) -> tuple[bool, int | None, str]:
        """Start the player and wait; return whether it hung, its status if it ended, and what it said."""
        with self._started(library, files, confined, subprocess.DEVNULL) as (process, over, told):
            hung = _watch(raw, process, over, max_seconds, progress)
            status = _status(process, over)
            _end(process)
            return hung, status, _read(told)

    @contextmanager
    def _started(
        self, library: Path | None, files: tuple[int, int, int], confined: Limits | None, stdin: int
    ) -> Iterator[tuple["subprocess.Popen[bytes]", int, IO[bytes]]]:
        """Start the player; give its process, the pipe that tells its end, and the file of what it says.

        At the end of the `with` the process is ended.
        """
        over, theirs = os.pipe()
        environment = {"HEAPLAB_BREAK": "kernel"}  # a design of ours grows by brk, as on the model
        if confined is None:
            environment.update(os.environ)
            environment.pop("LD_PRELOAD", None)
        environment["LD_BIND_NOW"] = "1"  # no function is looked up when it is called first
        with _closing(over), tempfile.TemporaryFile() as told, preloadable(library or Path()) as preload:
            if library is not None:
                environment["LD_PRELOAD"] = str(preload)
            command = [str(program()), "0", *map(str, files), str(theirs)]
            if confined is not None:
                command = confining.confined(
                    command,
                    self._with_room(confined, files, preload),
                    environment=environment,
                    keep=[*files, theirs],
                )
                environment = {}
            with _closing(theirs):
                process = subprocess.Popen(
                    command,
                    pass_fds=[*files, theirs],
                    env=environment,
                    stdin=stdin,
                    stdout=subprocess.DEVNULL,
                    stderr=told,
                    start_new_session=True,
                )
            try:
                yield process, over, told
            finally:
                _end(process)

    def _with_room(self, limits: Limits, files: Sequence[int], library: Path) -> Limits:
        """What the player needs itself, beside what the library may have."""
        many = self.trace.header.processes > 1
        space = limits.address_space
        if space is not None:
            space += sum(os.fstat(file).st_size for file in files) + self.threads * _STACK + _PLAYER_SPACE
        tasks = len(self._actors) + self.trace.header.processes
        return replace(
            limits,
            read=[*limits.read, library, Path("/proc" if many else "/proc/self")],
            address_space=space,
            children=limits.children + (tasks if tasks > 2 else 0),
        )


class Partner:
    """The player in the pass HL_PLAY_DUEL: carries out batches of events, and says where the blocks lie.

    raw: its hl_player.  slots: address and size of every live block; see `SLOT`.
    """

    def __init__(
        self,
        raw: Any,
        slots: Array,
        columns: dict[str, Array],
        process: "subprocess.Popen[bytes]",
        over: int,
        told: IO[bytes],
    ) -> None:
        self.raw = raw
        self.slots = slots
        self._columns = columns
        self._process, self._over, self._told = process, over, told
        self._begun = self._hung = False

    def play(self, events: Block, max_seconds: float | None) -> bool:
        """Carry out a batch; return False when the player has ended before the batch has, or hangs."""
        for name, column in self._columns.items():
            column[: len(events)] = getattr(events, name)
        return self._offer(len(events), max_seconds)

    def finish(self, max_seconds: float | None) -> Pass:
        """End the pass, unless it has ended, and return what it leaves behind."""
        if int(self.raw.why) == lib.HL_PLAY_RUNNING and not self._hung:
            self._offer(0, max_seconds)
        status = _status(self._process, self._over)
        _end(self._process)
        return Pass.of(self.raw, status, _read(self._told), self._hung)

    def _offer(self, events: int, max_seconds: float | None) -> bool:
        """Say how many events there are, and wait until they are done; return False if that does not come."""
        if not self._begun:
            self._begun = True
            if not self._asks(max_seconds):
                return False
        self.raw.events = events
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):
            self._process.stdin.write(b",")
            self._process.stdin.flush()
        return self._asks(max_seconds)

    def _asks(self, max_seconds: float | None) -> bool:
        """Wait until the player asks for a batch; return False when it has ended, or hangs."""
        poll = select.poll()
        poll.register(self._over, select.POLLIN)
        seen, since = -1, time.monotonic()
        while not poll.poll(_LOOK_EVERY * 1000):
            row, now = int(self.raw.row), time.monotonic()
            if row != seen:
                seen, since = row, now
            elif max_seconds is not None and now - since > max_seconds:
                self._hung = True
                return False
        return os.read(self._over, 1) == b","


def live_blocks(slots: Array) -> Array:
    """Return the blocks that live in a table of slots: rows (address, size, slot) in address order.

    >>> live_blocks(np.array([(0, 0), (0x4010, 24), (0x4000, 8)], SLOT)).tolist()
    [[16384, 8, 2], [16400, 24, 1]]
    """
    address, size = slots["address"] & SLOT_ADDRESS, slots["size"] & SLOT_ADDRESS
    alive = np.flatnonzero(address)
    alive = alive[np.argsort(address[alive], kind="stable")]
    return np.stack((address[alive], size[alive], alive.astype(np.uint64)), axis=1).astype(np.int64)


def _watch(
    raw: Any,
    process: "subprocess.Popen[bytes]",
    over: int,
    max_seconds: float | None,
    progress: Callable[[int], None],
) -> bool:
    """Wait until the player says that it is over, or is dead; or hangs: then return True."""
    table = ffi.cast("hl_play_process *", ffi.cast("char *", raw) + raw.processes_at)
    poll = select.poll()
    poll.register(over, select.POLLIN)
    seen, since = -1, time.monotonic()
    while not poll.poll(_LOOK_EVERY * 1000):
        row, now = int(raw.row), time.monotonic()
        if row != seen:
            seen, since = row, now
            progress(row)
        elif _is_dead(int(table[raw.turn].pid) or process.pid):
            return False
        elif max_seconds is not None and now - since > max_seconds:
            return True
    return False


def _end(process: "subprocess.Popen[bytes]") -> None:
    """End the player with all that came of it."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    if process.stdin is not None:
        with suppress(BrokenPipeError):
            process.stdin.close()
    process.wait()


def _read(told: IO[bytes]) -> str:
    told.seek(0)
    return told.read(_MOST_TOLD).decode(errors="replace")


def _status(process: "subprocess.Popen[bytes]", over: int) -> int | None:
    """How the player's first process ended; None when it lives.

    Before it can be waited for, a process has closed its files; and a dead one is first waited for by whoever
    traces it (csrc/native/calls.h).
    """
    poll = select.poll()
    poll.register(over, 0)  # reports POLLHUP alone: nobody is left to say anything
    if poll.poll(0) or _is_dead(process.pid):
        with suppress(subprocess.TimeoutExpired):
            return process.wait(_ENDS_WITHIN)
    return None


def _is_dead(pid: int) -> bool:
    try:
        status = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return True
    return status.rpartition(")")[2].split()[0] in ("Z", "X")


def _ended(status: int | None) -> str:
    """How the player's first process ended; None: it has not, but another one."""
    if status is None:
        return "its process ended without a word"
    how = f"was ended by {signal.Signals(-status).name}" if status < 0 else f"ended with status {status}"
    return f"its process {how}"


def _last_words(told: str) -> str:
    words = told.strip().rpartition("\n")[2].strip()[:_LAST_WORDS]
    return "".join(char if char.isprintable() else " " for char in words)


def _refusal(told: str) -> str:
    """What the dynamic linker says of a library that it did not preload; it starts the program without."""
    return next((line.strip()[:_LAST_WORDS] for line in told.splitlines() if _NOT_LOADED in line), "")


def _pages(size: int) -> int:
    """`size` bytes rounded up to whole pages."""
    return -(-size // PAGE) * PAGE


def _write(file: int, at: int, column: Array) -> None:
    data = memoryview(column.tobytes())
    while data:
        done = os.pwrite(file, data, at)
        data, at = data[done:], at + done


@contextmanager
def _memory(name: str) -> Iterator[int]:
    file = os.memfd_create(name)
    try:
        yield file
    finally:
        os.close(file)


@contextmanager
def _closing(file: int) -> Iterator[None]:
    try:
        yield
    finally:
        os.close(file)


def _place_slots(events: Block, processes: int) -> tuple[Array, Array, int]:
    """Return for each process the length of its table of slots, and where it begins; and the length of all.

    A child's table has room for its parent's.  A table is used again when its process is gone.
    """
    counts = np.zeros(processes, np.int64)
    of_blocks = (events.op < Op.FORK) & (events.id != NULL_ID)
    np.maximum.at(counts, events.process[of_blocks], events.id[of_blocks].astype(np.int64) + 1)
    rows = np.flatnonzero((events.op == Op.FORK) | (events.op == Op.EXIT))
    for row in rows[events.op[rows] == Op.FORK]:
        parent, child = events.process[row], events.id[row]
        counts[child] = max(counts[child], counts[parent])
    starts = np.zeros(processes, np.int64)
    end, gone = int(counts[0]), []
    for row in rows:
        if events.op[row] == Op.EXIT:
            gone.append(int(events.process[row]))
            continue
        child = int(events.id[row])
        heir = next((number for number in gone if counts[number] >= counts[child]), None)
        if heir is None:
            starts[child] = end
            end += int(counts[child])
        else:
            gone.remove(heir)
            starts[child] = starts[heir]
    return counts, starts, end
