"""Builds the extension `heaplab._core._heaplab` from csrc/ with cffi in API mode.

The declarations are written by hand, one file a room of csrc/, in cdef/.  HEAPLAB_CFLAGS and
HEAPLAB_LDFLAGS add compiler and linker flags: the sanitized and the coverage builds are made with them.
setup.py adds what is compiled a second time, for the usual machine alone.
"""

import os
import runpy
import shlex
from pathlib import Path

import cffi

ROOT = Path(__file__).resolve().parents[2]
SOURCES = [
    *(
        source
        for room in ("machine", "sources", "front", "designs", "replay", "packing")
        for source in (ROOT / "csrc" / room).glob("*.c")
    ),
    *(
        ROOT / "csrc" / room / "model.c" for room in ("env", "entry")
    ),  # the other world is native/building.py's
    ROOT / "csrc" / "conform" / "driver.c",  # the agent beside it is a program of its own
]

#: by path: nothing of heaplab can be imported before it is built
headers = runpy.run_path(str(ROOT / "heaplab" / "_core" / "headers.py"))
csrc = ROOT / "csrc"

ffibuilder = cffi.FFI()
for declarations in sorted((ROOT / "heaplab" / "_core" / "cdef").glob("*.h")):
    ffibuilder.cdef(declarations.read_text())

ffibuilder.set_source(
    "heaplab._core._heaplab",
    '#include "heaplab.h"',
    sources=sorted(str(source.relative_to(ROOT)) for source in SOURCES),
    depends=sorted(str(header.relative_to(ROOT)) for header in (ROOT / "csrc").rglob("*.h")),
    include_dirs=["csrc"],
    define_macros=[
        ("HL_HEADERS", f'"{headers["fingerprint"](csrc)}"'),
        ("HL_SOURCES", f'"{headers["sources_hash"](csrc)}"'),
    ],
    extra_compile_args=[
        "-std=gnu11",
        "-O3",
        "-fvisibility=hidden",
        *shlex.split(os.environ.get("HEAPLAB_CFLAGS", "")),
    ],
    extra_link_args=shlex.split(os.environ.get("HEAPLAB_LDFLAGS", "")),
)
