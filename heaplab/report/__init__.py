"""Results as something to look at; nothing here simulates.

show(comparison)                 tables on the terminal
to_json, to_csv                  the figures as text
write(comparison, directory)     a page with figures and tables

process_tree, address_spaces, page_walk, program_file, timeline
                                 pictures of what a kernel holds, see heaplab.report.pictures
"""

from heaplab.report.export import to_csv, to_json
from heaplab.report.page import write
from heaplab.report.pictures import (
    Picture,
    address_spaces,
    page_walk,
    process_tree,
    program_file,
    timeline,
)
from heaplab.report.tables import show

__all__ = [
    "Picture",
    "address_spaces",
    "page_walk",
    "process_tree",
    "program_file",
    "show",
    "timeline",
    "to_csv",
    "to_json",
    "write",
]
