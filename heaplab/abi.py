"""Linux's numbers on x86-64: what programs and the kernel agree on.

Source: Linux, arch/x86/entry/syscalls/syscall_64.tbl, include/uapi/asm-generic/mman-common.h,
include/uapi/linux/wait.h.
"""

from enum import IntEnum
from typing import Final

PROT_NONE: Final = 0
PROT_READ: Final = 1
PROT_WRITE: Final = 2
PROT_EXEC: Final = 4

MAP_SHARED: Final = 0x01
MAP_PRIVATE: Final = 0x02
MAP_TYPE: Final = 0x0F
MAP_FIXED: Final = 0x10
MAP_ANONYMOUS: Final = 0x20
MAP_32BIT: Final = 0x40
MAP_GROWSDOWN: Final = 0x100
MAP_LOCKED: Final = 0x2000
MAP_NORESERVE: Final = 0x4000
MAP_POPULATE: Final = 0x8000
MAP_NONBLOCK: Final = 0x10000
MAP_HUGETLB: Final = 0x40000
MAP_FIXED_NOREPLACE: Final = 0x100000

WNOHANG: Final = 1
WUNTRACED: Final = 2
WCONTINUED: Final = 8

SEGV_MAPERR: Final = 1  # nothing is mapped at the address
SEGV_ACCERR: Final = 2  # the mapping forbids the access
SI_KERNEL: Final = 0x80  # the CPU refused the address itself


class Sys(IntEnum):
    """The numbers of the system calls that stand."""

    MMAP = 9
    MPROTECT = 10
    MUNMAP = 11
    BRK = 12
    GETPID = 39
    FORK = 57
    EXIT = 60
    WAIT4 = 61
    KILL = 62
    GETPPID = 110
