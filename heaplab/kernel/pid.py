"""Process numbers: handed out in sequence, used again when freed.

Source: Linux, kernel/pid.c (alloc_pid), lib/idr.c (idr_alloc_cyclic).
"""

from typing import Final

RESERVED_PIDS: Final = 300  # after the first wrap, these stay with the daemons that boot starts


class PidAllocator:
    """Gives the numbers 1 to pid_max - 1 in sequence; after a wrap from 300 on, skipping those in use.

    >>> pids = PidAllocator(pid_max=303)
    >>> [pids.alloc() for _ in range(302)][-1]
    302
    >>> pids.free(7), pids.free(301)
    (None, None)
    >>> pids.alloc(), pids.alloc()
    (301, None)
    """

    def __init__(self, pid_max: int) -> None:
        self.pid_max = pid_max
        self.in_use: set[int] = set()
        self._next = 1

    def alloc(self) -> int | None:
        """Return a pid, or None when all are in use.  Cost: O(1), but O(pids in a row) after a wrap."""
        lowest = RESERVED_PIDS if self._next > RESERVED_PIDS else 1
        first = max(self._next, lowest)
        for numbers in (range(first, self.pid_max), range(lowest, min(first, self.pid_max))):
            for pid in numbers:
                if pid not in self.in_use:
                    self.in_use.add(pid)
                    self._next = pid + 1
                    return pid
        return None

    def free(self, pid: int) -> None:
        """Give a pid back: its task was waited for."""
        self.in_use.remove(pid)
