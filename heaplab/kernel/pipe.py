"""Files that are no place but a way: pipes, and the console.

Reading and writing them has no offset; a reader may have to wait for a writer, and a writer for a reader.
The bytes under way are not in frames: what is of interest here is the order that pipes impose.

Source: Linux, fs/pipe.c; pipe(7).
"""

import errno
import os
from signal import SIGPIPE
from typing import Final

from heaplab.abi import SigInfo
from heaplab.errors import WouldBlock
from heaplab.kernel.inode import Inode
from heaplab.kernel.sigqueue import send
from heaplab.kernel.system import System, fail
from heaplab.kernel.task import Task

CAPACITY: Final = 65536  # bytes under way, at most
PIPE_BUF: Final = 4096  # what is no longer than this is written at once or not at all


class StreamInode(Inode):
    """A file without places in it: the base of pipes and the console."""

    seekable = False

    def receive(self, task: Task, count: int) -> bytes:
        """Return up to `count` bytes; none at the end.  Raises: WouldBlock."""
        return b""

    def take_back(self, data: bytes) -> None:
        """Be given back what was received last, and could not be passed on."""

    def transmit(self, task: Task, data: bytes) -> int:
        """Take some of the bytes at least; return how many.  Raises: OSError EPIPE, WouldBlock."""
        return len(data)


class Console(StreamInode):
    """Where the standard streams lead: what is written is kept in order, and there is nothing to read."""

    def __init__(self, system: System) -> None:
        super().__init__(system, "/dev/console")
        self.output = bytearray()

    def transmit(self, task: Task, data: bytes) -> int:
        """Keep what was written."""
        self.output += data
        return len(data)


class Pipe(StreamInode):
    """A pipe: what is written at one end comes out at the other, in order.

    readers, writers   open files of each end; without writers a read ends, without readers a write fails
    """

    def __init__(self, system: System) -> None:
        super().__init__(system, "pipe")
        self.name = f"pipe:[{self.number}]"
        self.readers = 0
        self.writers = 0
        self._under_way = bytearray()

    def opened(self, flags: int) -> None:
        """One more open file."""
        super().opened(flags)
        if flags & os.O_ACCMODE == os.O_RDONLY:
            self.readers += 1
        else:
            self.writers += 1

    def closed(self, flags: int) -> None:
        """One open file less."""
        super().closed(flags)
        if flags & os.O_ACCMODE == os.O_RDONLY:
            self.readers -= 1
        else:
            self.writers -= 1

    def receive(self, task: Task, count: int) -> bytes:
        """Take bytes out; none when there are no writers any more.  Raises: WouldBlock while there are."""
        if count and not self._under_way and self.writers:
            raise WouldBlock(
                f"read of process {task.tgid} would sleep: write into the pipe first, or close its other end",
                ready=lambda: bool(self._under_way) or not self.writers,
            )
        data = bytes(self._under_way[:count])
        del self._under_way[:count]
        return data

    def take_back(self, data: bytes) -> None:
        """Have them come out next."""
        self._under_way[:0] = data

    def transmit(self, task: Task, data: bytes) -> int:
        """Put bytes in, as many as there is room for; up to PIPE_BUF all at once.

        Raises: OSError EPIPE, with SIGPIPE, when there are no readers; WouldBlock when there is no room.
        """
        if not self.readers:
            send(task.group, SigInfo(SIGPIPE), task)
            fail(errno.EPIPE)
        needed = min(len(data), PIPE_BUF)
        if needed > CAPACITY - len(self._under_way):
            raise WouldBlock(
                f"write of process {task.tgid} would sleep: read from the pipe first",
                ready=lambda: not self.readers or needed <= CAPACITY - len(self._under_way),
            )
        taken = data[: CAPACITY - len(self._under_way)]
        self._under_way += taken
        return len(taken)
