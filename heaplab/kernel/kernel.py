"""The kernel as its user holds it: boot, the process table, the views, the self-check."""

import os
import random
from pathlib import Path
from signal import SIGCHLD

from heaplab.abi import RLIM_INFINITY, Rlimit
from heaplab.errors import UsageError
from heaplab.kernel import procfs
from heaplab.kernel.check import check
from heaplab.kernel.exit import exit_group
from heaplab.kernel.file import FdTable, File
from heaplab.kernel.filesystem import FileSystem
from heaplab.kernel.fork_policy import POLICIES
from heaplab.kernel.layout import Layout
from heaplab.kernel.limits import Limits
from heaplab.kernel.mm import Mm
from heaplab.kernel.mmap import VM_DATA
from heaplab.kernel.pipe import Console
from heaplab.kernel.syscalls import Entry, handle
from heaplab.kernel.system import Settings, System
from heaplab.kernel.task import Group, Sighand, Task
from heaplab.kernel.vma import VM_GROWSDOWN, Vma
from heaplab.machine import USUAL_PAGE, USUAL_TLB, FrameKind, Machine
from heaplab.process import Process
from heaplab.shown import html
from heaplab.units import counted, format_size


class Kernel:
    """A machine with a kernel that has booted: pid 1 runs.

    ram, page_size, tlb, poison: of the machine, see heaplab.machine.Machine.
    seed: of every random choice.  aslr: whether address spaces are laid out at random.
    pid_max: pids are below it.  overcommit_memory, overcommit_ratio, max_map_count: as in /proc/sys/vm.
    fork: what becomes of written pages, see heaplab.kernel.fork_policy: copy-on-write, eager, shared-tables.
    core: processes that a fault or another such signal ends leave a core (Process.core), unless they say
    otherwise by RLIMIT_CORE.
    init_reaps: pid 1's program is a loop of waits; False leaves it to be driven by hand.
    pid_namespace: pid 1 is that of a container: its children keep a process group from being orphaned.
    Raises: UsageError for a machine too small to boot on.

    >>> kernel = Kernel(ram="1 MiB", seed=1)
    >>> shell = kernel.init.fork()
    >>> shell.name = "sh"
    >>> child = shell.fork()
    >>> child.exit(1)
    >>> print(kernel.tree())
    init(1)
    `-sh(2)
       `-sh(3) <defunct>
    """

    def __init__(
        self,
        ram: int | str = "1 GiB",
        seed: int = 0,
        page_size: int = USUAL_PAGE,
        tlb: int = USUAL_TLB,
        poison: bool = False,
        *,
        aslr: bool = True,
        pid_max: int = 32768,
        init_reaps: bool = True,
        pid_namespace: bool = False,
        overcommit_memory: int = 0,
        overcommit_ratio: int = 50,
        max_map_count: int = 65530,
        fork: str = "copy-on-write",
        core: bool = False,
    ) -> None:
        if fork not in POLICIES:
            raise UsageError(f"there is no fork policy {fork!r}: choose among {', '.join(POLICIES)}")
        if overcommit_memory not in (0, 1, 2):
            raise UsageError(
                f"overcommit_memory {overcommit_memory} does not exist: choose 0 (refuse the obviously "
                "excessive), 1 (refuse nothing) or 2 (promise overcommit_ratio percent of memory)"
            )
        if pid_max < 2:
            raise UsageError(f"pid_max {pid_max} leaves no number for pid 1: it is at least 2")
        self.machine = Machine(ram, page_size=page_size, tlb=tlb, poison=poison)
        zero_frame = self.machine.alloc(FrameKind.ZERO)
        if zero_frame is None or self.machine.free_frames == 0:
            raise UsageError("a machine with fewer than 2 frames cannot boot: give it more ram")
        chance = random.Random(seed)
        settings = Settings(
            max_map_count=max_map_count,
            overcommit_memory=overcommit_memory,
            overcommit_ratio=overcommit_ratio,
            pid_namespace=pid_namespace,
            fork=fork,
        )
        self.system = System(
            self.machine,
            settings,
            chance,
            random.Random(f"secrets {seed}"),
            zero_frame,
            pid_max=pid_max,
            init_reaps=init_reaps,
        )
        self.system.files = FileSystem(self.system)
        self.system.layout_chance = chance if aslr else None
        self._start_init(Layout.choose(self.machine, self.system.layout_chance))
        if core:
            self.system.init.limits.set(Rlimit.CORE, RLIM_INFINITY, RLIM_INFINITY)
        #: the handle of pid 1
        self.init: Process = handle(self.system.init)

    def _start_init(self, layout: Layout) -> None:
        """Make pid 1: its program is the kernel's own, so it has no segments but a stack."""
        system = self.system
        mm = Mm(system, layout)
        stack = layout.stack_top - layout.stack_size
        mm.vmas.add(Vma(stack, layout.stack_top, VM_DATA | VM_GROWSDOWN, stack >> mm.page_shift))
        pid = system.pids.alloc()
        assert pid == 1
        system.init = system.tasks[pid] = Task(system, pid, mm, "init")
        system.init.join(Group(system.init, pid, pid, Sighand(), SIGCHLD))
        system.kill = exit_group
        system.init.files, system.init.limits = FdTable(), Limits(layout.stack_limit)
        #: what processes write to the standard streams
        self.console = Console(system)
        terminal = File(self.console, os.O_RDWR)
        for _ in range(3):
            system.init.files.install(terminal, most=3)
        Entry(system.init)

    def process(self, pid: int) -> Process:
        """Return a handle of a process.  Raises: UsageError when there is none."""
        return handle(self.task(pid))

    @property
    def current(self) -> Process:
        """The task that entered the kernel last, pid 1 before any has; in a handler, the one that runs it.

        A page that the MMU made by itself (`VmaMap.open_window`) is no entry.
        """
        return handle(self.system.current or self.system.init)

    def task(self, pid: int) -> Task:
        """Return the kernel's own side of a process.  Raises: UsageError when there is none."""
        task = self.system.tasks.get(pid)
        if task is None:
            raise UsageError(f"no process has pid {pid}: see Kernel.tree() for those that are there")
        return task

    # files

    def write_file(self, path: str, data: bytes, *, disk: bool = True) -> None:
        """Make a file, or fill the one of that name anew, which is cut to nothing first.

        disk: whether a new one is on the disk; else it lives in memory alone, as on Linux's tmpfs.
        """
        files, data = self.system.files, bytes(data)
        if path in files:
            inode = files.find(path)
            inode.truncate(0)
            inode.fill(data)
        else:
            files.create(path, data, disk=disk)

    def read_file(self, path: str) -> bytes:
        """Return what the file holds for whoever reads it now: what is dirty in memory included.

        Raises: FileNotFoundError.
        """
        return self.system.files.find(path).contents()

    # views

    def maps(self, pid: int) -> str:
        """Return /proc/PID/maps."""
        return procfs.maps(self.task(pid))

    def status(self, pid: int) -> str:
        """Return /proc/PID/status."""
        return procfs.status(self.task(pid))

    def smaps(self, pid: int) -> str:
        """Return /proc/PID/smaps: maps with what is in memory, shared and private."""
        return procfs.smaps(self.task(pid))

    def stat(self, pid: int) -> str:
        """Return /proc/PID/stat."""
        return procfs.stat(self.task(pid))

    def statm(self, pid: int) -> str:
        """Return /proc/PID/statm."""
        return procfs.statm(self.task(pid))

    def oom_score(self, pid: int) -> int:
        """Return /proc/PID/oom_score: of whom it is highest, the OOM killer ends; 0 it never does."""
        return int(procfs.oom_score(self.task(pid)))

    def pagemap(self, pid: int, start: int, end: int) -> bytes:
        """Return the part of /proc/PID/pagemap for the addresses [start, end): 8 bytes a page."""
        return procfs.pagemap(self.task(pid), start, end)

    def meminfo(self) -> str:
        """Return /proc/meminfo."""
        return procfs.meminfo(self.system)

    def write_proc(self, directory: str | Path) -> None:
        """Write /proc as it is now into a directory, for programs that read such; see procfs.export."""
        procfs.write(self.system, directory)

    def tree(self) -> str:
        """Return the tree of processes, zombies marked <defunct>."""
        return procfs.tree(self.system)

    def check(self) -> None:
        """Assert that all that the kernel keeps twice agrees.  O(frames + entries of all page tables)"""
        check(self.system)

    def __repr__(self) -> str:
        machine = self.machine
        processes = {task.tgid for task in self.system.tasks.values()}
        return (
            f"<Kernel with {format_size(machine.frame_count * machine.page_size)}: "
            f"{counted(len(processes), 'process')}, {machine.free_frames:,} of "
            f"{counted(machine.frame_count, 'frame')} free>"
        )

    def __str__(self) -> str:
        machine = self.machine
        whole = (
            f"{format_size(machine.frame_count * machine.page_size)}: {counted(machine.frame_count, 'frame')}"
        )
        used = ", ".join(
            f"{machine.used(kind):,} {word}" for kind, word in _USED.items() if machine.used(kind)
        )
        return (
            f"{whole} of {machine.page_size} bytes, {machine.free_frames:,} free, {used}\n{self.tree()}"
        ).rstrip()

    def _repr_html_(self) -> str | None:
        return html(self, "heaplab.report.notebook:kernel_html")


#: what frames are used for, in words
_USED = {
    FrameKind.ANON: "of data",
    FrameKind.FILE: "of files",
    FrameKind.TABLE: "of page tables",
    FrameKind.ZERO: "of zeros",
}
