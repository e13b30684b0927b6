"""The model's side: the same steps done by heaplab.kernel, and its own /proc."""

from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from signal import SIG_DFL, SIGBUS, SIGSEGV
from typing import Final, NoReturn

import numpy as np

from heaplab.abi import (
    MAP_ANONYMOUS,
    MAP_FIXED,
    MAP_SHARED,
    PROT_EXEC,
    PROT_READ,
    PROT_WRITE,
    SI_KERNEL,
    Rusage,
    SigInfo,
    sigset,
)
from heaplab.errors import BusError, SegmentationFault
from heaplab.kernel import Kernel, procfs
from heaplab.kernel.task import Task
from heaplab.machine import FrameFlag, FrameKind, Pte, Space
from heaplab.process import Process
from heaplab.testing.conform import details
from heaplab.testing.conform.agents import AGENT_END, AGENT_START
from heaplab.testing.conform.codec import CATCHER, PAGE
from heaplab.testing.conform.images import images, what_lies_on
from heaplab.testing.conform.observe import (
    Caught,
    Fault,
    Outcome,
    Pages,
    Span,
    Start,
    View,
    Views,
    parse_maps,
)
from heaplab.testing.conform.shared_files import contents
from heaplab.testing.conform.steps import UNWRITTEN, Access, Birth, Call, Exec, Exit, Leave, Step, Store


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


#: the agents' own memory, which the model's processes have too, for calls to read and write
_SLOTS: Final = (AGENT_START, AGENT_END - PAGE - AGENT_START, PROT_READ | PROT_WRITE)
_TEXT: Final = (AGENT_END - PAGE, PAGE, PROT_READ | PROT_EXEC)
_SCRATCH: Final = AGENT_START


class ModelSide:
    """A tree of processes on a modelled kernel that begins as the real one does."""

    def __init__(self, start: Start) -> None:
        self.kernel = Kernel(
            ram=_memory(),
            tlb=256,
            aslr=False,
            init_reaps=False,
            pid_namespace=True,
            overcommit_memory=_setting("vm/overcommit_memory"),
            max_map_count=_setting("vm/max_map_count"),
        )
        for path, data in contents():
            self.kernel.write_file(path, data, disk=False)
        self._tasks = self.kernel.system.tasks
        self._caught: defaultdict[int, list[Caught]] = defaultdict(list)  # by pid
        mm = self._tasks[1].memory
        mm.layout = replace(mm.layout, start_brk=start.brk, min_addr=_setting("vm/mmap_min_addr"))
        mm.start_brk = start.brk
        mm.set_brk(start.brk)
        assert start.stack == (mm.layout.stack_top - mm.layout.stack_size, mm.layout.stack_top)
        init = self.kernel.init
        for page in start.touched:
            init.store64(page, 0)
        self._written_from_outside(1, start.touched)
        for fd in range(3):
            init.close(fd)
        for resource, soft, hard in start.limits:
            init.setrlimit(resource, (soft, hard))
        self._equip(init)
        mm.vmas.peak = max(mm.vmas.peak, start.peak)

    def check(self) -> None:
        """Assert the model's invariants: what no observation tells."""
        self.kernel.check()

    def _equip(self, process: Process) -> None:
        """Give a new program what agents have."""
        for start, length, prot in (_SLOTS, _TEXT):
            process.mmap(length, start, prot, MAP_SHARED | MAP_ANONYMOUS | MAP_FIXED)
        _touch(process)
        _handle_faults(process, _give_up)
        self._tasks[process.tid].group.sighand.handlers[CATCHER] = self._note

    # steps

    def perform(self, step: Step) -> Outcome:
        """Do a step.  Raises: WouldBlock when it would sleep."""
        process = self.kernel.process(step.pid)
        before = process.minflt
        outcome = self._do(process, step)
        alive = process.state not in "ZX" and not isinstance(step, Exec)
        return replace(outcome, minflt=process.minflt - before if alive else 0)

    def _do(self, process: Process, step: Step) -> Outcome:
        match step:
            case Access():
                return self._access(process, step)
            case Exit():
                process.exit(step.code)
                return Outcome()
            case Leave():
                process.exit_thread(step.code)
                return Outcome()
            case Birth():
                child = process.syscall(step.nr, *step.registers())
                if child > 0:
                    _touch(self.kernel.process(child))
                return Outcome(child)
            case Exec():
                return self._exec(process, step)
            case Call():
                return self._call(process, step)
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

    def _call(self, process: Process, step: Call) -> Outcome:
        if step.room or step.given():
            process.write(_SCRATCH, step.given().ljust(step.room, UNWRITTEN))
        result = process.syscall(step.nr, *step.registers(_SCRATCH))
        if process.state != "R":
            return Outcome()  # it did not come back
        if not step.room:
            return Outcome(result)
        return Outcome(result, told=step.told(result, process.read(_SCRATCH, step.room)))

    def _exec(self, process: Process, step: Exec) -> Outcome:
        image = images()[step.image % len(images())]
        try:
            process.execve(image.path, [each.decode() for each in image.arguments(step.argc)])
        except OSError as error:
            return Outcome(-(error.errno or 0))
        if process.state in "ZX":
            return Outcome()
        mm = self._tasks[process.pid].memory
        process.load(process.entry, 1)  # the first instruction
        try:
            self._equip(process)
        except OSError:  # RLIMIT_AS: the trampoline jumps to where nothing is mapped
            process.kill(process.pid, SIGSEGV)
            return Outcome()
        for vma in [vma for vma in mm.vmas if vma.file is not None and vma.file.inode.name.startswith("[v")]:
            process.munmap(vma.start, vma.end - vma.start)
        written = process.read(process.stack, mm.layout.stack_top - process.stack)
        pages = range(process.stack // PAGE * PAGE, mm.layout.stack_top, PAGE)
        for page in pages:
            process.fill(page, 0, PAGE)
        self._written_from_outside(process.pid, pages)
        return Outcome(process.stack, told=what_lies_on(written, process.stack))

    def _written_from_outside(self, pid: int, pages: Iterable[int]) -> None:
        """Mark pages as those are that the driver cleared: it wrote them through /proc/PID/mem."""
        flags, space = self.kernel.machine.flags, self._space(pid)
        for page in pages:
            flags[Pte.frame(space.pte(page))] |= FrameFlag.DIRTY

    # observations

    def views(self) -> Views:
        """Look at all tasks."""
        return {pid: self._view(task) for pid, task in sorted(self._tasks.items())}

    def _view(self, task: Task) -> View:
        group = task.group
        return View(
            task.state,
            task.parent.tgid if task.parent is not None else 0,
            parse_maps(self.kernel.maps(task.pid), above=AGENT_END),
            group.pgid,
            group.sid,
            group.threads,
            task.comm,
            group.rusage.minflt,
            group.children_used.minflt,
            tuple(self._caught.pop(task.pid, ())) if task.mm is not None else (),
        )

    def details(self, pid: int) -> str:
        """Return what the model's /proc says of a process in full."""
        task = self._tasks[pid]
        return details.of(procfs.status(task), procfs.smaps(task))

    def set_minflt(self, pid: int, total: int) -> None:
        """Let the faults of a process be so many, where they are its agent's business or the scheduler's."""
        task = self._tasks[pid]
        missing = total - task.group.rusage.minflt
        if task.mm is not None:
            task.minflt += missing
        else:
            task.group.used += Rusage(missing)

    def _note(self, signum: int, info: SigInfo) -> None:
        """The handler that steps ask for, as the agent has one."""
        task = self._tasks[self.kernel.current.tid]
        caught = Caught(signum, info.code, info.pid, info.status, sigset(task.blocked))
        self._caught[task.pid].append(caught)

    def pages(self, spans: list[Span]) -> Pages:
        """Read the page-table entries of ranges."""
        machine = self.kernel.machine
        parts = [self._space(pid).ptes(start, count) for pid, start, count in spans]
        entries = np.concatenate(parts) if parts else np.zeros(0, dtype=np.uint64)
        present = (entries & np.uint64(Pte.PRESENT)) != 0
        frame = Pte.frames(entries)
        alone = (machine.mapcount[frame] == 1) & (frame != self.kernel.system.zero_frame)
        return Pages(present, present & alone, present & (machine.kind[frame] == FrameKind.FILE), frame)

    def _space(self, pid: int) -> Space:
        return self._tasks[pid].memory.space


def _touch(process: Process) -> None:
    """Have the page tables that an agent has: it runs its text, and serves its slot."""
    for start, _, _ in (_SLOTS, _TEXT):
        process.load64(start)


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
