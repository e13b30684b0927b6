"""The machine: frames, page tables, the MMU with its TLB, and exact counters.

Machine   physical memory and the TLB
Space     an address space: four-level page tables in frames
Context   what of a CPU belongs to one task: loads and stores, and the traps they raise
Looking   the same memory, looked at without a trace
Pte       the bits of a page-table entry
"""

from heaplab.machine.context import REGISTER, Context, Reader, Reference, TrapHandler
from heaplab.machine.look import LookHandler, Looking
from heaplab.machine.machine import USUAL_PAGE, USUAL_TLB, FrameFlag, FrameKind, Machine
from heaplab.machine.space import Pte, Space

__all__ = [
    "REGISTER",
    "USUAL_PAGE",
    "USUAL_TLB",
    "Context",
    "FrameFlag",
    "FrameKind",
    "LookHandler",
    "Looking",
    "Machine",
    "Pte",
    "Reader",
    "Reference",
    "Space",
    "TrapHandler",
]
