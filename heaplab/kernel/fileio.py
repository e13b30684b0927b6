"""Calls on files and descriptors: open, read, write, lseek, ftruncate, close, dup, memfd_create, fsync.

Data travel as bytes here; where they lie in the program's memory is the entry's business.

Source: Linux, fs/open.c, fs/read_write.c, mm/memfd.c.
"""

import errno
import itertools
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Final, TypeVar

from heaplab.abi import MFD_ALLOW_SEALING, MFD_CLOEXEC, MFD_EXEC, MFD_HUGETLB, MFD_NOEXEC_SEAL, Rlimit
from heaplab.kernel.file import File
from heaplab.kernel.inode import MAX_BYTES, Inode
from heaplab.kernel.oom import out_of_memory
from heaplab.kernel.pipe import Pipe, StreamInode
from heaplab.kernel.system import fail
from heaplab.kernel.task import Task

_MEMFD_NAME_MAX: Final = 249
RW_MAX: Final = 0x7FFFF000  # bytes: the most that one read or write moves
#: what open heeds; the rest is about directories, devices and asynchrony
_OPEN_FLAGS: Final = (
    os.O_ACCMODE | os.O_CREAT | os.O_EXCL | os.O_TRUNC | os.O_APPEND | os.O_CLOEXEC | os.O_SYNC | 0o100000
)
_O_NOTIFICATION_PIPE: Final = os.O_EXCL  # of pipe2; linux/watch_queue.h
_Result = TypeVar("_Result")


def _with_memory(task: Task, call: Callable[[], _Result]) -> _Result:
    """Make a call that needs frames, again after room was made for it."""
    for attempt in itertools.count():
        try:
            return call()
        except MemoryError:
            out_of_memory(task, attempt)
    raise AssertionError("unreachable")


def _pages(task: Task, offset: int, count: int) -> Iterator[tuple[int, int]]:
    """Cut [offset, offset + count) at page boundaries: each piece needs one frame at most."""
    end = offset + count
    while offset < end:
        length = min(task.memory.page_size - offset % task.memory.page_size, end - offset)
        yield offset, length
        offset += length


def _install(task: Task, file: File, *, close_on_exec: bool) -> int:
    try:
        return task.files.install(file, task.limits.soft(Rlimit.NOFILE), close_on_exec=close_on_exec)
    except OSError:
        file.get()
        file.put()  # nobody has it: closes it
        raise


def do_open(task: Task, path: str, flags: int) -> int:
    """Open a file by name; return a descriptor.

    Raises: OSError ENOENT, EEXIST, EMFILE; EINVAL for a flag that is not modelled.
    """
    if flags & ~_OPEN_FLAGS or flags & os.O_ACCMODE == os.O_ACCMODE:
        fail(errno.EINVAL)
    files = task.system.files
    task.files.lowest_free(task.limits.soft(Rlimit.NOFILE))  # looked for before the file is
    if flags & os.O_CREAT and (flags & os.O_EXCL or path not in files):
        inode = files.create(path)
    else:
        inode = files.find(path)
    fd = _install(task, File(inode, flags), close_on_exec=bool(flags & os.O_CLOEXEC))
    if flags & os.O_TRUNC:
        inode.truncate(0)
    return fd


def check_memfd_flags(flags: int) -> None:
    """Refuse flags that there are not, or not together, before the name is looked at.  Raises: OSError."""
    if flags & ~(MFD_CLOEXEC | MFD_ALLOW_SEALING | MFD_HUGETLB | MFD_NOEXEC_SEAL | MFD_EXEC):
        fail(errno.EINVAL)
    if flags & MFD_EXEC and flags & MFD_NOEXEC_SEAL:
        fail(errno.EINVAL)


def do_memfd_create(task: Task, name: str, flags: int) -> int:
    """Make a file of shared memory, without a name in the file system; return a descriptor.

    Raises: OSError EINVAL, EMFILE; ENOSYS for huge pages, which are not configured.
    """
    check_memfd_flags(flags)
    if len(os.fsencode(name)) > _MEMFD_NAME_MAX:
        fail(errno.EINVAL)
    if flags & MFD_HUGETLB:
        fail(errno.ENOSYS)
    inode = Inode(task.system, f"/memfd:{name} (deleted)")
    return _install(task, File(inode, os.O_RDWR), close_on_exec=bool(flags & MFD_CLOEXEC))


def do_pipe2(task: Task, flags: int) -> tuple[int, int]:
    """Make a pipe; return the descriptors (to read from, to write to).

    Raises: OSError EINVAL, EMFILE; ENOPKG for a pipe of notifications, which are not configured.
    """
    if flags & ~(os.O_CLOEXEC | os.O_NONBLOCK | os.O_DIRECT | _O_NOTIFICATION_PIPE):
        fail(errno.EINVAL)
    if flags & _O_NOTIFICATION_PIPE:
        fail(errno.ENOPKG)
    pipe, on_exec = Pipe(task.system), bool(flags & os.O_CLOEXEC)
    ends = (
        File(pipe, os.O_RDONLY | flags & os.O_NONBLOCK),
        File(pipe, os.O_WRONLY | flags & (os.O_NONBLOCK | os.O_DIRECT)),
    )
    source = _install(task, ends[0], close_on_exec=on_exec)
    try:
        return source, _install(task, ends[1], close_on_exec=on_exec)
    except OSError:
        task.files.close(source)
        raise


def do_close(task: Task, fd: int) -> None:
    """Close a descriptor.  Raises: OSError EBADF."""
    task.files.close(fd)


def do_dup(task: Task, fd: int) -> int:
    """Return another descriptor of the same open file.  Raises: OSError EBADF, EMFILE."""
    return _install(task, task.files[fd], close_on_exec=False)


def do_read(task: Task, fd: int, count: int) -> bytes:
    """Read from the offset on, which moves.  Raises: OSError EBADF."""
    file = task.files[fd]
    if isinstance(file.inode, StreamInode):
        if not file.readable:
            fail(errno.EBADF)
        found = bytearray()
        file.inode.receive(task, file.flags, min(count, RW_MAX), partial(_append, found))
        return bytes(found)
    data = do_pread(task, fd, count, file.pos)
    file.pos += len(data)
    return data


def _append(found: bytearray, _done: int, data: bytes) -> int:
    """Take what a file without places passes on."""
    found += data
    return len(data)


def do_pread(task: Task, fd: int, count: int, offset: int, *, allowed: bool = True) -> bytes:
    """Read up to `count` bytes from `offset` on.  Raises: OSError EBADF, EINVAL.

    allowed: whether they go where a program may have memory; else EFAULT.
    """
    if offset < 0:
        fail(errno.EINVAL)
    file = task.files[fd]
    if not file.inode.seekable:
        fail(errno.ESPIPE)
    if not file.readable:
        fail(errno.EBADF)
    if not allowed:
        fail(errno.EFAULT)
    if offset + count > MAX_BYTES:
        fail(errno.EINVAL)
    pieces = _pages(task, offset, min(count, RW_MAX, max(0, file.inode.size - offset)))
    return b"".join(_with_memory(task, partial(file.inode.read, at, length)) for at, length in pieces)


@dataclass(frozen=True)
class Source:
    """What a write is to write: `count` bytes; read(done, length) returns some, as far as they can be read.

    allowed: whether they lie where a program may have memory.
    """

    count: int
    read: Callable[[int, int], bytes]
    allowed: bool = True

    @staticmethod
    def of(data: "bytes | Source") -> "Source":
        """Return what is to be written, for a caller with bytes too."""
        return (
            data
            if isinstance(data, Source)
            else Source(len(data), lambda done, length: data[done : done + length])
        )


def do_write(task: Task, fd: int, data: bytes | Source) -> int:
    """Write at the offset, which moves; with O_APPEND at the end.  Raises: OSError EBADF, EINVAL, EFAULT."""
    file = task.files[fd]
    source = Source.of(data)
    if isinstance(file.inode, StreamInode):
        if not file.writable:
            fail(errno.EBADF)
        if not source.allowed:
            fail(errno.EFAULT)
        return file.inode.transmit(task, file.flags, source.count, source.read)
    at = file.inode.size if file.flags & os.O_APPEND else file.pos
    written = do_pwrite(task, fd, source, at)
    if written:
        file.pos = at + written
    return written


def do_pwrite(task: Task, fd: int, data: bytes | Source, offset: int) -> int:
    """Write from `offset` on; with O_APPEND at the end.  Returns: bytes written, as far as they can be read.

    Raises: OSError EBADF, EINVAL, EFBIG; EFAULT when nothing can be read.
    """
    if offset < 0:
        fail(errno.EINVAL)
    file, source = task.files[fd], Source.of(data)
    if not file.inode.seekable:
        fail(errno.ESPIPE)
    if not file.writable:
        fail(errno.EBADF)
    if not source.allowed:
        fail(errno.EFAULT)
    if offset + source.count > MAX_BYTES:
        fail(errno.EINVAL)
    if not source.count:
        return 0
    at = file.inode.size if file.flags & os.O_APPEND else offset
    if at >= file.inode.max_bytes:
        fail(errno.EFBIG)
    done = 0
    for start, length in _pages(task, at, min(source.count, file.inode.max_bytes - at)):
        # the page first, and then what is to come there: reading that may map the page
        _with_memory(task, partial(file.inode.begin_write, start))
        piece = source.read(done, length)
        _with_memory(task, partial(file.inode.write, start, piece))
        done += len(piece)
        if len(piece) < length:
            _with_memory(task, partial(file.inode.begin_write, at + done))
            break
    if not done:
        fail(errno.EFAULT)
    return done


def do_lseek(task: Task, fd: int, offset: int, whence: int) -> int:
    """Move the offset; return it.  Raises: OSError EBADF, EINVAL; ENXIO beyond the end for holes and data."""
    file = task.files[fd]
    if not os.SEEK_SET <= whence <= os.SEEK_HOLE:
        fail(errno.EINVAL)
    if not file.inode.seekable:
        fail(errno.ESPIPE)
    origins = {os.SEEK_SET: 0, os.SEEK_CUR: file.pos, os.SEEK_END: file.inode.size}
    if whence not in origins or not 0 <= origins[whence] + offset <= file.inode.max_bytes:
        fail(errno.EINVAL)  # SEEK_DATA and SEEK_HOLE are not modelled
    file.pos = origins[whence] + offset
    return file.pos


def do_ftruncate(task: Task, fd: int, size: int) -> None:
    """Cut the file or let it grow with zeros (rule 12).  Raises: OSError EBADF, EINVAL."""
    if size < 0:
        fail(errno.EINVAL)
    file = task.files[fd]
    if not file.writable or not file.inode.seekable:
        fail(errno.EINVAL)
    if size > file.inode.max_bytes:
        fail(errno.EFBIG)
    file.inode.truncate(size)


def do_fsync(task: Task, fd: int) -> None:
    """Write the file's dirty pages to disk.  Raises: OSError EBADF."""
    inode = task.files[fd].inode
    if not inode.seekable:
        fail(errno.EINVAL)
    inode.write_back(0, MAX_BYTES)
