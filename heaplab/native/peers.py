"""Real allocators by name: glibc, libraries that Debian has, anybody's library, and heaplab's designs."""

import difflib
import os
import platform
import sysconfig
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from elftools.common.exceptions import ELFError
from elftools.elf.elffile import ELFFile
from elftools.elf.sections import SymbolTableSection

from heaplab._core import lib
from heaplab.errors import UsageError
from heaplab.native.building import build

#: file of the library, and the Debian package that brings it
DEBIAN = {
    "jemalloc": ("libjemalloc.so.2", "libjemalloc2"),
    "mimalloc": ("libmimalloc.so.2", "libmimalloc2.0"),
    "tcmalloc": ("libtcmalloc_minimal.so.4", "libtcmalloc-minimal4"),
}
NAMES = ("glibc", *DEBIAN)
#: what blocks of a malloc on Linux are a multiple of, where they are as large
NATURAL = 16
_OURS = "heaplab:"

_NEEDED = ("malloc", "calloc", "realloc", "free")
_ALIGNED = {
    "memalign": lib.HL_BY_MEMALIGN,
    "posix_memalign": lib.HL_BY_POSIX_MEMALIGN,
    "aligned_alloc": lib.HL_BY_ALIGNED_ALLOC,
}
_MACHINES = {"x86_64": "EM_X86_64", "aarch64": "EM_AARCH64"}


class LibraryMissing(UsageError):
    """A library that is known by name is not installed; the sentence names the package that brings it."""


@dataclass(frozen=True)
class Peer:
    """An allocator that programs use.

    name: as it was asked for.  library: to be preloaded; None: the C library's own malloc.
    aligned: with which of its functions aligned blocks are asked for, a HL_BY_... of csrc/native/player.h.
    natural: what every block is a multiple of, if it is as large.
    """

    name: str
    library: Path | None
    aligned: int
    natural: int = NATURAL

    def __str__(self) -> str:
        return self.name


def find_peer(name: str) -> Peer:
    """Return the allocator that `name` says: one of NAMES, the path of a library (.so), or heaplab:SPEC.

    Raises: LibraryMissing for one of NAMES that is not installed; UsageError for what is no such name, no
    library, or a library without malloc, calloc, realloc and free; as `build` for a SPEC.

    >>> find_peer("glibc").library is None
    True
    """
    if name == "glibc":
        return Peer(name, None, lib.HL_BY_MEMALIGN)
    if name.startswith(_OURS):
        return Peer(name, build(name.removeprefix(_OURS)), lib.HL_BY_MEMALIGN)
    if name in DEBIAN:
        file, package = DEBIAN[name]
        library = _find(file)
        if library is None:
            raise LibraryMissing(f"{name}: {file} is not installed: Debian's package {package} has it")
    elif "/" in name or ".so" in name:
        library = Path(name).absolute()
        if not library.is_file():
            raise UsageError(f"{name}: there is no such file")
    else:
        near = difflib.get_close_matches(name, [*NAMES, _OURS], n=1)
        known = (
            f"did you mean {near[0]}?" if near else f"there are {', '.join(NAMES)}, PATH.so and heaplab:SPEC"
        )
        raise UsageError(f"there is no native allocator {name!r}: {known}")
    return Peer(name, library, _how_aligned(name, library))


def find_peers(names: Iterable[str | Peer]) -> tuple[list[Peer], list[str]]:
    """Return the allocators, and a sentence for each that is left out because its library is not installed.

    Raises: UsageError as `find_peer` for all else.
    """
    peers, missing = [], []
    for name in names:
        try:
            peers.append(find_peer(name) if isinstance(name, str) else name)
        except LibraryMissing as error:
            missing.append(f"left out: {error}")
    return peers, missing


def parse_peers(text: str) -> list[str]:
    """Return the names in a list separated by commas.  Raises: UsageError when there is none.

    >>> parse_peers("glibc, heaplab:spans,./my.so")
    ['glibc', 'heaplab:spans', './my.so']
    """
    names = [name.strip() for name in text.split(",") if name.strip()]
    if not names:
        raise UsageError(f"{text!r} names no native allocator: write one of {', '.join(NAMES)}")
    return names


def _find(file: str) -> Path | None:
    for folder in _folders():
        if (found := folder / file).is_file():
            return found
    return None


def _folders() -> Iterator[Path]:
    """Where the dynamic linker of this computer finds libraries."""
    yield from (Path(folder) for folder in os.environ.get("LD_LIBRARY_PATH", "").split(":") if folder)
    machine = sysconfig.get_config_var("MULTIARCH") or f"{platform.machine()}-linux-gnu"
    for root in ("/usr/local/lib", "/usr/lib", "/lib"):
        yield from (Path(root, machine), Path(root))
    yield from (Path("/usr/lib64"), Path("/lib64"))


def _how_aligned(name: str, library: Path) -> int:
    """How the library gives aligned blocks.  Raises: UsageError when it is none that can be preloaded."""
    exported = _exported(name, library)
    if missing := [each for each in _NEEDED if each not in exported]:
        raise UsageError(
            f"{name}: does not export {', '.join(missing)}: an allocator has {', '.join(_NEEDED)} of its own"
        )
    return next((how for function, how in _ALIGNED.items() if function in exported), int(lib.HL_BY_NONE))


def _exported(name: str, library: Path) -> set[str]:
    """The functions that programs get from a shared library.  Raises: UsageError when it is none."""
    wrong = f"{name}: is no shared library of this computer's"
    try:
        with library.open("rb") as file:
            elf = ELFFile(file)
            machine = _MACHINES.get(platform.machine(), elf["e_machine"])
            if elf["e_type"] != "ET_DYN" or elf.elfclass != 64 or elf["e_machine"] != machine:
                raise UsageError(wrong)
            table = elf.get_section_by_name(".dynsym")
            if not isinstance(table, SymbolTableSection):
                raise UsageError(wrong)
            return {
                symbol.name
                for symbol in table.iter_symbols()
                if symbol["st_shndx"] != "SHN_UNDEF" and symbol["st_info"]["bind"] != "STB_LOCAL"
            }
    except ELFError:
        raise UsageError(wrong) from None
    except OSError as error:
        raise UsageError(f"{name}: cannot be read: {error.strerror}") from None
