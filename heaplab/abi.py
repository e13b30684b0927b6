"""Linux's numbers on x86-64: what programs and the kernel agree on.

Source: Linux, arch/x86/entry/syscalls/syscall_64.tbl, include/uapi/asm-generic/mman-common.h, resource.h,
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
MAP_SHARED_VALIDATE: Final = 0x03  # shared, and unknown flags are refused
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
MAP_IGNORED: Final = 0x21800  # MAP_DENYWRITE, MAP_EXECUTABLE, MAP_STACK: of no effect

WNOHANG: Final = 1
WUNTRACED: Final = 2
WCONTINUED: Final = 8

SEGV_MAPERR: Final = 1  # nothing is mapped at the address
SEGV_ACCERR: Final = 2  # the mapping forbids the access
SI_KERNEL: Final = 0x80  # the CPU refused the address itself

BUS_ADRERR: Final = 2  # the page lies beyond the end of its file

MFD_CLOEXEC: Final = 1
MFD_ALLOW_SEALING: Final = 2
MFD_HUGETLB: Final = 4
MFD_NOEXEC_SEAL: Final = 8
MFD_EXEC: Final = 16

RLIM_INFINITY: Final = (1 << 64) - 1


class Rlimit(IntEnum):
    """The resource limits that the kernel heeds."""

    DATA = 2
    STACK = 3
    NOFILE = 7
    MEMLOCK = 8
    AS = 9


class Sys(IntEnum):
    """The numbers of the system calls that stand."""

    READ = 0
    WRITE = 1
    OPEN = 2
    CLOSE = 3
    LSEEK = 8
    MMAP = 9
    MPROTECT = 10
    MUNMAP = 11
    BRK = 12
    PREAD64 = 17
    PWRITE64 = 18
    DUP = 32
    GETPID = 39
    FORK = 57
    EXIT = 60
    WAIT4 = 61
    KILL = 62
    FSYNC = 74
    FTRUNCATE = 77
    GETPPID = 110
    MEMFD_CREATE = 319
