"""The stack: it grows when it is touched below its start.

Source: Linux, mm/vma.c, expand_downwards and acct_stack_growth.
"""

from heaplab.kernel.mm import Mm
from heaplab.kernel.mmap import charge
from heaplab.kernel.vma import VM_ACCESS, VM_GROWSDOWN, Vma


def grow_stack(mm: Mm, vma: Vma, va: int) -> bool:
    """Make a stack reach down to `va`; False when it may not (rules 37 and 38).

    It may not grow beyond the limit, nor to within the guard gap of memory that can be accessed.
    """
    layout = mm.layout
    start = va & mm.page_mask
    if start < layout.min_addr or vma.end - start > layout.stack_limit:
        return False
    below = mm.vmas.last_below(vma.start)
    if (
        below is not None
        and not below.flags & VM_GROWSDOWN
        and below.flags & VM_ACCESS
        and start - below.end < layout.guard_gap
    ):
        return False
    try:
        charge(mm, vma.start - start)
    except OSError:
        return False
    mm.vmas.resize(vma, start, vma.end)
    return True
