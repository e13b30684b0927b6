"""Designs as the malloc of real programs: one library for each spec, compiled from the design's C file."""

import os
import re
import shutil
from collections.abc import Sequence
from pathlib import Path

from heaplab.allocators import Spec, parse
from heaplab.allocators.core import CAllocator
from heaplab.allocators.stated import places
from heaplab.allocators.written import SOURCES as COMMON
from heaplab.allocators.written import design_flags, included_by
from heaplab.compiling import NotCompiled, compile_c
from heaplab.errors import Rule, UsageError
from heaplab.files import replacing

#: of a heap, besides entry/preload.c, which includes the design
SOURCES = ("env/linux.c", *COMMON)
_FLAGS = (
    *("-std=gnu11", "-O2", "-g", "-fvisibility=hidden", '-DHEAPLAB_ENV="linux.h"'),
    # what the C library's malloc promises, the compiler must not take for granted of ours while compiling it
    *(
        f"-fno-builtin-{name}"
        for name in ("malloc", "free", "calloc", "realloc", "aligned_alloc", "memalign")
    ),
)
_SHARED = ("-shared", "-fPIC", "-ftls-model=initial-exec", "-pthread", "-Wl,-z,now,-z,initfirst")


def build(spec: str | Spec, *, check: bool = False, output: str | os.PathLike[str] | None = None) -> Path:
    """Build the library that makes `spec` the malloc of whoever loads it, by LD_PRELOAD; return its path.

    check: the library verifies the heap now and then, and tells at exit what was done (csrc/entry/tally.h).
    output: where a copy of it goes; the library itself lies in the cache.
    Raises: UsageError for what is no design of heaplab's in C, and as `compile_c`.

    >>> build("buddy:checks=links").name
    'libheaplab-buddy.so'
    """
    spec = design_in_c(spec)
    made = compile_heap(f"libheaplab-{short_name(spec)}.so", spec, _SHARED, check=check)
    if output is None:
        return made
    with made.open("rb") as library, replacing(output) as file:
        shutil.copyfileobj(library, file)
    Path(output).chmod(0o755)
    return Path(output)


def compile_heap(
    name: str, spec: Spec, flags: Sequence[str], others: Sequence[str] = (), *, check: bool = False
) -> Path:
    """Compile a design's malloc and the sources `others` into the file `name`; return its path.

    flags: the compiler's, beside those that all of heaplab's C is compiled with here.
    Raises: as `compile_c`; UsageError for a design outside csrc that does not compile here.
    """
    sources = ["entry/preload.c", *SOURCES, *others]
    header = {"spec.h": spec_header(spec, check=check)}
    own = design_of(spec).FILE
    flags = [*_FLAGS, *design_flags(), *flags, "-include", "spec.h"]
    if own is None:
        return compile_c(name, sources, flags, header)
    try:
        return compile_c(name, sources, flags, header, [own, *included_by(own)])
    except NotCompiled as error:
        said = error.said.replace(str(own), spec.name)
        raise UsageError(f"{spec.name} cannot be compiled with {sources[0]}: {said}") from None


def design_in_c(spec: str | Spec) -> Spec:
    """Return the spec of a design in C.  Raises: UsageError when there is none."""
    spec = parse(spec, "c") if isinstance(spec, str) else spec
    design_of(spec)
    return spec


def design_of(spec: Spec) -> type[CAllocator]:
    """Return the class of a spec's design in C.  Raises: UsageError when it is not in C."""
    if not issubclass(spec.design, CAllocator):
        raise UsageError(f"{spec} is not in C, and only a design in C can be compiled for Linux")
    return spec.design


def short_name(spec: Spec) -> str:
    """Return what files that are made of a spec are called after: the design, or the file it stands in.

    LD_PRELOAD can name what is called so.
    """
    design = design_of(spec)
    return re.sub(r"[^\w.-]", "_", design.FILE.stem) if design.FILE else design.NAME


def spec_header(spec: Spec, *, check: bool = False) -> str:
    """Return the text of spec.h, which csrc/entry/preload.c describes."""
    design = design_of(spec)
    at = places(design.DESIGN)
    words = ", ".join(f"[{at[name] // 8}] = {value}u" for name, value in spec.options.items())
    rules = ", ".join(f'"{rule.text}"' for rule in Rule)
    text = str(spec).replace("\\", r"\\").replace('"', r"\"")
    return "\n".join(
        [
            f'#define SPEC_DESIGN "{design.FILE or f"../designs/{design.NAME}.c"}"',
            f"#define SPEC_WORDS {words}",
            f"#define SPEC_RULES {rules}",
            f'#define SPEC_TEXT "{text}"',
            f"#define SPEC_CHECK {int(check)}",
            "",
        ]
    )
