"""Files that are no place but a way: pipes, and the console.

Reading and writing them has no offset; a reader may have to wait for a writer, and a writer for a reader.
The bytes under way are not in frames: what is of interest here is the order that pipes impose.

    write --> [300 of 4096 bytes] [4096] [2000] --> read        up to 16 buffers

Source: Linux 6.18, fs/pipe.c (anon_pipe_read, anon_pipe_write); pipe(7).
"""

import errno
import os
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable
from signal import SIGPIPE
from typing import Final, NoReturn

from heaplab.abi import SigInfo
from heaplab.errors import WouldBlock
from heaplab.kernel.inode import Inode
from heaplab.kernel.sigqueue import send
from heaplab.kernel.system import System, fail
from heaplab.kernel.task import Task

BUFFERS: Final = 16  # that a pipe has (PIPE_DEF_BUFFERS)
BUFFER: Final = 4096  # bytes that one takes, whatever the machine's pages: a page, and PIPE_BUF

#: get(done, length): returns some of what is to be written, behind the first `done` bytes, as far as it can
#: be read
Get = Callable[[int, int], bytes]
#: put(done, data): stores what was read, behind the first `done` bytes; returns how many bytes it could
Put = Callable[[int, bytes], int]


class StreamInode(Inode, ABC):
    """A file without places in it: the base of pipes and the console."""

    seekable = False
    max_bytes = (1 << 64) - 1  # Linux, mm/mmap.c, file_mmap_size_max: it is no regular file

    @abstractmethod
    def receive(self, task: Task, flags: int, count: int, put: Put) -> int:
        """Pass on up to `count` bytes; return how many: none at the end.

        flags: of the open file.  Raises: OSError EAGAIN, EFAULT; WouldBlock.
        """

    @abstractmethod
    def transmit(self, task: Task, flags: int, count: int, get: Get) -> int:
        """Take some of `count` bytes at least; return how many.

        flags: of the open file.  Raises: OSError EPIPE, EAGAIN, EFAULT; WouldBlock.
        """


class Console(StreamInode):
    """Where the standard streams lead: what is written is kept in order, and there is nothing to read."""

    def __init__(self, system: System) -> None:
        super().__init__(system, "/dev/console")
        self.output = bytearray()

    def receive(self, task: Task, flags: int, count: int, put: Put) -> int:
        """Nobody types anything: the end."""
        return 0

    def transmit(self, task: Task, flags: int, count: int, get: Get) -> int:
        """Keep what was written."""
        data = get(0, count)
        if count and not data:
            fail(errno.EFAULT)
        self.output += data
        return len(data)


class _Buffer:
    """One buffer of a pipe.

    data    what was ever written into it
    start   how much of that was read
    packet  it was written with O_DIRECT: nothing is added, and one read takes all there is
    """

    __slots__ = ("data", "packet", "start")

    def __init__(self, data: bytes, *, packet: bool) -> None:
        self.data = bytearray(data)
        self.start = 0
        self.packet = packet


class Pipe(StreamInode):
    """A pipe: what is written at one end comes out at the other, in order.

    readers, writers   open files of each end; without writers a read ends, without readers a write fails
    """

    executable = False

    def __init__(self, system: System) -> None:
        super().__init__(system, "pipe")
        self.name = f"pipe:[{self.number}]"
        self.readers = 0
        self.writers = 0
        self._ring: deque[_Buffer] = deque()  # the buffers in use, in the order of reading; none is empty

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

    def receive(self, task: Task, flags: int, count: int, put: Put) -> int:
        """Take bytes out, of one buffer after the other; none when there are no writers any more.

        What cannot be stored stays, and so does all that would have come of the same buffer with it.
        """
        if count <= 0:
            return 0
        if not self._ring and self.writers:
            _sleep(
                flags,
                f"read of process {task.tgid} would sleep: write into the pipe first, or close its other end",
                ready=lambda: bool(self._ring) or not self.writers,
            )
        done = 0
        while self._ring and done < count:
            buffer = self._ring[0]
            data = bytes(buffer.data[buffer.start : buffer.start + count - done])
            if put(done, data) < len(data):
                if not done:
                    fail(errno.EFAULT)
                break
            done += len(data)
            buffer.start += len(data)
            if buffer.packet or buffer.start == len(buffer.data):
                self._ring.popleft()
            if buffer.packet:
                break
        return done

    def transmit(self, task: Task, flags: int, count: int, get: Get) -> int:
        """Put bytes in: behind those in the last buffer, and into as many new ones as there are.

        So PIPE_BUF bytes or less are put in all at once or not at all.  What cannot be read whole leaves
        nothing in its buffer.  Without readers it is EPIPE, and the writer gets SIGPIPE.
        """
        if not count:
            return 0
        if not self.readers:
            send(task.group, SigInfo(SIGPIPE, pid=task.tgid), task)
            fail(errno.EPIPE)
        done = self._merge(count % BUFFER, get)
        while done < count and len(self._ring) < BUFFERS:
            length = min(count - done, BUFFER)
            data = get(done, length)
            if len(data) < length:
                if not done:
                    fail(errno.EFAULT)
                return done
            self._ring.append(_Buffer(data, packet=bool(flags & os.O_DIRECT)))
            done += length
        if not done:
            _sleep(
                flags,
                f"write of process {task.tgid} would sleep: read from the pipe first",
                ready=lambda: not self.readers or len(self._ring) < BUFFERS,
            )
        return done

    def _merge(self, length: int, get: Get) -> int:
        """Add the first bytes of a write to the last buffer; return how many: none if not all of them fit.

        length: such that what follows them in the write is whole pages.  Raises: OSError EFAULT.
        """
        last = self._ring[-1] if self._ring else None
        if last is None or last.packet or len(last.data) + length > BUFFER:
            return 0
        data = get(0, length)
        if len(data) < length:
            fail(errno.EFAULT)
        last.data += data
        return length


def _sleep(flags: int, message: str, ready: Callable[[], bool]) -> NoReturn:
    """Refuse to sleep: with EAGAIN where the file was opened with O_NONBLOCK, else by WouldBlock."""
    if flags & os.O_NONBLOCK:
        fail(errno.EAGAIN)
    raise WouldBlock(message, ready)
