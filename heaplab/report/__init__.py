"""Results as something to look at; nothing here simulates.

show(comparison)                 tables on the terminal
to_json, to_csv                  the figures as text
write(comparison, directory)     a page with figures and tables

process_tree, address_spaces, page_walk, program_file, timeline
                                 pictures of what a kernel holds, see heaplab.report.pictures
heap, filmstrip                  pictures of a heap, and of what a few requests make of it
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from heaplab.report.export import to_csv, to_json
from heaplab.report.tables import show

if TYPE_CHECKING:
    from heaplab.report.page import write
    from heaplab.report.pictures import (
        Picture,
        address_spaces,
        filmstrip,
        heap,
        page_walk,
        process_tree,
        program_file,
        timeline,
    )

__all__ = [
    "Picture",
    "address_spaces",
    "filmstrip",
    "heap",
    "page_walk",
    "process_tree",
    "program_file",
    "show",
    "timeline",
    "to_csv",
    "to_json",
    "write",
]


def __getattr__(name: str) -> Any:
    """Import what draws when it is asked for: matplotlib takes longer than all of heaplab."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    room = import_module("heaplab.report.page" if name == "write" else "heaplab.report.pictures")
    return getattr(room, name)
