"""madvise: rules 20, 28 to 31; compared with Linux 6.18 as test_mremap.py says."""

import errno

import pytest

from heaplab.abi import (
    MADV_DODUMP,
    MADV_DOFORK,
    MADV_DONTDUMP,
    MADV_DONTFORK,
    MADV_DONTNEED,
    MADV_DONTNEED_LOCKED,
    MADV_FREE,
    MADV_KEEPONFORK,
    MADV_NORMAL,
    MADV_POPULATE_READ,
    MADV_POPULATE_WRITE,
    MADV_RANDOM,
    MADV_SEQUENTIAL,
    MADV_WILLNEED,
    MADV_WIPEONFORK,
    MAP_ANONYMOUS,
    MAP_PRIVATE,
    MAP_SHARED,
    PROT_NONE,
    PROT_READ,
    PROT_WRITE,
)
from heaplab.errors import SegmentationFault
from heaplab.kernel.mm import Mm
from heaplab.machine import FrameKind

SIZE = 256
RW = PROT_READ | PROT_WRITE
SHARED = MAP_SHARED | MAP_ANONYMOUS
PRIVATE = MAP_PRIVATE | MAP_ANONYMOUS


def refused(code, call, *args, **kwargs):
    with pytest.raises(OSError) as caught:
        call(*args, **kwargs)
    assert errno.errorcode[caught.value.errno] == errno.errorcode[code]


def vmas(process):
    return len(process.maps().splitlines()) - 1  # without the stack


@pytest.fixture
def written(process):
    """Four pages full of 7."""
    area = process.mmap(4 * SIZE)
    process.fill(area, 7, 4 * SIZE)
    return area


def test_rule_20_across_a_hole_it_applies_everywhere(process, written):
    process.munmap(written + SIZE, SIZE)
    refused(errno.ENOMEM, process.madvise, written, 4 * SIZE, MADV_DONTNEED)
    assert [process.load(written + page * SIZE, 1) for page in (0, 2, 3)] == [0, 0, 0]


def test_rule_28_private_memory_reads_zero(kernel, process, written, faults):
    process.madvise(written + SIZE, 2 * SIZE, MADV_DONTNEED)
    kernel.check()
    assert kernel.machine.used(FrameKind.ANON) == 2
    assert [process.load(written + page * SIZE, 1) for page in range(4)] == [7, 0, 0, 7]
    assert vmas(process) == 1


def test_rule_28_a_private_copy_becomes_the_file_again(process):
    fd = process.memfd_create("f")
    process.pwrite(fd, b"file", 0)
    address = process.mmap(SIZE, flags=MAP_PRIVATE, fd=fd)
    process.write(address, b"mine")
    process.madvise(address, SIZE, MADV_DONTNEED)
    assert process.read(address, 4) == b"file"


def test_rule_28_shared_memory_keeps_its_data(process, faults):
    address = process.mmap(SIZE, flags=SHARED)
    process.store64(address, 7)
    process.madvise(address, SIZE, MADV_DONTNEED)
    assert faults(process, process.load64, address) == 1
    assert process.load64(address) == 7


def test_rule_28_locked_memory_refuses(process, written):
    process.mlock(written + SIZE, SIZE)
    refused(errno.EINVAL, process.madvise, written, 4 * SIZE, MADV_DONTNEED)
    assert [process.load(written + page * SIZE, 1) for page in range(4)] == [0, 7, 7, 7]
    refused(errno.EINVAL, process.madvise, written + SIZE, SIZE, MADV_FREE)
    process.madvise(written, 4 * SIZE, MADV_DONTNEED_LOCKED)
    assert process.load(written + SIZE, 1) == 0


def test_rule_29_free_keeps_entry_and_data(kernel, process, written, faults):
    process.madvise(written, 4 * SIZE, MADV_FREE)
    kernel.check()
    assert faults(process, process.load64, written) == 0
    assert faults(process, process.store64, written, 1) == 0
    assert process.read(written + SIZE, SIZE) == b"\7" * SIZE
    refused(errno.EINVAL, process.madvise, process.mmap(SIZE, flags=SHARED), SIZE, MADV_FREE)


def test_free_owes_a_flush(kernel, process, written, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(Mm, "flush_range", lambda *_: None)
        process.madvise(written, 4 * SIZE, MADV_FREE)
    with pytest.raises(AssertionError, match="TLB entries are stale"):
        kernel.check()
    process.context.space.flush()


def test_rule_30_populate(kernel, process, faults):
    area = process.mmap(5 * SIZE)
    assert faults(process, process.madvise, area, 5 * SIZE, MADV_POPULATE_READ) == 5
    assert kernel.machine.used(FrameKind.ANON) == 0
    assert faults(process, process.madvise, area, 5 * SIZE, MADV_POPULATE_WRITE) == 5
    assert kernel.machine.used(FrameKind.ANON) == 5
    assert faults(process, process.madvise, area, 5 * SIZE, MADV_POPULATE_WRITE) == 0


def test_populate_errors(process):
    area = process.mmap(4 * SIZE)
    process.mprotect(area + SIZE, SIZE, PROT_READ)
    process.mprotect(area + 2 * SIZE, SIZE, PROT_NONE)
    process.munmap(area + 3 * SIZE, SIZE)
    process.madvise(area, 2 * SIZE, MADV_POPULATE_READ)
    refused(errno.EINVAL, process.madvise, area, 2 * SIZE, MADV_POPULATE_WRITE)
    refused(errno.EINVAL, process.madvise, area, 3 * SIZE, MADV_POPULATE_READ)
    refused(errno.ENOMEM, process.madvise, area + 3 * SIZE, SIZE, MADV_POPULATE_READ)
    write_only = process.mmap(SIZE, prot=PROT_WRITE)
    refused(errno.EINVAL, process.madvise, write_only, SIZE, MADV_POPULATE_READ)
    beyond = process.mmap(SIZE, flags=MAP_SHARED, fd=process.memfd_create("empty"))
    refused(errno.EFAULT, process.madvise, beyond, SIZE, MADV_POPULATE_READ)


def test_rule_31_dontfork(kernel, process, written):
    process.madvise(written + SIZE, SIZE, MADV_DONTFORK)
    assert vmas(process) == 3
    child = process.fork()
    kernel.check()
    assert vmas(child) == 2
    assert child.load(written, 1) == 7
    with pytest.raises(SegmentationFault):
        child.load(written + SIZE, 1)
    process.madvise(written + SIZE, SIZE, MADV_DOFORK)
    assert vmas(process) == 1
    assert process.fork().load(written + SIZE, 1) == 7


def test_rule_31_wipeonfork(kernel, process, written):
    process.madvise(written + SIZE, SIZE, MADV_WIPEONFORK)
    child = process.fork()
    kernel.check()
    assert [child.load(written + page * SIZE, 1) for page in range(3)] == [7, 0, 7]
    assert process.load(written + SIZE, 1) == 7
    child.fill(written + SIZE, 8, SIZE)
    assert child.fork().load(written + SIZE, 1) == 0  # the advice is inherited
    process.madvise(written + SIZE, SIZE, MADV_KEEPONFORK)
    assert process.fork().load(written + SIZE, 1) == 7
    assert vmas(process) == 1
    refused(errno.EINVAL, process.madvise, process.mmap(SIZE, flags=SHARED), SIZE, MADV_WIPEONFORK)


@pytest.mark.parametrize(
    ("advice", "back"),
    [(MADV_RANDOM, MADV_NORMAL), (MADV_SEQUENTIAL, MADV_NORMAL), (MADV_DONTDUMP, MADV_DODUMP)],
)
def test_hints_keep_vmas_apart(process, written, advice, back):
    process.madvise(written, SIZE, advice)
    assert vmas(process) == 2
    process.madvise(written, SIZE, back)
    assert vmas(process) == 1


def test_willneed_reads_ahead(kernel, process, written):
    kernel.write_file("/f", bytes(range(256)) * 3)
    address = process.mmap(5 * SIZE, prot=PROT_READ, flags=MAP_PRIVATE, fd=process.open("/f"))
    process.madvise(address + SIZE, 4 * SIZE, MADV_WILLNEED)
    assert process.mincore(address, 5 * SIZE) == b"\0\1\1\0\0"
    process.load64(address + SIZE)
    assert (process.majflt, kernel.machine.used(FrameKind.FILE)) == (0, 2)
    process.madvise(written, SIZE, MADV_WILLNEED)


def test_errors(process, written):
    refused(errno.EINVAL, process.madvise, written + 1, SIZE, MADV_DONTNEED)
    refused(errno.EINVAL, process.madvise, written, (1 << 64) - 1, MADV_DONTNEED)
    process.madvise(written, 0, MADV_DONTNEED)
    refused(errno.ENOMEM, process.madvise, written - 8 * SIZE, SIZE, MADV_NORMAL)


@pytest.mark.parametrize("advice", [9, 12, 14, 15, 20, 21, 25, 100, 102, -1])
def test_what_is_not_modelled_is_refused(process, written, advice):
    refused(errno.EINVAL, process.madvise, written, SIZE, advice)


def test_a_split_too_many_is_eagain(boot):
    process = boot(max_map_count=3).init.fork()
    area = process.mmap(5 * SIZE)
    refused(errno.EAGAIN, process.madvise, area + SIZE, SIZE, MADV_DONTFORK)
    process.madvise(area, SIZE, MADV_DONTFORK)
