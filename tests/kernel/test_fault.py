"""Faults: rules 1 to 3, 5 (one process), 7, 8, 13; stacks: rules 37 and 38."""

import errno

import pytest

from heaplab.abi import (
    MADV_DONTNEED,
    MAP_ANONYMOUS,
    MAP_FIXED,
    MAP_GROWSDOWN,
    MAP_POPULATE,
    MAP_PRIVATE,
    MAP_SHARED,
    MREMAP_DONTUNMAP,
    MREMAP_MAYMOVE,
    PROT_EXEC,
    PROT_NONE,
    PROT_READ,
    PROT_WRITE,
    RUSAGE_SELF,
    RUSAGE_THREAD,
    SEGV_ACCERR,
    SEGV_MAPERR,
    SI_KERNEL,
    Rlimit,
    Sys,
)
from heaplab.errors import KernelPanic, OutOfMemory, SegmentationFault
from heaplab.kernel.fault import mend
from heaplab.machine import FrameKind

PRIVATE = MAP_PRIVATE | MAP_ANONYMOUS
SHARED = MAP_SHARED | MAP_ANONYMOUS
RW = PROT_READ | PROT_WRITE


def test_rule_1_first_write_faults_once(process, faults):
    page = process.mmap(process.page_size)
    assert faults(process, process.store64, page, 7) == 1
    assert faults(process, process.store64, page + 8, 7) == 0
    assert faults(process, process.load64, page) == 0


def test_rule_2_first_read_maps_the_zero_frame(kernel, process, faults):
    page = process.mmap(process.page_size)
    assert faults(process, process.load64, page) == 1
    space = process.context.space
    assert process.frame_of(page) == kernel.system.zero_frame
    assert space.rss(FrameKind.ANON) == 0
    assert faults(process, process.store64, page, 7) == 1
    assert space.rss(FrameKind.ANON) == 1
    assert process.load64(page) == 7


@pytest.fixture
def asked(monkeypatch):
    """The addresses of the faults for which the kernel was asked."""
    addresses = []

    def watched(task, va, error_code):
        addresses.append(va)
        return mend(task, va, error_code)

    monkeypatch.setattr("heaplab.kernel.syscalls.mend", watched)
    return addresses


def test_first_writes_after_the_first_do_not_ask_the_kernel(process, faults, asked):
    size = process.page_size
    base = process.mmap(8 * size)
    assert faults(process, process.fill, base, 1, 8 * size) == 8
    assert asked == [base]
    process.madvise(base, 4 * size, MADV_DONTNEED)
    assert faults(process, process.fill, base, 1, 8 * size) == 4
    assert asked == [base]
    assert process.getrusage(RUSAGE_SELF).minflt == process.minflt


@pytest.mark.parametrize(
    ("change", "first"),
    [
        (lambda process, base, size: process.mprotect(base, 8 * size, PROT_READ), None),
        (lambda process, base, size: process.mprotect(base + 5 * size, size, PROT_READ), 4),
        (lambda process, base, size: process.munmap(base + 5 * size, size), 4),
        (lambda process, base, size: process.mremap(base, 8 * size, 5 * size), 4),
        (lambda process, base, size: process.mlock(base + 4 * size, 2 * size), 6),
        (lambda process, base, size: process.mmap(size, base + 8 * size, flags=PRIVATE | MAP_FIXED), 4),
    ],
)
def test_a_change_of_the_vma_closes_the_window(kernel, process, asked, change, first):
    """The first write after the change asks the kernel: at page `first`, or that page may not be written."""
    size = process.page_size
    base = process.mmap(8 * size)
    process.fill(base, 1, 4 * size)
    change(process, base, size)
    kernel.check()
    asked.clear()
    if first is None:
        assert denied(process.store64, base + 4 * size, 1).si_code == SEGV_ACCERR
    else:
        process.store64(base + first * size, 1)
        assert asked == [base + first * size]


def test_what_mremap_leaves_behind_is_as_if_nothing_was_written(kernel, process, asked):
    size = process.page_size
    base = process.mmap(4 * size)
    process.store64(base, 1)
    process.mremap(base, 4 * size, 4 * size, MREMAP_MAYMOVE | MREMAP_DONTUNMAP)
    kernel.check()
    process.store64(base + size, 1)
    assert asked[-1] == base + size


def test_each_thread_counts_the_faults_of_its_own(process, faults):
    size = process.page_size
    base = process.mmap(4 * size)
    process.store64(base, 1)
    thread = process.spawn_thread()
    assert faults(process, thread.fill, base, 1, 4 * size) == 0
    assert thread.getrusage(RUSAGE_THREAD).minflt == 3
    assert process.getrusage(RUSAGE_SELF).minflt == 4


@pytest.mark.parametrize("fork", ["copy-on-write", "eager", "shared-tables"])
def test_a_forked_child_asks_for_itself(boot, asked, fork):
    kernel = boot(fork=fork)
    process = kernel.init.fork()
    size = process.page_size
    base = process.mmap(4 * size)
    process.store64(base, 1)
    child = process.fork()
    asked.clear()
    child.store64(base + size, 2)
    child.store64(base + 2 * size, 2)
    process.store64(base + size, 3)
    kernel.check()
    assert asked == [base + size]
    assert (process.load64(base + size), child.load64(base + size)) == (3, 2)


def test_where_frames_are_short_the_kernel_is_asked(boot, asked):
    kernel = boot(frames=64)
    process = kernel.init.fork()
    size = process.page_size
    base = process.mmap(64 * size)
    with pytest.raises(OutOfMemory):
        process.fill(base, 1, 64 * size)
    assert len(asked) == 1 + 4  # the first of all, and the last four


def test_the_zero_frame_is_one_for_all(kernel, process):
    other = kernel.init.fork()
    pages = [process.mmap(process.page_size), other.mmap(process.page_size)]
    assert (process.load64(pages[0]), other.load64(pages[1])) == (0, 0)
    assert kernel.machine.mapcount[kernel.system.zero_frame] == 2
    process.store64(pages[0], 9)
    assert other.load64(pages[1]) == 0
    assert kernel.machine.used(FrameKind.ZERO) == 1


def denied(call, *args):
    with pytest.raises(SegmentationFault) as caught:
        call(*args)
    return caught.value


def test_rule_3_nothing_mapped_is_maperr(kernel, process):
    page = process.mmap(process.page_size)
    error = denied(process.load64, page + process.page_size)
    assert (error.si_code, error.address, error.pid) == (SEGV_MAPERR, page + process.page_size, process.pid)
    assert process.minflt == 0


@pytest.mark.parametrize(
    ("prot", "access"),
    [(PROT_NONE, "load64"), (PROT_NONE, "store64"), (PROT_READ, "store64"), (PROT_EXEC, "store64")],
)
def test_rule_3_a_protection_that_forbids_is_accerr(process, prot, access):
    page = process.mmap(process.page_size, prot=prot)
    error = denied(getattr(process, access), page, *([1] if access == "store64" else []))
    assert error.si_code == SEGV_ACCERR
    assert process.minflt == 0


def test_rule_3_after_pages_were_made(process, faults):
    page = process.mmap(process.page_size)
    process.store64(page, 7)
    process.mprotect(page, process.page_size, PROT_NONE)
    assert denied(process.load64, page).si_code == SEGV_ACCERR


def test_the_fault_names_the_byte_that_could_not_be_reached(process):
    page = process.mmap(process.page_size)
    end = page + process.page_size
    assert denied(process.store64, end - 4, 1).address == end


def test_a_store_across_into_nothing_stores_nothing(kernel, process):
    page = process.mmap(process.page_size)
    child = process.fork()
    end = page + process.page_size
    process.store64(end - 8, 0)
    denied(child.store64, end - 4, (1 << 64) - 1)
    assert process.load64(end - 8) == 0


@pytest.mark.parametrize(
    ("address", "si_code"),
    [
        (0, SEGV_MAPERR),
        (1 << 63, SI_KERNEL),
        ((1 << 64) - 8, SEGV_MAPERR),  # the kernel's half
        (1 << 27, SI_KERNEL),  # the first that does not exist, with 256-byte pages
        ((1 << 27) - 8, SEGV_MAPERR),  # the last of the user's
        ((1 << 64) - (1 << 27), SEGV_MAPERR),
        ((1 << 64) - (1 << 27) - 8, SI_KERNEL),
        (-8, SEGV_MAPERR),  # wraps, as in C
    ],
)
def test_wild_addresses(process, address, si_code):
    assert denied(process.load64, address).si_code == si_code


def test_death_by_fault_hurts_nobody_else(kernel, process):
    page = process.mmap(process.page_size)
    process.store64(page, 7)
    child = process.fork()
    denied(child.store64, 0, 1)
    assert child.state == "Z"
    assert process.load64(page) == 7
    assert process.wait() == (child.pid, 11)


def test_a_dead_process_has_no_memory_and_no_calls(process):
    page = process.mmap(process.page_size)
    child = process.fork()
    child.exit(0)
    for call in (child.getpid, child.fork, child.wait, lambda: child.sbrk(0), lambda: child.load64(page)):
        with pytest.raises(ProcessLookupError):
            call()
    with pytest.raises(ProcessLookupError):
        child.write(page, b"too late")


def test_init_is_not_to_die(kernel):
    with pytest.raises(KernelPanic, match="attempted to kill init"):
        kernel.init.load64(0)


def test_rule_7_a_read_maps_what_the_file_has_around(process, faults):
    size = process.page_size
    base = process.mmap(40 * size, prot=RW, flags=SHARED)
    child = process.fork()  # shares the pages, has no entries
    for page in range(40):
        assert faults(process, process.store64, base + page * size, page) == 1
    faulted = [page for page in range(40) if faults(child, child.load64, base + page * size)]
    windows = {(base // size + page) // 16 for page in range(40)}
    assert len(faulted) == len(windows)
    assert all(child.load64(base + page * size) == page for page in range(40))


def test_rule_7_only_pages_that_are_there(process, faults):
    size = process.page_size
    base = process.mmap(4 * size, prot=RW, flags=SHARED)
    assert [faults(process, process.load64, base + page * size) for page in range(4)] == [1] * 4
    assert process.context.space.rss(FrameKind.FILE) == 4


def test_rule_8_shared_write_after_read(process, faults):
    page = process.mmap(process.page_size, flags=SHARED)
    assert faults(process, process.load64, page) == 1
    assert faults(process, process.store64, page, 1) == 0


def test_rule_13_what_may_be_written_may_be_read(process):
    page = process.mmap(process.page_size, prot=PROT_WRITE)
    assert process.load64(page) == 0
    process.store64(page, 3)
    assert process.load64(page) == 3


def test_rule_30_populate_is_a_fault_a_page(process, faults):
    size = process.page_size
    assert faults(process, process.mmap, 5 * size, 0, RW, PRIVATE | MAP_POPULATE) == 5
    assert process.context.space.rss(FrameKind.ANON) == 5
    assert faults(process, process.mmap, 5 * size, 0, RW, SHARED | MAP_POPULATE) == 5
    assert faults(process, process.mmap, 5 * size, 0, PROT_READ, PRIVATE | MAP_POPULATE) == 5
    assert process.context.space.rss(FrameKind.ZERO) == 5
    assert faults(process, process.mmap, 5 * size, 0, PROT_NONE, PRIVATE | MAP_POPULATE) == 0


def stack_of(kernel, process):
    task = kernel.system.tasks[process.pid]
    return task.mm.vmas.at(task.mm.start_stack), task.mm.layout


def test_rule_37_the_stack_grows_to_where_it_is_touched(kernel, process):
    stack, layout = stack_of(kernel, process)
    lowest = layout.stack_top - layout.stack_limit
    assert stack.start > lowest
    process.store64(lowest, 1)
    assert stack.start == lowest
    kernel.check()
    assert denied(process.load64, lowest - 8).si_code == SEGV_MAPERR


@pytest.mark.parametrize(("prot", "stops"), [(RW, True), (PROT_NONE, False)])
def test_rule_38_it_stops_short_of_an_accessible_mapping(kernel, boot, prot, stops):
    kernel = boot(page_size=4096, frames=64)
    process = kernel.init.fork()
    stack, layout = stack_of(kernel, process)
    size = process.page_size
    below = stack.start - layout.guard_gap - 4 * size
    assert process.mmap(size, below, prot, PRIVATE | MAP_FIXED) == below
    process.load64(below + size + layout.guard_gap)
    assert stack.start == below + size + layout.guard_gap
    if stops:
        assert denied(process.load64, stack.start - 8).si_code == SEGV_MAPERR
    else:
        process.load64(stack.start - 8)
        assert stack.start == below + layout.guard_gap


def test_a_mapping_that_may_not_grow_further_takes_its_pages_along_in_fork(boot):
    kernel = boot(page_size=4096, frames=256)
    process = kernel.init.fork()
    stack = process.mmap(4096, flags=PRIVATE | MAP_GROWSDOWN)
    process.load64(stack)  # the page of zeros: fork alone would leave it to a fault
    beyond_the_limit = stack - (16 << 20)
    assert process.syscall(Sys.GETRLIMIT, Rlimit.STACK, beyond_the_limit) == -errno.EFAULT
    child = process.fork()
    before = child.minflt
    child.load64(stack)
    assert child.minflt == before


def test_mmap_keeps_the_gap_below_a_growing_mapping(kernel, process):
    layout = stack_of(kernel, process)[1]
    size = process.page_size
    stack = process.mmap(size, flags=PRIVATE | MAP_GROWSDOWN)
    assert process.mmap(size) == stack - layout.guard_gap - size
    assert process.mmap(size, stack - size) != stack - size  # a hint into the gap is ignored
    assert denied(process.load64, stack - 8).si_code == SEGV_MAPERR  # it cannot grow now


def test_the_gap_is_kept_only_where_the_hole_ends_at_the_growing_mapping(kernel, process):
    size = process.page_size
    low = process.mmap(size, prot=PROT_NONE)
    stack = process.mmap(size, low - 3 * size, flags=PRIVATE | MAP_GROWSDOWN)
    wall = process.mmap(size, stack - 2 * size, PROT_NONE, PRIVATE | MAP_FIXED)
    # 1 page is free below the stack, and 2 above it: neither hole has room for 3
    assert process.mmap(3 * size) == wall - 3 * size
    # 1 page would fit below the stack, but for the gap, which then counts everywhere
    process.mmap(2 * size, stack + size, PROT_NONE, PRIVATE | MAP_FIXED)
    assert process.mmap(size) == stack - stack_of(kernel, process)[1].guard_gap - size


def test_a_new_stack_page_reads_zero_and_counts_no_heap(process):
    raw = process.context.space.raw
    assert raw.heap_pages == 0
    assert raw.vm_pages > 0
