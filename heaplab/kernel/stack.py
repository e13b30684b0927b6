"""The stack: it grows when it is touched below its start.

Source: Linux, mm/vma.c, expand_downwards and acct_stack_growth.
"""

from heaplab.abi import Rlimit
from heaplab.kernel.limits import Limits, charge, may_expand, may_lock
from heaplab.kernel.mm import Mm
from heaplab.kernel.vma import VM_ACCESS, VM_GROWSDOWN, VM_LOCKED, Vma


def grow_stack(mm: Mm, limits: Limits, vma: Vma, va: int) -> bool:
    """Make a stack reach down to `va`; False when it may not (rules 37 and 38).

    It may not grow beyond the limit, nor to within the guard gap of memory that can be accessed.
    Once the gap is found to be kept, the VMA has an anon_vma, whether it grows or not.
    """
    layout = mm.layout
    start = va & mm.page_mask
    if start < layout.min_addr:
        return False
    below = mm.vmas.last_below(vma.start)
    if (
        below is not None
        and not below.flags & VM_GROWSDOWN
        and below.flags & VM_ACCESS
        and start - below.end < layout.guard_gap
    ):
        return False
    mm.prepare_anon_vma(vma)
    pages = (vma.start - start) >> mm.page_shift
    if vma.end - start > limits.soft(Rlimit.STACK):
        return False
    if not may_expand(mm, limits, vma.flags, pages):
        return False
    if vma.flags & VM_LOCKED and not may_lock(mm, limits, pages):
        return False
    try:
        charge(mm, pages)
    except OSError:
        return False
    mm.vmas.resize(vma, start, vma.end)
    return True
