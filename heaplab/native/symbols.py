"""Names of functions, from the symbol tables of ELF files."""

from bisect import bisect_right
from functools import cache
from pathlib import Path

import numpy as np
from elftools.common.exceptions import ELFError
from elftools.elf.elffile import ELFFile

_SYMBOL = np.dtype(
    [("name", "<u4"), ("info", "u1"), ("other", "u1"), ("section", "<u2"), ("value", "<u8"), ("size", "<u8")]
)
_FUNCTIONS = (2, 10)  # STT_FUNC, STT_GNU_IFUNC
_PAGE = 4096


class Symbols:
    """The functions of one ELF file of 64 bits, by address.

    >>> Symbols(Path("/no/such/file")).name(0x10)
    'file+0x10'
    """

    def __init__(self, path: Path) -> None:
        self._file = path.name
        self._starts: list[int] = []
        self._ends: list[int] = []
        self._names: list[str] = []
        self._first = 0
        try:
            with path.open("rb") as file:
                self._read(ELFFile(file))
        except (OSError, ELFError, ValueError):
            return

    def _read(self, elf: ELFFile) -> None:
        loads = [each["p_vaddr"] for each in elf.iter_segments() if each["p_type"] == "PT_LOAD"]
        self._first = min(loads, default=0) // _PAGE * _PAGE
        found: dict[int, tuple[int, str]] = {}
        for section_name in (".dynsym", ".symtab"):
            section = elf.get_section_by_name(section_name)
            if section is None:
                continue
            table = np.frombuffer(section.data(), _SYMBOL)
            texts = elf.get_section(section["sh_link"]).data()
            table = table[np.isin(table["info"] & 0xF, _FUNCTIONS) & (table["section"] != 0)]
            for at, _, _, _, value, size in table.tolist():
                found[value] = (size, texts[at : texts.index(b"\0", at)].decode(errors="replace"))
        self._starts = sorted(found)
        self._ends = [start + found[start][0] for start in self._starts]
        self._names = [found[start][1] for start in self._starts]

    def name(self, offset: int) -> str:
        """Return the function at `offset` behind the address where the file begins in memory.

        Without one, the file's name and the offset.  Cost: O(log n).
        """
        address = offset + self._first
        place = bisect_right(self._starts, address) - 1
        if place >= 0 and (address < self._ends[place] or self._ends[place] == self._starts[place]):
            return self._names[place]
        return f"{self._file}+{offset:#x}"


@cache
def symbols_of(path: str) -> Symbols:
    """Return the symbols of the file `path`; none if it is no ELF file that can be read."""
    return Symbols(Path(path))
