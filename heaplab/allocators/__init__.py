"""Allocators: malloc designs over a process's memory, in Python and in C.

create(spec, process, language="python")   an empty heap
parse(spec), parse_list(specs), names()    specs
Allocator, Span, State, Trait              the contract
"""

from heaplab.allocators.base import Allocator, Entry, Option, Span, State, Trait
from heaplab.allocators.registry import LANGUAGES, Spec, create, names, parse, parse_list

__all__ = [
    "LANGUAGES",
    "Allocator",
    "Entry",
    "Option",
    "Span",
    "Spec",
    "State",
    "Trait",
    "create",
    "names",
    "parse",
    "parse_list",
]
