"""What can be read about processes and memory, as Linux's /proc shows it: text, and for pagemap bytes.

memory.py   of an address space    maps, smaps, pagemap
process.py  of a process           status, stat, statm, oom_score and its adj, and the tree that pstree draws
system.py   of the machine         meminfo
export.py   all of it as files, for programs that read /proc
"""

from heaplab.kernel.procfs.export import write
from heaplab.kernel.procfs.memory import maps, pagemap, smaps
from heaplab.kernel.procfs.process import oom_score, oom_score_adj, stat, statm, status, tree
from heaplab.kernel.procfs.system import meminfo

__all__ = [
    "maps",
    "meminfo",
    "oom_score",
    "oom_score_adj",
    "pagemap",
    "smaps",
    "stat",
    "statm",
    "status",
    "tree",
    "write",
]
