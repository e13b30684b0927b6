"""Linux's numbers on x86-64: what programs and the kernel agree on.

Source: Linux, arch/x86/entry/syscalls/syscall_64.tbl, include/uapi/asm-generic/mman-common.h, resource.h,
include/uapi/linux/wait.h, include/uapi/linux/sched.h, include/uapi/asm-generic/siginfo.h.
"""

from collections.abc import Iterable
from enum import IntEnum
from typing import Final, NamedTuple

PROT_NONE: Final = 0
PROT_READ: Final = 1
PROT_WRITE: Final = 2
PROT_EXEC: Final = 4
PROT_SEM: Final = 8  # atomic operations work; on x86-64 they always do

MAP_SHARED: Final = 0x01
MAP_PRIVATE: Final = 0x02
MAP_SHARED_VALIDATE: Final = 0x03  # shared, and unknown flags are refused
MAP_TYPE: Final = 0x0F
MAP_FIXED: Final = 0x10
MAP_ANONYMOUS: Final = 0x20
MAP_32BIT: Final = 0x40
MAP_ABOVE4G: Final = 0x80
MAP_GROWSDOWN: Final = 0x100
MAP_LOCKED: Final = 0x2000
MAP_NORESERVE: Final = 0x4000
MAP_POPULATE: Final = 0x8000
MAP_NONBLOCK: Final = 0x10000
MAP_STACK: Final = 0x20000
MAP_HUGETLB: Final = 0x40000
MAP_FIXED_NOREPLACE: Final = 0x100000
MAP_HUGE_SIZES: Final = 0x7C000000  # the size of huge pages, for MAP_HUGETLB
MAP_IGNORED: Final = 0x21800  # MAP_DENYWRITE, MAP_EXECUTABLE, MAP_STACK: of no effect

CLONE_VM: Final = 0x100
CLONE_FS: Final = 0x200
CLONE_FILES: Final = 0x400
CLONE_SIGHAND: Final = 0x800
CLONE_PIDFD: Final = 0x1000
CLONE_VFORK: Final = 0x4000
CLONE_PARENT: Final = 0x8000
CLONE_THREAD: Final = 0x10000
CLONE_NEWNS: Final = 0x20000
CLONE_SYSVSEM: Final = 0x40000
CLONE_SETTLS: Final = 0x80000
CLONE_PARENT_SETTID: Final = 0x100000
CLONE_CHILD_CLEARTID: Final = 0x200000
CLONE_CHILD_SETTID: Final = 0x1000000
CLONE_NEWCGROUP: Final = 0x2000000
CLONE_NEWUTS: Final = 0x4000000
CLONE_NEWIPC: Final = 0x8000000
CLONE_NEWUSER: Final = 0x10000000
CLONE_NEWPID: Final = 0x20000000
CLONE_NEWNET: Final = 0x40000000
CSIGNAL: Final = 0xFF  # the signal that the parent gets at the child's end

WNOHANG: Final = 1
WUNTRACED: Final = 2
WSTOPPED: Final = WUNTRACED
WEXITED: Final = 4
WCONTINUED: Final = 8
WNOWAIT: Final = 0x1000000
WNOTHREAD: Final = 0x20000000
WALL: Final = 0x40000000
WCLONE: Final = 0x80000000

P_ALL: Final = 0
P_PID: Final = 1
P_PGID: Final = 2

SA_NOCLDSTOP: Final = 1
SA_NOCLDWAIT: Final = 2
SA_SIGINFO: Final = 4
SA_EXPOSE_TAGBITS: Final = 0x800
SA_RESTORER: Final = 0x04000000
SA_ONSTACK: Final = 0x08000000
SA_RESTART: Final = 0x10000000
SA_NODEFER: Final = 0x40000000
SA_RESETHAND: Final = 0x80000000

SIG_DFL: Final = 0
SIG_IGN: Final = 1
SIG_BLOCK: Final = 0  # how sigprocmask changes what is blocked
SIG_UNBLOCK: Final = 1
SIG_SETMASK: Final = 2
LAST_SIGNAL: Final = 64
FIRST_REALTIME: Final = 32  # from here on a signal is queued as often as it is sent

SI_USER: Final = 0  # sent by kill
SI_TKILL: Final = -6  # sent by tgkill
CLD_EXITED: Final = 1
CLD_KILLED: Final = 2
CLD_DUMPED: Final = 3
CLD_STOPPED: Final = 5
CLD_CONTINUED: Final = 6

RUSAGE_SELF: Final = 0
RUSAGE_CHILDREN: Final = -1
RUSAGE_THREAD: Final = 1

PR_SET_NAME: Final = 15
PR_GET_NAME: Final = 16
PR_SET_CHILD_SUBREAPER: Final = 36
PR_GET_CHILD_SUBREAPER: Final = 37

SEGV_MAPERR: Final = 1  # nothing is mapped at the address
SEGV_ACCERR: Final = 2  # the mapping forbids the access
SI_KERNEL: Final = 0x80  # sent by the kernel itself; the CPU refused the address itself

BUS_ADRERR: Final = 2  # the page lies beyond the end of its file

MREMAP_MAYMOVE: Final = 1
MREMAP_FIXED: Final = 2
MREMAP_DONTUNMAP: Final = 4

MADV_NORMAL: Final = 0
MADV_RANDOM: Final = 1
MADV_SEQUENTIAL: Final = 2
MADV_WILLNEED: Final = 3
MADV_DONTNEED: Final = 4
MADV_FREE: Final = 8
MADV_DONTFORK: Final = 10
MADV_DOFORK: Final = 11
MADV_DONTDUMP: Final = 16
MADV_DODUMP: Final = 17
MADV_WIPEONFORK: Final = 18
MADV_KEEPONFORK: Final = 19
MADV_POPULATE_READ: Final = 22
MADV_POPULATE_WRITE: Final = 23
MADV_DONTNEED_LOCKED: Final = 24

MS_ASYNC: Final = 1
MS_INVALIDATE: Final = 2
MS_SYNC: Final = 4

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
    CORE = 4
    NPROC = 6
    NOFILE = 7
    MEMLOCK = 8
    AS = 9


class SigInfo(NamedTuple):
    """What comes with a signal (siginfo_t): who sent it, or which child changed how, or which address."""

    signo: int
    code: int = SI_USER
    pid: int = 0
    status: int = 0
    address: int = 0


def sigset(signums: Iterable[int]) -> int:
    """Return a set of signals as the bits of a sigset_t, signal 1 the lowest."""
    return sum(1 << (signum - 1) for signum in set(signums))


def signums(bits: int) -> frozenset[int]:
    """Return the signals of a sigset_t.

    >>> sorted(signums(sigset([9, 2])))
    [2, 9]
    """
    return frozenset(signum for signum in range(1, LAST_SIGNAL + 1) if bits >> (signum - 1) & 1)


class Rusage(NamedTuple):
    """What a process, or its collected children, used: page faults, and at most how many KiB at once."""

    minflt: int = 0
    majflt: int = 0
    maxrss: int = 0

    def __add__(self, other: tuple[int, ...]) -> "Rusage":  # type: ignore[override]
        """Counts add up; of the most at once, the larger is kept."""
        minflt, majflt, maxrss = other
        return Rusage(self.minflt + minflt, self.majflt + majflt, max(self.maxrss, maxrss))


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
    RT_SIGACTION = 13
    RT_SIGPROCMASK = 14
    PREAD64 = 17
    PWRITE64 = 18
    PIPE = 22
    MREMAP = 25
    MSYNC = 26
    MINCORE = 27
    MADVISE = 28
    DUP = 32
    PAUSE = 34
    GETPID = 39
    CLONE = 56
    FORK = 57
    VFORK = 58
    EXECVE = 59
    EXIT = 60
    WAIT4 = 61
    KILL = 62
    FSYNC = 74
    FTRUNCATE = 77
    GETRLIMIT = 97
    GETRUSAGE = 98
    SETPGID = 109
    GETPPID = 110
    GETPGRP = 111
    SETSID = 112
    GETPGID = 121
    GETSID = 124
    RT_SIGPENDING = 127
    MLOCK = 149
    MUNLOCK = 150
    PRCTL = 157
    SETRLIMIT = 160
    GETTID = 186
    TKILL = 200
    SET_TID_ADDRESS = 218
    EXIT_GROUP = 231
    TGKILL = 234
    WAITID = 247
    PIPE2 = 293
    PRLIMIT64 = 302
    MEMFD_CREATE = 319
