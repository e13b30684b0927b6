"""Results as something to look at; nothing here simulates.

show(comparison)                 tables on the terminal
show_sweep, show_diff, show_tuning
                                 means with intervals; what became better or worse; a front
to_json, to_csv                  the figures as text
verdict(comparison)              what it comes to, in sentences
write_page(comparison, path)     all of it as one page that opens anywhere
write(comparison, directory)     a page with figures and tables, its pictures as files beside it

process_tree, address_spaces, page_walk, program_file, timeline
                                 pictures of what a kernel holds, see heaplab.report.pictures
heap, filmstrip                  pictures of a heap, and of what a few requests make of it
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from heaplab.report.export import to_csv, to_json
from heaplab.report.sweeps import show_diff, show_sweep, show_tuning
from heaplab.report.tables import show
from heaplab.report.verdict import Verdict, verdict

if TYPE_CHECKING:
    from heaplab.report.onepage import write_page
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
    "Verdict",
    "address_spaces",
    "filmstrip",
    "heap",
    "page_walk",
    "process_tree",
    "program_file",
    "show",
    "show_diff",
    "show_sweep",
    "show_tuning",
    "timeline",
    "to_csv",
    "to_json",
    "verdict",
    "write",
    "write_page",
]


def __getattr__(name: str) -> Any:
    """Import what draws when it is asked for: matplotlib takes longer than all of heaplab."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    rooms = {"write": "heaplab.report.page", "write_page": "heaplab.report.onepage"}
    return getattr(import_module(rooms.get(name, "heaplab.report.pictures")), name)
