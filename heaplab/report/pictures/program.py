"""A program as plain data: what of it stands in the file, and what in memory only."""

from dataclasses import dataclass

from heaplab.abi import PROT_EXEC, PROT_READ, PROT_WRITE
from heaplab.errors import UsageError
from heaplab.kernel import Kernel
from heaplab.kernel.elf import Elf


@dataclass(frozen=True)
class Part:
    """A segment that exec maps: bytes in the file, then zeros in memory alone.

    rights             as in maps
    offset, stored     bytes of the file: where it begins there, and how many there are
    address, size      in memory, in bytes; size >= stored
    """

    rights: str
    offset: int
    stored: int
    address: int
    size: int

    @property
    def zeros(self) -> int:
        """Bytes that begin as zero and are not in the file: .bss."""
        return self.size - self.stored

    @property
    def name(self) -> str:
        """What such a segment holds."""
        if "x" in self.rights:
            return "code: .text"
        return "variables with values: .data" if "w" in self.rights else "constants: .rodata"


@dataclass(frozen=True)
class ProgramFile:
    """An executable: its path, its size in bytes, where it starts, its parts in the order of their addresses.

    relocatable    addresses are counted from where exec puts it
    """

    path: str
    size: int
    entry: int
    relocatable: bool
    parts: tuple[Part, ...]

    def __repr__(self) -> str:
        return f"<{type(self).__name__}: {self.title}>"

    @property
    def title(self) -> str:
        """What is shown, in one line."""
        return f"{self.path}: the file, and the memory that exec makes of it"

    def __str__(self) -> str:
        lines = [f"{self.path}: {self.size:,} bytes, starts at {self.entry:#x}"]
        for part in self.parts:
            lines.append(
                f"{part.address:#x} {part.rights} {part.size:,} bytes:"
                f" {part.stored:,} from offset {part.offset:#x}"
                + (f", {part.zeros:,} zeros (.bss)" if part.zeros else "")
                + f" ({part.name})"
            )
        return "\n".join(lines) + "\n"


def look(kernel: Kernel, path: str) -> ProgramFile:
    """Return what the file says.  Raises: FileNotFoundError, UsageError when it is no executable."""
    data = kernel.read_file(path)
    elf = Elf.parse(data)
    if elf is None:
        raise UsageError(f"{path} is no ELF file for x86-64: make one with heaplab.kernel.elf.make_elf")
    parts = [
        Part(_rights(each.prot), each.offset, each.filesz, each.vaddr, each.memsz) for each in elf.segments
    ]
    parts.sort(key=lambda part: part.address)
    return ProgramFile(path, len(data), elf.entry, elf.position_independent, tuple(parts))


def _rights(prot: int) -> str:
    letters = ((PROT_READ, "r"), (PROT_WRITE, "w"), (PROT_EXEC, "x"))
    return "".join(letter if prot & bit else "-" for bit, letter in letters)
