"""The part of the build that pyproject.toml cannot say: the extension made by cffi."""

from setuptools import setup

setup(cffi_modules=["heaplab/_core/build.py:ffibuilder"])
