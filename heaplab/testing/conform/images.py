"""Programs for agents to exec: ELF files of many shapes, scripts, and files that are no programs.

Each begins with the agent's trampoline, so that whatever was exec'ed takes steps again.  The model execs the
same files.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Final

from heaplab.abi import PROT_EXEC, PROT_READ, PROT_WRITE
from heaplab.kernel.elf import Part, assemble_elf, make_elf, room
from heaplab.testing.conform.agents import trampoline
from heaplab.testing.conform.codec import PAGE

_BASE: Final = 0x500000  # clear of the agent's own memory
_R, _RX, _RW = PROT_READ, PROT_READ | PROT_EXEC, PROT_READ | PROT_WRITE
_EM_386: Final = 3


@dataclass(frozen=True)
class Image:
    """A file to be exec'ed; `data` None: there is none of that name."""

    path: str
    data: bytes | None

    def arguments(self, count: int) -> list[bytes]:
        """Return so many arguments, of different lengths, but not more than eight."""
        return [(self.path.encode() * 3)[: 3 + 5 * number] for number in range(min(count, 8))]


def _plain(data: bytes = b"", bss: int = 0) -> bytes:
    return make_elf(trampoline(), data, bss, base=_BASE)


def _linked(parts: list[Part], *, interpreter: str | None = None, pie: bool = False, **more: int) -> bytes:
    """Put text with the trampoline, at whose start execution begins, before some segments."""
    base, at = 0 if pie else _BASE, room(len(parts) + 1 + (interpreter is not None))
    text = bytes(at) + trampoline()
    first = Part(base, 0, text, len(text), _RX)
    placed = [part._replace(vaddr=base + part.vaddr) for part in parts]
    return assemble_elf(
        [first, *placed], base + at, position_independent=pie, interpreter=interpreter, **more
    )


def _files() -> Iterator[tuple[str, bytes | None]]:
    values = bytes(range(1, 101))
    # .data ends within a page or at its end; .bss within that page, or beyond, or is alone
    yield "plain", _plain()
    yield "data", _plain(values)
    yield "bss", _plain(values, 3 * PAGE)
    yield "bss-in-page", _plain(values, 50)
    yield "bss-to-page-end", _plain(values, PAGE - len(values))
    yield "bss-only", _plain(b"", 5000)
    yield "whole-page", _plain(bytes(range(256)) * 16, PAGE)
    yield "large", _plain(values * 205, 40 * PAGE)
    # as linkers lay them out: constants, code, constants, variables
    constants = Part(PAGE, PAGE, values, len(values), _R)
    variables = Part(2 * PAGE + 0x100, 2 * PAGE + 0x100, values, len(values) + 2 * PAGE, _RW)
    yield "four-segments", _linked([constants, variables, Part(16 * PAGE, 3 * PAGE, values, 9000, _RX)])
    yield "writable-text", _linked([Part(PAGE, PAGE, values, 3 * PAGE, _RX | PROT_WRITE)])
    yield "read-only-bss", _linked([Part(PAGE, PAGE, values, 3 * PAGE, _R)])
    with_bss = Part(PAGE, PAGE, values, 3 * PAGE, _RW)
    yield "bss-below-data", _linked([with_bss, Part(9 * PAGE, 2 * PAGE, values, len(values), _RW)])
    yield "unbacked", _linked([with_bss, Part(20 * PAGE, 0, b"", 3 * PAGE, _R)])
    # placed by the kernel, loaded by a linker
    yield "pie", _linked([constants, variables], pie=True)
    yield "linker", _linked([variables._replace(memsz=300)], pie=True)
    yield "dynamic", _linked([constants, variables], interpreter="bin/linker", pie=True)
    yield "fixed-dynamic", _linked([variables], interpreter="bin/linker")
    yield "fixed-linker", _linked([constants], interpreter="bin/plain", pie=True)
    yield "no-linker", _linked([constants], interpreter="bin/absent", pie=True)
    yield "empty-linker", _linked([constants], interpreter="bin/empty", pie=True)
    yield "linker-is-script", _linked([constants], interpreter="bin/script", pie=True)
    yield "linker-is-long-text", _linked([constants], interpreter="bin/text", pie=True)
    # scripts
    yield "script", b"#!bin/data\n"
    yield "script-with-option", b"#! bin/bss \t -x y \nignored\n"
    yield "script-of-script", b"#!bin/script-with-option\tz\n"
    yield "script-without-end", b"#!bin/pie"
    yield "script-of-itself", b"#!bin/script-of-itself\n"
    yield "script-of-nothing", b"#!\n"
    yield "script-of-absent", b"#!bin/absent\n"
    # no programs
    yield "absent", None
    yield "empty", b""
    yield "text", b"to be or not to be, " * 10
    yield "other-machine", _linked([constants], machine=_EM_386)


@cache
def _images() -> tuple[Image, ...]:
    return tuple(Image(f"bin/{name}", data) for name, data in _files())


def images() -> tuple[Image, ...]:
    """Return all images; steps name them by their place."""
    return _images()


#: the auxiliary vector's entries that tell of the computer, or of the agent's user
_NOT_COMPARED: Final = {11, 12, 13, 14, 16, 26, 33, 51}
_AT_RANDOM: Final = 25


def what_lies_on(stack: bytes, start: int) -> str:
    """Say what a program finds on its stack: argc, pointers, auxiliary vector, strings.

    stack: what lies from the stack pointer, `start`, to the stack's top.
    """
    words = struct.unpack(f"<{len(stack) // 8}Q", stack[: len(stack) // 8 * 8])
    argc = words[0]
    end = words.index(0, argc + 2)  # of envp
    pairs = list(zip(words[end + 1 :: 2], words[end + 2 :: 2], strict=False))
    vector = dict(pairs[: next(index for index, (key, _) in enumerate(pairs) if key == 0)])
    known = " ".join(f"{key}={value:#x}" for key, value in vector.items() if key not in _NOT_COMPARED)
    pointers = " ".join(f"{word:#x}" for word in words[1:end])
    strings = stack[vector[_AT_RANDOM] + 16 - start :]
    return f"argc {argc}, pointers {pointers}, auxv {known}, strings {strings!r}"
