"""The model of Linux's process and memory kernel, to be read beside a textbook.

kernel     boot, views                      syscalls   numbers, names, what registers mean
task       what runs                        fork, exit, pid, signals, oom
mm         an address space                 vma, vmas, mmap, mprotect, stack, layout
fault      what an access finds missing     shmem      shared anonymous pages
procfs     /proc as text                    check      the invariants

    system, pid, shmem <- vma <- vmas <- mm <- task, mmap, mprotect, stack <- exit <- signals, oom
                                          <- fork, fault <- syscalls <- kernel
"""

from heaplab.kernel.kernel import Kernel

__all__ = ["Kernel"]
