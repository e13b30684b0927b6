"""The steps of a sequence: one system call, load or store of one process, each a line that can be read back.

    [2] mmap(addr=0x0, length=0x3000, prot=READ|WRITE, flags=PRIVATE|ANONYMOUS, fd=-1, offset=0x0)
    [2] store(addr=0x7ffff7ffc000, value=0x1, size=8, fatal=0)

A new system call is a new class here: its fields, in the order of the call's registers.
"""

import re
import signal
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, fields, replace
from typing import Any, ClassVar, Final, NamedTuple

from heaplab import abi
from heaplab.abi import Sys
from heaplab.errors import UsageError

PAGE: Final = 4096  # of the real machine, and so of the model beside it


class Codec(NamedTuple):
    """How an argument is written, read back, and made simpler by the shrinker."""

    show: Callable[[int], str]
    read: Callable[[str], int]
    simpler: Callable[[int], Iterable[int]] = lambda value: ()


def _smaller(value: int) -> Iterator[int]:
    """0, and what is half as large."""
    if value:
        yield 0
    if value > 1:
        yield value // 2


def _shorter(length: int) -> Iterator[int]:
    """One page, half as many pages, whole pages."""
    for pages in (1, (length // PAGE) // 2, length // PAGE):
        if 0 < pages * PAGE < length:
            yield pages * PAGE


def _flags(prefix: str) -> Codec:
    """Flags by the names that heaplab.abi has for single bits, without their prefix."""
    names = {
        value: name.removeprefix(prefix)
        for name, value in vars(abi).items()
        if name.startswith(prefix) and value.bit_count() == 1
    }
    values = {name: value for value, name in names.items()}

    def show(flags: int) -> str:
        flags &= (1 << 64) - 1
        bits = [1 << i for i in range(flags.bit_length()) if flags >> i & 1]
        return "|".join(names.get(bit, hex(bit)) for bit in bits) or "0"

    def read(text: str) -> int:
        return sum(values[name] if name in values else int(name, 0) for name in text.split("|"))

    def simpler(flags: int) -> Iterator[int]:
        for i in range(flags.bit_length()):
            if flags >> i & 1:
                yield flags & ~(1 << i)

    return Codec(show, read, simpler)


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return str(number)


def _signal_number(text: str) -> int:
    return signal.Signals[text].value if text.startswith("SIG") else int(text)


HEX: Final = Codec(hex, lambda text: int(text, 16))
VALUE: Final = Codec(hex, lambda text: int(text, 16), _smaller)
LENGTH: Final = Codec(hex, lambda text: int(text, 16), _shorter)
NUMBER: Final = Codec(str, int, _smaller)
ID: Final = Codec(str, int)
SIGNAL: Final = Codec(_signal_name, _signal_number)
PROT: Final = _flags("PROT_")
MAP: Final = _flags("MAP_")
WAIT: Final = _flags("W")


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


@dataclass(frozen=True)
class Call(Step):
    """A system call that returns once, to its caller: `registers` are its arguments."""

    nr: ClassVar[Sys]

    def registers(self) -> tuple[int, ...]:
        """The arguments as the kernel gets them."""
        return tuple(getattr(self, name) for name, _ in _arguments(type(self)))


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
class Getpid(Call):
    nr = Sys.GETPID


@dataclass(frozen=True)
class Getppid(Call):
    nr = Sys.GETPPID


@dataclass(frozen=True)
class Kill(Call):
    nr = Sys.KILL
    target: int = arg(ID)
    sig: int = arg(SIGNAL)


@dataclass(frozen=True)
class Wait4(Step):
    """wait4; the status goes to `status_addr` in the process's memory, and if that is 0 to the driver."""

    target: int = arg(ID)
    options: int = arg(WAIT)
    status_addr: int = arg(HEX, default=0)


@dataclass(frozen=True)
class Fork(Step):
    """fork: from then on the child takes steps too."""


@dataclass(frozen=True)
class Exit(Step):
    """exit_group: the process takes no more steps."""

    code: int = arg(NUMBER)


@dataclass(frozen=True)
class Access(Step):
    """An access to memory of 1, 2, 4 or 8 bytes.

    When it faults, `fatal` 0: a handler reports the signal and the process goes on behind the access;
    1: the signal ends the process.
    """

    addr: int = arg(HEX)
    size: int = arg(ID, default=8)
    fatal: int = arg(NUMBER, default=0)


@dataclass(frozen=True)
class Load(Access):
    pass


@dataclass(frozen=True)
class Store(Access):
    value: int = arg(VALUE, default=1)


#: every step that can be written down, by its name
KINDS: Final[dict[str, type[Step]]] = {
    kind.__name__.lower(): kind
    for kind in (Mmap, Munmap, Mprotect, Brk, Getpid, Getppid, Kill, Wait4, Fork, Exit, Load, Store)
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
    """Read a sequence, a step a line; empty lines and what follows a # are left out."""
    lines = (line.partition("#")[0].strip() for line in text.splitlines())
    return [parse(line) for line in lines if line]
