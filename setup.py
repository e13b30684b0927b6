"""The parts of the build that pyproject.toml cannot say: the extension made by cffi, and the recorder."""

from setuptools import Extension, setup

RECORDER = Extension(  # preloaded into other programs, never imported: it neither needs nor knows Python
    "heaplab.native._recorder",
    sources=["csrc/record/recorder.c"],
    depends=["csrc/record/recorder.h"],
    extra_compile_args=["-std=gnu11", "-O2", "-fvisibility=hidden", "-ftls-model=initial-exec"],
    py_limited_api=True,
)

setup(cffi_modules=["heaplab/_core/build.py:ffibuilder"], ext_modules=[RECORDER])
