"""The model's side: the same steps done by heaplab.kernel, and its own /proc."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from signal import SIG_DFL, SIGBUS, SIGSEGV
from typing import NoReturn

import numpy as np

from heaplab.abi import SI_KERNEL, SigInfo, Sys
from heaplab.errors import BusError, SegmentationFault
from heaplab.kernel import Kernel
from heaplab.machine import FrameKind, Pte, Space
from heaplab.process import Process
from heaplab.testing.conform.observe import Fault, Outcome, Pages, Span, Start, View, Views, parse_maps
from heaplab.testing.conform.steps import Access, Call, Exit, Fork, Step, Store, Wait4


class _GivenUp(Exception):
    """An access got a signal, and the handler gave it up."""

    def __init__(self, info: SigInfo) -> None:
        self.fault = _fault(info.signo, info.code, info.address)


def _give_up(_signum: int, info: SigInfo) -> NoReturn:
    """The handler of SIGSEGV and SIGBUS, as the agent has one."""
    raise _GivenUp(info)


def _fault(signo: int, si_code: int, address: int) -> Fault:
    # of an address that cannot exist the CPU does not say which one it was
    return Fault(signo, si_code, 0 if si_code == SI_KERNEL else address)


class ModelSide:
    """A tree of processes on a modelled kernel that begins as the real one does."""

    def __init__(self, start: Start) -> None:
        self.kernel = Kernel(
            ram=_memory(),
            tlb=256,
            aslr=False,
            init_reaps=False,
            overcommit_memory=_setting("vm/overcommit_memory"),
            max_map_count=_setting("vm/max_map_count"),
        )
        self._tasks = self.kernel.system.tasks
        mm = self._tasks[1].memory
        mm.layout = replace(mm.layout, start_brk=start.brk, min_addr=_setting("vm/mmap_min_addr"))
        mm.start_brk = start.brk
        mm.set_brk(start.brk)
        assert start.stack == (mm.layout.stack_top - mm.layout.stack_size, mm.layout.stack_top)
        for page in start.touched:
            self.kernel.init.store64(page, 0)
        _handle_faults(self.kernel.init, _give_up)

    def check(self) -> None:
        """Assert the model's invariants: what no observation tells."""
        self.kernel.check()

    # steps

    def perform(self, step: Step) -> Outcome:
        """Do a step.  Raises: WouldBlock when it would sleep."""
        process = self.kernel.process(step.pid)
        before = process.minflt
        outcome = self._do(process, step)
        return replace(outcome, minflt=process.minflt - before if process.state not in "ZX" else 0)

    def _do(self, process: Process, step: Step) -> Outcome:
        match step:
            case Access():
                return self._access(process, step)
            case Fork():
                return Outcome(process.syscall(Sys.FORK))
            case Exit():
                process.exit(step.code)
                return Outcome()
            case Wait4():
                return self._wait(process, step)
            case Call():
                return Outcome(process.syscall(step.nr, *step.registers()))
        raise TypeError(step)

    def _access(self, process: Process, step: Access) -> Outcome:
        if step.fatal:
            _handle_faults(process, SIG_DFL)
        try:
            value = 0
            if isinstance(step, Store):
                process.store(step.addr, step.value, step.size)
            else:
                value = process.load(step.addr, step.size)
        except _GivenUp as given_up:
            return Outcome(fault=given_up.fault)
        except (SegmentationFault, BusError) as death:
            return Outcome(fault=_fault(death.signum, death.si_code, death.address))
        if step.fatal:
            _handle_faults(process, _give_up)
        return Outcome(_signed(value))

    def _wait(self, process: Process, step: Wait4) -> Outcome:
        if step.status_addr:
            return Outcome(process.syscall(Sys.WAIT4, step.target, step.status_addr, step.options, 0))
        try:
            found, status = process.waitpid(step.target, step.options)
        except OSError as error:
            return Outcome(-(error.errno or 0))
        return Outcome(found, status=status if found else None)

    # observations

    def views(self) -> Views:
        """Look at all processes."""
        return {
            pid: View(task.state, task.parent.pid if task.parent else 0, parse_maps(self.kernel.maps(pid)))
            for pid, task in sorted(self._tasks.items())
        }

    def pages(self, spans: list[Span]) -> Pages:
        """Read the page-table entries of ranges."""
        machine = self.kernel.machine
        parts = [self._space(pid).ptes(start, count) for pid, start, count in spans]
        entries = np.concatenate(parts) if parts else np.zeros(0, dtype=np.uint64)
        present = (entries & np.uint64(Pte.PRESENT)) != 0
        frame = (entries >> np.uint64(12)) & np.uint64((1 << 40) - 1)
        alone = (machine.mapcount[frame] == 1) & (frame != self.kernel.system.zero_frame)
        return Pages(present, present & alone, present & (machine.kind[frame] == FrameKind.FILE), frame)

    def _space(self, pid: int) -> Space:
        return self._tasks[pid].memory.space


def _handle_faults(process: Process, handler: int | Callable[..., object]) -> None:
    for signum in (SIGSEGV, SIGBUS):
        process.sigaction(signum, handler)


def _signed(value: int) -> int:
    """What C reads in the 64 bits of a number."""
    return value - (1 << 64) if value >> 63 else value


def _setting(name: str) -> int:
    """What this computer's administrator has set."""
    return int(Path("/proc/sys", name).read_text())


def _memory() -> int:
    """Bytes of memory that this computer's kernel counts on when it refuses the excessive: RAM and swap."""
    lines = dict(line.split(":", 1) for line in Path("/proc/meminfo").read_text().splitlines())
    return sum(int(lines[name].split()[0]) * 1024 for name in ("MemTotal", "SwapTotal"))
