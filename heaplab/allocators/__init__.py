"""Allocators: malloc designs over a process's memory, in Python and in C.

create(spec, process, language="python")   an empty heap
parse(spec), parse_list(specs), names()    specs
Allocator, Block, State                    the contract
"""

from heaplab.allocators.base import Allocator, Block, Option, State
from heaplab.allocators.registry import LANGUAGES, Spec, create, names, parse, parse_list

__all__ = [
    "LANGUAGES",
    "Allocator",
    "Block",
    "Option",
    "Spec",
    "State",
    "create",
    "names",
    "parse",
    "parse_list",
]
