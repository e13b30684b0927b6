"""Open files, and the descriptors by which a process knows them.

    task --> FdTable: 3 -> File --> Inode --> frames
                      4 ----^  (dup, fork: one File, one offset)

Source: Linux, include/linux/fs.h (struct file), fs/file.c.
"""

import errno
import os

from heaplab.kernel.inode import Inode
from heaplab.kernel.system import fail


class File:
    """An open file: an inode, the right to read or write it, and an offset.

    users   descriptors and VMAs; after the last the file is closed
    pos     bytes
    """

    __slots__ = ("flags", "inode", "pos", "users")

    def __init__(self, inode: Inode, flags: int) -> None:
        self.inode = inode
        self.flags = flags
        self.pos = 0
        self.users = 0
        inode.opened(flags)

    @property
    def readable(self) -> bool:
        """Whether it was opened to be read."""
        return self.flags & os.O_ACCMODE != os.O_WRONLY

    @property
    def writable(self) -> bool:
        """Whether it was opened to be written."""
        return self.flags & os.O_ACCMODE != os.O_RDONLY

    def get(self) -> None:
        """One more descriptor or VMA."""
        self.users += 1

    def put(self) -> None:
        """One less; after the last the file is closed."""
        self.users -= 1
        if self.users == 0:
            self.inode.closed(self.flags)


class FdTable:
    """The descriptors of a process, or of all that share them (CLONE_FILES).

    users           tasks; after the last all are closed
    close_on_exec   those that exec closes
    """

    __slots__ = ("_files", "close_on_exec", "users")

    def __init__(self) -> None:
        self._files: dict[int, File] = {}
        self.close_on_exec: set[int] = set()
        self.users = 1

    def fork(self) -> "FdTable":
        """Return a table of its own for a child: other descriptors, the same open files."""
        new = FdTable()
        for fd, file in self._files.items():
            new._files[fd] = file
            file.get()
        new.close_on_exec |= self.close_on_exec
        return new

    def share(self) -> "FdTable":
        """Return this very table for one task more (CLONE_FILES)."""
        self.users += 1
        return self

    def put(self) -> None:
        """One task less; after the last all are closed."""
        self.users -= 1
        if self.users == 0:
            for fd in list(self._files):
                self.close(fd)

    def exec(self) -> None:
        """Close what exec closes."""
        for fd in sorted(self.close_on_exec):
            self.close(fd)

    def files(self) -> list[File]:
        """Return the open file of each descriptor."""
        return list(self._files.values())

    def find(self, fd: int) -> File | None:
        """Return the open file of a descriptor, if it is one."""
        return self._files.get(fd)

    def __getitem__(self, fd: int) -> File:
        """Return the open file of a descriptor.  Raises: OSError EBADF."""
        file = self._files.get(fd)
        if file is None:
            fail(errno.EBADF)
        return file

    def lowest_free(self, most: int) -> int:
        """Return the descriptor that the next file gets, below `most`.  Raises: OSError EMFILE."""
        fd = 0
        while fd in self._files:
            fd += 1
        if fd >= most:
            fail(errno.EMFILE)
        return fd

    def install(self, file: File, most: int, *, close_on_exec: bool = False) -> int:
        """Give a file the lowest free descriptor below `most`.  Raises: OSError EMFILE."""
        fd = self.lowest_free(most)
        self._files[fd] = file
        file.get()
        if close_on_exec:
            self.close_on_exec.add(fd)
        return fd

    def close(self, fd: int) -> None:
        """Close a descriptor.  Raises: OSError EBADF."""
        file = self[fd]
        del self._files[fd]
        self.close_on_exec.discard(fd)
        file.put()
