"""The real kernel's side: steps done by agents, and what /proc tells of them."""

import mmap
import os
from dataclasses import replace
from typing import Any, Final

import numpy as np

from heaplab._core import ffi, lib
from heaplab.abi import CLONE_THREAD, Rlimit, Sys
from heaplab.testing.conform import details
from heaplab.testing.conform.agents import AGENT_END, Agents, Stat
from heaplab.testing.conform.codec import PAGE
from heaplab.testing.conform.images import images, what_lies_on
from heaplab.testing.conform.observe import (
    SLEEPS,
    Caught,
    Fault,
    Maps,
    Outcome,
    Pages,
    Span,
    Start,
    View,
    Views,
    Vma,
    parse_maps,
)
from heaplab.testing.conform.shared_files import SharedFiles
from heaplab.testing.conform.steps import UNWRITTEN, Access, Birth, Call, Exec, Exit, Leave, Step, Store

_MADV_COLD: Final = 20
_CHUNK, _LONG_RECORD = 4096, 1024  # /proc gives out whole lines, of smaps whole areas, a page at most
# bits of /proc/PID/pagemap; see Linux, Documentation/admin-guide/mm/pagemap.rst
_PRESENT, _FILE, _EXCLUSIVE, _FRAME = 1 << 63, 1 << 61, 1 << 56, (1 << 55) - 1


class RealSide:
    """A tree of processes on this computer's kernel."""

    def __init__(self) -> None:
        self._files = SharedFiles()
        self._page = mmap.mmap(-1, PAGE, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        try:
            self.agents = Agents(self._files.directory)
            self._unmap_vdso(1)
            self.start = self._look_at_start()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """End all processes."""
        if hasattr(self, "agents"):
            self.agents.close()
        self._files.remove()

    def _unmap_vdso(self, pid: int) -> None:
        """The kernel's own pages in each program: their code and the time are not what the model has."""
        for vma in self._maps(pid).vmas:
            if vma.name.startswith("[v"):
                self.agents.call(pid, Sys.MUNMAP, vma.start, vma.end - vma.start)

    def _look_at_start(self) -> Start:
        stack, touched = self._cleared_stack(1)
        brk = self.agents.call(1, Sys.BRK, 0)
        limits = tuple(map(self._limit, Rlimit))
        peak = details.kib(self._whole(1, "status"), "VmPeak") * 1024 // PAGE
        return Start(brk, (stack.start, stack.end), touched, limits, peak)

    def _limit(self, resource: int) -> tuple[int, int, int]:
        self.agents.call(1, Sys.GETRLIMIT, resource, self.agents.scratch(1))
        soft, hard = self.agents.slot(1).scratch[0:2]
        return resource, soft, hard

    def _cleared_stack(self, pid: int) -> tuple[Vma, tuple[int, ...]]:
        """Zero what the kernel put on the stack: arguments, auxiliary vector, ...; return its pages."""
        stack = self._stack(pid)
        pages = self.pages([(pid, stack.start, (stack.end - stack.start) // PAGE)])
        touched = tuple(stack.start + int(index) * PAGE for index in np.flatnonzero(pages.present))
        for page in touched:
            self.agents.write(pid, "mem", bytes(PAGE), page)
        return stack, touched

    def _stack(self, pid: int) -> Vma:
        return next(vma for vma in self._maps(pid).vmas if vma.name == "[stack]")

    # steps

    def perform(self, step: Step) -> Outcome:
        """Do a step."""
        outcome = self._do(step)
        # what this CPU keeps in batches, like pages just locked, has one user more, and would be copied
        self._page.madvise(_MADV_COLD)
        return outcome

    def _do(self, step: Step) -> Outcome:
        match step:
            case Access():
                return self._access(step)
            case Exit() | Leave():
                nr = Sys.EXIT_GROUP if isinstance(step, Exit) else Sys.EXIT
                return self._run(step.pid, lib.AGENT_SYSCALL, nr, step.code) or Outcome()
            case Birth():
                return self._birth(step)
            case Exec():
                return self._exec(step)
            case Call():
                return self._call(step)
        raise TypeError(step)

    def _run(self, pid: int, op: int, nr: int, *args: int, **fields: int) -> Outcome | None:
        """Let the agent do it; None when it does not come back: it is dead, or stopped."""
        slot = self.agents.command(pid, op, nr, *args)
        for name, value in fields.items():
            setattr(slot, name, value)
        before = int(slot.minflt)
        ended = self.agents.run(pid, slot)
        if ended == "sleeps":
            return Outcome(SLEEPS)
        return Outcome(int(slot.result), int(slot.minflt) - before) if ended == "done" else None

    def _access(self, step: Access) -> Outcome:
        op, value = (lib.AGENT_STORE, step.value) if isinstance(step, Store) else (lib.AGENT_LOAD, 0)
        outcome = self._run(step.pid, op, 0, step.addr, value, size=step.size, fatal=step.fatal)
        fault = self._fault(self.agents.slot(step.pid))
        if outcome is None:
            return Outcome(fault=fault)
        return replace(outcome, result=0, fault=fault) if fault else outcome

    def _fault(self, slot: Any) -> Fault | None:
        if not slot.signo:
            return None
        return Fault(int(slot.signo), int(slot.code), int(slot.address))

    def _call(self, step: Call) -> Outcome:
        scratch = self.agents.scratch(step.pid)
        if step.room or step.given():
            self.agents.put(step.pid, step.given().ljust(step.room, UNWRITTEN))
        outcome = self._run(step.pid, lib.AGENT_SYSCALL, step.nr, *step.registers(scratch))
        if outcome is None or not step.room or outcome.result == SLEEPS:
            return outcome or Outcome()
        written = bytes(ffi.buffer(self.agents.slot(step.pid).scratch, step.room))
        return replace(outcome, told=step.told(outcome.result, written))

    def _birth(self, step: Birth) -> Outcome:
        slot = self.agents.slot(step.pid)
        before = int(slot.minflt)
        thread = bool(step.shares & CLONE_THREAD)
        child = self.agents.birth(step.pid, step.nr, *step.registers(), thread=thread)
        awake = slot.turn == lib.AGENT_DRIVERS_TURN
        return Outcome(child, int(slot.minflt) - before if awake else 0)

    def _exec(self, step: Exec) -> Outcome:
        image = images()[step.image % len(images())]
        leader = self.agents.tgid(step.pid)
        ended, stack = self.agents.execve(step.pid, image.path.encode(), image.arguments(step.argc))
        if ended == "dead" or stack < 0:
            return Outcome(stack)
        self._unmap_vdso(leader)
        written = self.agents.read(leader, "mem", self._stack(leader).end - stack, stack)
        self._cleared_stack(leader)
        return Outcome(stack, told=what_lies_on(written, stack))

    # observations

    def views(self) -> Views:
        """Look at all tasks, once none of them is on its way to its end any more."""
        views = {}
        for pid, stat in self._settled().items():
            if stat.state == "Z":
                self.agents.forget_files(pid)  # they would still show memory that somebody else has
            state = "R" if stat.state == "S" else stat.state
            views[pid] = View(
                state,
                stat.ppid,
                self._maps(pid),
                stat.pgid,
                stat.sid,
                stat.threads,
                stat.comm,
                stat.minflt,
                stat.cminflt,
                self._caught(pid) if stat.state != "Z" else (),
            )
        return views

    def _caught(self, pid: int) -> tuple[Caught, ...]:
        slot = self.agents.slot(pid)
        count = min(int(slot.caught_count), int(lib.AGENT_CAUGHT_MOST))
        slot.caught_count = 0
        some = (slot.caught[index] for index in range(count))
        return tuple(Caught(each.signo, each.code, each.pid, each.status, each.blocked) for each in some)

    def details(self, pid: int) -> str:
        """Return what /proc says of a process in full."""
        status, smaps = (self._whole(pid, name) for name in ("status", "smaps"))
        return details.of(status, smaps)

    def minflt(self, pid: int) -> int:
        """Return the minor faults of a process so far."""
        return self.agents.stat(pid).minflt

    def _settled(self) -> dict[int, Stat]:
        """Look at all tasks until none runs: one that does may yet change what was seen of the others.

        Nor may any be dead (X): whoever is about to take it away cannot be seen any more.
        """
        while True:
            stats = {}
            for pid in sorted(self.agents.pids()):
                try:
                    stats[pid] = self.agents.stat(pid)
                except ProcessLookupError:
                    self.agents.forget(pid)
            if all(stat.state not in "RX" for stat in stats.values()):
                return stats
            os.sched_yield()

    def _maps(self, pid: int) -> Maps:
        return parse_maps(self._whole(pid, "maps").replace(self._files.directory + "/", ""), above=AGENT_END)

    def _whole(self, pid: int, name: str) -> str:
        text = chunk = self.agents.read(pid, name, _CHUNK)
        while len(chunk) > _CHUNK - _LONG_RECORD:
            text += (chunk := self.agents.read(pid, name, _CHUNK, len(text)))
        return text.decode()

    def pages(self, spans: list[Span]) -> Pages:
        """Read the page-table entries of ranges."""
        parts = [
            self.agents.read(pid, "pagemap", count * 8, start // PAGE * 8) for pid, start, count in spans
        ]
        entries = np.frombuffer(b"".join(parts), dtype=np.uint64)
        present, exclusive, file = ((entries & np.uint64(bit)) != 0 for bit in (_PRESENT, _EXCLUSIVE, _FILE))
        return Pages(present, exclusive, file, entries & np.uint64(_FRAME))
