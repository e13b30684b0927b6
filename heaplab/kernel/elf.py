"""ELF files: what of one the kernel reads, and how to make a small one in Python.

Source: elf(5); System V ABI, AMD64 supplement; read with pyelftools.
"""

import io
import struct
from dataclasses import dataclass
from typing import Final

from elftools.common.exceptions import ELFError
from elftools.elf.elffile import ELFFile

from heaplab.abi import PROT_EXEC, PROT_READ, PROT_WRITE

_PF_X, _PF_W, _PF_R = 1, 2, 4
_EHDR, _PHDR = 64, 56  # bytes: a file's header, and one of a segment
_EM_X86_64, _ET_EXEC, _PT_LOAD = 62, 2, 1


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
                    prot = (
                        (PROT_READ if each["p_flags"] & _PF_R else 0)
                        | (PROT_WRITE if each["p_flags"] & _PF_W else 0)
                        | (PROT_EXEC if each["p_flags"] & _PF_X else 0)
                    )
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
    text_at = _EHDR + 2 * _PHDR
    data_at = -(-(text_at + len(text)) // page_size) * page_size
    parts = [(_PF_R | _PF_X, 0, text_at + len(text), text_at + len(text))]
    if data or bss:
        parts.append((_PF_R | _PF_W, data_at, len(data), len(data) + bss))
    ident = b"\x7fELF\x02\x01\x01".ljust(16, b"\0")
    header = ident + struct.pack(
        "<HHIQQQIHHHHHH",
        _ET_EXEC,
        _EM_X86_64,
        1,
        base + text_at + entry,
        _EHDR,
        0,
        0,
        _EHDR,
        _PHDR,
        len(parts),
        0,
        0,
        0,
    )
    for flags, offset, filesz, memsz in parts:
        header += struct.pack(
            "<IIQQQQQQ", _PT_LOAD, flags, offset, base + offset, base + offset, filesz, memsz, page_size
        )
    body = header.ljust(text_at, b"\0") + text
    return body.ljust(data_at, b"\0") + data if data or bss else body
