"""Shared anonymous memory: pages that belong to no process, and to whoever maps them.

A mapping made with MAP_SHARED | MAP_ANONYMOUS is a file without a name.  Its pages are made when first
touched and live until the last VMA of it, in whichever process, is gone.  Each page holds one reference
of the file's own and one of every entry that maps it.

Source: Linux, mm/shmem.c, shmem_zero_setup.
"""

from heaplab.machine import FrameKind, Machine


class ShmemFile:
    """The pages of one shared anonymous mapping.

    inode   its number, as maps shows it
    pages   page number in the file -> frame
    users   VMAs that map it; at 0 the pages are given back
    """

    __slots__ = ("inode", "machine", "pages", "users")

    def __init__(self, machine: Machine, inode: int) -> None:
        self.machine = machine
        self.inode = inode
        self.pages: dict[int, int] = {}
        self.users = 0

    def page(self, pgoff: int) -> int | None:
        """Return the frame of a page, made now if need be; None when the machine has none left."""
        frame = self.pages.get(pgoff)
        if frame is None:
            frame = self.machine.alloc(FrameKind.FILE)
            if frame is not None:
                self.pages[pgoff] = frame
        return frame

    def get(self) -> None:
        """One more VMA maps the file."""
        self.users += 1

    def put(self) -> None:
        """One VMA less; after the last the pages are gone."""
        self.users -= 1
        if self.users == 0:
            for frame in self.pages.values():
                self.machine.put(frame)
            self.pages.clear()
