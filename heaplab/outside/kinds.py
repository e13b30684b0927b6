"""What a C file is, by the functions that it defines; and what they return, by its debugging information."""

from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from elftools.elf.elffile import ELFFile
from elftools.elf.sections import SymbolTableSection


class Kind(Enum):
    """An allocator that is no design of heaplab's."""

    COURSE = "mm.c"  #: mm_init, mm_malloc, mm_free over the heap of memlib.h
    MALLOC = "malloc in C"  #: malloc and free, over the system or over memlib.h
    LIBRARY = "library"  #: a shared library, of which there is no source

    def __str__(self) -> str:
        return self.value


#: what the family is called within one library, so that heaplab's own can stand before it
THEIR = "their_"
FAMILY = (
    *("malloc", "free", "calloc", "realloc", "memalign", "aligned_alloc", "posix_memalign"),
    *("malloc_usable_size", "valloc", "pvalloc", "reallocarray"),
)
COURSE = "mm_"
_NEEDED = {Kind.COURSE: ("init", "malloc", "free"), Kind.MALLOC: ("malloc", "free")}
_PREFIX = {Kind.COURSE: COURSE, Kind.MALLOC: THEIR}


@dataclass(frozen=True)
class Functions:
    """The functions of an allocator from outside.

    has: without mm_ and the like: "malloc", "realloc", "checkheap".  init_is_bool: mm_init returns a bool.
    checkheap: what mm_checkheap returns, "" for nothing, None without one.
    """

    kind: Kind
    has: frozenset[str]
    init_is_bool: bool = False
    checkheap: str | None = None

    @property
    def missing(self) -> list[str]:
        """What every allocator of the kind has, and this one has not."""
        return [name for name in _NEEDED[self.kind] if name not in self.has]


def functions_of(whole: Path) -> Functions | None:
    """Return what an allocator defines; None: neither malloc nor mm_malloc.

    whole: its objects, linked: the debugging information of an object is not complete (variables of threads).
    """
    with whole.open("rb") as file:
        elf = ELFFile(file)
        symbols = _defined(elf)
        returned = _returned(elf)
    for kind, prefix in _PREFIX.items():
        has = {name.removeprefix(prefix) for name in symbols if name.startswith(prefix)}
        if "malloc" in has:
            return Functions(
                kind,
                frozenset(has),
                returned.get("mm_init") in ("_Bool", "bool"),
                returned.get("mm_checkheap") if "checkheap" in has and kind is Kind.COURSE else None,
            )
    return None


def _defined(elf: ELFFile) -> set[str]:
    table = elf.get_section_by_name(".symtab")
    if not isinstance(table, SymbolTableSection):
        return set()
    return {
        symbol.name
        for symbol in table.iter_symbols()
        if symbol["st_info"]["type"] == "STT_FUNC" and symbol["st_info"]["bind"] != "STB_LOCAL"
    }


def _returned(elf: ELFFile) -> dict[str, str]:
    """The types that mm_init and mm_checkheap return: "" for void, "int" for what has no name."""
    found = {}
    for unit in elf.get_dwarf_info().iter_CUs() if elf.has_dwarf_info() else ():
        for die in unit.get_top_DIE().iter_children():
            name = die.attributes.get("DW_AT_name")
            if die.tag == "DW_TAG_subprogram" and name and name.value in (b"mm_init", b"mm_checkheap"):
                if "DW_AT_type" not in die.attributes:
                    found[name.value.decode()] = ""
                    continue
                kind = die.get_DIE_from_attribute("DW_AT_type").attributes.get("DW_AT_name")
                found[name.value.decode()] = kind.value.decode() if kind else "int"
    return found
