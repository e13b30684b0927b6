"""The model of Linux's process and memory kernel, to be read beside a textbook.

kernel     boot, views                      syscalls   numbers, names, what registers mean
task       what runs                        fork, exit, pid, signals, oom, reclaim
mm         an address space                 vma, vmas, mmap, mprotect, mremap, madvise, mlock, stack, layout
fault      what an access finds missing     uaccess    the kernel's own use of user memory
inode      files, and the page cache        file, filesystem, fileio   open files, names, calls
limits     resource limits, overcommit      memcalls   what registers mean, for memory and files
procfs     /proc                            look, coredump   memory seen without a trace
check      the invariants                   system     what all of them share
"""

from heaplab.kernel.kernel import Kernel

__all__ = ["Kernel"]
