"""The steps of a sequence: one system call, load or store of one process, each a line that can be read back.

    [2] mmap(addr=0x0, length=0x3000, prot=READ|WRITE, flags=PRIVATE|ANONYMOUS, fd=-1, offset=0x0)
    [2] store(addr=0x7ffff7ffc000, value=0x1, size=8, fatal=0)

A new system call is a new class here: its fields, in the order of the call's registers.
"""

import itertools
import os
import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field, fields, replace
from typing import Any, ClassVar, Final

from heaplab import abi
from heaplab._core import lib
from heaplab.abi import Sys
from heaplab.errors import UsageError
from heaplab.machine import REGISTER
from heaplab.testing.conform.codec import (
    ACTION,
    ADVICE,
    CATCHER,
    CLONE,
    HANDLER,
    HEX,
    HOW,
    ID,
    LENGTH,
    LIMIT,
    MAP,
    MREMAP,
    NUMBER,
    OPEN,
    PAGE,
    PROT,
    RESOURCE,
    RUSAGE,
    SIGNAL,
    SIGSET,
    SIZE,
    SYNC,
    VALUE,
    WAIT,
    WHOM,
    Codec,
)

_RESTORER: Final = int(lib.AGENT_RESTORER)
_CATCHING: Final = abi.SA_SIGINFO | abi.SA_ONSTACK | abi.SA_RESTORER


def arg(codec: Codec, **default: int) -> Any:
    """Return a dataclass field that is written by `codec`."""
    return field(metadata={"codec": codec}, **default)  # type: ignore[call-overload]


@dataclass(frozen=True)
class Step:
    """What process `pid` does."""

    pid: int

    def __str__(self) -> str:
        parts = (f"{name}={codec.show(getattr(self, name))}" for name, codec in _arguments(type(self)))
        return f"[{self.pid}] {type(self).__name__.lower()}({', '.join(parts)})"

    def simpler(self) -> "Iterator[Step]":
        """Yield this step with one argument made simpler."""
        for name, codec in _arguments(type(self)):
            for value in codec.simpler(getattr(self, name)):
                yield replace(self, **{name: value})


def _arguments(kind: type[Step]) -> Iterator[tuple[str, Codec]]:
    return ((each.name, each.metadata["codec"]) for each in fields(kind) if "codec" in each.metadata)


#: bytes of the files that are there from the start, by number: none, a few pages, more than a window
FILES: Final = (0, 3 * PAGE + 100, 40 * PAGE)

#: bytes that a call may read or write through pointers: hl_agent_slot's scratch
SCRATCH: Final = 512
#: what the scratch holds where nothing was written
UNWRITTEN: Final = b"\xaa"


@dataclass(frozen=True)
class Call(Step):
    """A system call that returns once, to its caller.

    registers   its arguments; `scratch` is the address of memory for what pointers point to
    given       what lies there before
    room        bytes that the call may write there
    told        what it wrote, in words, from its result and those bytes
    """

    nr: ClassVar[Sys]
    room: ClassVar[int] = 0

    def registers(self, scratch: int) -> tuple[int, ...]:
        """The arguments as the kernel gets them."""
        return tuple(getattr(self, name) for name, _ in _arguments(type(self)))

    def given(self) -> bytes:
        """Return what the call reads through pointers."""
        return b""

    def told(self, result: int, written: bytes) -> str:
        """Return what the call wrote through pointers; nothing for one that writes nothing."""
        return ""


# ---- memory


@dataclass(frozen=True)
class Mmap(Call):
    nr = Sys.MMAP
    addr: int = arg(HEX)
    length: int = arg(LENGTH)
    prot: int = arg(PROT)
    flags: int = arg(MAP)
    fd: int = arg(ID, default=-1)
    offset: int = arg(HEX, default=0)


@dataclass(frozen=True)
class Munmap(Call):
    nr = Sys.MUNMAP
    addr: int = arg(HEX)
    length: int = arg(LENGTH)


@dataclass(frozen=True)
class Mprotect(Call):
    nr = Sys.MPROTECT
    addr: int = arg(HEX)
    length: int = arg(LENGTH)
    prot: int = arg(PROT)


@dataclass(frozen=True)
class Brk(Call):
    nr = Sys.BRK
    addr: int = arg(HEX)


@dataclass(frozen=True)
class Mremap(Call):
    nr = Sys.MREMAP
    addr: int = arg(HEX)
    length: int = arg(LENGTH)
    new_length: int = arg(LENGTH)
    flags: int = arg(MREMAP)
    new_addr: int = arg(HEX, default=0)


@dataclass(frozen=True)
class Madvise(Call):
    nr = Sys.MADVISE
    addr: int = arg(HEX)
    length: int = arg(LENGTH)
    advice: int = arg(ADVICE)


@dataclass(frozen=True)
class Mlock(Call):
    nr = Sys.MLOCK
    addr: int = arg(HEX)
    length: int = arg(LENGTH)


@dataclass(frozen=True)
class Munlock(Call):
    nr = Sys.MUNLOCK
    addr: int = arg(HEX)
    length: int = arg(LENGTH)


@dataclass(frozen=True)
class Msync(Call):
    nr = Sys.MSYNC
    addr: int = arg(HEX)
    length: int = arg(LENGTH)
    flags: int = arg(SYNC)


@dataclass(frozen=True)
class Mincore(Call):
    nr = Sys.MINCORE
    room = SCRATCH
    addr: int = arg(HEX)
    length: int = arg(LENGTH)

    def registers(self, scratch: int) -> tuple[int, ...]:
        return self.addr, min(self.length, SCRATCH * PAGE), scratch

    def told(self, result: int, written: bytes) -> str:
        return written.partition(UNWRITTEN)[0].hex()


@dataclass(frozen=True)
class Setrlimit(Call):
    nr = Sys.SETRLIMIT
    resource: int = arg(RESOURCE)
    soft: int = arg(LIMIT)
    hard: int = arg(LIMIT)

    def registers(self, scratch: int) -> tuple[int, ...]:
        return self.resource, scratch

    def given(self) -> bytes:
        return struct.pack("<QQ", self.soft & REGISTER, self.hard & REGISTER)


@dataclass(frozen=True)
class Getrlimit(Call):
    nr = Sys.GETRLIMIT
    room = 16
    resource: int = arg(RESOURCE)

    def registers(self, scratch: int) -> tuple[int, ...]:
        return self.resource, scratch

    def told(self, result: int, written: bytes) -> str:
        return ", ".join(map(LIMIT.show, struct.unpack("<QQ", written))) if result == 0 else ""


# ---- files


@dataclass(frozen=True)
class Memfd(Call):
    nr = Sys.MEMFD_CREATE
    flags: int = arg(HEX, default=0)

    def registers(self, scratch: int) -> tuple[int, ...]:
        return scratch, self.flags

    def given(self) -> bytes:
        return b"file\0"


@dataclass(frozen=True)
class Open(Call):
    """open of the file "f" and a number; FILES says which are there from the start."""

    nr = Sys.OPEN
    file: int = arg(NUMBER)
    flags: int = arg(OPEN)

    def registers(self, scratch: int) -> tuple[int, ...]:
        return scratch, self.flags, 0o600

    def given(self) -> bytes:
        return f"f{self.file}".encode() + b"\0"


@dataclass(frozen=True)
class Pipe(Call):
    """pipe2, with O_NONBLOCK whatever the flags: nobody could wake who sleeps, for steps come one at a time.

    The descriptors go to `buf`, and if that is 0 to the driver: the one to read from, the one to write to.
    """

    nr = Sys.PIPE2
    room = 8
    flags: int = arg(OPEN, default=0)
    buf: int = arg(HEX, default=0)

    def registers(self, scratch: int) -> tuple[int, ...]:
        return self.buf or scratch, self.flags | os.O_NONBLOCK

    def told(self, result: int, written: bytes) -> str:
        return ", ".join(map(str, struct.unpack("<ii", written))) if result == 0 and not self.buf else ""


@dataclass(frozen=True)
class Ftruncate(Call):
    nr = Sys.FTRUNCATE
    fd: int = arg(ID)
    size: int = arg(VALUE)


@dataclass(frozen=True)
class Close(Call):
    nr = Sys.CLOSE
    fd: int = arg(ID)


@dataclass(frozen=True)
class Dup(Call):
    nr = Sys.DUP
    fd: int = arg(ID)


@dataclass(frozen=True)
class Fsync(Call):
    nr = Sys.FSYNC
    fd: int = arg(ID)


@dataclass(frozen=True)
class Lseek(Call):
    nr = Sys.LSEEK
    fd: int = arg(ID)
    offset: int = arg(VALUE)
    whence: int = arg(NUMBER)


@dataclass(frozen=True)
class Read(Call):
    """A read; the data go to `buf`, and if that is 0 to the driver, at most SCRATCH bytes then."""

    nr = Sys.READ
    room = SCRATCH
    fd: int = arg(ID)
    count: int = arg(VALUE)
    buf: int = arg(HEX, default=0)

    def registers(self, scratch: int) -> tuple[int, ...]:
        return self.fd, self.buf or scratch, self.count if self.buf else min(self.count, SCRATCH)

    def told(self, result: int, written: bytes) -> str:
        return _run_lengths(written[: max(result, 0)]) if not self.buf else ""


@dataclass(frozen=True)
class Pread(Read):
    nr = Sys.PREAD64
    offset: int = arg(VALUE, default=0)

    def registers(self, scratch: int) -> tuple[int, ...]:
        return (*super().registers(scratch), self.offset)


@dataclass(frozen=True)
class Write(Call):
    """A write of what is at `buf`, and if that is 0 of `count` times the byte `value`."""

    nr = Sys.WRITE
    fd: int = arg(ID)
    count: int = arg(VALUE)
    value: int = arg(VALUE, default=1)
    buf: int = arg(HEX, default=0)

    def registers(self, scratch: int) -> tuple[int, ...]:
        return self.fd, self.buf or scratch, self.count if self.buf else min(self.count, SCRATCH)

    def given(self) -> bytes:
        return b"" if self.buf else bytes([self.value & 0xFF]) * min(self.count, SCRATCH)


@dataclass(frozen=True)
class Pwrite(Write):
    nr = Sys.PWRITE64
    offset: int = arg(VALUE, default=0)

    def registers(self, scratch: int) -> tuple[int, ...]:
        return (*super().registers(scratch), self.offset)


def _run_lengths(data: bytes) -> str:
    """Return bytes as 3*00 2*7f: how often each in a row."""
    return " ".join(f"{len(list(run))}*{byte:02x}" for byte, run in itertools.groupby(data))


# ---- processes


@dataclass(frozen=True)
class Getpid(Call):
    nr = Sys.GETPID


@dataclass(frozen=True)
class Getppid(Call):
    nr = Sys.GETPPID


@dataclass(frozen=True)
class Gettid(Call):
    nr = Sys.GETTID


@dataclass(frozen=True)
class Kill(Call):
    nr = Sys.KILL
    target: int = arg(ID)
    sig: int = arg(SIGNAL)


@dataclass(frozen=True)
class Tgkill(Call):
    nr = Sys.TGKILL
    tgid: int = arg(ID)
    target: int = arg(ID)
    sig: int = arg(SIGNAL)


@dataclass(frozen=True)
class Sigaction(Call):
    """rt_sigaction: a signal gets its default action, is ignored, or caught by a handler; `mask` as below."""

    nr = Sys.RT_SIGACTION
    room = 64
    sig: int = arg(SIGNAL)
    handler: int = arg(HANDLER)
    flags: int = arg(ACTION, default=0)
    mask: int = arg(SIGSET, default=0)

    def registers(self, scratch: int) -> tuple[int, ...]:
        return self.sig, scratch, scratch + 32, 8

    def given(self) -> bytes:
        catches = self.handler == CATCHER
        flags, restorer = (self.flags | _CATCHING, _RESTORER) if catches else (self.flags, 0)
        return struct.pack("<QQQQ", self.handler & REGISTER, flags & REGISTER, restorer, self.mask & REGISTER)

    def told(self, result: int, written: bytes) -> str:
        if result:
            return ""
        handler, flags, restorer, mask = struct.unpack_from("<QQQQ", written, 32)
        return f"was {HANDLER.show(handler)}, {ACTION.show(flags)}, {restorer:#x}, {SIGSET.show(mask)}"


@dataclass(frozen=True)
class Sigprocmask(Call):
    """rt_sigprocmask; `mask` has bit n - 1 for signal n."""

    nr = Sys.RT_SIGPROCMASK
    room = 16
    how: int = arg(HOW)
    mask: int = arg(SIGSET)

    def registers(self, scratch: int) -> tuple[int, ...]:
        return self.how, scratch, scratch + 8, 8

    def given(self) -> bytes:
        return struct.pack("<Q", self.mask & REGISTER)

    def told(self, result: int, written: bytes) -> str:
        return f"was {struct.unpack_from('<Q', written, 8)[0]:#x}" if result == 0 else ""


@dataclass(frozen=True)
class Sigpending(Call):
    nr = Sys.RT_SIGPENDING
    room = 8

    def registers(self, scratch: int) -> tuple[int, ...]:
        return scratch, 8

    def told(self, result: int, written: bytes) -> str:
        return SIGSET.show(int.from_bytes(written, "little")) if result == 0 else ""


@dataclass(frozen=True)
class Setpgid(Call):
    nr = Sys.SETPGID
    target: int = arg(ID)
    pgid: int = arg(ID)


@dataclass(frozen=True)
class Getpgid(Call):
    nr = Sys.GETPGID
    target: int = arg(ID)


@dataclass(frozen=True)
class Setsid(Call):
    nr = Sys.SETSID


@dataclass(frozen=True)
class Getsid(Call):
    nr = Sys.GETSID
    target: int = arg(ID)


@dataclass(frozen=True)
class Subreaper(Call):
    """prctl(PR_SET_CHILD_SUBREAPER)."""

    nr = Sys.PRCTL
    on: int = arg(NUMBER)

    def registers(self, scratch: int) -> tuple[int, ...]:
        return abi.PR_SET_CHILD_SUBREAPER, self.on


#: struct rusage: bytes of it, and where the minor and the major faults are
_RUSAGE, _RU_MINFLT = 144, 64


def _faults(rusage: bytes) -> str:
    minor, major = struct.unpack_from("<qq", rusage, _RU_MINFLT)
    return f"ru_minflt {minor}, ru_majflt {major}"


@dataclass(frozen=True)
class Getrusage(Call):
    nr = Sys.GETRUSAGE
    room = _RUSAGE
    who: int = arg(RUSAGE)

    def registers(self, scratch: int) -> tuple[int, ...]:
        return self.who, scratch

    def told(self, result: int, written: bytes) -> str:
        return _faults(written) if result == 0 else ""


@dataclass(frozen=True)
class Wait4(Call):
    """wait4; the status goes to `status_addr` in the process's memory, and if that is 0 to the driver.

    What the child used goes to the driver.
    """

    nr = Sys.WAIT4
    room = 8 + _RUSAGE
    target: int = arg(ID)
    options: int = arg(WAIT)
    status_addr: int = arg(HEX, default=0)

    def registers(self, scratch: int) -> tuple[int, ...]:
        return self.target, self.status_addr or scratch, self.options, scratch + 8

    def told(self, result: int, written: bytes) -> str:
        if result <= 0:
            return ""
        status = f"status {int.from_bytes(written[:4], 'little'):#x}, " if not self.status_addr else ""
        return status + _faults(written[8:])


@dataclass(frozen=True)
class Waitid(Call):
    nr = Sys.WAITID
    room = 32
    whom: int = arg(WHOM)
    target: int = arg(ID)
    options: int = arg(WAIT)

    def registers(self, scratch: int) -> tuple[int, ...]:
        return self.whom, self.target, scratch, self.options, 0

    def told(self, result: int, written: bytes) -> str:
        signo, code, pid, status = struct.unpack("<i4xi4xi4xi4x", written)
        return f"si_signo {signo}, si_code {code}, si_pid {pid}, si_status {status}" if result == 0 else ""


#: calls that wait for children; one that would sleep is made with WNOHANG instead, for nobody could wake it
Wait = Wait4 | Waitid


@dataclass(frozen=True)
class Birth(Step):
    """A call that makes a task, which from then on takes steps too.

    shares  CLONE_*: what the two have in common
    """

    nr: ClassVar[Sys]

    @property
    def shares(self) -> int:
        return 0

    def registers(self) -> tuple[int, ...]:
        """The arguments as the kernel gets them."""
        return ()


@dataclass(frozen=True)
class Fork(Birth):
    nr = Sys.FORK


@dataclass(frozen=True)
class Vfork(Birth):
    """vfork: the parent sleeps until the child execs or exits."""

    nr = Sys.VFORK

    @property
    def shares(self) -> int:
        return abi.CLONE_VM | abi.CLONE_VFORK


@dataclass(frozen=True)
class Clone(Birth):
    """clone; the lowest byte of the flags is the signal that the parent gets at the end."""

    nr = Sys.CLONE
    flags: int = arg(CLONE)
    parent_tid: int = arg(HEX, default=0)
    child_tid: int = arg(HEX, default=0)

    @property
    def shares(self) -> int:
        return self.flags

    def registers(self) -> tuple[int, ...]:
        return self.flags, 0, self.parent_tid, self.child_tid


@dataclass(frozen=True)
class Exec(Step):
    """execve of image number `image` (heaplab.testing.conform.images), with `argc` arguments."""

    image: int = arg(NUMBER)
    argc: int = arg(NUMBER, default=1)


@dataclass(frozen=True)
class Exit(Step):
    """exit_group: the process takes no more steps."""

    code: int = arg(NUMBER)


@dataclass(frozen=True)
class Leave(Step):
    """exit: this task takes no more steps; the process ends with its last."""

    code: int = arg(NUMBER)


@dataclass(frozen=True)
class Access(Step):
    """An access to memory of 1, 2, 4 or 8 bytes.

    When it faults, `fatal` 0: a handler reports the signal and the process goes on behind the access;
    1: the signal ends the process.
    """

    addr: int = arg(HEX)
    size: int = arg(SIZE, default=8)
    fatal: int = arg(NUMBER, default=0)


@dataclass(frozen=True)
class Load(Access):
    pass


@dataclass(frozen=True)
class Store(Access):
    value: int = arg(VALUE, default=1)


def _kinds(base: type[Step]) -> Iterator[type[Step]]:
    for kind in base.__subclasses__():
        yield kind
        yield from _kinds(kind)


#: every step that can be written down, by its name
KINDS: Final[dict[str, type[Step]]] = {
    kind.__name__.lower(): kind for kind in _kinds(Step) if kind not in (Call, Birth, Access)
}
_LINE: Final = re.compile(r"\[(\d+)\] (\w+)\((.*)\)")


def parse(line: str) -> Step:
    """Read a step from its line.

    Raises: UsageError for what is none.

    >>> print(parse("[2] munmap(addr=0x7ffff7ffe000, length=0x1000)"))
    [2] munmap(addr=0x7ffff7ffe000, length=0x1000)
    """
    match = _LINE.fullmatch(line.strip())
    try:
        if match is None:
            raise ValueError
        kind = KINDS[match[2]]
        texts = dict(part.split("=", 1) for part in match[3].split(", ")) if match[3] else {}
        codecs = dict(_arguments(kind))
        return kind(int(match[1]), **{name: codecs[name].read(text) for name, text in texts.items()})
    except (ValueError, KeyError, TypeError):
        raise UsageError(
            f"{line.strip()!r} is no step: write it as `heaplab conform` prints them, like "
            "'[2] munmap(addr=0x7ffff7ffe000, length=0x1000)'"
        ) from None


def parse_all(text: str) -> list[Step]:
    """Read a sequence, a step a line; empty lines and what follows a # are left out.

    Raises: UsageError, with the line's number, for what is no step.
    """
    steps = []
    for number, line in enumerate(text.splitlines(), start=1):
        step = line.partition("#")[0].strip()
        if step:
            try:
                steps.append(parse(step))
            except UsageError as error:
                raise UsageError(f"line {number}: {error}") from None
    return steps
