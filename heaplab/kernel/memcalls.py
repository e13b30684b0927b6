"""What the registers of the system calls on memory and files mean.

Each `sys_` function decodes its registers and leaves the work to the module that knows it.
"""

import errno
import os
import struct
from typing import Final

from heaplab.abi import MAP_ANONYMOUS, MAP_LOCKED, MAP_NONBLOCK, MAP_POPULATE
from heaplab.kernel import fileio
from heaplab.kernel import mmap as mapping
from heaplab.kernel.inode import MAX_BYTES
from heaplab.kernel.madvise import madvise
from heaplab.kernel.mlock import mincore, mlock, msync, munlock
from heaplab.kernel.mprotect import mprotect
from heaplab.kernel.mremap import mremap
from heaplab.kernel.pipe import StreamInode
from heaplab.kernel.system import fail
from heaplab.kernel.task import Task
from heaplab.kernel.uaccess import (
    copy_from_user,
    copy_to_user,
    get_user,
    get_user_string,
    is_user_range,
    populate,
    put_user,
)

_PATH_MAX: Final = 4096
_MEMFD_NAME_MAX: Final = 250


def signed32(register: int) -> int:
    """Return the int that a register holds."""
    register &= 0xFFFF_FFFF
    return register - (1 << 32) if register >> 31 else register


def signed64(register: int) -> int:
    """Return the long that a register holds."""
    return register - (1 << 64) if register >> 63 else register


# ---- memory


def sys_mmap(task: Task, addr: int, length: int, prot: int, flags: int, fd: int, offset: int) -> int:
    mm = task.memory
    if offset % mm.page_size:
        fail(errno.EINVAL)
    file = None if flags & MAP_ANONYMOUS else task.files[signed32(fd)]
    addr = mapping.mmap(task, addr, length, prot, flags, file, offset)
    if flags & MAP_LOCKED or flags & (MAP_POPULATE | MAP_NONBLOCK) == MAP_POPULATE:
        populate(task, addr, addr + mm.align(length))
    return addr


def sys_mprotect(task: Task, addr: int, length: int, prot: int, *_: int) -> int:
    mprotect(task, addr, length, prot)
    return 0


def sys_munmap(task: Task, addr: int, length: int, *_: int) -> int:
    mapping.munmap(task.memory, addr, length)
    return 0


def sys_brk(task: Task, addr: int, *_: int) -> int:
    return mapping.brk(task, addr)


def sys_mremap(task: Task, addr: int, old_len: int, new_len: int, flags: int, new_addr: int, *_: int) -> int:
    return mremap(task, addr, old_len, new_len, flags, new_addr)


def sys_madvise(task: Task, addr: int, length: int, advice: int, *_: int) -> int:
    madvise(task, addr, length, signed32(advice))
    return 0


def sys_mlock(task: Task, addr: int, length: int, *_: int) -> int:
    mlock(task, addr, length)
    return 0


def sys_munlock(task: Task, addr: int, length: int, *_: int) -> int:
    munlock(task, addr, length)
    return 0


def do_mincore(task: Task, addr: int, length: int) -> bytes:
    """The system call mincore, for a caller who takes its result in Python."""
    found, hole = mincore(task, addr, length)
    if hole:
        fail(errno.ENOMEM)
    return found


def sys_mincore(task: Task, addr: int, length: int, vec: int, *_: int) -> int:
    found, hole = mincore(task, addr, length, vec)
    put_user(task, vec, found)
    if hole:
        fail(errno.ENOMEM)
    return 0


def sys_msync(task: Task, addr: int, length: int, flags: int, *_: int) -> int:
    msync(task, addr, length, signed32(flags))
    return 0


# ---- limits

_RLIMIT: Final = struct.Struct("<QQ")


def sys_getrlimit(task: Task, resource: int, rlim: int, *_: int) -> int:
    put_user(task, rlim, _RLIMIT.pack(*task.limits.get(resource & 0xFFFF_FFFF)))
    return 0


def sys_setrlimit(task: Task, resource: int, rlim: int, *_: int) -> int:
    task.limits.set(resource & 0xFFFF_FFFF, *_RLIMIT.unpack(get_user(task, rlim, _RLIMIT.size)))
    return 0


def sys_prlimit64(task: Task, pid: int, resource: int, new: int, old: int, *_: int) -> int:
    pid = signed32(pid)
    new_pair = _RLIMIT.unpack(get_user(task, new, _RLIMIT.size)) if new else None
    target = task.system.tasks.get(pid) if pid else task
    if target is None or target.mm is None:
        fail(errno.ESRCH)
    old_pair = target.limits.get(resource & 0xFFFF_FFFF)
    if new_pair is not None:
        target.limits.set(resource & 0xFFFF_FFFF, *new_pair)
    if old:
        put_user(task, old, _RLIMIT.pack(*old_pair))
    return 0


# ---- files


def sys_open(task: Task, path: int, flags: int, *_: int) -> int:
    return fileio.do_open(task, os.fsdecode(get_user_string(task, path, _PATH_MAX)), signed32(flags))


def sys_memfd_create(task: Task, name: int, flags: int, *_: int) -> int:
    fileio.check_memfd_flags(flags & 0xFFFF_FFFF)
    try:
        text = get_user_string(task, name, _MEMFD_NAME_MAX)
    except OSError as error:
        fail(errno.EINVAL if error.errno == errno.ENAMETOOLONG else errno.EFAULT)
    return fileio.do_memfd_create(task, os.fsdecode(text), flags & 0xFFFF_FFFF)


def sys_close(task: Task, fd: int, *_: int) -> int:
    fileio.do_close(task, signed32(fd))
    return 0


def sys_dup(task: Task, fd: int, *_: int) -> int:
    return fileio.do_dup(task, signed32(fd))


def sys_read(task: Task, fd: int, buf: int, count: int, *_: int) -> int:
    file = task.files[signed32(fd)]
    if not isinstance(file.inode, StreamInode):
        done = sys_pread64(task, fd, buf, count, file.pos)
        file.pos += done
        return done
    if not file.readable:
        fail(errno.EBADF)
    if not is_user_range(task, buf, count):
        fail(errno.EFAULT)
    return file.inode.receive(
        task,
        file.flags,
        min(count, fileio.RW_MAX),
        lambda done, data: copy_to_user(task, buf + done, data),
    )


def sys_pread64(task: Task, fd: int, buf: int, count: int, offset: int, *_: int) -> int:
    allowed, fd, offset = is_user_range(task, buf, count), signed32(fd), signed64(offset)
    fileio.do_pread(task, fd, 0, offset, allowed=allowed)  # refuses first
    if offset + count > MAX_BYTES:
        fail(errno.EINVAL)
    # page by page, as far as the buffer takes it: the file may be larger than all memory
    page, count, done = task.memory.page_size, min(count, fileio.RW_MAX), 0
    while done < count:
        length = min(count - done, page - (offset + done) % page)
        data = fileio.do_pread(task, fd, length, offset + done)
        copied = copy_to_user(task, buf + done, data)
        if data and not copied and not done:
            fail(errno.EFAULT)
        done += copied
        if copied < length:
            break
    return done


def sys_write(task: Task, fd: int, buf: int, count: int, *_: int) -> int:
    return fileio.do_write(task, signed32(fd), _source(task, buf, count))


def sys_pwrite64(task: Task, fd: int, buf: int, count: int, offset: int, *_: int) -> int:
    return fileio.do_pwrite(task, signed32(fd), _source(task, buf, count), signed64(offset))


def _source(task: Task, buf: int, count: int) -> fileio.Source:
    """Return what a write takes from memory, once it asks for it: as far as it can be read."""
    allowed, count = is_user_range(task, buf, count), min(count, fileio.RW_MAX)
    return fileio.Source(count, lambda done, length: copy_from_user(task, buf + done, length), allowed)


def sys_lseek(task: Task, fd: int, offset: int, whence: int, *_: int) -> int:
    return fileio.do_lseek(task, signed32(fd), signed64(offset), signed32(whence))


def sys_ftruncate(task: Task, fd: int, size: int, *_: int) -> int:
    fileio.do_ftruncate(task, signed32(fd), signed64(size))
    return 0


def sys_fsync(task: Task, fd: int, *_: int) -> int:
    fileio.do_fsync(task, signed32(fd))
    return 0


def sys_pipe(task: Task, fds: int, *_: int) -> int:
    return sys_pipe2(task, fds, 0)


def sys_pipe2(task: Task, fds: int, flags: int, *_: int) -> int:
    ends = fileio.do_pipe2(task, flags & 0xFFFF_FFFF)
    try:
        put_user(task, fds, b"".join(fd.to_bytes(4, "little") for fd in ends))
    except OSError:
        for fd in ends:
            fileio.do_close(task, fd)
        raise
    return 0
