"""Allocators from outside: a course's mm.c, a C file that defines malloc, a shared library."""

from heaplab.outside.finding import Outside, find_allocator, find_allocators, find_outside
from heaplab.outside.judging import Judged, judge
from heaplab.outside.kinds import Kind

__all__ = ["Judged", "Kind", "Outside", "find_allocator", "find_allocators", "find_outside", "judge"]
