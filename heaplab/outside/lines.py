"""Lines of C for places in a library: its debugging information says them."""

from bisect import bisect_right
from functools import lru_cache
from pathlib import Path

from elftools.common.exceptions import ELFError
from elftools.elf.elffile import ELFFile

#: files of csrc/outside, which nobody looks for a fault in
_OURS = ("front.c", "hooks.c", "memlib.c")


@lru_cache(maxsize=16)
def _rows(library: Path) -> tuple[list[int], list[tuple[str, int]]]:
    """Addresses in rising order, and for each the file and line from there on; line 0 ends a run."""
    found: dict[int, tuple[str, int]] = {}
    with library.open("rb") as file:
        elf = ELFFile(file)
        dwarf = elf.get_dwarf_info()
        for unit in dwarf.iter_CUs():
            program = dwarf.line_program_for_CU(unit)
            if program is None:
                continue
            names = program["file_entry"]
            first = 1 if program["version"] < 5 else 0  # where numbers of files begin
            for entry in program.get_entries():
                state = entry.state
                if state is None:
                    continue
                if state.end_sequence:
                    found.setdefault(state.address, ("", 0))
                    continue
                name = names[state.file - first].name.decode(errors="replace")
                found[state.address] = (Path(name).name, state.line)
    addresses = sorted(found)
    return addresses, [found[address] for address in addresses]


def line_of(library: Path, site: int) -> str:
    """Return the line of C of an access, as `mm.c:47`; "" where nothing tells.

    site: bytes behind the beginning of the library in memory, of the instruction after the access's hook.

    >>> line_of(Path("/no/such/file"), 16)
    ''
    """
    if not site:
        return ""
    try:
        addresses, lines = _rows(library)
    except (OSError, ELFError, KeyError, IndexError):
        return ""
    at = bisect_right(addresses, site - 1) - 1  # within the call of the hook, not behind it
    if at < 0 or not lines[at][1]:
        return ""
    name, number = lines[at]
    return "" if name in _OURS else f"{name}:{number}"
