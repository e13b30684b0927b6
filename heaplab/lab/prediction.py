"""Plays a trace on a design on the model, and sees what the model's kernel makes of it."""

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from heaplab.abi import PROT_NONE
from heaplab.allocators import Spec, parse
from heaplab.errors import HeaplabError
from heaplab.kernel import Kernel
from heaplab.kernel.task import Task
from heaplab.lab.replay import Replay
from heaplab.lab.run import RAM
from heaplab.machine import Pte
from heaplab.native.calls import ARGUMENTS
from heaplab.native.footprint import Footprint, watch
from heaplab.native.world import ABSENT, OWN, SHARED, START, TOP, RawCall
from heaplab.process import Process
from heaplab.traces import Trace


def predict(trace: Trace, spec: str | Spec, *, kernel: Kernel | None = None) -> Footprint:
    """Play `trace` on the model, and return what Linux will be seen to do.

    spec: a design, by default in C.  kernel: that nobody has used yet; by default a new one.
    Raises: HeaplabError with what went wrong in the replay.

    >>> from heaplab.traces import Event, Op
    >>> footprint = predict(Trace.of([Event(Op.MALLOC, 0, 1 << 20)]), "buddy")
    >>> footprint.faults, footprint.calls[-1]
    (269, (0, 'mmap(0, 0x100000, 0x3, 0x22, -1, 0x0) = top-0x101000'))
    """
    return watch(trace, Model(trace, spec, kernel or Kernel(ram=RAM)))


class Model:
    """The model's world: a `World` of heaplab.native.footprint.  The arguments are those of `predict`."""

    def __init__(self, trace: Trace, spec: str | Spec, kernel: Kernel) -> None:
        self._calls: list[RawCall] = []
        self._replay = _Placed(
            trace, parse(spec, "c") if isinstance(spec, str) else spec, kernel, self._calls
        )

    def advance(self, until: int) -> None:
        self._replay.advance(until)
        if self._replay.end is not None:
            raise HeaplabError(f"on the model: {self._replay.end.reason}")

    def calls(self) -> Iterator[RawCall]:
        made = self._calls.copy()
        self._calls.clear()
        yield from made

    def faults(self, process: int) -> int:
        return self._process(process).minflt

    def maps(self, process: int) -> str:
        return self._process(process).maps()

    def pages(
        self, process: int, start: int, end: int
    ) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]:
        context = self._process(process).context
        assert context.space is not None
        machine = context.machine
        entries = context.space.ptes(start, (end - start) // machine.page_size)
        frames = Pte.frames(entries)
        alone = (machine.mapcount[frames] == 1) & (frames != self._replay.kernel.system.zero_frame)
        state = np.where(entries & np.uint64(Pte.PRESENT), np.where(alone, OWN, SHARED), ABSENT)
        return state.astype(np.uint8), frames.astype(np.int64) + 1  # frame 0 is one like any other

    def _process(self, process: int) -> Process:
        return self._replay.members[process].process


class _Placed(Replay):
    """A replay that places each new heap first, and notes in `calls` what heaps call after that."""

    def __init__(self, trace: Trace, spec: Spec, kernel: Kernel, calls: list[RawCall]) -> None:
        self._noted = calls
        super().__init__(trace, spec, kernel, verify=False, samples=1)

    def _start(self, number: int, process: Process) -> None:
        system = self.kernel.system
        system.on_call = None
        place_heap(process)
        system.on_call = self._note
        super()._start(number, process)

    def _note(self, _task: Task, name: str, registers: tuple[int, ...], result: int) -> None:
        if name in ARGUMENTS:
            self._noted.append(RawCall(self.done, name, registers[: ARGUMENTS[name]], result))


def place_heap(process: Process) -> None:
    """Move the break, and the place of the next mapping, to where every heap is to lie.

    csrc/native/prove.c does the same.

    >>> process = Kernel(ram="4 GiB").init.fork()
    >>> place_heap(process)
    >>> process.brk(0) == START, process.mmap(4096) == TOP - 4096
    (True, True)
    """
    probe = process.mmap(process.page_size, prot=PROT_NONE)
    process.munmap(probe, process.page_size)
    length = probe + process.page_size - TOP
    if process.brk(START) != START or process.mmap(length, prot=PROT_NONE) != TOP:
        raise HeaplabError("the model's kernel places mappings otherwise than expected")
