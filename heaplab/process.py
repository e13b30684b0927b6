"""A process as its program sees it: memory, and system calls by their names in libc.

A `Process` is a handle of one task, from outside: the program is whatever Python code holds it.  It can be
used as long as the process lives, and after that for its counters.
"""

import errno
import os
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final, NoReturn, Protocol

from heaplab.abi import (
    CLONE_FILES,
    CLONE_FS,
    CLONE_SIGHAND,
    CLONE_SYSVSEM,
    CLONE_THREAD,
    CLONE_VM,
    MAP_ANONYMOUS,
    MAP_PRIVATE,
    MAP_STACK,
    MS_SYNC,
    PR_SET_CHILD_SUBREAPER,
    PROT_NONE,
    PROT_READ,
    PROT_WRITE,
    RUSAGE_SELF,
    SIG_SETMASK,
    Rusage,
    SigInfo,
    Sys,
)
from heaplab.look import Core, Look
from heaplab.machine import REGISTER, Context, Looking
from heaplab.shown import html
from heaplab.units import counted

#: what threads of one process share: everything
THREAD_FLAGS: Final = CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD | CLONE_SYSVSEM


#: of /proc/PID/status, what str() of a process shows; and of maps, how many lines at each end
_SIZES: Final = ("VmPeak", "VmSize", "VmRSS", "VmPTE")
_MAPS: Final = 8


class KernelSide(Protocol):
    """The kernel's side of a process: how it enters the kernel, and what can be seen of it there."""

    comm: str
    oom_score_adj: int

    @property
    def context(self) -> Context: ...
    @property
    def pid(self) -> int: ...
    @property
    def tid(self) -> int: ...
    @property
    def stack(self) -> int: ...
    @property
    def entry(self) -> int: ...
    @property
    def ppid(self) -> int: ...
    @property
    def state(self) -> str: ...
    @property
    def minflt(self) -> int: ...
    @property
    def majflt(self) -> int: ...
    @property
    def syscalls(self) -> Counter[str]: ...
    @property
    def brk(self) -> int: ...
    def syscall(self, nr: int, *args: int) -> int: ...
    def direct(self, name: str, *args: Any) -> Any: ...
    def process(self, pid: int) -> "Process": ...
    def look(self) -> Looking: ...
    def frame_of(self, va: int) -> int | None: ...
    @property
    def core(self) -> Core | None: ...
    def maps(self) -> str: ...
    def status(self) -> str: ...


class Process:
    """The handle of one process.

    Memory: load64(va), store64(va, value) are bound for speed; load, store of 1, 2, 4 or 8 bytes; read,
    write, copy, fill for more.  An access that the kernel refuses ends the process and raises
    SegmentationFault or OutOfMemory.
    System calls raise OSError with Linux's errno, and leave it in `errno` as libc does.
    On a dead process each raises ProcessLookupError.

    >>> from heaplab.kernel import Kernel
    >>> parent = Kernel(ram="1 MiB").init.fork()
    >>> page = parent.mmap(4096)
    >>> parent.store64(page, 1)
    >>> child = parent.fork()
    >>> child.store64(page, 2)                  # the child gets a copy of the page
    >>> parent.load64(page), child.load64(page)
    (1, 2)
    >>> child.exit(3)
    >>> parent.wait() == (child.pid, 3 << 8)
    True
    """

    def __init__(self, kernel_side: KernelSide) -> None:
        self._kernel = kernel_side
        #: the MMU as this process uses it, with its counters
        self.context = context = kernel_side.context
        self.page_size = context.machine.page_size
        self.load64: Callable[[int], int] = context.load64
        self.store64: Callable[[int, int], None] = context.store64
        self.load: Callable[..., int] = context.load
        self.store: Callable[..., None] = context.store
        self.read: Callable[[int, int], bytes] = context.read
        self.write: Callable[[int, bytes], None] = context.write
        self.copy: Callable[[int, int, int], None] = context.copy
        self.fill: Callable[[int, int, int], None] = context.fill

    def __repr__(self) -> str:
        thread = f", thread {self.tid}" if self.tid != self.pid else ""
        return f"<Process {self.pid} {self.name} {self.state}{thread}>"

    def __str__(self) -> str:
        status = dict(line.split(":\t", 1) for line in self.status().splitlines())
        thread = f", thread {self.tid}" if self.tid != self.pid else ""
        lines = [
            f"{self.name}({self.pid}){thread}: {status['State']}, parent {self.ppid}, "
            f"{counted(int(status['Threads']), 'thread')}, {self.minflt:,} minor and {self.majflt:,} major "
            "faults",
        ]
        sizes = [f"{name} {' '.join(status[name].split())}" for name in _SIZES if name in status]
        lines.append(", ".join(sizes) or "it is dead, and has no memory any more")
        maps = self.maps().splitlines()
        if len(maps) > 2 * _MAPS:
            maps[_MAPS:-_MAPS] = [f"... {len(maps) - 2 * _MAPS} more"]
        lines += [line.rstrip() for line in maps]
        if self.core is not None:
            lines.append(f"it left a core: {self.core.died}")
        return "\n".join(lines)

    def _repr_html_(self) -> str | None:
        return html(self, "heaplab.report.notebook:process_html")

    # memory

    def brk(self, addr: int) -> int:
        """Move the program break to `addr`; return where it is then.  brk(0) only asks."""
        return self._call(Sys.BRK, addr)

    def sbrk(self, increment: int) -> int:
        """Move the program break by `increment` bytes and return where it was.  sbrk(0) is no system call.

        Raises: OSError ENOMEM.
        """
        old = self._kernel.brk
        if increment and self._call(Sys.BRK, max(0, old + increment)) != old + increment:
            self._fail(errno.ENOMEM)
        return old

    def mmap(
        self,
        length: int,
        addr: int = 0,
        prot: int = PROT_READ | PROT_WRITE,
        flags: int = MAP_PRIVATE | MAP_ANONYMOUS,
        fd: int = -1,
        offset: int = 0,
    ) -> int:
        """Map `length` bytes of new memory, zeroed, or of a file; return their address.

        addr: a hint, or with MAP_FIXED the place.  fd: without MAP_ANONYMOUS, the file; offset: bytes.
        Raises: OSError EINVAL, ENOMEM, EEXIST, EBADF, EACCES, ...

        >>> from heaplab.abi import MAP_SHARED
        >>> from heaplab.kernel import Kernel
        >>> process = Kernel(ram="1 MiB").init.fork()
        >>> fd = process.memfd_create("greeting")
        >>> process.pwrite(fd, b"hello", 0)
        5
        >>> page = process.mmap(4096, flags=MAP_SHARED, fd=fd)
        >>> process.store(page, ord("j"), 1)
        >>> process.pread(fd, 100, 0)
        b'jello'
        """
        return self._call(Sys.MMAP, addr, length, prot, flags, fd, offset)

    def munmap(self, addr: int, length: int) -> None:
        """Give [addr, addr + length) back.  Raises: OSError EINVAL, ENOMEM."""
        self._call(Sys.MUNMAP, addr, length)

    def mprotect(self, addr: int, length: int, prot: int) -> None:
        """Set what [addr, addr + length) allows.  Raises: OSError EINVAL, ENOMEM."""
        self._call(Sys.MPROTECT, addr, length, prot)

    def mremap(self, addr: int, old_length: int, new_length: int, flags: int = 0, new_addr: int = 0) -> int:
        """Change a mapping's length, or with MREMAP_MAYMOVE its place; return its address.

        Raises: OSError EINVAL, EFAULT, ENOMEM, EAGAIN.
        """
        return self._call(Sys.MREMAP, addr, old_length, new_length, flags, new_addr)

    def madvise(self, addr: int, length: int, advice: int) -> None:
        """Say how [addr, addr + length) will be used: MADV_*.  Raises: OSError EINVAL, ENOMEM, EFAULT."""
        self._call(Sys.MADVISE, addr, length, advice)

    def mlock(self, addr: int, length: int) -> None:
        """Make the pages and keep them in memory.  Raises: OSError ENOMEM, EPERM."""
        self._call(Sys.MLOCK, addr, length)

    def munlock(self, addr: int, length: int) -> None:
        """Let pages go again.  Raises: OSError ENOMEM."""
        self._call(Sys.MUNLOCK, addr, length)

    def mincore(self, addr: int, length: int) -> bytes:
        """Return a byte for each page, 1 when it is in memory.  Raises: OSError EINVAL, ENOMEM."""
        return bytes(self._direct("mincore", addr, length))

    def msync(self, addr: int, length: int, flags: int = MS_SYNC) -> None:
        """Bring what was written to mapped files to disk.  Raises: OSError EINVAL, ENOMEM, EBUSY."""
        self._call(Sys.MSYNC, addr, length, flags)

    def getrlimit(self, resource: int) -> tuple[int, int]:
        """Return (soft, hard) of a limit (heaplab.abi.Rlimit).  Raises: OSError EINVAL."""
        soft, hard = self._direct("getrlimit", resource)
        return soft, hard

    def setrlimit(self, resource: int, limits: tuple[int, int]) -> None:
        """Set (soft, hard) of a limit.  Raises: OSError EINVAL, EPERM."""
        self._direct("setrlimit", resource, *limits)

    # files; data travel as bytes, where libc passes addresses

    def open(self, path: str, flags: int = os.O_RDONLY) -> int:
        """Open a file of the kernel's (Kernel.write_file); return a descriptor.

        flags: os.O_*.  Raises: OSError ENOENT, EEXIST, EMFILE, EINVAL for what is not modelled.
        """
        return int(self._direct("open", path, flags))

    def pipe(self, flags: int = 0) -> tuple[int, int]:
        """Make a pipe; return the descriptors (to read from, to write to).

        flags: os.O_CLOEXEC; O_NONBLOCK: EAGAIN where a read or write would sleep; O_DIRECT: a read gives what
        one write wrote.  Raises: OSError EMFILE, EINVAL.
        """
        source, sink = self._direct("pipe2", flags)
        return int(source), int(sink)

    def memfd_create(self, name: str, flags: int = 0) -> int:
        """Make an empty file that lives in memory; return a descriptor.  Raises: OSError EINVAL, EMFILE."""
        return int(self._direct("memfd_create", name, flags))

    def read_fd(self, fd: int, count: int) -> bytes:
        """Read up to `count` bytes at the file's offset, which moves.  Raises: OSError EBADF."""
        return bytes(self._direct("read", fd, count))

    def write_fd(self, fd: int, data: bytes) -> int:
        """Write at the file's offset, which moves; return how many bytes.  Raises: OSError EBADF, EINVAL."""
        return int(self._direct("write", fd, data))

    def pread(self, fd: int, count: int, offset: int) -> bytes:
        """Read up to `count` bytes from `offset` on.  Raises: OSError EBADF, EINVAL."""
        return bytes(self._direct("pread64", fd, count, offset))

    def pwrite(self, fd: int, data: bytes, offset: int) -> int:
        """Write `data` from `offset` on; return how many bytes.  Raises: OSError EBADF, EINVAL."""
        return int(self._direct("pwrite64", fd, data, offset))

    def lseek(self, fd: int, offset: int, whence: int = os.SEEK_SET) -> int:
        """Move the file's offset; return it.  Raises: OSError EBADF, EINVAL."""
        return self._call(Sys.LSEEK, fd, offset, whence)

    def ftruncate(self, fd: int, size: int) -> None:
        """Set the file's size; pages past it go from all address spaces.  Raises: OSError EBADF, EINVAL."""
        self._call(Sys.FTRUNCATE, fd, size)

    def fsync(self, fd: int) -> None:
        """Write the file's dirty pages to disk.  Raises: OSError EBADF."""
        self._call(Sys.FSYNC, fd)

    def dup(self, fd: int) -> int:
        """Return another descriptor of the same open file.  Raises: OSError EBADF, EMFILE."""
        return self._call(Sys.DUP, fd)

    def close(self, fd: int) -> None:
        """Close a descriptor.  Raises: OSError EBADF."""
        self._call(Sys.CLOSE, fd)

    # processes

    def fork(self) -> "Process":
        """Make a child that shares all pages until somebody writes.  Raises: OSError EAGAIN, ENOMEM."""
        return self._kernel.process(self._call(Sys.FORK))

    def vfork(self) -> "Process":
        """Make a child in this very address space, and sleep (state D) until it execs or exits.

        Whatever is done with a sleeping process by hand raises WouldBlock.  Raises: OSError EAGAIN.
        """
        return self._kernel.process(self._call(Sys.VFORK))

    def clone(self, flags: int, stack: int = 0, parent_tid: int = 0, child_tid: int = 0) -> "Process":
        """Make a task that shares what the flags (CLONE_*) say; the lowest byte is its exit signal.

        stack: where its stack starts, as the caller made it (0: where this one's does).
        Raises: OSError EINVAL for flags that contradict each other, EAGAIN, ENOMEM.
        """
        return self._kernel.process(self._call(Sys.CLONE, flags, stack, parent_tid, child_tid, 0))

    def spawn_thread(self, stack_size: int = 1 << 16) -> "Process":
        """Map a stack and clone a thread onto it, as pthread_create does; `stack` of its handle is the top.

        Below the stack a page is left without any right, so that an overflow faults.
        Raises: OSError ENOMEM, EAGAIN.
        """
        size = -(-stack_size // self.page_size) * self.page_size + self.page_size
        base = self.mmap(size, prot=PROT_NONE, flags=MAP_PRIVATE | MAP_ANONYMOUS | MAP_STACK)
        self.mprotect(base + self.page_size, size - self.page_size, PROT_READ | PROT_WRITE)
        return self.clone(THREAD_FLAGS, base + size)

    def execve(self, path: str, argv: Sequence[str], env: Mapping[str, str] | None = None) -> None:
        """Become another program: an ELF file, or a script, of the kernel's files (Kernel.write_file).

        Memory, handlers, other threads and close-on-exec descriptors are gone; `entry` is where the program
        starts, `stack` where its stack pointer points.
        Raises: OSError ENOENT, ENOEXEC, ELOOP, E2BIG: then nothing has changed.

        >>> from heaplab.kernel import Kernel
        >>> from heaplab.kernel.elf import make_elf
        >>> kernel = Kernel(ram="1 MiB")
        >>> kernel.write_file("/bin/true", make_elf(data=b"values", bss=100))
        >>> process = kernel.init.fork()
        >>> process.execve("/bin/true", ["true"])
        >>> process.load64(process.stack)           # argc
        1
        """
        variables = [os.fsencode(f"{name}={value}") for name, value in (env or {}).items()]
        self._direct("execve", path, [os.fsencode(arg) for arg in argv], variables)

    def exit(self, code: int = 0) -> None:
        """End the process, all its threads; it is a zombie until its parent waits."""
        self._call(Sys.EXIT_GROUP, code)

    def exit_thread(self, code: int = 0) -> None:
        """End this thread alone; the last one's end is the process's."""
        self._call(Sys.EXIT, code)

    def wait(self) -> tuple[int, int]:
        """Collect any dead child: (its pid, its status)."""
        return self.waitpid(-1, 0)

    def waitpid(self, pid: int, options: int = 0) -> tuple[int, int]:
        """Collect the child `pid` (-1: any); with os.WNOHANG (0, 0) when it lives.

        The status is as os.waitstatus_to_exitcode takes it.
        Raises: ChildProcessError without such a child; WouldBlock when it would sleep.
        """
        return self.wait4(pid, options)[:2]

    def wait4(self, pid: int, options: int = 0) -> tuple[int, int, Rusage]:
        """Like waitpid, and what the child used, its own collected children included."""
        report = self._direct("wait4", pid, options)
        return report.pid, report.status, report.rusage

    def waitid(self, idtype: int, number: int, options: int) -> SigInfo | None:
        """Hear of a change that the options name (os.WEXITED, WSTOPPED, WCONTINUED); None with WNOHANG: none.

        With os.WNOWAIT it can be heard again.  Raises: ChildProcessError, OSError EINVAL, WouldBlock.
        """
        report = self._direct("waitid", idtype, number, options)
        return report.info if report.pid else None

    def getrusage(self, who: int = RUSAGE_SELF) -> Rusage:
        """Return what the process, its collected children, or this thread used.  Raises: OSError EINVAL."""
        return Rusage(*self._direct("getrusage", who))

    # signals

    def kill(self, pid: int, sig: int) -> None:
        """Send a signal; 0 only asks whether the process is there.  Raises: ProcessLookupError, OSError."""
        self._call(Sys.KILL, pid, sig)

    def tgkill(self, tgid: int, tid: int, sig: int) -> None:
        """Send a signal to one thread of a process.  Raises: ProcessLookupError, OSError EINVAL."""
        self._call(Sys.TGKILL, tgid, tid, sig)

    def sigaction(
        self,
        signum: int,
        handler: int | Callable[..., object] | None,
        flags: int = 0,
        mask: Iterable[int] = (),
    ) -> int | Callable[..., object]:
        """Say what a signal is to do: SIG_DFL, SIG_IGN or a function of (signum, SigInfo); None only asks.

        By hand a handler runs as soon as the signal arrives; of several, the one set up last runs first,
        mostly that of the highest number.  Kernel.current is the task that runs it; a child forked in it
        stays in it, with what it blocks.  One of SIGSEGV or SIGBUS runs at the access, which is then tried
        again: it has to mend what was wrong.
        Returns: what it did so far; a number above SIG_IGN is the address of machine code, which the model
        keeps but cannot run.  Raises: OSError EINVAL; UsageError for what is no handler.
        """
        old: int | Callable[..., object]
        old = self._direct("rt_sigaction", signum, handler, flags, frozenset(mask))
        return old

    def sigprocmask(self, blocked: Iterable[int] | None = None) -> set[int]:
        """Let these signals wait, and no others; None only asks.  Return what was blocked."""
        return set(self._direct("rt_sigprocmask", SIG_SETMASK, blocked))

    def sigpending(self) -> set[int]:
        """Return the signals that were sent, and wait because they are blocked."""
        return set(self._direct("rt_sigpending"))

    def pause(self) -> None:
        """Sleep until a signal comes.  Raises: WouldBlock, by hand."""
        self._call(Sys.PAUSE)

    # process groups, and what a process says about itself

    def setpgid(self, pid: int, pgid: int) -> None:
        """Put a process (0: this one) into a process group (0: of its own).  Raises: OSError."""
        self._call(Sys.SETPGID, pid, pgid)

    def getpgid(self, pid: int = 0) -> int:
        """Return the process group of a process (0: of this one).  Raises: ProcessLookupError."""
        return self._call(Sys.GETPGID, pid)

    def setsid(self) -> int:
        """Begin a session of one's own.  Raises: PermissionError when it leads a group."""
        return self._call(Sys.SETSID)

    def getsid(self, pid: int = 0) -> int:
        """Return the session of a process (0: of this one).  Raises: ProcessLookupError."""
        return self._call(Sys.GETSID, pid)

    def set_child_subreaper(self, on: bool = True) -> None:
        """Become the parent of descendants whose own parent dies: prctl(PR_SET_CHILD_SUBREAPER)."""
        self._call(Sys.PRCTL, PR_SET_CHILD_SUBREAPER, on)

    def set_name(self, name: str) -> None:
        """Give the task a name, of up to 15 bytes: prctl(PR_SET_NAME)."""
        self._direct("prctl_set_name", name.encode())

    def gettid(self) -> int:
        """Return the thread's number; the first one's is the process's."""
        return self._call(Sys.GETTID)

    def getpid(self) -> int:
        """Return the process's number."""
        return self._call(Sys.GETPID)

    def getppid(self) -> int:
        """Return the number of its parent: pid 1 once that has died."""
        return self._call(Sys.GETPPID)

    def syscall(self, nr: int, *args: int) -> int:
        """Enter the kernel with a number and up to six arguments: the result, or a negative errno."""
        return self._kernel.syscall(nr, *args)

    def _call(self, nr: int, *args: int) -> int:
        # what no register can hold is passed as the largest number: it is refused for the same reason
        result = self._kernel.syscall(nr, *[min(arg, REGISTER) for arg in args])
        if result < 0:
            self._fail(-result)
        return result

    def _direct(self, name: str, *args: Any) -> Any:
        try:
            return self._kernel.direct(name, *args)
        except OSError as error:
            self.errno = error.errno or 0
            raise

    def _fail(self, code: int) -> NoReturn:
        self.errno = code
        raise OSError(code, os.strerror(code))

    # what can be seen of it, at no cost

    def look(self) -> Look:
        """Return the memory to look at without a trace.  Raises: ProcessLookupError of a dead process."""
        return Look(self._kernel.look())

    def peek(self, va: int, n: int) -> bytes | None:
        """Return n bytes from `va` on, seen without a trace; None where not all of them may be read.

        >>> from heaplab.kernel import Kernel
        >>> process = Kernel(ram="1 MiB").init.fork()
        >>> page = process.mmap(4096)
        >>> process.peek(page, 4), process.peek(page + 4094, 4), process.frame_of(page)
        (b'\\x00\\x00\\x00\\x00', None, None)
        """
        return self.look().peek(va, n)

    def frame_of(self, va: int) -> int | None:
        """Return the frame that the page at `va` is mapped to; None where there is no entry.

        Frame 0 is an answer: the frame of zeros.  Raises: ProcessLookupError of a dead process.
        """
        return self._kernel.frame_of(va & REGISTER)

    @property
    def core(self) -> Core | None:
        """What a process left that a signal ended: its memory, and how it came about.

        None as long as it lives, when it ended otherwise, or when RLIMIT_CORE was 0 (see Kernel's `core`).
        """
        return self._kernel.core

    @property
    def fuel(self) -> int | None:
        """How many memory references this thread may still make; None: any number.

        It is the fuel of `context`.

        >>> from heaplab.kernel import Kernel
        >>> process = Kernel(ram="1 MiB").init.fork()
        >>> page, process.fuel = process.mmap(4096), 2
        >>> for at in range(page, page + 4096, 8):
        ...     process.store64(at, 1)
        Traceback (most recent call last):
        heaplab.errors.OutOfFuel: the budget of 2 memory references is spent: ...
        """
        return self.context.fuel

    @fuel.setter
    def fuel(self, references: int | None) -> None:
        self.context.fuel = references

    @property
    def secret(self) -> int:
        """The random bytes that the kernel gave the program (AT_RANDOM), 64 bits; 0 of the dead."""
        space = self.context.space
        return space.secret if space is not None else 0

    @property
    def errno(self) -> int:
        """The C library's errno of this process."""
        return int(self.context.raw.err)

    @errno.setter
    def errno(self, code: int) -> None:
        self.context.raw.err = code

    @property
    def pid(self) -> int:
        """The number of the process: its first thread's."""
        return self._kernel.pid

    @property
    def tid(self) -> int:
        """The number of this thread."""
        return self._kernel.tid

    @property
    def entry(self) -> int:
        """The address at which the program starts, once it has exec'ed."""
        return self._kernel.entry

    @property
    def stack(self) -> int:
        """Where this thread's stack pointer started; 0: where its parent's did."""
        return self._kernel.stack

    @property
    def name(self) -> str:
        """What ps and the tree show: at most 15 bytes, inherited by children (/proc/PID/comm)."""
        return self._kernel.comm

    @name.setter
    def name(self, name: str) -> None:
        self._kernel.comm = name.encode()[:15].decode(errors="ignore")

    @property
    def oom_score_adj(self) -> int:
        """What is added for the OOM killer to the process's size, in thousandths of memory; -1000: never.

        It is /proc/PID/oom_score_adj, set from outside as root does; children inherit it.
        Raises on setting: OSError EINVAL, but for -1000 to 1000.
        """
        return self._kernel.oom_score_adj

    @oom_score_adj.setter
    def oom_score_adj(self, value: int) -> None:
        self._kernel.oom_score_adj = value

    @property
    def ppid(self) -> int:
        """The parent's number."""
        return self._kernel.ppid

    @property
    def state(self) -> str:
        """R running, S asleep, D asleep in vfork, T stopped, Z zombie, X collected."""
        return self._kernel.state

    @property
    def minflt(self) -> int:
        """Page faults of this thread that the kernel mended, as getrusage counts them."""
        return self._kernel.minflt

    @property
    def majflt(self) -> int:
        """Page faults for which a page was read from disk."""
        return self._kernel.majflt

    @property
    def syscalls(self) -> Counter[str]:
        """System calls so far, by name: how many there were until now."""
        return self._kernel.syscalls

    def maps(self) -> str:
        """Return /proc/PID/maps."""
        return self._kernel.maps()

    def status(self) -> str:
        """Return /proc/PID/status."""
        return self._kernel.status()
