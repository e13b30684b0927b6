"""The parts of the build that pyproject.toml cannot say: the extension made by cffi, and the recorder."""

import os
import shlex
import shutil
import sysconfig
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

RECORDER = Extension(  # preloaded into other programs, never imported: it neither needs nor knows Python
    "heaplab.native._recorder",
    sources=["csrc/record/recorder.c"],
    depends=["csrc/record/recorder.h"],
    extra_compile_args=["-std=gnu11", "-O2", "-fvisibility=hidden", "-ftls-model=initial-exec"],
    extra_link_args=["-pthread", "-ldl"],
    py_limited_api=True,
)


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


setup(
    cffi_modules=["heaplab/_core/build.py:ffibuilder"],
    ext_modules=[RECORDER],
    cmdclass={"build_ext": BuildExt},
)
