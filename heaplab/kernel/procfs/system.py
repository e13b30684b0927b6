"""Views of the machine: meminfo.

Source: proc_meminfo(5); Linux, fs/proc/meminfo.c.
"""

import numpy as np

from heaplab.kernel.inode import DiskInode
from heaplab.kernel.procfs.text import kib
from heaplab.kernel.system import System
from heaplab.machine import FrameKind


def meminfo(system: System) -> str:
    """Return /proc/meminfo: what the machine's frames are used for.  O(frames)

    Lines about what is not modelled (slabs, kernel stacks, NUMA, vmalloc, ...) are left out, or 0 where
    common readers need them.
    """
    machine, settings = system.machine, system.settings
    disk = [(inode, pgoff) for inode, pgoff in system.reclaimable if isinstance(inode, DiskInode)]
    dirty = sum(pgoff in inode.dirty for inode, pgoff in disk)
    anon, cache = machine.used(FrameKind.ANON), machine.used(FrameKind.FILE)
    shmem = cache - len(disk)
    mapped = int(np.count_nonzero((machine.kind == FrameKind.FILE) & (machine.mapcount > 0)))
    pages = {
        "MemTotal": machine.frame_count,
        "MemFree": machine.free_frames,
        "MemAvailable": machine.free_frames + len(disk) - dirty,
        "Buffers": 0,
        "Cached": cache,
        "SwapCached": 0,
        "Active": anon + shmem,
        "Inactive": len(disk),
        "Active(anon)": anon + shmem,
        "Inactive(anon)": 0,
        "Active(file)": 0,
        "Inactive(file)": len(disk),
        "SwapTotal": 0,
        "SwapFree": 0,
        "Dirty": dirty,
        "Writeback": 0,
        "AnonPages": anon,
        "Mapped": mapped,
        "Shmem": shmem,
        "Slab": 0,
        "SReclaimable": 0,
        "SUnreclaim": 0,
        "PageTables": machine.used(FrameKind.TABLE),
        "CommitLimit": machine.frame_count * settings.overcommit_ratio // 100,
        "Committed_AS": system.committed,
        "AnonHugePages": 0,
    }
    return "".join(f"{name + ':':16}{kib(count, machine.page_shift)}\n" for name, count in pages.items())
