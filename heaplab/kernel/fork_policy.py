"""What fork does with the pages of a VMA that was written: three ways to the same results.

                  at fork                      at the first write                   from fork on
    eager         every page copied            nothing                              all memory twice
    copy-on-write every entry copied           the page copied                      tables twice
    shared-tables an entry for every 512       512 entries copied, then the page    only what is written

Contents, addresses, and which frames are shared after a write are the same.  What differs are minor faults:
with eager copies writes after fork take none; with shared tables, the last process that has a table needs
one for the whole table, where copy-on-write takes one for each page of it.

Source: copy-on-write: Linux, mm/memory.c, copy_pte_range.  Shared tables: Zhao, Gong and Fonseca, "On-demand-
fork: a microsecond fork for memory-intensive and latency-sensitive applications", EuroSys 2021.  Eager:
the first UNIX systems.
"""

from collections.abc import Callable
from typing import Final

from heaplab.machine import Space

#: (parent's space, child's space, start, end) -> pages that the child got, None when no frame was left
ForkPolicy = Callable[[Space, Space, int, int], int | None]


def copy_on_write(parent: Space, child: Space, start: int, end: int) -> int | None:
    """Copy the entries; both sides lose the right to write.  O(pages)"""
    return parent.fork_range(child, start, end, cow=True)


def eager(parent: Space, child: Space, start: int, end: int) -> int | None:
    """Copy the pages.  O(bytes)"""
    return parent.fork_copies(child, start, end)


def shared_tables(parent: Space, child: Space, start: int, end: int) -> int | None:
    """Share the leaf tables; both sides lose the right to write through them.  O(tables)"""
    return parent.fork_tables(child, start, end)


POLICIES: Final[dict[str, ForkPolicy]] = {
    "copy-on-write": copy_on_write,
    "eager": eager,
    "shared-tables": shared_tables,
}
