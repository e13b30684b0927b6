"""Allocators: malloc designs over a process's memory, in Python and in C.

create(spec, process, language="python")   an empty heap
parse(spec), parse_list(specs), names()    specs
design_of_file(path)                       the design in a C file, as a class
Allocator, Span, State, Trait              the contract
"""

from heaplab.allocators.base import Allocator, Entry, Option, Span, State, Trait, Word
from heaplab.allocators.registry import LANGUAGES, Spec, create, names, parse, parse_list
from heaplab.allocators.written import design_of_file

__all__ = [
    "LANGUAGES",
    "Allocator",
    "Entry",
    "Option",
    "Span",
    "Spec",
    "State",
    "Trait",
    "Word",
    "create",
    "design_of_file",
    "names",
    "parse",
    "parse_list",
]
