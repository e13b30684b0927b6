"""The door to the C core: the only importer of the extension."""

from heaplab._core._heaplab import ffi, lib

__all__ = ["ffi", "lib"]
