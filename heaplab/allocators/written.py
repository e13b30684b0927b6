"""A design that somebody wrote: a C file over heaplab's env, wherever it stands.

The file is what a file of csrc/designs is: it includes csrc's headers and registers one `hl_design`
(HEAP_DESIGN).  As heaplab's own designs it is compiled twice, for every machine and for the usual one alone,
here into two libraries that this process loads.  csrc/entry/written.h says how they meet the machine.
"""

import ctypes
import re
import subprocess
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache, partial
from pathlib import Path
from typing import Any

from heaplab._core import ffi, lib
from heaplab._core.headers import fingerprint
from heaplab.allocators.core import CAllocator, c_class
from heaplab.allocators.stated import name_of, statement
from heaplab.compiling import NotCompiled, compile_c, compiler, first_error
from heaplab.csrc import c_sources
from heaplab.errors import HeaplabError, UsageError

#: what every design may use of csrc's C files, whatever the world
SOURCES = ("sources/large.c", "sources/brk.c", "sources/book.c", "sources/segments.c")
_MODEL = ("entry/written.c", "env/model.c", "front/posix.c", *SOURCES)
_FLAGS = (
    *("-std=gnu11", "-O3", "-g", "-fvisibility=hidden", "-fPIC"),
    "-Werror=implicit-function-declaration",
)
_SHARED = ("-shared", "-Wl,-z,defs")
_OBJECT = ("-r", "-nostdlib")
#: in the preprocessed text, whether HEAP_DESIGN stood there, and what was included
_REGISTERED = re.compile(r'section\s*\(\s*"hl_designs"')
_INCLUDED = re.compile(r'^# \d+ "([^"<]+)"', re.MULTILINE)


def registers_design(path: str | Path) -> bool:
    """Return whether a C file registers a design over heaplab's env: whether HEAP_DESIGN stands in it.

    A file that the preprocessor refuses is judged by its text.
    Raises: UsageError when there is no such file.  Cost: a run of the preprocessor, some 20 ms.
    """
    source = _existing(path)
    try:
        return _REGISTERED.search(_preprocessed(source)) is not None
    except HeaplabError:
        return re.search(rb"^\s*HEAP_DESIGN\s*\(", source.read_bytes(), re.MULTILINE) is not None


def design_of_file(path: str | Path) -> type[CAllocator]:
    """Compile the design in a C file, load it, and return its class.

    The file includes csrc's headers as "heap/heap.h", "sources/brk.h" and so on, or as csrc/designs does.
    Raises: UsageError for a file that is not there, that does not compile (its first error), or that does not
    register one whole design; when csrc's headers are not those that heaplab was built with; as `compile_c`.
    Cost: some seconds for a new text of the file, else some 50 ms.
    """
    source = _existing(path)
    _verify_headers()
    if not registers_design(source):
        raise UsageError(
            f"{path} is no design of heaplab's: it registers none (HEAP_DESIGN); an mm.c, or a C file that "
            "defines malloc, is for heaplab compare, check, fuzz, shrink and grade"
        )
    try:
        files = included_by(source)
        with ThreadPoolExecutor() as pool:
            general, usual = pool.map(partial(_library, source, files), ([], ["-DHL_USUAL"]))
    except NotCompiled as error:
        said = error.said.replace(str(source), str(path))
        raise UsageError(f"{path} cannot be compiled: {said}") from None
    return _loaded(source, str(path), general, usual)


def included_by(path: Path) -> list[Path]:
    """Return the files outside csrc that a C file includes.  Raises: NotCompiled."""
    return included(_preprocessed(path))


def design_flags() -> tuple[str, ...]:
    """Return the compiler's flags that let a design outside csrc include what those in csrc/designs do."""
    return (f"-I{c_sources() / 'designs'}",)


def included(text: str) -> list[Path]:
    """Return the files outside csrc that went into a preprocessed text."""
    csrc = c_sources()
    files = sorted({Path(name) for name in _INCLUDED.findall(text)})
    return [file for file in files if file.is_file() and csrc not in file.resolve().parents]


def _existing(path: str | Path) -> Path:
    source = Path(path).absolute()
    if not source.is_file():
        raise UsageError(f"there is no file {path} to take an allocator from")
    return source


def _preprocessed(source: Path) -> str:
    command = compiler()
    line = [*command, *_FLAGS[:1], "-E", *design_flags(), f"-I{c_sources()}", str(source)]
    done = subprocess.run(line, capture_output=True, text=True, check=False, errors="replace")
    if done.returncode:
        raise NotCompiled(command[0], source.name, first_error(done))
    return done.stdout


def _library(source: Path, files: Sequence[Path], extra: Sequence[str]) -> Path:
    flags = [*_FLAGS, *extra, *design_flags()]
    common = compile_c("model.o", _MODEL, [*flags, *_OBJECT])  # once for all designs
    return compile_c(f"{source.stem}.so", [common, source], [*flags, *_SHARED], included=files)


def _verify_headers() -> None:
    if fingerprint(c_sources()) != ffi.string(lib.hl_headers).decode():
        raise UsageError(
            f"{c_sources()} has other headers than those heaplab was built with: a design compiled with them "
            "would not fit; build heaplab again (make build, or pip install)"
        )


@cache
def _loaded(source: Path, path: str, general: Path, usual: Path) -> type[CAllocator]:
    """The class of the design in two libraries; path: what the user calls its file."""
    design = _the_design(path, general)
    for option in statement(design).options:
        try:
            option.encode(option.default)
        except ValueError:
            raise UsageError(
                f"{path}: {option.name}={option.default} by default is none of its choices"
            ) from None
    return c_class(design, _the_design(path, usual), source)


def _the_design(path: str, library: Path) -> Any:
    """The one whole design of a library, which is loaded for good."""
    try:
        function = ctypes.CDLL(str(library)).hl_written
    except OSError as error:
        raise UsageError(
            f"{path} cannot be loaded: {error}; what is compiled has to lie where programs may be executed: "
            "set XDG_CACHE_HOME"
        ) from error
    count = ffi.new("uint64_t *")
    address = ctypes.cast(function, ctypes.c_void_p).value
    found = lib.hl_designs_of(ffi.cast("hl_written_fn", address), count)
    if count[0] != 1:
        names = ", ".join(name_of(found[n]) for n in range(count[0]) if found[n].name != ffi.NULL)
        raise UsageError(f"{path} registers {count[0]} designs ({names}): a file is to register one")
    if (lacks := lib.hl_design_lacks(found[0])) != ffi.NULL:
        raise UsageError(f"{path}: its hl_design lacks .{ffi.string(lacks).decode()}")
    return found[0]
