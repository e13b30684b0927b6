"""The file system: names, and the files that have them, on disk or in memory alone (Linux: tmpfs)."""

import errno
from collections.abc import Iterator

from heaplab.kernel.inode import DiskInode, Inode
from heaplab.kernel.system import System, fail


class FileSystem:
    """Files by name.  Names are plain text: there are no directories, and no rights."""

    def __init__(self, system: System) -> None:
        self._system = system
        self._inodes: dict[str, Inode] = {}

    def __iter__(self) -> Iterator[Inode]:
        return iter(self._inodes.values())

    def __contains__(self, path: str) -> bool:
        return path in self._inodes

    def find(self, path: str) -> Inode:
        """Return the file of that name.  Raises: OSError ENOENT."""
        inode = self._inodes.get(path)
        if inode is None:
            fail(errno.ENOENT)
        return inode

    def create(self, path: str, data: bytes = b"", *, disk: bool = True) -> Inode:
        """Return a new file.  Raises: OSError EEXIST, ENOENT (no name at all)."""
        if not path:
            fail(errno.ENOENT)
        if path in self._inodes:
            fail(errno.EEXIST)
        inode = (DiskInode if disk else Inode)(self._system, path)
        self._inodes[path] = inode
        inode.get()
        inode.fill(data)
        return inode

    def unlink(self, path: str) -> None:
        """Take a name away; the file is gone when nobody has it open.  Raises: OSError ENOENT."""
        inode = self.find(path)
        del self._inodes[path]
        inode.put()
