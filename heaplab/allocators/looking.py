"""Looking at a heap: what may go wrong on the way through broken metadata, as HeapCorruption.

A look (heaplab.process.Look) counts nothing and changes nothing; its loads fail where nothing may be read.
It has a budget of references, so that metadata that lead round in a circle come to an end.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from heaplab.errors import HeapCorruption, OutOfFuel, Rule, Unreadable
from heaplab.look import Look
from heaplab.process import Process

#: references that a look may make for each byte that the kernel has given the process, and in any case
_PER_BYTE, _LEAST = 4, 1_000_000


@contextmanager
def looking(process: Process, root: int) -> Iterator[Look]:
    """Give a look at the process, for the heap with this root.

    Raises: HeapCorruption instead of Unreadable (UNREADABLE) and OutOfFuel (NO_PROGRESS, naming the root).
    """
    look = process.look()
    space = look.context.raw.space
    look.context.fuel = _LEAST + _PER_BYTE * int(space.vm_pages) * process.page_size
    try:
        yield look
    except Unreadable as error:
        raise HeapCorruption(error.address, Rule.UNREADABLE) from error
    except OutOfFuel as error:
        raise HeapCorruption(root, Rule.NO_PROGRESS) from error


def verify_magic(process: Process, root: int, magic: int) -> None:
    """Raise HeapCorruption (BROKEN_ROOT) unless the word at `root` is `magic`."""
    try:
        found = process.look().load64(root)
    except Unreadable:
        found = ~magic
    if found != magic:
        raise HeapCorruption(root, Rule.BROKEN_ROOT)
