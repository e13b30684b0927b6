"""How the arguments of steps are written, read back, and made simpler: numbers, flags, signals, ..."""

import os
import signal
from collections.abc import Callable, Iterable, Iterator
from types import ModuleType
from typing import Final, NamedTuple

from heaplab import abi
from heaplab._core import lib

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


def _fewer_bits(flags: int) -> Iterator[int]:
    for i in range(flags.bit_length()):
        if flags >> i & 1:
            yield flags & ~(1 << i)


def _flags(prefix: str, where: ModuleType = abi) -> Codec:
    """Flags by the names that a module has for single bits, without their prefix."""
    values = {
        name.removeprefix(prefix): value
        for name, value in vars(where).items()
        if name.startswith(prefix) and value.bit_count() == 1
    }
    names = {value: name for name, value in reversed(values.items())}  # of several the first

    def show(flags: int) -> str:
        flags &= (1 << 64) - 1
        bits = [1 << i for i in range(flags.bit_length()) if flags >> i & 1]
        return "|".join(names.get(bit, hex(bit)) for bit in bits) or "0"

    def read(text: str) -> int:
        return sum(values[name] if name in values else int(name, 0) for name in text.split("|"))

    return Codec(show, read, _fewer_bits)


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return str(number)


def _signal_number(text: str) -> int:
    return signal.Signals[text].value if text.startswith("SIG") else int(text)


def _names(prefix: str, *names: str, **others: int) -> Codec:
    """One of several numbers that exclude each other, by its name; what has none, as a number."""
    values = {name: int(getattr(abi, prefix + name)) for name in names} | others
    shown = {value: name for name, value in values.items()}
    return Codec(lambda value: shown.get(value, str(value)), lambda text: _number(values, text))


def _number(values: dict[str, int], text: str) -> int:
    return values[text] if text in values else int(text, 0)


HEX: Final = Codec(hex, lambda text: int(text, 16))
VALUE: Final = Codec(hex, lambda text: int(text, 16), _smaller)
LENGTH: Final = Codec(hex, lambda text: int(text, 16), _shorter)
NUMBER: Final = Codec(str, int, _smaller)
ID: Final = Codec(str, int)
SIZE: Final = Codec(str, lambda text: {"1": 1, "2": 2, "4": 4, "8": 8}[text])
SIGNAL: Final = Codec(_signal_name, _signal_number)
PROT: Final = _flags("PROT_")
MAP: Final = _flags("MAP_")
WAIT: Final = _flags("W")
MREMAP: Final = _flags("MREMAP_")
CLONE: Final = _flags("CLONE_")
SYNC: Final = _flags("MS_")
OPEN: Final = _flags("O_", os)
ACTION: Final = _flags("SA_")
ADVICE: Final = _names(
    "MADV_",
    *["NORMAL", "RANDOM", "SEQUENTIAL", "WILLNEED", "DONTNEED", "FREE", "DONTFORK", "DOFORK"],
    *["DONTDUMP", "DODUMP", "WIPEONFORK", "KEEPONFORK", "POPULATE_READ", "POPULATE_WRITE"],
    "DONTNEED_LOCKED",
)
#: where every process has a handler that notes what it gets
CATCHER: Final = int(lib.AGENT_CATCHER)

HANDLER: Final = _names("SIG_", "DFL", "IGN", CATCH=CATCHER)
HOW: Final = _names("SIG_", "BLOCK", "UNBLOCK", "SETMASK")
LIMIT: Final = Codec(
    lambda value: "INFINITY" if value == abi.RLIM_INFINITY else hex(value),
    lambda text: abi.RLIM_INFINITY if text == "INFINITY" else int(text, 16),
)
RESOURCE: Final = Codec(
    lambda value: abi.Rlimit(value).name if value in list(abi.Rlimit) else str(value),
    lambda text: abi.Rlimit[text].value if text.isalpha() else int(text),
)
WHOM: Final = _names("P_", "ALL", "PID", "PGID")
RUSAGE: Final = _names("RUSAGE_", "SELF", "CHILDREN", "THREAD")
#: bit n - 1 for signal n; simpler without one of them
SIGSET: Final = Codec(hex, lambda text: int(text, 16), _fewer_bits)
