"""The parts of the build that pyproject.toml cannot say: cffi's extension, recorder, and programs."""

import os
import platform
import shlex
import shutil
import sys
import sysconfig
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from glob import glob
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext
from setuptools.command.build_py import build_py

RECORD_HEADERS = [
    f"csrc/record/{name}.h"
    for name in ("recorder", "monitor", "client", "following", "clock", "calm", "stacks")
]
RECORDER = Extension(  # preloaded into other programs, never imported: it neither needs nor knows Python
    "heaplab.native._recorder",
    sources=[f"csrc/record/{name}.c" for name in ("recorder", "client", "following", "stacks")],
    depends=RECORD_HEADERS,
    extra_compile_args=["-std=gnu11", "-O2", "-fvisibility=hidden", "-ftls-model=initial-exec"],
    extra_link_args=["-pthread", "-ldl"],
    py_limited_api=True,
)
MONITOR = Extension(  # a program: it starts what is recorded, and sees all its processes end
    "heaplab.native._monitor",
    sources=["csrc/record/monitor.c"],
    depends=RECORD_HEADERS,
    extra_compile_args=["-std=gnu11", "-O2"],
    py_limited_api=True,
)
AGENT = Extension(  # a program without a C library; it is built as an extension to be installed like one
    "heaplab.testing.conform._agent",
    sources=["csrc/conform/agent.c"],
    depends=["csrc/conform/agent.h"],
    extra_compile_args=[
        *["-std=gnu11", "-O2", "-ffreestanding", "-fno-pic", "-fno-stack-protector", "-mgeneral-regs-only"],
        *["-fcf-protection=none", "-fno-asynchronous-unwind-tables", "-U_FORTIFY_SOURCE"],
    ],
    extra_link_args=[
        *["-nostdlib", "-static", "-no-pie"],
        *[
            "-Wl,-Ttext-segment=0x400000",
            "-Wl,--section-start=.catcher=0x400f00",  # AGENT_CATCHER, AGENT_RESTORER
            "-Wl,--section-start=.restorer=0x400f10",
            "-Wl,-z,noseparate-code",
            "-Wl,-z,noexecstack",
            "-Wl,--build-id=none",
        ],
    ],
    py_limited_api=True,
)
PLAYER = Extension(  # a program, like the agent
    "heaplab.native._player",
    sources=[f"csrc/native/{name}.c" for name in ("player", "ground", "places", "timed", "space", "calls")],
    depends=[
        *(
            f"csrc/native/{name}.h"
            for name in ("player", "ground", "places", "timed", "space", "ask", "calls")
        ),
        *(f"csrc/replay/{name}.h" for name in ("clock", "events", "payload", "slots")),
        "csrc/outside/watch.h",
    ],
    extra_compile_args=[
        *["-std=gnu11", "-O3", "-pthread"],
        # each call of the trace is made, whatever becomes of its block
        *(
            f"-fno-builtin-{name}"
            for name in ("malloc", "calloc", "realloc", "free", "memalign", "aligned_alloc")
        ),
    ],
    extra_link_args=["-pthread", "-Wl,-z,now", "-Wl,-z,dynamic-undefined-weak"],
    py_limited_api=True,
)
CONFINE = Extension(  # a program: it starts foreign code so that it may do no harm
    "heaplab._confine",
    sources=["csrc/native/confine.c"],
    extra_compile_args=["-std=gnu11", "-O2"],
    py_limited_api=True,
)
PROGRAMS = (AGENT, CONFINE, MONITOR, PLAYER)
ON_LINUX = sys.platform == "linux" and platform.machine() == "x86_64"


#: what has to be fast is compiled once more, for the usual machine alone: csrc/machine/machine.h
USUAL = [*sorted(glob("csrc/designs/*.c")), "csrc/replay/rows.c"]


class BuildPy(build_py):
    """Takes csrc along: an installed heaplab compiles designs of it (heaplab/csrc.py)."""

    def run(self) -> None:
        super().run()
        if not self.editable_mode:
            self.copy_tree("csrc", str(Path(self.build_lib, "heaplab", "_csrc")))


class BuildExt(build_ext):
    """Looks for the C compiler and Python's headers first: what is missing is told in a sentence."""

    def run(self) -> None:
        compiler = os.environ.get("CC") or sysconfig.get_config_var("CC") or "cc"
        if shutil.which(shlex.split(compiler)[0]) is None:
            raise SystemExit(
                f"heaplab needs a C compiler and finds no {compiler}: install gcc or clang, or set CC"
            )
        headers = Path(sysconfig.get_path("include"))
        if not (headers / "Python.h").is_file():
            raise SystemExit(
                f"heaplab needs Python's headers and finds none in {headers}: install python3-dev"
            )
        super().run()

    def build_extension(self, ext: Extension) -> None:
        if ext.name == "heaplab._core._heaplab":
            ext.extra_objects = [
                *self.compile_all(ext, USUAL, Path(self.build_temp, "usual"), [("HL_USUAL", None)]),
                *self.compile_all(ext, ext.sources, Path(self.build_temp), ext.define_macros),
            ]
            ext.sources = []
        if ext not in PROGRAMS:
            super().build_extension(ext)
            return
        objects = self.compile_all(ext, ext.sources, Path(self.build_temp))
        program = Path(self.get_ext_fullpath(ext.name))
        program.parent.mkdir(parents=True, exist_ok=True)
        self.compiler.link_executable(objects, str(program), extra_postargs=ext.extra_link_args)

    def compile_all(
        self,
        ext: Extension,
        sources: Sequence[str],
        folder: Path,
        macros: Sequence[tuple[str, str | None]] = (),
    ) -> list[str]:
        """Compile sources into `folder`, as many at once as there are cores; return the objects."""

        def compiled(source: str) -> list[str]:
            return self.compiler.compile(
                [source],
                str(folder),
                macros=list(macros),
                include_dirs=ext.include_dirs,
                extra_postargs=ext.extra_compile_args,
                depends=ext.depends,
            )

        with ThreadPoolExecutor(len(os.sched_getaffinity(0)) if ON_LINUX else 1) as pool:
            return [each for made in pool.map(compiled, sources) for each in made]


setup(
    cffi_modules=["heaplab/_core/build.py:ffibuilder"],
    ext_modules=[RECORDER, MONITOR, *([AGENT, CONFINE, PLAYER] if ON_LINUX else [])],
    cmdclass={"build_ext": BuildExt, "build_py": BuildPy},
)
