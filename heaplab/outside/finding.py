"""Allocators from outside by the text that names them: files, and how they are compiled.

mm.c                     a course's, or a C file that defines malloc: seen from its functions
mm.c:align=8             its blocks are multiples of 8, as in courses with 8-byte labs; 16 otherwise
mm.c+list.c              several files
mm.c:cflags=-O3 -DX=1    the compiler's flags
libmine.so               a shared library, played as it is
"""

import shlex
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from heaplab._core import lib
from heaplab.allocators import Spec, names, parse
from heaplab.allocators.written import registers_design
from heaplab.confining import Limits
from heaplab.errors import UsageError
from heaplab.native.peers import NATURAL, Peer, find_peer
from heaplab.outside.building import build_outside
from heaplab.outside.kinds import Kind

#: with one of these an allocator gives aligned blocks; heaplab's front makes memalign of it
_ALIGNED = frozenset(("memalign", "aligned_alloc", "posix_memalign"))
_ALIGNS = (8, 16)


@dataclass(frozen=True)
class Outside(Peer):
    """An allocator from outside.

    kind: what its file is.  hooked: the library with hooks; None of a LIBRARY.  has: its functions, without
    mm_ and the like.  sources: its C files.
    """

    kind: Kind = Kind.LIBRARY
    hooked: Path | None = None
    has: frozenset[str] = field(default_factory=frozenset)
    sources: tuple[Path, ...] = ()


def find_outside(text: str, *, confined: Limits | None = None) -> Outside | None:
    """Return the allocator from outside that `text` names; None when it names none, or a design of heaplab's.

    confined: what the compiler may have, if nobody vouches for the files; it reads their folders too.  No
    design is looked for then.
    Raises: UsageError for a file that is not there, does not compile, or is no allocator; for a wrong option.

    >>> find_outside("buddy:checks=links") is None
    True
    """
    files, options = _split(text)
    if files[0].endswith(".so") or ".so." in files[0]:
        return _library(text, files, options)
    if not all(name.endswith(".c") for name in files):
        return None
    paths = tuple(Path(name).absolute() for name in files)
    for path in paths:
        if not path.is_file():
            raise UsageError(f"there is no file {path} to take an allocator from")
    if len(paths) == 1 and confined is None and registers_design(paths[0]):
        return None
    align, flags = _options(text, options)
    built = build_outside("+".join(files), paths, flags, confined=confined)
    return Outside(
        name=text,
        library=built.plain,
        aligned=int(lib.HL_BY_MEMALIGN if _ALIGNED & built.functions.has else lib.HL_BY_NONE),
        natural=align,
        kind=built.functions.kind,
        hooked=built.hooked,
        has=built.functions.has,
        sources=paths,
    )


def _split(text: str) -> tuple[list[str], list[str]]:
    files, *options = text.strip().split(":")
    return files.split("+"), options


def _library(text: str, files: Sequence[str], options: Sequence[str]) -> Outside:
    if options or len(files) > 1:
        raise UsageError(f"{text}: a shared library stands alone: it is played as it is")
    name = files[0] if "/" in files[0] else f"./{files[0]}"
    peer = find_peer(name)
    return Outside(text, peer.library, peer.aligned)


def _options(text: str, options: Sequence[str]) -> tuple[int, list[str]]:
    align, flags = NATURAL, []
    for option in options:
        key, equals, value = option.partition("=")
        if key == "align" and value in map(str, _ALIGNS):
            align = int(value)
        elif key == "align":
            raise UsageError(f"{text}: align={value} is none of {', '.join(map(str, _ALIGNS))}")
        elif key == "cflags" and equals:
            try:
                flags = shlex.split(value)
            except ValueError as error:
                raise UsageError(f"{text}: cflags={value}: {error}") from None
        else:
            raise UsageError(
                f"{text} has no parameter {key!r}: a C file from outside has align=8 and cflags=..."
            )
    return align, flags


def find_allocator(text: str, language: str = "python") -> Spec | Outside:
    """Return the design of heaplab's, or the allocator from outside, that `text` names.

    Raises: UsageError as `find_outside` and `heaplab.allocators.parse`.

    >>> str(find_allocator("buddy:checks=links"))
    'buddy:checks=links'
    """
    found = find_outside(text)
    return parse(text, language) if found is None else found


def find_allocators(text: str, language: str = "python") -> list[Spec | Outside]:
    """Return the allocators in a list separated by commas.  Raises: UsageError as above, or when empty."""
    found = [find_allocator(part.strip(), language) for part in text.split(",") if part.strip()]
    if not found:
        raise UsageError(f"{text!r} names no allocator: write one of {', '.join(names(language))}")
    return found
