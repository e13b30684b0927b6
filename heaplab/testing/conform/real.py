"""The real kernel's side: steps done by agents, and what /proc tells of them."""

import os
from typing import Any, Final

import numpy as np

from heaplab._core import lib
from heaplab.abi import Sys
from heaplab.testing.conform.agents import AGENT_END, Agents
from heaplab.testing.conform.observe import (
    SLEEPS,
    Fault,
    Maps,
    Outcome,
    Pages,
    Span,
    Start,
    View,
    Views,
    parse_maps,
)
from heaplab.testing.conform.steps import PAGE, Access, Call, Exit, Fork, Step, Store, Wait4

_EXIT_GROUP: Final = 231
_CHUNK, _LONG_LINE = 4096, 512  # /proc/PID/maps is given out in whole lines, a page at most
# bits of /proc/PID/pagemap; see Linux, Documentation/admin-guide/mm/pagemap.rst
_PRESENT, _FILE, _EXCLUSIVE, _FRAME = 1 << 63, 1 << 61, 1 << 56, (1 << 55) - 1


class RealSide:
    """A tree of processes on this computer's kernel."""

    def __init__(self) -> None:
        self.agents = Agents()
        try:
            self._unmap_vdso()
            self.start = self._look_at_start()
        except BaseException:
            self.close()
            raise
        self._minflt = {1: int(self.agents.slot(1).minflt)}

    def close(self) -> None:
        """End all processes."""
        self.agents.close()

    def _unmap_vdso(self) -> None:
        """The kernel's own pages in each process, which the model has not."""
        for vma in self._maps(1).vmas:
            if vma.name.startswith("[v"):
                self.agents.call(1, Sys.MUNMAP, vma.start, vma.end - vma.start)

    def _look_at_start(self) -> Start:
        stack = next(vma for vma in self._maps(1).vmas if vma.name == "[stack]")
        pages = self.pages([(1, stack.start, (stack.end - stack.start) // PAGE)])
        touched = tuple(stack.start + int(index) * PAGE for index in np.flatnonzero(pages.present))
        for page in touched:
            self.agents.write(1, "mem", bytes(PAGE), page)  # arguments, auxiliary vector, random bytes
        return Start(self.agents.call(1, Sys.BRK, 0), (stack.start, stack.end), touched)

    # steps

    def perform(self, step: Step) -> Outcome:
        """Do a step."""
        match step:
            case Exit():
                return self._run(step.pid, lib.AGENT_SYSCALL, _EXIT_GROUP, step.code)
            case Fork():
                return self._fork(step)
            case Wait4():
                return self._wait(step)
            case Access():
                return self._access(step)
            case Call():
                return self._run(step.pid, lib.AGENT_SYSCALL, step.nr, *step.registers())
        raise TypeError(step)

    def _run(self, pid: int, op: int, nr: int, *args: int, **fields: int) -> Outcome:
        """Let the agent do it; a process that it ends has no more to report than a signal."""
        slot = self.agents.command(pid, op, nr, *args)
        for name, value in fields.items():
            setattr(slot, name, value)
        ended = self.agents.run(pid, slot)
        fault = self._fault(slot) if op in (lib.AGENT_LOAD, lib.AGENT_STORE) else None
        if ended == "dead":
            return Outcome(fault=fault)
        if ended == "sleeps":
            return Outcome(SLEEPS)
        return Outcome(0 if fault else int(slot.result), self._faults(pid, slot), fault)

    def _faults(self, pid: int, slot: Any) -> int:
        before, self._minflt[pid] = self._minflt[pid], int(slot.minflt)
        return self._minflt[pid] - before

    def _fault(self, slot: Any) -> Fault | None:
        if not slot.signo:
            return None
        return Fault(int(slot.signo), int(slot.code), int(slot.address))

    def _access(self, step: Access) -> Outcome:
        op, value = (lib.AGENT_STORE, step.value) if isinstance(step, Store) else (lib.AGENT_LOAD, 0)
        return self._run(step.pid, op, 0, step.addr, value, size=step.size, fatal=step.fatal)

    def _fork(self, step: Fork) -> Outcome:
        child = self.agents.fork(step.pid, Sys.FORK)
        if child > 0:
            self._minflt[child] = int(self.agents.slot(child).minflt)
        return Outcome(child, self._faults(step.pid, self.agents.slot(step.pid)))

    def _wait(self, step: Wait4) -> Outcome:
        at = step.status_addr or self.agents.put(step.pid, bytes(8))
        outcome = self._run(step.pid, lib.AGENT_SYSCALL, Sys.WAIT4, step.target, at, step.options, 0)
        if outcome.result <= 0 or step.status_addr:
            return outcome
        status = int(self.agents.slot(step.pid).scratch[0])
        return Outcome(outcome.result, outcome.minflt, None, status)

    # observations

    def views(self) -> Views:
        """Look at all processes, once none of them is on its way to its end any more."""
        views = {}
        for pid in sorted(self.agents.pids()):
            try:
                state, ppid = self._settled(pid)
                views[pid] = View("R" if state == "S" else state, ppid, self._maps(pid))
            except ProcessLookupError:
                self.agents.forget(pid)
        return views

    def _settled(self, pid: int) -> tuple[str, int]:
        while True:
            state, ppid = self.agents.stat(pid)
            if state != "R":
                return state, ppid
            os.sched_yield()

    def _maps(self, pid: int) -> Maps:
        text = chunk = self.agents.read(pid, "maps", _CHUNK)
        while len(chunk) > _CHUNK - _LONG_LINE:
            text += (chunk := self.agents.read(pid, "maps", _CHUNK, len(text)))
        return parse_maps(text.decode(), above=AGENT_END)

    def pages(self, spans: list[Span]) -> Pages:
        """Read the page-table entries of ranges."""
        parts = [
            self.agents.read(pid, "pagemap", count * 8, start // PAGE * 8) for pid, start, count in spans
        ]
        entries = np.frombuffer(b"".join(parts), dtype=np.uint64)
        present, exclusive, file = ((entries & np.uint64(bit)) != 0 for bit in (_PRESENT, _EXCLUSIVE, _FILE))
        return Pages(present, exclusive, file, entries & np.uint64(_FRAME))
