"""heaplab: a laboratory for memory allocators on an exact model of the machine and of Linux's kernel."""

__version__ = "0.1.0"
