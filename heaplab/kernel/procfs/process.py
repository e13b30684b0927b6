"""Views of a process: status, stat, statm; and the tree.

Source: proc_pid_status(5), proc_pid_stat(5), proc_pid_statm(5), pstree(1); Linux, fs/proc/array.c.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np

from heaplab.abi import RLIM_INFINITY, SIG_DFL, SIG_IGN, Rusage, sigset
from heaplab.kernel import oom
from heaplab.kernel.inode import DiskInode
from heaplab.kernel.mm import Mm
from heaplab.kernel.procfs.memory import MappedPages
from heaplab.kernel.procfs.text import kib
from heaplab.kernel.system import UID, System
from heaplab.kernel.task import Pending, Task
from heaplab.kernel.vma import VM_EXEC, VM_GROWSDOWN, VM_WRITE
from heaplab.machine import FrameKind

_STATES: Final = {
    "R": "R (running)",
    "S": "S (sleeping)",
    "D": "D (disk sleep)",
    "T": "T (stopped)",
    "Z": "Z (zombie)",
    "X": "X (dead)",
}
_PF_FORKNOEXEC: Final = 0x40  # it runs its parent's program


@dataclass(frozen=True)
class _Sizes:
    """An address space in pages, as Linux breaks it down."""

    total: int
    data: int  # private and writable, but no stack
    stack: int
    code: int  # executable, and not writable
    rss_anon: int
    rss_file: int
    rss_shmem: int

    @property
    def rss(self) -> int:
        return self.rss_anon + self.rss_file + self.rss_shmem

    @staticmethod
    def of(mm: Mm | None) -> "_Sizes":
        if mm is None:
            return _Sizes(0, 0, 0, 0, 0, 0, 0)
        stack = code = disk = 0
        for vma in mm.vmas:
            pages = (vma.end - vma.start) >> mm.page_shift
            if vma.flags & VM_GROWSDOWN:
                stack += pages
            elif vma.flags & (VM_EXEC | VM_WRITE) == VM_EXEC:
                code += pages
            if vma.file is not None and isinstance(vma.file.inode, DiskInode):
                kinds = MappedPages.of(mm, vma.start, vma.end).kind
                disk += int(np.count_nonzero(kinds == FrameKind.FILE))
        rss, files = mm.space.rss, mm.space.rss(FrameKind.FILE)
        total = int(mm.space.raw.vm_pages)
        return _Sizes(total, mm.vmas.data, stack, code, rss(FrameKind.ANON), disk, files - disk)


def _pending(pending: Pending) -> int:
    return sigset(info.signo for info in pending.infos)


def _actions(task: Task) -> tuple[int, int]:
    """The masks of the signals ignored, and of those caught."""
    handlers = {signum: action.handler for signum, action in task.group.sighand.actions.items()}
    ignored = sigset(signum for signum, handler in handlers.items() if handler == SIG_IGN)
    return ignored, sigset(handlers) & ~ignored & ~sigset(s for s, h in handlers.items() if h == SIG_DFL)


def status(task: Task) -> str:
    """Return those lines of /proc/PID/status that the model has, in Linux's order; a zombie has no memory."""
    mm, sizes = task.mm, _Sizes.of(task.mm)
    ignored, caught = _actions(task)
    lines: dict[str, object] = {
        "Name": task.comm.replace("\\", "\\\\").replace("\n", "\\n"),
        "Umask": "0022",
        "State": _STATES[task.state],
        "Tgid": task.tgid,
        "Ngid": 0,
        "Pid": task.pid,
        "PPid": task.parent.pid if task.parent is not None else 0,
        "TracerPid": 0,
        "Uid": "\t".join([str(UID)] * 4),
        "Gid": "\t".join([str(UID)] * 4),
        "FDSize": 256,
        "Groups": " ",
        "NStgid": task.tgid,
        "NSpid": task.pid,
        "NSpgid": task.group.pgid,
        "NSsid": task.group.sid,
        "Kthread": 0,
    }
    if mm is not None:
        of_memory = {
            "VmPeak": mm.vmas.peak,
            "VmSize": sizes.total,
            "VmLck": mm.vmas.locked,
            "VmPin": 0,
            "VmHWM": max(int(mm.space.raw.peak_rss), sizes.rss),
            "VmRSS": sizes.rss,
            "RssAnon": sizes.rss_anon,
            "RssFile": sizes.rss_file,
            "RssShmem": sizes.rss_shmem,
            "VmData": sizes.data,
            "VmStk": sizes.stack,
            "VmExe": 0,
            "VmLib": sizes.code,
            "VmPTE": mm.counted_tables,
            "VmSwap": 0,
            "HugetlbPages": 0,
        }
        lines |= {name: kib(pages, mm.page_shift) for name, pages in of_memory.items()}
    lines |= {
        "Threads": task.group.threads,
        "SigPnd": f"{_pending(task.pending):016x}",
        "ShdPnd": f"{_pending(task.group.pending):016x}",
        "SigBlk": f"{sigset(task.blocked):016x}",
        "SigIgn": f"{ignored:016x}",
        "SigCgt": f"{caught:016x}",
        "NoNewPrivs": 0,
        "Seccomp": 0,
        "Cpus_allowed": "1",
        "Cpus_allowed_list": "0",
        "voluntary_ctxt_switches": 0,
        "nonvoluntary_ctxt_switches": 0,
    }
    return "".join(f"{name}:\t{value}\n" for name, value in lines.items())


def stat(task: Task) -> str:
    """Return /proc/PID/stat: 52 fields in one line.  Times are 0: the model counts no seconds."""
    group, mm, sizes = task.group, task.mm, _Sizes.of(task.mm)
    used = group.rusage if group.living else Rusage(*group.used)
    ignored, caught = _actions(task)
    fields: list[object] = [
        task.pid,
        f"({task.comm})",
        task.state,
        task.parent.pid if task.parent is not None else 0,
        group.pgid,
        group.sid,
        0,  # no terminal,
        -1,  # and no group in its foreground
        0 if group.execs else _PF_FORKNOEXEC,
        used.minflt,
        group.children_used.minflt,
        used.majflt,
        group.children_used.majflt,
        *(0, 0, 0, 0),  # user and system time, and the children's
        *(20, 0),  # priority, nice
        group.threads,
        *(0, 0),  # interval timer, start time
        sizes.total << task.system.machine.page_shift,
        sizes.rss,
        RLIM_INFINITY,  # of the resident set: bounds nothing
        *(0, 0),  # start and end of code
        mm.start_stack if mm is not None else 0,
        *(0, 0),  # stack and instruction pointer
        _pending(task.pending) & 0x7FFF_FFFF,
        sigset(task.blocked) & 0x7FFF_FFFF,
        ignored & 0x7FFF_FFFF,
        caught & 0x7FFF_FFFF,
        *(0, 0, 0),  # where it sleeps; swap, twice
        group.exit_signal,
        *(0, 0, 0, 0, 0, 0),  # processor, real-time priority, policy, delays, guests' time, twice
        *(0, 0),  # start and end of data
        mm.start_brk if mm is not None else 0,
        *(0, 0, 0, 0),  # start and end of arguments and environment
        group.exit_code,
    ]
    return " ".join(map(str, fields)) + "\n"


def statm(task: Task) -> str:
    """Return /proc/PID/statm, in pages: size, resident, of these shared, code, 0, data and stack, 0."""
    sizes = _Sizes.of(task.mm)
    shared = sizes.rss_file + sizes.rss_shmem
    return f"{sizes.total} {sizes.rss} {shared} 0 0 {sizes.data + sizes.stack} 0\n"


def oom_score(task: Task) -> str:
    """Return /proc/PID/oom_score: 0 who is never taken by the OOM killer, else the worse the more."""
    return f"{oom.score(task.group)}\n"


def oom_score_adj(task: Task) -> str:
    """Return /proc/PID/oom_score_adj."""
    return f"{task.group.oom_score_adj}\n"


def tree(system: System) -> str:
    """Return the process tree as pstree -p draws it; zombies are marked as ps marks them.

    init(1)
    |-sh(2)
    |  `-sh(4) <defunct>
    `-sh(3)
    """
    lines: list[str] = []

    def draw(task: Task, lead: str, branch: str) -> None:
        lines.append(f"{lead}{branch}{task.comm}({task.pid}){' <defunct>' if task.state == 'Z' else ''}")
        below = lead + {"": "", "|-": "|  ", "`-": "   "}[branch]
        children = list(task.children.values())
        for child in children:
            draw(child, below, "`-" if child is children[-1] else "|-")

    draw(system.init, "", "")
    return "\n".join(lines) + "\n"
