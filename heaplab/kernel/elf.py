"""ELF files: what of one the kernel reads, and how to make a small one in Python.

Source: elf(5); System V ABI, AMD64 supplement; read with pyelftools.
"""

import functools
import io
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from elftools.common.exceptions import ELFError
from elftools.elf.elffile import ELFFile

from heaplab.abi import PROT_EXEC, PROT_READ, PROT_WRITE
from heaplab.errors import UsageError

_PF_X, _PF_W, _PF_R = 1, 2, 4
EHDR_SIZE: Final = 64  # bytes: a file's header
_PHDR: Final = 56  # and one of a segment
_EM_X86_64, _ET_EXEC, _ET_DYN, _PT_LOAD, _PT_INTERP = 62, 2, 3, 1, 3
_PROT_OF: Final = {_PF_R: PROT_READ, _PF_W: PROT_WRITE, _PF_X: PROT_EXEC}


@dataclass(frozen=True)
class Segment:
    """A PT_LOAD segment, in bytes: `filesz` from `offset` of the file, the rest up to `memsz` zeros."""

    vaddr: int
    offset: int
    filesz: int
    memsz: int
    prot: int


@dataclass(frozen=True)
class Elf:
    """What exec needs to know of an executable.

    position_independent   it runs wherever it is put
    interpreter            the program that loads it (PT_INTERP), for one that is linked dynamically
    phdr                   address of its segments' headers, before it is put anywhere
    """

    position_independent: bool
    entry: int
    interpreter: str | None
    phdr: int
    phnum: int
    segments: tuple[Segment, ...]
    align: int

    @staticmethod
    @functools.lru_cache(maxsize=16)  # pyelftools takes three quarters of an exec; programs are run often
    def parse(data: bytes) -> "Elf | None":
        """Return what the file says; None when it is no executable for x86-64."""
        try:
            elf = ELFFile(io.BytesIO(data))
            header = elf.header
            if (
                elf.elfclass != 64
                or header["e_machine"] != "EM_X86_64"
                or header["e_type"] not in ("ET_EXEC", "ET_DYN")
            ):
                return None
            interpreter, phdr, segments, align = None, None, [], 1
            for each in elf.iter_segments():
                if each["p_type"] == "PT_INTERP":
                    at, size = each["p_offset"], each["p_filesz"]
                    interpreter = data[at : at + size].rstrip(b"\0").decode()
                elif each["p_type"] == "PT_LOAD":
                    prot = sum(bit for flag, bit in _PROT_OF.items() if each["p_flags"] & flag)
                    found = Segment(
                        each["p_vaddr"], each["p_offset"], each["p_filesz"], each["p_memsz"], prot
                    )
                    segments.append(found)
                    align = max(align, each["p_align"])
                    if found.offset <= header["e_phoff"] < found.offset + found.filesz:
                        phdr = header["e_phoff"] - found.offset + found.vaddr
        except (ELFError, struct.error, KeyError, ValueError):
            return None
        if not segments or any(each.filesz > each.memsz for each in segments):
            return None
        return Elf(
            header["e_type"] == "ET_DYN",
            header["e_entry"],
            interpreter,
            phdr or 0,
            header["e_phnum"],
            tuple(segments),
            align,
        )

    @property
    def low(self) -> int:
        """The lowest address of it."""
        return self.segments[0].vaddr

    @property
    def high(self) -> int:
        """The end of its highest segment."""
        return max(each.vaddr + each.memsz for each in self.segments)


TEXT_BASE: Final = 0x400000  # where linkers put programs that are not position-independent


class Part(NamedTuple):
    """A segment of a file to be made: `data` at `offset`, which is `vaddr` modulo the page size."""

    vaddr: int
    offset: int
    data: bytes
    memsz: int
    prot: int


def assemble_elf(
    parts: Sequence[Part],
    entry: int,
    *,
    position_independent: bool = False,
    interpreter: str | None = None,
    machine: int = _EM_X86_64,
    page_size: int = 4096,
) -> bytes:
    """Return an executable of these segments, in ascending order of their offsets.

    One that begins at offset 0 has the file's headers at its start, whatever its data say: room(n) bytes.
    interpreter: the program that is to load it (PT_INTERP).
    Raises: UsageError for addresses and sizes that no file can name.
    """
    named = [entry, *(number for part in parts for number in (part.vaddr, part.offset, part.memsz))]
    if not all(0 <= number < 1 << 64 for number in named):
        raise UsageError("an ELF file has addresses and sizes from 0 to 2**64 - 1: choose others")
    name = interpreter.encode() + b"\0" if interpreter is not None else b""
    count = len(parts) + bool(name)
    ident = b"\x7fELF\x02\x01\x01".ljust(16, b"\0")
    kind = _ET_DYN if position_independent else _ET_EXEC
    numbers = (kind, machine, 1, entry, EHDR_SIZE, 0, 0, EHDR_SIZE, _PHDR, count, 0, 0, 0)
    headers = ident + struct.pack("<HHIQQQIHHHHHH", *numbers)
    body = bytearray()
    for part in parts:
        flags = sum(flag for flag, bit in _PROT_OF.items() if part.prot & bit)
        sizes = (part.offset, part.vaddr, part.vaddr, len(part.data), part.memsz, page_size)
        headers += struct.pack("<IIQQQQQQ", _PT_LOAD, flags, *sizes)
        body = body.ljust(part.offset, b"\0")
        body[part.offset : part.offset + len(part.data)] = part.data
    if name:
        body = body.ljust(room(count), b"\0")
        headers += struct.pack("<IIQQQQQQ", _PT_INTERP, _PF_R, len(body), 0, 0, len(name), len(name), 1)
        body += name
    body[: len(headers)] = headers
    return bytes(body)


def room(parts: int) -> int:
    """Return the bytes of the headers of a file with so many segments, PT_INTERP included."""
    return EHDR_SIZE + parts * _PHDR


def make_elf(
    text: bytes = b"\x90",
    data: bytes = b"",
    bss: int = 0,
    *,
    page_size: int = 4096,
    base: int = TEXT_BASE,
    entry: int = 0,
) -> bytes:
    """Return a static executable: code, data with values, and `bss` bytes of which only the number is stored.

    entry: where it starts, an offset in `text`.  base: where it is put, a multiple of the page size.

    >>> len(make_elf(bss=1_000_000)) - len(make_elf(bss=1))
    0
    """
    text_at = room(2)
    data_at = -(-(text_at + len(text)) // page_size) * page_size
    whole_text = bytes(text_at) + text
    parts = [Part(base, 0, whole_text, len(whole_text), PROT_READ | PROT_EXEC)]
    if data or bss:
        parts.append(Part(base + data_at, data_at, data, len(data) + bss, PROT_READ | PROT_WRITE))
    return assemble_elf(parts, base + text_at + entry, page_size=page_size)
