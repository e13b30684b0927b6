"""Plays a trace on a design as the malloc of a real program of its own, and sees what Linux makes of it.

csrc/native/prove.c is the program; prove.h says what it shares with this module.
"""

import mmap
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from heaplab.allocators import Spec
from heaplab.compiling import compiler
from heaplab.errors import HeaplabError
from heaplab.native.building import compile_heap, design_in_c, short_name
from heaplab.native.calls import CallLog
from heaplab.native.footprint import Footprint, stops_of, watch
from heaplab.native.world import ABSENT, OWN, PAGE, SHARED, START, TOP, RawCall
from heaplab.traces import Trace

_STATE = np.dtype(
    [
        *[(name, "<u8") for name in ("events", "slots", "processes", "stops", "huge", "row", "stopped")],
        *[(name, "<u4") for name in ("turn", "over", "holder", "leaving")],
    ]
)
_PROCESS = np.dtype([("pid", "<u4"), ("ready", "<u4"), ("faults", "<u8")])
_COLUMNS = ("op", "id", "size", "align", "thread", "process")
#: of an entry of /proc/PID/pagemap; the frame is 0 without CAP_SYS_ADMIN
_PRESENT, _EXCLUSIVE, _FRAME = np.uint64(1 << 63), np.uint64(1 << 56), np.uint64((1 << 55) - 1)
#: the prover's exit status when the system does not let it be traced
_REFUSED = 3
_FLAGS = (
    *("-static", "-no-pie", "-Wl,--wrap=mmap,--wrap=syscall"),
    *(f"-DPROVE_START={START}u", f"-DPROVE_TOP={TOP}u", f"-DPROVE_REFUSED={_REFUSED}"),
    # The C library calls malloc before main does.  The design's has names of its own: nobody else calls it.
    *(
        f"-D{name}=proved_{name}"
        for name in (
            *("malloc", "free", "calloc", "realloc", "reallocarray", "malloc_usable_size"),
            *("posix_memalign", "aligned_alloc", "memalign", "valloc", "pvalloc"),
        )
    ),
)


class NotPossible(HeaplabError):
    """This system lacks what the prover needs, or does not allow it: a sentence says what."""


def observe(trace: Trace, spec: str | Spec, *, capacity: int = 1 << 16, huge: bool = False) -> Footprint:
    """Play `trace` on the malloc of a real program, and return what it is seen to do.

    spec: a design in C.  capacity: the most system calls.
    huge: let the heap have huge pages wherever it has room for one; without it there are none.
    Raises: NotPossible; HeaplabError with what went wrong in the program.
    Cost: some seconds the first time, for compiling; 1 ms a fork, 0.1 us an event.
    """
    stops = stops_of(trace)
    with Linux(trace, spec, stops, capacity=capacity, huge=huge) as world:
        return watch(trace, world)


def build_prover(spec: str | Spec) -> Path:
    """Build the prover of a design.  Raises: NotPossible where no C library can be linked statically."""
    spec = design_in_c(spec)
    try:
        return compile_heap(f"prove-{short_name(spec)}", spec, _FLAGS, ["native/prove.c", "native/calls.c"])
    except HeaplabError as error:
        asked = [*compiler(), "-print-file-name=libc.a"]  # the answer is no path when there is none
        if "/" not in subprocess.run(asked, capture_output=True, text=True, check=False).stdout:
            raise NotPossible("there is no static C library: install libc6-dev, or glibc-static") from error
        raise


class Linux:
    """The real world: a `World` of heaplab.native.footprint, within a `with`, whose end ends the processes.

    stops: the numbers of events that `advance` will be told, rising.  Else as `observe`.
    """

    def __init__(
        self, trace: Trace, spec: str | Spec, stops: list[int], *, capacity: int, huge: bool
    ) -> None:
        program, header = build_prover(spec), trace.header
        self._log = CallLog(capacity)
        self._kept = 0
        state_fd = os.memfd_create("state")
        os.ftruncate(state_fd, _STATE.itemsize + header.processes * _PROCESS.itemsize + 8 * len(stops))
        memory = mmap.mmap(state_fd, 0)
        self._state: Any = np.frombuffer(memory, _STATE, 1)[0]
        for name, value in (
            ("events", header.events),
            ("slots", header.slots),
            ("processes", header.processes),
            ("stops", len(stops)),
            ("huge", huge),
        ):
            self._state[name] = value
        self._processes = np.frombuffer(memory, _PROCESS, header.processes, _STATE.itemsize)
        where = _STATE.itemsize + self._processes.nbytes
        np.frombuffer(memory, "<u8", len(stops), where)[:] = stops
        events_fd = _write_events(trace)
        fds = [state_fd, events_fd, self._log.fd]
        self._program: Any = subprocess.Popen(
            [program, *map(str, fds)],
            pass_fds=fds,
            env={"HEAPLAB_BREAK": "kernel"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            bufsize=0,
        )
        os.close(state_fd)
        os.close(events_fd)
        self._at_stop = False

    def __enter__(self) -> "Linux":
        return self

    def __exit__(self, *_: object) -> None:
        self._program.kill()  # the tracer: the kernel ends all that it traces with it
        self._program.wait()
        for pipe in (self._program.stdin, self._program.stdout, self._program.stderr):
            pipe.close()

    def advance(self, until: int) -> None:
        if self._at_stop:
            self._program.stdin.write(b"\n")
        done = self._program.stdout.read(8)
        self._at_stop = len(done) == 8
        if self._at_stop:
            assert int.from_bytes(done, "little") == until
        elif int(self._state["row"]) != until or self._program.wait():  # else all processes have exited
            said, status = self._program.stderr.read().decode().strip(), self._program.wait()
            if status == _REFUSED:
                raise NotPossible(f"this system does not let a program be traced: {said}")
            event = int(self._state["row"])
            raise HeaplabError(f"on Linux: {said or f'the end at event {event}, with status {status}'}")

    def calls(self) -> Iterator[RawCall]:
        if self._log.count > self._log.capacity:
            raise HeaplabError(f"on Linux: more than {self._log.capacity:,} system calls")
        for call in self._log.since(self._kept):
            self._kept += 1
            yield RawCall(call.mark, call.name, call.args, call.result)

    def pid(self, process: int) -> int:
        """Return the pid of a process of the trace."""
        return int(self._processes[process]["pid"])

    def faults(self, process: int) -> int:
        return int(self._processes[process]["faults"])

    def maps(self, process: int) -> str:
        return self._proc(process, "maps").read_text()

    def pages(
        self, process: int, start: int, end: int
    ) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]:
        with self._proc(process, "pagemap").open("rb", buffering=0) as file:
            file.seek(start // PAGE * 8)
            entries = np.frombuffer(file.read((end - start) // PAGE * 8), "<u8")
        state = np.where(entries & _EXCLUSIVE, OWN, SHARED)
        state = np.where(entries & _PRESENT, state, ABSENT).astype(np.uint8)
        return state, (entries & _FRAME).astype(np.int64)

    def _proc(self, process: int, name: str) -> Path:
        return Path("/proc", str(self.pid(process)), name)


def _write_events(trace: Trace) -> int:
    """Return a descriptor of the trace's columns, as prove.c expects them."""
    fd = os.memfd_create("events")
    blocks = list(trace)
    with os.fdopen(os.dup(fd), "wb") as file:
        for name in _COLUMNS:
            column = b"".join(getattr(block, name).tobytes() for block in blocks)
            file.write(column + bytes(-len(column) % 8))
        file.write(bytes(8))  # an empty file could not be mapped
    return fd
