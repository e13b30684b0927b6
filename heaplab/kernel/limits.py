"""What a process may have: resource limits, and the promise of memory that the machine may not have.

Source: Linux, kernel/sys.c (do_prlimit), mm/mmap.c (may_expand_vm), mm/util.c (__vm_enough_memory),
kernel/ucount.c (is_rlimit_overlimit).
"""

import errno
from typing import Final

from heaplab.abi import RLIM_INFINITY, Rlimit
from heaplab.kernel.mm import Mm
from heaplab.kernel.system import System, fail
from heaplab.kernel.vma import VM_GROWSDOWN, VM_SHARED, VM_WRITE


class Limits:
    """The resource limits of a process: (soft, hard) of each; all of its threads have the same object.

    Those that Rlimit does not name are kept and bound nothing.

    >>> limits = Limits(stack=8 << 20)
    >>> limits.set(Rlimit.STACK, 1 << 20, 8 << 20)
    >>> limits.soft(Rlimit.STACK), limits.soft(Rlimit.AS) == RLIM_INFINITY
    (1048576, True)
    """

    COUNT: Final = 16

    def __init__(self, stack: int) -> None:
        """stack: bytes."""
        self._pairs = [(RLIM_INFINITY, RLIM_INFINITY)] * self.COUNT
        self._pairs[Rlimit.STACK] = stack, RLIM_INFINITY
        self._pairs[Rlimit.CORE] = 0, RLIM_INFINITY
        self._pairs[Rlimit.NOFILE] = 1024, 4096
        self._pairs[Rlimit.MEMLOCK] = 8 << 20, 8 << 20

    def fork(self) -> "Limits":
        """Return the limits of a child: the same, and from now on its own."""
        new = Limits.__new__(Limits)
        new._pairs = self._pairs.copy()
        return new

    def get(self, resource: int) -> tuple[int, int]:
        """Return (soft, hard).  Raises: OSError EINVAL."""
        if not 0 <= resource < self.COUNT:
            fail(errno.EINVAL)
        return self._pairs[resource]

    def set(self, resource: int, soft: int, hard: int) -> None:
        """Set both.  Raises: OSError EINVAL; EPERM for a hard limit above the one that stands."""
        old = self.get(resource)
        if soft > hard:
            fail(errno.EINVAL)
        if hard > old[1]:
            fail(errno.EPERM)
        self._pairs[resource] = soft, hard

    def soft(self, resource: Rlimit) -> int:
        """Return what holds now."""
        return self._pairs[resource][0]


def may_expand(mm: Mm, limits: Limits, flags: int, pages: int) -> bool:
    """Whether RLIMIT_AS and RLIMIT_DATA allow `pages` more with these VM flags (rule 39)."""
    if mm.space.raw.vm_pages + pages > limits.soft(Rlimit.AS) >> mm.page_shift:
        return False
    if flags & (VM_WRITE | VM_SHARED | VM_GROWSDOWN) != VM_WRITE:
        return True
    soft, hard = limits.get(Rlimit.DATA)
    # a soft limit of 0 counts for brk alone, as Linux does for the sake of Valgrind
    return mm.vmas.data + pages <= (soft or hard) >> mm.page_shift


def may_lock(mm: Mm, limits: Limits, pages: int) -> bool:
    """Whether RLIMIT_MEMLOCK allows `pages` more that stay in memory."""
    return mm.vmas.locked + pages <= limits.soft(Rlimit.MEMLOCK) >> mm.page_shift


def may_fork(system: System, limits: Limits) -> bool:
    """Whether RLIMIT_NPROC allows the user one task more.

    All tasks are one ordinary user's, pid 1 included; threads count, and the dead until they are collected.
    """
    return len(system.tasks) < limits.soft(Rlimit.NPROC)


def charge(mm: Mm, pages: int) -> None:
    """Refuse to promise more memory than the policy allows (rule 40).

    overcommit_memory 0: refuse the obviously excessive, more at once than the machine has; 1: nothing;
    2: what would bring all promises together above overcommit_ratio percent of memory, less a reserve.
    Raises: OSError ENOMEM.
    """
    system = mm.system
    settings, total = system.settings, system.machine.frame_count
    if settings.overcommit_memory == 1 or pages <= 0:
        return
    if settings.overcommit_memory == 0:
        refused = pages > total
    else:
        # so that who uses up the rest can still be dealt with (user_reserve_kbytes)
        reserve = min(mm.space.raw.vm_pages // 32, settings.user_reserve >> mm.page_shift)
        refused = system.committed + pages >= total * settings.overcommit_ratio // 100 - reserve
    if refused:
        fail(errno.ENOMEM)
