"""What can be read about processes, in the text of Linux's /proc and of pstree.

Source: proc_pid_maps(5), proc_pid_status(5); Linux, fs/proc/task_mmu.c, fs/proc/array.c.
"""

from heaplab.kernel.mm import Mm
from heaplab.kernel.system import System
from heaplab.kernel.task import Task
from heaplab.kernel.vma import VM_EXEC, VM_MAYSHARE, VM_READ, VM_WRITE, Vma
from heaplab.machine import FrameKind

_STATES = {
    "R": "R (running)",
    "S": "S (sleeping)",
    "D": "D (disk sleep)",
    "T": "T (stopped)",
    "Z": "Z (zombie)",
    "X": "X (dead)",
}
_NAME_COLUMN = 73


def maps(task: Task) -> str:
    """Return /proc/PID/maps: a line for each VMA; empty for a zombie (rule 43)."""
    if task.mm is None:
        return ""
    return "".join(_maps_line(task.mm, vma) for vma in task.mm.vmas)


def _maps_line(mm: Mm, vma: Vma) -> str:
    flags = vma.flags
    rights = (
        ("r" if flags & VM_READ else "-")
        + ("w" if flags & VM_WRITE else "-")
        + ("x" if flags & VM_EXEC else "-")
        + ("s" if flags & VM_MAYSHARE else "p")
    )
    offset = vma.pgoff << mm.page_shift if vma.file is not None else 0
    device, inode = (vma.file.inode.device, vma.file.inode.number) if vma.file is not None else ("00:00", 0)
    line = f"{vma.start:08x}-{vma.end:08x} {rights} {offset:08x} {device} {inode} "
    name = vma_name(mm, vma)
    return f"{line.ljust(_NAME_COLUMN)}{name}\n" if name else f"{line}\n"


def vma_name(mm: Mm, vma: Vma) -> str:
    """Return what the last column of maps says."""
    if vma.file is not None:
        return vma.file.inode.name
    if vma.start < mm.brk and vma.end > mm.start_brk:
        return "[heap]"
    if vma.start <= mm.start_stack < vma.end:
        return "[stack]"
    return ""


def status(task: Task) -> str:
    """Return those lines of /proc/PID/status that the model has."""
    lines = [
        ("Name", task.comm),
        ("State", _STATES[task.state]),
        ("Tgid", task.tgid),
        ("Pid", task.pid),
        ("PPid", task.parent.pid if task.parent is not None else 0),
    ]
    if task.mm is not None:
        mm, space = task.mm, task.mm.space
        lines += [
            ("VmSize", _kib(mm, space.raw.vm_pages)),
            ("VmHWM", _kib(mm, space.raw.peak_rss)),
            ("VmRSS", _kib(mm, mm.rss)),
            ("RssAnon", _kib(mm, space.rss(FrameKind.ANON))),
            ("RssFile", _kib(mm, 0)),
            ("RssShmem", _kib(mm, space.rss(FrameKind.FILE))),
            ("VmPTE", _kib(mm, mm.counted_tables)),
        ]
    threads = len(task.group.living) or 1
    return "".join(f"{name}:\t{value}\n" for name, value in [*lines, ("Threads", threads)])


def _kib(mm: Mm, pages: int) -> str:
    return f"{(pages << mm.page_shift) >> 10:8d} kB"


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
