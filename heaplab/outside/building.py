"""Compiling allocators from outside: for LD_PRELOAD, and once more with a hook at each access."""

import re
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from heaplab.compiling import NotCompiled, compile_c, compiler, first_error, run_compiler
from heaplab.confining import Limits
from heaplab.csrc import c_sources
from heaplab.errors import UsageError
from heaplab.outside.kinds import COURSE, FAMILY, THEIR, Functions, Kind, functions_of

#: the compiler may not take for granted of this malloc what the C library's promises
_NO_BUILTIN = tuple(f"-fno-builtin-{name}" for name in FAMILY)
#: gnu89-inline: labs are older than C99, whose `inline` alone defines no function to call
_CODE = ("-std=gnu11", "-fgnu89-inline", "-O2", "-g", "-fPIC", "-w", *_NO_BUILTIN)
#: bytes in bulk are left to functions: what the compiler makes of them itself would have no hooks
_HOOKS = ("-fsanitize=thread", *(f"-fno-builtin-{name}" for name in ("memcpy", "memmove", "memset")))
#: heaplab's own files around the allocator: compiled once for each choice of macros
_OURS = (
    *("-std=gnu11", "-O2", "-g", "-fPIC", "-fvisibility=hidden", "-ftls-model=initial-exec", "-pthread"),
    *_NO_BUILTIN,
)
_SHARED = ("-shared", "-pthread", "-Wl,-z,now", "-Wl,-z,defs")
_MATH = ("-Wl,--no-as-needed", "-lm")  # before the files that need it
_OWN_BOOL = re.compile(rb"\btypedef\b[^;]*\bbool\b")  # of a file from before stdbool.h
_UNDEFINED = re.compile(r"([^/]*\.)[io](:[^ ]+): undefined reference to `(\w+)'")
#: calls of the allocator's that hooks.c answers
_WRAPPED = ("memcpy", "memmove", "memset", "sbrk", "brk", "mmap", "munmap", "mremap", "exit")
_WRAPPING = tuple(f"-Wl,--wrap={name}" for name in _WRAPPED)
#: before an allocator's text: its functions get other names, whatever calls them
_RENAMED = "".join(
    f'{result} {name}({arguments}) __asm__("{THEIR}{name}");\n'
    for name, result, arguments in (
        ("malloc", "void *", "unsigned long"),
        ("free", "void", "void *"),
        ("calloc", "void *", "unsigned long, unsigned long"),
        ("realloc", "void *", "void *, unsigned long"),
        ("memalign", "void *", "unsigned long, unsigned long"),
        ("aligned_alloc", "void *", "unsigned long, unsigned long"),
        ("posix_memalign", "int", "void **, unsigned long, unsigned long"),
        ("malloc_usable_size", "unsigned long", "void *"),
        ("valloc", "void *", "unsigned long"),
        ("pvalloc", "void *", "unsigned long"),
        ("reallocarray", "void *", "void *, unsigned long, unsigned long"),
    )
)


@dataclass(frozen=True)
class Built:
    """An allocator from outside, compiled.

    plain: for LD_PRELOAD.  hooked: the same with hooks, for the player's pass HL_PLAY_WATCHED.
    """

    functions: Functions
    plain: Path
    hooked: Path


def build_outside(
    name: str, sources: Sequence[Path], flags: Sequence[str] = (), *, confined: Limits | None = None
) -> Built:
    """Compile an allocator of the C files `sources`; `name`: what the user calls it.

    flags: the compiler's, beside those that heaplab needs.
    confined: what the compiler may have, if nobody vouches for the sources; it reads their folders too.
    Raises: UsageError for a file that is not there, does not compile, or is no allocator; as `compile_c`.
    Cost: half a second for a new text, some 0.1 s for a known one.
    """
    try:
        texts = [_preprocessed(source, flags, confined) for source in sources]
        named = list(zip(sources, texts, strict=True))
        plain = [_object(source, text, flags, (), confined) for source, text in named]
        functions = functions_of(compile_c("whole.so", plain, ("-shared", "-nostdlib")))
        if functions is None:
            raise UsageError(
                f"{name} is no allocator: it defines neither mm_malloc, nor malloc, nor a design of "
                "heaplab's (HEAP_DESIGN)"
            )
        if functions.missing:
            prefix = COURSE if functions.kind is Kind.COURSE else ""
            missing = ", ".join(prefix + each for each in functions.missing)
            raise UsageError(f"{name} does not define {missing}")
        hooked = [_object(source, text, flags, _HOOKS, confined) for source, text in named]
        linked = partial(_linked, f"lib{sources[0].stem}.so", functions)
        math = _MATH if any('/math.h"' in text for text in texts) else ()
        return Built(functions, linked(plain, math), linked(hooked, [*math, *_WRAPPING], hooked=True))
    except NotCompiled as error:
        raise UsageError(f"{name} cannot be compiled: {_in_words(error.said)}") from error


def _in_words(said: str) -> str:
    """What the compiler or the linker said, without the names of heaplab's own files."""
    undefined = _UNDEFINED.search(said)
    if not undefined:
        return said
    stem, line, function = undefined.groups()
    calls = function.removeprefix(THEIR)
    at = f"{stem}c{line}" if line[1:].isdigit() else f"{stem}c"
    return f"{at} needs {calls}, which no file defines: name the files that belong together, mm.c+other.c"


def _preprocessed(source: Path, flags: Sequence[str], confined: Limits | None) -> str:
    """The text of a C file with all that it includes.

    The preprocessor reads it from standard input, so that heaplab's memlib.h comes before one beside it.
    """
    if not source.is_file():
        raise UsageError(f"there is no file {source} to take an allocator from")
    first, last, command = c_sources() / "outside" / "first", c_sources() / "outside" / "last", compiler()
    text = source.read_bytes()
    own_bool = ["-DHEAPLAB_OWN_BOOL"] * (_OWN_BOOL.search(text) is not None)
    line = [*command, *_CODE, "-DDRIVER", *own_bool, *flags, "-E", "-x", "c", "-"]
    line.append("-fno-working-directory")  # the text is a key of the cache
    line += [f"-iquote{first}", f"-iquote{source.parent}", f"-I{last}", f"-I{first}"]
    text = f'# 1 "{source.name}"\n'.encode() + text
    with tempfile.TemporaryDirectory() as folder:
        made = Path(folder, "text.i")
        done = run_compiler([*line, "-o", str(made)], Path(folder), confined, [source], text)
        if done.returncode:
            raise NotCompiled(command[0], source.name, first_error(done))
        return _RENAMED + made.read_bytes().decode(errors="replace")


def _object(
    source: Path, text: str, flags: Sequence[str], hooks: Sequence[str], confined: Limits | None
) -> Path:
    name = f"{source.stem}.i"
    command = [*_CODE, *flags, *hooks, "-c"]
    return compile_c(f"{source.stem}.o", [name], command, {name: text}, confined=confined)


def _linked(
    name: str, functions: Functions, objects: Sequence[Path], flags: Sequence[str], *, hooked: bool = False
) -> Path:
    """The library of an allocator's objects, with heaplab's front before them."""
    watched = ["-DOUTSIDE_WATCHED"] * hooked
    ours = [_our_object("front", [*watched, *_macros(functions)]), _our_object("memlib", watched)]
    if hooked:
        ours.append(_our_object("hooks", watched))
    return compile_c(name, [*ours, *objects], [*_SHARED, *flags])


def _our_object(stem: str, macros: Sequence[str]) -> Path:
    return compile_c(f"{stem}.o", [f"outside/{stem}.c"], [*_OURS, *macros, "-c"])


def _macros(functions: Functions) -> list[str]:
    """What csrc/outside/front.c is told of the allocator."""
    macros = [f"-DOUTSIDE_HAS_{name.upper()}" for name in sorted(functions.has) if name in FAMILY]
    if functions.kind is Kind.COURSE:
        macros.append("-DOUTSIDE_COURSE")
    if functions.init_is_bool:
        macros.append("-DOUTSIDE_INIT_IS_BOOL")
    if functions.checkheap is not None:
        kind = {"": "void", "bool": "_Bool", "_Bool": "_Bool"}.get(functions.checkheap, "int")
        macros.append(f"-DOUTSIDE_CHECKHEAP={kind}")
        macros += ["-DOUTSIDE_CHECKHEAP_VOID"] * (kind == "void")
    return macros
