"""What can go wrong, each with its cause and its mend.

    HeaplabError
        UsageError          a user's mistake: one sentence that names the place and the mend
            DamagedTrace    a trace breaks a rule, or its file ends, after its header was read
            WouldBlock      a call made by hand would sleep, and nobody could wake it
        HeapCorruption      an allocator's metadata contradicts itself, or a pointer is not its own
        ProcessDied         a signal ended the process whose access or call this was
            SegmentationFault, BusError, OutOfMemory
        OutOfFuel           a budget of memory references is spent
        Unreadable          somebody looks where no read is allowed
        KernelPanic         the model's kernel cannot go on: pid 1 is gone, or no memory and nobody to kill

System calls that fail raise OSError with Linux's errno, as Python's os module does.
"""

import signal
from collections.abc import Callable
from enum import IntEnum


class HeaplabError(Exception):
    """The root of everything heaplab raises on purpose."""


class UsageError(HeaplabError):
    """A user's mistake: what is wrong, where, and how to mend it, in one sentence."""


class DamagedTrace(UsageError):
    """A trace that could be opened cannot be read to its end."""


class WouldBlock(UsageError):
    """A system call made by hand would sleep until another process acts, and none runs meanwhile.

    `ready()` tells, without changing anything, whether what it waits for has happened.
    """

    def __init__(self, message: str, ready: Callable[[], bool]) -> None:
        self.ready = ready
        super().__init__(message)


class KernelPanic(HeaplabError):
    """The modelled kernel cannot go on."""


class OutOfFuel(HeaplabError):
    """A context has made all references of its budget, and one more was to be made.  `budget`: how many."""

    def __init__(self, budget: int) -> None:
        self.budget = budget
        super().__init__(
            f"the budget of {budget:,} memory references is spent: what makes more goes round in a loop, or "
            "needs a larger budget"
        )


class Unreadable(HeaplabError):
    """The memory at `address` cannot be looked at: nothing there may be read."""

    def __init__(self, address: int) -> None:
        self.address = address
        super().__init__(f"nothing at {address:#x} may be read")


class Rule(IntEnum):
    """The rules of a sound heap that a pointer or a block can break; csrc/heap/heap.h has the same."""

    DOUBLE_FREE = 1
    FOREIGN_POINTER = 2
    BROKEN_HEADER = 3
    BROKEN_FOOTER = 4
    BROKEN_LINK = 5
    BROKEN_INDEX = 6
    BROKEN_ROOT = 7
    UNCOALESCED = 8
    NO_PROGRESS = 9
    UNREADABLE = 10
    FREED_REALLOC = 11
    FREED_USABLE_SIZE = 12

    @property
    def text(self) -> str:
        """The rule as a sentence."""
        return _RULE_TEXT[self]


_RULE_TEXT = {
    Rule.DOUBLE_FREE: "double free: a block that is free already cannot be freed again",
    Rule.FOREIGN_POINTER: "foreign pointer: no block of this heap starts there",
    Rule.BROKEN_HEADER: "broken header: the block's header does not carry a valid size and seal",
    Rule.BROKEN_FOOTER: "broken footer: a free block's footer does not repeat its header",
    Rule.BROKEN_LINK: "broken link: a free block's neighbours in the index do not point back to it",
    Rule.BROKEN_INDEX: "broken index: the free blocks found by walking are not the ones in the index",
    Rule.BROKEN_ROOT: "broken root: the heap's root does not carry this design's magic and bounds",
    Rule.UNCOALESCED: "free neighbours: two free blocks side by side were not made one",
    Rule.NO_PROGRESS: "no progress: the heap's metadata lead round in a circle, back to this place",
    Rule.UNREADABLE: "unreadable: the heap's metadata lead to this place, where nothing may be read",
    Rule.FREED_REALLOC: "use of a freed block by realloc: the block is free already",
    Rule.FREED_USABLE_SIZE: "use of a freed block by usable_size: the block is free already",
}


class HeapCorruption(HeaplabError):
    """A block breaks a rule.  `address` is the block (or the pointer given), `rule` the rule broken."""

    def __init__(self, address: int, rule: Rule, detail: str = "") -> None:
        self.address = address
        self.rule = rule
        self.detail = detail
        super().__init__(f"{address:#x}: {rule.text}" + (f" ({detail})" if detail else ""))


class ProcessDied(HeaplabError):
    """The process was ended by a signal in the middle of what it was doing."""

    def __init__(self, pid: int, signum: signal.Signals, why: str) -> None:
        self.pid = pid
        self.signum = signum
        super().__init__(f"process {pid} was ended by {signum.name}: {why}")


class SegmentationFault(ProcessDied):
    """SIGSEGV.  `address` was accessed.

    si_code: 1 (MAPERR, nothing mapped), 2 (ACCERR, denied), 0x80 (the CPU refused the address itself).
    """

    def __init__(self, pid: int, address: int, si_code: int, access: str) -> None:
        self.address = address
        self.si_code = si_code
        reason = {
            1: "SEGV_MAPERR, nothing is mapped there",
            2: "SEGV_ACCERR, the protection forbids it",
            0x80: "SI_KERNEL, no such address exists",
        }
        super().__init__(pid, signal.SIGSEGV, f"{access} at {address:#x}: {reason[si_code]}")


class BusError(ProcessDied):
    """SIGBUS.  `address` lies in a mapping, on a page beyond the end of the file; si_code 2 (ADRERR)."""

    def __init__(self, pid: int, address: int, si_code: int, access: str) -> None:
        self.address = address
        self.si_code = si_code
        why = f"{access} at {address:#x}: BUS_ADRERR, the page lies beyond the end of its file"
        super().__init__(pid, signal.SIGBUS, why)


class OutOfMemory(ProcessDied):
    """SIGKILL from the OOM killer: the machine has no frame left."""

    def __init__(self, pid: int) -> None:
        super().__init__(pid, signal.SIGKILL, "out of memory, chosen by the OOM killer")
