"""The machine: frames, page tables, the MMU with its TLB, and exact counters.

Machine   physical memory and the TLB
Space     an address space: four-level page tables in frames
Context   what of a CPU belongs to one task: loads and stores, and the traps they raise
Pte       the bits of a page-table entry
"""

from heaplab.machine.context import REGISTER, Context, TrapHandler
from heaplab.machine.machine import FrameFlag, FrameKind, Machine
from heaplab.machine.space import Pte, Space

__all__ = ["REGISTER", "Context", "FrameFlag", "FrameKind", "Machine", "Pte", "Space", "TrapHandler"]
