"""Cores: what a process leaves that a signal ends, if RLIMIT_CORE lets it.

Linux writes a file, cut off at the limit; here it is an object that holds all, for any limit from 4096 on.
The pages are those that a read would have found, but for MADV_DONTDUMP's; Linux leaves out files' too.

Source: Linux, fs/coredump.c (do_coredump, vma_dump_size), signal(7), core(5).
"""

from typing import Final

from heaplab.abi import Rlimit, SigInfo
from heaplab.errors import ProcessDied
from heaplab.kernel.look import look
from heaplab.kernel.mm import Mm
from heaplab.kernel.procfs.memory import maps
from heaplab.kernel.task import Task
from heaplab.kernel.vma import VM_ACCESS, VM_DONTDUMP, Vma
from heaplab.look import Core

#: below so many bytes RLIMIT_CORE lets no core be written (fs/binfmt_elf.c, min_coredump: ELF_EXEC_PAGESIZE)
LEAST_LIMIT: Final = 4096
#: in the status that wait reports: there is a core
DUMPED: Final = 0x80


def end_status(task: Task, died: ProcessDied, info: SigInfo, access: str = "") -> int:
    """Leave a core of the task's process, if it is to, and return the status of its end (rule 42).

    access: load or store, if the signal comes from one.
    Cost: O(pages with an entry + pages of files mapped).
    """
    group, mm = task.group, task.memory
    if task.limits.soft(Rlimit.CORE) < LEAST_LIMIT:
        return info.signo
    readable = [(vma.start, end) for vma in mm.vmas if (end := _readable_end(mm, vma)) > vma.start]
    group.core = Core(
        died,
        pid=task.tgid,
        tid=task.pid,
        name=task.comm,
        si_code=info.code,
        address=info.address if access else None,
        access=access,
        maps=maps(task),
        brk=mm.brk,
        secret=mm.space.secret,
        page_size=mm.page_size,
        readable=readable,
        pages=_contents(mm, readable),
    )
    return info.signo | DUMPED


def _readable_end(mm: Mm, vma: Vma) -> int:
    """Return up to where a VMA can be read and dumped: its start when it cannot, or where its file ends."""
    if not vma.flags & VM_ACCESS or vma.flags & VM_DONTDUMP:
        return vma.start
    if vma.file is None:
        return vma.end
    return min(vma.end, vma.address_of(vma.file.inode.page_count, mm.page_shift))


def _contents(mm: Mm, readable: list[tuple[int, int]]) -> dict[int, bytes]:
    """Return the pages that hold a byte other than 0, by address."""
    found, looking, size = {}, look(mm), mm.page_size
    zeros = bytes(size)
    for start, end in readable:
        vma = mm.vmas.at(start)
        assert vma is not None
        # what is anonymous and has no entry is zero
        for va in mm.space.mapped(start, end) if vma.file is None else range(start, end, size):
            page = looking.read(va, size)
            if page != zeros:
                found[va] = page
    return found
