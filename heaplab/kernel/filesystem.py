"""The file system: names and the files on disk that have them."""

import errno
from collections.abc import Iterator

from heaplab.kernel.inode import DiskInode
from heaplab.kernel.system import System, fail


class FileSystem:
    """Files by name.  Names are plain text: there are no directories, and no rights."""

    def __init__(self, system: System) -> None:
        self._system = system
        self._inodes: dict[str, DiskInode] = {}

    def __iter__(self) -> Iterator[DiskInode]:
        return iter(self._inodes.values())

    def __contains__(self, path: str) -> bool:
        return path in self._inodes

    def find(self, path: str) -> DiskInode:
        """Return the file of that name.  Raises: OSError ENOENT."""
        inode = self._inodes.get(path)
        if inode is None:
            fail(errno.ENOENT)
        return inode

    def create(self, path: str, data: bytes = b"") -> DiskInode:
        """Return a new file.  Raises: OSError EEXIST, ENOENT (no name at all)."""
        if not path:
            fail(errno.ENOENT)
        if path in self._inodes:
            fail(errno.EEXIST)
        inode = self._inodes[path] = DiskInode(self._system, path, data)
        inode.get()
        return inode

    def unlink(self, path: str) -> None:
        """Take a name away; the file is gone when nobody has it open.  Raises: OSError ENOENT."""
        inode = self.find(path)
        del self._inodes[path]
        inode.put()
